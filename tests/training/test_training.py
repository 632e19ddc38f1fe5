"""One training: what keys it, what it counts, what it starts from."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sweeper.core import metrics
from sweeper.core.calibration import ClassCalibration
from sweeper.core.contours import Mask, boundary_counts
from sweeper.core.detail_scores import detail_scores
from sweeper.core.errors import CheckpointError
from sweeper.core.events import Advanced, Job
from sweeper.core.label_parts import Counter, component_dice, contours, lesions
from sweeper.core.operating_points import FEW_THRESHOLDS, TAUS
from sweeper.core.paths import checkpoint_path
from sweeper.core.recipe import Recipe
from sweeper.core.records import IGNORE, Collapse, Conditions, Dataset, TrialResult, TrialSpec
from sweeper.data import divide, open_store
from sweeper.losses import FAMILIES
from sweeper.training.augment import Draws, augment, draw
from sweeper.training.batches import image_indices, to_inputs
from sweeper.training.checkpoint import load_checkpoint
from sweeper.training.collapse import judge, never_predicted
from sweeper.training.engine import Training
from sweeper.training.evaluation import Evaluator
from sweeper.training.initial_networks import Starts
from sweeper.training.job import Trainings, WorkerContext
from sweeper.training.model import WeightAverage, build_model, normaliser
from sweeper.training.training_steps import schedule
from tests.support.batches import training_batch
from tests.support.loss_cases import needed
from tests.support.marks import rest_slow

KINDS = {"weighted_ce", "logit_adjusted", "dice_topk", "boundary"}
"""Families that stand for what a training hands to a loss: weights, the classes' prior, nothing, maps of the labels."""
KINDS_FIRST = [
    pytest.param(name, marks=() if name in KINDS else pytest.mark.slow)
    for name, known in FAMILIES.items()
    if "binary" in known.tasks
]
CPU = torch.device("cpu")
SMALL = Recipe(size=32, batch_size=2, steps=4, confirm_steps=4)


def spec(**changes: Any) -> TrialSpec:
    given: dict[str, Any] = {
        "purpose": "search",
        "number": 0,
        "family": "dice",
        "params": {},
        "lr": 1e-3,
        "seed": 0,
        "steps": 4,
    }
    return TrialSpec(**{**given, **changes})


def train(dataset: Dataset, recipe: Recipe = SMALL, **changes: Any) -> TrialResult:
    conditions = Conditions(dataset=dataset, recipe=recipe, seed=0)
    training = Training(spec(**changes), conditions, open_store(dataset.store), "cpu", clock=lambda: 0.0)
    while not training.finished:
        training.advance()
    return training.result("complete")


# --- keys ---


def test_the_same_spec_gives_the_same_result_to_the_last_digit(tiny: Dataset) -> None:
    first = train(tiny)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the global state must not matter
    assert train(tiny).model_dump_json() == first.model_dump_json()


def test_training_leaves_the_global_random_state_alone(tiny: Dataset) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    train(tiny)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_batches_depend_on_seed_and_step_alone(tiny: Dataset) -> None:
    store = open_store(tiny.store)
    keys: dict[str, Any] = {"size": 32, "batch_size": 4}
    one = training_batch(store, (0, 1, 2, 3, 4), step=3, seed=7, **keys)
    again = training_batch(store, (0, 1, 2, 3, 4), step=3, seed=7, **keys)
    other = training_batch(store, (0, 1, 2, 3, 4), step=4, seed=7, **keys)
    assert all(torch.equal(a, b) for a, b in zip(one[:2] + one[2][:3], again[:2] + again[2][:3], strict=True))
    assert not torch.equal(one[0], other[0])


def test_every_image_is_seen_once_an_epoch() -> None:
    seen = np.concatenate([image_indices(7, 3, step, seed=1) for step in range(7)])
    assert sorted(seen[:7]) == sorted(seen[7:14]) == sorted(seen[14:]) == list(range(7))
    assert list(seen[:7]) != list(seen[7:14])


def test_small_images_are_padded_with_ignored_labels(tiny: Dataset) -> None:
    images, masks, _ = training_batch(open_store(tiny.store), (0,), size=96, batch_size=1, step=0, seed=0)
    assert images.shape == (1, 96, 96, 3)
    assert (masks[:, 64:] == IGNORE).all() and (masks[:, :, 64:] == IGNORE).all()
    assert (masks[:, :64, :64] != IGNORE).all()


