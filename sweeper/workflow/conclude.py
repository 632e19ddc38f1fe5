"""The end of the flow: the conclusion from a study's storage, and its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sweeper import storage as studies
from sweeper.core.errors import SweeperError
from sweeper.core.paths import ReportPaths
from sweeper.core.records import Evidence, LongerLook, Recommendation, SweepRecord, TrialResult
from sweeper.core.text import capitalise, format_count, format_study_command, join_words
from sweeper.data import open_store
from sweeper.data.folds import get_split
from sweeper.data.store import is_complete
from sweeper.evidence.action import add_longer_look
from sweeper.evidence.other_metrics import measure_finalists
from sweeper.evidence.reasons import AT_THIS_BUDGET
from sweeper.evidence.recommendation import find_recommended_index, make_recommendation
from sweeper.evidence.verdict import MORE_STEPS
from sweeper.losses import FAMILIES, make_snippet
from sweeper.losses.snippet import OptimizerSettings
from sweeper.study.budget_ladder import find_unlearned_classes
from sweeper.study.finalist import BASELINE, Finalist, choose_finalists, fit_common_rate, select_confirmed
from sweeper.study.learning_check import HELP
from sweeper.study.same_loss import relabel_equivalent_trials
from sweeper.workflow.confirmation_evidence import compute_confirmation_evidence, compute_longer_look, list_test_groups

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


class Outcome(NamedTuple):
    """Outcome of a sweep."""

    sweep: SweepRecord
    recommendation: Recommendation
    paths: ReportPaths


def draw_conclusion(sweep: SweepRecord) -> Recommendation:
    """Draw the conclusion from a study's record; pure, except for the registry of losses."""
    conditions = sweep.conditions
    trials = relabel_equivalent_trials(sweep.trials, sweep.same_losses)
    fit = sweep.rate_fit or fit_common_rate(trials, sweep.space)
    finalists = choose_finalists(trials, sweep.rechecks, fit, sweep.space, conditions, same=sweep.same_losses)
    tested = sweep.confirmations if sweep.tested else ()
    usable = select_confirmed(tested, finalists, conditions, _count_analysed_seeds(sweep))
    evidence = _compute_all_evidence(sweep, usable, finalists)
    recommendation = make_recommendation(
        evidence,
        task=conditions.dataset.task,
        order=list(FAMILIES),
        snippet=partial(_format_paste, sweep),
        resume=sweep.resume_command,
    )
    if evidence is None:
        recommendation = _explain_missing_evidence(recommendation, sweep)
    else:
        recommendation = _add_never_confirmed(recommendation, evidence, finalists, sweep)
        recommendation = _advise_untried_losses(recommendation, evidence, sweep)
        if (chosen := find_recommended_index(recommendation)) is not None and sweep.longer:
            look = compute_longer_look(
                sweep.longer, usable, finalists, conditions, evidence=evidence, recommended=chosen
            )
            recommendation = recommendation if look is None else _replace_longer_caveats(recommendation, look)
        is_short = conditions.folds is None and conditions.recipe.command is None  # a script has its own length
        if is_short and recommendation.longer is None and recommendation.action == "change":
            step = "Before you change: a gain can vanish with more steps. "
            step += f"`{sweep.resume_command} --longer 4` looks at 4 times the steps."
            recommendation = recommendation.model_copy(update={"next_steps": (step, *recommendation.next_steps)})
    recommendation = recommendation.model_copy(
        update={"not_learned": find_unlearned_classes(usable or sweep.trials or sweep.probes, conditions)}
    )
    return _add_unfinished_state(_add_time_cut(recommendation, sweep), sweep)


def _replace_longer_caveats(recommendation: Recommendation, look: LongerLook) -> Recommendation:
    """Return the recommendation with the result of the longer look in place of the caveats on more steps."""
    reasons = tuple(
        f"{reason.removesuffix(end)}." if (end := next(filter(reason.endswith, AT_THIS_BUDGET), None)) else reason
        for reason in recommendation.reasons
    )
    steps = tuple(step for step in recommendation.next_steps if not step.startswith(MORE_STEPS))
    head = recommendation.head
    if recommendation.evidence is not None:
        head = add_longer_look(head, recommendation.evidence, recommendation.action, look)
    return recommendation.model_copy(update={"longer": look, "head": head, "reasons": reasons, "next_steps": steps})


