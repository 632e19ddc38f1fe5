"""Sentences on how the data's imbalance relates to the result, derived from numbers.

Class names are those of the data set, unescaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from sweeper.core.records import ClassProfile, Evidence, FinalistEvidence, ImbalanceProfile
from sweeper.core.text import format_signed, format_significant, replace_minus

MIN_THINNESS = 0.5
"""A class is a thin structure where more than this share of its pixels is thin."""
VISIBLE = 0.005
"""Smallest difference in precision, recall and IoU that is mentioned."""


def explain_result(
    profile: ImbalanceProfile, evidence: Evidence | None, chosen: int | None, imbalance: float
) -> list[str]:
    """Explain how the data's profile relates to the result.

    The finalist `chosen` (an index; None = the best) is compared with the baseline, the baseline with the next best.
    `imbalance` is that of the training pixels, of which `pos_weight` is a power.
    """
    sentences = [_describe_profile(profile)]
    if evidence is None or not evidence.finalists:
        return sentences
    binary = len(evidence.classes) == 2
    sentences += [s for f in evidence.finalists if (s := _explain_moved_point(f, binary, evidence.scale.score))]
    sentences += [s for f in evidence.finalists if (s := _describe_weight(f, imbalance))]
    chosen = chosen or 0
    others = [i for i in range(len(evidence.finalists)) if i != chosen]
    if not others:
        return sentences
    against = others[0] if evidence.baseline is None or evidence.baseline == chosen else evidence.baseline
    one, other = evidence.finalists[chosen], evidence.finalists[against]
    sentences += _explain_threshold_share(one, other, binary, evidence.scale.score)
    if binary:
        sentences += _explain_precision_recall(one, other, evidence.classes[1])
    else:
        sentences += _explain_by_share(one, other, evidence.classes, profile)
    return sentences


def _describe_profile(profile: ImbalanceProfile) -> str:
    rare = _find_rarest(profile)
    thin = ""
    if rare.thinness is not None:
        kind = "a thin structure" if rare.thinness > MIN_THINNESS else "not thin"
        thin = f", {kind} ({_format_percent(rare.thinness)} of its pixels within 2 pixels of its boundary)"
    if len(profile.classes) == 2:
        return (
            f"{rare.name} takes {_format_percent(rare.pixel_share)} of the labelled pixels (1 to "
            f"{format_significant(profile.imbalance)}) and occurs in {_format_percent(rare.image_share)} of the "
            f"images{thin}."
        )
    common = max(profile.classes, key=lambda c: c.pixel_share)
    return (
        f"The rarest class, {rare.name}, takes {_format_percent(rare.pixel_share)} of the labelled pixels, the most "
        f"common, {common.name}, {_format_percent(common.pixel_share)} (1 to "
        f"{format_significant(common.pixel_share / rare.pixel_share)}); {rare.name} occurs in "
        f"{_format_percent(rare.image_share)} of the images{thin}."
    )


def _find_rarest(profile: ImbalanceProfile) -> ClassProfile:
    """Return the rarest class that occurs; for a binary task the foreground."""
    among = profile.classes[1:] if len(profile.classes) == 2 else profile.classes
    return min((c for c in among if c.pixel_share > 0), key=lambda c: c.pixel_share)


def _explain_moved_point(finalist: FinalistEvidence, binary: bool, metric: str) -> str | None:
    """Explain how a loss's best operating point differs from the usual one, and the gain from it."""
    if not finalist.points:
        return None
    point, default = float(median(finalist.points)), 0.5 if binary else 0.0
    gain = finalist.score.estimate - finalist.score_at_default
    if abs(point - default) < 0.05 and abs(gain) < VISIBLE:
        return None
    what = "threshold" if binary else "τ ="
    toward = ""
    if binary and abs(point - default) >= 0.05:
        seldom = point < default
        toward = f": at 0.5 it marks too {'little' if seldom else 'much'} as foreground"
    return (
        f"{finalist.family} scores best on validation at {what} {replace_minus(f'{point:.2f}')} rather than "
        f"{default:g}{toward}; on test that is worth {format_signed(gain)} {metric} "
        f"({finalist.score_at_default:.3f} to {finalist.score.estimate:.3f})."
    )


