"""Display of a running sweep: a live table on a terminal, plain lines elsewhere; all on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sweeper.cli.terminal import echo_lines
from sweeper.core.events import (
    NOT_NEEDED,
    ResultStored,
    SweepEvent,
    TrainingDropped,
    TrainingEvaluated,
    TrainingPaused,
    TrainingResumed,
    TrainingStarted,
)
from sweeper.core.records import Evaluation, TrialResult, TrialSpec
from sweeper.core.redact import redact
from sweeper.core.text import format_count, format_duration
from sweeper.workflow.phase_progress import NO_TRAININGS, NOT_KNOWN, PhaseCounts, PhaseProgress

BAR_WIDTH = 30
LINE_SECONDS = 10.0
"""Seconds between two lines of a long step; a shorter step prints none."""


class PacedProgress:
    """Logs the progress of a step, at most every `LINE_SECONDS` seconds."""

    def __init__(self, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._what, self._last = "", 0.0

    def update(self, what: str, done: int, total: int) -> None:
        """Report that `done` of `total` items have passed the step `what`."""
        now = self._clock()
        if what != self._what:
            self._what, self._last = what, now
        elif now - self._last >= LINE_SECONDS:
            self._last = now
            self._log(f"{what}: {done:,} of {total:,}")


@contextmanager
def show_progress(
    text: str, console: Console | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that moves a progress bar, which is removed at the end.

    Without a terminal it prints lines on standard error, at the pace of `PacedProgress`.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield partial(PacedProgress(partial(click.echo, err=True), clock).update, text)
        return
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)


def format_spec(spec: TrialSpec) -> str:
    """Describe a training: the trial's number as in the report, or what identifies it within its purpose."""
    return {
        "search": f"{spec.family} #{spec.number}",
        "probe": f"{spec.family}, {spec.steps} steps",
        "rate": f"{spec.family} lr {spec.lr:.3g}",
        "first": f"{spec.family} seed {spec.seed}",
        "replicate": f"{spec.family} seed {spec.seed}",
        "confirm": f"{spec.family} {spec.seed_name}",
        "final": f"{spec.family} {spec.steps} steps seed {spec.seed}",
    }[spec.purpose]


def format_value_part(evaluation: Evaluation) -> str:
    """Format the objective and the part of the validation images: values on different images are not comparable."""
    part = "" if evaluation.complete else f" on {evaluation.images} of {evaluation.val_images} images"
    return f"{evaluation.value:.3f}{part}"


def format_outcome(result: TrialResult) -> str:
    """Describe how a training ended, in a few words."""
    if result.state == "failed":
        return f"failed: {result.reason}"
    if result.state == "pruned":
        words = f"{format_value_part(result.evaluations[-1])}, stopped at step {result.evaluations[-1].step}"
    else:
        words = f"{result.value:.3f}"
    if result.has_collapsed:
        words += f", collapsed: {result.collapse.text}"
    elif result.missing_classes:
        words += f", does not predict {', '.join(result.missing_classes)}"
    return words


