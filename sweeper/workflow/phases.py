"""Phases of a sweep, in order: ladder, rates, first look, search, replication, confirmation, final training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sweeper import storage as studies
from sweeper.core.errors import SweeperError
from sweeper.core.records import AnalysisTaken, BudgetProbe, InterimAnalysis, SameLoss, StudyRates, TrialSpec
from sweeper.core.text import format_count, format_significant
from sweeper.evidence.interim_analyses import FIRST_LOOK
from sweeper.evidence.phrases import format_stop
from sweeper.space import count_floor_trials
from sweeper.study.budget_ladder import choose_ladder_pair, find_rates, list_rate_trainings
from sweeper.study.finalist import (
    REPLICATIONS,
    Finalist,
    TriedConfigurations,
    choose_finalists,
    choose_first_pair,
    collect_configurations,
    derive_confirmation_seed,
    list_replications,
    make_confirmation_specs,
)
from sweeper.study.learning_check import has_learned_nothing
from sweeper.study.loop import TrainingList
from sweeper.study.race import Race, settle_analyses
from sweeper.study.same_loss import find_equivalent_losses
from sweeper.study.search import GENERATION, LossSearch, count_possible_trials, enqueue_defaults
from sweeper.study.timekeeper import REPLICATION_SHARE, SEARCH_SHARE
from sweeper.workflow.budget import find_budget
from sweeper.workflow.confirmation_evidence import make_round_judge
from sweeper.workflow.final_training import train_final
from sweeper.workflow.run_context import RunContext


def train_all(context: RunContext, on_plan_final: Callable[[studies.StudyPlan], None]) -> None:
    """Train all phases, or until the time limit; `on_plan_final` receives the plan once its steps are known.

    Raises:
        InterruptedSweepError: on a signal; the study can be resumed.
    """
    context.study.set_user_attr(studies.CUT, [])
    if not context.request.finds_steps or find_budget(context):
        _compare_losses(context, on_plan_final)
    train_final(context)


def _compare_losses(context: RunContext, on_plan_final: Callable[[studies.StudyPlan], None]) -> None:
    """Train all phases but ladder and final training."""
    on_plan_final(context.plan)
    rates = try_rates(context)
    look_first(context, rates)
    if not run_search(context, rates):
        if not context.study.user_attrs[studies.CUT]:
            context.record_time_cut("all of the time was gone before the confirmation")
    elif _has_learned_something(context):
        context.publish_answer()
        confirm_finalists(context, replicate_best(context, rates))


def _train_list(context: RunContext, specs: Sequence[TrialSpec], *, share: float) -> bool:
    """Train what is missing of these trainings of one phase; return whether all have ended."""
    admit = context.time.make_admission(share)
    batch = TrainingList(context.study, specs, recorder=context.recorder, admit=admit)
    if not len(batch):
        return True
    context.show_phase(specs[0].purpose, missing=len(batch))
    context.run_work(batch)
    return batch.is_complete


# --- The learning rates -------------------------------------------------------------------------------------


def try_rates(context: RunContext) -> StudyRates:
    """Find the learning rates of the losses, unless they were found, and store them."""
    study, plan = context.study, context.plan
    if (stored := studies.read_rates(study.user_attrs)) is not None:
        return stored
    trained = [r for purpose in ("probe", "rate") for r in studies.list_extra_results(study, purpose)]
    while specs := list_rate_trainings(trained, plan.space, plan.conditions, plan.imbalance):
        if not _train_list(context, specs, share=SEARCH_SHARE):
            context.record_time_cut("there was no time to try all learning rates")
            break
        trained = [r for purpose in ("probe", "rate") for r in studies.list_extra_results(study, purpose)]
    rates = find_rates(trained, plan.space, plan.conditions, plan.imbalance)
    study.set_user_attr(studies.RATES, studies.pack(rates))
    return rates


# --- The first look -----------------------------------------------------------------------------------------


def look_first(context: RunContext, rates: StudyRates) -> None:
    """Compare the ladder's pair at the confirmation's steps, before anything is searched, unless it was compared."""
    study, conditions = context.study, context.plan.conditions
    trained = [r for purpose in ("probe", "rate") for r in studies.list_extra_results(study, purpose)]
    pair = choose_first_pair(trained, context.plan.space, conditions, rates)
    if not pair or not context.request.looks_first or studies.search_results(study):
        return
    names = " and ".join(finalist.family for finalist in pair)
    specs = make_confirmation_specs(pair, conditions, FIRST_LOOK.seeds, purpose="first")
    context.display.log(f"first look: {FIRST_LOOK.seeds} seeds of {names}, {specs[0].steps:,} steps each")
    _train_list(context, specs, share=1.0)
    context.publish_answer()


# --- The search ---------------------------------------------------------------------------------------------


def run_search(context: RunContext, rates: StudyRates) -> bool:
    """Search up to the total, or within its share of the time; return False when the whole time is up."""
    plan, study = context.plan, context.study
    total = count_possible_trials(plan.space, context.request.trials)
    first = [loss.name for loss in plan.conditions.losses]
    if count_floor_trials(plan.space, total) <= 1:  # where not all losses may be tried, the ladder's are there
        first = [*choose_ladder_pair(plan.space)[1:], *first]
    enqueue_defaults(study, plan.space, total, first, is_limited=context.request.time is not None)
    probe = studies.read_budget_probe(study.user_attrs)
    context.show_phase("search", total=total)
    work = LossSearch(
        study,
        plan.space,
        plan.conditions,
        imbalance=plan.imbalance,
        trials=total,
        rates=rates,
        recorder=context.recorder,
        checkpoints=context.checkpoints,
        admit=context.time.make_admission(SEARCH_SHARE),
        reusable=[r for purpose in ("probe", "rate") for r in studies.list_extra_results(study, purpose)],
        gain=context.request.margin if context.request.settles else None,
        strict=context.request.finds_steps,
        earliest=probe.earliest if probe is not None else 0,
    )
    in_time = context.run_work(work)
    if not in_time:
        work.end_waiting_trials()
    if (done := len(studies.search_results(study))) < total:
        if not in_time or not context.time.make_admission(SEARCH_SHARE)(plan.conditions.recipe.steps):
            context.record_time_cut(f"the search ended after {done} of {total} trials")
        elif work.is_settled:
            context.display.log(
                f"the search ended after {done} trials: the last {GENERATION} raised the best value by no more than "
                f"{context.request.margin:g}"
            )
    return in_time


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


def replicate_best(context: RunContext, rates: StudyRates) -> list[Finalist]:
    """Train what may be the best on further seeds, and return the finalists."""
    study, plan = context.study, context.plan
    same = _find_same_losses(context)

    def collect(rounds: int) -> TriedConfigurations:
        """Collect what was trained up to so many rounds: a resume must decide each as it was decided before."""
        trials, end = studies.search_results(study), derive_confirmation_seed(plan.conditions.seed, rounds)
        others = [r for purpose in studies.BEFORE for r in studies.list_extra_results(study, purpose)]
        others = [r for r in others if r.spec.purpose != "replicate" or r.spec.seed < end]
        return collect_configurations(trials, others, rates, plan.space, plan.conditions, same=same)

    has_several = count_floor_trials(plan.space, context.request.trials) > 1
    for number in range(REPLICATIONS if has_several else 0):
        specs = list_replications(collect(number), plan.space, plan.conditions, number)
        names = ", ".join(spec.family for spec in specs)
        if specs:
            context.display.log(f"may be the best, so trained on another seed: {names}")
        if specs and not _train_list(context, specs, share=REPLICATION_SHARE):
            context.record_time_cut(f"there was no time to train what may be the best again: {names}")
            break
    return choose_finalists(collect(REPLICATIONS), plan.space)


def _find_same_losses(context: RunContext) -> tuple[SameLoss, ...]:
    """Return which trials are another name for a simpler loss, and store it."""
    study, plan, trials = context.study, context.plan, studies.search_results(context.study)
    equivalences = studies.read_equivalent_losses(study.user_attrs)
    if equivalences is None or equivalences.trials != len(trials):
        try:
            equivalences = find_equivalent_losses(trials, plan.space, plan.conditions, context.measure)
        except SweeperError as error:
            context.display.warn(f"could not check for equivalent losses ({error}); treating all as distinct")
            return ()
        study.set_user_attr(studies.SAME, studies.pack(equivalences))
    for same in equivalences.found:
        params = ", ".join(f"{name} {format_significant(value)}" for name, value in same.params.items())
        context.display.log(
            f"trial {same.trial} ({same.family} {params}) is equivalent to {same.is_family} on these data and counts "
            f"as {same.is_family}"
        )
    return equivalences.found


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
