"""Trainings by the user's script as jobs of a study; no script is started."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper.core.events import JobResult, Reply, TrainingJob, WorkerLost
from sweeper.core.metrics import count_at_point
from sweeper.core.records import Collapse, Conditions, TrialResult, TrialSpec
from sweeper.core.records.training import BINS
from sweeper.data.folds import get_split
from sweeper.executors.user_script import ScriptBackend
from sweeper.scripts import starter
from sweeper.scripts.image_names import divide_as_script
from sweeper.scripts.launch import ScriptEnd
from sweeper.workflow.own_script import make_script_recipe
from sweeper.workflow.settings import Settings
from tests.scripts.test_confirm import Script
from tests.support import builders

PLAIN = builders.dataset()
STEMS = [image.stem for image in PLAIN.images]
DATA = divide_as_script(PLAIN, STEMS[:3], STEMS[3:7])
CONDITIONS = Conditions(dataset=DATA, recipe=make_script_recipe(Settings(), "train"), seed=0)


class FakeScript(Script):
    """A script that finds 80 of 100 foreground pixels of each image."""

    stems: dict[str, list[str]] = {"val": STEMS[:3], "test": STEMS[3:7]}  # noqa: RUF012
    backgrounds = (900,)

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        vars(self).update(changes)

    def names(self, _trial: dict[str, Any], split: str) -> list[str]:
        return self.stems[split]

    def make_scores(self, _trial: dict[str, Any], _split: str, images: list[str]) -> Any:
        if self.is_overlapping:
            table = np.array([[[300, 10, 20], [30, 5, 4]]] * len(images))
            data = np.zeros((len(images), 2, 2, BINS), dtype=int)
            data[..., 1, 400], data[..., 0, 400], data[..., 1, 100] = np.moveaxis(table, -1, 0)
            data[..., 0, 100] = 400 - table.sum(-1)
            return data if self.kind == "logits" else table
        data = np.zeros((len(images), 2, BINS), dtype=int)
        data[:, 1, 400], data[:, 1, 100], data[:, 0, 100] = 80, 20, self.backgrounds[0]
        self.backgrounds = self.backgrounds[1:] or self.backgrounds
        return data if self.kind == "logits" else np.array([COUNTS] * len(images))


COUNTS = [[890, 20, 10], [80, 10, 20]]
"""Of an image, by the script's own rule: background and foreground."""


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeScript, TrialSpec], TrialResult]:
    def run(script: FakeScript, spec: TrialSpec, conditions: Conditions = CONDITIONS) -> TrialResult:
        monkeypatch.setattr(starter, "run_script", script.run)
        monkeypatch.setattr(starter, "end_processes", lambda folder: None)
        with closing(ScriptBackend("train")) as backend:
            executor = backend.open(conditions, tmp_path / "kept")
            executor.submit(TrainingJob(spec, until=spec.steps))
            assert executor.free() == 0
            (answer,) = executor.poll(30.0)
            assert isinstance(answer, JobResult) and answer.finished and executor.free() == 1
            return answer.result

    return run


Train = Callable[..., TrialResult]


def test_a_trial_has_its_share_of_the_length_its_rate_factor_and_validation_scores(train: Train) -> None:
    script = FakeScript()
    spec = builders.spec("dice_ce", seed=5, params={"mix": 0.5, "pos_weight": 2.0}, lr=1.5, steps=25)
    result = train(script, spec)
    (trial,) = script.trained
    assert (trial["share"], trial["lr_factor"], trial["seed"], trial["splits"]) == (0.25, 1.5, 5, ["val"])
    assert trial["params"] == {"mix": 0.5, "pos_weight": 2.0} and not trial["resumed"]
    pixels = CONDITIONS.dataset.count_class_pixels(get_split(CONDITIONS, 5).train)
    assert trial["class_pixels"] == pixels.tolist()
    assert (result.state, result.test, result.collapse) == ("complete", None, Collapse.NONE)
    assert result.value == pytest.approx((900 / 920 + 0.8) / 2)
    assert result.val is not None and result.val.images == () and result.val.data.sum() == 3 * 1000


def test_a_confirmation_has_the_counts_of_each_image_in_the_data_sets_order(train: Train) -> None:
    script = FakeScript(stems={"val": STEMS[2::-1], "test": [f"/data/{stem}.png" for stem in STEMS[6:2:-1]]})
    result = train(script, builders.spec("dice", purpose="confirm", seed=1000, steps=100, params={}))
    assert result.val is not None and result.val.images == (0, 1, 2)
    assert result.test is not None and result.test.images == (3, 4, 5, 6)
    assert count_at_point(result.test, 0.5)[0].tolist() == [[900, 20, 0], [80, 0, 20]]
    repeated = train(script, builders.spec("dice", purpose="confirm", seed=1000, steps=100, params={}))
    assert repeated.test == result.test and script.trained[-1]["resumed"]


