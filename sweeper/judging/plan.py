"""`sweeper judge --plan`: how many trainings and images would show a difference, given the spreads of a pilot.

A difference is detected if its interval is above 0. The variances of the pilot's differences are taken at face value
and scaled to other numbers of seeds and images (`sweeper.evidence.what_would_settle`). The power is that of a
noncentral t with Satterthwaite's degrees of freedom against the critical value that the judgement uses (Cochran and
Cox's).
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

from scipy import special, stats

from sweeper.core.base import Record
from sweeper.core.document import Document
from sweeper.core.errors import UsageError
from sweeper.core.records import Interval
from sweeper.core.text import join_words
from sweeper.evidence.interim_analyses import DECIDING_SEEDS, count_common_seeds
from sweeper.evidence.intervals import compute_half_width, scale_variances
from sweeper.evidence.verdict_predicates import count_units, get_difference
from sweeper.judging.judgement import Judgement

POWER = 0.8
MOST_SEEDS = 200
"""More trainings of each method are not proposed."""
TIMES = (1, 2, 4)
"""Multiples of the pilot's number of images that are planned for."""
SEEDS = (3, 5, 8, 13, 21)
"""Numbers of seeds whose interval width is reported."""


class PlanRow(Record):
    """Seeds that are needed with some number of images."""

    images: int | None
    """Images, or groups of them; null = images are not distinguished."""
    seeds: int | None
    """Trainings of each method; null = more than 200 would be needed."""


class WidthRow(Record):
    """Precision of some number of seeds, with the pilot's images."""

    seeds: int
    width: float
    """Half the interval's width."""
    power: float
    """Probability of detecting the difference."""


class PairPlan(Record):
    """The plan for two methods."""

    first: str
    second: str
    difference: float
    """Difference in the pilot."""
    sd_seed: float
    """Standard deviation of the difference from one training of each to another."""
    sd_image: float | None
    """Standard deviation of the difference from one image to another; null = images are not distinguished."""
    detectable: float
    """True difference that is detected with 80 % probability with as many seeds and images as in the pilot."""
    rows: tuple[PlanRow, ...]
    widths: tuple[WidthRow, ...]


class PlanDocument(Document):
    """Document that `sweeper judge --plan` prints."""

    SCHEMA: ClassVar[str] = "sweeper.plan/1"

    source: str
    metric: str
    difference: float
    """True difference to detect: the margin."""
    power: float = POWER
    level: float
    paired_seeds: bool
    seeds: int | None = None
    """Trainings of each method in the pilot: the fewest; null = no pilot, its spread was given (`--spread`)."""
    images: int | None = None
    sd_low: float | None = None
    """Lower end of the ratio of the true spread of trainings to the pilot's (97.5 %); null = no pilot."""
    sd_high: float | None = None
    """Upper end of that ratio."""
    pairs: tuple[PairPlan, ...]


class Pilot(NamedTuple):
    """The difference of two methods, and the pilot experiment that measured it."""

    gap: Interval
    seeds: float
    units: float
    """Images, or groups of them; infinite = they are not distinguished."""
    level: float
    """Level of the two-sided intervals."""
    paired: bool
    """Whether trainings with the same seed are compared."""

    def compute_width(self, seeds: float, units: float) -> tuple[float, float, float]:
        """Return half the interval's width at these numbers, its standard error and degrees of freedom."""
        gap, images = self.gap, units / self.units if math.isfinite(self.units) else 1.0
        v_seed, v_image = scale_variances(gap, seeds=seeds / self.seeds, images=images)
        half = compute_half_width(v_seed, seeds, v_image, units, self.level, borrowed=gap.borrowed)
        of_seeds = (seeds - 1) * (1 if self.paired else 2)  # unpaired, each method has its own variance
        parts = [(v_seed, of_seeds + gap.borrowed), (v_image, units - 1)]
        spread = sum(v * v / freedom for v, freedom in parts if math.isfinite(freedom) and freedom > 0)
        total = v_seed + v_image
        return half, math.sqrt(total), total * total / spread if spread > 0 else math.inf

    def compute_power(self, seeds: float, units: float, difference: float) -> float:
        """Compute the probability that the interval of this true `difference` > 0 is above 0 at these numbers."""
        half, error, freedom = self.compute_width(seeds, units)
        return float(stats.nct.sf(half / error, freedom, difference / error)) if error else 1.0

    def find_detectable(self) -> float:
        """Find the smallest true difference that is detected with 80 %."""
        half, error, freedom = self.compute_width(self.seeds, self.units)
        return error * float(special.nctdtrinc(freedom, 1 - POWER, half / error)) if error else 0.0


