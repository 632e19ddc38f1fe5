"""What a paper needs of a study: the methods, the table of the losses in LaTeX, and what to cite."""

from __future__ import annotations

from collections.abc import Callable

from sweeper.core.records import FinalistEvidence
from sweeper.evidence.answer_text import describe_scope
from sweeper.evidence.phrases import format_phrase
from sweeper.losses.families import FAMILIES
from sweeper.report.facts import ReportFacts
from sweeper.report.formatting import format_interval, format_params, make_one_line
from sweeper.version import __version__

_LATEX = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "_%&#${}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": ""},
        **{"−": "$-$", "–": "--", "τ": r"$\tau$", "²": "$^2$", "×": r"$\times$"},
    }
)


def describe_methods(facts: ReportFacts) -> str:
    """Describe how the losses were compared."""
    document = facts.document
    return format_phrase(
        "METHODS",
        document,
        scope=describe_scope(document),
        trials=len(facts.sweep.trials),
        saw=("saw", "did not see")[document.held_out],
        point=f"the {facts.rules.point_name}",
    )


def make_latex_table(facts: ReportFacts) -> str:
    """Return the losses with their test scores and gains as a `tabular` of LaTeX, for the package booktabs."""
    columns: dict[str, Callable[[FinalistEvidence], str]] = {
        "loss": lambda f: f.family,
        "parameters": lambda f: format_params(f.params),
        f"test {facts.metric} [95 %]": lambda f: format_interval(f.score, len(f.seeds)),
        f"over {facts.present} [95 %]": facts.format_gain_over_present,
        "seeds": lambda f: str(len(f.seeds)),
    }
    head, *rows = [[*columns], *([make(f) for make in columns.values()] for f in facts.finalists)]
    lines = [" & ".join(make_one_line(cell).translate(_LATEX) for cell in row) + r" \\" for row in (head, *rows)]
    begin, end = r"\begin{tabular}{llllr}", r"\end{tabular}"
    return "\n".join([begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", end])


def list_citations(facts: ReportFacts) -> list[str]:
    """Return what to cite: sweeper, and where each compared loss is from."""
    sources = [f"`{f.family}`: {FAMILIES[f.family].source}" for f in facts.finalists if f.family in FAMILIES]
    return [format_phrase("CITE", facts.document, version=__version__), *sources]
