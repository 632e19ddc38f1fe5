"""The best bet where the present loss is kept without proof: a loss that is probably better, with its odds.

The answer keeps its burden of proof. Who has no reason to keep the present loss learns which way the evidence leans,
from the posterior of `sweeper.evidence.regret`, which shrinks differences towards 0. How often such a bet is right is
measured by `bench/answer_calibration.py --only costs`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from sweeper.core.records import Contest, Outcome, Sure
from sweeper.evidence.choice import Choice
from sweeper.evidence.verdict_predicates import has_learned

LEAST_ODDS, MOST_ODDS = 2, 99
"""Odds from which a bet is named, and the highest that are said."""


class Bet(NamedTuple):
    """A loss that is probably better than the present one."""

    finalist: int
    odds: int
    """To 1, rounded down."""
    gain: float
    """Posterior mean of its gain."""


def find_bet(contest: Contest, choice: Choice) -> Bet | None:
    """Return the loss that is better than the present one with the highest odds; None unless that is kept openly."""
    is_open = choice.outcome is Outcome.KEEP and choice.sure is Sure.OPEN
    if not is_open or choice.faded is not None:
        return None
    bets = []
    for place, finalist in enumerate(contest.finalists):
        regret = finalist.regret
        better = None if regret is None else regret.better
        if regret is not None and better is not None and has_learned(contest, place):
            odds = math.floor(min(MOST_ODDS, better / max(1 - better, 1e-9)))
            bets.append(Bet(place, odds, regret.gain))
    best = max(bets, key=lambda bet: (bet.odds, bet.gain), default=None)
    return best if best is not None and best.odds >= LEAST_ODDS else None
