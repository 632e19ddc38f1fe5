"""Five short starts of a script, and what they prove: that seed, loss and rate arrive, and that scores come back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from math import inf
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, TypeVar

from pydantic import Field

from sweeper.core.document import Document
from sweeper.core.errors import ScriptError
from sweeper.core.paths import CACHE
from sweeper.core.text import format_count, format_duration, join_words
from sweeper.scripts.contract import (
    HELPER_VERSION,
    RESULTS,
    EpochDone,
    Event,
    LossCall,
    ScriptProblem,
    Split,
    SplitScored,
    SplitScores,
    TrialBegan,
    TrialDocument,
    What,
    read_events,
    read_split_scores,
    write_trial_folder,
)
from sweeper.scripts.launch import KEPT_BYTES, ScriptEnd, fill_places, run_script, split_command
from sweeper.scripts.scores import find_other_data
from sweeper.system.whole_files import remove_left

HIGH_RATE = 30.0
RATE_START = 3
"""Number of the start with it."""
FOLDER = "probe-"
"""So begin the names of the folders of probes, which are kept for a day where a script was refused."""
MORE_CALLS = (16, 64)
"""Calls that are looked at where the rate shows in no fewer: the optimiser may step every few batches only."""
NEAR = 1e-4
"""Logits are alike within this part of their spread: kernels of a GPU differ in their last digits."""
PAGE = "docs/how-to/your-training.md"
E = TypeVar("E", bound=Event)


class ProbeDocument(Document):
    """Document that `sweeper probe` prints: the script can be compared, and how."""

    SCHEMA: ClassVar[str] = "sweeper.probe/1"

    command: str
    pairing: Literal["exact", "start", "none"]
    """What two starts with one seed share: all, the first batch and network only, or nothing."""
    scores: dict[Split, What]
    """Scores that came back of each split. They decide what can be claimed."""
    images: dict[Split, int]
    names: dict[Split, tuple[str, ...]] = Field(default_factory=dict, exclude=True, repr=False)
    """Names of the images of each split; not in the JSON."""
    drawn: tuple[Split, ...] = Field(default=(), exclude=True, repr=False)
    """Splits whose images are others for another seed; not in the JSON."""
    class_pixels: dict[str, int]
    """Pixels of each class in the batches of one start."""
    ignored_pixels: int
    length: float | None
    """The script's own, in epochs or steps; null = not known."""
    seconds_per_step: float
    seconds_per_training: float | None
    notes: tuple[str, ...]
    """Remarks, as sentences."""

    @property
    def text(self) -> str:
        """The answer as text."""
        total = sum(self.class_pixels.values()) or 1
        shares = ", ".join(f"{name} {pixels / total:.3%}" for name, pixels in self.class_pixels.items())
        scores = "; ".join(f"{s}: {what} of {format_count(self.images[s], 'image')}" for s, what in self.scores.items())
        cost = f"{format_duration(self.seconds_per_step)} a step"
        if self.seconds_per_training is not None:
            cost += f"; about {format_duration(self.seconds_per_training)} a training of length {self.length:g}"
        lines = (
            f"Losses can be compared in this script: {self.command}",
            f"  pairing  {self.pairing}",
            f"  scores   {scores}",
            f"  classes  {shares} of {total:,} pixels",
            f"  cost     {cost}",
            *(f"  note     {note}." for note in self.notes),
        )
        return "\n".join(lines)


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
        """Its calls of the loss, as far as they are looked at."""
        return self.list_events(LossCall)

    @property
    def has_called(self) -> bool:
        """Whether it trained with the loss."""
        progress = [*self.list_events(EpochDone), *self.list_events(SplitScored)]
        return bool(self.calls) or any(line.calls for line in progress)

    @property
    def own_runs(self) -> dict[str, str]:
        """Runs that the script wrote itself, by the tracker's name."""
        progress = [*self.list_events(EpochDone), *self.list_events(SplitScored)]
        return {tracker: run for line in progress for tracker, run in line.runs.items()}

    @property
    def pixels(self) -> tuple[int, ...]:
        """Pixels of each class in its batches, and last those that do not count."""
        (began,), progress = self.list_events(TrialBegan)[:1], self.list_events(SplitScored)
        return (progress and progress[-1].pixels) or (0,) * (len(began.classes) + 1)

    @property
    def is_whole(self) -> bool:
        """Whether the loss was called as often as is looked at."""
        return len(self.calls) >= self.trial.calls

    @property
    def name(self) -> str:
        """The start in words."""
        factor = f", {self.trial.lr_factor:g} times the rate" if self.trial.lr_factor != 1 else ""
        return f"{self.trial.family}, seed {self.trial.seed}{factor}"


