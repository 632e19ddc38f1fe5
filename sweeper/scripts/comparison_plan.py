"""The plan of a comparison in the user's training: losses, tuning, seeds and costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ConfigDict
from scipy import stats

from sweeper.core.base import Record
from sweeper.core.errors import RequestError, UsageError, get_cause
from sweeper.core.records import InterimAnalysis, Task, UserLoss
from sweeper.core.tasks import guess_task
from sweeper.core.text import format_count, format_duration_range, join_words
from sweeper.evidence.interim_analyses import plan_analyses
from sweeper.evidence.settling import CONFIRM_SEEDS, RATE_SHARE, RATES, count_trainings
from sweeper.fingerprint.imbalance import compute_imbalance
from sweeper.losses.families import FAMILIES, PRESENT, parse_loss
from sweeper.scripts.contract import ENDED
from sweeper.scripts.loss_file import EITHER, make_loss_text
from sweeper.scripts.probe import ProbeDocument
from sweeper.scripts.scores import ScriptTask
from sweeper.scripts.trainings import ScriptLoss
from sweeper.space import fill_parameters
from sweeper.system.whole_files import load_record, remove_path, save_record

USUAL_SPREAD = 0.01
"""Standard deviation of a score between trainings of one method that the forecast assumes."""
PLAN, ANSWER = "plan.json", "answer.json"
"""Files in the folder of a comparison: what a resume repeats, and the answer once it has ended."""


class ConfirmationPlan(Record):
    """Everything that a resumed comparison repeats: `plan.json` in its folder."""

    model_config = ConfigDict(extra="ignore")  # earlier plans have the commit of the script

    name: str
    command: str
    losses: tuple[ScriptLoss, ...]
    present: str = PRESENT
    """Name of the loss that the others are compared with."""
    own: tuple[UserLoss, ...] = ()
    """The user's losses among them."""
    seeds: tuple[int, int] = CONFIRM_SEEDS
    """Fewest and most seeds of the confirmation."""
    rates: tuple[float, ...] = RATES
    """Factors on the script's learning rate that are tried for each loss; (1,) = no tuning."""
    rate_share: float = RATE_SHARE
    """Share of the script's length at which they are tried."""
    folds: int | None = None
    metric: str = "miou"
    sources: dict[str, str]
    """Hash of each file of the script's source."""
    probe: ProbeDocument
    margin: float | None = None
    """Difference that does not matter, in the score's unit; None = 0.01, where scores lie within 0 to 1."""
    made: tuple[InterimAnalysis, ...] = ()
    """The interim analyses that were made; what they spent stays spent, and they are never made at another level."""
    created: str = ""
    """Time of the start, which distinguishes the MLflow runs of two comparisons with one name."""

    @property
    def task(self) -> ScriptTask:
        """Properties of the script's data, as the probe found them."""
        return ScriptTask(
            task=guess_task(len(self.probe.class_pixels)) if self.probe.labelled_pixels is None else "multilabel",
            labelled_pixels=self.probe.labelled_pixels,
            kinds=self.probe.scores,
            metric=self.metric,
            class_pixels=tuple(self.probe.class_pixels.values()),
            drawn=self.probe.drawn,
            volumes=self.probe.volumes,
        )

    @property
    def fold_numbers(self) -> Sequence[int | None]:
        """The folds of each seed; None = the script's own split."""
        return (None,) if self.folds is None else range(self.folds)

    @property
    def paired(self) -> bool:
        """Whether trainings of one seed are compared pair by pair."""
        return self.probe.pairing != "none"

    @property
    def analyses(self) -> tuple[InterimAnalysis, ...]:
        """The planned interim analyses, first those that were made."""
        return plan_analyses(*self.seeds, made=self.made)

    def count_trainings(self, seeds: int, ended: Mapping[str, int]) -> float:
        """Return how many whole trainings all losses still take on some number of seeds; `ended` by purpose."""
        share = self.rate_share if self.probe.may_shorten else 1.0
        every = count_trainings(len(self.losses), seeds * len(self.fold_numbers), len(self.rates), share)
        return max(0.0, every - ended.get("tune", 0) * share - ended.get("confirm", 0))


