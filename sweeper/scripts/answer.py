"""The answer of a comparison in the user's training, and its files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sweeper.core.paths import ReportPaths
from sweeper.core.records import NextStep, Remark, Use
from sweeper.core.tasks import RULES
from sweeper.core.text import capitalise, format_count, format_duration
from sweeper.evidence.answer import make_remark
from sweeper.evidence.document import AnswerDocument
from sweeper.evidence.settling import may_gain
from sweeper.evidence.verdict_predicates import has_beaten
from sweeper.judging.judgement import Judgement
from sweeper.judging.table_evidence import MethodContest
from sweeper.scripts.comparison_plan import ConfirmationPlan
from sweeper.scripts.loss_file import make_loss_text
from sweeper.scripts.trainings import MOST_LOST, ScriptLoss, TrainingRow


@dataclass(frozen=True)
class Confirmation:
    """All results of a comparison, and its answer."""

    resume_command: str
    """The command that resumes it."""
    plan: ConfirmationPlan
    factors: Mapping[str, float]
    """Factor on the learning rate of each loss."""
    tuned: Sequence[TrainingRow]
    """Trainings of the tuning."""
    rows: Sequence[TrainingRow]
    """Trainings of the confirmation."""
    judgement: Judgement
    plain: Judgement
    """Judgement at 0.5 or τ = 0; the same where the script itself decides."""

    @property
    def trainings(self) -> tuple[TrainingRow, ...]:
        """All trainings."""
        return (*self.tuned, *self.rows)

    @property
    def used(self) -> ScriptLoss:
        """The loss to use."""
        name = _name_used(self.judgement)
        return next(loss for loss in self.plan.losses if loss.name == name)

    @cached_property
    def answer(self) -> AnswerDocument:
        """The answer for programs: the judgement's, with what the script's trainings add."""
        plan, document = self.plan, self.judgement.answer
        tuned = {loss.name: {"params": loss.params, "lr": self.factors[loss.name]} for loss in plan.losses}
        update = {
            "study": plan.name,
            "losses": tuple(row.model_copy(update=tuned[row.loss]) for row in document.losses),
            "use": Use(loss=self.used.name, **tuned[self.used.name]),
            "next": tuple(map(self._add_command, document.next)),
            "remarks": (*document.remarks, *_list_remarks(self)),
            "command": plan.command,
        }
        return AnswerDocument(**{**dict(document), **update})

    def _add_command(self, step: NextStep) -> NextStep:
        more = (
            f"{self.resume_command} --seeds {self.plan.seeds[0]}..{step.values['seeds']}"
            if step.code == "SEEDS"
            else ""
        )
        return step.model_copy(update={"command": more})


def _name_used(judgement: Judgement) -> str:
    use = judgement.answer.use
    assert use is not None  # losses that did not train are not judged
    return use.loss


def is_settled(contest: MethodContest) -> bool:
    """Return whether each loss has beaten the present one, was beaten by it, or gains at most the margin over it."""
    base = contest.baseline or 0
    return all(
        has_beaten(contest, i, base) or has_beaten(contest, base, i) or not may_gain(contest, i, base)
        for i in range(len(contest.finalists))
        if i != base
    )


def _list_remarks(result: Confirmation) -> Iterator[Remark]:
    """Yield what the script's trainings add to the answer of their scores."""
    plan, kind = result.plan, result.plan.probe.scores["test"]
    if kind != "logits":
        yield make_remark("OWN_RULE" if kind == "counts" else "OWN_SCORE")
    for note in plan.probe.notes:
        yield make_remark("DATA", text=capitalise(note))
    if bad := [row for row in result.trainings if row.state != "trained"]:
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
    for end in (plan.rates[0], plan.rates[-1]):  # in ascending order
        names = tuple(name for name, factor in result.factors.items() if factor == end)
        if result.tuned and names:
            yield make_remark("RATE_END", rate=end, losses=names)
    if (plain := _name_used(result.plain)) != result.used.name:
        yield make_remark("POINT_HANGS", point=RULES[plan.task.task].plain_words, loss=plain)
    if plan.extended:
        yield make_remark("MORE_SEEDS_ASKED")


def write_confirmation(made: Confirmation, out: Path) -> None:
    """Write `trainings.csv`, and the used loss as `loss.py`.

    Raises:
        OSError: if a file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths, loss, task = ReportPaths(out), made.used, made.plan.task
    text = make_loss_text(loss.family, loss.params, task.task, task.frequencies, made.plan.probe.ignore_index)
    paths.loss.write_text(text, "utf-8")
    with paths.trainings.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(TrainingRow.model_fields))
        writer.writeheader()
        for row in made.trainings:
            own_runs = "; ".join(f"{tracker}: {run}" for tracker, run in row.own_runs.items())
            writer.writerow({**row.model_dump(), "own_runs": own_runs})


def format_summary(made: Confirmation, seconds: float) -> str:
    """Describe in a line what was trained."""
    used, folder = sum(row.megabytes for row in made.trainings), Path(made.rows[0].folder).parent
    return (
        f"{format_count(len(made.trainings), 'training')}, {format_duration(seconds)}; their folders take "
        f"{used:,.1f} MB: {folder}"
    )
