"""How long the report of a large study takes: python bench/report.py [--trials 1000] [--images 500] [--finalists 6].

Nothing is trained: the study is made of literal records as tests/support/builders.py makes them, with counts of every
test image in every confirmation and of every validation image in every trial.
The first turn includes what is imported late.
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
from sweeper.workflow.conclude import draw_conclusion
from tests.support import builders


def study(trials: int, images: int, finalists: int, seeds: int) -> SweepRecord:
    """Make a binary study with `trials` search trials, a third of them stopped early."""
    rng = np.random.default_rng(0)
    order = builders.ORDER
    made = []
    for i in range(trials):
        family = order[i % len(order)]
        params = {name: float(value * rng.uniform(0.5, 1.5)) for name, value in builders.PARAMS[family].items()}
        if "mix" in params:
            params["mix"] = min(1.0, params["mix"])
        spec = builders.spec(family, i, params=params, lr=float(10 ** rng.uniform(-3.5, -2)))
        result = builders.trial(family, float(rng.uniform(0.5, 0.8)), i, spec=spec)
        if i % 3 == 0:
            result = result.model_copy(update={"state": "pruned", "evaluations": result.evaluations[:2]})
        made.append(result)
    best = {f: max((t for t in made if t.spec.family == f and t.state == "complete"), key=lambda t: t.value or 0)
            for f in order}  # fmt: skip
    chosen = sorted(order, key=lambda f: (f != "cross_entropy", -(best[f].value or 0)))[:finalists]
    runs = builders.simulated_confirmations(
        {f: 0.5 + 0.02 * i for i, f in enumerate(chosen)}, rng, images=images, seeds=tuple(range(101, 101 + seeds))
    )
    runs = [r.model_copy(update={"spec": r.spec.model_copy(update={
        "params": best[r.spec.family].spec.params, "lr": best[r.spec.family].spec.lr})}) for r in runs]  # fmt: skip
    return builders.sweep(made, runs, builders.dataset(images=5 * images), trials_asked=trials, confirm_seeds=seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--images", type=int, default=500, help="test images")
    parser.add_argument("--finalists", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=8)
    given = parser.parse_args()
    sweep = study(given.trials, given.images, given.finalists, given.seeds)
    with tempfile.TemporaryDirectory() as folder:
        for turn in ("first", "again"):
            started, spent = time.perf_counter(), time.process_time()
            recommendation = draw_conclusion(sweep)
            concluded = time.perf_counter()
            paths = write_report(sweep, recommendation, Path(folder))
            written = time.perf_counter()
            print(
                f"{turn}: {given.trials} trials, {len(sweep.confirmations)} confirmations, {given.images} images: "
                f"concluded in {concluded - started:.2f} s, written in {written - concluded:.2f} s, of the processor "
                f"{time.process_time() - spent:.2f} s; {paths.html.stat().st_size / 1e6:.2f} MB of HTML"
            )


if __name__ == "__main__":
    main()
