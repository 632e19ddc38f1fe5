"""What all phases of a sweep work with: the open study, its executor, its display, its limits of time and signals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sweeper import storage as studies
from sweeper.core.errors import ExecutorError, InterruptedSweepError, LostStudyError
from sweeper.core.events import Observer
from sweeper.core.records import SweepRecord
from sweeper.executors.protocol import Executor
from sweeper.study.loop import FailureCount, WorkSource, run_work
from sweeper.study.same_loss import Measure, measure_loss_distances
from sweeper.study.timekeeper import Timekeeper
from sweeper.workflow.options import StudyRequest
from sweeper.workflow.phase_progress import PhaseCounts
from sweeper.workflow.prepare import MessageSink
from sweeper.workflow.status import Heartbeat
from sweeper.workflow.study_state import count_phase_trainings

if TYPE_CHECKING:
    import optuna


class Display(MessageSink, Observer, Protocol):
    """Display of the sweep for the user."""

    def begin_phase(self, name: str, total: int, held: PhaseCounts) -> None:
        """Begin a phase of `total` trainings, some of which have ended; its name is the purpose of the trainings.

        A confirmation begins again with each interim analysis, as the number of analyses is not known before.
        """

    def set_forecast(self, forecast: Callable[[], str]) -> None:
        """Set the function that returns when the answers are expected; "" while that is unknown."""


class StopSignal(Protocol):
    """Stop request of a signal, with its exit status."""

    @property
    def status(self) -> int | None:
        """130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, None without a request."""

    def defer_signals(self) -> None:
        """Record signals in `status` from now on; before this, a signal may end the program at once."""


@dataclass
class RunContext:
    """Study in progress, with everything that its phases work with."""

    study: optuna.Study
    plan: studies.StudyPlan
    request: StudyRequest
    executor: Executor
    checkpoints: Path
    """Folder of the trials that wait."""
    recorder: Observer
    display: Display
    stop: StopSignal
    time: Timekeeper
    read_sweep: Callable[[], SweepRecord]
    """Reads the record of the study."""
    is_taken_over: Callable[[], bool] = lambda: False
    """Whether another process has taken the study over."""
    failures: FailureCount = field(default_factory=FailureCount)
    """Trainings that failed in a row, over all phases."""
    heartbeat: Heartbeat | None = None
    """Writer of the status file; None = no file is written."""
    publish_answer: Callable[[], str] = lambda: ""
    """Publishes the answer so far if it has changed, and returns it with its place; "" if there is none yet."""
    resume_command: str = ""
    """The command that continues the study."""
    measure: Measure = measure_loss_distances
    """Function that measures the distance between losses on the data's labels."""

    def run_work(self, work: WorkSource) -> bool:
        """Train; return False when the time is up, after which no training is possible.

        Raises:
            InterruptedSweepError: on a signal; the study can be resumed.
            ExecutorError: if no more training is possible, or too many failed in a row; the study can be resumed.
            LostStudyError: if another process has taken the study over.
        """
        if self.time.is_over():
            return False
        try:
            done = run_work(self.executor, work, self._find_reason_to_stop, self.failures)
        except ExecutorError as error:
            raise ExecutorError(
                f"{error}. The sweep stops here, and everything finished is kept. Remove the cause, then continue: "
                f"{self.resume_command}"
            ) from error
        if self.stop.status is not None and not done:
            raise InterruptedSweepError(
                f"stopped; everything finished is kept. {self.publish_answer()}To continue:\n{self.resume_command}",
                self.stop.status,
            )
        return done

    def show_phase(self, name: str, *, total: int | None = None, missing: int = 0) -> None:
        """Show a phase on the display and in the status file; without a `total`, it has `missing` more trainings."""
        held = count_phase_trainings(self.study, self.plan, name)
        total = held.done + missing if total is None else total
        self.display.begin_phase(name, total, held)
        if self.heartbeat is not None:
            self.heartbeat.begin_phase(name, total, held)

    def record_time_cut(self, sentence: str) -> None:
        """Record and report what the time limit cut short."""
        sentences = [*self.study.user_attrs.get(studies.CUT, []), sentence]
        self.study.set_user_attr(studies.CUT, sentences)
        self.display.warn(f"--time: {sentence}")

    def _find_reason_to_stop(self) -> str | None:
        if self.is_taken_over():
            raise LostStudyError(self.study.study_name, self.resume_command)
        if self.heartbeat is not None:
            self.heartbeat.record_sign_of_life()
        if self.stop.status is not None:
            return "the sweep was stopped"
        return "the time was up" if self.time.is_over() else None
