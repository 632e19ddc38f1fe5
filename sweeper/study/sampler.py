"""TPE sampler whose draws depend only on the seed, the trial's place in the search and the trials before it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

from sweeper.storage.optuna_internals import freeze_trials
from sweeper.storage.record_format import ATTEMPT_OF, RETRY_OF

LOSS = "loss"
"""Name of the parameter that selects the family, whose other parameters are called `FAMILY.name`."""


def find_search_place(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    """Return the place of a trial in its search, from 0.

    It is the trial's number unless workers died or trials failed: the record of a lost attempt has no place, and a
    trial that is trained in place of another has the other's.
    """
    while (before := trial.user_attrs.get(RETRY_OF)) is not None:
        trial = trials[before]
    return sum(not {RETRY_OF, ATTEMPT_OF} & t.user_attrs.keys() for t in trials[: trial.number])


class SamplerGuide:
    """Decisions of a search for its sampler; none here."""

    def list_excluded_families(self) -> set[str]:
        """Return the families that get no more trials."""
        return set()


class KeyedTPESampler(BaseSampler):
    """Optuna's TPE (multivariate, grouped, constant liar), seeded again for each trial from (seed, place).

    A sampler that is seeded once repeats its first suggestions when a study is resumed in a new process, and its
    suggestions depend on the number of earlier calls; the trial's place as the key avoids both. `group=True` is needed
    for a space whose parameters depend on the loss. The loss is drawn first, then only its own parameters: Optuna
    itself would model those of every loss in each call, and use none of them. TPE treats a trial that waits at a rung
    like a stopped one, although Optuna stores it as running, without a value.
    """

    def __init__(self, seed: int, guide: SamplerGuide | None = None) -> None:
        """Create the sampler; without a guide TPE draws everything."""
        self._seed, self._guide = seed, guide or SamplerGuide()
        self._tpe = TPESampler()
        """Sampler of the current trial."""

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are drawn together: those that TPE finds in all trials so far, by group."""
        place = find_search_place(trial, study.get_trials(deepcopy=False))
        key = int(np.random.SeedSequence([self._seed, place]).generate_state(1)[0])
        with warnings.catch_warnings():  # a new one, so that a repeated trial draws the same values
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._tpe = TPESampler(seed=key, multivariate=True, group=True, constant_liar=True)
        with freeze_trials(study):
            return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the loss first, then only its own parameters."""
        with freeze_trials(study):
            fixed = trial.system_attrs.get("fixed_params", {}).get(LOSS)
            if LOSS not in search_space and fixed is None:
                return self._tpe.sample_relative(study, trial, search_space)
            chosen: dict[str, Any] = {}
            if fixed is None:
                loss = search_space[LOSS]
                chosen = self._tpe.sample_relative(study, trial, {LOSS: loss})
                if LOSS not in chosen:  # too few trials for the model: everything is drawn at random
                    return {}
                chosen[LOSS] = self._replace_excluded_family(chosen[LOSS], study, trial, loss)
            family = fixed or chosen[LOSS]
            family_space = {name: space for name, space in search_space.items() if name.startswith(f"{family}.")}
            return {**chosen, **self._tpe.sample_relative(study, trial, family_space)}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a single parameter at random."""
        drawn = self._tpe.sample_independent(study, trial, param_name, param_distribution)
        return self._replace_excluded_family(drawn, study, trial, param_distribution) if param_name == LOSS else drawn

    def _replace_excluded_family(
        self, drawn: str, study: optuna.Study, trial: FrozenTrial, losses: BaseDistribution
    ) -> str:
        """Return the drawn loss, or a random one of the others if it gets no more trials."""
        excluded = self._guide.list_excluded_families()
        if drawn not in excluded:
            return drawn
        assert isinstance(losses, CategoricalDistribution)
        allowed = [str(loss) for loss in losses.choices if loss not in excluded]
        place = find_search_place(trial, study.get_trials(deepcopy=False))
        return allowed[np.random.default_rng([self._seed, place]).integers(len(allowed))]
