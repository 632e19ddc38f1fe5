"""What flows through sweeper, from images to report. Read top to bottom, it tells the whole story.

    images + masks → Dataset → ImbalanceProfile → SearchSpace → TrialSpec → TrialResult → Evidence → Recommendation

Every record (see `sweeper.core.base`) is frozen, refuses unknown fields, checks itself and round-trips through JSON
(`record.model_dump_json()` and `Kind.model_validate_json(text)`), so that a stage can be rerun, inspected,
or tested from a literal. What is fixed about a training besides its loss is `sweeper.core.recipe.Recipe`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from sweeper.core.base import Array, Record
from sweeper.core.operating_points import Points
from sweeper.core.paths import STORAGE
from sweeper.core.recipe import Recipe

Task = Literal["binary", "multiclass"]
SplitName = Literal["train", "val", "test"]

IGNORE = 255
"""Label of pixels without a class, in stored masks and targets."""


# --- 1 Data -------------------------------------------------------------------------------------------------


class ImageInfo(Record):
    """One labelled image of a data set; its pixels lie in the store at the same index."""

    stem: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    pixels: tuple[int, ...]
    """Labelled pixels of each class, in class order."""
    ignored: int = Field(0, ge=0)
    """Pixels without a label."""
    split: SplitName | None = None
    """Where `split.csv` puts it; None = to be assigned."""
    group: str | None = None
    """Images of one group never lie on two sides of a split; None = a group of its own."""


class Dataset(Record):
    """What was read: names, sizes, label counts and given splits of all images, and where the pixels lie."""

    name: str
    source: str
    """What the user asked for: a path or `synthetic:NAME?…`."""
    format: str | None = None
    """Name of the format of the annotations; None for synthetic sets and in studies of earlier versions."""
    digest: str
    """`sha256:…` of everything that can change a result: pixels, labels, class names, splits, groups."""
    task: Task
    classes: tuple[str, ...] = Field(min_length=2)
    channels: int = Field(ge=1)
    """1 when every image is grey, 3 when some are RGB, else the number that every image has."""
    synthetic: bool
    store: str
    """Folder of the decoded pixels (`sweeper.data.store`)."""
    pictures: tuple[ImageInfo, ...] = Field(min_length=1)
    warnings: tuple[str, ...] = ()
    """What is allowed but should be known, in sentences."""
    notes: tuple[str, ...] = ()
    """Those of them that the reader had: of what lies there, whichever images are left out afterwards."""
    excluded: tuple[str, ...] = ()
    """Stems that the user had left out (`--exclude`), ascending; none of `images` is among them."""
    resized: int | None = Field(None, ge=1)
    """Shorter side in pixels that larger images were shrunk to (`--resize`); None = all at native resolution."""

    def class_pixels(self, indices: tuple[int, ...] | None = None) -> npt.NDArray[np.int64]:
        """Labelled pixels of each class, shape (C,), over the images `indices` (None = all)."""
        chosen = self.pictures if indices is None else [self.pictures[i] for i in indices]
        counts: npt.NDArray[np.int64] = np.array([p.pixels for p in chosen], dtype=np.int64)
        summed: npt.NDArray[np.int64] = counts.reshape(-1, len(self.classes)).sum(axis=0)
        return summed


class Split(Record):
    """Indices into `Dataset.images`, ascending and disjoint."""

    train: tuple[int, ...] = Field(min_length=1)
    val: tuple[int, ...] = Field(min_length=1)
    test: tuple[int, ...]
    """Empty in the search of a study with folds alone."""


# --- 2 Imbalance --------------------------------------------------------------------------------------------


class ClassProfile(Record):
    """How one class occurs."""

    name: str
    pixel_share: float
    """Share of the labelled pixels, 0–1."""
    picture_share: float
    """Prevalence: share of the images in which it occurs, 0–1."""
    components: int
    """Connected components (8-neighbourhood) over all images."""
    component_pixels: tuple[float, float, float] | None
    """10th, 50th and 90th percentile of the components' sizes in pixels; None without components."""
    thinness: float | None
    """Share of its pixels within 2 pixels of its boundary, 0–1; None where it does not occur."""


