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


class ExportDocument(Document):
    """What `sweeper export` prints: the files that it wrote."""

    SCHEMA: ClassVar[str] = "sweeper.export/1"

    study: str
    family: str
    verdict: str
    loss: str
    """Python file of the loss."""
    space: str
    """YAML file of the loss, for `--space`."""
    weights: str | None
    """Null where no weights are kept on this machine."""
    model: str | None
    """Python file that loads the weights."""
    megabytes: float | None
    """Size of the weights."""
    onnx: str | None
    onnx_difference: float | None
    """Largest difference between torch and the ONNX runtime, relative to logits above 1."""
    examples: str | None
    """Folder of code that trains elsewhere with the loss."""
    huggingface: str | None = None
    """Folder of the form that HuggingFace's Hub has (`--huggingface`)."""
    registered: str | None = None
    """Address of the model in MLflow's registry (`--register`)."""


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


class MlflowDocument(Document):
    """What `sweeper mlflow` prints."""

    SCHEMA: ClassVar[str] = "sweeper.mlflow/1"

    study: str
    tracking_uri: str
    """Without a password."""
    trainings: int
    made: int
    completed: int


class BackupDocument(Document):
    """What `sweeper backup` prints."""

    SCHEMA: ClassVar[str] = "sweeper.backup/1"

    study: str
    file: str
    bytes: int
