"""Rounds of the confirmation: train to the next planned seeds, analyse, continue with the finalists that remain.

An interim analysis weighs its planned seeds: those of the finalists that got so far, and of a dropped one those that it
had. What idle workers trained ahead is weighed once it is planned.

An interim analysis is stored with the numbers of the confirmations that it weighed. A resume replays stored ones as
long as finalists, plan and confirmations are the same, and analyses again from the first that differs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import optuna

from sweeper.core.records import AnalysisTaken, Conditions, InterimAnalysis, TrialResult, TrialSpec, Until, Verdict
from sweeper.storage.interim_analyses import StoredAnalyses, StoredAnalysis, read_analyses, read_planned_analyses
from sweeper.storage.record_format import PLANNED, TAKEN, pack, pack_value
from sweeper.storage.results import list_extra_results
from sweeper.study.finalist import Finalist
from sweeper.study.race import RaceRound, Rounds

SHOWN = 48
"""Test images whose predictions are kept, of each finalist's first seed, for the report's side-by-side figure."""


def confirm_seed(study_seed: int, number: int) -> int:
    """Seed of the number-th (from 0) confirmation of each finalist: never one of the search's."""
    return 1000 * (study_seed + 1) + number


def fold_numbers(folds: int | None) -> Sequence[int | None]:
    """Return the trainings that make up one seed of a finalist: one, or one for each fold."""
    return [None] if folds is None else range(folds)


