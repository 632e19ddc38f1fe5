"""Training batches determined by (seed, step): all trials of one seed see the same crops and augmentation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sweeper.core.recipe import Augmentation
from sweeper.data.label_maps import MapStore
from sweeper.data.store import PixelStore
from sweeper.training.augment import AugmentationDraws, draw_augmentation

FORGET = 32
"""Steps after which the mapped pages of the images are released; a large data set would slowly fill the memory."""
_ORDER, _CROPS, _MORE = 1, 2, 3


def _make_generator(seed: int, purpose: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, purpose, number])))


def draw_image_indices(count: int, batch_size: int, step: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the positions 0 … count−1 of the images in the batch of `step` (from 0); each epoch is a permutation."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // count
    orders = {int(e): _make_generator(seed, _ORDER, int(e)).permutation(count) for e in np.unique(epochs)}
    return np.array([orders[int(e)][p % count] for e, p in zip(epochs, positions, strict=True)], dtype=np.int64)


class Crop(NamedTuple):
    """Position and size of a crop, in pixels of its image."""

    image: int
    """Index in the store."""
    top: int
    left: int
    height: int
    """At most the side of the batch's crops; the rest is padding, below and to the right."""
    width: int


def draw_crops(
    store: PixelStore,
    images: tuple[int, ...],
    *,
    size: int,
    batch_size: int,
    step: int,
    seed: int,
    augmentation: Augmentation = "light",
) -> tuple[list[Crop], AugmentationDraws]:
    """Draw the crops of one step, at native resolution, and their augmentation.

    Args:
        store: the decoded pixels.
        images: indices of the training images.
        size: side of the square crop; smaller images are padded.
        batch_size: crops in the batch.
        step: number of the step, from 0.
        seed: determines all draws together with `step`.
        augmentation: kind of augmentation.
    """
    rng = _make_generator(seed, _CROPS, step)
    chosen = draw_image_indices(len(images), batch_size, step, seed)
    corners = rng.random((batch_size, 2))
    more = _make_generator(seed, _MORE, step)
    draws = draw_augmentation(rng, more, batch_size, augmentation, key=int(more.integers(2**62)))
    crops = []
    for n, position in enumerate(chosen):
        image = images[position]
        height, width = store.sizes[image]
        top = int(corners[n, 0] * (max(0, height - size) + 1))
        left = int(corners[n, 1] * (max(0, width - size) + 1))
        crops.append(Crop(image, top, left, min(size, height), min(size, width)))
    return crops, draws


def choose_mask_type(store: PixelStore) -> np.dtype[Any]:
    """Return the type of a batch's masks: uint8, else int64, as few kernels support uint16 to uint64."""
    return np.dtype(np.uint8 if store.mask_dtype == np.uint8 else np.int64)


def cut_crops(store: PixelStore, places: list[Crop], height: int, width: int) -> tuple[Tensor, Tensor]:
    """Cut crops of one size, padded below and to the right with black and ignored labels.

    Returns:
        images (N, height, width, channels) in the store's dtype; masks (N, height, width) uint8, or int64 where labels
        are wider.
    """
    images = np.zeros((len(places), height, width, store.channels), dtype=store.dtype)
    masks = np.full((len(places), height, width), store.ignored_label, dtype=choose_mask_type(store))
    for n, (image, top, left, h, w) in enumerate(places):
        images[n, :h, :w] = store.get_image(image)[top : top + h, left : left + w]
        masks[n, :h, :w] = store.get_mask(image)[top : top + h, left : left + w]
    return torch.from_numpy(images), torch.from_numpy(masks)


def map_batch(maps: MapStore, places: list[Crop], size: int) -> Tensor:
    """Cut maps like the crops of their images: (N, channels, size, size) float16, 0 in the padding."""
    cut_maps = np.zeros((len(places), len(maps.labels), size, size), dtype=np.float16)
    for n, (image, top, left, h, w) in enumerate(places):
        cut_maps[n, :, :h, :w] = maps.get_maps(image)[:, top : top + h, left : left + w]
    return torch.from_numpy(cut_maps)


def normalise_inputs(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise (N, H, W, channels) uint8 or uint16 into (N, channels, H, W) float32, channels last in memory."""
    full_scale = 255
    if images.dtype == torch.uint16:  # few kernels support uint16: view it as int16, then mask off the sign extension
        images, full_scale = images.view(torch.int16).int() & 0xFFFF, 65535
    return (images.permute(0, 3, 1, 2).float().div_(full_scale) - mean) / std
