"""Recorded training steps and pixels on the device; without a GPU, where a recording that runs the step stands in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.core.errors import UsageError
from sweeper.core.events import JobResult, TrainingJob, WorkerHardware, WorkerLost
from sweeper.core.recipe import Augmentation, Recipe
from sweeper.core.records import Conditions, Dataset
from sweeper.data.folds import divide_for_training
from sweeper.data.store import PixelStore, StoreWriter, open_store
from sweeper.losses import FAMILIES
from sweeper.training import graph_steps, training_steps
from sweeper.training.batches import Crop, draw_crops
from sweeper.training.engine import StudyTraining
from sweeper.training.graph_steps import (
    FIRST_STEPS,
    GraphSteps,
    choose_steps_class,
    list_evaluated_state,
    measure_change_distance,
)
from sweeper.training.hardware import move_to_device
from sweeper.training.job import WorkerTrainings
from sweeper.training.training_context import (
    ResidentStore,
    TrainingContext,
    count_bytes,
    make_resident_store,
    open_context,
    upload_store,
)
from sweeper.training.training_steps import TrainingSteps
from sweeper.workflow.recipe_choice import resolve_resumed_recipe
from sweeper.workflow.settings import Settings
from tests.support.batches import training_batch
from tests.support.loss_cases import pick_required
from tests.support.marks import rest_slow
from tests.support.small_training import SMALL, spec, train_to_end

CPU = torch.device("cpu")
LONG = SMALL.model_copy(update={"steps": 12, "evaluations": 3})
GRAPH = LONG.model_copy(update={"engine": "graph"})
PLACES = {"size": 32, "batch_size": 5, "seed": 3}


# --- Pixels on the device ---


def make_store(
    folder: Path,
    kind: type[np.unsignedinteger[Any]],
    channels: int,
    mask_kind: type[np.unsignedinteger[Any]] = np.uint8,
) -> PixelStore:
    """Return images of several sizes, some smaller than a crop."""
    rng = np.random.default_rng(1)
    with StoreWriter(folder, channels=channels, dtype=np.dtype(kind), mask_dtype=mask_kind) as writer:
        for height, width in ((40, 64), (20, 50), (64, 33), (32, 32)):
            image = rng.integers(0, np.iinfo(kind).max, (height, width, channels), endpoint=True).astype(kind)
            writer.append(image, rng.choice([0, 1, 2, 255], (height, width)).astype(mask_kind))
        writer.finish()
        writer.publish("a")
    (file,) = (path for path in folder.rglob("images.bin"))
    return open_store(file.parent)


@pytest.mark.parametrize(
    ("kind", "channels", "mask_kind"),
    [(np.uint8, 3, np.uint8), (np.uint8, 1, np.uint64), (np.uint16, 4, np.uint8), (np.uint8, 3, np.uint16)],
)
def test_crops_cut_on_the_device_are_those_of_the_processor(
    tmp_path: Path, kind: Any, channels: int, mask_kind: Any
) -> None:
    store = make_store(tmp_path, kind, channels, mask_kind)
    resident = upload_store(store, CPU)
    assert resident.images.nbytes + resident.masks.nbytes == count_bytes(store)
    for step in range(6):
        images, masks, _ = training_batch(store, (0, 1, 2, 3), step=step, **PLACES)
        places, _ = draw_crops(store, (0, 1, 2, 3), step=step, **PLACES)
        ours = resident.cut_crops(torch.tensor(places), 32, 32)
        assert ours[0].dtype == images.dtype and torch.equal(ours[0].view(torch.uint8), images.view(torch.uint8))
        assert ours[1].dtype == masks.dtype and torch.equal(ours[1], masks)


def test_whole_images_are_padded_below_and_to_the_right(tmp_path: Path) -> None:
    store = make_store(tmp_path, np.uint8, 3)
    images, masks = upload_store(store, CPU).cut_crops(torch.tensor([Crop(1, 0, 0, *store.sizes[1])]), 24, 64)
    assert np.array_equal(images[0, :20, :50], store.get_image(1)) and np.array_equal(
        masks[0, :20, :50], store.get_mask(1)
    )
    assert not images[0, 20:].any() and not images[0, :, 50:].any()
    assert (masks[0, 20:] == 255).all() and (masks[0, :, 50:] == 255).all()


def test_pixels_are_not_made_resident_without_a_gpu(tmp_path: Path) -> None:
    assert make_resident_store(make_store(tmp_path, np.uint8, 3), CPU) is None


def test_a_training_on_resident_pixels_gives_the_same_result(tiny: Dataset) -> None:
    """Crops and whole images alike."""
    store = open_store(tiny.store)
    conditions = Conditions(dataset=tiny, recipe=LONG, seed=0)
    results = []
    for pixels in (None, upload_store(store, CPU)):
        context = TrainingContext(conditions, store, CPU, pixels)
        training = StudyTraining(spec(steps=12, purpose="confirm"), context, clock=lambda: 0.0)
        results.append(train_to_end(training).model_dump_json())
    assert results[0] == results[1]


# --- Recorded steps ---


class Replayed:
    """Stands in for a CUDA graph: runs the step again."""

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        self.step, self.times = step, 0

    def replay(self) -> None:
        self.times += 1
        self.step()


@pytest.fixture(autouse=True)
def recordings(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[Replayed]:
    """Return the recordings of a test on a processor, which appends them."""
    graphs: list[Replayed] = []
    if "cuda" not in request.keywords:
        monkeypatch.setattr(graph_steps, "RECORDING_DEVICES", {"cuda", "cpu"})
        monkeypatch.setattr(
            graph_steps, "record_graph", lambda *arguments: graphs.append(Replayed(*arguments)) or graphs[-1]
        )
    return graphs


def make_steps(
    dataset: Dataset, recipe: Recipe = GRAPH, *, family: str = "dice_ce", fits: bool = True
) -> TrainingSteps:
    """Return the steps of a training. `fits`: its pixels are on the device."""
    store = open_store(dataset.store)
    conditions = Conditions(dataset=dataset, recipe=recipe, seed=0)
    train = divide_for_training(dataset, study_seed=0, folds=None, seed=0).train
    context = TrainingContext(conditions, store, CPU, upload_store(store, CPU) if fits else None)
    return choose_steps_class(recipe.engine, CPU)(spec(family=family, steps=12, lr=2**-9), context, train)


def open_trainings(dataset: Dataset, folder: Path) -> WorkerTrainings:
    """Return the trainings of a process that records steps."""
    conditions = Conditions(dataset=dataset, recipe=GRAPH, seed=0)
    return WorkerTrainings(open_context(conditions, "cpu"), folder)


def flatten_state(model: nn.Module) -> torch.Tensor:
    """Join weights and statistics of BatchNorm."""
    return torch.cat([tensor.double().flatten() for tensor in model.state_dict().values()])


@pytest.fixture
def exact_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning rates that float32 holds as they are: recorded steps have them as tensors, plain ones as numbers.

    With others the last digit of a rate differs, which so small a batch lets grow tenfold with each step.
    """
    monkeypatch.setattr(training_steps, "compute_rate_factor", lambda step, *_: 2.0 ** -(step % 3))


