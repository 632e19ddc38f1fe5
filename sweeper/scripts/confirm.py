"""Compare losses in the user's training: equally tuned learning rates, fresh seeds, interim analyses, one answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from sweeper.core.errors import ScriptError, UsageError
from sweeper.core.records import InterimAnalysis
from sweeper.core.text import format_count, join_words
from sweeper.evidence.phrases import format_headline
from sweeper.judging.judgement import Judgement, judge_scores
from sweeper.judging.rows import ScoreRequest, ScoreRows
from sweeper.scripts.answer import Confirmation, is_settled
from sweeper.scripts.comparison_plan import ConfirmationPlan
from sweeper.scripts.trainings import NEXT_STEP, ScriptJob, ScriptTrainings, TrainingRow

TUNING_SEED, FIRST_SEED = 1, 1000
"""Seed of the tuning, and the first of the confirmation's."""


def confirm_losses(
    plan: ConfirmationPlan,
    trainings: ScriptTrainings,
    *,
    resume_command: str,
    log: Callable[[str], None] = lambda _: None,
) -> Confirmation:
    """Train the losses in the user's script, and recommend one; `log` receives a line for each interim analysis.

    Raises:
        ScriptError: if a training failed; finished ones are kept.
        ScoresError: if the scores cannot be compared.
        InterruptedSweepError: if it was stopped.
    """
    tuned = _tune_rates(plan, trainings, resume_command)
    factors = _choose_factors(plan, tuned)
    rows: list[TrainingRow] = []
    for analysis in plan.analyses:
        jobs = [
            ScriptJob(loss, "confirm", FIRST_SEED + n, factors[loss.name], fold=fold)
            for n, fold, loss in product(range(analysis.seeds), plan.fold_numbers, plan.losses)
        ]
        if not rows and not tuned:
            _check_unit(plan, trainings, jobs, resume_command)
        rows = trainings.run(jobs)
        judgement = _judge(plan, rows, trainings, analysis)
        log(f"after {format_count(analysis.seeds, 'seed')}: {format_headline(judgement.answer)}")
        if is_settled(judgement.contest):
            break
    has_point = plan.probe.scores["test"] == "logits"
    plain = _judge(plan, rows, trainings, analysis, plain=True) if has_point else judgement
    return Confirmation(resume_command, plan, factors, tuned, rows, judgement, plain)


def _tune_rates(plan: ConfirmationPlan, trainings: ScriptTrainings, resume_command: str) -> list[TrainingRow]:
    """Train each loss at each rate, on one seed.

    Raises:
        UsageError: if the margin must be given, after the first training.
        ScriptError: if all trainings of a loss failed.
    """
    if len(plan.rates) == 1:
        return []
    jobs = [
        ScriptJob(loss, "tune", TUNING_SEED, rate, plan.rate_share, plan.fold_numbers[0])
        for rate in plan.rates
        for loss in plan.losses
    ]
    _check_unit(plan, trainings, jobs, resume_command)
    rows = trainings.run(jobs)
    for loss in plan.losses:
        of_loss = [row for row in rows if row.loss == loss.name]
        if all(row.val is None for row in of_loss):
            raise ScriptError(
                f"{loss.name}, all its rates; see {of_loss[0].folder}",
                [f"{of_loss[0].problem}\n    Remove that folder to train it again. {NEXT_STEP}"],
            )
    return rows


def _choose_factors(plan: ConfirmationPlan, tuned: Sequence[TrainingRow]) -> dict[str, float]:
    """Choose each loss's factor on the rate: the best on validation; of equal ones that nearest the script's own."""

    def rank(row: TrainingRow) -> tuple[bool, float, float]:
        diverged = row.state != "trained"
        return diverged, math.inf if row.val is None else -row.val, abs(math.log(row.lr_factor))

    return {
        loss.name: min((row for row in tuned if row.loss == loss.name), key=rank).lr_factor if tuned else plan.rates[0]
        for loss in plan.losses
    }


def _check_unit(
    plan: ConfirmationPlan, trainings: ScriptTrainings, jobs: Sequence[ScriptJob], resume_command: str
) -> None:
    """Require `--margin` if the first score shows that the default does not apply.

    Raises:
        UsageError: if the score is not within 0 to 1.
    """
    if plan.margin is not None or plan.task.has_counts:
        return
    (row,) = trainings.run(jobs[:1])
    score = row.val if row.test is None else row.test
    if score is not None and not 0 <= score <= 1:
        raise UsageError(
            f"without --margin scores must lie within 0 to 1, got {score:.4g} from {row.loss}; say which difference "
            f"does not matter, such as `{resume_command} --margin 1` for per cent"
        )


def _judge(
    plan: ConfirmationPlan,
    rows: Sequence[TrainingRow],
    trainings: ScriptTrainings,
    analysis: InterimAnalysis,
    *,
    plain: bool = False,
) -> Judgement:
    """Judge the trainings at the level of an interim analysis.

    A loss whose trainings all diverged is left out.

    Raises:
        ScriptError: if no two losses remain, or the present one does not.
    """
    learned = {row.loss for row in rows if row.state == "trained"}
    if plan.present not in learned or len(learned) < 2:
        lost = join_words([loss.name for loss in plan.losses if loss.name not in learned])
        rule = f"{plan.present} and one loss more must train, and all trainings of {lost} diverged"
        raise ScriptError(rows[0].folder, [f"{rule}; lower the script's learning rate, and begin with another --study"])
    rows = [row for row in rows if row.loss in learned]
    scores = ScoreRows(
        columns=_make_columns(plan, rows, trainings, plain=plain), source="the trainings", design=_describe_design(plan)
    )
    request = ScoreRequest(
        metric=plan.metric if plan.task.has_counts else None,
        present=plan.present,
        margin=plan.margin,
        paired_seeds=plan.paired,
        level=1 - analysis.error,
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
    plan: ConfirmationPlan, rows: Sequence[TrainingRow], trainings: ScriptTrainings, *, plain: bool
) -> dict[str, list[Any]]:
    """Return the test scores of the trainings as columns of a table for the judgement."""
    classes = list(plan.probe.class_pixels)
    columns: dict[str, list[Any]] = {}

    def extend(**values: list[Any]) -> None:
        for key, more in values.items():
            columns.setdefault(key, []).extend(more)

    for row in rows:
        scores = trainings.read_test_scores(row)
        if plan.task.has_counts:
            point = plan.task.usual_point if plain else row.point
            counts = plan.task.count_pixels(scores, point, diverged=row.state == "diverged")
            size = len(scores.names) * len(classes)
            images = np.repeat(np.array(scores.names), len(classes)).tolist()
            extend(image=images, tp=counts[..., 0].ravel().tolist(), fp=counts[..., 1].ravel().tolist())
            extend(fn=counts[..., 2].ravel().tolist(), **{"class": classes * len(scores.names)})
        else:
            size = len(scores.names)
            extend(score=scores.data.tolist(), **({"image": list(scores.names)} if scores.what == "score" else {}))
        extend(method=[row.loss] * size, seed=[str(row.seed)] * size)
        if row.fold is not None:
            extend(fold=[str(row.fold)] * size)
    return columns
