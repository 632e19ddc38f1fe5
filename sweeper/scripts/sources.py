"""The source files of a user's script, and which of them changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sweeper.core.text import abbreviate_names
from sweeper.scripts.launch import read_output, split_command

SOURCES = {".py", ".sh", ".yaml", ".yml", ".toml"}
MOST_SOURCES = 5_000


def hash_sources(command: str) -> dict[str, str]:
    """Return a hash of each source file of the script that a command starts.

    These are the files that the repository of the current folder tracks (Python, shell, YAML and TOML); without one
    such files in the script's folder (the current one if the command names none, as `python -m` does) and one level
    below; and such files that the command names.

    Raises:
        UsageError: if the command is invalid.
    """
    named = [path for word in split_command(command) if (path := Path(word)).suffix in SOURCES and path.is_file()]
    tracked = read_output("git", "ls-files", "-z")
    if tracked is None:
        folders = {path.parent for path in named} or {Path()}
        paths = [p for folder in folders for pattern in ("*", "*/*") for p in folder.glob(pattern)]
    else:
        paths = [Path(name) for name in tracked.split("\0") if name]
    sources = sorted({p for p in [*named, *paths] if p.suffix in SOURCES and p.is_file()})[:MOST_SOURCES]
    hashes = {}
    for path in sources:
        with suppress(OSError):
            hashes[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return hashes


def name_changed_sources(before: Mapping[str, str], command: str) -> str:
    """Name the files that changed or are missing; "" if there are none. New ones do not count."""
    now = hash_sources(command)
    return abbreviate_names([name for name, digest in before.items() if now.get(name) != digest])
