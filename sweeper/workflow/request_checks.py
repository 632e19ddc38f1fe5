"""Checks of a request before any data are read: the same for `sweeper run` and for its `--dry-run`."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper import storage as studies
from sweeper.core.errors import MissingStudyError, RequestError, StudyError, UsageError
from sweeper.core.own_code import find_code
from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import join_words
from sweeper.losses.families import PRESENT, is_own_loss, parse_loss
from sweeper.space import list_named_losses, load_space, read_space_file
from sweeper.system.locks import get_sqlite_path
from sweeper.system.machine import check_room
from sweeper.system.postgres import is_same_database
from sweeper.workflow.options import restore_machine_options
from sweeper.workflow.own_losses import declare_loss
from sweeper.workflow.own_script import check_script_options
from sweeper.workflow.recipe_choice import check_exclusive_options, load_metric_code
from sweeper.workflow.settings import Settings

if TYPE_CHECKING:
    from sweeper.storage.resilient_storage import RetryingStorage


def open_request(
    settings: Settings, *, create: bool, warn: Callable[[str], None]
) -> tuple[RetryingStorage | None, Settings]:
    """Check a request as far as possible without data, and open its storage.

    `create` allows creating the tables of an existing database. `warn` is called when the database becomes unreachable,
    and when it is back.

    Returns:
        The storage, or None for a file that does not exist yet: it is created once the data are accepted, so that a
        refused request leaves nothing behind; and the settings, on a resume with the study's own use of the machine.

    Raises:
        UsageError: (RequestError, StudyError among them) as `check_places` and `check_request`.
    """
    check_places(settings)
    storage = None
    if settings.resume or not is_new_file(settings.storage):
        try:
            storage = studies.open_storage(settings.storage, create=create and not settings.resume, warn=warn)
        except MissingStudyError:
            if settings.resume:
                raise
    if storage is not None and settings.resume and settings.study is not None:
        settings = restore_machine_options(settings, studies.read_machine(storage, settings.study))
    return storage, check_request(storage, settings)


def check_request(storage: RetryingStorage | None, settings: Settings) -> Settings:
    """Refuse a taken or invalid name, a resume of nothing, and options that exclude each other.

    The returned settings have the user's losses that the space names as those of `--loss`.

    Raises:
        StudyError, UsageError: with the remedy.
    """
    names = studies.list_study_names(storage) if storage is not None else []
    if settings.study is not None:
        studies.check_name(settings.study)
    check_exclusive_options(settings)
    space = settings.space or "full"
    words = list_named_losses(space)
    named = words or read_space_file(space).losses
    if more := sorted({*filter(is_own_loss, named)} - {*settings.loss}):
        settings = settings.model_copy(update={"loss": (*settings.loss, *more)})
    check_script_options(settings)
    own = settings.own_losses
    losses = {declare_loss(name).name for name in own}  # before the space, which may contain their names
    if len(losses) < len(own):
        raise UsageError(f"--loss must name functions of different names, got {join_words(own)}; rename one")
    if settings.present is not None:
        parse_loss(settings.present, "--present: ")
    if words:
        settings = _add_present_loss(settings, words)
    else:
        load_space(space)  # checked against the data's task once the data are read
    if settings.model is not None:
        find_code(settings.model, "--model")
    load_metric_code(settings.metric)
    if settings.encoder_weights not in {None, "auto", "imagenet", "none"}:
        from sweeper.training.encoder_file import read_state  # torch takes seconds

        read_state(str(settings.encoder_weights))
    if is_same_database(settings.storage, settings.tracking_uri):
        raise UsageError(
            "--storage and --tracking-uri must be two databases, as Optuna and MLflow keep the versions of their "
            f"tables under one name; got {hide_address_secrets(settings.storage)} for both: create another one for "
            "MLflow"
        )
    if settings.resume:
        if settings.study is None:
            known_names = ", ".join(names[-5:]) or "none"
            raise StudyError(f"--resume needs --study NAME; the newest studies here are: {known_names}")
    elif settings.study in names:
        raise StudyError(
            f"study {settings.study!r} exists already; add --resume to continue it, or choose another --study"
        )
    return settings


def _add_present_loss(settings: Settings, words: tuple[str, ...]) -> Settings:
    """Return the settings with the present loss among the named ones.

    Raises:
        UsageError: if there is no other, or a name is none.
    """
    families, present = {parse_loss(word, "--space: ")[0] for word in words}, settings.present or PRESENT
    if {*words} == {present}:
        raise UsageError(f"one loss or more must be compared with {present}, got none")
    is_usual = settings.present is None and present in families
    if present in words or is_usual:
        return settings
    return settings.model_copy(update={"space": ",".join((present, *words))})


def check_places(settings: Settings) -> None:
    """Refuse files and folders that cannot be written, and disks without enough room.

    Nothing is created: for a missing path its nearest existing parent must be writable.

    Raises:
        RequestError: with all problems that were found.
        UsageError: if a disk has no room.
    """
    problems = [
        *_find_folder_problems("--out", settings.out),
        *_find_folder_problems("the cache", settings.cache),
        *_find_database_problems("--storage", settings.storage),
        *_find_database_problems("--tracking-uri", settings.tracking_uri),
    ]
    RequestError.refuse("this run", problems)
    for what, place in (
        ("the study's storage", get_sqlite_path(settings.storage)),
        ("MLflow's store", get_sqlite_path(settings.tracking_uri)),
        ("the reports", settings.out),
        ("the cache", settings.cache),
    ):
        if place is not None:
            check_room(what, place)


def check_writable(out: Path) -> None:
    """Refuse a report folder that cannot be written.

    Raises:
        RequestError: if it is so.
    """
    RequestError.refuse("this report", [*_find_folder_problems("--out", out)])


def is_new_file(url: str) -> bool:
    """Return whether the URL is a SQLite file that does not exist; `check_places` checks that it can be created."""
    path = get_sqlite_path(url)
    return path is not None and not path.exists()


def _find_folder_problems(option: str, folder: Path) -> Iterator[str]:
    try:
        existing = next(one for one in (folder, *folder.absolute().parents) if os.path.lexists(one))
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        yield f"{option} {folder} must be a folder that can be written: {error}; name another one"


def _find_database_problems(option: str, url: str) -> Iterator[str]:
    """Yield the problems of a SQLite file; servers report their own when they are contacted."""
    path = get_sqlite_path(url)
    if path is None:
        return
    where = f"{option} {url}"
    try:
        if os.path.lexists(path):
            if not path.is_file():
                yield f"{where} must be a SQLite file, got something that is not a file; name another one"
                return
            if not os.access(path, os.R_OK | os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            with closing(sqlite3.connect(path, timeout=0)) as connection:
                connection.execute("BEGIN IMMEDIATE")  # its existing journal may belong to another user
        existing = next(one for one in path.absolute().parents if os.path.lexists(one))
        tempfile.TemporaryFile(dir=existing).close()  # SQLite writes its journal next to the file
    except (OSError, sqlite3.Error) as error:  # a locked or invalid database is reported when it is opened
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if isinstance(error, OSError) or code == sqlite3.SQLITE_READONLY:
            yield f"{where} must be a file that can be written, in such a folder: {error}; name another one"
