"""Losses compared in the user's training: equal tuning of the rate, fresh seeds, interim analyses, one answer."""

from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise, product
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import ValidationError
from scipy import stats

from sweeper.core.base import Record
from sweeper.core.document import Document, json_text
from sweeper.core.errors import ScriptError, UsageError
from sweeper.core.records import Action, Contest, InterimAnalysis
from sweeper.core.text import format_count, format_duration, format_duration_range, join_words, replace_minus
from sweeper.evidence.decision_rule import (
    choose_preferred,
    get_comparison,
    get_difference,
    has_beaten,
    has_enough_seeds,
)
from sweeper.evidence.interim_analyses import SHOWING, plan_analyses
from sweeper.judging.judgement import Judgement, JudgementDocument, judge_scores
from sweeper.judging.rows import ScoreRequest, ScoreRows, ScoresError
from sweeper.losses.coordinates import check_coordinates
from sweeper.losses.families import FAMILIES
from sweeper.scripts.loss_file import make_loss_text
from sweeper.scripts.probe import ProbeDocument
from sweeper.scripts.trainings import ScriptJob, ScriptLoss, ScriptTask, ScriptTrainings, TrainingRow
from sweeper.space.search_space import load_space, make_default_choice

BASELINE = "cross_entropy"
SEEDS, RATES, RATE_SHARE = 5, (1 / 3, 1.0, 3.0), 0.25
"""Defaults of a comparison: most seeds, factors of the script's rate, share of its length at which they are tried."""
TUNING_SEED, FIRST_SEED = 1, 1000
"""Seeds of the confirmation are not those of the tuning."""
USUAL_SPREAD = 0.01
"""Standard deviation of a score between trainings of one method, before any is known: replicates of nnU-Net."""
PLAN = "plan.json"
NEXT_QUESTIONS: dict[Action, str] = {
    "keep": "More seeds would settle it",
    "change": "Whether another loss is better still, more seeds would show",
}
COLUMNS = tuple(TrainingRow.model_fields)


class ConfirmationPlan(Record):
    """Everything that a resumed comparison repeats: `plan.json` in its folder."""

    command: str
    losses: tuple[ScriptLoss, ...]
    seeds: int
    """Most seeds of the confirmation."""
    rates: tuple[float, ...]
    """Factors of the script's learning rate that are tried for each loss; (1,) = it is not tuned."""
    rate_share: float
    """Share of the script's length at which they are tried."""
    folds: int | None
    metric: str
    sources: dict[str, str]
    """Hash of each file of the script's source."""
    commit: str | None
    probe: ProbeDocument
    extended: bool = False
    """Whether `seeds` was raised after an answer."""

    @property
    def task(self) -> ScriptTask:
        """Properties of the script's data, as the probe found them."""
        return ScriptTask(
            task="binary" if len(self.probe.class_pixels) == 2 else "multiclass",
            classes=len(self.probe.class_pixels),
            kinds=self.probe.scores,
            metric=self.metric,
            class_pixels=tuple(self.probe.class_pixels.values()),
        )

    @property
    def paired(self) -> bool:
        """Whether trainings of one seed are compared pair by pair."""
        return self.probe.pairing != "none"

    @property
    def analyses(self) -> tuple[InterimAnalysis, ...]:
        """The planned interim analyses."""
        return plan_analyses(SHOWING, self.seeds)

    def count_trainings(self, seeds: int) -> float:
        """Return how many whole trainings all losses take on some number of seeds."""
        share = 1.0 if self.probe.length is None else self.rate_share  # else the script is not made shorter
        return count_trainings(len(self.losses), seeds * (self.folds or 1), len(self.rates), share)


def count_trainings(losses: int, each: int, rates: int = len(RATES), share: float = RATE_SHARE) -> float:
    """Return how many whole trainings a comparison takes, of so many losses with `each` trainings after the tuning."""
    return losses * (each + (rates * share if rates > 1 else 0.0))


class LossRow(Record):
    """A loss that was compared."""

    name: str
    family: str
    params: dict[str, float]
    lr_factor: float
    """Factor of the script's rate that it was confirmed with."""
    rates: dict[str, float | None]
    """Score on validation at each factor that was tried; null = that training failed."""


