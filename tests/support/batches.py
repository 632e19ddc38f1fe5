"""A training batch as the steps cut it on the processor."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sweeper.data.store import PixelStore
from sweeper.training.augment import Draws
from sweeper.training.batches import crops, cut


def training_batch(
    store: PixelStore, images: tuple[int, ...], *, size: int, **keys: Any
) -> tuple[Tensor, Tensor, Draws]:
    """Images and masks of one step, and the augmentation drawn for them; `keys` as for `crops`."""
    places, draws = crops(store, images, size=size, **keys)
    return *cut(store, places, size), draws
