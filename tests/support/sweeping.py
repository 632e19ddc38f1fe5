"""Run small sweeps in this process, for tests of the whole flow."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mlflow.tracking import MlflowClient

from sweeper.core.events import ResultStored, SweepEvent, TrainingDropped, TrainingPaused, TrainingResumed
from sweeper.core.records import TrialResult, TrialSpec
from sweeper.report.facts import ReportFacts
from sweeper.report.figures import FIGURES, DrawnFigure, draw_all
from sweeper.tracking.mlflow_connection import connect_to_mlflow
from sweeper.workflow.advice import add_advice
from sweeper.workflow.conclude import ReportedStudy
from sweeper.workflow.phase_progress import PhaseCounts
from sweeper.workflow.run import run_sweep
from sweeper.workflow.settings import Settings
from tests.conftest import TINY
from tests.support import mlflow_template

TWO_LOSSES = str(Path(__file__).with_name("two_losses.yaml"))
"""A search space for tests in which the losses do not matter: it has fewer finalists to train."""


class Recorder:
    """A display that stores what it receives, and can request a stop after some trainings."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.steps: list[tuple[str, int, int]] = []
        self.phases: list[tuple[str, int, int]] = []
        self.results: list[TrialResult] = []
        self.dropped: list[TrialSpec] = []
        self.paused: list[int] = []
        self.resumed: list[int] = []
        self._stop_after = stop_after

    @property
    def status(self) -> int | None:
        """Exit status once enough has happened."""
        return 130 if self._stop_after is not None and len(self.results) >= self._stop_after else None

    def defer_signals(self) -> None:
        pass

    def log(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, what: str, done: int, total: int) -> None:
        self.steps.append((what, done, total))

    def begin_phase(self, name: str, total: int, counts: PhaseCounts) -> None:
        self.phases.append((name, counts.done, total))

    def set_forecast(self, left: Callable[[], str]) -> None:
        pass

    def notify(self, event: SweepEvent) -> None:
        match event:
            case TrainingPaused(spec):
                self.paused.append(spec.number)
            case TrainingResumed(spec):
                self.resumed.append(spec.number)
            case ResultStored(result):
                self.keep(result)
            case TrainingDropped(spec):
                self.dropped.append(spec)

    def keep(self, result: TrialResult) -> None:
        self.results.append(result)


def make_settings(folder: Path, **changes: Any) -> Settings:
    """Return settings of a sweep that stores everything below `folder` and takes some seconds."""
    values: dict[str, Any] = {
        "data": TINY,
        "trials": 7,
        "steps": 4,
        "confirm_steps": 4,
        "size": 32,
        "batch_size": 2,
        "seeds": "2",
        "final": "none",
        "workers": 0,
        "device": "cpu",
        "precision": "float32",
        "storage": f"sqlite:///{folder}/sweeper.db",
        "tracking_uri": f"sqlite:///{folder}/mlflow.db",
        "out": folder / "reports",
        "cache": folder / "cache",
        "study": "study",
    }
    return Settings(**{**values, **changes})


def draw_one_figure(
    facts: ReportFacts, folder: Path, report_alive: Callable[[], None] = lambda: None
) -> dict[str, DrawnFigure | str]:
    """Draw one figure in place of `draw_all`."""
    with patch.dict(FIGURES, {"classes": FIGURES["classes"]}, clear=True):
        figures = draw_all(facts, folder, report_alive)
    return dict.fromkeys(FIGURES, "this test draws one figure") | figures


def get_time() -> datetime:
    """Return a constant time."""
    return datetime(2026, 11, 20, 7, 0, tzinfo=UTC)


def run_small_sweep(
    folder: Path,
    display: Recorder | None = None,
    timer: Callable[[], float] = time.monotonic,
    figures: bool = False,
    advised: bool = False,
    **changes: Any,
) -> ReportedStudy:
    """Run a small sweep, its losses in the registry's order unless `advised`.

    All figures take a fifth of its time, so that one is drawn unless `figures`.
    """
    display = display or Recorder()

    def connect(uri: str) -> MlflowClient:
        if uri == f"sqlite:///{folder}/mlflow.db":
            mlflow_template.write_store(folder)
        return connect_to_mlflow(uri)

    advice = add_advice if advised else lambda space, *_: space
    drawing = draw_all if figures else draw_one_figure
    with (
        patch("sweeper.tracking.tracker.connect_to_mlflow", connect),
        patch("sweeper.report.figures.draw_all", drawing),
        patch("sweeper.workflow.prepare.add_advice", advice),
    ):
        return run_sweep(make_settings(folder, **changes), display, display, clock=get_time, cores=1, timer=timer)
