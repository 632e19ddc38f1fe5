"""The report's text: the template filled with what the other modules compute."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sweeper.core.mlflow_pages import view_place
from sweeper.core.provenance import trained_by
from sweeper.core.records import SweepRecord
from sweeper.core.text import count
from sweeper.data.folds import NOT_HELD_OUT
from sweeper.report import confirmation, cost, preferences, search_analysis, sections, uncertainty
from sweeper.report.answer import answer, numbers
from sweeper.report.caveats import caveats, split_sizes
from sweeper.report.facts import Facts
from sweeper.report.figures.style import Drawn
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
)
from sweeper.report.tables import trainings


def render(facts: Facts, figures: Mapping[str, Drawn | str], ui_url: str) -> str:
    """The whole report in GitHub's markdown.

    `figures` holds, for every figure the template names, what was drawn or why it was not. Names from files, labels
    and errors are escaped before they reach the template, which therefore escapes nothing.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the output is markdown; `words` escapes
    )
    environment.globals["figure"] = lambda name: _figure(name, figures[name])
    return environment.get_template("report.md.j2").render(_context(facts, ui_url))


def summary(facts: Facts) -> str:
    """The answer alone, with the snippet: fit for a run's note."""
    recommended = facts.recommendation.recommended
    snippet = [fence(recommended.snippet, "python")] if recommended else []
    return "\n\n".join([*answer(facts), *snippet]) + "\n"


def _figure(name: str, drawn: Drawn | str) -> str:
    if isinstance(drawn, str):
        return f"*The figure “{name.replace('_', ' ')}” is left out: {escape_md(drawn)}.*"
    return f"![{escape_md(drawn.alt)}](figures/{name}.png)\n\n**Figure.** {drawn.caption}"


