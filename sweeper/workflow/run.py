"""`sweeper run`: what is refused is refused before anything is written; then the study is made or opened, and led."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import datetime
from typing import TYPE_CHECKING

from sweeper import storage as studies
from sweeper.executors.protocol import Backend
from sweeper.system.disk_space import full_disk_explained
from sweeper.system.locks import sqlite_path
from sweeper.workflow.conclude import Outcome
from sweeper.workflow.executor_choice import make_backend
from sweeper.workflow.lead import Session, lead
from sweeper.workflow.options import given_options, resumed
from sweeper.workflow.phases import Display, Stop
from sweeper.workflow.prepare import Prepared, prepare
from sweeper.workflow.request_checks import check_places, check_request, is_new_file, written_places
from sweeper.workflow.settings import Settings

if TYPE_CHECKING:
    import optuna

    from sweeper.storage.resilient_storage import RetryingStorage
    from sweeper.tracking import Tracker

Clock = Callable[[], datetime]


def run_sweep(
    settings: Settings,
    display: Display,
    stop: Stop,
    *,
    clock: Clock,
    cores: int,
    backend: Backend | None = None,
    timer: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Run, or resume, a sweep to its report.

    Args:
        settings: what was asked for.
        display: is told what happens.
        stop: is looked at between events.
        clock: the time in UTC, for the study's name and its record.
        cores: processor cores that the workers share.
        backend: where the trainings run; None = made here. It is closed in any case.
        timer: seconds from an arbitrary zero, for the time limit and how long the session took: the time of day may be
            set back or forward meanwhile.

    Raises:
        UsageError: (DataError, SpaceError, StudyError among them) before anything was trained.
        NothingCompletedError: if no trial completed; the report says so too.
        InterruptedSweepError: if `stop` said so; the study can be resumed.
        ExecutorError: if nothing can be trained any more, or everything fails; the study can be resumed.
    """
    now, began = clock(), timer()
    with ExitStack() as opened:
        if backend is not None:  # closed also where the request is refused
            opened.callback(backend.close)
        check_places(settings)
        # Files that are not there yet are made once the data are accepted: what is refused leaves nothing behind.
        storage = None if is_new_file(settings.storage) and not settings.resume else _opened(settings, display)
        if storage is not None:
            settings = resumed(settings, storage)
        check_request(storage, settings)
        backend = backend or opened.enter_context(closing(make_backend(settings, cores, display.warn)))
        places = written_places(settings)
        named = opened.enter_context(full_disk_explained(settings.study, places, storage=settings.storage))
        tracker = None if is_new_file(settings.tracking_uri) else _tracker(settings, display, stop)
        prepared = prepare(settings, storage, backend, display, now)
        with prepared.held:
            storage = storage or _opened(settings, display)
            mlflow_file = sqlite_path(settings.tracking_uri)
            storage.tracking = mlflow_file and mlflow_file.absolute()
            tracker = tracker or _tracker(settings, display, stop)
            stop.defer()
            study = _study(storage, prepared, settings)
            named(prepared.name)
            return lead(
                Session(
                    settings=settings,
                    display=display,
                    stop=stop,
                    gone=lambda: timer() - began,
                    storage=storage,
                    tracker=tracker,
                    prepared=prepared,
                    study=study,
                )
            )


def _tracker(settings: Settings, display: Display, stop: Stop) -> Tracker:
    from sweeper.tracking import Tracker  # MLflow takes seconds, which a request that was refused need not wait for

    return Tracker(
        settings.tracking_uri,
        warn=display.warn,
        log=display.log,
        stopped=lambda: stop.status is not None,
    )


def _opened(settings: Settings, display: Display) -> RetryingStorage:
    return studies.open_storage(settings.storage, create=not settings.resume, warn=display.warn)


def _study(storage: RetryingStorage, prepared: Prepared, settings: Settings) -> optuna.Study:
    """A new study; of a resume that which is there, in which nothing is written yet: another process may run it."""
    if prepared.old is not None:
        return studies.load_study(storage, prepared.name)
    return studies.create_study(storage, prepared.name, prepared.plan, given_options(settings), prepared.machine)
