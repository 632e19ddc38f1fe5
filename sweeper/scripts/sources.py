"""The source of a user's script: which files it is of, and which of them changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sweeper.scripts.launch import read_output

SOURCES = {".py", ".sh", ".yaml", ".yml", ".toml"}
MOST_SOURCES = 5_000


def hash_sources(words: Sequence[str]) -> dict[str, str]:
    """Return a hash of each file of the script's source.

    Source is what the repository of the present folder tracks (Python, shell, YAML and TOML); else such files in the
    script's folder and one level below; and such files that the command names.
    """
    named = [path for word in words if (path := Path(word)).suffix in SOURCES and path.is_file()]
    tracked = read_output("git", "ls-files", "-z")
    if tracked is None:
        folders = {path.parent for path in named}
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
    """Return the files that are no longer what they were; new ones change nothing that was there."""
    now = hash_sources(words)
    return [name for name, digest in before.items() if now.get(name) != digest]


def get_commit() -> str | None:
    """Return the commit of the present folder's repository; None if there is none."""
    commit = read_output("git", "rev-parse", "HEAD")
    return commit.strip() if commit else None
