"""Recorded training steps and pixels on the device; without a GPU, where a recording that runs the step stands in."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.core.errors import UsageError
from sweeper.core.events import Evaluated, Hardware, WorkerLost
from sweeper.core.recipe import Augmentation, Crops, Engine, Recipe
from sweeper.core.records import Conditions, Dataset
from sweeper.data.balanced_crops import pixels_in_crops
from sweeper.data.folds import split_for
from sweeper.data.store import PixelStore, StoreWriter, open_store
from sweeper.executors.inline import InlineBackend
from sweeper.losses import FAMILIES
from sweeper.losses.family_records import MapKind
from sweeper.training import rung_plan, step_choice, training_steps
from sweeper.training.batches import Crop, crops
from sweeper.training.engine import Training
from sweeper.training.graph_steps import FIRST_STEPS, GraphSteps
from sweeper.training.initial_networks import Starts
from sweeper.training.job import Job, WorkerContext
from sweeper.training.recordings import Record, Recording
from sweeper.training.resident_store import ResidentStore, as_tensor, bytes_of, resident, upload
from sweeper.training.staged_batches import Batch, StagedBatches
from sweeper.training.step_choice import make_steps
from sweeper.training.training_steps import TrainingSteps
from sweeper.training.transfer import to_device
from sweeper.training.weight_change import evaluated
from sweeper.workflow.prepare import prepare
from sweeper.workflow.recipe_choice import resumed_recipe
from sweeper.workflow.settings import Settings
from tests.support.batches import training_batch
from tests.support.loss_cases import COVERED, needed
from tests.support.marks import rest_slow
from tests.support.sweeping import Recorder
from tests.training.test_training import SMALL, spec

CPU = torch.device("cpu")
LONG = SMALL.model_copy(update={"steps": 12, "evaluations": 3, "engine": "auto"})
PLACES = {"size": 32, "batch_size": 5, "seed": 3}


# --- Pixels on the device ---


def a_store(folder: Path, kind: type[np.unsignedinteger[Any]], channels: int) -> PixelStore:
    """Images of several sizes, some smaller than a crop."""
    rng = np.random.default_rng(1)
    with StoreWriter(folder, channels=channels, dtype=np.dtype(kind)) as writer:
        for height, width in ((40, 64), (20, 50), (64, 33), (32, 32)):
            image = rng.integers(0, np.iinfo(kind).max, (height, width, channels), endpoint=True).astype(kind)
            writer.append(image, rng.choice([0, 1, 255], (height, width)).astype(np.uint8))
        writer.finish()
        writer.publish("a")
    (made,) = (path for path in folder.rglob("images.bin"))
    return open_store(made.parent)


@pytest.mark.parametrize(("kind", "channels"), [(np.uint8, 3), (np.uint8, 1), (np.uint16, 4)])
def test_crops_cut_on_the_device_are_those_of_the_processor(tmp_path: Path, kind: Any, channels: int) -> None:
    store = a_store(tmp_path, kind, channels)
    there = upload(store, CPU)
    assert there.images.nbytes + there.masks.nbytes == bytes_of(store)
    for step in range(6):
        images, masks, _ = training_batch(store, (0, 1, 2, 3), step=step, **PLACES)
        places, _ = crops(store, (0, 1, 2, 3), step=step, **PLACES)
        ours = there.cut(as_tensor(places), 32, 32)
        assert ours[0].dtype == images.dtype and torch.equal(ours[0].view(torch.uint8), images.view(torch.uint8))
        assert ours[1].dtype == masks.dtype and torch.equal(ours[1], masks)


def test_whole_images_are_padded_below_and_to_the_right(tmp_path: Path) -> None:
    store = a_store(tmp_path, np.uint8, 3)
    images, masks = upload(store, CPU).cut(as_tensor([Crop(1, 0, 0, *store.sizes[1])]), 24, 64)
    assert np.array_equal(images[0, :20, :50], store.image(1)) and np.array_equal(masks[0, :20, :50], store.mask(1))
    assert not images[0, 20:].any() and not images[0, :, 50:].any()
    assert (masks[0, 20:] == 255).all() and (masks[0, :, 50:] == 255).all()


def test_pixels_stay_with_the_processor_without_a_gpu(tmp_path: Path) -> None:
    assert resident(a_store(tmp_path, np.uint8, 3), CPU) is None


def test_a_training_on_resident_pixels_gives_the_same_to_the_last_digit(tiny: Dataset) -> None:
    """Crops and whole images alike."""
    store = open_store(tiny.store)
    given = (spec(steps=12, purpose="confirm"), Conditions(dataset=tiny, recipe=LONG, seed=0), store, "cpu")
    results = []
    for pixels in (None, upload(store, CPU)):
        training = Training(*given, resident=pixels, clock=lambda: 0.0)
        while not training.finished:
            training.advance()
        results.append(training.result("complete").model_dump_json())
    assert results[0] == results[1]


# --- Recorded steps ---


class Replayed:
    """Stands in for a CUDA graph: runs the step again."""

    def __init__(self, step: Callable[[], None], earlier: Recording | None = None) -> None:
        self.step, self.times = step, 0

    def replay(self) -> None:
        self.times += 1
        self.step()


def steps_of(
    dataset: Dataset, record: Record | None, recipe: Recipe = LONG, *, family: str = "dice_ce", fits: bool = True
) -> TrainingSteps:
    """The steps of a training; recorded by `record`, or plain ones for None. `fits`: its pixels are on the device."""
    store = open_store(dataset.store)
    held = None if recipe.crops == "uniform" else pixels_in_crops(dataset, store, recipe.size, recipe.batch_size)
    conditions = Conditions(dataset=dataset, recipe=recipe, seed=0, crop_pixels=held)
    train = split_for(dataset, study_seed=0, folds=None, seed=0).train
    made: dict[str, Any] = {"device": CPU, "starts": Starts(), "resident": upload(store, CPU) if fits else None}
    given = (spec(family=family, steps=12, lr=2**-9), conditions, store, train)
    if record is None:
        return TrainingSteps(*given, **made)
    return GraphSteps(*given, **made, record=record)


def flat(model: nn.Module) -> torch.Tensor:
    """Weights and statistics of BatchNorm."""
    return torch.cat([tensor.double().flatten() for tensor in model.state_dict().values()])


def weights(steps: TrainingSteps) -> torch.Tensor:
    """Of the network and its average, with the statistics of BatchNorm."""
    return torch.cat([flat(steps.model), flat(steps.average.model)])


@pytest.fixture
def exact_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning rates that float32 holds as they are: recorded steps have them as tensors, plain ones as numbers.

    With others the last digit of a rate differs, which so small a batch lets grow tenfold with each step.
    """
    for module in (rung_plan, training_steps):
        monkeypatch.setattr(module, "schedule", lambda step, *_: 2.0 ** -(step % 3))


