"""Phases of a sweep, in order: budget probe, first look, search, finalists, confirmation, longer look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sweeper import storage as studies
from sweeper.core.errors import SweeperError
from sweeper.core.records import AnalysisTaken, BudgetProbe, InterimAnalysis, RateFit, SameLoss, TrialResult
from sweeper.core.text import format_count, format_significant
from sweeper.evidence.interim_analyses import FIRST_LOOK
from sweeper.evidence.phrases import format_stop
from sweeper.space import count_floor_trials, list_first_trials
from sweeper.study.budget_ladder import choose_ladder_pair, make_weighted_start
from sweeper.study.finalist import (
    Finalist,
    choose_finalists,
    choose_first_pair,
    find_pending_rechecks,
    fit_common_rate,
    make_confirmation_specs,
)
from sweeper.study.learning_check import has_learned_nothing
from sweeper.study.loop import TrainingList
from sweeper.study.race import Race, settle_analyses
from sweeper.study.same_loss import find_equivalent_losses, relabel_equivalent_trials
from sweeper.study.search import PATIENCE, LossSearch, enqueue_defaults
from sweeper.study.timekeeper import RECHECK_SHARE, SEARCH_SHARE
from sweeper.workflow.budget import find_budget
from sweeper.workflow.confirmation_evidence import make_round_judge
from sweeper.workflow.longer_look import look_at_longer
from sweeper.workflow.run_context import RunContext


def train_all(context: RunContext, on_plan_final: Callable[[studies.StudyPlan], None]) -> None:
    """Train all phases, or until the time limit; `on_plan_final` receives the plan once its steps are known.

    Raises:
        InterruptedSweepError: on a signal; the study can be resumed.
    """
    context.study.set_user_attr(studies.CUT, [])
    if context.request.finds_steps and not find_budget(context):
        return
    on_plan_final(context.plan)
    look_first(context)
    if not run_search(context):
        if not context.study.user_attrs[studies.CUT]:
            context.record_time_cut("all of the time was gone before the confirmation")
    elif _has_learned_something(context):
        context.publish_answer()
        confirmed = choose_tuned_finalists(context)
        confirm_finalists(context, confirmed)
        look_at_longer(context, confirmed)


# --- The first look -----------------------------------------------------------------------------------------


def look_first(context: RunContext) -> None:
    """Compare the ladder's pair at the confirmation's steps, before anything is tuned, unless it was compared."""
    study, conditions = context.study, context.plan.conditions
    pair = choose_first_pair(studies.list_extra_results(study, "probe"), context.plan.space, conditions)
    if not context.request.looks_first or studies.search_results(study):
        return
    admit = context.time.make_admission(SEARCH_SHARE)
    specs = make_confirmation_specs(pair, conditions, FIRST_LOOK.seeds, purpose="first")
    batch = TrainingList(study, specs, recorder=context.recorder, admit=admit)
    if len(batch):
        names = " and ".join(finalist.family for finalist in pair)
        context.display.log(f"first look: {FIRST_LOOK.seeds} seeds of {names}, {specs[0].steps:,} steps each")
        context.show_phase("first", missing=len(batch))
        context.run_work(batch)
    context.publish_answer()


# --- The search ---------------------------------------------------------------------------------------------


def run_search(context: RunContext) -> bool:
    """Search up to the total, or within its share of the time; return False when the whole time is up."""
    plan, total = context.plan, context.request.trials
    is_limited = context.request.time is not None
    enqueue_defaults(context.study, plan.space, total, _read_ladder_start(context), is_limited=is_limited)
    probe = studies.read_budget_probe(context.study.user_attrs)
    context.show_phase("search", total=total)
    work = LossSearch(
        context.study,
        plan.space,
        plan.conditions,
        imbalance=plan.imbalance,
        trials=total,
        recorder=context.recorder,
        checkpoints=context.checkpoints,
        admit=context.time.make_admission(SEARCH_SHARE),
        reusable=studies.list_extra_results(context.study, "probe"),
        gain=context.request.margin if context.request.settles else None,
        strict=context.request.finds_steps,
        earliest=probe.earliest if probe is not None else 0,
    )
    in_time = context.run_work(work)
    if not in_time:
        work.end_waiting_trials()
    if (done := len(studies.search_results(context.study))) < total:
        if not in_time or not context.time.make_admission(SEARCH_SHARE)(plan.conditions.recipe.steps):
            context.record_time_cut(f"the search ended after {done} of {total} trials")
        elif work.is_settled:
            context.display.log(
                f"the search ended after {done} trials: the last {PATIENCE} raised the best value by no more than "
                f"{context.request.margin:g}"
            )
    return in_time


def _read_ladder_start(context: RunContext) -> dict[str, dict[str, Any]]:
    """Return the defaults that come first where a family has a single trial: the ladder's, then the user's losses."""
    space, probe = context.plan.space, studies.read_budget_probe(context.study.user_attrs)
    if probe is None or probe.breadth is None or count_floor_trials(space, context.request.trials) > 1:
        return {}
    starts = {name: make_weighted_start(space.by_name[name], space) for name in choose_ladder_pair(space)[1:]}
    first = list_first_trials(space)
    return starts | {loss.name: first[loss.name][0] for loss in context.plan.conditions.losses if loss.name in first}


def _has_learned_something(context: RunContext) -> bool:
    """Return whether any training beats a constant answer; if not, record that there is nothing to confirm."""
    study, trials, strict = context.study, studies.search_results(context.study), context.request.finds_steps
    if not has_learned_nothing(trials, studies.list_extra_results(study, "probe"), strict=strict):
        return True
    steps = context.plan.conditions.recipe.steps
    sentence = f"no loss clearly beats a constant answer in {steps} steps, so that nothing was confirmed"
    context.display.warn(sentence)
    probed = BudgetProbe(first=steps, steps=steps, sentence=sentence, learned=False)
    study.set_user_attr(studies.PROBED, studies.pack(probed))
    return False


# --- The finalists ------------------------------------------------------------------------------------------


def choose_tuned_finalists(context: RunContext) -> list[Finalist]:
    """Choose the finalists, and find the learning rates of their confirmation."""
    study, plan = context.study, context.plan
    trials, same = _relabel_trials(context, studies.search_results(study))
    fit = _resolve_common_rate(context, trials)
    specs = find_pending_rechecks(trials, studies.list_extra_results(study, "recheck"), fit, plan.space)
    if fit is not None and specs:
        names = ", ".join(spec.family for spec in specs)
        why = f"best at another learning rate than the common {fit.best:g}, so trained there, too: {names}"
        batch = TrainingList(study, specs, recorder=context.recorder, admit=context.time.make_admission(RECHECK_SHARE))
        context.display.log(why)
        context.show_phase("recheck", missing=len(batch))
        context.run_work(batch)
        if not batch.is_complete:
            context.record_time_cut(f"there was no time for all of these trainings: {why}")
    rechecks = studies.list_extra_results(study, "recheck")
    return choose_finalists(trials, rechecks, fit, plan.space, plan.conditions, same=same)


def _resolve_common_rate(context: RunContext, trials: Sequence[TrialResult]) -> RateFit | None:
    """Return the common learning rate of the confirmation, which stays the same once that has begun."""
    study = context.study
    stored = studies.read_common_rate(study.user_attrs)
    if stored is not None and studies.list_extra_results(study, "confirm"):
        return stored
    fit = fit_common_rate(trials, context.plan.space)
    if fit is not None and fit != stored:
        study.set_user_attr(studies.RATES, studies.pack(fit))
    return fit


def _relabel_trials(context: RunContext, trials: list[TrialResult]) -> tuple[list[TrialResult], tuple[SameLoss, ...]]:
    """Return the trials, relabelled where they equal a simpler loss, and the equivalences, which are stored."""
    study, plan = context.study, context.plan
    equivalences = studies.read_equivalent_losses(study.user_attrs)
    if equivalences is None or equivalences.trials != len(trials):
        try:
            equivalences = find_equivalent_losses(trials, plan.space, plan.conditions, context.measure)
        except SweeperError as error:
            context.display.warn(f"could not check for equivalent losses ({error}); treating all as distinct")
            return trials, ()
        study.set_user_attr(studies.SAME, studies.pack(equivalences))
    for same in equivalences.found:
        params = ", ".join(f"{name} {format_significant(value)}" for name, value in same.params.items())
        context.display.log(
            f"trial {same.trial} ({same.family} {params}) is equivalent to {same.is_family} on these data and counts "
            f"as {same.is_family}"
        )
    return relabel_equivalent_trials(trials, equivalences.found), equivalences.found


# --- The confirmation ---------------------------------------------------------------------------------------


def confirm_finalists(context: RunContext, finalists: Sequence[Finalist]) -> None:
    """Train the finalists on fresh seeds until an interim analysis ends the confirmation."""
    study, analyses, log = context.study, context.request.analyses, context.display.log
    if (before := settle_analyses(study, analyses)) is not None and _format_seeds(analyses) != _format_seeds(before):
        log(
            f"the confirmation is analysed after {_format_seeds(analyses)} seeds from now on (before: "
            f"{_format_seeds(before)})"
        )
    if not finalists:
        return
    conditions, folds = context.plan.conditions, context.plan.conditions.folds

    def announce_round(number: int, families: list[str], missing: int) -> None:
        if missing:
            rotation = f", each a rotation over {folds} folds" if folds is not None else ""
            seeds = format_count(analyses[number].seeds, "seed")
            log(f"{_place(number)}: {seeds} of {', '.join(families)}{rotation}")
            context.show_phase("confirm", missing=missing)
            context.publish_answer()

    def report_analysis(number: int, analysis: AnalysisTaken) -> None:
        log(
            f"{_place(number)}, {format_count(analysis.seeds, 'seed')}: {analysis.outcome}. "
            f"{format_stop(analysis.code, analysis.chance)}"
        )
        if number < len(analyses) and analysis.seeds < analyses[number].seeds:
            context.record_time_cut(
                f"the confirmation ended before the interim analysis at {analyses[number].seeds} seeds"
            )
        context.publish_answer()

    def _place(number: int) -> str:
        return f"interim analysis {number + 1} of at most {len(analyses)}"

    margin, space = context.request.margin, context.plan.space
    race = Race(
        study,
        finalists,
        conditions,
        analyses,
        judge=make_round_judge(finalists, conditions, space, margin=margin, analyses=analyses),
        recorder=context.recorder,
        admit=context.time.make_admission(1.0),
        on_round_begin=announce_round,
        report=report_analysis,
    )
    if not race.is_over:
        context.run_work(race)
    if not race.is_over:
        race.analyse_cut_round()


def _format_seeds(analyses: Sequence[InterimAnalysis]) -> str:
    return ", ".join(str(analysis.seeds) for analysis in analyses)
