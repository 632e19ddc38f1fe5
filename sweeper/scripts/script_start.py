"""One start of a script: what it wrote, and the problems that make it useless."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from sweeper.core.redact import redact
from sweeper.core.text import format_count, format_duration, join_words
from sweeper.scripts.contract import (
    HELPER_VERSION,
    EpochDone,
    Event,
    LossCall,
    ScriptProblem,
    ScriptProgress,
    Split,
    SplitScored,
    SplitScores,
    TrialBegan,
    TrialDocument,
    read_split_scores,
)
from sweeper.scripts.launch import UPLOAD_SECONDS, ScriptEnd

PAGE = "docs/how-to/your-training.md"
E = TypeVar("E")


class ScriptStart(NamedTuple):
    """One start, and what it wrote."""

    folder: Path
    trial: TrialDocument
    ended: ScriptEnd
    events: tuple[Event, ...]

    def list_events(self, kind: type[E]) -> list[E]:
        """Return its events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def calls(self) -> list[LossCall]:
        """Its recorded calls of the loss."""
        return self.list_events(LossCall)

    @property
    def own_runs(self) -> dict[str, str]:
        """Runs that the script wrote itself, by the tracker's name."""
        return {tracker: run for line in self.list_events(ScriptProgress) for tracker, run in line.runs.items()}

    @property
    def pixels(self) -> tuple[int, ...]:
        """Pixels of each class in its batches, and last the ignored ones."""
        (began,), progress = self.list_events(TrialBegan)[:1], self.list_events(SplitScored)
        pixels = progress[-1].pixels if progress else ()
        return pixels or (0,) * (len(began.classes) + 1)

    @property
    def labelled(self) -> int | None:
        """Labelled pixels in its batches; None where classes exclude each other."""
        return next((line.labelled for line in reversed(self.list_events(SplitScored))), None)

    @property
    def is_whole(self) -> bool:
        """Whether all calls of the loss to be recorded were made."""
        return len(self.calls) >= self.trial.calls

    @property
    def last_scores(self) -> dict[Split, SplitScored]:
        """The last line about the scores of each split."""
        return {line.split: line for line in self.list_events(SplitScored)}

    @property
    def has_diverged(self) -> bool:
        """Whether logits of its last scores are not finite."""
        return not all(line.finite for line in self.last_scores.values())

    @property
    def name(self) -> str:
        """Description of the start."""
        factor = f", {self.trial.lr_factor:g} times the rate" if self.trial.lr_factor != 1 else ""
        return f"{self.trial.family}, seed {self.trial.seed}{factor}"

    def read_scores(self) -> dict[Split, SplitScores]:
        """Return the last scores of each required split that has some."""
        began = self.list_events(TrialBegan)[0]
        return {
            split: read_split_scores(self.folder, split, line.what, len(began.classes), overlap=began.overlap)
            for split, line in self.last_scores.items()
            if split in self.trial.splits
        }