class ImbalanceProfile(Record):
    """The imbalance fingerprint of a data set's labels."""

    pictures: int
    labelled_pixels: int
    ignored_share: float
    """Share of all pixels without a label, 0–1."""
    empty_pictures: int
    """Images with nothing but class 0 (and unlabelled pixels)."""
    classes: tuple[ClassProfile, ...]
    imbalance: float
    """Binary: background / foreground pixels. Multi-class: commonest / rarest class that occurs."""
    pos_weight: float | None
    """Binary: the weight that balances the pixel proportions (= imbalance); None for multi-class."""
    alpha: float | None
    """Binary: the same balance as focal's α = w / (1 + w); None for multi-class."""
    class_weights: tuple[float, ...]
    """w_c ∝ 1/f_c scaled so that Σ f_c w_c = 1; a class without pixels gets the largest weight present."""


# --- 3 Search space -----------------------------------------------------------------------------------------

CoordinateKind = Literal["uniform", "log", "power_of_imbalance", "fixed"]


class Coordinate(Record):
    """One searched (or fixed) number of a loss, or the learning rate.

    `power_of_imbalance` is searched as an exponent p in [low, high]; the loss receives imbalance ** p.
    """

    kind: CoordinateKind
    low: float
    high: float


class FamilySpace(Record):
    """One loss family with the coordinates that are searched in it."""

    family: str
    coordinates: dict[str, Coordinate]


class SearchSpace(Record):
    """What is searched: the families, their coordinates, and the learning rate tuned equally for each."""

    name: str
    task: Task
    lr: Coordinate
    families: tuple[FamilySpace, ...] = Field(min_length=1)


# --- 4 Trials -----------------------------------------------------------------------------------------------


Rates = Literal["searched", "best", "drawn"]


class Conditions(Record):
    """What all trainings of a study share; sent to a worker once."""

    dataset: Dataset
    recipe: Recipe
    seed: int
    """Seed of the study: fixes the test split, and the search's train/validation division."""
    folds: int | None = Field(None, ge=2)
    """Nothing is held out from the search; the confirmation rotates over so many folds. None = a test split."""
    rates: Rates = "searched"
    """Learning rates of the confirmation. `drawn`: each seed draws one from the finalist's good range, which a common
    grid of rates told; `best`: all seeds use the best rate of that grid (`--fixed-lr`); `searched`: all use the
    search's, as studies of earlier versions did, whose finalists had no common grid."""


class RateRange(Record):
    """Learning rates at which a loss is as good as at its best, all above 0."""

    best: float
    """Where its curve peaks."""
    low: float
    high: float
    shared: bool = False
    """Whether `low` and `high` are what it has in common with other finalists, so that all draw the same rates."""


class Tuned(Record):
    """A finalist's learning rates as its study decided on them, with what they were read off."""

    family: str
    params: dict[str, float]
    curve: tuple[tuple[float, float], ...]
    """(learning rate, value) of its completed trainings on the common grid, ascending."""
    rates: RateRange


class TrialSpec(Record):
    """One training, completely: with the Conditions it determines the result."""

    purpose: Literal["search", "recheck", "confirm", "probe"]
    """`recheck`: a leader on a second search seed, or at a learning rate its family lacked; `probe`: how the ranking of
    the default losses depends on the budget (`--steps auto`)."""
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
    """Confirmation only: how many test images' label maps are kept for looking at; above 0 the weights are too."""
    fold: int | None = Field(None, ge=0)
    """Confirmation with folds only: which of them it is scored on, from 0."""

    @property
    def loss(self) -> tuple[object, ...]:
        """The loss and its coordinates."""
        return self.family, tuple(sorted(self.params.items()))

    @property
    def configuration(self) -> tuple[object, ...]:
        """The loss, its coordinates and the learning rate."""
        return *self.loss, self.lr


