"""The context that all trainings of a process share: conditions, pixels and device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sweeper.core.records import Conditions
from sweeper.data.store import PixelStore, open_store
from sweeper.training.batches import Crop, cut_crops
from sweeper.training.hardware import move_to_device
from sweeper.training.resident_store import ResidentStore, make_resident_store


@dataclass(frozen=True)
class TrainingContext:
    """Conditions, pixels and device, shared by the trainings of one process."""

    conditions: Conditions
    store: PixelStore
    device: torch.device
    resident: ResidentStore | None = None
    """The store's pixels on the device; None = the processor cuts crops."""

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
