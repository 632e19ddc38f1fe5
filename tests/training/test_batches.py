"""Training batches: what they depend on, where their crops are, and how they are augmented."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from sweeper.core.records import IGNORE, Dataset
from sweeper.data import open_store
from sweeper.training.augment import AugmentationDraws, augment, draw_augmentation
from sweeper.training.batches import draw_image_indices, normalise_inputs
from tests.support.batches import training_batch


def test_batches_depend_only_on_seed_and_step(tiny: Dataset) -> None:
    store = open_store(tiny.store)
    keys: dict[str, Any] = {"size": 32, "batch_size": 4}
    one = training_batch(store, (0, 1, 2, 3, 4), step=3, seed=7, **keys)
    again = training_batch(store, (0, 1, 2, 3, 4), step=3, seed=7, **keys)
    other = training_batch(store, (0, 1, 2, 3, 4), step=4, seed=7, **keys)
    assert all(torch.equal(a, b) for a, b in zip(one[:2] + one[2][:3], again[:2] + again[2][:3], strict=True))
    assert not torch.equal(one[0], other[0])


def test_every_image_is_drawn_once_an_epoch() -> None:
    indices = np.concatenate([draw_image_indices(7, 3, step, seed=1) for step in range(7)])
    assert sorted(indices[:7]) == sorted(indices[7:14]) == sorted(indices[14:]) == list(range(7))
    assert list(indices[:7]) != list(indices[7:14])


def test_small_images_are_padded_with_ignored_labels(tiny: Dataset) -> None:
    images, masks, _ = training_batch(open_store(tiny.store), (0,), size=96, batch_size=1, step=0, seed=0)
    assert images.shape == (1, 96, 96, 3)
    assert (masks[:, 64:] == IGNORE).all() and (masks[:, :, 64:] == IGNORE).all()
    assert (masks[:, :64, :64] != IGNORE).all()


def test_flips_move_images_and_masks_together() -> None:
    inputs = torch.arange(16.0).view(1, 1, 4, 4).repeat(2, 1, 1, 1)
    masks = torch.arange(16).view(1, 4, 4).repeat(2, 1, 1)
    draws = AugmentationDraws(torch.tensor([True, False]), torch.ones(2), torch.zeros(2))
    flipped, moved = augment(inputs, masks, draws)
    assert torch.equal(flipped[:, 0].long(), moved)
    assert torch.equal(moved[0], masks[0].flip(-1)) and torch.equal(moved[1], masks[1])
    upside, under = augment(inputs, masks, draws._replace(upside=torch.tensor([False, True])))
    assert torch.equal(upside[:, 0].long(), under) and torch.equal(under[1], masks[1].flip(-2))


def test_a_quarter_turn_moves_images_and_masks_together_and_a_zoom_enlarges_both() -> None:
    masks = torch.arange(64).view(1, 8, 8)
    still = AugmentationDraws(torch.tensor([False]), torch.ones(1), torch.zeros(1), torch.tensor([False]))
    turn = still._replace(angle=torch.tensor([math.pi / 2]), zoom=torch.ones(1), noise=torch.zeros(1))
    inputs, moved = augment(masks.float().unsqueeze(1), masks, turn)
    assert torch.equal(moved[0], masks[0].rot90(1)) or torch.equal(moved[0], masks[0].rot90(-1))
    assert torch.allclose(inputs[:, 0], moved.float(), atol=1e-3)
    bits = masks + 2**33 * masks  # more digits than a float32 has
    ignored = torch.iinfo(torch.int64).max
    _, wide = augment(bits.float().unsqueeze(1), bits, turn._replace(angle=torch.tensor([0.3])), ignored)
    assert set(wide.unique().tolist()) <= {*bits.unique().tolist(), ignored} and (wide == ignored).any()
    square = torch.zeros(1, 32, 32, dtype=torch.long)
    square[:, 12:20, 12:20] = 1
    zoom = still._replace(angle=torch.zeros(1), zoom=torch.tensor([1.5]), noise=torch.zeros(1))
    _, larger = augment(square.float().unsqueeze(1), square, zoom)
    assert int(larger.sum()) == 12 * 12
    _, smaller = augment(square.float().unsqueeze(1), square, zoom._replace(zoom=torch.tensor([0.5])))
    assert (smaller[:, :7] == IGNORE).all() and int((smaller == 1).sum()) == 4 * 4


def test_full_augmentation_mixes_no_labels_and_depends_on_the_step(tiny: Dataset) -> None:
    store = open_store(tiny.store)
    keys: dict[str, Any] = {"size": 48, "batch_size": 6, "seed": 3, "augmentation": "full"}
    batches = []
    for step in (2, 2, 5):
        images, masks, draws = training_batch(store, (0, 1, 2, 3, 4), step=step, **keys)
        inputs = normalise_inputs(images, torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
        batches.append(augment(inputs, masks.long(), draws))
    assert all(torch.equal(a, b) for a, b in zip(batches[0], batches[1], strict=True))
    assert not torch.equal(batches[0][0], batches[2][0])
    assert set(batches[0][1].unique().tolist()) <= {0, 1, IGNORE}
    plain = training_batch(store, (0, 1, 2, 3, 4), step=2, **{**keys, "augmentation": "light"})
    assert torch.equal(plain[1], training_batch(store, (0, 1, 2, 3, 4), step=2, **keys)[1])  # the same crops


def test_augmentation_none_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    inputs, masks = torch.rand(4, 3, 8, 8), torch.randint(0, 2, (4, 8, 8))
    same, labels = augment(inputs, masks, draw_augmentation(rng, rng, 4, "none", key=0))
    assert torch.equal(same, inputs) and torch.equal(labels, masks)
