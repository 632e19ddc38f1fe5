"""The report's text: the template filled with the other modules' results."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sweeper.core.paths import get_view_place
from sweeper.core.recipe import OF_SCRIPT
from sweeper.core.records import SweepRecord
from sweeper.core.text import format_address_word, format_confirm_command, format_count, format_study_command
from sweeper.data.folds import NOT_HELD_OUT
from sweeper.evidence.interim_analyses import DECIDING_SEEDS, get_comparison_level
from sweeper.evidence.intervals import LEVEL
from sweeper.evidence.search_analysis import describe_search
from sweeper.report import confirmation, sections
from sweeper.report.card import format_card_code, format_card_markdown, make_card
from sweeper.report.caveats import list_caveats
from sweeper.report.explanation import explain_result
from sweeper.report.facts import ReportFacts, find_best_trial, search_split
from sweeper.report.figures import FIGURES, DrawnFigure
from sweeper.report.formatting import (
    MISSING,
    escape_md,
    escape_prose,
    format_code,
    format_elapsed,
    format_level,
    format_number,
    format_share,
    join_unbroken,
    make_fence,
    make_one_line,
    make_table,
    make_ui_address,
    mark_names,
)
from sweeper.report.paper import format_for_paper
from sweeper.report.tables import list_trainings
from sweeper.scripts.comparison_plan import BASELINE, SEEDS, count_trainings

OPEN_REASONS, OPEN_STEPS, OPEN_CAVEATS = 110, 80, 130
"""Most words of reasons, next steps and caveats outside of folds."""
MEASURED = ", as measured on this processor; the command above fixes it, as the other precision gives other numbers"
_PAIR = re.compile(r"interval [+−-]\d")
"""A reason that is a comparison of two finalists."""


def render_report(facts: ReportFacts, figures: Mapping[str, DrawnFigure | str], ui_url: str) -> str:
    """Render the report in GitHub's markdown: the answer and its main reasons visible, the rest in `<details>`.

    `figures` has each drawn figure, or the reason for none. A filter of the template escapes names from files, labels
    and errors that are not escaped yet.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the output is markdown
    )
    environment.globals["figures"] = lambda section: _list_figures(section, figures)
    environment.globals["open"] = lambda summary: f"<details>\n<summary>{escape(summary, quote=False)}</summary>"
    environment.globals["close"] = "</details>"
    environment.globals.update(confirmation=confirmation, sections=sections)
    losses = _list_losses(facts)
    environment.filters.update(md=escape_md, code=format_code, number=format_number, elapsed=format_elapsed)
    environment.filters["prose"] = lambda line: escape_prose(mark_names(line, losses))
    missing = [f"{name.replace('_', ' ')} ({escape_md(why)})" for name, why in figures.items() if isinstance(why, str)]
    template = environment.get_template("report.md.j2")
    return join_unbroken(template.render({**_make_context(facts, ui_url), "left_out": "; ".join(missing)}))


def render_summary(facts: ReportFacts) -> str:
    """Render the answer and its code for the note of an MLflow run."""
    card = make_card(facts)
    return join_unbroken(f"{format_card_markdown(card, _list_losses(facts))}\n\n{format_card_code(card)}\n")


def _list_losses(facts: ReportFacts) -> frozenset[str]:
    """Return the names for code spans."""
    return frozenset(f.family for f in facts.finalists)


def _split_by_length(sentences: Sequence[str], words: int) -> tuple[list[str], list[str]]:
    """Split sentences after at most `words` words, but after at least one sentence."""
    total = 0
    for i, sentence in enumerate(sentences):
        total += len(sentence.split())
        if i and total > words:
            return list(sentences[:i]), list(sentences[i:])
    return list(sentences), []


def _list_figures(section: str, drawn: Mapping[str, DrawnFigure | str]) -> str:
    """Return image and caption of each drawn figure of a section."""
    shown = []
    for name, figure in FIGURES.items():
        drawn_figure = drawn.get(name)
        if figure.section == section and isinstance(drawn_figure, DrawnFigure):
            shown.append(drawn_figure.format_markdown(name))
    return "\n\n".join(shown)


