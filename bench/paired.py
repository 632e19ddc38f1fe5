"""Compare the recommended loss with other configurations, on the same seeds; for bench/sweep.py.

    python bench/paired.py STUDY PARAMS [PARAMS …]

Run it in the folder of a finished `sweeper run`. PARAMS is a configuration of bench/plain_loop.py as JSON, e.g. the
loop's best trial. Each is trained on the seeds, splits, steps and averaging of the study's confirmation, and scored on
its test images as the recommended finalist was: at the operating point chosen on validation images, and at 0.5.

Prints a JSON list: for each configuration the mean difference in test mIoU (recommended minus other) and its standard
error over the seeds. Takes as long as the study's confirmation of one finalist, for each configuration.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.fixed import FixedTrainings, make_spec
from sweeper.core.events import Observers
from sweeper.executors.processes import ProcessBackend
from sweeper.system.machine import count_available_cores

if TYPE_CHECKING:
    from sweeper.core.records import TrialResult


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("params", nargs="+")
    arguments = parser.parse_args()
    comparisons = []
    for params in arguments.params:
        with closing(ProcessBackend("auto", None, count_available_cores(), print)) as backend:
            comparisons.append(compare_with_recommended(backend, arguments.study, json.loads(params)))
    print(json.dumps(comparisons))


def compare_with_recommended(backend: ProcessBackend, study: str, params: dict[str, Any]) -> dict[str, Any]:
    """Train a configuration on the seeds of the recommended finalist; return the differences, recommended minus it."""
    import optuna

    from sweeper import storage as studies
    from sweeper.core.metrics import compute_objective, count_at_point, find_present_classes
    from sweeper.study.loop import run_work

    storage = studies.open_storage("sqlite:///sweeper.db")
    plan = studies.read_plan(storage, study)
    report = json.loads((Path("reports") / study / "recommendation.json").read_text())
    if report["use"] is None:
        raise SystemExit(f"{study} recommends no loss, so there is nothing to compare with; name another study")
    recommended = report["use"]["loss"]
    confirmed = studies.list_extra_results(optuna.load_study(study_name=study, storage=storage), "confirm")
    ours = {result.spec.seed: result for result in confirmed if result.spec.family == recommended}
    steps = next(iter(ours.values())).spec.steps
    spec = make_spec(0, params, plan.imbalance, steps).model_copy(update={"purpose": "confirm"})
    executor = backend.open(plan.conditions, Path(".sweeper/checkpoints"))
    specs = [spec.model_copy(update={"seed": seed, "number": n}) for n, seed in enumerate(ours)]
    work = FixedTrainings(specs, Observers(()))
    run_work(executor, work, lambda: None)
    theirs = {result.spec.seed: result for result in work.results}

    def score(result: TrialResult, point: float) -> float:
        if result.test is None:
            return 0.0
        counts = count_at_point(result.test, point)
        return float(compute_objective(counts.sum(axis=0), find_present_classes(counts)))

    gaps = {
        name: [score(ours[s], get_point(ours[s])) - score(theirs[s], get_point(theirs[s])) for s in ours]
        for name, get_point in (("tuned", lambda result: result.evaluations[-1].point), ("at 0.5", lambda result: 0.5))
    }
    comparison: dict[str, Any] = {"recommended": recommended, "other": params, "seeds": len(ours), "steps": steps}
    for name, values in gaps.items():
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
        comparison[name] = {"mean": statistics.mean(values), "standard_error": error}
    return comparison


if __name__ == "__main__":
    main()
