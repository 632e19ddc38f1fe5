"""What a sweep trains, in this order: budget probe, search, finalists at the common rate, confirmation, longer look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sweeper import storage as studies
from sweeper.core.errors import ExecutorError, InterruptedSweepError, LostStudyError, SweeperError
from sweeper.core.events import Observer
from sweeper.core.paths import STORAGE
from sweeper.core.records import (
    AnalysisTaken,
    InterimAnalysis,
    Probed,
    RateFit,
    SameLoss,
    TrialResult,
)
from sweeper.core.text import count, resume_command, significant
from sweeper.executors.protocol import Executor
from sweeper.space import floor_of
from sweeper.study.budget_ladder import chosen_pair, weighted_start
from sweeper.study.confirmation_rounds import confirmations, plan_analyses, rounds
from sweeper.study.finalist import Finalist, choose_finalists, fitted_rates, what_is_needed
from sweeper.study.learning_check import nothing_learned, what_would_help
from sweeper.study.loop import Failures, Work, drive
from sweeper.study.race import Race, Round
from sweeper.study.same_loss import Measure, as_they_are, same_losses
from sweeper.study.same_loss import measured as measured_distances
from sweeper.study.search import Search, enqueue_defaults
from sweeper.study.search_end import PATIENCE
from sweeper.study.timekeeper import RECHECK_SHARE, SEARCH_SHARE, Timekeeper
from sweeper.study.training_list import Batch
from sweeper.workflow.budget import find_budget
from sweeper.workflow.confirmation_evidence import judge
from sweeper.workflow.longer_look import look_at_longer
from sweeper.workflow.options import Asked
from sweeper.workflow.phase_progress import Held
from sweeper.workflow.prepare import Messages
from sweeper.workflow.status import Heartbeat
from sweeper.workflow.study_state import held_of

if TYPE_CHECKING:
    import optuna

    from sweeper.workflow.lead import AnswerSoFar


class Display(Messages, Observer, Protocol):
    """What shows the sweep to the person who waits for it."""

    def phase(self, name: str, total: int, held: Held) -> None:
        """Begin a phase (probe, search, recheck, confirm, longer) of `total` trainings, some of which
        the study holds already.

        A confirmation begins again with each interim analysis: how many follow is not known before.
        """

    def expect(self, left: Callable[[], str]) -> None:
        """Take what tells when the answers come; "" while nobody knows."""


class Stop(Protocol):
    """Whether a signal asked to stop, and the exit status that goes with it."""

    @property
    def status(self) -> int | None:
        """130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, None while nothing was asked."""

    def defer(self) -> None:
        """From now on a signal is to be noted in `status`; until then it may end the program at once."""


@dataclass
class Stage:
    """A study in progress, and all that its phases work with."""

    study: optuna.Study
    plan: studies.Plan
    asked: Asked
    executor: Executor
    checkpoints: Path
    """Folder of the trials that wait."""
    recorder: Observer
    display: Display
    stop: Stop
    time: Timekeeper
    lost: Callable[[], bool] = lambda: False
    """Whether another process runs the study by now."""
    failures: Failures = field(default_factory=Failures)
    """Trainings that failed in a row, over all phases."""
    heartbeat: Heartbeat | None = None
    """The status file; None = none is written."""
    so_far: AnswerSoFar | None = None
    """Tells the answer so far; None = nobody is told."""
    storage: str = STORAGE
    """Where the study is, for the command that goes on with it."""
    measure: Measure = measured_distances
    """How far losses are apart on the data's labels."""

    def go(self, work: Work) -> bool:
        """Train; False when the time is up, after which nothing more can be trained.

        Raises:
            InterruptedSweepError: if a signal said so; the study can be resumed.
            ExecutorError: if nothing can be trained any more, or everything fails; the study can be resumed.
            LostStudyError: if another process has taken the study over.
        """
        if self.time.over():
            return False
        try:
            done = drive(self.executor, work, self._reason_to_stop, self.failures)
        except ExecutorError as error:
            raise ExecutorError(
                f"{error}. The sweep stops here, and everything finished is kept. Remove the cause, then go on: "
                f"{resume_command(self.study.study_name, self.storage)}"
            ) from error
        if self.stop.status is not None and not done:
            raise InterruptedSweepError(
                "stopped; everything finished is kept. To go on: "
                f"{resume_command(self.study.study_name, self.storage)}",
                self.stop.status,
            )
        return done

    def show(self, name: str, *, total: int | None = None, missing: int = 0) -> None:
        """Show a phase to people and monitors; without a `total`, so many trainings are `missing`."""
        held = held_of(self.study, self.plan, name)
        total = held.done + missing if total is None else total
        self.display.phase(name, total, held)
        if self.heartbeat is not None:
            self.heartbeat.phase(name, total, held)

    def publish(self) -> None:
        """Publish the answer so far, where it is another one."""
        if self.so_far is not None:
            self.so_far.publish()

    def cut(self, sentence: str) -> None:
        """Note, and tell, what the time limit cut short."""
        sentences = [*self.study.user_attrs.get(studies.CUT, []), sentence]
        self.study.set_user_attr(studies.CUT, sentences)
        self.display.warn(f"--timeout: {sentence}")

    def _reason_to_stop(self) -> str | None:
        if self.lost():
            raise LostStudyError(self.study.study_name, self.storage)
        if self.heartbeat is not None:
            self.heartbeat.beat()
        if self.stop.status is not None:
            return "the sweep was stopped"
        return "the time was up" if self.time.over() else None