CASES: dict[str, dict[str, Any]] = {
    "crops cut on the device": {},
    "distances": {"family": "boundary"},
    "noise, and pixels that do not fit": {"augmentation": "full", "fits": False},
    "pixels that do not fit": {"fits": False},
}


@pytest.mark.usefixtures("exact_rates")
@pytest.mark.parametrize("case", rest_slow(CASES, 3))
def test_recorded_steps_give_the_losses_and_weights_of_plain_ones(
    tiny: Dataset, recordings: list[Replayed], case: str
) -> None:
    """Over several rungs, to the last digit; the average is summed in another order."""
    options = dict(CASES[case])
    arguments = {name: options.pop(name) for name in ("family", "fits") if name in options}
    plain, recorded = (make_steps(tiny, recipe.model_copy(update=options), **arguments) for recipe in (LONG, GRAPH))
    for first, target in ((0, 4), (4, 8), (8, 12)):
        assert recorded.take_steps(first, target) == plain.take_steps(first, target)
        assert torch.equal(flatten_state(recorded.model), flatten_state(plain.model))
        assert torch.allclose(
            flatten_state(recorded.average.model), flatten_state(plain.average.model), rtol=1e-5, atol=1e-6
        )
    assert recorded.average.updates == plain.average.updates == 12
    assert recorded.is_recorded and not plain.is_recorded
    assert [one.times for one in recordings] == [12 - FIRST_STEPS]  # the first of them was taken back


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=() if name in {"cross_entropy", "boundary_ce", "jaccard"} else pytest.mark.slow)
        for name, declaration in FAMILIES.items()
        if "binary" in declaration.tasks
    ],
)
def test_nothing_in_a_step_waits_for_the_device(tiny: Dataset, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's meta device, which has shapes and no values, reading a value raises; so does a shape that needs one.

    All but the optimiser, whose step torch records itself.
    """
    meta, store = torch.device("meta"), open_store(tiny.store)
    conditions = Conditions(dataset=tiny, recipe=GRAPH, seed=0)
    train = divide_for_training(tiny, study_seed=0, folds=None, seed=0).train
    pixels = ResidentStore(*(tensor.to(meta) for tensor in upload_store(store, CPU)[:4]))
    trial = spec(family=family, params=pick_required(family, "binary"), steps=12)
    steps = GraphSteps(trial, TrainingContext(conditions, store, meta, pixels), train)
    monkeypatch.setattr(steps.optimizer, "step", lambda: None)
    steps._set_rate(0)
    steps._copy_to_inputs(0)
    steps._run_step()
    assert steps._loss.device == meta
    with pytest.raises(RuntimeError, match="meta"):
        float(steps._loss)  # as a step that waits would


def test_the_batches_of_all_steps_are_in_the_same_memory_and_channels_last(tiny: Dataset) -> None:
    """Else a recording would read another one's, or turn it round each time."""
    steps, places = make_steps(tiny), []
    assert isinstance(steps, GraphSteps)
    for step in range(2):
        steps._copy_to_inputs(step)
        assert torch.equal(steps._held["inputs"], steps._make_batch(step)[0])
        assert steps._held["inputs"].is_contiguous(memory_format=torch.channels_last)
        places.append([tensor.data_ptr() for tensor in steps._held.values()])
    assert places[0] == places[1]


@pytest.mark.parametrize("kind", ["weights", "their average", "BatchNorm statistics"])
def test_a_recording_that_differs_from_plain_steps_is_not_used(
    tiny: Dataset, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever it is of what is evaluated, though it does the rest as a plain step does."""

    class Wrong(Replayed):
        def replay(self) -> None:
            super().replay()
            with torch.no_grad():
                for tensor in list_evaluated_state(steps.model, steps.average.model)[kind]:
                    tensor.add_(1.0)

    monkeypatch.setattr(graph_steps, "record_graph", Wrong)
    steps, plain = make_steps(tiny), make_steps(tiny, LONG)
    assert steps.take_steps(0, 8) == plain.take_steps(0, 8)
    assert torch.equal(flatten_state(steps.model), flatten_state(plain.model)) and not steps.is_recorded
    assert steps.why_plain is not None
    assert re.search(rf"\d{{2,}}\.\d\d% \({kind}\)", steps.why_plain) and steps.why_plain.count("0.00%") == 2


def test_the_distance_of_a_change_that_is_not_finite_is_infinite() -> None:
    begin, one, none = [torch.zeros(2)], [torch.ones(2)], [torch.full((2,), float("nan"))]
    assert measure_change_distance(begin, one, one) == 0 and measure_change_distance(begin, none, one) == float("inf")
    assert (
        measure_change_distance(begin, one, none) == measure_change_distance(begin, none, none) == 0
    )  # it diverges either way


def fail_recording(step: Callable[[], None], device: torch.device) -> Replayed:
    """Fail as torch.cuda.graph does if something in the step cannot be recorded: its end raises, too."""
    try:
        step()  # a part of it was done
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    finally:
        raise RuntimeError("operation failed due to a previous error during capture")


def test_a_recording_that_fails_ends_its_process_with_the_cause(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if memory was too little: torch's allocator can serve no training afterwards."""
    monkeypatch.setattr(graph_steps, "record_graph", fail_recording)
    answer = open_trainings(tiny, tmp_path).run_job(TrainingJob(spec(steps=12), 12))
    assert isinstance(answer, WorkerLost)
    assert "previous error during capture" in answer.reason and "CUDA out of memory" in answer.reason
    assert "--engine eager" in answer.reason


@pytest.mark.usefixtures("exact_rates")
def test_a_network_with_dropout_takes_plain_steps(tiny: Dataset, recordings: list[Replayed]) -> None:
    steps, plain = make_steps(tiny), make_steps(tiny, LONG)
    for one in (steps, plain):
        head = one.model.segmentation_head
        assert isinstance(head, nn.Sequential)
        head.insert(0, nn.Dropout(0.5).train())
    assert steps.take_steps(0, 8) == plain.take_steps(0, 8) and torch.equal(
        flatten_state(steps.model), flatten_state(plain.model)
    )
    assert recordings == [] and steps.why_plain == "the network draws random numbers in each step (dropout)"


@contextmanager
def report_one_wait(device: torch.device) -> Iterator[list[str]]:
    """Report one wait, as on a GPU for a loss that reads a value."""
    yield ["called a synchronizing CUDA operation"]


def test_why_steps_are_not_recorded_is_logged_once(
    tiny: Dataset, tmp_path: Path, recordings: list[Replayed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_steps, "record_waits", report_one_wait)
    trainings, notes = open_trainings(tiny, tmp_path), []
    for number in (0, 1):
        answer = trainings.run_job(TrainingJob(spec(number=number, steps=12), 12))
        assert isinstance(answer, JobResult) and "recorded" not in answer.result.device
        notes.append(answer.note)
    assert notes[0].startswith("steps of dice are taken one by one, as the network or the loss waits for the GPU")
    assert notes[1] == "" and recordings == []


def test_recorded_steps_continue_from_a_checkpoint(tiny: Dataset, tmp_path: Path) -> None:
    """Plain steps continue recorded ones, as with another --engine: the optimiser keeps its state except the rate."""
    store, values = open_store(tiny.store), {}
    for recipes in ((GRAPH, GRAPH), (GRAPH, LONG)):
        path = tmp_path / f"{recipes[1].engine}.pt"
        for part, recipe in enumerate(recipes):
            conditions = Conditions(dataset=tiny, recipe=recipe, seed=0)
            context = TrainingContext(conditions, store, CPU, upload_store(store, CPU))
            training = StudyTraining(spec(steps=12), context, checkpoint=path if part else None, clock=lambda: 0.0)
            training.advance()
            if not part:
                training.save(path)
        values[recipes[1].engine] = train_to_end(training).value
    assert values["graph"] == pytest.approx(values["eager"], abs=2e-3)


# --- Without a GPU ---


def test_a_processor_takes_plain_steps_and_records_none(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a study that was made on a GPU."""
    monkeypatch.setattr(graph_steps, "RECORDING_DEVICES", {"cuda"})
    assert type(make_steps(tiny, LONG)) is type(make_steps(tiny, GRAPH)) is TrainingSteps


def test_engine_graph_without_a_gpu_is_refused() -> None:
    cpu = WorkerHardware(device="cpu", devices=1, name="CPU", precision="float32")
    with pytest.raises(UsageError, match="--engine graph needs an NVIDIA GPU, and trains on CPU"):
        resolve_resumed_recipe(Settings(engine="graph"), SMALL, cpu)
    gpu = cpu.model_copy(update={"device": "cuda"})
    assert resolve_resumed_recipe(Settings(engine="graph"), SMALL, gpu).engine == "graph"
    assert resolve_resumed_recipe(Settings(), GRAPH, cpu).engine == "graph"  # begun on a GPU, continued on a processor


# --- On a GPU ---


@pytest.mark.cuda
def test_a_graph_takes_the_steps_of_plain_training(tiny: Dataset) -> None:
    store, device = open_store(tiny.store), torch.device("cuda")
    train = divide_for_training(tiny, study_seed=0, folds=None, seed=0).train
    pixels, outcomes = upload_store(store, device), []
    for recipe in (LONG, GRAPH):
        conditions = Conditions(dataset=tiny, recipe=recipe, seed=0)
        kind = choose_steps_class(recipe.engine, device)
        steps = kind(spec(steps=12), TrainingContext(conditions, store, device, pixels), train)
        losses = [steps.take_steps(first, target)[0] for first, target in ((0, 4), (4, 8), (8, 12))]
        outcomes.append((losses, torch.cat([flatten_state(steps.model), flatten_state(steps.average.model)])))
    assert steps.is_recorded
    assert outcomes[1][0] == pytest.approx(outcomes[0][0], rel=0.05)
    assert (outcomes[1][1] - outcomes[0][1]).norm() < 0.3 * outcomes[0][1].norm()


@pytest.mark.cuda
@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("augmentation", ["light", "full"])
@pytest.mark.parametrize("family", ["cross_entropy", "dice_topk", "lovasz", "boundary_ce", "soft_cldice", "boundary"])
def test_every_kind_of_loss_trains_with_recorded_steps(
    tiny: Dataset, family: str, augmentation: Augmentation, fits: bool
) -> None:
    recipe = GRAPH.model_copy(update={"precision": "bfloat16", "augmentation": augmentation})
    conditions = Conditions(dataset=tiny, recipe=recipe, seed=0)
    context = open_context(conditions, "cuda")
    training = StudyTraining(spec(family=family, steps=12), context if fits else replace(context, resident=None))
    result = train_to_end(training)
    assert result.value is not None and "recorded steps" in result.device


class Reading(nn.Module):
    """A loss that reads a value in each step, as a recording cannot."""

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits.square().mean() * (1.0 if float(logits.detach().mean()) < 1e9 else 2.0)


@pytest.mark.cuda
def test_a_loss_that_waits_for_the_gpu_trains_with_plain_steps(tiny: Dataset) -> None:
    store, device = open_store(tiny.store), torch.device("cuda")
    train = divide_for_training(tiny, study_seed=0, folds=None, seed=0).train
    conditions = Conditions(dataset=tiny, recipe=GRAPH, seed=0)
    steps = GraphSteps(spec(steps=12), TrainingContext(conditions, store, device, upload_store(store, device)), train)
    steps.criterion = Reading()
    steps.take_steps(0, 8)
    assert not steps.is_recorded and "waits for the GPU" in str(steps.why_plain)


@pytest.mark.cuda
def test_changing_a_sent_tensor_does_not_change_what_was_sent() -> None:
    """The processor's memory may be used again at once."""
    device = torch.device("cuda")
    busy, sent = torch.randn(4096, 4096, device=device), []
    for number in range(20):
        busy = (busy @ busy).tanh()
        values = torch.full((1000, 1000), float(number))
        sent.append(move_to_device(values, device))
        values.fill_(-1)
    assert [float(one.mean()) for one in sent] == [float(number) for number in range(20)]