def test_counts_by_the_scripts_own_rule_are_those_of_every_operating_point(train: Train) -> None:
    dataset = CONDITIONS.dataset.model_copy(update={"script_scores": "counts"})
    conditions = CONDITIONS.model_copy(update={"dataset": dataset})
    spec = builders.spec("dice", purpose="confirm", seed=1000, steps=100, params={})
    result = train(FakeScript(kind="counts"), spec, conditions)
    assert result.value == pytest.approx((890 / 920 + 80 / 110) / 2)
    assert result.evaluations[-1].point == 0.5 and result.collapse is Collapse.NONE
    assert result.test is not None
    for point in result.test.points[:: len(result.test.points) // 5]:
        assert count_at_point(result.test, point)[0].tolist() == COUNTS


@pytest.mark.parametrize("kind", ["logits", "counts"])
def test_overlapping_classes_are_scored_as_the_data_have_them(train: Train, kind: str) -> None:
    changes = {"task": "multilabel", "script_scores": kind}
    conditions = CONDITIONS.model_copy(update={"dataset": CONDITIONS.dataset.model_copy(update=changes)})
    spec = builders.spec("dice", purpose="confirm", seed=1000, steps=100, params={})
    script = FakeScript(kind=kind, is_overlapping=True)
    result = train(script, spec, conditions)
    assert result.state == "complete", result.reason
    assert result.test is not None and result.test.task == "multilabel" and result.collapse is Collapse.NONE
    assert count_at_point(result.test, 0.5)[0].tolist() == [[300, 10, 20], [30, 5, 4]]
    assert result.value == pytest.approx((300 / 330 + 30 / 39) / 2)
    assert (result.test.data.sum((-1, -2)) == 400).all()  # pixels of an image, also those without a class
    assert script.trained[0]["class_pixels"] == CONDITIONS.dataset.count_class_pixels((7, 8, 9)).tolist()


def test_the_script_decides_which_images_a_fold_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conditions = CONDITIONS.model_copy(update={"folds": 3})
    assert get_split(conditions, 7, 1) == get_split(CONDITIONS, 7)  # its own split, where it has no fold

    class Folds(FakeScript):
        def names(self, trial: dict[str, Any], split: str) -> list[str]:
            return STEMS[:2] if split == "val" else [STEMS[2 + trial["fold"]], STEMS[3 + 2 * trial["fold"]]]

    monkeypatch.setattr(starter, "run_script", Folds().run)
    with closing(ScriptBackend("train")) as backend:
        executor, results = backend.open(conditions, tmp_path), []
        for fold in range(3):
            spec = builders.spec("dice", purpose="confirm", number=fold, seed=1000, steps=100, params={}, fold=fold)
            executor.submit(TrainingJob(spec, until=100))
            (answer,) = executor.poll(30.0)
            assert isinstance(answer, JobResult)
            results.append(answer.result)
    assert [r.test and r.test.images for r in results] == [(2, 3), None, (4, 7)]
    assert f"tested in one fold, and 1 image is in two, such as '{STEMS[3]}'" in str(results[1].reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": 1}, "it must end with status 0, and ended with status 1"),
        ({"kind": "counts"}, "scores of val must be logits, as in the probe, got counts"),
        ({"stems": {"val": STEMS[:2]}}, "val must be the same 3 images in each training, got 2"),
        ({"stems": {"val": ["other"]}}, "images of val must be named as in the data"),
    ],
)
def test_a_training_with_unusable_scores_fails_with_its_reason(
    train: Train, changes: dict[str, Any], reason: str
) -> None:
    result = train(FakeScript(**changes), builders.spec("dice", steps=25, params={}))
    assert result.state == "failed" and result.reason is not None and reason in result.reason


def test_the_run_that_a_script_logs_itself_is_recorded(train: Train) -> None:
    script, spec = FakeScript(), builders.spec("dice", steps=25)
    assert train(script, spec).own_runs == {"wandb": "team/cracks/1a"}


def test_a_diverged_training_is_a_result(train: Train) -> None:
    result = train(FakeScript(finite=False), builders.spec("dice", purpose="confirm", steps=100, params={}))
    assert (result.state, result.value, result.collapse, result.test) == ("complete", 0.0, Collapse.DIVERGED, None)


def test_a_training_with_other_labels_than_the_first_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = FakeScript(backgrounds=(900, 900, 901))
    monkeypatch.setattr(starter, "run_script", script.run)
    with closing(ScriptBackend("train")) as backend:
        executor, results = backend.open(CONDITIONS, tmp_path), []
        for seed in range(3):
            executor.submit(TrainingJob(builders.spec("dice", seed=seed, number=seed, steps=25, params={}), until=25))
            (answer,) = executor.poll(30.0)
            assert isinstance(answer, JobResult)
            results.append(answer.result)
    assert [result.state for result in results] == ["complete", "complete", "failed"]
    assert "of val has 900 pixels of class 0 in one and 901 in another" in str(results[2].reason)


def test_closing_ends_a_running_training_as_lost_not_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = threading.Event()

    def wait(_words: object, _folder: Path, *, is_done: Callable[[], bool], **_: Any) -> ScriptEnd:
        began.set()
        while not is_done():
            began.wait(0.01)
        return ScriptEnd(-15, 1.0, False, 0, ())

    monkeypatch.setattr(starter, "run_script", wait)
    executor = ScriptBackend("train", workers=2).open(CONDITIONS, tmp_path)
    executor.submit(TrainingJob(builders.spec("dice", steps=25, params={}), until=25))
    assert executor.free() == 1 and began.wait(30)
    executor.close()
    answers: list[Reply] = executor.poll(0)
    assert [type(answer) for answer in answers] == [WorkerLost]


def test_files_of_another_training_in_the_folder_are_not_continued(train: Train) -> None:
    script = FakeScript()
    train(script, builders.spec("dice", steps=25, params={}))
    train(script, builders.spec("dice", steps=25, params={}, lr=2.0))
    train(script, builders.spec("dice", steps=25, params={}, lr=2.0))
    assert [trial["resumed"] for trial in script.trained] == [False, False, True]
