"""A training of seconds, for tests that need a real one."""

from __future__ import annotations

from typing import Any

from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, Dataset, TrialResult, TrialSpec
from sweeper.training.engine import StudyTraining
from sweeper.training.training_context import open_context

SMALL = Recipe(size=32, batch_size=2, steps=4, confirm_steps=4)


def spec(**changes: Any) -> TrialSpec:
    """Return the spec of a training of `SMALL`, with the Dice loss."""
    values: dict[str, Any] = {
        "purpose": "search",
        "number": 0,
        "family": "dice",
        "params": {},
        "lr": 1e-3,
        "seed": 0,
        "steps": 4,
    }
    return TrialSpec(**{**values, **changes})


def train_to_end(training: StudyTraining) -> TrialResult:
    """Train to the end, and return the result."""
    while not training.is_finished:
        training.advance()
    return training.make_result("complete")


def format_without_times(result: TrialResult) -> str:
    """Return a result without its durations, as text."""
    durations = {"seconds": True, "seconds_per_step": True, "evaluations": {"__all__": {"seconds"}}}
    return result.model_dump_json(exclude=durations)


def train(dataset: Dataset, recipe: Recipe = SMALL, **changes: Any) -> TrialResult:
    """Return the result of a whole training; `changes` of its spec."""
    conditions = Conditions(dataset=dataset, recipe=recipe, seed=0)
    return train_to_end(StudyTraining(spec(**changes), open_context(conditions, "cpu"), clock=lambda: 0.0))
