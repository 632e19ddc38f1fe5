"""Decision after each interim analysis of the confirmation: end it, or continue with which finalists, and why.

The user asks which loss to train with and what that choice can cost. So the confirmation ends

- when a clear winner or equivalence is established, or a gain over cross-entropy (`sweeper.evidence.action`) of a loss
  that is expected to cost at most the margin against the best finalist;
- while cross-entropy is kept: when keeping it is a safe choice or *probable*, and a change is not likely to be
  established (`LIKELY`); or when a gain is unlikely to be established (`UNLIKELY`) and no planned number of seeds would
  make keeping probable;
- when the recommended finalist is a safe choice or *probable*, unless the planned seeds are likely to establish a clear
  winner (`LIKELY`);
- when the test images come from too few groups to call anything probable (`FEW_GROUPS`), three seeds have given
  intervals, and no clear winner is likely: more seeds do not show how other groups would differ;
- after the last planned interim analysis.

Otherwise seeds go to the best finalist, the recommended one, and the unbeaten ones whose probability of being the best
is at least `CONTENDER`; to all unbeaten ones where a clear winner is likely, as it has to beat each of them. The
baseline gets seeds while it is unbeaten. While cross-entropy is kept, seeds go to finalists that may be the best and
may still gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from sweeper.core.records import Evidence, InterimAnalysis, Interval, Verdict
from sweeper.core.text import format_count
from sweeper.evidence.interim_analyses import DECIDING_SEEDS, count_common_seeds
from sweeper.evidence.intervals import Floats
from sweeper.evidence.reasons import format_cost_bound, join_families
from sweeper.evidence.verdict import Decision
from sweeper.evidence.verdict_predicates import count_units, format_units, get_difference, is_costly, is_measured

LIKELY = 1 / 2
"""Probability of a clear winner from which more seeds are trained although the recommended loss already suffices."""
UNLIKELY = 0.1
"""While cross-entropy is kept, finalists whose chance of an established gain is lower get no more seeds."""
CONTENDER = 0.05
"""Finalists whose probability of being the best is lower get no more seeds while others are trained."""
SIMULATIONS = 2000
"""Number of simulations: a chance of 10 % is then known to within 1.3 percentage points (95 %)."""
DIFFERENCE_CORRELATION = 0.5
"""Correlation of the differences between one finalist and two others."""


@dataclass(frozen=True)
class StoppingDecision:
    """Decision whether the confirmation continues after an interim analysis."""

    finalists: tuple[int, ...]
    """Indices into `Evidence.finalists` of those that train up to the next planned number of seeds; () ends it."""
    reason: str
    """Reason, in one sentence with its numbers."""

    @property
    def continues(self) -> bool:
        """Whether the confirmation continues."""
        return bool(self.finalists)


def decide_next_step(evidence: Evidence, decision: Decision) -> StoppingDecision:
    """Return whether the confirmation ends or continues; `decision` must be made on the same `evidence`."""
    if why := _explain_end(evidence, decision):
        return _end(evidence, why)
    assert decision.best is not None and decision.recommended is not None  # else `_explain_end` gave a reason
    to_come = evidence.analyses[evidence.analysis_index + 1 :]
    enough = decision.verdict is Verdict.SAFE_CHOICE or decision.strength == "probable"
    named = evidence.finalists[decision.recommended].family
    if decision.action == "keep":
        return _decide_while_kept(evidence, decision, to_come, enough=enough)
    unbeaten, win = decision.unbeaten, 0.0
    if unbeaten and all(is_measured(evidence, decision.best, i) for i in unbeaten):
        win = _compute_chance_of_beating(evidence, decision.best, unbeaten, to_come)
    chance = f"the chance that up to {to_come[-1].seeds} seeds show a clear winner is {_format_share(win)}"
    if enough and win < LIKELY:
        is_safe = decision.verdict is Verdict.SAFE_CHOICE
        sure = "is a safe choice" if is_safe else format_cost_bound(evidence, decision.recommended)
        return _end(evidence, f"{named} {sure}, and {chance}")
    if evidence.few_groups and win < LIKELY and _count_seeds(evidence) >= DECIDING_SEEDS:
        few = (
            f"all test images come from {format_count(evidence.few_groups, 'group')}, too few to show what {named} can"
        )
        return _end(evidence, f"{few} cost however many seeds are trained, and {chance}")
    on = _list_contenders(evidence, decision, everyone=win >= LIKELY)
    why = f"a clear winner is likely ({_format_share(win)})" if win >= LIKELY else f"what {named} can cost is open"
    return _continue(evidence, on, why, f" {'continue' if len(on) > 1 else 'continues'} to {to_come[0].seeds} seeds")


def _end(evidence: Evidence, why: str) -> StoppingDecision:
    return StoppingDecision((), f"The confirmation ended {_format_stage(evidence)}: {why}.")


def _continue(evidence: Evidence, finalists: tuple[int, ...], why: str, until: str) -> StoppingDecision:
    names = join_families(evidence, finalists)
    reason = f"The confirmation continues {_format_stage(evidence)}, as {why}: {names}{until}."
    return StoppingDecision(finalists, reason)


def _format_stage(evidence: Evidence) -> str:
    return f"after {format_count(_count_seeds(evidence), 'seed')}"


def _decide_while_kept(
    evidence: Evidence, decision: Decision, to_come: Sequence[InterimAnalysis], *, enough: bool
) -> StoppingDecision:
    """Return the next step while cross-entropy is kept: more seeds for losses whose gain may still be established."""
    base, seeds = evidence.baseline, _count_seeds(evidence)
    assert base is not None and decision.best is not None
    chances = {
        i: _compute_chance_of_beating(evidence, i, [base], to_come) if is_measured(evidence, i, base) else 1.0
        for i in (decision.best, *decision.unbeaten)
        if i != base
    }
    most = max(chances.values(), default=0.0)
    few = (evidence.few_groups or 0) if most < LIKELY else 0
    regret = evidence.finalists[base].regret
    far = regret is None or regret.bound * (seeds / to_come[-1].seeds) ** 0.5 > evidence.margin
    futile = seeds >= DECIDING_SEEDS and (few > 0 or (far and most < UNLIKELY))
    if (enough and most < LIKELY) or futile:
        sure = (
            f"keeping cross-entropy {format_cost_bound(evidence, base)}, and " if enough and regret is not None else ""
        )
        if few:
            sure = f"all test images come from {format_count(few, 'group')}, too few to show more, and "
        chance = f"the chance that up to {to_come[-1].seeds} seeds establish a gain is {_format_share(most)}"
        return _end(evidence, sure + chance)
    leading = max(chances, key=lambda i: get_difference(evidence, i, base).estimate, default=base)
    gaining = (i for i, chance in chances.items() if chance >= UNLIKELY and _may_be_best(evidence, i))
    on = tuple(sorted({base, leading, *gaining}))
    likely = f"a gain may still be established ({_format_share(most)})"
    why = likely if most >= UNLIKELY else "what keeping cross-entropy can cost is open"
    return _continue(evidence, on, why, f", up to {to_come[0].seeds} seeds")


def _list_contenders(evidence: Evidence, decision: Decision, *, everyone: bool) -> tuple[int, ...]:
    assert decision.best is not None and decision.recommended is not None
    contenders = (i for i in decision.unbeaten if everyone or i == evidence.baseline or _may_be_best(evidence, i))
    return tuple(sorted({decision.best, decision.recommended, *contenders}))


def _may_be_best(evidence: Evidence, i: int) -> bool:
    regret = evidence.finalists[i].regret
    return regret is None or regret.best >= CONTENDER


def _explain_end(evidence: Evidence, decision: Decision) -> str | None:
    """Explain why more seeds are useless or not available; None if they may help."""
    if decision.best is None:
        return "nothing was learned that more seeds could compare"
    if len(evidence.finalists) < 2:
        alone = "there is only one finalist, so there is nothing to compare"
        return "all that was tried is one function" if evidence.finalists[0].other_names else alone
    shown = {Verdict.CLEAR_WINNER: "a clear winner is established", Verdict.EQUIVALENT: "equivalence is established"}
    recommended = decision.recommended or 0
    if decision.verdict in shown or (decision.action == "change" and not is_costly(evidence, recommended)):
        change = f"a change to {evidence.finalists[recommended].family} has an established gain"
        return shown.get(decision.verdict, change)
    if count_units(evidence) < 2:
        return f"with {format_units(evidence)}, no number of seeds can settle it"
    if evidence.analysis_index >= len(evidence.analyses) - 1:
        still = ", and the verdict is still open" if decision.strength == "open" else ""
        return f"these were all that were planned{still}"
    return None


def _compute_chance_of_beating(
    evidence: Evidence, one: int, rivals: Sequence[int], to_come: Sequence[InterimAnalysis]
) -> float:
    gaps = [(get_difference(evidence, one, i), count_common_seeds(evidence, one, i)) for i in rivals]
    return compute_chance_of_winner(gaps, count_units(evidence), evidence.margin, to_come)


def _count_seeds(evidence: Evidence) -> int:
    return max((len(f.seeds) for f in evidence.finalists), default=0)


def _format_share(chance: float) -> str:
    return "less than 1 %" if chance < 0.01 else "more than 99 %" if chance > 0.99 else f"{100 * chance:.0f} %"


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
    borrowed = np.array([gap.borrowed for gap, _ in gaps])  # degrees of freedom that the moderated variance adds
    squares = np.array([gap.se_seed for gap, _ in gaps]) ** 2 * so_far * (so_far - 1 + borrowed)
    squares = np.broadcast_to(squares, shape)
    floor = np.array([gap.se_both for gap, _ in gaps]) ** 2 * so_far
    v_image = np.array([gap.se_image for gap, _ in gaps]) ** 2
    truth_variance = np.maximum(squares / squared(so_far - 1 + borrowed), floor)  # of a single seed's difference
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
        freedom = so_far - 1 + borrowed
        half = _compute_half_widths(squares / (freedom * so_far), freedom, v_image, images, 1 - analysis.error)
        won |= (mean >= max(margin, 1e-12)) & (mean > half)
    return float(won.all(axis=1).mean())


def _compute_half_widths(v_seed: Floats, freedom: Floats, v_image: Floats, images: float, level: float) -> Floats:
    """Compute `intervals.compute_half_width` for many variances at once, (plays, comparisons)."""
    t_seed, t_image = stdtrit(freedom, (1 + level) / 2), stdtrit(images - 1, (1 + level) / 2)
    total = np.maximum(v_seed + v_image, 1e-300)
    half: Floats = (t_seed * v_seed + t_image * v_image) / np.sqrt(total)
    return half