def _make_context(facts: ReportFacts, ui_url: str) -> dict[str, object]:
    sweep, recommendation = facts.sweep, facts.recommendation
    card = make_card(facts)
    parent_link = ""  # to the sweep's table in MLflow, if any
    if sweep.experiment_id is not None and sweep.parent_run_id is not None:
        parent_link = make_ui_address(ui_url, get_view_place(sweep.experiment_id))
    pairwise = [reason for reason in recommendation.reasons if _PAIR.search(reason)]
    others = [reason for reason in recommendation.reasons if reason not in pairwise]
    reasons, more_reasons = _split_by_length([*others, *pairwise], OPEN_REASONS)
    steps, more_steps = _split_by_length(recommendation.next_steps, OPEN_STEPS)
    limits, more_caveats = _split_by_length(list_caveats(facts), OPEN_CAVEATS)

    return {
        "facts": facts,
        "ui_url": ui_url,
        "card": format_card_markdown(card, _list_losses(facts)),
        "code": format_card_code(card),
        "next_commands": _list_next_commands(facts) if card.language == "python" else "",
        "parent_link": parent_link,
        "optuna_command": f"optuna-dashboard {format_address_word('--storage', sweep.storage, driver=True)}",
        "levels": _explain_levels(facts),
        "reasons": reasons,
        "more_reasons": more_reasons,
        "next_steps": steps,
        "more_steps": more_steps,
        "paper": format_for_paper(facts),
        "profile_head": _make_profile_head(facts),
        "explanation": explain_result(sweep.profile, recommendation.evidence, facts.chosen_index, sweep.imbalance),
        "search_short": _search_short(facts),
        "search_head": _search_head(facts),
        "adequacy": describe_search(sweep.trials, sweep.margin, facts.objective),
        "caveats": limits,
        "more_caveats": more_caveats,
        "command": make_fence(make_one_line(sweep.rerun), "bash"),
        "split": _describe_split(facts),
        "device": _describe_device(sweep),
        "measured": MEASURED * sweep.is_precision_measured,
        "recipe": _describe_recipe(facts),
    }


def _list_next_commands(facts: ReportFacts) -> str:
    """Return the commands for using a recommended loss that the study allows, each with its purpose."""
    sweep = facts.sweep
    train, predict, export = (
        format_study_command(command, sweep.study, sweep.storage) for command in ("train", "predict", "export")
    )
    if sweep.conditions.recipe.command is not None:
        return make_fence(f"# the loss as a file, for your script\n{make_one_line(export)}", "bash")
    losses = len({*(finalist.family for finalist in facts.finalists), BASELINE})
    least, most = (math.ceil(count_trainings(losses, seeds)) for seeds in (DECIDING_SEEDS, SEEDS))
    commands = {
        "a network, trained to its end": train,
        "masks of new images": f"{predict} new_images/ --out answers",
        "loss and network as files, with the code that loads them": export,
        f"whether it holds in your own training script: {least} to {most} trainings": format_confirm_command(
            sweep.study, sweep.storage
        ),
    }
    return make_fence("\n".join(f"# {why}\n{make_one_line(line)}" for why, line in commands.items()), "bash")


def _explain_levels(facts: ReportFacts) -> str:
    """Explain the intervals' confidence levels."""
    evidence = facts.recommendation.evidence
    text = f"Every interval is at {format_level(LEVEL)}"
    if evidence is not None and evidence.comparisons and facts.level > LEVEL:
        levels = [get_comparison_level(evidence, c.first, c.second) for c in evidence.comparisons]
        alone = " to ".join(dict.fromkeys(format_level(level) for level in (min(levels), max(levels))))
        text += f", those of differences between finalists over all planned interim analyses: each alone is at {alone}"
    return f"{text}; every share of pixels is of labelled pixels."


