"""Requests that are refused before the data are opened, by `sweeper run` and `--dry-run` in the same words."""

from __future__ import annotations

import json
import os
import pickle
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sweeper.cli.main import main
from sweeper.core.errors import MissingStudyError, RequestError, SweeperError, UsageError
from sweeper.core.records import Collapse
from sweeper.storage import open_storage
from sweeper.tracking.mirror import MlflowMirror
from sweeper.workflow.request_checks import check_places, check_request
from sweeper.workflow.settings import Settings
from tests.support import mlflow_template
from tests.support.marks import rest_slow
from tests.support.sweeping import TWO_LOSSES

QUICK = [
    *("synthetic:cracks?images=15&size=64&foreground=0.05", "--steps", "4", "--size", "32"),
    *("--batch-size", "2", "--seeds", "2", "--device", "cpu", "--workers", "0"),
]


def run_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["sweeper", "run", *QUICK, *arguments])
    with pytest.raises(SystemExit) as system_exit:
        main()
    output = capsys.readouterr()
    assert isinstance(system_exit.value.code, int)
    return system_exit.value.code, output.out, output.err


def test_the_present_loss_is_among_named_losses(tmp_path: Path) -> None:
    def list_losses(**options: object) -> str | None:
        places = {"storage": f"sqlite:///{tmp_path}/s.db", "tracking_uri": f"sqlite:///{tmp_path}/m.db"}
        return check_request(None, Settings(**places, **options)).space

    assert list_losses(space="dice,focal") == "cross_entropy,dice,focal"
    assert list_losses(space="dice", present="dice_ce:mix=0.5") == "dice_ce:mix=0.5,dice"
    assert list_losses(space="dice,cross_entropy") == "dice,cross_entropy"
    assert list_losses(space="dice_ce,dice", present="dice_ce:mix=0.5") == "dice_ce:mix=0.5,dice_ce,dice"
    with pytest.raises(UsageError, match="one loss or more must be compared with dice, got none"):
        list_losses(space="dice", present="dice")


