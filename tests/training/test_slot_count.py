"""How many trainings a device takes at a time: measured, with the steps of a processor in place of a GPU's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sweeper.core.errors import UsageError
from sweeper.core.recipe import Engine
from sweeper.core.records import Conditions, Dataset
from sweeper.data.folds import split_for
from sweeper.data.store import open_store
from sweeper.training import slot_count
from sweeper.training.failure_causes import RecordingError, device_lost, out_of_memory
from sweeper.training.graph_steps import KEPT, GraphSteps
from sweeper.training.hardware import choose_gpu
from sweeper.training.initial_networks import Starts
from sweeper.training.job import WorkerContext, worker_context
from sweeper.training.resident_store import upload
from sweeper.training.slot_count import SEGMENTS, count_slots, slots_that_pay
from sweeper.training.weight_change import change_apart
from tests.support.marks import rest_slow
from tests.training.test_graph_steps import Replayed
from tests.training.test_training import SMALL, spec

CPU = torch.device("cpu")
EACH = 10**9
"""Bytes of a training with one recording."""
RECIPE = SMALL.model_copy(update={"size": 16, "evaluations": SEGMENTS})


class Machine:
    """A device on which `together` trainings take the time of one; its clock, and its memory."""

    engine_asked: Engine = "auto"

    def __init__(
        self, dataset: Dataset, together: int, *, wrong: int | None = None, factor: float = 3.0, noise: float = 0.0
    ) -> None:
        """`wrong`: the training whose weights another stream multiplies; `noise`: of each step."""
        self._dataset, self._together, self._wrong, self._factor, self._noise = dataset, together, wrong, factor, noise
        self.made: list[GraphSteps] = []
        self._taken = 0.0

    def make(self) -> GraphSteps:
        store = open_store(self._dataset.store)
        recipe = RECIPE.model_copy(update={"engine": self.engine_asked})
        conditions = Conditions(dataset=self._dataset, recipe=recipe, seed=0)
        train = split_for(self._dataset, study_seed=0, folds=None, seed=0).train
        steps = GraphSteps(
            spec(steps=slot_count.SEGMENT * SEGMENTS),
            conditions,
            store,
            train,
            device=CPU,
            starts=Starts(),
            resident=upload(store, CPU),
            record=self._record(len(self.made)),
        )
        self.made.append(steps)
        return steps

    def _record(self, number: int) -> Callable[[Callable[[], None]], Replayed]:
        machine = self

        class Timed(Replayed):
            def replay(self) -> None:
                machine._taken += 1 / min(len(machine.made), machine._together)
                super().replay()
                with torch.no_grad():
                    for parameter in machine.made[number].model.parameters():
                        parameter.add_(machine._noise * torch.randn_like(parameter))
                        # What another stream wrote to, beside others, after the recording was found right.
                        if number == machine._wrong and self.times > 3:
                            parameter.mul_(machine._factor)

        return Timed

    def clock(self) -> float:
        return self._taken

    def used(self) -> int:
        return EACH * len(self.made)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that are just long enough to record a step."""
    monkeypatch.setattr(slot_count, "SEGMENT", 6)


def found(machine: Machine, *, room: int = 100 * EACH, most: int = 4) -> slot_count.SlotCount:
    return count_slots(machine.make, device=CPU, room=room, used=machine.used, most=most, clock=machine.clock)


def test_as_many_as_take_more_steps_together(tiny: Dataset) -> None:
    choice = found(Machine(tiny, together=2))
    assert choice.slots == 2
    assert choice.reason == "2 trainings at a time: together they take 2.0 times the steps of one"


def test_no_more_than_may_be_and_than_memory_has_room_for(tiny: Dataset) -> None:
    """Each has the gradients of as many recordings as are kept."""
    machine = Machine(tiny, together=8)
    assert found(machine, most=2).slots == 2
    gradients = sum(parameter.nbytes for parameter in machine.made[0].model.parameters())
    two = 2 * (EACH + (KEPT - 1) * gradients)
    machine = Machine(tiny, together=8)
    assert found(machine, room=two).slots == 2 and len(machine.made) == 2
    alone = found(Machine(tiny, together=8), room=two - 1)
    assert alone.slots == 1 and alone.reason == "one training at a time: memory has no room for two"


@pytest.mark.parametrize(("full", "slots"), rest_slow([(1, 1), (2, 2), (3, 2)], 2))
def test_where_memory_runs_out_as_many_as_before_had_room(tiny: Dataset, full: int, slots: int) -> None:
    """However much was thought to be free: others may fill it."""

    class Full(Machine):
        def make(self) -> GraphSteps:
            if len(self.made) == full:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().make()

    choice = found(Full(tiny, together=8))
    assert choice.slots == slots
    if slots == 1:
        assert choice.reason == "one training at a time: memory has no room for two"


