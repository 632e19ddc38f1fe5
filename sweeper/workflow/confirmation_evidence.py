"""What confirmations show of the finalists: asked at each interim analysis, and at the end for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sweeper.core.own_metric import at_hand
from sweeper.core.records import Conditions, Evidence, InterimAnalysis, LongerLook, SearchSpace, TrialResult, Until
from sweeper.data.folds import scored_images, split_of
from sweeper.evidence.confirmation_stopping import next_step
from sweeper.evidence.longer_look import look_longer
from sweeper.evidence.paired_comparisons import weigh
from sweeper.evidence.verdict import decide
from sweeper.fingerprint.imbalance import imbalance_of
from sweeper.losses import FAMILIES
from sweeper.space import default_choice, edge_of
from sweeper.study.confirmation_rounds import Judge, Judgement, longer_trained
from sweeper.study.finalist import Finalist


def judge(
    finalists: Sequence[Finalist],
    conditions: Conditions,
    space: SearchSpace,
    *,
    rope: float,
    analyses: Sequence[InterimAnalysis],
    until: Until,
) -> Judge:
    """What the confirmation's rounds ask at each interim analysis: the same evidence and verdict as the report's."""

    def judged(results: Sequence[TrialResult]) -> Judgement:
        evidence = weighed(results, finalists, conditions, space, rope=rope, analyses=analyses)
        decision = decide(evidence, list(FAMILIES))
        if evidence is None:
            return Judgement(decision.verdict, analyses[0].error, False, (), decision.reasons[0])
        step = next_step(evidence, decision, until)
        families = tuple(evidence.finalists[i].family for i in step.finalists)
        return Judgement(decision.verdict, analyses[evidence.analysis_index].error, step.go_on, families, step.reason)

    return judged


def weighed(
    results: Sequence[TrialResult],
    finalists: Sequence[Finalist],
    conditions: Conditions,
    space: SearchSpace,
    *,
    rope: float,
    analyses: Sequence[InterimAnalysis],
) -> Evidence | None:
    """Evidence of completed confirmations, with what was known of each finalist before."""
    if not results:
        return None
    dataset = conditions.dataset
    search = {f.family: f.trial for f in finalists}
    evidence = weigh(
        results,
        search,
        classes=dataset.classes,
        rope=rope,
        analyses=analyses,
        groups=groups_of_test_images(conditions, results),
        metric=at_hand(conditions.recipe.metric),
    )
    of = {finalist.family: finalist for finalist in finalists}
    rows = tuple(row.model_copy(update=_before(of[row.family], conditions, space)) for row in evidence.finalists)
    return evidence.model_copy(update={"finalists": rows})


def _before(finalist: Finalist, conditions: Conditions, space: SearchSpace) -> dict[str, Any]:
    """What is known of a finalist from before its confirmation."""
    return {
        "at_defaults": finalist.trial.spec.params == _defaults(finalist.family, conditions, space),
        "collapses_in_search": sum(training.has_collapsed for training in finalist.trained),
        "trainings_in_search": len(finalist.trained),
        "other_names": finalist.other_names,
        "trials_tried": finalist.tried,
        "trials_completed": finalist.completed,
        "lr": finalist.lr,
        "rates": finalist.rates if finalist.drawn else None,
        "lr_at_edge": edge_of(finalist.lr, space) is not None,
    }


def _defaults(family: str, conditions: Conditions, space: SearchSpace) -> dict[str, float] | None:
    """Return the literature's parameters of a family on these data; None where the space does not have it."""
    own = next((found for found in space.families if found.family == family), None)
    if own is None or not own.coordinates:
        return None if own is None else {}
    train = split_of(conditions, conditions.seed).train
    return default_choice(own, space, imbalance_of(conditions.pixels_seen(train))).params


def longer_look(
    longer: Sequence[TrialResult],
    confirmations: Sequence[TrialResult],
    finalists: Sequence[Finalist],
    conditions: Conditions,
    *,
    evidence: Evidence,
    recommended: int,
) -> LongerLook | None:
    """What more steps change, by the longer trainings of these finalists; None where nothing is known."""
    return look_longer(
        longer_trained(longer, finalists, conditions),
        confirmations,
        evidence,
        recommended,
        groups=groups_of_test_images(conditions, confirmations),
        metric=at_hand(conditions.recipe.metric),
    )


def groups_of_test_images(conditions: Conditions, results: Sequence[TrialResult]) -> list[str | None]:
    """Group of each test image, by ascending index; with folds, of those that any training gave an answer for."""
    images = set(scored_images(conditions))
    if conditions.folds is not None:
        images &= {i for result in results if result.test is not None for i in result.test.images}
    return conditions.dataset.groups_of(sorted(images))
