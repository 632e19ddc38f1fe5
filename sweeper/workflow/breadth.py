"""Choice of the trials, losses and seeds that fit into a given time.

Where steps are costly, trials are cut first, then losses in the order of the advice, down to three with one trial each.
The longer look has priority over breadth, as it shows whether the gain lasts; and so has the first look, which answers
early, where both fit. The last resort is the ladder's pair, one of which is the present loss, without these looks: an
answer about one other loss is worth more than none. The user's losses always stay, and so do three seeds, as fewer
establish no gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sweeper.core.records import Breadth, SearchSpace, TrialResult
from sweeper.evidence.interim_analyses import DECIDING_SEEDS, FIRST_LOOK
from sweeper.space import FLOOR, list_first_trials
from sweeper.study.budget_ladder import choose_ladder_pair
from sweeper.study.search import PATIENCE
from sweeper.study.timekeeper import REPORT_SECONDS
from sweeper.workflow.forecast import TRAINED
from sweeper.workflow.options import StudyRequest

MIN_LOSSES = 3
"""Smallest number of losses to compare, but for the last resort."""
SLACK = 1.1
"""Factor on a confirmation's time per step, as it is also scored on the test images."""
MOST_SEEDS = 8
"""Largest number of seeds of a finalist, unless the user gave one."""


class LossOrder(NamedTuple):
    """The losses of a space by priority."""

    names: tuple[str, ...]
    least: int
    """How many of them always stay: the ladder's pair, and the user's."""


class LadderPace(NamedTuple):
    """Training pace that was measured on the ladder."""

    seconds: float
    """Seconds per training step, including evaluations."""
    workers: int
    spent: float
    """Seconds that the ladder took."""

    def add_rung(self, steps: int) -> LadderPace:
        """Return the pace after another rung of `steps` steps."""
        return self._replace(spent=self.spent + steps * self.seconds * math.ceil(2 / self.workers))


def measure_pace(results: Sequence[TrialResult], workers: int) -> LadderPace:
    """Return the pace of the ladder's longest trainings."""
    most = max((r.spec.steps for r in results), default=1)
    last = [r.seconds / r.spec.steps for r in results if r.spec.steps == most]
    seconds = sum(last) / max(1, len(last))
    return LadderPace(seconds, workers, sum(r.seconds for r in results) / min(2, workers))


def order_losses(space: SearchSpace, user_losses: Sequence[str]) -> LossOrder:
    """Order the losses of a space: the ladder's pair, the user's losses, then those of the advice."""
    first = list_first_trials(space)
    kept = dict.fromkeys(name for name in (*choose_ladder_pair(space), *user_losses) if name in first)
    return LossOrder(tuple(dict.fromkeys([*kept, *first])), len(kept))


def find_broadest(
    losses: LossOrder, request: StudyRequest, pace: LadderPace, *, steps: int, limit: float
) -> tuple[Breadth, float]:
    """Return the broadest comparison, with trials of `steps` steps, that ends in time, and its seconds.

    If none does, it is the smallest. Values that the user gave are kept. The ladder's trainings of that length are
    reused; `limit` is the time in seconds from the ladder's beginning to the report.
    """

    def forecast(breadth: Breadth) -> float:
        return _forecast_seconds(breadth, request, pace, steps=steps)

    every = [*_list_comparisons(losses, request, steps)]
    longer = {"has_longer": request.longer is not None}
    looks: tuple[dict[str, bool], ...] = ({**longer, "has_first": request.looks_first}, longer, {})
    wanted = [breadth.model_copy(update=update) for update in looks for breadth in every]
    if request.settles:
        wanted.append(every[-1].model_copy(update={"families": losses.names[: losses.least], "trials": losses.least}))
    found = next((one for one in wanted if forecast(one) <= limit), min(wanted, key=forecast))
    seconds, (least, most) = forecast(found), found.seeds
    if request.seeds is None:
        more = (found.model_copy(update={"seeds": (n, n)}) for n in range(most, MOST_SEEDS + 1))
        most = max((one.seeds[1] for one in more if forecast(one) <= limit), default=most)
    return found.model_copy(update={"seeds": (least, most)}), seconds


def _list_comparisons(losses: LossOrder, request: StudyRequest, steps: int) -> Iterator[Breadth]:
    """Yield possible comparisons, best first: trials are cut before fewer steps. Each has the seeds that can decide."""
    names, least = losses
    breadths = [(len(names), request.trials)]
    if request.settles:
        most = min(request.trials, _count_settling_trials(len(names)))
        breadths += [(len(names), trials) for trials in range(most, len(names), -1)]
        breadths += [
            (families, families) for families in range(len(names), min(max(MIN_LOSSES, least), len(names)) - 1, -1)
        ]
    for confirm_steps in (2 * steps, steps):
        for families, trials in breadths:
            yield Breadth(
                families=names[:families],
                trials=trials,
                confirm_steps=request.confirm_steps or confirm_steps,
                seeds=request.seeds or (DECIDING_SEEDS, DECIDING_SEEDS),
                has_longer=False,
            )


def _count_settling_trials(families: int) -> int:
    """Return the number of trials after which a search usually ends by itself."""
    return families * FLOOR + PATIENCE


def _forecast_seconds(breadth: Breadth, request: StudyRequest, pace: LadderPace, *, steps: int) -> float:
    """Return the seconds from the ladder's beginning to the report, with the start of the workers."""
    trials = min(breadth.trials, _count_settling_trials(len(breadth.families))) if request.settles else breadth.trials
    finalists = min(request.finalists, len(breadth.families))
    reused = 1 + (trials < 2 * len(breadth.families))  # with one trial each, the ladder trained both of its losses
    search = max(finalists, TRAINED * trials) - reused
    confirm = math.ceil(finalists * breadth.seeds[0] / pace.workers) * breadth.confirm_steps * SLACK
    first = math.ceil(2 * FIRST_LOOK.seeds / pace.workers) * breadth.confirm_steps * SLACK if breadth.has_first else 0
    longer = request.longer * breadth.confirm_steps if breadth.has_longer and request.longer is not None else 0
    trained = max(0.0, search) / pace.workers * steps + first + confirm + longer * math.ceil(2 / pace.workers)
    return pace.spent + trained * pace.seconds + 2 * REPORT_SECONDS
