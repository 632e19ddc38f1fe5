"""`sweeper doctor`: versions, device and stores of this machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import ClassVar

import click

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.settings_options import make_setting_option
from sweeper.cli.terminal import echo_result
from sweeper.core.base import Record
from sweeper.core.document import Document
from sweeper.core.errors import check_address, get_cause
from sweeper.core.redact import hide_address_secrets, redact
from sweeper.system.locks import get_sqlite_path, make_sqlite_uri
from sweeper.system.postgres import is_postgres
from sweeper.version import read_versions


class DoctorCheck(Record):
    """Finding of one check."""

    name: str
    ok: bool
    found: str


class DoctorDocument(Document):
    """Document that `sweeper doctor` prints."""

    SCHEMA: ClassVar[str] = "sweeper.doctor/2"

    ok: bool
    checks: tuple[DoctorCheck, ...]


@click.command(cls=SweeperCommand)
@make_setting_option("storage")
@make_setting_option("tracking_uri")
@make_setting_option("device")
@add_json_option()
def command(*, storage: str, tracking_uri: str, device: str, as_json: bool) -> int:
    """Check versions, device and stores. Nothing is created or changed.

    The exit status is 1 if something is broken, else 0.
    """
    checks = (
        examine("versions", lambda: ", ".join(f"{name} {version}" for name, version in read_versions().items())),
        examine("device", lambda: describe_device(device)),
        examine("storage", lambda: describe_store("--storage", storage)),
        examine("MLflow", lambda: describe_store("--tracking-uri", tracking_uri)),
    )
    ok = all(check.ok for check in checks)
    lines = [f"{'ok    ' if check.ok else 'BROKEN'}  {check.name:8}  {check.found}" for check in checks]
    echo_result(DoctorDocument(ok=ok, checks=checks), "\n".join(lines), as_json=as_json)
    return int(not ok)


def examine(name: str, describe: Callable[[], str]) -> DoctorCheck:
    """Return what a check finds, or why it fails."""
    try:
        return DoctorCheck(name=name, ok=True, found=redact(describe()))
    except Exception as error:
        return DoctorCheck(name=name, ok=False, found=get_cause(error, 1000))


def describe_device(device: str) -> str:
    """Return the device that trainings use, once it has computed something."""
    from sweeper.training.hardware import probe_device

    hardware = probe_device(device)
    return f"{hardware.devices} × {hardware.name}, {hardware.precision}"


def describe_store(option: str, url: str) -> str:
    """Return that a store is whole, and fits the installed library; raise why it is or does not."""
    from sweeper.storage.database import check_optuna_schema
    from sweeper.storage.resilient_storage import explain_damage, explain_damaged_file
    from sweeper.tracking.mlflow_connection import check_mlflow_schema, get_server_version

    if (path := get_sqlite_path(url)) is None:
        check_address(option, url)
    elif not path.exists():
        return f"{path} is not there yet; a sweep makes it"
    else:
        with closing(sqlite3.connect(make_sqlite_uri(path, "ro"), uri=True, timeout=10)) as connection:
            try:
                answer = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            except sqlite3.DatabaseError as error:
                raise explain_damage(url, error) or error from error
        if answer != "ok":
            raise explain_damaged_file(url, answer)
    if path is not None or is_postgres(url):
        (check_optuna_schema if option == "--storage" else check_mlflow_schema)(url)
    version = f", MLflow {get_server_version(url)}" if url.startswith(("http://", "https://")) else ""
    return f"{path or hide_address_secrets(url)}: no fault found{version}"
