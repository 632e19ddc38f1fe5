"""Class frequencies and coordinates give the settings of a kernel."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.losses import FAMILIES
from sweeper.losses.coordinates import compute_frequency_weights, make_kernel_settings


@settings(deadline=None, max_examples=100)
@given(pixels=st.lists(st.integers(0, 10**8), min_size=2, max_size=12).filter(any), power=st.floats(0, 2))
def test_class_weights_keep_the_mean_weight_at_one_and_favour_the_rare(pixels, power):
    weights = compute_frequency_weights(pixels, power)
    assert sum(f * w for f, w in zip(pixels, weights, strict=True)) / sum(pixels) == pytest.approx(1)
    present = [w for f, w in zip(pixels, weights, strict=True) if f]
    assert all(w == max(present) for f, w in zip(pixels, weights, strict=True) if not f)
    by_rarity = [w for f, w in sorted(zip(pixels, weights, strict=True), reverse=True) if f]
    assert all(rarer >= commoner * (1 - 1e-12) for commoner, rarer in itertools.pairwise(by_rarity))
    assert compute_frequency_weights(pixels, 0) == pytest.approx([1] * len(pixels))


def test_kernel_settings_leave_out_weights_of_1():
    entry = FAMILIES["dice_ce"]
    assert make_kernel_settings(entry, "binary", {"mix": 0.5, "pos_weight": 1.0}, None).class_weights is None
    plain = make_kernel_settings(entry, "multiclass", {"mix": 0.5, "class_weight_power": 0.0}, (0.9, 0.07, 0.03))
    assert plain.class_weights is None
