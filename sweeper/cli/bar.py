"""How far a long step has come, on standard error: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

EVERY = 10.0
"""Seconds between two lines; what takes less leaves none."""


class Paced:
    """Says how far a step is, at most every `EVERY` seconds."""

    def __init__(self, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._what, self._last = "", 0.0

    def update(self, what: str, done: int, total: int) -> None:
        """`done` of `total` are done of the step `what`."""
        now = self._clock()
        if what != self._what:
            self._what, self._last = what, now
        elif now - self._last >= EVERY:
            self._last = now
            self._log(f"{what}: {done:,} of {total:,}")


class Bar:
    """A context manager whose `update(done, total)` moves the bar; it leaves no trace on the screen.

    Without a terminal it is lines on standard error, as `Paced` spaces them.
    """

    def __init__(self, text: str, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._text = text
        self._console = console or Console(stderr=True)
        self._lines = Paced(lambda line: click.echo(line, err=True), clock)
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, done: int, total: int) -> None:
        """`done` of `total` are done."""
        if not self._console.is_terminal:
            self._lines.update(self._text, done, total)
            return
        if self._progress is None or self._task is None:  # only now: what is said before is not drawn over
            columns = (TextColumn(self._text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._progress.start()
            self._task = self._progress.add_task("", total=total)
        self._progress.update(self._task, completed=done)
