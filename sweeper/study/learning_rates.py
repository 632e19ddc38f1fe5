"""Which learning rates a loss is compared at: the grid it is tuned on, its good range, and the rates drawn from that.

A loss that is compared at one learning rate is compared with that rate's luck. So all finalists complete the same grid
of rates on a seed of its own; the range in which a loss is as good as at its best is read off that curve; and each seed
of the confirmation draws a rate from there, the same for all losses where their ranges overlap. What is estimated is
the loss at a rate that a user would pick, and the rate's share of the variance is in every interval.

Everything here is on the logarithm of the rate. Pure; no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal

from sweeper.core.records import Coordinate, RateRange

GRID = 4
"""Rates that every finalist completes, at least."""
APART = 10**0.25
"""Rates of the grid are at least this factor apart: half the distance of four over two decades."""
STEP = 10**0.5
"""A grid whose best lies at an end is extended by this factor."""
EXTENSIONS = 2
"""How often a grid is extended at one end, at most."""
LEAST, MOST = 1e-6, 1.0
"""Rates beyond these are not tried."""
GOOD = 0.02
"""A rate is good where the curve lies within so much of its peak: twice the usual region of practical equivalence. Not
the study's own, which may be changed later, when the confirmation's rates are drawn."""
GAIN = 0.01
"""A last step at an end of the grid that gains no more is flat: the peak needs no bracket there."""
NARROWEST, WIDEST = 1.5, 100.0
"""Factors between the ends of a good range: nobody hits a rate to the per cent, or needs more than two decades."""
NOISE = 0.02
"""Standard deviation of single trainings between seeds, as it usually is: what of a curve may be luck."""
OVERLAP = 1.25
"""Good ranges that have less than this factor in common are not drawn from together."""
_PLACES = (1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6)
"""Where in the searched range rates are added to the finalists' own."""


def is_one_rate(searched: Coordinate) -> bool:
    """Whether the searched range is a single rate, or so narrow (below `NARROWEST`) that its rates are one."""
    return searched.kind == "fixed" or searched.high < NARROWEST * searched.low


def grid_of(own: Sequence[float], searched: Coordinate) -> tuple[float, ...]:
    """The common grid: the finalists' own best rates, and others as far as can be from these, ascending.

    Args:
        own: each finalist's best rate in the search, the best finalist's first; of two that are nearer than `APART` the
            first stays.
        searched: range of the learning rate, which is not one rate (`is_one_rate`).

    Returns:
        At least `GRID` rates.
    """
    kept: list[float] = []
    for rate in own:
        if all(abs(math.log(rate / other)) >= math.log(APART) - 1e-9 for other in kept):
            kept.append(rate)
    width = math.log(searched.high / searched.low)
    places = [rounded(searched.low * math.exp(place * width)) for place in _PLACES]
    while len(kept) < GRID:
        free = [p for p in places if p not in kept]
        kept.append(max(free, key=lambda p: min((abs(math.log(p / other)) for other in kept), default=math.inf)))
    return tuple(sorted(kept))


def open_end(curve: Mapping[float, float]) -> Literal["low", "high"] | None:
    """At which end of the rates that were tried the best lies; None where the peak is bracketed, or the curve flat.

    Args:
        curve: rate → value of completed trainings on one seed.
    """
    rates = sorted(curve)
    if len(rates) < 2:
        return None
    if curve[rates[0]] - GAIN > max(curve[r] for r in rates[1:]):
        return "low"
    return "high" if curve[rates[-1]] - GAIN > max(curve[r] for r in rates[:-1]) else None


def beyond(curve: Mapping[float, float], searched: Coordinate) -> float | None:
    """The rate by which a grid is to be extended, as its best lies at an end; None where that is not so, or too far.

    Args:
        curve: as in `open_end`.
        searched: range of the learning rate, which is left by at most `STEP` to the power of `EXTENSIONS`.
    """
    end = open_end(curve)
    if end is None:
        return None
    farthest = STEP**EXTENSIONS * 1.01  # rates are rounded
    if end == "low":
        further = rounded(min(curve) / STEP)
        return further if further >= max(LEAST, searched.low / farthest) else None
    further = rounded(max(curve) * STEP)
    return further if further <= min(MOST, searched.high * farthest) else None


