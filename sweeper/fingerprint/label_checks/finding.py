"""Findings of the doctor: one record each, the weightiest first."""

from __future__ import annotations

from enum import StrEnum

from sweeper.core.base import Record


class Severity(StrEnum):
    """Weight of a finding; nothing is deleted, whatever it says."""

    ERROR = "error"
    """A label or a split is wrong: correct it or leave the image out."""
    WARNING = "warning"
    """Probably wrong, or scores will be misleading: look at it."""
    NOTE = "note"
    """Right as it may be, it should be known."""


class Finding(Record):
    """One thing that was found, with the images it is about."""

    kind: str
    """A name for programs, e.g. `identical_masks`."""
    severity: Severity
    text: str
    """Sentence: what was found, with its numbers, and what to do."""
    images: tuple[str, ...] = ()
    """Stems of the suspects, all of them; the text may name fewer. Empty: it is about the whole set."""
