"""Augmentation of whole batches as tensor operations on their device, drawn per crop by (seed, step).

`none`: only crops. `light`: left–right flips, contrast and brightness. `full`: also top–bottom flips, rotation by any
angle, zoom, and noise, as in nnU-Net (Isensee et al. 2021). Pixels that a rotation takes from outside the crop are
ignored in the labels.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from sweeper.core.recipe import Augmentation
from sweeper.core.records import IGNORE
from sweeper.training.hardware import move_to_device

LIGHT = 0.2
"""Contrast factors are within 1 ± this, brightness shifts within ± this many standard deviations."""
ANGLE = math.pi / 6
ZOOM = math.log2(1.25)
NOISE = 0.1
"""Upper bound of the noise's standard deviation, in units of the normalised input."""


class AugmentationDraws(NamedTuple):
    """Random draws for the crops of one step, each (N,)."""

    flip: Tensor
    """bool: whether left and right are exchanged."""
    contrast: Tensor
    """float32: factor of the normalised input."""
    brightness: Tensor
    """float32: added to the normalised input."""
    upside: Tensor | None = None
    """bool: whether top and bottom are exchanged; None without full augmentation, like `angle`, `zoom`, `noise`."""
    angle: Tensor | None = None
    """float32, in radians."""
    zoom: Tensor | None = None
    """float32: magnification."""
    noise: Tensor | None = None
    """float32: standard deviation of the noise, in units of the normalised input."""
    key: int = 0
    """Seed of the noise."""

    def to(self, device: torch.device) -> AugmentationDraws:
        """Return the draws on a device."""
        moved: dict[str, Any] = {
            k: move_to_device(v, device) for k, v in self._asdict().items() if isinstance(v, Tensor)
        }
        return self._replace(**moved)


def draw_augmentation(
    rng: np.random.Generator, more: np.random.Generator, count: int, augmentation: Augmentation, key: int
) -> AugmentationDraws:
    """Draw for `count` crops, with `rng` for the light part and `more` for the rest, so that crops never differ."""
    flips = rng.random(count) < 0.5
    light = rng.uniform(-LIGHT, LIGHT, (count, 2))
    if augmentation == "none":
        flips, light = np.zeros_like(flips), np.zeros_like(light)
    base = AugmentationDraws(
        torch.from_numpy(flips),
        torch.from_numpy((1 + light[:, 0]).astype(np.float32)),
        torch.from_numpy(light[:, 1].astype(np.float32)),
    )
    if augmentation != "full":
        return base
    turned = more.uniform(-1, 1, (2, count))
    return base._replace(
        upside=torch.from_numpy(more.random(count) < 0.5),
        angle=torch.from_numpy((ANGLE * turned[0]).astype(np.float32)),
        zoom=torch.from_numpy((2 ** (ZOOM * turned[1])).astype(np.float32)),
        noise=torch.from_numpy(more.uniform(0, NOISE, count).astype(np.float32)),
        key=key,
    )


def augment(
    inputs: Tensor, masks: Tensor, draws: AugmentationDraws, ignored_label: int = IGNORE
) -> tuple[Tensor, Tensor]:
    """Augment normalised inputs (N, C, H, W) and their labels (N, H, W); draws on the same device."""
    inputs, masks = flip_where_drawn(inputs, draws), flip_where_drawn(masks, draws)
    if draws.angle is not None:
        grid = _make_sampling_grid(draws, inputs)
        inputs = grid_sample(inputs, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        # Places are sampled, as float32 has too few digits for the bits of many classes; 0 is outside the crop.
        places = torch.arange(1, masks[0].numel() + 1, device=masks.device, dtype=inputs.dtype).view_as(masks[:1])
        places = places.unsqueeze(1).expand(len(masks), -1, -1, -1)
        sampled = grid_sample(places, grid, mode="nearest", padding_mode="zeros", align_corners=False).long()
        padded = torch.cat([masks.new_full((len(masks), 1), ignored_label), masks.flatten(1)], dim=1)
        masks = padded.gather(1, sampled.flatten(1)).view_as(masks)
    inputs = inputs * _broadcast(draws.contrast, inputs) + _broadcast(draws.brightness, inputs)
    if draws.noise is not None:
        generator = torch.Generator(device=inputs.device).manual_seed(draws.key)
        noise = torch.randn(inputs.shape, generator=generator, device=inputs.device, dtype=inputs.dtype)
        inputs = inputs + _broadcast(draws.noise, inputs) * noise
    return inputs.contiguous(memory_format=torch.channels_last), masks


def augment_distances(maps: Tensor, draws: AugmentationDraws) -> Tensor:
    """Move distances to boundaries (N, C, H, W) like the labels, and scale them by the zoom."""
    maps = flip_where_drawn(maps, draws)
    if draws.angle is None or draws.zoom is None:
        return maps
    wide = maps.float()
    moved = grid_sample(
        wide, _make_sampling_grid(draws, wide), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return (moved * _broadcast(draws.zoom, moved)).to(maps.dtype)


def flip_where_drawn(values: Tensor, draws: AugmentationDraws) -> Tensor:
    """Flip values (N, …, H, W) left–right and top–bottom where drawn."""
    values = torch.where(_broadcast(draws.flip, values), values.flip(-1), values)
    if draws.upside is not None:
        values = torch.where(_broadcast(draws.upside, values), values.flip(-2), values)
    return values


def _broadcast(drawn: Tensor, values: Tensor) -> Tensor:
    return drawn.view(-1, *(1,) * (values.ndim - 1))


def _make_sampling_grid(draws: AugmentationDraws, values: Tensor) -> Tensor:
    """Return the source coordinates of each pixel, (N, H, W, 2), for square crops."""
    assert draws.angle is not None and draws.zoom is not None
    cos, sin = torch.cos(draws.angle) / draws.zoom, torch.sin(draws.angle) / draws.zoom
    none = torch.zeros_like(cos)
    theta = torch.stack([torch.stack([cos, -sin, none], 1), torch.stack([sin, cos, none], 1)], 1)
    return affine_grid(theta, [values.shape[0], 1, *values.shape[-2:]], align_corners=False).to(values.dtype)
