"""Checks of `sweeper doctor`: libraries, machine, stores. Each has what was found and what to do about it.

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
from sweeper.core.recipe import CPU_PRETRAINED
from sweeper.core.redact import check_address, hide_address_secrets, redact
from sweeper.core.text import format_count
from sweeper.system.cores import GIB, count_available_cores, format_memory, get_available_memory
from sweeper.system.disk_space import NETWORK, find_existing_parent, get_file_system
from sweeper.system.locks import get_sqlite_path, make_sqlite_uri
from sweeper.system.store_versions import list_deleted_studies, restore_command, store_fault
from sweeper.system.system_errors import get_cause
from sweeper.version import __version__

Status = Literal["ok", "note", "slow", "broken"]
"""`note`: nothing to worry about; `slow`: it works and costs time; `broken`: a sweep fails or cannot be trusted."""


class DoctorCheck(Record):
    """Finding about one thing, and what to do about it ("" if there is nothing to do)."""

    name: str
    status: Status
    found: str
    advice: str = ""


class DoctorDocument(Document):
    """Document that `sweeper doctor` prints."""

    SCHEMA: ClassVar[str] = "sweeper.doctor/1"

    ok: bool
    checks: tuple[DoctorCheck, ...]


def examine_machine(storage: str, tracking_uri: str, cache: Path, device: str = "auto") -> list[DoctorCheck]:
    """Run all checks, in the order in which they matter; nothing is made, changed or downloaded.

    Args:
        storage: Optuna's storage.
        tracking_uri: MLflow's.
        cache: folder of the decoded images.
        device: as `--device`.
    """
    return [*check_libraries(), *check_machine(cache, device), *check_stores(storage, tracking_uri)]


# --- Libraries -----------------------------------------------------------------------------------------------

INSTALL = "in the checkout, in an environment of its own: pip install -c constraints.txt -e ."
SHOWN = ("torch", "segmentation-models-pytorch", "optuna", "mlflow", "numpy")


def check_libraries() -> list[DoctorCheck]:
    """Return a check of the versions that decide the numbers, and one of all required packages."""
    shown = []
    for name in SHOWN:
        try:
            shown.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            shown.append(f"{name} missing")
    versions_text = f"sweeper {__version__}, Python {platform.python_version()}, {', '.join(shown)}"
    return [
        DoctorCheck(name="versions", status="ok", found=versions_text),
        _check_packages(),
    ]


def _check_packages() -> DoctorCheck:
    try:
        return list_unmet(metadata.requires("sweeper") or [])
    except metadata.PackageNotFoundError:
        text = "sweeper runs from a checkout and is not installed: its packages were not compared with what it needs"
        return DoctorCheck(name="packages", status="note", found=text, advice=INSTALL)


def list_unmet(requirements: list[str]) -> DoctorCheck:
    """Return the required packages that are missing or have an unfit version; extras are left out."""
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
        return DoctorCheck(name="packages", status="ok", found="all required packages are installed")
    return DoctorCheck(
        name="packages",
        status="broken",
        found="; ".join(wrong),
        advice=INSTALL,
    )


# --- Device, processors, memory and disk ---------------------------------------------------------------------

WORKER_BYTES = int(1.2 * GIB)
"""Resident memory of a worker with a small network, with room to breathe: torch alone takes 0.5 GiB."""
SPARE_BYTES = 2 * GIB
"""Disk below which a sweep may end during its trials."""


def check_machine(cache: Path, device: str) -> list[DoctorCheck]:
    """Return the checks of this machine."""
    cores = count_available_cores()
    checks = [
        _check_device(device),
        _check_processors(cores),
        check_memory(get_available_memory(), cores),
        _check_disk(cache),
        _check_weights(),
    ]
    return checks if checks[0].status == "broken" else [checks[0], check_losses(device), *checks[1:]]


def _check_device(requested: str) -> DoctorCheck:
    try:
        from sweeper.training.hardware import probe_device

        hardware = probe_device(requested)
    except SweeperError as error:
        return DoctorCheck(name="device", status="broken", found=str(error))
    except Exception as error:
        text = f"torch cannot be used: {' '.join(str(error).split())[:300]}"
        return DoctorCheck(
            name="device", status="broken", found=text, advice="install torch again, to fit this machine"
        )
    precision = "measured by a run" if hardware.device == "cpu" else hardware.precision
    shown = f"{hardware.name}, precision {precision}" + (
        f", {hardware.devices} of them" if hardware.devices > 1 else ""
    )
    if hardware.device == "cpu":
        return DoctorCheck(
            name="device",
            status="slow",
            found=shown,
            advice="training on a processor takes small networks (ResNet-18, 64² crops by default); a GPU takes larger",
        )
    return DoctorCheck(name="device", status="ok", found=shown)


def check_losses(device: str) -> DoctorCheck:
    """Compare three losses in float32 on the device with float64 on the processor."""
    from sweeper.losses.float64_check import ALLOWED, measure_float64_differences
    from sweeper.training.hardware import probe_device

    differences = measure_float64_differences(probe_device(device).device)
    wrong = [f"{family} by {gap:.1e}" for family, gap in differences.items() if not gap <= ALLOWED]
    if wrong:
        result = f"float32 differs from float64: {', '.join(wrong)}; at most {ALLOWED:g} is allowed"
        return DoctorCheck(
            name="losses", status="broken", found=result, advice="install torch again, to fit this machine"
        )
    return DoctorCheck(name="losses", status="ok", found=f"{', '.join(differences)}: float32 agrees with float64")


def _check_processors(cores: int) -> DoctorCheck:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    shown = f"{format_count(cores, 'core')} for {format_count(cores, 'one-thread worker')} at most, load {load:.1f}"
    if load > 0.5 * cores:
        advice = "other programs are using the processors: a sweep takes longer, or wait for them"
        return DoctorCheck(name="processors", status="slow", found=shown, advice=advice)
    return DoctorCheck(name="processors", status="ok", found=shown)


def check_memory(free: int | None, cores: int) -> DoctorCheck:
    """Return a check whether as many workers as there are cores find room."""
    if free is None:
        return DoctorCheck(name="memory", status="note", found="this system does not say how much is free")
    shown = f"{format_memory(free)} free"
    fit = free // WORKER_BYTES
    if fit < 1:
        advice = "close other programs: a worker takes about 1 GiB, more with large networks"
        return DoctorCheck(name="memory", status="broken", found=shown, advice=advice)
    if fit < min(cores, 8):
        advice = f"room for about {format_count(fit, 'worker')}: --workers {fit}"
        return DoctorCheck(name="memory", status="slow", found=shown, advice=advice)
    return DoctorCheck(name="memory", status="ok", found=shown)


def _check_disk(cache: Path) -> DoctorCheck:
    here = find_existing_parent(cache)
    free = shutil.disk_usage(here).free
    shown = f"{format_memory(free)} free for {cache}"
    if free < SPARE_BYTES:
        advice = "free some (`sweeper cache --clear` deletes decoded images), or name another --cache"
        return DoctorCheck(
            name="disk", status="broken" if free < SPARE_BYTES // 8 else "slow", found=shown, advice=advice
        )
    return DoctorCheck(name="disk", status="ok", found=shown)


def _check_weights() -> DoctorCheck:
    try:
        from sweeper.training.pretrained import is_imagenet_cached

        encoders = (CPU_PRETRAINED[0], "resnet34")
        have = [name for name in encoders if is_imagenet_cached(name)]
    except Exception as error:
        return DoctorCheck(name="weights", status="note", found=f"not known: {' '.join(str(error).split())[:200]}")
    if have:
        return DoctorCheck(name="weights", status="ok", found=f"ImageNet weights are here for {', '.join(have)}")
    return DoctorCheck(
        name="weights",
        status="note",
        found=f"no ImageNet weights of {' or '.join(encoders)} in the local cache: encoders start at random",
        advice="`sweeper run --encoder-weights imagenet` downloads them once",
    )


# --- Optuna's storage and MLflow's store ---------------------------------------------------------------------


def check_stores(storage: str, tracking_uri: str) -> list[DoctorCheck]:
    """Return the checks of both stores, without the secrets of their addresses."""
    checks = [
        _check_store_version(_check_storage(storage), "--storage", storage),
        _check_store_version(_check_tracking(tracking_uri), "--tracking-uri", tracking_uri),
    ]
    with suppress(sqlite3.Error, SQLAlchemyError):  # a storage that cannot be read is named above
        for name, number in list(list_deleted_studies(storage, tracking_uri).items())[:1]:
            address = hide_address_secrets(tracking_uri)
            text = f"{address}: the experiment of study {name!r} was deleted: it cannot be resumed"
            advice = f"restore it: {restore_command(tracking_uri, number)}"
            checks[1] = DoctorCheck(name="MLflow", status="broken", found=text, advice=advice)
    return [one.model_copy(update={"found": redact(one.found), "advice": redact(one.advice)}) for one in checks]


def _check_store_version(check: DoctorCheck, option: str, url: str) -> DoctorCheck:
    """Return a store's check, extended by whether the installed library can use it."""
    try:
        # A damaged file is named as such; what was refused on a server is cured by this.
        fault = None if check.status == "broken" and get_sqlite_path(url) else store_fault(option, url)
    except (sqlite3.Error, SQLAlchemyError) as error:
        fault = None if check.status == "broken" else (get_cause(error), f"start the server, or correct {option}")
    return check if fault is None else DoctorCheck(name=check.name, status="broken", found=fault[0], advice=fault[1])


