"""The search: Optuna proposes trials, workers train them, trials wait at their rungs or continue, each end is stored.

Every family begins with its literature defaults, then gets its floor of trials: the best configurations on similar
data, where the space has such. Then TPE chooses among the families that are not far behind. All learning rates are
drawn around the optimum that the complete trials show so far (`sweeper.study.learning_rates`). Without a given total
the search ends once trials bring no gain; without given steps it also ends after the floors if nothing was learned. At
the end each family that would be a finalist completes enough trials, so that no finalist is less tuned than the others.

A trial that waits stays RUNNING in Optuna, where PRUNED is final; its result so far is in its attributes, its network
in a checkpoint. It is reported as pruned once no later trial could promote it, or when no more training is to come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from sweeper.core.records import Conditions, Evaluation, SearchSpace, TrialResult, TrialSpec
from sweeper.core.text import format_significant
from sweeper.core.training_files import get_checkpoint_path
from sweeper.space import FLOOR, TrialChoice, count_floor_trials, list_first_trials, suggest_choice
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
from sweeper.study.finalist import Finalist, fit_common_rate, select_finalist_families
from sweeper.study.learning_check import has_learned_nothing
from sweeper.study.learning_rates import choose_search_rate
from sweeper.study.loop import ATTEMPTS, WorkSource, index_completed
from sweeper.study.sampler import LOSS, KeyedTPESampler, SamplerGuide
from sweeper.study.successive_halving import SuccessiveHalving
from sweeper.system.machine import keep_within_room


def enqueue_defaults(
    study: optuna.Study,
    space: SearchSpace,
    trials: int,
    instead: Mapping[str, dict[str, Any]] = {},
    *,
    is_limited: bool = False,
) -> None:
    """Queue the missing defaults of each family, first their replacements from `instead`, while there is room.

    It is called at every start: with a larger total a resume adds the families that the smaller one left out. Where
    there is no room for all, the last of several trials is the present loss's: without it neither keeping it nor a
    change from it can be recommended. If the time `is_limited`, it is the second, as any later one may not be trained.
    """
    have, first = Counter(_list_families(study).values()), list_first_trials(space)
    room = max(0, trials - have.total())
    missing = sorted((family for family in first if not have[family]), key=lambda family: family not in instead)
    last = max(0, (min(room, 2) if is_limited else room) - 1)
    if trials > 1 and (present := space.present.family) in missing[last + 1 :]:
        missing.remove(present)
        missing.insert(last, present)
    for family in missing[:room]:
        study.enqueue_trial(instead.get(family, first[family][0]))


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
        `admit` takes a number of steps, and returns whether such a training may still begin. A trial that equals one of
        the `reusable` trainings is not trained again. The search ends at `trials` counted trials; with `gain` where the
        last ones raised the best complete value by no more; if `strict`, after the floors where no training clearly
        beats a constant answer. No trial is stopped before the step `earliest`.
        """
        super().__init__(recorder)
        self._study, self._space, self._conditions = study, space, conditions
        self._first = list_first_trials(space)
        self._imbalance, self._trials, self._admit = imbalance, trials, admit
        self._checkpoints = checkpoints
        self._rungs = tuple(r for r in conditions.recipe.rungs(conditions.recipe.steps) if r >= earliest)
        self._floor = count_floor_trials(space, trials)
        self._field = SuccessiveHalving(self._rungs, least=self._floor, present=space.present.family)
        self._before, self._gain, self._strict = list(reusable), gain, strict
        self._known = index_completed(self._before)
        self._ended: list[TrialResult] = list(search_results(study))
        self._fit = fit_common_rate(self._ended, space)
        study.sampler = KeyedTPESampler(conditions.seed, self)  # storage opens studies without one
        self._waiting = {result.spec.number: result for result in list_waiting_results(study)}
        self._promoted: dict[int, int] = {}  # by number, the step at which a trial was promoted
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
        """Return an interrupted trial, one that may be promoted, or a new one.

        An interrupted trial comes before any promotion, as it had begun before: so an interrupted search continues as
        it would have without the interruption.
        """
        self._end_hopeless()
        more = self._may_start_trial()
        steps_left = {n: result.spec.steps - result.evaluations[-1].step for n, result in self._waiting.items()}
        ready = self._field.sort_by_promotion(number for number, steps in steps_left.items() if self._admit(steps))
        chosen = next(filter(self._was_promoted, ready), None)
        if chosen is not None:  # its checkpoint may be of the next rung, where its promotion is decided
            self._drop_checkpoint(self._waiting[chosen].spec)
        elif not (self._cut and more):
            chosen = next(filter(self._field.may_continue, ready), None)
        if chosen is None and not more:
            chosen = next(filter(self._is_needed_as_finalist, ready), None)
        if chosen is not None:
            result = self._waiting.pop(chosen)
            self._promoted[chosen] = result.evaluations[-1].step
            self._note_begun(result.spec, TrainingResumed(result.spec, result), result.evaluations[-1].step)
            return result.spec
        if more:
            spec = self._ask_trial()
            self._note_begun(spec, TrainingStarted(spec))
            if (reused := self._known.pop(spec.key, None)) is None:
                return spec
            self.take_answer(JobResult(reused.model_copy(update={"spec": spec, "run_id": None})))
            return self._begin_training()
        if not self._running:  # no future result could promote one
            self.end_waiting_trials()
        return None

    # --- How many trials, and of which families ---------------------------------------------------------------

    def _count_trials_left(self) -> int:
        return self._trials - self._done - len(self._running) - len(self._waiting)

    def _may_start_trial(self) -> bool:
        """Return whether new trials may begin."""
        left = self._count_trials_left()
        has_time = self._trials - left < LEAST_TRIALS or self._admit(self._rungs[-1])
        if left <= 0 or not has_time:
            return False
        return bool(self._cut) or not (self.is_settled or self._has_learned_nothing())

    @property
    def is_settled(self) -> bool:
        """Whether the search ends because the last trials brought no gain."""
        floors = len(self._space.families) * self._floor
        return self._gain is not None and has_search_settled(self._ended, floors, self._gain, waiting=self._waiting)

    def _has_learned_nothing(self) -> bool:
        """Return whether, after the floors, no training beats a constant answer by more than luck."""
        floors = max(1, len(self._space.families) * self._floor)
        over = not self._running and self._done + len(self._waiting) >= floors
        return self._strict and over and has_learned_nothing(self._ended, self._before, strict=True)

    def _find_required_trial(self) -> dict[str, Any] | None:
        """Return what the next trial must be; None if the sampler may choose.

        Families that lack trials of their floor come first. Then, once the remaining trials are needed for it, leaders
        that would have fewer than `FLOOR` complete trials.
        """
        begun = Counter(self._families.values())
        if short := [name for name in self._first if begun[name] < self._floor]:
            return self._find_start_of_family(min(short, key=lambda name: begun[name]), begun)
        lacking = {f.family: FLOOR - begun[f.family] for f in self._list_leading() if begun[f.family] < FLOOR}
        if not lacking or self._count_trials_left() > sum(lacking.values()):
            return None
        return self._find_start_of_family(next(iter(lacking)), begun)

    def _list_leading(self) -> list[Finalist]:
        """Return the finalists by the trials that ended."""
        return select_finalist_families(self._ended, self._space)

    def _find_start_of_family(self, family: str, begun: Counter[str]) -> dict[str, Any]:
        """Return the next of a family's first trials; after these, only the family."""
        first = self._first[family]
        return first[begun[family]] if begun[family] < len(first) else {LOSS: family}

    def _is_needed_as_finalist(self, number: int) -> bool:
        """Return whether a trial continues because a finalist's family lacks `FLOOR` complete trials."""
        family = self._waiting[number].spec.family
        if family not in {f.family for f in self._list_leading()}:
            return False
        complete = sum(t.spec.family == family and t.state == "complete" for t in self._ended)
        return complete + sum(spec.family == family for spec in self._running.values()) < FLOOR

    def list_excluded_families(self) -> set[str]:
        """Return the families that get no more trials: too far behind at the middle rung."""
        return self._field.list_trailing_families()

    def suggest_rate(self, number: int, family: str) -> float | None:
        """Return the learning rate of this trial of `family`, from the fit to all trials; None without a fit."""
        if self._fit is None:
            return None
        place = sum(family == other_family for other, other_family in self._families.items() if other < number)
        return choose_search_rate(self._fit, self._space.lr, place, curve=len(self._first[family]) == 1)

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
        seed, steps = self._conditions.seed, self._rungs[-1]
        return TrialSpec(purpose="search", number=number, seed=seed, steps=steps, **dict(choice))

    def _report_evaluation(self, spec: TrialSpec, evaluation: Evaluation) -> None:
        if evaluation.step in self._rungs and evaluation.step not in self._field.list_reached_steps(spec.number):
            report_step(self._study, spec.number, evaluation.step, evaluation.part_value)
            self._field.record(spec.number, spec.family, evaluation.step, evaluation.part_value)
        super()._report_evaluation(spec, evaluation)

    def _pause_at_rung(self, spec: TrialSpec, result: TrialResult) -> bool:
        """Pause a trial that is not among the best at its rung, or end it if it can never continue."""
        step = result.evaluations[-1].step
        decided = max(self._promoted.get(spec.number, 0), *self._field.list_reached_steps(spec.number)[:-1], 0)
        on_its_way = step not in self._rungs or step <= decided  # it was promoted there before
        if on_its_way or self._field.may_continue(spec.number):
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
        if result.state == "complete":
            self._fit = fit_common_rate(self._ended, self._space)
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

    def _put_back(self, spec: TrialSpec, reason: str, *, died: bool) -> None:
        del self._running[spec.number]
        trial = self._study.get_trials(deepcopy=False)[spec.number]
        if WAITS in trial.user_attrs:
            self._waiting[spec.number] = read_waiting_result(trial)
        else:
            requeue_trial(self._study, spec.number)
            self._cut.add(spec.number)
        self._recorder.notify(TrainingDropped(spec, reason, died))

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
    """Format a choice as in `pos_weight 7.81, lr 0.003`; Optuna's own parameters are exponents of the imbalance."""
    return ", ".join(
        f"{name} {format_significant(value)}" for name, value in {**choice.params, "lr": choice.lr}.items()
    )


