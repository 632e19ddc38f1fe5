"""What a person sees while a sweep runs: a live table on a terminal, plain lines elsewhere. All on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweeper.cli.bar import Paced
from sweeper.cli.phase_progress import PhaseProgress, clock_text
from sweeper.core.events import NOT_NEEDED, Dropped, Evaluated, Paused, Resumed, Started, Stored, SweepEvent
from sweeper.core.records import Collapse, Evaluation, TrialResult, TrialSpec
from sweeper.core.redact import redact
from sweeper.core.text import count

BAR_WIDTH = 30
Left = Callable[[], str]
"""How many seconds the sweep still takes, at least and at most."""


def spec_text(spec: TrialSpec) -> str:
    """Which training: the trial's number as in the report, or what tells it from the others of its purpose."""
    return {
        "search": f"{spec.family} #{spec.number}",
        "probe": f"{spec.family}, {spec.steps} steps",
        "recheck": f"{spec.family} lr {spec.lr:.3g} seed {spec.seed}",
        "confirm": f"{spec.family} seed {spec.seed}" + ("" if spec.fold is None else f" fold {spec.fold + 1}"),
    }[spec.purpose]


def value_text(evaluation: Evaluation) -> str:
    """The objective, and on which part of the validation images: values on different images do not compare."""
    text = f"{evaluation.value:.3f}"
    if not evaluation.complete:
        text += f" on {evaluation.images} of {evaluation.val_images} images"
    elif evaluation.part is not None:
        text += f" ({evaluation.part.value:.3f} on the {evaluation.part.images} images of the steps before)"
    return text


def outcome_text(result: TrialResult) -> str:
    """How a training ended, in a few words."""
    if result.state == "failed":
        return f"failed: {result.reason}"
    if result.state == "pruned":
        words = f"{value_text(result.evaluations[-1])}, stopped at step {result.evaluations[-1].step}"
    else:
        words = f"{result.value:.3f}"
    if result.collapse != Collapse.NONE:
        words += f", {result.collapse.text}"
    return words


