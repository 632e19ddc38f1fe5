"""Measure what search and replication cost and miss, on simulated trainings whose truth is known.

    python bench/search_simulation.py [--searches 16] [--trials 50] [--first 0.167 0.25] [--luck 0.02]

The product's ladder, first look, search (TPE, generations, successive halving), replication and choice of finalists ask
for trainings that cost nothing. Each family has a level, and an optimum of its hyper-parameters. A training ends at its
level, less what it loses by its hyper-parameters, plus luck, by default the ± 0.02 that were measured for 100 steps. At
its rungs it has a share of this value, plus a bias of its family and luck, which shrink from rung to rung. The
finalists are then trained on four fresh seeds with half the variance, and the best mean is recommended.

Prints for each kind of simulated data, and each share of trials that continue from the first rung (`--first`): the
search's steps in units of a whole training, the complete trials, the trainings of the replication; and how far the true
value of the recommended configuration is below that of the best one that was trained to the end, below the first look's
and below the optimum, with standard errors. A search takes some seconds.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple, cast
from unittest import mock

import numpy as np
import optuna

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from sweeper.core.records import StudyRates, TrialResult, TrialSpec
from sweeper.evidence.interim_analyses import FIRST_LOOK
from sweeper.executors.protocol import Executor
from sweeper.space import get_middle_rate, load_space
from sweeper.storage import search_results
from sweeper.study import search
from sweeper.study.budget_ladder import make_probe_specs
from sweeper.study.finalist import (
    REPLICATIONS,
    choose_finalists,
    choose_first_pair,
    collect_configurations,
    list_replications,
    make_confirmation_specs,
)
from sweeper.study.loop import run_work
from sweeper.study.sampler import KeyedTPESampler
from sweeper.study.successive_halving import SHARES, SuccessiveHalving
from tests.support import builders
from tests.support.faking import FakeExecutor
from tests.support.sweeping import Recorder

RUNG_STEPS, REACHED, UNSETTLED = (25, 50, 75, 100), (0.55, 0.8, 0.93), (1.0, 0.48, 0.2)
"""Steps of the rungs; share of the last value that is reached there; bias and luck relative to the first rung."""
STEPS = {"steps": RUNG_STEPS[-1], "confirm_steps": 2 * RUNG_STEPS[-1]}
SPACE = load_space("binary", "binary")
FAMILIES = [family.family for family in SPACE.families]
KINDS: Mapping[str, Mapping[str, Any]] = {
    "mixed": {},
    "noisy rungs": {"early": 0.06},
    "wide": {"spread": 0.06, "bad": 3},
    "sensitive": {"miss": 0.15, "spread": 0.01, "bad": 0},
    "alike": {"spread": 0.02, "bad": 0},
}
"""Kind of simulated data → arguments of `SimulatedData` that are not the defaults."""


class SimulatedData:
    """One simulated data set; its trainings have values in mIoU."""

    def __init__(
        self,
        seed: int,
        *,
        spread: float = 0.03,
        luck: float = 0.02,
        early: float = 0.03,
        bad: int = 2,
        miss: float = 0.06,
    ) -> None:
        """Draw levels and optima of all families; `seed` is also that of the study's luck.

        Args:
            seed: seed of all draws.
            spread: standard deviation of the families' levels.
            luck: standard deviation of a training's last value.
            early: standard deviation of a family's bias at the first rung.
            bad: number of families whose level is 0.05 to 0.2 lower.
            miss: most that wrong hyper-parameters cost.
        """
        draw = np.random.default_rng(seed)
        self._luck, self._seed, self._miss = luck, seed, miss
        self.level = {family: 0.7 + draw.normal(0, spread) for family in FAMILIES}
        for family in draw.choice(FAMILIES, int(bad), replace=False):
            self.level[family] -= 0.05 + 0.15 * draw.random()
        self._bias = {family: draw.normal(0, early, len(REACHED)) for family in FAMILIES}
        self._best = {family: draw.random(6) for family in FAMILIES}

    def compute_truth(self, spec: TrialSpec) -> float:
        """Return a configuration's value without luck."""
        values = np.array([float(v) for v in spec.params.values()])
        positions = (np.sin(12.9 * np.arange(1, len(values) + 1) + 7.1 * values) + 1) / 2
        miss = np.mean((positions - self._best[spec.family][: len(values)]) ** 2) if len(values) else 0.0
        return float(self.level[spec.family] - self._miss * miss)

    def train(self, spec: TrialSpec) -> TrialResult:
        """Return the result of a training, with its values at the rungs; twice the steps have half the variance."""
        draw = np.random.default_rng([self._seed, spec.seed, spec.steps, zlib.crc32(repr(spec.loss).encode())])
        luck = self._luck * (RUNG_STEPS[-1] / spec.steps) ** 0.5
        last = self.compute_truth(spec) + draw.normal(0, luck)
        rungs = [
            last * share + unsettled * bias + draw.normal(0, luck * (1 + 2 * unsettled))
            for share, unsettled, bias in zip(REACHED, UNSETTLED, self._bias[spec.family], strict=True)
        ]
        curve = [max(0.01, value) for value in (*rungs, last)]
        steps = [step * spec.steps // RUNG_STEPS[-1] for step in RUNG_STEPS]
        evaluations = tuple(builders.evaluation(step, v) for step, v in zip(steps, curve, strict=True))
        absent: dict[str, Any] = dict.fromkeys(("test", "predictions", "run_id"))
        changes = {"spec": spec, "evaluations": evaluations, **absent}
        return builders.trial(spec.family, curve[-1], spec.number, seconds=1.0, **changes)


class SimulatedStudy(NamedTuple):
    """What a simulated study cost and missed."""

    search: float
    """Trainings of the search, in units of a whole one."""
    complete: int
    replications: int
    below_best: float
    """True value of the best trained configuration less that of the recommended one."""
    below_first: float
    below_optimum: float


def simulate_study(seed: int, data: SimulatedData, trials: int, shares: tuple[float, ...]) -> SimulatedStudy:
    """Simulate a study up to its recommendation."""
    conditions = builders.conditions()
    conditions = conditions.model_copy(update={"recipe": conditions.recipe.model_copy(update=STEPS)})
    probes = [data.train(spec) for spec in make_probe_specs(SPACE, conditions, 60.0, RUNG_STEPS[-1])]
    rates = StudyRates(by_family=dict.fromkeys(FAMILIES, get_middle_rate(SPACE.lr)))
    pair = choose_first_pair(probes, SPACE, conditions, rates)
    first = [data.train(spec) for spec in make_confirmation_specs(pair, conditions, FIRST_LOOK.seeds, purpose="first")]
    study = optuna.create_study(direction="maximize", sampler=KeyedTPESampler(seed))
    search.enqueue_defaults(study, SPACE, trials)
    with mock.patch.object(search, "SuccessiveHalving", partial(SuccessiveHalving, shares=shares)):
        work = search.LossSearch(
            study,
            SPACE,
            conditions,
            imbalance=60.0,
            trials=trials,
            rates=rates,
            recorder=Recorder(),
            checkpoints=Path("nowhere"),
            reusable=probes,
        )
    run_work(cast(Executor, FakeExecutor(data.train)), work, lambda: None)
    ended = search_results(study)
    replicated = list[TrialResult]()
    for number in range(REPLICATIONS):
        tried = collect_configurations(ended, [*probes, *first, *replicated], rates, SPACE, conditions)
        replicated += [data.train(spec) for spec in list_replications(tried, SPACE, conditions, number)]
    tried = collect_configurations(ended, [*probes, *first, *replicated], rates, SPACE, conditions)
    finalists = choose_finalists(tried, SPACE)
    specs = make_confirmation_specs(finalists, conditions, FIRST_LOOK.seeds)
    scores = defaultdict[str, list[float]](list)
    for spec in specs:
        scores[spec.family].append(data.train(spec.model_copy(update={"seed": spec.seed + 500})).score)
    used = max(finalists, key=lambda each: mean(scores[each.family]))
    truth = data.compute_truth(used.trial.spec)
    return SimulatedStudy(
        search=sum(result.evaluations[-1].step for result in ended) / RUNG_STEPS[-1] - len(probes),
        complete=sum(result.state == "complete" for result in ended),
        replications=len(replicated),
        below_best=max(data.compute_truth(each.trial.spec) for each in tried.by_loss.values()) - truth,
        below_first=data.compute_truth(pair[1].trial.spec) - truth,
        below_optimum=max(data.level.values()) - truth,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=16)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--first", type=float, nargs="+", default=[SHARES[0]], help="see above")
    parser.add_argument("--luck", type=float, help="standard deviation of a training's last value, for all kinds")
    arguments = parser.parse_args()
    luck = {} if arguments.luck is None else {"luck": arguments.luck}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    below = "below the best | below the first | below the optimum"
    print(f"| data | beyond the first rung | search | completed | replicated | {below} |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, changes in KINDS.items():
        for share in arguments.first:
            studies = [
                simulate_study(seed, SimulatedData(seed, **{**changes, **luck}), arguments.trials, (share, *SHARES[1:]))
                for seed in range(arguments.searches)
            ]
            costs = [f"{mean(values):.1f}" for values in zip(*(study[:3] for study in studies), strict=True)]
            missed = [
                f"{mean(values):.4f} ({stdev(values) / len(values) ** 0.5:.4f})"
                for values in zip(*(study[3:] for study in studies), strict=True)
            ]
            print(f"| {name} | {share:.0%} | {' | '.join([*costs, *missed])} |")


if __name__ == "__main__":
    main()
