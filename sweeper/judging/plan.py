"""How many trainings and images would show a difference, from the spreads of a pilot: `sweeper judge --plan`.

A difference is seen where its interval is above 0. The variances of the pilot's differences are taken at face value and
scaled to other numbers of seeds and images (`sweeper.evidence.what_would_settle`). The power is that of a noncentral t
on Satterthwaite's degrees of freedom against the critical value that the judgement uses (Cochran and Cox's).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

from scipy import stats

from sweeper.core.base import Record
from sweeper.core.document import Document
from sweeper.core.errors import UsageError
from sweeper.core.records import Interval
from sweeper.core.text import format_count, join_words
from sweeper.evidence.decision_rule import count_units, get_difference, has_enough_seeds
from sweeper.evidence.interim_analyses import SHOWING, count_common_seeds
from sweeper.evidence.intervals import compute_half_width, scale_variances
from sweeper.judging.judgement import Judgement

POWER = 0.8
MOST_SEEDS = 200
"""More trainings of each method are not proposed."""
TIMES = (1, 2, 4)
"""The plan is for so many times the images that there are."""
SEEDS = (3, 5, 8, 13, 21)
"""Numbers of seeds whose width is given."""


class PlanRow(Record):
    """Seeds that are needed with some number of images."""

    images: int | None
    """Images, or groups of them; null = images are not distinguished."""
    seeds: int | None
    """Trainings of each method; null = more than 200 would not do."""


class WidthRow(Record):
    """Precision of some number of seeds, with the images that there are."""

    seeds: int
    width: float
    """Half the interval's width."""
    power: float
    """Chance to see the difference."""


class PairPlan(Record):
    """The plan for two methods."""

    first: str
    second: str
    difference: float
    """The pilot's."""
    sd_seed: float
    """Standard deviation of the difference from one training of each to another."""
    sd_image: float | None
    """Standard deviation of the difference from one image to another; null = images are not distinguished."""
    detectable: float
    """True difference that is seen with 80 % with as many seeds and images as in the pilot."""
    rows: tuple[PlanRow, ...]
    widths: tuple[WidthRow, ...]


class PlanDocument(Document):
    """Document that `sweeper judge --plan` prints."""

    SCHEMA: ClassVar[str] = "sweeper.plan/1"

    source: str
    metric: str
    difference: float
    """True difference that is to be seen: the margin."""
    power: float
    level: float
    paired_seeds: bool
    seeds: int | None
    """Trainings of each method in the pilot: the fewest; null = there is none, its spread was given (`--spread`)."""
    images: int | None
    sd_low: float | None
    """The true spread of trainings is at least this times the pilot's, with 97.5 %; null = there is no pilot."""
    sd_high: float | None
    """At most this times."""
    pairs: tuple[PairPlan, ...]


def plan_experiment(judgement: Judgement) -> PlanDocument:
    """Return how many seeds show a difference of the margin, for each method against the baseline, else the best.

    Raises:
        UsageError: if a method has fewer than three trainings, so that their spread is not known.
    """
    contest, table = judgement.contest, judgement.table
    to = contest.baseline or 0
    others = [i for i in range(len(contest.finalists)) if i != to]
    if lacking := [contest.finalists[i].family for i in others if not has_enough_seeds(contest, i, to)]:
        raise UsageError(
            f"--plan needs the spread of trainings, {SHOWING} of each method or more, got fewer of "
            f"{join_words(lacking[:5])} or of {contest.finalists[to].family}; train these few seeds first"
        )
    units = count_units(contest)
    seeds = min(int(count_common_seeds(contest, i, to)) for i in others)
    images = int(units) if math.isfinite(units) else None

    def plan_pair(other: int) -> PairPlan:
        return _make_pair(
            (contest.finalists[other].family, contest.finalists[to].family),
            get_difference(contest, other, to),
            (count_common_seeds(contest, other, to), units),
            table.margin,
            judgement.level,
            paired=contest.paired,
            widening=table.scores.widening,
        )

    return PlanDocument(
        source=table.source,
        metric=table.scale.score,
        difference=table.margin,
        power=POWER,
        level=judgement.level,
        paired_seeds=contest.paired,
        seeds=seeds,
        images=images,
        sd_low=_compute_spread_ratio(seeds - 1, 0.975),
        sd_high=_compute_spread_ratio(seeds - 1, 0.025),
        pairs=tuple(map(plan_pair, others)),
    )


def plan_spread(spread: float, margin: float, level: float) -> PlanDocument:
    """Return how many seeds show a difference of the margin between two methods of a spread that is known beforehand.

    Args:
        spread: standard deviation of a method's score from one training to another, on the same images.
        margin: the true difference, in the same unit.
        level: of the intervals.

    Raises:
        UsageError: if spread or margin is not above 0.
    """
    for option, value in (("--spread", spread), ("--margin", margin)):
        if not 0 < value < math.inf:
            raise UsageError(f"{option} must be above 0, got {value:g}")
    error = spread * math.sqrt(2 / SHOWING)
    gap = Interval(estimate=0.0, low=-error, high=error, se_seed=error, se_image=0.0)
    pair = _make_pair(("one method", "another"), gap, (SHOWING, math.inf), margin, level, paired=False)
    return PlanDocument(
        source=f"a spread of {spread:g}",
        metric="score",
        difference=margin,
        power=POWER,
        level=level,
        paired_seeds=False,
        seeds=None,
        images=None,
        sd_low=None,
        sd_high=None,
        pairs=(pair,),
    )


