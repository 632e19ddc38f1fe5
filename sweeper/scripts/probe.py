"""The probe, five short starts of a script: do seed, loss and rate take effect, and do scores come back?"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from sweeper.core.base import ShownCommand
from sweeper.core.document import Document
from sweeper.core.errors import ScriptError
from sweeper.core.paths import CACHE
from sweeper.core.records import IGNORE
from sweeper.core.text import format_count, format_duration, join_words
from sweeper.scripts.contract import (
    RESULTS,
    EpochDone,
    LossCall,
    Split,
    SplitScored,
    TrialBegan,
    TrialDocument,
    What,
    read_events,
    write_trial_folder,
)
from sweeper.scripts.launch import KEPT_BYTES, fill_places, run_script, split_command
from sweeper.scripts.scores import find_other_data
from sweeper.scripts.script_start import ScriptStart, find_start_problems
from sweeper.system.whole_files import remove_left

CALLS, LEAST_CALLS = 4, 2
"""Calls of the loss after which most scripts have changed their network, and the fewest that can show a change."""
START_SECONDS = 600.0
"""Default time limit of one start."""
HIGH_RATE = 30.0
STARTS = 5
FOLDER = "probe-"
"""Beginning of the names of probes' folders, which are kept for a day if a script was refused."""
MORE_CALLS = (16, 64)
"""Larger numbers of calls, tried if rate or loss have no effect yet: the optimiser may step only every few batches."""
LOGIT_TOLERANCE = 1e-4
"""Logits are equal within this part of their spread: GPU kernels differ in their last digits."""


class ProbeDocument(Document):
    """Document that `sweeper probe` prints: the script can be compared, and how."""

    SCHEMA: ClassVar[str] = "sweeper.probe/1"

    command: ShownCommand
    pairing: Literal["exact", "start", "none"]
    """What two starts with one seed share: everything, only the first batch and network, or nothing."""
    scores: dict[Split, What]
    """Kind of the scores of each split, which limits the conclusion."""
    images: dict[Split, int]
    names: dict[Split, tuple[str, ...]] = Field(default_factory=dict, exclude=True, repr=False)
    """Names of the images of each split; not in the JSON."""
    drawn: tuple[Split, ...] = ()
    """Splits with other images for another seed."""
    volumes: bool = False
    """Whether the logits have an axis D before H."""
    class_pixels: dict[str, int]
    """Pixels of each class in the batches of one start."""
    labelled_pixels: int | None = None
    """Labelled pixels in these batches where classes overlap; null = each pixel has one class."""
    ignore_index: int = IGNORE
    """The script's label of ignored pixels."""
    ignored_pixels: int
    length: float | None
    """The script's own length, in epochs or steps; null = unknown."""
    seconds_per_step: float
    seconds_per_training: float | None
    notes: tuple[str, ...]
    """Remarks, as sentences."""

    @property
    def may_shorten(self) -> bool:
        """Whether the script can be given a share of its length."""
        return self.length is not None or "{share}" in self.command

    @property
    def text(self) -> str:
        """The answer as text."""
        counted = sum(self.class_pixels.values()) or 1
        total = self.labelled_pixels or counted
        shares = ", ".join(f"{name} {pixels / total:.3%}" for name, pixels in self.class_pixels.items())
        scores = "; ".join(
            f"{s}: {what} of {'all images' if what == 'number' else format_count(self.images[s], 'image')}"
            for s, what in self.scores.items()
        )
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


def probe_script(
    command: str, *, seconds: float = START_SECONDS, log: Callable[[str], None] = lambda _: None
) -> ProbeDocument:
    """Start a script five times, and report how losses can be compared in it.

    Two starts end at the fourth call of the loss, three train that long and score; shorter scripts end at their last
    call. If the rate has no effect in those two, or the loss in the scores, they are repeated with more calls.
    `seconds` is the time limit of one start; `log` receives a line for each.

    Raises:
        UsageError: if the command is invalid.
        ScriptError: if losses cannot be compared in this script; its folders are kept.
    """
    words = split_command(command)
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    remove_left(CACHE.parent, f"{FOLDER}*")
    base = Path(tempfile.mkdtemp(prefix=FOLDER, dir=CACHE.parent)).resolve()
    probe = _Probe(words, base, seconds, log)
    plain = probe.start(CALLS, ends=True)
    seeded = probe.start(plain.trial.calls, seed=2)
    if _measure_gap(plain, seeded, 1) <= LOGIT_TOLERANCE:
        probe.refuse(
            seeded,
            "it must follow the seed, and the first batch and logits are the same for seeds 1 and 2; give t.seed to "
            "torch.manual_seed and to what draws the order of the images",
        )
    plain, high = probe.look_further(plain, probe.start(plain.trial.calls, ends=True, lr_factor=HIGH_RATE))
    last = plain.trial.calls
    if _measure_gap(plain, high, last) == 0:
        probe.refuse(
            high,
            f"it must follow the rate, and {last} calls of the loss are the same at {HIGH_RATE:g} times the rate; give "
            f"t.lr(RATE) to the optimiser, and step it every {last - 1} calls or more often",
        )
    whole = probe.start(last)
    probe.refuse(whole, *_find_other_data(seeded, whole, may_draw=("val",)))
    whole, other = probe.train_further(whole, probe.start(last, family="dice"))
    if _measure_gap(whole, other, last) == 0:
        probe.refuse(
            other,
            f"it must train with the loss, and its call {last} is the same under cross-entropy and Dice; call "
            "backward() on what t.loss returns, and step the optimiser",
        )
    equal = (
        f"scores of {split} must be of the network that was trained, and after {whole.trial.calls} calls of the "
        "loss are the same under cross-entropy and Dice; score that network"
        for split in _list_equal_splits(whole, other)
    )
    probe.refuse(other, *_find_other_data(whole, other), *equal)
    document = _make_document(command, (plain, seeded, high, whole, other))
    shutil.rmtree(base, ignore_errors=True)
    return document


