"""Work that can be left after each training step and taken up again: a generator that yields between two steps."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

import torch

T = TypeVar("T")
Stepwise = Generator[None, None, T]
"""Yields after each step; returns what the work gives."""


def at_once(work: Stepwise[T]) -> T:
    """Do all of it."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            found: T = end.value
            return found


def until_done(device: torch.device) -> Stepwise[None]:
    """Yield until the device has done what was begun on the current stream, where that is one of several trainings'.

    To wait for it would hold up the others. A training on the usual stream is alone, and waits in what it does next.
    """
    if device.type != "cuda" or torch.cuda.current_stream(device) == torch.cuda.default_stream(device):
        return
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record()
    while not done.query():  # type: ignore[no-untyped-call]
        yield
