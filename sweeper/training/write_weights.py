"""Writing the averaged weights of a training with the record that rebuilds its network."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from sweeper.training.weights_file import HEADER, WeightsRecord


def save_weights(path: Path, model: nn.Module, record: WeightsRecord) -> None:
    """Write weights and BatchNorm statistics, whole or not at all.

    Raises:
        OSError, SafetensorError: if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    # Copies: parts of one storage are refused, and channels-last is no order of a file.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    try:
        save_file(tensors, part, {HEADER: record.model_dump_json()})
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
