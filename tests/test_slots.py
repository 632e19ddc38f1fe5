"""The trainings of one process: several slots, each event with its spec."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.core.events import Evaluated, Finished, Paused, TrainingEvent
from sweeper.core.records import Conditions, Dataset
from sweeper.data.store import open_store
from sweeper.training.job import WorkerContext
from sweeper.training.slots import EagerEngine
from tests.test_training import SMALL, spec


@pytest.fixture
def context(tiny: Dataset, tmp_path: Path) -> WorkerContext:
    return WorkerContext(Conditions(dataset=tiny, recipe=SMALL, seed=0), open_store(tiny.store), "cpu", tmp_path)


def to_the_end(engine: EagerEngine) -> list[TrainingEvent]:
    events: list[TrainingEvent] = []
    while engine.ready():
        event = engine.advance()
        assert event is not None
        events.append(event)
        if isinstance(event, Evaluated) and not event.last:
            engine.answer(event.spec, "go")
    return events


def test_two_trainings_take_turns_and_give_what_each_gives_alone(context: WorkerContext) -> None:
    one, two = spec(number=0, seed=1), spec(number=1, seed=2)
    engine = EagerEngine(context, slots=2)
    engine.begin(one)
    engine.begin(two)
    both = to_the_end(engine)
    assert [event.spec.number for event in both[:4]] == [0, 1, 0, 1]
    for own in (one, two):
        alone = EagerEngine(context)
        alone.begin(own)
        values = [event.evaluation.value for event in to_the_end(alone) if isinstance(event, Evaluated)]
        found = [event.evaluation.value for event in both if isinstance(event, Evaluated) and event.spec == own]
        assert found == values
    assert sum(isinstance(event, Finished) for event in both) == 2 and engine.free() == 2


def test_one_that_waits_for_its_answer_does_not_hold_the_other_up(context: WorkerContext) -> None:
    engine = EagerEngine(context, slots=2)
    engine.begin(spec(number=0))
    assert isinstance(engine.advance(), Evaluated)
    assert not engine.ready() and engine.advance() is None
    engine.begin(spec(number=1))
    other = engine.advance()
    assert isinstance(other, Evaluated) and other.spec.number == 1
    engine.answer(spec(number=0), "pause")
    paused = engine.advance()
    assert isinstance(paused, Paused) and paused.spec.number == 0 and engine.free() == 1
    engine.answer(spec(number=0), "go")  # it is gone: too late
    assert not engine.ready()
    engine.close()
    assert engine.free() == 2


def test_a_slot_takes_one_training_and_each_training_one_slot(context: WorkerContext) -> None:
    engine = EagerEngine(context, slots=2)
    engine.begin(spec(number=0))
    with pytest.raises(RuntimeError, match="needs a free slot"):
        engine.begin(spec(number=0))
    engine.begin(spec(number=1))
    with pytest.raises(RuntimeError, match="free: 0"):
        engine.begin(spec(number=2))
