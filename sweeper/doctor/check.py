"""One thing that was looked at."""

from __future__ import annotations

from typing import ClassVar, Literal

from sweeper.core.base import Record
from sweeper.core.document import Document

Status = Literal["ok", "note", "slow", "broken"]
"""`note`: nothing to worry about; `slow`: it works and costs time; `broken`: a sweep fails or cannot be trusted."""


class Check(Record):
    """What was found of one thing, and what to do about it ("" where there is nothing to do)."""

    name: str
    status: Status
    found: str
    advice: str = ""


class DoctorDocument(Document):
    """What `sweeper doctor` prints."""

    SCHEMA: ClassVar[str] = "sweeper.doctor/1"

    ok: bool
    checks: tuple[Check, ...]