def probe_script(
    command: str,
    *,
    calls: int = 4,
    splits: Sequence[Split] = ("val", "test"),
    seconds: float = 600.0,
    say: Callable[[str], None] = lambda _: None,
) -> ProbeDocument:
    """Start a script five times, and return what it is like as a training to compare losses in.

    Two starts end with call number `calls` of the loss, three train that long and score. Where the rate does not show
    in the two, they are repeated with more calls.

    Args:
        command: words of the script's start, without a shell.
        calls: of the loss, after which the network was changed in most scripts.
        splits: whose scores are wanted.
        seconds: that one start may take.
        say: is given a line for each start.

    Raises:
        UsageError: if the command cannot be given so.
        ScriptError: if losses cannot be compared in this script; its folders are kept.
    """
    words = split_command(command)
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    remove_left(CACHE.parent, f"{FOLDER}*")
    base = Path(tempfile.mkdtemp(prefix=FOLDER, dir=CACHE.parent)).resolve()
    whole = TrialDocument(kind="probe", family="cross_entropy", params={}, seed=1, splits=tuple(splits), calls=calls)
    changes: tuple[dict[str, object], ...] = (
        {"ends": True},
        {"seed": 2},
        {"ends": True, "lr_factor": HIGH_RATE},
        {},
        {"family": "dice"},
    )
    done: list[ScriptStart] = []
    for number, change in enumerate(changes, 1):
        trial = whole.model_copy(update={**change, "calls": done[0].trial.calls if done else calls})
        start = _begin_start(words, trial, base / f"start-{number}", seconds)
        done.append(start)
        say(f"start {number} of {len(changes)}: {start.name}: {format_duration(start.ended.seconds)}")
        _refuse_problems(start, find_start_problems(start, seconds))
        if number == RATE_START:
            done[0], done[-1] = _look_further(words, done[0], start, seconds, say)
        _refuse_problems(start, _find_comparison_problems(done))
    document = _make_document(command, done)
    shutil.rmtree(base, ignore_errors=True)
    return document


def _begin_start(words: Sequence[str], trial: TrialDocument, folder: Path, seconds: float) -> ScriptStart:
    write_trial_folder(folder, trial)
    results, last = folder / RESULTS, f'"call": {trial.calls},'.encode()

    def is_done() -> bool:
        return trial.ends and results.is_file() and last in results.read_bytes()[-1000:]

    ended = run_script(fill_places(words, trial, folder), folder, seconds=seconds, is_done=is_done)
    return ScriptStart(folder, trial, ended, read_events(folder))


def _refuse_problems(start: ScriptStart, problems: Iterator[str]) -> None:
    if texts := [*problems]:
        raise ScriptError(f"{start.name}; see {start.folder}", texts)


def _look_further(
    words: Sequence[str], plain: ScriptStart, high: ScriptStart, seconds: float, say: Callable[[str], None]
) -> tuple[ScriptStart, ScriptStart]:
    """Repeat the starts at the plain and the high rate with more calls, until one call differs.

    Returns:
        Both, with the number of the first call that differs as the one that is looked at; where none does, of the last.
    """
    for calls in MORE_CALLS:
        last = plain.trial.calls
        if calls <= last or _measure_gap(plain, high, last) != 0:
            continue
        say(f"{last} calls of the loss are the same at {HIGH_RATE:g} times the rate: once more with {calls}")
        pair = []
        for before in (plain, high):
            folder = before.folder.with_name(f"{before.folder.name}-calls-{calls}")
            start = _begin_start(words, before.trial.model_copy(update={"calls": calls}), folder, seconds)
            if len(start.calls) >= last:  # a short script ends before, and a slow one is ended
                start = _limit_calls(start, len(start.calls))
            _refuse_problems(start, find_start_problems(start, seconds))
            pair.append(start)
        plain, high = pair
        # A script may stop a training that diverges at the high rate.
        reached = min(len(plain.calls), len(high.calls)) if high.ended.is_late else len(plain.calls)
        differing = (n for n in range(last + 1, reached) if _measure_gap(plain, high, n) != 0)
        plain = _limit_calls(plain, next(differing, reached))
        if reached < calls:
            break
    return plain, high


def _limit_calls(start: ScriptStart, calls: int) -> ScriptStart:
    return start._replace(trial=start.trial.model_copy(update={"calls": calls}))


# --- What one start shows ---


