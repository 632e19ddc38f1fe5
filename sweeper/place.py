"""Where the trainings of a sweep run. Light: workers are started before the rest of the program is imported."""

from __future__ import annotations

from collections.abc import Callable

from sweeper.settings import Settings
from sweeper.study.executors import Executor, InlineExecutor
from sweeper.study.processes import ProcessExecutor


def make_executor(settings: Settings, cores: int, warn: Callable[[str], None]) -> Executor:
    """The executor that was asked for; its workers begin to load what they need at once.

    Args:
        settings: what was asked for.
        cores: processor cores that the workers share.
        warn: is told of workers that died.
    """
    if settings.executor == "inline":
        return InlineExecutor(settings.device)
    return ProcessExecutor(settings.device, settings.workers, cores, warn)