def make_confirmation_specs(finalists: Sequence[Finalist], conditions: Conditions, seeds: int) -> list[TrialSpec]:
    """`seeds` seeds of each finalist, seed by seed (and fold by fold), so that whatever is finished is paired."""
    folds = fold_numbers(conditions.folds)
    shown = -(-SHOWN // len(folds))
    return [
        finalist.trial.spec.model_copy(
            update={
                "purpose": "confirm",
                "seed": confirm_seed(conditions.seed, number),
                "lr": finalist.learning_rate_for_seed(number),
                "fold": fold,
                "steps": conditions.recipe.confirm_steps,
                "keep_predictions": shown if number == 0 else 0,
            }
        )
        for number in range(seeds)
        for fold in folds
        for finalist in finalists
    ]


LONGER_FROM = 900
"""Number of the first seed of the longer trainings: no confirmation gets so far."""


def make_longer_spec(finalist: Finalist, conditions: Conditions, times: int, number: int) -> TrialSpec:
    """Return the finalist's training on seed `number` (from 0) of the longer look, at `times` the steps."""
    return finalist.trial.spec.model_copy(
        update={
            "purpose": "longer",
            "seed": confirm_seed(conditions.seed, LONGER_FROM + number),
            "lr": finalist.learning_rate_for_seed(LONGER_FROM + number),
            "steps": times * conditions.recipe.confirm_steps,
        }
    )


def select_longer_results(
    results: Sequence[TrialResult], finalists: Sequence[Finalist], conditions: Conditions
) -> list[TrialResult]:
    """Return the completed longer trainings of these finalists; of several looks those of the longest."""
    wanted, first, base = {f.trial.spec.loss: f for f in finalists}, confirm_seed(conditions.seed, 0), conditions.recipe
    chosen = [
        r
        for r in results
        if r.state == "complete"
        and r.spec.steps % base.confirm_steps == 0
        and r.spec.steps > base.confirm_steps
        and (finalist := wanted.get(r.spec.loss)) is not None
        and r.spec.lr == finalist.learning_rate_for_seed(r.spec.seed - first)
    ]
    most = max((r.spec.steps for r in chosen), default=0)
    return [r for r in chosen if r.spec.steps == most]


def select_confirmed(
    results: Sequence[TrialResult],
    finalists: Sequence[Finalist],
    conditions: Conditions,
    seeds: Mapping[str, int] | int | None,
) -> list[TrialResult]:
    """Return the completed confirmations of these finalists on their first `seeds` seeds.

    `seeds` may be given by family (a missing family has none); None = all.

    With folds, of whole rotations alone: a seed that lacks a fold has not scored every image.
    """
    wanted = {f.trial.spec.loss: f for f in finalists}
    first = confirm_seed(conditions.seed, 0)
    of = {f.family: seeds.get(f.family, 0) if isinstance(seeds, Mapping) else seeds for f in finalists}
    steps = conditions.recipe.confirm_steps
    chosen = [
        r
        for r in results
        if r.state == "complete"
        and r.spec.steps == steps
        and (finalist := wanted.get(r.spec.loss)) is not None
        and ((most := of[finalist.family]) is None or 0 <= r.spec.seed - first < most)
        and (r.spec.seed >= first or not finalist.drawn)
        and r.spec.lr == finalist.learning_rate_for_seed(r.spec.seed - first)
    ]
    have: dict[object, set[int | None]] = defaultdict(set)
    for r in chosen:
        have[r.spec.loss, r.spec.seed].add(r.spec.fold)
    needed = set(fold_numbers(conditions.folds))
    return [r for r in chosen if have[r.spec.loss, r.spec.seed] >= needed]


class RoundDecision(NamedTuple):
    """Decision on the confirmations so far."""

    verdict: Verdict
    error: float
    """Two-sided error of the intervals."""
    go_on: bool
    families: tuple[str, ...]
    """Finalists that get more seeds."""
    reason: str
    """Reason, in a sentence."""


Judge = Callable[[Sequence[TrialResult]], RoundDecision]
Report = Callable[[int, AnalysisTaken, bool], None]
"""(number of the interim analysis, its result, whether the confirmation continues)."""


def settle_analyses(study: optuna.Study, analyses: Sequence[InterimAnalysis]) -> tuple[InterimAnalysis, ...] | None:
    """Keep the plan with the study; the plan before, where that was another one."""
    before = read_planned_analyses(study.user_attrs)
    if before == tuple(analyses):
        return None
    study.set_user_attr(PLANNED, pack_value([[analysis.model_dump(mode="json") for analysis in analyses]]))
    return before or None


def plan_rounds(
    study: optuna.Study,
    finalists: Sequence[Finalist],
    conditions: Conditions,
    analyses: Sequence[InterimAnalysis],
    *,
    until: Until,
    judge: Judge,
    report: Report,
) -> Rounds:
    """Yield the next round until an analysis says that it is enough, the last was made, or the time is up.

    Args:
        study: keeps results and interim analyses.
        finalists: who is confirmed.
        conditions: the study's.
        analyses: the planned interim analyses, in ascending order of seeds.
        until: `has_search_settled`, or `probable`: when `judge` ends it.
        judge: weighs completed confirmations.
        report: receives each interim analysis, replayed ones included.
    """
    before, memory = read_analyses(study.user_attrs), _reuse_analyses(study, finalists, conditions, analyses, until)
    if memory != before and (before.finalists, before.steps) == (memory.finalists, memory.steps):
        memory = _continue_plan(study, before, memory, finalists, conditions)
    _store_analysis(study, memory)
    active = [f for f in finalists if memory.active is None or f.family in memory.active]
    kept: list[StoredAnalysis] = []
    planned = dict(memory.had)
    for number, analysis in enumerate(analyses):
        if number < memory.first:
            continue
        planned |= {finalist.family: analysis.seeds for finalist in active}
        after = analyses[number + 1].seeds if number + 1 < len(analyses) else 0
        specs, ahead = (make_confirmation_specs(active, conditions, seeds) for seeds in (analysis.seeds, after))
        complete = yield RaceRound(number, specs, ahead)
        results = select_confirmed(list_extra_results(study, "confirm"), finalists, conditions, planned)
        used = tuple(sorted(result.spec.number for result in results))
        if not complete:
            cut = _analyse_cut_round(results, active, kept, analysis, planned=planned, judge=judge)
            _store_analysis(study, memory.model_copy(update={"stored": tuple(kept), "cut": cut}))
            report(number, cut, False)
            return
        stored = memory.stored[len(kept)] if len(kept) < len(memory.stored) else None
        if stored is None or stored.used != used:
            stored = _run_analysis(results, used, analysis, planned, judge)
            memory = memory.model_copy(update={"stored": (*kept, stored), "cut": None})
            _store_analysis(study, memory)
        kept.append(stored)
        # Of all finalists: a dropped one returns where another finalist leads that does not beat it.
        active = [finalist for finalist in finalists if finalist.family in stored.families]
        goes_on = stored.go_on and bool(active) and number + 1 < len(analyses)
        report(number, stored.found, goes_on)
        if not goes_on:
            return


def _reuse_analyses(
    study: optuna.Study,
    finalists: Sequence[Finalist],
    conditions: Conditions,
    analyses: Sequence[InterimAnalysis],
    until: Until,
) -> StoredAnalyses:
    """Interim analyses made before, if they were made of the same confirmation."""
    before = read_analyses(study.user_attrs)
    fresh = StoredAnalyses(
        finalists=tuple(finalist.identity for finalist in finalists),
        steps=conditions.recipe.confirm_steps,
        planned=tuple(analyses),
        until=until,
    )
    fields = {"finalists", "steps", "planned", "until"}
    return before if before.model_dump(include=fields) == fresh.model_dump(include=fields) else fresh


def _continue_plan(
    study: optuna.Study,
    before: StoredAnalyses,
    memory: StoredAnalyses,
    finalists: Sequence[Finalist],
    conditions: Conditions,
) -> StoredAnalyses:
    """Return where another plan for the same confirmation begins, and with which finalists.

    At the last of its interim analyses for which there are seeds enough: to weigh fewer than were weighed would be to
    forget data, and could end the confirmation by them. Who was dropped is judged by the seeds it has.
    """
    most = memory.planned[-1].seeds
    weighed = before.analyses[-1].within if before.analyses else 0
    seen = select_confirmed(list_extra_results(study, "confirm"), finalists, conditions, weighed)
    had = {f.family: min(most, len({r.spec.seed for r in seen if r.spec.family == f.family})) for f in finalists}
    enough = (k for k, analysis in enumerate(memory.planned) if analysis.seeds <= max(had.values(), default=0))
    first = max(enough, default=0)
    going = next((stored.families for stored in reversed(before.stored) if stored.go_on), tuple(had))
    active = tuple(f.family for f in finalists if first == 0 or f.family in going or not had[f.family])
    return memory.model_copy(update={"first": first, "active": active, "had": had if first else {}})


def _run_analysis(
    results: Sequence[TrialResult],
    used: tuple[int, ...],
    analysis: InterimAnalysis,
    planned: Mapping[str, int],
    judge: Judge,
) -> StoredAnalysis:
    judged = judge(results)
    analysis_taken = AnalysisTaken(
        seeds=analysis.seeds, within=dict(planned), error=analysis.error, verdict=judged.verdict, reason=judged.reason
    )
    return StoredAnalysis(found=analysis_taken, used=used, go_on=judged.go_on, families=judged.families)


def _analyse_cut_round(
    results: Sequence[TrialResult],
    active: Sequence[Finalist],
    kept: Sequence[StoredAnalysis],
    analysis: InterimAnalysis,
    *,
    planned: Mapping[str, int],
    judge: Judge,
) -> AnalysisTaken:
    """Analyse the completed trainings of a round that the time limit cut."""
    judged = judge(results)
    seeds = [{r.spec.seed for r in results if r.spec.family == finalist.family} for finalist in active]
    paired = len(set.intersection(*seeds)) if seeds else 0
    before = f"{kept[-1].found.seeds} seeds were analysed; " if kept else ""
    reason = f"{before}the time was up before the interim analysis at {analysis.seeds} seeds"
    return AnalysisTaken(
        seeds=paired,
        within=dict(planned),
        error=judged.error,
        verdict=judged.verdict,
        reason=reason[0].upper() + reason[1:],
    )


def _store_analysis(study: optuna.Study, memory: StoredAnalyses) -> None:
    if memory != read_analyses(study.user_attrs):
        study.set_user_attr(TAKEN, pack(memory))
