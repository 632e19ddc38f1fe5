"""Choice of the executor. Imports little: workers start before the rest of the program is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing, nullcontext, redirect_stdout
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from sweeper.core.errors import require_extra
from sweeper.executors.inline import InlineBackend
from sweeper.executors.processes import ProcessBackend
from sweeper.executors.protocol import Backend
from sweeper.executors.separate_process import SubprocessBackend
from sweeper.system.machine import count_available_cores
from sweeper.workflow.settings import RAY_ADDRESS, Settings

LOCAL = "local"
"""Address of a new cluster on this machine."""

if TYPE_CHECKING:
    from sweeper.workflow.conclude import ReportedStudy
    from sweeper.workflow.run_context import Display, StopSignal


def make_backend(settings: Settings, cores: int, warn: Callable[[str], None]) -> Backend:
    """Return the requested backend; its workers begin at once to load what they need.

    Raises:
        UsageError: if the script's command is invalid, if Ray is requested and not installed, or if there is no cluster
            at its address.
    """
    if settings.command is not None:
        from sweeper.executors.user_script import ScriptBackend

        return ScriptBackend(settings.command, workers=settings.workers or 1, log=warn)
    if settings.executor == "inline":
        return InlineBackend(settings.device, warn)
    if settings.executor == "ray":
        if os.environ[RAY_ADDRESS] == LOCAL:
            # Must be set before Ray is imported: a local cluster must listen only on the loopback address.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        return SubprocessBackend(partial(connect_to_ray, settings, cores), warn)
    return ProcessBackend(settings.device, settings.workers, cores, warn)


def start_sweep(settings: Settings, display: Display, stop: StopSignal) -> ReportedStudy:
    """Run a sweep as `run_sweep` does; workers load what they need while the rest of the program is imported.

    A resume creates its backend later, with the study's own workers, once they have been read.
    """
    cores = count_available_cores()
    with (
        redirect_stdout(sys.stderr),  # output of libraries must not mix with results
        nullcontext() if settings.resume else closing(make_backend(settings, cores, display.warn)) as backend,
    ):
        from sweeper.workflow.run import run_sweep  # takes seconds

        return run_sweep(settings, display, stop, clock=lambda: datetime.now(UTC), cores=cores, backend=backend)


def connect_to_ray(settings: Settings, cores: int, warn: Callable[[str], None]) -> Backend:
    """Connect to Ray, in the process that communicates with it."""
    with require_extra(RAY_ADDRESS, "Ray", "ray"):
        from sweeper.executors.ray_cluster import RayBackend
    return RayBackend(settings.device, settings.workers, cores, os.environ[RAY_ADDRESS], warn)
