"""MLflow's file is deleted, replaced or emptied while a sweep writes to it.

That is reported at once and at the end, with the command that writes the store again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import builders, mlflow_template
from tests.support.tracked import begin_tracking, make_study, store_result, train
from tests.support.waiting import wait_until


def delete_file(path: Path) -> None:
    path.unlink()


def rename_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("new"))


def replace_file(path: Path) -> None:
    shutil.copy(path, path.with_name("other"))
    path.with_name("other").replace(path)


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("busy", [True, False])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (delete_file, "was deleted, or its folder was renamed"),
        (rename_folder, "was deleted, or its folder was renamed"),
        (replace_file, "was replaced by another file"),
        (empty_file, "was emptied"),
    ],
)
@pytest.mark.slow
def test_a_lost_file_is_reported_at_once_and_at_the_end_and_not_created_again(
    tmp_path: Path, damage: Callable[[Path], None], words: str, busy: bool
) -> None:
    path, warnings, study = tmp_path / "m d" / "mlflow.db", list[str](), make_study("my study")
    path.parent.mkdir()
    mlflow_template.write_store(path.parent)
    tracker = begin_tracking(f"sqlite:///{path}", study, warn=warnings.append)
    store_result(study, train(tracker, builders.trial("dice", 0.5, 0)))
    assert tracker.wait_until_written() is None and warnings == []
    damage(path)
    size = path.stat().st_size if path.exists() else None
    if busy:
        store_result(study, train(tracker, builders.trial("dice", 0.5, 1)))
    wait_until(lambda: tracker._log_warnings() or warnings)  # type: ignore[func-returns-value]
    command = f"sweeper studies sync 'my study' --tracking-uri 'sqlite:///{path}'"
    assert f"mlflow.db {words} while it was written to" in warnings[0] and command in warnings[0]
    tracker.end_sweep("FINISHED")
    assert len(warnings) == 2 and words in warnings[1] and warnings[1].endswith(f"this writes it: {command}")
    assert (path.stat().st_size if path.exists() else None) == size


@pytest.mark.slow
def test_a_file_that_is_lost_before_the_end_is_reported_although_all_was_written(tmp_path: Path) -> None:
    warnings = list[str]()
    mlflow_template.write_store(tmp_path)
    tracker = begin_tracking(f"sqlite:///{tmp_path}/mlflow.db", "s", warn=warnings.append)
    assert tracker.wait_until_written() is None
    (tmp_path / "mlflow.db").unlink()
    lacks = tracker.wait_until_written()
    assert lacks is not None and "was deleted" in lacks and "sweeper studies sync s" in lacks
    tracker.close()
    again = begin_tracking(f"sqlite:///{tmp_path}/mlflow.db", "s", warn=warnings.append)
    assert again.wait_until_written() is None
    again.close()


def test_written_runs_are_in_the_database_file_itself(tmp_path: Path) -> None:
    mlflow_template.write_store(tmp_path)
    study = make_study("s")
    tracker = begin_tracking(f"sqlite:///{tmp_path}/mlflow.db", study)
    for number in range(3):
        store_result(study, train(tracker, builders.trial("dice", 0.5, number)))
        assert tracker.wait_until_written() is None
        assert [path.name for path in tmp_path.glob("mlflow.db*")] == ["mlflow.db"]
        (copy := tmp_path / f"copy{number}").mkdir()
        shutil.copy(tmp_path / "mlflow.db", copy)
        other = type(tracker.mirror.client)(tracking_uri=f"sqlite:///{copy}/mlflow.db")
        assert len(other.search_runs([tracker.mirror.experiment_id])) == number + 2
    tracker.close()
