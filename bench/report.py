"""Measure how long the report of a large study takes.

    python bench/report.py [--trials 1000] [--images 500] [--finalists 6] [--seeds 8]

Nothing is trained: the study consists of records from tests/support/builders.py, with counts of every test image in
every confirmation, and of every validation image in every trial.

Prints the seconds to conclude the study and to write its report, the processor's seconds, and the size of the HTML, for
two turns; the first includes imports. Takes a few seconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from sweeper.core.records import SweepRecord
from sweeper.report import write_report
from sweeper.workflow.conclude import draw_conclusion, make_document
from tests.support import builders


def make_study(trials: int, images: int, finalists: int, seeds: int) -> SweepRecord:
    """Return a binary study with this number of search trials, a third of them stopped early."""
    rng = np.random.default_rng(0)
    order = builders.ORDER
    results = []
    for i in range(trials):
        family = order[i % len(order)]
        params = {name: float(value * rng.uniform(0.5, 1.5)) for name, value in builders.PARAMS[family].items()}
        if "mix" in params:
            params["mix"] = min(1.0, params["mix"])
        spec = builders.spec(family, i, params=params, lr=float(10 ** rng.uniform(-3.5, -2)))
        result = builders.trial(family, float(rng.uniform(0.5, 0.8)), i, spec=spec)
        if i % 3 == 0:
            result = result.model_copy(update={"state": "pruned", "evaluations": result.evaluations[:2]})
        results.append(result)
    complete = sorted((each for each in results if each.state == "complete"), key=lambda each: each.value or 0)
    best = {each.spec.family: each for each in complete}  # the last one, with the highest value, stays
    families = sorted(order, key=lambda f: (f != "cross_entropy", -(best[f].value or 0)))[:finalists]
    scores = {family: 0.5 + 0.02 * i for i, family in enumerate(families)}
    runs = []
    for run in builders.simulated_confirmations(scores, rng, images=images, seeds=tuple(range(101, 101 + seeds))):
        trial = best[run.spec.family].spec
        spec = run.spec.model_copy(update={"params": trial.params, "lr": trial.lr})
        runs.append(run.model_copy(update={"spec": spec}))
    return builders.sweep(results, runs, builders.dataset(images=5 * images), trials_asked=trials)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--images", type=int, default=500, help="test images")
    parser.add_argument("--finalists", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=8)
    arguments = parser.parse_args()
    sweep = make_study(arguments.trials, arguments.images, arguments.finalists, arguments.seeds)
    with tempfile.TemporaryDirectory() as folder:
        for turn in ("first turn", "second turn"):
            started, spent = time.perf_counter(), time.process_time()
            conclusion = draw_conclusion(sweep)
            document = make_document(sweep, conclusion)
            concluded = time.perf_counter()
            paths = write_report(sweep, document, conclusion.evidence, Path(folder))
            ended = time.perf_counter()
            processor = time.process_time() - spent
            print(
                f"{turn}: {arguments.trials} trials, {len(sweep.confirmations)} confirmations, {arguments.images} "
                f"images: concluded in {concluded - started:.2f} s, written in {ended - concluded:.2f} s, "
                f"{processor:.2f} s of the processor; {paths.html.stat().st_size / 1e6:.2f} MB of HTML"
            )


if __name__ == "__main__":
    main()
