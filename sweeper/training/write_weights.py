"""Writing the averaged weights of a training with the record that rebuilds its network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sweeper.core.calibration import Calibration, ClassCalibration
from sweeper.core.records import Collapse, Conditions, HeldOut, TrainedOn, TrialSpec
from sweeper.data.store import PixelStore
from sweeper.system.whole_files import written_whole
from sweeper.training.weights_file import WeightsRecord, metadata_of, seal


def weights_record(
    spec: TrialSpec,
    conditions: Conditions,
    store: PixelStore,
    *,
    normal: tuple[Tensor, Tensor],
    log_prior: npt.NDArray[np.float64],
    point: float,
    on: TrainedOn = "train",
    collapse: Collapse = Collapse.NONE,
    calibration: Calibration | ClassCalibration | None = None,
    held_out: HeldOut | None = None,
) -> WeightsRecord:
    """What a file of weights says of the training `spec`.

    Args:
        spec: the training.
        conditions: what it was trained under.
        store: the pixels that it was trained on.
        normal: mean and standard deviation of each channel.
        log_prior: (C,) log share of each class among the training pixels.
        point: its operating point.
        on: what it was trained on.
        collapse: whether it learned, where that is known.
        calibration: of its logits, where that is known.
        held_out: its answers on images that it was not trained on, where there are any.
    """
    mean, std = (tuple(tensor.flatten().tolist()) for tensor in normal)
    recipe, dataset = conditions.recipe, conditions.dataset
    return WeightsRecord(
        spec=spec,
        digest=dataset.digest,
        model=recipe.model,
        arch=recipe.arch,
        encoder=recipe.encoder,
        encoder_depth=recipe.encoder_depth,
        decoder_channels=recipe.decoder_channels,
        channels=store.channels,
        task=dataset.task,
        classes=dataset.classes,
        full_scale=int(np.iinfo(store.dtype).max),
        mean=mean,
        std=std,
        point=point,
        log_prior=tuple(log_prior.tolist()),
        versions={"torch": torch.__version__},
        precision=recipe.precision,
        resized=dataset.resized,
        on=on,
        collapse=collapse,
        calibration=calibration,
        held_out=held_out,
    )


def save_weights(path: Path, model: nn.Module, record: WeightsRecord) -> None:
    """Write weights and BatchNorm statistics with a seal, whole or not at all.

    Raises:
        OSError, SafetensorError: if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Copies: parts of one storage are refused, and channels-last is no order of a file.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    with written_whole(path) as part:
        save_file(tensors, part, metadata_of(record))
        seal(part)
