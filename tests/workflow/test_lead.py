"""The session that leads a study: the stored request, and the answer so far wherever it is published."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow.tracking import MlflowClient

from sweeper import storage as studies
from sweeper.core.errors import InterruptedSweepError
from sweeper.core.events import ResultStored
from sweeper.core.records import TrialResult
from sweeper.storage.results import format_run_command
from sweeper.workflow.lead import InterimReporter, _store_request
from sweeper.workflow.status import get_status_file, read_life
from tests.support import builders
from tests.support.faking import new_study, train
from tests.support.sweeping import Recorder, make_settings, run_small_sweep


def make_stored(family: str, value: float, purpose: str = "search", seed: int = 0) -> ResultStored:
    result = builders.trial(family, value)
    return ResultStored(result.model_copy(update={"spec": builders.spec(family=family, purpose=purpose, seed=seed)}))


def test_each_answer_is_published_once() -> None:
    """After four trials, after the search and at an analysis."""
    published: list[str] = []
    results: list[TrialResult] = []
    notes: list[str] = []
    so_far = InterimReporter(
        lambda: builders.sweep(results, [], concluded=False),
        lambda sweep, answer: published.append(answer.split(" (")[0]),
        lambda answer: notes.append(answer.split(" (")[0]),
    )
    so_far.publish()
    assert not published  # nothing completed
    for number in range(6):
        results.append(make_stored("dice", 0.1 * number).result)
        so_far.notify(ResultStored(results[-1]))
    assert published == ["dice is best of 4 complete trials"]
    for _ in range(2):
        so_far.publish()
    so_far.notify(make_stored("dice", 0.5, "confirm", 1000))
    assert published[1:] == ["dice is best of 6 complete trials"]
    assert [note for note in dict.fromkeys(notes) if note] == [
        f"dice is best of {n} complete trial{'s' * (n > 1)}" for n in range(1, 7)
    ]


@pytest.mark.slow
def test_a_stopped_sweep_leaves_its_answer_so_far(tmp_path: Path) -> None:
    # Something must be learned for a loss to be confirmed.
    blobs: dict[str, Any] = {"data": "synthetic:blobs?images=15&size=64&foreground=0.3", "seeds": "2..4"}
    with pytest.raises(InterruptedSweepError) as caught:
        run_small_sweep(tmp_path, cut := Recorder(stop_after=11), trials=4, steps=16, confirm_steps=16, **blobs)
    page = next((tmp_path / "reports").glob("*/report.md"))
    life = read_life(get_status_file(f"sqlite:///{tmp_path}/sweeper.db", "study"))
    assert life.answer and f"so far: {life.answer}" in cut.lines
    said, command = str(caught.value).splitlines()
    assert f"So far: {life.answer} Report: {page}. " in said
    assert command.startswith("sweeper run --study study --resume")
    text = page.read_text("utf-8")
    assert "**Not finished.**" in text and life.answer in text and "--resume" in text
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    [experiment] = [e for e in client.search_experiments() if e.name != "Default"]
    notes = [run.data.tags.get("mlflow.note.content", "") for run in client.search_runs([experiment.experiment_id])]
    assert any(life.answer in note and note.startswith("**Not finished.**") for note in notes)
    done = run_small_sweep(tmp_path, resume=True, trials=4, steps=16, confirm_steps=16, **blobs)
    assert "Not finished" not in done.paths.markdown.read_text("utf-8")


def format_command(study: optuna.Study) -> str:
    return format_run_command(studies.unpack_options(study.user_attrs), "synthetic:toy")


def test_a_smaller_total_does_not_change_the_command_that_repeats_a_study(tmp_path: Path) -> None:
    study = new_study()
    _store_request(study, make_settings(tmp_path, trials=7), 1)
    train(study, trials=7)
    for trials, total in ((2, 7), (None, 7), (9, 9)):
        request = _store_request(study, make_settings(tmp_path, trials=trials, resume=True), 1)
        assert request.trials == studies.unpack_value(study.user_attrs, "trials", 0) == total
        assert f"--trials {total}" in format_command(study)


@pytest.mark.parametrize(
    ("options", "data"),
    [
        ({"data": None}, ["synthetic:toy"]),  # another version may have another default
        ({"data": "mine"}, ["mine"]),
        ({"data": None, "images": "a/*.png", "masks": "b/{stem}.png"}, []),
    ],
)
def test_the_command_that_repeats_a_study_has_its_data(
    tmp_path: Path, options: dict[str, Any], data: list[str]
) -> None:
    study = new_study()
    _store_request(study, make_settings(tmp_path, **options), 1)
    words = shlex.split(format_command(study))
    assert words[:2] == ["sweeper", "run"] and [word for word in words[2:3] if not word.startswith("--")] == data
