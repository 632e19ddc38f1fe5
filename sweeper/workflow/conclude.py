"""The end of the flow: the conclusion from a study's storage, and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sweeper import storage as studies
from sweeper.core.errors import SweeperError
from sweeper.core.own_metric import resolve_verdict_metric
from sweeper.core.paths import ReportPaths
from sweeper.core.records import (
    Answer,
    Evidence,
    FinalComparison,
    InterimAnalysis,
    Outcome,
    Remark,
    SameLoss,
    Sure,
    SweepRecord,
    TrialResult,
    Use,
    list_trainers,
)
from sweeper.core.tasks import RULES
from sweeper.core.text import format_study_command
from sweeper.data import open_store
from sweeper.data.folds import get_split
from sweeper.data.store import is_complete
from sweeper.evidence.answer import make_answer, make_remark
from sweeper.evidence.choice import choose
from sweeper.evidence.class_table import make_class_table
from sweeper.evidence.document import (
    AnalysisRow,
    AnswerDocument,
    ClassTable,
    DatasetRow,
    SearchRow,
    copy_fields,
    make_difference_rows,
    make_loss_rows,
)
from sweeper.evidence.final_comparison import FINAL_ANALYSIS, compare_final
from sweeper.evidence.interim_analyses import FIRST_LOOK
from sweeper.evidence.other_metrics import measure_classes, measure_finalists
from sweeper.evidence.settling import find_rival
from sweeper.evidence.verdict_predicates import get_difference, get_gain
from sweeper.losses import FAMILIES, make_snippet
from sweeper.losses.snippet import OptimizerSettings
from sweeper.study.budget_ladder import compute_learning_floors
from sweeper.study.finalist import (
    Finalist,
    choose_finalists,
    choose_first_pair,
    collect_configurations,
    select_confirmed,
    select_final_results,
)
from sweeper.workflow.confirmation_evidence import compute_confirmation_evidence, list_test_groups
from sweeper.workflow.study_remarks import list_study_remarks, list_study_steps

if TYPE_CHECKING:
    from sweeper.storage.resilient_storage import RetryingStorage


class ReportedStudy(NamedTuple):
    """A concluded study and its report."""

    sweep: SweepRecord
    conclusion: Conclusion
    document: AnswerDocument
    paths: ReportPaths


class Conclusion(NamedTuple):
    """Conclusion of a study."""

    answer: Answer
    evidence: Evidence | None
    """None where nothing was confirmed."""
    final: FinalComparison | None
    """None if there was no final training of two losses that were compared before."""
    searched: Evidence | None = None
    """Where the answer is the final training's, the evidence before it; None if there was none, or it is not."""
    in_final: bool = False
    """Whether the evidence is that of the final training."""


class WeighedStudy(NamedTuple):
    """All evidence of a study."""

    evidence: Evidence | None
    """That of the confirmation, or of the first look where it decides."""
    finalists: Sequence[Finalist]
    """What it compares, or would have."""
    confirmed: Evidence | None
    first: Evidence | None
    pair: Sequence[Finalist]
    """The two losses of a final training; () without two."""
    final: FinalComparison | None
    alone: Evidence | None
    """That of the final training alone, from as many seeds as may decide."""

    @property
    def is_shown(self) -> bool:
        """Whether a change was shown before the final training."""
        return choose(self.evidence, list(FAMILIES)).outcome is Outcome.CHANGE

    @property
    def in_final(self) -> bool:
        """Whether the answer is the final training's, which has as many seeds as decide."""
        return self.alone is not None


