"""The explanation of a result by the imbalance of the data: each sentence follows from numbers."""

from __future__ import annotations

import re

import pytest

from sweeper.core.records import Evidence, Scale
from sweeper.core.records import ImbalanceProfile as Profile
from sweeper.report.explanation import explain_result
from tests.support import builders
from tests.support.builders import evidence


def make_profile(share: float = 0.02, thinness: float = 0.3, classes: tuple[str, ...] = builders.BINARY) -> Profile:
    """Return a profile whose last class has this share and thinness."""
    profile = builders.profile(builders.dataset(classes))
    rest = (1 - share) / (len(classes) - 1)
    changed = [c.model_copy(update={"pixel_share": rest}) for c in profile.classes[:-1]]
    changed.append(profile.classes[-1].model_copy(update={"pixel_share": share, "thinness": thinness}))
    return profile.model_copy(update={"classes": tuple(changed), "imbalance": rest / share})


def explain(
    result: Evidence | None, profile: Profile | None = None, chosen: int | None = None, imbalance: float = 49.0
) -> str:
    return " ".join(explain_result(profile or make_profile(), result, chosen, imbalance))


def test_the_profile_is_described_with_its_numbers() -> None:
    text = explain(None, make_profile(0.01, thinness=0.83))
    assert "crack takes 1 % of the labelled pixels (1 to 99)" in text
    assert "a thin structure (83.0 % of its pixels within 2 pixels" in text
    many = explain(None, make_profile(0.005, 0.2, builders.STREET))
    assert "The rarest class, sign, takes 0.5 %" in many and "not thin" in many


def test_a_tuned_threshold_is_explained_with_its_gain() -> None:
    result = evidence(
        {"dice": 0.7, "cross_entropy": 0.69},
        finalists={"cross_entropy": {"points": (0.2, 0.23, 0.3), "miou_at_default": 0.66}, "dice": {"points": (0.5,)}},
    )
    text = explain(result)
    assert (
        "cross_entropy scores best on validation at threshold 0.23 rather than 0.5: at 0.5 it marks too little" in text
    )
    assert "worth +0.030 mIoU (0.660 to 0.690)" in text
    scored = {"own_score": result.finalists[1].miou.model_copy(update={"estimate": 0.5}), "own_score_at_default": 0.45}
    finalists = (result.finalists[0], result.finalists[1].model_copy(update=scored))
    other = result.model_copy(update={"finalists": finalists, "scale": Scale(score="CC-Dice")})
    assert "worth +0.050 CC-Dice (0.450 to 0.500)" in explain(other)
    assert (
        "At 0.5 dice and cross_entropy would differ by +0.030 mIoU, at each one's own operating point by +0.010" in text
    )


@pytest.mark.parametrize(
    ("tuned", "plain", "words"),
    [
        ((0.638, 0.454), (0.615, 0.441), "by +0.174 mIoU, at each one's own operating point by +0.184: tuning widens"),
        ((0.600, 0.580), (0.590, 0.590), "tuning widens the gap by 0.020; the operating point does not explain it"),
        ((0.450, 0.500), (0.480, 0.500), "tuning widens the gap by 0.030"),  # the recommended one behind
        ((0.700, 0.690), (0.690, 0.650), "+0.030 is the operating point, not the loss"),
        ((0.690, 0.700), (0.650, 0.690), "−0.030 is the operating point, not the loss"),
        ((0.690, 0.690), (0.690, 0.650), "+0.040 is the operating point, not the loss"),
        ((0.700, 0.690), (0.650, 0.690), "which of them is ahead depends on the operating point"),
    ],
)
def test_the_operating_point_explains_only_the_gap_that_it_closes(
    tuned: tuple[float, float], plain: tuple[float, float], words: str
) -> None:
    changes = {name: {"miou_at_default": p} for name, p in zip(("dice", "cross_entropy"), plain, strict=True)}
    levels = dict(zip(("dice", "cross_entropy"), tuned, strict=True))
    chosen = 0 if tuned[0] >= tuned[1] else 1  # finalists are sorted by falling score
    text = explain(evidence(levels, finalists=changes), chosen=chosen)
    assert words in text
    assert ("is the operating point, not the loss" in text) == ("is the operating point, not the loss" in words)


@pytest.mark.parametrize(("share", "words"), [(0.00068, "1 to 1,470"), (1e-6, "1 to 999,999"), (0.02, "1 to 49")])
def test_a_ratio_is_printed_without_a_power_of_ten(share: float, words: str) -> None:
    assert f"({words})" in explain(None, make_profile(share))


def test_precision_and_recall_say_which_loss_misses_more() -> None:
    changes = {
        "dice": {"recall": (0.99, 0.7), "precision": (0.99, 0.6)},
        "cross_entropy": {"recall": (0.99, 0.6), "precision": (0.99, 0.8)},
    }
    result = evidence({"dice": 0.7, "cross_entropy": 0.69}, finalists=changes)
    text = explain(result)
    assert "Of crack, dice finds 70.0 % and cross_entropy 60.0 % (recall)" in text
    assert "dice has fewer misses and more false alarms" in text
    assert "cross_entropy has more misses and fewer false alarms" in explain(result, chosen=1)
    undefined = changes | {"dice": {"precision": (0.99, None)}}
    for finalists in ({}, undefined):  # the same for both, or not known
        assert "(recall)" not in explain(evidence({"dice": 0.7, "cross_entropy": 0.69}, finalists=finalists))


def test_gains_of_classes_are_grouped_by_their_share() -> None:
    names = builders.STREET
    changes = {
        "dice": {"iou": (0.9, 0.6, 0.5), "fg_iou": None, "points": (0.0,)},
        "cross_entropy": {"iou": (0.9, 0.62, 0.2), "fg_iou": None, "points": (0.0,)},
    }
    result = evidence({"dice": 0.7, "cross_entropy": 0.6}, finalists=changes, classes=names)
    text = explain(result, make_profile(0.01, 0.3, names))
    assert "the IoU of the 1 rarest of 3 classes (at most 1 % of the pixels each) by +0.300 on average" in text
    assert "of the others by −0.010" in text
    assert "gains most on sign (+0.300, 1 % of the pixels) and least on animal (−0.020" in text


def test_a_weight_is_explained_as_a_power_of_the_imbalance() -> None:
    result = evidence(
        {"weighted_ce": 0.7, "cross_entropy": 0.6}, finalists={"weighted_ce": {"params": {"pos_weight": 7}}}
    )
    assert "weighs the foreground 7-fold, the imbalance (49) to the power 0.50" in explain(result)
    assert "weighs the foreground" not in explain(result, imbalance=0.5)  # more foreground than background


@pytest.mark.parametrize("levels", [{}, {"dice": 0.7}, {"dice": 0.7, "focal": 0.7, "cross_entropy": 0.6}])
def test_every_sentence_has_a_number_and_none_fails(levels: dict[str, float]) -> None:
    for profile in (make_profile(), make_profile(classes=builders.STREET)):
        result = evidence(levels) if levels else None
        if result is not None and len(profile.classes) == 3:
            three = {"iou": (0.9, None, 0.5), "recall": (0.9, None, 0.5), "precision": (0.9, None, 0.5)}
            changed = tuple(f.model_copy(update=three) for f in result.finalists)
            result = result.model_copy(update={"finalists": changed, "classes": builders.STREET})
        sentences = explain_result(profile, result, None, 49.0)
        assert all(re.search(r"\d", s) and s.endswith(".") for s in sentences)
