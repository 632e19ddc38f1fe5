"""Measure what it costs to stop trials early: train complete learning curves once, then replay every rule on them.

    python bench/regret.py collect DATA CURVES.jsonl [--seeds 5] [--trials 32] [--evaluations 4]
    python bench/regret.py replay CURVES.jsonl [CURVES.jsonl …] [--every-family]

`collect` trains to the end, for each seed, the trials that a search would begin with: the first trials of every family
of the data's default space, those that are advised by similar data among them, then random draws. The defaults keep
their learning rates; the others are drawn from 0.001 to 0.004, as in a search that knows the optimum. So the curves do
not depend on a rule. CURVES.jsonl gets a line for each training, which takes some 10 s on one core. If you interrupt
the command, run it again to continue.

`replay` lets each rule see the curves as a search in generations would, in seconds. It prints, for each file, Kendall's
τ of the values at each rung with the final values, and for each rule the share of steps that it trains, the regret
(mean and largest over seeds) and the number of trials that it trains to the end. The regret is the best final value of
all trials minus that of the best trial that the rule trains to the end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import optuna
from scipy.stats import kendalltau

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.shared import BASELINE, append_row, read_rows, resume_rows
from sweeper.core.recipe import Recipe
from sweeper.core.records import Collapse, Conditions, TrialSpec
from sweeper.data import divide_images, load_dataset
from sweeper.fingerprint.imbalance import measure_imbalance, profile_dataset
from sweeper.space import count_floor_trials, list_first_trials, load_space, suggest_choice
from sweeper.study.search import GENERATION
from sweeper.study.successive_halving import SHARES, SuccessiveHalving
from sweeper.workflow.advice import add_advice
from sweeper.workflow.settings import CPU_SIZE, CPU_WIDTH

RUNGS = (25, 50, 75, 100)
RULES: list[tuple[float, ...]] = sorted(
    {SHARES, (1 / 6, 1 / 4), *((first, 1 / 2) for first in (1 / 6, 1 / 3, 1 / 2, 1.0)), (1.0, 1 / 4)}
)
"""Shares of the trials that continue from the first and from the second rung."""
RATES = (1e-3, 4e-3)
"""Lowest and highest learning rate of the draws."""


def collect(arguments: argparse.Namespace) -> None:
    """Append a row for each training: seed, number, family, learning rate, parameters, values by step."""
    from sweeper.training.engine import StudyTraining
    from sweeper.training.hardware import probe_device, settle_process
    from sweeper.training.training_context import open_context

    settle_process(threads=1)
    dataset = load_dataset(arguments.data, Path(".sweeper/cache"), lambda line: None)
    space = load_space(dataset.task, dataset.task)
    recipe = Recipe(
        size=CPU_SIZE,
        decoder_width=CPU_WIDTH,
        precision=probe_device("cpu").precision,
        evaluations=arguments.evaluations,
    )
    done = {(row["seed"], row["number"]) for row in resume_rows(arguments.curves)}
    for seed in range(arguments.seeds):
        conditions = Conditions(dataset=dataset, recipe=recipe, seed=seed)
        imbalance = measure_imbalance(dataset, divide_images(dataset, test_seed=seed, seed=seed).train)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        first = list_first_trials(add_advice(space, profile_dataset(dataset), imbalance))
        for place in range(count_floor_trials(space, arguments.trials)):
            for family, trials in first.items():
                study.enqueue_trial(trials[place] if place < len(trials) else {"loss": family})
        draws = np.random.default_rng(seed)
        for number in range(arguments.trials):
            choice = suggest_choice(study.ask(), space, imbalance)
            rate = float(np.exp(draws.uniform(*np.log(RATES))))
            if number >= len(first):
                choice = choice.model_copy(update={"lr": rate})
            if (seed, number) in done:
                continue
            spec = TrialSpec(
                purpose="search",
                number=number,
                family=choice.family,
                params=choice.params,
                lr=choice.lr,
                seed=seed,
                steps=recipe.steps,
            )
            training = StudyTraining(spec, open_context(conditions, "cpu"))
            values = {}
            while not training.is_finished:
                evaluation = training.advance()
                values[evaluation.step] = evaluation.value
            result = training.make_result("complete")
            row = {
                "seed": seed,
                "number": number,
                "family": choice.family,
                "lr": choice.lr,
                "params": choice.params,
                "values": values,
                "collapsed": result.collapse != Collapse.NONE,
                "seconds": result.seconds,
            }
            append_row(arguments.curves, row)


def replay(arguments: argparse.Namespace) -> None:
    """Print what each rule costs on the curves of each file."""
    rule_type = EveryFamily if arguments.every_family else SuccessiveHalving
    for name in arguments.curves:
        by_seed: dict[int, list[dict[str, Any]]] = {}
        for row in read_rows(name):
            row["curve"] = [row["values"][str(step)] for step in RUNGS]
            by_seed.setdefault(row["seed"], []).append(row)
        print(f"{name}: {', '.join(str(len(trials)) for trials in by_seed.values())} trials of {len(by_seed)} seeds")
        for rung, step in enumerate(RUNGS[:-1]):
            taus = [
                kendalltau([t["curve"][rung] for t in trials], [t["curve"][-1] for t in trials]).statistic
                for trials in by_seed.values()
            ]
            print(f"  step {step}: τ with the last {', '.join(f'{tau:.2f}' for tau in taus)}")
        for shares in RULES:
            searches = [replay_search(trials, shares, rule_type) for trials in by_seed.values()]
            spent, regret, complete = zip(*searches, strict=True)
            rule = " and ".join(f"{share:.0%}" for share in shares)
            print(
                f"  {rule:21} continue: {mean(spent):4.0%} of the steps, "
                f"regret {mean(regret):.4f} (at most {max(regret):.4f}), {mean(complete):.1f} trials complete"
            )


class EveryFamily(SuccessiveHalving):
    """Successive halving that trains the best of each family to the end, however far it is behind."""

    def list_trailing_families(self) -> set[str]:
        """Return no family."""
        return set()


def replay_search(
    trials: list[dict[str, Any]], shares: Sequence[float], rule_type: type[SuccessiveHalving]
) -> tuple[float, float, int]:
    """Simulate a search in generations; return the share of all steps that it trains, regret and complete trials."""
    rule = rule_type(RUNGS, shares=shares, present=BASELINE)
    by_number = {trial["number"]: trial for trial in trials}
    reached, queue = dict.fromkeys(by_number, 0), list(by_number)

    def train(number: int) -> None:
        rung, trial = reached[number], by_number[number]
        rule.record(number, trial["family"], RUNGS[rung], trial["curve"][rung])
        reached[number] += 1

    while queue:
        for number in queue[:GENERATION]:
            train(number)
        del queue[:GENERATION]
        for rung in range(1, len(RUNGS)):
            waiting = [number for number, count in reached.items() if count == rung]
            for number in [number for number in waiting if rule.may_continue(number)]:
                train(number)
    complete = [number for number, count in reached.items() if count == len(RUNGS)]
    best = max(trial["curve"][-1] for trial in trials)
    steps = sum(RUNGS[count - 1] for count in reached.values())
    regret = best - max(by_number[number]["curve"][-1] for number in complete)
    return steps / (RUNGS[-1] * len(trials)), regret, len(complete)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("data")
    collecting.add_argument("curves")
    collecting.add_argument("--seeds", type=int, default=5)
    collecting.add_argument("--trials", type=int, default=32)
    collecting.add_argument("--evaluations", type=int, default=4, help="of a training; `replay` needs a multiple of 4")
    collecting.set_defaults(call=collect)
    replaying = commands.add_parser("replay")
    replaying.add_argument("curves", nargs="+")
    replaying.add_argument(
        "--every-family", action="store_true", help="also train the best of families far behind to the end"
    )
    replaying.set_defaults(call=replay)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    arguments.call(arguments)


if __name__ == "__main__":
    main()
