"""From evidence to the answer, as a record and as JSON (`recommendation.json`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from sweeper.core.base import Record
from sweeper.core.records import (
    Evidence,
    FinalistEvidence,
    Interval,
    Recommendation,
    Recommended,
    Scale,
    SweepRecord,
    Task,
    TrialResult,
    list_trainers,
)
from sweeper.evidence.document import (
    AnalysesRow,
    ClassRow,
    ComparisonRow,
    DatasetRow,
    DifferenceRow,
    FinalistRow,
    LevelDifferenceRow,
    OtherMeasureRow,
    PlainPointRow,
    RateRow,
    RecommendationDocument,
    SearchRow,
    TestRow,
    ValueRow,
)
from sweeper.evidence.interim_analyses import get_comparison_level
from sweeper.evidence.plain_point import compare_at_plain_point
from sweeper.evidence.reasons import compute_collapse_rate
from sweeper.evidence.verdict import decide_verdict
from sweeper.evidence.verdict_predicates import get_difference

Snippet = Callable[[str, dict[str, float], float, float], str]
"""(family, params, operating point, learning rate) → Python text that builds loss and optimiser, ready to paste."""


def make_recommendation(
    evidence: Evidence | None,
    *,
    task: Task,
    order: Sequence[str],
    snippet: Snippet,
    resume: str = "--resume",
) -> Recommendation:
    """Make the recommendation that this evidence allows; it recommends no loss where nothing was confirmed.

    The operating point is a threshold in a binary task, else τ. `order` and `resume` are those of `decide_verdict`.
    """
    decision = decide_verdict(evidence, order, resume)
    chosen = None if evidence is None or decision.recommended is None else evidence.finalists[decision.recommended]
    return Recommendation(
        verdict=decision.verdict,
        strength=decision.strength,
        action=decision.action,
        head=decision.head,
        recommended=None if chosen is None else _make_recommended(chosen, task, snippet),
        evidence=evidence,
        plain=compare_at_plain_point(evidence, decision.recommended),
        provisional=decision.provisional,
        reasons=decision.reasons,
        next_steps=decision.next_steps,
        winners_curse=None if chosen is None else chosen.search_value - chosen.score.estimate,
    )


def find_recommended_index(recommendation: Recommendation) -> int | None:
    """Return the index of the recommended configuration among the finalists; None where nothing is recommended."""
    answer, evidence = recommendation.recommended, recommendation.evidence
    if answer is None or evidence is None:
        return None
    wanted = (answer.family, answer.params, answer.lr)
    return next((i for i, f in enumerate(evidence.finalists) if (f.family, f.params, f.lr) == wanted), None)


def _make_recommended(chosen: FinalistEvidence, task: Task, snippet: Snippet) -> Recommended:
    point = float(median(chosen.points))  # over the seeds, so that no single validation split decides it
    return Recommended(
        family=chosen.family,
        params=chosen.params,
        lr=chosen.lr,
        threshold=point if task == "binary" else None,
        tau=point if task == "multiclass" else None,
        snippet=snippet(chosen.family, dict(chosen.params), point, chosen.lr),
    )


def make_recommendation_json(
    sweep: SweepRecord, recommendation: Recommendation, split: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Make the answer for programs, schema `sweeper.recommendation/1`: JSON types with finite numbers only.

    Intervals are at 95 %, or at the `level` next to them (of an interim analysis); shares and scores are in 0–1;
    unknown or undefined values are null. `held_out` is false where the search saw the images that the finalists were
    scored on; a seed is then `folds` trainings, and `points` and `mlflow_run_ids` have an entry for each.

    `split`: stems of the images that train, validate and test in the search, under `train`, `val` and `test` (with
    folds none test); None = unknown.
    """
    data, evidence, plain = sweep.conditions.dataset, recommendation.evidence, recommendation.plain
    states = Counter(trial.state for trial in sweep.trials)
    collapses = _count_collapses(sweep, lambda trial: (trial.collapse.value,) * trial.has_collapsed)
    document = RecommendationDocument(
        **_copy(sweep, RecommendationDocument)
        | _copy(recommendation, RecommendationDocument)
        | {"head": recommendation.head or None},
        dataset=DatasetRow(**_copy(data, DatasetRow) | {"images": len(data.images), "profile": sweep.profile}),
        recipe=sweep.conditions.recipe,
        held_out=sweep.conditions.folds is None,
        folds=sweep.conditions.folds,
        split=None if split is None else {side: tuple(stems) for side, stems in split.items()},
        finalists=()
        if evidence is None
        else tuple(_make_finalist_row(evidence, i) for i in range(len(evidence.finalists))),
        comparisons=() if evidence is None else _make_comparison_rows(evidence),
        other_measures=()
        if evidence is None
        else tuple(
            OtherMeasureRow(
                measure=other.name, values=tuple(ValueRow(**_flatten("value", score)) for score in other.scores)
            )
            for other in evidence.others
        ),
        plain_point=None
        if plain is None
        else PlainPointRow(**_copy(plain, PlainPointRow) | _flatten("difference", plain.difference)),
        metric=Scale().score if evidence is None else evidence.scale.score,
        analyses=AnalysesRow(planned=sweep.analyses_planned, taken=sweep.analyses_taken),
        test_images=None if evidence is None else evidence.test_images,
        test_groups=None if evidence is None else evidence.test_groups,
        few_test_groups=None if evidence is None else evidence.few_groups,
        constant_miou=None if evidence is None else evidence.constant_miou,
        search=SearchRow(
            trials=len(sweep.trials),
            completed=states["complete"],
            pruned=states["pruned"],
            failed=states["failed"],
            abandoned=sweep.abandoned,
            per_family=dict(Counter(trial.spec.family for trial in sweep.trials)),
        ),
        collapses={family: sum(kinds.values()) for family, kinds in collapses.items()},
        collapse_kinds=collapses,
        never_predicted=_count_collapses(sweep, lambda trial: trial.missing_classes),
        trained_by=tuple(list_trainers(sweep)),
    )
    return document.document