class _Probe:
    """The starts of one script, which is refused for what makes one of them useless."""

    def __init__(self, words: Sequence[str], base: Path, seconds: float, log: Callable[[str], None]) -> None:
        self._words, self._base, self._seconds, self._log = words, base, seconds, log
        self._number = 0
        self._classes: dict[str, None] = {}

    def start(self, calls: int, **change: object) -> ScriptStart:
        """Start the script with cross-entropy and seed 1, except for a change; the first start may have fewer calls."""
        self._number += 1
        trial = TrialDocument(kind="probe", family="cross_entropy", params={}, seed=1, calls=calls)
        trial = trial.model_copy(update=change)
        start = _begin_start(self._words, trial, self._base / f"start-{self._number}", self._seconds)
        ended_early = start.ended.status == 0 and len(start.calls) < calls
        if self._number == 1 and ended_early:
            start = _limit_calls(start, max(LEAST_CALLS, len(start.calls)))
        self._log(f"start {self._number} of {STARTS}: {start.name}: {format_duration(start.ended.seconds)}")
        self._check(start)
        return start

    def _repeat(self, before: ScriptStart, calls: int) -> ScriptStart:
        folder = before.folder.with_name(f"{before.folder.name}-calls-{calls}")
        start = _begin_start(self._words, before.trial.model_copy(update={"calls": calls}), folder, self._seconds)
        if len(start.calls) >= before.trial.calls:  # a short script ends before `calls`, and a slow one is ended
            start = _limit_calls(start, len(start.calls))
        self._check(start)
        return start

    def _check(self, start: ScriptStart) -> None:
        """Refuse a start that is useless by itself, or has another order of the classes than those before."""
        self.refuse(start, *find_start_problems(start, self._seconds))
        self._classes[", ".join(start.list_events(TrialBegan)[0].classes)] = None
        if len(self._classes) > 1:
            lists = " and ".join(self._classes)
            self.refuse(start, f"classes must have one order in all trainings, got {lists}; give them as a sorted list")

    def refuse(self, start: ScriptStart, *problems: str) -> None:
        """Refuse the script for the problems of a start, if there are any."""
        ScriptError.refuse(f"{start.name}; see {start.folder}", problems)

    def look_further(self, plain: ScriptStart, high: ScriptStart) -> tuple[ScriptStart, ScriptStart]:
        """Repeat the starts at the plain and the high rate with more calls, until one call differs.

        Returns:
            Both starts; `calls` of the plain one is the first call that differs, or the last if none does.
        """
        for calls in MORE_CALLS:
            last = plain.trial.calls
            if calls <= last or _measure_gap(plain, high, last) != 0:
                continue
            self._log(f"{last} calls of the loss are the same at {HIGH_RATE:g} times the rate: once more with {calls}")
            plain, high = (self._repeat(before, calls) for before in (plain, high))
            # A script may stop a training that diverges at the high rate.
            reached = min(len(plain.calls), len(high.calls)) if high.ended.is_late else len(plain.calls)
            differing = (n for n in range(last + 1, reached) if _measure_gap(plain, high, n) != 0)
            plain = _limit_calls(plain, next(differing, reached))
            if reached < calls:
                break
        return plain, high

    def train_further(self, plain: ScriptStart, other: ScriptStart) -> tuple[ScriptStart, ScriptStart]:
        """Repeat the trainings under two losses with more calls while their scores are equal.

        Networks of a few steps may predict only one class, whatever the loss.
        """
        for calls in MORE_CALLS:
            last = plain.trial.calls
            if calls <= last or _measure_gap(plain, other, last) == 0 or not _list_equal_splits(plain, other):
                continue
            self._log(f"scores after {last} calls of the loss are the same under both losses: once more with {calls}")
            plain, other = (self._repeat(before, calls) for before in (plain, other))
            if len(plain.calls) < calls:
                break
        return plain, other


def _begin_start(words: Sequence[str], trial: TrialDocument, folder: Path, seconds: float) -> ScriptStart:
    write_trial_folder(folder, trial)
    results, last = folder / RESULTS, f'"call": {trial.calls},'.encode()

    def is_done() -> bool:
        return trial.ends and results.is_file() and last in results.read_bytes()[-1000:]

    ended = run_script(fill_places(words, trial, folder), folder, seconds=seconds, is_done=is_done)
    return ScriptStart(folder, trial, ended, read_events(folder))