def parse_losses(text: str, present: str = PRESENT) -> tuple[ScriptLoss, ...]:
    """Parse `cross_entropy,dice_ce,tversky:fn_weight=0.7`; several parameters of one loss are joined by `;`.

    The present loss is added if it is missing: the others are compared with it.

    Raises:
        UsageError: with all errors.
    """
    losses, problems = list[ScriptLoss](), list[str]()
    words = list(filter(None, (part.strip() for part in text.split(","))))
    for word in words if present in words else [present, *words]:
        try:
            family, params = parse_loss(word)
            losses.append(ScriptLoss(name=word, family=family, params=params))
            _check_loss(losses[-1])
        except UsageError as error:
            problems.append(str(error))
    names = [loss.name for loss in losses]
    problems += [f"{name} is there twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    if not {*words} - {present}:
        problems.append(f"one loss or more must be compared with {present}, got none")
    RequestError.refuse("a comparison of --losses", problems)
    return tuple(losses)


def _check_loss(loss: ScriptLoss) -> None:
    """Refuse a loss that fits no classes; the script's are not yet known.

    Raises:
        UsageError: with its problems for several classes.
    """
    for task in EITHER[::-1]:
        with suppress(UsageError):
            _fill_loss(loss, task, (0.9, 0.1))
            return
    _fill_loss(loss, "multiclass", (0.8, 0.1, 0.1))


def _fill_loss(loss: ScriptLoss, task: Task, shares: Sequence[float]) -> ScriptLoss:
    """Return a loss with all parameters: the given ones, else the defaults of a search on such data.

    Raises:
        UsageError: with all of its errors.
    """
    imbalance = compute_imbalance((1 - min(shares), min(shares)) if task == "multilabel" else shares)
    params = fill_parameters(loss.family, loss.params, task, imbalance)
    make_loss_text(loss.family, params, task, shares)
    return loss.model_copy(update={"params": params})


def list_study_losses(finalists: Sequence[tuple[str, Mapping[str, float]]], present: str) -> tuple[ScriptLoss, ...]:
    """Return the finalists of a study, family and parameters, as losses for a script.

    The present loss is added; losses that need more than logits and labels are left out.

    Raises:
        LossError: if the present loss is none.
    """
    losses = [ScriptLoss(name=family, family=family, params=dict(params)) for family, params in finalists]
    usable = [loss for loss in losses if FAMILIES[loss.family].needs_map is None]
    if present not in {loss.name for loss in usable}:
        family, given = parse_loss(present)
        usable.insert(0, ScriptLoss(name=present, family=family, params=given))
    return tuple(usable)


def fill_losses(losses: Sequence[ScriptLoss], task: ScriptTask) -> tuple[ScriptLoss, ...]:
    """Return the losses with all parameters, for the script's own classes.

    Raises:
        UsageError: with all of their errors.
    """
    filled, problems = list[ScriptLoss](), list[str]()
    for loss in losses:
        try:
            filled.append(_fill_loss(loss, task.task, task.frequencies))
        except UsageError as error:
            problems.append(str(error))
        if task.volumes and FAMILIES[loss.family].images_only:
            problems.append(
                f"{loss.name} looks at neighbouring pixels of images, and the script has volumes; leave it out"
            )
    RequestError.refuse("a comparison of --losses", problems)
    return tuple(filled)


def open_plan(folder: Path) -> ConfirmationPlan:
    """Read the plan of an existing comparison.

    Raises:
        UsageError: if there is none, or it cannot be read.
    """
    try:
        return load_record(folder / PLAN, ConfirmationPlan)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--resume needs a comparison that was begun, and its plan cannot be read: {get_cause(error)} "
            f"({folder / PLAN}); begin one without --resume, by another --study"
        ) from error


def write_plan(folder: Path, plan: ConfirmationPlan) -> None:
    """Write a plan into its folder, which is created; an answer to an earlier one goes."""
    remove_path(folder / ANSWER)
    save_record(folder / PLAN, plan)


def record_analysis(folder: Path, plan: ConfirmationPlan, seeds: int) -> None:
    """Store with the plan in its folder that it was analysed after `seeds` seeds, before the answer is shown."""
    made = tuple(analysis for analysis in plan.analyses if analysis.seeds <= seeds)
    write_plan(folder, plan.model_copy(update={"made": made}))


def count_ended(folder: Path) -> Counter[str]:
    """Count the trainings in a comparison's folder that have ended, by purpose."""
    return Counter(path.parent.name.partition("-")[0] for path in folder.glob(f"*/{ENDED}"))


def forecast_confirmation(plan: ConfirmationPlan, workers: int, ended: Mapping[str, int] = {}) -> tuple[str, ...]:
    """Forecast in lines what the comparison still costs and how precise its answer will be."""
    first, last = plan.analyses[0], plan.analyses[-1]
    least, most = (plan.count_trainings(analysis.seeds, ended) for analysis in (first, last))
    trainings = dict.fromkeys(f"{math.ceil(count)}" for count in (least, most))
    cost = f"{' to '.join(trainings)} whole trainings"
    if plan.probe.seconds_per_training is not None:
        each = plan.probe.seconds_per_training / workers
        cost += f", {format_duration_range(least * each, most * each)} at {format_count(workers, 'training')} a time"
    size, digits, spread = (1.0, 1, "in standard deviations of the scores of one loss's trainings")
    if plan.task.has_counts:  # else the score's unit is unknown
        size, digits, spread = (USUAL_SPREAD, 3, f"if trainings of one loss spread by {USUAL_SPREAD:g}")
    widths = dict.fromkeys(
        f"± {_compute_width(plan, analysis) * size:.{digits}f} after {format_count(analysis.seeds, 'seed')}"
        for analysis in (first, last)
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
