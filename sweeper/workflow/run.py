"""`sweeper run`: check the request before anything is written, then create or open the study, and run it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from sweeper import storage as studies
from sweeper.core.errors import SweeperError
from sweeper.core.text import format_resume_command
from sweeper.executors.protocol import Backend
from sweeper.workflow.conclude import ReportedStudy
from sweeper.workflow.executor_choice import make_backend
from sweeper.workflow.lead import StudySession, run_study
from sweeper.workflow.options import list_stored_options
from sweeper.workflow.prepare import prepare_study
from sweeper.workflow.recipe_choice import describe_recipe
from sweeper.workflow.request_checks import is_new_file, open_request
from sweeper.workflow.run_context import Display, StopSignal
from sweeper.workflow.settings import Settings

if TYPE_CHECKING:
    from sweeper.tracking import MlflowTracker


def run_sweep(
    settings: Settings,
    display: Display,
    stop: StopSignal,
    *,
    clock: Callable[[], datetime],
    cores: int,
    backend: Backend | None = None,
    timer: Callable[[], float] = time.monotonic,
) -> ReportedStudy:
    """Run, or resume, a sweep to its report.

    `stop` is checked between events. `clock` returns the time in UTC, for the study's name and record. The backend is
    created if none is given, and closed in any case. `timer` returns seconds from an arbitrary zero, for the time limit
    and the session's duration: the system clock may be changed meanwhile.

    Raises:
        UsageError: (DataError, SpaceError, StudyError among them) before anything was trained.
        NothingCompletedError: if no trial completed; the report says so too.
        InterruptedSweepError: on a stop request; the study can be resumed.
        ExecutorError: if no more training is possible, or too many failed in a row; the study can be resumed.
    """
    now, began = clock(), timer()
    with ExitStack() as opened:
        if backend is not None:  # closed also where the request is refused
            opened.callback(backend.close)
        storage, settings = open_request(settings, create=True, warn=display.warn)
        backend = backend or opened.enter_context(closing(make_backend(settings, cores, display.warn)))
        names = [settings.study]
        opened.enter_context(_add_resume_command(names, settings))
        tracker = None if is_new_file(settings.tracking_uri) else _make_tracker(settings, display, stop)
        if tracker is not None and settings.study is not None:
            tracker.mirror.check_experiment(settings.study)  # before a script is probed
        prepared = prepare_study(settings, storage, backend, display, now)
        if prepared.old is None:
            display.log(f"recipe: {describe_recipe(prepared.plan.conditions.recipe)}")
        storage = storage or studies.open_storage(settings.storage, warn=display.warn)
        storage.places = settings.places
        tracker = tracker or _make_tracker(settings, display, stop)
        stop.defer_signals()
        name = prepared.name
        if prepared.old is not None:  # not updated here: another process may be running it
            study = studies.open_study(storage, name)
        else:
            options = list_stored_options(settings)
            study = studies.create_study(storage, name, prepared.plan, options, prepared.machine)
        names.append(name)
        return run_study(
            StudySession(
                settings=settings,
                display=display,
                stop=stop,
                elapsed_seconds=lambda: timer() - began,
                storage=storage,
                tracker=tracker,
                prepared=prepared,
                study=study,
            )
        )


@contextmanager
def _add_resume_command(names: Sequence[str | None], settings: Settings) -> Iterator[None]:
    """Add the command that continues the study, whose name is the last one, to an unexpected error of the block."""
    try:
        yield
    except Exception as error:
        if names[-1] is not None and not isinstance(error, SweeperError):
            error.add_note(format_resume_command(names[-1], settings.storage, settings.places))
        raise


def _make_tracker(settings: Settings, display: Display, stop: StopSignal) -> MlflowTracker:
    from sweeper.tracking import MlflowTracker  # MLflow takes seconds, which a refused request need not wait for

    return MlflowTracker(
        settings.tracking_uri, warn=display.warn, log=display.log, stopped=lambda: stop.status is not None
    )
