"""How much is tried where steps are dear: trials, losses and seeds that fit into a given time.

Trials become fewer first, then losses, in the order of the advice, down to cross-entropy against two others, each
in one trial. Cross-entropy, the other loss of the ladder, whose trainings are there, and a loss of the user's stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sweeper.core.records import Breadth, SearchSpace, TrialResult
from sweeper.space import FLOOR, list_first_trials
from sweeper.study.budget_ladder import choose_ladder_pair
from sweeper.study.finalist import BASELINE, LEADERS
from sweeper.study.search_end import PATIENCE

TRAINED = 0.8
"""Of the search's steps, what is trained at most, as trials stop at their rungs, the first of which is at the half."""
LEAST = 3
"""Losses that are compared at least."""
SLACK = 1.1
"""A confirmation is tested, too: its step takes so much longer."""
MOST_SEEDS = 8
"""Seeds of a finalist, where none are given."""
OTHER_SECONDS = 30.0
"""What the start of the workers and the report take."""


class BreadthRequest(NamedTuple):
    """What the user gave, which stays; None = not given."""

    trials: int
    """The search's total."""
    settles: bool
    """Whether that is only its end at the latest, as none was given."""
    confirm_steps: int | None
    seeds: tuple[int, int] | None
    longer: int | None = None
    """Times the confirmation's steps of the longer look; None = none is made."""


class LadderPace(NamedTuple):
    """What was measured on the ladder."""

    seconds: float
    """Of a training by the step, evaluations and all."""
    workers: int
    spent: float
    """Seconds that the ladder took."""

    def seconds_to_next_rung(self, steps: int) -> float:
        """Return the seconds up to the end of a rung of so many steps, and of a sweep that ends with it."""
        return OTHER_SECONDS + self.spent + steps * self.seconds * math.ceil(2 / self.workers)


def measure_pace(results: Sequence[TrialResult], workers: int) -> LadderPace:
    """Return the pace of the ladder's trainings, that of the longest ones."""
    most = max((r.spec.steps for r in results), default=1)
    last = [r.seconds / r.spec.steps for r in results if r.spec.steps == most]
    seconds = sum(last) / max(1, len(last))
    return LadderPace(seconds, workers, sum(r.seconds for r in results) / min(2, workers))


def find_broadest(
    space: SearchSpace, wish: BreadthRequest, pace: LadderPace, *, steps: int, own: Sequence[str], limit: float
) -> Breadth | None:
    """Return the broadest comparison at so many steps that ends in time; None where none does.

    Args:
        space: what may be searched.
        wish: what the user gave.
        pace: of the trainings.
        steps: of a trial; the ladder's trainings of so many steps are there.
        own: losses of the user's.
        limit: seconds from the ladder's beginning to the report.
    """
    for found in _list_comparisons(space, wish, steps, own):
        if (seconds := _forecast_seconds(found, wish, pace, steps)) <= limit:
            look = (wish.longer or 0) * found.confirm_steps * math.ceil(2 / pace.workers) * pace.seconds
            has_longer = seconds + look <= limit
            left, seeds = limit - look * has_longer, found.seeds
            if wish.seeds is None:
                more = [found.model_copy(update={"seeds": (n, n)}) for n in range(seeds[1], MOST_SEEDS + 1)]
                seeds = (2, max(own.seeds[1] for own in more if _forecast_seconds(own, wish, pace, steps) <= left))
            return found.model_copy(update={"seeds": seeds, "has_longer": has_longer})
    return None


def compute_least_seconds(
    space: SearchSpace, wish: BreadthRequest, pace: LadderPace, *, steps: int, own: Sequence[str]
) -> float:
    """Return the time, from the ladder's beginning to the report, that the least comparison at so many steps takes."""
    return min(_forecast_seconds(found, wish, pace, steps) for found in _list_comparisons(space, wish, steps, own))


def _list_comparisons(space: SearchSpace, wish: BreadthRequest, steps: int, own: Sequence[str]) -> Iterator[Breadth]:
    """What may be compared, the best first: rather fewer trials than two seeds, which show nothing, or fewer steps."""
    order = list(dict.fromkeys([*choose_ladder_pair(space), *own, *list_first_trials(space)]))
    order = [name for name in order if name in list_first_trials(space)]
    breadths = [(len(order), wish.trials)]
    if wish.settles:
        breadths += [
            (len(order), trials)
            for trials in range(min(wish.trials, _count_settling_trials(len(order))), len(order), -1)
        ]
        breadths += [(families, families) for families in range(len(order), min(LEAST, len(order)) - 1, -1)]
    for confirm_steps, seeds in ((2 * steps, 3), (steps, 3), (steps, 2)):
        for families, trials in breadths:
            yield Breadth(
                families=tuple(order[:families]),
                trials=trials,
                confirm_steps=wish.confirm_steps or confirm_steps,
                seeds=wish.seeds or (seeds, seeds),
            )


def _count_settling_trials(families: int) -> int:
    """Trials after which a search usually ends by itself."""
    return families * FLOOR + PATIENCE


def _forecast_seconds(found: Breadth, wish: BreadthRequest, pace: LadderPace, steps: int) -> float:
    """How long it takes from the ladder's beginning to the report."""
    trials = min(found.trials, _count_settling_trials(len(found.families))) if wish.settles else found.trials
    finalists = min(LEADERS, len(found.families)) + (BASELINE in found.families and len(found.families) > LEADERS)
    known = 1 + (trials < 2 * len(found.families))  # a single trial of the ladder's other loss is the ladder's own
    search = max(finalists, TRAINED * trials) - known
    confirm = math.ceil(finalists * found.seeds[0] / pace.workers) * found.confirm_steps * SLACK
    trained = max(0.0, search) / pace.workers * steps + confirm
    return pace.spent + trained * pace.seconds + OTHER_SECONDS
