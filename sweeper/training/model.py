"""Build the network from its recipe or from a file of weights.

It is the user's own, or an architecture of segmentation-models-pytorch whose output starts at the classes' log prior.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.core.errors import UsageError, get_cause
from sweeper.core.recipe import IMAGENET_MEAN, IMAGENET_STD, Channels, Recipe
from sweeper.core.tasks import RULES
from sweeper.core.text import suggest_correction
from sweeper.data.store import PixelStore
from sweeper.training.encoder_file import load_encoder
from sweeper.training.own_model import build_own
from sweeper.training.pretrained import WEIGHTS, find_imagenet_source, get_timm_name
from sweeper.training.weights_file import WeightsRecord, check_weights_file


def build_model(recipe: Recipe, *, channels: int, bias: Sequence[float], seed: int) -> nn.Module:
    """Build the network with weights that depend only on `seed`.

    Args:
        recipe: architecture, encoder, depth, encoder weights.
        channels: channels of an image.
        bias: first bias of each output channel, the log prior of its class (`TaskRules.compute_bias`), so that no loss
            spends its first steps on learning the prior (Lin et al. 2017, section 4.1). The user's own network stays
            unchanged.
        seed: seed of the initial weights. The global random state stays unchanged.

    Returns:
        A module from (N, channels, H, W) float to logits (N, C, H, W); H and W multiples of the recipe's stride.

    Raises:
        UsageError: if the library does not know the architecture or encoder, the network fails on images of the
            recipe's size or another, or the encoder weights cannot be read.
    """
    outputs = len(bias)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if recipe.model is not None:
            return build_own(recipe.model, channels=channels, outputs=outputs)
        try:
            model = _build_library_network(recipe, channels, outputs, recipe.encoder_weights == "imagenet")
        except Exception as error:  # some hundred encoders each raise their own
            raise UsageError(
                f"the network could not be built: architecture `{recipe.arch}`, encoder `{recipe.encoder}`"
                f"{_suggest_encoder(recipe.encoder)}, depth {recipe.encoder_depth}, weights "
                f"`{recipe.encoder_weights}`: {get_cause(error, 200)}"
            ) from error
    _drop_unused_stages(model, recipe, channels)
    if recipe.encoder_weights not in {"none", "imagenet"}:
        assert isinstance(model.encoder, nn.Module)
        load_encoder(model.encoder, recipe.encoder, recipe.encoder_weights)
    _set_bias(model, bias)
    return model


def copy_initial_model(recipe: Recipe, *, channels: int, bias: Sequence[float], seed: int) -> nn.Module:
    """Build a network like `build_model`, in an eighth of the time if this process has built the same before."""
    return copy.deepcopy(_build_once(recipe, channels, tuple(bias), seed))


@lru_cache(maxsize=2)  # a search has one seed, a confirmation proceeds seed by seed
def _build_once(recipe: Recipe, channels: int, bias: tuple[float, ...], seed: int) -> nn.Module:
    return build_model(recipe, channels=channels, bias=bias, seed=seed)


def _suggest_encoder(name: str) -> str:
    """Return a correction of an encoder's name that neither library knows, else an empty text."""
    import segmentation_models_pytorch as smp
    import timm

    names = [*smp.encoders.get_encoder_names(), *(f"tu-{model}" for model in timm.list_models())]
    return "" if name in names else suggest_correction(name, names)


def _build_library_network(described: Recipe | WeightsRecord, channels: int, outputs: int, imagenet: bool) -> nn.Module:
    """Build a network of segmentation-models-pytorch; for an unknown name the library's error is raised."""
    import segmentation_models_pytorch as smp

    settings: dict[str, Any] = {"encoder_depth": described.encoder_depth}
    if described.decoder_channels is not None:
        settings["decoder_channels"] = described.decoder_channels
    weights: Any = "imagenet" if imagenet else None
    if imagenet and get_timm_name(described.encoder) is not None:
        logging.getLogger("timm.models._builder").setLevel(logging.ERROR)  # timm logs the unused head's tensors
        weights, source = True, find_imagenet_source(described.encoder)
        file = None if source is None else source.find_cached(WEIGHTS)
        if file is not None:  # else timm queries the hub
            settings["pretrained_cfg_overlay"] = {"file": str(file), "custom_load": False}
    model: nn.Module = smp.create_model(
        described.arch,
        encoder_name=described.encoder,
        encoder_weights=weights,
        in_channels=channels,
        classes=outputs,
        **settings,
    )
    return model