def test_flips_move_images_and_masks_together() -> None:
    inputs = torch.arange(16.0).view(1, 1, 4, 4).repeat(2, 1, 1, 1)
    masks = torch.arange(16).view(1, 4, 4).repeat(2, 1, 1)
    draws = Draws(torch.tensor([True, False]), torch.ones(2), torch.zeros(2))
    flipped, moved = augment(inputs, masks, draws)
    assert torch.equal(flipped[:, 0].long(), moved)
    assert torch.equal(moved[0], masks[0].flip(-1)) and torch.equal(moved[1], masks[1])
    upside, under = augment(inputs, masks, draws._replace(upside=torch.tensor([False, True])))
    assert torch.equal(upside[:, 0].long(), under) and torch.equal(under[1], masks[1].flip(-2))


def test_a_quarter_turn_moves_images_and_masks_together_and_a_zoom_enlarges_both() -> None:
    masks = torch.arange(64).view(1, 8, 8)
    still = Draws(torch.tensor([False]), torch.ones(1), torch.zeros(1), torch.tensor([False]))
    turn = still._replace(angle=torch.tensor([math.pi / 2]), zoom=torch.ones(1), noise=torch.zeros(1))
    inputs, moved = augment(masks.float().unsqueeze(1), masks, turn)
    assert torch.equal(moved[0], masks[0].rot90(1)) or torch.equal(moved[0], masks[0].rot90(-1))
    assert torch.allclose(inputs[:, 0], moved.float(), atol=1e-3)
    square = torch.zeros(1, 32, 32, dtype=torch.long)
    square[:, 12:20, 12:20] = 1
    zoom = still._replace(angle=torch.zeros(1), zoom=torch.tensor([1.5]), noise=torch.zeros(1))
    _, larger = augment(square.float().unsqueeze(1), square, zoom)
    assert int(larger.sum()) == 12 * 12
    _, smaller = augment(square.float().unsqueeze(1), square, zoom._replace(zoom=torch.tensor([0.5])))
    assert (smaller[:, :7] == IGNORE).all() and int((smaller == 1).sum()) == 4 * 4


def test_full_augmentation_keeps_labels_and_ignore_apart_and_is_keyed(tiny: Dataset) -> None:
    store = open_store(tiny.store)
    keys: dict[str, Any] = {"size": 48, "batch_size": 6, "seed": 3, "augmentation": "full"}
    made = []
    for step in (2, 2, 5):
        images, masks, draws = training_batch(store, (0, 1, 2, 3, 4), step=step, **keys)
        inputs = to_inputs(images, torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
        made.append(augment(inputs, masks.long(), draws))
    assert all(torch.equal(a, b) for a, b in zip(made[0], made[1], strict=True))
    assert not torch.equal(made[0][0], made[2][0])
    assert set(made[0][1].unique().tolist()) <= {0, 1, IGNORE}
    plain = training_batch(store, (0, 1, 2, 3, 4), step=2, **{**keys, "augmentation": "light"})
    assert torch.equal(plain[1], training_batch(store, (0, 1, 2, 3, 4), step=2, **keys)[1])  # the same crops


def test_drawing_nothing_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    inputs, masks = torch.rand(4, 3, 8, 8), torch.randint(0, 2, (4, 8, 8))
    same, labels = augment(inputs, masks, draw(rng, rng, 4, "none", key=0))
    assert torch.equal(same, inputs) and torch.equal(labels, masks)


# --- schedule, starts, averages ---


def test_schedule_rises_stays_and_falls() -> None:
    factors = [schedule(step, 100, 0.05, 0.3) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[4:70] == [1.0] * 66
    assert factors[-1] == pytest.approx(1 / 30)
    assert all(0 < f <= 1 for f in factors)


@pytest.mark.parametrize(
    "recipe", [Recipe(steps=100), Recipe(steps=9), Recipe(steps=7), Recipe(steps=4), Recipe(evaluations=1)]
)
def test_rungs_end_at_the_last_step_and_start_at_a_quarter(recipe: Recipe) -> None:
    rungs = recipe.rungs(recipe.steps)
    assert rungs[-1] == recipe.steps
    assert list(rungs) == sorted(set(rungs))
    assert rungs[0] >= recipe.steps / recipe.evaluations


def test_binary_output_starts_at_the_log_prior() -> None:
    model = build_model(SMALL, channels=3, class_pixels=np.array([990, 10]), task="binary", seed=0)
    bias = [m for m in model.segmentation_head.modules() if isinstance(m, nn.Conv2d)][-1].bias
    assert bias is not None
    assert torch.sigmoid(bias).item() == pytest.approx(0.01, rel=1e-4)


def test_multiclass_output_starts_at_the_log_prior() -> None:
    model = build_model(SMALL, channels=1, class_pixels=np.array([90, 9, 1, 0]), task="multiclass", seed=0)
    bias = [m for m in model.segmentation_head.modules() if isinstance(m, nn.Conv2d)][-1].bias
    assert bias is not None
    prior = bias.softmax(0).tolist()
    assert prior[:3] == pytest.approx([0.9, 0.09, 0.01], rel=0.02)
    assert 0 < prior[3] < 0.011  # a class without pixels starts as rare as one pixel


def test_the_average_follows_weights_and_batchnorm_statistics() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    average = WeightAverage(model, horizon=10)
    unused = nn.Linear(1, 1)
    assert unused.weight.grad is None
    for _ in range(400):
        model.zero_grad()
        model(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)) + 3).sum().backward()
        average.update(model)
    norm, mean = model[1], average.model[1]  # type: ignore[index]
    assert isinstance(norm, nn.BatchNorm1d)
    assert torch.allclose(mean.running_mean, norm.running_mean, atol=1e-3)
    assert norm.running_mean is not None and norm.running_mean.abs().max() > 0.1
    assert torch.allclose(average.model[0].weight, model[0].weight)  # type: ignore[index]
    assert not average.model.training


