"""Trained networks from images to their result: as ONNX, for programs without torch, and as a module for MLflow.

ONNX's graph takes images with the values of their files and includes the normalisation; its metadata has the
operating point. It is compared with torch before it is kept.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.core.errors import SweeperError, get_cause, require_extra
from sweeper.core.tasks import RULES
from sweeper.system.whole_files import replace_atomically
from sweeper.training.model import load_network
from sweeper.training.weights_file import WeightsRecord

TOLERANCE = 1e-4
"""Largest difference between a logit of torch and of the ONNX runtime, relative to logits above 1."""
OPSET = 18


class _NormalisingNetwork(nn.Module):
    """Network from images (N, C, H, W) with values from 0 to full scale to logits."""

    def __init__(self, network: nn.Module, record: WeightsRecord) -> None:
        super().__init__()
        self.network = network
        scale = torch.tensor(record.full_scale, dtype=torch.float32)
        self.register_buffer("mean", torch.tensor(record.mean).view(1, -1, 1, 1) * scale)
        self.register_buffer("std", torch.tensor(record.std).view(1, -1, 1, 1) * scale)

    def forward(self, images: Tensor) -> Tensor:
        normal = (images - self.mean) / self.std  # type: ignore[operator]
        logits: Tensor = self.network(normal)
        return logits


class MaskNetwork(_NormalisingNetwork):
    """Network from images (N, C, H, W) with values from 0 to full scale to masks (N, H, W) at its operating point.

    Height and width are multiples of the network's stride.
    """

    def __init__(self, weights: Path, record: WeightsRecord) -> None:
        super().__init__(load_network(weights, record, torch.device("cpu")), record)
        rules = RULES[record.task]
        self.is_exclusive, stride = rules.is_exclusive, 2**record.encoder_depth
        point = np.asarray(record.point, dtype=np.float64)
        shift = point * record.log_prior if rules.is_exclusive else np.log(point / (1 - point))
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("bits", torch.arange(rules.count_channels(len(record.classes))).view(-1, 1, 1))
        self.example = np.zeros((2, record.channels, 4 * stride, 5 * stride), np.float32)  # images of a valid size
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return label maps, or for independent classes the bits of those that are there."""
        logits = super().forward(images) - self.shift  # type: ignore[operator]
        if self.is_exclusive:
            return logits.argmax(1)
        return ((logits >= 0).long() << self.bits).sum(1)  # type: ignore[operator]


def write_onnx(weights: Path, record: WeightsRecord, path: Path) -> float:
    """Write the network of a file of weights as ONNX, and compare it with torch on images of two sizes.

    The input `images` is (N, channels, H, W) float32 with values from 0 to the record's full scale; height and width
    are multiples of the network's stride. The output `logits` is (N, 1 or C, H, W). The metadata are `classes`,
    `operating_point`, `log_prior` and `stride` as JSON.

    Args:
        weights: file of weights.
        record: its header.
        path: the ONNX file.

    Returns:
        The largest difference, relative to logits above 1.

    Raises:
        UsageError: if onnx or onnxruntime is not installed.
        SweeperError: if the network cannot be converted, or its logits differ from torch's.
        OSError: if the file cannot be written.
    """
    with require_extra("--onnx", "onnx and onnxruntime", "onnx"):
        import onnx
        import onnxruntime
    network = _NormalisingNetwork(load_network(weights, record, torch.device("cpu")), record).eval()
    stride = 2**record.encoder_depth
    with replace_atomically(path) as part:
        _export_onnx(network, record, 4 * stride, part)
        model = onnx.load(part)
        metadata = {
            "classes": record.classes,
            "operating_point": record.point,
            "log_prior": record.log_prior,
            "stride": stride,
            "full_scale": record.full_scale,
        }
        for key, value in metadata.items():
            model.metadata_props.add(key=f"sweeper.{key}", value=json.dumps(value))
        onnx.save(model, part)
        session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])
        sizes = ((2, 4 * stride, 4 * stride), (1, 5 * stride, 7 * stride))
        apart = max(_measure_difference(network, session, record, sides) for sides in sizes)
        if apart > TOLERANCE:
            raise SweeperError(
                f"the ONNX file must answer as torch does to {TOLERANCE:g}, and differs by {apart:.2g}; it was not "
                "written. Another version of onnxruntime, or --arch, may do better"
            )
    return apart


def _export_onnx(network: nn.Module, record: WeightsRecord, side: int, path: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's internal warnings
            torch.onnx.export(
                network,
                (torch.zeros(2, record.channels, side, side),),
                path,
                input_names=["images"],
                output_names=["logits"],
                dynamic_axes={"images": {0: "n", 2: "height", 3: "width"}, "logits": {0: "n", 2: "height", 3: "width"}},
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:  # each architecture raises its own
        text = get_cause(error)
        model = record.model
        name = f"`{record.arch}` with encoder `{record.encoder}`" if model is None else f"`{model.name}`"
        raise SweeperError(f"{name} cannot be written as ONNX: {text}") from error


def _measure_difference(network: nn.Module, session: Any, record: WeightsRecord, sides: tuple[int, int, int]) -> float:
    """Return the largest difference of the logits for random images, relative to logits above 1."""
    count, height, width = sides
    shape = (count, record.channels, height, width)
    images = np.random.default_rng(0).integers(0, record.full_scale + 1, shape).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    (exported,) = session.run(["logits"], {"images": images})
    return float((np.abs(exported - expected) / np.maximum(1, np.abs(expected))).max())