@pytest.mark.usefixtures("exact_rates")
@pytest.mark.parametrize("kind", rest_slow(["balanced", "uniform"]))
def test_recorded_steps_learn_what_plain_ones_learn(tiny: Dataset, kind: Crops) -> None:
    """Over several rungs, to the last digit; the average is summed in another order."""
    recordings = []

    def record(step: Callable[[], None], earlier: Recording | None) -> Replayed:
        recordings.append(Replayed(step))
        return recordings[-1]

    recipe = LONG.model_copy(update={"crops": kind})
    plain, recorded = steps_of(tiny, None, recipe), steps_of(tiny, record, recipe)
    assert isinstance(recorded, GraphSteps)
    plain.criterion = recorded.criterion  # whose hyper-parameters are tensors, rounded to float32
    for first, target in ((0, 4), (4, 8), (8, 12)):
        assert recorded.run(first, target) == plain.run(first, target)
        assert torch.equal(flat(recorded.model), flat(plain.model))
        assert torch.allclose(flat(recorded.average.model), flat(plain.average.model), rtol=1e-5, atol=1e-6)
    assert recorded.average.updates == plain.average.updates == 12
    assert recorded.fault is None and recorded.recorded and not plain.recorded
    assert [one.times for one in recordings] == [12 - FIRST_STEPS]  # the first of them was taken back