def _context(facts: Facts, ui_url: str) -> dict[str, object]:
    sweep, recommendation = facts.sweep, facts.recommendation
    recommended = recommendation.recommended

    def told(lines: Sequence[str]) -> list[str]:
        return [prose(naming(line, {f.family for f in facts.finalists})) for line in lines]

    return {
        "name": escape_md(sweep.conditions.dataset.name),
        "study": escape_md(sweep.study),
        "created": escape_md(sweep.created),
        "split_file": split_sizes(facts) is not None,
        "answer": answer(facts),
        "numbers": numbers(facts),
        "snippet": fence(recommended.snippet, "python") if recommended else "",
        "parent_link": _parent(facts, ui_url),
        "ui_url": code(ui_url),
        "levels": _levels(facts),
        "equivalent": fence(recommended.equivalent, "python") if recommended and recommended.equivalent else "",
        "reasons": told(recommendation.reasons),
        "next_steps": told(recommendation.next_steps),
        "preferences": preferences.preferences_table(facts),
        "preferences_text": preferences.preferences_text(facts),
        "finalists": confirmation.finalists_table(facts, ui_url) if facts.finalists else "",
        "path": confirmation.path_table(facts, ui_url),
        "path_text": confirmation.path_text(facts),
        "analyses": confirmation.analyses_table(facts),
        "analyses_text": confirmation.analyses_text(facts),
        "uncertainty": uncertainty.uncertainty_table(facts),
        "uncertainty_text": uncertainty.uncertainty_text(facts),
        "classes": confirmation.classes_table(facts) if facts.chosen else "",
        "classes_text": confirmation.classes_text(facts),
        "tested_on": facts.tested_on,
        "point_name": facts.point_name,
        "default_name": facts.default_name,
        "objective": facts.objective,
        "profile_head": _profile_head(facts),
        "profile": sections.profile_table(facts),
        "profile_text": sections.profile_text(facts),
        "explanation": told(facts.explanation),
        "literature": told(facts.literature),
        "search_head": _search_head(facts),
        "any_trial": bool(sweep.trials),
        "leaderboard": sections.leaderboard(facts, ui_url) if sweep.trials else "",
        "adequacy": search_analysis.adequacy(facts),
        "budget": search_analysis.budget_table(facts),
        "cost": cost.cost_table(facts),
        "cost_text": cost.cost_text(facts),
        "untried": sections.untried(facts),
        "coordinates": sections.coordinates_table(facts),
        "coordinates_text": sections.coordinates_text(facts),
        "binary": facts.binary,
        "grid": sweep.conditions.rates != "searched",
        "collapses": sections.collapses(facts),
        "collapses_text": sections.collapses_text(facts),
        "failures": sections.failures(facts),
        "caveats": caveats(facts),
        "command": fence(one_line(sweep.command), "bash"),
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
    text = f"{p.pictures:,} {kind}images, {p.labelled_pixels:,} labelled pixels, {count(len(data.classes), 'class')}"
    return f"{text}; {percent(p.ignored_share)} of all pixels have no label." if p.ignored_share else f"{text}."


def _search_head(facts: Facts) -> str:
    states = facts.search["state"].value_counts()
    parts = [f"{int(states.get(s, 0))} {s}" for s in ("complete", "pruned", "failed")]
    sweep = facts.sweep
    point = (
        facts.default_name if sweep.conditions.recipe.threshold == "0.5" else f"at the {facts.point_name} chosen there"
    )
    limit = "" if sweep.timeout is None else f" Time limit of the sweep: {duration(sweep.timeout)}."
    rest = [("recheck", len(sweep.rechecks)), ("budget probe", len(sweep.probes))]
    more = ", ".join(count(n, name) for name, n in rest if n)
    return (
        f"{count(len(facts.search), 'trial')} of {sweep.trials_asked} asked for ({', '.join(parts)}), "
        f"{sweep.conditions.recipe.steps:,} steps each, seed {sweep.conditions.seed}. Values are from the validation "
        f"split, {point}.{f' Besides: {more}.' if more else ''}{limit}"
    )


def _reproduce(facts: Facts) -> str:
    sweep, data = facts.sweep, facts.sweep.conditions.dataset
    sizes = split_sizes(facts)
    split = (
        f"{sizes[0]} train, {sizes[1]} validation, {sizes[2]} test images"
        if sizes
        else "not known: the images of the record cannot be divided"
    )
    if sizes and (folds := sweep.conditions.folds) is not None:
        split = f"{sizes[0]} train, {sizes[1]} validation images in the search; {folds} folds, {NOT_HELD_OUT}"
    rows = [
        ["study", escape_md(sweep.study)],
        ["data", escape_md(data.source)],
        ["content of the data", f"{code(data.digest)}" if data.digest else MISSING],
        ["split", split],
        ["seed of the study", str(sweep.conditions.seed)],
        ["search space", escape_md(sweep.space.name)],
        ["margin of equivalence", f"{number(sweep.rope)} mIoU"],
        ["time", duration(sweep.seconds)],
        ["device", _device(sweep)],
        *_versions(sweep),
    ]
    return table(["what", "value"], rows, left=2)


def _versions(sweep: SweepRecord) -> list[list[str]]:
    """Versions; where a session was under others, those of each training."""
    trainers = trained_by(sweep)
    if len({tuple(trainer.versions.items()) for trainer in trainers}) < 2:
        used = trainers[0].versions if trainers else sweep.versions
        return [["versions", _version_text(used) or MISSING]]
    return [
        [f"versions of {count(len(t.trainings), 'training')} ({escape_md(t.device)})", _version_text(t.versions)]
        for t in trainers
    ]


def _version_text(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{escape_md(k)} {escape_md(v)}" for k, v in versions.items())


def _device(sweep: SweepRecord) -> str:
    """What trained: `2 workers of 1 thread each (cpu); exact repetition needs --workers 1`."""
    devices = sorted({t.device for t in trainings(sweep) if t.device})
    text = "; ".join(escape_md(d) for d in devices) or MISSING
    if sweep.workers is None:
        return text
    one = re.fullmatch(r"cpu, (\d+ threads?)", devices[0]) if len(devices) == 1 else None
    text = f"cpu, {count(sweep.workers, 'worker')} of {one[1]}" if one else f"{text}; {count(sweep.workers, 'worker')}"
    # With several, which trial ends first decides what is known when the next is asked for, or let go on.
    return f"{text} each; exact repetition needs `--workers 1`" if sweep.workers > 1 else text


def _recipe(facts: Facts) -> str:
    fields = facts.sweep.conditions.recipe.model_dump()
    texts = {k: f"{v:g}" if isinstance(v, float) else str(v) for k, v in fields.items()}
    rows = [[code(name), escape_md(text)] for name, text in texts.items()]
    return table(["recipe", "value"], rows, left=2)
