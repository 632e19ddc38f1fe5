"""What only a GPU can show of whole trainings: streams, pixels in its memory, want of memory, low precision.

Everything here has a test on a processor beside it, with stand-ins for what a GPU does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch

from sweeper.core.events import Finished, OutOfMemory
from sweeper.core.records import Conditions, Dataset
from sweeper.data.folds import split_of
from sweeper.data.store import open_store
from sweeper.executors.processes import ProcessBackend
from sweeper.training.compiled_network import compile_first
from sweeper.training.engine import Training
from sweeper.training.hardware import settle_numerics
from sweeper.training.initial_networks import Starts
from sweeper.training.job import WorkerContext
from sweeper.training.resident_store import resident
from sweeper.training.slots import SlotEngine
from sweeper.training.step_choice import make_steps
from sweeper.training.weight_change import change_apart
from tests.executors.test_executors import end_of, run, values
from tests.training.test_slots import alone, of, to_the_end
from tests.training.test_training import SMALL, spec

pytestmark = pytest.mark.cuda

DEVICE = "cuda"
TWELVE = SMALL.model_copy(update={"steps": 12, "evaluations": 2, "deterministic": True})


@pytest.fixture
def same_bits() -> Iterator[None]:
    """Algorithms of one order."""
    restore = settle_numerics(True)
    yield
    restore()


def context_of(dataset: Dataset, folder: Path, **changes: Any) -> WorkerContext:
    store, recipe = open_store(dataset.store), TWELVE.model_copy(update=changes)
    pixels = resident(store, torch.device(DEVICE))
    return WorkerContext(Conditions(dataset=dataset, recipe=recipe, seed=0), store, DEVICE, folder, resident=pixels)


@pytest.mark.usefixtures("same_bits")
@pytest.mark.parametrize("engine", ["eager", "graph"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_trainings_on_streams_of_their_own_give_what_each_gives_alone(
    tiny: Dataset, tmp_path: Path, engine: str, precision: str
) -> None:
    """To the last bit; more of them than there are slots, so that each slot is filled again."""
    families = ("cross_entropy", "dice", "focal", "boundary", "dice_ce", "tversky")
    specs = [spec(number=n, seed=n % 3, family=family, steps=12) for n, family in enumerate(families)]
    expected = {}
    for one in specs:
        context = context_of(tiny, tmp_path, engine=engine, precision=precision)
        expected[one.number] = alone(context, one)
    slots = SlotEngine(context_of(tiny, tmp_path, engine=engine, precision=precision), slots=4)
    waiting, events = list(specs), []
    while waiting or slots.free() < 4:
        while waiting and slots.free():
            slots.begin(waiting.pop(0))
        events += to_the_end(slots)
    for one in specs:
        assert of(events, one.number) == expected[one.number], one.family


@pytest.mark.usefixtures("same_bits")
@pytest.mark.parametrize("engine", ["eager", "graph"])
def test_pixels_in_the_memory_of_the_gpu_are_those_of_the_processor(tiny: Dataset, engine: str) -> None:
    store, found = open_store(tiny.store), []
    conditions = Conditions(dataset=tiny, recipe=TWELVE.model_copy(update={"engine": engine}), seed=0)
    for pixels in (None, resident(store, torch.device(DEVICE))):
        training = Training(spec(steps=12), conditions, store, DEVICE, resident=pixels, clock=lambda: 0.0)
        while not training.finished:
            training.advance()
        found.append(training.result("complete").model_dump_json())
    assert found[0] == found[1]


def test_bfloat16_is_within_what_seeds_differ_by(tiny: Dataset) -> None:
    """Paired by seed: the mean difference is no larger than the spread of float32 between seeds."""
    store, found = open_store(tiny.store), dict[str, list[float]]()
    for precision in ("float32", "bfloat16"):
        changes = {"precision": precision, "steps": 120, "batch_size": 8, "deterministic": False}
        conditions = Conditions(dataset=tiny, recipe=TWELVE.model_copy(update=changes), seed=0)
        for seed in range(6):
            training = Training(spec(steps=120, seed=seed, lr=2e-3), conditions, store, DEVICE)
            while not training.finished:
                training.advance()
            value = training.result("complete").value
            assert value is not None
            found.setdefault(precision, []).append(value)
    apart = fmean(a - b for a, b in zip(found["bfloat16"], found["float32"], strict=True))
    assert abs(apart) <= stdev(found["float32"])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_steps_of_a_compiled_network_are_recorded_and_those_of_the_plain_one_but_for_rounding(
    tiny: Dataset, tmp_path: Path, precision: str
) -> None:
    found = []
    for compiled in (False, True):
        changes = {"precision": precision, "deterministic": False, "engine": "graph", "compiled": compiled}
        context = context_of(tiny, tmp_path, **changes)
        compile_first(context)
        train = split_of(context.conditions, 0, None).train
        given = {"device": torch.device(DEVICE), "starts": Starts(), "resident": context.resident}
        steps = make_steps(spec(steps=12), context.conditions, context.store, train, **given)
        begin = [parameter.detach().clone() for parameter in steps.model.parameters()]
        steps.run(0, 12)
        assert steps.recorded
        found.append([parameter.detach().clone() for parameter in steps.model.parameters()])
    assert change_apart(begin, *found) < 0.5  # Adam makes much of the rounding of gradients that are nearly 0


def test_trainings_that_do_not_fit_beside_each_other_are_trained_with_half_the_slots(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is left for one training: two begin, one goes on, and each gives what it gives alone."""
    monkeypatch.chdir(tmp_path)
    large = {"size": 512, "batch_size": 16, "steps": 4, "engine": "eager"}
    conditions, specs = Conditions(dataset=tiny, recipe=TWELVE.model_copy(update=large), seed=0), [spec(0), spec(1)]
    with closing(ProcessBackend(DEVICE, 1, 1, lambda line: None)) as backend:
        executor = backend.open(conditions, tmp_path)
        before, _ = torch.cuda.mem_get_info()
        expected = values(run(executor, specs[0]), 0)
        one = before - torch.cuda.mem_get_info()[0]  # torch keeps what it had at most
    free, _ = torch.cuda.mem_get_info()
    taken, said = torch.empty(free - int(1.5 * one), dtype=torch.uint8, device=DEVICE), list[str]()
    with closing(ProcessBackend(DEVICE, 1, 1, said.append, slots=2)) as backend:
        executor = backend.open(conditions, tmp_path)
        events = run(executor, *specs)
        assert executor.slots == 1
    del taken
    torch.cuda.empty_cache()
    assert any("out of memory" in line for line in said)
    assert not [event for event in events if isinstance(event, OutOfMemory)]
    for number in range(2):
        assert isinstance(end_of(events, number), Finished)
        assert values(events, number) == expected
