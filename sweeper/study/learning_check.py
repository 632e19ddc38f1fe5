"""Does any loss learn more than a constant answer? Checked before the search, and again after its floors.

A search in which no training beats a constant answer shows nothing and costs as much as any other. The ladder before it
(`sweeper.study.budget_ladder`) ends where this check passes and the classes are learned.

Luck must not pass for learning. On a data set of six classes, 40 trials that had learned nothing scored up to 0.028
mIoU above a constant answer (0.157), a skill of 0.033. So a single training must have three times the skill that two
need.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from sweeper.core.metrics import compute_constant_miou, compute_objective, count_at_point, find_present_classes
from sweeper.core.records import TrialResult

SKILL = 0.05
"""Skill that two trainings must show: part of the way from a constant answer to a perfect one."""
SINGLE_SKILL = 3 * SKILL
"""Skill that a single training must show."""
MIN_UNLEARNED_TRIALS = 3
"""Complete trials of the search itself that must have learned nothing before the search is given up."""


def compute_skill(result: TrialResult) -> float:
    """Return how far a training got from the best constant answer (0) to a perfect one (1), in validation mIoU.

    −inf where it did not end or predicts only the most common class; inf where its counts were not kept.
    """
    if result.state != "complete" or not result.collapse.learned:
        return -math.inf
    if result.val is None or not result.evaluations:
        return math.inf
    counts = count_at_point(result.val, result.evaluations[-1].point)
    constant = compute_constant_miou(result.val)
    return (float(compute_objective(counts.sum(axis=0), find_present_classes(counts))) - constant) / max(
        1 - constant, 1e-9
    )


def is_task_learned(skills: Iterable[float]) -> bool:
    """Return whether these skills show that the task is learned: two of `SKILL`, or one of `SINGLE_SKILL`."""
    enough = [skill for skill in skills if skill >= SKILL]
    return len(enough) >= 2 or any(skill >= SINGLE_SKILL for skill in enough)


def has_learned_nothing(trials: Sequence[TrialResult], before: Sequence[TrialResult] = (), *, strict: bool) -> bool:
    """Return whether the search's trainings fail to show that the task is learned, so that nothing can be confirmed.

    Args:
        trials: those of the search.
        before: trainings that chose its budget. Trials reused from them may be lucky, and are no new evidence.
        strict: apply `is_task_learned` to at least `MIN_UNLEARNED_TRIALS` complete trials. Else nothing is learned only
            where no training beats a constant answer at all: a user who gave the steps may want to see their result.
    """
    ended = [trial for trial in trials if trial.state != "failed"]
    if not strict:
        return bool(ended) and not any(trial.collapse.learned for trial in ended)
    old = {result.spec.key for result in before}
    fresh = [compute_skill(trial) for trial in ended if trial.state == "complete" and trial.spec.key not in old]
    return len(fresh) >= MIN_UNLEARNED_TRIALS and not is_task_learned(fresh)
