"""Train fixed configurations on sweeper's worker processes, with tracking but without search; for bench/sweep.py.

    python bench/fixed.py DATA COUNT STEPS

Prints one JSON document: milliseconds per step of one worker, and the best validation mIoU at 0.5. Writes mlflow.db,
sweeper.db and .sweeper/ in the current folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

# As in `sweeper run`, the workers also import what is imported here; the rest is imported once they have started.
from sweeper.core.events import JobResult, Observer, ResultStored, TrainingJob
from sweeper.executors.processes import ProcessBackend
from sweeper.study.loop import WorkSource
from sweeper.system.machine import count_available_cores

if TYPE_CHECKING:
    from sweeper.core.recipe import Precision, Recipe
    from sweeper.core.records import TrialResult, TrialSpec

FAMILIES = {"ce": "cross_entropy"}
"""Families whose name in bench/plain_loop.py is another."""


class FixedTrainings(WorkSource):
    """Trainings that are known beforehand; each is one job, until its end."""

    def __init__(self, specs: list[TrialSpec], recorder: Observer) -> None:
        super().__init__(recorder)
        self.queue = list(specs)
        self.results: list[TrialResult] = []

    def next(self) -> TrainingJob | None:
        return TrainingJob(self.queue[0], self.queue.pop(0).steps) if self.queue else None

    def take_answer(self, answer: JobResult) -> bool:
        self.results.append(answer.result)
        self._recorder.notify(ResultStored(answer.result))
        return True

    def handle_dead_worker(self, spec: TrialSpec, reason: str) -> None:
        raise SystemExit(f"{spec.family}: {reason}")

    def handle_interruption(self, reason: str) -> None:
        raise SystemExit(f"interrupted: {reason}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("count", type=int)
    parser.add_argument("steps", type=int)
    arguments = parser.parse_args()
    with closing(ProcessBackend("auto", None, count_available_cores(), print)) as backend:
        results = train(backend, arguments.data, arguments.count, arguments.steps)
    print(
        json.dumps(
            {
                "ms_per_step": 1000 * statistics.median(r.seconds_per_step or 0.0 for r in results),
                "val_miou": max(r.evaluations[-1].default.miou for r in results),
            }
        )
    )


def train(backend: ProcessBackend, data: str, count: int, steps: int) -> list[TrialResult]:
    """Train the first `count` fixed configurations; return their results."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from bench.configurations import list_fixed_configurations
    from sweeper.core.records import Conditions
    from sweeper.data import divide_images, load_dataset
    from sweeper.fingerprint.imbalance import measure_imbalance, profile_dataset
    from sweeper.space import load_space
    from sweeper.storage import StudyPlan, create_study, open_storage
    from sweeper.study.loop import run_work
    from sweeper.tracking import MlflowTracker
    from sweeper.version import read_versions

    # In the order of `sweeper run`; meanwhile the workers load their libraries.
    tracker = MlflowTracker("sqlite:///mlflow.db", warn=print)
    dataset = load_dataset(data, Path(".sweeper/cache"), lambda line: None)
    imbalance = measure_imbalance(dataset, divide_images(dataset, test_seed=0, seed=0).train)
    configurations = list_fixed_configurations(count)
    specs = [make_spec(number, params, imbalance, steps) for number, params in enumerate(configurations)]
    conditions = Conditions(dataset=dataset, recipe=make_recipe(steps, backend.get_hardware().precision), seed=0)
    executor = backend.open(conditions, Path(".sweeper/checkpoints"))
    plan = StudyPlan(
        created=datetime.now(UTC).isoformat(),
        conditions=conditions,
        profile=profile_dataset(dataset),
        space=load_space(dataset.task),
        imbalance=imbalance,
        versions=read_versions(),
    )
    tracker.begin_sweep(create_study(open_storage("sqlite:///sweeper.db"), "fixed", plan), plan)
    work = FixedTrainings(specs, tracker)
    run_work(executor, work, lambda: None)
    tracker.end_sweep("FINISHED")
    return work.results


def make_recipe(steps: int, precision: Precision) -> Recipe:
    """Return the default recipe on a CPU, whose network, crops and batches bench/plain_loop.py also has."""
    from sweeper.core.recipe import Recipe
    from sweeper.workflow.settings import CPU_SIZE, CPU_WIDTH

    return Recipe(size=CPU_SIZE, decoder_width=CPU_WIDTH, steps=steps, precision=precision)


def make_spec(number: int, params: dict[str, Any], imbalance: float, steps: int) -> TrialSpec:
    """Return the training that a configuration of the plain loop is in sweeper."""
    from sweeper.core.records import TrialSpec

    kind = params["loss"]
    names: tuple[str, ...] = ("gamma", "alpha", "mix", "fn_weight")
    values = {name: float(params[name]) for name in names if name in params}
    if kind == "tversky":
        values["fp_weight"] = 1 - values["fn_weight"]
    if kind == "weighted_ce":
        values["pos_weight"] = imbalance ** params["power"]
    family = FAMILIES.get(kind, kind)
    return TrialSpec(
        purpose="search", number=number, family=family, params=values, lr=params["lr"], seed=0, steps=steps
    )


if __name__ == "__main__":
    main()
