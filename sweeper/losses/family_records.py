"""Records of loss families, and the coordinates of the kernel with their limits and meanings. No torch.

A coordinate of only one family is declared with the family.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

from sweeper.core.base import Record
from sweeper.core.records import Coordinate, Task

DISTANCE_WORDS = "signed distances to the class boundaries, shaped as the logits"
"""Description of the label map that a loss can need."""
TASKS: tuple[Task, ...] = get_args(Task)
"""Tasks for which losses can be built."""


class ValueLimits(NamedTuple):
    """Limits of a coordinate; `open_low` and `open_high` exclude the limit itself."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def find_problem(self, value: float) -> str | None:
        """Return the broken rule, or None if `value` is allowed."""
        excluded = (self.open_low and value == self.low) or (self.open_high and value == self.high)
        if math.isfinite(value) and self.low <= value <= self.high and not excluded:
            return None
        low = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        return f"must be {low} and {'below' if self.open_high else 'at most'} {self.high:g}"


class LossCoordinate(Record):
    """A free coordinate of a family."""

    search: Coordinate | None = None
    """Range searched by the shipped spaces; None: these omit the coordinate, but your own space may search it."""
    start: float | None = None
    """First trial's value: the literature default, on the scale of `search` (an exponent for `power_of_imbalance`)."""
    default: float | None = None
    """Default of `build_loss`. With None, `alpha` is off, `fp_weight` is 1 − fn_weight, and `pos_weight` is required,
    because it depends on the data."""
    limits: ValueLimits | None = None
    """Values that `build_loss` accepts; None for a coordinate of the kernel (`KERNEL_LIMITS`)."""
    meaning: str | None = None
    """Meaning, in half a sentence; None for a coordinate of the kernel (`KERNEL_MEANINGS`)."""


class LossFamily(Record):
    """A loss with hyper-parameters."""

    name: str
    title: str
    """Name for display."""
    fixed: dict[str, float] = {}  # noqa: RUF012 — pydantic copies it
    """Coordinates of the kernel that define the family, where they differ from the defaults of `KernelSettings`."""
    coordinates: dict[Task, dict[str, LossCoordinate]]
    """Free coordinates of each supported task."""
    helps: str
    """When the family helps, in one sentence."""
    caveat: str
    """When it does not help, or what to watch, in one sentence."""
    source: str
    formula: str
    """The loss on one line, in the symbols of the kernel (`sweeper.losses.kernel`)."""
    needs_map: Literal["distance"] | None = None
    """Argument of the loss for a map of the labels, which sweeper stores with the data; None = no map."""
    images_only: bool = False
    """Whether it refuses volumes, because it depends on neighbouring pixels."""
    module: str | None = None
    """Module of a loss outside the kernel: `sweeper.losses.MODULE` has the function of the family's name.
    None: a point of the kernel, or the user's loss."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Supported tasks."""
        return tuple(self.coordinates)

    @property
    def call_signature(self) -> str | None:
        """How to call a loss that needs a map of the labels; None for all others."""
        if self.needs_map is None:
            return None
        return f"Takes `loss(logits, target, {self.needs_map}=…)`: {DISTANCE_WORDS}."


def make_uniform_range(low: float, high: float) -> Coordinate:
    """Return a range that is searched uniformly."""
    return Coordinate(kind="uniform", low=low, high=high)


def repeat_for_all_tasks(**free: LossCoordinate) -> dict[Task, dict[str, LossCoordinate]]:
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
"""Values that `build_loss` accepts; search ranges are much narrower. Values above the limits make no difference in
float32."""
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
MIX = LossCoordinate(search=make_uniform_range(0.0, 1.0), start=0.5, default=0.5)
GAMMA = LossCoordinate(search=make_uniform_range(0.0, 5.0), start=2.0, default=2.0)
# Lin's 0.25 is for one foreground against background. The softmax form is commonly used without α; this equals
# α = 0.5, up to a factor of the whole loss.
ALPHA_MULTICLASS = LossCoordinate(search=make_uniform_range(0.05, 0.95), start=0.5, default=None)
POWER = LossCoordinate(search=IMBALANCE_POWER, start=1.0)
# nnU-Net's top-k takes the hardest tenth.
HARD = LossCoordinate(search=Coordinate(kind="log", low=0.02, high=1.0), start=0.1, default=0.1)
