"""The time of a training step in each precision."""

from __future__ import annotations

import pytest

from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, Dataset
from sweeper.training.step_times import apart, step_seconds


@pytest.fixture
def conditions(tiny: Dataset) -> Conditions:
    return Conditions(dataset=tiny, recipe=Recipe(size=32, batch_size=2, precision="bfloat16"), seed=0)


@pytest.mark.slow
def test_steps_are_timed_in_each_precision(conditions: Conditions, tiny: Dataset) -> None:
    found = step_seconds(conditions, ("float32", "bfloat16"), 1)
    assert found.keys() == {"float32", "bfloat16"} and all(time > 0 for time in found.values())
    gone = conditions.model_copy(update={"dataset": tiny.model_copy(update={"store": "nowhere"})})
    assert step_seconds(gone, ("float32",), 1) == {}


def test_steps_that_are_far_apart_are_timed_no_further() -> None:
    assert apart([[0.05, 0.06, 0.05], [0.11, 0.1, 0.3]]) and apart([[0.11, 0.1, 0.3], [0.05, 0.06, 0.05]])
    assert not apart([[0.05, 0.09, 0.05], [0.11, 0.1, 0.3]])  # one step of the quicker was slow
    assert not apart([[0.05, 0.05, 0.05], [0.06, 0.06, 0.06]])
