"""What would settle an open comparison: seeds, images, or neither."""

from __future__ import annotations

import re

import pytest

from sweeper.evidence.intervals import compute_half_width
from sweeper.evidence.verdict import decide_verdict
from sweeper.evidence.what_would_settle import (
    compute_needed_half_width,
    count_images_needed,
    count_seeds_needed,
    plan_half_width,
)
from tests.evidence.weighing import ANALYSES, change_pairs, make_gap, make_three_seeds, set_errors
from tests.support.builders import ORDER, evidence


def test_the_needed_half_width_is_that_of_the_nearest_answer() -> None:
    assert compute_needed_half_width(0.03, 0.01) == 0.03
    assert compute_needed_half_width(-0.03, 0.01) == 0.03
    assert compute_needed_half_width(0.004, 0.01) == pytest.approx(0.006)


def test_the_proposed_number_of_seeds_or_images_is_the_smallest() -> None:
    noisy = make_gap(0.03, 0.02, 0.004)
    needed = count_seeds_needed(noisy, 3, 24, 0.03)
    assert needed > 3
    half = [compute_half_width(noisy.se_seed**2 * 3 / n, n, noisy.se_image**2, 24) for n in (needed, needed - 1)]
    assert half[0] < 0.03 <= half[1]
    few = make_gap(0.03, 0.001, 0.03)
    assert count_seeds_needed(few, 3, 24, 0.03) is None  # the variance of the images is too large for it
    needed = count_images_needed(few, 3, 24, 0.03)
    half = [compute_half_width(few.se_seed**2, 3, few.se_image**2 * 24 / n, n) for n in (needed, needed - 1)]
    assert half[0] < 0.03 <= half[1]


@pytest.mark.parametrize(
    ("se_seed", "se_image", "estimate", "sentence"),
    [
        (0.02, 0.002, 0.03, "some 8 seeds in place of 3 (`--resume --seeds 8`) would settle it, if"),
        (0.0005, 0.03, 0.03, "the choice of test images alone forbids a verdict (standard error 0.030)"),
        (0.01, 0.03, 0.03, "neither more seeds nor more test images by themselves would settle it"),
        (0.5, 0.5, 0.00999, "(−0.010 against dice, standard error 0.707)"),
    ],
)
def test_next_steps_say_what_would_settle_it(se_seed: float, se_image: float, estimate: float, sentence: str) -> None:
    evidence = make_three_seeds(
        {"dice": 0.7 + estimate, "cross_entropy": 0.7}, se_seed, se_image, half=0.1, analyses=()
    )
    (step,) = decide_verdict(evidence, ORDER).next_steps
    assert step.startswith("cross_entropy against dice: ") and sentence in step  # kept until a change is established


def test_more_images_are_proposed_if_they_reduce_the_interaction() -> None:
    evidence = make_three_seeds({"dice": 0.7099, "cross_entropy": 0.7}, 0.002, 0.0, half=0.1, analyses=())
    (step,) = decide_verdict(set_errors(evidence, se_both=0.002), ORDER).next_steps
    assert "test images in place of 24 would settle it" in step and "forbids" not in step


def test_rivals_that_need_seeds_share_a_sentence() -> None:
    levels = evidence({"dice": 0.7305, "focal": 0.7, "tversky": 0.7}, half=0.1)
    noisy = change_pairs(
        set_errors(levels, se_seed=0.02, se_image=0.002),
        lambda pair: {"difference": make_gap(0.0305, 0.025, 0.002)} if (pair.first, pair.second) == (0, 2) else {},
    )
    less, more = (count_seeds_needed(make_gap(0.0305, se, 0.002), 3, 24, 0.0305) for se in (0.02, 0.025))
    assert more > less
    (step,) = decide_verdict(noisy, ORDER).next_steps
    assert step.startswith("dice against ") and f": some {more} seeds in place of 3" in step


def test_next_steps_omit_pairs_that_cannot_change_the_answer() -> None:
    # focal and tversky are both open against the best; how they compare with each other does not matter.
    levels = {"cross_entropy": 0.705, "focal": 0.702, "tversky": 0.7}
    steps = decide_verdict(evidence(levels, half=0.02), ORDER).next_steps
    assert steps and not any("focal against tversky" in step for step in steps)


def test_planned_widths_split_the_variance_by_source() -> None:
    now, gap = (3, 24), make_gap(0.02, 0.005, 0.004, se_both=0.003)
    assert plan_half_width(gap, now, now) == pytest.approx(compute_half_width(0.005**2, 3, 0.004**2, 24))
    twice = plan_half_width(gap, now, (6, 48))
    v_seed = (0.005**2 - 0.003**2) / 2 + 0.003**2 / 4
    assert twice == pytest.approx(compute_half_width(v_seed, 6, 0.004**2 / 2, 48))
    at_analysis = plan_half_width(gap, now, (8, 24), ANALYSES)
    assert at_analysis > plan_half_width(gap, now, (8, 24))


def test_needed_seeds_count_at_the_level_of_their_interim_analysis() -> None:
    noisy = make_gap(0.03, 0.02, 0.002)
    seeds = count_seeds_needed(noisy, 3, 24, 0.03, analyses=ANALYSES)
    assert seeds > max(8, count_seeds_needed(noisy, 3, 24, 0.03))
    evidence = make_three_seeds({"dice": 0.73, "cross_entropy": 0.7}, 0.02, 0.002)
    (sentence,) = decide_verdict(evidence, ORDER, "sweeper run --study x --resume").next_steps
    option = f"(`sweeper run --study x --resume --seeds 2..{seeds}`)"
    assert f"some {seeds} seeds in place of 3 {option}" in sentence


def test_fewer_seeds_than_planned_are_one_analysis() -> None:
    """The plan ended before them as futile, and would only end again."""
    evidence = make_three_seeds({"dice": 0.73, "cross_entropy": 0.7}, 0.011, 0.002)
    (sentence,) = decide_verdict(evidence, ORDER, "sweeper run --study x --resume").next_steps
    match = re.fullmatch(r".*some (\d+) seeds in place of 3 \(`[^`]* --seeds (\d+)`\) would .*", sentence)
    assert match is not None and 3 < int(match[1]) < 8 and match[1] == match[2]


def test_more_groups_are_requested_if_images_come_in_groups() -> None:
    evidence = make_three_seeds({"dice": 0.73, "cross_entropy": 0.7}, 0.0005, 0.03, test_groups=12)
    assert "groups of test images in place of 12 would settle it" in decide_verdict(evidence, ORDER).next_steps[0]
