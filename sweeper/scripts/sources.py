"""The source files of a user's script, and which of them changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sweeper.scripts.launch import read_output

SOURCES = {".py", ".sh", ".yaml", ".yml", ".toml"}
MOST_SOURCES = 5_000


def hash_sources(words: Sequence[str]) -> dict[str, str]:
    """Return a hash of each source file of the script.

    These are the files that the repository of the current folder tracks (Python, shell, YAML and TOML); without one
    such files in the script's folder (the current one if the command names none, as `python -m` does) and one level
    below; and such files that the command names.
    """
    named = [path for word in words if (path := Path(word)).suffix in SOURCES and path.is_file()]
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


def list_changed_sources(before: Mapping[str, str], words: Sequence[str]) -> list[str]:
    """Return the files that changed or are missing; new ones do not count."""
    now = hash_sources(words)
    return [name for name, digest in before.items() if now.get(name) != digest]


def get_commit() -> str | None:
    """Return the commit of the current folder's repository; None if there is none."""
    commit = read_output("git", "rev-parse", "HEAD")
    return commit.strip() if commit else None
