"""The trainings of one process: several slots, each event with its spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sweeper.core.events import Answer, Evaluated, Finished, Paused, TrainingEvent
from sweeper.core.records import Conditions, Dataset, TrialSpec
from sweeper.data.store import open_store
from sweeper.report.tables import trainings
from sweeper.training import graph_steps, job, stepwise, training_steps
from sweeper.training.engine import Training
from sweeper.training.job import WorkerContext
from sweeper.training.slots import SlotEngine
from sweeper.training.stepwise import Stepwise, until_done
from sweeper.training.training_steps import TrainingSteps
from tests.support.faulty import FaultyTraining, rate_of
from tests.support.sweeping import sweep_in
from tests.training.test_graph_steps import Replayed, steps_of
from tests.training.test_training import SMALL, spec

GOOD = 2e-3
"""A learning rate that stands for no fault."""
TWICE = SMALL.model_copy(update={"evaluations": 2})


END = ("stop", "nan", "raises", "refill")
"""What becomes of a training beside others."""


@pytest.fixture
def context(tiny: Dataset, tmp_path: Path) -> WorkerContext:
    return WorkerContext(Conditions(dataset=tiny, recipe=TWICE, seed=0), open_store(tiny.store), "cpu", tmp_path)


def next_event(engine: SlotEngine) -> TrainingEvent:
    """Steps until there is one."""
    while engine.ready():
        if (event := engine.advance()) is not None:
            return event
    raise AssertionError("nothing can go on")


def to_the_end(engine: SlotEngine) -> list[TrainingEvent]:
    events: list[TrainingEvent] = []
    while engine.ready():
        events.append(event := next_event(engine))
        if isinstance(event, Evaluated) and not event.last:
            engine.answer(event.spec, "go")
    return events


def of(events: list[TrainingEvent], number: int) -> list[object]:
    """What a training told, without times."""
    told: list[object] = []
    for event in events:
        if event.spec.number != number:
            continue
        if isinstance(event, Evaluated):
            told.append(event.evaluation.model_copy(update={"seconds": 0.0}))
        elif isinstance(event, (Finished, Paused)):
            result = event.result
            shown = tuple(one.model_copy(update={"seconds": 0.0}) for one in result.evaluations)
            told.append(result.model_copy(update={"seconds": 0.0, "seconds_per_step": None, "evaluations": shown}))
    return told


def alone(context: WorkerContext, own: TrialSpec) -> list[object]:
    """What a training tells that has the process to itself."""
    engine = SlotEngine(context)
    engine.begin(own)
    return of(to_the_end(engine), own.number)


FAMILIES = ("cross_entropy", "dice", "focal", "lovasz", "boundary", "instance_ce", "dice_ce", "mcc")


@pytest.mark.slow
def test_eight_trainings_step_in_turn_and_give_what_each_gives_alone(context: WorkerContext) -> None:
    specs = [spec(number=n, seed=n % 3, family=family) for n, family in enumerate(FAMILIES)]
    engine = SlotEngine(context, slots=8)
    for one in specs:
        engine.begin(one)
    together = to_the_end(engine)
    assert [event.spec.number for event in together[:8]] == list(range(8))
    assert engine.free() == 8 and sum(isinstance(event, Finished) for event in together) == 8
    for one in specs:
        assert of(together, one.number) == alone(context, one), one.family


def test_steps_are_taken_in_turn(context: WorkerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []
    own = TrainingSteps._update

    def update(self: TrainingSteps, *given: Any) -> Any:
        order.append(self._spec.number)
        return own(self, *given)

    monkeypatch.setattr(TrainingSteps, "_update", update)
    engine = SlotEngine(context, slots=3)
    for number in range(3):
        engine.begin(spec(number=number))
    next_event(engine)
    first = TWICE.rungs(spec().steps)[0]
    assert order[: 3 * first - 2] == ([0, 1, 2] * first)[: 3 * first - 2]


@pytest.mark.parametrize("end", ["pause", *(pytest.param(e, marks=pytest.mark.slow) for e in END)])
def test_what_happens_in_one_slot_leaves_the_others_untouched(
    context: WorkerContext, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "Training", FaultyTraining)
    fault = {"nan": "nan", "raises": "raises"}.get(end)
    odd = spec(number=1, seed=1, lr=GOOD if fault is None else rate_of(fault))
    refill = spec(number=4, seed=4, lr=GOOD)
    others = [spec(number=0, lr=GOOD), spec(number=3, family="focal", lr=GOOD)]
    expected = alone(context, odd)  # before it is paused: later it would go on from there
    engine = SlotEngine(context, slots=3)
    for one in (others[0], odd, *others[1:]):
        engine.begin(one)
    events: list[TrainingEvent] = []
    while engine.ready():
        events.append(event := next_event(engine))
        if not isinstance(event, Evaluated):
            if event.spec == odd and end == "refill":
                engine.begin(refill)
        elif not event.last:
            answers: dict[str, Answer] = {"stop": "stop", "pause": "pause", "refill": "stop"}
            engine.answer(event.spec, answers.get(end, "go") if event.spec == odd else "go")
    for one in [*others, *([refill] if end == "refill" else [])]:
        assert of(events, one.number) == alone(context, one)
    last = [event for event in events if event.spec == odd][-1]
    if end == "pause":
        assert isinstance(last, Paused)
        engine.begin(odd)
        rest = of(to_the_end(engine), 1)
        assert [*of(events, 1)[:1], *rest] == expected
    else:
        assert isinstance(last, Finished)
        assert last.result.state == {"raises": "failed", "nan": "complete"}.get(end, "pruned")
    assert engine.free() == 3


@pytest.mark.slow
def test_two_trainings_take_turns_and_give_what_each_gives_alone(context: WorkerContext) -> None:
    one, two = spec(number=0, seed=1), spec(number=1, seed=2)
    engine = SlotEngine(context, slots=2)
    engine.begin(one)
    engine.begin(two)
    both = to_the_end(engine)
    assert [event.spec.number for event in both[:4]] == [0, 1, 0, 1]
    for own in (one, two):
        single = SlotEngine(context)
        single.begin(own)
        values = [event.evaluation.value for event in to_the_end(single) if isinstance(event, Evaluated)]
        found = [event.evaluation.value for event in both if isinstance(event, Evaluated) and event.spec == own]
        assert found == values
    assert sum(isinstance(event, Finished) for event in both) == 2 and engine.free() == 2


def test_one_that_waits_for_its_answer_does_not_hold_the_other_up(context: WorkerContext) -> None:
    engine = SlotEngine(context, slots=2)
    engine.begin(spec(number=0))
    assert isinstance(next_event(engine), Evaluated)
    assert not engine.ready() and engine.advance() is None
    engine.begin(spec(number=1))
    other = next_event(engine)
    assert isinstance(other, Evaluated) and other.spec.number == 1
    engine.answer(spec(number=0), "pause")
    paused = next_event(engine)
    assert isinstance(paused, Paused) and paused.spec.number == 0 and engine.free() == 1
    engine.answer(spec(number=0), "go")  # it is gone: too late
    assert not engine.ready()
    engine.close()
    assert engine.free() == 2


def test_a_slot_takes_one_training_and_each_training_one_slot(context: WorkerContext) -> None:
    engine = SlotEngine(context, slots=2)
    engine.begin(spec(number=0))
    with pytest.raises(RuntimeError, match="needs a free slot"):
        engine.begin(spec(number=0))
    engine.begin(spec(number=1))
    with pytest.raises(RuntimeError, match="free: 0"):
        engine.begin(spec(number=2))


@pytest.mark.slow
def test_a_sweep_of_several_slots_is_complete_and_each_training_what_its_spec_says(tmp_path: Path) -> None:
    """In worker processes; what is known when the next trial is asked for is another than one by one."""
    outcome = sweep_in(tmp_path, trials=6, confirm_seeds=1, executor="processes", workers=1, slots=3)
    sweep = outcome.sweep
    assert len(sweep.trials) == 6 and sweep.workers == 3 and outcome.recommendation.evidence is not None
    assert not [result for result in trainings(sweep) if result.state == "failed"]
    store = open_store(sweep.conditions.dataset.store)
    for result in sweep.trials[:3]:
        training = Training(result.spec, sweep.conditions, store, "cpu")
        for told in result.evaluations:
            again = training.advance()
            assert (again.value, again.train_loss) == (told.value, told.train_loss)


class Busy:
    """Stands in for torch.cuda: a GPU on which each wait takes three looks."""

    def __init__(self, stream: int) -> None:
        self.stream, self.asked = stream, list[str]()

    def current_stream(self, device: torch.device) -> int:
        return self.stream

    def default_stream(self, device: torch.device) -> int:
        return 0

    def Event(self) -> Busy:
        return self

    def record(self) -> None:
        self.asked.append("recorded")

    def query(self) -> bool:
        self.asked.append("asked")
        return self.asked.count("asked") == 3


@pytest.mark.parametrize(
    ("device", "stream", "looks"),
    [("cuda", 5, ["recorded", "asked", "asked", "asked"]), ("cuda", 0, []), ("cpu", 5, [])],
)
def test_who_has_a_stream_of_its_own_waits_without_holding_others_up(
    device: str, stream: int, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = Busy(stream)
    monkeypatch.setattr(stepwise.torch, "cuda", busy)
    left = len(list(until_done(torch.device(device))))
    assert busy.asked == looks and left == max(0, len(looks) - 2)


def waits(monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    """The device is as far behind at a rung's end."""

    def until(device: torch.device) -> Stepwise[None]:
        yield from [None] * looks

    for module in (training_steps, graph_steps):
        monkeypatch.setattr(module, "until_done", until)


def test_the_end_of_a_rung_holds_no_other_slot_up(context: WorkerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first training waits for its rung's last step; the others go on meanwhile."""
    waits(monkeypatch, 1000)
    engine = SlotEngine(context, slots=2)
    engine.begin(spec(number=0))
    first = TWICE.rungs(spec().steps)[0]
    for _ in range(first + 1):
        assert engine.advance() is None
    waits(monkeypatch, 0)
    engine.begin(spec(number=1))
    other = next_event(engine)
    assert isinstance(other, Evaluated) and other.spec.number == 1


def test_recorded_steps_wait_likewise(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    waits(monkeypatch, 7)
    assert len(list(steps_of(tiny, Replayed).running(0, 4))) == 4 + 7
