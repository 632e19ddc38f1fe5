"""Tables and sentences of the report in markdown, one function each, from `ReportFacts`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from sweeper.core.recipe import OF_SCRIPT
from sweeper.core.records import FinalistEvidence, OtherMeasure, TrialResult
from sweeper.core.tasks import compute_median_point, list_values
from sweeper.core.text import format_significant, format_upper_bound
from sweeper.evidence.answer_text import format_score, list_class_cells
from sweeper.evidence.document import AnswerDocument, LossRow
from sweeper.report.facts import ReportFacts
from sweeper.report.formatting import (
    MISSING,
    MOST_CLASSES,
    escape_md,
    escape_prose,
    format_code,
    format_elapsed,
    format_interval,
    format_number,
    format_params,
    format_signed_number,
    make_table,
    tabulate,
)

# --- The losses ---------------------------------------------------------------------------------------------


def make_finalists_table(facts: ReportFacts) -> str:
    """Return the losses by test score, with the paired difference to the present one."""
    rate = f"{'× your ' * (facts.sweep.conditions.recipe.command is not None)}learning rate"
    columns: dict[str, Callable[[FinalistEvidence], str]] = {
        "loss": partial(_name_loss, facts),
        "parameters": lambda f: format_params(f.params) or MISSING,
        rate: lambda f: format_significant(f.lr),
        f"test {facts.metric} [95 %]": lambda f: format_interval(f.score, len(f.seeds)),
        f"over {format_code(facts.present)} [95 %]": facts.format_gain_over_present,
        facts.rules.at_plain: lambda f: format_number(f.score_at_default),
        "seeds": lambda f: str(len(f.seeds)),
    }
    return tabulate(facts.finalists, columns, left=2)


def make_searched_table(document: AnswerDocument) -> str:
    """Return the losses in the trainings of the search, where those of the final training are the answer; else ""."""
    columns: dict[str, Callable[[LossRow], str]] = {
        "loss": lambda row: format_code(row.loss),
        "parameters": lambda row: format_params(row.params) or MISSING,
        f"test {escape_md(document.scale.score)} [95 %]": lambda row: format_score(row, document),
        "seeds": lambda row: str(row.seeds),
    }
    return tabulate(document.searched, columns, left=2) if document.searched else ""


def format_cost(cost: float | None, document: AnswerDocument) -> str:
    """Format a loss's largest cost, rounded up."""
    return MISSING if cost is None else format_upper_bound(cost, document.margin, document.scale.digits)


def _name_loss(facts: ReportFacts, finalist: FinalistEvidence) -> str:
    name = format_code(finalist.family)
    return f"**{name}**" if finalist is facts.chosen else name


def make_classes_table(document: AnswerDocument) -> str:
    """Return what two losses do for the rarest classes, the rarest first."""
    cells = [[escape_md(name), *rest] for name, *rest in list_class_cells(document)[: MOST_CLASSES + 1]]
    return make_table(cells[0], cells[1:]) if cells else ""


def make_class_details(facts: ReportFacts) -> str:
    """Return the test IoU of each class, its precision and recall by two losses.

    Classes that overlap have a threshold each, the median over a loss's trainings.
    """
    pair = [f for f in (facts.chosen, facts.rival) if f is not None]
    names = {"iou": "IoU", "precision": "precision", "recall": "recall"}

    def score(field: str, finalist: FinalistEvidence, i: int) -> str:
        return format_number(getattr(finalist, field)[i])

    columns: dict[str, Callable[[int], str]] = {"class": lambda i: escape_md(facts.classes[i])}
    for field, title in names.items():
        columns |= {f"{title} {format_code(f.family)}": partial(score, field, f) for f in pair}
    for f in pair * facts.rules.has_planes:
        thresholds = list_values(compute_median_point(f.points))
        columns[f"threshold {format_code(f.family)}"] = partial(_format_item, thresholds)
    return tabulate(range(len(facts.classes)), columns)


def _format_item(values: Sequence[float], i: int) -> str:
    return format_number(values[i], 2)


def make_measures_table(facts: ReportFacts) -> str:
    """Return a row per measure other than the compared metric, with each loss's score; "" without any."""
    if facts.evidence is None:
        return ""

    def score(i: int, other: OtherMeasure) -> str:
        return format_interval(other.scores[i], len(facts.finalists[i].seeds))

    columns: dict[str, Callable[[OtherMeasure], str]] = {"measure [95 %]": lambda other: other.name}
    columns |= {format_code(finalist.family): partial(score, i) for i, finalist in enumerate(facts.finalists)}
    return tabulate(facts.evidence.others, columns)


