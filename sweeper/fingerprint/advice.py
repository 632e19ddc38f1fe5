"""What a profile implies for the loss: ranges worth searching, families worth a try, classes that will be hard.

Families come from measured data sets (ledger.py); ranges and ranks are rules of thumb with their numbers, so that a
reader can see why. The search decides, not this.
"""

from __future__ import annotations

import math

from sweeper.core.base import Record
from sweeper.core.records import ClassProfile, ImbalanceProfile, Task
from sweeper.core.text import with_sign
from sweeper.fingerprint.ledger import BASELINE, AdvisedLoss, advise, features_of, read_ledger

POWER = 1.1
"""Highest exponent that the shipped spaces search; 1 balances the classes."""
HEAVIEST = 100.0
"""Ratio of pixel weights beyond which single rare pixels decide a step's gradient."""


class Bound(Record):
    """A range of one coordinate of a loss."""

    coordinate: str
    low: float
    start: float
    """Where to begin by hand."""
    high: float
    reason: str


class Suggestion(Record):
    """A family that is worth a try on these labels."""

    family: str
    reason: str


class Difficulty(Record):
    """How hard a class will be, by four features, each 0 (easy) to 1 (hard), and their mean."""

    name: str
    score: float
    rare: float
    few: float
    thin: float
    small: float
    pixel_share: float
    images: int
    thinness: float
    large_pixels: float
    """90th percentile of its pieces: specks, which many labels are full of, do not decide it."""


def bounds(profile: ImbalanceProfile) -> tuple[Bound, ...]:
    """Ranges for pos_weight and α (binary) or class_weight_power (more classes), from the pixel counts."""
    if profile.pos_weight is not None:
        return _binary_bounds(profile.pos_weight, profile.classes[1].name)
    ratio = profile.imbalance
    cap = min(POWER, math.log(HEAVIEST) / math.log(ratio)) if ratio > 1 else POWER
    why = (
        f"at 1 a pixel of the rarest class weighs {ratio:.3g} times one of the commonest, and "
        f"{math.sqrt(ratio):.3g} times at 0.5"
    )
    if cap < POWER:
        why += f"; above {cap:.2f} more than {HEAVIEST:.0f} times, so that few pixels decide a step"
    return (Bound(coordinate="class_weight_power", low=0.0, start=min(0.5, cap), high=cap, reason=why),)


def _binary_bounds(weight: float, name: str) -> tuple[Bound, ...]:
    """From equal weights to a little beyond balance, whichever side is the rare one."""
    ends = sorted((1.0, min(max(weight**POWER, 1 / HEAVIEST), max(HEAVIEST, weight))))
    start = math.sqrt(weight)
    rare = f"{weight:.3g} balances the pixels"
    if weight > HEAVIEST:
        rare += f"; above {HEAVIEST:.0f} single pixels of {name} decide a step"
    alphas = [w / (1 + w) for w in (ends[0], start, ends[1])]
    return (
        Bound(
            coordinate="pos_weight", low=ends[0], start=start, high=ends[1],
            reason=f"{rare}; the root of that is a usual start",
        ),
        Bound(
            coordinate="alpha", low=alphas[0], start=alphas[1], high=alphas[2],
            reason="the same range as focal's balance, α = w / (1 + w)",
        ),
    )  # fmt: skip


def suggestions(profile: ImbalanceProfile) -> tuple[Suggestion, ...]:
    """Families in the order of what they gained on similar data sets (`sweeper.fingerprint.ledger`)."""
    task: Task = "binary" if profile.pos_weight is not None else "multiclass"
    found = advise(task, tuple(features_of(profile).values()), read_ledger())
    return tuple(Suggestion(family=loss.family, reason=_reason(loss)) for loss in found)


def _reason(loss: AdvisedLoss) -> str:
    if loss.family == BASELINE:
        return "the baseline: nothing is worth its trouble that does not beat it"
    return (
        f"{with_sign(loss.gain)} test mIoU over cross-entropy, mean of the {loss.sets} most similar measured sets "
        f"({with_sign(loss.lowest)} to {with_sign(loss.highest)})"
    )


def difficulty(profile: ImbalanceProfile) -> tuple[Difficulty, ...]:
    """Classes that occur, the hardest first.

    Four features on fixed scales: rare (10 % of the pixels or more = 0, 0.01 % = 1, logarithmic), few (in 100 images or
    more = 0, in 3 = 1, logarithmic), thin (share of its pixels within 2 pixels of its boundary), small (90th
    percentile of its components at 16,384 pixels or more = 0, at 64 = 1, logarithmic).
    """
    found = []
    for row in profile.classes:
        if row.pixel_share <= 0:
            continue
        images = round(row.image_share * profile.images)
        features = {
            "rare": _scale(row.pixel_share, 0.1, 1e-4),
            "few": _scale(images, 100, 3),
            "thin": row.thinness or 0.0,
            "small": _scale(_large(row), 16_384, 64),
        }
        found.append(
            Difficulty(
                name=row.name, score=sum(features.values()) / len(features), **features, pixel_share=row.pixel_share,
                images=images, thinness=row.thinness or 0.0, large_pixels=_large(row),
            )
        )  # fmt: skip
    return tuple(sorted(found, key=lambda row: -row.score))


def _large(row: ClassProfile) -> float:
    return row.component_pixels[2] if row.component_pixels else math.inf


def _scale(value: float, easy: float, hard: float) -> float:
    """0 at `easy` and beyond, 1 at `hard` and beyond, logarithmic between."""
    return min(1.0, max(0.0, math.log(easy / max(value, 1e-12)) / math.log(easy / hard)))
