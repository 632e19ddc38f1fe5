"""Does any loss learn at the default budget? Asked before the search, where the user gave no steps.

A search at a budget at which every training ends no better than a constant answer tells nothing, and costs as much as
any other. So the losses' defaults are trained before it, in the registry's order, until one has learned: nearly always
the first has. Where none has, the most promising go on at twice the steps, up to eight times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sweeper.core.metrics import at_point, constant_miou, objective, present
from sweeper.core.records import Conditions, SearchSpace, TrialResult, TrialSpec
from sweeper.study.budget_probe import FACTORS, probes

PROMISING = 2
"""Losses that are tried at a larger budget: the best at the one before."""
CLEARLY = 0.01
"""mIoU by which a training must beat a constant answer, so that a search at its budget can tell losses apart. Less is a
first sign of learning, and as much as losses that all learn nothing differ by."""


def next_probes(
    results: Sequence[TrialResult], space: SearchSpace, conditions: Conditions, imbalance: float, first: int
) -> tuple[int, list[TrialSpec]]:
    """The smallest budget that is not settled, and the trainings that it lacks.

    Args:
        results: trainings so far, at any budget.
        space: its families' defaults are tried.
        conditions: the study's.
        imbalance: as `suggest` takes it.
        first: steps of the first budget.

    Returns:
        Steps, and what is to be trained there: nothing where a loss has learned, none did at the last budget, or all
        trainings failed, which more steps would not mend.
    """
    steps, before = first, list[TrialResult]()
    for factor in FACTORS:
        steps = factor * first
        here = [r for r in results if r.spec.steps == steps]
        specs = probes(space, conditions, imbalance, steps)
        if before:
            best = sorted(before, key=lambda r: -(r.value or 0.0))[:PROMISING]
            specs = [spec for spec in specs if spec.family in {r.spec.family for r in best}]
        lacking = [spec for spec in specs if spec.family not in {r.spec.family for r in here}]
        if learned(here) or not (lacking or any(r.state == "complete" for r in here)):
            return steps, []
        if lacking:
            return steps, lacking
        before = here
    return steps, []


def nothing_learned(trials: Sequence[TrialResult]) -> bool:
    """Whether a search has trainings, and none of them beats a constant answer: then there is nothing to confirm."""
    ended = [trial for trial in trials if trial.state != "failed"]
    return bool(ended) and not any(trial.collapse.learned for trial in ended)


def learned(results: Sequence[TrialResult]) -> list[TrialResult]:
    """Those that ended clearly better than a constant answer."""
    return [r for r in results if r.state == "complete" and r.collapse.learned and _gain(r) >= CLEARLY]


def _gain(result: TrialResult) -> float:
    """mIoU on validation beyond that of the best constant answer; inf where the counts were not kept."""
    if result.val is None or not result.evaluations:
        return math.inf
    counts = at_point(result.val, result.evaluations[-1].point)
    return float(objective(counts.sum(axis=0), present(counts))) - constant_miou(counts)
