"""A bare `--resume` gives the numbers of the first command: it takes its workers, threads and precision."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from sweeper import storage as studies
from sweeper.core.paths import STORAGE
from sweeper.core.text import resume_command
from tests.cli.test_run import QUICK, start, sweeper, wait_for
from tests.e2e.test_interrupted import TIMES, said

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
    assert said(cut, TIMES) == said(whole, TIMES)
