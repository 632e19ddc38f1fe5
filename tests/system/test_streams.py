"""Output that cannot be written: closed streams, full devices, poor encodings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.cli.test_run import QUICK
from tests.support import mlflow_template
from tests.support.folders import folder, mask
from tests.support.marks import rest_slow

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="/dev/full is Linux's")
PATIENCE = 800.0
"""Seconds; a busy machine takes minutes for what takes seconds."""


def call(folder: Path, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its streams are files in `folder`, `out` and `err`, unless others are given."""
    command = [sys.executable, "-m", "sweeper", *arguments]
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        options: dict[str, Any] = {"stdout": out, "stderr": err, "timeout": PATIENCE, **settings}
        status = subprocess.run(command, cwd=folder, check=False, **options).returncode
    texts = [(folder / name).read_text("utf-8", errors="replace") for name in ("out", "err")]
    return subprocess.CompletedProcess(arguments, status, *texts)


# --- The log ---


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_full
def test_a_log_on_a_full_disk_does_not_end_a_sweep(tmp_path: Path) -> None:
    mlflow_template.write_store(tmp_path)
    poor = {**os.environ, "PYTHONIOENCODING": "ascii"}
    options = ["run", *QUICK, "--study", "s", "--workers", "1", "--trials", "1", "-v"]
    with FULL.open("w") as full:
        done = call(tmp_path, *options, stderr=full, env=poor)
    assert done.returncode == 0 and "\nReport: " in done.stdout  # whatever the answer is
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/sweeper.db")
    assert sum(trial.state.is_finished() for trial in study.trials) == 1


# --- The result ---


SYNTH = ["synth", "cracks?images=4&size=64", "data"]
COMMANDS = [["losses"], ["losses", "--json"], ["--help"], SYNTH, ["doctor"]]


@needs_full
@pytest.mark.parametrize("arguments", rest_slow(COMMANDS, 1, 2), ids=" ".join)
def test_every_command_reports_that_its_result_was_not_written(tmp_path: Path, arguments: list[str]) -> None:
    with FULL.open("w") as full:
        done = call(tmp_path, *arguments, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "sweeper: standard output does not take the result: No space left on device\n"


@pytest.mark.parametrize(("number", "status"), [(0, 0), (1, 1), (2, 0)])
def test_a_command_reports_only_that_its_result_was_closed(tmp_path: Path, number: int, status: int) -> None:
    done = call(tmp_path, *SYNTH, preexec_fn=lambda: os.close(number))
    assert done.returncode == status
    assert ("Bad file descriptor" in done.stderr) is (number == 1)


OPENS_A_FILE = """
import sys
from sweeper.system.streams import make_streams_tolerant
make_streams_tolerant()
with open("file", "w") as file:
    print("text", flush=True)
    print("text", file=sys.stderr)
    sys.exit(file.fileno() < 3)
"""


@pytest.mark.parametrize("number", range(3))
def test_closed_streams_are_not_reused_for_files(tmp_path: Path, number: int) -> None:
    words = [sys.executable, "-c", OPENS_A_FILE]
    done = subprocess.run(words, cwd=tmp_path, preexec_fn=lambda: os.close(number), check=False, timeout=PATIENCE)
    assert done.returncode == 0 and not (tmp_path / "file").read_bytes()


# --- Encodings ---


POOR = [
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C"},
]


@pytest.mark.parametrize("poor", rest_slow(POOR, 0, 1), ids=lambda poor: " ".join(f"{k}={v}" for k, v in poor.items()))
def test_a_poor_encoding_loses_only_single_characters(tmp_path: Path, poor: dict[str, str]) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    for arguments in (["losses"], ["profile", "synthetic:street?images=15&size=64"]):
        done = call(tmp_path, *arguments, env={**environment, **poor})
        assert "mistake" not in done.stderr and "Traceback" not in done.stderr, (arguments, done.stderr)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "poor", rest_slow(POOR[:3], 1, 0), ids=lambda poor: " ".join(f"{k}={v}" for k, v in poor.items())
)
def test_json_is_valid_in_a_poor_encoding(tmp_path: Path, poor: dict[str, str]) -> None:
    """Class names with signs of one, two, three and four bytes."""
    names = ["wall", "fissür", "crack…", "🏃"]
    data = folder(tmp_path / "data", {c: mask(0, 1, 2, 3) for c in "abcd"}, classes="\n".join(names))
    done = call(tmp_path, "profile", str(data), "--json", env={**os.environ, **poor})
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out").read_bytes())["dataset"]["classes"] == names


def test_no_command_writes_json_that_depends_on_the_encoding() -> None:
    r"""What an encoding lacks is written as \U0001f3c3, which is not JSON: its \u escapes are safe."""
    for path in sorted((Path(__file__).parents[2] / "sweeper" / "cli").glob("*.py")):
        assert "ensure_ascii=False" not in path.read_text("utf-8"), path
