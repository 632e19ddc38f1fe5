"""Measure what a sweep costs besides training.

    python bench/overhead.py [--trials 50] [--images 20] [--no-mlflow | --server] [--profile]

The trials take no time, but are asked for, evaluated, stopped and stored as in a sweep, and logged to MLflow; study and
MLflow are in SQLite, with `--server` MLflow is behind its own server.

Prints milliseconds per trial by the clock and of the processor, in the mean and for the first and the last trials (100,
or half of them); the growth of this process's resident memory; and the seconds of the report. `--profile` prints the
functions that take most. 50 trials take some 10 s.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from sweeper import storage as studies
from sweeper.core.events import Observers, ResultStored, SweepEvent
from sweeper.core.records import ImageCounts, StudyRates, TrialResult, TrialSpec
from sweeper.space import get_middle_rate
from sweeper.study.loop import run_work
from sweeper.study.search import LossSearch, enqueue_defaults
from sweeper.tracking import MlflowTracker
from sweeper.workflow.conclude import report_study
from tests.support import builders
from tests.support.faking import SPACE, FakeExecutor, fake_result, new_plan
from tests.support.mlflow_server import Server
from tests.support.sweeping import Recorder


def measure_memory() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--images", type=int, default=20, help="validation images, whose counts are stored")
    parser.add_argument("--server", action="store_true", help="MLflow behind `mlflow server`")
    parser.add_argument("--no-mlflow", action="store_true")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    counts: ImageCounts = builders.counts_from_iou(np.linspace(0.2, 0.8, arguments.images))

    def train(spec: TrialSpec) -> TrialResult:
        return fake_result(spec).model_copy(update={"val": counts})

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(folder) if arguments.server else None
        if server:
            server.start()
        uri = server.uri if server else f"sqlite:///{folder}/mlflow.db"
        storage = studies.open_storage(f"sqlite:///{folder}/sweeper.db")
        plan = new_plan()
        study = studies.create_study(storage, "bench", plan)
        enqueue_defaults(study, SPACE, arguments.trials)
        display = TrialClock()
        tracker = None
        if not arguments.no_mlflow:
            tracker = MlflowTracker(uri, warn=print)
            tracker.begin_sweep(study, plan)
        work = LossSearch(
            study,
            SPACE,
            plan.conditions,
            imbalance=60.0,
            trials=arguments.trials,
            rates=StudyRates(by_family=dict.fromkeys(SPACE.by_name, get_middle_rate(SPACE.lr))),
            recorder=Observers((display,) if tracker is None else (tracker, display)),
            checkpoints=folder,
        )
        profile = cProfile.Profile()
        if arguments.profile:
            profile.enable()
        display.mark()
        run_work(FakeExecutor(train), work, lambda: None)  # type: ignore[arg-type]
        profile.disable()
        if arguments.profile:
            pstats.Stats(profile).sort_stats("cumulative").print_stats(70)
        if tracker is not None:
            began = time.perf_counter()
            tracker.end_sweep("FINISHED")
            print(f"at the end the study waited {time.perf_counter() - began:.2f} s for MLflow")
        memory = np.array(display.memory)
        for clock, marks in (("by the clock", display.times), ("of the processor", display.processor)):
            each = 1000 * np.diff(marks)
            part = min(100, len(each) // 2)
            first, last = each[:part].mean(), each[-part:].mean()
            print(
                f"{arguments.trials} trials, {clock}: {each.mean():.1f} ms a trial; first {part}: {first:.1f}, last "
                f"{part}: {last:.1f}, ratio {last / first:.2f}"
            )
        start = min(20, part)
        print(f"resident memory grew by {memory[-1] - memory[start]:.1f} MiB after trial {start}")
        began = time.perf_counter()
        report_study(storage, "bench", out=folder / "reports")
        print(f"report: {time.perf_counter() - began:.2f} s")
        if server:
            server.kill()


class TrialClock(Recorder):
    """Times and memory at the moments when trials were stored."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []
        self.memory: list[float] = []
        self.processor: list[float] = []

    def mark(self) -> None:
        self.times.append(time.perf_counter())
        self.processor.append(time.process_time())
        self.memory.append(measure_memory())

    def notify(self, event: SweepEvent) -> None:
        if isinstance(event, ResultStored):
            self.mark()


if __name__ == "__main__":
    main()