def pooled(curves: Sequence[Mapping[float, float]]) -> list[dict[float, float]]:
    """The finalists' curves, each drawn towards their common course as far as its own may be luck.

    A rate does much the same to all losses, as AdamW does not care for their scale; single trainings differ by `NOISE`.
    At the R rates that all completed, a curve is its own mean, the finalists' common course, and a deviation d. That is
    shrunken by max(0, 1 − NOISE²/S), S = |d|²/(R − 1), as a positive-part empirical Bayes estimate (Morris 1983):
    deviations like noise vanish, those of a loss that wants other rates stay. Four equal losses with that noise share
    one good range in most cases then (tests/test_rates.py).

    Args:
        curves: of each finalist, rate → value.

    Returns:
        The same at the common rates; others keep their values. All as they are where fewer than 3 rates are common.
    """
    plain = [dict(curve) for curve in curves]
    common = sorted(set.intersection(*(set(curve) for curve in plain))) if plain else []
    if len(plain) < 2 or len(common) < 3:
        return plain
    own = [sum(curve[r] for r in common) / len(common) for curve in plain]
    # The median: a loss that wants other rates does not draw the others with it.
    course = {r: median(curve[r] - mean for curve, mean in zip(plain, own, strict=True)) for r in common}
    course = {r: value - sum(course.values()) / len(common) for r, value in course.items()}
    found = []
    for curve, mean in zip(plain, own, strict=True):
        deviation = {r: curve[r] - mean - course[r] for r in common}
        size = sum(d * d for d in deviation.values()) / (len(common) - 1)
        kept = max(0.0, 1 - NOISE**2 / size) if size else 0.0
        found.append(curve | {r: mean + course[r] + kept * deviation[r] for r in common})
    return found


def good_range(curve: Mapping[float, float]) -> RateRange:
    """Where the curve, linear in the logarithm between its rates, lies within `GOOD` of its peak.

    Around the peak alone, at least a factor of `NARROWEST` wide and at most `WIDEST`; never beyond the rates that were
    tried, but for the least width.

    Args:
        curve: rate → value in [0, 1]; one rate, at least.

    Raises:
        ValueError: if the curve is empty.
    """
    if not curve:
        raise ValueError("a good range is read off a curve of at least one learning rate, got none; train one first")
    rates = sorted(curve)
    best = max(rates, key=lambda r: (curve[r], -abs(math.log(r / rates[len(rates) // 2]))))
    peak, enough = rates.index(best), curve[best] - GOOD
    ends = []
    for way in (-1, 1):
        end, i = math.log(best), peak
        while 0 <= i + way < len(rates):
            here, there = rates[i], rates[i + way]
            if curve[there] >= enough:
                end, i = math.log(there), i + way
                continue
            share = (curve[here] - enough) / (curve[here] - curve[there])
            end = math.log(here) + share * math.log(there / here)
            break
        ends.append(end)
    middle = math.log(best)
    low = max(min(ends[0], middle - math.log(NARROWEST) / 2), middle - math.log(WIDEST) / 2)
    high = min(max(ends[1], middle + math.log(NARROWEST) / 2), middle + math.log(WIDEST) / 2)
    return RateRange(best=best, low=math.exp(low), high=math.exp(high))


def drawn_from(good: Sequence[RateRange]) -> tuple[RateRange, ...]:
    """The range that each finalist's rates are drawn from: what its good range has in common with those before it.

    Args:
        good: good ranges, the best finalist's first. One that has less than a factor of `OVERLAP` in common with the
            others' keeps its own, and the draws are at the same quantiles.
    """
    low, high, joined = 0.0, math.inf, set[int]()
    for i, own in enumerate(good):
        together = (max(low, own.low), min(high, own.high))
        if together[1] >= OVERLAP * together[0]:
            (low, high), joined = together, joined | {i}
    return tuple(
        own.model_copy(update={"low": low, "high": high, "shared": len(joined) > 1}) if i in joined else own
        for i, own in enumerate(good)
    )


def drawn_rate(drawn: RateRange, number: int) -> float:
    """The learning rate of the confirmation's `number`-th seed (from 0): van der Corput's sequence over the range.

    Its first 3, 5 and 8 points fill the range evenly; the first is the middle.
    """
    place, digit, left = 0.0, 0.5, number + 1
    while left:
        place, digit, left = place + digit * (left % 2), digit / 2, left // 2
    return rounded(drawn.low * (drawn.high / drawn.low) ** place)


def middle_of(drawn: RateRange) -> float:
    """The geometric middle of a range, which is recommended of it: what the first seed draws."""
    return drawn_rate(drawn, 0)


def rounded(rate: float) -> float:
    """Three significant digits, as people write rates."""
    return float(f"{rate:.3g}")
