"""The plain loop's trainings under Ray Tune with ASHA and Optuna's TPE; for bench/sweep.py.

    python bench/ray_tune.py DATA [--trials 50] [--steps 100] [--tuned] [--seed 0]

Two trials at a time with one thread each on two cores, reports at every quarter of the budget, ASHA from the first
quarter on with its default reduction factor of 4. Needs the extra `ray`. Prints the same JSON document as
bench/plain_loop.py.
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

HERE = Path(__file__).resolve().parent


def train(config: dict[str, Any], arguments: argparse.Namespace, folder: str) -> None:
    """Run one trial in a Ray worker: report validation mIoU, and at its end test mIoU."""
    sys.path.insert(0, str(HERE))
    import mlflow
    import optuna
    import plain_loop
    import torch
    from ray import tune

    torch.set_num_threads(1)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment("ray")
    loop = plain_loop.Loop(arguments)

    class Reporting(optuna.trial.FixedTrial):
        def report(self, value: float, step: int) -> None:
            if step < arguments.steps:
                tune.report({"miou": value, "step": step})

    value = loop.train(Reporting(config))
    assert loop.best is not None
    tune.report({"miou": value, "step": arguments.steps, "test": loop.miou(loop.best[2], loop.stems["test"])})


def space(trial: Any, imbalance: float) -> None:
    """Ask Optuna; at the top of the module, as Ray pickles it."""
    import plain_loop

    plain_loop.suggest(trial, imbalance)


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
    sys.path.insert(0, str(HERE))
    import mlflow
    import plain_loop
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    began = time.perf_counter()
    imbalance = plain_loop.Loop(arguments).imbalance
    with tempfile.TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.set_experiment("ray")
        ray.init(num_cpus=len(os.sched_getaffinity(0)), include_dashboard=False, log_to_driver=False)

        asked = functools.partial(space, imbalance=imbalance)
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(train, arguments=arguments, folder=folder), {"cpu": 1}),
            tune_config=tune.TuneConfig(
                metric="miou",
                mode="max",
                num_samples=arguments.trials,
                search_alg=OptunaSearch(asked, metric="miou", mode="max", seed=arguments.seed),
                scheduler=ASHAScheduler(time_attr="step", max_t=arguments.steps, grace_period=arguments.steps // 4),
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
        searched = time.perf_counter() - began
        done = [r for r in results if r.metrics and "test" in r.metrics]
        best = max(done, key=lambda r: r.metrics["miou"])
        steps = sum(r.metrics["step"] for r in results if r.metrics and "step" in r.metrics)
        ray.shutdown()
    print(
        json.dumps(
            {
                "seconds": searched,
                "steps": steps,
                "best": best.config,
                "val_miou": best.metrics["miou"],
                "test_miou": best.metrics["test"],
                "threads": 1,
            }
        )
    )


if __name__ == "__main__":
    main()
