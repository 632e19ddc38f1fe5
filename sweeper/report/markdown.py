"""The report's text: the template filled with what the other modules compute."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sweeper.core.paths import view_place
from sweeper.core.records import SweepRecord
from sweeper.core.text import count
from sweeper.data.folds import NOT_HELD_OUT
from sweeper.evidence.preferences import recommended_index
from sweeper.report import confirmation, sections
from sweeper.report.card import card_markdown, card_of
from sweeper.report.caveats import caveats
from sweeper.report.explanation import explain
from sweeper.report.facts import Facts, best_trial, search_split
from sweeper.report.figures import FIGURES, Drawn
from sweeper.report.formatting import (
    MISSING,
    code,
    duration,
    escape_md,
    fence,
    level,
    naming,
    number,
    one_line,
    percent,
    prose,
    table,
    ui_address,
    unbroken,
)
from sweeper.report.tables import trainings

OPEN_REASONS, OPEN_STEPS, OPEN_CAVEATS = 110, 80, 130
"""Words of reasons, of what would settle it, and of caveats that stand in the open; the others are folded."""
_MEASURED = ", as measured on this processor; the command above fixes it, as the other precision gives other numbers"
_PAIR = re.compile(r"interval [+−-]\d")
"""A reason that is a comparison of two finalists."""


def render(facts: Facts, figures: Mapping[str, Drawn | str], ui_url: str) -> str:
    """The whole report in GitHub's markdown: the answer and what weighs on it in the open, the rest in `<details>`.

    `figures` holds, for every figure, what was drawn or why it was not. Names from files, labels and errors are escaped
    before they reach the template, which therefore escapes nothing.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the output is markdown; `words` escapes
    )
    environment.globals["figures"] = lambda section: _figures(section, figures)
    environment.globals["open"] = lambda summary: f"<details>\n<summary>{escape(summary, quote=False)}</summary>"
    environment.globals["close"] = "</details>"
    template = environment.get_template("report.md.j2")
    return unbroken(template.render({**_context(facts, ui_url), "left_out": _left_out(figures)}))


def summary(facts: Facts) -> str:
    """The head of the report: the answer and its snippet, fit for the note of an MLflow run."""
    return unbroken(card_markdown(card_of(facts), _coded(facts))) + "\n"


def _coded(facts: Facts) -> frozenset[str]:
    """Names that stand in code spans."""
    return frozenset(f.family for f in facts.finalists)


def _within(sentences: Sequence[str], words: int) -> tuple[list[str], list[str]]:
    """The first sentences of together at most so many words, but one at least; and the others."""
    total = 0
    for i, sentence in enumerate(sentences):
        total += len(sentence.split())
        if i and total > words:
            return list(sentences[:i]), list(sentences[i:])
    return list(sentences), []


def _left_out(figures: Mapping[str, Drawn | str]) -> str:
    missing = [f"{name.replace('_', ' ')} ({escape_md(why)})" for name, why in figures.items() if isinstance(why, str)]
    return "; ".join(missing)


def _figures(section: str, drawn: Mapping[str, Drawn | str]) -> str:
    """Image and caption of each figure of a section; nothing of what was not drawn."""
    shown = []
    for name, figure in FIGURES.items():
        found = drawn.get(name)
        if figure.section == section and isinstance(found, Drawn):
            shown.append(found.shown(name))
    return "\n\n".join(shown)


