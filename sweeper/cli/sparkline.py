"""A course of values in one line of a terminal: `▁▁▃▃▅█`, or `..::=@` where that cannot be shown."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS, ASCII = "▁▂▃▄▅▆▇█", ".:-=+*#@"
"""Levels from the least to the largest."""


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """One sign for each value, from the least of them (lowest sign) to the largest (highest).

    Args:
        values: finite numbers in their order; none give an empty text, equal ones the lowest sign.
        width: signs at most; of more values each sign is the last of its share.
        ascii_only: whether blocks cannot be shown.
    """
    count = min(width, len(values))
    shown = [values[(i + 1) * len(values) // count - 1] for i in range(count)]
    signs = ASCII if ascii_only else BLOCKS
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    step = (high - low) / (len(signs) - 1)
    return "".join(signs[round((value - low) / step) if step > 0 else 0] for value in shown)
