"""The finalists' learning rates: one range for all, but for a loss that is shown to want another.

All finalists are confirmed around the optimum that the complete trials of all families tell
(`sweeper.study.learning_rates`). A finalist whose own best rate lies more than `FAR` from it is trained at the optimum,
too, on the search's seed. Where its own rate reads better by more than `CLEAR`, after the difference was shrunken as
far as it may be luck, it keeps a range around its own, and draws from it at the same quantiles.

Everything here is a function of stored results.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sweeper.core.records import Collapse, Conditions, RateFit, SameLoss, SearchSpace, TrialResult, TrialSpec
from sweeper.study.finalist import Finalist, entrants
from sweeper.study.learning_rates import NOISE, UNIT, Tried, confirmation_rates, fit_rates, is_one_rate
from sweeper.study.training_list import Key, completed, key_of

FAR = 0.3
"""Decades between a finalist's own best rate and the common optimum from which on it is tried at both."""
CLEAR = 1.5 * UNIT
"""mIoU by which its own rate must be better, after shrinkage."""
KEPT = 0.03**2 / (0.03**2 + 2 * NOISE**2)
"""Part of a difference between two trainings that is no luck: losses differ by some 0.03 between such rates, and each
training has its noise."""


class Need(NamedTuple):
    """Trainings that the choice of finalists waits for, and why, in a sentence."""

    specs: tuple[TrialSpec, ...]
    why: str


def fitted_rates(trials: Sequence[TrialResult], space: SearchSpace) -> RateFit | None:
    """The common optimum by the search's complete trials; None where a single rate is searched."""
    if is_one_rate(space.lr):
        return None
    tried = [
        Tried(t.spec.family, t.spec.lr, None if t.collapse is Collapse.DIVERGED else t.value)
        for t in trials
        if t.state == "complete"
    ]
    return fit_rates(tried, space.lr)


def what_is_needed(
    trials: Sequence[TrialResult],
    rechecks: Sequence[TrialResult],
    fit: RateFit | None,
    conditions: Conditions,
    *,
    given_up: Collection[Key] = (),
) -> Need | None:
    """The trainings to be made before the finalists can be chosen; None when they can.

    Args:
        trials: results of the search.
        rechecks: finalists that were trained at the common optimum so far.
        fit: the common optimum; None where a single rate is searched.
        conditions: the study's.
        given_up: keys of trainings that failed and are not to be asked for again.
    """
    if fit is None:
        return None
    have = {*completed(rechecks), *given_up}
    specs = tuple(spec for f in entrants(trials) if _far(f, fit) and key_of(spec := _at_best(f, fit)) not in have)
    if not specs:
        return None
    names = ", ".join(spec.family for spec in specs)
    return Need(specs, f"best at another learning rate than the common {fit.best:g}, so trained there, too: {names}")


def choose_finalists(
    trials: Sequence[TrialResult],
    rechecks: Sequence[TrialResult],
    fit: RateFit | None,
    space: SearchSpace,
    conditions: Conditions,
    *,
    same: Sequence[SameLoss] = (),
) -> list[Finalist]:
    """The leading families' best configurations and the baseline's, with the learning rates they are confirmed at.

    `trials` have the names that they count under, of which `same` tells the others.
    """
    found, tried = [], {t.spec.family for t in trials if t.state != "failed"}
    for entrant in entrants(trials):
        own, finalist = entrant.trial.spec, entrant
        low = high = own.lr
        if fit is not None:
            best = own.lr if _keeps_its_own(entrant, rechecks, fit) else fit.best
            rates = confirmation_rates(best, space.lr).model_copy(update={"shared": best == fit.best})
            finalist = entrant._replace(rates=rates, drawn=conditions.rates == "drawn")
            low, high = (rates.low, rates.high) if finalist.drawn else (best, best)
        trained = (t for t in (*trials, *rechecks) if t.spec.loss == own.loss and t.state == "complete")
        names = {s.family for s in same if s.is_family == own.family}
        found.append(
            finalist._replace(
                trained=tuple(t for t in trained if low <= t.spec.lr <= high),
                other_names=tuple(sorted(names - {own.family})) if tried <= {own.family, *names} else (),
            )
        )
    return found


def _keeps_its_own(finalist: Finalist, rechecks: Sequence[TrialResult], fit: RateFit) -> bool:
    if not _far(finalist, fit):
        return False
    there = completed(rechecks).get(key_of(_at_best(finalist, fit)))
    return there is not None and KEPT * (finalist.value - (there.value or 0.0)) > CLEAR


def _far(finalist: Finalist, fit: RateFit) -> bool:
    return abs(math.log10(finalist.trial.spec.lr / fit.best)) > FAR


def _at_best(finalist: Finalist, fit: RateFit) -> TrialSpec:
    """The finalist's own training once more, at the common optimum."""
    return finalist.trial.spec.model_copy(update={"purpose": "recheck", "number": 0, "lr": fit.best})
