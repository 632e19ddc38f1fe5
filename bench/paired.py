"""What was recommended against other configurations, on the same seeds: python bench/paired.py STUDY PARAMS [...].

In the folder of a finished `sweeper run`. PARAMS is a configuration of bench/plain_loop.py as JSON, e.g. the loop's
best trial. Each is trained on the seeds, splits, steps and averaging of the study's confirmation, and scored on its
test split at the threshold chosen on validation, and at 0.5, as the recommended finalist was. Prints one JSON list.
"""

from __future__ import annotations

import json
import statistics
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixed import Fixed, spec

from sweeper.core.events import JobResult
from sweeper.executors.processes import ProcessBackend
from sweeper.system.cores import count_available_cores

if TYPE_CHECKING:
    from sweeper.core.records import TrialResult, TrialSpec


class Untracked(Fixed):
    """Trainings that are logged nowhere."""

    def __init__(self, specs: list[TrialSpec]) -> None:
        self.queue, self.results = specs, []

    def take_answer(self, answer: JobResult) -> bool:
        self.results.append(answer.result)
        return True


def main() -> None:
    found = []
    for params in sys.argv[2:]:
        with closing(ProcessBackend("auto", None, count_available_cores(), print)) as backend:
            found.append(compared(backend, sys.argv[1], json.loads(params)))
    print(json.dumps(found))


def compared(backend: ProcessBackend, study: str, params: dict[str, Any]) -> dict[str, Any]:
    """Paired differences, recommended minus other, by seed."""
    import optuna

    from sweeper import storage as studies
    from sweeper.core.metrics import compute_objective, count_at_point, find_present_classes
    from sweeper.study.loop import run_work

    storage = studies.open_storage("sqlite:///sweeper.db")
    plan = studies.read_plan(storage, study)
    chosen = json.loads((Path("reports") / study / "recommendation.json").read_text())["recommended"]["family"]
    confirmed = studies.list_extra_results(optuna.load_study(study_name=study, storage=storage), "confirm")
    ours = {r.spec.seed: r for r in confirmed if r.spec.family == chosen}
    steps = next(iter(ours.values())).spec.steps
    as_ours = spec(0, params, plan.imbalance, steps)
    executor = backend.open(plan.conditions, Path(".sweeper/checkpoints"))
    work = Untracked(
        [as_ours.model_copy(update={"purpose": "confirm", "seed": seed, "number": n}) for n, seed in enumerate(ours)]
    )
    run_work(executor, work, lambda: None)
    theirs = {r.spec.seed: r for r in work.results}

    def score(result: TrialResult, point: float) -> float:
        if result.test is None:
            return 0.0
        counts = count_at_point(result.test, point)
        return float(compute_objective(counts.sum(axis=0), find_present_classes(counts)))

    gaps = {
        name: [score(ours[s], point(ours[s])) - score(theirs[s], point(theirs[s])) for s in ours]
        for name, point in (("tuned", lambda r: r.evaluations[-1].point), ("at 0.5", lambda r: 0.5))
    }
    found: dict[str, Any] = {"recommended": chosen, "other": params, "seeds": len(ours), "steps": steps}
    for name, each in gaps.items():
        error = statistics.stdev(each) / len(each) ** 0.5 if len(each) > 1 else None
        found[name] = {"mean": statistics.mean(each), "standard_error": error}
    return found


if __name__ == "__main__":
    main()
