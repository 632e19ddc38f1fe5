"""What the user asked for: every option of a sweep, and the limits of its value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sweeper.core import paths
from sweeper.core.base import Record
from sweeper.core.recipe import FULL_DEPTH, LEAST_DEPTH, Augmentation, Engine, OperatingPoint, Precision

if TYPE_CHECKING:
    pass

DATA = "synthetic:street"
TRIALS = 50
CPU_STEPS, GPU_STEPS = 100, 1000
"""Optimiser steps of a trial."""
CONFIRM_SEEDS = "2..8"
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
    compile: bool | None = None
    """Whether the network is compiled before the first training; None = as the study was made, a new one without."""
    precision: Precision | None = None
    """Of the forward pass; None = what is measured to be quicker (CPU), or what the GPU computes natively."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    workers: int | None = Field(None, ge=1)
    threads: int | None = Field(None, ge=1)
    """Of each worker on a CPU; None = its share of the cores, or what is measured to be quicker."""
    slots: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """Trainings at a time in each worker; `auto` = on a GPU of one worker alone as many as are found to pay."""
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
