"""Choice of the precision on a CPU, by a measurement of the recipe's own step that is kept for this machine.

The choice is stored with the study, so that a resume trains alike.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.events import WorkerLayout
from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions
from sweeper.core.text import format_count
from sweeper.executors.protocol import Backend
from sweeper.system.whole_files import load_record, save_record
from sweeper.version import read_versions

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
GAIN = 0.8
"""A step in bfloat16 must take at most this share of its time in float32: half-way between the share measured where it
is faster (0.5 to 0.6) and a tie, so that chance decides on no known processor."""


class StepTimes(Record):
    """Content of the file: seconds of a step in each precision, by processor, torch, recipe, workers and threads."""

    seconds: dict[str, dict[Precision, float]] = Field(default_factory=dict)


def choose_precision(seconds: dict[Precision, float]) -> Precision:
    """Return bfloat16 if it is faster by at least a fifth: float32 is exact, and suits every processor."""
    return "bfloat16" if seconds["bfloat16"] <= GAIN * seconds["float32"] else "float32"


def choose_measured_precision(
    conditions: Conditions, backend: Backend, file: Path, log: Callable[[str], None]
) -> Conditions:
    """Return the conditions with the precision that is faster on this CPU, as measured here, now or before.

    On a GPU, and where no measurement is possible, the recipe's precision stays. New measurements are added to `file`.
    """
    if backend.get_hardware().device != "cpu":
        return conditions
    times = _measure_or_read(conditions, backend, file)
    if not times:
        return conditions
    precision = choose_precision(times)
    shown = " and ".join(f"{1000 * times[p]:.0f} ms in {p}" for p in PRECISIONS)
    log(
        f"a step takes {shown} on this processor ({_format_layout(backend.layout)}), so "
        f"trainings use {precision}; --precision {precision} fixes that for a repetition"
    )
    recipe = conditions.recipe.model_copy(update={"precision": precision})
    return conditions.model_copy(update={"recipe": recipe})


def _format_layout(layout: WorkerLayout) -> str:
    return f"{format_count(layout.workers, 'worker')} of {format_count(layout.threads, 'thread')}"


def read_step_seconds(conditions: Conditions, backend: Backend, file: Path) -> float | None:
    """Return the seconds of the recipe's step that were measured on this machine; None if it was not measured."""
    kept = _read_kept_times(file).get(_make_key(conditions, backend), {})
    return kept.get(conditions.recipe.precision)


def _make_key(conditions: Conditions, backend: Backend) -> str:
    """Return the key of the step times: all that they depend on."""
    recipe, dataset = conditions.recipe, conditions.dataset
    network = f"{recipe.arch}/{recipe.encoder}" if recipe.model is None else f"{recipe.arch} {recipe.model.digest[:12]}"
    return (
        f"{backend.get_hardware().processor}; torch {read_versions()['torch']}; {network} "
        f"depth {recipe.encoder_depth}, decoder {recipe.decoder_channels}, {dataset.channels} channels, "
        f"{format_count(len(dataset.classes), 'class')}, {recipe.size}² × {recipe.batch_size}, {recipe.augmentation}; "
        f"{_format_layout(backend.layout)}"
    )


def _measure_or_read(conditions: Conditions, backend: Backend, file: Path) -> dict[Precision, float]:
    """Return the stored step times, else new ones; {} if neither is possible."""
    key = _make_key(conditions, backend)
    kept = _read_kept_times(file).get(key, {})
    if all(kept.get(p, 0.0) > 0 for p in PRECISIONS):
        return kept
    times = backend.measure_step_seconds(conditions, PRECISIONS)
    if times:
        with suppress(OSError):  # if not stored, they are measured again the next time
            save_record(file, StepTimes(seconds={**_read_kept_times(file), key: times}))
    return times


def _read_kept_times(file: Path) -> dict[str, dict[Precision, float]]:
    """Return the step times measured before; nothing if the file is missing or damaged."""
    try:
        return dict(load_record(file, StepTimes).seconds)
    except (OSError, ValueError):
        return {}