class ConfirmationDocument(Document):
    """Document that `sweeper confirm` prints, and `confirmation.json`."""

    SCHEMA: ClassVar[str] = "sweeper.confirmation/1"

    head: str
    """The answer, in a sentence or two."""
    next_command: str
    """Command that adds seeds; "" if the answer is settled."""
    next_question: str
    """Question that these seeds would answer; "" if the answer is settled."""
    action: Action
    recommended: str
    """Name of the loss to train with."""
    name: str
    command: str
    losses: tuple[LossRow, ...]
    seeds: int
    """Number of seeds that the answer is from."""
    settled: bool
    """Whether more seeds would hardly change the answer."""
    trainings: tuple[TrainingRow, ...]
    probe: ProbeDocument
    judgement: JudgementDocument
    plain: JudgementDocument | None
    """The same at threshold 0.5 or τ = 0; null = the script decides by its own rule."""
    notes: tuple[str, ...]
    """Remarks, as sentences."""
    sources: dict[str, str]
    """Hash of each file of the script's source."""
    commit: str | None
    folder: str


class Confirmation(NamedTuple):
    """The answer, and the judgement that it is from."""

    document: ConfirmationDocument
    judgement: Judgement
    loss_text: str
    """The recommended loss as a file that needs torch only."""


def parse_losses(text: str) -> tuple[ScriptLoss, ...]:
    """Read `cross_entropy,dice_ce,tversky:fn_weight=0.7`; several parameters of one loss are joined by `;`.

    Cross-entropy is added if it is missing: the others are measured against it.

    Raises:
        UsageError: with all that is wrong.
    """
    losses, problems = list[ScriptLoss](), list[str]()
    for word in filter(None, (part.strip() for part in text.split(","))):
        family, _, rest = word.partition(":")
        params: dict[str, float] = {}
        for pair in filter(None, rest.split(";")):
            key, _, value = pair.partition("=")
            try:
                params[key.strip()] = float(value)
            except ValueError:
                problems.append(f"{word}: must be FAMILY:NAME=NUMBER, got {pair!r}")
        if family not in FAMILIES:
            problems.append(f"{family!r} is no family; `sweeper losses` lists them")
        losses.append(ScriptLoss(name=word, family=family, params=params))
    losses = _add_baseline(losses)
    names = [loss.name for loss in losses]
    problems += [f"{name} is there twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    if len(losses) < 2:
        problems.append(f"one loss or more must be compared with {BASELINE}, got none")
    if problems:
        raise UsageError("--losses cannot be compared:\n" + "\n".join(f"  - {text}" for text in problems))
    return tuple(losses)


def _add_baseline(losses: list[ScriptLoss]) -> list[ScriptLoss]:
    if any(loss.name == BASELINE for loss in losses):
        return losses
    return [ScriptLoss(name=BASELINE, family=BASELINE, params={}), *losses]


def list_study_losses(finalists: Sequence[tuple[str, Mapping[str, float]]]) -> tuple[ScriptLoss, ...]:
    """Return the finalists of a study, family and parameters, as losses for a script.

    Cross-entropy is added; losses that need more than logits and labels are left out, and your own.
    """
    losses = [ScriptLoss(name=family, family=family, params=dict(params)) for family, params in finalists]
    usable = [loss for loss in losses if loss.family in FAMILIES and FAMILIES[loss.family].needs_map is None]
    return tuple(_add_baseline(usable))


def fill_losses(losses: Sequence[ScriptLoss], task: ScriptTask) -> tuple[ScriptLoss, ...]:
    """Return the losses with all parameters: the given ones, else the first ones of a search on such data.

    Raises:
        UsageError: with all that is wrong with them.
    """
    space = load_space({"binary": "full", "multiclass": "full_multiclass"}[task.task])
    by_name = {each.family: each for each in space.families}
    pixels = [max(1, n) for n in task.class_pixels]
    imbalance = pixels[0] / sum(pixels[1:]) if task.task == "binary" else max(pixels) / min(pixels)
    filled, problems = list[ScriptLoss](), list[str]()
    for loss in losses:
        starts = make_default_choice(by_name[loss.family], space, imbalance).params if loss.family in by_name else {}
        filled.append(loss.model_copy(update={"params": {**starts, **loss.params}}))
        try:
            check_coordinates(loss.family, task.task, filled[-1].params, task.frequencies)
            make_loss_text(loss.family, filled[-1].params, task.task, task.frequencies)
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("\n".join(problems))
    return tuple(filled)


def open_plan(folder: Path) -> ConfirmationPlan:
    """Read the plan of a comparison that was begun.

    Raises:
        UsageError: if there is none, or it cannot be read.
    """
    try:
        return ConfirmationPlan.model_validate_json((folder / PLAN).read_text("utf-8"))
    except OSError as error:
        raise UsageError(
            f"--resume needs a comparison that was begun, and there is none in {folder}; leave --resume out"
        ) from error
    except ValidationError as error:
        what = error.errors()[0]
        raise UsageError(
            f"{folder / PLAN} must be a plan as this version writes it, and {'.'.join(map(str, what['loc']))} is not: "
            f"{what['msg']}; begin again with another --name"
        ) from error


def write_plan(folder: Path, plan: ConfirmationPlan) -> None:
    """Write a plan into its folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{PLAN}.part").write_text(plan.model_dump_json(indent=2), "utf-8")
    (folder / f"{PLAN}.part").replace(folder / PLAN)


def list_plan_changes(plan: ConfirmationPlan, wanted: Mapping[str, Any]) -> list[str]:
    """Return what is wanted otherwise than the plan has it; None = not given."""
    return [
        f"{name.replace('_', '-')} was {getattr(plan, name)}, and is now {value}"
        for name, value in wanted.items()
        if value is not None and getattr(plan, name) != value
    ]


# --- Before the first training -------------------------------------------------------------------------------


def forecast_confirmation(plan: ConfirmationPlan, workers: int) -> tuple[str, ...]:
    """Return what it costs, and how precise the answer will be, in lines."""
    first, last = plan.analyses[0], plan.analyses[-1]
    least, most = plan.count_trainings(first.seeds), plan.count_trainings(last.seeds)
    cost = (
        f"{math.ceil(least)} to {math.ceil(most)} whole trainings" if most > least else f"{math.ceil(most)} trainings"
    )
    if plan.probe.seconds_per_training is not None:
        each = plan.probe.seconds_per_training / workers
        cost += f", {format_duration_range(least * each, most * each)} at {format_count(workers, 'training')} a time"
    is_known = plan.task.test_name != "score"  # else its unit is not
    widths = [
        f"± {_compute_width(plan, analysis) * (USUAL_SPREAD if is_known else 1):.{3 if is_known else 1}f} after "
        f"{format_count(analysis.seeds, 'seed')}"
        for analysis in ((first, last) if most > least else (last,))
    ]
    spread = (
        f"if trainings of one loss spread by {USUAL_SPREAD:g} (as nnU-Net's do)"
        if is_known
        else "in standard deviations of the scores of one loss's trainings"
    )
    how = "paired by seed" if plan.paired else "unpaired, as the script does not repeat its trainings"
    tuned = (
        f"each loss tries {join_words([f'{rate:.3g}' for rate in plan.rates])} times your rate on "
        f"{plan.rate_share:.3g} of the length"
        if len(plan.rates) > 1
        else "your rate for each loss"
    )
    return (
        f"{len(plan.losses)} losses: {join_words([loss.name for loss in plan.losses])}; {tuned}",
        f"Cost: {cost}",
        f"A difference will be known to {' and '.join(widths)}, {spread}, {how}",
    )


def _compute_width(plan: ConfirmationPlan, analysis: InterimAnalysis) -> float:
    """Return half the interval's width, in standard deviations of a training's score."""
    freedom = (analysis.seeds - 1) * (1 if plan.paired else 2)
    quantile = float(stats.t.ppf(1 - analysis.error / 2, freedom))
    return quantile * math.sqrt(2 / analysis.seeds)


# --- The comparison ------------------------------------------------------------------------------------------


def confirm_losses(
    name: str,
    folder: Path,
    plan: ConfirmationPlan,
    trainings: ScriptTrainings,
    *,
    margin: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Confirmation:
    """Train the losses in the user's script, and return which to use.

    Args:
        name: of the comparison.
        folder: of it.
        plan: of it.
        trainings: train the script.
        margin: difference that does not matter, in the score's unit; None = 0.01, where scores lie within 0 to 1.
        say: is given a line for each interim analysis.

    Raises:
        ScriptError: if a training failed; what ended is kept.
        ScoresError: if the scores cannot be compared.
        InterruptedSweepError: if it was stopped.
    """
    tuned = _tune_rates(plan, trainings)
    factors = _choose_factors(plan, tuned)
    rows: list[TrainingRow] = []
    for analysis in plan.analyses:
        jobs = [
            ScriptJob(loss, "confirm", FIRST_SEED + n, factors[loss.name], fold=fold)
            for n, fold, loss in product(
                range(analysis.seeds), range(plan.folds) if plan.folds else (None,), plan.losses
            )
        ]
        if not rows and margin is None and plan.task.test_name == "score":
            _check_unit(name, (tuned or trainings.run(jobs[:1]))[0])
        if plan.folds and not rows:
            _check_folds(trainings.run(jobs[:: len(plan.losses)][: plan.folds]), trainings)
        rows = trainings.run(jobs)
        judgement = _judge(plan, rows, trainings, analysis, margin)
        action, chosen = choose_script_action(judgement.contest)
        settled = is_settled(judgement.contest)
        say(f"after {format_count(analysis.seeds, 'seed')}: {_format_head(judgement.contest, action, chosen)}")
        if settled:
            break
    plain = None
    if plan.probe.scores["test"] == "logits":
        with suppress(ScoresError):  # all answer one class there, whatever the loss and the seed
            plain = _judge(plan, rows, trainings, analysis, margin, plain=True)
    loss = next(loss for loss in plan.losses if loss.name == judgement.contest.finalists[chosen].family)
    more = f"sweeper confirm --name {shlex.quote(name)} --resume --seeds {_count_next(plan.seeds)}"
    document = ConfirmationDocument(
        head=_format_head(judgement.contest, action, chosen),
        next_command="" if settled else more,
        next_question="" if settled else NEXT_QUESTIONS[action],
        action=action,
        recommended=loss.name,
        name=name,
        command=plan.command,
        losses=tuple(_make_loss_row(each, factors[each.name], tuned) for each in plan.losses),
        seeds=analysis.seeds,
        settled=settled,
        trainings=(*tuned, *rows),
        probe=plan.probe,
        judgement=judgement.document,
        plain=None if plain is None else plain.document,
        notes=tuple(_list_notes(plan, [*tuned, *rows], factors, judgement, plain)),
        sources=plan.sources,
        commit=plan.commit,
        folder=str(folder),
    )
    return Confirmation(
        document, judgement, make_loss_text(loss.family, loss.params, plan.task.task, plan.task.frequencies)
    )


def _count_next(seeds: int) -> int:
    return next((n for n in (8, 13, 21) if n > seeds), 2 * seeds)


def _tune_rates(plan: ConfirmationPlan, trainings: ScriptTrainings) -> list[TrainingRow]:
    """Train each loss at each rate, on one seed.

    Raises:
        ScriptError: if all trainings of a loss failed.
    """
    if len(plan.rates) == 1:
        return []
    fold = 0 if plan.folds else None
    jobs = [
        ScriptJob(loss, "tune", TUNING_SEED, rate, plan.rate_share, fold) for rate in plan.rates for loss in plan.losses
    ]
    rows = trainings.run(jobs)
    for loss in plan.losses:
        of_loss = [row for row in rows if row.loss == loss.name]
        if all(row.val is None for row in of_loss):
            raise ScriptError(
                f"{loss.name}, all its rates; see {of_loss[0].folder}",
                [f"{of_loss[0].problem}; remove that folder, and --resume trains it again"],
            )
    return rows


def _choose_factors(plan: ConfirmationPlan, tuned: Sequence[TrainingRow]) -> dict[str, float]:
    """Return each loss's factor of the rate: the best on validation; of equal ones that nearest the script's own."""

    def rank(row: TrainingRow) -> tuple[bool, float, float]:
        diverged = row.state != "trained"
        return diverged, math.inf if row.val is None else -row.val, abs(math.log(row.lr_factor))

    return {
        loss.name: min((row for row in tuned if row.loss == loss.name), key=rank).lr_factor if tuned else plan.rates[0]
        for loss in plan.losses
    }


def _check_unit(name: str, row: TrainingRow) -> None:
    """Ask for the margin once the first score shows that the usual one cannot be meant.

    Raises:
        UsageError: if the score is not within 0 to 1.
    """
    score = row.val if row.test is None else row.test
    if score is not None and not 0 <= score <= 1:
        raise UsageError(
            f"without --margin scores must lie within 0 to 1, got {score:.4g} from {row.loss}; say which difference "
            f"does not matter, such as `sweeper confirm --name {shlex.quote(name)} --resume --margin 1` for per cent"
        )


def _check_folds(rows: Sequence[TrainingRow], trainings: ScriptTrainings) -> None:
    """Refuse folds that share test images, before all losses are trained on them.

    Raises:
        ScriptError: if they do.
    """
    names = [{*trainings.read_test_scores(row).names} - {""} for row in rows]
    for one, two in pairwise(names):
        if both := one & two:
            count = format_count(len(both), "image is", "images are")
            rule = f"each image must be tested in one fold, and {count} in two, such as {min(both)!r}"
            step = "leave out fold number t.fold for the test, or give no --folds"
            raise ScriptError(f"folds; see {rows[0].folder}", [f"{rule}; {step}"])


def _judge(
    plan: ConfirmationPlan,
    rows: Sequence[TrainingRow],
    trainings: ScriptTrainings,
    analysis: InterimAnalysis,
    margin: float | None,
    *,
    plain: bool = False,
) -> Judgement:
    """Return the judgement on what was trained, at the level of an interim analysis.

    A loss of which all trainings diverged is left out.

    Raises:
        ScriptError: if then nothing is left to compare.
    """
    learned = {row.loss for row in rows if row.state == "trained"}
    if BASELINE not in learned or len(learned) < 2:
        lost = join_words([loss.name for loss in plan.losses if loss.name not in learned])
        rule = f"{BASELINE} and one loss more must train, and all trainings of {lost} diverged"
        raise ScriptError(rows[0].folder, [f"{rule}; lower the script's learning rate, and begin with another --name"])
    rows = [row for row in rows if row.loss in learned]
    scores = ScoreRows(
        columns=_make_columns(plan, rows, trainings, plain=plain),
        source="the trainings",
        metric=None if plan.probe.scores["test"] in ("logits", "counts") else "score",
        design=_describe_design(plan),
    )
    request = ScoreRequest(
        metric=plan.metric if plan.probe.scores["test"] in ("logits", "counts") else None,
        baseline=BASELINE,
        margin=margin,
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
        if scores.what in ("logits", "counts"):
            counts = trainings.count_pixels(row, scores, plain=plain)
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


# --- The answer ----------------------------------------------------------------------------------------------


def choose_script_action(contest: Contest) -> tuple[Action, int]:
    """Return whether to change from cross-entropy, and the loss to train with.

    Change only to a loss that has beaten cross-entropy; of several, of those that none of them has beaten, by least
    expected regret and then simplicity.
    """
    base = contest.baseline or 0
    beating = [i for i in range(len(contest.finalists)) if i != base and has_beaten(contest, i, base)]
    if not beating:
        return "keep", base
    unbeaten = [i for i in beating if not any(has_beaten(contest, k, i) for k in beating if k != i)] or beating
    return "change", choose_preferred(contest, unbeaten, list(FAMILIES), change=True)[0]


def is_settled(contest: Contest) -> bool:
    """Return whether each loss has beaten cross-entropy, was beaten by it, or gains at most the margin over it."""
    base = contest.baseline or 0
    return all(
        has_beaten(contest, i, base) or has_beaten(contest, base, i) or _gains_little(contest, i, base)
        for i in range(len(contest.finalists))
        if i != base
    )


def _gains_little(contest: Contest, i: int, base: int) -> bool:
    return has_enough_seeds(contest, i, base) and get_comparison(contest, i, base).one_sided <= contest.rope


def _format_head(contest: Contest, action: Action, chosen: int) -> str:
    base, digits, unit = contest.baseline or 0, contest.scale.digits, contest.scale.score
    if action == "change":
        gap = get_difference(contest, chosen, base)
        numbers = replace_minus(f"{gap.estimate:+.{digits}f} [{gap.low:+.{digits}f}, {gap.high:+.{digits}f}]")
        return f"Change to {contest.finalists[chosen].family}: {numbers} {unit} over {BASELINE} in your own training."
    others = [i for i in range(len(contest.finalists)) if i != base]
    if is_settled(contest):
        bound = max(0.0, *(get_comparison(contest, i, base).one_sided for i in others))
        return f"Keep {BASELINE}: no other loss gains more than {bound:.{digits}f} {unit} in your own training."
    best = next(i for i in others if not has_beaten(contest, base, i) and not _gains_little(contest, i, base))
    bound, name = get_comparison(contest, best, base).one_sided, contest.finalists[best].family
    return f"Keep {BASELINE} for now: {name} may gain up to {bound:.{digits}f} {unit} in your own training."


def _make_loss_row(loss: ScriptLoss, factor: float, tuned: Sequence[TrainingRow]) -> LossRow:
    rates = {f"{row.lr_factor:.3g}": row.val for row in tuned if row.loss == loss.name}
    return LossRow(**loss.model_dump(), lr_factor=factor, rates=rates)


CLAIMS: dict[str, str] = {
    "logits": "Logits came back: each training decides at the operating point that its validation images chose",
    "counts": "Counts came back: the answer is about the script's own rule of decision",
    "score": "A score of each image came back: the answer is about that score",
    "number": "One number for each training came back: other images are in no interval",
}


def _list_notes(
    plan: ConfirmationPlan,
    rows: Sequence[TrainingRow],
    factors: Mapping[str, float],
    judgement: Judgement,
    plain: Judgement | None,
) -> Iterator[str]:
    yield f"{CLAIMS[plan.probe.scores['test']]}."
    yield from (f"{note[:1].upper()}{note[1:]}." for note in plan.probe.notes)
    if bad := [row for row in rows if row.state != "trained"]:
        titles = [f"{row.loss} (seed {row.seed}, {row.lr_factor:.3g} × the rate) {row.state}" for row in bad]
        yield f"{'; '.join(titles)}. A training that diverged in the confirmation counts with all answers wrong."
    if len(plan.rates) > 1:
        for end, more in ((min(plan.rates), min(plan.rates) / 3), (max(plan.rates), max(plan.rates) * 3)):
            if names := [name for name, factor in factors.items() if factor == end]:
                wider = ",".join(f"{rate:.3g}" for rate in sorted({*plan.rates, more}))
                yield (
                    f"{end:.3g} times your rate, an end of what was tried, was best for {join_words(names)}: --rates "
                    f"{wider} tries more."
                )
    usual = "threshold 0.5" if plan.task.task == "binary" else "τ = 0"
    if plain is None and plan.probe.scores["test"] == "logits":
        yield f"At {usual} all trainings answer alike: the operating point is needed."
    elif plain is not None:
        action, chosen = choose_script_action(plain.contest)
        if (action, plain.contest.finalists[chosen].family) != _get_answer(judgement):
            yield f"The answer hangs on the operating point. At {usual}: {_format_head(plain.contest, action, chosen)}"
    if plan.extended:
        yield "Seeds were added after an answer: intervals are no longer at their level over all looks together."


def _get_answer(judgement: Judgement) -> tuple[Action, str]:
    action, chosen = choose_script_action(judgement.contest)
    return action, judgement.contest.finalists[chosen].family


def format_confirmation(document: ConfirmationDocument) -> str:
    """Return the answer as text."""
    judgement = document.judgement
    width = max(len(row.name) for row in document.losses)
    factors = {row.name: row.lr_factor for row in document.losses}
    lines = [document.head, "", f"  test {judgement.metric}, 95 % interval, {format_count(document.seeds, 'seed')}"]
    for row in judgement.methods:
        ends = "" if row.ci_low is None or row.ci_high is None else f" [{row.ci_low:.3f}, {row.ci_high:.3f}]"
        mark = "→" if row.name == document.recommended else " "
        lines.append(f"{mark} {row.name:{width}}  {row.score:.3f}{ends}  at {factors[row.name]:.3g} × your rate")
    lines += ["", *(f"- {note}" for note in document.notes)]
    if document.next_command:
        lines += ["", f"{document.next_question}:", f"  {document.next_command}"]
    return "\n".join(lines)


def write_confirmation(made: Confirmation, out: Path) -> None:
    """Write `confirmation.json`, `trainings.csv`, and the recommended loss as `loss.py`.

    Raises:
        OSError: if a file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "confirmation.json").write_text(json_text(made.document.document), "utf-8")
    (out / "loss.py").write_text(made.loss_text, "utf-8")
    with (out / "trainings.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(row.model_dump() for row in made.document.trainings)


def format_summary(document: ConfirmationDocument, seconds: float) -> str:
    """Return what was trained, in a line."""
    used = sum(row.megabytes for row in document.trainings)
    return (
        f"{format_count(len(document.trainings), 'training')}, {format_duration(seconds)}; their folders take "
        f"{used:,.1f} MB: {document.folder}"
    )
