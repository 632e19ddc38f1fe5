"""The answer for programs: one schema for studies, scripts and judgements, from which people's texts are made, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import ClassVar

from pydantic import Field

from sweeper.core.base import Record, ShownCommand
from sweeper.core.document import Document
from sweeper.core.recipe import Recipe
from sweeper.core.records import (
    Answer,
    Contest,
    Evidence,
    FinalComparison,
    FinalistEvidence,
    Gain,
    ImbalanceProfile,
    Interval,
    OperatingPoint,
    Rung,
    SameLoss,
    Scope,
    Task,
    TrainerRow,
)
from sweeper.evidence.interim_analyses import get_comparison_level
from sweeper.evidence.phrases import format_head, list_remarks
from sweeper.evidence.verdict_predicates import get_difference, has_beaten, is_measured


class DatasetRow(Record):
    """Data set of a study."""

    name: str
    source: str
    """A folder, an annotation file, or `synthetic:…`."""
    digest: str
    """SHA-256 of pixels, labels, names and split."""
    task: Task
    classes: tuple[str, ...]
    images: int
    """Number of images."""
    imbalance: float
    """Of all labelled pixels: background to foreground, or the most common class to the rarest."""
    synthetic: bool = False
    profile: ImbalanceProfile


class ClassRow(Record):
    """Scores of one class on the test images, 0–1; null where undefined."""

    name: str
    iou: float | None
    precision: float | None
    recall: float | None


class TestRow(Record):
    """Scores on the test images at each training's own operating point, 0–1, means over the seeds."""

    miou: Gain
    fg_iou: float | None
    """IoU of the foreground; null with more than two classes."""
    dice: float
    precision: float | None
    """Of the foreground; with more than two classes the mean over those that occur. So is `recall`."""
    recall: float | None
    at_plain: float
    """Score at a threshold of 0.5, or τ = 0."""
    per_class: tuple[ClassRow, ...]


class ClassScore(Record):
    """Test IoU of a class with one loss, 0–1, mean over the seeds, with its 95 % interval."""

    estimate: float
    low: float | None = None
    """Null where it has no interval: one seed, or one image."""
    high: float | None = None


class ClassEffect(Record):
    """What two losses do for one class."""

    name: str
    share: float
    """Of the labelled pixels, 0–1."""
    scores: tuple[ClassScore, ...] = ()
    """With each loss of the table; () where the test images do not show it."""
    gain: Gain | None = None
    """Of the second loss over the first, if that is the present one."""
    established: bool = False
    """Whether the gain's interval is above or below 0 also where those of all classes hold together (95 %)."""


class ClassTable(Record):
    """What the loss does for each class."""

    losses: tuple[str, ...]
    """At most two: the present loss and the used one; where these are the same, or one is missing, the best other."""
    rows: tuple[ClassEffect, ...]
    """The rarest class first."""


class LossRow(Record):
    """One loss, or method, that was compared; best first."""

    loss: str
    params: dict[str, float] = Field(default_factory=dict)
    lr: float | None = None
    """Learning rate; with a user's script the factor on its own."""
    lr_range: tuple[float, float] | None = None
    """The range that the seeds' learning rates were drawn from; null = all have the same."""
    seeds: int
    runs: tuple[str, ...]
    """Its seeds, or the names of the runs that were judged."""
    score: Gain | None
    """Its score with its 95 % interval; null where it has no interval."""
    mean: float
    """Its score."""
    cost: float | None
    """Largest cost against the best (95 %)."""
    vs_plain: Gain | None = None
    """Gain over the present loss as usually trained, at 0.5 (τ = 0)."""
    points: tuple[OperatingPoint, ...] = ()
    """Operating point of each training: a threshold (two classes) or τ."""
    collapses: int = 0
    test: TestRow | None = None
    search_trial: int | None = None
    search_value: float | None = None
    trials_tried: int | None = None
    """Search trials of its family, including stopped ones."""
    trials_completed: int | None = None
    found_as: SameLoss | None = None
    """The search's other name for the same function, if it had one."""
    mlflow_run_ids: tuple[str, ...] = ()


class DifferenceRow(Record):
    """The paired difference in the score of two losses, the better one first; above 0 the first is better."""

    first: str
    second: str
    estimate: float
    low: float | None
    """Null = not known."""
    high: float | None
    level: float
    """Level of this interval: 0.95, or that of an interim analysis."""
    se_seed: float | None
    """Standard error from retraining with other seeds."""
    se_image: float | None
    """Standard error from the choice of test images; 0 where its square was estimated below 0, and cut off there."""
    established: bool
    """Whether the first beats the second: the interval is above 0, and the difference at least the margin."""


class AnalysisRow(Record):
    """An interim analysis that was made."""

    seeds: int
    error: float
    outcome: str | None
    code: str


class SearchRow(Record):
    """Outcomes of the search's trials."""

    trials: int
    completed: int
    pruned: int
    failed: int
    abandoned: int
    """Attempts that ended with a dead worker; they are no trials."""
    per_family: dict[str, int]
    collapses: dict[str, dict[str, int]]
    """Family and kind → trainings of search and confirmation that gave a constant answer, or diverged."""
    never_predicted: dict[str, dict[str, int]]
    """Family and class → number of complete trainings that do not predict the class anywhere."""


