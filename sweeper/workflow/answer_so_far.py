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
    """An observer that tells it: a few trials in, after the search, after one seed, and at each interim analysis."""

    def __init__(self, losses: int, publish: Publish, card: Card, before: Sequence[TrialResult] = ()) -> None:
        """Make one for a session.

        Args:
            losses: how many the search space has.
            publish: is given each answer.
            card: makes the card at an interim analysis.
            before: results that the search has already.
        """
        self._losses, self._publish, self._card = losses, publish, card
        self._searched = [result for result in before if result.state == "complete"]
        self._finalists = 0
        self._first_seed: dict[str, TrialResult] = {}

    def notify(self, event: SweepEvent) -> None:
        """Take a result that is stored."""
        if not isinstance(event, Stored) or event.result.state != "complete":
            return
        result = event.result
        if result.spec.purpose == "search":
            self._searched.append(result)
            if len(self._searched) == IMPRESSION:
                self._publish(first_impression(self._searched, self._losses), "")
        elif result.spec.purpose == "confirm":
            self._confirmed(result)

    def searched(self) -> None:
        """The search is over."""
        if self._searched:
            self._publish(best_so_far(self._searched), "")

    def confirming(self, finalists: int, *, folds: bool) -> None:
        """The confirmation begins; with `folds` a first seed is many trainings, and is not told."""
        self._finalists = 0 if folds else finalists

    def analysed(self, seeds: int) -> None:
        """An interim analysis was made after so many seeds."""
        headline, card = self._card()
        self._publish(f"after {count(seeds, 'seed')}: {headline.rstrip('.')}", card)

    def _confirmed(self, result: TrialResult) -> None:
        others = {other.spec.seed for other in self._first_seed.values()}
        if others and min(others) != result.spec.seed:
            return
        self._first_seed[result.spec.family] = result
        if 1 < len(self._first_seed) == self._finalists:
            self._publish(after_one_seed(list(self._first_seed.values())), "")
            self._finalists = 0


def first_impression(results: Sequence[TrialResult], losses: int) -> str:
    """Which loss leads after the first complete trials."""
    tried = len({result.spec.family for result in results})
    return (
        f"a first impression, no answer: {_best(results).spec.family} leads, with {count(len(results), 'trial')} of "
        f"{tried} of {count(losses, 'loss', 'losses')}; the leader often changes"
    )


def best_so_far(results: Sequence[TrialResult]) -> str:
    """The best of a whole search."""
    best = _best(results)
    return (
        f"{best.spec.family} is best (validation {best.value or 0.0:.3f}; one training, ± {NOISE:g} by luck, and the "
        "highest of many reads high); nothing is tested yet"
    )


def after_one_seed(results: Sequence[TrialResult]) -> str:
    """One fresh training of each finalist."""
    first, second = sorted(results, key=lambda result: -(result.value or 0.0))[:2]
    gap = (first.value or 0.0) - (second.value or 0.0)
    return (
        f"one fresh training of each finalist: {first.spec.family} reads +{gap:.3f} above {second.spec.family} on "
        "validation images; one seed gives no interval"
    )


def _best(results: Sequence[TrialResult]) -> TrialResult:
    return max(results, key=lambda result: result.value or 0.0)
