"""The studies of a comparison, each with a letter, from the mildest to the severest imbalance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.core.records import FinalistEvidence, Interval, Recommendation, SweepRecord
from sweeper.report.facts import Facts, collect, difference, level_between

BASELINE = "cross_entropy"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Side:
    """One of the studies that are compared."""

    label: str
    """A letter that stands for it in tables and figures."""
    facts: Facts

    @property
    def sweep(self) -> SweepRecord:
        """Its record."""
        return self.facts.sweep

    @property
    def recommendation(self) -> Recommendation:
        """Its answer."""
        return self.facts.recommendation

    @property
    def imbalance(self) -> float:
        """Binary: background / foreground pixels; multi-class: commonest / rarest class."""
        return self.sweep.profile.imbalance

    @property
    def name(self) -> str:
        """Of the data set."""
        return self.sweep.conditions.dataset.name

    def gain(self, family: str) -> Interval | None:
        """Paired difference in test mIoU to cross-entropy; None where either was not confirmed.

        Of two configurations of a family the one with the higher estimate counts.
        """
        mine = self.finalist(family)
        return None if mine is self.facts.baseline else difference(self.facts, mine, self.facts.baseline)

    def level(self, family: str) -> float:
        """Of the interval of `gain`: of the interim analysis at which it was taken."""
        return level_between(self.facts, self.finalist(family), self.facts.baseline)

    def finalist(self, family: str) -> FinalistEvidence | None:
        """The family's best finalist."""
        return max((f for f in self.facts.finalists if f.family == family), key=lambda f: f.miou.estimate, default=None)


def sides(studies: Sequence[tuple[SweepRecord, Recommendation]]) -> tuple[Side, ...]:
    """The studies from the mildest to the severest imbalance, with a letter each (A, B, … Z, AA, …)."""
    ordered = sorted(studies, key=lambda s: (s[0].profile.imbalance, s[0].study))
    labels = [*LETTERS, *(a + b for a in LETTERS for b in LETTERS)]
    return tuple(Side(label, collect(*study)) for label, study in zip(labels, ordered, strict=False))


def families(compared: Sequence[Side]) -> tuple[str, ...]:
    """Families with a gain over cross-entropy in any study, in the order of the search spaces."""
    known = dict.fromkeys(family for side in compared for family in side.facts.families)
    return tuple(f for f in known if f != BASELINE and any(side.gain(f) is not None for side in compared))
