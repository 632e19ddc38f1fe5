"""The end of the flow: the conclusion from a study's storage, and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sweeper import storage as studies
from sweeper.core.errors import SweeperError
from sweeper.core.paths import ReportPaths
from sweeper.core.records import (
    Answer,
    Evidence,
    InterimAnalysis,
    LongerLook,
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
from sweeper.evidence.interim_analyses import FIRST_LOOK
from sweeper.evidence.other_metrics import measure_classes, measure_finalists
from sweeper.evidence.verdict_predicates import get_difference
from sweeper.losses import FAMILIES, make_snippet
from sweeper.losses.snippet import OptimizerSettings
from sweeper.study.budget_ladder import compute_learning_floors
from sweeper.study.finalist import (
    Finalist,
    choose_finalists,
    choose_first_pair,
    collect_configurations,
    select_confirmed,
)
from sweeper.workflow.confirmation_evidence import compute_confirmation_evidence, compute_longer_look, list_test_groups
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
    longer: LongerLook | None
    """None if there was no longer look."""


def draw_conclusion(sweep: SweepRecord) -> Conclusion:
    """Draw the conclusion from a study's record; pure, except for the registry of losses."""
    conditions, order = sweep.conditions, list(FAMILIES)
    finalists = []
    if sweep.rates is not None:
        tried = collect_configurations(
            sweep.trials, sweep.before, sweep.rates, sweep.space, conditions, same=sweep.same_losses
        )
        finalists = choose_finalists(tried, sweep.space)
    trained = sweep.compared if sweep.is_confirmed else ()
    usable = select_confirmed(trained, finalists, conditions, _count_analysed_seeds(sweep))
    confirmed = evidence = _compute_evidence(sweep, usable, finalists, sweep.analyses_planned)
    pair = choose_first_pair(sweep.probes, sweep.space, conditions, sweep.rates)
    looked = select_confirmed(sweep.first, pair, conditions, None)
    first = None
    if len(looked) == len(pair) * FIRST_LOOK.seeds:
        first = _compute_evidence(sweep, looked, pair, (FIRST_LOOK,))
    is_claim = choose(first, order).outcome is Outcome.CHANGE
    if first is not None and (evidence is None or (is_claim and choose(evidence, order).sure is Sure.OPEN)):
        evidence, usable, finalists = first, looked, pair  # what is open takes no claim back
    use, look = choose(evidence, order).use, None
    if evidence is not None and use is not None and sweep.longer:
        look = compute_longer_look(sweep.longer, usable, finalists, conditions, evidence=evidence, recommended=use)
    answer, _ = make_answer(evidence, order, present=sweep.space.present.family, look=look, resume=sweep.resume_command)
    table = _make_table(sweep, evidence, answer)
    remarks = (
        *_remark_on_first_look(answer, evidence, first, order),
        *list_study_remarks(sweep, evidence, table, finalists),
        *answer.remarks,
    )
    remarks = tuple(sorted(remarks, key=lambda remark: remark.code != "UNFINISHED"))
    answer = answer.model_copy(update={"remarks": remarks})
    if answer.use is not None:
        code = _format_paste(sweep, answer.use)
        answer = answer.model_copy(update={"use": answer.use.model_copy(update={"snippet": code})})
    if evidence is first:  # more of its seeds cannot be asked for, but of a confirmation's that has ended
        ended = confirmed if sweep.concluded else None
        answer = answer.model_copy(update={"next": make_answer(ended, order, resume=sweep.resume_command)[0].next})
    steps = list_study_steps(sweep, answer, evidence, look)
    return Conclusion(answer.model_copy(update={"next": steps}), evidence, look)


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
    return AnswerDocument(
        **dict(conclusion.answer),
        study=sweep.study,
        losses=make_loss_rows(evidence, conclusion.answer),
        differences=make_difference_rows(evidence),
        classes=_make_table(sweep, evidence, conclusion.answer),
        longer=conclusion.longer,
        images=0 if evidence is None else evidence.test_images,
        groups=None if evidence is None else evidence.test_groups,
        constant_miou=None if evidence is None else evidence.constant_miou,
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