def find_start_problems(start: ScriptStart, seconds: float) -> Iterator[str]:
    """Find what makes a start useless: of a probe, or of a whole training, whose logits may be NaN.

    Args:
        start: that has ended.
        seconds: that it could take.
    """
    trial, ended, begun = start.trial, start.ended, start.list_events(TrialBegan)
    bad = next((call for call in start.calls if call.logits is None), None)
    is_high = trial.kind == "probe" and trial.lr_factor != 1  # where a training may diverge, and the script may stop it
    is_done, where = trial.ends and start.is_whole, _describe_end(start)
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
    elif ended.status != 0 and not is_done and not (is_high and start.calls):
        how = f"status {ended.status}" if ended.status > 0 else f"signal {-ended.status}"
        lacks = any("No module named 'sweeper_trial'" in line for line in ended.last)
        step = "copy it there by `sweeper probe --write-helper --command …`" if lacks else "log.txt has it all"
        yield f"it must end with status 0, and ended with {how} {where}; {step}" + _get_last_lines(start)
    elif not begun:
        lines = "`from sweeper_trial import trial` and `t = trial(classes=[…])`"
        yield f"it must call trial(), and did not; write {lines} into it, see {PAGE}" + _get_last_lines(start)
    elif not start.has_called:
        yield f"it must train with t.loss(logits, target), and never called it; put it where its loss is, see {PAGE}"
    elif trial.kind == "probe" and not start.is_whole and not is_high:
        yield (
            f"it must call the loss {trial.calls} times or more, got {len(start.calls)}; let its loop run to "
            f"t.length(…), or give --calls {max(2, len(start.calls))}"
        )
    elif not trial.ends:
        yield from _score_problems(start)


def _score_problems(start: ScriptStart) -> Iterator[str]:
    scored = {line.split: line for line in start.list_events(SplitScored)}
    for split in start.trial.splits:
        if split not in scored:
            yield (
                f"scores of {split} are wanted, and none came; give them in `with t.scoring({split!r}) as s:` at its "
                f"end, or leave {split} out of --splits"
            )
        elif start.trial.kind == "probe" and not scored[split].finite:
            yield f"logits of {split} must be finite numbers, and are not; look for NaN in its images"
    names = [{*scores.names} - {""} for scores in _get_scores(start).values()]
    if both := set.intersection(*names) if len(names) > 1 else set():
        yield (
            f"validation and test must share no image, and {format_count(len(both), 'image is', 'images are')} in "
            "both, such "
            f"as {min(both)!r}; take {'it' if len(both) == 1 else 'them'} out of one, or name each by its path"
        )
    classes, pixels = start.list_events(TrialBegan)[0].classes, start.pixels
    if len(classes) == 2 and not pixels[1] and pixels[2]:
        yield (
            f"targets must have pixels of {classes[1]!r}, and have none but {format_count(pixels[2], 'pixel')} that do "
            "not count; for masks of 0 and 255 give (mask > 0).long()"
        )


def _describe_end(start: ScriptStart) -> str:
    """Return where a start was at its end, in words."""
    if scored := start.list_events(SplitScored):
        return f"after its scores of {join_words(sorted({line.split for line in scored}))}"
    if epochs := start.list_events(EpochDone):
        return f"after t.stop_after({epochs[-1].done:g}), before its scores"
    if start.calls:
        return f"after call {start.calls[-1].call} of the loss or a later one, before its scores"
    if start.trial.kind != "probe" and start.list_events(TrialBegan):
        return "before its first scores"
    return "before the first call of the loss" if start.list_events(TrialBegan) else "before it called trial()"


def _get_last_lines(start: ScriptStart) -> str:
    lines = "".join(f"\n      {line}" for line in start.ended.last)
    return f". Its last lines:{lines}" if lines else ". It printed nothing"


# --- What several show together ---


def _measure_gap(one: ScriptStart, two: ScriptStart, call: int) -> float:
    """Return how far the logits of two starts are apart, in their spread; infinite for other labels."""
    if max(call, 1) > min(len(one.calls), len(two.calls)):
        return inf
    a, b = one.calls[call - 1], two.calls[call - 1]
    if a.target != b.target or a.logits is None or b.logits is None:
        return inf
    apart = max(abs(x - y) for x, y in zip(a.logits, b.logits, strict=True))
    return apart / max(a.logits[1], b.logits[1], 1e-12)


def _find_comparison_problems(done: Sequence[ScriptStart]) -> Iterator[str]:
    """Find what the newest start and those before prove to be wrong."""
    last, here = done[0].trial.calls, done[-1]
    if len(done) == 2 and _measure_gap(done[0], here, 1) <= NEAR:
        yield (
            "it must follow the seed, and the first batch and logits are the same for seeds 1 and 2; give t.seed to "
            "torch.manual_seed and to what draws the order of the images"
        )
    if len(done) == RATE_START and _measure_gap(done[0], here, last) == 0:
        yield (
            f"it must follow the rate, and {last} calls of the loss are the same at {HIGH_RATE:g} times the rate; give "
            f"t.lr(RATE) to the optimiser, and step it every {last - 1} calls or more often"
        )
    if len(done) == 5 and _measure_gap(done[3], here, last) == 0:
        yield (
            f"it must train with the loss, and its call {last} is the same under cross-entropy and Dice; call "
            "backward() on what t.loss returns, and step the optimiser"
        )
    elif len(done) == 5:
        yield from _are_scores_equal(done[3], here)
    if len(done) == 4:
        first = _get_scores(done[1])
        for split, scores in _get_scores(here).items():
            yield from find_other_data(split, first[split], scores, all_names=split == "test")


