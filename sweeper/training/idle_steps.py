"""Recorded steps between two trainings of a process: the next one takes over network, optimiser and recordings."""

from __future__ import annotations

import gc

import torch

from sweeper.training.graph_steps import GraphSteps
from sweeper.training.recordings import stream_of
from sweeper.training.training_steps import TrainingSteps


class IdleSteps:
    """Of each stream those of the training that ended there last. One per process and study."""

    def __init__(self) -> None:
        self._kept: dict[int, GraphSteps] = {}

    def give(self, steps: TrainingSteps) -> None:
        """Keep the steps of a training that has ended, if another one can begin with them."""
        if isinstance(steps, GraphSteps) and steps.renewable:
            self._kept[steps.stream] = steps

    def take(self, device: torch.device) -> GraphSteps | None:
        """Those of the stream that is the current one; they are no longer kept, whether they are used or not."""
        return self._kept.pop(stream_of(device), None)

    def clear(self) -> None:
        """Give their memory back, to torch's allocator."""
        if self._kept:
            self._kept.clear()
            gc.collect()
