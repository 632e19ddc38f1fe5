"""Recorded steps that the next training takes over give what steps made for it give, to the last digit."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeper.core.events import Evaluated, Finished, Paused, TrainingEvent
from sweeper.core.paths import checkpoint_path
from sweeper.core.records import Conditions, Dataset, TrialSpec
from sweeper.data.folds import split_for
from sweeper.data.store import open_store
from sweeper.losses.own_losses import OWN
from sweeper.training import graph_steps, step_choice
from sweeper.training.engine import Training
from sweeper.training.graph_steps import GraphSteps
from sweeper.training.idle_steps import IdleSteps
from sweeper.training.initial_networks import Starts
from sweeper.training.job import WorkerContext
from sweeper.training.recordings import Recording
from sweeper.training.resident_store import ResidentStore, upload
from sweeper.training.slots import SlotEngine
from sweeper.training.step_choice import make_steps
from sweeper.training.training_steps import TrainingSteps
from tests.support.marks import rest_slow
from tests.training.test_graph_steps import CPU, LONG, weights
from tests.training.test_slots import next_event, of
from tests.training.test_training import spec
from tests.workflow.test_predict import deep_dataset

RECORDED = LONG.model_copy(update={"engine": "graph", "steps": 10, "confirm_steps": 14, "evaluations": 2})
"""Rungs of five steps: three that are plain, one that is recorded, one that is played."""


def memory(steps: GraphSteps) -> list[torch.Tensor]:
    """Everything that a recording reads or writes."""
    inputs, labels, maps = steps._staged.batch if steps._is_staged else (*steps.normal, {})
    plan = [*vars(steps._crops).values(), *vars(steps._rates).values(), inputs, labels, *maps.values()]
    return [*steps._all_state(), *plan, *steps.normal, *steps.criterion.buffers()]


class SameMemory:
    """Stands in for a CUDA graph: runs the step, and fails where a graph would read or write other memory.

    It knows the loss as it was, and keeps its memory, so that nothing else can come to lie there.
    """

    made: list[SameMemory]

    def __init__(self, step: Callable[[], None], earlier: Recording | None) -> None:
        self.step, self.steps, self.earlier = step, step.__self__, earlier  # type: ignore[attr-defined]
        self.known, self.criterion = memory(self.steps), self.steps.criterion
        self.structure, self.times = self.steps._structure, 0
        self.made.append(self)

    def replay(self) -> None:
        self.times += 1
        now = memory(self.steps)
        same = len(now) == len(self.known) and all(
            a.data_ptr() == b.data_ptr() for a, b in zip(now, self.known, strict=True)
        )
        if not same or (self.steps.criterion, self.steps._structure) != (self.criterion, self.structure):
            raise AssertionError("a graph reads memory that is no longer the training's, or has another loss")
        self.step()


@pytest.fixture(autouse=True)
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[SameMemory]:
    """Steps are "recorded" on a processor; all recordings so far."""
    monkeypatch.setattr(step_choice, "why_not", lambda _: None)
    monkeypatch.setattr(step_choice, "record_graph", SameMemory)
    SameMemory.made = []
    return SameMemory.made


class Study:
    """Makes the steps of its trainings."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.store, self.starts = dataset, open_store(dataset.store), Starts()
        self.conditions = Conditions(dataset=dataset, recipe=RECORDED, seed=0)
        self.resident: ResidentStore | None = upload(self.store, CPU)

    def images(self, own: TrialSpec) -> tuple[int, ...]:
        return split_for(self.dataset, study_seed=0, folds=None, seed=own.seed).train

    def steps(self, own: TrialSpec, idle: IdleSteps | None = None) -> TrainingSteps:
        given = (own, self.conditions, self.store, self.images(own))
        return make_steps(*given, device=CPU, starts=self.starts, resident=self.resident, idle=idle)

    def new(self, own: TrialSpec) -> GraphSteps:
        steps = self.steps(own)
        assert isinstance(steps, GraphSteps)
        return steps

    def train(self, steps: TrainingSteps, own: TrialSpec, first: int = 0) -> tuple[list[Any], torch.Tensor]:
        """To its end, rung by rung: losses and rates, and the weights."""
        rungs = (0, *RECORDED.rungs(own.steps))
        told = [steps.run(a, b) for a, b in pairwise(rungs) if a >= first]
        return told, weights(steps)


@pytest.fixture
def study(tiny: Dataset) -> Study:
    return Study(tiny)


def long(family: str, **changes: Any) -> TrialSpec:
    return spec(family=family, **{"steps": 10, "lr": 3e-3, **changes})