def train_all(stage: Stage, decided: Callable[[studies.Plan], None]) -> None:
    """Everything up to the last interim analysis, or to the end of the time; `decided` is told the plan once its steps
    are found.

    Raises:
        InterruptedSweepError: if a signal said so; the study can be resumed.
    """
    stage.study.set_user_attr(studies.CUT, [])
    if stage.asked.budget != "given" and not find_budget(stage):
        return
    decided(stage.plan)
    if not search(stage):
        if not stage.study.user_attrs[studies.CUT]:
            stage.cut("all of the time was gone before the confirmation")
    elif _learned_something(stage):
        stage.publish()
        confirmed = finalists(stage)
        confirm(stage, confirmed)
        look_at_longer(stage, confirmed)


# --- The search ---------------------------------------------------------------------------------------------


def search(stage: Stage) -> bool:
    """Up to its total, or as far as its share of the time goes; False when the whole time is up."""
    plan, total = stage.plan, stage.asked.trials
    enqueue_defaults(stage.study, plan.space, total, _instead(stage))
    found = studies.found_budget(stage.study.user_attrs)
    stage.show("search", total=total)
    work = Search(
        stage.study,
        plan.space,
        plan.conditions,
        imbalance=plan.imbalance,
        trials=total,
        recorder=stage.recorder,
        checkpoints=stage.checkpoints,
        admit=stage.time.admits(SEARCH_SHARE),
        known=studies.extra_results(stage.study, "probe"),
        gain=stage.asked.rope if stage.asked.settles else None,
        strict=stage.asked.budget != "given",
        earliest=found.earliest if found is not None else 0,
    )
    in_time = stage.go(work)
    if not in_time:
        work.give_up()
    if (done := len(studies.search_results(stage.study))) < total:
        if in_time and not stage.time.admits(SEARCH_SHARE)(plan.conditions.recipe.steps):
            stage.cut(f"the search ended after {done} of {total} trials, to leave time for the confirmation")
        elif not in_time:
            stage.cut(f"the search ended after {done} of {total} trials, as all of the time was gone")
        elif work.settled:
            stage.display.log(
                f"the search ended after {done} trials: the last {PATIENCE} raised the best value by no more than "
                f"{stage.asked.rope:g}"
            )
    return in_time


def _instead(stage: Stage) -> dict[str, dict[str, Any]]:
    """What is tried in place of a family's defaults: in a single trial the ladder's, which is trained already."""
    space, found = stage.plan.space, studies.found_budget(stage.study.user_attrs)
    if found is None or found.breadth is None or floor_of(space, stage.asked.trials) > 1:
        return {}
    others = chosen_pair(space)[1:]
    return {family.family: weighted_start(family, space) for family in space.families if family.family in others}


def _learned_something(stage: Stage) -> bool:
    """Whether any training beats a constant answer: else there is nothing to confirm, and that is said and kept."""
    study, trials, strict = stage.study, studies.search_results(stage.study), stage.asked.budget != "given"
    if not nothing_learned(trials, studies.extra_results(study, "probe"), strict=strict):
        return True
    steps = stage.plan.conditions.recipe.steps
    sentence = (
        f"no loss {'clearly beats' if strict else 'learned more than'} a constant answer in {steps} steps, so that "
        f"nothing was confirmed. {what_would_help(trials, stage.plan.conditions)}"
    )
    stage.display.warn(sentence)
    probed = Probed(first=steps, steps=steps, sentence=sentence, learned=False)
    study.set_user_attr(studies.PROBED, studies.pack(probed))
    return False


# --- The finalists ------------------------------------------------------------------------------------------


