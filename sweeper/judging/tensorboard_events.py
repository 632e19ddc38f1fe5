"""Scalars of TensorBoard's event files, by its own package (extra `logs`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeper.core.errors import require_extra
from sweeper.judging.row_choice import Entries


def read_scalars(path: Path) -> Entries:
    """Return a row for each step, from all event files in the folder of `path`; a resumed run has several.

    Raises:
        UsageError: if TensorBoard is not installed.
    """
    with require_extra(str(path), "TensorBoard", "logs"):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    events = EventAccumulator(str(path.parent), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    rows: dict[int, dict[str, Any]] = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            rows.setdefault(event.step, {"step": event.step})[tag] = event.value
    for tag in events.Tags()["tensors"]:  # as TensorFlow 2 and `new_style` write scalars
        for event in events.Tensors(tag):
            value = make_ndarray(event.tensor_proto)
            if value.size == 1 and value.dtype.kind in "fiu":
                rows.setdefault(event.step, {"step": event.step})[tag] = float(value.item())
    return [rows[step] for step in sorted(rows)]
