"""Evidence: what the confirmation shows about each finalist and each pair."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.records.data import OperatingPoint, Task
from sweeper.core.records.training import RateRange, SameLoss


class Interval(Record):
    """An estimate with its interval (95 % unless stated otherwise) and the sources of its uncertainty."""

    estimate: float
    low: float
    high: float
    se_seed: float
    """Standard error from retraining with other seeds."""
    se_image: float
    """Standard error from the choice of test images; 0 where its square was estimated below 0."""
    se_both: float = 0.0
    """Part of `se_seed` that comes from the interaction of trainings and images: it falls with more seeds and with more
    images."""
    borrowed: float = 0.0
    """Degrees of freedom of `se_seed` beyond seeds − 1, of the method with more runs where two are not paired."""

    @property
    def ends(self) -> dict[str, float]:
        """The interval without the sources of its error."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high}


Scope = Literal["both", "trainings", "images"]
"""What an interval generalises to: other trainings and other images; other trainings, scored on the same images; or the
same networks on other images."""


class Scale(Record):
    """Name of the compared score, and how its numbers are printed. Higher is better."""

    score: str = "mIoU"
    digits: int = Field(3, ge=0)
    """Decimals."""
    hundredth: float = Field(0.01, gt=0)
    """Size of 0.01 mIoU in the score's own unit; usual differences and noise are scaled by it."""


class InterimAnalysis(Record):
    """Planned interim analysis of the confirmation: its number of seeds and its level."""

    seeds: int = Field(ge=1)
    error: float = Field(gt=0, lt=1)
    """Two-sided: its intervals are at 1 − error."""
    spent: float | None = Field(None, ge=0, lt=1)
    """Probability that this analysis is the first to find a difference where there is none; 0.05 over all. 0 = too few
    seeds to establish anything. None = not known."""


class Regret(Record):
    """Possible cost of a finalist: its regret, the best finalist's true mean test score minus its own.

    Posterior values of a hierarchical model (`sweeper.evidence.regret`).
    """

    expected: float
    bound: float
    """The regret is below it with a probability of 95 %."""
    best: float
    """Probability that the regret is 0: that no finalist is better, 0–1."""
    better: float | None = None
    """Probability that it is better than the present loss, 0–1; None where that was not compared."""
    gain: float = 0.0
    """Expected gain over the present loss."""


class Contender(Record):
    """What the verdict needs of each candidate: a finalist, or a method that was trained elsewhere."""

    family: str
    """Its name."""
    seeds: tuple[int, ...]
    regret: Regret | None = None
    """Possible cost of taking it; None if unknown: one finalist, one seed, one image."""
    collapses: int = 0
    """Number of its trainings that collapsed."""
    collapses_in_search: int = 0
    """Number of trainings of the same configuration that collapsed before the confirmation."""
    other_names: tuple[str, ...] = ()
    """Families that are the same function on these data, if nothing else was tried; else ()."""
    score_at_default: float = 0.0
    """Its score at 0.5 or τ = 0; the same for all where none has an operating point."""
    lr_at_edge: bool = False
    """Whether its learning rate is at an end of the searched range."""
    skill: float | None = None
    """Test mIoU beyond that of the best constant answer, mean over its trainings; None = their counts are not known."""
    learns_class: bool = True
    """Whether a class that is not the constant answer's has an IoU above 0.05 in one of its trainings."""

    @property
    def trainings(self) -> int:
        """Number of its confirmation trainings."""
        return len(self.seeds)


class FinalistEvidence(Contender):
    """One confirmed configuration on the test split: means over its seeds, each at that run's operating point."""

    params: dict[str, float]
    lr: float
    """Recommended learning rate: the middle of `rates`; without them the one rate of all its trainings."""
    rates: RateRange | None = None
    """The range that its seeds' learning rates were drawn from; None = all have the same."""
    seed_lrs: tuple[float, ...] = ()
    """The learning rate of each of its seeds."""
    found_as: SameLoss | None = None
    """The search's other name for the same function, if it had one."""
    search_trial: int | None
    """None where its configuration is from before the search."""
    search_value: float | None
    """Objective of that trial on validation."""
    trials_tried: int = 0
    """Search trials of its family, including stopped ones."""
    trials_completed: int = 0
    """Number of these trials that were trained to the end."""
    run_ids: tuple[str, ...]
    points: tuple[OperatingPoint, ...]
    """Operating point of each run, chosen on its own validation split; with folds a seed has several runs."""
    miou: Interval
    score: Interval
    """Score in the compared metric (`Contest.scale`)."""
    fg_iou: Interval | None
    dice: float
    iou: tuple[float | None, ...]
    precision: tuple[float | None, ...]
    recall: tuple[float | None, ...]
    trainings_in_search: int = 0
    """Number of its trainings in the search, at the learning rates of its confirmation."""
    at_defaults: bool = False
    """Whether its parameters are the literature's defaults, or it has none."""
    still_rising: float
    """Gain of the objective on validation over the last quarter of the steps, mean over seeds."""
    vs_plain: Interval | None = None
    """Its test score at its own operating points less that of the present loss at 0.5 (τ = 0), on common seeds, at
    95 %: the gain over it as usually used. None where that was not confirmed."""

    @property
    def trainings(self) -> int:
        """Number of its confirmation trainings; with folds several for each seed."""
        return len(self.points)