@pytest.mark.parametrize(("first", "slots"), rest_slow([(0, 1), (2, 2), (1, 1), (3, 2)], 2))
@pytest.mark.parametrize("engine", rest_slow(["auto", "graph"]))
def test_where_steps_of_another_are_not_recorded_as_many_as_before_were(
    tiny: Dataset, first: int, slots: int, engine: Engine
) -> None:
    class Unrecorded(Machine):
        engine_asked = engine

        def _record(self, number: int) -> Callable[..., Replayed]:
            class Idle(Replayed):
                def replay(self) -> None:
                    pass

            return Idle if number >= first else super()._record(number)

    machine, words = Unrecorded(tiny, together=8), "a recorded step differs from a plain one"
    if engine == "graph" and first == 0:
        with pytest.raises(UsageError, match=words):  # nothing is recorded at all
            found(machine)
        return
    choice = found(machine)
    assert choice.slots == slots
    assert slots > 1 or words in choice.reason


def test_a_recording_that_fails_ends_the_measurement_and_the_process(tiny: Dataset) -> None:
    """Also for want of memory: as many as before would be trained by a process that is of no use any more."""

    class Full(Machine):
        def _record(self, number: int) -> Callable[..., Replayed]:
            def fail(*_: object) -> Replayed:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

            return fail if number == 1 else super()._record(number)

    with pytest.raises(RecordingError) as told:
        found(Full(tiny, together=8))
    assert device_lost(told.value) and not out_of_memory(told.value)


def test_one_where_two_take_as_long_as_one_after_the_other(tiny: Dataset) -> None:
    choice = found(Machine(tiny, together=1))
    assert choice.slots == 1 and "two take as long as one after the other" in choice.reason


@pytest.mark.parametrize("factor", rest_slow([1.0002, 3.0, float("nan")]))
def test_one_where_a_training_beside_others_is_another(tiny: Dataset, factor: float) -> None:
    """Also by a little, which each of them would learn with."""
    choice = found(Machine(tiny, together=4, wrong=1, factor=factor), most=2)
    assert choice.slots == 1 and "beside others a training differs by" in choice.reason
    assert "and by 0.0% where it is repeated alone" in choice.reason


def test_what_a_device_sums_in_another_order_each_time_is_no_such_difference(tiny: Dataset) -> None:
    machine = Machine(tiny, together=4, noise=1e-5)
    assert found(machine, most=2).slots == 2


def test_no_more_are_tried_than_a_worker_may_take_to_start(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_count, "SECONDS", 20.0)
    choice = found(Machine(tiny, together=4))
    assert choice.slots == 1 and choice.reason == "one training at a time: a step takes 1.0 s, too long to try two"


def test_a_change_that_is_no_number_is_no_small_difference() -> None:
    one, nan = torch.ones(3), torch.full((3,), torch.nan)
    assert change_apart([torch.zeros(3)], [nan], [one]) == torch.inf
    assert change_apart([torch.zeros(3)], [one], [nan]) == 0  # a training that diverges does so either way
    assert change_apart([torch.zeros(3)], [one], [one]) == 0


@pytest.fixture
def context(tiny: Dataset, tmp_path: Path) -> WorkerContext:
    return worker_context(Conditions(dataset=tiny, recipe=SMALL, seed=0), open_store(tiny.store), "cpu", tmp_path)


@pytest.mark.parametrize(
    ("engine", "obstacle", "words"),
    [
        ("auto", "there is no NVIDIA GPU", "there is no NVIDIA GPU"),
        ("eager", None, "recorded steps alone are measured (--engine auto)"),
    ],
)
def test_a_processor_and_steps_that_are_not_recorded_have_one(
    engine: str, obstacle: str | None, words: str, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_count, "why_not", lambda *_, **__: obstacle)
    recipe = SMALL.model_copy(update={"engine": engine})
    conditions = context.conditions.model_copy(update={"recipe": recipe})
    choice = slots_that_pay(replace(context, conditions=conditions))
    assert choice == slot_count.SlotCount(1, f"one training at a time: {words}")


@pytest.mark.cuda
def test_a_gpu_says_how_many_it_takes(tiny: Dataset, tmp_path) -> None:
    conditions = Conditions(dataset=tiny, recipe=SMALL.model_copy(update={"engine": "auto"}), seed=0)
    choice = slots_that_pay(worker_context(conditions, open_store(tiny.store), "cuda", tmp_path))
    assert choice.slots in {1, 2, 4, 8} and "at a time" in choice.reason
    assert "ended with" not in choice.reason and "differs" not in choice.reason and "recorded" not in choice.reason


def test_a_worker_of_the_second_gpu_records_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph is captured on a stream of the current device."""
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.append(str(device)))
    for place in ("cpu", "mps", "cuda", "cuda:1"):
        choose_gpu(place)
    assert chosen == ["cuda:1"]
