"""The base of all records, which are compared and hashed by their fields."""

from __future__ import annotations

import numpy as np

from sweeper.core.base import Array, Record


class Point(Record):
    x: int
    y: float


class WithArray(Record):
    values: Array


def test_equal_records_have_one_hash_and_different_ones_differ() -> None:
    assert Point(x=1, y=2.0) == Point(x=1, y=2.0) != Point(x=1, y=3.0)
    assert len({Point(x=1, y=2.0), Point(x=1, y=2.0), Point(x=1, y=3.0)}) == 2
    assert Point(x=1, y=2.0) != WithArray(values=np.zeros(1))


def test_arrays_are_compared_element_by_element() -> None:
    one, same, other = (WithArray(values=np.array(v)) for v in ([1, 2], [1, 2], [1, 3]))
    assert one == same != other