class PlainDisplay:
    """One line per event; `level` −1 = warnings only, 0 = results, 1 = every evaluation."""

    def __init__(self, level: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._level, self._clock, self._state = level, clock, PhaseProgress()
        self._paced = PacedProgress(self.log, clock)
        self._began = clock()
        self._left: Callable[[], str] = lambda: NOT_KNOWN

    def log(self, text: str) -> None:
        """Print a line, unless quiet."""
        if self._level >= 0:
            echo_lines(redact(text), err=True)

    def warn(self, text: str) -> None:
        """Print a line, always."""
        echo_lines(redact(f"warning: {text}"), err=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """Print a line every 10 s, unless quiet."""
        self._paced.update(what, done, total)

    def begin_phase(self, name: str, total: int, held: PhaseCounts = NO_TRAININGS) -> None:
        """Begin a phase."""
        self._state = PhaseProgress(name, total, held)
        self.log(f"{name}: {format_count(total, 'training')}" + (f", {held.done} done" if held.done else ""))

    def set_forecast(self, left: Callable[[], str]) -> None:
        """Set the function that returns when the answers are expected."""
        self._left = left

    def notify(self, event: SweepEvent) -> None:
        """Count an event, and show it."""
        waited = self._state.has_waited(event.spec)
        self._state.notify(event)
        if isinstance(event, TrainingDropped) and event.reason != NOT_NEEDED:
            self.warn(f"{format_spec(event.spec)} was cut off: {event.reason}")
        self._show(event, waited=waited)

    def _show(self, event: SweepEvent, *, waited: bool) -> None:
        """Print a line for a result once it is stored, or waits; `waited`: it was printed then."""
        match event:
            case TrainingEvaluated(spec, evaluation) if self._level > 0:
                self.log(f"  {format_spec(spec)} step {evaluation.step}: {format_value_part(evaluation)}")
            case TrainingPaused(spec, result) if not waited:
                last = result.evaluations[-1]
                self._count_line(f"{format_spec(spec)}: {format_value_part(last)} at step {last.step}, waits")
            case ResultStored(result) if not waited or result.state != "pruned":
                self._count_line(f"{format_spec(result.spec)}: {format_outcome(result)}")

    def _count_line(self, text: str) -> None:
        self.log(f"[{self._state.done}/{self._state.total}] {text} ({self._left()})")

    def close(self) -> None:
        """End the display; plain lines need no end."""


class LiveDisplay(PlainDisplay):
    """Live display on a terminal: a bar, the time left, the value of each family so far, and the running trainings."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(0, clock)
        self._preparing, self._running = "preparing", dict[str, str]()
        self._console = console
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)
        self._live.start()

    def log(self, text: str) -> None:
        """Print a line above the live part."""
        self._console.print(redact(text), highlight=False, markup=False)

    def warn(self, text: str) -> None:
        """Print a line above the live part, in yellow."""
        self._console.print(Text(redact(f"warning: {text}"), style="yellow"), highlight=False)

    def progress(self, what: str, done: int, total: int) -> None:
        """Show progress in place of the table."""
        self._preparing = f"{what} {done:,} of {total:,} images" if done < total else "preparing"

    def begin_phase(self, name: str, total: int, held: PhaseCounts = NO_TRAININGS) -> None:
        """Leave a line about the previous phase, and begin the next."""
        state, reached = self._state, self._state.rank_families()
        if reached and name != state.name:
            top = next(iter(reached))
            self.log(f"{state.name}: {format_count(state.done, 'training')}, best {top} {reached[top]:.3f}")
        self._state = PhaseProgress(name, total, held)
        self._running = {}

    def _show(self, event: SweepEvent, *, waited: bool) -> None:
        """Update the running trainings; warn of a failed one."""
        spec = event.spec
        self._running.pop(spec.name, None)
        match event:
            case TrainingStarted() | TrainingResumed():
                self._running[spec.name] = format_spec(spec)
            case TrainingEvaluated(_, evaluation):
                value = format_value_part(evaluation)
                self._running[spec.name] = f"{format_spec(spec)}, step {evaluation.step}/{spec.steps}: {value}"
            case ResultStored(result) if result.state == "failed":
                self.warn(f"{format_spec(spec)} {format_outcome(result)}")

    def close(self) -> None:
        """Remove the live part from the screen."""
        self._live.stop()

    def _render(self) -> RenderableType:
        state = self._state
        if not state.total:
            return Text(f"{self._preparing} ...", style="dim")
        gone = Text(f"sweep    {format_duration(self._clock() - self._began)} gone, {self._left()}", style="dim")
        full = round(BAR_WIDTH * state.done / state.total)
        bar = Text.assemble(
            f"{state.name:8} ",
            ("=" * full, "cyan"),  # characters that every terminal has
            ("-" * (BAR_WIDTH - full), "dim"),
            f" {state.done}/{state.total}",
        )
        running = Text("  ".join(self._running.values()), style="dim")
        return Group(bar, gone, _make_table(state), running)


def _make_table(state: PhaseProgress) -> Table:
    """Make the table of families by their validation value, then those that have finished nothing."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("loss")
    reached = state.rank_families()
    kind = "mean" if state.name == "confirm" else "best"
    for name in (f"{kind} on validation", "trainings", "stopped", "collapsed", "failed"):
        table.add_column(name, justify="right")
    for place, name in enumerate(dict.fromkeys([*reached, *state.families])):
        family = state.families[name]
        counts = (family.trainings, family.stopped, family.collapsed, family.failed)
        value = f"{reached[name]:.3f}" if name in reached else "..."
        table.add_row(name, value, *(str(n) if n else "" for n in counts), style="" if place else "bold")
    return table
