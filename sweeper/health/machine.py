"""Device, processors, memory and disk."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from sweeper.cores import available_cores
from sweeper.errors import SweeperError
from sweeper.health.check import Check

GIB = 2**30
WORKER_BYTES = int(1.2 * GIB)
"""Resident memory of a worker with a small network, with room to breathe: torch alone takes 0.5 GiB."""
SPARE_BYTES = 2 * GIB
"""Disk below which a sweep may end amid its trials."""
NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "lustre",
    "gpfs",
    "beegfs",
    "fuse.sshfs",
    "9p",
    "afs",
    "ceph",
    "fuse.glusterfs",
}
"""File systems whose locks SQLite cannot rely on."""


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
    shown = f"{found.name}, precision {found.precision}" + (f", {found.devices} of them" if found.devices > 1 else "")
    if found.device == "cpu":
        return Check(
            name="device",
            status="slow",
            found=shown,
            advice="training on a processor takes small networks (ResNet-18, 96² crops by default); a GPU takes larger",
        )
    return Check(name="device", status="ok", found=shown)


def _processors(cores: int) -> Check:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    shown = f"{cores} core(s) for {cores} one-thread worker(s) at most, load {load:.1f}"
    if load > 0.5 * cores:
        advice = "other programs are using the processors: a sweep takes longer, or wait for them"
        return Check(name="processors", status="slow", found=shown, advice=advice)
    return Check(name="processors", status="ok", found=shown)


def available_memory(system: Path = Path("/")) -> int | None:
    """Bytes that may still be taken, by the machine's and the control group's word; None where neither says.

    Pages of files that a control group holds are counted as free, as the machine counts its own: the kernel drops them
    for whoever needs memory.

    Args:
        system: the root of the file system.
    """
    found = []
    with suppress(OSError):
        lines = (system / "proc" / "meminfo").read_text("ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    group = system / "sys" / "fs" / "cgroup"
    with suppress(OSError):
        limit, used = ((group / f"memory.{name}").read_text("ascii").strip() for name in ("max", "current"))
        if limit.isdigit():
            found += [max(0, int(limit) - max(0, int(used) - _pages_of_files(group)))]
    return min(found, default=None)


def _pages_of_files(group: Path) -> int:
    """Bytes of a control group's memory that hold what is on disk as well."""
    try:
        pairs = [line.split() for line in (group / "memory.stat").read_text("ascii").splitlines()]
    except OSError:
        return 0
    return sum(int(number) for name, number in pairs if name in {"inactive_file", "active_file"})


def shown_memory(size: float) -> str:
    """Bytes for people: GiB, and MB where less than one is meant."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 1e6:.0f} MB"


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
        return Check(
            name="memory", status="slow", found=shown, advice=f"room for about {fit} worker(s): --workers {fit}"
        )
    return Check(name="memory", status="ok", found=shown)


def _disk(cache: Path) -> Check:
    here = existing(cache)
    free = shutil.disk_usage(here).free
    shown = f"{shown_memory(free)} free for {cache}"
    if free < SPARE_BYTES:
        advice = "free some (`sweeper cache --clear` deletes decoded pictures), or name another --cache"
        return Check(name="disk", status="broken" if free < SPARE_BYTES // 8 else "slow", found=shown, advice=advice)
    return Check(name="disk", status="ok", found=shown)


def existing(path: Path) -> Path:
    """The path, or its nearest folder that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def file_system(path: Path, mounts: str | None = None) -> str | None:
    """Type of the file system that a path lies on; None where the system does not say."""
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text("utf-8")
        except OSError:
            return None
    real = existing(path).resolve()
    best, kind = -1, None
    for line in mounts.splitlines():
        _, point, fs, *_ = line.split()
        folder = Path(point.replace("\\040", " "))
        if (real == folder or folder in real.parents) and len(folder.parts) > best:
            best, kind = len(folder.parts), fs
    return kind


def _weights() -> Check:
    try:
        from sweeper.training.model import imagenet_cached

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