def _make_profile_head(facts: ReportFacts) -> str:
    p, data = facts.sweep.profile, facts.sweep.conditions.dataset
    kind = "synthetic " if data.synthetic else ""
    text = (
        f"{p.images:,} {kind}images, {p.labelled_pixels:,} labelled pixels, {format_count(len(data.classes), 'class')}"
    )
    return f"{text}; {format_share(p.ignored_share)} of all pixels have no label." if p.ignored_share else f"{text}."


def _search_short(facts: ReportFacts) -> str:
    """Summarise the search in one line."""
    states = facts.search_trials["state"].value_counts()
    ended = [(int(states.get(s, 0)), w) for s, w in (("complete", "complete"), ("pruned", "stopped early"))]
    ended.append((int(states.get("failed", 0)), "failed"))
    text = f"{format_count(len(facts.search_trials), 'trial')}: {', '.join(f'{n} {word}' for n, word in ended if n)}"
    best = [trial for family in facts.families if (trial := find_best_trial(facts, family)) is not None]
    if not best:
        return text.removesuffix(": ")
    first = max(best, key=lambda trial: trial.value or 0.0)
    return (
        f"{text}; the best is {first.spec.family} with a validation {facts.objective} of {format_number(first.value)}"
    )


def _search_head(facts: ReportFacts) -> str:
    """Return what the summary lacks: requested trials, their length, and other trainings."""
    sweep = facts.sweep
    recipe = sweep.conditions.recipe
    requested = f"{format_count(sweep.trials_asked, 'trial')} requested"
    if sweep.settles and not sweep.cut and len(facts.search_trials) < sweep.trials_asked:
        requested = "Trials until more brought no gain"
    rest = [("recheck", len(sweep.rechecks)), ("budget probe", len(sweep.probes))]
    more = ", ".join(format_count(n, name) for name, n in rest if n)
    limit = "" if sweep.timeout is None else f" Time limit of the sweep: {format_elapsed(sweep.timeout)}."
    return (
        f"{requested}, {recipe.format_steps(recipe.steps)} each, seed {sweep.conditions.seed}. Values are from the "
        f"validation split, at the {facts.point_name} chosen there.{f' In addition: {more}.' if more else ''}{limit}"
    )


def _describe_split(facts: ReportFacts) -> str:
    split, folds = search_split(facts), facts.sweep.conditions.folds
    if folds is None:
        return f"{len(split.train)} train, {len(split.val)} validation, {len(split.test)} test images"
    return f"{len(split.train)} train, {len(split.val)} validation images in the search; {folds} folds, {NOT_HELD_OUT}"


def _describe_device(sweep: SweepRecord) -> str:
    """Describe the device: `cpu, 2 trainings at a time, 1 thread a worker; exact repetition needs --workers 1`."""
    devices = sorted({t.device for t in list_trainings(sweep) if t.device})
    text = "; ".join(escape_md(d) for d in devices) or MISSING
    if sweep.workers is None or sweep.workers == 1:
        return text
    one = re.fullmatch(r"cpu, (\d+ threads?)", devices[0]) if len(devices) == 1 else None
    text = (
        f"cpu, {sweep.workers} trainings at a time, {one[1]} a worker" if one else f"{text}; {sweep.workers} at a time"
    )
    # The order in which trials end affects the choice and promotion of the next ones.
    return f"{text}; exact repetition needs `--workers 1`"


def _describe_recipe(facts: ReportFacts) -> str:
    recipe = facts.sweep.conditions.recipe
    fields = recipe.model_dump(exclude={"command"}) if recipe.command is None else recipe.model_dump(include=OF_SCRIPT)
    texts = {k: f"{v:g}" if isinstance(v, float) else str(v) for k, v in fields.items() if v is not None}
    rows = [[format_code(name), escape_md(texts.get(name, MISSING))] for name in fields]
    return make_table(["recipe", "value"], rows, left=2)