def _get_scores(start: ScriptStart) -> dict[Split, SplitScores]:
    """Return the wanted scores that came, as they were at the end."""
    classes = len(start.list_events(TrialBegan)[0].classes)
    last = {line.split: line.what for line in start.list_events(SplitScored) if line.split in start.trial.splits}
    return {split: read_split_scores(start.folder, split, what, classes) for split, what in last.items()}


def _are_scores_equal(one: ScriptStart, two: ScriptStart) -> Iterator[str]:
    second = _get_scores(two)
    for split, scores in _get_scores(one).items():
        if apart := {*scores.names} ^ {*second[split].names}:
            yield (
                f"images of {split} must be the same in each training of a seed, and {min(apart)!r} is in one of two; "
                "divide the data with a fixed seed, or keep the split in a file"
            )
        elif problems := [*find_other_data(split, scores, second[split])]:
            yield from problems
        elif scores.is_equal(second[split]):
            yield (
                f"scores of {split} must be of the network that was trained, and are the same under cross-entropy and "
                "Dice; score that network (where it still predicts one class only, raise --calls)"
            )


# --- What is said of a script that can be compared ---


def _make_document(command: str, done: Sequence[ScriptStart]) -> ProbeDocument:
    whole, last = done[3], done[0].trial.calls
    pairing: Literal["exact", "start", "none"] = "none"
    if _measure_gap(done[0], whole, 1) <= NEAR:
        pairing = "start" if _measure_gap(done[0], whole, last) else "exact"
    begun, final, epoch = (
        whole.list_events(TrialBegan)[0],
        whole.list_events(SplitScored)[-1],
        next(reversed(whole.list_events(EpochDone)), None),
    )
    pixels, scores, first = whole.pixels, _get_scores(whole), whole.calls[0].seconds
    training = None
    if epoch is not None and epoch.done > 0 and final.length is not None:
        training = whole.ended.seconds + (final.length - epoch.done) * (epoch.seconds - first) / epoch.done
    notes = {
        "none": [
            "two starts with one seed differ from the first call on: trainings are compared unpaired, which takes more "
            "of them, and whether loss and rate arrive is not proven; seed network, order and loader with t.seed"
        ],
        "start": ["two starts with one seed begin alike and come apart, as the arithmetic does not repeat"],
        "exact": [],
    }[pairing]
    for what, other in (("rate", done[2]), ("loss", done[4])):
        if pairing == "start" and _measure_gap(done[0], other, last) <= 3 * _measure_gap(done[0], whole, last):
            notes.append(f"whether the {what} arrives is not proven: it changes no more than that does; raise --calls")
    if final.length is None:
        notes.append("t.length is never called, so that no training can be made shorter")
    if empty := [repr(name) for name, n in zip(begun.classes, pixels, strict=False) if not n]:
        notes.append(f"no pixel of {join_words(empty)} was in {format_count(final.calls, 'batch', 'batches')}")
    if lone := [split for split, split_scores in scores.items() if split_scores.what == "number"]:
        notes.append(
            f"one number for all images came of {join_words(lone)}, which serves a verdict over trainings only"
        )
    if (most := max(start.ended.printed for start in done)) > KEPT_BYTES:
        notes.append(f"one start printed {most / 1e6:,.0f} MB, of which log.txt keeps the first and the last part")
    if whole.ended.remark:
        notes.append(
            f"{whole.ended.remark}, as each training will; let it wait for them, or send their output elsewhere"
        )
    return ProbeDocument(
        command=command,
        pairing=pairing,
        scores={split: split_scores.what for split, split_scores in scores.items()},
        images={split: len(split_scores.names) for split, split_scores in scores.items()},
        names={split: split_scores.names for split, split_scores in scores.items()},
        drawn=tuple(split for split, other in _get_scores(done[1]).items() if {*other.names} ^ {*scores[split].names}),
        class_pixels=dict(zip(begun.classes, pixels, strict=False)),
        ignored_pixels=pixels[-1],
        length=final.length,
        seconds_per_step=(whole.calls[-1].seconds - first) / (last - 1),
        seconds_per_training=training,
        notes=tuple(notes),
    )