def check_sqlite(name: str, path: Path) -> DoctorCheck:
    """Return a check whether a SQLite file exists, is whole, and is on a disk whose locks work."""
    kind = get_file_system(path)
    if kind in NETWORK:
        return DoctorCheck(
            name=name,
            status="broken",
            found=f"{path} is on a network file system ({kind}), whose locks SQLite cannot rely on",
            advice="put the file on a local disk, or use a database server",
        )
    if not path.exists():
        return DoctorCheck(name=name, status="ok", found=f"{path} is not there yet; a sweep makes it")
    try:
        with closing(sqlite3.connect(make_sqlite_uri(path, "ro"), uri=True, timeout=10)) as connection:
            answer = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    except sqlite3.Error as error:
        advice = "restore it from a copy, or move it away: a new one is made"
        return DoctorCheck(name=name, status="broken", found=f"{path} cannot be read: {error}", advice=advice)
    if answer != "ok":
        advice = f"stop all sweeps that use it; restore a backup, or try `sqlite3 {path} .recover | sqlite3 NEW`"
        return DoctorCheck(name=name, status="broken", found=f"{path} is damaged: {answer}", advice=advice)
    shown = f"{path}: whole, {path.stat().st_size / 1e6:.1f} MB, SQLite {sqlite3.sqlite_version}, journal {mode}"
    return DoctorCheck(name=name, status="ok", found=shown)


