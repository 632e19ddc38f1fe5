"""Progress of the current phase, counted once for both the terminal and the status file."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import NamedTuple

from sweeper.core.events import ResultStored, SweepEvent, TrainingPaused, TrainingResumed
from sweeper.core.records import TrialResult, TrialSpec


class PhaseCounts(NamedTuple):
    """Number of a study's trainings in a phase, by outcome."""

    ended: tuple[TrialResult, ...] = ()
    waiting: tuple[TrialSpec, ...] = ()
    """Trials that wait at a rung."""

    @property
    def done(self) -> int:
        """Number of trainings that ended or wait at their rung."""
        return len(self.ended) + len(self.waiting)

    @property
    def complete(self) -> int:
        """Number of trainings that were trained to the end."""
        return sum(result.state == "complete" for result in self.ended)


NO_TRAININGS = PhaseCounts()
NOT_KNOWN = "time left not known yet"
"""Forecast before the first measurement."""


@dataclass
class FamilyProgress:
    """Progress of a family's trainings in a phase."""

    values: list[float] = field(default_factory=list)
    """Values of its finished trainings."""
    trainings: int = 0
    stopped: int = 0
    collapsed: int = 0
    failed: int = 0


@dataclass
class PhaseProgress:
    """Progress of a phase, or up to its next interim analysis, by family, including earlier sessions."""

    name: str = ""
    total: int = 0
    held: InitVar[PhaseCounts] = NO_TRAININGS
    """Trainings that the study already has of it."""
    done: int = 0
    families: dict[str, FamilyProgress] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    """Trials that wait at a rung, counted as done on their first arrival."""

    def __post_init__(self, held: PhaseCounts) -> None:
        for result in held.ended:
            self.count_ended(result)
        for spec in held.waiting:
            self.count_waiting(spec)

    def notify(self, event: SweepEvent) -> None:
        """Count a training that ended or waits."""
        match event:
            case TrainingPaused(spec, _) | TrainingResumed(spec, _):
                self.count_waiting(spec)
            case ResultStored(result):
                self.count_ended(result)

    def count_waiting(self, spec: TrialSpec) -> None:
        """Count a trial that waits, or that waited in an earlier session, once."""
        if spec.number not in self.waiting:
            self.waiting.add(spec.number)
            self._count_family(spec.family)

    def count_ended(self, result: TrialResult) -> None:
        """Count a training that ended."""
        if not self.has_waited(result.spec):
            self._count_family(result.spec.family)
        family = self.families[result.spec.family]
        family.stopped += result.state == "pruned"
        family.failed += result.state == "failed"
        family.collapsed += result.has_collapsed
        if result.state == "complete":
            family.values.append(result.score)

    def has_waited(self, spec: TrialSpec) -> bool:
        """Return whether this training was counted when it came to its rung."""
        return spec.purpose == "search" and spec.number in self.waiting

    def rank_families(self) -> dict[str, float]:
        """Rank families by their validation values, best first: their best one, in a confirmation the mean."""
        values = {name: family.values for name, family in self.families.items() if family.values}
        scores = {name: sum(v) / len(v) if self.name in ("first", "confirm") else max(v) for name, v in values.items()}
        return dict(sorted(scores.items(), key=lambda one: -one[1]))

    def _count_family(self, family: str) -> None:
        self.done += 1
        self.total = max(self.total, self.done)  # an idle worker may begin trainings of the next interim analysis
        self.families.setdefault(family, FamilyProgress()).trainings += 1