def weigh_study(sweep: SweepRecord) -> WeighedStudy:
    """Weigh all that a study has trained; the final training goes on by the same evidence."""
    conditions, order, finalists = sweep.conditions, list(FAMILIES), list[Finalist]()
    if sweep.rates is not None:
        tried = collect_configurations(
            sweep.trials, sweep.before, sweep.rates, sweep.space, conditions, same=sweep.same_losses
        )
        finalists = choose_finalists(tried, sweep.space)
    trained = sweep.compared if sweep.is_confirmed else ()
    usable = select_confirmed(trained, finalists, conditions, _count_analysed_seeds(sweep))
    confirmed = evidence = _compute_evidence(sweep, usable, finalists, sweep.analyses_planned)
    ladder = choose_first_pair(sweep.probes, sweep.space, conditions, sweep.rates)
    looked = select_confirmed(sweep.first, ladder, conditions, None)
    first = None
    if len(looked) == len(ladder) * FIRST_LOOK.seeds:
        first = _compute_evidence(sweep, looked, ladder, (FIRST_LOOK,))
    is_claim = choose(first, order).outcome is Outcome.CHANGE
    is_open = evidence is None or (is_claim and choose(evidence, order).sure is Sure.OPEN)
    if first is not None and is_open:
        evidence, usable, finalists = first, looked, ladder  # what is open takes no claim back
    pair = _choose_final_pair(evidence, finalists, ladder)
    weighed = WeighedStudy(evidence, finalists, confirmed, first, pair, None, None)
    results = select_final_results(sweep.final, pair, conditions)
    return _weigh_final(sweep, weighed, results, usable) if results else weighed


def _choose_final_pair(
    evidence: Evidence | None, finalists: Sequence[Finalist], ladder: Sequence[Finalist]
) -> Sequence[Finalist]:
    """Return the used loss and the present one, or the best other; the ladder's pair where nothing was compared."""
    use = choose(evidence, list(FAMILIES)).use
    if evidence is None or use is None:
        return tuple(ladder[::-1])
    other = None if evidence.baseline is None else find_rival(evidence, use)
    by_family = {finalist.family: finalist for finalist in finalists}
    names = [] if other is None else [evidence.finalists[i].family for i in (use, other)]
    return tuple(by_family[name] for name in names)


def _weigh_final(
    sweep: SweepRecord, weighed: WeighedStudy, results: Sequence[TrialResult], usable: Sequence[TrialResult]
) -> WeighedStudy:
    """Return the evidence with that of the final trainings, which decide from as many seeds as are analysed."""
    conditions, evidence = sweep.conditions, weighed.evidence
    final = None
    if evidence is not None and (use := choose(evidence, list(FAMILIES)).use) is not None:
        groups, metric = list_test_groups(conditions, usable), resolve_verdict_metric(conditions.recipe.metric)
        final = compare_final(results, usable, evidence, use, groups=groups, metric=metric)
    analysis = FINAL_ANALYSIS if weighed.is_shown else FIRST_LOOK
    by_loss = [{r.spec.seed for r in results if r.spec.family == finalist.family} for finalist in weighed.pair]
    common = set[int].intersection(*by_loss)
    alone = None
    if len(common) >= analysis.seeds:
        shared = [result for result in results if result.spec.seed in common]
        alone = _compute_evidence(sweep, shared, weighed.pair, (analysis,))
    if final is not None and alone is not None:  # one interval, that which decides
        names = [finalist.family for finalist in alone.finalists]
        gap = get_gain(alone, names.index(final.first), names.index(final.second))
        final = final.model_copy(update={"after": gap})
    return weighed._replace(final=final, alone=alone)


def draw_conclusion(sweep: SweepRecord) -> Conclusion:
    """Draw the conclusion from a study's record; pure, except for the registry of losses."""
    order, weighed = list(FAMILIES), weigh_study(sweep)
    evidence, final, first = weighed.evidence, weighed.final, weighed.first
    present, resume = sweep.space.present.family, sweep.resume_command
    if weighed.in_final:
        evidence = weighed.alone
        answer, _ = make_answer(evidence, order, present=present, resume=resume)
    else:
        answer, _ = make_answer(evidence, order, present=present, final=final, resume=resume)
    table = _make_table(sweep, evidence, answer)
    remarks = (
        *_remark_on_final_training(weighed),
        *_remark_on_first_look(answer, evidence, first, order),
        *list_study_remarks(sweep, evidence, table, weighed.pair if weighed.in_final else weighed.finalists),
        *answer.remarks,
    )
    remarks = tuple(sorted(remarks, key=lambda remark: remark.code != "UNFINISHED"))
    answer = answer.model_copy(update={"remarks": remarks})
    if answer.use is not None:
        code = _format_paste(sweep, answer.use)
        answer = answer.model_copy(update={"use": answer.use.model_copy(update={"snippet": code})})
    if evidence is first:  # more of its seeds cannot be asked for, but of a confirmation's that has ended
        ended = weighed.confirmed if sweep.concluded else None
        answer = answer.model_copy(update={"next": make_answer(ended, order, resume=resume)[0].next})
    if weighed.in_final:
        answer = answer.model_copy(update={"next": ()})
    steps = list_study_steps(sweep, answer, evidence, in_final=weighed.in_final)
    searched = weighed.evidence if weighed.in_final else None
    answer = answer.model_copy(update={"next": steps})
    return Conclusion(answer, evidence, final, searched, in_final=weighed.in_final)