def _context(facts: Facts, ui_url: str) -> dict[str, object]:
    sweep, recommendation = facts.sweep, facts.recommendation
    evidence = recommendation.evidence
    pairwise = [reason for reason in recommendation.reasons if _PAIR.search(reason)]
    others = [reason for reason in recommendation.reasons if reason not in pairwise]
    reasons, more_reasons = _within([*others, *pairwise], OPEN_REASONS)
    steps, more_steps = _within(recommendation.next_steps, OPEN_STEPS)
    limits, more_caveats = _within(caveats(facts), OPEN_CAVEATS)

    def rendered(lines: Sequence[str]) -> list[str]:
        return [prose(naming(line, {f.family for f in facts.finalists})) for line in lines]

    return {
        "name": escape_md(sweep.conditions.dataset.name),
        "study": escape_md(sweep.study),
        "card": card_markdown(card_of(facts), _coded(facts)),
        "true_name": confirmation.true_name(facts),
        "parent_link": _parent(facts, ui_url),
        "ui_url": code(ui_url),
        "levels": _levels(facts),
        "reasons": rendered(reasons),
        "more_reasons": rendered(more_reasons),
        "next_steps": rendered(steps),
        "more_steps": rendered(more_steps),
        "preferences": confirmation.preferences_table(facts),
        "preferences_text": confirmation.preferences_text(facts),
        "preferences_detail": confirmation.preferences_detail(facts),
        "finalists": confirmation.finalists_table(facts) if facts.finalists else "",
        "plain_point": confirmation.plain_point_text(facts),
        "finalists_detail": confirmation.finalists_detail(facts) if facts.finalists else "",
        "rules": confirmation.rules_table(facts),
        "rules_text": confirmation.rules_text(facts),
        "runs": confirmation.runs_table(facts, ui_url),
        "curse": confirmation.winners_curse(facts),
        "analyses": confirmation.analyses_table(facts),
        "classes": confirmation.classes_table(facts) if facts.chosen else "",
        "tested_on": facts.tested_on,
        "point_name": facts.point_name,
        "default_name": facts.default_name,
        "profile_head": _profile_head(facts),
        "profile": sections.profile_table(facts.sweep.profile),
        "profile_text": sections.profile_text(facts),
        "explanation": rendered(explain(sweep.profile, evidence, recommended_index(recommendation), sweep.imbalance)),
        "search_short": _search_short(facts),
        "search_head": _search_head(facts),
        "any_trial": bool(sweep.trials),
        "leaderboard": sections.leaderboard(facts, ui_url) if sweep.trials else "",
        "ladder": sections.ladder(facts),
        "adequacy": sections.adequacy(facts),
        "untried": sections.untried(facts),
        "collapses": sections.collapses(facts),
        "failures": sections.failures(facts),
        "caveats": limits,
        "more_caveats": more_caveats,
        "command": fence(one_line(sweep.rerun), "bash"),
        "reproduce": _reproduce(facts),
        "recipe": _recipe(facts),
    }


def _parent(facts: Facts, ui_url: str) -> str:
    """Address of the sweep's table in MLflow; "" where there is none."""
    experiment, parent = facts.sweep.experiment_id, facts.sweep.parent_run_id
    return "" if experiment is None or parent is None else ui_address(ui_url, view_place(experiment))


def _levels(facts: Facts) -> str:
    """What the intervals are."""
    every = "every share of pixels is of labelled pixels."
    if facts.level == 0.95:
        return f"Every interval is a {level(0.95)} interval, {every}"
    return (
        f"Intervals of scores are at {level(0.95)}, those of differences between finalists at {level(facts.level)}, so "
        f"that those of all planned interim analyses hold together at {level(0.95)}; {every}"
    )


def _profile_head(facts: Facts) -> str:
    p, data = facts.sweep.profile, facts.sweep.conditions.dataset
    kind = "synthetic " if data.synthetic else ""
    text = f"{p.images:,} {kind}images, {p.labelled_pixels:,} labelled pixels, {count(len(data.classes), 'class')}"
    return f"{text}; {percent(p.ignored_share)} of all pixels have no label." if p.ignored_share else f"{text}."


