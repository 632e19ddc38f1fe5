"""Compare losses in the user's training: equally tuned rates, fresh seeds, interim analyses; the answer, its files."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby, product
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.core.errors import ScriptError, UsageError
from sweeper.core.paths import ReportPaths
from sweeper.core.records import NextStep, Remark, Use
from sweeper.core.tasks import RULES, is_end_point
from sweeper.core.text import capitalise, format_count, format_duration, join_words
from sweeper.evidence.answer import make_remark
from sweeper.evidence.document import AnswerDocument, LossRow
from sweeper.evidence.settling import may_gain
from sweeper.evidence.verdict_predicates import has_beaten
from sweeper.fingerprint.imbalance import find_rarest_class
from sweeper.judging.judgement import Judgement, judge_scores
from sweeper.judging.request import ScoreRequest
from sweeper.judging.rows import COUNTS, ScoreRows
from sweeper.judging.table_evidence import MethodContest
from sweeper.scripts.comparison_plan import ConfirmationPlan
from sweeper.scripts.contract import SplitScores
from sweeper.scripts.loss_file import make_loss_text
from sweeper.scripts.trainings import MOST_LOST, NEXT_STEP, ScriptJob, ScriptLoss, ScriptTrainings, TrainingRow

TUNING_SEED, FIRST_SEED = 1, 1000
"""Seed of the tuning, and the first of the confirmation's."""


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
    def used(self) -> ScriptLoss | None:
        """The loss to use; None where no network can do the task."""
        name = _name_used(self.judgement)
        return next((loss for loss in self.plan.losses if loss.name == name), None)

    @cached_property
    def answer(self) -> AnswerDocument:
        """The answer for programs: the judgement's, with what the script's trainings add."""
        plan, document = self.plan, self.judgement.answer
        tuned = {loss.name: {"params": loss.params, "lr": self.factors[loss.name]} for loss in plan.losses}
        update = {
            "study": plan.name,
            "losses": tuple(row.model_copy(update=tuned[row.loss]) for row in (*document.losses, *self._list_lost())),
            "use": None if self.used is None else Use(loss=self.used.name, **tuned[self.used.name]),
            "next": tuple(map(self._add_command, document.next)),
            "remarks": (*document.remarks, *_list_remarks(self)),
            "command": plan.command,
        }
        return AnswerDocument(**{**dict(document), **update})

    def _list_lost(self) -> Iterator[LossRow]:
        """Yield the losses whose trainings all diverged, which are not judged."""
        judged = {row.loss for row in self.judgement.answer.losses}
        for name, rows in groupby(sorted(self.rows, key=attrgetter("loss")), attrgetter("loss")):
            if name not in judged:
                of_loss = [*rows]
                runs = tuple(str(seed) for seed in sorted({row.seed for row in of_loss}))
                mean = float(np.array([row.test for row in of_loss], dtype=float).mean())
                counts = {"seeds": len(runs), "collapses": len(of_loss)}
                yield LossRow(loss=name, runs=runs, score=None, mean=mean, cost=None, **counts)

    def _add_command(self, step: NextStep) -> NextStep:
        more = f"{self.resume_command} --seeds {step.values['seeds']}" if step.code == "SEEDS" else ""
        return step.model_copy(update={"command": more})


def confirm_losses(
    plan: ConfirmationPlan,
    trainings: ScriptTrainings,
    *,
    resume_command: str,
    publish: Callable[[int, AnswerDocument], None] = lambda *_: None,
) -> Confirmation:
    """Train the losses in the user's script, and recommend one.

    `publish` receives the number of seeds and the answer of each interim analysis. A resume begins with the last one
    that was made: fewer seeds than were analysed would ignore trainings, as another margin may end on them.

    Raises:
        ScriptError: if a training failed; finished ones are kept.
        ScoresError: if the scores cannot be compared.
        InterruptedSweepError: if it was stopped.
    """
    tuning = [
        ScriptJob(loss, "tune", TUNING_SEED, rate, plan.rate_share, plan.fold_numbers[0])
        for rate in plan.rates
        for loss in plan.losses
        if len(plan.rates) > 1
    ]
    untuned = ScriptJob(plan.losses[0], "confirm", FIRST_SEED, plan.rates[0], fold=plan.fold_numbers[0])
    _check_unit(plan, trainings, [*tuning, untuned][0], resume_command)
    tuned = trainings.run(tuning)
    factors = _choose_factors(plan, tuned)
    for analysis in plan.analyses[max(0, len(plan.made) - 1) :]:
        jobs = [
            ScriptJob(loss, "confirm", FIRST_SEED + n, factors[loss.name], fold=fold)
            for n, fold, loss in product(range(analysis.seeds), plan.fold_numbers, plan.losses)
        ]
        rows = trainings.run(jobs)
        judgement = _judge(plan, rows, trainings)
        publish(analysis.seeds, judgement.answer)
        if is_settled(judgement.contest):
            break
    has_point = plan.probe.scores["test"] == "logits"
    plain = _judge(plan, rows, trainings, plain=True) if has_point else judgement
    return Confirmation(resume_command, plan, factors, tuned, rows, judgement, plain)


