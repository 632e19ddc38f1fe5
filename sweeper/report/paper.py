"""A study for a paper, in one LaTeX file: a methods paragraph, a table, and the references as BibTeX."""

from __future__ import annotations

import re

from sweeper.core.text import format_count
from sweeper.evidence.answer_text import describe_network
from sweeper.evidence.phrases import format_headline
from sweeper.losses import FAMILIES
from sweeper.report.facts import ReportFacts
from sweeper.report.formatting import format_count_range, make_one_line

LIBRARIES = {
    "sweeper": "author = {{The sweeper maintainers}}, year = {2026}, "
    "title = {sweeper: which loss to train a segmentation model with, with evidence}",
    "optuna": "author = {Akiba, Takuya and Sano, Shotaro and Yanase, Toshihiko and Ohta, Takeru and Koyama, Masanori}, "
    "year = {2019}, title = {Optuna: A Next-generation Hyperparameter Optimization Framework}, note = {KDD}, "
    "doi = {10.1145/3292500.3330701}",
    "smp": r"author = {Iakubovskii, Pavel}, year = {2019}, title = {Segmentation Models Pytorch}, "
    r"howpublished = {\url{https://github.com/qubvel/segmentation_models.pytorch}}",
}
"""BibTeX fields of the cited libraries, by key."""
_SOURCE = re.compile(
    r"(?P<author>[A-Z][^;:]*?) (?P<year>\d{4}),(?: (?P<title>[^;]*?),)? (?P<kind>arXiv|doi):(?P<place>[^\s;,]+)"
)
_LATEX = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "²": "$^2$",
    "τ": r"$\tau$", "×": r"$\times$",
}  # fmt: skip


def format_for_paper(facts: ReportFacts) -> str:
    """Return paragraph, table and references in LaTeX; a comment if no losses were compared."""
    chosen, recipe = facts.chosen, facts.sweep.conditions.recipe
    if chosen is None or len(facts.finalists) < 2:
        return "% No losses were compared.\n"
    sources = make_loss_references(chosen.family)
    entries = LIBRARIES | sources
    if recipe.command is not None or recipe.model is not None:
        del entries["smp"]
    bibtex = "\n".join(
        f"@misc{{{key},\n  {re.sub(r'}, (?=[a-z]+ =)', '},' + chr(10) + '  ', text)}\n}}"
        for key, text in entries.items()
    )
    references = f"\\begin{{filecontents}}{{sweeper.bib}}\n{bibtex}\n\\end{{filecontents}}"
    return f"{references}\n\n{_write_methods(facts, list(sources))}\n\n{_write_table(facts)}\n"


def make_loss_references(family: str) -> dict[str, str]:
    """Return the BibTeX fields of a shipped loss's sources, by key; empty for any other loss."""
    entries = {}
    for match in _SOURCE.finditer(FAMILIES[family].source if family in FAMILIES else ""):
        author, year, title, kind, place = match.groups()
        names = author.replace(" et al.", " and others").replace(" & ", " and ")
        text = f"author = {{{names}}}, year = {{{year}}}" + (f", title = {{{title}}}" if title else "")
        text += f", eprint = {{{place}}}, archivePrefix = {{arXiv}}" if kind == "arXiv" else f", doi = {{{place}}}"
        entries[f"{re.split(r'[^a-z]', author.lower())[0]}{year}"] = text
    return entries


def escape_latex(text: str) -> str:
    """Escape a text for LaTeX, on one line."""
    return "".join(_LATEX.get(c, c) for c in make_one_line(text))


def _name_loss(family: str) -> str:
    return rf"\texttt{{{escape_latex(family)}}}"


def _write_methods(facts: ReportFacts, sources: list[str]) -> str:
    sweep, recipe = facts.sweep, facts.sweep.conditions.recipe
    version = f"~{escape_latex(sweep.versions['sweeper'])}" if "sweeper" in sweep.versions else ""
    network = "our training script" if recipe.command else describe_network(recipe)
    cited = "" if recipe.command or recipe.model else r"~\cite{smp}"
    count = format_count_range((len(finalist.seeds) for finalist in facts.finalists), "new seed")
    folds, evidence = sweep.conditions.folds, facts.evidence
    tested = f"{0 if evidence is None else evidence.test_images} images "
    tested += "that the search had not seen" if folds is None else f"in {folds} folds, which the search had seen"
    widened = "" if folds is None else f", the images' part of the variance multiplied by {folds}/{folds - 1}"
    cited_loss = rf"~\cite{{{','.join(sources)}}}" if sources else ""
    answer = escape_latex(format_headline(facts.document).replace("`", ""))
    return "\n".join(
        [
            rf"The loss was chosen with sweeper{version}~\cite{{sweeper}}.",
            f"{format_count(len(facts.search_trials), 'trial')} of "
            f"{format_count(facts.search_trials['family'].nunique(), 'loss')}, drawn with "
            r"Optuna~\cite{optuna}, tuned parameters and learning rate on validation images: "
            f"{escape_latex(f'{network}, at most {recipe.format_steps(recipe.steps)} each')}{cited}.",
            f"{len(facts.finalists)} finalists were trained again on {count}, "
            f"{escape_latex(recipe.format_steps(recipe.confirm_steps))} each, and scored on {tested}, each "
            f"training at the {escape_latex(facts.point_name)} chosen on its own validation images.",
            f"Differences are paired over seeds and images{widened}; their intervals are at 95\\,\\% over all interim "
            f"analyses, and a difference below {sweep.margin:g} {escape_latex(facts.metric)} was taken not to matter.",
            f"The answer: {answer.removesuffix('.')}{cited_loss}.",
        ]
    )


def _write_table(facts: ReportFacts) -> str:
    rows = []
    for finalist in facts.finalists:
        cells = [facts.format_score(finalist.score, finalist), facts.format_gain_over_present(finalist)]
        rows.append(rf"{' & '.join([_name_loss(finalist.family), *map(escape_latex, cells)])} \\")
    header = rf"Loss & Test {escape_latex(facts.metric)} [95\,\%] & Against the present loss [95\,\%] \\"
    return "\n".join(
        [r"\begin{tabular}{lrr}", r"\toprule", header, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    )