class AnswerDocument(Document, Answer):
    """The answer: `recommendation.json`, and what `run`, `report`, `confirm` and `judge` print with `--json`."""

    SCHEMA: ClassVar[str] = "sweeper.answer/2"
    NULL_NUMBERS: ClassVar[bool] = True

    study: str
    """Name of the study or comparison, or the source of the scores."""
    higher_is_better: bool = True
    """Whether a higher score is better; differences are above 0 where the first is better, whatever this says."""
    losses: tuple[LossRow, ...]
    differences: tuple[DifferenceRow, ...]
    classes: ClassTable | None = None
    """Null where no class was scored."""
    final: FinalComparison | None = None
    """The used loss and the present one in the final training; null where none was made, or nothing before it."""
    in_final: bool = False
    """Whether the losses, differences and classes above are of the final training."""
    final_steps: int | None = None
    """Steps of the final training; null where there was none."""
    searched: tuple[LossRow, ...] = ()
    """The losses in the trainings of the search, where those above are of the final one."""
    scope: Scope = "both"
    """What the answer generalises to: other trainings and other images, or one of them."""
    images: int = 0
    """Test images; 0 = not distinguished."""
    groups: int | None = None
    """Groups of related images, which count as one image each."""
    held_out: bool = True
    """False where the search saw the images that the losses were scored on."""
    folds: int | None = None
    constant_miou: float | None = None
    """Test mIoU of the same answer everywhere."""
    dataset: DatasetRow | None = None
    recipe: Recipe | None = None
    """Everything about a training but its loss."""
    split: dict[str, tuple[str, ...]] | None = None
    """Stems of the images that train, validate and test in the search, under `train`, `val` and `test`."""
    rungs: tuple[Rung, ...] = ()
    """The budgets that were tried before the search, where no steps were given."""
    analyses: tuple[AnalysisRow, ...] = ()
    search: SearchRow | None = None
    command: ShownCommand | None = None
    """The command that repeats it."""
    versions: dict[str, str] = Field(default_factory=dict)
    trained_by: tuple[TrainerRow, ...] = ()
    seconds: float | None = None
    """Wall-clock time over all sessions."""

    def __repr__(self) -> str:
        return format_head(self)

    def _repr_markdown_(self) -> str:
        return "\n\n".join([f"**{format_head(self)}**", *list_remarks(self, "text")])


def make_loss_rows(evidence: Evidence | None, answer: Answer) -> tuple[LossRow, ...]:
    """Return the rows of the finalists of a study."""
    if evidence is None:
        return ()
    return set_cost([_make_loss_row(evidence, finalist) for finalist in evidence.finalists], answer)


def set_cost(rows: Sequence[LossRow], answer: Answer) -> tuple[LossRow, ...]:
    """Return the rows with the answer's cost in that of the used loss, so that one bound is printed."""
    return tuple(row.model_copy(update={"cost": answer.cost}) if row.loss == answer.used else row for row in rows)


def _make_gain(estimate: Interval | None) -> Gain | None:
    return None if estimate is None else Gain(**estimate.ends)


def _make_loss_row(evidence: Evidence, finalist: FinalistEvidence) -> LossRow:
    is_binary = finalist.fg_iou is not None
    test = TestRow(
        miou=Gain(**finalist.miou.ends),
        fg_iou=None if finalist.fg_iou is None else finalist.fg_iou.estimate,
        dice=finalist.dice,
        precision=_compute_overall(finalist.precision, is_binary=is_binary),
        recall=_compute_overall(finalist.recall, is_binary=is_binary),
        at_plain=finalist.score_at_default,
        per_class=tuple(
            ClassRow(name=name, iou=iou, precision=precision, recall=recall)
            for name, iou, precision, recall in zip(
                evidence.classes, finalist.iou, finalist.precision, finalist.recall, strict=True
            )
        ),
    )
    score = finalist.score if len(finalist.seeds) > 1 else None
    return LossRow(
        **copy_fields(finalist, LossRow, "params", "lr", "points", "collapses", "found_as"),
        **copy_fields(finalist, LossRow, "search_trial", "search_value", "trials_tried", "trials_completed"),
        loss=finalist.family,
        lr_range=None if finalist.rates is None else (finalist.rates.low, finalist.rates.high),
        seeds=len(finalist.seeds),
        runs=tuple(map(str, finalist.seeds)),
        score=_make_gain(score),
        mean=finalist.score.estimate,
        cost=None if finalist.regret is None else finalist.regret.bound,
        vs_plain=_make_gain(finalist.vs_plain),
        mlflow_run_ids=finalist.run_ids,
        test=test,
    )


def _compute_overall(per_class: Sequence[float | None], *, is_binary: bool) -> float | None:
    """Return a binary task's value of the foreground, else the mean over the classes that occur."""
    if is_binary:
        return per_class[-1]
    values = [value for value in per_class if value is not None]
    return sum(values) / len(values) if values else None


def make_difference_rows(contest: Contest | None) -> tuple[DifferenceRow, ...]:
    """Return the differences of all pairs once, the better first."""
    if contest is None:
        return ()
    names = [finalist.family for finalist in contest.finalists]
    return tuple(
        DifferenceRow(
            first=names[i],
            second=names[j],
            estimate=gap.estimate,
            level=get_comparison_level(contest, i, j),
            established=has_beaten(contest, i, j),
            **{name: getattr(gap, name) if is_measured(contest, i, j) else None for name in _ERRORS},
        )
        for i, j in combinations(range(len(names)), 2)
        for gap in [get_difference(contest, i, j)]
    )


_ERRORS = ("low", "high", "se_seed", "se_image")


def copy_fields(record: Record, row: type[Record], *names: str) -> Mapping[str, object]:
    """Return these fields of a record, or all that it has in common with a row."""
    kept = names or [name for name in row.model_fields if name in type(record).model_fields]
    return {name: getattr(record, name) for name in kept}
