"""Trainings: their specification, conditions and results."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer

from sweeper.core.base import Array, Record
from sweeper.core.recipe import Recipe
from sweeper.core.records.data import Dataset, OperatingPoint, Task, UserLoss

BINS = 512
"""Logit bins of a binary histogram."""
LOGIT_RANGE = 12.0
"""The bins cover [−12, 12]."""
THRESHOLDS: tuple[float, ...] = tuple(
    1 / (1 + math.exp(-(-LOGIT_RANGE + 2 * LOGIT_RANGE * k / BINS))) for k in range(1, BINS)
)
"""Probability of each inner bin edge; the one at index 255 is 0.5."""
FEW_THRESHOLDS = THRESHOLDS[143:368:16]
"""15 of them, 0.75 apart in the logit around 0.5, for counts of whole label maps."""
TAUS = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
"""Strengths of the logit adjustment z_c − τ log π_c (Menon et al. 2021). Symmetric: weighting classes by 1/f
is undone by τ = −1, and τ = 1 makes an unweighted network favour rare classes as fully."""
END_POINTS = frozenset({THRESHOLDS[0], THRESHOLDS[-1], TAUS[0], TAUS[-1]})
"""Ends of the operating points that are tried: beyond them others may be better."""
_BY_NAME = {"thresholds": THRESHOLDS, "few_thresholds": FEW_THRESHOLDS, "taus": TAUS}


def _resolve_points(value: Any) -> Any:
    return _BY_NAME.get(value, value) if isinstance(value, str) else value


def _abbreviate_points(points: tuple[float, ...]) -> str | tuple[float, ...]:
    return next((name for name, values in _BY_NAME.items() if values == points), points)


Points = Annotated[
    tuple[float, ...], BeforeValidator(_resolve_points), PlainSerializer(_abbreviate_points, when_used="json")
]
"""Operating points of some counts; the sets above are stored in JSON by name (`thresholds`, `few_thresholds`,
`taus`)."""

TrainedOn = Literal["train", "train+val", "all"]
"""Images of a final training: those of the search's training split, all but the test split, or all."""


class Conditions(Record):
    """Conditions that all trainings of a study share; sent to a worker once."""

    dataset: Dataset
    recipe: Recipe
    seed: int
    """Seed of the study: fixes the test split, and the search's train/validation division."""
    folds: int | None = Field(None, ge=2)
    """Number of folds that the confirmation rotates over; nothing is held out from the search. None = a test split."""
    losses: tuple[UserLoss, ...] = ()
    """The user's losses, which are searched with the others."""

    def select(self, spec: TrialSpec) -> Conditions:
        """Return the conditions of this training: the final ones may have another network."""
        is_final = spec.purpose in ("final", "train")
        return self.model_copy(update={"recipe": self.recipe.as_final}) if is_final else self


class StudyRates(Record):
    """Learning rates of a study, found once, before its losses are compared."""

    by_family: dict[str, float]
    """Rate of each family: with sweeper's trainer the same for all, in the user's script each family's own."""


class RateRange(Record):
    """Learning rates that fresh seeds draw from, all above 0."""

    low: float
    high: float

    def __contains__(self, rate: float) -> bool:
        """Return whether fresh seeds draw from rates up to this one."""
        return self.low <= rate <= self.high


