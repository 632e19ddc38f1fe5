"""The learning rates that losses are tuned on, compared at, and recommended with."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.core.records import Coordinate, RateRange
from sweeper.study.learning_rates import (
    APART,
    GOOD,
    GRID,
    NARROWEST,
    NOISE,
    OVERLAP,
    WIDEST,
    beyond,
    drawn_from,
    drawn_rate,
    good_range,
    grid_of,
    is_one_rate,
    middle_of,
    open_end,
    pooled,
)

SEARCHED = Coordinate(kind="log", low=1e-4, high=1e-2)
rates = st.floats(1e-4, 1e-2)
curves = st.dictionaries(rates, st.floats(0, 1), min_size=1, max_size=8)


def good(low: float, high: float) -> RateRange:
    return RateRange(best=math.sqrt(low * high), low=low, high=high)


# --- the grid ---


def test_a_grid_holds_the_finalists_own_rates_and_fills_the_range() -> None:
    grid = grid_of([3e-3, 3.2e-3, 5e-4], SEARCHED)
    assert {3e-3, 5e-4} <= set(grid) and 3.2e-3 not in grid  # too near the better finalist's
    assert len(grid) == GRID and grid == tuple(sorted(grid))


@given(rates, st.floats(NARROWEST, WIDEST))
def test_what_is_recommended_is_the_middle_to_three_digits(low: float, wide: float) -> None:
    assert middle_of(good(low, low * wide)) == pytest.approx(low * math.sqrt(wide), rel=5.1e-3)


@given(st.lists(rates, min_size=1, max_size=6))
def test_a_grid_has_rates_enough_and_none_twice(own: list[float]) -> None:
    grid = grid_of(own, SEARCHED)
    assert len(grid) >= GRID and len(set(grid)) == len(grid) and own[0] in grid
    assert all(any(abs(math.log(rate / kept)) <= math.log(APART) for kept in grid) for rate in own)
    assert all(1e-4 <= rate <= 1e-2 for rate in grid)


@pytest.mark.parametrize(
    ("low", "high", "one"), [(1e-3, 1e-3, True), (1e-3, 1.001e-3, True), (1e-3, 1.6e-3, False), (1e-4, 1e-2, False)]
)
def test_a_range_too_narrow_to_tell_rates_apart_is_one_rate(low: float, high: float, one: bool) -> None:
    assert is_one_rate(Coordinate(kind="log", low=low, high=high)) is one
    assert is_one_rate(Coordinate(kind="fixed", low=low, high=low))
    if not one:
        assert len(grid_of([low], Coordinate(kind="log", low=low, high=high))) >= GRID


@pytest.mark.parametrize(
    ("curve", "end", "further"),
    [
        ({1e-4: 0.7, 1e-3: 0.6, 1e-2: 0.5}, "low", 3.16e-5),
        ({1e-4: 0.5, 1e-3: 0.6, 1e-2: 0.7}, "high", 3.16e-2),
        ({1e-4: 0.5, 1e-3: 0.7, 1e-2: 0.6}, None, None),
        ({1e-4: 0.605, 1e-3: 0.6, 1e-2: 0.5}, None, None),  # flat at its end
        ({1e-3: 0.7}, None, None),
        ({1e-5: 0.7, 1e-4: 0.6, 1e-3: 0.5}, "low", None),  # two steps beyond the searched range, and no further
    ],
)
def test_a_grid_goes_on_where_its_best_lies_at_an_end(
    curve: dict[float, float], end: str | None, further: float | None
) -> None:
    assert open_end(curve) == end
    assert beyond(curve, SEARCHED) == further


# --- good rates ---


def test_a_good_range_ends_where_the_curve_leaves_the_peak() -> None:
    found = good_range({1e-4: 0.30, 1e-3: 0.70, 1e-2: 0.66})
    assert found.best == 1e-3
    # From 0.70 to 0.30 over a decade the curve has lost 0.02 after a twentieth of it; to 0.66 after a half.
    assert found.low == pytest.approx(min(1e-3 * 10**-0.05, 1e-3 / NARROWEST**0.5))
    assert found.high == pytest.approx(1e-3 * 10**0.5)


def test_a_flat_curve_is_good_wherever_it_was_tried() -> None:
    found = good_range({1e-4: 0.6, 1e-3: 0.6, 1e-2: 0.6})
    assert (found.low, found.high) == (pytest.approx(1e-4), pytest.approx(1e-2))
    everywhere = good_range({10.0**-power: 0.6 for power in range(1, 7)})
    assert everywhere.high / everywhere.low == pytest.approx(WIDEST)


def test_there_is_no_good_range_without_a_training() -> None:
    with pytest.raises(ValueError, match="at least one learning rate"):
        good_range({})


@given(curves)
def test_a_good_range_holds_its_best_and_is_neither_too_narrow_nor_too_wide(curve: dict[float, float]) -> None:
    found = good_range(curve)
    assert found.low <= found.best <= found.high and curve[found.best] == max(curve.values())
    assert NARROWEST * (1 - 1e-9) <= found.high / found.low <= WIDEST * (1 + 1e-9)
    within = [r for r in curve if found.best / NARROWEST**0.5 > r > found.low]
    within += [r for r in curve if found.best * NARROWEST**0.5 < r < found.high]
    assert all(curve[r] >= max(curve.values()) - GOOD - 1e-9 for r in within)


@given(curves, st.floats(0.5, 2))
def test_a_good_range_goes_with_the_units_of_the_rate(curve: dict[float, float], factor: float) -> None:
    moved = {rate * factor: value for rate, value in curve.items()}
    if len(moved) == len(curve):
        first, second = good_range(curve), good_range(moved)
        assert second.low == pytest.approx(first.low * factor) and second.high == pytest.approx(first.high * factor)


# --- the common course ---

GRIDDED = (2e-4, 7e-4, 2e-3, 7e-3)
COURSE = dict(zip(GRIDDED, (0.64, 0.69, 0.70, 0.67), strict=True))


def test_equal_losses_share_one_range_although_single_trainings_are_noisy() -> None:
    rng = np.random.default_rng(0)
    shared = {True: 0, False: 0}
    for _ in range(200):
        curves = [{r: v + NOISE * rng.standard_normal() for r, v in COURSE.items()} for _ in range(4)]
        for by_course in shared:
            drawn = drawn_from([good_range(c) for c in (pooled(curves) if by_course else curves)])
            shared[by_course] += len({(d.low, d.high) for d in drawn}) == 1
    assert shared[True] > 185 and shared[False] < 150


def test_a_loss_that_wants_other_rates_keeps_its_own() -> None:
    other = dict(zip(GRIDDED, (0.76, 0.70, 0.66, 0.55), strict=True))
    first, *_, last = drawn_from([good_range(c) for c in pooled([COURSE, COURSE, COURSE, other])])
    assert first.shared and first.best == 2e-3
    assert not last.shared and last.best == 2e-4 and last.high < first.low


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=5))
def test_pooling_keeps_each_curves_level_and_the_common_course(values: list[list[float]]) -> None:
    curves = [dict(zip(GRIDDED, own, strict=True)) for own in values]
    found = pooled(curves)
    for before, after in zip(curves, found, strict=True):
        assert sum(after.values()) == pytest.approx(sum(before.values()))
    alone = pooled([curves[0]])
    assert alone == [curves[0]]


def test_rates_that_not_all_completed_keep_their_values() -> None:
    found = pooled([COURSE | {2e-2: 0.1}, COURSE, {r: v + 0.01 for r, v in COURSE.items()}])
    assert found[0][2e-2] == 0.1 and found[1] == pytest.approx(COURSE)
    few = [{1e-3: 0.5, 1e-2: 0.6}, {1e-3: 0.7}]
    assert pooled(few) == few and pooled([]) == []


# --- draws ---


def test_finalists_whose_ranges_overlap_draw_the_same_rates() -> None:
    first, second, third = drawn_from([good(1e-3, 4e-3), good(2e-3, 9e-3), good(1e-4, 3e-4)])
    assert (first.low, first.high) == (second.low, second.high) == (2e-3, 4e-3)
    assert first.shared and second.shared
    assert (third.low, third.high, third.shared) == (1e-4, 3e-4, False)
    assert [drawn_rate(first, n) for n in range(8)] == [drawn_rate(second, n) for n in range(8)]


@given(st.lists(st.tuples(rates, st.floats(NARROWEST, WIDEST)), min_size=1, max_size=5))
def test_every_finalist_draws_from_its_own_good_range(given_: list[tuple[float, float]]) -> None:
    own = [good(low, low * wide) for low, wide in given_]
    for before, after in zip(own, drawn_from(own), strict=True):
        assert before.low <= after.low and after.high <= before.high and after.high >= after.low * OVERLAP * (1 - 1e-9)
        assert after.best == before.best


def test_draws_fill_the_range_evenly_at_every_interim_analysis() -> None:
    places = [math.log10(drawn_rate(good(1e-4, 1e-2), n) / 1e-4) / 2 for n in range(8)]
    assert places[:3] == pytest.approx([0.5, 0.25, 0.75], abs=0.002)
    for seeds in (3, 5, 8):
        gaps = [b - a for a, b in pairwise([0.0, *sorted(places[:seeds]), 1.0])]
        assert max(gaps) <= 0.3 and len(set(places[:seeds])) == seeds


def test_the_first_seed_has_the_rate_that_is_recommended() -> None:
    drawn = good(7e-4, 5e-3)
    assert drawn_rate(drawn, 0) == middle_of(drawn) == 0.00187
