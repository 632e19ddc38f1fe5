"""Measure what a search costs and misses, on simulated trainings whose truth is known.

    python bench/search_simulation.py [--searches 16] [--trials 50] [--first 0.167 0.333] [--luck 0.02]
        [--finalists 3 4]

The product's search (TPE, first trials of each family, successive halving) asks for trainings that cost nothing. Each
family has a level, and optima of its learning rate and of its hyper-parameters. A training ends at its level, less what
it loses by its rate and its hyper-parameters, plus luck. At its rungs it has a share of this value, plus a bias of its
family and luck, which shrink from rung to rung.

Prints for each kind of simulated data, and each share of trials that continue from the first rung (`--first`), the
steps in units of a whole training, the complete trials, and how far the true value of the best finalist is below the
level of the best family, with its standard error. A search takes some seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any, cast
from unittest import mock

import numpy as np
import optuna

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from sweeper.core.records import TrialResult, TrialSpec
from sweeper.executors.protocol import Executor
from sweeper.space import load_space
from sweeper.study import finalist, search
from sweeper.study.loop import run_work
from sweeper.study.sampler import KeyedTPESampler
from sweeper.study.successive_halving import SHARES, SuccessiveHalving
from tests.support import builders
from tests.support.faking import FakeExecutor
from tests.support.sweeping import Recorder

RUNGS, REACHED, UNSETTLED = (25, 50, 75), (0.55, 0.8, 0.93), (1.0, 0.48, 0.2)
"""Steps of the rungs; share of the last value that is reached there; bias and luck relative to the first rung."""
SPACE = load_space("binary", "binary")
FAMILIES = [family.family for family in SPACE.families]
KINDS: Mapping[str, Mapping[str, Any]] = {
    "mixed": {},
    "noisy rungs": {"early": 0.06, "luck": 0.01},
    "wide": {"spread": 0.06, "bad": 3},
}
"""Kind of simulated data → arguments of `SimulatedData` that are not the defaults."""


class SimulatedData:
    """One simulated data set; its trainings have values in mIoU."""

    def __init__(
        self, seed: int, *, spread: float = 0.03, luck: float = 0.006, early: float = 0.03, bad: int = 2
    ) -> None:
        """Draw levels and optima of all families.

        Args:
            seed: seed of all draws.
            spread: standard deviation of the families' levels.
            luck: standard deviation of a training's last value.
            early: standard deviation of a family's bias at the first rung.
            bad: number of families whose level is 0.05 to 0.2 lower.
        """
        draw = np.random.default_rng(seed)
        self._luck = luck
        self.level = {family: 0.7 + draw.normal(0, spread) for family in FAMILIES}
        for family in draw.choice(FAMILIES, int(bad), replace=False):
            self.level[family] -= 0.05 + 0.15 * draw.random()
        shared = np.log10(3e-3) + draw.normal(0, 0.2)
        self._rate = {family: shared + draw.normal(0, 0.1) for family in FAMILIES}
        self._bias = {family: draw.normal(0, early, len(RUNGS)) for family in FAMILIES}
        self._best = {family: draw.random(6) for family in FAMILIES}

    def compute_truth(self, spec: TrialSpec) -> float:
        """Return a configuration's value at the best learning rate, without luck."""
        values = np.array([float(v) for v in spec.params.values()])
        positions = (np.sin(12.9 * np.arange(1, len(values) + 1) + 7.1 * values) + 1) / 2
        miss = np.mean((positions - self._best[spec.family][: len(values)]) ** 2) if len(values) else 0.0
        return float(self.level[spec.family] - 0.06 * miss)

    def train(self, spec: TrialSpec) -> TrialResult:
        """Return the result of a training, with its values at the rungs."""
        draw = np.random.default_rng([spec.number, *spec.family.encode()])
        off = np.log10(spec.lr) - self._rate[spec.family]
        last = self.compute_truth(spec) - 0.06 * off**2 + draw.normal(0, self._luck)
        slow = 0.04 * max(0.0, -off)  # with a low rate the first rungs are low
        rungs = [
            last * share + unsettled * (bias - slow) + draw.normal(0, self._luck * (1 + 2 * unsettled))
            for share, unsettled, bias in zip(REACHED, UNSETTLED, self._bias[spec.family], strict=True)
        ]
        curve = [max(0.01, value) for value in (*rungs, last)]
        evaluations = tuple(builders.evaluation(step, v) for step, v in zip((*RUNGS, 100), curve, strict=True))
        absent: dict[str, Any] = dict.fromkeys(("test", "predictions", "run_id"))
        changes = {"spec": spec, "evaluations": evaluations, **absent}
        return builders.trial(spec.family, curve[-1], spec.number, seconds=1.0, **changes)


def simulate_search(
    seed: int, data: SimulatedData, trials: int, shares: tuple[float, ...], finalist_numbers: Sequence[int]
) -> tuple[float, int, list[float]]:
    """Simulate a search; return its steps in units of a whole training, complete trials, and the losses of value.

    The last item has, for each number of finalists, how far the best finalist is truly below the best family.
    """
    study = optuna.create_study(direction="maximize", sampler=KeyedTPESampler(seed))
    search.enqueue_defaults(study, SPACE, trials)
    with mock.patch.object(search, "SuccessiveHalving", partial(SuccessiveHalving, shares=shares)):
        work = search.LossSearch(
            study,
            SPACE,
            builders.conditions(),
            imbalance=60.0,
            trials=trials,
            recorder=Recorder(),
            checkpoints=Path("nowhere"),
        )
    run_work(cast(Executor, FakeExecutor(data.train)), work, lambda: None)
    ended = work._ended
    spent = sum(result.evaluations[-1].step for result in ended) / 100
    below = []
    for number in finalist_numbers:
        with mock.patch.object(finalist, "FINALISTS", number):
            best = max(data.compute_truth(each.trial.spec) for each in finalist.select_finalist_families(ended, SPACE))
        below.append(max(data.level.values()) - best)
    return spent, sum(r.state == "complete" for r in ended), below


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=16)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--first", type=float, nargs="+", default=[SHARES[0], 1 / 3], help="see above")
    parser.add_argument("--luck", type=float, help="standard deviation of a training's last value, for all kinds")
    parser.add_argument("--finalists", type=int, nargs="+", default=[finalist.FINALISTS])
    arguments = parser.parse_args()
    luck = {} if arguments.luck is None else {"luck": arguments.luck}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print("| data | beyond the first rung | trainings | completed | finalists | below the best (standard error) |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, changes in KINDS.items():
        for first in arguments.first:
            rows = [
                simulate_search(
                    seed,
                    SimulatedData(seed, **{**changes, **luck}),
                    arguments.trials,
                    (first, SHARES[1]),
                    arguments.finalists,
                )
                for seed in range(arguments.searches)
            ]
            spent, complete, every = zip(*rows, strict=True)
            start = f"| {name} | {first:.0%} | {mean(spent):.1f} | {mean(complete):.1f}"
            for number, below in zip(arguments.finalists, zip(*every, strict=True), strict=True):
                error = stdev(below) / len(below) ** 0.5
                print(f"{start} | {number} | {mean(below):.4f} ({error:.4f}) |")


if __name__ == "__main__":
    main()
