"""`sweeper backup`: copy a whole study to one file while sweeps continue."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import ClassVar

import click

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.settings_options import make_setting_option
from sweeper.cli.terminal import echo_result
from sweeper.core.document import Document


class BackupDocument(Document):
    """Document that `sweeper backup` prints."""

    SCHEMA: ClassVar[str] = "sweeper.backup/1"

    study: str
    file: str
    bytes: int


@click.command(cls=SweeperCommand)
@click.argument("study", metavar="STUDY")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@make_setting_option("storage", text="Optuna's storage: sqlite:///FILE.")
@add_json_option()
def command(study: str, file: Path, *, storage: str, as_json: bool) -> None:
    """Copy the database that holds STUDY to FILE, whole and at one instant, and check the study's records in it.

    A plain copy of sweeper.db may be torn while a sweep writes. To restore: stop the
    sweep, move sweeper.db, sweeper.db-wal and sweeper.db-shm away, and copy FILE to sweeper.db; or name FILE itself:
    --storage sqlite:///FILE.
    """
    from sweeper.core.errors import SweeperError
    from sweeper.storage.database import back_up_database

    try:
        size = back_up_database(storage, study, file)
    except (OSError, sqlite3.Error) as error:
        raise SweeperError(f"{file} could not be written: {error}") from error
    text = f"{file}: {size / 1e6:.1f} MB, every record of study {study} is whole"
    echo_result(BackupDocument(study=study, file=str(file), bytes=size), text, as_json=as_json)
