"""The registry of loss families, without torch: the parent process, the command line and the search read it.

All families here are points of one kernel (`sweeper.losses.kernel`). A family fixes some of the kernel's
coordinates and leaves others free; each free one has a search range and a default from the literature. Search space,
`sweeper losses`, documentation and tests come from this declaration: adding a family means adding an entry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from pydantic import Field

from sweeper.base import Record
from sweeper.records import Coordinate, Task

TASKS: tuple[Task, ...] = get_args(Task)


class LossCoordinate(Record):
    """One free number of a family."""

    search: Coordinate | None = None
    """Range searched by the shipped spaces; None: `build_loss` takes it, the shipped spaces leave it alone."""
    start: float | None = None
    """Literature default on the scale of `search` (an exponent for `power_of_imbalance`): the first trial's value."""
    default: float | None = None
    """What `build_loss` uses when it is not given. None: `alpha` is then off, `fp_weight` is 1 − fn_weight, and
    `pos_weight` has to be given, because only the data can decide it."""


class Family(Record):
    """A kind of loss."""

    name: str
    title: str
    """For people."""
    fixed: dict[str, float]
    """Coordinates of the kernel that define the family."""
    coordinates: dict[Task, dict[str, LossCoordinate]]
    """Free coordinates for each task it can be used for."""
    helps: str
    """When to expect something of it, in one sentence."""
    caveat: str
    """When not, or what to watch, in one sentence."""
    source: str
    formula: str
    """The loss on one line, in the symbols of the kernel (`sweeper.losses.kernel`)."""
    packable: bool = True
    """Can be trained side by side with others on one GPU: static shapes, no input beyond logits and target."""
    relative: bool = False
    """Not a point of the kernel, but a loss of its own with the same conventions."""
    needs_distance: bool = False
    """Wants `loss(logits, target, distance=…)`: signed distances to the class boundaries."""
    build: Callable[..., Any] | None = Field(default=None, exclude=True)
    """How to make the module: `build(*, task, ignore_index, class_frequencies, **coordinates)`, called with every free
    coordinate that has a value, checked. None: the kernel. Not part of the JSON."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks it can be used for."""
        return tuple(self.coordinates)

    def searched(self, task: Task) -> dict[str, LossCoordinate]:
        """Free coordinates that the shipped spaces search."""
        return {name: free for name, free in self.coordinates[task].items() if free.search is not None}


def _uniform(low: float, high: float) -> Coordinate:
    return Coordinate(kind="uniform", low=low, high=high)


_IMBALANCE_POWER = Coordinate(kind="power_of_imbalance", low=0.0, high=1.1)
_MIX = LossCoordinate(search=_uniform(0.0, 1.0), start=0.5, default=0.5)
_GAMMA = LossCoordinate(search=_uniform(0.0, 5.0), start=2.0, default=2.0)
# α and the weight of rare pixels are one coordinate (w = α / (1 − α)): no family has both.
_ALPHA = LossCoordinate(search=_uniform(0.05, 0.95), start=0.25, default=0.25)
# Lin's 0.25 is for one foreground against background; the softmax form is commonly used without α, which up to a
# factor of the whole loss is α = 0.5.
_ALPHA_MULTICLASS = LossCoordinate(search=_uniform(0.05, 0.95), start=0.5, default=None)
_DICE_WEIGHTS = {"fp_weight": 0.5, "fn_weight": 0.5}
_TVERSKY = {
    "fn_weight": LossCoordinate(search=_uniform(0.3, 0.9), start=0.7, default=0.7),
    "fp_weight": LossCoordinate(start=0.3),
    "overlap_exponent": LossCoordinate(start=0.75, default=1.0),
}

