"""The search: Optuna asks, workers train, weak trials stop early, every end is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

import optuna

from sweeper.records import Collapse, Conditions, Evaluation, SearchSpace, TrialResult, TrialSpec
from sweeper.space import initial_queue, suggest
from sweeper.study.pruner import FAMILY
from sweeper.study.storage.attributes import ABANDONED, RESULT
from sweeper.study.storage.results import abandon, counted, tell

ATTEMPTS = 2
"""A configuration under which this many workers died is a failed trial."""


def always(_: int) -> bool:
    """A training of any number of steps may begin."""
    return True


class Watcher(Protocol):
    """Whoever wants to know: the tracker, the progress display."""

    def training_started(self, spec: TrialSpec) -> None:
        """A training begins."""

    def training_evaluated(self, spec: TrialSpec, evaluation: Evaluation) -> None:
        """It was looked at."""

    def training_ended(self, spec: TrialSpec, result: TrialResult) -> TrialResult:
        """It has a result; what is returned is stored (the tracker adds its run)."""

    def training_kept(self, result: TrialResult) -> None:
        """Its result is stored: from now on nothing can lose it, and people may be told."""

    def training_dropped(self, spec: TrialSpec, reason: str) -> None:
        """It was cut off and does not count."""


def enqueue_defaults(study: optuna.Study, space: SearchSpace, trials: int) -> None:
    """Queue the literature defaults of each family, then each family's floor of trials, as far as they are missing.

    Called at every start: a resume with a larger total owes its families what the smaller one could not give.
    """
    held = [t for t in study.get_trials(deepcopy=False) if ABANDONED not in t.user_attrs]
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
        watcher: Watcher,
        admit: Callable[[int], bool] = always,
    ) -> None:
        """`admit(steps)` says whether a training of so many steps may still begin."""
        self._study, self._space, self._conditions = study, space, conditions
        self._imbalance, self._trials, self._watcher, self._admit = imbalance, trials, watcher, admit
        self._running: dict[int, optuna.Trial] = {}
        self._done = sum(counted(t) for t in study.get_trials(deepcopy=False))

    def next(self) -> TrialSpec | None:
        """Ask Optuna for a trial while the total is not reached and there is time."""
        steps = self._conditions.recipe.steps
        if self._done + len(self._running) >= self._trials or not self._admit(steps):
            return None
        trial = self._study.ask()
        choice = suggest(trial, self._space, self._imbalance)
        trial.set_user_attr(FAMILY, choice.family)
        spec = TrialSpec(
            purpose="search",
            number=trial.number,
            family=choice.family,
            params=choice.params,
            lr=choice.lr,
            seed=self._conditions.seed,
            steps=steps,
        )
        self._running[trial.number] = trial
        self._watcher.training_started(spec)
        return spec

    def reported(self, spec: TrialSpec, evaluation: Evaluation, last: bool) -> bool:
        """Report to Optuna; go on unless the pruner says stop."""
        trial = self._running[spec.number]
        trial.report(evaluation.value, evaluation.step)
        go_on = last or not trial.should_prune()
        self._watcher.training_evaluated(spec, evaluation)
        return go_on

    def finished(self, spec: TrialSpec, result: TrialResult) -> None:
        """Store the result, then tell Optuna; a value that is no share of 1 makes the trial a failure."""
        result = _checked(result)
        result = self._watcher.training_ended(spec, result)
        trial = self._running.pop(spec.number)
        trial.set_user_attr(RESULT, result.model_dump(mode="json"))
        if result.collapse != Collapse.NONE:
            trial.set_user_attr("collapse", result.collapse.value)
        tell(self._study, result)
        self._done += 1
        self._watcher.training_kept(result)

    def died(self, spec: TrialSpec, reason: str) -> None:
        """Try the configuration once more, then count it as failed."""
        trial = self._running[spec.number]
        deaths = int(trial.user_attrs.get("deaths", 0)) + 1
        if deaths >= ATTEMPTS:
            self.finished(spec, dead(spec, f"{reason}, on each of {deaths} attempts"))
            return
        del self._running[spec.number]
        abandon(self._study, spec.number, reason, deaths=deaths)
        self._watcher.training_dropped(spec, reason)

    def interrupted(self, spec: TrialSpec, reason: str) -> None:
        """Leave the configuration in the queue for a resume."""
        del self._running[spec.number]
        abandon(self._study, spec.number, reason)
        self._watcher.training_dropped(spec, reason)


def _checked(result: TrialResult) -> TrialResult:
    """Optuna would keep +inf as the best value of the study."""
    if result.state == "failed" or (result.value is not None and 0 <= result.value <= 1):
        return result
    reason = f"the value of a trial must lie in [0, 1], got {result.value}"
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
