"""Records of loss families, and the coordinates that several families of the kernel have. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeVar, get_args

from sweeper.core.base import Record
from sweeper.core.records import Coordinate, Task

DISTANCE_WORDS = "signed distances to the class boundaries, shaped as the logits"
"""Description of the label map that a loss can need."""
TASKS: tuple[Task, ...] = get_args(Task)
"""Tasks for which losses can be built."""
Role = Literal[
    "mix",
    "gamma",
    "alpha",
    "pos_weight",
    "class_weight_power",
    "alpha_power",
    "fp_weight",
    "fn_weight",
    "overlap_exponent",
    "hard_fraction",
    "boundary_weight",
]
"""Parameters of the kernel. What a coordinate does is declared by its role, never derived from its name."""
Mapped = TypeVar("Mapped")


class ValueLimits(NamedTuple):
    """Limits of a coordinate; `open_low` and `open_high` exclude the limit itself."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def is_allowed(self, value: float) -> bool:
        """Return whether a value is finite and within the limits."""
        if value == self.low and self.open_low:
            return False
        if value == self.high and self.open_high:
            return False
        return math.isfinite(value) and self.low <= value <= self.high

    @property
    def text(self) -> str:
        """The rule: `above 0 and at most 10`."""
        low, high = ("above", "at least")[not self.open_low], ("below", "at most")[not self.open_high]
        return f"{low} {self.low:g} and {high} {self.high:g}"


class LossCoordinate(Record):
    """A free coordinate of a family."""

    role: Role | None = None
    """The parameter of the kernel that it is; None = it has no counterpart in the kernel."""
    search: Coordinate | None = None
    """Range searched by the shipped spaces; None: these omit the coordinate, but your own space may search it."""
    start: float | None = None
    """First trial's value: the literature default, on the scale of `search` (an exponent for `power_of_imbalance`)."""
    default: float | None = None
    """Default of `build_loss`. None: it is off if `optional`, else required, because it depends on the data."""
    optional: bool = False
    """Whether None turns it off; without a weight of false positives, this is 1 − that of false negatives."""
    neutral: float | None = None
    """Value at which the loss is the same without it, up to a factor."""
    frequencies: Literal["needed", "used"] | None = None
    """Whether the loss needs class frequencies while the coordinate is on, or only uses those that it gets."""
    limits: ValueLimits
    """Values that `build_loss` accepts; search ranges are much narrower."""
    meaning: str
    """Meaning, in half a sentence."""

    def is_on(self, value: object) -> bool:
        """Return whether the coordinate has an effect at this value."""
        return value != (None if self.optional else self.neutral)


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

    def map_roles(self, task: Task, values: Mapping[str, Mapped]) -> dict[str, Mapped]:
        """Return the values of the coordinates that have a role, by role."""
        free = self.coordinates[task]
        by_role = {free[name].role: value for name, value in values.items()}
        return {role: value for role, value in by_role.items() if role is not None}

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

POWER_LIMITS = ValueLimits(0, 2)
"""Exponents of the imbalance."""

MIX = LossCoordinate(
    role="mix",
    search=make_uniform_range(0.0, 1.0),
    start=0.5,
    default=0.5,
    limits=ValueLimits(0, 1),
    meaning="weight of the cross-entropy part; the overlap part has 1 − mix",
)
GAMMA = LossCoordinate(
    role="gamma",
    search=make_uniform_range(0.0, 5.0),
    start=2.0,
    default=2.0,
    neutral=0.0,
    limits=ValueLimits(0, 50),
    meaning="focal exponent; 0 = cross-entropy",
)
# No family has both α and a weight of the foreground: they are one coordinate (w = α / (1 − α)).
ALPHA = LossCoordinate(
    role="alpha",
    search=make_uniform_range(0.05, 0.95),
    start=0.25,
    default=0.25,
    optional=True,
    neutral=0.5,
    limits=ValueLimits(0, 1),
    meaning="focal balance: foreground × α, background × (1 − α); multi-class: most common class × (1 − α), rest × α",
)
# Lin's 0.25 is for one foreground against background. The softmax form is commonly used without α; this equals
# α = 0.5, up to a factor of the whole loss.
ALPHA_MULTICLASS = ALPHA.model_copy(update={"start": 0.5, "default": None, "frequencies": "needed"})
POS_WEIGHT = LossCoordinate(
    role="pos_weight",
    search=Coordinate(kind="power_of_imbalance", low=0.0, high=1.1),
    start=1.0,
    neutral=1.0,
    limits=ValueLimits(0, 1e9, open_low=True),
    meaning="weight of foreground pixels in the cross-entropy part",
)
# Inverse frequency (1) does poorly on long tails; its square root (0.5) is the usual choice (Cui et al. 2019, sections
# 1 and 2).
CLASS_WEIGHT_POWER = LossCoordinate(
    role="class_weight_power",
    search=make_uniform_range(0.0, 1.1),
    start=0.5,
    default=0.5,
    neutral=0.0,
    frequencies="needed",
    limits=POWER_LIMITS,
    meaning="p in the class weights w ∝ f^−p, with f the class's share of the pixels",
)
PLANE_WEIGHT_POWER = CLASS_WEIGHT_POWER.model_copy(
    update={"meaning": "p in the weight of each class's own pixels, (other / own labelled pixels)^p"}
)
ALPHA_POWER = LossCoordinate(
    role="alpha_power",
    search=make_uniform_range(0.0, 1.1),
    start=0.0,
    default=0.0,
    neutral=0.0,
    frequencies="needed",
    limits=POWER_LIMITS,
    meaning="p in each class's focal balance α = w / (1 + w), w = (other / own labelled pixels)^p; 0 = no balance",
)
FP_WEIGHT = LossCoordinate(
    role="fp_weight",
    start=0.3,
    optional=True,
    neutral=0.5,
    limits=ValueLimits(0, 100),
    meaning="weight of false positives in the overlap part",
)
FN_WEIGHT = LossCoordinate(
    role="fn_weight",
    search=make_uniform_range(0.3, 0.9),
    start=0.7,
    default=0.7,
    neutral=0.5,
    limits=ValueLimits(0, 100),
    meaning="weight of false negatives in the overlap part",
)
OVERLAP_EXPONENT = LossCoordinate(
    role="overlap_exponent",
    start=0.75,
    default=1.0,
    neutral=1.0,
    limits=ValueLimits(0, 10, open_low=True),
    meaning="exponent of 1 − Tversky index",
)
# nnU-Net's top-k takes the hardest tenth.
HARD = LossCoordinate(
    role="hard_fraction",
    search=Coordinate(kind="log", low=0.02, high=1.0),
    start=0.1,
    default=0.1,
    neutral=1.0,
    limits=ValueLimits(0, 1, open_low=True),
    meaning="share of the labelled pixels, the hardest ones, that the cross-entropy part averages over",
)
BOUNDARY_WEIGHT = LossCoordinate(
    role="boundary_weight",
    search=make_uniform_range(0.0, 20.0),
    start=5.0,
    default=5.0,
    neutral=0.0,
    limits=ValueLimits(0, 1000),
    meaning="pixels within 2 of a class boundary weigh 1 + this in the cross-entropy part",
)
