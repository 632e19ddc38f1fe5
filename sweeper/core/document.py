"""Documents for programs, printed by `--json` and written to JSON files: records with the name of their schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar, Self

from sweeper.core.base import Record
from sweeper.core.records import Dataset, Patterns, Task


class Document(Record):
    """Base of every document; docs/schemas/ is generated from its subclasses (`make docs`)."""

    SCHEMA: ClassVar[str]
    """Name and version of the schema: `sweeper.NAME/1`. Adding a field keeps the version; removing one raises it."""
    NULL_NUMBERS: ClassVar[bool] = False
    """Whether numbers that are NaN or infinite become null, at any depth."""

    @property
    def document(self) -> dict[str, Any]:
        """The document as JSON types, its schema first."""
        values = json.loads(self.model_dump_json()) if self.NULL_NUMBERS else self.model_dump(mode="json")
        return {"schema": self.SCHEMA, **values}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield the fields that are short, so that the whole is a line."""
        return filter(lambda field: isinstance(field[1], str | int | float), super().__repr_args__())


class DatasetSummary(Record):
    """A data set without its images."""

    name: str
    source: str
    """A folder, an annotation file, or `synthetic:…`."""
    patterns: Patterns | None
    """Patterns of the file names (`--images`, `--masks`); null = those of the format."""
    class_map: dict[str, tuple[str, ...]] | None
    """Classes and the labels or names that became them (`--class-map`); null = all as they are."""
    read_as: str | None
    """Layout that was found or assumed, in one line."""
    digest: str
    """SHA-256 of pixels, labels, names and split."""
    task: Task
    classes: tuple[str, ...]
    channels: int
    synthetic: bool

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> Self:
        """Return the summary of a data set."""
        return cls(**dataset.model_dump(include=set(cls.model_fields)))


def format_json(document: object) -> str:
    """Format a document as the readable text of its file; refuse a number that is not finite."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


class ErrorRow(Record):
    """One problem."""

    kind: str
    """Name of the error: `UsageError`, `DataError`, `InterruptedSweepError` and others."""
    message: str
    """Message: the rule, the value found, and the next step."""
    problems: tuple[str, ...]
    """All problems, if there may be several."""


class ErrorDocument(Document):
    """Error that every command prints under `--json`, on standard output."""

    SCHEMA: ClassVar[str] = "sweeper.error/1"

    exit_status: int
    error: ErrorRow
