"""`sweeper studies`."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from sweeper import storage as studies
from sweeper.core.paths import ReportPaths
from sweeper.core.training_files import get_checkpoints_dir, get_weights_dir
from sweeper.workflow.status import Heartbeat, get_status_file
from tests.support.faking import new_plan, train

URL = "sqlite:///sweeper.db"


@pytest.fixture
def two_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder with two studies: `done`, which was trained, and `begun`."""
    monkeypatch.chdir(tmp_path)
    storage = studies.open_storage(URL)
    done, _ = (studies.create_study(storage, name, new_plan()) for name in ("done", "begun"))
    done.set_user_attr("trials", studies.pack_value(9))
    train(done)
    with Heartbeat(get_status_file(URL, "done"), "done"):
        pass
    for folder in (get_checkpoints_dir(Path(".sweeper/cache"), "done"), ReportPaths(Path("reports"), "done").folder):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"12345678")


def test_studies_are_listed_with_state_answer_and_score(two_studies: None, sweeper) -> None:
    status, out, _ = sweeper("studies", "--json")
    document = json.loads(out)
    rows = {row["study"]: row for row in document["studies"]}
    assert status == 0 and document["schema"] == "sweeper.studies/1"
    assert (rows["done"]["state"], rows["done"]["trials"], rows["done"]["on"]) == ("finished", 9, "test")
    assert rows["done"]["sure"] == "established" and rows["done"]["loss"] in {
        "dice",
        "dice_ce",
        "tversky",
        "dice_focal",
    }
    assert rows["done"]["outcome"] == "change"
    assert rows["done"]["answer"].startswith(f"Change to `{rows['done']['loss']}`: at least +")
    assert rows["begun"]["state"] == "unknown" and rows["begun"]["score"] is None and rows["begun"]["outcome"] is None
    status, out, _ = sweeper("studies")
    assert "change, " in out and "finished" in out and "9/9" in out and "2 studies in sqlite:///sweeper.db" in out


def test_a_deleted_study_leaves_its_report_and_nothing_else(two_studies: None, sweeper) -> None:
    status, out, err = sweeper("studies", "delete", "done")
    assert status == 2 and "add --yes" in err and "done" in studies.list_study_names(studies.open_storage(URL))
    status, out, err = sweeper("studies", "delete", "done", "--yes")
    assert status == 0 and "trainings of study done in sqlite:///sweeper.db" in out.partition("Kept:")[0], err
    assert "the report in reports/done" in out.partition("Kept:")[2]
    storage = studies.open_storage(URL)
    assert studies.list_study_names(storage) == ["begun"]
    assert (
        not get_checkpoints_dir(Path(".sweeper/cache"), "done").exists() and not get_status_file(URL, "done").exists()
    )
    assert ReportPaths(Path("reports"), "done").folder.exists()
    assert studies.create_study(storage, "done", new_plan()).trials == []


def test_delete_keeps_a_running_study_and_networks_of_a_possible_namesake(two_studies: None, sweeper) -> None:
    """Two storages in one folder may each hold a study `done`."""
    folder = get_weights_dir(Path(".sweeper/cache"), "done")
    folder.mkdir(parents=True)
    (folder / "confirm-00000.safetensors").write_bytes(b"somebody's")
    with studies.hold_study(URL, "done"):
        status, _, err = sweeper("studies", "delete", "done", "--yes")
    assert status == 2 and "is being run by another process" in err
    assert "done" in studies.list_study_names(studies.open_storage(URL))
    status, out, err = sweeper("studies", "delete", "done", "--yes")
    assert status == 0 and "which may be of another study of this name" in out, err
    assert list(folder.iterdir()) and get_checkpoints_dir(Path(".sweeper/cache"), "done").exists()


def test_delete_removes_a_link_and_keeps_its_target(two_studies: None, sweeper) -> None:
    folder = get_checkpoints_dir(Path(".sweeper/cache"), "done")
    folder.rename("elsewhere")
    folder.symlink_to(Path("elsewhere").resolve())
    status, _, err = sweeper("studies", "delete", "done", "--yes")
    assert status == 0 and not folder.is_symlink() and (Path("elsewhere") / "file").exists(), err


def test_a_damaged_study_hides_no_other_study(two_studies: None, sweeper, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_error(sweep: object) -> None:
        raise ValueError("nothing to weigh")

    monkeypatch.setattr("sweeper.workflow.study_state.draw_conclusion", raise_error)
    status, out, _ = sweeper("studies", "--json")
    rows = {row["study"]: row for row in json.loads(out)["studies"]}
    assert status == 0 and rows["begun"]["state"] == "unknown"
    assert (rows["done"]["state"], rows["done"]["problem"]) == ("damaged", "nothing to weigh")


def test_deleting_a_missing_study_does_not_create_it(two_studies: None, sweeper) -> None:
    for _ in range(2):
        status, _, err = sweeper("studies", "delete", "dune", "--yes")
        assert status == 2 and "there is no study 'dune' in this storage" in err
    assert "dune" not in sweeper("studies")[1]


def test_delete_removes_a_half_made_study_and_refuses_a_foreign_one(two_studies: None, sweeper) -> None:
    storage = studies.open_storage(URL)
    optuna.create_study(storage=storage, study_name="cut")
    optuna.create_study(storage=storage, study_name="foreign").add_trial(optuna.trial.create_trial(value=0.5))
    assert sweeper("studies", "delete", "cut", "--yes")[0] == 0
    status, _, err = sweeper("studies", "delete", "foreign", "--yes")
    assert status == 2 and "was not made by sweeper" in err
    assert {*optuna.get_all_study_names(storage)} == {"done", "begun", "foreign"}


def test_a_backup_holds_the_study_and_never_replaces_a_file(two_studies: None, sweeper) -> None:
    status, out, err = sweeper("studies", "backup", "done", "copy.db")
    assert status == 0 and "every record of study done is whole" in out, err
    copy = studies.open_storage("sqlite:///copy.db", create=False)
    assert studies.list_study_names(copy) == ["done", "begun"]
    status, _, err = sweeper("studies", "backup", "done", "copy.db")
    assert status == 2 and "copy.db exists already" in err


def test_variables_and_help_serve_every_action(
    two_studies: None, sweeper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SWEEPER_STORAGE", f"sqlite:///{tmp_path}/none.db")
    for action in ((), ("list",), ("delete", "done", "--yes"), ("backup", "done", "x.db"), ("sync", "done")):
        status, out, err = sweeper("studies", *action)
        assert (status, out) == (2, "") and "there is no file" in err and "none.db" in err, action
    help_text = sweeper("studies", "--help")[1]
    assert all(f"\n  {action} " in help_text for action in ("list", "show", "delete", "backup", "sync"))
