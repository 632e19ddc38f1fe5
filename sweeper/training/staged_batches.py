"""Batches that are made while the device takes the step before.

A recorded step reads fixed places in the device's memory. What cannot be cut there within the step (pixels that do not
fit, maps of the labels, noise that is drawn anew) is made for the next step, on a stream of its own, while the device
takes this one, and copied into these places between the two.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor, dict[str, Tensor]]
"""Inputs (N, C, H, W), labels (N, H, W), and by name what else a loss wants."""


class StagedBatches:
    """The batch that the steps of a training read, and the one that comes next."""

    def __init__(self, make: Callable[[int], Batch], device: torch.device) -> None:
        """Nothing is made yet.

        Args:
            make: gives the batch of a step, on the device; of one shape and type each time.
            device: where.
        """
        self._make, self._device = make, device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._made, self._read = torch.cuda.Event(), torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._next: dict[str, Tensor] = {}
        self._present: dict[str, Tensor] = {}
        """Both by name; a name stays where it is once it was there."""
        self._names: tuple[str, ...] = ()
        """Of the loss that is trained with."""
        self._staged: int | None = None
        """The step whose batch comes next, if it is made."""

    @property
    def batch(self) -> Batch:
        """What the step reads: the same memory each time."""
        inputs, labels, *more = (self._present[name] for name in self._names)
        return inputs, labels, dict(zip(self._names[2:], more, strict=True))

    def begin(self) -> None:
        """Forget what was made: another rung begins, or another training."""
        self._staged = None
        if self._stream is not None:  # what the batches are made of may have changed
            self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def prepare(self, step: int) -> None:
        """Make the batch of a step, while a GPU takes the one whose batch it has."""
        if self._stream is not None:
            # The batch before has been taken. No further ahead: each batch on its way holds page-locked memory.
            self._read.synchronize()
        with self._beside():
            made = self._make(step)
        named = {"inputs": made[0], "labels": made[1], **made[2]}
        self._make_room(named)
        with self._beside():
            for name, values in named.items():
                self._next[name].copy_(values)
            if self._stream is not None:
                self._made.record(self._stream)
        self._names, self._staged = tuple(named), step

    def bring(self, step: int) -> None:
        """Put the batch of a step where the step reads it, for what is begun on the current stream from now on."""
        if self._staged != step:
            self.prepare(step)
        usual = None if self._stream is None else torch.cuda.current_stream(self._device)
        if usual is not None:
            usual.wait_event(self._made)
        for name in self._names:
            self._present[name].copy_(self._next[name])
        if usual is not None:
            self._read.record(usual)

    def _beside(self) -> AbstractContextManager[object]:
        """What is begun in the block goes on beside the steps."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _make_room(self, named: dict[str, Tensor]) -> None:
        """Places for what was not there before, strides included."""
        new = [name for name in named if name not in self._next]
        for name in new:
            self._next[name], self._present[name] = (torch.empty_like(named[name]) for _ in range(2))
            if self._stream is not None:  # it is not given to others before what is copied there has arrived
                self._next[name].record_stream(self._stream)
        if new and self._stream is not None:  # that memory may have been something else's just now
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
