"""Many processes at one database, each with a study of its own: the real storage, sampler and space, with trainings of
a moment.

`python -m tests.support.many URL PROCESSES TRIALS` makes the studies `many-0` and so on, with so many trials each.
The processes are forked from one that has imported everything, so that they begin within milliseconds of each other.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import time
from multiprocessing.synchronize import Barrier

from sweeper import storage as studies
from sweeper.core.records import TrialSpec
from sweeper.space import load_space, suggest
from sweeper.storage.record_format import RESULT
from tests.support import builders

STUDY = "many"
SPACE = load_space("binary", "binary")


def new_plan() -> studies.Plan:
    """For the small literal data set of the builders."""
    return studies.Plan(
        created="2026-11-20T07:00:00+00:00",
        conditions=builders.conditions(builders.dataset()),
        profile=builders.profile(),
        space=SPACE,
        imbalance=60.0,
        versions={"sweeper": "0"},
    )


def work(url: str, number: int, trials: int, barrier: Barrier) -> None:
    """Open (or make) the database, make a study, and finish so many trials of it."""
    barrier.wait()
    study = studies.create_study(studies.open_storage(url), f"{STUDY}-{number}", new_plan())
    draw = random.Random(number)
    for _ in range(trials):
        trial = study.ask()
        choice = suggest(trial, SPACE, 60.0)
        value = 0.5 + draw.uniform(0, 0.2)
        for step in (25, 50, 75, 100):
            trial.report(value * step / 100, step)
        time.sleep(draw.uniform(0, 0.005))
        spec = TrialSpec(
            purpose="search",
            number=trial.number,
            family=choice.family,
            params=choice.params,
            lr=choice.lr,
            seed=0,
            steps=100,
        )
        result = builders.trial(choice.family, value, trial.number, spec=spec)
        trial.set_user_attr(RESULT, studies.pack(result))
        study.tell(trial, value)


def main(url: str, processes: int, trials: int) -> int:
    """Run them all; how many died."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)
    children = [context.Process(target=work, args=(url, number, trials, barrier)) for number in range(processes)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return sum(child.exitcode != 0 for child in children)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
