"""Files that are deleted or replaced while a sweep writes to them: it ends with an explanation."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from sweeper import storage as studies
from sweeper.core.errors import InterruptedSweepError, SweeperError
from sweeper.core.records import TrialResult
from sweeper.workflow.conclude import ReportedStudy
from tests.cli.test_run import start, wait_for
from tests.e2e.test_interrupted import FIRST
from tests.support.faking import new_plan
from tests.support.marks import rest_slow
from tests.support.pasting import paste
from tests.support.sweeping import TWO_LOSSES, Recorder, run_small_sweep


@pytest.mark.slow
def test_a_database_deleted_during_a_sweep_ends_it_with_the_next_step(tmp_path: Path) -> None:
    class Deleting(Recorder):
        def keep(self, result: TrialResult) -> None:
            super().keep(result)
            if len(self.results) == 3:
                for name in tmp_path.glob("sweeper.db*"):
                    name.unlink()

    display = Deleting()
    with pytest.raises(SweeperError, match=r"sweeper.db was deleted.* while the study was stored in it") as caught:
        run_small_sweep(tmp_path, display)
    assert caught.value.exit_status == 1 and "sweeper run --study study --resume" in str(caught.value)
    assert len(display.results) == 3


def flip_bit(store: Path) -> None:
    """Flip one bit of one pixel."""
    pixels = bytearray((store / "images.bin").read_bytes())
    pixels[100] ^= 128
    with (store / "images.bin").open("r+b") as file:
        file.write(pixels)


def truncate(store: Path) -> None:
    """Cut the file short, as a full disk or a synchronising service may."""
    os.truncate(store / "images.bin", 100)


class Changing(Recorder):
    """Changes the decoded images after two results."""

    def __init__(self, cache: Path, how: Callable[[Path], None], stop_after: int | None = None) -> None:
        super().__init__(stop_after)
        self._cache, self._how = cache, how

    def keep(self, result: TrialResult) -> None:
        super().keep(result)
        if len(self.results) == 2:
            (index,) = self._cache.glob("*/index.json")
            self._how(index.parent)


def dump_results(outcome: ReportedStudy) -> list[str]:
    """Return the numbers of all trainings, as far as they repeat."""
    times: dict[str, Any] = {"seconds": True, "seconds_per_step": True, "evaluations": {"__all__": {"seconds"}}}
    excluded = {"run_id": True, "earlier": True, **times}
    return [result.model_dump_json(exclude=excluded) for result in outcome.sweep.trainings]


SWEEP: dict[str, Any] = {"trials": 5, "space": TWO_LOSSES}
"""Two losses as they are usual, and three other trials of one."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> ReportedStudy:
    return run_small_sweep(tmp_path_factory.mktemp("undisturbed"), Recorder(), **SWEEP)


WAYS = [(0, flip_bit, None), (None, flip_bit, None), (0, flip_bit, 3), (0, truncate, None)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("workers", "how", "stop_after"), rest_slow(WAYS, 0, 1))
def test_trainings_on_changed_images_are_dropped_and_repeated_by_a_resume(
    tmp_path: Path, undisturbed: ReportedStudy, workers: int | None, how: Callable[[Path], None], stop_after: int | None
) -> None:
    """To the same numbers, so that a seed gives one sweep to the last digit."""
    display = Changing(tmp_path / "cache", how, stop_after)
    with pytest.raises(SweeperError, match="stopped" if stop_after else "changed") as caught:
        run_small_sweep(tmp_path, display, workers=workers, **SWEEP)
    messages = "\n".join([str(caught.value), *display.warnings])
    assert re.search(r"decoded images .* changed them: dropped \d+ trainings since they were last checked", messages)
    assert "sweeper run --study study --resume" in messages
    study = studies.open_study(studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db"), "study")
    assert studies.list_all_results(study) == []
    resumed = run_small_sweep(tmp_path, Recorder(), resume=True, workers=workers, trials=SWEEP["trials"])
    assert dump_results(resumed) == dump_results(undisturbed) and resumed.sweep.confirmations
    assert resumed.sweep.analyses_taken == undisturbed.sweep.analyses_taken
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs([str(resumed.sweep.experiment_id)])
    assert len(runs) == 1 + len(dump_results(resumed))


@pytest.mark.slow
def test_a_resume_drops_trainings_of_a_killed_session_on_changed_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeper.workflow.lead.is_changed", lambda store: 1 / 0)  # as SIGKILL, which checks nothing
    with pytest.raises(ZeroDivisionError):
        run_small_sweep(tmp_path, Changing(tmp_path / "cache", flip_bit, 7), **SWEEP)
    monkeypatch.undo()
    with pytest.raises(InterruptedSweepError):
        run_small_sweep(tmp_path, display := Recorder(stop_after=1), resume=True, trials=SWEEP["trials"])
    assert any("dropped 9 trainings since they were last checked" in warning for warning in display.warnings)


def rename(folder: Path) -> None:
    folder.parent.rename(folder.parent.with_name("new"))


def replace(folder: Path) -> None:
    """Replace the file, as an editor, a synchronising service or a restored backup does."""
    other = folder / "other"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE other (number INTEGER)")
    other.replace(folder / "sweeper.db")


@pytest.mark.parametrize(
    ("how", "word"), [(rename, "its folder was renamed"), (replace, "was replaced by another file")]
)
def test_a_renamed_or_replaced_database_is_reported_and_not_recreated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[Path], None], word: str
) -> None:
    folder = tmp_path / "above" / "old"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    storage = studies.open_storage("sqlite:///sweeper.db", create=True)
    studies.create_study(storage, "my study", new_plan())
    with studies.hold_study("sqlite:///sweeper.db", "my study") as lost:
        how(folder)
        assert not lost()  # nobody else runs it
        for _ in range(2):  # every later call says the same
            with pytest.raises(SweeperError) as caught:
                studies.open_study(storage, "my study")
        message = str(caught.value)
        assert word in message and "another process" not in message
        assert "sweeper run --study 'my study' --resume" in message
    assert folder.exists() == (how is replace)


@pytest.mark.slow
def test_the_printed_command_works_in_the_renamed_folder(tmp_path: Path) -> None:
    (folder := tmp_path / "old" / "b c").mkdir(parents=True)
    process = start(folder, *FIRST, "--workers", "1", "--storage", "sqlite:///../my.db")
    wait_for(folder, "[3/8]", process)
    (tmp_path / "old").rename(tmp_path / "new name")
    assert process.wait(60) == 1
    folder = tmp_path / "new name" / "b c"
    command = re.findall(r"Then: (sweeper run .+)", (folder / "err.txt").read_text())[-1]
    resumed = paste(f"{command} --tracking-uri sqlite:///another.db", folder)
    assert resumed.returncode == 0, resumed.stderr
    assert "resume" in command and "so that this process ends here" not in resumed.stderr
