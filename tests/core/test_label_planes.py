"""Planes of classes that overlap, packed as bits."""

import numpy as np
import pytest

from sweeper.core.label_planes import choose_label_type, pack_planes, unpack_planes
from sweeper.core.records import IGNORE


@pytest.mark.parametrize("classes", [1, 3, 7, 8, 15, 16, 31, 32])
def test_unpacking_returns_what_was_packed(classes: int) -> None:
    draw = np.random.default_rng(classes)
    planes, ignored = draw.random((classes, 9, 5)) < 0.5, draw.random((9, 5)) < 0.2
    planes[:, 0] = True  # a pixel of every class is no ignored pixel
    ignored[0] = False
    unpacked = unpack_planes(pack_planes(planes, ignored), classes)
    assert np.array_equal(unpacked, np.where(ignored, IGNORE, planes))


def test_up_to_seven_classes_take_a_byte() -> None:
    assert [choose_label_type(classes).itemsize for classes in (1, 7, 8, 15, 16, 31, 32)] == [1, 1, 2, 2, 4, 4, 8]