def finalists(stage: Stage) -> list[Finalist]:
    """Choose the finalists, and find the learning rates that they are confirmed at."""
    study, plan = stage.study, stage.plan
    trials, same = _under_their_names(stage, studies.search_results(study))
    fit = _common_rate(stage, trials)
    need = what_is_needed(trials, studies.extra_results(study, "recheck"), fit)
    if need is not None:
        batch = Batch(study, need.specs, recorder=stage.recorder, admit=stage.time.admits(RECHECK_SHARE))
        stage.display.log(need.why)
        stage.show("recheck", missing=len(batch))
        stage.go(batch)
        if not batch.complete:
            stage.cut(f"there was no time for all of these trainings: {need.why}")
    rechecks = studies.extra_results(study, "recheck")
    return choose_finalists(trials, rechecks, fit, plan.space, plan.conditions, same=same)


def _common_rate(stage: Stage, trials: Sequence[TrialResult]) -> RateFit | None:
    """The learning rate that the confirmation draws around: once it has begun, what it began with."""
    study = stage.study
    stored = studies.stored_rates(study.user_attrs)
    if stored is not None and studies.extra_results(study, "confirm"):
        return stored
    fit = fitted_rates(trials, stage.plan.space)
    if fit is not None and fit != stored:
        study.set_user_attr(studies.RATES, studies.pack(fit))
    return fit


def _under_their_names(stage: Stage, trials: list[TrialResult]) -> tuple[list[TrialResult], tuple[SameLoss, ...]]:
    """The trials, under a simpler loss's name where that is what they are; and what was found, which is kept."""
    study, plan = stage.study, stage.plan
    known = studies.same_losses(study.user_attrs)
    if known is None or known.trials != len(trials):
        try:
            known = same_losses(trials, plan.space, plan.conditions, stage.measure)
        except SweeperError as error:
            stage.display.warn(f"whether losses of the search are the same could not be measured ({error}); none is")
            return trials, ()
        study.set_user_attr(studies.SAME, studies.pack(known))
    for same in known.found:
        params = ", ".join(f"{name} {significant(value)}" for name, value in same.params.items())
        stage.display.log(f"trial {same.trial}, {same.family} ({params}), is {same.is_family} on these data")
    return as_they_are(trials, known.found), known.found


# --- The confirmation ---------------------------------------------------------------------------------------


def confirm(stage: Stage, finalists: Sequence[Finalist]) -> None:
    """Train the finalists on fresh seeds, from one interim analysis to the next, until one says that it is enough."""
    study, analyses, log = stage.study, stage.asked.analyses, stage.display.log
    if (before := plan_analyses(study, analyses)) is not None and _seeds(analyses) != _seeds(before):
        log(f"the confirmation is analysed after {_seeds(analyses)} seeds from now on (before: {_seeds(before)})")
    if not finalists:
        return
    conditions, folds = stage.plan.conditions, stage.plan.conditions.folds

    def begun(found: Round, missing: int) -> None:
        if missing:
            names = ", ".join(dict.fromkeys(spec.family for spec in found.specs))
            rotation = f", each a rotation over {folds} folds" if folds is not None else ""
            seeds = count(analyses[found.number].seeds, "seed")
            log(f"{_place(found.number)}: {seeds} of {names}{rotation}")
            stage.show("confirm", missing=missing)
            stage.publish()

    def report_analysis(number: int, found: AnalysisTaken, goes_on: bool) -> None:
        log(f"{_place(number)}, {count(found.seeds, 'seed')}: {found.verdict.value.replace('_', ' ')}. {found.reason}")
        if number < len(analyses) and found.seeds < analyses[number].seeds:
            stage.cut(f"the confirmation ended before the interim analysis at {analyses[number].seeds} seeds")
        stage.publish()

    def _place(number: int) -> str:
        return f"interim analysis {number + 1} of at most {len(analyses)}"

    until = stage.asked.until
    judged = judge(finalists, conditions, stage.plan.space, rope=stage.asked.rope, analyses=analyses, until=until)
    race = Race(
        study,
        rounds(study, finalists, conditions, analyses, until=until, judge=judged, report=report_analysis),
        confirmations(finalists, conditions, analyses[-1].seeds),
        recorder=stage.recorder,
        admit=stage.time.admits(1.0),
        begun=begun,
    )
    if not race.over:
        stage.go(race)
    if not race.over:
        race.cut()


def _seeds(analyses: Sequence[InterimAnalysis]) -> str:
    return ", ".join(str(analysis.seeds) for analysis in analyses)