class Comparison(Record):
    """Paired difference in the test score, `first` minus `second` (indices into `Evidence.finalists`)."""

    first: int
    second: int
    difference: Interval
    """At the level of the interim analysis at which the common seeds were complete."""
    at_least: float | None = None
    """Highest lower end of that interval and those of earlier interim analyses, which hold together; None = only one
    analysis."""
    at_most: float | None = None
    """Lowest upper end of them."""
    at_most_one_sided: float | None = None
    """Lowest one-sided upper end of them, used only for non-inferiority; None = `at_most`."""
    won: bool | None = None
    """Whether `first` beat `second` at one of these interim analyses; None = derived from the interval."""

    @property
    def floor(self) -> float:
        """Lower bound of the difference."""
        return self.difference.low if self.at_least is None else self.at_least

    @property
    def ceiling(self) -> float:
        """Upper bound of the difference."""
        return self.difference.high if self.at_most is None else self.at_most

    @property
    def one_sided(self) -> float:
        """One-sided upper bound of the difference."""
        return self.ceiling if self.at_most_one_sided is None else self.at_most_one_sided


class OtherMeasure(Record):
    """The finalists by another measure than the compared metric."""

    name: str
    scores: tuple[Interval, ...]
    """Per finalist, in the order of `Evidence.finalists`; at 95 %."""


class ClassEvidence(Record):
    """The finalists by the test IoU of one class; every field has one value per finalist, in their order."""

    name: str
    scores: tuple[Interval, ...]
    """Each at 95 %, of this class by itself."""
    gains: tuple[Interval, ...] = ()
    """Over the present loss on common seeds, likewise; () where that was not confirmed."""
    established: tuple[bool, ...] = ()
    """Whether the interval is above or below 0 also at the level at which those of all classes hold together (95 %)."""
    learned: tuple[int, ...]
    """Trainings that learned it: its IoU is above 0.05 and above its share of the pixels."""
    missed: tuple[int, ...]
    """Trainings without a collapse that did not."""


class Contest(Record):
    """Everything that the verdict is based on: the candidates, and the measurements of each pair."""

    finalists: tuple[Contender, ...]
    """Best first, by differences on common seeds."""
    comparisons: tuple[Comparison, ...]
    """All ordered pairs (first ≠ second)."""
    baseline: int | None
    """Index of the present loss among the finalists."""
    margin: float
    """Region of practical equivalence in mIoU, or in the unit of `scale`."""
    level: float = 0.95
    """Level at which the intervals of all interim analyses hold together."""
    scale: Scale = Scale()
    scope: Scope = "both"
    paired: bool = True
    """Whether a seed is the same condition for all; else each has its own, and `seeds` only counts them."""
    constant_miou: float | None = None
    """Test mIoU of predicting only the most common class (binary: only background; multi-label: all); None = not
    known."""
    test_images: int
    test_groups: int | None = None
    """Groups of related test images, which count as one image each; None = every image is its own."""
    few_groups: int | None = None
    """Number of groups of related test images if it is below 5; each still counts as one image."""
    analyses: tuple[InterimAnalysis, ...] = ()
    """The planned interim analyses; () = a single one."""
    analysis_index: int = 0
    """Index of this analysis, from 0. A comparison's interval is at 1 − error of the interim analysis at which its
    common seeds were complete: of this one, or of an earlier one for a finalist that was dropped then."""


class FinalComparison(Record):
    """Paired difference in the test score of two losses, `first` − `second`, in the final training.

    It is of the recommended loss and the present one, or of the best other and a recommended present one.
    """

    first: str
    second: str
    """Families."""
    seeds: int
    """Seeds of the final trainings."""
    steps: int
    before: Interval
    """The same difference in the confirmation: on the same images, from other seeds."""
    after: Interval
    """In the final training. With fewer than four seeds its spread over seeds is taken from the confirmation."""


class Evidence(Contest):
    """Result of the confirmation."""

    classes: tuple[str, ...]
    task: Task | None = None
    """None without test scores: binary if there are two classes, else multi-class."""
    finalists: tuple[FinalistEvidence, ...]
    """Best first, by differences on common seeds."""
    scarce: tuple[str, ...] = ()
    """Classes that occur in fewer than 5 test images (or groups of images)."""
    folds: int | None = None
    """Trainings in each seed, each scored on its own fold; the search saw these images: not held out. None = one, on a
    test split that the search never saw."""
    constant_miou: float
    others: tuple[OtherMeasure, ...] = ()
    per_class: tuple[ClassEvidence, ...] = ()
    """The classes that occur in the test images."""
    at_plain: tuple[Comparison, ...] = ()
    """Pairs of `comparisons` for the same trainings at 0.5 (τ = 0); () if no operating point was tuned."""
