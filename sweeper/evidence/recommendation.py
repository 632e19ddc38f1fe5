"""From evidence to the answer, as a record and as the JSON of the contract (`recommendation.json`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from sweeper.core.records import (
    Evidence,
    FinalistEvidence,
    Interval,
    PlainPoint,
    Recommendation,
    Recommended,
    Scale,
    SweepRecord,
    Task,
    TrialResult,
    list_trainers,
)
from sweeper.evidence.decision_rule import get_difference
from sweeper.evidence.decision_rules import get_established_gain
from sweeper.evidence.document import (
    AnalysesRow,
    ClassRow,
    ComparisonRow,
    DatasetRow,
    DecisionRow,
    DifferenceRow,
    FinalistRow,
    LevelDifferenceRow,
    PlainPointRow,
    PreferenceRow,
    RateRow,
    RecommendationDocument,
    SearchRow,
    TestRow,
    ValueRow,
)
from sweeper.evidence.interim_analyses import get_comparison_level
from sweeper.evidence.plain_point import compare_at_plain_point
from sweeper.evidence.preferences import choose_by_preference, find_recommended_index, find_rival
from sweeper.evidence.reasons import compute_collapse_rate
from sweeper.evidence.verdict import decide_verdict

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
    """Return the recommendation that this evidence allows.

    Args:
        evidence: what the confirmation showed; None where nothing was confirmed.
        task: decides whether the operating point is a threshold (binary) or τ (multi-class).
        order: family names, simplest first (`list(sweeper.losses.FAMILIES)`).
        snippet: writes the text to paste.
        resume: the command that continues the study.
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


def _make_recommended(chosen: FinalistEvidence, task: Task, snippet: Snippet) -> Recommended:
    point = float(median(chosen.points))  # over the seeds: one run's validation split does not decide it
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
    """Return the answer for programs, schema `sweeper.recommendation/1`: JSON types with finite numbers only.

    Intervals are at 95 %, or at the `level` next to them (of an interim analysis); shares and scores are in 0–1; what
    is unknown or undefined is null. `held_out` is false where the search saw the images that the finalists were scored
    on (`folds`: so many trainings then make up a seed, and `points` and `mlflow_run_ids` are of each).

    `split`: stems of the images that train, validate and test in the search, under `train`, `val` and `test` (with
    folds none test). None = not known.
    """
    data, evidence = sweep.conditions.dataset, recommendation.evidence
    states = Counter(trial.state for trial in sweep.trials)
    collapses = _count_collapses(sweep, lambda trial: (trial.collapse.value,) * trial.has_collapsed)
    document = RecommendationDocument(
        study=sweep.study,
        verdict=recommendation.verdict,
        strength=recommendation.strength,
        action=recommendation.action,
        head=recommendation.head or None,
        provisional=recommendation.provisional,
        reasons=recommendation.reasons,
        next_steps=recommendation.next_steps,
        dataset=DatasetRow(
            name=data.name,
            source=data.source,
            digest=data.digest,
            task=data.task,
            classes=data.classes,
            images=len(data.images),
            profile=sweep.profile,
        ),
        recipe=sweep.conditions.recipe,
        recommended=recommendation.recommended,
        not_learned=recommendation.not_learned,
        rungs=sweep.rungs,
        misses=recommendation.misses,
        longer=recommendation.longer,
        held_out=sweep.conditions.folds is None,
        folds=sweep.conditions.folds,
        split=None if split is None else {side: tuple(stems) for side, stems in split.items()},
        finalists=()
        if evidence is None
        else tuple(_make_finalist_row(evidence, i) for i in range(len(evidence.finalists))),
        comparisons=() if evidence is None else _make_comparison_rows(evidence),
        preferences=() if evidence is None else _make_preference_rows(evidence, recommendation),
        decisions=() if evidence is None else _make_decision_rows(evidence),
        plain_point=_make_plain_point_row(recommendation.plain),
        metric=Scale().score if evidence is None else evidence.scale.score,
        rope=sweep.rope,
        analyses=AnalysesRow(planned=sweep.analyses_planned, taken=sweep.analyses_taken),
        timeout=sweep.timeout,
        cut=sweep.cut,
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
        winners_curse=recommendation.winners_curse,
        collapses={family: sum(kinds.values()) for family, kinds in collapses.items()},
        collapse_kinds=collapses,
        never_predicted=_count_collapses(sweep, lambda trial: trial.missing_classes),
        versions=sweep.versions,
        trained_by=tuple(list_trainers(sweep)),
        seconds=sweep.seconds,
    )
    return document.document


