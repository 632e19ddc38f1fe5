"""The record of `recommendation.json`, the answer for programs."""

from __future__ import annotations

from typing import ClassVar

from sweeper.core.base import Record
from sweeper.core.document import Document
from sweeper.core.recipe import Recipe
from sweeper.core.records import (
    Action,
    AnalysisTaken,
    ImbalanceProfile,
    InterimAnalysis,
    LongerLook,
    Recommended,
    Regret,
    Rung,
    SameLoss,
    Strength,
    Task,
    TrainerRow,
    Verdict,
)


class DatasetRow(Record):
    """Data set of the search."""

    name: str
    source: str
    """A folder, an annotation file, or `synthetic:…`."""
    digest: str
    """SHA-256 of pixels, labels, names and split."""
    task: Task
    classes: tuple[str, ...]
    images: int
    """Number of images."""
    profile: ImbalanceProfile


class ClassRow(Record):
    """Scores of one class on the test images, 0–1; null where undefined."""

    name: str
    iou: float | None
    precision: float | None
    recall: float | None


class ValueRow(Record):
    """Score of a finalist with its 95 % interval."""

    value: float
    ci_low: float
    ci_high: float


class TestRow(Record):
    """Scores on the test images at each training's own operating point, 0–1, means over the seeds."""

    score: ValueRow
    """Score in the verdict's metric."""
    score_at_default: float
    """Score at a threshold of 0.5, or τ = 0. So is `miou_at_default`."""
    miou: float
    ci_low: float
    ci_high: float
    fg_iou: float | None
    """IoU of the foreground; null with more than two classes."""
    precision: float | None
    """Precision of the foreground; with more than two classes the mean over those that occur. So is `recall`."""
    recall: float | None
    dice: float
    miou_at_default: float
    per_class: tuple[ClassRow, ...]


class DifferenceRow(Record):
    """A paired difference in the test score with its interval."""

    difference: float
    ci_low: float
    ci_high: float


class LevelDifferenceRow(DifferenceRow):
    """A paired difference at a level of its own."""

    level: float
    """Level of the interval: 0.95, or that of an interim analysis."""


class RateRow(Record):
    """Frequency of a finalist's collapses: an exact interval, 0–1."""

    ci_low: float
    ci_high: float


class FinalistRow(Record):
    """One confirmed configuration; best test score first."""

    family: str
    params: dict[str, float]
    """Hyper-parameters of the loss."""
    lr: float
    lr_range: tuple[float, float] | None
    """The range that the seeds' learning rates were drawn from; null = all have the same."""
    seed_lrs: tuple[float, ...]
    found_as: SameLoss | None
    """The search's other name for the same function, if it had one."""
    seeds: int
    """Number of seeds."""
    seed_values: tuple[int, ...]
    points: tuple[float, ...]
    """Operating point of each training: a threshold (two classes) or τ."""
    mlflow_run_ids: tuple[str, ...]
    test: TestRow
    vs_baseline: LevelDifferenceRow | None
    """Against cross-entropy, tuned alike; null for cross-entropy, and where it was not confirmed."""
    vs_plain_baseline: DifferenceRow | None
    """Against cross-entropy as usually trained, at 0.5 (τ = 0)."""
    validation_score: float
    """Validation score in the verdict's metric."""
    search_trial: int
    search_value: float
    trials_tried: int
    """Search trials of its family, including stopped ones."""
    trials_completed: int
    """Number of these trials that were trained to the end."""
    regret: Regret | None
    probability_best: float | None
    collapses: int
    collapse_rate: RateRow
    miou_when_trained: float | None
    still_rising: float
    """Gain of the objective on validation over the last quarter of the steps."""


class ComparisonRow(Record):
    """The paired difference in the test score of two finalists, the better one first."""

    first: str
    second: str
    difference: float
    ci_low: float
    ci_high: float
    level: float
    se_seed: float
    """Standard error from retraining with other seeds."""
    se_image: float
    """Standard error from the choice of test images; 0 where its square was estimated below 0, and cut off there."""