class ImageCounts(Record):
    """Confusion counts per image at every operating point, without the images.

    binary (`kind="histogram"`): data (n, 2, 512) — per image, true class and logit bin; the 512 bins are uniform
    over the logit range [−12, 12], outliers in the end bins, so that edge 256 is logit 0.
    multiclass (`kind="points"`): data (n, T, C, 3) — per image, τ of `points` and class: true positives, false
    positives, false negatives.
    """

    kind: Literal["histogram", "points"]
    pictures: tuple[int, ...]
    """Indices into `Dataset.images`; of pooled counts, numbers of the groups."""
    pooled_from: int | None = None
    """How many images there were before they were pooled into groups; None = not pooled."""
    points: Points
    """Binary: the thresholds as probabilities, one per inner bin edge (511). Multi-class: the values of τ."""
    data: Array


class Scores(Record):
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
    """How a training failed to learn; a result, not an error."""

    NONE = "none"
    ALL_BACKGROUND = "all_background"
    NO_BETTER_THAN_CONSTANT = "no_better_than_constant"
    CLASS_NEVER_PREDICTED = "class_never_predicted"
    DIVERGED = "diverged"

    @property
    def learned(self) -> bool:
        """Whether the training is of use all the same: never predicting a rare class shows in its mIoU already."""
        return self in (Collapse.NONE, Collapse.CLASS_NEVER_PREDICTED)

    @property
    def text(self) -> str:
        """The same for people."""
        return {
            "none": "learned",
            "all_background": "predicted nothing but the commonest class",
            "no_better_than_constant": "no better than a constant answer",
            "class_never_predicted": "never predicted a class that occurs",
            "diverged": "diverged (NaN or infinity)",
        }[self.value]


class PartScores(Record):
    """What an evaluation on all validation images gives on those alone that the rungs before it were scored on."""

    value: float
    """The objective, in [0, 1]."""
    point: float
    """Operating point chosen on these images."""
    chosen: Scores
    default: Scores
    """At 0.5 (binary) or τ = 0 (multi-class)."""
    pictures: int


class Evaluation(Record):
    """One evaluation of a training in progress: at a rung on a part of the validation images, at the end on all.

    Values of two trainings, or of two steps, compare where they come from the same images: `value` where both
    evaluations are `complete`, else `part_value`.
    """

    step: int
    value: float
    """The objective on the images of this evaluation, finite, in [0, 1]."""
    point: float
    """Chosen operating point: threshold as a probability (binary) or τ (multi-class)."""
    chosen: Scores
    default: Scores
    """At 0.5 (binary) or τ = 0 (multi-class)."""
    train_loss: float | None
    """Mean training loss since the last evaluation; None where it was not finite."""
    lr: float
    pictures: int
    """How many images it was scored on."""
    val_images: int | None = None
    """How many there are for validation; None in studies of earlier versions."""
    part: PartScores | None = None
    """The same on the images of the rungs; None at a rung, and where the rungs are scored on all."""
    curve_miou: float | None = None
    """mIoU in `part`, of studies of earlier versions, which kept no more of it."""
    seconds: float
    """Since the training began."""

    @property
    def complete(self) -> bool:
        """Whether it was scored on all validation images."""
        if self.val_images is None:  # earlier versions kept `curve_miou` at the end alone
            return self.curve_miou is not None
        return self.pictures == self.val_images

    @property
    def part_value(self) -> float:
        """The objective on the images that every evaluation of the training was scored on.

        In studies of earlier versions that maximised another metric than mIoU, the end is known on all images alone.
        """
        if self.part is not None:
            return self.part.value
        same = self.curve_miou is None or self.value != self.chosen.miou
        return self.value if same else float(self.curve_miou or 0.0)

    @property
    def part_miou(self) -> float:
        """mIoU on the images that every evaluation of the training was scored on."""
        if self.part is not None:
            return self.part.chosen.miou
        return self.chosen.miou if self.curve_miou is None else self.curve_miou

    @property
    def part_scores(self) -> PartScores | None:
        """All that is known on these images; None at the end of a training of an earlier version."""
        if self.part is not None or self.curve_miou is not None:
            return self.part
        known = {name: getattr(self, name) for name in ("value", "point", "chosen", "default", "pictures")}
        return PartScores(**known)


