"""Train the plain loop's trials under Ray Tune with ASHA and Optuna's TPE; for bench/sweep.py.

    python bench/ray_tune.py DATA [--trials 50] [--steps 100] [--tuned] [--seed 0]

DATA is a folder as bench/plain_loop.py takes it. Each trial has one thread, and there are as many trials at a time as
cores. A trial reports at every quarter of its steps; ASHA stops trials from the first quarter on, with its default
reduction factor of 4. Needs the extra `ray`.

Prints one JSON document like bench/plain_loop.py, without milliseconds per step. 50 trials took some 7 minutes on two
cores (docs/performance.md).
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

ROOT = Path(__file__).resolve().parent.parent


def train(config: dict[str, Any], arguments: argparse.Namespace, folder: str) -> None:
    """Run one trial in a Ray worker; report its validation mIoU, and at its end its test mIoU."""
    sys.path.insert(0, str(ROOT))
    import mlflow
    import optuna
    import torch
    from ray import tune

    from bench import plain_loop

    torch.set_num_threads(1)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment("ray")
    loop = plain_loop.Loop(arguments)

    class ReportingTrial(optuna.trial.FixedTrial):
        def report(self, value: float, step: int) -> None:
            if step < arguments.steps:
                tune.report({"miou": value, "step": step})

    value = loop.train(ReportingTrial(config))
    assert loop.best is not None
    tune.report({"miou": value, "step": arguments.steps, "test": loop.measure_miou(loop.best[2], loop.stems["test"])})


def suggest_values(trial: Any, imbalance: float) -> None:
    """Ask Optuna for the values of a trial. The function is at the top of the module, because Ray pickles it."""
    from bench import plain_loop

    plain_loop.suggest_loss(trial, imbalance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.data = str(Path(arguments.data).resolve())
    arguments.loader_workers, arguments.prune = 0, True
    sys.path.insert(0, str(ROOT))
    import mlflow
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    from bench import plain_loop

    began = time.perf_counter()
    imbalance = plain_loop.Loop(arguments).imbalance
    with tempfile.TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.set_experiment("ray")
        ray.init(num_cpus=len(os.sched_getaffinity(0)), include_dashboard=False, log_to_driver=False)
        space = functools.partial(suggest_values, imbalance=imbalance)
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(train, arguments=arguments, folder=folder), {"cpu": 1}),
            tune_config=tune.TuneConfig(
                metric="miou",
                mode="max",
                num_samples=arguments.trials,
                search_alg=OptunaSearch(space, metric="miou", mode="max", seed=arguments.seed),
                scheduler=ASHAScheduler(time_attr="step", max_t=arguments.steps, grace_period=arguments.steps // 4),
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        grid = tuner.fit()
        searched = time.perf_counter() - began
        results = [(grid[place].config, grid[place].metrics or {}) for place in range(len(grid))]
        config, metrics = max((r for r in results if "test" in r[1]), key=lambda r: r[1]["miou"])
        steps = sum(metrics.get("step", 0) for _, metrics in results)
        ray.shutdown()
    print(
        json.dumps(
            {
                "seconds": searched,
                "steps": steps,
                "best": config,
                "val_miou": metrics["miou"],
                "test_miou": metrics["test"],
                "threads": 1,
            }
        )
    )


if __name__ == "__main__":
    main()
