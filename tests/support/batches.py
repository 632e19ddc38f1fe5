"""A training batch as the steps cut it on the processor."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sweeper.data.store import PixelStore
from sweeper.training.augment import AugmentationDraws
from sweeper.training.batches import cut_crops, draw_crops


def training_batch(
    store: PixelStore, images: tuple[int, ...], *, size: int, **keys: Any
) -> tuple[Tensor, Tensor, AugmentationDraws]:
    """Return images and masks of one step, and the augmentation drawn for them; `keys` as for `crops`."""
    places, draws = draw_crops(store, images, size=size, **keys)
    return *cut_crops(store, places, size, size), draws