def _require_finite(result: TrialResult) -> TrialResult:
    """Make a result whose value is outside 0–1 a failure: Optuna would keep +inf as the best value."""
    if result.state == "failed" or (result.value is not None and 0 <= result.value <= 1):
        return result
    reason = f"{NOT_A_SHARE}, got {result.value}"
    return result.model_copy(update={"state": "failed", "value": None, "reason": reason})


PATIENCE = 8
"""Trials beyond the floors that must bring no gain."""
LEAST_TRIALS = 2
"""Trials that begin whatever time is left: with fewer, nothing is compared. The ladder has often trained them."""


def has_search_settled(trials: Sequence[TrialResult], floors: int, gain: float, *, waiting: Iterable[int] = ()) -> bool:
    """Return whether the last trials beyond the floors raised the best complete value by no more than `gain`.

    `trials` have ended, those of the numbers `waiting` wait at a rung; the first `floors` are the families' floors.
    """
    decided = sorted([*(trial.spec.number for trial in trials), *waiting])
    last = set(decided[floors:][-PATIENCE:])
    if len(last) < PATIENCE:
        return False
    values = {t.spec.number: t.score for t in trials if t.state == "complete"}
    best = max(values.values(), default=0.0)
    before = max((value for number, value in values.items() if number not in last), default=0.0)
    return best - before <= gain