def _advise_untried_losses(recommendation: Recommendation, evidence: Evidence, sweep: SweepRecord) -> Recommendation:
    """Return the recommendation with the losses without a trial as the first next step, if one of them is missing.

    That is cross-entropy, without which there is no action, or any other loss where only one was confirmed.
    """
    is_alone, tried = len(evidence.finalists) < 2, {trial.spec.family for trial in sweep.trials}
    untried = [family for family in sweep.space.by_name if family not in tried]
    if not untried or not (is_alone or (evidence.baseline is None and BASELINE in untried)):
        return recommendation
    total = len(sweep.trials) + len(untried)
    more = f" --trials {total}" if total > sweep.trials_asked else ""
    step = f"Try the losses that had no trial, too ({join_words(untried)}): `{sweep.resume_command}{more}`."
    others = () if is_alone else recommendation.next_steps
    return recommendation.model_copy(update={"next_steps": (step, *others)})


def _compute_all_evidence(
    sweep: SweepRecord, usable: Sequence[TrialResult], finalists: Sequence[Finalist]
) -> Evidence | None:
    """Compute the evidence of the confirmations, by the verdict's metric and by other measures."""
    conditions = sweep.conditions
    evidence = compute_confirmation_evidence(
        usable, finalists, conditions, sweep.space, margin=sweep.margin, analyses=sweep.analyses_planned
    )
    if evidence is None:
        return None
    same_by_trial = {same.trial: same for same in sweep.same_losses}
    rows = tuple(row.model_copy(update={"found_as": same_by_trial.get(row.search_trial)}) for row in evidence.finalists)
    evidence = evidence.model_copy(update={"finalists": rows})
    others = measure_finalists(usable, evidence, list_test_groups(conditions, usable))
    return evidence.model_copy(update={"others": others})


def _format_paste(
    sweep: SweepRecord,
    family: str,
    params: dict[str, float],
    point: float,
    lr: float,
) -> str:
    """Format the loss and the optimiser as code."""
    dataset, recipe = sweep.conditions.dataset, sweep.conditions.recipe
    train = get_split(sweep.conditions, sweep.conditions.seed).train
    return make_snippet(
        family,
        params,
        dataset.task,
        dataset.classes,
        [float(n) for n in dataset.count_class_pixels(train)],
        point=point,
        # A script has its own optimiser.
        optimizer=None if recipe.command else OptimizerSettings(lr, recipe.weight_decay, recipe.warmup, recipe.decay),
        metric=recipe.metric,
        ignore_index=dataset.script_ignores,
    )


def _add_sentences(recommendation: Recommendation, reasons: Sequence[str], next_steps: Sequence[str]) -> Recommendation:
    """Append reasons and next steps to the recommendation."""
    reasons, next_steps = (*recommendation.reasons, *reasons), (*recommendation.next_steps, *next_steps)
    return recommendation.model_copy(update={"reasons": reasons, "next_steps": next_steps})


def _add_never_confirmed(
    recommendation: Recommendation, evidence: Evidence, finalists: Sequence[Finalist], sweep: SweepRecord
) -> Recommendation:
    """Add a reason to the recommendation for each finalist without a completed confirmation.

    The verdict is about the others, which a reader of "clear winner" should know.
    """
    weighed, steps = {f.family for f in evidence.finalists}, sweep.conditions.recipe.confirm_steps
    sentences, has_failed = list[str](), False
    for family, loss in ((f.family, f.trial.spec.loss) for f in finalists if f.family not in weighed):
        runs = [r for r in sweep.confirmations if r.spec.loss == loss and r.spec.steps == steps]
        failed = sum(r.state == "failed" for r in runs)
        why = f"all of its {failed} trainings failed" if failed > 1 else "its training failed" if failed else ""
        if failed < len(runs):  # only with folds: some of them completed
            why = f"no seed of it has all {sweep.conditions.folds} folds ({failed} of its trainings failed)"
        rest = "nothing is known of it on the test split, and the verdict is among the others."
        sentences.append(f"{family} was to be confirmed, too, but {why or 'no training of it was completed'}: {rest}")
        has_failed = has_failed or failed > 0
    retry = "Read the reasons of the failed trainings, fix their cause, and resume "
    retry += f"(`{sweep.resume_command}`): they are tried again."
    return _add_sentences(recommendation, sentences, [retry] if has_failed else [])


