"""TPE whose draws for trial n depend on (seed, n) and the trials told before, and on nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

LOSS = "loss"
"""The parameter that says which family, whose other parameters are called `FAMILY.name`."""


@contextmanager
def _read_once(study: optuna.Study) -> Iterator[None]:
    """Let the block see the trials as they are at its begin.

    TPE with a constant liar reads all trials anew for each of its groups, one per family; nothing changes in between,
    as an ask is one call of one process, and each reading costs a query for all unfinished trials.
    """
    read = study._get_trials

    def cached(
        deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return read(deepcopy, states, use_cache=True)

    study._get_trials = cached  # type: ignore[method-assign]
    try:
        yield
    finally:
        del study._get_trials


class KeyedTPESampler(BaseSampler):
    """Optuna's TPE (multivariate, grouped, constant liar), seeded afresh for each trial from (seed, trial number).

    A sampler that is seeded once repeats its first suggestions when a study is resumed in a new process, and its
    suggestions depend on how often it was asked before. Keyed by the trial's number, neither happens.
    `group=True` is needed for a space whose parameters depend on the loss. The loss is drawn first, and then the
    parameters of this loss alone: Optuna itself would model those of every loss in each ask, and use none of them.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._samplers: dict[int, TPESampler] = {}

    def _sampler(self, trial: FrozenTrial) -> TPESampler:
        if trial.number not in self._samplers:
            key = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self._samplers[trial.number] = TPESampler(seed=key, multivariate=True, group=True, constant_liar=True)
        return self._samplers[trial.number]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See `optuna.samplers.BaseSampler`."""
        with _read_once(study):
            return self._sampler(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See `optuna.samplers.BaseSampler`."""
        with _read_once(study):
            sampler = self._sampler(trial)
            fixed = trial.system_attrs.get("fixed_params", {}).get(LOSS)
            if LOSS not in search_space and fixed is None:
                return sampler.sample_relative(study, trial, search_space)
            chosen: dict[str, Any] = {}
            if fixed is None:
                chosen = sampler.sample_relative(study, trial, {LOSS: search_space[LOSS]})
                if LOSS not in chosen:  # too few trials for the model: all is drawn at random
                    return {}
            family = fixed or chosen[LOSS]
            own = {name: space for name, space in search_space.items() if name.startswith(f"{family}.")}
            return {**chosen, **sampler.sample_relative(study, trial, own)}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See `optuna.samplers.BaseSampler`."""
        return self._sampler(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Forget the trial's sampler."""
        self._samplers.pop(trial.number, None)
