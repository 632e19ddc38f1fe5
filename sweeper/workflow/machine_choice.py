"""Precision, workers and threads on a CPU follow from a measurement of the recipe's own step, kept for this machine.

What was chosen is stored with the study, so that a resume trains alike.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import Field, ValidationError

from sweeper.core.base import Record
from sweeper.core.events import Hardware, Layout
from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions
from sweeper.core.text import count
from sweeper.executors.protocol import Backend
from sweeper.system.whole_files import written_whole
from sweeper.version import versions
from sweeper.workflow.settings import Settings

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
GAIN = 0.9
"""What is not the usual way must take at most this share of its time."""


class StepTimes(Record):
    """The file: seconds of a step in each precision, by processor, torch, recipe, workers and threads."""

    seconds: dict[str, dict[Precision, float]] = Field(default_factory=dict)


def chosen_precision(seconds: dict[Precision, float]) -> Precision:
    """bfloat16 where it is quicker by a tenth at least: float32 is exact, and suits every processor."""
    return "bfloat16" if seconds["bfloat16"] <= GAIN * seconds["float32"] else "float32"


def chosen_layout(seconds: dict[Layout, float]) -> Layout:
    """The first, unless the other takes more steps a second by a tenth, all of its workers together."""
    usual, other = seconds
    return other if seconds[other] / other.workers <= GAIN * seconds[usual] / usual.workers else usual


def precision_here(settings: Settings, stored: Precision, hardware: Hardware) -> Precision:
    """Of a study that was made: on a CPU its own, on a GPU what that computes natively, unless one was asked for."""
    return settings.precision or (stored if hardware.device == "cpu" else hardware.precision)


def settle(
    conditions: Conditions, backend: Backend, file: Path, log: Callable[[str], None], *, any_precision: bool
) -> tuple[Conditions, Layout]:
    """Choose precision, workers and threads by what was measured on this machine, now or before, where that is open.

    Where it cannot be measured, the recipe's precision stays, and the layout is the usual one.

    Args:
        conditions: of the trainings.
        backend: where they will run; it is told to use the layout.
        file: of the times that were measured here; what is measured now is added.
        log: is told what was found.
        any_precision: whether the precision is open.
    """
    layouts = backend.layouts
    usual, found = layouts[0], dict[Layout, float]()
    any_precision = any_precision and backend.hardware().device == "cpu"
    if any_precision and (times := _measured(conditions, backend, file, usual, PRECISIONS)):
        precision = chosen_precision(times)
        shown = " and ".join(f"{1000 * times[p]:.0f} ms in {p}" for p in PRECISIONS)
        log(f"a step takes {shown} on this processor ({_words(usual)}): trained in {precision} (--precision)")
        recipe = conditions.recipe.model_copy(update={"precision": precision})
        conditions = conditions.model_copy(update={"recipe": recipe})
    layout = usual
    if len(layouts) > 1:
        precision = conditions.recipe.precision
        measured = {one: _measured(conditions, backend, file, one, (precision,)) for one in layouts}
        found = {one: times[precision] for one, times in measured.items() if times}
    if len(found) > 1:
        layout = chosen_layout(found)
        shown = " and ".join(f"{one.workers / time:.3g} with {_words(one)}" for one, time in found.items())
        log(f"steps a second: {shown}: {_words(layout)} train (--workers, --threads)")
    backend.use(layout)
    return conditions, layout


def _words(layout: Layout) -> str:
    return f"{count(layout.workers, 'worker')} of {count(layout.threads, 'thread')}"


def _measured(
    conditions: Conditions, backend: Backend, file: Path, layout: Layout, precisions: tuple[Precision, ...]
) -> dict[Precision, float]:
    """As it is kept, else as it is measured now; {} where neither can be."""
    recipe, dataset = conditions.recipe, conditions.dataset
    network = f"{recipe.arch}/{recipe.encoder}" if recipe.model is None else f"{recipe.arch} {recipe.model.digest[:12]}"
    key = (
        f"{backend.hardware().processor}; torch {versions()['torch']}; {network} depth {recipe.encoder_depth}, "
        f"decoder {recipe.decoder_channels}, "
        f"{dataset.channels} channels, {count(len(dataset.classes), 'class')}, {recipe.size}² × {recipe.batch_size}, "
        f"{recipe.augmentation}; {_words(layout)}"
    )
    kept = _kept(file).get(key, {})
    if all(kept.get(p, 0.0) > 0 for p in precisions):
        return kept
    found = backend.step_seconds(conditions, precisions, layout)
    if found:
        with suppress(OSError):  # measured again the next time
            file.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(file) as part:
                times = _kept(file)
                times[key] = {**times.get(key, {}), **found}
                part.write_text(StepTimes(seconds=times).model_dump_json(indent=1), encoding="utf-8")
    return found


def _kept(file: Path) -> dict[str, dict[Precision, float]]:
    """What was measured before; nothing where the file is missing or damaged."""
    try:
        return dict(StepTimes.model_validate_json(file.read_bytes()).seconds)
    except (OSError, ValidationError):
        return {}
