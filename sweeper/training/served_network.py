"""A trained network as others serve it: raw images of any size in, scores at its operating point out."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sweeper.training.weights_file import WeightsRecord

EXAMPLE_SIZE = (48, 40)
"""Height and width of an input example: small, as it is kept as text."""


class ServedNetwork(nn.Module):
    """The network with its normalisation, its padding and its operating point inside.

    The operating point is part of the scores, so that the plain rule gives the answer that was evaluated: binary, a
    pixel is foreground from 0.5 on; multi-class, its class is the one with the highest score.
    """

    mean: Tensor
    std: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, record: WeightsRecord) -> None:
        """`network` gives logits, and has its weights already; `record` is of its file of weights."""
        super().__init__()
        self.network = network.eval()
        # segmentation-models-pytorch asks for sizes that its stride divides; `forward` pads to such.
        if hasattr(network, "requires_divisible_input_shape"):
            network.requires_divisible_input_shape = False  # type: ignore[assignment]
        self._binary, self._stride, self._scale = record.task == "binary", 2**record.encoder_depth, record.full_scale
        shift = (
            [math.log(record.point / (1 - record.point))]
            if self._binary
            else [record.point * prior for prior in record.log_prior]
        )
        for name, values in (("mean", record.mean), ("std", record.std), ("shift", shift)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=True)

    def forward(self, images: Tensor) -> Tensor:
        """Scores of images.

        Args:
            images: (N, channels, H, W) float32, with the values of the files: 0 to 255, or to 65535.

        Returns:
            (N, 1, H, W) in [0, 1], or (N, C, H, W) that sum to 1 over the classes; float32.
        """
        height, width = images.shape[-2:]
        stride = self._stride
        padded = _cut(
            nn.functional.pad(images / self._scale, (0, stride, 0, stride)),
            height + -height % stride,
            width + -width % stride,
        )
        logits = _cut(self.network((padded - self.mean) / self.std), height, width) - self.shift
        return logits.sigmoid() if self._binary else logits.softmax(1)


def _cut(images: Tensor, height: int, width: int) -> Tensor:
    """The upper left part. By indices: of a slice `torch.export` keeps whether it cut anything off the example."""
    rows, columns = (torch.arange(n, device=images.device) for n in (height, width))
    return images.index_select(-2, rows).index_select(-1, columns)


def example_of(record: WeightsRecord) -> npt.NDArray[np.float32]:
    """Noise, (2, channels, 48, 40) float32: from a batch of one image, one for batches of any size is not exported."""
    rng = np.random.default_rng(0)
    return rng.integers(0, record.full_scale, (2, record.channels, *EXAMPLE_SIZE)).astype(np.float32)
