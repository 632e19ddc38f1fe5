"""The command line in real processes: exit statuses, streams, signals."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeper.core.paths import ReportPaths
from sweeper.evidence.answer import make_answer
from sweeper.study.finalist import derive_confirmation_seed
from sweeper.workflow.conclude import Conclusion, ReportedStudy, make_document
from sweeper.workflow.settings import MOST_SEED, MOST_SEEDS
from tests.support import builders, mlflow_template
from tests.support.sweeping import TWO_LOSSES

DATA = "synthetic:cracks?images=15&size=64&foreground=0.05"
QUICK = [DATA, "--steps", "4", "--size", "32", "--batch-size", "2", "--seeds", "2", "--device", "cpu"]
QUICK += ["--final", "none"]
SHORT = [*QUICK, "--space", TWO_LOSSES]


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
        mlflow_template.write_store(folder)
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
        mlflow_template.write_store(folder)
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return sweeper(folder, "run", *QUICK, "--trials", "3", "--study", "s", "--json", "--workers", "2")


def test_a_run_prints_a_document_logs_progress_and_writes_the_files_of_the_contract(
    run: subprocess.CompletedProcess[str], folder: Path
) -> None:
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert document["schema"] == "sweeper.answer/2"
    assert document["search"]["trials"] == 3
    assert "[3/3]" in run.stderr
    assert not any(word in run.stderr for word in ("\x1b", "Traceback", "Warning"))
    for name in ("sweeper.db", "mlflow.db", ".sweeper/cache", "reports/s/report.md", "reports/s/recommendation.json"):
        assert (folder / name).exists()
    assert sorted(path.name for path in folder.glob("*.db*")) == ["mlflow.db", "sweeper.db"]  # whole without others


@pytest.mark.slow
def test_an_existing_study_name_is_refused_with_both_remedies(
    run: subprocess.CompletedProcess[str], folder: Path
) -> None:
    repeated = sweeper(folder, "run", *QUICK, "--study", "s")
    assert repeated.returncode == 2
    assert "--resume" in repeated.stderr and "--study" in repeated.stderr
    assert repeated.stdout == ""


def test_the_largest_seed_can_be_trained_with() -> None:
    last = derive_confirmation_seed(MOST_SEED, MOST_SEEDS)
    assert torch.Generator().manual_seed(last).initial_seed() == last < 2**63


def test_a_dry_run_prints_the_plan_refuses_as_the_run_does_and_writes_nothing(tmp_path: Path, sweeper: Any) -> None:
    dry = ("run", *QUICK, "--workers", "0", "--dry-run")
    status, out, err = sweeper(*dry, "--trials", "9", "--precision", "auto")
    assert status == 0, err
    assert "6 trainings of 4 steps to find the learning rate, 9 trials of 4 steps" in out
    assert "nothing was trained or written" in out
    assert "6 trainings of 8 steps to confirm them" in out
    assert re.search(r"recipe: .*(float32|bfloat16) \(measured; --precision \1 repeats it\)", out)
    assert "device: CPU" in err and "recipe: " not in err  # each is said once
    options = (
        "--steps",
        "8",
        "--final",
        "steps=16",
        "--seeds",
        "2..5",
        "--precision",
        "float32",
        "--time",
        "1s",
        "--json",
    )
    status, out, _ = sweeper(*dry, *options)
    document = json.loads(out)
    assert not document["is_precision_measured"]
    assert (status, document["schema"]) == (0, "sweeper.preview/1")
    assert [analysis["seeds"] for analysis in document["analyses"]] == [3, 4, 5]
    assert set(document["trainings"]) == {"rate", "search", "replicate", "confirm", "final"}
    assert document["trainings"]["final"]["steps"] == 16
    for wrong, words in ((["--size", "33"], "multiple of 8"), (["--study", "s", "--resume"], "there is no file")):
        status, out, err = sweeper(*dry, *wrong)
        assert status == 2 and words in err and out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_run_prints_its_answer_and_ends_with_0_whatever_the_answer(
    sweeper: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ReportPaths(tmp_path, "toy")
    paths.folder.mkdir()
    paths.recommendation.write_text("{}")
    evidence = builders.evidence({"dice": 0.7}, baseline=None)
    conclusion = Conclusion(make_answer(evidence, builders.ORDER, present="cross_entropy")[0], evidence, None)
    outcome = ReportedStudy(builders.sweep(), conclusion, make_document(builders.sweep(), conclusion), paths)
    monkeypatch.setattr("sweeper.workflow.run.run_sweep", lambda *_, **__: outcome)
    status, out, _ = sweeper("run", "--workers", "0")
    assert status == 0 and "Nothing was compared: dice alone was" in " ".join(out.split())


@pytest.mark.slow
def test_the_data_are_an_argument_or_a_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = "synthetic:cracks?images=15&size=64&foreground=0.05"
    monkeypatch.setenv("SWEEPER_DATA", data)
    previews = [json.loads(sweeper(folder, "run", *words, "--dry-run", "--json").stdout) for words in ((data,), ())]
    assert previews[0]["dataset"] == previews[1]["dataset"] and previews[0]["dataset"]["source"] == data
    twice = sweeper(folder, "run", data, data)
    assert twice.returncode == 2 and "Got unexpected extra argument" in twice.stderr
