"""Choice of the trials, losses and seeds that fit into a given time.

Where steps are costly, there are fewer trials, down to one for each loss, then for three losses, the first of the
advice among them. The final training has priority over breadth, as it decides. The first look is the
last thing that short time drops: it answers early, and the confirmation counts its trainings. The last resort is the
ladder's pair, one of which is the present loss: an answer about one other loss is worth more than none. The user's
losses always have a trial. Each finalist has three seeds, as fewer establish no gain, and a fourth if these leave it
open. A resume tries the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sweeper.core.recipe import Recipe
from sweeper.core.records import Breadth, SearchSpace, TrialResult
from sweeper.evidence.final_comparison import MOST_SEEDS as FINAL_SEEDS
from sweeper.evidence.interim_analyses import DECIDING_SEEDS, FIRST_LOOK
from sweeper.space import FLOOR
from sweeper.study.budget_ladder import choose_ladder_pair
from sweeper.study.finalist import REPLICATIONS
from sweeper.study.search import GENERATION
from sweeper.study.successive_halving import estimate_trained_share
from sweeper.study.timekeeper import REPORT_SECONDS
from sweeper.workflow.options import StudyRequest

MIN_LOSSES = 3
"""Smallest number of losses to compare, but for the last resort."""
SLACK = 1.1
"""Factor on a confirmation's time per step, as it is also scored on the test images."""
RATE_TRAININGS = 4
"""Most trainings that find the learning rate."""
MOST_SEEDS = 8
"""Largest number of seeds of a finalist, unless the user gave one."""


class LadderPace(NamedTuple):
    """Training pace that was measured on the ladder."""

    seconds: float
    """Seconds per training step, including evaluations."""
    workers: int
    spent: float
    """Seconds that the ladder took."""

    def add_rung(self, steps: int) -> LadderPace:
        """Return the pace after another rung of `steps` steps."""
        return self._replace(spent=self.spent + self.time_pair(steps))

    def time_pair(self, steps: float) -> float:
        """Return the seconds of two trainings of `steps` steps."""
        return steps * self.seconds * math.ceil(2 / self.workers)


def measure_pace(results: Sequence[TrialResult], workers: int) -> LadderPace:
    """Return the pace of the ladder's longest trainings."""
    most = max((r.spec.steps for r in results), default=1)
    last = [r.seconds / r.spec.steps for r in results if r.spec.steps == most]
    seconds = sum(last) / max(1, len(last))
    return LadderPace(seconds, workers, sum(r.seconds for r in results) / min(2, workers))


def find_broadest(
    space: SearchSpace,
    user_losses: Iterable[str],
    request: StudyRequest,
    pace: LadderPace,
    *,
    recipe: Recipe,
    steps: int,
    limit: float,
) -> tuple[Breadth, float]:
    """Return the broadest comparison, with trials of `steps` steps, that ends in time, and its seconds.

    If none does, it is the smallest. Values that the user gave are kept. The ladder's trainings of that length are
    reused; `limit` is the time in seconds from the ladder's beginning to the report.
    """
    losses, least = len(space.families), len({*choose_ladder_pair(space), *user_losses} & space.by_name.keys())

    def forecast(breadth: Breadth) -> float:
        return _forecast_seconds(breadth, losses, request, pace, recipe=recipe, steps=steps)

    every = [*_list_comparisons(losses, least, request, steps)]
    first = {"has_first": request.looks_first}
    looks: tuple[dict[str, bool], ...] = ({**first, "has_final": request.final is not None}, first)
    wanted = [breadth.model_copy(update=update) for update in looks for breadth in every]
    if request.settles:
        smallest = every[-1].model_copy(update={"trials": least})
        wanted += [smallest.model_copy(update=first), smallest]
    found = next((one for one in wanted if forecast(one) <= limit), min(wanted, key=forecast))
    seconds, (fewest, most) = forecast(found), found.seeds
    if request.seeds is None:
        more = (found.model_copy(update={"seeds": (n, n)}) for n in range(most, MOST_SEEDS + 1))
        most = max((one.seeds[1] for one in more if forecast(one) <= limit), default=most)
    is_free = request.final is not None and not is_final_planned(recipe, request)
    return found.model_copy(update={"seeds": (fewest, most), "has_final": found.has_final or is_free}), seconds


def _list_comparisons(losses: int, least: int, request: StudyRequest, steps: int) -> Iterator[Breadth]:
    """Yield possible comparisons, best first: trials are cut before fewer steps. Each has the seeds that can decide."""
    every = [request.trials]
    if request.settles:
        most, fewest = min(request.trials, _count_settling_trials(losses)), min(max(MIN_LOSSES, least), losses)
        every += range(most, fewest - 1, -1)
    for confirm_steps in (2 * steps, steps):
        for trials in every:
            yield Breadth(
                trials=trials,
                confirm_steps=request.confirm_steps or confirm_steps,
                seeds=request.seeds or (DECIDING_SEEDS, DECIDING_SEEDS + 1),  # where three find other classes
                has_final=False,
            )


def _count_settling_trials(families: int) -> int:
    """Return the number of trials after which a search usually ends by itself."""
    return families * FLOOR + GENERATION


def _forecast_seconds(
    breadth: Breadth, losses: int, request: StudyRequest, pace: LadderPace, *, recipe: Recipe, steps: int
) -> float:
    """Return the seconds from the ladder's beginning to the report, with the start of the workers."""
    trials = min(breadth.trials, _count_settling_trials(losses)) if request.settles else breadth.trials
    finalists = min(request.finalists, losses, trials)
    trained_trials = max(finalists, estimate_trained_share(trials, losses) * trials)
    search = steps * max(0.0, trained_trials - 2)  # the ladder trained the first trial of two losses
    shared = 2 * FIRST_LOOK.seeds if breadth.has_first else 0
    near = 2 * REPLICATIONS if trials >= 2 * losses else 0
    compared = shared + near + max(0, finalists * breadth.seeds[0] - shared)
    recipe = recipe.model_copy(update={"confirm_steps": breadth.confirm_steps})
    has_final = breadth.has_final and is_final_planned(recipe, request)
    final = pace.time_pair(count_final_work(recipe, request)) if has_final else 0.0
    trained = (RATE_TRAININGS * steps + search) / pace.workers
    trained += math.ceil(compared / pace.workers) * breadth.confirm_steps * SLACK
    return pace.spent + trained * pace.seconds + final + 2 * REPORT_SECONDS


def is_final_planned(recipe: Recipe, request: StudyRequest) -> bool:
    """Return whether a comparison is planned with its final training.

    Without a time limit a study is planned for the answer before it, where it trains another network.
    """
    return request.final is not None and (recipe.final is None or request.time is not None)


def count_final_work(recipe: Recipe, request: StudyRequest) -> float:
    """Return the steps of the search that the final training of a loss takes as much time as, on the fewest seeds."""
    if request.final is None:
        return 0.0
    seeds = 1 if recipe.final is None else FINAL_SEEDS
    return seeds * (request.final.steps or recipe.final_steps) * recipe.final_cost


def estimate_later_seconds(recipe: Recipe, request: StudyRequest, pace: LadderPace) -> float:
    """Return the seconds of a final training that no comparison is planned with."""
    return 0.0 if is_final_planned(recipe, request) else pace.time_pair(count_final_work(recipe, request))
