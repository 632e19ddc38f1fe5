"""Predict labels of new images with the network of a file of weights.

Each image is predicted as in evaluation: padded to the network's stride, in the same precision, a large one in tiles
with some of their surroundings. Memory needs only the logits of one tile, whatever the image's size.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sweeper.core.label_planes import LabelMap, choose_label_type
from sweeper.core.recipe import Precision
from sweeper.core.records import OperatingPoint
from sweeper.core.tasks import RULES
from sweeper.data.store import ImagePixels
from sweeper.training.batches import normalise_inputs
from sweeper.training.counters import decide_labels
from sweeper.training.evaluation import list_tiles
from sweeper.training.model import load_network
from sweeper.training.training_steps import use_precision
from sweeper.training.weights_file import WeightsRecord


class PredictedLabels(NamedTuple):
    """The prediction for one image."""

    mask: LabelMap
    """(H, W) class indices, or the bits of the classes of a multi-label task."""
    probabilities: npt.NDArray[np.float16] | None
    """(C, H, W), for a binary task (1, H, W) of the foreground."""


class Predictor:
    """A network with its normalisation and operating point."""

    def __init__(
        self, path: Path, record: WeightsRecord, device: str, precision: Precision, point: OperatingPoint
    ) -> None:
        """Load the network.

        Args:
            path: file of weights.
            record: its header.
            device: a torch device.
            precision: precision of the forward pass.
            point: operating point.

        Raises:
            UsageError: if the weights cannot be used.
        """
        self._record, self._precision, self._point = record, precision, point
        self._device = torch.device(device)
        self._model = load_network(path, record, self._device)
        mean, std = (
            torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1) for values in (record.mean, record.std)
        )
        self._mean, self._std = mean.to(self._device), std.to(self._device)
        self._rules, self._log_prior = RULES[record.task], None
        if self._rules.is_exclusive:
            self._log_prior = torch.tensor(record.log_prior, dtype=torch.float32, device=self._device)

    @torch.no_grad()
    def predict_labels(self, image: ImagePixels, *, probabilities: bool = False) -> PredictedLabels:
        """Predict the labels of an image.

        Args:
            image: (H, W, channels) in the dtype of the training images: uint8 or uint16.
            probabilities: whether to return probabilities, too.
        """
        height, width = image.shape[:2]
        classes = len(self._record.classes)
        mask = np.empty((height, width), dtype=choose_label_type(classes * self._rules.has_planes))
        outputs = self._rules.count_channels(classes)
        shares = np.empty((outputs, height, width), dtype=np.float16) if probabilities else None
        stride = 2**self._record.encoder_depth
        for part in list_tiles(-(-height // stride) * stride, -(-width // stride) * stride):
            logits = torch.nan_to_num(self._compute_logits(image, part.seen))[(..., *part.kept)]
            high, wide = mask[part.place].shape  # without the padding
            mask[part.place] = decide_labels(logits, self._point, self._log_prior)[0, :high, :wide].cpu().numpy()
            if shares is not None:
                values = logits.softmax(1) if self._rules.is_exclusive else logits.sigmoid()
                shares[(..., *part.place)] = values[0, :, :high, :wide].cpu().numpy()
        return PredictedLabels(mask, shares)

    def _compute_logits(self, image: ImagePixels, seen: tuple[slice, slice]) -> Tensor:
        """Compute float32 logits (1, K, h, w) of a part of the image, padded with black below and to the right."""
        part = image[seen]
        high, wide = (side.stop - side.start for side in seen)
        pixels = np.zeros((1, high, wide, image.shape[2]), dtype=image.dtype)
        pixels[0, : part.shape[0], : part.shape[1]] = part
        inputs = normalise_inputs(torch.from_numpy(pixels).to(self._device), self._mean, self._std)
        with use_precision(self._device.type, self._precision):
            logits: Tensor = self._model(inputs)
        return logits.float()
