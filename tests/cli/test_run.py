"""The command line as people and scripts meet it: real processes, exit statuses, streams, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from sweeper.cli.main import COMMANDS, cli, main
from sweeper.cli.options import SweeperCommand
from sweeper.storage.record_format import WAITS
from sweeper.study.confirmation_rounds import confirm_seed
from sweeper.workflow.settings import MOST_SEED, MOST_SEEDS
from tests.support import mlflow_template
from tests.support.marks import rest_slow

DATA = "synthetic:cracks?images=15&size=64&foreground=0.05"
QUICK = ["--data", DATA, "--steps", "4", "--size", "32", "--batch-size", "2", "--confirm-seeds", "2", "--device", "cpu"]
SHORT = [*QUICK, "--space", str(Path(__file__).parents[1] / "support/two_losses.yaml")]
"""Where no loss is looked at."""


HURRIED = ["-c", """
import sweeper.tracking.tracker as tracker
from sweeper.cli.main import main

tracker.PATIENCE = tracker.END_PATIENCE = 2.0
main()
"""]  # fmt: skip
"""The command, but it waits seconds for an MLflow store that does not come back, not three quarters of a minute."""


def sweeper(
    folder: Path, *arguments: str, timeout: float = 240, program: Sequence[str] = ("-m", "sweeper")
) -> subprocess.CompletedProcess[str]:
    if arguments[0] == "run" and "--tracking-uri" not in arguments and not (folder / "sweeper.db").exists():
        mlflow_template.lay(folder)
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "COLUMNS": "100"},
        check=False,
    )


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sweeper", *arguments]
    if not (folder / "sweeper.db").exists():
        mlflow_template.lay(folder)
    with (folder / "err.txt").open("w") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, text=True, start_new_session=True)


def wait_for(folder: Path, words: str, process: subprocess.Popen[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if words in (folder / "err.txt").read_text():
            return
        assert process.poll() is None, (folder / "err.txt").read_text()
        time.sleep(0.05)
    pytest.fail(f"{words!r} never came: {(folder / 'err.txt').read_text()}")


Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Run a command in this process and an empty folder: status, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        inline = ["--executor", "inline"] if arguments[0] == "run" else []
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["sweeper", *arguments, *inline])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, shown.out, shown.err

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return sweeper(folder, "run", *QUICK, "--trials", "3", "--study", "s", "--json", "--workers", "2")


def test_a_run_prints_one_document_tells_progress_in_plain_lines_and_leaves_files_where_the_contract_says(
    run: subprocess.CompletedProcess[str], folder: Path
) -> None:
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert document["schema"] == "sweeper.recommendation/1"
    assert document["search"]["trials"] == 3
    assert "[3/3]" in run.stderr
    assert not any(word in run.stderr for word in ("\x1b", "Traceback", "Warning"))
    for name in ("sweeper.db", "mlflow.db", ".sweeper/cache", "reports/s/report.md", "reports/s/recommendation.json"):
        assert (folder / name).exists()


@pytest.mark.slow
def test_the_same_name_is_refused_with_both_remedies(run: subprocess.CompletedProcess[str], folder: Path) -> None:
    again = sweeper(folder, "run", *QUICK, "--study", "s")
    assert again.returncode == 2
    assert "--resume" in again.stderr and "--study" in again.stderr
    assert again.stdout == ""


def test_report_writes_it_again(run: subprocess.CompletedProcess[str], folder: Path) -> None:
    before = (folder / "reports/s/recommendation.json").read_text()
    (folder / "reports/s/report.md").unlink()
    again = sweeper(folder, "report", "s", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads((folder / "reports/s/recommendation.json").read_text())
    assert json.loads(before)["study"] == json.loads(again.stdout)["study"]
    assert (folder / "reports/s/report.md").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--data", "no-such-folder"], "no-such-folder"),
        (["run", "--space", "no-such-space"], "no-such-space"),
        (["run", "--trials", "0"], "--trials"),
        (["run", "--no-such-option"], "no-such-option"),
        (["run", "--storage", "mysql://host/db"], "sqlite"),
        (["run", "--steps", "8", "--epochs", "2"], "exclude"),
        (["run", "--timeout", "soon"], "1h30m"),
        (["run", "--confirm-seeds", "8..3"], "1 ≤ MIN ≤ MAX"),
        (["run", "--steps", "3"], "4<=x"),
        (["run", "--workers", "²"], "auto"),
        (["run", "--rope", "nan"], "nan"),
        (["run", "--seed", str(2**63)], str(2**63)),
        (["run", "--data", ""], "--data, got ''"),
        (["run", "--data="], "--data, got '--data='"),
        (["report", ""], "an argument, got ''"),
        (["report", "nothing"], "there is no file"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what(tmp_path: Path, here: Here, arguments: list[str], words: str) -> None:
    status, out, err = here(*arguments)
    assert status == 2
    assert words in err
    assert out == ""
    assert "Traceback" not in err
    assert arguments[0] == "run" or list(tmp_path.iterdir()) == []


def test_options_can_be_set_by_variables(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPER_DATA", "synthetic:clouds")
    status, _, err = here("run")
    assert status == 2 and "clouds" in err
    for name, value in (("SWEEPER_CONFIRM_SEEDS", "5..3"), ("SWEEPER_TIMEOUT", "later"), ("SWEEPER_STEPS", "many")):
        with monkeypatch.context() as own:
            own.setenv(name, value)
            status, _, err = here("run")
            assert status == 2 and value in err


def test_an_empty_variable_is_not_the_default(here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWEEPER_DATA", "")
    monkeypatch.setenv("SWEEPER_TRIALS", "")
    status, out, err = here("run", "--dry-run")
    assert (status, out) == (2, "") and "SWEEPER_DATA" in err and "SWEEPER_TRIALS" in err
    status, _, err = here("run", "--data", "synthetic:clouds", "--trials", "3", "--dry-run")  # the command line decides
    assert status == 2 and "clouds" in err and "SWEEPER" not in err
    assert list(tmp_path.iterdir()) == []


def test_the_largest_seed_can_be_trained_with() -> None:
    last = confirm_seed(MOST_SEED, MOST_SEEDS)
    assert torch.Generator().manual_seed(last).initial_seed() == last < 2**63


def test_what_nobody_foresaw_is_one_line_and_status_1(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("the sky fell")

    monkeypatch.setattr("sweeper.storage.open_storage", breaks)
    status, _, err = here("report", "s")
    assert status == 1
    assert "the sky fell" in err and "Traceback" not in err and len(err.strip().splitlines()) == 1


def test_every_command_has_help_and_refuses_empty_values() -> None:
    for name, text in COMMANDS.items():
        shown = CliRunner().invoke(cli, [name, "--help"])
        assert shown.exit_code == 0 and len(shown.output) > 100, name
        assert text
        assert isinstance(cli.get_command(click.Context(cli), name), SweeperCommand), name


@pytest.mark.slow
@pytest.mark.parametrize("number", rest_slow([signal.SIGTERM, signal.SIGINT], slow=0))
def test_signals_end_cleanly_and_the_study_can_be_resumed(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, "run", *QUICK, "--trials", "60", "--study", "s", "--workers", "1")
    wait_for(tmp_path, "[2/60]", process)
    process.send_signal(number)
    assert process.wait(10) == 128 + number
    text = (tmp_path / "err.txt").read_text()
    assert "sweeper run --study s --resume" in text and "Traceback" not in text
    import optuna

    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/sweeper.db")
    running = [t for t in study.trials if t.state.name == "RUNNING"]
    assert all(WAITS in t.user_attrs for t in running)  # they wait at a rung, and nobody trains them


def test_a_dry_run_says_what_would_be_done_and_leaves_nothing(tmp_path: Path, here: Here) -> None:
    status, out, err = here("run", *QUICK, "--trials", "9", "--dry-run")
    assert status == 0, err
    assert "plan: 9 trials of at most 4 steps" in out and "nothing was written" in out and "time: " in out
    assert "4 to 8 trainings of 8 steps to confirm them" in out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_is_a_document_and_refuses_what_the_run_would(tmp_path: Path, here: Here) -> None:
    status, out, _ = here(
        "run", *QUICK[:2], *QUICK[4:], "--steps", "8", "--confirm-seeds", "2..5", "--dry-run", "--json"
    )
    document = json.loads(out)
    assert (status, document["schema"]) == (0, "sweeper.preview/1")
    assert [analysis["seeds"] for analysis in document["analyses"]] == [2, 3, 4, 5]
    assert set(document["trainings"]) == {"search", "recheck", "confirm"}
    for wrong, words in ((["--size", "33"], "multiple of 8"), (["--study", "s", "--resume"], "there is no file")):
        status, out, err = here("run", *QUICK, *wrong, "--dry-run")
        assert status == 2 and words in err and out == ""
    assert list(tmp_path.iterdir()) == []