class TrialSpec(Record):
    """One training, completely: with the Conditions it determines the result."""

    purpose: Literal["probe", "rate", "first", "search", "replicate", "confirm", "final", "train"]
    """`probe`: a loss of the ladder, to find the budget; `rate`: the same at another learning rate; `first`: one of the
    two losses of the first look; `replicate`: a configuration that may be a finalist, on the confirmation's seeds;
    `final`: one of the two losses of the final training; `train`: the recommended one (`sweeper train`), which is no
    part of the study."""
    number: int = Field(ge=0)
    """Optuna's trial number, or the running number of a training of another purpose."""
    family: str
    params: dict[str, float]
    """The loss's coordinates as `build_loss` takes them; pos_weight is the weight itself."""
    lr: float = Field(gt=0)
    seed: int
    """Keys the initial weights, batches, crops, augmentation and the train/validation division."""
    steps: int = Field(ge=1)
    keep_predictions: int = Field(0, ge=0)
    """Only for confirmations: number of test images whose label maps are kept; above 0 the weights are kept, too."""
    fold: int | None = Field(None, ge=0)
    """Only for confirmations with folds: number of the fold it is scored on, from 0."""

    @property
    def loss(self) -> tuple[object, ...]:
        """The loss and its coordinates."""
        return self.family, tuple(sorted(self.params.items()))

    @property
    def is_tested(self) -> bool:
        """Whether it is scored on the test images to compare its loss with others."""
        return self.purpose in ("first", "replicate", "confirm", "final")

    @property
    def configuration(self) -> tuple[object, ...]:
        """The loss, its coordinates and the learning rate."""
        return *self.loss, self.lr

    @property
    def key(self) -> tuple[object, ...]:
        """Key under which two trainings are the same, whatever their numbers."""
        return *self.configuration, self.seed, self.steps, self.fold

    @property
    def name(self) -> str:
        """Name in the study: its purpose and number, such as `search/00012`."""
        return f"{self.purpose}/{self.number:05d}"

    @property
    def seed_name(self) -> str:
        """Its seed, and its fold if it has one, such as `seed 1000 fold 2`."""
        return f"seed {self.seed}" + ("" if self.fold is None else f" fold {self.fold + 1}")


class ImageCounts(Record):
    """Confusion counts per image at every operating point, without the images.

    binary (`kind="histogram"`): data (n, 2, 512) — per image, true class and logit bin; the 512 bins are uniform
    over the logit range [−12, 12], outliers in the end bins, so that edge 256 is logit 0.
    multilabel (`kind="histogram"`): data (n, C, 2, 512) — the same for each class.
    multiclass (`kind="points"`): data (n, T, C, 3) — per image, τ of `points` and class: true positives, false
    positives, false negatives.
    """

    kind: Literal["histogram", "points"]
    images: tuple[int, ...]
    """Indices into `Dataset.images`; () = the counts are one row, summed over all images."""
    points: Points
    """Independent classes: thresholds as probabilities, one per inner bin edge (511). Multi-class: values of τ."""
    data: Array
    parts: ImageCounts | None = None
    """Counts of label maps for the metric (`sweeper.core.label_parts`), of kind `points`, at 15 thresholds or all τ;
    None if the metric uses the counts themselves."""

    @property
    def task(self) -> Task:
        """Task whose logits were counted; of `parts` that of the counts which have them."""
        tasks: dict[tuple[str, int], Task] = {("histogram", 3): "binary", ("histogram", 4): "multilabel"}
        return tasks.get((self.kind, self.data.ndim), "multiclass")

    @property
    def summed(self) -> ImageCounts:
        """Counts summed to a single image without a number, which is enough for a trial of the search and a curve."""
        total = self.data.sum(axis=0, keepdims=True, dtype=np.int64)
        parts = None if self.parts is None else self.parts.summed
        return self.model_copy(update={"images": (), "data": total, "parts": parts})


class MetricScores(Record):
    """Metrics of one set of images at one operating point; shares in 0–1, None where undefined."""

    miou: float
    """Mean IoU over the classes present in the full split."""
    fg_iou: float | None
    """Foreground IoU (binary tasks)."""
    dice: float
    """Mean Dice over the same classes."""
    iou: tuple[float | None, ...]
    precision: tuple[float | None, ...]
    recall: tuple[float | None, ...]


class Collapse(StrEnum):
    """Deficiency of an answer at some step; at a training's end a result, no error (`TrialResult.classify_end`)."""

    NONE = "none"
    ALL_BACKGROUND = "all_background"
    NO_BETTER_THAN_CONSTANT = "no_better_than_constant"
    CLASS_NEVER_PREDICTED = "class_never_predicted"
    DIVERGED = "diverged"

    @property
    def learned(self) -> bool:
        """Whether the training is still useful: never predicting a rare class is already reflected in its mIoU."""
        return self in (Collapse.NONE, Collapse.CLASS_NEVER_PREDICTED)

    @property
    def text(self) -> str:
        """Description for display."""
        return {
            "none": "learned",
            "all_background": "predicted only the most common class, or none",
            "no_better_than_constant": "no better than a constant answer",
            "class_never_predicted": "never predicted a class that occurs",
            "diverged": "diverged (NaN or infinity)",
        }[self.value]


