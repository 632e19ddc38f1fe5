"""Whether the recommendation depends on the tuned points, on counts whose scores at both points are known."""

from __future__ import annotations

import numpy as np
import pytest

from sweeper.core.records import Evidence, ImageCounts, TrialResult
from sweeper.core.records.training import BINS, TAUS, THRESHOLDS
from sweeper.evidence.plain_point import compare_at_plain_point
from tests.evidence.weighing import weigh
from tests.support.builders import CONFIRM_SEEDS, confirmation

HIGH, LOW = THRESHOLDS[297], THRESHOLDS[213]
IMAGES = 6


def make_counts(at_plain: float, at_high: float) -> ImageCounts:
    """Return images with these foreground IoUs at 0.5 and at `HIGH`, by false alarms or misses there."""
    data = np.zeros((IMAGES, 2, BINS), dtype=np.int64)
    data[:, 1, 400], data[:, 0, 100] = 1000, 100_000
    false = 1000 / max(at_plain, at_high) - 1000  # false alarms at both
    data[:, 0, 400] = round(false)
    if at_high >= at_plain:
        data[:, 0, 270] = round(1000 / at_plain - 1000 - false)  # false alarms at 0.5 only
    else:
        missed = 1000 - round(at_high * (1000 + false))  # found at 0.5 only
        data[:, 1, 400], data[:, 1, 270] = 1000 - missed, missed
    return ImageCounts(kind="histogram", images=tuple(range(IMAGES)), points=THRESHOLDS, data=data)


def make_runs(levels: dict[str, tuple[float, float]], point: float = HIGH) -> list[TrialResult]:
    """Return each family's runs (foreground IoU at 0.5, at the tuned point), for three seeds 0.001 apart."""
    return [
        confirmation(family, seed, make_counts(plain + 1e-3 * s, tuned + 1e-3 * s), 10 * i + s, point=point)
        for i, (family, (plain, tuned)) in enumerate(levels.items())
        for s, seed in enumerate(CONFIRM_SEEDS)
    ]


def weigh_levels(levels: dict[str, tuple[float, float]], **changes: float) -> Evidence:
    return weigh(make_runs(levels, **changes))


@pytest.mark.parametrize(
    ("levels", "recommended", "against", "best", "depends"),
    [
        # Ahead at both: only how far differs.
        ({"dice_ce": (0.6, 0.7), "cross_entropy": (0.5, 0.65)}, "dice_ce", "cross_entropy", "dice_ce", False),
        # Level at 0.5 where the loss gains 0.05 tuned: nothing would be worth the change there.
        ({"dice_ce": (0.6, 0.7), "cross_entropy": (0.599, 0.6)}, "dice_ce", "cross_entropy", "dice_ce", True),
        # Behind at 0.5.
        ({"dice_ce": (0.5, 0.7), "cross_entropy": (0.55, 0.6)}, "dice_ce", "cross_entropy", "cross_entropy", True),
        # A third one is ahead there, cross-entropy is not.
        (
            {"dice_ce": (0.6, 0.7), "cross_entropy": (0.4, 0.5), "tversky": (0.65, 0.66)},
            "dice_ce", "cross_entropy", "tversky", True,
        ),
        # ... by less than the margin.
        (
            {"dice_ce": (0.6, 0.7), "cross_entropy": (0.4, 0.5), "tversky": (0.61, 0.66)},
            "dice_ce", "cross_entropy", "tversky", False,
        ),
        # Cross-entropy is recommended, and needs its threshold: 0.5 would be 0.04 mIoU behind.
        ({"dice_ce": (0.58, 0.6), "cross_entropy": (0.5, 0.6)}, "cross_entropy", "dice_ce", "dice_ce", True),
        ({"dice_ce": (0.5, 0.6), "cross_entropy": (0.52, 0.6)}, "cross_entropy", "dice_ce", "cross_entropy", False),
        # Without cross-entropy the best other loss replaces it.
        ({"dice_ce": (0.5, 0.6), "tversky": (0.4, 0.55), "dice": (0.45, 0.5)}, "dice_ce", "dice", "dice_ce", False),
    ],
)  # fmt: skip
def test_the_answer_depends_on_the_threshold_if_it_changes_at_0_5(
    levels: dict[str, tuple[float, float]], recommended: str, against: str, best: str, depends: bool
) -> None:
    evidence = weigh_levels(levels)
    plain = compare_at_plain_point(evidence, [f.family for f in evidence.finalists].index(recommended))
    assert (plain.against, plain.best, plain.depends) == (against, best, depends)
    gap = (levels[recommended][0] - levels[against][0]) / 2  # the background hardly differs
    assert plain.difference.estimate == pytest.approx(gap, abs=0.004)
    assert plain.difference.low < plain.difference.estimate < plain.difference.high
    assert plain.worse == {}


def test_tuned_points_that_score_worse_on_test_are_listed_by_how_much() -> None:
    evidence = weigh_levels({"dice_ce": (0.7, 0.65), "cross_entropy": (0.6, 0.6), "tversky": (0.5, 0.499)})
    plain = compare_at_plain_point(evidence, 0)
    assert list(plain.worse) == ["dice_ce"]  # 0.0005 mIoU is nothing
    assert plain.worse["dice_ce"] == pytest.approx(0.025, abs=0.002)


def test_a_comparison_needs_tuned_points_and_two_finalists() -> None:
    levels = {"dice_ce": (0.6, 0.7), "cross_entropy": (0.5, 0.65)}
    assert weigh_levels(levels, point=0.5).at_plain == ()
    assert compare_at_plain_point(weigh_levels(levels, point=0.5), 0) is None
    assert compare_at_plain_point(weigh_levels({"dice_ce": (0.6, 0.7)}), 0) is None
    assert compare_at_plain_point(weigh_levels(levels), None) is None and compare_at_plain_point(None, None) is None


def test_several_classes_are_compared_at_tau_0_in_the_metric_of_the_verdict() -> None:
    def street(at_zero: int, at_tuned: int) -> ImageCounts:
        data = np.zeros((IMAGES, len(TAUS), 3, 3), dtype=np.int64)
        for t, hit in enumerate([at_zero] * 5 + [at_tuned] * 4):
            data[:, t] = [[900, 0, 0], [hit, 0, 100 - hit], [100, 100 - hit, 0]]
        return ImageCounts(kind="points", images=tuple(range(IMAGES)), points=TAUS, data=data)

    levels = {"dice_ce": (40, 80), "cross_entropy": (60, 62)}
    confirmed = [
        confirmation(family, seed, street(*(v + s for v in values)), 10 * i + s, point=0.5)
        for i, (family, values) in enumerate(levels.items())
        for s, seed in enumerate(CONFIRM_SEEDS)
    ]
    for metric in ("miou", "dice", "image_dice"):
        evidence = weigh(confirmed, classes=("ground", "road", "sign"), metric=metric)
        assert evidence.finalists[0].family == "dice_ce"
        plain = compare_at_plain_point(evidence, 0)
        assert (plain.depends, plain.best) == (True, "cross_entropy"), metric
        scores = [f.score_at_default for f in evidence.finalists]
        assert plain.difference.estimate == pytest.approx(scores[0] - scores[1])