def make_costs_table(facts: ReportFacts) -> str:
    """Return the largest cost of each loss against the best of them."""
    columns: dict[str, Callable[[LossRow], str]] = {
        "loss": lambda row: format_code(row.loss),
        f"costs at most, {escape_md(facts.metric)} (95 %)": lambda row: format_cost(row.cost, facts.document),
    }
    return tabulate(facts.document.losses, columns)


# --- The search ---------------------------------------------------------------------------------------------


def make_leaderboard(facts: ReportFacts) -> str:
    """Return the best search trial of every tried family, best first, with its trials by outcome."""
    by_family: dict[str, list[TrialResult]] = defaultdict(list)
    for trial in facts.sweep.trials:
        by_family[trial.spec.family].append(trial)
    entries = []
    for family, trials in by_family.items():
        done = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
        best = max(done, key=lambda trial: (trial.score, -trial.spec.number), default=None)
        params = MISSING if best is None else format_params(best.spec.params | {"lr": best.spec.lr})
        states = Counter[str](trial.state for trial in trials)
        counts = [len(trials), *(states[state] for state in ("complete", "pruned", "failed"))]
        counts.append(sum(trial.has_collapsed for trial in trials))
        value = None if best is None else best.value
        entries.append((-(value or 0.0), [format_code(family), params, format_number(value), *map(str, counts)]))
    header = ["loss", "best trial", f"validation {facts.objective}"]
    header += ["trials", "complete", "pruned", "failed", "collapsed"]
    return make_table(header, [cells for _, cells in sorted(entries)], left=2) if entries else "No trial was made."


def make_ladder_table(facts: ReportFacts) -> str:
    """Return the numbers of steps tried before the search, and the scores of two losses at each; "" without any."""
    rungs = facts.sweep.rungs
    losses = list(dict.fromkeys(name for rung in rungs for name in rung.scores))
    rows = [
        [
            f"{rung.steps:,}",
            escape_md(", ".join(rung.not_learned)) or "none",
            *(format_number(rung.scores.get(name)) for name in losses),
            MISSING if rung.gap is None else format_signed_number(rung.gap),
        ]
        for rung in rungs
    ]
    return (
        make_table(
            ["steps", "not learned, of the classes with enough pixels", *map(format_code, losses), "gap"], rows, left=2
        )
        if rows
        else ""
    )


def list_failures(facts: ReportFacts) -> str:
    """Return the reasons of failed trainings with their counts, most common first; "" if none failed."""
    failed = [t for t in facts.sweep.trainings if t.state == "failed"]
    reasons = Counter((t.spec.family, (t.reason or "no reason was recorded")[:300]) for t in failed)
    rows = [[format_code(f), escape_prose(reason), str(n)] for (f, reason), n in reasons.most_common(20)]
    return make_table(["loss", "reason", "times"], rows, left=2) if rows else ""


# --- How to reproduce ---------------------------------------------------------------------------------------


def make_reproduction_table(facts: ReportFacts) -> str:
    """Return the study's data, split, device, versions and recipe."""
    sweep, document = facts.sweep, facts.document
    recipe, data = sweep.conditions.recipe, sweep.conditions.dataset
    devices = sorted({t.device for t in sweep.trainings if t.device})
    workers = f", {sweep.workers} at a time" if (sweep.workers or 1) > 1 else ""
    split = {side: len(stems) for side, stems in (document.split or {}).items()}
    rows = {
        "study": sweep.study,
        "data": f"{data.source}, {len(data.images):,} images, {data.digest}",
        "split": ", ".join(f"{n} {side}" for side, n in split.items()),
        "seed": str(sweep.conditions.seed),
        "margin": f"{sweep.margin:g} {facts.metric}",
        "time": format_elapsed(sweep.seconds),
        "device": f"{'; '.join(devices) or MISSING}{workers}",
        "versions": ", ".join(f"{name} {version}" for name, version in sweep.versions.items()),
    }
    fields = recipe.model_dump(exclude={"command"}) if recipe.command is None else recipe.model_dump(include=OF_SCRIPT)
    named = ", ".join(f"{name} {value}" for name, value in fields.items() if value is not None)
    return make_table(
        ["what", "value"], [[what, escape_md(text)] for what, text in (rows | {"recipe": named}).items()], 2
    )