class PartScores(Record):
    """Scores of an evaluation: on its images, or on only those that the rungs before it were scored on."""

    value: float
    """The objective on these images, finite, in [−1, 1]."""
    point: OperatingPoint
    """Operating point chosen on them."""
    chosen: MetricScores
    default: MetricScores
    """At 0.5 or τ = 0."""
    images: int
    """Number of them."""


class Evaluation(PartScores):
    """One evaluation of a training in progress: at a rung on a part of the validation images, at the end on all.

    Values of two trainings, or of two steps, are comparable if they come from the same images: `value` if both
    evaluations are `complete`, else `part_value`.
    """

    step: int
    train_loss: float | None
    """Mean training loss since the last evaluation; None where it was not finite."""
    lr: float
    val_images: int
    """Number of validation images that the training's end is scored on: all, or of many large ones a fixed part."""
    part: PartScores | None = None
    """Scores on the images of the rungs; None at a rung, and if the rungs are scored on all images."""
    seconds: float
    """Since the training began."""

    @property
    def complete(self) -> bool:
        """Whether it was scored on all validation images."""
        return self.images == self.val_images

    @property
    def part_scores(self) -> PartScores:
        """Scores on the images that every evaluation of the training was scored on."""
        return self.part or self

    @property
    def part_value(self) -> float:
        """The objective on these images."""
        return self.part_scores.value


class TestDetail(Record):
    """Measurements beyond confusion counts, of a confirmation's test images at its chosen operating point."""

    __test__ = False  # not a pytest class
    images: tuple[int, ...]
    boundary: Array
    """(n, C, 3) pixels of each class within 2 pixels of its own contour, inside the class: in label and answer, only in
    the answer, only in the label. Boundary IoU = first / sum (Cheng et al. 2021)."""
    centreline: Array
    """(n, C, 4): |S_P ∩ L|, |S_P|, |S_L ∩ P|, |S_L| of answer P, label L and their skeletons S: clDice is the harmonic
    mean of the two ratios (Shit et al. 2021)."""


class Predictions(Record):
    """Label maps of some test images at the run's operating point, for figures."""

    images: tuple[int, ...]
    masks: tuple[Array, ...]
    """(H, W) label maps as in the store, one per image."""


class TrainedBy(Record):
    """Device and versions of the first steps of a training that continued on another device or with other versions."""

    device: str
    versions: dict[str, str]
    step: int = Field(ge=0)
    """Last of these steps."""


