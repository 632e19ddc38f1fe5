"""State of a study and its answer so far, computed from the study in one place.

Status, studies, dry run, forecast, terminal and interim report take their counts and their answer from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from sweeper import storage as studies
from sweeper.core.base import Record
from sweeper.core.records import Outcome, Sure, SweepRecord
from sweeper.core.text import format_count
from sweeper.evidence.phrases import format_headline, format_remark
from sweeper.storage.results import read_analyses
from sweeper.study.learning_check import has_learned_nothing
from sweeper.study.search import count_floor, count_possible_trials, has_search_settled
from sweeper.workflow.conclude import Conclusion, draw_conclusion
from sweeper.workflow.options import StudyRequest
from sweeper.workflow.phase_progress import NO_TRAININGS, PhaseCounts

if TYPE_CHECKING:
    import optuna


def count_phase_trainings(study: optuna.Study, plan: studies.StudyPlan, phase: str) -> PhaseCounts:
    """Count a study's trainings in a phase; of `confirm` only those with the plan's steps."""
    if phase != "search":
        steps = plan.conditions.recipe.confirm_steps
        return PhaseCounts(
            tuple(r for r in studies.list_extra_results(study, phase) if phase != "confirm" or r.spec.steps == steps)
        )
    ended = tuple(studies.search_results(study))
    ended_numbers = {result.spec.number for result in ended}
    waiting = (result.spec for result in studies.list_waiting_results(study))
    return PhaseCounts(ended, tuple(spec for spec in waiting if spec.number not in ended_numbers))


class StudyState(NamedTuple):
    """State of a study, compared with its request."""

    total: int
    """Total number of trials; after a search that ended by itself, those that it has."""
    first: PhaseCounts = NO_TRAININGS
    search: PhaseCounts = NO_TRAININGS
    replicate: PhaseCounts = NO_TRAININGS
    confirm: PhaseCounts = NO_TRAININGS
    final: PhaseCounts = NO_TRAININGS
    has_rates: bool = False
    """Whether the learning rates were found."""
    confirmed: bool = False
    """Whether the confirmation has ended."""
    has_final: bool = False
    """Whether the requested final training, if any, has ended."""
    trials: int = 0
    """Trials that a run keeps: failed ones are trained again."""
    learned: bool = True
    """False where the search learned nothing so far, so that there is nothing to confirm."""
    searched: bool = False
    """Whether the search is over: it has all trials, or more would bring nothing."""
    finished: bool = False
    """Whether a run would train nothing."""


def read_study_state(study: optuna.Study | None, plan: studies.StudyPlan, request: StudyRequest) -> StudyState:
    """Return how far a study is on its request; `study` is None before it is begun."""
    if study is None:
        return StudyState(total=count_possible_trials(plan.space, request.trials))
    phases = ("first", "search", "replicate", "confirm", "final")
    first, search, replicate, confirm, final = (count_phase_trainings(study, plan, phase) for phase in phases)
    again, probes = len(studies.list_failed_trials(study)), studies.list_extra_results(study, "probe")
    asked = count_possible_trials(plan.space, request.trials)
    floors = sum(count_floor(plan.space, asked).values())
    learned = not has_learned_nothing(search.ended, probes, strict=request.finds_steps)
    settled = request.settles and has_search_settled(search.ended, floors, request.margin)
    ended = settled or (request.finds_steps and not learned)
    trials = len(search.ended) - again
    failed = again + sum(held.done - held.complete for held in (replicate, confirm, final))
    searched = trials >= asked or ended
    confirmed = searched and not failed and _is_confirmed(study, plan, request)
    has_final = has_trained_final(study, plan, request)
    is_hopeless = searched and not failed and not learned
    total = search.done if ended else asked
    return StudyState(
        total=total,
        first=first,
        search=search,
        replicate=replicate,
        confirm=confirm,
        final=final,
        has_rates=studies.read_rates(study.user_attrs) is not None,
        confirmed=confirmed,
        has_final=has_final,
        trials=trials,
        learned=learned,
        searched=searched,
        finished=has_final and (confirmed or is_hopeless),
    )


def make_final_key(study: optuna.Study, plan: studies.StudyPlan, request: StudyRequest) -> list[object]:
    """Return the key of a final training: its steps, and the confirmation before it."""
    stored = read_analyses(study.user_attrs).stored
    recipe, asked = plan.conditions.recipe, None if request.final is None else request.final.steps
    return [asked or recipe.final_steps, recipe.confirm_steps, list(stored[-1].used) if stored else []]


def has_trained_final(study: optuna.Study, plan: studies.StudyPlan, request: StudyRequest) -> bool:
    """Return whether the requested final training, if any, has ended."""
    made = studies.unpack_value(study.user_attrs, studies.FINAL_ENDED, None)
    return request.final is None or made == make_final_key(study, plan, request)


def _is_confirmed(study: optuna.Study, plan: studies.StudyPlan, request: StudyRequest) -> bool:
    """Return whether the confirmation has ended, by the requested plan."""
    interim = read_analyses(study.user_attrs)
    is_current = (request.analyses, plan.conditions.recipe.confirm_steps) == (interim.planned, interim.steps)
    if interim.cut is not None or not interim.stored or not is_current:
        return False
    last = interim.stored[-1]
    return not (last.go_on and last.families) or last.found.seeds >= request.analyses[-1].seeds


class InterimAnswer(Record):
    """Answer of a study so far: from the last interim analysis, or before the first one from the search."""

    outcome: Outcome | None = None
    """None while nothing is tested."""
    sure: Sure | None = None
    loss: str | None = None
    """The loss to use, else the best of the search."""
    score: float | None = None
    """Its test score, else its objective on validation."""
    on: Literal["test", "validation"] | None = None
    """Images that `score` was measured on."""
    answer: str = ""
    """The answer in a sentence; "" if nothing is known."""


def read_interim_answer(sweep: SweepRecord, conclusion: Conclusion | None = None) -> InterimAnswer:
    """Return a study's answer so far; `conclusion` is its conclusion, if already drawn."""
    if not sweep.is_confirmed and not sweep.first:
        return _read_search_answer(sweep)
    conclusion = conclusion or draw_conclusion(sweep)
    answer, evidence = conclusion.answer, conclusion.evidence
    if evidence is None and not sweep.is_confirmed:
        return _read_search_answer(sweep)
    first = answer.find("FIRST_LOOK")
    headline = format_headline(answer) + (f" {format_remark(first, answer)}" if first else "")
    if answer.use is None or evidence is None:
        return InterimAnswer(outcome=answer.outcome, answer=headline)
    score = next((f.score.estimate for f in evidence.finalists if f.family == answer.use.loss), None)
    return InterimAnswer(
        outcome=answer.outcome, sure=answer.sure, loss=answer.use.loss, score=score, on="test", answer=headline
    )


def _read_search_answer(sweep: SweepRecord) -> InterimAnswer:
    """Return the answer from the best trial of the search; it has no loss where none has learned anything."""
    ended = [trial for trial in sweep.trials if trial.state == "complete" and trial.value is not None]
    if not ended:
        return InterimAnswer()
    if not sweep.learned or all(trial.has_collapsed for trial in ended):
        words = f"In {format_count(len(ended), 'complete trial')} no loss has learned more than a constant answer"
        return InterimAnswer(answer=f"{words}." if sweep.concluded else f"{words} yet.")
    top = max(ended, key=lambda trial: trial.value or 0.0)
    words = (
        f"{top.spec.family} is best of {format_count(len(ended), 'complete trial')} (validation "
        f"{top.value or 0.0:.3f} in one training, probably too high as the best of many; not "
        f"tested{'' if sweep.concluded else ' yet'})."
    )
    return InterimAnswer(loss=top.spec.family, score=top.value, on="validation", answer=words)
