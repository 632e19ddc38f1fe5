"""An interrupted study becomes the study that it would have been: killed between two writes, by signals, by workers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def killed(folder: Path, kind: str, first: int, step: int) -> dict[str, Any]:
    """What tests/killing.py found."""
    command = [sys.executable, "-m", "tests.killing", str(folder / kind), kind, str(first), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["killed"] == len(range(first, found["writes"] + 1, step)) > 0
    return found


@pytest.mark.parametrize(("kind", "first", "step"), [("sweep", 7, 29), ("search", 12, 37)])
def test_a_kill_between_two_writes_changes_nothing(tmp_path: Path, kind: str, first: int, step: int) -> None:
    assert killed(tmp_path, kind, first, step)["differences"] == {}


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["sweep", "search"])
def test_a_kill_between_any_two_writes_changes_nothing(tmp_path: Path, kind: str) -> None:
    assert killed(tmp_path, kind, 1, 1)["differences"] == {}
