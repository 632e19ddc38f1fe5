"""At which budget the ranking of the losses settled, from learning curves on the same validation images."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import NamedTuple

import numpy as np

from sweeper.core.records import BudgetPoint, Collapse, TrialResult
from sweeper.core.text import minus

AGREES = 0.6
"""Kendall's τ from which on two rankings are said to agree: of 5 families, 2 of 10 pairs stand the other way round."""
Curve = dict[int, float]
"""Step → value."""


class Budget(NamedTuple):
    """Rankings at several budgets of the same trainings."""

    points: tuple[BudgetPoint, ...] = ()
    where: str = ""
    """Whose trainings these are, for people."""
    apart: float = 0.0
    """How far the best and the worst lie apart at the largest budget."""


def learned_something(trial: TrialResult) -> bool:
    """Whether it has a value that says something of its loss: it neither failed nor diverged."""
    return (
        trial.state != "failed"
        and trial.value is not None
        and bool(trial.evaluations)
        and trial.collapse is not Collapse.DIVERGED
    )


def ranked_budgets(
    done: Sequence[TrialResult],
    confirmations: Sequence[TrialResult],
    probes: Sequence[TrialResult],
    rope: float,
) -> Budget:
    """Rankings at several budgets of the same trainings.

    The probes' where they were made; else the confirmation's, which are longest and averaged over seeds, where at least
    three were confirmed; else the search's. Empty where nothing was seen at two budgets.
    """
    probed = _probe_curves([p for p in probes if p.state == "complete" and learned_something(p)])
    sources = (
        (probed, "the budget probe's", 2),
        (_seed_means(confirmations), "the confirmation's", 3),
        (best_of_families(done), "the search's", 2),
    )
    for curves, where, least in sources:
        found = ranking(curves, rope)
        if len(found.points) >= 2 and found.points[0].families >= least:
            return found._replace(where=where)
    return Budget()


def _curve(trial: TrialResult) -> Curve:
    return {e.step: e.part_value for e in trial.evaluations}


def best_of_families(done: Sequence[TrialResult]) -> dict[object, Curve]:
    """Of each family the highest value of its complete trainings at each step."""
    best: dict[object, Curve] = defaultdict(dict)
    for trial in done:
        held = best[trial.spec.family]
        for step, value in _curve(trial).items():
            held[step] = max(value, held.get(step, value))
    return dict(best)


def _seed_means(runs: Iterable[TrialResult]) -> dict[object, Curve]:
    """Of each configuration the mean over seeds at each step."""
    found: dict[object, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for step, value in _curve(run).items():
            found[run.spec.loss][step].append(value)
    return {key: {step: mean(values) for step, values in steps.items()} for key, steps in found.items()}


def _probe_curves(probes: Sequence[TrialResult]) -> dict[object, Curve]:
    """Of each family its value at each budget: of trainings of several lengths where there are, else at the rungs."""
    if len({p.spec.steps for p in probes}) < 2:
        return best_of_families(probes)
    found: dict[object, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for probe in probes:  # rungs of a longer training are scored on more images: their ends alone compare, on all
        found[probe.spec.family][probe.spec.steps].append(probe.evaluations[-1].value)
    return {family: {step: mean(values) for step, values in steps.items()} for family, steps in found.items()}


def ranking(curves: Mapping[object, Curve], rope: float) -> Budget:
    """How the ranking at each budget agrees with the last, over the curves that reach it."""
    last = max((max(curve) for curve in curves.values()), default=0)
    whole = [curve for curve in curves.values() if last in curve]
    if len(whole) < 2:
        return Budget()
    steps = sorted(set.intersection(*(set(curve) for curve in whole)))
    ends = [curve[last] for curve in whole]
    points = []
    for step in steps:
        values = [curve[step] for curve in whole]
        leads = ends[int(np.argmax(values))] >= max(ends) - rope
        points.append(BudgetPoint(steps=step, families=len(whole), tau=kendall(values, ends), same_leader=leads))
    return Budget(tuple(points), apart=max(ends) - min(ends))


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's τ-b of two rankings, −1 to 1; None with fewer than 3 values, or where all of one are tied."""
    if len(first) < 3:
        return None
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    upper = np.triu_indices(len(x), 1)
    a, b = np.sign(x[:, None] - x)[upper], np.sign(y[:, None] - y)[upper]
    ties = math.sqrt(float(np.abs(a).sum()) * float(np.abs(b).sum()))
    return float(a @ b) / ties if ties else None


def settled_at(budget: Budget, rope: float) -> int | None:
    """Smallest budget from which on the ranking agrees with the last; None where only the last does.

    None also where all end within `rope` of each other, as there is no ranking to settle.
    """
    settled = None
    for point in reversed(budget.points):
        if point.tau is None or point.tau < AGREES or not point.same_leader:
            break
        settled = point.steps
    return settled if budget.points and budget.apart > rope and settled != budget.points[-1].steps else None


def settling(budget: Budget, rope: float, unit: str = "mIoU") -> str:
    """The same in a sentence; `unit` names the metric that was maximised."""
    if not budget.points:
        return "At which budget the ranking settled cannot be said: too few losses were trained to the end."
    last, before, settled = budget.points[-1], budget.points[-2], settled_at(budget, rope)
    losses = f"{last.families} losses"
    if budget.apart <= rope:
        return (
            f"By {budget.where} trainings there is no ranking to settle: at {last.steps} steps the {losses} lie within "
            f"{budget.apart:.3f} validation {unit} of each other, no more than the region of practical equivalence."
        )
    if before.tau is None:
        return f"At which budget the ranking settled cannot be said from {losses}."
    if settled is not None:
        return (
            f"By {budget.where} trainings the ranking of {losses} settled at {settled} of {last.steps} steps: from "
            f"there on it agrees with the last (Kendall's τ at least {AGREES:g}), and its leader ends within {rope:g} "
            "of the best."
        )
    return (
        f"By {budget.where} trainings the ranking of {losses} had not settled before the last of {last.steps} steps "
        f"(at {before.steps} Kendall's τ = {minus(f'{before.tau:.2f}')} with the last): a longer budget may rank them "
        "differently."
    )
