"""`sweeper cache`: the decoded data sets on disk, and clearing them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import click

from sweeper.cli.options import SweeperCommand, json_option
from sweeper.cli.settings_options import setting
from sweeper.core.base import Record
from sweeper.core.document import Document
from sweeper.core.errors import UsageError
from sweeper.core.text import count
from sweeper.data.cache import Entry, clear, entries
from sweeper.data.text_tables import shown


class CachedRow(Record):
    """One decoded data set on disk."""

    folder: str
    sources: tuple[str, ...]
    images: int | None
    bytes: int
    last_use: str
    """UTC, ISO 8601."""
    in_use: bool
    complete: bool


class CacheDocument(Document):
    """What `sweeper cache` prints."""

    SCHEMA: ClassVar[str] = "sweeper.cache/1"

    entries: tuple[CachedRow, ...]
    """What is there now."""
    removed: tuple[CachedRow, ...]
    kept_in_use: tuple[CachedRow, ...]
    """What was to be deleted, and is read by a running sweep."""


@click.command("cache", cls=SweeperCommand)
@setting("cache")
@click.option("--clear", "wanted", is_flag=True, help="Delete every data set that no running sweep uses.")
@json_option()
def command(cache: Path, wanted: bool, as_json: bool) -> None:
    """List the decoded data sets: size, last use, where they come from. They are made again when they are needed.

    What a running sweep reads is never deleted.
    """
    removed: list[Entry] = []
    kept: list[Entry] = []
    if wanted:
        try:
            removed, kept = clear(cache)
        except OSError as error:
            raise UsageError(f"--cache {cache} must be a folder that can be written: {error}; check it") from error
    left = entries(cache)
    if as_json:
        rows = {
            key: tuple(map(_row, group))
            for key, group in (("entries", left), ("removed", removed), ("kept_in_use", kept))
        }
        click.echo(json.dumps(CacheDocument(**rows).document))
        return
    for entry in removed:
        click.echo(f"deleted {_text(entry)}")
    for entry in kept:
        click.echo(f"kept, in use: {_text(entry)}")
    if not removed and not kept:
        for entry in left:
            click.echo(_text(entry))
    click.echo(f"{shown(cache)}: {count(len(left), 'data set')}, {sum(entry.size for entry in left) / 1e6:,.1f} MB")


def _row(entry: Entry) -> CachedRow:
    return CachedRow(
        folder=str(entry.folder),
        sources=entry.names,
        images=entry.images,
        bytes=entry.size,
        last_use=_last_use(entry),
        in_use=entry.in_use,
        complete=entry.complete,
    )


def _last_use(entry: Entry) -> str:
    return datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds")


def _text(entry: Entry) -> str:
    what = ", ".join(shown(name) for name in entry.names) or ("unknown source" if entry.complete else "unfinished")
    images = f", {entry.images:,} images" if entry.images is not None else ""
    state = ", in use" if entry.in_use else f", last used {_last_use(entry)}"
    return f"{entry.folder.name[:12]}  {entry.size / 1e6:9,.1f} MB{state}{images}  {what}"
