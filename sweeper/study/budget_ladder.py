"""The budget ladder: before the search, find the number of steps at which losses can be compared.

Losses differ in how they treat rare classes; before any loss has learned these, there is nothing to compare. So where
the user gave no steps, two losses that differ most there, the present loss and an overlap loss with class weights, are
trained at 1, 2, 4, 8 and 16 times the first steps, until each class with enough pixels is learned by one of them, or
the gap between the two has settled while most classes are learned. The search reuses those trainings that match its
trials.

A class is learned where its IoU on validation is above 0.05 and above its share of the pixels, the most that an answer
can get without looking at the image. The most frequent class, which a constant answer predicts, needs only 0.05.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from optuna.trial import FixedTrial

from sweeper.core.metrics import Floats, compute_scores, count_at_point
from sweeper.core.records import Conditions, Rung, SearchSpace, StudyRates, TrialResult, TrialSpec
from sweeper.core.tasks import RULES
from sweeper.core.text import join_words
from sweeper.data.folds import get_split
from sweeper.losses.families import OVERLAP_FAMILIES
from sweeper.space import list_first_trials, suggest_choice
from sweeper.study.learning_check import SKILL, compute_skill, is_task_learned
from sweeper.study.learning_rates import choose_best_rate, fit_rate, is_one_rate, list_tried_rates, needs_lower_rate

FACTORS = (1, 2, 4, 8, 16)
"""Budgets that may be tried, in units of the first."""
PIXELS, IMAGES = 0.001, 0.5
"""Least share of the training pixels, or of the training images, with which a class has enough pixels to be learned."""
MIN_LEARNED_SHARE = 2 / 3
"""Share of these classes that must be learned before losses are compared: below it the mean over classes is largely one
of zeros."""
PLAIN = "cross_entropy"
OVERLAPS = ("dice_ce", *(family.name for family in OVERLAP_FAMILIES))


def choose_ladder_pair(space: SearchSpace) -> tuple[str, ...]:
    """Return the two families of a space that differ most in rare classes; the only one if it has one.

    They are the present loss and dice_ce; cross-entropy where the present loss is an overlap loss. Without the present
    loss the first loss in the advice's order replaces it; without dice_ce the first overlap loss in that order, else
    the first of the others.
    """
    order, present = list(list_first_trials(space)), space.present.family
    plain = present if present in order else order[0]
    liked = [PLAIN] if plain in OVERLAPS else OVERLAPS
    others = [name for name in order if name != plain]
    best = min(others, key=lambda name: (name != liked[0], name not in liked), default=None)
    return (plain,) if best is None else (plain, best)


def make_probe_specs(space: SearchSpace, conditions: Conditions, imbalance: float, steps: int) -> list[TrialSpec]:
    """Return the trainings of the pair for `steps` steps, at the middle of the learning rates, as the search begins."""
    return make_start_specs(choose_ladder_pair(space), space, conditions, imbalance, steps)


def make_start_specs(
    families: Sequence[str], space: SearchSpace, conditions: Conditions, imbalance: float, steps: int
) -> list[TrialSpec]:
    """Return a training of each family's first trial, at the middle of the learning rates."""
    first = list_first_trials(space)
    choices = [suggest_choice(FixedTrial(first[name][0]), space, imbalance) for name in families]
    return [TrialSpec(purpose="probe", number=0, seed=conditions.seed, steps=steps, **dict(c)) for c in choices]


def list_rate_trainings(
    trained: Sequence[TrialResult], space: SearchSpace, conditions: Conditions, imbalance: float
) -> list[TrialSpec]:
    """Return the trainings that are still needed to find the learning rates, at the search's steps.

    Those of the ladder's pair, or in the user's script of every loss; `trained` are the trainings so far, with the
    ladder's.
    """
    if is_one_rate(space.lr):
        return []
    is_own = conditions.recipe.command is None
    families = choose_ladder_pair(space) if is_own else tuple(space.by_name)
    starts = make_start_specs(families, space, conditions, imbalance, conditions.recipe.steps)
    have = {result.spec.key: result for result in trained}

    def list_specs(rates: Sequence[float]) -> list[TrialSpec]:
        return [start.model_copy(update={"purpose": "rate", "lr": rate}) for rate in rates for start in starts]

    middle, higher, lower = list_tried_rates(space.lr)
    before = list_specs([middle, higher])
    if lacking := [spec for spec in before if spec.key not in have]:
        return lacking
    if is_own and not needs_lower_rate([have[spec.key] for spec in before], space.lr):
        return []
    return [spec for spec in list_specs([lower]) if spec.key not in have]


def find_rates(
    trained: Sequence[TrialResult], space: SearchSpace, conditions: Conditions, imbalance: float
) -> StudyRates:
    """Return the learning rate of each loss by these trainings: a common one, in the user's script each its best."""
    names = tuple(space.by_name)
    starts = make_start_specs(names, space, conditions, imbalance, conditions.recipe.steps)
    by_family = {
        start.family: [r for r in trained if (r.spec.loss, r.spec.steps) == (start.loss, start.steps)]
        for start in starts
    }
    complete = [r for results in by_family.values() for r in results if r.state == "complete"]
    if conditions.recipe.command is None:
        return StudyRates(by_family=dict.fromkeys(names, fit_rate(complete, space.lr)))
    return StudyRates(by_family={name: choose_best_rate(by_family[name], space.lr) for name in names})


