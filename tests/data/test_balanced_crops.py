"""Balanced crops: which they are, where they are centred, and which class frequencies the loss gets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sweeper.core.recipe import Recipe
from sweeper.core.records import IGNORE, Conditions, Dataset, ImageInfo
from sweeper.data import open_store
from sweeper.data.balanced_crops import (
    COUNTED_CROPS,
    count_balanced,
    estimate_pixels_in_crops,
    find_corner_around,
    list_central_classes,
)
from sweeper.data.folds import get_split
from sweeper.data.store import StoreWriter
from sweeper.losses import build_loss, make_snippet
from sweeper.training.batches import cut_crops, draw_crops
from sweeper.training.training_context import open_context
from sweeper.training.training_steps import TrainingSteps
from tests.support import builders
from tests.support.sweeping import run_small_sweep

CPU = torch.device("cpu")
BALANCED = Recipe(size=16, batch_size=3, steps=8, confirm_steps=8, evaluations=2, crops="balanced")
CLASSES = ("road", "sky", "sign", "lamp")


def draw(height: int, width: int, *patches: tuple[int, slice, slice]) -> npt.NDArray[np.uint8]:
    """Return road with patches of other labels."""
    mask = np.zeros((height, width), dtype=np.uint8)
    for label, rows, columns in patches:
        mask[rows, columns] = label
    return mask


MASKS = (
    draw(24, 37, (1, slice(0, 6), slice(0, 37)), (2, slice(20, 22), slice(34, 37)), (3, slice(9, 10), slice(4, 5))),
    draw(30, 12, (3, slice(3, 9), slice(2, 4)), (IGNORE, slice(10, 30), slice(0, 12))),
    draw(9, 9, (2, slice(0, 1), slice(0, 3))),
    draw(20, 20, (IGNORE, slice(0, 5), slice(0, 5))),
)
"""Larger than a crop, narrower than one, smaller than one, and only road."""


@pytest.fixture
def street(tmp_path: Path) -> Dataset:
    with StoreWriter(tmp_path, 3) as writer:
        for mask in MASKS:
            writer.append(np.repeat(mask[:, :, None], 3, axis=2), mask)
        writer.finish()
        folder = writer.publish("street")
    images = tuple(
        ImageInfo(stem=str(n), height=m.shape[0], width=m.shape[1], pixels=tuple(int((m == c).sum()) for c in range(4)))
        for n, m in enumerate(MASKS)
    )
    return builders.dataset(classes=CLASSES, store=str(folder), images=images)


def make_conditions(dataset: Dataset, recipe: Recipe = BALANCED) -> Conditions:
    """Return a study's conditions as `prepare` makes them."""
    crop_pixels = estimate_pixels_in_crops(dataset, open_store(dataset.store), recipe.size, recipe.batch_size)
    return Conditions(dataset=dataset, recipe=recipe, seed=0, crop_pixels=crop_pixels)


# --- Which crops are balanced ---


def test_a_third_of_a_batch_is_balanced_and_rounded_as_nnunet_rounds_it() -> None:
    assert [count_balanced(batch) for batch in (1, 2, 3, 4, 8, 12, 16, 32)] == [1, 1, 1, 1, 3, 4, 5, 11]


def test_no_crop_is_centred_on_background_or_an_absent_class(street: Dataset, tiny: Dataset) -> None:
    assert list_central_classes(street) == ((1, 2, 3), (3,), (2,), ())
    assert set(list_central_classes(tiny)) <= {(1,), ()}
    flooded = street.model_copy(update={"images": (street.images[0].model_copy(update={"pixels": (9, 99, 1, 1)}),)})
    assert list_central_classes(flooded) == ((0, 2, 3),)  # the most common of several is their background
    inverse = tiny.model_copy(update={"images": (tiny.images[0].model_copy(update={"pixels": (9, 99)}),)})
    assert list_central_classes(inverse) == ((1,),)  # of two it is class 0, however rare


