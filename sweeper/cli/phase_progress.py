"""What has happened in a phase of a sweep, family by family."""

from __future__ import annotations

from dataclasses import dataclass, field

from sweeper.core.records import Collapse, TrialResult, TrialSpec


@dataclass
class FamilyProgress:
    """What the trainings of a family reached in a phase."""

    values: list[float] = field(default_factory=list)
    trials: int = 0
    stopped: int = 0
    collapsed: int = 0
    failed: int = 0
    waiting: dict[int, float] = field(default_factory=dict)
    """What trials that wait at a rung reached there, mostly on a part of the validation images, by number."""

    @property
    def best(self) -> float | None:
        """Of its finished trainings."""
        return max(self.values, default=None)

    @property
    def mean(self) -> float | None:
        """The same, over all of them."""
        return sum(self.values) / len(self.values) if self.values else None

    @property
    def best_waiting(self) -> float | None:
        """Of the trials that wait, where it is more than any finished one reached."""
        top = max(self.waiting.values(), default=None)
        return top if top is not None and (self.best is None or top > self.best) else None


@dataclass
class PhaseProgress:
    """What has happened in the phase at hand."""

    name: str = ""
    preparing: str = "preparing"
    done: int = 0
    total: int = 0
    families: dict[str, FamilyProgress] = field(default_factory=dict)
    running: dict[tuple[str, int], str] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    """Trials that wait at a rung: counted as done when they first came there."""

    def begin(self, name: str, done: int, total: int) -> None:
        """A phase, or the next interim analysis, with so many trainings done already."""
        if name != self.name:  # a confirmation begins anew with each interim analysis; its means are over all seeds
            self.families = {}
        self.name, self.done, self.total = name, done, total
        self.running, self.waiting = {}, set()

    def wait(self, spec: TrialSpec, value: float | None = None) -> None:
        """Count a trial that waits, once, and note what it reached; without a value it goes on."""
        if spec.number not in self.waiting:
            self.waiting.add(spec.number)
            self.done += 1
            self.families.setdefault(spec.family, FamilyProgress()).trials += 1
        waiting = self.families.setdefault(spec.family, FamilyProgress()).waiting
        waiting.pop(spec.number, None)
        if value is not None:
            waiting[spec.number] = value

    def add(self, result: TrialResult) -> None:
        """Count a training that ended."""
        family = self.families.setdefault(result.spec.family, FamilyProgress())
        if not (result.spec.purpose == "search" and result.spec.number in self.waiting):
            self.done += 1
            family.trials += 1
        family.waiting.pop(result.spec.number, None)
        family.stopped += result.state == "pruned"
        family.failed += result.state == "failed"
        family.collapsed += result.collapse != Collapse.NONE
        if result.state == "complete" and result.value is not None:
            family.values.append(result.value)


def clock_text(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