class OtherMeasureRow(Record):
    """The finalists by another measure than the verdict's metric."""

    measure: str
    """Of two classes of the foreground, of several the mean over those that occur."""
    values: tuple[ValueRow, ...]
    """In the order of `finalists`."""


class PlainPointRow(LevelDifferenceRow):
    """The recommended loss less `against`, all at the plain operating point: a threshold of 0.5, or τ = 0."""

    against: str
    """Cross-entropy; where that is recommended or was not confirmed, the best other finalist there."""
    best: str
    """The finalist with the highest score there."""
    depends: bool
    """Whether the recommendation depends on the tuned points: another finalist is ahead at the plain one by `margin` or
    more, or a gain over cross-entropy of `margin` or more is smaller there."""
    worse: dict[str, float]
    """Family → how much lower it scores on the test images at its tuned points than at the plain one, if it does."""


class AnalysesRow(Record):
    """The interim analyses of the confirmation."""

    planned: tuple[InterimAnalysis, ...]
    taken: tuple[AnalysisTaken, ...]


class SearchRow(Record):
    """Outcomes of the search's trials."""

    trials: int
    completed: int
    pruned: int
    failed: int
    abandoned: int
    """Attempts that ended with a dead worker; they are no trials."""
    per_family: dict[str, int]


class RecommendationDocument(Document):
    """The answer of a study for programs: `recommendation.json`, and what `sweeper run` and `report` print."""

    SCHEMA: ClassVar[str] = "sweeper.recommendation/1"
    NULL_NUMBERS: ClassVar[bool] = True

    study: str
    action: Action | None = None
    """Keep cross-entropy, or change to the recommended loss; null where neither can be stated."""
    head: str | None = None
    """The action in a sentence."""
    verdict: Verdict
    """Verdict on the recommended loss; `strength` says how sure it is that this costs at most the margin."""
    strength: Strength
    provisional: bool
    """Whether the baseline was still improving, so that a clear verdict holds at this budget only."""
    reasons: tuple[str, ...]
    next_steps: tuple[str, ...]
    dataset: DatasetRow
    recipe: Recipe
    """Everything about a training but its loss."""
    recommended: Recommended | None
    """The loss to train with; null only for the verdict `none`."""
    not_learned: tuple[str, ...]
    """Classes that no loss learned, about which nothing is known."""
    rungs: tuple[Rung, ...]
    """The budgets that were tried before the search, where no steps were given."""
    longer: LongerLook | None = None
    """Effect of more steps (`--longer`); null if there was no longer look."""
    held_out: bool
    """False where the search saw the images that the finalists were scored on."""
    folds: int | None
    split: dict[str, tuple[str, ...]] | None
    """Stems of the images that train, validate and test in the search, under `train`, `val` and `test`."""
    finalists: tuple[FinalistRow, ...]
    comparisons: tuple[ComparisonRow, ...]
    other_measures: tuple[OtherMeasureRow, ...]
    plain_point: PlainPointRow | None
    """Whether the recommendation depends on the tuned operating points; null where none was tuned or there is only one
    finalist."""
    metric: str
    """Display name of what the verdict compares; `recipe.metric` is its key."""
    margin: float
    """Region of practical equivalence, in the unit of `metric`."""
    analyses: AnalysesRow
    timeout: float | None
    """Time limit of the sweep in seconds."""
    cut: tuple[str, ...]
    """Parts that the time limit cut, in sentences."""
    test_images: int | None
    test_groups: int | None
    few_test_groups: int | None
    constant_miou: float | None
    """Test mIoU of the same answer everywhere."""
    search: SearchRow
    winners_curse: float | None
    """Search value minus confirmed test value of the recommended configuration."""
    collapses: dict[str, int]
    """Family → trainings of search and confirmation that collapsed: trained to the end, and no better than a
    constant answer there, or diverged."""
    collapse_kinds: dict[str, dict[str, int]]
    """Family → collapses by kind."""
    never_predicted: dict[str, dict[str, int]]
    """Family and class → number of complete trainings that do not predict the class anywhere."""
    versions: dict[str, str]
    trained_by: tuple[TrainerRow, ...]
    seconds: float
    """Wall-clock time of the sweep over all its sessions."""
