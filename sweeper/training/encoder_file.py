"""Load an encoder's weights from the user's file (`--encoder-weights FILE`).

The file may come from timm, torchvision, segmentation-models-pytorch, Lightning or the user's own training.
"""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.core.errors import UsageError, get_cause
from sweeper.training.pretrained import get_timm_name

OPTION = "--encoder-weights"
_INNER = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
"""Keys of a network in a checkpoint, averaged networks first."""
BLANK = torch.empty(0, 0)
"""Stands for a missing tensor; no encoder has one of this shape."""
_MOST_PARTS = 4
"""Most parts of a tensor name's prefix before the encoder's own name: `module.model.encoder.model.`."""


def read_state(path: str) -> dict[str, Tensor]:
    """Read the tensors of a network from safetensors or torch's own format, without unpickling code.

    Raises:
        UsageError: if the file cannot be read as a state dict, or a checkpoint with one.
    """
    if not Path(path).is_file():
        raise UsageError(f"{OPTION} must be auto, imagenet, none or a file, and there is no file {path!r}; correct it")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        return _find_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:  # torch's message recommends to disable the check
        raise UsageError(
            f"{OPTION} {path} must hold tensors alone, and holds something else, or is damaged: what could "
            "run code when it is loaded is not read; save the encoder's state_dict(), or use safetensors"
        ) from error
    except Exception as error:
        text = get_cause(error, 200)
        raise UsageError(f"{OPTION} {path} must be a readable state dict: {text}; check the file") from error


def _find_state_dict(content: Any) -> dict[str, Tensor]:
    """Return the state dict, possibly inside a checkpoint."""
    if not isinstance(content, dict):
        raise TypeError(f"it holds a {type(content).__name__}")
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        return tensors
    for key in _INNER:
        if isinstance(content.get(key), dict):
            return _find_state_dict(content[key])
    raise TypeError(f"it holds no tensors, and none in {', '.join(_INNER)}")


def load_encoder(encoder: nn.Module, name: str, path: str) -> None:
    """Load an encoder's weights from a file.

    Prefixes of tensor names (`module.`, `encoder.`, `model.`), dots and underscores may differ. Heads and decoders are
    disregarded. For images of other than three channels the first layer is adapted as the libraries do.

    Args:
        encoder: the encoder to change.
        name: its name in segmentation-models-pytorch.
        path: the file.

    Raises:
        UsageError: if the file cannot be read, or has weights of another encoder.
    """
    state, wanted = read_state(path), encoder.state_dict()
    start, names = _align_names(state, wanted)
    fitting = {target: _fit_first_layer(state[source], wanted[target]) for target, source in names.items()}
    # Batch counters, missing in files of early versions, have no effect.
    needed = [target for target in wanted if not target.endswith("num_batches_tracked")]
    unfit = [target for target in needed if fitting.get(target, BLANK).shape != wanted[target].shape]
    used = set(names.values())
    unused = [one for one in state if one not in used]
    others = [one.removeprefix(start) for one in unused if one.startswith(start)]
    why = ""
    if unfit:
        why = f"{len(unfit)} of its {len(wanted)} tensors are missing or have another shape, {unfit[0]} among them"
        why += f"; found {min(state)} and {len(state) - 1} more"
    elif strange := _find_unknown_tensors(name, others, [one.removeprefix(start) for one in used]):
        why = f"it holds {len(strange)} tensors more of the same parts, {strange[0]} among them: a larger network's"
    if why:
        raise UsageError(
            f"{OPTION} {path} must hold the weights of the encoder {name}: {why}; give the file of {name}, or the "
            "--encoder that this file is of"
        )
    nn.Module.load_state_dict(encoder, fitting, strict=False)


def check_file(name: str, depth: int, path: str) -> None:
    """Refuse a file without this encoder's weights, before data are read or anything is trained.

    Args:
        name: the encoder's name in segmentation-models-pytorch; an unknown name is refused later.
        depth: depth of the encoder.
        path: the file.

    Raises:
        UsageError: as `load_encoder`.
    """
    from segmentation_models_pytorch.encoders import get_encoder

    with torch.random.fork_rng():
        try:
            encoder = get_encoder(name, in_channels=3, depth=depth, weights=None)
        except Exception:  # reported when the network is built
            return
    load_encoder(encoder, name, path)


def _align_names(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> tuple[str, dict[str, str]]:
    """Return the prefix with most matching names, and name in the encoder → name in the file."""
    ours = {_normalise_name(name): name for name in wanted}
    before, best = "", dict[str, str]()
    starts = Counter(start for name in state for start in _list_prefixes(name))
    # A prefix of few names cannot be the whole encoder's; "" is a prefix of all.
    for start, begun in starts.most_common():
        if begun < len(best):
            break
        theirs = {_normalise_name(name[len(start) :]): name for name in state if name.startswith(start)}
        for prefix in ("", "model"):  # segmentation-models-pytorch wraps timm's networks as `model`
            matches = {ours[prefix + plain]: name for plain, name in theirs.items() if prefix + plain in ours}
            if matches and len(matches) >= len(best):  # of equal prefixes the longest
                before, best = start, matches
    return before, best


def _list_prefixes(name: str) -> Iterator[str]:
    """Yield the prefixes of a name, with their dots: "", "module.", "module.encoder."."""
    parts = name.split(".")
    for count in range(min(_MOST_PARTS, len(parts) - 1) + 1):
        yield "".join(f"{part}." for part in parts[:count])


def _normalise_name(name: str) -> str:
    """Remove dots and underscores, in which the libraries' names differ.

    timm's `stages.0.conv` is `stages_0.conv` in feature extraction; `norm.1` in torchvision's published DenseNets is
    `norm1` in their code.
    """
    return re.sub(r"[._]", "", name)


def _fit_first_layer(tensor: Tensor, wanted: Tensor) -> Tensor:
    """Adapt a first layer of three channels to the images' channels; return any other tensor unchanged."""
    from timm.models import adapt_input_conv

    if tensor.ndim == wanted.ndim == 4 and tensor.shape[1] == 3 != wanted.shape[1]:
        adapted: Tensor = adapt_input_conv(wanted.shape[1], tensor)
        return adapted
    return tensor


def _find_unknown_tensors(name: str, others: list[str], used: list[str]) -> list[str]:
    """Return the unused tensors in parts of the encoder that are not tensors of the library's whole network."""
    parts = {one.split(".")[0] for one in used}
    more = [one for one in others if one.split(".")[0] in parts]
    library = get_timm_name(name)
    if more and library is not None:  # timm leaves out the stages beyond the depth
        import timm

        with suppress(Exception), torch.device("meta"):  # some cannot be built on the meta device
            whole = {_normalise_name(key) for key in timm.create_model(library).state_dict()}
            return [one for one in more if _normalise_name(one) not in whole]
    return more
