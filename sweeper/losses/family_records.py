"""Records of loss families, and the coordinates of the kernel with their limits and meanings. No torch.

A coordinate that one family alone has is declared with that family.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

from sweeper.core.base import Record
from sweeper.core.records import Coordinate, Task

DISTANCE_WORDS = "signed distances to the class boundaries, shaped as the logits"
"""Description of the maps of the labels that a loss can need."""
TASKS: tuple[Task, ...] = get_args(Task)
"""Tasks that losses can be built for."""


class ValueLimits(NamedTuple):
    """Limits of a coordinate; `open_low` and `open_high` exclude an end."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def find_problem(self, value: float) -> str | None:
        """Return the rule if `value` breaks it, else None."""
        excluded = (self.open_low and value == self.low) or (self.open_high and value == self.high)
        if math.isfinite(value) and self.low <= value <= self.high and not excluded:
            return None
        low = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        return f"must be {low} and {'below' if self.open_high else 'at most'} {self.high:g}"


class LossCoordinate(Record):
    """One free number of a family."""

    search: Coordinate | None = None
    """Range searched by the shipped spaces; None: `build_loss` takes it, the shipped spaces leave it alone."""
    start: float | None = None
    """Literature default on the scale of `search` (an exponent for `power_of_imbalance`): the first trial's value."""
    default: float | None = None
    """Default of `build_loss`. None: `alpha` is then off, `fp_weight` is 1 − fn_weight, and `pos_weight` must be
    given, because only the data can decide it."""
    limits: ValueLimits | None = None
    """Values that `build_loss` accepts; None for a coordinate of the kernel, which has its own."""
    meaning: str | None = None
    """Meaning, in half a sentence; None for a coordinate of the kernel."""


class LossFamily(Record):
    """A kind of loss."""

    name: str
    title: str
    """Name for display."""
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
    relative: bool = False
    """Not a point of the kernel, but a loss of its own with the same conventions."""
    needs_map: Literal["distance"] | None = None
    """Argument of the loss by which it wants a map of the labels, which sweeper keeps with the data."""
    images_only: bool = False
    """Whether it looks at neighbouring pixels, and takes no volumes."""
    module: str | None = None
    """Module of a loss outside the kernel: the function of its name in `sweeper.losses.MODULE`. None: a point of the
    kernel."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks it can be used for."""
        return tuple(self.coordinates)

    @property
    def call_signature(self) -> str | None:
        """Call of a loss that wants a map of the labels; None for all others."""
        if self.needs_map is None:
            return None
        return f"Takes `loss(logits, target, {self.needs_map}=…)`: {DISTANCE_WORDS}."

    def list_searched(self, task: Task) -> dict[str, LossCoordinate]:
        """Free coordinates that the shipped spaces search."""
        return {name: free for name, free in self.coordinates[task].items() if free.search is not None}


def uniform_range(low: float, high: float) -> Coordinate:
    """Return a range that is searched evenly."""
    return Coordinate(kind="uniform", low=low, high=high)


def for_all_tasks(**free: LossCoordinate) -> dict[Task, dict[str, LossCoordinate]]:
    """Return the same free coordinates for every task."""
    return {task: dict(free) for task in TASKS}


# --- Coordinates of the kernel ---


KERNEL_LIMITS: dict[str, ValueLimits] = {
    "mix": ValueLimits(0, 1),
    "gamma": ValueLimits(0, 50),
    "alpha": ValueLimits(0, 1),
    "pos_weight": ValueLimits(0, 1e9, open_low=True),
    "class_weight_power": ValueLimits(0, 2),
    "fp_weight": ValueLimits(0, 100),
    "fn_weight": ValueLimits(0, 100),
    "overlap_exponent": ValueLimits(0, 10, open_low=True),
    "hard_fraction": ValueLimits(0, 1, open_low=True),
    "boundary_weight": ValueLimits(0, 1000),
}
"""Values that `build_loss` accepts; searches keep well inside. Beyond the high ends float32 makes no difference."""
POWER_LIMITS = ValueLimits(0, 2)
"""Exponents of the imbalance."""

KERNEL_MEANINGS: dict[str, str] = {
    "mix": "weight of the cross-entropy part; the overlap part has 1 − mix",
    "gamma": "focal exponent; 0 = cross-entropy",
    "alpha": "focal balance: foreground × α, background × (1 − α); multi-class: most common class × (1 − α), rest × α",
    "pos_weight": "weight of foreground pixels in the cross-entropy part",
    "class_weight_power": "p in the class weights w ∝ f^−p, with f the class's share of the pixels",
    "fp_weight": "weight of false positives in the overlap part",
    "fn_weight": "weight of false negatives in the overlap part",
    "overlap_exponent": "exponent of 1 − Tversky index",
    "hard_fraction": "share of the labelled pixels, the hardest ones, that the cross-entropy part averages over",
    "boundary_weight": "pixels within 2 of a class boundary weigh 1 + this in the cross-entropy part",
}

IMBALANCE_POWER = Coordinate(kind="power_of_imbalance", low=0.0, high=1.1)
MIX = LossCoordinate(search=uniform_range(0.0, 1.0), start=0.5, default=0.5)
GAMMA = LossCoordinate(search=uniform_range(0.0, 5.0), start=2.0, default=2.0)
# Lin's 0.25 is for one foreground against background; the softmax form is commonly used without α, which up to a
# factor of the whole loss is α = 0.5.
ALPHA_MULTICLASS = LossCoordinate(search=uniform_range(0.05, 0.95), start=0.5, default=None)
DICE_WEIGHTS = {"fp_weight": 0.5, "fn_weight": 0.5}
POWER = LossCoordinate(search=IMBALANCE_POWER, start=1.0)
# nnU-Net's top-k takes the hardest tenth.
HARD = LossCoordinate(search=Coordinate(kind="log", low=0.02, high=1.0), start=0.1, default=0.1)