def _remark_on_final_training(weighed: WeighedStudy) -> Iterator[Remark]:
    """Yield that the answer is the final training's, and what was found before it."""
    if not weighed.in_final or weighed.alone is None:
        return
    seeds = min(len(finalist.seeds) for finalist in weighed.alone.finalists)
    if weighed.final is None:
        yield make_remark("FINAL_ALONE", seeds=seeds)
    else:
        yield make_remark("IN_FINAL", loss=weighed.final.first, seeds=seeds, before=weighed.final.before.estimate)


def _make_table(sweep: SweepRecord, evidence: Evidence | None, answer: Answer) -> ClassTable | None:
    return make_class_table(evidence, sweep.profile, answer.used)


def _remark_on_first_look(
    answer: Answer, evidence: Evidence | None, first: Evidence | None, order: Sequence[str]
) -> Iterator[Remark]:
    """Yield that the answer is the first look's, or what that said where tuning has changed it."""
    if first is None:
        return
    choice = choose(first, order)
    if evidence is first:
        yield make_remark("FIRST_LOOK", losses=tuple(f.family for f in first.finalists), seeds=FIRST_LOOK.seeds)
    elif choice.outcome is Outcome.CHANGE and answer.outcome is not Outcome.CHANGE:
        gap = get_difference(first, choice.use or 0, first.baseline or 0)
        loss = first.finalists[choice.use or 0].family
        yield make_remark("BEFORE_TUNING", loss=loss, estimate=gap.estimate, low=gap.low)


def _compute_evidence(
    sweep: SweepRecord,
    usable: Sequence[TrialResult],
    finalists: Sequence[Finalist],
    analyses: Sequence[InterimAnalysis],
) -> Evidence | None:
    """Compute the evidence of these trainings, with other measures and the search's other names of the finalists."""
    evidence = compute_confirmation_evidence(
        usable, finalists, sweep.conditions, sweep.space, margin=sweep.margin, analyses=analyses
    )
    if evidence is None:
        return None
    same_by_trial: dict[int | None, SameLoss] = {same.trial: same for same in sweep.same_losses}
    rows = tuple(row.model_copy(update={"found_as": same_by_trial.get(row.search_trial)}) for row in evidence.finalists)
    groups, floors = list_test_groups(sweep.conditions, usable), compute_learning_floors(sweep.conditions)
    others, per_class = measure_finalists(usable, evidence, groups), measure_classes(usable, evidence, floors, groups)
    return evidence.model_copy(update={"finalists": rows, "others": others, "per_class": per_class})


def _format_paste(sweep: SweepRecord, use: Use) -> str:
    """Format the loss and the optimiser as code, with a comment on the operating point."""
    dataset, recipe = sweep.conditions.dataset, sweep.conditions.recipe
    train = get_split(sweep.conditions, sweep.conditions.seed).train
    assert use.lr is not None and use.point is not None  # a finalist of a study has both
    return make_snippet(
        use.loss,
        use.params,
        dataset.task,
        dataset.classes,
        RULES[dataset.task].make_frequencies(dataset, train),
        point=use.point,
        # A script has its own optimiser.
        optimizer=None
        if recipe.command
        else OptimizerSettings(use.lr, recipe.weight_decay, recipe.warmup, recipe.decay),
        metric=recipe.metric,
        ignore_index=dataset.script_ignores,
    )