def _copy(record: Record, row: type[Record]) -> dict[str, Any]:
    """Return the fields that a record and a row have in common, from the record."""
    return {name: getattr(record, name) for name in row.model_fields if name in type(record).model_fields}


def _flatten(name: str, interval: Interval) -> dict[str, Any]:
    """Flatten an interval into the fields of a row, the estimate under this name."""
    return {name: interval.estimate, "ci_low": interval.low, "ci_high": interval.high}


def _make_finalist_row(evidence: Evidence, index: int) -> FinalistRow:
    finalist = evidence.finalists[index]
    baseline = evidence.baseline
    versus = None if baseline is None or baseline == index else _make_difference_row(evidence, index, baseline)
    binary = finalist.fg_iou is not None
    plain = finalist.vs_plain
    low, high = compute_collapse_rate(finalist)
    return FinalistRow(
        **_copy(finalist, FinalistRow) | {"seeds": len(finalist.seeds)},
        lr_range=None if finalist.rates is None else (finalist.rates.low, finalist.rates.high),
        seed_values=finalist.seeds,
        mlflow_run_ids=finalist.run_ids,
        test=TestRow(
            score=ValueRow(**_flatten("value", finalist.score)),
            score_at_default=finalist.score_at_default,
            **_flatten("miou", finalist.miou),
            fg_iou=None if finalist.fg_iou is None else finalist.fg_iou.estimate,
            precision=_compute_overall(finalist.precision, binary),
            recall=_compute_overall(finalist.recall, binary),
            dice=finalist.dice,
            miou_at_default=finalist.miou_at_default,
            per_class=tuple(
                ClassRow(name=name, iou=iou, precision=precision, recall=recall)
                for name, iou, precision, recall in zip(
                    evidence.classes, finalist.iou, finalist.precision, finalist.recall, strict=True
                )
            ),
        ),
        vs_baseline=versus,
        vs_plain_baseline=None if plain is None else DifferenceRow(**_flatten("difference", plain)),
        validation_score=finalist.val_score,
        probability_best=None if finalist.regret is None else finalist.regret.best,
        collapse_rate=RateRow(ci_low=low, ci_high=high),
    )


def _make_difference_row(evidence: Evidence, first: int, second: int) -> LevelDifferenceRow:
    gap = _flatten("difference", get_difference(evidence, first, second))
    return LevelDifferenceRow(**gap, level=get_comparison_level(evidence, first, second))


def _compute_overall(per_class: Sequence[float | None], binary: bool) -> float | None:
    """Return a binary task's value of the foreground, else the mean over the classes that occur."""
    if binary:
        return per_class[-1]
    values = [value for value in per_class if value is not None]
    return sum(values) / len(values) if values else None


def _make_comparison_rows(evidence: Evidence) -> tuple[ComparisonRow, ...]:
    """Make a row for each pair once, the better finalist first."""
    return tuple(
        ComparisonRow(
            first=evidence.finalists[c.first].family,
            second=evidence.finalists[c.second].family,
            **dict(_make_difference_row(evidence, c.first, c.second)),
            se_seed=c.difference.se_seed,
            se_image=c.difference.se_image,
        )
        for c in evidence.comparisons
        if c.first < c.second
    )


def _count_collapses(sweep: SweepRecord, words: Callable[[TrialResult], Sequence[str]]) -> dict[str, dict[str, int]]:
    """Count how often each family's trainings, of search and confirmation, have each word."""
    counters: dict[str, Counter[str]] = {}
    for trial in (*sweep.trials, *sweep.confirmations):
        if word := words(trial):
            counters.setdefault(trial.spec.family, Counter()).update(word)
    return {family: dict(counts) for family, counts in counters.items()}
