"""Checks of `sweeper doctor`: libraries, machine, stores; each returns a finding and advice, and changes nothing.

The label doctor (`sweeper.fingerprint.label_checks`) is another one, for images and labels.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
from contextlib import closing, suppress
from importlib import metadata
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from packaging.requirements import Requirement
from sqlalchemy.exc import SQLAlchemyError

from sweeper.core.base import Record
from sweeper.core.document import Document
from sweeper.core.error_causes import get_cause
from sweeper.core.errors import SweeperError, check_address
from sweeper.core.recipe import CPU_PRETRAINED
from sweeper.core.redact import hide_address_secrets, redact
from sweeper.core.text import format_count
from sweeper.system.cores import GIB, count_available_cores, format_memory, get_available_memory
from sweeper.system.disk_space import NETWORK, find_existing_parent, get_file_system
from sweeper.system.locks import get_sqlite_path, make_sqlite_uri
from sweeper.system.store_versions import list_deleted_studies, restore_command, store_fault
from sweeper.version import __version__

Status = Literal["ok", "note", "slow", "broken"]
"""`note`: harmless; `slow`: works, but takes time; `broken`: a sweep fails or cannot be trusted."""


class DoctorCheck(Record):
    """Finding of one check, and advice ("" if nothing is to be done)."""

    name: str
    status: Status
    found: str
    advice: str = ""


class CheckOutcome(NamedTuple):
    """Outcome of a check without its name."""

    status: Status
    found: str
    advice: str = ""


class DoctorDocument(Document):
    """Document that `sweeper doctor` prints."""

    SCHEMA: ClassVar[str] = "sweeper.doctor/1"

    ok: bool
    checks: tuple[DoctorCheck, ...]


def _name_checks(**outcomes: CheckOutcome) -> list[DoctorCheck]:
    """Return the checks with their names, without secrets."""
    return [
        DoctorCheck(name=name, status=status, found=redact(text), advice=redact(advice))
        for name, (status, text, advice) in outcomes.items()
    ]


# --- Libraries -----------------------------------------------------------------------------------------------

INSTALL = "in the checkout, in an environment of its own: pip install -c constraints.txt -e ."
REPORTED_LIBRARIES = ("torch", "segmentation-models-pytorch", "optuna", "mlflow", "numpy")


def check_libraries() -> list[DoctorCheck]:
    """Check the versions of libraries that affect the numbers, and all required packages."""
    shown = [f"{name} {_read_version(name) or 'missing'}" for name in REPORTED_LIBRARIES]
    versions = f"sweeper {__version__}, Python {platform.python_version()}, {', '.join(shown)}"
    try:
        packages = list_unmet(metadata.requires("sweeper") or [])
    except metadata.PackageNotFoundError:
        text = "sweeper runs from a checkout and is not installed: its packages were not compared with what it needs"
        packages = CheckOutcome("note", text, INSTALL)
    return _name_checks(versions=CheckOutcome("ok", versions), packages=packages)


def list_unmet(requirements: list[str]) -> CheckOutcome:
    """Check for required packages that are missing or have an unfit version, without extras."""
    wrong = []
    for wanted in map(Requirement, requirements):
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        if (have := _read_version(wanted.name)) is None:
            wrong.append(f"{wanted.name} is missing")
        elif not wanted.specifier.contains(have.partition("+")[0], prereleases=True):
            wrong.append(f"{wanted.name} {have} is not {wanted.specifier}")
    if not wrong:
        return CheckOutcome("ok", "all required packages are installed")
    return CheckOutcome("broken", "; ".join(wrong), INSTALL)


def _read_version(package: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


# --- Device, processors, memory and disk ---------------------------------------------------------------------

WORKER_BYTES = int(1.2 * GIB)
"""Resident memory of a worker with a small network, with a reserve: torch alone takes 0.5 GiB."""
SPARE_BYTES = 2 * GIB
"""Free disk space below which a sweep may fail during its trials."""
REINSTALL = "install torch again, to fit this machine"


def check_machine(cache: Path, device: str) -> list[DoctorCheck]:
    """Check this machine."""
    cores = count_available_cores()
    by_device = {"device": _check_device(device)}
    if by_device["device"].status != "broken":
        by_device["losses"] = check_losses(device)
    return _name_checks(
        **by_device,
        processors=_check_processors(cores),
        memory=check_memory(get_available_memory(), cores),
        disk=_check_disk(cache),
        weights=_check_weights(),
    )


def _check_device(requested: str) -> CheckOutcome:
    try:
        from sweeper.training.hardware import probe_device

        hardware = probe_device(requested)
    except SweeperError as error:
        return CheckOutcome("broken", str(error))
    except Exception as error:
        return CheckOutcome("broken", f"torch cannot be used: {get_cause(error)}", REINSTALL)
    precision = "measured by a run" if hardware.device == "cpu" else hardware.precision
    several = f", {hardware.devices} of them" if hardware.devices > 1 else ""
    shown = f"{hardware.name}, precision {precision}{several}"
    if hardware.device == "cpu":
        advice = "training on a processor takes small networks (ResNet-18, 64² crops by default); a GPU takes larger"
        return CheckOutcome("slow", shown, advice)
    return CheckOutcome("ok", shown)


def check_losses(device: str) -> CheckOutcome:
    """Compare three losses in float32 on the device with float64 on the processor."""
    from sweeper.losses.float64_check import MAX_DIFFERENCE, measure_float64_differences
    from sweeper.training.hardware import probe_device

    differences = measure_float64_differences(probe_device(device).device)
    wrong = [f"{family} by {gap:.1e}" for family, gap in differences.items() if not gap <= MAX_DIFFERENCE]
    if wrong:
        result = f"float32 differs from float64: {', '.join(wrong)}; at most {MAX_DIFFERENCE:g} is allowed"
        return CheckOutcome("broken", result, REINSTALL)
    return CheckOutcome("ok", f"{', '.join(differences)}: float32 agrees with float64")


def _check_processors(cores: int) -> CheckOutcome:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    shown = f"{format_count(cores, 'core')} for {format_count(cores, 'one-thread worker')} at most, load {load:.1f}"
    if load <= 0.5 * cores:
        return CheckOutcome("ok", shown)
    advice = "other programs are using the processors: a sweep takes longer, or wait for them"
    return CheckOutcome("slow", shown, advice)


def check_memory(free: int | None, cores: int) -> CheckOutcome:
    """Check whether the free memory is enough for as many workers as cores."""
    if free is None:
        return CheckOutcome("note", "this system does not say how much is free")
    shown = f"{format_memory(free)} free"
    fit = free // WORKER_BYTES
    if fit >= min(cores, 8):
        return CheckOutcome("ok", shown)
    if fit:
        return CheckOutcome("slow", shown, f"room for about {format_count(fit, 'worker')}: --workers {fit}")
    return CheckOutcome("broken", shown, "close other programs: a worker takes about 1 GiB, more with large networks")


def _check_disk(cache: Path) -> CheckOutcome:
    free = shutil.disk_usage(find_existing_parent(cache)).free
    shown = f"{format_memory(free)} free for {cache}"
    if free >= SPARE_BYTES:
        return CheckOutcome("ok", shown)
    advice = "free some (.sweeper/cache, decoded images, may be deleted), or name another --cache"
    return CheckOutcome("broken" if free < SPARE_BYTES // 8 else "slow", shown, advice)


def _check_weights() -> CheckOutcome:
    try:
        from sweeper.training.pretrained import is_imagenet_cached

        encoders = (CPU_PRETRAINED[0], "resnet34")
        have = [name for name in encoders if is_imagenet_cached(name)]
    except Exception as error:
        return CheckOutcome("note", f"not known: {get_cause(error, 200)}")
    if have:
        return CheckOutcome("ok", f"ImageNet weights are here for {', '.join(have)}")
    missing = f"no ImageNet weights of {' or '.join(encoders)} in the local cache: encoders start at random"
    return CheckOutcome("note", missing, "`sweeper run --encoder-weights imagenet` downloads them once")


# --- Optuna's storage and MLflow's store ---------------------------------------------------------------------


def check_stores(storage: str, tracking_uri: str) -> list[DoctorCheck]:
    """Check both stores, without the secrets of their addresses."""
    study_store = _check_store_version(_check_storage(storage), "--storage", storage)
    tracking = _check_store_version(_check_tracking(tracking_uri), "--tracking-uri", tracking_uri)
    with suppress(sqlite3.Error, SQLAlchemyError):  # an unreadable storage was reported above
        for name, number in list(list_deleted_studies(storage, tracking_uri).items())[:1]:
            place = hide_address_secrets(tracking_uri)
            text = f"{place}: the experiment of study {name!r} was deleted: it cannot be resumed"
            tracking = CheckOutcome("broken", text, f"restore it: {restore_command(tracking_uri, number)}")
    return _name_checks(storage=study_store, MLflow=tracking)


def _check_store_version(check: CheckOutcome, option: str, url: str) -> CheckOutcome:
    """Return the check of a store, or that the installed library cannot use the store."""
    try:
        # A damaged file was reported as such; a server's refusal may be due to the version.
        fault = None if check.status == "broken" and get_sqlite_path(url) else store_fault(option, url)
    except (sqlite3.Error, SQLAlchemyError) as error:
        fault = None if check.status == "broken" else (get_cause(error), f"start the server, or correct {option}")
    return check if fault is None else CheckOutcome("broken", *fault)


def check_sqlite(path: Path) -> CheckOutcome:
    """Check whether a SQLite file exists, is undamaged, and is on a disk whose locks work."""
    kind = get_file_system(path)
    if kind in NETWORK:
        shown = f"{path} is on a network file system ({kind}), whose locks SQLite cannot rely on"
        return CheckOutcome("broken", shown, "put the file on a local disk, or use a database server")
    if not path.exists():
        return CheckOutcome("ok", f"{path} is not there yet; a sweep makes it")
    try:
        with closing(sqlite3.connect(make_sqlite_uri(path, "ro"), uri=True, timeout=10)) as connection:
            answer = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    except sqlite3.Error as error:
        text = f"{path} cannot be read: {error}"
        return CheckOutcome("broken", text, "restore it from a copy, or move it away: a new one is made")
    if answer != "ok":
        advice = f"stop all sweeps that use it; restore a backup, or try `sqlite3 {path} .recover | sqlite3 NEW`"
        return CheckOutcome("broken", f"{path} is damaged: {answer}", advice)
    shown = f"{path}: whole, {path.stat().st_size / 1e6:.1f} MB, SQLite {sqlite3.sqlite_version}, journal {mode}"
    return CheckOutcome("ok", shown)


def _check_storage(url: str) -> CheckOutcome:
    path = get_sqlite_path(url)
    if path is not None:
        return check_sqlite(path)
    from sweeper.storage import list_study_names, open_storage

    try:
        names = list_study_names(open_storage(url, create=False))
    except Exception as error:
        is_expected = isinstance(error, SweeperError | ImportError)
        text = get_cause(error) if is_expected else f"{type(error).__name__}: {get_cause(error)}"
        return CheckOutcome("broken", text, "start the server, or correct --storage")
    return CheckOutcome("ok", f"{hide_address_secrets(url)} answers, {len(names)} studies")


def _check_tracking(uri: str) -> CheckOutcome:
    if (path := get_sqlite_path(uri)) is not None:  # which may contain a question mark, unlike an address
        return check_sqlite(path)
    place = hide_address_secrets(uri)
    if not uri.startswith(("http://", "https://")):
        return CheckOutcome("note", f"{place}: only files and servers are looked at")
    from sweeper.tracking import get_server_version

    try:
        check_address("--tracking-uri", uri)
        version = get_server_version(uri)
    except Exception as error:
        problem = f"{place} does not answer: {get_cause(error)}"
        return CheckOutcome("broken", problem, "start the server: a sweep begins with a store that answers alone")
    return CheckOutcome("ok", f"{place} answers, MLflow {version}")