class TestDetail(Record):
    """What confusion counts do not hold, of a confirmation's test images at its chosen operating point.

    Sums over groups of images where there are very many, as in `ImageCounts`.
    """

    __test__ = False  # not one of pytest's
    pictures: tuple[int, ...]
    pooled_from: int | None = None
    boundary_pixels: int = Field(ge=1)
    """Width of the band along class boundaries, in pixels."""
    boundary: Array
    """(n, C, 3) pixels of each class within the band of its own contour, inside the class: in both label and answer, in
    the answer alone, in the label alone. Boundary IoU = first / sum (Cheng et al. 2021)."""
    centreline: Array
    """(n, C, 4): |S_P ∩ L|, |S_P|, |S_L ∩ P|, |S_L| of answer P, label L and their skeletons S: clDice is the harmonic
    mean of the two ratios (Shit et al. 2021)."""
    confidence: Array
    """(n, B, 3) float64, per bin of the winning class's probability, uniform on [0, 1]: labelled pixels, those answered
    right (at 0.5 or τ = 0), and the sum of their confidence (Guo et al. 2017)."""


class Predictions(Record):
    """Label maps of some test images at the run's operating point, for looking at."""

    pictures: tuple[int, ...]
    masks: tuple[Array, ...]
    """(H, W) uint8 class indices, one per image."""


class TrainedBy(Record):
    """What trained the first steps of a training that was paused and went on elsewhere, or under other versions."""

    device: str
    versions: dict[str, str]
    step: int = Field(ge=0)
    """Up to this step."""


class TrialResult(Record):
    """What a training gave. `state` failed carries a reason and no evaluation need exist."""

    spec: TrialSpec
    state: Literal["complete", "pruned", "failed"]
    value: float | None
    """The last evaluation's objective: of a complete training on all validation images, of a pruned one on those of
    its rung (see `Evaluation`); 0 when diverged; None when failed."""
    evaluations: tuple[Evaluation, ...]
    collapse: Collapse
    collapse_at_default: Collapse
    """The same judged at 0.5 (τ = 0)."""
    never_predicted: tuple[str, ...] = ()
    """Classes present in validation and predicted nowhere, at the chosen operating point."""
    reason: str | None = None
    val: ImageCounts | None = None
    """Counts of the last evaluation on all validation images."""
    test: ImageCounts | None = None
    """Counts on the locked test split, or on its own fold; confirmation trainings only."""
    detail: TestDetail | None = None
    """Boundaries, centre lines and confidence on the test split; confirmation trainings only."""
    predictions: Predictions | None = None
    seconds: float
    seconds_per_step: float | None
    device: str
    """For people: `cpu, 1 thread` or the GPU's name."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Of Python, sweeper and the libraries of the process that trained it; {} in studies of earlier versions, whose
    trainings have those of the study."""
    earlier: tuple[TrainedBy, ...] = ()
    """What trained its first steps, where that was another device or other versions."""
    run_id: str | None = None
    """The MLflow run that shows it."""


class SameLoss(Record):
    """A search trial whose loss is, on these data, the same function as a simpler one."""

    trial: int
    family: str
    params: dict[str, float]
    is_family: str
    """The simpler one, which it counts as."""
    is_params: dict[str, float]
    distance: float
    """How far the two gradients are apart, relative to their length and up to a common factor; at most 0.02."""


class Probed(Record):
    """What the budget probe found, as it is stored with the study."""

    first: int
    """Steps of the first budget."""
    steps: int | None = None
    """Steps that the search is to have; None while the probe is not over."""
    sentence: str = ""
    learned: bool = True
    """Whether any loss beat a constant answer; else nothing is searched."""


# --- 5 Evidence ---------------------------------------------------------------------------------------------


class Interval(Record):
    """An estimate with its interval (95 % where nothing else is said) and where its uncertainty comes from."""

    estimate: float
    low: float
    high: float
    se_seed: float
    """Standard error from retraining with other seeds."""
    se_image: float
    """Standard error from having these test images and not others."""
    se_both: float = 0.0
    """The part of `se_seed` that comes from what single trainings do to single images: it falls with more seeds and
    with more images."""
    lent: float = 0.0
    """Degrees of freedom of `se_seed` beyond seeds − 1, lent by the other pairs' variances, towards whose mean it was
    drawn (`sweeper.evidence.moderated_variance`)."""


