"""The time of a training step in each precision."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, Dataset
from sweeper.training import probe_steps
from sweeper.training.probe_steps import measure_step_seconds, time_steps_in_pairs


@pytest.fixture
def conditions(tiny: Dataset) -> Conditions:
    return Conditions(dataset=tiny, recipe=Recipe(size=32, batch_size=2, precision="bfloat16"), seed=0)


@pytest.mark.slow
def test_steps_are_timed_in_each_precision(conditions: Conditions, tiny: Dataset) -> None:
    seconds = measure_step_seconds(conditions, ("float32", "bfloat16"), 1)
    assert seconds.keys() == {"float32", "bfloat16"} and all(time > 0 for time in seconds.values())
    without_store = conditions.model_copy(update={"dataset": tiny.model_copy(update={"store": "nowhere"})})
    assert measure_step_seconds(without_store, ("float32",), 1) == {}


@pytest.mark.parametrize(("times_as_long", "steps"), [(10, 2), (1.5, 15), (0.1, 15)])
def test_a_precision_that_is_much_slower_is_timed_in_two_steps(
    times_as_long: float, steps: int, conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, taken = [0.0], list[str]()

    class Steps:
        def __init__(self, precision: str) -> None:
            self.precision = precision

        def take_steps(self, done: int, end: int) -> None:
            taken.append(self.precision)
            clock[0] += 0.1 * (times_as_long if self.precision == "bfloat16" else 1)

    monkeypatch.setattr(probe_steps, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(probe_steps, "open_context", lambda conditions, device: conditions.recipe.precision)
    monkeypatch.setattr(probe_steps, "make_probe_steps", lambda precision, steps: Steps(precision))
    seconds = measure_step_seconds(conditions, ("float32", "bfloat16"))
    assert taken.count("bfloat16") == steps + 1
    assert seconds["bfloat16"] == pytest.approx(times_as_long * seconds["float32"])


@pytest.mark.parametrize(
    "load",
    [
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 5, 5, 5, 5, 5],  # another program begins
        [3, 3, 1, 1, 2, 2, 1, 4, 4],  # others come and go
        [1, 2, 3, 4, 5, 6, 7, 8, 9],
    ],
)
@pytest.mark.parametrize("share", [0.5, 1.0, 1.45])
def test_load_on_both_steps_of_a_pair_changes_no_comparison(load: Sequence[float], share: float) -> None:
    steps = [0.1 * n for n in load]
    quicker = [share * one for one in steps]
    quicker[2] *= 6  # one step that was cut into
    seconds = time_steps_in_pairs({"float32": steps, "bfloat16": quicker})
    assert seconds["bfloat16"] == pytest.approx(share * seconds["float32"])


def test_load_that_begins_between_two_steps_changes_no_comparison() -> None:
    """The medians of both would say that bfloat16 takes five times as long."""
    seconds = time_steps_in_pairs({"float32": [1, 1, 1, 1, 1, 5, 5, 5, 5], "bfloat16": [1, 1, 1, 1, 5, 5, 5, 5, 5]})
    assert seconds == {"float32": 1, "bfloat16": 1}