STAGED: dict[str, dict[str, Any]] = {
    "distances": {"family": "boundary"},
    "noise, and pixels that do not fit": {"recipe": LONG.model_copy(update={"augmentation": "full"}), "fits": False},
    "pixels that do not fit": {"fits": False},
    "balanced crops of pixels that do not fit": {
        "recipe": LONG.model_copy(update={"crops": "balanced"}),
        "fits": False,
    },
    "noise": {"recipe": LONG.model_copy(update={"augmentation": "full"})},
    "sizes": {"family": "instance_ce"},
    "instances": {"family": "blob_dice"},
    "centre lines": {"family": "skeleton_recall", "fits": False},
}


@pytest.mark.usefixtures("exact_rates")
@pytest.mark.parametrize("case", rest_slow(STAGED, 3))
def test_steps_whose_batches_are_made_outside_learn_what_plain_ones_learn(tiny: Dataset, case: str) -> None:
    """To the last digit, over several rungs; and each batch is made once."""
    plain, recorded = steps_of(tiny, None, **STAGED[case]), steps_of(tiny, Replayed, **STAGED[case])
    assert isinstance(recorded, GraphSteps)
    plain.criterion = recorded.criterion
    make, made = recorded._staged._make, list[int]()
    recorded._staged._make = lambda step: made.append(step) or make(step)  # type: ignore[func-returns-value]
    for first, target in ((0, 4), (4, 8), (8, 12)):
        assert recorded.run(first, target) == plain.run(first, target)
        assert torch.equal(flat(recorded.model), flat(plain.model))
    assert recorded.fault is None and recorded.recorded and made == list(range(12))


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=pytest.mark.slow if name in COVERED or at % 4 else ())
        for at, (name, known) in enumerate(FAMILIES.items())
        if "binary" in known.tasks
    ],
)
def test_nothing_in_a_step_waits_for_the_device(tiny: Dataset, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's meta device, which has shapes and no values, reading a value raises; so does a shape that needs one.

    All but the optimiser, whose step torch records itself.
    """
    meta, store = torch.device("meta"), open_store(tiny.store)
    conditions = Conditions(dataset=tiny, recipe=LONG, seed=0)
    train = split_for(tiny, study_seed=0, folds=None, seed=0).train
    pixels = ResidentStore(*(tensor.to(meta) for tensor in upload(store, CPU)))
    params = needed(family, "binary")
    made = spec(family=family, params=params, steps=12)
    steps = GraphSteps(made, conditions, store, train, device=meta, starts=Starts(), resident=pixels, record=Replayed)
    monkeypatch.setattr(steps.optimizer, "step", lambda: None)
    steps._begin(0, 4)
    if steps._is_staged:  # that part is the processor's
        steps._staged.bring(0)
    steps._step()
    assert steps._total.device == meta
    with pytest.raises(RuntimeError, match="meta"):
        float(steps._total)  # as a step that waits would


def counted(step: int) -> Batch:
    """A batch of a step's number."""
    return torch.full((2, 3, 4, 4), float(step)), torch.full((2, 4, 4), step), {}


def numbers(staged: StagedBatches) -> set[float]:
    """What is in the batch."""
    inputs, labels, more = staged.batch
    return {float(value) for tensor in (inputs, labels, *more.values()) for value in tensor.unique()}


def test_the_next_batch_leaves_the_present_one_alone() -> None:
    staged, made = StagedBatches(lambda step: made.append(step) or counted(step), CPU), list[int]()  # type: ignore[func-returns-value]
    staged.begin()
    staged.bring(0)
    places = [tensor.data_ptr() for tensor in staged.batch[:2]]
    for step in range(1, 4):
        staged.prepare(step)
        assert numbers(staged) == {step - 1}
        staged.bring(step)
        assert numbers(staged) == {step}
    assert made == [0, 1, 2, 3]
    assert [tensor.data_ptr() for tensor in staged.batch[:2]] == places
    staged.prepare(7)
    staged.begin()  # of another training, which has a seventh step, too
    staged.bring(7)
    assert made == [0, 1, 2, 3, 7, 7]


def test_maps_come_and_go_with_the_losses_that_want_them() -> None:
    kinds: list[MapKind] = []
    staged = StagedBatches(lambda step: (*counted(step)[:2], {kind: torch.full((2, 4), step) for kind in kinds}), CPU)
    seen = []
    for step, wanted in enumerate([[], ["distance"], ["sizes"], [], ["distance"]]):
        kinds[:] = wanted
        staged.begin()
        staged.bring(step)
        assert list(staged.batch[2]) == wanted and numbers(staged) == {step}
        seen.append([tensor.data_ptr() for tensor in (staged.batch[0], *staged.batch[2].values())])
    assert seen[4] == seen[1] and seen[3] == seen[0] and seen[2][1] != seen[1][1]


def test_inputs_stay_channels_last() -> None:
    """Else each step would turn them round."""

    def channels_last(step: int) -> Batch:
        return counted(step)[0].contiguous(memory_format=torch.channels_last), counted(step)[1], {}

    staged = StagedBatches(channels_last, CPU)
    staged.bring(0)
    assert staged.batch[0].is_contiguous(memory_format=torch.channels_last)


def test_steps_that_are_not_recorded_after_all_are_the_same(tiny: Dataset) -> None:
    """Of a recording that does something else: told, and nothing of it is left."""

    class Wrong(Replayed):
        def replay(self) -> None:
            with torch.no_grad():
                for parameter in steps.model.parameters():
                    parameter.add_(0.5)

    right, words = steps_of(tiny, Replayed), "differs from a plain one by"
    right.run(0, 4)
    right.run(4, 8)
    steps = steps_of(tiny, Wrong)
    steps.run(0, 4)
    steps.run(4, 8)
    assert steps.fault is not None and words in steps.fault and not steps.recorded
    assert torch.equal(weights(steps), weights(right))
    steps = steps_of(tiny, Wrong, LONG.model_copy(update={"engine": "graph"}))
    with pytest.raises(UsageError, match=f"--engine graph needs steps that can be recorded, and .*{words}"):
        steps.run(0, 4)


def fails(step: Callable[[], None], earlier: Recording | None) -> Recording:
    """As torch.cuda.graph does where something in the step cannot be recorded: its end raises, too."""
    try:
        step()  # a part of it was done
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    finally:
        raise RuntimeError("operation failed due to a previous error during capture")


@pytest.mark.parametrize("engine", ["auto", "graph"])
def test_a_recording_that_fails_costs_its_process_and_the_cause_is_told(
    tiny: Dataset, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it was, want of memory too: what torch's allocator is left in serves no training."""
    monkeypatch.setattr(step_choice, "why_not", lambda _: None)
    monkeypatch.setattr(step_choice, "one_by_one", lambda *_: False)
    monkeypatch.setattr(step_choice, "record_graph", fails)
    recipe = LONG.model_copy(update={"engine": engine})
    context = WorkerContext(Conditions(dataset=tiny, recipe=recipe, seed=0), open_store(tiny.store), "cpu", tmp_path)
    event = Job(spec(steps=12), context).proceed()
    assert isinstance(event, WorkerLost)
    assert "previous error during capture" in event.reason and "CUDA out of memory" in event.reason
    assert "--engine eager" in event.reason


@pytest.mark.parametrize("kind", ["weights", "their average", "BatchNorm statistics"])
def test_all_that_is_evaluated_is_compared(tiny: Dataset, kind: str) -> None:
    """A recording that does the rest as a plain step does is noticed, too."""

    class Wrong(Replayed):
        def replay(self) -> None:
            super().replay()
            with torch.no_grad():
                for tensor in evaluated(steps.model, steps.average.model)[kind]:
                    tensor.add_(1.0)

    steps = steps_of(tiny, Wrong)
    steps.run(0, 4)
    assert steps.fault is not None and re.search(rf"\d{{2,}}\.\d\d% \({kind}\)", steps.fault)
    assert steps.fault.count("0.00%") == 2
    right = steps_of(tiny, Replayed)
    right.run(0, 4)
    assert right.checked == (
        "a recorded step differs from a plain one by 0.00% (weights), 0.00% (their average), "
        "0.00% (BatchNorm statistics) of its length"
    )


@pytest.mark.usefixtures("exact_rates")
def test_a_network_that_draws_is_not_recorded(tiny: Dataset) -> None:
    def never(step: Callable[[], None], earlier: Recording | None) -> Recording:
        raise AssertionError("recorded")

    dropout = nn.Dropout(0.5)
    criterion, made = steps_of(tiny, never).criterion, []
    for record in (None, never):
        steps = steps_of(tiny, record)
        steps.criterion = criterion
        head = steps.model.segmentation_head
        assert isinstance(head, nn.Sequential)
        head.insert(0, dropout.train())
        average = steps.average.model.segmentation_head
        assert isinstance(average, nn.Sequential)
        average.insert(0, nn.Dropout(0.5).eval())
        torch.manual_seed(len(made))  # what else the process draws has no influence
        made.append((steps.run(0, 4), flat(steps.model)))
    assert steps.fault is not None and "draws random numbers" in steps.fault
    assert made[0][0] == made[1][0] and torch.equal(made[0][1], made[1][1])


def test_recorded_steps_go_on_from_a_checkpoint(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And plain ones from theirs, as where a worker is replaced by one that records nothing: the optimiser's state is
    the same but for the tensor that is the rate."""
    store = open_store(tiny.store)
    monkeypatch.setattr(step_choice, "why_not", lambda *_, **__: None)
    monkeypatch.setattr(step_choice, "record_graph", Replayed)
    values = {}
    for engines in (("graph", "graph"), ("graph", "eager")):
        path = tmp_path / f"{engines}.pt"
        for part, engine in enumerate(engines):
            recipe = LONG.model_copy(update={"engine": engine})
            given = (spec(steps=12), Conditions(dataset=tiny, recipe=recipe, seed=0), store, "cpu")
            training = Training(
                *given, resident=upload(store, CPU), checkpoint=path if part else None, clock=lambda: 0.0
            )
            training.advance()
            if not part:
                training.save(path)
        while not training.finished:
            training.advance()
        values[engines] = training.result("complete").value
    assert values["graph", "graph"] == pytest.approx(values["graph", "eager"], abs=2e-3)


# --- Which ---


def test_a_processor_takes_plain_steps_and_recorded_ones_cannot_be_insisted_on(tiny: Dataset) -> None:
    store = open_store(tiny.store)
    train = split_for(tiny, study_seed=0, folds=None, seed=0).train
    made: dict[str, Any] = {"device": CPU, "starts": Starts(), "resident": None}
    for engine in ("auto", "eager"):
        conditions = Conditions(dataset=tiny, recipe=SMALL.model_copy(update={"engine": engine}), seed=0)
        steps = make_steps(spec(), conditions, store, train, **made)
        assert type(steps) is TrainingSteps and steps.fault is None
    conditions = Conditions(dataset=tiny, recipe=SMALL.model_copy(update={"engine": "graph"}), seed=0)
    with pytest.raises(UsageError, match="--engine graph needs steps that can be recorded, and there is no NVIDIA GPU"):
        make_steps(spec(), conditions, store, train, **made)


def test_what_cannot_be_recorded_is_refused_before_anything_is_trained() -> None:
    cpu = Hardware(device="cpu", devices=1, name="CPU", precision="float32")
    with pytest.raises(UsageError, match="--engine graph needs an NVIDIA GPU, and trains on CPU"):
        resumed_recipe(Settings(engine="graph"), SMALL, cpu, 10)
    gpu = cpu.model_copy(update={"device": "cuda"})
    assert resumed_recipe(Settings(engine="graph"), SMALL, gpu, 10).engine == "graph"


def test_a_worker_that_cannot_record_refuses(tmp_path: Path) -> None:
    """A machine of the cluster may lack what the first one has."""

    class Pretended(InlineBackend):
        def hardware(self) -> Hardware:
            return Hardware(device="cuda", devices=1, name="GPU", precision="bfloat16")

    def ask(**options: Any) -> None:
        settings = Settings(data="synthetic:cracks?images=12&size=64", engine="graph", cache=tmp_path, **options)
        prepare(settings, None, Pretended("cpu"), Recorder(), datetime.now(UTC))

    with pytest.raises(UsageError, match=r"--engine graph needs .*, and there is no NVIDIA GPU"):
        ask(space="binary", encoder="resnet18", encoder_depth=3, size=32)


def test_why_steps_are_taken_one_by_one_is_said_once_per_process(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingSteps, "fault", "the network draws")
    context = WorkerContext(Conditions(dataset=tiny, recipe=SMALL, seed=0), open_store(tiny.store), "cpu", tmp_path)
    notes = []
    for number in range(2):
        job = Job(spec(number=number), context)
        for _ in range(2):
            event = job.proceed("go")
            assert isinstance(event, Evaluated)
            notes.append(event.note)
    assert notes == [
        "training steps are not recorded as a CUDA graph, and take longer: the network draws",
        "",
        "",
        "",
    ]


def test_how_exact_recorded_steps_are_is_said_once_for_each_family(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingSteps, "checked", "a recorded step differs by 1 %")
    context = WorkerContext(Conditions(dataset=tiny, recipe=SMALL, seed=0), open_store(tiny.store), "cpu", tmp_path)
    notes = []
    for number, family in enumerate(("dice", "dice", "focal")):
        event = Job(spec(number=number, family=family), context).proceed("go")
        assert isinstance(event, Evaluated)
        notes.append(event.note)
    assert notes == ["dice: a recorded step differs by 1 %", "", "focal: a recorded step differs by 1 %"]


# --- On a GPU ---


@pytest.mark.cuda
def test_a_graph_takes_the_steps_that_plain_ones_take(tiny: Dataset) -> None:
    store, device = open_store(tiny.store), torch.device("cuda")
    train = split_for(tiny, study_seed=0, folds=None, seed=0).train
    pixels, found = upload(store, device), []
    for engine in ("eager", "graph"):
        conditions = Conditions(dataset=tiny, recipe=LONG.model_copy(update={"engine": engine}), seed=0)
        steps = make_steps(spec(steps=12), conditions, store, train, device=device, starts=Starts(), resident=pixels)
        losses = [steps.run(first, target)[0] for first, target in ((0, 4), (4, 8), (8, 12))]
        found.append((losses, weights(steps)))
    assert isinstance(steps, GraphSteps) and steps.fault is None
    assert found[1][0] == pytest.approx(found[0][0], rel=0.05)
    assert (found[1][1] - found[0][1]).norm() < 0.3 * found[0][1].norm()


@pytest.mark.cuda
@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("augmentation", ["light", "full"])
@pytest.mark.parametrize(
    "family", ["cross_entropy", "dice_topk", "lovasz", "boundary_ce", "soft_cldice", "boundary", "skeleton_recall"]
)
def test_every_kind_of_loss_trains_with_recorded_steps(
    tiny: Dataset, family: str, augmentation: Augmentation, fits: bool
) -> None:
    store = open_store(tiny.store)
    recipe = LONG.model_copy(update={"precision": "bfloat16", "augmentation": augmentation})
    conditions = Conditions(dataset=tiny, recipe=recipe, seed=0)
    pixels = resident(store, torch.device("cuda")) if fits else None
    training = Training(spec(family=family, steps=12), conditions, store, "cuda", resident=pixels)
    while not training.finished:
        training.advance()
    assert training.result("complete").value is not None
    assert training.not_recorded is None


@pytest.mark.cuda
def test_batches_that_are_made_beside_a_busy_gpu_are_whole(tiny: Dataset) -> None:
    """What a step reads is its own batch to the last bit, however late the GPU comes to it."""
    device, store = torch.device("cuda"), open_store(tiny.store)
    conditions = Conditions(dataset=tiny, recipe=LONG, seed=0)
    train = split_for(tiny, study_seed=0, folds=None, seed=0).train
    given = (spec(steps=12), conditions, store, train)
    steps = TrainingSteps(*given, device=device, starts=Starts())
    expected = [[tensor.cpu() for tensor in steps._batch(step)[:2]] for step in range(12)]
    staged, busy, seen = StagedBatches(steps._batch, device), torch.randn(4096, 4096, device=device), []
    staged.begin()
    for step in range(12):
        staged.bring(step)
        for _ in range(10):
            busy = (busy @ busy).tanh()
        seen.append([tensor.clone() for tensor in staged.batch[:2]])
        staged.prepare(min(11, step + 1))
    for ours, own in zip(seen, expected, strict=True):
        assert all(torch.equal(a.cpu(), b) for a, b in zip(ours, own, strict=True))


@pytest.mark.cuda
def test_values_that_are_sent_are_those_of_the_time_of_sending() -> None:
    """The processor's memory may be used again at once."""
    device = torch.device("cuda")
    busy, sent = torch.randn(4096, 4096, device=device), []
    for number in range(20):
        busy = (busy @ busy).tanh()
        values = torch.full((1000, 1000), float(number))
        sent.append(to_device(values, device))
        values.fill_(-1)
    assert [float(one.mean()) for one in sent] == [float(number) for number in range(20)]