def load_network(path: Path, record: WeightsRecord, device: torch.device) -> nn.Module:
    """Load the network of a file of weights, ready to predict.

    Args:
        path: the file.
        record: its header (`read_record`).
        device: device of the network.

    Returns:
        A module from (N, channels, H, W) float to logits (N, C, H, W); H and W multiples of 2^depth.

    Raises:
        UsageError: if the file cannot be read or is damaged, its weights do not fit the network in its header, or the
            user's code of the network is missing or has changed.
    """
    from safetensors.torch import load_file

    check_weights_file(path)
    outputs = RULES[record.task].count_channels(len(record.classes))
    try:
        with torch.random.fork_rng():  # the initial weights are drawn, then replaced
            if record.model is not None:
                model = build_own(record.model, channels=record.channels, outputs=outputs)
            else:
                model = _build_library_network(record, record.channels, outputs, imagenet=False)
        missing, unexpected = model.load_state_dict(load_file(path), strict=False)
    except UsageError:
        raise
    except Exception as error:  # some hundred encoders each raise their own
        raise _explain_unfit(path, record, get_cause(error)) from error
    # Only encoder stages that a network of this depth never calls may be missing.
    if unexpected or not all(record.model is None and name.startswith("encoder.") for name in missing):
        raise _explain_unfit(path, record, f"found {len(unexpected)} unexpected and {len(missing)} missing tensors")
    ready: nn.Module = model.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ready


def _explain_unfit(path: Path, record: WeightsRecord, why: str) -> UsageError:
    network_name = f"`{record.arch}` with encoder `{record.encoder}` at depth {record.encoder_depth}"
    network = network_name if record.model is None else f"the network of {record.model.name}"
    return UsageError(f"the weights {path} must fit {network}, as their header says: {why}; train them again")


def _drop_unused_stages(model: nn.Module, recipe: Recipe, channels: int) -> None:
    """Remove the encoder's stages that are called neither for a training crop nor for an image of another size.

    A network of this depth need not copy and store them.

    Raises:
        UsageError: if the logits of one of the two do not have its height and width.
    """
    encoder = model.encoder
    assert isinstance(encoder, nn.Module)
    called: set[str] = set()
    hooks = [
        child.register_forward_hook(lambda *_, name=name: called.add(name)) for name, child in encoder.named_children()
    ]
    training = model.training
    model.eval()
    try:
        require_answer(model, recipe, channels, recipe.size, recipe.size)
        # Scoring predicts whole images, padded to the stride: a network for only one size would fail.
        require_answer(model, recipe, channels, recipe.size, recipe.size + recipe.stride)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    for name, child in list(encoder.named_children()):
        # Containers (ModuleList) are indexed, not called, and stay, because their members may run.
        if name not in called and not isinstance(child, nn.ModuleList | nn.ModuleDict):
            setattr(encoder, name, nn.Identity())


def require_answer(model: nn.Module, recipe: Recipe, channels: int, height: int, width: int) -> None:
    """Refuse a network whose logits for images (1, channels, height, width) have another height or width.

    Raises:
        UsageError: with the library's message, and whether larger images would work.
    """
    what = f"architecture `{recipe.arch}` with encoder `{recipe.encoder}` at depth {recipe.encoder_depth}"
    try:
        answered = _compute_answer_shape(model, (1, channels, height, width))
    except Exception as error:  # some hundred encoders each raise their own
        text = get_cause(error)
        raise UsageError(
            f"{what} must answer images of every height and width that is a multiple of {recipe.stride}, as training "
            f"crops and whole images for scoring are; it fails on {height}×{width}: {text}; choose another --encoder, "
            "or, if it only needs more pixels, larger images and --size"
        ) from error
    if answered[-2:] != (height, width):
        raise UsageError(
            f"{what} must answer at the image's own height and width, and gives {answered[-2]}×{answered[-1]} for "
            f"{height}×{width}; choose another --arch or --encoder"
        )


