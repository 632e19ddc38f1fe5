"""What the user asked for, and the recipe that follows from it on this machine."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sweeper.core import paths
from sweeper.core.base import Record
from sweeper.core.errors import UsageError
from sweeper.core.metrics import BUILT_IN, METRICS
from sweeper.core.own_code import OwnCode, code_here, find_code
from sweeper.core.own_metric import OPTION, register_metric
from sweeper.core.recipe import FULL_DEPTH, LEAST_DEPTH, Augmentation, Engine, OperatingPoint, Recipe
from sweeper.core.records import Dataset
from sweeper.core.text import suggestion

if TYPE_CHECKING:
    from sweeper.core.events import Hardware

DATA = "synthetic:street"
TRIALS = 50
CPU_STEPS, GPU_STEPS = 100, 1000
"""Optimiser steps of a trial."""
CONFIRM_SEEDS = "3..8"
MOST_SEEDS = 100
MOST_TRIALS, MOST_STEPS, MOST_PIXELS = 1_000_000, 1_000_000_000, 65_536
"""Upper ends of what can be asked for: beyond them numbers overflow, or no machine could do it."""
MOST_SEED = 2**53 - 1
"""The confirmation's seeds are 1000 × (seed + 1) and on, and torch takes 63 bits."""
ROPE = 0.01
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seed_range(text: str | int) -> tuple[int, int]:
    """`3..8` → (3, 8); a single number is both ends.

    Raises:
        ValueError: unless 1 ≤ MIN ≤ MAX ≤ 100.
    """
    found = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:\.\.\s*([0-9]{1,9})\s*)?", str(text))
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= least <= most <= MOST_SEEDS:
        raise ValueError(
            f"must be MIN..MAX or one number, with 1 ≤ MIN ≤ MAX ≤ {MOST_SEEDS}, got {text!r}; for example 3..8"
        )
    return least, most


def duration(text: str | float) -> float:
    """Seconds of a duration: `90`, `90s`, `90m`, `2h`, `1h30m`, `1d`.

    Raises:
        ValueError: if it is none, or not above 0.
    """
    words = str(text).strip().lower()
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)\s*([dhms])\s*", words)
    units = "".join(unit for _, unit in parts)
    whole = re.fullmatch(r"(?:[0-9]+(?:\.[0-9]+)?\s*[dhms]\s*)+", words) and units == "".join(
        sorted(units, key="dhms".index)
    )
    if whole and len(set(units)) == len(units):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        seconds = float(words) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", words) else 0.0
    if not 0 < seconds <= 366 * 86400:
        raise ValueError(f"must be a duration above 0 of at most a year, like 5400, 90m, 2h or 1h30m, got {text!r}")
    return seconds


def _checked_range(value: object) -> object:
    if isinstance(value, str | int):
        least, most = seed_range(value)
        return str(least) if least == most else f"{least}..{most}"
    return value


def _checked_duration(value: object) -> object:
    if isinstance(value, str | int | float):
        duration(value)
        return str(value).strip()
    return value


class Settings(Record):
    """Options of `sweeper run`. None = not given: the default, or with `resume` what the study was made with."""

    data: str | None = Field(None, min_length=1)
    images: str | None = Field(None, min_length=1)
    """Pattern of the images, below `data` where that is given."""
    masks: str | None = Field(None, min_length=1)
    """Pattern of their masks."""
    class_map: Path | None = None
    """A file of classes that are merged, renamed or ignored."""
    format: str | None = Field(None, min_length=1)
    exclude: Path | None = None
    resize: int | None = Field(None, ge=16, le=MOST_PIXELS)
    """Shorter side in pixels that larger images are shrunk to."""
    trials: int | None = Field(None, ge=1, le=MOST_TRIALS)
    study: str | None = None
    space: str | None = Field(None, min_length=1)
    loss: str | None = Field(None, min_length=1)
    """`module:function` of a loss of the user's, searched with those of `space`."""
    metric: str | None = None
    threshold: OperatingPoint | None = None
    steps: Annotated[int, Field(ge=4, le=MOST_STEPS)] | Literal["auto"] | None = None
    """`auto`: a probe decides, from the default of this device on."""
    epochs: int | None = Field(None, ge=1, le=MOST_STEPS)
    size: int | None = Field(None, ge=16, le=MOST_PIXELS)
    batch_size: int | None = Field(None, ge=2, le=MOST_PIXELS)
    model: str | None = Field(None, min_length=1)
    """`module:function` of the user's network, in place of `arch` and `encoder`."""
    arch: str | None = Field(None, min_length=1)
    encoder: str | None = Field(None, min_length=1)
    encoder_depth: int | None = Field(None, ge=LEAST_DEPTH, le=FULL_DEPTH)
    """Stages of the encoder that are used."""
    encoder_weights: str | None = Field(None, min_length=1)
    augment: Augmentation | None = None
    engine: Engine | None = None
    deterministic: bool | None = None
    """Whether a GPU is to give the same numbers each time; None = as the study was made, a new one without."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    workers: int | None = Field(None, ge=1)
    slots: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    """Trainings at a time in each worker; None = 1; `auto` = on a GPU as many as are found to pay."""
    executor: Literal["processes", "inline", "ray"] = "processes"
    ray_address: str | None = None
    """Of an existing Ray cluster; None = one on this machine."""
    seed: int | None = Field(None, ge=0, le=MOST_SEED)
    folds: int | None = Field(None, ge=2)
    """Nothing is held out from the search, and each confirmation seed is a rotation over so many folds."""
    confirm_seeds: Annotated[str, BeforeValidator(_checked_range)] | None = None
    """`MIN..MAX`, as `seed_range` reads it."""
    confirm_steps: int | None = Field(None, ge=4, le=MOST_STEPS)
    boundary_pixels: int | None = Field(None, ge=1, le=MOST_PIXELS)
    fixed_lr: bool | None = None
    """Whether all seeds of the confirmation have one learning rate, each finalist's best; None = as the study was made,
    a new one without."""
    rope: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    timeout: Annotated[str, BeforeValidator(_checked_duration)] | None = None
    """How long this session may take, as `duration` reads it."""
    storage: str = paths.STORAGE
    tracking_uri: str = paths.TRACKING
    out: Path = paths.REPORTS
    cache: Path = paths.CACHE
    join: bool = False
    """Whether to work for the run that leads the study, on this machine."""
    resume: bool = False


Budget = Literal["given", "ranking", "learns"]


def budget_of(options: Mapping[str, Any]) -> Budget:
    """How the steps of a study's search are found, by what was asked for over all its sessions."""
    if options.get("steps") == "auto":
        return "ranking"
    return "learns" if options.get("steps") is None and options.get("epochs") is None else "given"


