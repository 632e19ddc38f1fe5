"""Device, processors, memory and disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sweeper.core.errors import SweeperError
from sweeper.core.text import count
from sweeper.doctor.check import Check
from sweeper.system.cores import GIB, available_cores, available_memory, shown_memory
from sweeper.system.disk_space import existing

WORKER_BYTES = int(1.2 * GIB)
"""Resident memory of a worker with a small network, with room to breathe: torch alone takes 0.5 GiB."""
SPARE_BYTES = 2 * GIB
"""Disk below which a sweep may end during its trials."""


def check_machine(cache: Path, device: str) -> list[Check]:
    """The checks of this machine."""
    cores = available_cores()
    return [_device(device), _processors(cores), memory_check(available_memory(), cores), _disk(cache), _weights()]


def _device(asked: str) -> Check:
    try:
        from sweeper.training.hardware import probe

        found = probe(asked)
    except SweeperError as error:
        return Check(name="device", status="broken", found=str(error))
    except Exception as error:
        text = f"torch cannot be used: {' '.join(str(error).split())[:300]}"
        return Check(name="device", status="broken", found=text, advice="install torch again, to fit this machine")
    precision = "measured by a run" if found.device == "cpu" else found.precision
    shown = f"{found.name}, precision {precision}" + (f", {found.devices} of them" if found.devices > 1 else "")
    if found.device == "cpu":
        return Check(
            name="device",
            status="slow",
            found=shown,
            advice="training on a processor takes small networks (ResNet-18, 64² crops by default); a GPU takes larger",
        )
    return Check(name="device", status="ok", found=shown)


def _processors(cores: int) -> Check:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    shown = f"{count(cores, 'core')} for {count(cores, 'one-thread worker')} at most, load {load:.1f}"
    if load > 0.5 * cores:
        advice = "other programs are using the processors: a sweep takes longer, or wait for them"
        return Check(name="processors", status="slow", found=shown, advice=advice)
    return Check(name="processors", status="ok", found=shown)


def memory_check(free: int | None, cores: int) -> Check:
    """Whether as many workers as there are cores find room."""
    if free is None:
        return Check(name="memory", status="note", found="this system does not say how much is free")
    shown = f"{shown_memory(free)} free"
    fit = free // WORKER_BYTES
    if fit < 1:
        advice = "close other programs: a worker takes about 1 GiB, more with large networks"
        return Check(name="memory", status="broken", found=shown, advice=advice)
    if fit < min(cores, 8):
        advice = f"room for about {count(fit, 'worker')}: --workers {fit}"
        return Check(name="memory", status="slow", found=shown, advice=advice)
    return Check(name="memory", status="ok", found=shown)


def _disk(cache: Path) -> Check:
    here = existing(cache)
    free = shutil.disk_usage(here).free
    shown = f"{shown_memory(free)} free for {cache}"
    if free < SPARE_BYTES:
        advice = "free some (`sweeper cache --clear` deletes decoded images), or name another --cache"
        return Check(name="disk", status="broken" if free < SPARE_BYTES // 8 else "slow", found=shown, advice=advice)
    return Check(name="disk", status="ok", found=shown)


def _weights() -> Check:
    try:
        from sweeper.training.pretrained import imagenet_cached

        have = [name for name in ("resnet18", "resnet34") if imagenet_cached(name)]
    except Exception as error:
        return Check(name="weights", status="note", found=f"not known: {' '.join(str(error).split())[:200]}")
    if have:
        return Check(name="weights", status="ok", found=f"ImageNet weights are here for {', '.join(have)}")
    return Check(
        name="weights",
        status="note",
        found="no ImageNet weights of resnet18 or resnet34 in the local cache: encoders start at random",
        advice="`sweeper run --encoder-weights imagenet` downloads them once",
    )
