"""The budget probe of `--steps auto`: at which budget does the ranking of the losses hold?

Short budgets favour losses that learn the rare class fast, not those that end best. So the default configuration of
each family is trained at S steps, at 2 S, and on to 8 S, until the ranking at one budget agrees with the ranking at
twice of it. The search then runs at the smaller of the two, and the confirmation at the larger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy.stats import kendalltau

from sweeper.core.records import Conditions, SearchSpace, TrialResult, TrialSpec
from sweeper.space import default_choice

FACTORS = (1, 2, 4, 8)
"""Budgets that may be probed, in units of the first."""
TAU = 0.6
"""Kendall's τ-b from which on two rankings agree."""


class Agreement(NamedTuple):
    """How the ranking of the families at some budget compares with that at twice the budget."""

    agrees: bool
    text: str
    """`the ranking of 7 losses at 200 steps agrees with that at 400 (τ = 0.71, dice leads both)`."""


def probes(space: SearchSpace, conditions: Conditions, imbalance: float, steps: int) -> list[TrialSpec]:
    """Each family's literature default at the middle of the learning rates, trained for `steps` steps."""
    choices = [default_choice(family, space, imbalance) for family in space.families]
    return [
        TrialSpec(
            purpose="probe",
            number=0,
            family=choice.family,
            params=choice.params,
            lr=choice.lr,
            seed=conditions.seed,
            steps=steps,
        )
        for choice in choices
    ]


def compare(results: Sequence[TrialResult], steps: int, rope: float) -> Agreement:
    """The ranking at `steps` against that at twice of it.

    They agree when Kendall's τ-b over the families that completed at both is at least 0.6, and one family leads both,
    or the leader at `steps` is within `rope` of the leader at the larger budget. Of two families, the leader decides.
    """
    short, long = (_values(results, s) for s in (steps, 2 * steps))
    families = [family for family in short if family in long]
    if len(families) < 2:
        return Agreement(False, f"fewer than two losses completed both {steps} and {2 * steps} steps")
    ones, twos = [short[f].value or 0.0 for f in families], [long[f].value or 0.0 for f in families]
    before, after = families[ones.index(max(ones))], families[twos.index(max(twos))]
    near = max(twos) - twos[families.index(before)] <= rope
    tau = float(kendalltau(ones, twos).statistic) if len(families) > 2 else math.nan
    learned = any(short[family].collapse.learned for family in families)
    # All alike at both budgets: there is no ranking, and more steps would not make one.
    alike = max(max(ones) - min(ones), max(twos) - min(twos)) <= rope
    agrees = learned and near and (alike or len(families) == 2 or tau >= TAU)
    if before == after:
        lead = f"{after} leads both"
    else:
        lead = f"{before} leads the first, {after} the second by {max(twos) - twos[families.index(before)]:.3f}"
    facts = lead if math.isnan(tau) else f"τ = {tau:.2f}, {lead}"
    if not learned:
        facts += "; no loss had learned anything at the smaller one"
    how = "agrees" if agrees else "disagrees"
    return Agreement(
        agrees, f"the ranking of {len(families)} losses at {steps} steps {how} with that at {2 * steps} ({facts})"
    )


def _values(results: Sequence[TrialResult], steps: int) -> Mapping[str, TrialResult]:
    return {
        r.spec.family: r for r in results if r.spec.steps == steps and r.state == "complete" and r.value is not None
    }