def plan_experiment(judgement: Judgement) -> PlanDocument:
    """Plan how many seeds show a difference of the margin between each method and the present one, else the best.

    Raises:
        UsageError: if a method has fewer than three trainings, so that their spread is unknown.
    """
    contest, table = judgement.contest, judgement.table
    to = contest.baseline or 0
    others = [i for i in range(len(contest.finalists)) if i != to]
    pairs = {i: (contest.finalists[i].runs, contest.finalists[to].runs) for i in others}
    seeds = {i: min(count_common_seeds(contest, i, to), *map(len, pairs[i])) for i in others}
    if lacking := [contest.finalists[i].family for i in others if seeds[i] < DECIDING_SEEDS]:
        raise UsageError(
            f"--plan needs the spread of trainings, {DECIDING_SEEDS} of each method or more, got fewer of "
            f"{join_words(lacking[:5])} or of {contest.finalists[to].family}; train these few seeds first"
        )
    units = count_units(contest)
    pilots = {
        i: Pilot(get_difference(contest, i, to), seeds[i], units, judgement.level, contest.paired) for i in others
    }
    names = [each.family for each in contest.finalists]
    fewest = int(min(seeds.values()))
    return PlanDocument(
        source=table.source,
        metric=table.scale.score,
        difference=table.margin,
        level=judgement.level,
        paired_seeds=contest.paired,
        seeds=fewest,
        images=int(units) if math.isfinite(units) else None,
        sd_low=_compute_spread_ratio(fewest - 1, 0.975),
        sd_high=_compute_spread_ratio(fewest - 1, 0.025),
        pairs=tuple(
            _make_pair(names[i], names[to], pilot, table.margin, table.scores.widening) for i, pilot in pilots.items()
        ),
    )


def plan_spread(spread: float, margin: float, level: float) -> PlanDocument:
    """Plan how many seeds show a difference of the margin between two methods with a known spread.

    `spread` is the standard deviation of a method's score from one training to another, on the same images.

    Raises:
        UsageError: if spread or margin is not above 0.
    """
    for option, value in (("--spread", spread), ("--margin", margin)):
        if not 0 < value < math.inf:
            raise UsageError(f"{option} must be above 0, got {value:g}")
    error = spread * math.sqrt(2 / DECIDING_SEEDS)
    gap = Interval(estimate=0.0, low=-error, high=error, se_seed=error, se_image=0.0)
    pair = _make_pair("one method", "another", Pilot(gap, DECIDING_SEEDS, math.inf, level, paired=False), margin)
    return PlanDocument(
        source=f"a spread of {spread:g}",
        metric="score",
        difference=margin,
        level=level,
        paired_seeds=False,
        pairs=(pair,),
    )


def _make_pair(first: str, second: str, pilot: Pilot, margin: float, widening: float = 1.0) -> PairPlan:
    """Make the plan for two methods; `widening` is the factor of the image variance that is no spread of images."""
    units = pilot.units
    images = int(units) if math.isfinite(units) else None

    def find_seeds(at: float) -> int | None:
        return next(
            (n for n in range(DECIDING_SEEDS, MOST_SEEDS + 1) if pilot.compute_power(n, at, margin) >= POWER), None
        )

    return PairPlan(
        first=first,
        second=second,
        difference=pilot.gap.estimate,
        sd_seed=pilot.gap.se_seed * math.sqrt(pilot.seeds),
        sd_image=None if images is None else pilot.gap.se_image * math.sqrt(units / widening),
        detectable=pilot.find_detectable(),
        rows=tuple(
            PlanRow(images=None if images is None else images * times, seeds=find_seeds(units * times))
            for times in (TIMES if images is not None else (1,))
        ),
        widths=tuple(
            WidthRow(seeds=n, width=pilot.compute_width(n, units)[0], power=pilot.compute_power(n, units, margin))
            for n in SEEDS
        ),
    )


def _compute_spread_ratio(freedom: int, share: float) -> float:
    """Return the ratio of the true to the estimated standard deviation, at a quantile of χ²."""
    return math.sqrt(freedom / float(stats.chi2.ppf(share, freedom)))


def format_plan(document: PlanDocument) -> str:
    """Format the plan as text."""
    how, seeds = "paired by seed" if document.paired_seeds else "unpaired", document.seeds or DECIDING_SEEDS
    lines = [
        f"To see a true difference of {document.difference:g} {document.metric} in {document.power:.0%} of experiments "
        f"(its {100 * document.level:g} % interval above 0), trainings {how}:"
    ]
    for pair in document.pairs:
        image = "" if pair.sd_image is None else f", from image to image by {pair.sd_image:.3g}"
        widths = [f"± {row.width:.3g} with {row.seeds} seeds ({row.power:.0%})" for row in pair.widths]
        lines += ["", f"{pair.first} − {pair.second}: spreads from training to training by {pair.sd_seed:.3g}{image}"]
        for row in pair.rows:
            images = "" if row.images is None else f"{row.images:,} images: "
            lines.append(f"  {images}{f'{row.seeds} seeds' if row.seeds else f'no number of seeds up to {MOST_SEEDS}'}")
        lines.append(f"  width: {', '.join(widths)}")
        lines.append(f"  {seeds} seeds: differences from {pair.detectable:.2g} on are seen")
    low, high = (_compute_spread_ratio(seeds - 1, share) for share in (0.975, 0.025))
    uncertain = (
        f"A spread of {seeds} trainings is itself uncertain: the true one may be {low:.2g} to {high:.2g} times as"
    )
    return "\n".join([*lines, "", f"{uncertain} large (95 %), and needs about the square of that in seeds."])