def make_document(sweep: SweepRecord, conclusion: Conclusion) -> AnswerDocument:
    """Make the answer of a study for programs: JSON types with finite numbers only."""
    conditions, evidence = sweep.conditions, conclusion.evidence
    data, states = conditions.dataset, Counter(trial.state for trial in sweep.trials)
    split = get_split(conditions, conditions.seed)
    sides = {"train": split.train, "val": split.val, "test": split.test}
    tested = dict[str, Any]()
    if evidence is not None:
        images, groups = evidence.test_images, evidence.test_groups
        tested = {"images": images, "groups": groups, "constant_miou": evidence.constant_miou}
    return AnswerDocument(
        **dict(conclusion.answer),
        study=sweep.study,
        losses=make_loss_rows(evidence, conclusion.answer),
        differences=make_difference_rows(evidence),
        classes=_make_table(sweep, evidence, conclusion.answer),
        final=conclusion.final,
        in_final=conclusion.in_final,
        final_steps=max((result.spec.steps for result in sweep.final), default=None),
        searched=make_loss_rows(conclusion.searched, conclusion.answer),
        **tested,
        held_out=conditions.folds is None,
        folds=conditions.folds,
        dataset=DatasetRow(
            **copy_fields(data, DatasetRow, "name", "source", "digest", "task", "classes", "synthetic"),
            images=len(data.images),
            imbalance=sweep.profile.imbalance,
            profile=sweep.profile,
        ),
        recipe=conditions.recipe,
        split={side: tuple(data.images[i].stem for i in indices) for side, indices in sides.items()},
        rungs=sweep.rungs,
        analyses=tuple(AnalysisRow(**copy_fields(taken, AnalysisRow)) for taken in sweep.analyses_taken),
        search=SearchRow(
            trials=len(sweep.trials),
            completed=states["complete"],
            pruned=states["pruned"],
            failed=states["failed"],
            abandoned=sweep.abandoned,
            per_family=dict(Counter(trial.spec.family for trial in sweep.trials)),
            collapses=_count_words(sweep, lambda trial: (trial.collapse.value,) * trial.has_collapsed),
            never_predicted=_count_words(sweep, lambda trial: trial.missing_classes),
        ),
        command=sweep.rerun,
        versions=sweep.versions,
        trained_by=tuple(list_trainers(sweep)),
        seconds=sweep.seconds,
    )


def _count_words(sweep: SweepRecord, words: Callable[[TrialResult], Sequence[str]]) -> dict[str, dict[str, int]]:
    """Count how often each family's trainings, of search and confirmation, have each word."""
    counters: dict[str, Counter[str]] = {}
    for trial in (*sweep.trials, *sweep.compared):
        if word := words(trial):
            counters.setdefault(trial.spec.family, Counter()).update(word)
    return {family: dict(counts) for family, counts in counters.items()}


def _count_analysed_seeds(sweep: SweepRecord) -> dict[str, int] | int | None:
    """Return how many seeds the last interim analysis included; None = all.

    More may have been trained: by idle workers, for a plan with another maximum, or in a round that was cut off.
    """
    return sweep.analyses_taken[-1].within if sweep.analyses_taken else None


def report_study(
    storage: RetryingStorage, name: str, *, out: Path, report_alive: Callable[[], None] = lambda: None
) -> ReportedStudy:
    """Write (again) the report of a study, from only its storage and the decoded images.

    `report_alive` is called meanwhile, as a sign of life.

    Raises:
        StudyError: if there is no such study.
    """
    from sweeper.report import write_report  # pandas, matplotlib: only now, when the workers are gone

    sweep = studies.load_sweep(storage, name)
    conclusion = draw_conclusion(sweep)
    document = make_document(sweep, conclusion)
    report_alive()
    folder = Path(sweep.conditions.dataset.store)
    store = open_store(folder) if is_complete(folder) else None
    pixels = (lambda i: (store.get_view(i), store.get_mask(i))) if store is not None else None
    try:
        paths = write_report(sweep, document, conclusion.evidence, out, pixels=pixels, report_alive=report_alive)
    except OSError as error:
        report = format_study_command("report", name, sweep.storage)
        raise SweeperError(
            f"the report could not be written: {error}; nothing is lost: {report} --out FOLDER"
        ) from error
    return ReportedStudy(sweep, conclusion, document, paths)