def _search_short(facts: Facts) -> str:
    """The search in a line of plain words."""
    states = facts.search["state"].value_counts()
    ended = [(int(states.get(s, 0)), w) for s, w in (("complete", "complete"), ("pruned", "stopped early"))]
    ended.append((int(states.get("failed", 0)), "failed"))
    text = f"{count(len(facts.search), 'trial')}: {', '.join(f'{n} {word}' for n, word in ended if n)}"
    best = [trial for family in facts.families if (trial := best_trial(facts, family)) is not None]
    if not best:
        return text.removesuffix(": ")
    first = max(best, key=lambda trial: trial.value or 0.0)
    return f"{text}; the best is {first.spec.family} with a validation {facts.objective} of {number(first.value)}"


def _search_head(facts: Facts) -> str:
    """What the summary does not say: how many trials were asked for, how long each is, what else was trained."""
    sweep = facts.sweep
    recipe = sweep.conditions.recipe
    point = facts.default_name if recipe.threshold == "0.5" else f"at the {facts.point_name} chosen there"
    asked = f"{count(sweep.trials_asked, 'trial')} asked for"
    if sweep.settles and not sweep.cut and len(facts.search) < sweep.trials_asked:
        asked = "Trials until more brought no gain"
    rest = [("recheck", len(sweep.rechecks)), ("budget probe", len(sweep.probes))]
    more = ", ".join(count(n, name) for name, n in rest if n)
    limit = "" if sweep.timeout is None else f" Time limit of the sweep: {duration(sweep.timeout)}."
    return (
        f"{asked}, {recipe.steps:,} steps each, seed {sweep.conditions.seed}. Values are from the validation split, "
        f"{point}.{f' Besides: {more}.' if more else ''}{limit}"
    )


def _reproduce(facts: Facts) -> str:
    sweep, data = facts.sweep, facts.sweep.conditions.dataset
    split = search_split(facts)
    sides = f"{len(split.train)} train, {len(split.val)} validation, {len(split.test)} test images"
    if (folds := sweep.conditions.folds) is not None:
        sides = (
            f"{len(split.train)} train, {len(split.val)} validation images in the search; {folds} folds, {NOT_HELD_OUT}"
        )
    rows = [
        ["study", escape_md(sweep.study)],
        ["data", escape_md(data.source)],
        ["content of the data", f"{code(data.digest)}" if data.digest else MISSING],
        ["split", sides],
        ["seed of the study", str(sweep.conditions.seed)],
        ["search space", escape_md(sweep.space.name)],
        ["margin of equivalence", f"{number(sweep.rope)} {facts.metric}"],
        ["time", duration(sweep.seconds)],
        ["device", _device(sweep)],
        ["precision", sweep.conditions.recipe.precision + _MEASURED * sweep.is_precision_measured],
        ["versions", ", ".join(f"{escape_md(k)} {escape_md(v)}" for k, v in sweep.versions.items()) or MISSING],
    ]
    return table(["what", "value"], rows, left=2)


def _device(sweep: SweepRecord) -> str:
    """What trained: `cpu, 2 trainings at a time, 1 thread a worker; exact repetition needs --workers 1`."""
    devices = sorted({t.device for t in trainings(sweep) if t.device})
    text = "; ".join(escape_md(d) for d in devices) or MISSING
    if sweep.workers is None or sweep.workers == 1:
        return text
    one = re.fullmatch(r"cpu, (\d+ threads?)", devices[0]) if len(devices) == 1 else None
    text = (
        f"cpu, {sweep.workers} trainings at a time, {one[1]} a worker" if one else f"{text}; {sweep.workers} at a time"
    )
    # Which trial ends first decides what is known when the next is asked for, or let go on.
    return f"{text}; exact repetition needs `--workers 1`"


def _recipe(facts: Facts) -> str:
    fields = facts.sweep.conditions.recipe.model_dump()
    texts = {k: f"{v:g}" if isinstance(v, float) else str(v) for k, v in fields.items() if v is not None}
    rows = [[code(name), escape_md(texts.get(name, MISSING))] for name in fields]
    return table(["recipe", "value"], rows, left=2)
