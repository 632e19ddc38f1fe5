"""The fast path against the plain one: the same losses and the same mIoU, whatever the precision and the workers."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.core.events import JobResult, TrainingJob
from sweeper.core.recipe import Precision, Recipe
from sweeper.core.records import Conditions, Dataset, TrialSpec
from sweeper.core.tasks import RULES
from sweeper.data import divide_images, load_dataset, open_store
from sweeper.executors.inline import InlineBackend
from sweeper.executors.processes import ProcessBackend
from sweeper.executors.protocol import Backend
from sweeper.training.augment import augment
from sweeper.training.batches import normalise_inputs
from sweeper.training.engine import StudyTraining
from sweeper.training.model import build_model, make_normaliser
from sweeper.training.training_context import open_context
from tests.support.batches import training_batch
from tests.support.marks import EXHAUSTIVE
from tests.support.small_training import format_without_times

STEPS, RUNGS, RATE = 60, (15, 30, 45, 60), 5e-4
RECIPE = Recipe(size=64, batch_size=4, steps=STEPS, confirm_steps=STEPS)


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Return something that is learned in 60 steps."""
    return load_dataset("synthetic:blobs?images=20&size=64&foreground=0.1", tmp_path_factory.mktemp("blobs"))


def spec(seed: int, number: int = 0, steps: int = STEPS, lr: float = RATE) -> TrialSpec:
    return TrialSpec(purpose="search", number=number, family="cross_entropy", params={}, lr=lr, seed=seed, steps=steps)


def train_plainly(dataset: Dataset, seed: int) -> tuple[list[float], list[float], float]:
    """Train as one would write it: float32, default layout, unfused AdamW, BCE, one image at a time, argmax.

    Returns:
        Training loss of the first two steps, its mean between evaluations, and the averaged network's mIoU on
        validation at 0.5.
    """
    store, split = open_store(dataset.store), divide_images(dataset, test_seed=0, seed=seed)
    mean, std = make_normaliser(store, split.train)
    bias = RULES["binary"].compute_bias(dataset, split.train)
    model = build_model(RECIPE, channels=3, bias=bias, seed=seed)
    average = build_model(RECIPE, channels=3, bias=bias, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=RECIPE.weight_decay, fused=False)
    first_losses, losses, sums = [], [], 0.0
    for step in range(STEPS):
        rise, fall = (step + 1) / (RECIPE.warmup * STEPS), (STEPS - step) / (RECIPE.decay * STEPS)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, rise, fall)
        images, masks, draws = training_batch(store, split.train, size=64, batch_size=4, step=step, seed=seed)
        inputs, labels = augment(normalise_inputs(images, mean, std).contiguous(), masks.long(), draws)
        logits = model(inputs.contiguous())[:, 0]
        labelled = labels != 255
        loss = nn.functional.binary_cross_entropy_with_logits(logits[labelled], labels[labelled].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay = min(1 - 1 / (RECIPE.average * STEPS), (1 + step) / (10 + step))
        with torch.no_grad():
            for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
                if theirs.grad is not None:
                    ours.mul_(decay).add_(theirs, alpha=1 - decay)
            for statistic, latest in zip(average.buffers(), model.buffers(), strict=True):
                if statistic.is_floating_point():
                    statistic.mul_(decay).add_(latest, alpha=1 - decay)
        sums += float(loss.detach())
        if step < 2:
            first_losses.append(float(loss.detach()))
        if step + 1 in RUNGS:
            losses.append(sums / 15)
            sums = 0.0
    average.eval()
    hits, unions = np.zeros(2), np.zeros(2)
    with torch.no_grad():
        for index in split.val:
            image = torch.from_numpy(np.array(store.get_image(index)))[None]
            answer = (average(normalise_inputs(image, mean, std).contiguous())[0, 0] >= 0).numpy().astype(int)
            mask = np.asarray(store.get_mask(index))
            for label in (0, 1):
                hits[label] += ((answer == label) & (mask == label)).sum()
                unions[label] += ((answer == label) | (mask == label))[mask != 255].sum()
    return first_losses, losses, float((hits / unions).mean())


def train_fast(dataset: Dataset, seed: int, precision: Precision, *, evaluations: int) -> tuple[list[float], float]:
    recipe = RECIPE.model_copy(update={"precision": precision, "evaluations": evaluations})
    conditions = Conditions(dataset=dataset, recipe=recipe, seed=0)
    training = StudyTraining(spec(seed), open_context(conditions, "cpu"))
    evaluated = []
    while not training.is_finished and (evaluations < STEPS or len(evaluated) < 2):
        evaluated.append(training.advance())
    return [e.train_loss or 0.0 for e in evaluated], evaluated[-1].default.miou


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=EXHAUSTIVE)])
def test_the_fast_path_gives_the_losses_and_miou_of_the_plain_one(blobs: Dataset, precision: Precision) -> None:
    """The first step agrees to rounding, the second nearly; what follows as far as training lets it.

    Adam's first steps move every weight by about the learning rate, whatever the size of its gradient, so that a
    relative change of 1e-6 in the inputs of the plain loop moves its own losses by a hundredth within ten steps.
    Beyond that only means are comparable: 5 % of the loss and 0.03 mIoU over three seeds.
    """
    first, later = {"float32": (1e-5, 2e-3), "bfloat16": (5e-3, 2e-2)}[precision]
    ratios, gaps = [], []
    for seed in (0, 1, 2):
        first_losses, losses, miou = train_plainly(blobs, seed)
        again = train_fast(blobs, seed, precision, evaluations=STEPS)[0][:2]
        assert again[0] == pytest.approx(first_losses[0], rel=first) and again[1] == pytest.approx(
            first_losses[1], rel=later
        )
        fast_losses, fast_miou = train_fast(blobs, seed, precision, evaluations=len(RUNGS))
        assert miou > 0.55, "nothing was learned: the comparison is empty"
        ratios += [np.log(ours / theirs) for ours, theirs in zip(fast_losses, losses, strict=True)]
        gaps.append(fast_miou - miou)
    assert abs(float(np.mean(ratios))) < 0.05
    assert abs(float(np.mean(gaps))) < 0.03


def train_all(backend: Backend, conditions: Conditions, specs: list[TrialSpec], folder: Path) -> dict[object, str]:
    """Return what each training gave, without its durations."""
    by_key: dict[object, str] = {}
    with closing(backend):
        executor = backend.open(conditions, folder)
        queue, running = list(specs), 0
        while queue or running:
            while queue and executor.free():
                next_spec = queue.pop(0)
                executor.submit(TrainingJob(next_spec, next_spec.steps))
                running += 1
            for answer in executor.poll(5.0):
                assert isinstance(answer, JobResult) and answer.finished
                running -= 1
                by_key[answer.result.spec.key] = format_without_times(answer.result)
    return by_key


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_workers(blobs: Dataset, tmp_path: Path) -> None:
    conditions = Conditions(dataset=blobs, recipe=RECIPE.model_copy(update={"steps": 8}), seed=0)
    specs = [spec(seed, number, steps=8, lr=lr) for number, (seed, lr) in enumerate([(0, 1e-3), (1, 1e-3), (0, 3e-3)])]
    one = train_all(ProcessBackend("cpu", 1, 1, print), conditions, specs, tmp_path / "one")
    two = train_all(ProcessBackend("cpu", 2, 2, print), conditions, specs, tmp_path / "two")
    assert len(one) == 3 and one == two
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert train_all(InlineBackend("cpu"), conditions, specs, tmp_path / "none") == one
    finally:
        torch.set_num_threads(threads)
