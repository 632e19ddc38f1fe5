"""Transfer of the processor's values to a device."""

from __future__ import annotations

import torch
from torch import Tensor


def move_to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the values on a device, for work that is queued there from now on.

    To a GPU they go from page-locked memory: the processor does not wait until the GPU has done what was begun before.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