class TrialResult(Record):
    """Result of a training. With `state` failed it has a reason, and may have no evaluation."""

    spec: TrialSpec
    state: Literal["complete", "pruned", "failed"]
    value: float | None = None
    """The last evaluation's objective: of a complete training on all validation images, of a pruned one on those of
    its rung (see `Evaluation`); 0 when diverged; None when failed."""
    evaluations: tuple[Evaluation, ...] = ()
    collapse: Collapse = Collapse.NONE
    collapse_at_default: Collapse = Collapse.NONE
    """Collapse as judged at 0.5 (τ = 0)."""
    never_predicted: tuple[str, ...] = ()
    """Classes present in validation and predicted nowhere, at the chosen operating point, at its last step."""
    reason: str | None = None
    val: ImageCounts | None = None
    """Counts of the last evaluation on all validation images: of each for a confirmation, else their sum."""
    test: ImageCounts | None = None
    """Counts on the locked test split, or on its own fold; confirmation trainings only."""
    detail: TestDetail | None = None
    """Boundaries and centre lines on the test split; confirmation trainings only."""
    predictions: Predictions | None = None
    seconds: float = 0.0
    seconds_per_step: float | None = None
    device: str
    """Name for display: `cpu, 1 thread` or the GPU's name."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of Python, sweeper and the libraries of the process that trained it; {} if none lived to report."""
    earlier: tuple[TrainedBy, ...] = ()
    """Device and versions of its first steps, if these were others."""
    run_id: str | None = None
    """The MLflow run that shows it."""
    own_runs: dict[str, str] = Field(default_factory=dict)
    """Runs that the user's script wrote itself, by the tracker's name (mlflow, wandb)."""

    @property
    def score(self) -> float:
        """Its value; 0 if it failed."""
        return self.value or 0.0

    @property
    def has_score(self) -> bool:
        """Whether it was trained to its end, and did not diverge."""
        return self.state == "complete" and self.collapse is not Collapse.DIVERGED

    def classify_end(self, answer: Collapse) -> Collapse:
        """Return how it collapsed with this answer: the one definition of collapse, in every count and table.

        A training has collapsed if it was trained to its end and gives a constant answer there, or diverged; else NONE.
        """
        has_collapsed = self.state == "complete" and not answer.learned
        return answer if has_collapsed else Collapse.NONE

    @property
    def has_collapsed(self) -> bool:
        """Whether it collapsed, at its chosen operating point."""
        return self.classify_end(self.collapse) is not Collapse.NONE

    @property
    def missing_classes(self) -> tuple[str, ...]:
        """Classes that it does not predict anywhere at the end of its training; none if it was stopped early."""
        return self.never_predicted if self.state == "complete" else ()


class SameLoss(Record):
    """A search trial whose loss is, on these data, the same function as a simpler one."""

    trial: int
    family: str
    params: dict[str, float]
    is_family: str
    """The simpler one, which it counts as."""
    is_params: dict[str, float]
    distance: float
    """Distance of the two gradients, relative to their length and up to a common factor; at most 0.02."""


class SameLosses(Record):
    """Equivalent losses, as stored, so that a resume and the report count these trials as the run did."""

    trials: int
    """Number of the search's trials that were checked."""
    found: tuple[SameLoss, ...]


class Rung(Record):
    """A budget of the ladder before the search, and what two losses learned there."""

    steps: int
    scores: dict[str, float]
    """Objective on validation, by loss: the plain one first."""
    iou: dict[str, tuple[float | None, ...]]
    """IoU of each class on validation, by loss: at its own operating point or the plain one, whichever is higher."""
    is_learned: bool
    """Whether they clearly beat a constant answer."""
    learnable: int
    """Number of classes with enough pixels to be learned."""
    not_learned: tuple[str, ...]
    """Learnable classes that neither loss learned."""

    @property
    def gap(self) -> float | None:
        """Lead of the other loss over the plain one; None with a single loss."""
        plain, *others = self.scores.values()
        return others[0] - plain if others else None


class Breadth(Record):
    """Extent of the comparison at the steps that the ladder found."""

    model_config = ConfigDict(extra="ignore")  # earlier studies have the losses, which are those of their space

    trials: int
    """Trials of the search at most."""
    confirm_steps: int
    seeds: tuple[int, int]
    """Seeds of a finalist, at least and at most."""
    has_final: bool = True
    """Whether there is time for the final training, too, if the user did not request it."""
    has_first: bool = False
    """Whether there is time for the first look."""


class BudgetProbe(Record):
    """Result of the budget probe, as it is stored with the study."""

    first: int
    """Steps of the first budget."""
    steps: int | None = None
    """Steps that the search is to have; None while the probe is not over."""
    sentence: str = ""
    learned: bool = True
    """Whether the losses learned enough to be compared; else nothing is searched."""
    rungs: tuple[Rung, ...] = ()
    """The ladder, as far as it was climbed."""
    breadth: Breadth | None = None
    """Extent of search and confirmation there; None = as if the steps had been given."""
    minutes: int | None = None
    """If nothing is searched: minutes (`--time`) that would give an answer; None = more time would not."""

    @property
    def earliest(self) -> int:
        """Step before which no trial is stopped: that of the rung below, where some classes were not learned."""
        steps = self.steps or 0
        is_raised = bool(self.rungs) and steps > self.first
        return steps // 2 if is_raised else 0