def _check_storage(url: str) -> DoctorCheck:
    path = get_sqlite_path(url)
    if path is not None:
        return check_sqlite("storage", path)
    from sweeper.storage import list_study_names, open_storage

    try:
        names = list_study_names(open_storage(url, create=False))
    except Exception as error:
        is_expected = isinstance(error, SweeperError | ImportError)
        text = get_cause(error) if is_expected else f"{type(error).__name__}: {get_cause(error)}"
        return DoctorCheck(name="storage", status="broken", found=text, advice="start the server, or correct --storage")
    return DoctorCheck(name="storage", status="ok", found=f"{hide_address_secrets(url)} answers, {len(names)} studies")


def _check_tracking(uri: str) -> DoctorCheck:
    path = get_sqlite_path(uri)
    if path is not None:
        return check_sqlite("MLflow", path)
    if not uri.startswith(("http://", "https://")):
        return DoctorCheck(
            name="MLflow", status="note", found=f"{hide_address_secrets(uri)}: only files and servers are looked at"
        )
    from sweeper.tracking import get_server_version

    try:
        check_address("--tracking-uri", uri)
        version = get_server_version(uri)
    except Exception as error:
        advice = "start the server: a sweep begins with a store that answers alone"
        problem = f"{hide_address_secrets(uri)} does not answer: {get_cause(error)}"
        return DoctorCheck(name="MLflow", status="broken", found=problem, advice=advice)
    return DoctorCheck(name="MLflow", status="ok", found=f"{hide_address_secrets(uri)} answers, MLflow {version}")
