"""Evidence from confirmations: computed at each interim analysis, and at the end for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sweeper.core.own_metric import resolve_verdict_metric
from sweeper.core.records import Conditions, Evidence, InterimAnalysis, SearchSpace, TrialResult
from sweeper.data.folds import get_split, list_scored_by_seed
from sweeper.evidence.choice import choose
from sweeper.evidence.confirmation_stopping import decide_next_step
from sweeper.evidence.paired_comparisons import compute_evidence
from sweeper.fingerprint.imbalance import measure_imbalance
from sweeper.losses import FAMILIES
from sweeper.space import find_range_edge, make_default_choice
from sweeper.study.finalist import Finalist
from sweeper.study.race import Judge, RoundDecision


def make_round_judge(
    finalists: Sequence[Finalist],
    conditions: Conditions,
    space: SearchSpace,
    *,
    margin: float,
    analyses: Sequence[InterimAnalysis],
) -> Judge:
    """Return the function that an interim analysis calls, with the same evidence and choice as the report."""

    def judge_round(results: Sequence[TrialResult]) -> RoundDecision:
        evidence = compute_confirmation_evidence(
            results, finalists, conditions, space, margin=margin, analyses=analyses
        )
        choice = choose(evidence, list(FAMILIES))
        if evidence is None:
            return RoundDecision(choice.outcome, "NOTHING_LEARNED")
        step = decide_next_step(evidence, choice)
        families = tuple(evidence.finalists[i].family for i in step.finalists)
        return RoundDecision(choice.outcome, step.code, step.chance, families)

    return judge_round


def compute_confirmation_evidence(
    results: Sequence[TrialResult],
    finalists: Sequence[Finalist],
    conditions: Conditions,
    space: SearchSpace,
    *,
    margin: float,
    analyses: Sequence[InterimAnalysis],
) -> Evidence | None:
    """Compute the evidence of completed confirmations, with what was known of each finalist before."""
    if not results:
        return None
    dataset = conditions.dataset
    search = {f.family: f.trial for f in finalists}
    evidence = compute_evidence(
        results,
        search,
        classes=dataset.classes,
        margin=margin,
        analyses=analyses,
        groups=list_test_groups(conditions, results),
        metric=resolve_verdict_metric(conditions.recipe.metric),
        present=space.present.family,
    )
    by_family = {finalist.family: finalist for finalist in finalists}
    rows = tuple(
        row.model_copy(update=_read_search_facts(by_family[row.family], conditions, space))
        for row in evidence.finalists
    )
    return evidence.model_copy(update={"finalists": rows})


def _read_search_facts(finalist: Finalist, conditions: Conditions, space: SearchSpace) -> dict[str, Any]:
    """Return what is known of a finalist from before its confirmation."""
    return {
        "at_defaults": finalist.trial.spec.params == _get_literature_defaults(finalist.family, conditions, space),
        "collapses_in_search": sum(training.has_collapsed for training in finalist.trained),
        "trainings_in_search": len(finalist.trained),
        "other_names": finalist.other_names,
        "trials_tried": finalist.tried,
        "trials_completed": finalist.completed,
        "lr": finalist.lr,
        "rates": finalist.rates if finalist.rates.low < finalist.rates.high else None,
        "lr_at_edge": find_range_edge(finalist.lr, space) is not None,
    }


def _get_literature_defaults(family: str, conditions: Conditions, space: SearchSpace) -> dict[str, float] | None:
    """Return the literature's parameters of a family on these data; None where the space does not have it."""
    family_space = space.by_name.get(family)
    if family_space is None or not family_space.coordinates:
        return None if family_space is None else {}
    train = get_split(conditions, conditions.seed).train
    return make_default_choice(family_space, space, measure_imbalance(conditions.dataset, train)).params


def list_test_groups(conditions: Conditions, results: Sequence[TrialResult]) -> list[str | None]:
    """List the group of each test image, by ascending index; with folds only of images that any training answered."""
    images = set(list_scored_by_seed(conditions))
    if conditions.folds is not None:
        images &= {i for result in results if result.test is not None for i in result.test.images}
    return conditions.dataset.list_groups(sorted(images))
