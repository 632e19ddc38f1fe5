"""The confirmation: the leading losses and the baseline, trained again on fresh paired seeds, scored on test."""

from __future__ import annotations

from collections.abc import Sequence

import optuna

from sweeper.records import Collapse, Conditions, Evaluation, TrialResult, TrialSpec
from sweeper.study.search import ATTEMPTS, Watcher, dead
from sweeper.study.storage import confirmation_results, store_confirmation

BASELINE = "cross_entropy"
LEADERS = 3
SHOWN = 48
"""Test pictures whose predictions are kept, of each finalist's first seed, for the report's side-by-side figure."""


def finalists(trials: Sequence[TrialResult], leaders: int = LEADERS) -> list[TrialResult]:
    """The best complete trial of each of the leading families, best first, and the baseline's wherever it stands.

    Diverged trials are not eligible. Ties go to the earlier trial.
    """
    best: dict[str, TrialResult] = {}
    for trial in trials:
        if trial.state != "complete" or trial.value is None or trial.collapse == Collapse.DIVERGED:
            continue
        held = best.get(trial.spec.family)
        if held is None or trial.value > (held.value or 0.0):
            best[trial.spec.family] = trial
    ranked = sorted(best.values(), key=lambda t: (-(t.value or 0.0), t.spec.number))
    return ranked[:leaders] + [t for t in ranked[leaders:] if t.spec.family == BASELINE]


def confirm_seed(study_seed: int, number: int) -> int:
    """Seed of the number-th (from 0) confirmation round: never the search's own."""
    return 1000 * (study_seed + 1) + number


class Confirmation:
    """Finalists × seeds as work for an executor; what an earlier session finished is not repeated.

    Rounds go seed by seed, so that whatever is finished is paired.
    """

    def __init__(
        self,
        study: optuna.Study,
        chosen: Sequence[TrialResult],
        conditions: Conditions,
        *,
        seeds: int,
        watcher: Watcher,
    ) -> None:
        self._study, self._watcher = study, watcher
        done = confirmation_results(study)
        have = {_key(result.spec) for result in done if result.state == "complete"}
        number = 1 + max((result.spec.number for result in done), default=-1)
        self._queue: list[TrialSpec] = []
        for round_number in range(seeds):
            for finalist in chosen:
                spec = finalist.spec.model_copy(
                    update={
                        "purpose": "confirm",
                        "number": number,
                        "seed": confirm_seed(conditions.seed, round_number),
                        "steps": conditions.recipe.confirm_steps,
                        "keep_predictions": SHOWN if round_number == 0 else 0,
                    }
                )
                if _key(spec) not in have:
                    self._queue.append(spec)
                    number += 1
        self._deaths: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._queue)

    def next(self) -> TrialSpec | None:
        """The next finalist and seed."""
        if not self._queue:
            return None
        spec = self._queue.pop(0)
        self._watcher.training_started(spec)
        return spec

    def reported(self, spec: TrialSpec, evaluation: Evaluation, last: bool) -> bool:
        """Confirmations always go on to the end."""
        self._watcher.training_evaluated(spec, evaluation)
        return True

    def finished(self, spec: TrialSpec, result: TrialResult) -> None:
        """Store it with the study."""
        result = self._watcher.training_ended(spec, result)
        store_confirmation(self._study, result)
        self._watcher.training_kept(result)

    def died(self, spec: TrialSpec, reason: str) -> None:
        """Try once more; then it failed, and the finalist lacks this seed."""
        self._watcher.training_dropped(spec, reason)
        self._deaths[spec.number] = self._deaths.get(spec.number, 0) + 1
        if self._deaths[spec.number] < ATTEMPTS:
            self._queue.append(spec)
        else:
            attempts = f"{reason}, on each of {self._deaths[spec.number]} attempts"
            self.finished(spec, dead(spec, attempts))

    def interrupted(self, spec: TrialSpec) -> None:
        """Nothing to keep: a resume trains it again."""
        self._watcher.training_dropped(spec, "the sweep was stopped")


def confirmed(results: Sequence[TrialResult], chosen: Sequence[TrialResult], steps: int) -> list[TrialResult]:
    """Those confirmations that belong to the finalists as they are now, at `steps` steps."""
    wanted = {_key(f.spec, ignore_seed=True) for f in chosen}
    return [r for r in results if r.spec.steps == steps and _key(r.spec, ignore_seed=True) in wanted]


def _key(spec: TrialSpec, *, ignore_seed: bool = False) -> tuple[object, ...]:
    params = tuple(sorted(spec.params.items()))
    configuration = (spec.family, params, spec.lr)
    return configuration if ignore_seed else (*configuration, spec.seed, spec.steps)
