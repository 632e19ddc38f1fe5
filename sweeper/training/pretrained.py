"""Pretrained weights of the libraries' encoders: their source, local cache and input normalisation.

Importing this module does not import torch; most of its functions do.
"""

from __future__ import annotations

import json
import logging
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import constants
from safetensors import SafetensorError, safe_open

from sweeper.core.recipe import IMAGENET_MEAN, IMAGENET_STD, Channels

constants.HF_HUB_DISABLE_TELEMETRY = True  # telemetry makes each process query the hub, even with a cache
WEIGHTS = "model.safetensors"
ANSWER_SECONDS = 10.0
"""Timeout of the hub's first response."""
_HALF: Channels = (0.5, 0.5, 0.5)
_DPN: tuple[Channels, Channels] = ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)
_CUSTOMS = {
    "inception": (_HALF, _HALF),
    "xception": (_HALF, _HALF),
    "timm-tf_efficientnet_lite": (_HALF, _HALF),
    "dpn": _DPN,
}
"""Prefix of an encoder's name in segmentation-models-pytorch → mean and deviation, if not ImageNet's."""


class WeightsSource(NamedTuple):
    """Location of an encoder's ImageNet weights on Hugging Face's Hub."""

    repository: str
    revision: str | None
    """None = the newest."""
    files: tuple[str, ...]
    """The weights last."""

    def find_cached(self, file: str) -> Path | None:
        """Return the file's path in the local cache, or None; never downloads."""
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(self.repository, file, revision=self.revision)
        return Path(path) if isinstance(path, str) else None


class PendingDownload(NamedTuple):
    """A download that is about to begin."""

    url: str
    size: int | None
    """Bytes; None = unknown."""


class EncoderInputs(NamedTuple):
    """Mean and standard deviation of the inputs in pretraining: RGB, full scale 1."""

    mean: Channels
    std: Channels


def get_timm_name(encoder: str) -> str | None:
    """Return timm's name of an encoder that segmentation-models-pytorch takes from timm; None for its own encoders."""
    from segmentation_models_pytorch.encoders import is_equivalent_to_timm_universal

    if is_equivalent_to_timm_universal(encoder):  # as in `get_encoder`
        return encoder.removeprefix("timm-").replace("mobilenetv3", "tf_mobilenetv3")
    return encoder.removeprefix("tu-") if encoder.startswith("tu-") else None


def find_imagenet_source(encoder: str) -> WeightsSource | None:
    """Return the library's source of an encoder's ImageNet weights; None if there are none."""
    from segmentation_models_pytorch.encoders import encoders

    name = get_timm_name(encoder)
    if name is not None:
        repository = getattr(_read_timm_config(name), "hf_hub_id", None)
        return None if repository is None else WeightsSource(repository, None, (WEIGHTS,))
    settings = encoders.get(encoder, {}).get("pretrained_settings", {}).get("imagenet")
    return (
        None if settings is None else WeightsSource(settings["repo_id"], settings["revision"], ("config.json", WEIGHTS))
    )


def get_encoder_inputs(encoder: str) -> EncoderInputs:
    """Return the input normalisation of an encoder's published weights, from its library's configuration.

    For segmentation-models-pytorch's own encoders the configuration is with the weights in the local cache; without it
    the usual values of the network's family apply, ImageNet's for most.
    """
    name, source = get_timm_name(encoder), find_imagenet_source(encoder)
    config: Any = None if name is None else _read_timm_config(name)
    if config is not None:
        return EncoderInputs(tuple(config.mean), tuple(config.std))
    file = None if source is None else source.find_cached("config.json")
    if file is not None:
        content = json.loads(file.read_text("utf-8"))
        top = content.get("input_range", [0, 1])[1]
        mean, std = (tuple(value / top for value in content[key]) for key in ("mean", "std"))
        return EncoderInputs(mean, std)
    customs = (pair for start, pair in _CUSTOMS.items() if encoder.startswith(start))
    return EncoderInputs(*next(customs, (IMAGENET_MEAN, IMAGENET_STD)))


def _read_timm_config(name: str) -> object | None:
    import timm

    return timm.models.get_pretrained_cfg(name) if timm.models.is_model_pretrained(name) else None


# --- From the hub ---


def explain_missing_hub() -> str | None:
    """Return why neither the hub nor its cache can be used here; None if they may be tried."""
    offline = constants.HF_HUB_OFFLINE and not any(Path(constants.HF_HUB_CACHE).glob("models--*"))
    return _OFFLINE if offline else None


_OFFLINE = "HF_HUB_OFFLINE forbids it"


def fetch_imagenet(pipe: Connection, encoder: str) -> None:
    """Load an encoder's ImageNet weights into the local cache, and send their `EncoderInputs`, or an error (str).

    Run it in a separate process that may be ended at any time, because the libraries retry for long. It first sends
    None when the libraries are loaded, and a `PendingDownload` before a download.
    """
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)  # it logs each retry
    try:
        source = find_imagenet_source(encoder)
        pipe.send(None)
        pipe.send(_fetch_missing(pipe, source) or get_encoder_inputs(encoder))
    except Exception as error:  # hub, network, disk and libraries each raise their own
        line = (str(error).strip().splitlines() or [""])[0].partition(" for url")[0]  # the address is in the log
        pipe.send(f"{type(error).__name__}: {line[:160]}".rstrip(": "))


def _fetch_missing(pipe: Connection, source: WeightsSource | None) -> str | None:
    """Download the files missing in the cache, and return why that failed, else None."""
    import huggingface_hub as hub

    if source is None:
        return "its library offers none"
    found = [source.find_cached(file) for file in source.files]
    cached = [path for path in found if path is not None]
    is_there = len(cached) == len(source.files)
    if is_there and _is_whole(cached[-1]):
        return None
    if constants.HF_HUB_OFFLINE:
        return _OFFLINE
    url = hub.hf_hub_url(source.repository, WEIGHTS, revision=source.revision)
    metadata = hub.get_hf_file_metadata(url, timeout=ANSWER_SECONDS)  # one attempt, where a download retries
    pipe.send(PendingDownload(f"{constants.ENDPOINT}/{source.repository}", metadata.size))
    for file in source.files:
        hub.hf_hub_download(source.repository, file, revision=source.revision, force_download=is_there)
    return None


def _is_whole(weights: Path) -> bool:
    """Return whether a file has all its bytes, which a copy onto a full disk lacks."""
    try:
        with safe_open(weights, framework="numpy"):
            return True
    except SafetensorError:
        return False