def test_other_crops_and_draws_equal_those_of_uniform_crops(street: Dataset) -> None:
    store, keys = open_store(street.store), {"size": 16, "batch_size": 8, "seed": 3}
    central, moved = list_central_classes(street), 0
    for step in range(20):
        uniform, uniform_draws = draw_crops(store, (0, 1, 2, 3), step=step, **keys)  # type: ignore[arg-type]
        balanced, balanced_draws = draw_crops(store, (0, 1, 2, 3), step=step, central=central, **keys)  # type: ignore[arg-type]
        assert balanced[:5] == uniform[:5] and [crop.image for crop in balanced] == [crop.image for crop in uniform]
        assert [crop for crop in uniform if crop.image == 3] == [crop for crop in balanced if crop.image == 3]
        assert all(torch.equal(a, b) for a, b in zip(uniform_draws[:3], balanced_draws[:3], strict=True))
        moved += sum(a != b for a, b in zip(uniform[5:], balanced[5:], strict=True))
    assert moved > 20


# --- Where they are centred ---


def test_crops_are_centred_on_a_pixel_of_the_class_except_at_the_edges() -> None:
    rng = np.random.default_rng(0)
    for mask in MASKS[:3]:
        classes = [c for c in (1, 2, 3) if (mask == c).any()]
        for _ in range(200):
            corner = find_corner_around(mask, classes, rng.random(2), 8)
            middles = mask
            for axis, (at, side) in enumerate(zip(corner, mask.shape, strict=True)):
                assert 0 <= at <= side - 8
                free = range(at, at + 8) if at in (0, side - 8) else [at + 4]
                middles = middles.take(free, axis=axis)
            assert np.isin(middles, classes).any()


def test_all_classes_and_all_pixels_of_a_class_are_equally_likely_centres() -> None:
    """With crops of one pixel the corner is the middle."""
    rng = np.random.default_rng(1)
    drawn = Counter(find_corner_around(MASKS[0], (1, 2, 3), rng.random(2), 1) for _ in range(6000))
    classes = Counter({c: sum(n for at, n in drawn.items() if MASKS[0][at] == c) for c in (0, 1, 2, 3)})
    assert classes[0] == 0 and all(abs(classes[c] - 2000) < 4 * (6000 * 2 / 9) ** 0.5 for c in (1, 2, 3))
    signs = [n for at, n in drawn.items() if MASKS[0][at] == 2]
    assert len(signs) == 6 and all(abs(n - 2000 / 6) < 4 * (2000 / 6) ** 0.5 for n in signs)


# --- Frequencies for the loss ---


