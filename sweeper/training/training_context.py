"""The context that all trainings of a process share: conditions, pixels and device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sweeper.core.records import IGNORE, Conditions, TrialSpec
from sweeper.data.store import PixelStore, open_store
from sweeper.training.batches import Crop, choose_mask_type, cut_crops
from sweeper.training.hardware import move_to_device


@dataclass(frozen=True)
class TrainingContext:
    """Conditions, pixels and device, shared by the trainings of one process."""

    conditions: Conditions
    store: PixelStore
    device: torch.device
    resident: ResidentStore | None = None
    """The store's pixels on the device; None = the processor cuts crops."""

    def adapt_to(self, spec: TrialSpec) -> TrainingContext:
        """Return the context of this training: a final one may have another network."""
        return replace(self, conditions=self.conditions.select(spec))

    def load_crops(self, places: list[Crop], height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return images and masks like `cut_crops`, on the device; a resident store cuts them there."""
        if self.resident is not None:
            return self.resident.cut_crops(move_to_device(torch.tensor(places), self.device), height, width)
        images, masks = cut_crops(self.store, places, height, width)
        return move_to_device(images, self.device), move_to_device(masks, self.device)


def open_context(conditions: Conditions, place: str) -> TrainingContext:
    """Create the context of a process's trainings, with the pixels on its GPU if they fit.

    Args:
        conditions: conditions of the trainings; their data set's store is opened.
        place: a torch device.
    """
    store, device = open_store(conditions.dataset.store), torch.device(place)
    return TrainingContext(conditions, store, device, make_resident_store(store, device))


SHARE = 0.25
"""Largest share of the device's free memory for the pixels; the rest is for networks."""


class ResidentStore(NamedTuple):
    """All images and masks of a store, one after the other, on one device."""

    images: Tensor
    """(pixels, channels), uint8; or int16 with the bits of uint16."""
    masks: Tensor
    """(pixels,) uint8, or int64 where labels are wider."""
    starts: Tensor
    """(images,) int64: the first pixel of each image."""
    widths: Tensor
    """(images,) int64."""
    ignored_label: int = IGNORE

    def cut_crops(self, places: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Cut crops of one size, padded below and to the right with black and ignored labels.

        Args:
            places: (N, 5) int64, a `Crop` in each row: image, top, left, and the height and width within the image.
            height: height of the crops in pixels, at least that of each place.
            width: width of the crops in pixels, at least that of each place.

        Returns:
            images (N, height, width, channels) uint8 or uint16; masks (N, height, width).
        """
        image, top, left, high, wide = places.unbind(1)
        rows = torch.arange(height, device=places.device)
        columns = torch.arange(width, device=places.device)
        inside = (rows < high[:, None])[:, :, None] & (columns < wide[:, None])[:, None, :]
        row = (top[:, None] + rows) * self.widths[image][:, None]
        column = left[:, None] + columns
        pixel = self.starts[image][:, None, None] + row[:, :, None] + column[:, None, :]
        pixel = torch.where(inside, pixel, 0)
        images = torch.where(inside.unsqueeze(-1), self.images[pixel], 0)
        masks = torch.where(inside, self.masks[pixel], self.ignored_label).to(self.masks.dtype)
        return (images.view(torch.uint16) if images.dtype == torch.int16 else images), masks


def make_resident_store(store: PixelStore, device: torch.device) -> ResidentStore | None:
    """Copy the store to a GPU; None on other devices, or if it exceeds its share of the free memory."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return upload_store(store, device) if count_bytes(store) <= SHARE * free else None


def count_bytes(store: PixelStore) -> int:
    """Return the memory of the images and masks, in bytes."""
    pixels = sum(height * width for height, width in store.sizes)
    return pixels * (store.channels * store.dtype.itemsize + choose_mask_type(store).itemsize)


def upload_store(store: PixelStore, device: torch.device) -> ResidentStore:
    """Copy the store to a device, image by image.

    Raises:
        torch.OutOfMemoryError: if the memory is too small.
    """
    areas = np.array([height * width for height, width in store.sizes], dtype=np.int64)
    starts = np.concatenate([[0], areas.cumsum()])
    bits = torch.uint8 if store.dtype == np.uint8 else torch.int16
    images = torch.empty((int(starts[-1]), store.channels), dtype=bits, device=device)
    kind = choose_mask_type(store)
    masks = torch.empty(int(starts[-1]), dtype=getattr(torch, kind.name), device=device)
    for index in range(len(store)):
        part = slice(int(starts[index]), int(starts[index + 1]))
        pixels = np.ascontiguousarray(store.get_image(index)).reshape(-1, store.channels)
        images[part].copy_(torch.from_numpy(pixels.view(np.int16 if bits == torch.int16 else np.uint8).copy()))
        masks[part].copy_(torch.from_numpy(store.get_mask(index).astype(kind).reshape(-1)))
    store.release_memory()
    widths = torch.tensor([width for _, width in store.sizes], device=device)
    return ResidentStore(images, masks, torch.from_numpy(starts[:-1]).to(device), widths, store.ignored_label)
