"""`sweeper cache`: list the decoded data sets on disk, or clear them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import click

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.settings_options import make_setting_option
from sweeper.cli.terminal import echo_result
from sweeper.core.document import Document
from sweeper.core.errors import UsageError
from sweeper.core.text import escape_for_display, format_count
from sweeper.data.cache import CachedRow, clear_cache, list_entries


class CacheDocument(Document):
    """Document that `sweeper cache` prints."""

    SCHEMA: ClassVar[str] = "sweeper.cache/1"

    entries: tuple[CachedRow, ...]
    """Data sets in the cache now."""
    removed: tuple[CachedRow, ...]
    kept_in_use: tuple[CachedRow, ...]
    """Data sets that were to be deleted but are in use by a running sweep."""


@click.command("cache", cls=SweeperCommand)
@make_setting_option("cache")
@click.option("--clear", "wanted", is_flag=True, help="Delete every data set that no running sweep uses.")
@add_json_option()
def command(cache: Path, wanted: bool, as_json: bool) -> None:
    """List the decoded data sets: size, last use, source. Deleted ones are made again when they are needed.

    What a running sweep reads is never deleted.
    """
    removed: list[CachedRow] = []
    kept: list[CachedRow] = []
    if wanted:
        try:
            removed, kept = clear_cache(cache)
        except OSError as error:
            raise UsageError(f"--cache {cache} must be a folder that can be written: {error}; check it") from error
    left = list_entries(cache)
    lines = [f"deleted {_format_cache(entry)}" for entry in removed]
    lines += [f"kept, in use: {_format_cache(entry)}" for entry in kept]
    size = sum(entry.bytes for entry in left) / 1e6
    total = f"{escape_for_display(cache)}: {format_count(len(left), 'data set')}, {size:,.1f} MB"
    document = CacheDocument(entries=tuple(left), removed=tuple(removed), kept_in_use=tuple(kept))
    echo_result(document, "\n".join([*(lines or map(_format_cache, left)), total]), as_json=as_json)


def _format_cache(entry: CachedRow) -> str:
    what = ", ".join(escape_for_display(name) for name in entry.sources) or (
        "unknown source" if entry.complete else "unfinished"
    )
    images = f", {entry.images:,} images" if entry.images is not None else ""
    state = ", in use" if entry.in_use else f", last used {entry.last_use}"
    return f"{Path(entry.folder).name[:12]}  {entry.bytes / 1e6:9,.1f} MB{state}{images}  {what}"
