"""The confirmation trainings behind a finalist: side by side, by seed (with folds, several make up a seed)."""

from __future__ import annotations

import math

import numpy as np

from sweeper.core.metrics import at_point, image_mious
from sweeper.core.records import FinalistEvidence, TrialResult
from sweeper.evidence.replicate_table import bench_of
from sweeper.evidence.replicates import Replicate, by_seed, image_units, scored_images
from sweeper.report.facts import Facts


def confirmations(facts: Facts, finalist: FinalistEvidence) -> tuple[TrialResult, ...]:
    """The confirmation trainings that the finalist's evidence was weighed from, by seed.

    A study may hold more of the same configuration: at another budget (`--confirm-steps`), on seeds beyond those of its
    last interim analysis, or twice on one seed, of which the later counts.
    """
    rates = dict(zip(finalist.seeds, finalist.seed_lrs, strict=False))
    found = {
        (trial.spec.seed, trial.spec.fold): trial
        for trial in sorted(facts.sweep.confirmations, key=lambda trial: trial.spec.number)
        if trial.state == "complete"
        and trial.spec.family == finalist.family
        and trial.spec.params == finalist.params
        and math.isclose(trial.spec.lr, rates.get(trial.spec.seed, finalist.lr))
        and trial.spec.steps == facts.sweep.conditions.recipe.confirm_steps
    }
    folds = facts.sweep.conditions.folds
    keys = [(seed, fold) for seed in sorted(finalist.seeds) for fold in ([None] if folds is None else range(folds))]
    return tuple(found[key] for key in keys if key in found)


def replicates(facts: Facts, finalist: FinalistEvidence) -> tuple[Replicate, ...]:
    """The same by seed: one training each, with folds several; those that gave an answer."""
    return tuple(r for r in by_seed(confirmations(facts, finalist)).values() if not r.lost)


def seed_scores(facts: Facts, finalist: FinalistEvidence) -> list[float]:
    """Test score of each of its seeds, at the operating point of each training."""
    own = replicates(facts, finalist)
    if not own:
        return []
    units = image_units(own, facts.sweep.conditions.dataset.groups_of(scored_images(own)))
    return [float(score) for score in bench_of(own, len(facts.classes), units, facts.compared).score.scores]


def image_scores(facts: Facts, *finalists: FinalistEvidence) -> dict[int, tuple[float, ...]]:
    """Test image → its mIoU with each of these finalists, mean over the seeds that all of them have.

    At each training's own operating point.
    """
    found: list[dict[int, list[float]]] = []
    runs = [[run for run in confirmations(facts, f) if run.evaluations and run.test is not None] for f in finalists]
    common = set.intersection(*({run.spec.seed for run in own} for own in runs)) if runs else set()
    for own in runs:
        values: dict[int, list[float]] = {}
        for run in own:
            if run.spec.seed not in common or run.test is None:
                continue
            mious = image_mious(at_point(run.test, run.evaluations[-1].point))
            for image, value in zip(run.test.images, mious, strict=True):
                values.setdefault(image, []).append(float(value))
        found.append(values)
    images = set.intersection(*(set(values) for values in found)) if found else set()
    return {i: tuple(float(np.mean(values[i])) for values in found) for i in sorted(images)}


def common_runs(facts: Facts) -> list[tuple[TrialResult, TrialResult]]:
    """The recommended loss's and its rival's training of the lowest seed that both have and that was evaluated.

    One pair, or one for each fold; empty where there is no such seed.
    """
    if facts.chosen is None or facts.rival is None:
        return []
    first, second = (by_seed(t for t in confirmations(facts, f)) for f in (facts.chosen, facts.rival))
    for seed in sorted(first.keys() & second.keys()):
        pairs = list(zip(first[seed].runs, second[seed].runs, strict=True))
        if all(run.evaluations for pair in pairs for run in pair):
            return pairs
    return []