class Look(Record):
    """A planned look at the confirmation: after so many seeds, at such a level."""

    seeds: int = Field(ge=1)
    error: float = Field(gt=0, lt=1)
    """Two-sided: its intervals are at 1 − error."""
    spent: float | None = Field(None, gt=0, lt=1)
    """Chance that this interim analysis lets a zero difference through which none before it did; over all 0.05.
    None = as much as `error`."""


class Regret(Record):
    """What taking a finalist can cost: its regret, the best finalist's true mean test mIoU less its own, in mIoU.

    Posterior values of a hierarchical model (`sweeper.evidence.regret`).
    """

    expected: float
    bound: float
    """The regret is below it with a probability of 95 %."""
    within_rope: float
    """Probability that the regret is within the region of practical equivalence, 0–1."""
    best: float
    """Probability that the regret is 0: that no finalist is better, 0–1."""
    gain: float | None = None
    """Posterior mean of what it gains over cross-entropy, in mIoU: drawn towards the other finalists', as the one that
    reads highest is partly lucky. None where cross-entropy was not confirmed."""


class FinalistEvidence(Record):
    """One confirmed configuration on the test split: means over its seeds, each at that run's operating point."""

    family: str
    params: dict[str, float]
    lr: float
    """What is recommended: the middle of `rates`; without them the one rate that all its trainings have."""
    rates: RateRange | None = None
    """The range that its seeds' learning rates were drawn from; None = all have the same."""
    seed_lrs: tuple[float, ...] = ()
    """The learning rate of each of its seeds; () in evidence of earlier versions, where all have `lr`."""
    found_as: SameLoss | None = None
    """What the search called it, where that was another name for the same function."""
    search_trial: int
    search_value: float
    """Objective on validation, on the search's seed: of that trial, or of its recheck at another learning rate."""
    recheck_value: float | None = None
    """The same on the second search seed; None where it was not trained."""
    seeds: tuple[int, ...]
    run_ids: tuple[str, ...]
    points: tuple[float, ...]
    """Operating point of each run, chosen on its own validation split; with folds a seed has several runs."""
    miou: Interval
    miou_at_default: float
    val_miou: float
    fg_iou: Interval | None
    dice: float
    iou: tuple[float | None, ...]
    precision: tuple[float | None, ...]
    recall: tuple[float | None, ...]
    collapses: int
    """How many of its trainings collapsed."""
    collapses_in_search: int = 0
    """How many trainings of the very configuration collapsed before the confirmation."""
    trainings_in_search: int = 0
    """How many there were, at the learning rates that it is confirmed at."""
    miou_when_trained: float | None = None
    """Mean test mIoU over the seeds of which no training collapsed; None where all did."""
    lr_at_edge: bool = False
    """Whether its learning rate lies at an end of the searched range."""
    still_rising: float
    """mIoU gained on validation over the last quarter of the steps, mean over seeds."""
    seconds_per_step: float | None
    vs_plain: Interval | None = None
    """Test mIoU at its own operating points less that of cross-entropy at 0.5 (τ = 0), on common seeds, at 95 %: what
    is gained over cross-entropy as it is usually trained. None where that was not confirmed."""
    regret: Regret | None = None
    """What taking it can cost; None where it cannot be told: one finalist, one seed, one image."""

    @property
    def trainings(self) -> int:
        """How many trainings it was confirmed by."""
        return len(self.points)


class Comparison(Record):
    """Paired difference in test mIoU, `first` minus `second` (indices into `Evidence.finalists`)."""

    first: int
    second: int
    difference: Interval
    """At the level of the look at which the common seeds were complete."""
    at_least: float | None = None
    """Highest lower end of that interval and of those of earlier looks, which hold together; None = there was one."""
    at_most: float | None = None
    """Lowest upper end of them."""
    won: bool | None = None
    """Whether `first` beat `second` at one of these looks; None = it follows from the interval."""

    @property
    def floor(self) -> float:
        """The difference is at least this."""
        return self.difference.low if self.at_least is None else self.at_least

    @property
    def ceiling(self) -> float:
        """The difference is at most this."""
        return self.difference.high if self.at_most is None else self.at_most


