"""Where the confirmation's uncertainty comes from: parts that add up, and what more seeds or images would do."""

from __future__ import annotations

import math

import pytest

from sweeper.core.records import Interval
from sweeper.evidence.reasons import _sources
from sweeper.report.uncertainty import _part, standard_error, uncertainty_table, uncertainty_text
from tests.report.test_parts import facts_of, rows
from tests.support import builders


def interval(se_seed: float, se_image: float, se_both: float = 0.0) -> Interval:
    return Interval(estimate=0.01, low=0.0, high=0.02, se_seed=se_seed, se_image=se_image, se_both=se_both)


@pytest.mark.parametrize(
    ("found", "seeds", "images", "expected"),
    [
        (interval(0.003, 0.004), 1, 1, 0.005),
        (interval(0.004, 0.0), 4, 1, 0.002),
        (interval(0.004, 0.0), 1, 4, 0.004),  # images do not help where seeds alone disagree
        (interval(0.0, 0.004), 4, 1, 0.004),
        (interval(0.0, 0.004), 1, 4, 0.002),
        (interval(0.004, 0.0, 0.004), 1, 4, 0.002),  # all of it is what trainings do to single images
        (interval(0.004, 0.0, 0.004), 4, 4, 0.001),
    ],
)
def test_each_part_falls_with_what_it_comes_from(found: Interval, seeds: int, images: int, expected: float) -> None:
    assert standard_error(found, seeds=seeds, images=images) == pytest.approx(expected)


def test_more_of_either_never_adds_to_it() -> None:
    found = interval(0.003, 0.002, 0.001)
    now = standard_error(found)
    assert now == pytest.approx(math.hypot(0.003, 0.002))
    assert (
        standard_error(found, seeds=2)
        < now
        > standard_error(found, images=2)
        > standard_error(found, seeds=2, images=2)
    )


def test_each_other_finalist_has_a_row_where_a_spread_was_measured() -> None:
    table = rows(uncertainty_table(facts_of()))
    assert [row[0] for row in table[2:]] == ["to `dice_ce`", "to `cross_entropy`"]
    assert all(float(row[5]) <= float(row[2]) >= float(row[6]) for row in table[2:])
    assert "division into training and validation" in uncertainty_text(facts_of())


def test_one_common_seed_says_nothing_of_a_spread() -> None:
    alone = facts_of(finalists={name: {"seeds": (101,)} for name in ("dice_focal", "dice_ce", "cross_entropy")})
    assert uncertainty_table(alone) == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (interval(0.003, 0.0), "0.003 from seeds; from images too little to be told from it"),
        (interval(0.0, 0.004), "0.004 from images; from seeds too little to be told from it"),
        (interval(0.003, 0.004), "0.003 from seeds, 0.004 from images"),
    ],
)
def test_an_estimated_variance_that_came_out_as_0_is_not_called_0(found: Interval, words: str) -> None:
    assert _sources(builders.evidence({"dice": 0.7, "focal": 0.6}), found) == words
    assert "0.000" not in words
    assert (_part(found.se_image) == "≈ 0") == (found.se_image == 0)
