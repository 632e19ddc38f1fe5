"""Making files in a cache that several users share."""

from __future__ import annotations

import uuid
from pathlib import Path


def new_name(folder: Path, prefix: str, suffix: str = "") -> Path:
    """A path in `folder` that nobody else takes. What is made there has the permissions that the user's umask gives.

    `tempfile` would make it for this user alone, and others who share the folder could not read it.
    """
    return folder / f"{prefix}{uuid.uuid4().hex}{suffix}"
