"""Paired comparisons of confirmations and their intervals, on counts whose true values are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sweeper.core import metrics
from sweeper.core.records import Collapse, ImageCounts, Outcome, TrialResult
from sweeper.core.records.training import THRESHOLDS
from sweeper.evidence.answer import make_answer
from sweeper.evidence.choice import choose
from sweeper.evidence.intervals import negate_interval
from sweeper.evidence.paired_comparisons import compute_evidence, compute_last_quarter_gain
from sweeper.evidence.phrases import format_headline
from tests.evidence.weighing import SEARCH, get_gap, simulate, weigh
from tests.support.builders import (
    CONFIRM_SEEDS,
    ORDER,
    confirmation,
    counts_from_iou,
    curve,
    diverged,
    evaluation,
    failed_trial,
    simulated_confirmations,
    spec,
    trial,
)

THREE = {"dice": 0.62, "cross_entropy": 0.55, "dice_ce": 0.6}


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_their_level() -> None:
    # Images are drawn from a population of known mIoU; seeds add their own level to each training.
    rng, covered, repeats = np.random.default_rng(11), 0, 250
    for _ in range(repeats):
        runs = simulated_confirmations(
            {"dice": 0.6, "cross_entropy": 0.6}, rng, images=40, seed_sd=0.01, image_sd=0.1, interaction_sd=0.05
        )
        gap = get_gap(weigh(runs), "dice", "cross_entropy")
        covered += gap.low <= 0 <= gap.high
    assert 0.92 <= covered / repeats <= 1.0
    # ... and not because they are uselessly wide: a gap of a few standard errors is seen.
    runs = simulated_confirmations({"dice": 0.75, "cross_entropy": 0.5}, rng, images=40)
    assert get_gap(weigh(runs), "dice", "cross_entropy").low > 0


# --- Weighing -----------------------------------------------------------------------------------------------


def test_scores_are_means_over_seeds_at_the_point_of_each_run() -> None:
    counts = [counts_from_iou([0.5, 0.6]), counts_from_iou([0.55, 0.62]), counts_from_iou([0.4, 0.5])]
    low = THRESHOLDS[0]  # everything from bin 1 on is called foreground: false alarms
    points = (0.5, 0.5, low)
    runs = [
        confirmation("dice", seed, test, i, point=point, val=0.6 + 0.1 * i)
        for i, (seed, test, point) in enumerate(zip(CONFIRM_SEEDS, counts, points, strict=True))
    ]
    dice = weigh(runs).finalists[0]
    tuned = [metrics.compute_scores(metrics.count_at_point(c, p)) for c, p in zip(counts, points, strict=True)]
    plain = [metrics.compute_scores(metrics.count_at_point(c, 0.5)) for c in counts]
    assert (dice.points, dice.seeds) == (points, CONFIRM_SEEDS)
    assert dice.run_ids == tuple(f"run-confirm-dice-{s}" for s in CONFIRM_SEEDS)
    assert dice.miou.estimate == pytest.approx(np.mean([s.miou for s in tuned]))
    assert dice.fg_iou.estimate == pytest.approx(np.mean([s.fg_iou for s in tuned]))
    assert dice.score_at_default == pytest.approx(np.mean([s.miou for s in plain]))
    assert dice.dice == pytest.approx(np.mean([s.dice for s in tuned]))
    assert dice.precision[1] == pytest.approx(np.mean([s.precision[1] for s in tuned]))
    assert dice.recall[1] == pytest.approx(np.mean([s.recall[1] for s in tuned]))
    assert (dice.search_value, dice.search_trial) == (0.7, ORDER.index("dice"))
    probe = SEARCH["dice"].spec.model_copy(update={"purpose": "probe"})
    before = compute_evidence(runs, {"dice": SEARCH["dice"].model_copy(update={"spec": probe})}, classes=("bg", "fg"))
    assert before.finalists[0].search_trial is None


def test_the_difference_is_the_mean_of_paired_differences() -> None:
    evidence = weigh(simulate(THREE))
    names = [f.family for f in evidence.finalists]
    assert sorted(names) == ["cross_entropy", "dice", "dice_ce"]
    levels = [f.miou.estimate for f in evidence.finalists]
    assert levels == sorted(levels, reverse=True)
    assert evidence.baseline == names.index("cross_entropy")
    assert [(c.first, c.second) for c in evidence.comparisons] == [(i, j) for i in range(3) for j in range(3) if i != j]
    for c in evidence.comparisons:
        assert c.difference.estimate == pytest.approx(levels[c.first] - levels[c.second])
        assert c.difference == negate_interval(get_gap(evidence, names[c.second], names[c.first]))


def test_the_order_of_runs_and_of_images_changes_no_digit() -> None:
    runs = simulate(THREE)
    expected = weigh(runs)
    shuffled = [runs[i] for i in np.random.default_rng(5).permutation(len(runs))]
    assert weigh(shuffled) == expected
    assert weigh(change_tests(runs, lambda test: {"images": test.images[::-1], "data": test.data[::-1]})) == expected


def change_tests(runs: list[TrialResult], change: Callable[[ImageCounts], dict[str, Any]]) -> list[TrialResult]:
    """Return the runs with other fields of their counts on the test images."""
    return [run.model_copy(update={"test": run.test.model_copy(update=change(run.test))}) for run in runs]


def test_losses_are_compared_on_their_common_seeds() -> None:
    runs = simulate(THREE)
    missing = next(run for run in runs if run.spec.family == "dice")
    without = [run for run in runs if run is not missing]
    evidence = weigh([*without, failed_trial("dice", 90, spec=missing.spec)])
    assert evidence == weigh(without)
    assert [len(f.seeds) for f in evidence.finalists if f.family == "dice"] == [2]
    common = [r for r in runs if r.spec.seed != missing.spec.seed and r.spec.family in {"dice", "cross_entropy"}]
    gap, expected = get_gap(evidence, "dice", "cross_entropy"), get_gap(weigh(common), "dice", "cross_entropy")
    assert (gap.estimate, gap.se_image) == (expected.estimate, expected.se_image)


def test_only_the_last_training_of_a_seed_counts() -> None:
    first = confirmation("dice", 101, counts_from_iou([0.2] * 5), 0)
    last = confirmation("dice", 101, counts_from_iou([0.8] * 5), 9)
    assert weigh([last, first]) == weigh([last])


def test_a_diverged_training_scores_its_counts_or_zero() -> None:
    runs = [r for r in simulate(THREE) if r.spec.family != "dice"]
    evidence = weigh([*runs, *(diverged("dice", seed, 50 + i) for i, seed in enumerate(CONFIRM_SEEDS))])
    last = evidence.finalists[-1]
    assert last.family == "dice" and last.fg_iou.estimate == 0
    assert (last.miou.estimate, last.score_at_default, last.dice, last.collapses) == (0, 0, 0, 3)
    assert last.iou == last.precision == last.recall == (0.0, 0.0)
    assert get_gap(evidence, "dice_ce", "dice").low > 0
    counts = counts_from_iou([0.3, 0.2, 0.4])
    with_counts = [confirmation("dice", s, counts, i, collapse=Collapse.DIVERGED) for i, s in enumerate(CONFIRM_SEEDS)]
    dice = weigh(with_counts).finalists[0]
    assert dice.miou.estimate == pytest.approx(metrics.compute_scores(metrics.count_at_point(counts, 0.5)).miou)
    assert dice.collapses == 3
    all_diverged = weigh([diverged(f, s, 3 * i + s) for i, f in enumerate(("dice", "focal")) for s in CONFIRM_SEEDS])
    assert all_diverged.test_images == 0 and [f.miou.estimate for f in all_diverged.finalists] == [0, 0]
    assert (get_gap(all_diverged, "dice", "focal").low, get_gap(all_diverged, "dice", "focal").high) == (-1, 1)


def test_no_completed_confirmation_gives_evidence_without_finalists() -> None:
    failed = failed_trial("dice", 0, spec=spec("dice", 0, 101, purpose="confirm"))
    for runs in ([], [failed]):
        evidence = weigh(runs)
        assert (evidence.finalists, evidence.comparisons, evidence.baseline) == ((), (), None)


def test_the_gain_of_the_last_quarter_is_computed_from_the_curve() -> None:
    assert compute_last_quarter_gain(confirmation(rise=0.03)) == pytest.approx(0.03)
    ten = tuple(evaluation(step, step / 100) for step in (20, 40, 60, 80, 100))  # 0.01 in each step
    assert compute_last_quarter_gain(trial(evaluations=ten)) == pytest.approx(0.25)
    assert compute_last_quarter_gain(trial(evaluations=curve(0.6)[-1:])) == 0
    runs = [confirmation("dice", s, None, i, rise=r) for i, (s, r) in enumerate(zip((1, 2), (0.02, 0.04), strict=True))]
    assert weigh(runs).finalists[0].still_rising == pytest.approx(0.03)


def test_every_collapse_that_makes_a_run_useless_is_counted() -> None:
    for kind in Collapse:
        runs = [confirmation("dice", s, number=i, collapse=kind) for i, s in enumerate(CONFIRM_SEEDS)]
        is_useful = kind in {Collapse.NONE, Collapse.CLASS_NEVER_PREDICTED}
        assert weigh(runs).finalists[0].collapses == (0 if is_useful else 3)


# --- Groups of images -------------------------------------------------------------------------------------


def double_images(runs: list[TrialResult]) -> list[TrialResult]:
    """Return every test image twice: as many images again, and not one bit more to know."""
    return change_tests(runs, lambda test: {"images": tuple(range(48)), "data": np.concatenate([test.data, test.data])})


def test_images_of_a_group_count_as_one() -> None:
    runs = simulate(THREE)
    groups = [f"g{i % 24}" for i in range(48)]
    once, grouped = weigh(runs), weigh(double_images(runs), groups=groups)
    assert (grouped.test_images, grouped.test_groups) == (48, 24)
    for one, two in zip(once.comparisons, grouped.comparisons, strict=True):
        assert two.difference.low == pytest.approx(one.difference.low)
    ungrouped = weigh(double_images(runs))
    assert ungrouped.test_groups is None
    assert ungrouped.finalists[0].miou.se_image < 0.8 * grouped.finalists[0].miou.se_image


def test_an_image_without_a_group_is_a_separate_group() -> None:
    runs = simulate(THREE)
    for groups in ([None] * 24, [f"g{i}" for i in range(24)]):
        assert weigh(runs, groups=groups) == weigh(runs)
    assert weigh(runs, groups=["a", "a", *[None] * 22]).test_groups == 23
    five = weigh(runs, groups=[f"g{i % 5}" for i in range(24)])
    assert (five.test_groups, five.few_groups) == (5, None)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_groups_are_the_units_and_a_remark_gives_their_number(count: int) -> None:
    ungrouped, few = weigh(simulate(THREE)), weigh(simulate(THREE), groups=[f"g{i % count}" for i in range(24)])
    assert (few.test_groups, few.few_groups) == (count, count)
    wide = [c.difference.high - c.difference.low for c in few.comparisons]
    narrow = [c.difference.high - c.difference.low for c in ungrouped.comparisons]
    assert (count == 1) == all(width == 2 for width in wide)  # a single unit: nothing is known
    assert wide != narrow
    remark = make_answer(few, ORDER)[0].find("GROUPS")
    assert remark is not None and remark.values["groups"] == count
    assert make_answer(ungrouped, ORDER)[0].find("GROUPS") is None


def test_the_answer_is_in_the_requested_metric() -> None:
    """Two losses are as good on the sums; on small images, which hardly count there, one is far better."""
    rng, size = np.random.default_rng(0), np.where(np.arange(24) % 2, 4000, 40)
    runs = []
    for family, small in (("dice", 0.75), ("cross_entropy", 0.45)):
        for seed in CONFIRM_SEEDS:
            level = np.where(size == 40, small, 0.6) + rng.normal(0, 0.02, 24)
            runs.append(confirmation(family, seed, counts_from_iou(level, size, 50_000), len(runs)))
    by_sums, by_images = weigh(runs), weigh(runs, metric="image_iou")
    assert choose(by_sums, ORDER).outcome is Outcome.KEEP
    assert (by_sums.scale.score, by_images.scale.score) == ("mIoU", "IoU per image")
    assert choose(by_images, ORDER).outcome is Outcome.CHANGE
    best = by_images.finalists[0]
    assert best.family == "dice" and best.score.estimate == pytest.approx(0.675, abs=0.01) != best.miou.estimate
    assert get_gap(by_images, "dice", "cross_entropy").estimate == pytest.approx(0.15, abs=0.02)
    assert format_headline(make_answer(by_images, ORDER)[0]).endswith("IoU per image.")


def test_the_gain_over_plain_cross_entropy_is_paired_by_seed() -> None:
    counts = [counts_from_iou([0.5, 0.6, 0.4]), counts_from_iou([0.55, 0.62, 0.5]), counts_from_iou([0.4, 0.5, 0.45])]
    low = THRESHOLDS[0]  # a bad point: at 0.5 cross-entropy scores higher
    runs = [
        confirmation("dice", seed, test, i) for i, (seed, test) in enumerate(zip(CONFIRM_SEEDS, counts, strict=True))
    ]
    runs += [confirmation("cross_entropy", s, counts[0], 10 + i, point=low) for i, s in enumerate(CONFIRM_SEEDS)]
    by_family = {f.family: f for f in weigh(runs).finalists}
    dice, plain = by_family["dice"], by_family["cross_entropy"]
    assert plain.score_at_default > plain.miou.estimate + 0.05
    assert dice.vs_plain.estimate == pytest.approx(dice.miou.estimate - plain.score_at_default)
    assert plain.vs_plain.estimate == pytest.approx(plain.miou.estimate - plain.score_at_default)
    assert plain.vs_plain.se_seed == pytest.approx(0)  # the same counts at each seed
    assert dice.vs_plain.se_seed > 0 and dice.vs_plain.low < dice.vs_plain.estimate < dice.vs_plain.high
    assert weigh(runs[:3]).finalists[0].vs_plain is None