def _limit_calls(start: ScriptStart, calls: int) -> ScriptStart:
    return start._replace(trial=start.trial.model_copy(update={"calls": calls}))


def _measure_gap(one: ScriptStart, two: ScriptStart, call: int) -> float:
    """Return the distance between the logits of two starts, in units of their spread; infinite for other labels."""
    if max(call, 1) > min(len(one.calls), len(two.calls)):
        return inf
    a, b = one.calls[call - 1], two.calls[call - 1]
    if a.logits is None or b.logits is None:
        return inf
    if a.target != b.target:
        return inf
    apart = max(abs(x - y) for x, y in zip(a.logits, b.logits, strict=True))
    return apart / max(a.logits[1], b.logits[1], 1e-12)


def _find_other_data(one: ScriptStart, two: ScriptStart, *, may_draw: Sequence[Split] = ()) -> Iterator[str]:
    """Find images and labels that differ between two trainings; of some splits other images may be drawn."""
    second = two.read_scores()
    for split, scores in one.read_scores().items():
        yield from find_other_data(split, scores, second[split], all_names=split not in may_draw)


def _list_equal_splits(one: ScriptStart, two: ScriptStart) -> list[Split]:
    """Return the splits whose images, labels and scores are equal in two trainings."""
    second, equal = two.read_scores(), []
    for split, scores in one.read_scores().items():
        has_other_data = any(True for _ in find_other_data(split, scores, second[split]))
        if not has_other_data and scores.is_equal(second[split]):
            equal.append(split)
    return equal


# --- The document of a script that can be compared ---


def _make_document(command: str, done: Sequence[ScriptStart]) -> ProbeDocument:
    whole, last = done[3], done[0].trial.calls
    pairing: Literal["exact", "start", "none"] = "none"
    if _measure_gap(done[0], whole, 1) <= LOGIT_TOLERANCE:
        pairing = "start" if _measure_gap(done[0], whole, last) else "exact"
    begun, final, epoch = (
        whole.list_events(TrialBegan)[0],
        whole.list_events(SplitScored)[-1],
        next(reversed(whole.list_events(EpochDone)), None),
    )
    pixels, scores, first = whole.pixels, whole.read_scores(), whole.calls[0].seconds
    gaps = [after.seconds - before.seconds for before, after in pairwise(whole.calls)]
    step = sorted(gaps)[len(gaps) // 4]  # the first steps are final: kernels are chosen or compiled, loaders start
    training = None
    if epoch is not None and epoch.done > 0 and final.length is not None:
        steady = epoch.seconds - first - sum(gaps) + len(gaps) * step
        training = whole.ended.seconds + (final.length - epoch.done) * steady / epoch.done
    notes = {
        "none": [
            "two starts with one seed differ from the first call on: trainings are compared unpaired, which takes more "
            "of them, and whether loss and rate arrive is not proven; seed network, order and loader with t.seed, and "
            "continue from no file of an earlier start"
        ],
        "start": ["two starts with one seed begin alike and come apart, as the arithmetic does not repeat"],
        "exact": [],
    }[pairing]
    for what, other in (("rate", done[2]), ("loss", done[4])):
        if pairing == "start" and _measure_gap(done[0], other, last) <= 3 * _measure_gap(done[0], whole, last):
            notes.append(f"whether the {what} arrives is not proven: it changes no more than that does")
    inputs: dict[str, Sequence[LossCall | SplitScored]] = {
        "t.loss": [call for start in done for call in start.calls],
        "s.add": [event for start in done for event in start.list_events(SplitScored)],
    }
    bounded = [name for name, events in inputs.items() if all(event.bounded for event in events)]
    if bounded:
        notes.append(
            f"all logits in {join_words(bounded)} lie within 0 and 1, as after a sigmoid, softmax or argmax; give the "
            "output before it, because losses and thresholds need logits"
        )
    if final.length is None and "{share}" not in command:
        notes.append("t.length is never called, so that no training can be made shorter")
    empty = [repr(name) for name, n in zip(begun.classes, pixels, strict=False) if not n]
    if empty:
        notes.append(f"no pixel of {join_words(empty)} was in {format_count(final.calls, 'batch', 'batches')}")
    if final.lone:
        background = join_words([repr(begun.classes[n]) for n in final.lone])
        notes.append(
            f"mIoU counts the background as a class: {background}; where classes overlap leave its channel out of "
            "classes, logits and targets, and where each pixel has one class leave out overlap=True"
        )
    lone = [split for split, split_scores in scores.items() if split_scores.what == "number"]
    if lone:
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
        drawn=tuple(split for split, other in done[1].read_scores().items() if {*other.names} ^ {*scores[split].names}),
        class_pixels=dict(zip(begun.classes, pixels, strict=False)),
        labelled_pixels=whole.labelled,
        volumes=whole.calls[0].volume,
        ignore_index=begun.ignore_index,
        ignored_pixels=pixels[-1],
        length=final.length,
        seconds_per_step=step,
        seconds_per_training=training,
        notes=tuple(notes),
    )