@pytest.mark.slow
def test_losses_are_named_for_sweepers_own_training_without_a_script(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    data = "synthetic:cracks?images=15&size=64&foreground=0.05"
    words = ["--losses", "dice_ce,tversky:fn_weight=0.6", "--seeds", "3..4", "--dry-run", "--json"]
    monkeypatch.setattr(sys, "argv", ["sweeper", "confirm", data, *words])
    with pytest.raises(SystemExit):
        main()
    preview = json.loads(capsys.readouterr().out)
    assert [family["family"] for family in preview["space"]["families"]] == ["cross_entropy", "tversky", "dice_ce"]
    assert [analysis["seeds"] for analysis in preview["analyses"]] == [3, 4]


@pytest.mark.parametrize(
    ("arguments", "words"),
    rest_slow(
        [
            (["--out", "file/a", "--storage", "sqlite:///fifo"], ["2 problems", "file/a", "fifo"]),
            (["--storage", "mysql://host/db"], ["sqlite:///FILE"]),
            (["--out", "file/reports"], ["--out file/reports"]),
            (["--storage", "sqlite:///file/a.db"], ["--storage sqlite:///file/a.db"]),
            (["--storage", "sqlite:///fifo"], ["SQLite file"]),
            (["--tracking-uri", "sqlite:///fifo"], ["--tracking-uri sqlite:///fifo"]),
        ],
        2,
    ),
)
def test_a_dry_run_refuses_what_the_run_refuses(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("nothing but text")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)
    messages = []
    for dry in ([], ["--dry-run"]):
        status, out, err = run_command(capsys, monkeypatch, *arguments, *dry)
        assert (status, out) == (2, ""), err
        assert all(word in err for word in words) and "drawing" not in err
        messages.append(re.split(r"got|/tmp\w+'", err)[0])
    assert messages[0] == messages[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "file"]


def test_a_dry_run_makes_no_tables_of_optuna_in_a_foreign_database(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "own.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x INTEGER)")
        connection.commit()
    before = path.read_bytes()
    monkeypatch.chdir(tmp_path)
    status, _, err = run_command(capsys, monkeypatch, "--storage", f"sqlite:///{path}", "--dry-run")
    assert status == 0, err
    assert path.read_bytes() == before
    with pytest.raises(MissingStudyError, match="holds no studies"):
        open_storage(f"sqlite:///{path}", create=False)
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("end", [Collapse.NONE, Collapse.NO_BETTER_THAN_CONSTANT])
def test_a_dry_run_of_a_finished_study_plans_no_training(
    end: Collapse, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does one of a study that learned nothing, which has nothing to confirm."""
    monkeypatch.setattr("sweeper.training.scores.judge_collapse", lambda *_: end)  # four steps learn what they learn
    monkeypatch.chdir(tmp_path)
    status, _, err = run_command(capsys, monkeypatch, "--study", "s", "--trials", "4", "--space", TWO_LOSSES)
    assert status == 0, err
    resume = ["sweeper", "run", "--study", "s", "--resume", "--workers", "0", "--dry-run"]
    for more, words in (([], "nothing is left to train"), (["--trials", "6"], "plan: at most 2 trials of")):
        monkeypatch.setattr(sys, "argv", [*resume, *more])
        with pytest.raises(SystemExit) as system_exit:
            main()
        out = capsys.readouterr().out
        assert system_exit.value.code == 0 and words in out


def test_places_that_can_be_created_are_accepted(tmp_path: Path) -> None:
    places = {"out": tmp_path / "a" / "b", "cache": tmp_path / "c", "storage": f"sqlite:///{tmp_path}/d/e.db"}
    check_places(Settings(**places, tracking_uri=f"sqlite:///{tmp_path}/f.db"))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(RequestError, match="--out"):
        check_places(Settings(out=tmp_path / "link" / "reports", storage=f"sqlite:///{tmp_path}/e.db"))


@pytest.mark.parametrize("content", [b"nothing but text", bytes(8192)])
def test_a_file_that_is_no_database_is_refused_and_not_changed(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with pytest.raises(SweeperError, match="file is not a database"):
        open_storage(f"sqlite:///{path}")
    assert path.read_bytes() == content


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_database_without_write_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
    path.chmod(0o444)
    with pytest.raises(RequestError, match=r"must be a file that can be written.*Permission denied"):
        check_places(Settings(out=tmp_path, cache=tmp_path / "c", storage=f"sqlite:///{path}"))


@pytest.mark.parametrize("option", ["storage", "tracking_uri"])
def test_a_database_whose_log_has_no_write_permission_is_refused(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
    places = Settings(out=tmp_path, cache=tmp_path / "c", **{option: f"sqlite:///{path}"})  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        check_places(places)  # another process writes to it
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY_CANTINIT  # what SQLite says of another user's s.db-shm

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(sqlite3, "connect", refuse)
    with pytest.raises(RequestError, match=r"must be a file that can be written.*readonly database; name another one"):
        check_places(places)


def test_a_deleted_experiment_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mlflow_template.write_store(tmp_path)
    client = MlflowClient("sqlite:///mlflow.db")
    number = client.create_experiment("gone")
    client.delete_experiment(number)
    with pytest.raises(UsageError, match="the experiment 'gone' was deleted there, and its name is") as caught:
        MlflowMirror(client, "sqlite:///mlflow.db").check_experiment("gone")
    assert str(caught.value).endswith(f"mlflow experiments restore --experiment-id {number}")
    client.restore_experiment(number)
    assert MlflowMirror(client, "sqlite:///mlflow.db").find_experiment("gone") == number


def test_a_store_that_refuses_requests_is_refused_with_its_reason() -> None:
    class Refusing:
        def get_experiment_by_name(self, name: str) -> None:
            raise MlflowException(f"{name} is forbidden")

    words = "--tracking-uri http://x must be an MLflow store that answers, got: s is forbidden. Nothing was"
    with pytest.raises(UsageError, match=re.escape(words)):
        MlflowMirror(Refusing(), "http://x").check_experiment("s")  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["pickle", "text", "list", "folder", "nothing", "cut short", "safetensors", "device"])
def test_invalid_encoder_weights_are_refused_before_the_data_are_opened(what: str, tmp_path: Path) -> None:
    path = tmp_path / ("w.safetensors" if what == "safetensors" else "w.pt")
    match what:
        case "pickle":
            path.write_bytes(pickle.dumps(Path("x")))
        case "list":
            torch.save([torch.zeros(2)], path)
        case "folder":
            path.mkdir()
        case "cut short":
            torch.save({"a": torch.zeros(99)}, path)
            path.write_bytes(path.read_bytes()[:-40])
        case "device":
            os.mkfifo(path)
        case "text" | "safetensors":
            path.write_text("conv1.weight: 3")
    words = r"--encoder-weights .*w\.\w+ must "
    if what in {"folder", "nothing", "device"}:
        words = "must be auto, imagenet, none or a file, and there is no"
    for settings in (Settings(encoder_weights=str(path), data="nowhere"), Settings(encoder_weights=str(path))):
        with pytest.raises(UsageError, match=words):
            check_request(None, settings)


def test_encoder_weights_that_can_be_loaded_are_accepted(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "w.pt")
    for weights in ("imagenet", "none", "auto", None, str(tmp_path / "w.pt")):
        check_request(None, Settings(encoder_weights=weights))