def make_recipe(
    settings: Settings,
    dataset: Dataset,
    hardware: Hardware,
    *,
    training_images: int,
    has_weights: Callable[[str], bool],
    say: Callable[[str], None],
) -> Recipe:
    """The recipe of a new study: what was asked for, else the defaults of this device.

    `training_images` turns epochs into steps; `has_weights` tells whether an encoder's ImageNet weights lie in the
    local cache. What was decided for the user is said, in one line each.

    Raises:
        UsageError: if the options exclude each other or the data.
    """
    gpu = hardware.device != "cpu"
    _check_model(settings)
    own = None if settings.model is None else find_code(settings.model, "--model")
    depth = settings.encoder_depth or (FULL_DEPTH if gpu or own is not None else LEAST_DEPTH)
    encoder = settings.encoder or ("resnet34" if gpu else "resnet18")
    batch_size = settings.batch_size or (16 if gpu else 8)
    largest = max(max(p.height, p.width) for p in dataset.pictures)
    # A crop larger than every image would train on padding.
    size = settings.size or min(256 if gpu else 96, max(2**depth, -(-largest // 2**depth) * 2**depth))
    if size % 2**depth:
        raise UsageError(
            f"--size must be a multiple of {2**depth} (the network's stride"
            f"{'' if own is not None else f' at --encoder-depth {depth}'}), got {size}"
        )
    steps = _steps(settings, training_images, batch_size) or (GPU_STEPS if gpu else CPU_STEPS)
    own_metric = metric_code(settings.metric)
    register_metric(own_metric)
    metric = settings.metric or "miou"
    if METRICS[metric].binary_only and dataset.task != "binary":
        others = " or ".join(name for name in BUILT_IN if not METRICS[name].binary_only)
        raise UsageError(
            f"--metric {metric} needs a binary task, and {dataset.name} has {len(dataset.classes)} classes; "
            f"use --metric {others}"
        )
    _check_engine(settings.engine, settings.augment, hardware)
    if own is None:
        weights = _weights(settings.encoder_weights or "auto", encoder, dataset, has_weights, say)
    else:
        encoder, weights = "", "none"
    defaults = {
        **({} if own is None else {"model": own, "arch": own.name}),
        **({} if own_metric is None else {"own_metric": own_metric}),
        "encoder": encoder,
        "encoder_depth": depth,
        "encoder_weights": weights,
        "size": size,
        "batch_size": batch_size,
        "steps": steps,
        "confirm_steps": 2 * steps,
        "precision": hardware.precision,
    }
    recipe = Recipe(**(defaults | _given_recipe(settings)))
    say(f"{hardware.name}: {describe(recipe)}" + (" (to begin with: a probe decides)" * (settings.steps == "auto")))
    return recipe


def describe(recipe: Recipe) -> str:
    """The recipe in one line."""
    network = (
        f"{recipe.arch}/{recipe.encoder} (depth {recipe.encoder_depth} of {FULL_DEPTH}, weights: "
        f"{recipe.encoder_weights})"
        if recipe.model is None
        else f"{recipe.model.name} (SHA-256 {recipe.model.digest[:12]}…)"
    )
    precision = f"{recipe.precision}, deterministic" if recipe.deterministic else recipe.precision
    return (
        f"{network}, {recipe.size}² crops, batch {recipe.batch_size}, "
        f"{recipe.steps} steps a trial, {recipe.confirm_steps} to confirm, {precision}"
    )


RECIPE_OPTIONS = {
    "arch": "arch",
    "encoder": "encoder",
    "encoder_depth": "encoder_depth",
    "augment": "augmentation",
    "size": "size",
    "batch_size": "batch_size",
    "engine": "engine",
    "deterministic": "deterministic",
    "confirm_steps": "confirm_steps",
    "metric": "metric",
    "threshold": "threshold",
    "boundary_pixels": "boundary_pixels",
}
"""Option of `sweeper run` → field of the recipe that takes it as it stands. `--steps`, `--epochs` and
`--encoder-weights` need the data or the local cache as well."""


def _given_recipe(settings: Settings) -> dict[str, Any]:
    asked = {field: getattr(settings, option) for option, field in RECIPE_OPTIONS.items()}
    return {field: value for field, value in asked.items() if value is not None}


def resumed_recipe(settings: Settings, stored: Recipe, hardware: Hardware, training_images: int) -> Recipe:
    """The recipe that a resume asks for: the stored one, changed by what was given again."""
    _check_engine(settings.engine or stored.engine, settings.augment or stored.augmentation, hardware)
    _check_model(settings, stored)
    given = _given_recipe(settings) | {"precision": hardware.precision}
    if (steps := _steps(settings, training_images, settings.batch_size or stored.batch_size)) is not None:
        given["steps"] = steps
    if settings.encoder_weights not in {None, "auto"}:
        given["encoder_weights"] = settings.encoder_weights
    if settings.model is not None:
        given["model"] = find_code(settings.model, "--model")
        given["arch"] = settings.model
    elif stored.model is not None:
        given["model"] = code_here(stored.model, "--model")
    if settings.metric is not None:
        given["own_metric"] = metric_code(settings.metric)
    elif stored.own_metric is not None:
        given["own_metric"] = code_here(stored.own_metric, OPTION)
    register_metric(given.get("own_metric"))
    return stored.model_copy(update=given)


def metric_code(name: str | None) -> OwnCode | None:
    """The user's function that `--metric` names; None for a metric of sweeper's.

    Raises:
        UsageError: if it is neither.
    """
    if name is None or name in BUILT_IN:
        return None
    if ":" in name:
        return find_code(name, OPTION)
    raise UsageError(
        f"--metric must be {', '.join(BUILT_IN)} or a function of yours, module:function, got {name!r}"
        f"{suggestion(name, BUILT_IN)}"
    )


def _check_model(settings: Settings, stored: Recipe | None = None) -> None:
    """Raises UsageError where a network of the user's is to have another's architecture or encoder."""
    name = settings.model or (stored.model.name if stored is not None and stored.model is not None else None)
    others = ("arch", "encoder", "encoder_depth", "encoder_weights")
    given = [f"--{option.replace('_', '-')}" for option in others if getattr(settings, option) is not None]
    if name is not None and given:
        raise UsageError(f"--model {name} is the whole network, and excludes {', '.join(given)}; leave these out")


def _check_engine(engine: Engine | None, augment: Augmentation | None, hardware: Hardware) -> None:
    """Raises UsageError where recorded steps are insisted on, and cannot be."""
    if engine != "graph":
        return
    if hardware.device != "cuda":
        raise UsageError(f"--engine graph needs an NVIDIA GPU, and trains on {hardware.name}; use --engine auto")
    if augment == "full":
        raise UsageError(
            "--engine graph does not go with --augment full, whose noise is drawn step by step; use --engine auto"
        )


def _steps(settings: Settings, training_images: int, batch_size: int) -> int | None:
    if settings.steps is not None and settings.epochs is not None:
        raise UsageError(
            f"--steps and --epochs exclude each other, got {settings.steps} and {settings.epochs}; give one of them"
        )
    if settings.epochs is not None:
        return max(4, settings.epochs * math.ceil(training_images / batch_size))
    return None if settings.steps == "auto" else settings.steps


def _weights(
    asked: str, encoder: str, dataset: Dataset, has_weights: Callable[[str], bool], say: Callable[[str], None]
) -> str:
    if asked in {"none", "imagenet"}:
        return asked
    if asked != "auto":
        path = Path(asked)
        if not path.is_file():
            raise UsageError(f"--encoder-weights must be auto, imagenet, none or a file; there is no file {asked!r}")
        return str(path)
    if dataset.synthetic:
        return "none"  # drawn scenes are not ImageNet's kind of images
    if has_weights(encoder):
        say(f"encoder weights: ImageNet, from the local cache ({encoder})")
        return "imagenet"
    say(
        f"encoder weights: none (random), as {encoder}'s ImageNet weights are not in the local cache; "
        "--encoder-weights imagenet downloads them"
    )
    return "none"
