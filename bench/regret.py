"""What stopping early costs: complete learning curves once, then every rule replayed on them.

    python bench/regret.py collect DATA CURVES.jsonl [--seeds 5] [--trials 32] [--evaluations 4]
    python bench/regret.py replay CURVES.jsonl [CURVES.jsonl …] [--every-family]

`collect` trains, for each seed, the trials that a search without stopping would train: the first trials of every family
of the data's default space, those that similar data advise among them, then random draws. Learning rates but the
defaults' are drawn from 0.001 to 0.004, as a search draws them once it knows their optimum. Nothing depends on a rule.
It can be cut off and continues where it was. `replay` lets each rule see the curves as a search would, one trial after
another. It prints the share of steps that a rule spends, the regret (final value of the best of all trials, minus that
of the best trial which the rule trained to the end; mean and largest over seeds), and Kendall's τ of each rung with the
last.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import optuna
from scipy.stats import kendalltau

from sweeper.core.recipe import Recipe
from sweeper.core.records import Collapse, Conditions, TrialSpec
from sweeper.data import divide_images, load_dataset
from sweeper.fingerprint.imbalance import compute_imbalance, profile_dataset
from sweeper.space import (
    FLOOR,
    count_floor_trials,
    get_default_space_name,
    list_first_trials,
    load_space,
    suggest_choice,
)
from sweeper.study.finalist import BASELINE
from sweeper.study.successive_halving import SHARES, SuccessiveHalving
from sweeper.workflow.advice import add_advice
from sweeper.workflow.settings import CPU_SIZE, CPU_WIDTH

RUNGS = (25, 50, 75, 100)
RULES = sorted(
    {(FLOOR, *SHARES), (0, *SHARES), *((0, first, 1 / 2) for first in (1 / 6, 1 / 3, 1 / 2, 1.0)), (0, 1.0, 1 / 4)}
)
"""First trials of a family that always pass the first rung; shares beyond the first and second."""
RATES = (1e-3, 4e-3)


def collect(arguments: argparse.Namespace) -> None:
    """Append one line per training to the file: seed, number, family, lr, parameters, values by step."""
    from sweeper.training.engine import StudyTraining
    from sweeper.training.hardware import probe_device, settle_process
    from sweeper.training.training_context import open_context

    settle_process(threads=1)
    dataset = load_dataset(arguments.data, Path(".sweeper/cache"), lambda line: None)
    space = load_space(get_default_space_name(dataset.task), dataset.task)
    recipe = Recipe(
        size=CPU_SIZE,
        decoder_width=CPU_WIDTH,
        precision=probe_device("cpu").precision,
        evaluations=arguments.evaluations,
    )
    out = Path(arguments.curves)
    known = {(row["seed"], row["number"]) for row in rows(out)} if out.exists() else set()
    for seed in range(arguments.seeds):
        conditions = Conditions(dataset=dataset, recipe=recipe, seed=seed)
        imbalance = compute_imbalance(
            dataset.count_class_pixels(divide_images(dataset, test_seed=seed, seed=seed).train)
        )
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        first = list_first_trials(add_advice(space, profile_dataset(dataset), imbalance))
        for place in range(count_floor_trials(space, arguments.trials)):
            for family, trials in first.items():
                study.enqueue_trial(trials[place] if place < len(trials) else {"loss": family})
        draws = np.random.default_rng(seed)
        for number in range(arguments.trials):
            choice = suggest_choice(study.ask(), space, imbalance)
            drawn = float(np.exp(draws.uniform(*np.log(RATES))))
            if number >= len(first):
                choice = choice.model_copy(update={"lr": drawn})
            if (seed, number) in known:
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
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the trainings of one file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def replay(arguments: argparse.Namespace) -> None:
    """Replay every rule on every file's curves."""
    kind = EveryFamily if arguments.every_family else SuccessiveHalving
    for name in arguments.curves:
        by_seed: dict[int, list[dict[str, Any]]] = {}
        for row in rows(Path(name)):
            row["curve"] = [row["values"][str(step)] for step in RUNGS]
            by_seed.setdefault(row["seed"], []).append(row)
        print(f"{name}: {', '.join(str(len(trials)) for trials in by_seed.values())} trials of {len(by_seed)} seeds")
        for rung, step in enumerate(RUNGS[:-1]):
            taus = [
                kendalltau([t["curve"][rung] for t in trials], [t["curve"][-1] for t in trials]).statistic
                for trials in by_seed.values()
            ]
            print(f"  step {step}: τ with the last {', '.join(f'{tau:.2f}' for tau in taus)}")
        for least, *shares in RULES:
            played = [play(trials, least, shares, kind) for trials in by_seed.values()]
            spent, regret, complete = zip(*played, strict=True)
            rule = f"{least} first, {' and '.join(f'{share:.0%}' for share in shares)}"
            print(
                f"  {rule:21} continue: {mean(spent):4.0%} of the steps, "
                f"regret {mean(regret):.4f} (at most {max(regret):.4f}), {mean(complete):.1f} trials complete"
            )


class EveryFamily(SuccessiveHalving):
    """The best of each family is trained to the end, however far it is behind."""

    def trailing_families(self) -> set[str]:
        """Return that no family trails."""
        return set()


def play(
    trials: list[dict[str, Any]], least: int, shares: Sequence[float], kind: type[SuccessiveHalving]
) -> tuple[float, float, int]:
    """Simulate one search by one worker: share of all steps that it trains, regret, complete trials."""
    field, todo, waiting = kind(RUNGS, least=least, shares=shares, baseline=BASELINE), list(trials), set[int]()
    by_number, reached = {t["number"]: t for t in trials}, dict.fromkeys((t["number"] for t in trials), 0)
    while True:
        number = field.next_promotion(sorted(waiting))
        if number is None and not todo:
            break
        number = todo.pop(0)["number"] if number is None else number
        waiting.discard(number)
        trial = by_number[number]
        while True:
            rung = reached[number]
            field.record(number, trial["family"], RUNGS[rung], trial["curve"][rung])
            reached[number] += 1
            if reached[number] == len(RUNGS):
                break
            if not field.may_continue(number):
                waiting.add(number)
                break
    ended = [n for n, count in reached.items() if count == len(RUNGS)]
    best = max(t["curve"][-1] for t in trials)
    steps = sum(RUNGS[count - 1] for count in reached.values())
    return steps / (RUNGS[-1] * len(trials)), best - max(by_number[n]["curve"][-1] for n in ended), len(ended)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("data")
    collecting.add_argument("curves")
    collecting.add_argument("--seeds", type=int, default=5)
    collecting.add_argument("--trials", type=int, default=32)
    collecting.add_argument("--evaluations", type=int, default=4)
    collecting.set_defaults(act=collect)
    replaying = commands.add_parser("replay")
    replaying.add_argument("curves", nargs="+")
    replaying.add_argument("--every-family", action="store_true", help="those far behind at the middle rung, too")
    replaying.set_defaults(act=replay)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    arguments.act(arguments)


if __name__ == "__main__":
    main()