PreferenceName = Literal["misses", "false_alarms", "boundaries", "thin_structures", "rare_classes", "probabilities"]


class Preference(Record):
    """The same confirmed runs judged by what someone may care about more than mIoU."""

    name: PreferenceName
    measure: str
    """For people: what was measured, e.g. `F2 of the foreground, at its own threshold`."""
    higher_is_better: bool
    scores: tuple[Interval, ...]
    """Per finalist, in the order of `Evidence.finalists`."""
    points: tuple[float, ...] = ()
    """Operating point at which each finalist was measured, median over its seeds; () = the run's own probabilities."""
    best: int
    """Index of the finalist with the best estimate."""
    unbeaten: tuple[int, ...]
    """Finalists that learned, `best` among them, whose paired 95 % interval against `best` contains 0; not corrected
    for the number of preferences."""
    versus: tuple[Interval, ...]
    """Paired difference of `best` minus each finalist (0 for itself), in the measure's own direction."""


class Evidence(Record):
    """What the confirmation showed."""

    classes: tuple[str, ...]
    finalists: tuple[FinalistEvidence, ...]
    """Best estimate first."""
    comparisons: tuple[Comparison, ...]
    """All ordered pairs (first ≠ second)."""
    baseline: int | None
    """Index of cross-entropy among the finalists."""
    rope: float
    """Region of practical equivalence in mIoU."""
    test_pictures: int
    test_groups: int | None = None
    """Groups of related test images, which count as one image each; None = every image is its own."""
    few_groups: int | None = None
    """How many groups of related test images there are, where they are fewer than 5; each is one unit even so."""
    scarce: tuple[tuple[str, int], ...] = ()
    """Classes that occur in fewer than 5 test images (or groups of images), and in how many."""
    folds: int | None = None
    """Trainings that make up a seed, each scored on its own fold; the search saw these images: not held out. None =
    one, on a test split that the search never saw."""
    constant_miou: float
    """mIoU on the test split of predicting only the commonest class (binary: only background)."""
    looks: tuple[Look, ...] = ()
    """The looks that were planned; () = a single one."""
    look: int = 0
    """Which of them this is, from 0. A comparison's interval is at 1 − error of the look at which its common seeds were
    complete: of this one, or of an earlier one for a finalist that was dropped then."""
    preferences: tuple[Preference, ...] = ()


class Verdict(StrEnum):
    """How sure the answer is."""

    CLEAR_WINNER = "clear_winner"
    EQUIVALENT = "equivalent"
    SAFE_CHOICE = "safe_choice"
    UNDECIDED = "undecided"
    NONE = "none"


Strength = Literal["shown", "probable", "open"]
"""How sure it is that the recommended loss costs at most the margin: shown by intervals, probable, or neither."""


class LookTaken(Record):
    """What a look at the confirmation found."""

    seeds: int
    """Seeds that all who were compared had in common."""
    within: int | None = None
    """The confirmations of the first so many seeds were weighed, those that were there; None where it was not kept."""
    error: float
    verdict: Verdict
    reason: str
    """Why the confirmation went on, or ended, after it; a sentence."""


class Recommended(Record):
    """The loss to train with, ready to paste."""

    family: str
    params: dict[str, float]
    lr: float
    threshold: float | None
    tau: float | None
    snippet: str
    equivalent: str | None = None
    """The same loss with other libraries, as a Python function; None where none of them agrees."""


class VariancePart(Record):
    """One source of the spread between trainings."""

    source: Literal["family", "parameters", "learning_rate", "seed", "rest"]
    sd: float
    """Standard deviation that it alone causes, in the objective."""
    share: float
    """Share of the variance, 0–1."""