def _add_time_cut(recommendation: Recommendation, sweep: SweepRecord) -> Recommendation:
    """Add a reason to the recommendation if the time limit cut the sweep short."""
    if not sweep.cut:
        return recommendation
    limit = f"{sweep.timeout:g} s" if sweep.timeout is not None else "a limit"
    reason = f"The time limit ({limit}) cut this sweep short: {'; '.join(sweep.cut)}."
    more = f"Give it more time: `{sweep.longer_command}` continues it."
    return _add_sentences(recommendation, [reason], [more])


def _add_unfinished_state(recommendation: Recommendation, sweep: SweepRecord) -> Recommendation:
    """Add the study's progress to the recommendation if the study is not finished."""
    if sweep.concluded:
        return recommendation
    tested = "no interim analysis was made, so that nothing is tested yet"
    if sweep.tested:
        tested = (
            f"the answer is that of the interim analysis after {format_count(sweep.analyses_taken[-1].seeds, 'seed')}"
        )
    far = f"{format_count(len(sweep.trials), 'trial')} of at most {sweep.trials_asked}"
    trained = format_count(sum(run.state == "complete" for run in sweep.confirmations), "confirmation training")
    reason = f"This study is not finished: it has {far} and {trained}; {tested}."
    first = recommendation.model_copy(
        update={"reasons": (reason,), "next_steps": (f"Finish it: `{sweep.resume_command}`.",)}
    )
    has_more = recommendation.evidence is not None
    return _add_sentences(first, recommendation.reasons, recommendation.next_steps) if has_more else first


def _explain_missing_evidence(recommendation: Recommendation, sweep: SweepRecord) -> Recommendation:
    """Explain that nothing was confirmed because nothing was learned, if that is so."""
    if sweep.learned:
        return recommendation
    reason, _, help_ = sweep.budget.rpartition(f". {HELP}")
    return recommendation.model_copy(
        update={"reasons": (capitalise(reason) + ".",), "next_steps": (f"{HELP}{help_}.",)}
    )


def _count_analysed_seeds(sweep: SweepRecord) -> dict[str, int] | int | None:
    """Return how many seeds the last interim analysis included; None = all.

    More may have been trained: by idle workers, for a plan with another maximum, or in a round that was cut off.
    """
    if sweep.analyses_taken and sweep.analyses_taken[-1].within is not None:
        return sweep.analyses_taken[-1].within
    return sweep.analyses_planned[-1].seeds if sweep.analyses_planned else None


def format_interim_card(sweep: SweepRecord) -> str:
    """Format the card of an unfinished study, in markdown."""
    from sweeper.report.facts import collect_facts
    from sweeper.report.markdown import render_summary

    return render_summary(collect_facts(sweep, draw_conclusion(sweep)))


def report_study(
    storage: RDBStorage,
    name: str,
    *,
    out: Path,
    ui_url: str | None = None,
    report_alive: Callable[[], None] = lambda: None,
) -> Outcome:
    """Write (again) the report of a study, from only its storage and the decoded images.

    `report_alive` is called meanwhile, as a sign of life.

    Raises:
        StudyError: if there is no such study.
    """
    from sweeper.report import write_report  # pandas, matplotlib: only now, when the workers are gone

    sweep = studies.load_sweep(storage, name)
    recommendation = draw_conclusion(sweep)
    report_alive()
    folder = Path(sweep.conditions.dataset.store)
    store = open_store(folder) if is_complete(folder) else None
    pixels = (lambda i: (store.get_view(i), store.get_mask(i))) if store is not None else None
    settings = {} if ui_url is None else {"ui_url": ui_url}
    try:
        paths = write_report(sweep, recommendation, out, pixels=pixels, report_alive=report_alive, **settings)
    except OSError as error:
        report = format_study_command("report", name, sweep.storage)
        raise SweeperError(
            f"the report could not be written: {error}; nothing is lost: {report} --out FOLDER"
        ) from error
    return Outcome(sweep, recommendation, paths)