_DECLARED = (
    Family(
        name="cross_entropy",
        title="Cross-entropy",
        fixed={"mix": 1.0},
        coordinates={"binary": {}, "multiclass": {}},
        helps="Classes of similar size, clean labels, or when calibrated probabilities matter: the baseline.",
        caveat="Rare classes hardly count: each pixel weighs the same.",
        source="Long et al. 2015, Fully Convolutional Networks, arXiv:1411.4038",
        formula="CE = −mean log p_t",
    ),
    Family(
        name="weighted_ce",
        title="Weighted cross-entropy",
        fixed={"mix": 1.0},
        coordinates={
            "binary": {"pos_weight": LossCoordinate(search=_IMBALANCE_POWER, start=1.0)},
            # Not 1: full inverse frequency does poorly on long tails, its square root is the usual softening
            # (Cui et al. 2019, sections 1 and 2).
            "multiclass": {"class_weight_power": LossCoordinate(search=_uniform(0.0, 1.1), start=0.5, default=0.5)},
        },
        helps="Rare classes that are missed: raises recall by making their pixels weigh more.",
        caveat="Probabilities come out too high for rare classes; choose the threshold on validation.",
        source="Xie & Tu 2015, HED, arXiv:1504.06375; Cui et al. 2019, Class-Balanced Loss, arXiv:1901.05555",
        formula="CE(w) = −mean w_t log p_t",
    ),
    Family(
        name="focal",
        title="Focal",
        fixed={"mix": 1.0},
        coordinates={
            "binary": {"gamma": _GAMMA, "alpha": _ALPHA},
            "multiclass": {"gamma": _GAMMA, "alpha": _ALPHA_MULTICLASS},
        },
        helps="A great many easy pixels that drown the few hard ones, such as distractors and thin borders.",
        caveat="Follows wrong labels, which look like hard pixels; under-confident probabilities.",
        source="Lin et al. 2017, Focal Loss for Dense Object Detection, arXiv:1708.02002",
        formula="CE(γ, α) = −mean α_t (1 − p_t)^γ log p_t",
    ),
    Family(
        name="dice",
        title="Dice",
        fixed={"mix": 0.0, **_DICE_WEIGHTS},
        coordinates={"binary": {}, "multiclass": {}},
        helps="Small foregrounds scored by overlap: optimises a soft form of the score itself.",
        caveat="Over-confident probabilities; noisy gradients when a batch holds few pixels of a class.",
        source="Milletari et al. 2016, V-Net, arXiv:1606.04797; this form: Drozdzal et al. 2016, arXiv:1608.04117",
        formula="mean_c (1 − TI_c(½, ½)), TI_c(a, b) = (TP_c + 1) / (TP_c + a FP_c + b FN_c + 1)",
    ),
    Family(
        name="tversky",
        title="Tversky",
        fixed={"mix": 0.0},
        coordinates={"binary": _TVERSKY, "multiclass": _TVERSKY},
        helps="Missed pixels cost more than false alarms, or the reverse: fn_weight trades recall for precision.",
        caveat="As Dice; far from 0.5 it no longer follows the overlap score.",
        source="Salehi et al. 2017, arXiv:1706.05721; exponent: Abraham & Khan 2019, arXiv:1810.07842",
        formula="mean_c (1 − TI_c(a, b))^κ, a = 1 − b unless given",
    ),
    Family(
        name="dice_ce",
        title="Dice + cross-entropy",
        fixed=_DICE_WEIGHTS,
        coordinates={
            "binary": {
                "mix": _MIX,
                "pos_weight": LossCoordinate(search=_IMBALANCE_POWER, start=0.0, default=1.0),
            },
            "multiclass": {
                "mix": _MIX,
                "class_weight_power": LossCoordinate(search=_uniform(0.0, 1.1), start=0.0, default=0.0),
            },
        },
        helps="The safe choice under imbalance: overlap for rare classes, cross-entropy for smooth gradients.",
        caveat="Two parts on different scales: the best mix depends on the data.",
        source="Isensee et al. 2021, nnU-Net, arXiv:1904.08128; Taghanaki et al. 2019, Combo Loss, arXiv:1805.02798",
        formula="λ · CE(w) + (1 − λ) · mean_c (1 − TI_c(½, ½))",
    ),
    Family(
        name="dice_focal",
        title="Dice + focal",
        fixed=_DICE_WEIGHTS,
        coordinates={task: {"mix": _MIX, "gamma": _GAMMA} for task in TASKS},
        helps="Strong imbalance with hard examples: overlap for rare classes, focal for their borders.",
        caveat="Follows wrong labels as focal does; one coordinate more to tune than Dice.",
        source="Zhu et al. 2019, AnatomyNet, arXiv:1808.05238",
        formula="λ · CE(γ) + (1 − λ) · mean_c (1 − TI_c(½, ½))",
    ),
)

FAMILIES: dict[str, Family] = {family.name: family for family in _DECLARED}
"""All families by name, simplest first: the declared order that settles ties and orders the first trials."""
