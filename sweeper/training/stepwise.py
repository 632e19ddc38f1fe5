"""Work that can be left after each training step and taken up again: a generator that yields between two steps."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

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