FIRST = long("focal", params={"gamma": 2.0, "alpha": 0.25})
NEXT = {
    "other numbers": (long("focal", params={"gamma": 0.7, "alpha": 0.9}), 0),
    "another rate and seed": (long("focal", params={"gamma": 2.0, "alpha": 0.25}, lr=7e-4, seed=3), 0),
    "maps of the labels": (long("boundary"), 1),
    "more steps": (long("focal", params={"gamma": 1.0, "alpha": 0.5}, steps=20), 1),
    "steps of a confirmation": (long("focal", params={"gamma": 1.0, "alpha": 0.5}, steps=14), 0),
    "another structure": (long("dice_ce", params={"mix": 0.4}), 1),
    "no kernel": (long("lovasz"), 1),
    "fewer steps": (long("focal", params={"gamma": 1.0, "alpha": 0.5}, steps=6), 0),
}


@pytest.mark.parametrize("case", rest_slow(NEXT, 4))
def test_renewed_steps_give_what_new_ones_give(study: Study, recordings: list[SameMemory], case: str) -> None:
    own, more = NEXT[case]
    expected, end = study.train(study.new(own), own)
    recordings.clear()
    steps = study.new(FIRST)
    study.train(steps, FIRST)
    steps.renew(own, study.images(own), study.starts)
    found, weights_found = study.train(steps, own)
    assert found == expected and torch.equal(weights_found, end)
    assert steps.fault is None and steps.recorded
    assert len(recordings) == 1 + more


@pytest.mark.parametrize("case", rest_slow(["other numbers", "another rate and seed", "maps of the labels"]))
def test_batches_that_are_staged_are_those_of_the_training(
    study: Study, recordings: list[SameMemory], case: str
) -> None:
    """Pixels do not fit on the device, so that each batch is made before its step; none of another training's."""
    study.resident = None
    test_renewed_steps_give_what_new_ones_give(study, recordings, case)


def test_losses_with_maps_and_without_take_turns(study: Study, recordings: list[SameMemory]) -> None:
    """One batch is cut within the step, the next is staged: each recording knows which."""
    order = [long("boundary"), FIRST, long("boundary", lr=1e-3), NEXT["other numbers"][0], long("skeleton_recall")]
    steps = study.new(order[0])
    for number, own in enumerate(order):
        if number:
            steps.renew(own, study.images(own), study.starts)
        (found, weights_found), (expected, end) = study.train(steps, own), study.train(study.new(own), own)
        assert found == expected and torch.equal(weights_found, end)
    assert len([one for one in recordings if one.steps is steps]) == 4  # outside the kernel each for itself


@pytest.mark.slow
def test_trainings_of_few_structures_need_few_recordings(study: Study, recordings: list[SameMemory]) -> None:
    """A search goes back and forth between families; of those that are not of the kernel each training is recorded."""
    order = [
        FIRST,
        long("dice"),
        NEXT["other numbers"][0],
        long("lovasz"),
        long("tversky", params={"fp_weight": 0.3, "fn_weight": 0.7}),  # dice is a Tversky loss of other weights
        long("lovasz", seed=1),
    ]
    steps = study.new(order[0])
    for number, own in enumerate(order):
        if number:
            steps.renew(own, study.images(own), study.starts)
        assert study.train(steps, own)[0] == study.train(study.new(own), own)[0]
    assert len([one for one in recordings if one.steps is steps]) == 4


class Fragile(SameMemory):
    """As torch's: when one is destroyed, those that were recorded before write to memory that is no longer theirs."""

    destroyed = 0

    def __init__(self, step: Callable[[], None], earlier: Recording | None) -> None:
        super().__init__(step, earlier)
        self.made.clear()  # nobody else keeps it
        self._destroyed = Fragile.destroyed

    def __del__(self) -> None:
        Fragile.destroyed += 1

    def replay(self) -> None:
        assert self._destroyed == Fragile.destroyed, "the memory of cuBLAS is gone"
        super().replay()


def train_in_turn(study: Study, steps: GraphSteps, *families: str) -> list[bool]:
    """Trainings one after the other in one memory; whether each took a recording over."""
    found = []
    for family in families:
        own = long(family, steps=8)
        steps.renew(own, study.images(own), study.starts)
        study.train(steps, own)
        assert steps.recorded and steps.fault is None
        found.append(steps.checked is None)
    return found


@pytest.mark.usefixtures("exact_recordings")
def test_when_there_is_no_more_room_all_recordings_go_and_never_one(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_steps, "KEPT", 2)
    order = ("focal", "dice", "focal", "dice_ce", "focal", "dice_ce")
    assert train_in_turn(study, study.new(FIRST), *order) == [False, False, True, False, False, True]


