"""The documents that commands print under `--json`, but for those that stand beside their records.

`sweeper.cli.schemas` has all of them."""

from __future__ import annotations

from typing import ClassVar

from sweeper.core.base import Record
from sweeper.core.document import Document


class ErrorRow(Record):
    """What was wrong."""

    kind: str
    """Name of the error: `UsageError`, `DataError`, `InterruptedSweepError` and others."""
    message: str
    """For people: the rule, what was found, and the next step."""
    problems: tuple[str, ...]
    """Each thing that is wrong, where there may be several."""


class ErrorDocument(Document):
    """What every command prints under `--json` where it fails, on standard output."""

    SCHEMA: ClassVar[str] = "sweeper.error/1"

    exit_status: int
    error: ErrorRow


class DeletedDocument(Document):
    """What `sweeper studies delete` prints."""

    SCHEMA: ClassVar[str] = "sweeper.deleted/1"

    study: str
    deleted: tuple[str, ...]
    """What went, in words."""
    kept: tuple[str, ...]
    """What stays, in words."""
    bytes: int
    """Of the files that went."""


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


class BackupDocument(Document):
    """What `sweeper backup` prints."""

    SCHEMA: ClassVar[str] = "sweeper.backup/1"

    study: str
    file: str
    bytes: int
