"""Decision after each interim analysis of the confirmation: end it, or continue with which finalists, and why.

The user asks which loss to train with and what that choice can cost. So the confirmation ends

- when the answer is settled: a clear winner, equivalence, or a change (`sweeper.evidence.choice`) to a loss that is
  expected to cost at most the margin against the best finalist;
- while the present loss is kept: when that is established or probable, and a change is not likely to be established
  (`LIKELY`); or when a gain is unlikely to be established (`UNLIKELY`) and no planned number of seeds would make
  keeping probable;
- when the used finalist is established or probable, unless the planned seeds are likely to establish a clear winner
  (`LIKELY`);
- when the test images come from too few groups to call anything probable, and no clear winner is likely: more seeds do
  not show how other groups would differ;
- after the last planned interim analysis.

Otherwise seeds go to the best finalist, the used one, and the unbeaten ones whose probability of being the best is at
least `CONTENDER`; to all unbeaten ones where a clear winner is likely, as it has to beat each of them. The present loss
gets seeds while it is unbeaten. While it is kept, seeds go to finalists that may be the best and may still gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from sweeper.core.records import Evidence, InterimAnalysis, Interval, Outcome, Sure
from sweeper.evidence.choice import Choice
from sweeper.evidence.interim_analyses import count_common_seeds
from sweeper.evidence.intervals import Floats
from sweeper.evidence.verdict_predicates import count_image_degrees, count_units, get_difference, is_costly, is_measured

LIKELY = 1 / 2
"""Probability of a clear winner from which more seeds are trained although the used loss already suffices."""
UNLIKELY = 0.1
"""While the present loss is kept, finalists whose chance of an established gain is lower get no more seeds."""
CONTENDER = 0.05
"""Finalists whose probability of being the best is lower get no more seeds while others are trained."""
SIMULATIONS = 2000
"""Number of simulations: a chance of 10 % is then known to within 1.3 percentage points (95 %)."""
DIFFERENCE_CORRELATION = 0.5
"""Correlation of the differences between one finalist and two others."""


class StoppingDecision(NamedTuple):
    """Decision whether the confirmation continues after an interim analysis."""

    code: str
    """Reason, of `sweeper.evidence.phrases.STOPS`."""
    finalists: tuple[int, ...] = ()
    """Indices into `Evidence.finalists` of those that train up to the next planned number of seeds; () ends it."""
    chance: float = 0.0
    """Chance, 0–1, that the planned seeds show a clear winner, or while the present loss is kept a gain over it."""


def decide_next_step(evidence: Evidence, choice: Choice) -> StoppingDecision:
    """Return whether the confirmation ends or continues; `choice` must be made on the same `evidence`."""
    to_come = evidence.analyses[evidence.analysis_index + 1 :]
    if code := _find_end(evidence, choice, to_come):
        return StoppingDecision(code)
    if choice.outcome is Outcome.KEEP:
        return _decide_while_kept(evidence, choice, to_come)
    assert choice.best is not None and choice.use is not None  # else `_find_end` found one
    chance = _compute_chance_of_beating(evidence, choice.best, choice.unbeaten, to_come)
    if chance >= LIKELY:
        on = {choice.best, choice.use, *choice.unbeaten}
        return StoppingDecision("WINNER_LIKELY", tuple(sorted(on)), chance)
    if _is_enough(choice):
        return StoppingDecision("ENOUGH", chance=chance)
    if evidence.few_groups:
        return StoppingDecision("FEW_GROUPS", chance=chance)
    contenders = {i for i in choice.unbeaten if _may_be_best(evidence, i)}
    if evidence.baseline in choice.unbeaten:
        contenders.add(evidence.baseline)
    return StoppingDecision("COST_OPEN", tuple(sorted({choice.best, choice.use, *contenders})), chance)


def _find_end(evidence: Evidence, choice: Choice, to_come: Sequence[InterimAnalysis]) -> str:
    """Return why more seeds are useless or not available; "" if they may help."""
    is_change = choice.outcome is Outcome.CHANGE and not is_costly(evidence, choice.use or 0)
    ends = {
        "NOTHING_LEARNED": choice.use is None,
        "ONE_FINALIST": len(evidence.finalists) < 2,
        "SETTLED": choice.is_settled or is_change,
        "ONE_IMAGE": count_units(evidence) < 2,
        "ALL_PLANNED": not to_come,
    }
    return next((code for code, holds in ends.items() if holds), "")


def _is_enough(choice: Choice) -> bool:
    """Return whether the used loss costs at most the margin, as established or probable."""
    return choice.sure is not Sure.OPEN and choice.outcome is not Outcome.CHANGE


def _decide_while_kept(evidence: Evidence, choice: Choice, to_come: Sequence[InterimAnalysis]) -> StoppingDecision:
    """Return the next step while the present loss is kept: more seeds for losses whose gain may be established."""
    base, seeds = choice.use, max(len(f.seeds) for f in evidence.finalists)
    assert base is not None and choice.best is not None
    rivals = [i for i in (choice.best, *choice.unbeaten) if i != base]
    chances = {
        i: _compute_chance_of_beating(evidence, i, [base], to_come) if is_measured(evidence, i, base) else 1.0
        for i in rivals
    }
    chance = max(chances.values(), default=0.0)
    is_few = evidence.few_groups is not None and chance < LIKELY
    regret = evidence.finalists[base].regret
    is_far = regret is None or regret.bound * (seeds / to_come[-1].seeds) ** 0.5 > evidence.margin
    if _is_enough(choice) and chance < LIKELY:
        return StoppingDecision("ENOUGH", chance=chance)
    is_futile = is_far and chance < UNLIKELY
    if is_few or is_futile:
        return StoppingDecision("FEW_GROUPS" if is_few else "FUTILE", chance=chance)
    leading = max(chances, key=lambda i: get_difference(evidence, i, base).estimate, default=base)
    likely = [i for i, c in chances.items() if c >= UNLIKELY]
    gaining = [i for i in likely if _may_be_best(evidence, i)]
    on = tuple(sorted({base, leading, *gaining}))
    return StoppingDecision("GAIN_POSSIBLE" if chance >= UNLIKELY else "COST_OPEN", on, chance)


def _may_be_best(evidence: Evidence, i: int) -> bool:
    regret = evidence.finalists[i].regret
    return regret is None or regret.best >= CONTENDER


def _compute_chance_of_beating(
    evidence: Evidence, one: int, rivals: Sequence[int], to_come: Sequence[InterimAnalysis]
) -> float:
    """Compute the chance that a finalist will have beaten all of these; 0 where one of them is not measured."""
    if not rivals or not all(is_measured(evidence, one, i) for i in rivals):
        return 0.0
    gaps = [(get_difference(evidence, one, i), count_common_seeds(evidence, one, i)) for i in rivals]
    return compute_chance_of_winner(gaps, count_image_degrees(evidence) + 1, evidence.margin, to_come)


# --- The chance of a clear winner ---------------------------------------------------------------------------------


def compute_chance_of_winner(
    gaps: Sequence[tuple[Interval, float]], images: float, margin: float, analyses: Sequence[InterimAnalysis]
) -> float:
    """Compute the chance, 0–1, that a finalist has beaten all of its rivals by the last planned interim analysis.

    This is the predictive power (Spiegelhalter, Freedman & Blackburn 1986). More seeds shrink only the seed part of a
    difference's variance, as the test images stay the same. Given the estimate D from S seeds, the standard deviation s
    of a seed's difference, and the image part of the variance, the rest of the confirmation is simulated many times: σ²
    = s² ν / χ² with ν degrees of freedom (at least the interaction, which is known far better); the true difference on
    these images is drawn from N(D, σ²/S), the future seeds around it. Each planned analysis forms its interval as
    `sweeper.evidence.intervals` does. The comparisons share the noise of the finalist itself: two differences between
    independent scores of equal variance have a correlation of ½, as the draws do. The result decides only how many
    trainings are done, never the verdict; it is reproducible, as the random seed is fixed.

    Args:
        gaps: K ≥ 1 measured leads over the rivals, each with its S ≥ 2 common seeds, on `images` ≥ 2 images or groups.
        images: images or groups of images.
        margin: region of practical equivalence, in mIoU.
        analyses: the interim analyses still planned, by ascending seeds.
    """
    rng, shape = np.random.default_rng(0), (SIMULATIONS, len(gaps))

    def normal() -> Floats:
        independent, common = rng.standard_normal(shape), rng.standard_normal((SIMULATIONS, 1))
        drawn: Floats = np.sqrt(1 - DIFFERENCE_CORRELATION) * independent + np.sqrt(DIFFERENCE_CORRELATION) * common
        return drawn

    def squared(freedom: Floats) -> Floats:
        """Draw χ² values; 0 where there is no degree of freedom."""
        return np.where(freedom > 0, rng.chisquare(np.maximum(freedom, 1), shape), 0.0)

    estimate = np.array([gap.estimate for gap, _ in gaps])
    so_far = np.array([seeds for _, seeds in gaps], dtype=np.float64)
    squares = np.array([gap.se_seed for gap, _ in gaps]) ** 2 * so_far * (so_far - 1)
    squares = np.broadcast_to(squares, shape)
    floor = np.array([gap.se_both for gap, _ in gaps]) ** 2 * so_far
    v_image = np.array([gap.se_image for gap, _ in gaps]) ** 2
    truth_variance = np.maximum(squares / squared(so_far - 1), floor)  # of a single seed's difference
    truth = estimate + np.sqrt(truth_variance / so_far) * normal()
    mean = np.broadcast_to(estimate, shape)
    won = np.zeros(shape, dtype=np.bool_)  # a beaten rival stays beaten
    for analysis in analyses:
        more = analysis.seeds - so_far
        if (more <= 0).all():
            continue
        more = np.maximum(more, 0)
        total = so_far + more
        new_mean = truth + np.sqrt(truth_variance / np.maximum(more, 1)) * normal()
        within = squared(more - 1)
        squares = squares + truth_variance * within + (new_mean - mean) ** 2 * so_far * more / total
        mean = mean + (new_mean - mean) * more / total
        so_far = total
        freedom = so_far - 1
        half = _compute_half_widths(squares / (freedom * so_far), freedom, v_image, images, 1 - analysis.error)
        won |= (mean >= max(margin, 1e-12)) & (mean > half)
    return float(won.all(axis=1).mean())


def _compute_half_widths(v_seed: Floats, freedom: Floats, v_image: Floats, images: float, level: float) -> Floats:
    """Compute `intervals.compute_half_width` for many variances at once, (plays, comparisons)."""
    t_seed, t_image = stdtrit(freedom, (1 + level) / 2), stdtrit(images - 1, (1 + level) / 2)
    total = np.maximum(v_seed + v_image, 1e-300)
    half: Floats = (t_seed * v_seed + t_image * v_image) / np.sqrt(total)
    return half
