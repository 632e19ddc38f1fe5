"""What a person sees while a sweep runs: a live table on a terminal, plain lines elsewhere. All on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweeper.records import Collapse, Evaluation, TrialResult, TrialSpec

BAR_WIDTH = 30


@dataclass
class _Family:
    best: float | None = None
    trials: int = 0
    stopped: int = 0
    collapsed: int = 0
    failed: int = 0


@dataclass
class _State:
    """What has happened in the phase at hand."""

    name: str = ""
    done: int = 0
    total: int = 0
    begun_at: float = 0.0
    begun_with: int = 0
    families: dict[str, _Family] = field(default_factory=dict)
    running: dict[tuple[str, int], str] = field(default_factory=dict)

    def begin(self, name: str, done: int, total: int, now: float) -> None:
        self.name, self.done, self.total = name, done, total
        self.begun_at, self.begun_with = now, done
        self.families, self.running = {}, {}

    def add(self, result: TrialResult) -> None:
        self.done += 1
        family = self.families.setdefault(result.spec.family, _Family())
        family.trials += 1
        family.stopped += result.state == "pruned"
        family.failed += result.state == "failed"
        family.collapsed += result.collapse != Collapse.NONE
        if result.state == "complete" and result.value is not None:
            family.best = max(result.value, family.best or 0.0)

    def left(self, now: float) -> str:
        """Time left, from the pace so far."""
        fresh = self.done - self.begun_with
        if not fresh or self.done >= self.total:
            return ""
        return _clock_text((now - self.begun_at) / fresh * (self.total - self.done)) + " left"


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def outcome_text(result: TrialResult) -> str:
    """How a training ended, in a few words."""
    if result.state == "failed":
        return f"failed: {result.reason}"
    words = f"{result.value:.3f}"
    if result.state == "pruned":
        words += f", stopped at step {result.evaluations[-1].step}"
    if result.collapse != Collapse.NONE:
        words += f", {result.collapse.text}"
    return words


class PlainDisplay:
    """One line per event; `level` −1 = warnings only, 0 = results, 1 = every evaluation."""

    def __init__(self, level: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._level, self._clock, self._state = level, clock, _State()

    def say(self, text: str) -> None:
        """A line, unless quiet."""
        if self._level >= 0:
            click.echo(text, err=True)

    def warn(self, text: str) -> None:
        """A line, always."""
        click.echo(f"warning: {text}", err=True)

    def phase(self, name: str, done: int, total: int) -> None:
        """Begin a phase."""
        self._state.begin(name, done, total, self._clock())
        self.say(f"{name}: {total} trainings" + (f", {done} done" if done else ""))

    def training_started(self, spec: TrialSpec) -> None:
        """Nothing: its end is what counts."""

    def training_evaluated(self, spec: TrialSpec, evaluation: Evaluation) -> None:
        """A line when verbose."""
        if self._level > 0:
            self.say(f"  {spec.family} #{spec.number} step {evaluation.step}: {evaluation.value:.3f}")

    def training_ended(self, spec: TrialSpec, result: TrialResult) -> TrialResult:
        """A line."""
        self._state.add(result)
        seed = f" seed {spec.seed}" if spec.purpose == "confirm" else ""
        left = self._state.left(self._clock())
        self.say(
            f"[{self._state.done}/{self._state.total}] {spec.family}{seed}: {outcome_text(result)}"
            + (f" ({left})" if left else "")
        )
        return result

    def training_dropped(self, spec: TrialSpec, reason: str) -> None:
        """A warning."""
        self.warn(f"{spec.family} #{spec.number} was cut off: {reason}")

    def close(self) -> None:
        """Nothing to undo."""


class LiveDisplay(PlainDisplay):
    """The same on a terminal: a bar, the time left, the best of each family so far, what is running."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(0, clock)
        self._console = console
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)
        self._live.start()

    def say(self, text: str) -> None:
        """Above the live part."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Above the live part, in yellow."""
        self._console.print(Text(f"warning: {text}", style="yellow"), highlight=False, soft_wrap=True)

    def phase(self, name: str, done: int, total: int) -> None:
        """Leave a line of the phase before, begin the next."""
        if self._state.total:
            best = {f: s.best for f, s in self._state.families.items() if s.best is not None}
            if best:
                top = max(best, key=lambda f: best[f] or 0.0)
                self.say(f"{self._state.name}: {self._state.done} trainings, best {top} {best[top]:.3f}")
        self._state.begin(name, done, total, self._clock())

    def training_started(self, spec: TrialSpec) -> None:
        """Show it as running."""
        self._state.running[spec.purpose, spec.number] = f"{spec.family} #{spec.number}"

    def training_evaluated(self, spec: TrialSpec, evaluation: Evaluation) -> None:
        """Show how far it is."""
        self._state.running[spec.purpose, spec.number] = (
            f"{spec.family} #{spec.number} {evaluation.step}/{spec.steps}: {evaluation.value:.3f}"
        )

    def training_ended(self, spec: TrialSpec, result: TrialResult) -> TrialResult:
        """Count it; failures leave a line."""
        self._state.running.pop((spec.purpose, spec.number), None)
        self._state.add(result)
        if result.state == "failed":
            self.warn(f"{spec.family} #{spec.number} {outcome_text(result)}")
        return result

    def training_dropped(self, spec: TrialSpec, reason: str) -> None:
        """Forget it, with a warning."""
        self._state.running.pop((spec.purpose, spec.number), None)
        super().training_dropped(spec, reason)

    def close(self) -> None:
        """Take the live part off the screen."""
        self._live.stop()

    def _render(self) -> RenderableType:
        state = self._state
        if not state.total:
            return Text("preparing …", style="dim")
        full = round(BAR_WIDTH * state.done / max(1, state.total))
        bar = Text.assemble(
            f"{state.name:8}", ("━" * full, "cyan"), ("─" * (BAR_WIDTH - full), "dim"), f" {state.done}/{state.total}  "
        )
        bar.append(_clock_text(self._clock() - state.begun_at) + " gone", style="dim")
        if left := state.left(self._clock()):
            bar.append(f", {left}", style="dim")
        if not state.families:
            return Group(bar, Text("  ".join(state.running.values()), style="dim"))
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("loss")
        for name in ("best mIoU", "trials", "stopped", "collapsed", "failed"):
            table.add_column(name, justify="right")
        ranked = sorted(state.families.items(), key=lambda item: -(item[1].best or -1))
        for number, (name, family) in enumerate(ranked):
            best = "…" if family.best is None else f"{family.best:.3f}"
            counts = (family.trials, family.stopped, family.collapsed, family.failed)
            table.add_row(name, best, *(str(n) if n else "" for n in counts), style="bold" if number == 0 else "")
        return Group(bar, table, Text("  ".join(state.running.values()), style="dim"))


Display = PlainDisplay | LiveDisplay
