"""The answer: what to train with, what that gains or may cost, how sure it is, and what to mind.

It is the same record for a study, for trainings by a user's script, and for scores that were trained elsewhere. All
that is printed of it, anywhere, comes from these fields by one table of phrases (`sweeper.evidence.phrases`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.records.data import OperatingPoint
from sweeper.core.records.evidence import Scale


class Outcome(StrEnum):
    """What to do."""

    CHANGE = "change"
    """Leave the present loss: a gain over it is established."""
    KEEP = "keep"
    """Keep the present loss."""
    TAKE = "take"
    """Take this one: there is no present loss to compare with, or it failed."""
    NONE = "none"
    """Nothing can be said: nothing completed, or nothing was learned."""


class Sure(StrEnum):
    """How sure it is that the loss to use costs at most the margin; a change is always established."""

    ESTABLISHED = "established"
    """Shown by intervals, with an error of 5 % over all interim analyses."""
    PROBABLE = "probable"
    """With a probability of 95 %."""
    OPEN = "open"


class Gain(Record):
    """A difference in the score, with its 95 % interval over all interim analyses; above 0 is better."""

    estimate: float
    low: float
    high: float


Value = bool | int | float | str | tuple[str, ...]


class Remark(Record):
    """Something to mind: a code of the table of phrases, and the values in its sentence."""

    code: str
    values: dict[str, Value] = Field(default_factory=dict)


class NextStep(Remark):
    """What to do next: a code of the table of phrases with the question that it answers, and how."""

    command: str = ""
    """A command that can be pasted; "" where it is no command."""


class Use(Record):
    """The loss to train with."""

    loss: str
    params: dict[str, float] = Field(default_factory=dict)
    lr: float | None = None
    """Peak learning rate; with a user's script the factor on its own. None = as before."""
    point: OperatingPoint | None = None
    """Operating point: a threshold (two classes), τ, or a threshold for each class (multi-label); the median over its
    trainings. None = not known."""
    snippet: str = ""
    """Python text that builds loss, optimiser and decision, ready to paste; "" where sweeper has no such loss."""


Kind = Literal["loss", "method", "network"]
"""What was compared: losses, methods that were trained elsewhere, or only these networks."""


class Answer(Record):
    """The answer, a function of the evidence."""

    outcome: Outcome
    sure: Sure = Sure.OPEN
    kind: Kind = "loss"
    present: str | None = None
    """The loss that is used now, with which the others are compared; None = none was compared."""
    use: Use | None = None
    """None only for outcome `none`."""
    gain: Gain | None = None
    """Gain of `use` over `present`, both tuned alike; None where they are the same."""
    cost: float | None = None
    """Largest cost of `use` against the best that was compared (95 %), ≥ 0, in the score's unit; None = not known."""
    margin: float = 0.01
    """Differences below it do not matter."""
    level: float = 0.95
    """Level of the intervals, and of what they establish."""
    scale: Scale = Scale()
    remarks: tuple[Remark, ...] = ()
    next: tuple[NextStep, ...] = ()

    @property
    def used(self) -> str:
        """Name of the loss to use; "" if there is none."""
        return "" if self.use is None else self.use.loss

    def find(self, code: str) -> Remark | None:
        """Return the first remark of this code."""
        return next((remark for remark in self.remarks if remark.code == code), None)