class BudgetPoint(Record):
    """How the ranking of the families at one budget agrees with the last."""

    steps: int
    families: int
    tau: float | None
    """Kendall's τ-b with the ranking at the largest budget; None with fewer than 3 families, or where all are tied."""
    same_leader: bool
    """Whether the best at this budget ends within the region of practical equivalence of the best at the last."""
    """Whether the one that leads here ends within the region of practical equivalence of the best."""


class SearchAnalysis(Record):
    """What the search itself says of its result: where the spread comes from, and whether the budget sufficed."""

    parts: tuple[VariancePart, ...]
    """Empty where too few trainings completed."""
    budget: tuple[BudgetPoint, ...]
    """By ascending steps, over the rungs of the same trainings: the budget probe's, else the confirmation's where at
    least three losses were confirmed, else the search's."""
    settled_at: int | None
    """Smallest budget from which on the ranking agrees with the last; None where it never did, or cannot be said."""
    confirmation_tau: float | None
    """Kendall's τ-b between the search's and the confirmation's ranking of the finalists."""
    sentences: tuple[str, ...]
    """The same for people, each with its numbers."""


class Recommendation(Record):
    """The answer: which loss, how sure, why."""

    verdict: Verdict
    recommended: Recommended | None
    """None only for verdict `none`."""
    strength: Strength = "open"
    evidence: Evidence | None
    provisional: bool
    """True when the baseline was still improving, so that a clear verdict holds at this budget only."""
    reasons: tuple[str, ...]
    """Why this verdict, in sentences with their numbers."""
    next_steps: tuple[str, ...]
    """What would settle it, where it is not settled."""
    winners_curse: float | None
    """Search value minus confirmed test value of the recommended configuration, in mIoU."""
    analysis: SearchAnalysis | None = None


# --- 6 A whole study, as the report reads it ----------------------------------------------------------------


class SweepRecord(Record):
    """Everything the report needs, read from the study's storage alone."""

    study: str
    storage: str = STORAGE
    """Where it was read, as `--storage` names it."""
    created: str
    """UTC, ISO 8601."""
    conditions: Conditions
    profile: ImbalanceProfile
    """Of the whole data set's labels."""
    space: SearchSpace
    imbalance: float
    """Of the training split: what pos_weight is a power of (binary); commonest/rarest (multi-class)."""
    trials_asked: int
    confirm_seeds: int
    """Seeds of the last planned look."""
    rope: float
    trials: tuple[TrialResult, ...]
    """The search's counted trials, by number."""
    abandoned: int
    """Attempts cut off by a dead worker (in older studies by an interruption, too); not counted as trials."""
    differences: tuple[float, ...] = ()
    """Of each training that was begun again on another machine and gave other numbers there: by how much the objective
    differed."""
    confirmations: tuple[TrialResult, ...]
    rechecks: tuple[TrialResult, ...] = ()
    """Leaders on a second search seed, and learning rates that a finalist's family lacked."""
    probes: tuple[TrialResult, ...] = ()
    """Trainings of `--steps auto`."""
    budget: str = ""
    """What was found of the budget before the search, a sentence; "" where there was nothing to find."""
    tuned: tuple[Tuned, ...] = ()
    """The finalists' learning rates, as they were decided on before the confirmation."""
    same_losses: tuple[SameLoss, ...] = ()
    """Search trials that count as a simpler loss, of which they are another name."""
    looks_planned: tuple[Look, ...] = ()
    looks_taken: tuple[LookTaken, ...] = ()
    timeout: float | None = None
    """Seconds that the sweep was given; None = no limit."""
    cut: tuple[str, ...] = ()
    """What the time limit cut short, in sentences."""
    experiment_id: str | None
    parent_run_id: str | None
    looks: int = 1
    """How many times it was concluded, each with other confirmations, looks or ROPE than the time before."""
    workers: int | None = None
    """Processes that trained at a time; None = not known."""
    seconds: float
    """Wall-clock time of the sweep over all its sessions."""
    command: str
    """The command that repeats it."""
    versions: dict[str, str]
    """Of the session that made the study; each training has its own (`TrialResult.versions`)."""
