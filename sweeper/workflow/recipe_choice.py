"""The recipe that follows from the requested settings, this machine and these data."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from sweeper.core.errors import UsageError
from sweeper.core.metrics import BUILT_IN, METRICS
from sweeper.core.own_code import UserCode, find_code, locate_code
from sweeper.core.own_metric import OPTION, register_metric
from sweeper.core.recipe import (
    CPU_PRETRAINED,
    FINAL_SIZE,
    FULL_DEPTH,
    LEAST_DEPTH,
    PUBLISHED_WIDTH,
    FinalNetwork,
    Recipe,
)
from sweeper.core.records import Dataset
from sweeper.core.redact import hide_command_secrets
from sweeper.core.tasks import RULES
from sweeper.core.text import suggest_correction
from sweeper.evidence.answer_text import describe_final_training, describe_network
from sweeper.training.pretrained import EncoderInputs
from sweeper.workflow.encoder_weights import NOTHING, EncoderWeights
from sweeper.workflow.settings import (
    CPU_SIZE,
    CPU_STEPS,
    CPU_WIDTH,
    GPU_SIZE,
    GPU_STEPS,
    FinalOptions,
    Settings,
    parse_final,
)

if TYPE_CHECKING:
    from sweeper.core.events import WorkerHardware


class DeviceDefaults(NamedTuple):
    """Settings of a recipe on a kind of device, where none are given."""

    batch_size: int
    steps: int
    size: int
    width: int
    """Of the decoder."""
    encoder: str
    depth: int


USUAL = (
    DeviceDefaults(8, CPU_STEPS, CPU_SIZE, CPU_WIDTH, "resnet18", LEAST_DEPTH),
    DeviceDefaults(16, GPU_STEPS, GPU_SIZE, PUBLISHED_WIDTH, "resnet34", FULL_DEPTH),
)
"""On a CPU, and on a GPU."""


def make_recipe(
    settings: Settings, dataset: Dataset, hardware: WorkerHardware, *, weights: Callable[[str], EncoderWeights]
) -> Recipe:
    """Return the recipe of a new study: the requested settings, else this device's defaults.

    `weights` chooses the initial weights of an encoder.

    Raises:
        UsageError: if the options exclude each other or the data.
    """
    usual = USUAL[hardware.device != "cpu"]
    check_exclusive_options(settings)
    user_model = None if settings.model is None else find_code(settings.model, "--model")
    batch_size = settings.batch_size or usual.batch_size
    steps = settings.steps or usual.steps
    own_metric = load_metric_code(settings.metric)
    register_metric(own_metric)
    metric = settings.metric or "miou"
    rules = RULES[dataset.task]
    if dataset.task not in (fitting := METRICS[metric].tasks):
        others = " or ".join(name for name in BUILT_IN if dataset.task in METRICS[name].tasks)
        raise UsageError(
            f"--metric {metric} needs a {' or '.join(RULES[task].words for task in fitting)} task, and {dataset.name} "
            f"is {rules.words} with {len(dataset.classes)} classes; use --metric {others}"
        )
    if METRICS[metric].parts is not None and not dataset.count_class_pixels()[rules.first_object :].any():
        raise UsageError(
            f"--metric {metric} needs objects, labelled pixels of another class than {dataset.classes[0]}, and found "
            f"none in {dataset.name}; check the masks (sweeper profile), or use --metric miou"
        )
    _check_engine(settings, hardware)
    encoder, depth, start = (
        _choose_network(settings, hardware, weights) if user_model is None else ("", FULL_DEPTH, NOTHING)
    )
    largest = max(max(p.height, p.width) for p in dataset.images)
    # A crop larger than every image would train on padding.
    size = settings.size or min(usual.size, max(2**depth, -(-largest // 2**depth) * 2**depth))
    if size % 2**depth:
        raise UsageError(
            f"--size must be a multiple of {2**depth}, the network's stride, got {size}; give "
            f"{size - size % 2**depth + 2**depth}"
        )
    network = {} if user_model is None else {"model": user_model, "arch": user_model.name}
    defaults = {
        **network,
        "own_metric": own_metric,
        "encoder": encoder,
        "encoder_depth": depth,
        "decoder_width": usual.width,
        "encoder_weights": start.name,
        "input_mean": start.inputs.mean,
        "input_std": start.inputs.std,
        "size": size,
        "batch_size": batch_size,
        "steps": steps,
        "confirm_steps": 2 * steps,
        "precision": hardware.precision,
        "engine": "graph" if hardware.device == "cuda" else "eager",
    }
    recipe = Recipe(**(defaults | _read_recipe_options(settings)))
    is_cut = hardware.device == "cpu" and _fits_whole_encoder(recipe)
    asked = _get_asked_network(settings)  # also where no final training is wanted: a resume may want it
    return recipe.model_copy(update={"final": choose_final_network(recipe, asked, largest, weights, is_cut=is_cut)})


def _get_asked_network(settings: Settings) -> dict[str, Any]:
    """Return what is asked of the final training's network and crops."""
    return (parse_final(settings.final or "none") or FinalOptions()).network


