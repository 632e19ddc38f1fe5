"""The conclusions from five starts, given as literals; tests/e2e/test_own_training.py makes real starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper.core.errors import ScriptError
from sweeper.core.records.training import BINS
from sweeper.scripts import probe, script_start
from sweeper.scripts.contract import (
    HELPER_VERSION,
    EpochDone,
    Event,
    LossCall,
    ScriptProblem,
    Split,
    SplitScored,
    SplitScores,
    TrialBegan,
    TrialDocument,
)
from sweeper.scripts.launch import ScriptEnd
from sweeper.scripts.probe import ProbeDocument, probe_script
from sweeper.scripts.script_start import ScriptStart
from tests.support.schemas import problems

PIXELS = (900, 100, 24)


class Script:
    """A script that behaves, except for what a test gives it."""

    length: float | None = 10.0
    pixels: tuple[int, ...] | None = PIXELS
    lone: tuple[int, ...] = ()
    names: dict[str, tuple[str, ...]] = {"val": ("a", "b"), "test": ("c", "d")}  # noqa: RUF012
    what = "logits"
    ended = ScriptEnd(0, 2.0, False, 100, ("done",))
    begins = True
    classes: tuple[str, ...] = ("sky", "bird")
    calls = 4
    warm_up = 0.0
    """Seconds that the first step takes longer."""
    most: int | None = None
    """Calls of a script that makes as many as are looked at, up to these."""
    version = HELPER_VERSION
    problem: str | None = None
    bounded = False
    scores_bounded = False
    finite = True
    networks: dict[str, str] = {"val": "one", "test": "one"}  # noqa: RUF012

    def __init__(self) -> None:
        self.starts = 0
        self.trials: list[TrialDocument] = []

    def target(self, trial: TrialDocument, call: int) -> str:
        return f"{trial.seed}-{call}"

    def logits(self, trial: TrialDocument, call: int) -> tuple[float, float, float] | None:
        change = 0.0 if call == 1 else 0.01 * call * trial.lr_factor * (2 if trial.family == "dice" else 1)
        return trial.seed + change, 1.0, 3.0

    drawn: dict[Path, str] = {}  # noqa: RUF012
    """Image of a split that each start has drawn."""
    draws = "test"

    def more(self, trial: TrialDocument) -> int:
        """Return how many pixels the background of each image lacks."""
        return 0

    def score(self, trial: TrialDocument, split: str) -> float:
        return 0.5 if trial.family == "dice" else 0.25

    def run(self, words: Sequence[str], trial: TrialDocument, folder: Path, seconds: float) -> ScriptStart:
        self.starts += 1
        self.trials.append(trial)
        events: list[Event] = []
        progress = {"calls": self.calls, "pixels": self.pixels, "length": self.length, "lone": self.lone}
        if self.begins:
            start = {"version": self.version, "classes": self.classes, "ignore_index": 255}
            events.append(TrialBegan(event="start", seconds=0.0, **start))
        for n in range(1, (min(self.most, trial.calls) if self.most else self.calls) + 1):
            call = LossCall(
                event="loss",
                seconds=0.1 * n + (n > 1) * self.warm_up,
                call=n,
                target=self.target(trial, n),
                logits=self.logits(trial, n),
                bounded=self.bounded,
            )
            events.append(call)
        if self.problem is not None:
            events.append(ScriptProblem(event="problem", seconds=1.0, text=self.problem))
        if not trial.ends and self.calls >= 2:
            events += [
                SplitScored(
                    event="scores", seconds=0.9, split=split, what=self.what, finite=self.finite,
                    bounded=self.scores_bounded, network=self.networks.get(split, ""), **progress,
                )
                for split in self.names
            ]  # fmt: skip
            events.append(EpochDone(event="epoch", seconds=1.1 + self.warm_up, done=1, **progress))
        return ScriptStart(folder, trial, self.ended, tuple(events))


Probe = Callable[..., ProbeDocument]


@pytest.fixture
def examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Probe:
    """Probe a `Script` without starting anything."""
    monkeypatch.chdir(tmp_path)

    def run(script: Script, *, command: str = "python train.py", **options: Any) -> ProbeDocument:
        trials: dict[Path, TrialDocument] = {}

        def begin(words: Sequence[str], trial: TrialDocument, folder: Path, seconds: float) -> ScriptStart:
            trials[folder] = trial
            return script.run(words, trial, folder, seconds)

        def scores(folder: Path, split: Split, what: Any, classes: int, **_: object) -> SplitScores:
            drawn = script.drawn.get(folder)
            names = (drawn,) if drawn and split == script.draws else script.names[split]
            score, data = script.score(trials[folder], split), np.zeros((len(names), 2, BINS), dtype=int)
            data[:, 0, round(100 * score)], data[:, 1, 400] = 900 - script.more(trials[folder]), 100
            scores = data if what == "logits" else np.full(len(names), score)
            return SplitScores(what, names, scores, np.zeros(len(names)))

        monkeypatch.setattr(probe, "_begin_start", begin)
        monkeypatch.setattr(script_start, "read_split_scores", scores)
        return probe_script(command, **options)

    return run


def make_script(**changes: Any) -> Script:
    """Return a script with other attributes or methods."""
    return type("Made", (Script,), changes)()


def test_a_correct_script_is_described(examine: Probe, tmp_path: Path) -> None:
    script, lines = Script(), []
    document = examine(script, log=lines.append)
    assert script.starts == 5 and len(lines) == 5 and "30 times the rate" in lines[2]
    assert (document.pairing, document.notes) == ("exact", ())
    assert document.scores == {"val": "logits", "test": "logits"} and document.images == {"val": 2, "test": 2}
    assert (document.class_pixels, document.ignored_pixels) == ({"sky": 900, "bird": 100}, 24)
    assert document.seconds_per_step == pytest.approx(0.1)
    assert document.seconds_per_training == pytest.approx(2.0 + 9 * (1.1 - 0.1))
    assert not problems(document.document)
    assert "sky 90.000%, bird 10.000% of 1,000 pixels" in document.text
    assert "about 11 s a training of length 10" in document.text
    assert not [*(tmp_path / ".sweeper").iterdir()]


def test_a_long_first_step_counts_once(examine: Probe) -> None:
    document = examine(make_script(warm_up=8.0))
    assert document.seconds_per_step == pytest.approx(0.1)
    assert document.seconds_per_training == pytest.approx(2.0 + 9 * (1.1 - 0.1))


LATE = ScriptEnd(-15, 600, True, 0, ())
REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "never begins": ({"begins": False, "calls": 0}, 1, "must call trial(), and did not"),
    "never calls": ({"calls": 0}, 1, "must train with t.loss"),
    "leaves its training": ({"ended": ScriptEnd(0, 31, False, 9, (), 30.0), "names": {}}, 2, "end it with `wait`"),
    "calls once": ({"calls": 1}, 1, "must call the loss 2 times or more, got 1; let its loop run to t.length(…)"),
    "calls less for another seed": (
        {"run": lambda s, w, t, f, n: Script.run(make_script(calls=4 - t.seed), w, t, f, n)}, 0,
        "3 times or more, got 2",
    ),
    "an old helper": ({"version": 0}, 1, "of version 2, got 0; write it again"),
    "a problem": ({"problem": "targets must be class labels"}, 1, "targets must be class labels"),
    "NaN": ({"logits": lambda *_: None}, 1, "not in call 1 of the loss"),
    "late": ({"ended": LATE, "calls": 3}, 1, "after call 3 of the loss or a later one, before"),
    "late, silent": ({"ended": LATE, "calls": 0}, 1, "raise --time-limit. It printed nothing"),
    "crashes": ({"ended": ScriptEnd(1, 1, False, 9, ("oh",)), "calls": 3}, 1, "status 1 after call 3"),
    "is killed": ({"ended": ScriptEnd(-9, 1, False, 9, ("oh",)), "calls": 0, "begins": False}, 1, "signal 9 before it"),
    "crashes late": ({"ended": ScriptEnd(1, 1, False, 9, ("oh",))}, 2, "after its scores of test and val; log.txt"),
    "restores what it never saved": (
        {"ended": ScriptEnd(1, 1, False, 9, ("oh",)), "names": {}}, 2,
        "after t.stop_after(1), before its scores; if it misses its best weights, let it validate and save in its last",
    ),
    "one seed": ({"logits": lambda *_: (0.0, 1.0, 3.0), "target": lambda *_: "x"}, 2, "must follow the seed"),
    "nearly one seed": (
        {"logits": lambda s, t, n: (t.seed * 1e-6, 1.0, 3.0), "target": lambda *_: "x"}, 2, "must follow the seed",
    ),
    "one rate": (
        {"most": 99, "logits": lambda s, t, n: (t.seed + n, 1.0, 3.0)}, 7, "must follow the rate, and 64 calls of the",
    ),
    "one loss": ({"logits": lambda s, t, n: (t.seed + t.lr_factor, 1.0, 3.0)}, 5, "must train with the loss, and"),
    "no scores": ({"names": {}}, 2, "scores of val are wanted, and none came"),
    "no test": ({"names": {"val": ("a",)}}, 2, "scores of test are wanted"),
    "NaN in scores": ({"finite": False}, 2, "logits of val must be finite"),
    "tests other weights": (
        {"networks": {"val": "one", "test": "two"}}, 2,
        "validation and test must be of one network, and its weights change in between; score val again before",
    ),
    "scores what was computed before": (
        {"networks": {"val": "one"}}, 2,
        "logits of test must be computed within `with t.scoring('test')`, and no network ran there; move its call into",
    ),
    "leaks": ({"names": {"val": ("a", "b"), "test": ("b", "c")}}, 2, "1 image is in both, such as 'b'; take each out"),
    "0 and 255": ({"pixels": (900, 0, 100)}, 2, "none but 100 pixels that do not count; for masks of 0 and 255"),
    "other labels": (
        {"more": lambda s, t: t.seed}, 4,
        "'a' of val has 898 pixels of class 0 in one and 899 in another; draw the data with a fixed seed",
    ),
    "a set of classes": (
        {"classes": property(lambda script: ("sky", "bird")[:: (-1) ** script.starts])}, 2,
        "classes must have one order in all trainings, got bird, sky and sky, bird; give them as a sorted list",
    ),
    "labels of a loss": (
        {"more": lambda s, t: t.family == "dice"}, 5, "has 900 pixels of class 0 in one and 899 in another",
    ),
    "equal scores": ({"score": lambda *_: 0.5}, 7, "of the network that was trained, and after 4 calls of the loss"),
    "equal scores of all calls": (
        {"most": 99, "score": lambda *_: 0.5}, 9, "of the network that was trained, and after 64 calls of the loss",
    ),
    "equal test": ({"score": lambda s, t, split: 0.5 + (split == "val") * (t.family == "dice")}, 7, "scores of test"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_script_in_which_losses_cannot_be_compared_is_refused(examine: Probe, tmp_path: Path, name: str) -> None:
    changes, starts, words = REFUSED[name]
    script = make_script(**changes)
    with pytest.raises(ScriptError) as error:
        examine(script)
    assert words in str(error.value) and error.value.exit_status == 2 and script.starts == starts
    assert len(list((tmp_path / ".sweeper").iterdir())) == 1  # its logs are kept


def make_accumulating_script(every: int, **more: Any) -> Script:
    """Return a script whose optimiser steps at every n-th call only."""

    def logits(_: Script, trial: TrialDocument, call: int) -> tuple[float, float, float]:
        steps = (call - 1) // every
        return trial.seed + steps * trial.lr_factor * (2 if trial.family == "dice" else 1), 1.0, 3.0

    return make_script(**{"most": 99, "logits": logits, **more})


@pytest.mark.parametrize(("every", "starts"), [(3, 5), (4, 7), (8, 7), (15, 7), (16, 9), (63, 9)])
def test_accumulated_gradients_get_more_calls(examine: Probe, every: int, starts: int) -> None:
    script, lines = make_accumulating_script(every), []
    assert examine(script, log=lines.append).pairing == "exact" and script.starts == starts
    assert ("4 calls of the loss are the same at 30 times the rate: once more with 16" in lines) == (every > 3)
    assert {trial.calls for trial in script.trials[-2:]} == {max(4, every + 1)}


def test_a_script_of_few_calls_is_examined_to_its_end(examine: Probe) -> None:
    assert examine(make_accumulating_script(8, most=10)).pairing == "exact"
    for most in (10, 4):
        script = make_accumulating_script(10, most=most)
        with pytest.raises(ScriptError, match=f"and {most} calls of the loss are the same"):
            examine(script)
        assert script.starts == 5


@pytest.mark.parametrize(("late", "starts"), [(4, 5), (5, 7), (16, 7), (17, 9), (64, 9)])
def test_scores_that_are_equal_at_first_get_more_calls(examine: Probe, late: int, starts: int) -> None:
    script, lines = make_script(most=99, score=lambda s, t, split: 0.5 * (t.family == "dice" and t.calls >= late)), []
    assert examine(script, log=lines.append).pairing == "exact" and script.starts == starts
    assert any(line.startswith("scores after 4 calls of the loss are the same") for line in lines) == (late > 4)


@pytest.mark.parametrize("calls", [2, 3])
def test_a_script_that_calls_the_loss_two_or_three_times_can_be_compared(examine: Probe, calls: int) -> None:
    script = make_script(calls=calls)
    document = examine(script)
    assert document.pairing == "exact" and document.seconds_per_step == pytest.approx(0.1)
    assert [trial.calls for trial in script.trials] == [4, *[calls] * 4]


def test_the_error_has_the_last_lines_of_the_log(examine: Probe) -> None:
    with pytest.raises(ScriptError, match=r"Its last lines:\n      one\n      two$"):
        examine(make_script(ended=ScriptEnd(1, 1, False, 9, ("one", "two")), calls=3))


def test_a_failed_import_is_answered_with_the_command_that_copies_the_helper(examine: Probe) -> None:
    ended = ScriptEnd(1, 1, False, 9, ("ModuleNotFoundError: No module named 'sweeper_trial'",))
    text = "status 1 before it called trial.*copy it there by `sweeper probe --write-helper"
    with pytest.raises(ScriptError, match=text):
        examine(make_script(ended=ended, begins=False, calls=0))


def test_images_that_differ_between_trainings_of_a_seed_are_refused(examine: Probe) -> None:
    with pytest.raises(ScriptError, match="images of test must be the same in each training, and 'c3' is"):
        examine(make_drawing_script("test", lambda script, _: f"c{script.starts if script.starts > 3 else 3}"))


def make_drawing_script(split: str, choose: Callable[[Script, TrialDocument], str]) -> Script:
    """Return a script that draws the image of a split."""

    class DrawingScript(Script):
        draws = split

        def run(self, words: Sequence[str], trial: TrialDocument, folder: Path, seconds: float) -> ScriptStart:
            self.drawn[folder] = choose(self, trial)
            return super().run(words, trial, folder, seconds)

    script = DrawingScript()
    script.drawn = {}
    return script


def test_test_images_drawn_with_the_seed_are_refused(examine: Probe) -> None:
    script = make_drawing_script("test", lambda _, trial: f"c{trial.seed}")
    with pytest.raises(ScriptError, match="images of test must be the same in each training, and 'c1' is in one of"):
        examine(script)
    assert script.starts == 4


def test_validation_images_drawn_with_the_seed_are_noted(examine: Probe) -> None:
    assert examine(make_drawing_script("val", lambda _, trial: f"c{trial.seed}")).drawn == ("val",)
    assert examine(Script()).drawn == ()


def test_a_training_that_diverges_only_at_the_high_rate_follows_the_rate(examine: Probe) -> None:
    class Diverges(Script):
        def run(self, words: Sequence[str], trial: TrialDocument, folder: Path, seconds: float) -> ScriptStart:
            start = super().run(words, trial, folder, seconds)
            if trial.lr_factor == 1:
                return start
            return start._replace(ended=ScriptEnd(1, 1, False, 9, ("loss is NaN",)), events=start.events[:3])

    assert examine(Diverges()).pairing == "exact"


def test_a_nonzero_status_after_the_last_call_is_no_crash(examine: Probe) -> None:
    class Catches(Script):
        def run(self, words: Sequence[str], trial: TrialDocument, folder: Path, seconds: float) -> ScriptStart:
            start = super().run(words, trial, folder, seconds)
            return start._replace(ended=ScriptEnd(1, 1, False, 9, ())) if trial.ends else start

    assert examine(Catches()).pairing == "exact"


def make_noisy_script(noise: float, *, effect: float = 1.0, first: bool = False) -> Script:
    """Return a script whose arithmetic does not repeat; `first`: nor does its first batch."""

    class Noisy(Script):
        def logits(self, trial: TrialDocument, call: int) -> tuple[float, float, float]:
            mean = trial.seed + (0.0 if call == 1 else effect * (trial.lr_factor + 7 * (trial.family == "dice")))
            return mean + (noise * self.starts if first or call > 1 else 0.0), 1.0, 3.0

    return Noisy()


def test_trainings_that_differ_only_later_are_paired_by_their_start(examine: Probe) -> None:
    document = examine(make_noisy_script(1e-5))
    assert document.pairing == "start" and len(document.notes) == 1 and "does not repeat" in document.notes[0]


def test_an_effect_within_the_noise_is_a_note(examine: Probe) -> None:
    document = examine(make_noisy_script(1e-2, effect=1e-4))
    assert document.pairing == "start"
    notes = [note.split(" is not")[0] for note in document.notes[1:]]
    assert notes == ["whether the rate arrives", "whether the loss arrives"]


def test_trainings_whose_first_batch_differs_for_one_seed_are_unpaired(examine: Probe) -> None:
    document = examine(make_noisy_script(0.3, first=True))
    assert document.pairing == "none" and "compared unpaired" in document.notes[0]


def test_a_share_in_the_command_shortens_trainings(examine: Probe) -> None:
    document = examine(make_script(length=None), command="python train.py {share}")
    assert document.may_shorten and document.notes == () and not examine(make_script(length=None)).may_shorten


@pytest.mark.parametrize(("attribute", "function"), [("bounded", "t.loss"), ("scores_bounded", "s.add")])
def test_logits_after_a_sigmoid_are_a_note(examine: Probe, attribute: str, function: str) -> None:
    (note,) = examine(make_script(**{attribute: True})).notes
    assert note.startswith(f"all logits in {function} lie within 0 and 1, as after a sigmoid, softmax or argmax")


def test_oddities_of_a_script_are_notes(examine: Probe) -> None:
    flood = make_script(length=None, pixels=(900, 0, 0), lone=(0,), ended=ScriptEnd(0, 2.0, False, 10**8, ("x",)))
    notes = examine(flood).notes
    waits = make_script(ended=ScriptEnd(0, 36.0, False, 100, ("x",), 30.0))
    assert examine(waits).notes[0].startswith("it left processes that hold its output open: waited 30 s")
    for words in (
        "the background as a class: 'sky';",
        "t.length is never called",
        "no pixel of 'bird' was in 4 batches",
        "printed 100 MB",
    ):
        assert any(words in note for note in notes), notes


def test_one_number_for_all_images_is_a_note(examine: Probe) -> None:
    document = examine(make_script(what="number", names={"val": ("",), "test": ("",)}))
    assert document.scores == {"val": "number", "test": "number"}
    assert "one number for all images came of val and test" in str(document.notes)
    assert "  scores   val: number of all images; test: number of all images\n" in document.text
