"""The search: Optuna proposes trials, workers train them, trials wait at their rungs or continue, each end is stored.

Trials are trained in *generations*. The first one holds each family's floor of trials: its best configuration on
similar data, its literature defaults, other good ones on similar data, then draws. Later ones hold `GENERATION` trials
that TPE draws among the families that are not far behind. All trials of a generation are trained to the first rung,
those that may continue to the next, and so on; only then the next generation is drawn. So which trials there are, and
which continue, depends neither on the number of workers nor on the order in which they end. No configuration is trained
twice: a family without a parameter to search has one trial. All trials have the study's learning rate.

Without a given total the search ends once a generation brings no gain; without given steps it also ends after the first
one if nothing was learned.

A trial that waits stays RUNNING in Optuna, where PRUNED is final; its result so far is in its attributes, its network
in a checkpoint. It is reported as pruned once no later trial could promote it, or when no more training is to come.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from sweeper.core.events import (
    JobResult,
    Observer,
    ResultStored,
    TrainingDropped,
    TrainingPaused,
    TrainingResumed,
    TrainingStarted,
)
from sweeper.core.records import Conditions, Evaluation, SearchSpace, StudyRates, TrialResult, TrialSpec
from sweeper.core.text import format_significant
from sweeper.core.training_files import get_checkpoint_path
from sweeper.space import TrialChoice, count_floor_trials, list_first_trials, suggest_choice
from sweeper.storage.optuna_internals import ReplayedTrial, ask_skipping_queue, get_trial_id
from sweeper.storage.record_format import FAMILY, PARAMETERS, WAITS
from sweeper.storage.results import (
    NOT_A_SHARE,
    claim_trial,
    count_lost_attempts,
    is_counted,
    list_present_trials,
    list_waiting_results,
    mark_paused,
    read_waiting_result,
    record_lost_attempt,
    report_step,
    requeue_trial,
    search_results,
    store_result,
)
from sweeper.study.finalist import count_finalists
from sweeper.study.learning_check import has_learned_nothing
from sweeper.study.learning_rates import choose_drawn_range
from sweeper.study.loop import ATTEMPTS, WorkSource
from sweeper.study.sampler import LOSS, KeyedTPESampler, SamplerGuide
from sweeper.study.successive_halving import SuccessiveHalving
from sweeper.system.machine import keep_within_room


def enqueue_defaults(
    study: optuna.Study,
    space: SearchSpace,
    trials: int,
    first_families: Collection[str] = (),
    *,
    is_limited: bool = False,
) -> None:
    """Queue the missing first trial of each family, those of `first_families` before the others, while there is room.

    It is called at every start: with a larger total a resume adds the families that the smaller one left out. Where
    there is no room for all, the last of several trials is the present loss's: without it neither keeping it nor a
    change from it can be recommended. If the time `is_limited`, it is the second, as any later one may not be trained.
    """
    have, first = Counter(_list_families(study).values()), list_first_trials(space)
    room = max(0, trials - have.total())
    missing = sorted((family for family in first if not have[family]), key=lambda name: name not in first_families)
    last = max(0, (min(room, 2) if is_limited else room) - 1)
    if trials > 1 and (present := space.present.family) in missing[last + 1 :]:
        missing.remove(present)
        missing.insert(last, present)
    for family in missing[:room]:
        study.enqueue_trial(first[family][0])


def count_possible_trials(space: SearchSpace, trials: int) -> int:
    """Return how many of `trials` a search can have: one for each loss where none has a parameter to search."""
    return min(trials, len(space.families)) if space.is_named else trials


def count_floor(space: SearchSpace, trials: int) -> dict[str, int]:
    """Return the number of trials of each family in the first generation."""
    least = count_floor_trials(space, trials)
    return {family.family: least if family.is_searched else min(1, least) for family in space.families}


def _list_families(study: optuna.Study) -> dict[int, str]:
    """Return the family of each trial by number, including queued trials."""
    families = {
        t.number: t.params.get(LOSS) or t.system_attrs.get("fixed_params", {}).get(LOSS)
        for t in list_present_trials(study)
    }
    return {number: str(family) for number, family in families.items() if family}


class LossSearch(WorkSource, SamplerGuide):
    """The study's trials as work for an executor, up to `trials` counted ones."""

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        conditions: Conditions,
        *,
        imbalance: float,
        trials: int,
        rates: StudyRates,
        recorder: Observer,
        checkpoints: Path,
        admit: Callable[[int], bool] = lambda _: True,
        reusable: Iterable[TrialResult] = (),
        gain: float | None = None,
        strict: bool = False,
        earliest: int = 0,
    ) -> None:
        """Create the work of a study.

        Trials that wait in `study` are taken over, with their checkpoints. `imbalance` is as in `suggest_choice`;
        `admit` takes a number of steps, and returns whether such a training may still begin. Where one of the
        `reusable` trainings has a trial's loss and steps, at a rate that fresh seeds draw from, too, it is the trial's.
        The search ends at `trials` counted trials; with `gain` where a generation raised the best complete value by no
        more; if `strict`, after the first one where no training clearly beats a constant answer. No trial is stopped
        before the step `earliest`.
        """
        super().__init__(recorder)
        self._study, self._space, self._conditions = study, space, conditions
        self._first = list_first_trials(space)
        self._imbalance, self._rates, self._admit = imbalance, rates, admit
        self._trials = count_possible_trials(space, trials)
        self._checkpoints = checkpoints
        self._rungs = tuple(r for r in conditions.recipe.rungs(conditions.recipe.steps) if r >= earliest)
        self._floor = count_floor(space, trials)
        self._field = SuccessiveHalving(self._rungs, present=space.present.family, pursued=count_finalists(space))
        self._before, self._gain, self._strict = list(reusable), gain, strict
        self._known = self._index_reusable()
        self._ended: list[TrialResult] = list(search_results(study))
        study.sampler = KeyedTPESampler(conditions.seed, self)  # storage opens studies without one
        self._waiting = {result.spec.number: result for result in list_waiting_results(study)}
        self._batch: list[TrialSpec] = []  # what is trained to its next rung before anything else is decided
        self._cut: set[int] = set()  # begun and interrupted; queued again, before all others
        self._queued = 0  # other queued trials
        self._done = 0
        self._families = _list_families(study)
        for trial in list_present_trials(study):
            self._done += is_counted(trial)
            if trial.state == TrialState.WAITING:
                if FAMILY in trial.user_attrs:
                    self._cut.add(trial.number)
                else:
                    self._queued += 1
            for step, value in sorted(trial.intermediate_values.items()):
                self._field.record(trial.number, trial.user_attrs[FAMILY], step, value)

    def _begin_training(self) -> TrialSpec | None:
        """Return the next training of the batch; None if the others must reach their rung first, or none is left."""
        while True:
            if not self._batch:
                if self._running:
                    return None
                self._batch = self._plan_batch()
            if not self._batch:
                self.end_waiting_trials()  # no future result could promote one
                return None
            spec = self._batch.pop(0)
            if spec.number in self._waiting:
                result = self._waiting.pop(spec.number)
                self._note_begun(spec, TrainingResumed(spec, result), result.evaluations[-1].step)
                return spec
            if not self._has_time_to_begin():
                self._put_in_queue(spec)
                continue
            self._note_begun(spec, TrainingStarted(spec))
            reused = self._known.pop((spec.loss, spec.steps), None)
            if reused is None:
                return spec
            trained = spec.model_copy(update={"lr": reused.spec.lr})
            self.take_answer(JobResult(reused.model_copy(update={"spec": trained, "run_id": None})))

    def _index_reusable(self) -> dict[object, TrialResult]:
        """Index by loss and steps the complete trainings at a rate that fresh seeds draw from."""
        reusable = dict[object, TrialResult]()
        for result in self._before:
            spec = result.spec
            drawn = choose_drawn_range(self._rates.by_family[spec.family], self._space.lr)
            if result.state == "complete" and spec.seed == self._conditions.seed and spec.lr in drawn:
                reusable[spec.loss, spec.steps] = result
        return reusable

    def _plan_batch(self) -> list[TrialSpec]:
        """Return an unfinished generation; else the trials that may continue from the lowest rung; else a new one.

        An interrupted search thus continues as it would have without the interruption.
        """
        begun = self._done + len(self._waiting)
        asked = begun + len(self._cut)
        end = max(asked, self._find_end_of_generation(asked))
        may_start = self._may_start_trial()
        if begun < end and asked and may_start:
            return [self._ask_trial() for _ in range(end - begun)]
        if promoted := self._list_promoted():
            return promoted
        self._end_hopeless()
        if may_start:
            end = self._find_end_of_generation(begun + 1)
            return [self._ask_trial() for _ in range(end - begun)]
        return []

    def _find_end_of_generation(self, begun: int) -> int:
        """Return the number of trials after which the generation of trial number `begun` − 1 ends."""
        floors = sum(self._floor.values())
        later = max(0, math.ceil((begun - floors) / GENERATION))
        return min(self._trials, floors + later * GENERATION)

    def _list_promoted(self) -> list[TrialSpec]:
        """Return the trials that may continue from the lowest rung at which there are such."""
        ready = self._field.sort_by_promotion(self._waiting)
        promoted = [self._waiting[n] for n in ready if self._was_promoted(n) or self._field.may_continue(n)]
        in_time = [result for result in promoted if self._admit(result.spec.steps - result.evaluations[-1].step)]
        lowest = min((result.evaluations[-1].step for result in in_time), default=0)
        return [result.spec for result in in_time if result.evaluations[-1].step == lowest]

    # --- How many trials, and of which families ---------------------------------------------------------------

    def _has_time_to_begin(self) -> bool:
        """Return whether there is time for another trial; the first few begin whatever time is left."""
        begun = self._done + len(self._running) + len(self._waiting)
        return begun < LEAST_TRIALS or self._admit(self._rungs[-1])

    def _may_start_trial(self) -> bool:
        """Return whether new trials may begin."""
        if self._done + len(self._waiting) >= self._trials or not self._has_time_to_begin():
            return False
        if self._cut:
            return True
        if self.is_settled or self._has_learned_nothing():
            return False
        return bool(self._queued) or len(self.list_excluded_families()) < len(self._first)

    @property
    def is_settled(self) -> bool:
        """Whether the search ends because the last generation brought no gain."""
        floors = sum(self._floor.values())
        return self._gain is not None and has_search_settled(self._ended, floors, self._gain, waiting=self._waiting)

    def _has_learned_nothing(self) -> bool:
        """Return whether, after the first generation, no training beats a constant answer by more than luck."""
        over = self._done + len(self._waiting) >= max(1, sum(self._floor.values()))
        return self._strict and over and has_learned_nothing(self._ended, self._before, strict=True)

    def _find_required_trial(self) -> dict[str, Any] | None:
        """Return what the next trial must be while families lack trials of their floor; then None: TPE chooses."""
        begun = Counter(self._families.values())
        short = [name for name in self._first if begun[name] < self._floor[name]]
        if not short:
            return None
        family = min(short, key=lambda name: begun[name])
        first = self._first[family]
        return first[begun[family]] if begun[family] < len(first) else {LOSS: family}

    def list_excluded_families(self) -> set[str]:
        """Return the families that get no more trials: too far behind at the middle rung, or with nothing to search."""
        begun = set(self._families.values())
        once = {name for name, family in self._space.by_name.items() if not family.is_searched and name in begun}
        return self._field.list_trailing_families() | once

    # --- Asking -----------------------------------------------------------------------------------------------

    def _ask_trial(self) -> TrialSpec:
        if self._cut:
            number = min(self._cut)
            self._cut.remove(number)
            fixed_trial = optuna.trial.FixedTrial(claim_trial(self._study, number).params)
            spec = self._make_spec(number, suggest_choice(fixed_trial, self._space, self._imbalance))
            self._drop_checkpoint(spec)  # of a rung where it would wait: that is decided there
            return spec
        if self._queued:
            self._queued -= 1
            trial = self._study.ask()
        else:
            trial = ask_skipping_queue(self._study, self._find_required_trial() or {})
        if trial.params:  # a session was interrupted while it asked for this one
            trial = ReplayedTrial(self._study, get_trial_id(trial))
        choice = suggest_choice(trial, self._space, self._imbalance)
        trial.set_user_attr(PARAMETERS, _format_params(choice))
        trial.set_user_attr(FAMILY, choice.family)
        self._families[trial.number] = choice.family
        return self._make_spec(trial.number, choice)

    def _make_spec(self, number: int, choice: TrialChoice) -> TrialSpec:
        seed, steps, lr = self._conditions.seed, self._rungs[-1], self._rates.by_family[choice.family]
        return TrialSpec(
            purpose="search", number=number, seed=seed, steps=steps, lr=lr, family=choice.family, params=choice.params
        )

    def _report_evaluation(self, spec: TrialSpec, evaluation: Evaluation) -> None:
        if evaluation.step in self._rungs and evaluation.step not in self._field.list_reached_steps(spec.number):
            report_step(self._study, spec.number, evaluation.step, evaluation.part_value)
            self._field.record(spec.number, spec.family, evaluation.step, evaluation.part_value)
        super()._report_evaluation(spec, evaluation)

    def _pause_at_rung(self, spec: TrialSpec, result: TrialResult) -> bool:
        """Pause a trial at a rung until the others of its batch are there, or end it if it can never continue."""
        if result.evaluations[-1].step not in self._rungs:
            return False
        if self._field.cannot_be_promoted(spec.number, self._trials):
            self.store_result(spec, result)
        else:
            self._pause_trial(spec, result)
        return True

    def _pause_trial(self, spec: TrialSpec, result: TrialResult) -> None:
        """Let the trial wait, and end those that can no longer continue."""
        mark_paused(self._study, result)
        del self._running[spec.number]
        self._waiting[spec.number] = result
        self._recorder.notify(TrainingPaused(spec, result))
        self._end_hopeless()
        # Those last in line lose their checkpoints; if promoted after all, they are trained from their start.
        line = self._field.sort_by_promotion(self._waiting)
        keep_within_room(get_checkpoint_path(self._checkpoints, self._waiting[n].spec) for n in line)

    def _was_promoted(self, number: int) -> bool:
        """Return whether a waiting trial had been promoted and had reached a further rung when it was interrupted."""
        return self._field.list_reached_steps(number)[-1] > self._waiting[number].evaluations[-1].step

    def _end_hopeless(self) -> None:
        """End the waiting trials that can no longer continue, before the sampler is called: it must see them end."""
        for number in [
            n for n in self._waiting if not self._was_promoted(n) and self._field.cannot_be_promoted(n, self._trials)
        ]:
            self._store_and_notify(self._waiting.pop(number))

    def end_waiting_trials(self) -> None:
        """End every trial that waits: no more training is to come."""
        while self._waiting:
            self._store_and_notify(self._waiting.pop(min(self._waiting)))

    def store_result(self, spec: TrialSpec, result: TrialResult) -> None:
        """Store the result of a trial that ended; a value outside 0–1 makes it a failure."""
        del self._running[spec.number]
        self._store_and_notify(_require_finite(result))

    def _store_and_notify(self, result: TrialResult) -> None:
        """Store a result, then notify all observers."""
        store_result(self._study, result)
        self._drop_old_checkpoints()
        self._done += 1
        self._ended.append(result)
        self._recorder.notify(ResultStored(result))

    def handle_dead_worker(self, spec: TrialSpec, reason: str) -> None:
        """Queue the configuration once more, from its start, then count it as failed."""
        deaths = count_lost_attempts(self._study, spec.number) + 1
        if deaths >= ATTEMPTS:
            attempts = f"{reason}, on each of {deaths} attempts"
            self.store_result(spec, TrialResult(spec=spec, state="failed", reason=attempts, device=""))
            return
        self._drop_checkpoint(spec)
        record_lost_attempt(self._study, spec.number, reason)
        self._put_back(spec, reason, died=True)

    def handle_interruption(self, reason: str) -> None:
        """Queue the running trials again, before all others; those that had waited at a rung wait there again.

        Their reported values stay: the same configuration gives the same values again.
        """
        self._going = []
        for spec in list(self._running.values()):
            self._put_back(spec, reason, died=False)
        for spec in self._batch:
            if spec.number not in self._waiting:
                self._put_in_queue(spec)
        self._batch = []

    def _put_back(self, spec: TrialSpec, reason: str, *, died: bool) -> None:
        del self._running[spec.number]
        trial = self._study.get_trials(deepcopy=False)[spec.number]
        if WAITS in trial.user_attrs:
            self._waiting[spec.number] = read_waiting_result(trial)
        else:
            self._put_in_queue(spec)
        self._recorder.notify(TrainingDropped(spec, reason, died))

    def _put_in_queue(self, spec: TrialSpec) -> None:
        """Queue a trial that has begun for Optuna, but has no result, before all others."""
        requeue_trial(self._study, spec.number)
        self._cut.add(spec.number)

    def _drop_old_checkpoints(self) -> None:
        """Delete checkpoints of ended trials; a worker may write one when it becomes idle or changes trainings."""
        specs = (*self._running.values(), *(result.spec for result in self._waiting.values()))
        kept = {get_checkpoint_path(self._checkpoints, spec) for spec in specs}
        for path in self._checkpoints.glob("search-*.pt"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def _drop_checkpoint(self, spec: TrialSpec) -> None:
        get_checkpoint_path(self._checkpoints, spec).unlink(missing_ok=True)


def _format_params(choice: TrialChoice) -> str:
    """Format a choice as in `pos_weight 7.81, mix 0.2`; Optuna's own parameters are exponents of the imbalance."""
    return ", ".join(f"{name} {format_significant(value)}" for name, value in choice.params.items())


def _require_finite(result: TrialResult) -> TrialResult:
    """Make a result whose value is outside 0–1 a failure: Optuna would keep +inf as the best value."""
    if result.state == "failed" or (result.value is not None and 0 <= result.value <= 1):
        return result
    reason = f"{NOT_A_SHARE}, got {result.value}"
    return result.model_copy(update={"state": "failed", "value": None, "reason": reason})


GENERATION = 8
"""Trials that are drawn at once, from the results of those before; a generation without a gain ends the search."""
LEAST_TRIALS = 2
"""Trials that begin whatever time is left: with fewer, nothing is compared. The ladder has often trained them."""


def has_search_settled(trials: Sequence[TrialResult], floors: int, gain: float, *, waiting: Iterable[int] = ()) -> bool:
    """Return whether the last whole generation raised the best complete value by no more than `gain`.

    `trials` have ended, those of the numbers `waiting` wait at a rung; the first `floors` are the first generation.
    """
    decided = sorted([*(trial.spec.number for trial in trials), *waiting])[floors:]
    whole = len(decided) - len(decided) % GENERATION
    last = set(decided[whole - GENERATION : whole])
    if not last:
        return False
    values = {t.spec.number: t.score for t in trials if t.state == "complete"}
    best = max(values.values(), default=0.0)
    before = max((value for number, value in values.items() if number not in last), default=0.0)
    return best - before <= gain
