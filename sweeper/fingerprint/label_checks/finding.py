"""Findings of the label doctor: one record each."""

from __future__ import annotations

from enum import StrEnum

from sweeper.core.base import Record


class Severity(StrEnum):
    """Severity of a finding; nothing is ever deleted."""

    ERROR = "error"
    """A label or a split is wrong: correct it or exclude the image."""
    WARNING = "warning"
    """Probably wrong, or scores will be misleading: check it."""
    NOTE = "note"
    """Possibly right, but worth knowing."""


class Finding(Record):
    """A finding, with its images."""

    kind: str
    """Name for programs, e.g. `identical_masks`."""
    severity: Severity
    text: str
    """Sentence on the finding, with numbers, and what to do."""
    images: tuple[str, ...] = ()
    """Stems of all suspects; the text may name fewer. Empty = the whole data set."""