def _choose_factors(plan: ConfirmationPlan, tuned: Sequence[TrainingRow]) -> dict[str, float]:
    """Choose each loss's factor on the rate: the best on validation; of equal ones that nearest the script's own.

    Raises:
        ScriptError: if all trainings of a loss failed.
    """

    def rank(row: TrainingRow) -> tuple[bool, float, float]:
        diverged = row.state != "trained"
        return diverged, math.inf if row.val is None else -row.val, abs(math.log(row.lr_factor))

    factors = {loss.name: plan.rates[0] for loss in plan.losses}
    for name in factors if tuned else ():
        of_loss = [row for row in tuned if row.loss == name]
        best = min(of_loss, key=rank)
        if best.val is None:
            raise ScriptError(
                f"{name}, all its rates; see {of_loss[0].folder}",
                [f"{of_loss[0].problem}\n    Remove that folder to train it again. {NEXT_STEP}"],
            )
        factors[name] = best.lr_factor
    return factors


def _check_unit(plan: ConfirmationPlan, trainings: ScriptTrainings, job: ScriptJob, resume_command: str) -> None:
    """Require `--margin` if the first score shows that the default does not apply.

    Raises:
        UsageError: if the score is not within 0 to 1.
    """
    if plan.margin is not None or plan.task.has_counts:
        return
    (row,) = trainings.run([job])
    score = row.val if row.test is None else row.test
    if score is not None and not 0 <= score <= 1:
        raise UsageError(
            f"without --margin scores must lie within 0 to 1, got {score:.4g} from {row.loss}; say which difference "
            f"does not matter, such as `{resume_command} --margin 1` for per cent"
        )


def _judge(
    plan: ConfirmationPlan, rows: Sequence[TrainingRow], trainings: ScriptTrainings, *, plain: bool = False
) -> Judgement:
    """Judge the trainings at the interim analysis of their seeds: what an earlier one established stays so.

    A loss whose trainings all diverged is left out.

    Raises:
        ScriptError: if no two losses remain, or the present one does not.
    """
    learned = {row.loss for row in rows if row.state == "trained"}
    if plan.present not in learned or len(learned) < 2:
        lost = join_words([loss.name for loss in plan.losses if loss.name not in learned])
        problem = (
            f"{plan.present} and one loss more must train, and all trainings of {lost} diverged; lower the script's "
            "learning rate, and begin with another --study"
        )
        raise ScriptError(rows[0].folder, [problem])
    rows = [row for row in rows if row.loss in learned]
    parts = [_make_columns(plan, row, trainings.read_test_scores(row), plain=plain) for row in rows]
    columns = {key: [*chain.from_iterable(part[key] for part in parts)] for key in parts[0]}
    constant = statistics.fmean(plan.task.frequencies)  # where classes overlap
    scores = ScoreRows(
        columns, source="the trainings", design=_describe_design(plan), analyses=plan.analyses, constant_miou=constant
    )
    request = ScoreRequest(
        metric=plan.metric if plan.task.has_counts else None,
        present=plan.present,
        margin=plan.margin,
        paired_seeds=plan.paired,
    )
    return judge_scores(scores, request)


def _describe_design(plan: ConfirmationPlan) -> str:
    rates = f"{len(plan.rates)} rates each on one seed" if len(plan.rates) > 1 else "no loss had its rate tuned"
    point = ""
    if plan.probe.scores["test"] == "logits":
        point = "; each training decides at the operating point that its own validation images chose"
    seeds = "the same seeds for all losses" if plan.paired else "seeds that are compared unpaired"
    return f"All losses were tuned alike: {rates}, then {seeds}{point}."