def _describe_weight(finalist: FinalistEvidence, imbalance: float) -> str | None:
    """Describe the foreground's weight that the search chose, as a power of the imbalance."""
    weight = finalist.params.get("pos_weight")
    if weight is None or imbalance <= 1:
        return None
    power = math.log(weight) / math.log(imbalance)
    return (
        f"{finalist.family} weighs the foreground {format_significant(weight)}-fold, the imbalance "
        f"({format_significant(imbalance)}) to the power {replace_minus(f'{power:.2f}')}: 1 would balance the classes, "
        "0 leave them as they are."
    )


def _explain_threshold_share(one: FinalistEvidence, other: FinalistEvidence, binary: bool, metric: str) -> list[str]:
    """Explain how much of the gap between two losses comes from their operating points."""
    tuned = one.score.estimate - other.score.estimate
    default = one.score_at_default - other.score_at_default
    if abs(tuned - default) < VISIBLE:
        return []
    at = "0.5" if binary else "τ = 0"
    if default * tuned < 0:
        meaning = "which of them is ahead depends on the operating point"
    elif abs(tuned) > abs(default):
        meaning = f"tuning widens the gap by {abs(tuned) - abs(default):.3f}; the operating point does not explain it"
    else:
        meaning = f"{format_signed(default - tuned)} is the operating point, not the loss"
    return [
        f"At {at} {one.family} and {other.family} would differ by {format_signed(default)} {metric}, at each one's own "
        f"operating point by {format_signed(tuned)}: {meaning}."
    ]


def _explain_precision_recall(one: FinalistEvidence, other: FinalistEvidence, name: str) -> list[str]:
    """Explain how two losses differ in recall and precision of the foreground."""
    values = (one.recall[1], other.recall[1], one.precision[1], other.precision[1])
    if any(v is None for v in values):
        return []
    recall, recall_other, precision, precision_other = (float(v or 0.0) for v in values)
    finds, right = recall - recall_other, precision - precision_other
    if abs(finds) < VISIBLE and abs(right) < VISIBLE:
        return []
    if finds * right < 0:
        end = f"{one.family} has {'more misses and fewer' if finds < 0 else 'fewer misses and more'} false alarms"
    else:
        end = f"{one.family} is {'ahead' if finds + right > 0 else 'behind'} in both, or level"
    return [
        f"Of {name}, {one.family} finds {_format_percent(recall)} and {other.family} {_format_percent(recall_other)} "
        f"(recall); of what they mark, {_format_percent(precision)} and {_format_percent(precision_other)} is right "
        f"(precision): {end}."
    ]


def _explain_by_share(
    one: FinalistEvidence, other: FinalistEvidence, classes: Sequence[str], profile: ImbalanceProfile
) -> list[str]:
    """Explain which classes gain, by their share of the pixels."""
    shares = {c.name: c.pixel_share for c in profile.classes}
    gains = [
        (shares.get(name, 0.0), name, a - b)
        for name, a, b in zip(classes, one.iou, other.iou, strict=True)
        if a is not None and b is not None
    ]
    if len(gains) < 2:
        return []
    gains.sort()
    half = len(gains) // 2
    rare, common = gains[:half], gains[half:]
    rarer, rest = (sum(g for _, _, g in part) / len(part) for part in (rare, common))
    most, least = max(gains, key=lambda g: g[2]), min(gains, key=lambda g: g[2])
    return [
        f"Against {other.family}, {one.family} changes the IoU of the {len(rare)} rarest of {len(gains)} classes (at "
        f"most {_format_percent(rare[-1][0])} of the pixels each) by {format_signed(rarer)} on average, and of the "
        f"others by {format_signed(rest)}.",
        f"It gains most on {most[1]} ({format_signed(most[2])}, {_format_percent(most[0])} of the pixels) and least on "
        f"{least[1]} ({format_signed(least[2])}, {_format_percent(least[0])}).",
    ]


def _format_percent(share: float) -> str:
    if share in (0.0, 1.0):
        return f"{100 * share:.0f} %"
    return f"{100 * share:.1f} %" if share >= 0.1 else f"{100 * share:.3g} %"