def _make_finalist_row(evidence: Evidence, index: int) -> FinalistRow:
    finalist = evidence.finalists[index]
    baseline = evidence.baseline
    versus = None if baseline is None or baseline == index else _make_difference_row(evidence, index, baseline)
    binary = finalist.fg_iou is not None
    plain = finalist.vs_plain
    low, high = compute_collapse_rate(finalist)
    return FinalistRow(
        family=finalist.family,
        params=finalist.params,
        lr=finalist.lr,
        lr_range=None if finalist.rates is None else (finalist.rates.low, finalist.rates.high),
        seed_lrs=finalist.seed_lrs,
        found_as=finalist.found_as,
        seeds=len(finalist.seeds),
        seed_values=finalist.seeds,
        points=finalist.points,
        mlflow_run_ids=finalist.run_ids,
        test=TestRow(
            score=ValueRow(value=finalist.score.estimate, **_make_ends(finalist.score)),
            score_at_default=finalist.score_at_default,
            miou=finalist.miou.estimate,
            **_make_ends(finalist.miou),
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
        vs_plain_baseline=None if plain is None else DifferenceRow(difference=plain.estimate, **_make_ends(plain)),
        validation_score=finalist.val_score,
        search_trial=finalist.search_trial,
        search_value=finalist.search_value,
        trials_tried=finalist.trials_tried,
        trials_completed=finalist.trials_completed,
        regret=finalist.regret,
        probability_best=None if finalist.regret is None else finalist.regret.best,
        collapses=finalist.collapses,
        collapse_rate=RateRow(ci_low=low, ci_high=high),
        miou_when_trained=finalist.miou_when_trained,
        still_rising=finalist.still_rising,
    )


def _make_difference_row(evidence: Evidence, first: int, second: int) -> LevelDifferenceRow:
    gap = get_difference(evidence, first, second)
    return LevelDifferenceRow(
        difference=gap.estimate, **_make_ends(gap), level=get_comparison_level(evidence, first, second)
    )


def _make_ends(interval: Interval) -> dict[str, Any]:
    return {"ci_low": interval.low, "ci_high": interval.high}


def _compute_overall(per_class: Sequence[float | None], binary: bool) -> float | None:
    """Binary: of the foreground. Multi-class: mean over the classes that occur."""
    if binary:
        return per_class[-1]
    values = [value for value in per_class if value is not None]
    return sum(values) / len(values) if values else None


def _make_comparison_rows(evidence: Evidence) -> tuple[ComparisonRow, ...]:
    """Return each pair once, the better first, by family name."""
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


def _make_preference_rows(evidence: Evidence, recommendation: Recommendation) -> tuple[PreferenceRow, ...]:
    """Return the best choice by each preference, with every finalist's value."""
    recommended = find_recommended_index(recommendation)
    return tuple(
        PreferenceRow(
            name=preference.name,
            measure=preference.measure,
            higher_is_better=preference.higher_is_better,
            choose=evidence.finalists[chosen].family,
            finalist=chosen,
            point=preference.points[chosen] if preference.points else None,
            value=preference.scores[chosen].estimate,
            **_make_ends(preference.scores[chosen]),
            instead_of=None if recommended is None or chosen == recommended else evidence.finalists[recommended].family,
            unbeaten=preference.unbeaten,
            values=tuple(ValueRow(value=score.estimate, **_make_ends(score)) for score in preference.scores),
            rival=None if rival is None else evidence.finalists[rival[0]].family,
            lead=None if rival is None else DifferenceRow(difference=rival[1].estimate, **_make_ends(rival[1])),
        )
        for preference, chosen in choose_by_preference(recommendation)
        for rival in [find_rival(preference, chosen, recommended)]
    )


def _make_plain_point_row(plain_point: PlainPoint | None) -> PlainPointRow | None:
    if plain_point is None:
        return None
    gap = plain_point.difference
    rest = {name: getattr(plain_point, name) for name in ("against", "level", "best", "depends", "worse")}
    return PlainPointRow(difference=gap.estimate, **_make_ends(gap), **rest)


def _make_decision_rows(evidence: Evidence) -> tuple[DecisionRow, ...]:
    """Return each finalist's rule for images that count one by one, its gain, and its calibration."""
    decisions = evidence.decisions
    if decisions is None:
        return ()
    rows = []
    for i, finalist in enumerate(evidence.finalists):
        gain = get_established_gain(evidence, i)
        rows.append(
            DecisionRow(
                family=finalist.family,
                rule="rank_dice" if gain is not None and gain.low > 0 else "tuned",
                gain=None
                if gain is None
                else LevelDifferenceRow(difference=gain.estimate, **_make_ends(gain), level=decisions.level),
                slope=decisions.slopes[i] if decisions.slopes else None,
                bias=decisions.biases[i] if decisions.biases else None,
            )
        )
    return tuple(rows)


def _count_collapses(sweep: SweepRecord, words: Callable[[TrialResult], Sequence[str]]) -> dict[str, dict[str, int]]:
    """Return how often each family's trainings, of search and confirmation, have each word."""
    counters: dict[str, Counter[str]] = {}
    for trial in (*sweep.trials, *sweep.confirmations):
        if word := words(trial):
            counters.setdefault(trial.spec.family, Counter()).update(word)
    return {family: dict(counts) for family, counts in counters.items()}