def _make_columns(
    plan: ConfirmationPlan, row: TrainingRow, scores: SplitScores, *, plain: bool
) -> dict[str, list[Any]]:
    """Return the test scores of a training as columns of a table for the judgement."""
    keys = {"method": row.loss, "seed": str(row.seed), **({} if row.fold is None else {"fold": str(row.fold)})}
    if not plan.task.has_counts:
        columns = {"score": scores.data.tolist(), **({"image": [*scores.names]} if scores.what == "score" else {})}
    else:
        point, classes = plan.task.usual_point if plain else row.point, [*plan.probe.class_pixels]
        counts = plan.task.count_pixels(scores, point, diverged=row.state == "diverged")
        columns = dict(zip(COUNTS, np.moveaxis(counts, -1, 0).reshape(len(COUNTS), -1).tolist(), strict=True))
        columns["image"] = np.repeat(scores.names, len(classes)).tolist()
        columns["class"] = classes * len(scores.names)
    size = len(next(iter(columns.values())))
    return {**columns, **{key: [value] * size for key, value in keys.items()}}


def _name_used(judgement: Judgement) -> str:
    use = judgement.answer.use
    return "none" if use is None else use.loss


def is_settled(contest: MethodContest) -> bool:
    """Return whether each loss has beaten the present one, was beaten by it, or gains at most the margin over it."""
    base = contest.baseline or 0
    others = [i for i in range(len(contest.finalists)) if i != base]
    rivals = [i for i in others if may_gain(contest, i, base)]
    return all(has_beaten(contest, i, base) or has_beaten(contest, base, i) for i in rivals)


def _list_remarks(result: Confirmation) -> Iterator[Remark]:
    """Yield what the script's trainings add to the answer of their scores."""
    plan, kind = result.plan, result.plan.probe.scores["test"]
    if any(plan.probe.class_pixels.values()):
        rarest = find_rarest_class(plan.probe.class_pixels, plan.probe.labelled_pixels)
        yield make_remark("IMBALANCE", **rarest._asdict())
    if kind != "logits":
        yield make_remark("OWN_RULE" if kind == "counts" else "OWN_SCORE")
    for note in plan.probe.notes:
        yield make_remark("DATA", text=capitalise(note))
    bad = [row for row in result.trainings if row.state != "trained"]
    if bad:
        titles = [f"{row.loss} (seed {row.seed}, {row.lr_factor:.3g} × the rate) {row.state}" for row in bad]
        yield make_remark("BAD_TRAININGS", text="; ".join(titles))
    lost = [row for row in result.rows if row.lost > MOST_LOST]
    if lost:
        titles = [f"{row.loss}, seed {row.seed} ({row.lost:.2f})" for row in lost]
        yield make_remark("POINT_FAILS", trainings=tuple(titles))
    vals: dict[str, list[float | None]] = {}
    for row in result.tuned:
        vals.setdefault(row.loss, []).append(row.val)
    yield from _name_losses("UNTUNED", [loss for loss, scores in vals.items() if len(scores) > len({*scores}) == 1])
    for end in (plan.rates[0], plan.rates[-1]):  # in ascending order
        yield from _name_losses("RATE_END", [loss for loss in vals if result.factors[loss] == end], rate=end)
    points = [(row.loss, row.point or ()) for row in result.rows]
    yield from _name_losses("POINT_END", [loss for loss, point in points if is_end_point(point)])
    if (plain := _name_used(result.plain)) != _name_used(result.judgement):
        yield make_remark("POINT_HANGS", point=RULES[plan.task.task].plain_words, loss=plain)


def _name_losses(code: str, losses: Sequence[str], **values: float) -> Iterator[Remark]:
    """Yield a remark of these losses, if there are any; each is named once."""
    if losses:
        yield make_remark(code, losses=tuple(dict.fromkeys(losses)), **values)


def write_confirmation(made: Confirmation, out: Path) -> None:
    """Write `trainings.csv`, and the used loss, if there is one, as `loss.py`.

    Raises:
        OSError: if a file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths, loss, task = ReportPaths(out), made.used, made.plan.task
    paths.loss.unlink(missing_ok=True)
    if loss is not None:
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