@pytest.mark.usefixtures("exact_recordings")
def test_losses_outside_the_kernel_do_not_push_the_others_recordings_out(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_steps, "KEPT", 2)
    monkeypatch.setattr(graph_steps, "SPENT", 3)
    steps = study.new(FIRST)
    order = ("focal", "lovasz", "lovasz", "boundary", "focal")
    assert train_in_turn(study, steps, *order) == [False, False, False, False, True]
    assert len(steps._spent) == 3
    assert train_in_turn(study, steps, "lovasz", "focal") == [False, False]  # some time there are too many
    assert len(steps._spent) == 1


@pytest.fixture
def exact_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_choice, "record_graph", Fragile)


def test_a_checkpoint_is_read_into_the_memory_of_the_recordings(study: Study, recordings: list[SameMemory]) -> None:
    own = NEXT["other numbers"][0]
    begun = study.new(own)
    begun.run(0, 5)
    checkpoint, averaged = begun.state(), begun.average.updates
    fresh = study.new(own)
    fresh.restore(copy.deepcopy(checkpoint), averaged)
    expected, end = study.train(fresh, own, first=5)
    recordings.clear()
    steps = study.new(FIRST)
    study.train(steps, FIRST)
    steps.renew(own, study.images(own), study.starts)
    steps.restore(checkpoint, averaged)
    found, weights_found = study.train(steps, own, first=5)
    assert found == expected and torch.equal(weights_found, end)
    assert len(recordings) == 1 and steps.recorded