class PlainDisplay:
    """One line per event; `level` −1 = warnings only, 0 = results, 1 = every evaluation."""

    def __init__(self, level: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._level, self._clock, self._state = level, clock, PhaseProgress()
        self._paced = Paced(self.log, clock)
        self._began = clock()
        self._left: Left = _unknown

    def log(self, text: str) -> None:
        """A line, unless quiet."""
        if self._level >= 0:
            click.echo(redact(text), err=True)

    def warn(self, text: str) -> None:
        """A line, always."""
        click.echo(redact(f"warning: {text}"), err=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """A line every 10 s, unless quiet."""
        self._paced.update(what, done, total)

    def phase(self, name: str, done: int, total: int) -> None:
        """Begin a phase."""
        self._state.begin(name, done, total)
        self.log(f"{name}: {count(total, 'training')}" + (f", {done} done" if done else ""))

    def expect(self, left: Left) -> None:
        """Show from now on when the answers come."""
        self._left = left

    def notify(self, event: SweepEvent) -> None:
        """Show what happened to a training; its result once that is stored."""
        match event:
            case Started(spec):
                self._started(spec)
            case Evaluated(spec, evaluation):
                self._evaluated(spec, evaluation)
            case Paused(spec, result):
                self._paused(spec, result)
            case Resumed(spec):
                self._resumed(spec)
            case Stored(result):
                self._stored(result)
            case Dropped(spec, reason):
                self._dropped(spec, reason)

    def _started(self, spec: TrialSpec) -> None:
        """Nothing: its end is what counts."""

    def _evaluated(self, spec: TrialSpec, evaluation: Evaluation) -> None:
        """A line when verbose."""
        if self._level > 0:
            self.log(f"  {spec_text(spec)} step {evaluation.step}: {value_text(evaluation)}")

    def _paused(self, spec: TrialSpec, result: TrialResult) -> None:
        """A line the first time."""
        first = spec.number not in self._state.waiting
        self._state.wait(spec, result.evaluations[-1].value)
        if first:
            at = f"{value_text(result.evaluations[-1])} at step {result.evaluations[-1].step}, waits"
            self.log(self._line(f"{spec_text(spec)}: {at}"))

    def _resumed(self, spec: TrialSpec) -> None:
        """Counted, should it have come to its rung in an earlier session."""
        self._state.wait(spec)
        if self._level > 0:
            self.log(f"  {spec_text(spec)} goes on")

    def _stored(self, result: TrialResult) -> None:
        """A line."""
        waited = result.spec.purpose == "search" and result.spec.number in self._state.waiting
        self._state.add(result)
        if not waited or result.state != "pruned" or self._level > 0:  # that it stopped there was told when it came
            self.log(self._line(f"{spec_text(result.spec)}: {outcome_text(result)}"))

    def _line(self, text: str) -> str:
        left = self._left()
        return f"[{self._state.done}/{self._state.total}] {text}" + (f" ({left})" if left else "")

    def _dropped(self, spec: TrialSpec, reason: str) -> None:
        """A warning, but where all is as it should be: then a line when verbose."""
        text = f"{spec_text(spec)} was cut off: {reason}"
        if reason != NOT_NEEDED:
            self.warn(text)
        elif self._level > 0:
            self.log(f"  {text}")

    def note(self, text: str) -> None:
        """Nothing: results and errors have their own way to the screen."""

    def close(self) -> None:
        """Nothing to undo."""


class LiveDisplay(PlainDisplay):
    """The same on a terminal: a bar, the time left, the best value so far of each family, what is running.

    In ASCII where the terminal's encoding, or the terminal, has nothing else.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(0, clock)
        self._console = console
        self._ascii = console.options.ascii_only or console.is_dumb_terminal
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)
        self._live.start()

    def log(self, text: str) -> None:
        """Above the live part."""
        self._console.print(redact(text), highlight=False, markup=False)

    def warn(self, text: str) -> None:
        """Above the live part, in yellow."""
        self._console.print(Text(redact(f"warning: {text}"), style="yellow"), highlight=False)

    def progress(self, what: str, done: int, total: int) -> None:
        """In the place of the table that is to come."""
        self._state.preparing = f"{what} {done:,} of {total:,} images" if done < total else "preparing"

    def phase(self, name: str, done: int, total: int) -> None:
        """Leave a line of the phase before, begin the next."""
        if self._state.total and name != self._state.name:
            best = {f: s.best for f, s in self._state.families.items() if s.best is not None}
            if best:
                top = max(best, key=lambda f: best[f] or 0.0)
                self.log(f"{self._state.name}: {count(self._state.done, 'training')}, best {top} {best[top]:.3f}")
        self._state.begin(name, done, total)

    def _started(self, spec: TrialSpec) -> None:
        """Show it as running."""
        self._state.running[spec.purpose, spec.number] = spec_text(spec)

    def _evaluated(self, spec: TrialSpec, evaluation: Evaluation) -> None:
        """Show how far it is."""
        self._state.running[spec.purpose, spec.number] = (
            f"{spec_text(spec)}, step {evaluation.step}/{spec.steps}: {value_text(evaluation)}"
        )

    def _paused(self, spec: TrialSpec, result: TrialResult) -> None:
        """Count it the first time; it runs no more."""
        self._state.wait(spec, result.evaluations[-1].value)
        self._state.running.pop((spec.purpose, spec.number), None)

    def _resumed(self, spec: TrialSpec) -> None:
        """Show it as running again."""
        self._state.wait(spec)
        self._started(spec)

    def _stored(self, result: TrialResult) -> None:
        """Count it; failures leave a line."""
        spec = result.spec
        self._state.running.pop((spec.purpose, spec.number), None)
        self._state.add(result)
        if result.state == "failed":
            self.warn(f"{spec_text(spec)} {outcome_text(result)}")

    def _dropped(self, spec: TrialSpec, reason: str) -> None:
        """Forget it, with a warning."""
        self._state.running.pop((spec.purpose, spec.number), None)
        super()._dropped(spec, reason)

    def close(self) -> None:
        """Take the live part off the screen."""
        self._live.stop()

    def _render(self) -> RenderableType:
        state = self._state
        if not state.total:
            return Text(f"{state.preparing} {'...' if self._ascii else '…'}", style="dim")
        gone = clock_text(self._clock() - self._began)
        left = self._left()
        whole = Text(f"sweep    {gone} gone" + (f", {left}" if left else ""), style="dim")
        full = round(BAR_WIDTH * state.done / max(1, state.total))
        done, open_ = ("=", "-") if self._ascii else ("━", "─")
        bar = Text.assemble(
            f"{state.name:8} ",
            (done * full, "cyan"),
            (open_ * (BAR_WIDTH - full), "dim"),
            f" {state.done}/{state.total}",
        )
        running = Text("  ".join(state.running.values()), style="dim")
        marked = any(family.best_waiting is not None for family in state.families.values())
        note = [Text("* of a trial that waits at a rung, mostly on a part of the images", style="dim")] * marked
        table = [_table(state, "..." if self._ascii else "…")] if state.families else []
        return Group(bar, whole, *table, *note, running)


def _table(state: PhaseProgress, nothing: str) -> Table:
    """Families by what they reached on validation: their best training, in a confirmation the mean over seeds.

    `nothing` stands where a family has reached nothing yet.
    """
    searching, confirming = state.name == "search", state.name == "confirm"
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("loss")
    number = "seeds" if confirming else "trials" if searching else "trainings"
    columns = ("mean on validation" if confirming else "best on validation", number, *(("stopped",) * searching))
    for name in (*columns, "collapsed", "failed"):
        table.add_column(name, justify="right")
    reached = {name: (f.mean if confirming else f.best) for name, f in state.families.items()}
    ahead = {name: f.best_waiting for name, f in state.families.items()}
    for place, name in enumerate(sorted(state.families, key=lambda n: -max(reached[n] or -1, ahead[n] or -1))):
        family, value = state.families[name], reached[name]
        counts = [family.trials, family.stopped, family.collapsed, family.failed]
        if not searching:
            del counts[1]
        shown = [] if value is None else [f"{value:.3f}"]
        if (waiting := ahead[name]) is not None:
            shown.append(f"{waiting:.3f}*")
        words = (str(n) if n else "" for n in counts)
        table.add_row(name, "  ".join(shown) or nothing, *words, style="bold" if place == 0 else "")
    return table


def _unknown() -> str:
    """Before the sweep is planned nobody knows how long it takes."""
    return ""


Display = PlainDisplay
"""Any of them."""