def _make_pair(
    names: tuple[str, str],
    gap: Interval,
    now: tuple[float, float],
    margin: float,
    level: float,
    *,
    paired: bool,
    widening: float = 1.0,
) -> PairPlan:
    """Return the plan for two methods, from a difference that the numbers of seeds and images in `now` gave.

    `widening` is the factor of the images' part of its variance, which is no spread of images.
    """
    units = now[1]
    images = int(units) if math.isfinite(units) else None

    def get_power(seeds: float, at: float) -> float:
        return compute_power(gap, now, (seeds, at), margin, level, paired=paired)

    return PairPlan(
        first=names[0],
        second=names[1],
        difference=gap.estimate,
        sd_seed=gap.se_seed * math.sqrt(now[0]),
        sd_image=None if images is None else gap.se_image * math.sqrt(units / widening),
        detectable=find_detectable(gap, now, level, paired=paired),
        rows=tuple(
            PlanRow(
                images=None if images is None else images * times,
                seeds=next((n for n in range(SHOWING, MOST_SEEDS + 1) if get_power(n, units * times) >= POWER), None),
            )
            for times in (TIMES if images is not None else (1,))
        ),
        widths=tuple(
            WidthRow(
                seeds=count,
                width=_compute_width(gap, now, (count, units), level, paired=paired)[0],
                power=get_power(count, units),
            )
            for count in SEEDS
        ),
    )


def _compute_spread_ratio(freedom: int, share: float) -> float:
    """Return how many times the estimated standard deviation the true one is, at a quantile of χ²."""
    return math.sqrt(freedom / float(stats.chi2.ppf(share, freedom)))


def compute_power(
    gap: Interval,
    now: tuple[float, float],
    then: tuple[float, float],
    difference: float,
    level: float,
    *,
    paired: bool,
) -> float:
    """Return the chance that the interval of a true difference is above 0.

    Args:
        gap: a difference with its variances.
        now: seeds and images that it is from; infinite images = they are not distinguished.
        then: seeds and images of the experiment that is planned.
        difference: the true one, above 0.
        level: of the interval, two-sided.
        paired: whether trainings of one seed are compared.
    """
    half, error, freedom = _compute_width(gap, now, then, level, paired=paired)
    if error == 0:
        return 1.0
    return float(stats.nct.sf(half / error, freedom, difference / error))


def _compute_width(
    gap: Interval, now: tuple[float, float], then: tuple[float, float], level: float, *, paired: bool
) -> tuple[float, float, float]:
    """Return half the interval's width, the standard error, and Satterthwaite's degrees of freedom."""
    ratios = [b / a if math.isfinite(a) else 1.0 for a, b in zip(now, then, strict=True)]
    v_seed, v_image = scale_variances(gap, seeds=ratios[0], images=ratios[1])
    half = compute_half_width(v_seed, then[0], v_image, then[1], level, borrowed=gap.borrowed)
    freedom_of_seeds = (then[0] - 1) * (
        1 if paired else 2
    )  # unpaired, each method's trainings are a variance of their own
    parts = [(v_seed, freedom_of_seeds + gap.borrowed), (v_image, then[1] - 1)]
    spread = sum(v * v / freedom for v, freedom in parts if math.isfinite(freedom) and freedom > 0)
    total = v_seed + v_image
    return half, math.sqrt(total), total * total / spread if spread > 0 else math.inf


def find_detectable(gap: Interval, now: tuple[float, float], level: float, *, paired: bool) -> float:
    """Return the smallest true difference that is seen with 80 %, by bisection, to 1 %."""
    low, high = 0.0, max(gap.high - gap.estimate, 1e-12)

    def is_seen(difference: float) -> bool:
        return compute_power(gap, now, now, difference, level, paired=paired) >= POWER

    while not is_seen(high):
        high *= 2
    return _bisect(is_seen, low, high)


def _bisect(is_enough: Callable[[float], bool], low: float, high: float) -> float:
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def format_plan(document: PlanDocument) -> str:
    """Return the plan as text."""
    how = "paired by seed" if document.paired_seeds else "unpaired"
    lines = [
        f"To see a true difference of {document.difference:g} {document.metric} in {document.power:.0%} of experiments "
        f"(its {100 * document.level:g} % interval above 0), trainings {how}:"
    ]
    for pair in document.pairs:
        image = "" if pair.sd_image is None else f", from image to image by {pair.sd_image:.3g}"
        lines += [
            "",
            f"{pair.first} − {pair.second}: spreads from training to training by {pair.sd_seed:.3g}{image}",
            *(f"  {_format_images(row.images)}{_format_seeds(row.seeds)}" for row in pair.rows),
            "  width: "
            + ", ".join(f"± {row.width:.3g} with {row.seeds} seeds ({row.power:.0%})" for row in pair.widths),
            f"  {format_count(document.seeds or SHOWING, 'seed')}{' as here' if document.seeds else ''}: differences "
            f"from {pair.detectable:.2g} on are seen",
        ]
    if document.seeds is None:
        low, high = (_compute_spread_ratio(SHOWING - 1, share) for share in (0.975, 0.025))
        lines += [
            "",
            "The spread is taken as given. Your data have one of their own: a pilot of three trainings knows it within "
            f"{low:.2g} to {high:.2g} times (95 %).",
        ]
        return "\n".join(lines)
    lines += [
        "",
        f"The spread of {format_count(document.seeds, 'training')} is itself uncertain: the true one may be "
        f"{document.sd_low:.2g} to {document.sd_high:.2g} times as large (95 %), the seeds about the square of that.",
    ]
    return "\n".join(lines)


def _format_images(images: int | None) -> str:
    return "" if images is None else f"{images:,} images: "


def _format_seeds(seeds: int | None) -> str:
    return f"no number of seeds up to {MOST_SEEDS}" if seeds is None else format_count(seeds, "seed")