# --- evaluation ---


class Echo(nn.Module):
    """A network that answers with what it sees: the first channels of the normalised image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, inputs: Tensor) -> Tensor:
        return 3 * inputs[:, : self.channels]


def evaluator(dataset: Dataset) -> Evaluator:
    store = open_store(dataset.store)
    pixels = dataset.class_pixels()
    return Evaluator(
        Conditions(dataset=dataset, recipe=SMALL, seed=0),
        store,
        device=CPU,
        normal=normaliser(store, (0,)),
        autocast=nullcontext,
        log_prior=np.log(np.maximum(pixels, 1) / pixels.sum()),
    )


def test_binary_counts_equal_a_direct_confusion_matrix(tiny: Dataset) -> None:
    bench, images = evaluator(tiny), (2, 0, 5)
    counts, finite = bench.count(Echo(1), images)
    assert finite
    for point in (0.5, counts.points[100], counts.points[400]):
        maps = bench.examine(Echo(1), images, point, keep=len(images)).maps
        got = metrics.at_point(counts, point)
        for n, index in enumerate(images):
            truth = open_store(tiny.store).mask(index)
            for label in (0, 1):
                hit = int(((maps[n] == label) & (truth == label)).sum())
                assert got[n, label].tolist() == [
                    hit,
                    int((maps[n] == label).sum()) - hit,
                    int((truth == label).sum()) - hit,
                ]


class FiveClasses(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([3 * inputs, inputs.flip(1)[:, :2]], dim=1)


def test_multiclass_counts_equal_a_direct_confusion_matrix(tiny_street: Dataset) -> None:
    bench, images = evaluator(tiny_street), (1, 3)
    counts, _ = bench.count(FiveClasses(), images)
    assert counts.points == TAUS
    for tau in (-1.0, 0.0, 0.5):
        maps = bench.examine(FiveClasses(), images, tau, keep=len(images)).maps
        got = metrics.at_point(counts, tau)
        for n, index in enumerate(images):
            truth = open_store(tiny_street.store).mask(index)
            for label in range(5):
                hit = int(((maps[n] == label) & (truth == label)).sum())
                assert got[n, label, 0] == hit
                assert got[n, label, 1] == int(((maps[n] == label) & (truth != IGNORE)).sum()) - hit
                assert got[n, label, 2] == int((truth == label).sum()) - hit


def test_of_several_classes_calibrated_probabilities_are_the_shares_of_the_labels(tiny_street: Dataset) -> None:
    bench, images = evaluator(tiny_street), (1, 3)
    counts, _ = bench.count(FiveClasses(), images)
    found = bench.calibration(FiveClasses(), counts)
    assert isinstance(found, ClassCalibration)
    shares = []
    for _, logits, masks in bench._predict(FiveClasses(), images):
        z = found.slope * logits + torch.tensor(found.biases).view(-1, 1, 1)
        shares.append(z.softmax(1).permute(0, 2, 3, 1)[masks != IGNORE])
    labels = np.concatenate([open_store(tiny_street.store).mask(i).ravel() for i in images])
    of_labels = np.bincount(labels[labels != IGNORE], minlength=5) / (labels != IGNORE).sum()
    assert torch.cat(shares).mean(0).numpy() == pytest.approx(of_labels, abs=2e-3)


def test_large_images_are_predicted_in_tiles_with_the_same_answer(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = evaluator(tiny).count(Echo(1), (0, 1))
    monkeypatch.setattr("sweeper.training.evaluation.TILE", 32)
    monkeypatch.setattr("sweeper.training.evaluation.HALO", 8)
    tiled, _ = evaluator(tiny).count(Echo(1), (0, 1))
    assert np.array_equal(whole.data, tiled.data)


def test_logits_that_are_not_finite_are_noticed(tiny: Dataset) -> None:
    class Broken(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs[:, :1] * math.nan

    counts, finite = evaluator(tiny).count(Broken(), (0,))
    assert not finite
    assert counts.data.sum() == 64 * 64


# --- results ---


def test_rungs_look_at_a_subset_and_the_end_at_all(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.training.engine.RUNG_IMAGES", 1)
    result = train(tiny)
    split = divide(tiny, test_seed=0, seed=0)
    assert [e.images for e in result.evaluations] == [1, 1, 1, len(split.val)]
    assert result.val is not None and (result.val.images, len(result.val.data)) == ((), 1)
    assert result.val.data.sum() == sum(tiny.images[i].height * tiny.images[i].width for i in split.val)
    assert result.value == result.evaluations[-1].value
    assert result.test is None


@pytest.mark.parametrize(("metric", "threshold"), rest_slow([("dice", "0.5"), ("fg_iou", "tuned")], 2))
def test_the_end_is_also_scored_on_the_images_of_the_rungs(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, metric: Any, threshold: Any
) -> None:
    monkeypatch.setattr("sweeper.training.engine.RUNG_IMAGES", 1)
    recipe = SMALL.model_copy(update={"metric": metric, "threshold": threshold})
    *rungs, last = train(tiny, recipe).evaluations
    # The network of the end, counted on the image of the rungs alone.
    conditions = Conditions(dataset=tiny, recipe=recipe, seed=0)
    training = Training(spec(), conditions, open_store(tiny.store), "cpu", clock=lambda: 0.0)
    while not training.finished:
        training.advance()
    counts, _ = training._evaluator.count(training._steps.average.model, training._rung_images)
    point, value = metrics.best_point(counts, metric)
    if threshold == "0.5":
        point, at = 0.5, metrics.at_point(counts, 0.5)
        value = float(metrics.objective(at.sum(axis=0), metrics.present(at), metric))
    assert [e.complete for e in (*rungs, last)] == [False, False, False, True]
    assert all(e.part is None and e.part_value == e.value for e in rungs)
    assert last.part is not None and last.part.images == 1 < last.images == last.val_images
    assert last.part_value == last.part.value == pytest.approx(value) and last.part.point == point
    assert last.part_miou == last.part.chosen.miou
    assert last.part_value != last.value


def test_groups_count_as_one_where_the_operating_point_of_a_mean_is_chosen(tiny: Dataset) -> None:
    sides = ["train"] * 8 + ["val"] * 4 + ["test"] * 3
    images = [info.model_copy(update={"split": side}) for info, side in zip(tiny.images, sides, strict=True)]
    images[8:11] = [info.model_copy(update={"group": "video"}) for info in images[8:11]]
    grouped = tiny.model_copy(update={"images": tuple(images)})
    recipe = SMALL.model_copy(update={"metric": "image_dice"})
    result = train(grouped, recipe, purpose="confirm", seed=1000)
    last = result.evaluations[-1]
    assert result.val is not None and result.val.images == (8, 9, 10, 11)
    groups = ["video"] * 3 + [None]
    assert (last.point, last.value) == pytest.approx(metrics.best_point(result.val, "image_dice", groups))
    assert last.value != pytest.approx(metrics.best_point(result.val, "image_dice")[1])


@pytest.mark.parametrize(
    ("metric", "count"), [("lesion_f1", lesions), ("cc_dice", component_dice), ("boundary_iou", contours)]
)
def test_a_metric_of_whole_label_maps_is_maximised_and_kept_at_15_thresholds(
    tiny: Dataset, metric: str, count: Callable[[Mask, int, int], Counter]
) -> None:
    recipe = SMALL.model_copy(update={"metric": metric})
    result = train(tiny, recipe, purpose="confirm", seed=1000, keep_predictions=99)
    last, store = result.evaluations[-1], open_store(tiny.store)
    assert result.val is not None and result.test is not None and result.predictions is not None
    assert (last.point, last.value) == pytest.approx(metrics.best_point(result.val, metric))
    parts = metrics.measured(result.test, metric)
    assert parts.points == FEW_THRESHOLDS and 0.5 in parts.points and parts.data.shape[1] == 15
    for n, index in enumerate(result.test.images):
        wanted = count(store.mask(index), 2, recipe.boundary_pixels)(result.predictions.masks[n])
        np.testing.assert_array_equal(metrics.at_point(parts, last.point)[n], wanted)
        if metric == "boundary_iou":
            assert result.detail is not None
            np.testing.assert_array_equal(result.detail.boundary[n], wanted)


def test_nothing_is_told_apart_where_the_rungs_see_all_images(tiny: Dataset) -> None:
    found = train(tiny).evaluations
    assert all(e.complete and e.part is None and e.part_value == e.value for e in found)


def test_a_confirmation_is_scored_on_the_locked_test_split(tiny: Dataset) -> None:
    split = divide(tiny, test_seed=0, seed=0)
    result = train(tiny, purpose="confirm", seed=1000, keep_predictions=2)
    assert result.test is not None and result.test.images == split.test
    assert result.val is not None and result.val.images == divide(tiny, test_seed=0, seed=1000).val
    assert result.predictions is not None and result.predictions.images == split.test[:2]
    point = result.evaluations[-1].point
    shown = metrics.at_point(result.test, point)[0, 1]
    assert int(result.predictions.masks[0].sum()) == shown[0] + shown[1]


def test_a_confirmation_measures_boundaries_lines_and_confidence_of_the_same_pixels(tiny: Dataset) -> None:
    result = train(tiny, purpose="confirm", seed=1000, keep_predictions=99)
    detail, counts = result.detail, result.test
    assert detail is not None and counts is not None and result.predictions is not None
    assert detail.images == counts.images == result.predictions.images
    at_default = metrics.at_point(counts, 0.5)
    labelled, right = detail.confidence[:, :, 0].sum(axis=1), detail.confidence[:, :, 1].sum(axis=1)
    np.testing.assert_array_equal(labelled, at_default[:, 0].sum(axis=1))
    np.testing.assert_array_equal(right, at_default[:, :, 0].sum(axis=1))
    store = open_store(tiny.store)
    for n, index in enumerate(detail.images):
        wanted = boundary_counts(store.mask(index), result.predictions.masks[n], 2, 2)
        np.testing.assert_array_equal(detail.boundary[n], wanted)
    assert detail.centreline[:, 1, 3].sum() > 0 and detail.centreline[:, 0].sum() == 0
    assert set(detail_scores(detail)) == {"boundary_iou", "cldice", "ece"}


def test_the_width_of_the_band_is_the_recipes(tiny: Dataset) -> None:
    thin, wide = (
        train(tiny, SMALL.model_copy(update={"boundary_pixels": d}), purpose="confirm", seed=1000).detail
        for d in (1, 4)
    )
    assert thin is not None and wide is not None
    assert (thin.boundary_pixels, wide.boundary_pixels) == (1, 4)
    assert wide.boundary.sum() > thin.boundary.sum()


def test_confidence_of_many_classes_is_that_of_the_softmax(tiny_street: Dataset) -> None:
    bench, images = evaluator(tiny_street), (1, 3)
    found = bench.examine(FiveClasses(), images, 0.5)
    store = open_store(tiny_street.store)
    for n, index in enumerate(images):
        mask = torch.from_numpy(np.array(store.mask(index))).long()
        mean, std = normaliser(store, images)
        image = torch.from_numpy(np.array(store.image(index)))[None]
        best, answer = FiveClasses()(to_inputs(image, mean, std)).float().softmax(1).max(1)
        labelled = mask != IGNORE
        assert found.detail.confidence[n, :, 2].sum() == pytest.approx(float(best[0][labelled].sum()), rel=1e-5)
        assert found.detail.confidence[n, :, 1].sum() == int((answer[0] == mask)[labelled].sum())
    counts, _ = bench.count(FiveClasses(), images)
    np.testing.assert_array_equal(found.counts.data, counts.data)


def test_ignored_pixels_and_padding_count_nowhere(tiny: Dataset) -> None:
    class Masked:
        """The store with the left half of every mask ignored, at a height that must be padded."""

        channels, dtype = open_store(tiny.store).channels, open_store(tiny.store).dtype

        def mask(self, index: int) -> Any:
            mask = np.array(open_store(tiny.store).mask(index))[:61]
            mask[:, :32] = IGNORE
            return mask

        def image(self, index: int) -> Any:
            return np.array(open_store(tiny.store).image(index))[:61]

        def forget(self) -> None:
            """Nothing is mapped for long."""

    bench = evaluator(tiny)
    bench._store = Masked()  # type: ignore[assignment]
    detail = bench.examine(Echo(1), (0, 2), 0.5).detail
    assert detail.confidence[:, :, 0].sum(axis=1).tolist() == [61 * 32] * 2
    right = evaluator(tiny)
    halves = [np.array(open_store(tiny.store).mask(i))[:61, 32:] for i in (0, 2)]
    maps = right.examine(Echo(1), (0, 2), 0.5, keep=2).maps
    for n, half in enumerate(halves):
        wanted = boundary_counts(half, maps[n][:61, 32:], 2, 2)
        np.testing.assert_array_equal(detail.boundary[n], wanted)


def test_threshold_of_one_half_is_kept_when_asked(tiny: Dataset) -> None:
    result = train(tiny, SMALL.model_copy(update={"threshold": "0.5"}))
    assert [e.point for e in result.evaluations] == [0.5] * 4
    assert all(e.chosen == e.default for e in result.evaluations)


def test_a_diverging_training_ends_with_value_zero(tiny: Dataset) -> None:
    result = train(tiny, lr=1e30)
    assert result.collapse == result.collapse_at_default == Collapse.DIVERGED
    assert result.value == 0.0
    assert result.state == "complete"
    assert len(result.evaluations) < 4


@pytest.mark.parametrize("family", KINDS_FIRST)
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_every_family_trains(tiny: Dataset, tiny_street: Dataset, family: str, task: str) -> None:
    params = needed(family, "binary") if task == "binary" else {}
    result = train(tiny if task == "binary" else tiny_street, family=family, params=params)
    assert result.collapse != Collapse.DIVERGED
    assert all(e.train_loss is not None for e in result.evaluations)


def counts_of(*rows: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    return np.array([rows], dtype=np.int64)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (counts_of((990, 10, 0), (0, 0, 10)), Collapse.ALL_BACKGROUND),
        (counts_of((0, 0, 990), (10, 990, 0)), Collapse.NO_BETTER_THAN_CONSTANT),
        (counts_of((700, 10, 290), (0, 290, 10)), Collapse.NO_BETTER_THAN_CONSTANT),
        (counts_of((985, 4, 5), (6, 5, 4)), Collapse.NONE),
        (counts_of((900, 10, 0), (80, 0, 0), (0, 0, 10)), Collapse.CLASS_NEVER_PREDICTED),
        (counts_of((900, 0, 0), (90, 0, 0), (0, 0, 0)), Collapse.NONE),
    ],
)
def test_collapses_are_named(counts: np.ndarray[Any, Any], expected: Collapse) -> None:
    assert judge(counts) == expected


def test_classes_that_are_never_predicted_are_named() -> None:
    counts = counts_of((900, 10, 0), (80, 0, 0), (0, 0, 10), (0, 0, 0))
    assert never_predicted(counts, ("ground", "road", "sign", "absent")) == ("sign",)


@pytest.mark.cuda
@pytest.mark.parametrize("family", KINDS_FIRST)
def test_every_family_trains_on_a_gpu(tiny: Dataset, family: str) -> None:
    params = needed(family, "binary")
    conditions = Conditions(dataset=tiny, recipe=SMALL.model_copy(update={"precision": "bfloat16"}), seed=0)
    training = Training(spec(family=family, params=params), conditions, open_store(tiny.store), "cuda")
    while not training.finished:
        training.advance()
    assert training.result("complete").collapse != Collapse.DIVERGED


# --- pausing ---


FOUR = SMALL.model_copy(update={"steps": 8})


def timeless(dataset: Dataset, checkpoint: Path | None = None, **changes: Any) -> Training:
    conditions = Conditions(dataset=dataset, recipe=FOUR, seed=0)
    made = spec(steps=8, **changes)
    store = open_store(dataset.store)
    return Training(made, conditions, store, "cpu", checkpoint=checkpoint, clock=lambda: 0.0)


@pytest.mark.parametrize("family", rest_slow(["boundary_ce", "dice", "focal", "lovasz"], 2))
@pytest.mark.parametrize("at", rest_slow([2, 1, 3]))
def test_pausing_and_going_on_changes_nothing_bit_for_bit(tiny: Dataset, tmp_path: Path, family: str, at: int) -> None:
    assert family in FAMILIES
    whole = timeless(tiny, family=family)
    while not whole.finished:
        whole.advance()
    first = timeless(tiny, family=family)
    for _ in range(at):
        first.advance()
    first.save(tmp_path / "pause.pt")
    torch.manual_seed(3)  # what else the process does meanwhile
    second = timeless(tiny, checkpoint=tmp_path / "pause.pt", family=family)
    while not second.finished:
        second.advance()
    assert second.result("complete").model_dump_json() == whole.result("complete").model_dump_json()
    states = [
        list(t._steps.model.state_dict().values()) + list(t._steps.average.model.state_dict().values())
        for t in (whole, second)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_a_checkpoint_of_another_training_or_other_conditions_is_refused(tiny: Dataset, tmp_path: Path) -> None:
    training = timeless(tiny)
    training.advance()
    training.save(tmp_path / "pause.pt")
    with pytest.raises(CheckpointError, match="another training"):
        timeless(tiny, checkpoint=tmp_path / "pause.pt", lr=2e-3)
    conditions = Conditions(dataset=tiny, recipe=FOUR.model_copy(update={"weight_decay": 0.5}), seed=0)
    with pytest.raises(CheckpointError, match="another training"):
        Training(spec(steps=8), conditions, open_store(tiny.store), "cpu", checkpoint=tmp_path / "pause.pt")


def context(dataset: Dataset, folder: Path) -> WorkerContext:
    return WorkerContext(Conditions(dataset=dataset, recipe=FOUR, seed=0), open_store(dataset.store), "cpu", folder)


def numbers(result: TrialResult) -> list[tuple[int, float, float | None]]:
    return [(e.step, e.value, e.train_loss) for e in result.evaluations]


@pytest.mark.parametrize("harm", rest_slow(["none", "bit", "truncated", "gone", "pickle"], 2))
def test_a_job_goes_on_where_it_paused_or_from_its_start_if_its_file_is_spoilt(
    tiny: Dataset, tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = timeless(tiny)
    while not whole.finished:
        whole.advance()
    shop = context(tiny, tmp_path)
    asked = spec(steps=8)
    first = Trainings(shop)
    told = first.advance(Job(asked, 1))
    assert isinstance(told, Advanced) and told.result.state == "pruned"
    first.keep()
    path = checkpoint_path(tmp_path, spec(steps=8))
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif harm == "gone":
        path.unlink()
    elif harm == "pickle":
        torch.save({"checkpoint": Canary()}, path)
    elif harm == "bit":
        turned = bytearray(path.read_bytes())
        turned[len(turned) // 2] ^= 4
        path.write_bytes(turned)
    begun: list[int] = []
    own = Training.advance
    monkeypatch.setattr(Training, "advance", lambda self: begun.append(self.step) or own(self))  # type: ignore[func-returns-value]
    again, notes = Trainings(shop), ""
    told = again.advance(Job(asked, 3))
    while isinstance(told, Advanced) and not told.finished:
        notes += told.note
        told = again.advance(Job(asked, told.result.evaluations[-1].step + 1))
    assert isinstance(told, Advanced) and told.result.state == "complete"
    assert begun == ([2, 4, 6] if harm == "none" else [0, 2, 4, 6])
    assert numbers(told.result) == numbers(whole.result("complete"))
    assert not Canary.sung
    assert ("the training begins anew" in notes and str(path) in notes) == (harm in {"truncated", "pickle", "bit"})


@pytest.mark.slow
def test_of_a_hundred_single_bits_of_a_checkpoint_that_turn_none_is_taken_for_what_was_written(
    tiny: Dataset, tmp_path: Path
) -> None:
    """Bits of the archive's padding change nothing."""
    training, path = timeless(tiny), tmp_path / "pause.pt"
    training.advance()
    training.save(path)
    given = (path, spec(steps=8), training._conditions, torch.device("cpu"))
    record, tensors = load_checkpoint(*given)
    whole, rng, found = path.read_bytes(), np.random.default_rng(0), 0
    for bit in rng.integers(8 * len(whole), size=100):
        turned = bytearray(whole)
        turned[bit // 8] ^= 1 << int(bit % 8)
        path.write_bytes(turned)
        try:
            again = load_checkpoint(*given)
        except CheckpointError:
            found += 1
        else:
            assert again[0] == record
            torch.testing.assert_close(again[1], tensors, rtol=0, atol=0)
    assert found >= 90


class Canary:
    """Unpickling it would run code."""

    sung: ClassVar[list[int]] = []

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return Canary.sung.append, (1,)


def test_a_full_disk_costs_the_checkpoint_and_not_the_training(tiny: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    trainings = Trainings(context(tiny, tmp_path / "file"))
    trainings.advance(Job(spec(steps=8), 1))
    trainings.keep()
    assert isinstance(trainings.advance(Job(spec(steps=8), 3)), Advanced)


def timed_out(result: TrialResult) -> TrialResult:
    """Without its durations."""
    evaluations = tuple(e.model_copy(update={"seconds": 0.0}) for e in result.evaluations)
    return result.model_copy(update={"evaluations": evaluations, "seconds": 0.0, "seconds_per_step": None})


@pytest.mark.parametrize("between", rest_slow(["another process", "nothing", "another training", "a job done again"]))
def test_a_training_cut_at_each_rung_gives_what_one_gives_that_ran_through(
    tiny: Dataset, tmp_path: Path, between: str
) -> None:
    """All that each rung tells, to the last digit."""
    asked, other = spec(steps=8, number=0), spec(steps=8, number=1, family="focal")
    whole = Trainings(context(tiny, tmp_path / "whole")).advance(Job(asked, 8))
    shop, told = context(tiny, tmp_path / "cut"), []
    trainings = Trainings(shop)
    for until in (1, 3, 5, 7):
        answer = trainings.advance(Job(asked, until))
        assert isinstance(answer, Advanced)
        told.append(answer)
        if between == "another training":
            trainings.advance(Job(other, until))
        elif between == "another process":
            trainings.keep()
            trainings = Trainings(shop)
        elif between == "a job done again" and not answer.finished:
            trainings.keep()
            for doing in (trainings, Trainings(shop)):
                again = doing.advance(Job(asked, until))
                assert isinstance(again, Advanced) and timed_out(again.result) == timed_out(answer.result)
    assert isinstance(whole, Advanced) and timed_out(told[-1].result) == timed_out(whole.result)
    assert [len(answer.result.evaluations) for answer in told] == [1, 2, 3, 4]
    assert not checkpoint_path(shop.checkpoints, asked).exists()


def test_the_time_that_a_training_waits_in_memory_is_not_its_own(tiny: Dataset) -> None:
    now = [0.0]
    given = (spec(steps=8), Conditions(dataset=tiny, recipe=FOUR, seed=0), open_store(tiny.store), "cpu")
    training = Training(*given, clock=lambda: now[0])
    training.advance()
    now[0] += 1000
    assert training.advance().seconds == training.result("pruned").seconds == 0


def test_trainings_of_one_seed_share_their_initial_network_and_nothing_else(tiny: Dataset) -> None:
    starts = Starts()
    asked: dict[str, Any] = {"channels": 3, "class_pixels": tiny.class_pixels(), "task": tiny.task}
    one, two, other = (starts.model(SMALL, seed=seed, **asked) for seed in (0, 0, 1))
    fresh = build_model(SMALL, seed=0, **asked)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), fresh.state_dict().values(), strict=True))
    with torch.no_grad():
        next(one.parameters()).zero_()
    assert not torch.equal(next(one.parameters()), next(two.parameters()))
    assert not torch.equal(next(two.parameters()), next(other.parameters()))