@torch.no_grad()
def _compute_answer_shape(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the logits' shape for an image (1, channels, H, W), without computing them if the encoder allows it."""
    meta = {n: torch.empty_like(v, device="meta") for n, v in [*model.named_parameters(), *model.named_buffers()]}
    try:
        answer = torch.func.functional_call(model, meta, (torch.empty(shape, device="meta"),))
    except Exception:  # some encoders need values, and errors are clearer with values
        answer = model(torch.zeros(shape))
    return tuple(answer.shape)


def _set_bias(model: nn.Module, values: Sequence[float]) -> None:
    convolutions = [m for m in model.segmentation_head.modules() if isinstance(m, nn.Conv2d)]  # type: ignore[union-attr]
    bias = convolutions[-1].bias
    assert bias is not None
    with torch.no_grad():
        bias.copy_(torch.as_tensor(values, dtype=bias.dtype))


class WeightAverage:
    """Exponential moving average of weights and BatchNorm statistics, so that rungs are comparable.

    The decay warms up as min(1 − 1/horizon, (1 + t)/(10 + t)), so that the initial weights do not dominate early
    evaluations. Parameters that the network never uses (deep stages of a cut encoder) are skipped.
    """

    def __init__(self, model: nn.Module, horizon: float) -> None:
        self.model = copy.deepcopy(model).eval()
        self._limit = 1 - 1 / max(1.0, horizon)
        self.updates = 0
        """Number of updates so far."""
        self._live: list[Tensor] = []
        self._averaged: list[Tensor] = []

    def get_update_weight(self, update: int) -> float:
        """Return the new weights' share in the average at this update (from 0)."""
        return 1 - min(self._limit, (1 + update) / (10 + update))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Add the weights after an optimiser step to the average; call it while gradients exist."""
        self._pair_tensors(model)
        torch._foreach_lerp_(self._averaged, self._live, self.get_update_weight(self.updates))
        self.updates += 1

    @torch.no_grad()
    def update_by(self, model: nn.Module, weight: Tensor) -> None:
        """Update with the weight as a scalar tensor on the device, so that a CUDA graph can record it.

        The caller counts `updates`.
        """
        self._pair_tensors(model)
        change = torch._foreach_sub(self._live, self._averaged)
        torch._foreach_mul_(change, weight)
        torch._foreach_add_(self._averaged, change)

    def _pair_tensors(self, model: nn.Module) -> None:
        if self._live:
            return
        for live, mean in zip(model.parameters(), self.model.parameters(), strict=True):
            if live.grad is not None:
                self._live.append(live.detach())
                self._averaged.append(mean.detach())
        for buffer, mean_buffer in zip(model.buffers(), self.model.buffers(), strict=True):
            if buffer.is_floating_point():
                self._live.append(buffer)
                self._averaged.append(mean_buffer)


def make_normaliser(
    store: PixelStore, images: Sequence[int], mean_std: tuple[Channels, Channels] = (IMAGENET_MEAN, IMAGENET_STD)
) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, (1, channels, 1, 1), of images whose full scale is 1.

    8-bit grey and RGB images use the recipe's values. All other channels are normalised to mean 0 and deviation 1 over
    some of the training images.

    Args:
        store: the decoded pixels.
        images: indices of the training images; of many every n-th is read, at least 64 and fewer than 128, and of large
            ones every n-th row.
        mean_std: the recipe's values for RGB.
    """
    if store.dtype == np.uint8 and store.channels in {1, 3}:
        mean, std = torch.tensor(mean_std[0]), torch.tensor(mean_std[1])
        if store.channels == 1:
            mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
        return mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)
    count = 0
    sums = np.zeros((2, store.channels))
    for index in images[:: max(1, len(images) // 64)]:
        image = store.get_image(index)
        rows = max(1, image.shape[0] * image.shape[1] // 2**16)
        values = image[::rows].reshape(-1, store.channels) / np.iinfo(store.dtype).max
        sums += values.sum(axis=0), (values**2).sum(axis=0)
        count += len(values)
    means, squares = sums / count
    # A constant channel becomes 0, without a division by 0.
    deviations = np.maximum(np.sqrt(np.maximum(0, squares - means**2)), 1e-4)
    both = torch.as_tensor(np.stack([means, deviations]), dtype=torch.float32).view(2, 1, -1, 1, 1)
    return both[0], both[1]
