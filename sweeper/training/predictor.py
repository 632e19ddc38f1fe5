"""Labels of new images, as the network of a file of weights answers them.

An image that is no larger than a tile is answered whole, as evaluation does it: padded to the network's stride, in the
same precision. A larger one is answered in tiles that overlap; where they do, their logits are mixed with weights that
fall towards a tile's edge, so that no seam shows. Rows that no further tile touches are handed over at once: memory
holds one row of tiles, whatever the image's height.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sweeper.core.calibration import ClassCalibration
from sweeper.core.recipe import Precision
from sweeper.data.store import ImagePixels, Pixels
from sweeper.training.batches import to_inputs
from sweeper.training.counters import labels_of
from sweeper.training.evaluation import HALO, TILE
from sweeper.training.load_weights import load_network
from sweeper.training.training_steps import autocast
from sweeper.training.weights_file import WeightsRecord

OVERLAP = 2 * HALO
"""Pixels that neighbouring tiles have in common; a multiple of every stride, as a tile is."""


class Predicted(NamedTuple):
    """The answer to one image."""

    mask: Pixels
    """(H, W) class indices."""
    probabilities: npt.NDArray[np.float16] | None
    """(C, H, W) of each class, of a binary task (1, H, W) of the foreground; calibrated where the file of weights says
    how."""


class Predictor:
    """A network, with what belongs before and after it."""

    def __init__(
        self,
        path: Path,
        record: WeightsRecord,
        device: str,
        precision: Precision,
        point: float,
        *,
        tile: int = TILE,
        overlap: int = OVERLAP,
    ) -> None:
        """Load the network.

        Args:
            path: file of weights.
            record: its header.
            device: as torch names it.
            precision: of the forward pass.
            point: operating point: threshold in (0, 1) or τ.
            tile: side of a tile in pixels; a multiple of the stride.
            overlap: pixels that neighbouring tiles share; a multiple of the stride, at most half a tile.

        Raises:
            UsageError: if the weights cannot be used.
        """
        self._record, self._precision, self._point = record, precision, point
        self._device = torch.device(device)
        self._tile, self._overlap = tile, overlap
        self._model = load_network(path, record, self._device)
        mean, std = (
            torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1) for values in (record.mean, record.std)
        )
        self._mean, self._std = mean.to(self._device), std.to(self._device)
        self._log_prior = torch.tensor(record.log_prior, dtype=torch.float32, device=self._device)

    @torch.no_grad()
    def answer(self, image: ImagePixels, *, probabilities: bool = False) -> Predicted:
        """Labels of an image.

        Args:
            image: (H, W, channels) of the type that the network was trained on: uint8, or uint16.
            probabilities: whether these are wanted as well.
        """
        height, width = image.shape[:2]
        mask = np.empty((height, width), dtype=np.uint8)
        outputs = 1 if self._record.task == "binary" else len(self._record.classes)
        shares = np.empty((outputs, height, width), dtype=np.float16) if probabilities else None
        for top, logits in self._bands(image):
            finite = torch.nan_to_num(logits)
            rows = slice(top, min(height, top + logits.shape[-2]))
            inside = rows.stop - rows.start
            mask[rows] = labels_of(finite, self._point, self._log_prior)[0, :inside, :width].cpu().numpy()
            if shares is not None:
                shares[:, rows] = self._probabilities(finite)[0, :, :inside, :width].cpu().numpy()
        return Predicted(mask, shares)

    def _probabilities(self, logits: Tensor) -> Tensor:
        known = self._record.calibration
        if isinstance(known, ClassCalibration):
            logits = known.slope * logits + logits.new_tensor(known.biases).view(-1, 1, 1)
        elif known is not None:
            logits = known.slope * logits + known.bias
        return logits.sigmoid() if self._record.task == "binary" else logits.softmax(1)

    def _bands(self, image: ImagePixels) -> Iterator[tuple[int, Tensor]]:
        """First row and logits (1, K, rows, W) of bands that follow each other, of the padded image."""
        stride = 2**self._record.encoder_depth
        height, width = (-(-side // stride) * stride for side in image.shape[:2])
        tops, lefts = self._places(height), self._places(width)
        if len(tops) == len(lefts) == 1:
            yield 0, self._logits(image, 0, 0, height, width)
            return
        high, wide = min(self._tile, height), min(self._tile, width)
        ramp = _ramp(high, self._overlap)[:, None] * _ramp(wide, self._overlap)
        ramp = ramp.to(self._device)
        # Of what the tiles so far say of these rows: the sum of weighted logits, and that of the weights.
        total, weight, first = torch.zeros(0), torch.zeros(0), 0
        for number, top in enumerate(tops):
            last = number == len(tops) - 1
            for left in lefts:
                logits = self._logits(image, top, left, high, wide)
                if not total.numel():
                    total = torch.zeros((1, logits.shape[1], high, width), device=self._device)
                    weight = torch.zeros((high, width), device=self._device)
                total[..., left : left + wide] += logits * ramp
                weight[:, left : left + wide] += ramp
            done = high if last else tops[number + 1] - top
            yield first, total[..., :done, :] / weight[:done]
            first += done
            total = torch.cat([total[..., done:, :], torch.zeros_like(total[..., :done, :])], dim=-2)
            weight = torch.cat([weight[done:], torch.zeros_like(weight[:done])])

    def _places(self, length: int) -> list[int]:
        """Where tiles begin along a side; the last one ends with the side."""
        if length <= self._tile:
            return [0]
        step = self._tile - self._overlap
        count = -(-(length - self._overlap) // step)
        return [min(n * step, length - self._tile) for n in range(count)]

    def _logits(self, image: ImagePixels, top: int, left: int, high: int, wide: int) -> Tensor:
        """Float32 logits (1, K, high, wide) of a part of the image, padded with black below and to the right."""
        part = image[top : top + high, left : left + wide]
        pixels = np.zeros((1, high, wide, image.shape[2]), dtype=image.dtype)
        pixels[0, : part.shape[0], : part.shape[1]] = part
        inputs = to_inputs(torch.from_numpy(pixels).to(self._device), self._mean, self._std)
        with autocast(self._device.type, self._precision):
            logits: Tensor = self._model(inputs)
        return logits.float()


def _ramp(length: int, overlap: int) -> Tensor:
    """Weights along a tile's side (length,): they rise over the overlap from above 0 to 1, and fall again."""
    place = torch.arange(length, dtype=torch.float32)
    return (torch.minimum(place + 1, length - place) / (overlap + 1)).clamp(max=1)
