"""What `sweeper doctor` looks at: libraries, machine, stores. Each check says what was found and what to do about it.

Not to be taken for the label doctor (`sweeper.fingerprint.label_checks`), which looks at images and labels.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
from contextlib import closing, suppress
from importlib import metadata
from pathlib import Path
from typing import ClassVar, Literal

from packaging.requirements import Requirement
from sqlalchemy.exc import SQLAlchemyError

from sweeper.core.base import Record
from sweeper.core.document import Document
from sweeper.core.errors import SweeperError
from sweeper.core.redact import check_address, redact, shown_address
from sweeper.core.text import count
from sweeper.system.cores import GIB, available_cores, available_memory, shown_memory
from sweeper.system.disk_space import NETWORK, existing, file_system
from sweeper.system.locks import sqlite_path, sqlite_uri
from sweeper.system.store_versions import deleted_studies, restore_command, store_fault
from sweeper.system.system_errors import cause
from sweeper.version import __version__

Status = Literal["ok", "note", "slow", "broken"]
"""`note`: nothing to worry about; `slow`: it works and costs time; `broken`: a sweep fails or cannot be trusted."""


class Check(Record):
    """What was found of one thing, and what to do about it ("" where there is nothing to do)."""

    name: str
    status: Status
    found: str
    advice: str = ""


class DoctorDocument(Document):
    """What `sweeper doctor` prints."""

    SCHEMA: ClassVar[str] = "sweeper.doctor/1"

    ok: bool
    checks: tuple[Check, ...]


def examine(storage: str, tracking_uri: str, cache: Path, device: str = "auto") -> list[Check]:
    """All checks, in the order in which they matter; nothing is made, changed or downloaded.

    Args:
        storage: Optuna's storage.
        tracking_uri: MLflow's.
        cache: folder of the decoded images.
        device: as `--device`.
    """
    return [*check_libraries(), *check_machine(cache, device), *check_stores(storage, tracking_uri)]


# --- Libraries -----------------------------------------------------------------------------------------------

SHOWN = ("torch", "segmentation-models-pytorch", "optuna", "mlflow", "numpy")


def check_libraries() -> list[Check]:
    """One check of the versions that decide the numbers, one of everything that is asked for."""
    shown = []
    for name in SHOWN:
        try:
            shown.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            shown.append(f"{name} missing")
    found = f"sweeper {__version__}, Python {platform.python_version()}, {', '.join(shown)}"
    return [Check(name="versions", status="ok", found=found), unmet(metadata.requires("sweeper") or [])]


def unmet(requirements: list[str]) -> Check:
    """Whether the packages that are asked for are there in a version that fits; extras are left out."""
    wrong = []
    for text in requirements:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            have = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(re.sub(r"\+.*", "", have), prereleases=True):
            wrong.append(f"{wanted.name} {have} is not {wanted.specifier}")
    if not wrong:
        return Check(name="packages", status="ok", found="all that are asked for are there")
    return Check(
        name="packages",
        status="broken",
        found="; ".join(wrong),
        advice="in the checkout, in an environment of its own: pip install -c constraints.txt -e .",
    )


# --- Device, processors, memory and disk ---------------------------------------------------------------------

WORKER_BYTES = int(1.2 * GIB)
"""Resident memory of a worker with a small network, with room to breathe: torch alone takes 0.5 GiB."""
SPARE_BYTES = 2 * GIB
"""Disk below which a sweep may end during its trials."""


def check_machine(cache: Path, device: str) -> list[Check]:
    """The checks of this machine."""
    cores = available_cores()
    found = [_device(device), _processors(cores), memory_check(available_memory(), cores), _disk(cache), _weights()]
    return found if found[0].status == "broken" else [found[0], check_losses(device), *found[1:]]


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


def check_losses(device: str) -> Check:
    """Compare three losses in float32 on the device with float64 on the processor."""
    from sweeper.losses.float64_check import ALLOWED, float64_differences
    from sweeper.training.hardware import probe

    differences = float64_differences(probe(device).device)
    wrong = [f"{family} by {gap:.1e}" for family, gap in differences.items() if not gap <= ALLOWED]
    if wrong:
        found = f"float32 differs from float64: {', '.join(wrong)}; at most {ALLOWED:g} is allowed"
        return Check(name="losses", status="broken", found=found, advice="install torch again, to fit this machine")
    return Check(name="losses", status="ok", found=f"{', '.join(differences)}: float32 agrees with float64")


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


# --- Optuna's storage and MLflow's store ---------------------------------------------------------------------


def check_stores(storage: str, tracking_uri: str) -> list[Check]:
    """The checks of both stores, without the secrets of their addresses."""
    found = [
        _fitting(_storage(storage), "--storage", storage),
        _fitting(_tracking(tracking_uri), "--tracking-uri", tracking_uri),
    ]
    with suppress(sqlite3.Error, SQLAlchemyError):  # a storage that cannot be read is named above
        for name, number in list(deleted_studies(storage, tracking_uri).items())[:1]:
            text = f"{shown_address(tracking_uri)}: the experiment of study {name!r} was deleted: it cannot be resumed"
            advice = f"restore it: {restore_command(tracking_uri, number)}"
            found[1] = Check(name="MLflow", status="broken", found=text, advice=advice)
    return [one.model_copy(update={"found": redact(one.found), "advice": redact(one.advice)}) for one in found]


def _fitting(check: Check, option: str, url: str) -> Check:
    """A check of a store, and whether the installed library can use it."""
    try:
        # A damaged file is named as such; what was refused on a server is cured by this.
        fault = None if check.status == "broken" and sqlite_path(url) else store_fault(option, url)
    except (sqlite3.Error, SQLAlchemyError) as error:
        fault = None if check.status == "broken" else (cause(error), f"start the server, or correct {option}")
    return check if fault is None else Check(name=check.name, status="broken", found=fault[0], advice=fault[1])


def sqlite_check(name: str, path: Path) -> Check:
    """Whether a SQLite file is there, whole, and on a disk whose locks work."""
    kind = file_system(path)
    if kind in NETWORK:
        return Check(
            name=name,
            status="broken",
            found=f"{path} lies on a network file system ({kind}), whose locks SQLite cannot rely on",
            advice="put the file on a local disk, or use a database server",
        )
    if not path.exists():
        return Check(name=name, status="ok", found=f"{path} is not there yet; a sweep makes it")
    try:
        with closing(sqlite3.connect(sqlite_uri(path, "ro"), uri=True, timeout=10)) as connection:
            answer = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    except sqlite3.Error as error:
        advice = "restore it from a copy, or move it away: a new one is made"
        return Check(name=name, status="broken", found=f"{path} cannot be read: {error}", advice=advice)
    if answer != "ok":
        advice = f"stop all sweeps that use it; restore a backup, or try `sqlite3 {path} .recover | sqlite3 NEW`"
        return Check(name=name, status="broken", found=f"{path} is damaged: {answer}", advice=advice)
    shown = f"{path}: whole, {path.stat().st_size / 1e6:.1f} MB, SQLite {sqlite3.sqlite_version}, journal {mode}"
    return Check(name=name, status="ok", found=shown)


def _storage(url: str) -> Check:
    path = sqlite_path(url)
    if path is not None:
        return sqlite_check("storage", path)
    from sweeper.storage import open_storage, study_names

    try:
        names = study_names(open_storage(url, create=False))
    except Exception as error:
        own = isinstance(error, SweeperError | ImportError)
        text = cause(error) if own else f"{type(error).__name__}: {cause(error)}"
        return Check(name="storage", status="broken", found=text, advice="start the server, or mend --storage")
    return Check(name="storage", status="ok", found=f"{shown_address(url)} answers, {len(names)} studies")


def _tracking(uri: str) -> Check:
    path = sqlite_path(uri)
    if path is not None:
        return sqlite_check("MLflow", path)
    if not uri.startswith(("http://", "https://")):
        return Check(name="MLflow", status="note", found=f"{shown_address(uri)}: only files and servers are looked at")
    from sweeper.tracking import server_version

    try:
        check_address("--tracking-uri", uri)
        version = server_version(uri)
    except Exception as error:
        advice = "start the server: a sweep begins with a store that answers alone"
        found = f"{shown_address(uri)} does not answer: {cause(error)}"
        return Check(name="MLflow", status="broken", found=found, advice=advice)
    return Check(name="MLflow", status="ok", found=f"{shown_address(uri)} answers, MLflow {version}")
