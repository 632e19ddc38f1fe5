"""Precision on a CPU follows from a measurement, which is kept for the machine and the study."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from sweeper.core.events import WorkerHardware, WorkerLayout
from sweeper.core.recipe import Precision, Recipe
from sweeper.core.records import Conditions, Dataset
from sweeper.executors.inline import InlineBackend
from sweeper.workflow import machine_choice
from sweeper.workflow.machine_choice import choose_measured_precision, choose_precision, read_step_seconds

CPU = WorkerHardware(device="cpu", devices=1, name="CPU", precision="bfloat16", processor="Some Processor 1a2b3c4d")

INTEL: dict[Precision, float] = {"float32": 0.218, "bfloat16": 0.310}
"""avx512_bf16 and no AMX, one thread, 96² × 8."""

AMD: dict[Precision, float] = {"float32": 0.322, "bfloat16": 0.179}

TWO = WorkerLayout(2, 1)


class Machine(InlineBackend):
    """One on which steps take what a test says; everything else is this process's."""

    def __init__(self, times: dict[Precision, float]) -> None:
        super().__init__("cpu")
        self.worker, self.times, self.measured = CPU, times, list[tuple[Precision, ...]]()

    def get_hardware(self) -> WorkerHardware:
        return self.worker

    @property
    def layout(self) -> WorkerLayout:
        return TWO

    def measure_step_seconds(self, conditions: Conditions, precisions: Sequence[Precision]) -> dict[Precision, float]:
        self.measured.append(tuple(precisions))
        return self.times


@pytest.fixture
def conditions(tiny: Dataset) -> Conditions:
    return Conditions(dataset=tiny, recipe=Recipe(size=32, batch_size=2, precision="bfloat16"), seed=0)


def choose(
    conditions: Conditions, machine: Machine, folder: Path
) -> tuple[Precision, list[str], list[tuple[Precision, ...]]]:
    """Return the precision, the logged lines, and what was measured."""
    lines: list[str] = []
    machine.measured.clear()
    measured = choose_measured_precision(conditions, machine, folder / "t.json", lines.append)
    return measured.recipe.precision, lines, list(machine.measured)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (INTEL, "float32"),
        (AMD, "bfloat16"),
        ({"float32": 0.100, "bfloat16": 0.095}, "float32"),
        ({"float32": 0.100, "bfloat16": 0.089}, "float32"),
        ({"float32": 0.100, "bfloat16": 0.100}, "float32"),
        ({"float32": 0.100, "bfloat16": 0.079}, "bfloat16"),
    ],
)
def test_bfloat16_is_chosen_only_if_it_is_faster_by_a_margin(
    times: dict[Precision, float], expected: str, conditions: Conditions, tmp_path: Path
) -> None:
    assert choose_precision(times) == expected
    precision, (line,), _ = choose(conditions, Machine(times), tmp_path)
    assert precision == expected
    assert f"{1000 * times['float32']:.0f} ms in float32" in line and f"trainings use {expected}" in line
    assert f"--precision {expected} fixes that for a repetition" in line


def test_a_measurement_is_kept_for_the_machine_its_torch_and_its_recipe(
    conditions: Conditions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(INTEL)
    _, lines, measured = choose(conditions, machine, tmp_path)
    assert measured == [("float32", "bfloat16")]
    machine.times = AMD  # a busy moment: the numbers of a second run shall be those of the first
    assert choose(conditions, machine, tmp_path) == ("float32", lines, [])
    larger = conditions.recipe.model_copy(update={"batch_size": 4})
    precision, _, measured = choose(conditions.model_copy(update={"recipe": larger}), machine, tmp_path)
    assert (precision, len(measured)) == ("bfloat16", 1)
    machine.worker = CPU.model_copy(update={"processor": "Another 1a2b3c4d"})
    precision, _, measured = choose(conditions, machine, tmp_path)
    assert (precision, len(measured)) == ("bfloat16", 1)
    monkeypatch.setattr(machine_choice, "read_versions", lambda: {"torch": "9.9"})
    assert len(choose(conditions, machine, tmp_path)[2]) == 1
    assert len(json.loads((tmp_path / "t.json").read_text("utf-8"))["seconds"]) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"seconds": 3}', b'{"seconds": {"x": {"float16": 1}}}', b"\xff\xfe"])
def test_a_damaged_file_is_measured_again(damage: bytes, conditions: Conditions, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(damage)
    precision, _, measured = choose(conditions, Machine(AMD), tmp_path)
    assert (precision, len(measured)) == ("bfloat16", 1)
    assert choose(conditions, Machine(INTEL), tmp_path)[2] == []


def test_a_failed_measurement_or_file_does_not_end_the_run(conditions: Conditions, tmp_path: Path) -> None:
    assert choose(conditions, Machine({}), tmp_path)[:2] == ("bfloat16", [])  # as the processor's flags say
    (tmp_path / "t.json").mkdir()
    assert choose(conditions, Machine(INTEL), tmp_path)[0] == "float32"


def test_what_a_step_took_is_read_for_the_same_recipe_alone(conditions: Conditions, tmp_path: Path) -> None:
    machine, file = Machine(AMD), tmp_path / "t.json"
    assert read_step_seconds(conditions, machine, file) is None
    choose(conditions, machine, tmp_path)
    assert read_step_seconds(conditions, machine, file) == AMD["bfloat16"]
    larger = conditions.recipe.model_copy(update={"size": 64})
    assert read_step_seconds(conditions.model_copy(update={"recipe": larger}), machine, file) is None
