"""How a training step is recorded as a CUDA graph, and what has to stay alive with the recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


class Recording(Protocol):
    """A recorded step."""

    def replay(self) -> None:
        """Take the step once more."""


Record = Callable[[Callable[[], None], Recording | None], Recording]
"""Records what a function does on the device; it may call it or not. The second argument is an earlier recording of the
same steps, whose memory it may use: the two are never played at the same time."""


@dataclass(frozen=True)
class Recorded:
    """A recording, and what it reads and writes beside the training's own state."""

    recording: Recording
    criterion: nn.Module
    """The loss, whose numbers it reads."""
    gradients: list[Tensor]


def record_graph(step: Callable[[], None], earlier: Recording | None) -> Recording:
    """A CUDA graph of the step, which is not taken.

    Of several trainings each records on its own stream: libraries keep memory by stream, which graphs that are played
    at the same time must not share (github.com/pytorch/pytorch/issues/193402). Those of trainings that follow one
    another share theirs: each writes there before it reads, so that they may be played in any order.
    """
    graph, own = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    pool = earlier.pool() if isinstance(earlier, torch.cuda.CUDAGraph) else None
    alone = own == torch.cuda.default_stream()
    # A capture that fails may leave its own stream the current one: the outer block does not.
    with torch.cuda.stream(own), torch.cuda.graph(graph, pool=pool, stream=None if alone else own):
        step()
    return graph


def stream_of(device: torch.device) -> int:
    """The stream on which the device's work is begun now; 0 on a processor."""
    return int(torch.cuda.current_stream(device).cuda_stream) if device.type == "cuda" else 0
