"""The search: Optuna asks, workers train, trials wait at their rungs or go on, every end is told.

A trial that waits stays RUNNING in Optuna, with what it gave so far in its attributes and its network in a checkpoint:
PRUNED is final there. It is told once no later trial could let it go on, or when nothing more is to be trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.trial import TrialState

from sweeper.core.events import Answer, Dropped, Evaluated, Paused, Recorder, Resumed, Started, Stored
from sweeper.core.paths import checkpoint_path
from sweeper.core.records import Collapse, Conditions, Evaluation, SearchSpace, TrialResult, TrialSpec
from sweeper.space import FLOOR, Choice, initial_queue, suggest
from sweeper.storage.attributes import FAMILY, PARAMETERS, WAITS
from sweeper.storage.optuna_internals import AskedAgain, id_of
from sweeper.storage.results import (
    NOT_A_SHARE,
    abandon,
    attempts_lost,
    counted,
    end,
    present_trials,
    report,
    requeue,
    take,
    wait,
    waiting_result,
    waiting_results,
)
from sweeper.study.sampler import KeyedTPESampler
from sweeper.study.successive_halving import Halving
from sweeper.system.disk_space import keep_within_room

ATTEMPTS = 2
"""A configuration under which this many workers died is a failed trial."""


def always(_: int) -> bool:
    """A training of any number of steps may begin."""
    return True


def enqueue_defaults(study: optuna.Study, space: SearchSpace, trials: int) -> None:
    """Queue the literature defaults of each family, then each family's floor of trials, as far as they are missing.

    Called at every start: with a larger total a resume gives its families the trials that the smaller one could not.
    """
    held = present_trials(study)
    have = Counter(t.params.get("loss") or t.system_attrs.get("fixed_params", {}).get("loss") for t in held)
    room = trials - len(held)
    for params in initial_queue(space, trials):
        if have[params["loss"]]:
            have[params["loss"]] -= 1
        elif room > 0:
            study.enqueue_trial(params)
            room -= 1


class Search:
    """The study's trials as work for an executor, up to `trials` counted ones."""

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        conditions: Conditions,
        *,
        imbalance: float,
        trials: int,
        recorder: Recorder,
        checkpoints: Path,
        admit: Callable[[int], bool] = always,
    ) -> None:
        """Make the work of a study.

        Args:
            study: the study; trials that wait in it are taken over.
            space: what is searched.
            conditions: the study's.
            imbalance: as `suggest` takes it.
            trials: how many counted trials there are to be.
            recorder: is told what happens, and completes results.
            checkpoints: folder of the trials that wait.
            admit: whether a training of so many steps may still begin.
        """
        if not isinstance(study.sampler, KeyedTPESampler):
            study.sampler = KeyedTPESampler(conditions.seed)  # storage opens studies without one
        self._study, self._space, self._conditions = study, space, conditions
        self._imbalance, self._trials, self._recorder, self._admit = imbalance, trials, recorder, admit
        self._checkpoints = checkpoints
        self._rungs = conditions.recipe.rungs(conditions.recipe.steps)
        self._field = Halving(self._rungs, least=min(FLOOR, trials // len(space.families)))
        self._running: dict[int, TrialSpec] = {}
        self._waiting = {result.spec.number: result for result in waiting_results(study)}
        self._promoted: dict[int, int] = {}  # by number, the step beyond which a trial was let go
        self._told: dict[int, set[int]] = {}  # of each training in progress, the steps that were told
        self._cut: set[int] = set()  # begun before and cut off: back in the queue, and first there
        self._done = 0
        for trial in present_trials(study):
            self._done += counted(trial)
            if trial.state == TrialState.WAITING and FAMILY in trial.user_attrs:
                self._cut.add(trial.number)
            for step, value in sorted(trial.intermediate_values.items()):
                self._field.see(trial.number, trial.user_attrs[FAMILY], step, value)

    def next(self) -> TrialSpec | None:
        """What was cut off, else a trial that may go on from its rung, else a new one while there is room and time.

        A trial that was cut off was begun before any that waits could be let go: by this order a search that was
        interrupted goes on as it would have gone on.
        """
        self._end_hopeless()
        more = self._room() and self._admit(self._rungs[-1])
        ready = [number for number, result in self._waiting.items() if self._admit(_left(result))]
        chosen = next(iter(self._field.line(n for n in ready if self._ahead(n))), None)
        if chosen is not None:  # its checkpoint may be of the further rung, where it is to be decided on
            self._drop_checkpoint(self._waiting[chosen].spec)
        elif not (self._cut and more):
            chosen = self._field.next(ready, more=more)
        if chosen is not None:
            result = self._waiting.pop(chosen)
            self._promoted[chosen] = result.evaluations[-1].step
            self._told[chosen] = {evaluation.step for evaluation in result.evaluations}
            self._recorder.notify(Resumed(result.spec, result))
            spec = result.spec
        elif more:
            spec = self._ask()
            self._told[spec.number] = set()
            self._recorder.notify(Started(spec))
        else:
            if not self._running:  # nothing is to come that could let one go on
                self.give_up()
            return None
        self._running[spec.number] = spec
        return spec

    def _room(self) -> bool:
        return self._done + len(self._running) + len(self._waiting) < self._trials

    def _ask(self) -> TrialSpec:
        if self._cut:
            number = min(self._cut)
            self._cut.remove(number)
            known = optuna.trial.FixedTrial(take(self._study, number).params)
            spec = self._spec(number, suggest(known, self._space, self._imbalance))
            self._drop_checkpoint(spec)  # of a rung where it was to wait: that is decided there
            return spec
        trial = self._study.ask()
        if trial.params:  # a session was cut off while it asked for this one
            trial = AskedAgain(self._study, id_of(trial))
        choice = suggest(trial, self._space, self._imbalance)
        trial.set_user_attr(PARAMETERS, _readable(choice))
        trial.set_user_attr(FAMILY, choice.family)
        return self._spec(trial.number, choice)

    def _spec(self, number: int, choice: Choice) -> TrialSpec:
        return TrialSpec(
            purpose="search",
            number=number,
            family=choice.family,
            params=choice.params,
            lr=choice.lr,
            seed=self._conditions.seed,
            steps=self._rungs[-1],
        )

    def reported(self, spec: TrialSpec, evaluation: Evaluation, last: bool) -> Answer:
        """Note the value; a trial that is not among the best at its rung waits there, or ends if it never can be."""
        if evaluation.step not in self._field.steps(spec.number):
            report(self._study, spec.number, evaluation.step, evaluation.part_value)
            self._field.see(spec.number, spec.family, evaluation.step, evaluation.part_value)
        if evaluation.step not in self._told[spec.number]:
            self._told[spec.number].add(evaluation.step)
            self._recorder.notify(Evaluated(spec, evaluation, last))
        decided = max(self._promoted.get(spec.number, 0), *self._field.steps(spec.number)[:-1], 0)
        if last or evaluation.step <= decided:  # it was let go there, and is on its way there again
            return "go"
        if self._field.goes_on(spec.number, more=self._room()):
            return "go"
        return "stop" if self._field.hopeless(spec.number, self._trials) else "pause"

    def paused(self, spec: TrialSpec, result: TrialResult) -> None:
        """Let it wait, and end those that can go on no more."""
        wait(self._study, result)
        del self._running[spec.number]
        self._waiting[spec.number] = result
        self._recorder.notify(Paused(spec, result))
        self._end_hopeless()
        # One whose checkpoint is gone is trained from its start, should it go on: the last in line hardly will.
        line = self._field.line(self._waiting)
        keep_within_room(checkpoint_path(self._checkpoints, self._waiting[n].spec) for n in line)

    def _ahead(self, number: int) -> bool:
        """Whether a trial that waits had been let go and had reached a further rung when it was cut off."""
        return self._field.steps(number)[-1] > self._waiting[number].evaluations[-1].step

    def _end_hopeless(self) -> None:
        """End the trials that wait and can never go on: before a new one is asked for, as the sampler sees them end."""
        for number in [n for n in self._waiting if not self._ahead(n) and self._field.hopeless(n, self._trials)]:
            self._end(self._waiting.pop(number))

    def give_up(self) -> None:
        """End every trial that waits: nothing is trained any more."""
        while self._waiting:
            self._end(self._waiting.pop(min(self._waiting)))

    def finished(self, spec: TrialSpec, result: TrialResult) -> None:
        """Take the result of a trial that ended; a value that is no share of 1 makes it a failure."""
        del self._running[spec.number]
        self._end(_checked(result))

    def _end(self, result: TrialResult) -> None:
        """Store it, then tell everyone."""
        result = self._recorder.record(result)
        end(self._study, result)
        self._drop_checkpoint(result.spec)
        self._done += 1
        self._recorder.notify(Stored(result))

    def died(self, spec: TrialSpec, reason: str) -> None:
        """Try the configuration once more, from its start, then count it as failed."""
        deaths = attempts_lost(self._study, spec.number) + 1
        if deaths >= ATTEMPTS:
            self.finished(spec, dead(spec, f"{reason}, on each of {deaths} attempts"))
            return
        self._drop_checkpoint(spec)
        abandon(self._study, spec.number, reason)
        self._put_back(spec, reason, died=True)

    def interrupted(self, spec: TrialSpec, reason: str) -> None:
        """Leave the training to be begun again: first in the queue, or at its rung where it waited before.

        What it reported stands: the same configuration gives the same values again.
        """
        self._put_back(spec, reason, died=False)

    def _put_back(self, spec: TrialSpec, reason: str, *, died: bool) -> None:
        del self._running[spec.number]
        trial = self._study.get_trials(deepcopy=False)[spec.number]
        if WAITS in trial.user_attrs:
            self._waiting[spec.number] = waiting_result(trial)
        else:
            requeue(self._study, spec.number)
            self._cut.add(spec.number)
        self._recorder.notify(Dropped(spec, reason, died))

    def _drop_checkpoint(self, spec: TrialSpec) -> None:
        checkpoint_path(self._checkpoints, spec).unlink(missing_ok=True)


def _readable(choice: Choice) -> str:
    """`pos_weight 7.81, lr 0.003`: Optuna's own parameters are exponents of the imbalance, and named by family."""
    return ", ".join(f"{name} {value:.3g}" for name, value in {**choice.params, "lr": choice.lr}.items())


def _left(result: TrialResult) -> int:
    """Steps that a waiting trial has before it."""
    return result.spec.steps - result.evaluations[-1].step


def _checked(result: TrialResult) -> TrialResult:
    """Optuna would keep +inf as the best value of the study."""
    if result.state == "failed" or (result.value is not None and 0 <= result.value <= 1):
        return result
    reason = f"{NOT_A_SHARE}, got {result.value}"
    return result.model_copy(update={"state": "failed", "value": None, "reason": reason})


def dead(spec: TrialSpec, reason: str) -> TrialResult:
    """Result of a training whose workers died under it."""
    return TrialResult(
        spec=spec,
        state="failed",
        value=None,
        evaluations=(),
        collapse=Collapse.NONE,
        collapse_at_default=Collapse.NONE,
        reason=reason,
        seconds=0.0,
        seconds_per_step=None,
        device="",
    )
