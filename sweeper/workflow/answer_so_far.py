"""What a sweep knows before it is over, said when a training changes it and with what it is not worth yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sweeper.core.events import Stored, SweepEvent
from sweeper.core.records import TrialResult
from sweeper.core.text import count
from sweeper.study.learning_rates import NOISE

IMPRESSION = 4
"""Complete trials after which there is a first impression."""

Publish = Callable[[str, str], None]
"""(sentence without a full stop, the card in markdown or ""): what is told of an answer so far."""
Card = Callable[[], tuple[str, str]]
"""Headline and whole card of what is stored by now."""


class AnswerSoFar:
    """An observer that tells it: a few trials in, after the search, and at each interim analysis."""

    def __init__(self, publish: Publish, card: Card, before: Sequence[TrialResult] = ()) -> None:
        """Make one for a session.

        Args:
            publish: is given each answer.
            card: makes the card at an interim analysis.
            before: results that the search has already.
        """
        self._publish, self._card = publish, card
        self._searched = [result for result in before if result.state == "complete"]

    def notify(self, event: SweepEvent) -> None:
        """Take a result that is stored."""
        if isinstance(event, Stored) and (event.result.state, event.result.spec.purpose) == ("complete", "search"):
            self._searched.append(event.result)
            if len(self._searched) == IMPRESSION:
                self.searched()

    def searched(self) -> None:
        """The search is over, or has a first answer."""
        if self._searched:
            self._publish(best_so_far(self._searched), "")

    def analysed(self, seeds: int) -> None:
        """An interim analysis was made after so many seeds."""
        headline, card = self._card()
        self._publish(f"{headline[:1].lower()}{headline[1:].rstrip('.')} (after {count(seeds, 'seed')})", card)


def best_so_far(results: Sequence[TrialResult]) -> str:
    """The best of a search."""
    best = max(results, key=lambda result: result.value or 0.0)
    return (
        f"{best.spec.family} is best of {count(len(results), 'trial')} (validation {best.value or 0.0:.3f}; one "
        f"training, ± {NOISE:g} by luck, and the highest of many reads high); nothing is tested yet"
    )
