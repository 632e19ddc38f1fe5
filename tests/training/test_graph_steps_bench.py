"""bench/gpu.py says where steps were not recorded: no other number stands in that place."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from bench import gpu
from sweeper.core.errors import UsageError
from sweeper.core.recipe import Recipe
from sweeper.training.failure_causes import RecordingError

ARGUMENTS = argparse.Namespace(device="cuda", steps=2, repetitions=1)
RECIPE = Recipe()
WHY = "the network draws random numbers"


class Plain:
    """A training, which is refused where its steps are to be recorded."""

    def __init__(self, engine: str) -> None:
        if engine == "graph":
            raise UsageError(WHY)
        self._steps = self

    def advance(self) -> None: ...

    def take_steps(self, first: int, target: int) -> None: ...


def test_steps_that_cannot_be_recorded_are_marked_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "open_training", lambda _, __, engine, *___, **____: Plain(engine))
    monkeypatch.setattr(gpu, "time_loop", lambda *_, **__: 1.0)
    row: dict[str, Any] = {}
    gpu.measure_ways(None, RECIPE, ARGUMENTS, row)  # type: ignore[arg-type]
    assert isinstance(row["eager"], float)
    assert [row[name] for name in ("graph", "not_resident")] == [WHY] * 2


def test_a_recording_that_failed_ends_the_table_and_leaves_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_steps(dataset: object, recipe: object, engine: str, *_: object, **__: object) -> float:
        if engine == "eager":
            return 21.0
        raise RecordingError("a training step could not be recorded")

    monkeypatch.setattr(gpu, "time_steps", time_steps)
    monkeypatch.setattr(gpu, "load_dataset", lambda *_: None)
    monkeypatch.setattr(gpu, "time_loop", lambda *_, **__: 14.3)
    monkeypatch.setattr("sys.argv", ["gpu.py", str(tmp_path), "--device", "cpu", "--only", "0"])
    gpu.main()
    text = (tmp_path / "gpu.md").read_text()
    assert "| 14.3 | 14.3 | 21.0 | – |" in text
    assert "Nothing more was measured: a training step could not be recorded" in text and "--minutes" not in text
