"""An interrupted study becomes the study that it would have been.

It is killed between two writes, or by a signal, and resumed by the printed command, which takes the first one's
workers, threads and precision.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper import storage as studies
from sweeper.core.paths import STORAGE
from sweeper.core.text import resume_command
from tests.cli.test_run import QUICK, start, sweeper, wait_for
from tests.support.marks import EXHAUSTIVE


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("kind", "first", "step"),
    [("sweep", 5, 40), pytest.param("sweep", 1, 1, marks=EXHAUSTIVE), pytest.param("search", 1, 1, marks=EXHAUSTIVE)],
)
def test_a_kill_between_any_two_writes_changes_nothing(tmp_path: Path, kind: str, first: int, step: int) -> None:
    command = [sys.executable, "-m", "tests.support.killing", str(tmp_path / kind), kind, str(first), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["writes"] > 100 and found["killed"] >= found["writes"] // step and found["differences"] == {}


# --- A real training, a real signal ---

TIMES = {"seconds", "seconds_per_step", "mlflow_run_ids"}


def said(folder: Path) -> object:
    """Return the recommendation, without what differs from one run to the next."""
    text = (folder / "reports/s/recommendation.json").read_text("utf-8")
    return json.loads(text, object_hook=lambda found: {key: found[key] for key in found if key not in TIMES})


FIRST = ["run", "--study", "s", *QUICK, "--trials", "8", "--confirm-steps", "4"]


@pytest.mark.slow
def test_the_command_that_is_printed_goes_on_as_the_first_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SWEEPER_PRECISION", "SWEEPER_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    cut.mkdir()
    process = start(cut, *FIRST, "--workers", "1")
    wait_for(cut, "[3/8]", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    storage = studies.open_storage(f"sqlite:///{cut}/sweeper.db")
    machine, recipe = studies.read_machine(storage, "s"), studies.read_plan(storage, "s").conditions.recipe
    assert (machine["device"], machine["executor"], machine["workers"]) == ("cpu", "processes", 1)
    done = sweeper(cut, *resume_command("s", STORAGE).split()[1:])
    assert done.returncode == 0, done.stderr
    assert studies.read_machine(storage, "s") == machine
    storage.engine.dispose()
    assert "ms in float32" not in done.stderr  # it is not measured again
    whole.mkdir()
    # Both precisions would do: what a measurement found is no matter of this test.
    done = sweeper(whole, *FIRST, "--workers", "1", "--precision", recipe.precision)
    assert done.returncode == 0, done.stderr
    assert said(cut) == said(whole)