def _fits_whole_encoder(recipe: Recipe) -> bool:
    """Return whether the encoder at full depth has pretrained weights: a file may have those of the cut one alone."""
    if recipe.encoder_weights in ("none", "imagenet"):
        return recipe.encoder_weights == "imagenet"
    from sweeper.training.encoder_file import check_file  # torch takes seconds

    with suppress(UsageError):
        check_file(recipe.encoder, FULL_DEPTH, recipe.encoder_weights)
        return True
    return False


def choose_final_network(
    recipe: Recipe, asked: dict[str, Any], largest: int, weights: Callable[[str], EncoderWeights], *, is_cut: bool
) -> FinalNetwork | None:
    """Return the network of the final training, for images of at most this side; None = that of the search.

    It is another one where it is asked for, or the search's is a published one that `is_cut`.

    Raises:
        UsageError: if the size is no multiple of its stride.
    """
    if not is_cut and not asked:
        return None
    stride = 2**FULL_DEPTH
    size = asked.get("size") or -(-max(recipe.size, min(FINAL_SIZE, largest)) // stride) * stride
    if size % stride:
        raise UsageError(
            f"--final size=N must be a multiple of {stride}, the stride of the whole network, got {size}; give "
            f"size={size - size % stride + stride}"
        )
    encoder = asked.get("encoder", recipe.encoder)
    start = EncoderWeights(recipe.encoder_weights, EncoderInputs(recipe.input_mean, recipe.input_std))
    if encoder != recipe.encoder:
        start = weights(encoder)
    mean, std = start.inputs
    return FinalNetwork(encoder=encoder, encoder_weights=start.name, input_mean=mean, input_std=std, size=size)


def check_encoder_weights(settings: Settings, stored: Recipe | None, hardware: Callable[[], WorkerHardware]) -> None:
    """Refuse a file of encoder weights that does not fit the encoder, before images are decoded.

    `stored` is the recipe of a resumed study; `hardware` is called only where it decides the encoder.

    Raises:
        UsageError: with what does not fit.
    """
    usual = "auto" if stored is None else stored.encoder_weights
    requested = settings.encoder_weights or usual
    if requested in {"auto", "imagenet", "none"} or settings.model is not None:
        return
    from sweeper.training.encoder_file import check_file  # torch takes seconds

    network = (stored.encoder, stored.encoder_depth) if stored else _resolve_library_network(settings, hardware())
    check_file(*network, requested)


def _choose_network(
    settings: Settings, hardware: WorkerHardware, weights: Callable[[str], EncoderWeights]
) -> tuple[str, int, EncoderWeights]:
    """Return encoder, depth and initial weights: the given ones, else the defaults of this device."""
    is_free = settings.encoder is None and settings.encoder_weights in {None, "auto", "imagenet"}
    if hardware.device != "cpu" or not is_free:
        encoder, depth = _resolve_library_network(settings, hardware)
        return encoder, depth, weights(encoder)
    encoder, depth = CPU_PRETRAINED
    if settings.size is not None and settings.size % 2**depth:  # a valid size must not depend on what can be downloaded
        depth = LEAST_DEPTH
    start = weights(encoder)
    if start == NOTHING:
        encoder, depth = _resolve_library_network(settings, hardware)
    return encoder, depth, start


def _resolve_library_network(settings: Settings, hardware: WorkerHardware) -> tuple[str, int]:
    """Return encoder and depth: the given ones, else the defaults of this device."""
    usual = USUAL[hardware.device != "cpu"]
    return settings.encoder or usual.encoder, usual.depth


def describe_recipe(recipe: Recipe) -> str:
    """Describe the recipe in one line."""
    lengths = f"{recipe.format_steps(recipe.steps)} a trial, {recipe.format_steps(recipe.confirm_steps)} to confirm"
    own = f"batch {recipe.batch_size}, {recipe.engine}, {recipe.precision}"
    words = ", ".join([describe_network(recipe), lengths, *([own] if recipe.command is None else [])])
    if recipe.final is None:
        return words
    return f"{words}; final training: {describe_final_training(recipe, recipe.final_steps)} or more"


_UNCHANGED = Recipe.model_fields.keys() - {"encoder_weights", "model", "command", "final"}
RECIPE_OPTIONS = {"augment": "augmentation", **{name: name for name in Settings.model_fields if name in _UNCHANGED}}
"""Option of `sweeper run` → field of the recipe that takes its value unchanged. Initial weights and the user's network
also need the local cache or their source."""


def _read_recipe_options(settings: Settings) -> dict[str, Any]:
    options = {field: getattr(settings, option) for option, field in RECIPE_OPTIONS.items()}
    return {field: value for field, value in options.items() if value is not None}


def resolve_resumed_recipe(settings: Settings, stored: Recipe, hardware: WorkerHardware) -> Recipe:
    """Return the recipe of a resume: the stored one, changed by the options given now."""
    _check_engine(settings, hardware)
    check_exclusive_options(settings, stored)
    changes = _read_recipe_options(settings)
    if settings.precision is None and hardware.device != "cpu":  # on a CPU the study's, as a measurement chose it
        changes["precision"] = hardware.precision
    if settings.command is not None:
        changes["command"] = hide_command_secrets(settings.command)
    if settings.encoder_weights not in {None, "auto"}:
        changes["encoder_weights"] = settings.encoder_weights
    if settings.model is not None:
        changes["model"] = find_code(settings.model, "--model")
        changes["arch"] = settings.model
    elif stored.model is not None:
        changes["model"] = locate_code(stored.model, "--model")
    if settings.metric is not None:
        changes["own_metric"] = load_metric_code(settings.metric)
    elif stored.own_metric is not None:
        changes["own_metric"] = locate_code(stored.own_metric, OPTION)
    register_metric(changes.get("own_metric"))
    if asked := _get_asked_network(settings):
        same = {name: getattr(stored, name) for name in FinalNetwork.model_fields}
        changes["final"] = (stored.final or FinalNetwork(**same)).model_copy(update=asked)
    return stored.model_copy(update=changes)


def load_metric_code(name: str | None) -> UserCode | None:
    """Return the user's function that `--metric` names; None for one of sweeper's metrics.

    Raises:
        UsageError: if it is neither.
    """
    if name is None or name in BUILT_IN:
        return None
    if ":" in name:
        return find_code(name, OPTION)
    raise UsageError(
        f"--metric must be {', '.join(BUILT_IN)} or a function of yours, module:function, got {name!r}"
        f"{suggest_correction(name, BUILT_IN)}"
    )


def check_exclusive_options(settings: Settings, stored: Recipe | None = None) -> None:
    """Refuse options that exclude each other, or what a resumed study has `stored`.

    Raises:
        UsageError: with the options.
    """
    before = stored or Recipe()
    own = before.model and before.model.name
    name = settings.model or own
    others = ("arch", "encoder", "encoder_weights")
    options = [f"--{option.replace('_', '-')}" for option in others if getattr(settings, option) is not None]
    if encoder := _get_asked_network(settings).get("encoder"):
        options.append(f"--final encoder={encoder}")
    if name and options:
        raise UsageError(f"--model {name} is the whole network, and excludes {', '.join(options)}; leave these out")


def _check_engine(settings: Settings, hardware: WorkerHardware) -> None:
    if settings.engine == "graph" and hardware.device != "cuda":
        raise UsageError(f"--engine graph needs an NVIDIA GPU, and trains on {hardware.name}; use --engine eager")
