"""The TPE sampler, whose draws depend only on the seed and the trial's number, with real Optuna and SQLite."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from sweeper import storage as studies
from sweeper.space import suggest_choice
from sweeper.study.sampler import KeyedTPESampler
from tests.support.faking import SPACE, new_study


def compute_value(family: str, params: dict[str, float], lr: float) -> float:
    """Return a made-up objective with its best inside the space."""
    return 0.5 + 0.1 * (family == "dice_ce") - 0.02 * abs(params.get("gamma", 2.0) - 2.0) - 5 * abs(lr - 0.002)


def run_trials(study: optuna.Study, trials: int) -> list[dict[str, Any]]:
    for _ in range(trials):
        trial = study.ask()
        choice = suggest_choice(trial, SPACE, 60.0)
        study.tell(trial, compute_value(choice.family, choice.params, choice.lr))
    return [t.params for t in study.trials]


def test_only_the_seed_determines_the_parameters() -> None:
    first = run_trials(new_study(), 16)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    assert run_trials(new_study(), 16) == first
    assert run_trials(new_study(1), 5) != first[:5]


def test_a_resumed_study_draws_like_an_uninterrupted_one(tmp_path: Path) -> None:
    uninterrupted = run_trials(new_study(), 16)
    url = f"sqlite:///{tmp_path}/study.db"
    for total in (7, 16):  # a fresh sampler each time, as in a new process
        study = optuna.create_study(
            storage=studies.open_storage(url), study_name="s", direction="maximize", load_if_exists=True
        )
        study.sampler = KeyedTPESampler(0)
        run_trials(study, total - len(study.trials))
    assert [t.params for t in study.trials] == uninterrupted