def test_what_went_wrong_is_not_taken_over(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    idle, steps = IdleSteps(), study.new(FIRST)
    idle.give(steps)
    assert idle.take(CPU) is steps and idle.take(CPU) is None
    steps.fault = "it cannot be"
    idle.give(steps)
    assert idle.take(CPU) is None
    steps = study.new(FIRST)
    monkeypatch.setattr(steps, "_recipe", RECORDED.model_copy(update={"model": "mine:net"}))
    idle.give(steps)
    idle.give(TrainingSteps(FIRST, study.conditions, study.store, (0, 1), device=CPU, starts=study.starts))
    assert idle.take(CPU) is None


def test_a_recording_is_checked_where_it_is_made_and_not_again(
    study: Study, recordings: list[SameMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taking steps twice and comparing all weights costs as much as several steps."""
    compared, own = list[bool](), graph_steps.changes_apart
    monkeypatch.setattr(graph_steps, "changes_apart", lambda *given: compared.append(True) or own(*given))  # type: ignore[func-returns-value]
    steps, plays = study.new(FIRST), list[int]()
    for number, one in enumerate((FIRST, FIRST, long("lovasz"))):
        if number:
            steps.renew(one, study.images(one), study.starts)
        study.train(steps, one)
        plays.append(recordings[-1].times)
        assert (steps.checked is None) is (number == 1)
    assert len(compared) == len(recordings) == 2
    assert plays == [7, 7 + 6, 7]


# --- As a worker uses them ---


def context_of(study: Study, folder: Path) -> WorkerContext:
    folder.mkdir(exist_ok=True)
    return WorkerContext(study.conditions, study.store, "cpu", folder, resident=study.resident)


def to_the_end(engine: SlotEngine, pauses: set[int]) -> list[TrainingEvent]:
    """Trainings of these numbers are paused at their first rung."""
    events: list[TrainingEvent] = []
    while engine.ready():
        events.append(event := next_event(engine))
        if isinstance(event, Evaluated) and not event.last:
            engine.answer(event.spec, "pause" if event.spec.number in pauses else "go")
    return events


def run(study: Study, folder: Path, *specs: TrialSpec) -> list[TrainingEvent]:
    """One after the other, in one slot."""
    engine, told = SlotEngine(context_of(study, folder)), list[TrainingEvent]()
    for own in specs:
        engine.begin(own)
        told += to_the_end(engine, set())
    return told


@pytest.mark.slow
def test_trainings_of_a_worker_take_over_from_each_other(
    study: Study, tmp_path: Path, recordings: list[SameMemory]
) -> None:
    """Also from one that was paused, and that one later from another; NaN leaves nothing behind."""
    specs = [
        long("focal", number=0, params={"gamma": 2.0, "alpha": 0.25}),
        long("focal", number=1, params={"gamma": 1.0, "alpha": 0.75}, seed=1),
        long("focal", number=2, params={"gamma": 3.0, "alpha": 0.5}, lr=1e6),
        long("focal", number=3, params={"gamma": 0.5, "alpha": 0.3}),
    ]
    expected = {}
    for own in specs:
        expected[own.number] = of(run(study, tmp_path / f"alone{own.number}", own), own.number)
    recordings.clear()
    engine = SlotEngine(context_of(study, tmp_path / "together"))
    told: list[TrainingEvent] = []
    for own in specs:
        engine.begin(own)
        told += to_the_end(engine, {1})
    paused = [event for event in told if isinstance(event, Paused)]
    assert [event.spec.number for event in paused] == [1]
    engine.begin(specs[1])
    rest = of(to_the_end(engine, set()), 1)
    assert [of(told, 1)[0], *rest] == expected[1]
    for own in (specs[0], specs[2], specs[3]):
        assert of(told, own.number) == expected[own.number]
    assert len(recordings) == 1
    gone = weakref.ref(recordings[0].steps)
    recordings.clear()
    engine.close()
    gc.collect()  # the stand-in knows its steps
    assert gone() is None


def test_a_training_that_raised_leaves_nothing_to_the_next(
    study: Study, tmp_path: Path, recordings: list[SameMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its steps were recorded, and are sound as far as anybody can see."""
    odd, good = long("dice", number=0), long("dice", number=1)
    expected = of(run(study, tmp_path / "alone", good), 1)
    recordings.clear()
    own = Training._scores

    def scores(self: Training, *given: Any) -> Any:
        if self._spec == odd and self._progress.step == odd.steps:
            raise ValueError("a fault of the scores")
        return own(self, *given)

    monkeypatch.setattr(Training, "_scores", scores)
    told = run(study, tmp_path / "both", odd, good)
    last = {event.spec.number: event.result.state for event in told if isinstance(event, Finished)}
    assert last == {0: "failed", 1: "complete"} and of(told, 1) == expected
    assert len({id(one.steps) for one in recordings}) == len(recordings) == 2


def test_images_of_another_mean_are_normalised_by_it(tmp_path: Path, recordings: list[SameMemory]) -> None:
    """Of more than 8 bits: mean and deviation are those of the training images, which the seed decides."""
    study = Study(deep_dataset(tmp_path / "deep"))
    first, own = long("dice"), long("dice", seed=3)
    assert study.images(first) != study.images(own)
    expected, end = study.train(study.new(own), own)
    recordings.clear()
    steps = study.new(first)
    study.train(steps, first)
    before = steps.normal[0].clone()
    steps.renew(own, study.images(own), study.starts)
    assert not torch.equal(steps.normal[0], before)
    found, weights_found = study.train(steps, own)
    assert found == expected and torch.equal(weights_found, end) and len(recordings) == 1


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_read_costs_no_recording(
    study: Study, tmp_path: Path, recordings: list[SameMemory]
) -> None:
    own = long("dice", number=1)
    context = context_of(study, tmp_path / "c")
    engine = SlotEngine(context)
    engine.begin(long("dice", number=0))
    to_the_end(engine, set())
    checkpoint_path(context.checkpoints, own).write_bytes(b"nothing of the kind")
    engine.begin(own)
    told = to_the_end(engine, set())
    assert isinstance(told[-1], Finished) and told[-1].result.state == "complete" and len(recordings) == 1


def test_a_loss_of_the_users_is_recorded_by_itself(
    study: Study, recordings: list[SameMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what it holds: no other training plays its recording."""
    monkeypatch.setitem(OWN, "lovasz", None)  # type: ignore[arg-type]
    monkeypatch.setattr("sweeper.losses.build.OWN", {})
    steps = study.new(FIRST)
    study.train(steps, FIRST)
    for number in range(2):
        own = long("lovasz", number=number)
        steps.renew(own, study.images(own), study.starts)
        study.train(steps, own)
    assert len(recordings) == 3 and recordings[1].earlier is recordings[0]
    steps.renew(FIRST, study.images(FIRST), study.starts)
    assert list(steps._recorded) == [recordings[0].structure] and steps._spent == recordings[1:]


# --- On a GPU ---


@pytest.mark.cuda
@pytest.mark.parametrize("case", NEXT)
def test_graphs_that_are_taken_over_give_what_new_ones_give(
    tiny: Dataset, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last digit, where algorithms have one order."""
    monkeypatch.undo()  # the graphs are real ones
    device, own = torch.device("cuda"), NEXT[case][0]
    study = Study(tiny)
    study.resident = upload(study.store, device)
    torch.use_deterministic_algorithms(True)

    def train(steps: TrainingSteps, made: TrialSpec) -> tuple[list[Any], torch.Tensor]:
        return study.train(steps, made)

    def made_for(one: TrialSpec) -> GraphSteps:
        given = (one, study.conditions, study.store, study.images(one))
        steps = make_steps(*given, device=device, starts=study.starts, resident=study.resident)
        assert isinstance(steps, GraphSteps)
        return steps

    expected, end = train(made_for(own), own)
    steps = made_for(FIRST)
    train(steps, FIRST)
    steps.renew(own, study.images(own), study.starts)
    found, weights_found = train(steps, own)
    assert steps.fault is None and steps.recorded
    assert found == expected and torch.equal(weights_found, end)
    assert len(steps._recorded) == 1 + (case in {"another structure", "no kernel", "maps of the labels"})
