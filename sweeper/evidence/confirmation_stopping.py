"""Decision after each interim analysis of the confirmation: continue, with which finalists, or end, and why.

A user asks what to train with and what it can cost. So the confirmation ends

- when a clear winner or equivalence is shown, or that a change from cross-entropy gains (`sweeper.evidence.action`);
- while cross-entropy is kept: when that is a safe choice or *probable* and a change is not likely to be shown
  (`LIKELY`), or when it is hardly to be shown (`UNLIKELY`) and no planned number of seeds would make keeping probable;
- when the named finalist is a safe choice or *probable*, unless the seeds still planned are likely to show a clear
  winner (`LIKELY`);
- where the test images come in too few groups for anything to be called probable (`FEW_GROUPS`), once three seeds give
  intervals and no clear winner is likely: more seeds do not show how other groups would differ;
- after the last planned interim analysis.

Whoever needs a loss, and not a proof, asks for an end at *probable* (`--until probable`): then a clear winner that is
likely is not waited for.

It continues with those that may be the best: of the unbeaten those that are with a probability of at least `CONTENDER`,
and always the best and the named one; with all the unbeaten where a clear winner is likely, as that asks for all of
them. The baseline continues while it is unbeaten. While cross-entropy is kept, seeds are for those that may be the best
and may yet gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from sweeper.core.records import Evidence, InterimAnalysis, Interval, Until, Verdict
from sweeper.core.text import format_count
from sweeper.evidence.decision_rule import count_units, get_difference, is_measured
from sweeper.evidence.interim_analyses import SHOWING, count_common_seeds
from sweeper.evidence.intervals import Floats
from sweeper.evidence.reasons import format_cost_bound, join_families
from sweeper.evidence.verdict import Decision

LIKELY = 1 / 2
"""Smallest probability of a clear winner for which more seeds are trained if the recommended loss already suffices."""
UNLIKELY = 0.1
"""While cross-entropy is kept, finalists that are shown to gain over it with a lower probability get no more seeds."""
CONTENDER = 0.05
"""Finalists that are the best with a lower probability get no more seeds while others are trained."""
PLAYS = 2000
"""A chance of 10 % is then known to within 1.3 percentage points (95 %)."""
SHARED = 0.5
"""Correlation of the differences between one finalist and two others."""


@dataclass(frozen=True)
class StoppingDecision:
    """Decision whether the confirmation continues after an interim analysis."""

    finalists: tuple[int, ...]
    """Indices into `Evidence.finalists` of those that get more seeds, up to the next planned number; () = it ends."""
    reason: str
    """Reason, in one sentence with its numbers."""

    @property
    def go_on(self) -> bool:
        """Whether the confirmation continues."""
        return bool(self.finalists)


def decide_next_step(evidence: Evidence, decision: Decision, until: Until = "settled") -> StoppingDecision:
    """Return what follows from an interim analysis; the decision is that on this very evidence."""
    if why := _explain_end(evidence, decision):
        return _end(evidence, why)
    assert decision.best is not None and decision.recommended is not None  # else it is over
    to_come = evidence.analyses[evidence.analysis_index + 1 :]
    enough = decision.verdict is Verdict.SAFE_CHOICE or decision.strength == "probable"
    named = evidence.finalists[decision.recommended].family
    if decision.action == "keep":
        return _decide_while_kept(evidence, decision, to_come, enough=enough, until=until)
    unbeaten, win = decision.unbeaten, 0.0
    if unbeaten and all(is_measured(evidence, decision.best, i) for i in unbeaten):
        win = _compute_chance_of_beating(evidence, decision.best, unbeaten, to_come)
    chance = f"the chance that up to {to_come[-1].seeds} seeds show a clear winner is {_format_share(win)}"
    if enough and (until == "probable" or win < LIKELY):
        is_safe = decision.verdict is Verdict.SAFE_CHOICE
        sure = "is a safe choice" if is_safe else format_cost_bound(evidence, decision.recommended)
        return _end(evidence, f"{named} {sure}, and {chance}")
    if evidence.few_groups and win < LIKELY and _count_seeds(evidence) >= SHOWING:
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
    evidence: Evidence, decision: Decision, to_come: Sequence[InterimAnalysis], *, enough: bool, until: Until
) -> StoppingDecision:
    """Return what follows while cross-entropy is kept: seeds for those that may still be shown to gain over it."""
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
    far = regret is None or regret.bound * (seeds / to_come[-1].seeds) ** 0.5 > evidence.rope
    futile = seeds >= SHOWING and (few > 0 or (far and most < UNLIKELY))
    if (enough and (until == "probable" or most < LIKELY)) or futile:
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
    """Return why more seeds are of no use, or not available; None if they may help."""
    if decision.best is None:
        return "nothing was learned that more seeds could compare"
    if len(evidence.finalists) < 2:
        alone = "there is only one finalist, so there is nothing to compare"
        return "all that was tried is one function" if evidence.finalists[0].other_names else alone
    shown = {Verdict.CLEAR_WINNER: "a clear winner is established", Verdict.EQUIVALENT: "equivalence is established"}
    if decision.verdict in shown or decision.action == "change":
        change = f"a change to {evidence.finalists[decision.recommended or 0].family} has an established gain"
        return shown.get(decision.verdict, change)
    if count_units(evidence) < 2:
        return f"with {count_units(evidence)} test image, no number of seeds can settle it"
    if evidence.analysis_index >= len(evidence.analyses) - 1:
        still = ", and the verdict is still open" if decision.verdict is Verdict.UNDECIDED else ""
        return f"these were all that were planned{still}"
    return None


def _compute_chance_of_beating(
    evidence: Evidence, one: int, rivals: Sequence[int], to_come: Sequence[InterimAnalysis]
) -> float:
    gaps = [(get_difference(evidence, one, i), count_common_seeds(evidence, one, i)) for i in rivals]
    return compute_chance_of_winner(gaps, count_units(evidence), evidence.rope, to_come)


def _count_seeds(evidence: Evidence) -> int:
    return max((len(f.seeds) for f in evidence.finalists), default=0)


def _format_share(chance: float) -> str:
    return "less than 1 %" if chance < 0.01 else "more than 99 %" if chance > 0.99 else f"{100 * chance:.0f} %"


# --- The chance of a clear winner ---------------------------------------------------------------------------------


def compute_chance_of_winner(
    gaps: Sequence[tuple[Interval, float]], images: float, rope: float, analyses: Sequence[InterimAnalysis]
) -> float:
    """Chance, 0–1, that one finalist beats all others by the end: those that it leads by these differences.

    The predictive power (Spiegelhalter, Freedman & Blackburn 1986). More seeds shrink the seed part of a difference's
    variance and nothing else: the test images stay those that there are. Given the estimate D from S seeds, the
    standard deviation s of a seed's difference and the image part of the variance, the confirmation is played to its
    end many times: σ² = s² ν / χ² with ν degrees of freedom (not below the interaction, which is known far better),
    the true difference on these images from N(D, σ²/S), the seeds to come from there on. At every planned analysis the
    interval is formed as `sweeper.evidence.intervals` would. The comparisons share the best's noise: two differences
    between independent scores of one variance correlate at ½, and so are the plays drawn. What follows from it is the
    number of trainings alone, never a word of the verdict.

    Args:
        gaps: K ≥ 1 measured differences, each with its S ≥ 2 common seeds, on `images` ≥ 2 images or groups.
        images: images or groups of images.
        rope: region of practical equivalence, in mIoU.
        analyses: those that are still planned, by ascending seeds.

    The same arguments give the same numbers: the plays are drawn from a fixed seed.
    """
    rng, shape = np.random.default_rng(0), (PLAYS, len(gaps))

    def normal() -> Floats:
        independent, common = rng.standard_normal(shape), rng.standard_normal((PLAYS, 1))
        drawn: Floats = np.sqrt(1 - SHARED) * independent + np.sqrt(SHARED) * common
        return drawn

    def squared(freedom: Floats) -> Floats:
        """χ² draws; 0 where there is no degree of freedom."""
        return np.where(freedom > 0, rng.chisquare(np.maximum(freedom, 1), shape), 0.0)

    estimate = np.array([gap.estimate for gap, _ in gaps])
    so_far = np.array([seeds for _, seeds in gaps], dtype=np.float64)
    borrowed = np.array([gap.borrowed for gap, _ in gaps])  # the variance is moderated: so many degrees of freedom more
    squares = np.array([gap.se_seed for gap, _ in gaps]) ** 2 * so_far * (so_far - 1 + borrowed)
    squares = np.broadcast_to(squares, shape)
    floor = np.array([gap.se_both for gap, _ in gaps]) ** 2 * so_far
    v_image = np.array([gap.se_image for gap, _ in gaps]) ** 2
    truth_variance = np.maximum(squares / squared(so_far - 1 + borrowed), floor)  # of a single seed's difference
    truth = estimate + np.sqrt(truth_variance / so_far) * normal()
    mean = np.broadcast_to(estimate, shape)
    won = np.zeros(shape, dtype=np.bool_)  # who was beaten stays so
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
        won |= (mean >= max(rope, 1e-12)) & (mean > half)
    return float(won.all(axis=1).mean())


def _compute_half_widths(v_seed: Floats, freedom: Floats, v_image: Floats, images: float, level: float) -> Floats:
    """`intervals.compute_half_width` for many variances at once, (plays, comparisons)."""
    t_seed, t_image = stdtrit(freedom, (1 + level) / 2), stdtrit(images - 1, (1 + level) / 2)
    total = np.maximum(v_seed + v_image, 1e-300)
    half: Floats = (t_seed * v_seed + t_image * v_image) / np.sqrt(total)
    return half