def count_by_hand(
    mask: npt.NDArray[np.uint8], central: tuple[int, ...], size: int, share: float
) -> npt.NDArray[np.float64]:
    """Return the pixels of each class in a crop, on average: every corner and every middle in turn."""
    height, width = mask.shape
    tops, lefts = max(0, height - size) + 1, max(0, width - size) + 1

    def count(top: int, left: int) -> npt.NDArray[np.float64]:
        part = mask[top : top + size, left : left + size]
        return np.bincount(part.ravel(), minlength=256)[:4].astype(float)

    anywhere = np.mean([count(top, left) for top in range(tops) for left in range(lefts)], axis=0)
    if not central:
        return anywhere
    each = []
    for label in central:
        middles = np.argwhere(mask == label)
        corners = [(np.clip(r - size // 2, 0, tops - 1), np.clip(c - size // 2, 0, lefts - 1)) for r, c in middles]
        each.append(np.mean([count(*corner) for corner in corners], axis=0))
    total: npt.NDArray[np.float64] = (1 - share) * anywhere + share * np.mean(each, axis=0)
    return total


@pytest.mark.parametrize("size", [1, 7, 16, 24, 40])
@pytest.mark.parametrize("batch", [1, 2, 8])
def test_estimated_pixels_in_crops_equal_a_count_of_all_crops(street: Dataset, size: int, batch: int) -> None:
    estimates = estimate_pixels_in_crops(street, open_store(street.store), size, batch)
    share = count_balanced(batch) / batch
    for mask, central, estimate in zip(MASKS, list_central_classes(street), estimates, strict=True):
        assert estimate == pytest.approx(COUNTED_CROPS * count_by_hand(mask, central, size, share), abs=0.5 + 1e-6)


def test_a_rare_class_occurs_in_crops_as_often_as_estimated(street: Dataset) -> None:
    store, images, central = open_store(street.store), (0, 1, 2, 3), list_central_classes(street)
    expected = make_conditions(street, BALANCED.model_copy(update={"batch_size": 8})).count_pixels_seen(images)
    counts = np.zeros(4)
    for step in range(400):
        places, _ = draw_crops(store, images, size=16, batch_size=8, step=step, seed=0, central=central)
        counts += np.bincount(cut_crops(store, places, 16, 16)[1].numpy().ravel(), minlength=256)[:4]
    assert counts / counts.sum() == pytest.approx(expected / expected.sum(), rel=0.05)
    uniform = Conditions(dataset=street, recipe=Recipe(), seed=0).count_pixels_seen(images)
    assert uniform.tolist() == street.count_class_pixels().tolist()
    assert expected[3] / expected.sum() > 1.3 * uniform[3] / uniform.sum()


def test_bias_and_class_weights_follow_the_crops(street: Dataset) -> None:
    conditions, images = make_conditions(street), (0, 1, 2, 3)
    params = {"class_weight_power": 1.0}
    spec = builders.spec("weighted_ce", params=params)
    crop_pixels = conditions.count_pixels_seen(images)
    steps = TrainingSteps(spec, open_context(conditions, "cpu"), images)
    bias = [module.bias for module in steps.model.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    assert bias is not None and bias.tolist() == pytest.approx(
        np.log(crop_pixels / crop_pixels.sum()).tolist(), rel=1e-5
    )
    logits, labels = torch.randn(2, 4, 5, 5), torch.randint(0, 4, (2, 5, 5))
    values = [
        build_loss("weighted_ce", task="multiclass", class_frequencies=frequencies.tolist(), **params)(logits, labels)
        for frequencies in (crop_pixels, street.count_class_pixels(images))
    ]
    assert steps.criterion(logits, labels) == pytest.approx(values[0]) != pytest.approx(values[1])


# --- Code and report ---


def test_the_snippet_states_its_crops_and_predicts_for_whole_images() -> None:
    arguments: tuple[Any, ...] = ("weighted_ce", {"class_weight_power": 1.0}, "multiclass", ("a", "b"), (6.0, 4.0))
    text = make_snippet(*arguments, point=0.5, image_frequencies=(90.0, 10.0))
    assert "# For balanced crops: a third of each batch" in text
    assert "class_frequencies=(0.6, 0.4)" in text and "log_prior = torch.tensor([0.9, 0.1]).log()" in text
    assert "balanced" not in make_snippet(*arguments, point=0.5)


@pytest.mark.slow
def test_a_sweep_weights_classes_by_its_crops_and_reports_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": "synthetic:blobs?images=15&size=64&foreground=0.3", "crops": "balanced"}
    options |= {"size": 32, "batch_size": 4, "steps": 16, "confirm_steps": 16}
    outcome = run_small_sweep(tmp_path, **options)
    conditions, sweep = outcome.sweep.conditions, outcome.sweep
    crop_pixels = conditions.count_pixels_seen(get_split(conditions, conditions.seed).train)
    assert sweep.imbalance == pytest.approx(crop_pixels[0] / crop_pixels[1])
    assert sweep.imbalance < 0.9 * sweep.profile.imbalance
    report = outcome.paths.markdown.read_text("utf-8")
    assert "Crops are balanced: a third of each batch" in report and "32² balanced crops" in report
    resumed = run_small_sweep(tmp_path, resume=True, **options | {"trials": 8, "data": None})
    assert resumed.sweep.conditions.crop_pixels == conditions.crop_pixels
