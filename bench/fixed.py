"""Trains fixed configurations on our worker processes with tracking, without search or stopping; for bench/sweep.py.

    python bench/fixed.py DATA COUNT STEPS

Prints one JSON document: milliseconds per step of one worker, best validation mIoU at 0.5.
"""

from __future__ import annotations

import json
import statistics
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.core.events import JobResult, ResultStored, TrainingJob
from sweeper.executors.processes import ProcessBackend

# As `sweeper run`: what is imported here the workers import too, and they start before the rest is.
from sweeper.system.cores import count_available_cores

if TYPE_CHECKING:
    from sweeper.core.records import TrialResult, TrialSpec
    from sweeper.tracking import MlflowTracker

NAMES = {"ce": "cross_entropy"}


class Fixed:
    """A list of trainings as work; every one is trained to its end."""

    results: list[TrialResult]
    over = False

    def __init__(self, specs: list[TrialSpec], tracker: MlflowTracker) -> None:
        self.queue, self.tracker, self.results = specs, tracker, []

    def next(self) -> TrainingJob | None:
        return TrainingJob(self.queue[0], self.queue.pop(0).steps) if self.queue else None

    def take_answer(self, answer: JobResult) -> bool:
        self.results.append(answer.result)
        self.tracker.notify(ResultStored(answer.result))
        return True

    def handle_dead_worker(self, spec: TrialSpec, reason: str) -> None:
        raise SystemExit(f"{spec.family}: {reason}")

    def handle_interruption(self, reason: str) -> None:
        raise SystemExit("interrupted")


def main() -> None:
    with closing(ProcessBackend("auto", None, count_available_cores(), print)) as backend:
        results = train(backend, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    print(
        json.dumps(
            {
                "ms_per_step": 1000 * statistics.median(r.seconds_per_step or 0.0 for r in results),
                "val_miou": max(r.evaluations[-1].default.miou for r in results),
            }
        )
    )


def train(backend: ProcessBackend, data: str, count: int, steps: int) -> list[TrialResult]:
    """Train the plain loop's configurations, each to its end."""
    from configurations import fixed_trials

    from sweeper.core.recipe import Recipe
    from sweeper.core.records import Conditions
    from sweeper.data import divide_images, load_dataset
    from sweeper.fingerprint.imbalance import compute_imbalance, profile_dataset
    from sweeper.space import get_default_space_name, load_space
    from sweeper.storage import StudyPlan, create_study, open_storage
    from sweeper.study.loop import run_work
    from sweeper.tracking import MlflowTracker
    from sweeper.version import versions

    # In the order of `sweeper run`, whose workers load meanwhile.
    tracker = MlflowTracker("sqlite:///mlflow.db", warn=print)
    dataset = load_dataset(data, Path(".sweeper/cache"), lambda line: None)
    imbalance = compute_imbalance(dataset.count_class_pixels(divide_images(dataset, test_seed=0, seed=0).train))
    specs = [spec(number, params, imbalance, steps) for number, params in enumerate(fixed_trials(count))]
    recipe = Recipe(steps=steps, precision=backend.hardware().precision)
    conditions = Conditions(dataset=dataset, recipe=recipe, seed=0)
    executor = backend.open(conditions, Path(".sweeper/checkpoints"))
    plan = StudyPlan(
        created=datetime.now(UTC).isoformat(),
        conditions=conditions,
        profile=profile_dataset(dataset),
        space=load_space(get_default_space_name(dataset.task)),
        imbalance=imbalance,
        versions=versions(),
    )
    tracker.begin_sweep(create_study(open_storage("sqlite:///sweeper.db"), "fixed", plan), plan)
    work = Fixed(specs, tracker)
    run_work(executor, work, lambda: None)
    tracker.end_sweep("FINISHED")
    return work.results


def spec(number: int, params: dict[str, Any], imbalance: float, steps: int) -> TrialSpec:
    """Return the plain loop's configuration as ours."""
    from sweeper.core.records import TrialSpec

    kind = params["loss"]
    coordinates = {key: float(params[key]) for key in ("gamma", "alpha", "mix", "fn_weight") if key in params}
    if kind == "tversky":
        coordinates["fp_weight"] = 1 - coordinates["fn_weight"]
    if kind == "weighted_ce":
        coordinates["pos_weight"] = imbalance ** params["power"]
    family = NAMES.get(kind, kind)
    return TrialSpec(
        purpose="search", number=number, family=family, params=coordinates, lr=params["lr"], seed=0, steps=steps
    )


if __name__ == "__main__":
    main()
