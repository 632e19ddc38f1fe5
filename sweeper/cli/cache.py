"""`sweeper cache`: the decoded data sets on disk, and clearing them."""

from __future__ import annotations

import json
import time
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
from sweeper.system.whole_files import DAY


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
@click.option("--older-than", type=click.FloatRange(0), metavar="DAYS", help="Delete those not used for so many days.")
@json_option()
def command(cache: Path, wanted: bool, older_than: float | None, as_json: bool) -> None:
    """List the decoded data sets: size, last use, where they come from. They are made again when they are needed.

    What a running sweep reads is never deleted.
    """
    now = time.time()
    removed: list[Entry] = []
    kept: list[Entry] = []
    if wanted or older_than is not None:
        try:
            removed, kept = clear(cache, now=now, older_than_days=older_than or 0.0)
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
        click.echo(f"deleted {_text(entry, now)}")
    for entry in kept:
        click.echo(f"kept, in use: {_text(entry, now)}")
    if not removed and not kept:
        for entry in left:
            click.echo(_text(entry, now))
    click.echo(f"{shown(cache)}: {count(len(left), 'data set')}, {_size(sum(entry.size for entry in left))}")


def _row(entry: Entry) -> CachedRow:
    return CachedRow(
        folder=str(entry.folder),
        sources=entry.names,
        images=entry.images,
        bytes=entry.size,
        last_use=datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds"),
        in_use=entry.in_use,
        complete=entry.complete,
    )


def _text(entry: Entry, now: float) -> str:
    what = ", ".join(shown(name) for name in entry.names) or ("unknown source" if entry.complete else "unfinished")
    images = f", {entry.images:,} images" if entry.images is not None else ""
    state = ", in use" if entry.in_use else ""
    return f"{entry.folder.name[:12]}  {_size(entry.size):>9}  used {_ago(now - entry.used)}{state}{images}  {what}"


def _ago(seconds: float) -> str:
    for unit, length in (("days", DAY), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "a minute ago" if seconds >= 60 else "less than a minute ago"


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
