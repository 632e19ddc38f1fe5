"""A network from its file of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from sweeper.core.errors import UsageError
from sweeper.core.own_code import OwnCode
from sweeper.training.failure_causes import not_its_own
from sweeper.training.model import outputs_of
from sweeper.training.own_model import build_own
from sweeper.training.weights_file import WeightsRecord, check


def load_network(path: Path, record: WeightsRecord, device: torch.device) -> nn.Module:
    """The network of a file of weights, ready to predict.

    Args:
        path: the file.
        record: what its header says (`read_record`).
        device: where it is put.

    Returns:
        A module from (N, channels, H, W) float to logits (N, 1 or C, H, W); H and W multiples of 2^depth.

    Raises:
        UsageError: if the file cannot be read, is not as it was written, or its weights do not fit the network that its
            header describes.
    """
    check(path)
    if record.model is not None:
        return _own_network(path, record, record.model, device)
    import segmentation_models_pytorch as smp

    settings: dict[str, Any] = {"encoder_depth": record.encoder_depth}
    if record.decoder_channels is not None:
        settings["decoder_channels"] = record.decoder_channels
    try:
        state = load_file(path)
        with torch.random.fork_rng():  # the initial weights are drawn, and replaced
            model: nn.Module = smp.create_model(
                record.arch,
                encoder_name=record.encoder,
                encoder_weights=None,
                in_channels=record.channels,
                classes=1 if record.task == "binary" else len(record.classes),
                **settings,
            )
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"the weights {path} must be readable, and reading them failed: {error}") from error
    except Exception as error:  # each of some hundred encoders refuses in its own way
        if not_its_own(error):
            raise
        text = " ".join(str(error).split())[:300]
        raise UsageError(
            f"the weights {path} must fit `{record.arch}` with encoder `{record.encoder}` at depth "
            f"{record.encoder_depth}, as their header says: {text}; train them again"
        ) from error
    # What is missing are stages of the encoder that a network of this depth never calls.
    if unexpected or not all(name.startswith("encoder.") for name in missing):
        raise UsageError(
            f"the weights {path} must fit the network that their header describes, found {len(unexpected)} unexpected "
            f"and {len(missing)} missing tensors; train them again"
        )
    ready: nn.Module = model.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ready


def _own_network(path: Path, record: WeightsRecord, code: OwnCode, device: torch.device) -> nn.Module:
    """The same of a network of the user's.

    Raises:
        UsageError: if its code is not there, or has changed, or the weights do not fit.
    """
    outputs = outputs_of(record.task, len(record.classes))
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"the weights {path} must be readable, and reading them failed: {error}") from error
    with torch.random.fork_rng():  # the initial weights are drawn, and replaced
        model = build_own(code, channels=record.channels, outputs=outputs)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        text = " ".join(str(error).split())[:300]
        raise UsageError(f"the weights {path} must fit the network of {code.name}: {text}; train it again") from error
    ready: nn.Module = model.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ready