def find_unlearned_classes(results: Iterable[TrialResult], conditions: Conditions) -> tuple[str, ...]:
    """Return the classes that none of these trainings learned, out of those that they were scored on."""
    seen = [_find_best_ious(result) for result in results if result.state == "complete" and result.evaluations]
    if not seen:
        return ()
    best = np.nanmax(np.array(seen, dtype=np.float64), axis=0, initial=-1.0)
    is_unlearned = (best >= 0) & (best <= compute_learning_floors(conditions))
    return tuple(conditions.dataset.classes[i] for i in np.flatnonzero(is_unlearned))


def compute_learning_floors(conditions: Conditions) -> Floats:
    """Return the IoU (C,) above which each class counts as learned, from the pixels of the training images."""
    rules, dataset = RULES[conditions.dataset.task], conditions.dataset
    pixels, labelled = rules.count_pixels(dataset, get_split(conditions, conditions.seed).train)
    floors = np.maximum(SKILL, pixels / max(1, labelled))
    if not rules.has_planes:  # the rest is not a class
        floors[pixels.argmax()] = SKILL
    return np.asarray(floors)


def _find_best_ious(result: TrialResult) -> tuple[float | None, ...]:
    """Return the IoU of each class at the training's own operating point or the plain one, whichever is higher.

    A point that is best for the mean over classes may be bad for a common one. Classes that no validation image shows
    are scored on the test images.
    """
    last = result.evaluations[-1]
    ious = zip(last.chosen.iou, last.default.iou, strict=True)
    best = tuple(None if tuned is None or plain is None else max(tuned, plain) for tuned, plain in ious)
    if result.test is None:
        return best
    test = compute_scores(count_at_point(result.test, last.point), result.test.task).iou
    return tuple(other if iou is None else iou for iou, other in zip(best, test, strict=True))


def _find_learnable_classes(conditions: Conditions) -> frozenset[str]:
    """Return the classes with enough pixels to be learned."""
    dataset, train = conditions.dataset, get_split(conditions, conditions.seed).train
    pixels = np.array([dataset.images[i].pixels for i in train])
    labelled = RULES[dataset.task].count_pixels(dataset, train)[1]
    enough = (pixels.sum(axis=0) >= PIXELS * labelled) | ((pixels > 0).mean(axis=0) >= IMAGES)
    return frozenset(name for name, ok in zip(dataset.classes, enough, strict=True) if ok)


class LadderProgress(NamedTuple):
    """Progress on the ladder."""

    rungs: tuple[Rung, ...]
    lacking: tuple[TrialSpec, ...]
    """Trainings that the next rung lacks; () where the ladder ends."""


def climb_ladder(
    results: Sequence[TrialResult],
    space: SearchSpace,
    conditions: Conditions,
    imbalance: float,
    *,
    first: int,
    margin: float,
) -> LadderProgress:
    """Return the complete rungs, and the trainings that the next one lacks.

    `results` are the ladder's trainings so far, `first` the steps of its first rung; `imbalance` is as in
    `suggest_choice`. A gap that changes by less than `margin` (mIoU) over a doubling has settled.
    """
    rungs, learnable = list[Rung](), _find_learnable_classes(conditions)
    for factor in FACTORS:
        specs = make_probe_specs(space, conditions, imbalance, factor * first)
        by_name = {r.spec.family: r for r in results if r.spec.steps == factor * first}
        if lacking := tuple(spec for spec in specs if spec.family not in by_name):
            return LadderProgress(tuple(rungs), lacking)
        here = [result for spec in specs if (result := by_name[spec.family]).state == "complete"]
        if not here:  # all failed: more steps would not help
            break
        rungs.append(
            Rung(
                steps=factor * first,
                scores={r.spec.family: r.score for r in here},
                iou={r.spec.family: _find_best_ious(r) for r in here if r.evaluations},
                is_learned=is_task_learned(map(compute_skill, here)),
                learnable=len(learnable),
                not_learned=tuple(name for name in find_unlearned_classes(here, conditions) if name in learnable),
            )
        )
        if (rungs[-1].is_learned and not rungs[-1].not_learned) or _is_settled(rungs, margin):
            break
    return LadderProgress(tuple(rungs), ())


def is_comparable(rung: Rung) -> bool:
    """Return whether the losses learned enough at this rung for a comparison."""
    return rung.is_learned and rung.learnable - len(rung.not_learned) >= MIN_LEARNED_SHARE * rung.learnable - 1e-9


def _is_settled(rungs: Sequence[Rung], margin: float) -> bool:
    """Return whether the gap changed by less than the margin over a doubling in which no class was newly learned.

    The gap changes again with each newly learned class, and means nothing between losses that learned few classes.
    """
    gaps = [rung.gap for rung in rungs[-2:] if rung.gap is not None]
    if len(gaps) < 2 or not is_comparable(rungs[-1]):
        return False
    return abs(gaps[1] - gaps[0]) < margin and set(rungs[-2].not_learned) <= set(rungs[-1].not_learned)


def format_rung(rung: Rung) -> str:
    """Describe what was learned at a rung, as part of a sentence."""
    if not rung.is_learned:
        return f"no loss clearly beats a constant answer after {rung.steps} steps"
    if not rung.not_learned:
        return f"all {rung.learnable} classes are learned after {rung.steps}"
    missing = f"{len(rung.not_learned)} of {rung.learnable} classes"
    return f"after {rung.steps} steps {missing} are not learned by any loss ({join_words(rung.not_learned)})"