def find_start_problems(start: ScriptStart, seconds: float) -> Iterator[str]:
    """Find the problem that makes an ended start useless, of a probe or of a whole training (whose logits may be NaN).

    `seconds` is its time limit.
    """
    trial, ended, begun = start.trial, start.ended, start.list_events(TrialBegan)
    bad = next((call for call in start.calls if call.logits is None), None)
    is_high = trial.kind == "probe" and trial.lr_factor != 1  # it may diverge, and the script may stop it
    is_done, where = trial.ends and start.is_whole, _describe_end(start)
    may_diverge = is_high and bool(start.calls)
    may_fail = is_done or may_diverge
    if problem := next(iter(start.list_events(ScriptProblem)), None):
        yield problem.text
    elif begun and begun[0].version != HELPER_VERSION:
        yield (
            f"sweeper_trial.py must be of version {HELPER_VERSION}, got {begun[0].version}; write it again with "
            "`sweeper probe --write-helper --command …`"
        )
    elif bad is not None and not is_high:
        yield (
            f"logits must be finite numbers, and are not in call {bad.call} of the loss; look for NaN in the images, "
            "or lower the script's learning rate"
        )
    elif ended.is_late and not is_done:
        limit = format_duration(seconds)
        text = f"it must end within {limit}, and did not, {where}; look where it waits, or raise --time-limit"
        yield text + _get_last_lines(start)
    elif ended.status != 0 and not may_fail:
        how = f"status {ended.status}" if ended.status > 0 else f"signal {-ended.status}"
        lacks = any("No module named 'sweeper_trial'" in line for line in ended.last)
        step = "copy it there by `sweeper probe --write-helper --command …`" if lacks else "log.txt has it all"
        if start.list_events(EpochDone) and not start.last_scores:
            step = "if it misses its best weights, let it validate and save in its last epoch, too; " + step
        yield f"it must end with status 0, and ended with {how} {where}; {step}" + _get_last_lines(start)
    elif ended.waited >= UPLOAD_SECONDS and not trial.ends and not {*trial.splits} <= {*start.last_scores}:
        yield "it must wait for the processes that it starts, and left some before its scores; end it with `wait`"
    elif not begun:
        lines = "`from sweeper_trial import trial` and `t = trial(classes=[…])`"
        yield (
            f"it must call trial(), and did not; write {lines} into it, see {PAGE}. If they are there, let it wait for "
            "the processes that it starts, and let a container or another machine have the folder SWEEPER_TRIAL"
        ) + _get_last_lines(start)
    elif not start.calls and not any(line.calls for line in start.list_events(ScriptProgress)):
        yield f"it must train with t.loss(logits, target), and never called it; put it where its loss is, see {PAGE}"
    elif trial.kind == "probe" and not start.is_whole and not is_high:
        yield (
            f"it must call the loss {trial.calls} times or more, got {len(start.calls)}; "
            "let its loop run to t.length(…)"
        )
    elif not trial.ends:
        yield from _score_problems(start)


def _score_problems(start: ScriptStart) -> Iterator[str]:
    scored = start.last_scores
    for split in start.trial.splits:
        if split not in scored:
            yield (
                f"scores of {split} are wanted, and none came; "
                f"give them in `with t.scoring({split!r}) as s:` at its end"
            )
        elif start.trial.kind == "probe" and not scored[split].finite:
            yield f"logits of {split} must be finite numbers, and are not; look for NaN in its images"
        elif scored[split].what == "logits" and not scored[split].network:
            yield (
                f"logits of {split} must be computed within `with t.scoring({split!r})`, and no network ran there; "
                "move its call into the block, which notes the weights that are scored"
            )
    if len({line.network for line in scored.values()} - {""}) > 1:
        yield (
            "validation and test must be of one network, and its weights change in between; score val again before the "
            "test, after the last change. If best weights are restored, log.txt may name keys that are not"
        )
    names = [{*scores.names} - {""} for scores in start.read_scores().values()]
    both = set.intersection(*names) if len(names) > 1 else set()
    if both:
        yield (
            f"validation and test must share no image, and {format_count(len(both), 'image is', 'images are')} in "
            "both, such "
            f"as {min(both)!r}; take each out of one, or name each by its path"
        )
    classes, pixels = start.list_events(TrialBegan)[0].classes, start.pixels
    is_binary = len(classes) == 2 and start.labelled is None
    lacks_object = is_binary and pixels[1] == 0
    if lacks_object and pixels[2]:
        yield (
            f"targets must have pixels of {classes[1]!r}, and have none but {format_count(pixels[2], 'pixel')} that do "
            "not count; for masks of 0 and 255 give (mask > 0).long()"
        )


def _describe_end(start: ScriptStart) -> str:
    """Describe how far a start had come at its end."""
    if scored := start.last_scores:
        return f"after its scores of {join_words(sorted(scored))}"
    if epochs := start.list_events(EpochDone):
        return f"after t.stop_after({epochs[-1].done:g}), before its scores"
    if start.calls:
        return f"after call {start.calls[-1].call} of the loss or a later one, before its scores"
    return "before its first scores" if start.list_events(TrialBegan) else "before it called trial()"


def _get_last_lines(start: ScriptStart) -> str:
    lines = "".join(f"\n      {redact(line)}" for line in start.ended.last)
    return f". Its last lines:{lines}" if lines else ". It printed nothing"
