"""How many seeds or images would settle a difference."""

from __future__ import annotations

import pytest

from sweeper.evidence.choice import choose
from sweeper.evidence.intervals import compute_half_width
from sweeper.evidence.settling import count_needed, find_rival, plan_half_width, plan_settling
from tests.evidence.weighing import ANALYSES, make_gap, make_three_seeds, set_errors
from tests.support.builders import ORDER, evidence


def test_the_proposed_number_of_seeds_or_images_is_the_smallest() -> None:
    noisy = make_gap(0.03, 0.02, 0.004)
    needed = count_needed(noisy, (3, 24), 0.03)[0]
    assert needed > 3
    half = [compute_half_width(noisy.se_seed**2 * 3 / n, n, noisy.se_image**2, 24) for n in (needed, needed - 1)]
    assert half[0] < 0.03 <= half[1]
    few = make_gap(0.03, 0.001, 0.03)
    assert count_needed(few, (3, 24), 0.03)[0] is None  # the variance of the images is too large for it
    needed = count_needed(few, (3, 24), 0.03)[1]
    half = [compute_half_width(few.se_seed**2, 3, few.se_image**2 * 24 / n, n) for n in (needed, needed - 1)]
    assert half[0] < 0.03 <= half[1]


def test_planned_widths_split_the_variance_by_source() -> None:
    now, gap = (3, 24), make_gap(0.02, 0.005, 0.004, se_both=0.003)
    assert plan_half_width(gap, now, now) == pytest.approx(compute_half_width(0.005**2, 3, 0.004**2, 24))
    twice = plan_half_width(gap, now, (6, 48))
    v_seed = (0.005**2 - 0.003**2) / 2 + 0.003**2 / 4
    assert twice == pytest.approx(compute_half_width(v_seed, 6, 0.004**2 / 2, 48))
    at_analysis = plan_half_width(gap, now, (8, 24), ANALYSES)
    assert at_analysis > plan_half_width(gap, now, (8, 24))


@pytest.mark.parametrize(
    ("se_seed", "se_image", "estimate", "seeds", "images"),
    [
        (0.02, 0.002, 0.03, True, False),
        (0.0005, 0.03, 0.03, False, True),
        (0.01, 0.03, 0.03, False, False),
        (0.5, 0.5, 0.00999, False, False),
    ],
)
def test_a_plan_has_seeds_images_or_neither(
    se_seed: float, se_image: float, estimate: float, seeds: bool, images: bool
) -> None:
    levels = {"dice": 0.7 + estimate, "cross_entropy": 0.7}
    record = make_three_seeds(levels, se_seed, se_image, half=0.1, analyses=())
    plan = plan_settling(record, choose(record, ORDER))
    assert plan is not None and plan.rivals == (0,) and plan.now == 3
    assert ((plan.seeds is not None), (plan.images is not None)) == (seeds, images)


def test_more_images_help_where_they_reduce_the_interaction() -> None:
    record = make_three_seeds({"dice": 0.7099, "cross_entropy": 0.7}, 0.002, 0.0, half=0.1, analyses=())
    record = set_errors(record, se_both=0.002)
    assert plan_settling(record, choose(record, ORDER)).images > 24


def test_needed_seeds_count_at_the_level_of_their_interim_analysis() -> None:
    noisy = make_gap(0.03, 0.02, 0.002)
    seeds = count_needed(noisy, (3, 24), 0.03, ANALYSES)[0]
    assert seeds > max(8, count_needed(noisy, (3, 24), 0.03)[0])
    record = make_three_seeds({"dice": 0.73, "cross_entropy": 0.7}, 0.02, 0.002)
    assert plan_settling(record, choose(record, ORDER)).seeds == seeds


def test_pairs_that_cannot_change_the_answer_are_left_out() -> None:
    # focal and tversky are both open against the best; how they compare with each other does not matter.
    record = evidence({"dice": 0.705, "focal": 0.702, "tversky": 0.7}, half=0.02)
    plan = plan_settling(record, choose(record, ORDER))
    assert plan is not None and set(plan.rivals) == {1, 2}
    shown = evidence({"dice": 0.75, "cross_entropy": 0.7})
    assert plan_settling(shown, choose(shown, ORDER)) is None


def test_the_rival_of_the_present_loss_is_the_one_that_may_gain() -> None:
    levels = {"dice_ce": 0.705, "dice": 0.703, "cross_entropy": 0.7}
    record = evidence(levels, halves={("dice_ce", "cross_entropy"): 0.001})  # gains 0.006 at most
    assert [find_rival(record, i) for i in range(3)] == [2, 2, 1]
    assert find_rival(evidence({"dice": 0.7, "focal": 0.6}), 0) == 1  # no present loss
    assert find_rival(evidence({"dice": 0.7}), 0) is None
