"""The answer of a comparison in the user's training, and its files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sweeper.core.paths import ConfirmationPaths
from sweeper.core.records import NextStep, Remark, Use
from sweeper.core.text import capitalise, format_count, format_duration
from sweeper.evidence.answer import make_remark
from sweeper.evidence.document import AnswerDocument
from sweeper.evidence.settling import may_gain
from sweeper.evidence.verdict_predicates import has_beaten
from sweeper.judging.judgement import Judgement
from sweeper.judging.table_evidence import MethodContest
from sweeper.scripts.comparison_plan import ConfirmationPlan
from sweeper.scripts.trainings import MOST_LOST, TrainingRow

MORE_SEEDS = (8, 13, 21)
"""Numbers of seeds that are proposed where the answer is open."""


class Confirmation(NamedTuple):
    """The answer, and the judgement that it follows from."""

    answer: AnswerDocument
    judgement: Judgement
    trainings: Sequence[TrainingRow]
    loss_text: str
    """The used loss, as a file that needs only torch."""


class ComparisonResult(NamedTuple):
    """All results of a comparison."""

    name: str
    resume_command: str
    """The command that resumes it."""
    folder: Path
    plan: ConfirmationPlan
    factors: Mapping[str, float]
    """Factor on the learning rate of each loss."""
    tuned: Sequence[TrainingRow]
    """Trainings of the tuning."""
    rows: Sequence[TrainingRow]
    """Trainings of the confirmation."""
    judgement: Judgement
    plain: Judgement | None
    """Judgement at 0.5 or τ = 0; None where the script itself decides."""


def is_settled(contest: MethodContest) -> bool:
    """Return whether each loss has beaten the present one, was beaten by it, or gains at most the margin over it."""
    base = contest.baseline or 0
    return all(
        has_beaten(contest, i, base) or has_beaten(contest, base, i) or not may_gain(contest, i, base)
        for i in range(len(contest.finalists))
        if i != base
    )


def make_comparison_document(result: ComparisonResult) -> AnswerDocument:
    """Return the answer for programs."""
    plan, document = result.plan, result.judgement.answer
    losses = {loss.name: loss for loss in plan.losses}
    rows = tuple(
        row.model_copy(update={"params": losses[row.loss].params, "lr": result.factors[row.loss]})
        for row in document.losses
    )
    use = document.use
    if use is not None:
        use = Use(loss=use.loss, params=losses[use.loss].params, lr=result.factors[use.loss])
    steps: tuple[NextStep, ...] = ()
    if not is_settled(result.judgement.contest):
        seeds = next((n for n in MORE_SEEDS if n > plan.seeds), 2 * plan.seeds)
        names = tuple(name for name in losses if name != document.present)
        values = {"seeds": seeds, "now": plan.seeds, "losses": names}
        steps = (NextStep(code="SEEDS", values=values, command=f"{result.resume_command} --seeds {seeds}"),)
    remarks = (*document.remarks, *_list_remarks(result))
    update = {
        "study": result.name,
        "losses": rows,
        "use": use,
        "next": steps,
        "remarks": remarks,
        "command": plan.command,
    }
    return AnswerDocument(**{**dict(document), **update})


def _list_remarks(result: ComparisonResult) -> Iterator[Remark]:
    """Yield what the script's trainings add to the answer of their scores."""
    plan, plain, kind = result.plan, result.plain, result.plan.probe.scores["test"]
    if kind != "logits":
        yield make_remark("OWN_RULE" if kind == "counts" else "OWN_SCORE")
    for note in plan.probe.notes:
        yield make_remark("DATA", text=capitalise(note))
    if bad := [row for row in (*result.tuned, *result.rows) if row.state != "trained"]:
        titles = [f"{row.loss} (seed {row.seed}, {row.lr_factor:.3g} × the rate) {row.state}" for row in bad]
        yield make_remark("BAD_TRAININGS", text="; ".join(titles))
    if lost := [row for row in result.rows if row.lost > MOST_LOST]:
        titles = [f"{row.loss}, seed {row.seed} ({row.lost:.2f})" for row in lost]
        yield make_remark("POINT_FAILS", trainings=tuple(titles))
    vals: dict[str, list[float | None]] = {}
    for row in result.tuned:
        vals.setdefault(row.loss, []).append(row.val)
    if equal := tuple(loss for loss, scores in vals.items() if len(scores) > len({*scores}) == 1):
        yield make_remark("UNTUNED", losses=equal)
    for end in {min(plan.rates), max(plan.rates)} if len(plan.rates) > 1 else ():
        if names := tuple(name for name, factor in result.factors.items() if factor == end):
            yield make_remark("RATE_END", rate=end, losses=names)
    used = [None if one is None or one.answer.use is None else one.answer.use.loss for one in (result.judgement, plain)]
    if None not in used and used[0] != used[1]:
        point = "threshold 0.5" if plan.task.task == "binary" else "τ = 0"
        yield make_remark("POINT_HANGS", point=point, loss=used[1])
    if plan.extended:
        yield make_remark("MORE_SEEDS_ASKED")


def write_confirmation(made: Confirmation, out: Path) -> None:
    """Write `trainings.csv`, and the used loss as `loss.py`.

    Raises:
        OSError: if a file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = ConfirmationPaths(out)
    paths.loss.write_text(made.loss_text, "utf-8")
    with paths.trainings.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(TrainingRow.model_fields))
        writer.writeheader()
        for row in made.trainings:
            own_runs = "; ".join(f"{tracker}: {run}" for tracker, run in row.own_runs.items())
            writer.writerow({**row.model_dump(), "own_runs": own_runs})


def format_summary(made: Confirmation, seconds: float, folder: Path) -> str:
    """Describe in a line what was trained."""
    used = sum(row.megabytes for row in made.trainings)
    return (
        f"{format_count(len(made.trainings), 'training')}, {format_duration(seconds)}; their folders take "
        f"{used:,.1f} MB: {folder}"
    )
