"""Disks: the file system of a path, the check of free space before any training, and errors of a full disk."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sweeper.core.error_causes import get_cause, iterate_causes
from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.paths import STORAGE
from sweeper.core.text import format_resume_command
from sweeper.system.locks import get_sqlite_path

NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "lustre",
    "gpfs",
    "beegfs",
    "fuse.sshfs",
    "9p",
    "afs",
    "ceph",
    "fuse.glusterfs",
}
"""File systems on whose locks SQLite cannot rely."""


def find_existing_parent(path: Path) -> Path:
    """Return the path, or its nearest existing folder."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def get_file_system(path: Path, mounts: str | None = None) -> str | None:
    """Return the type of a path's file system; None if unknown."""
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text("utf-8")
        except OSError:
            return None
    real = find_existing_parent(path).resolve()
    best, kind = -1, None
    for line in mounts.splitlines():
        _, point, fs, *_ = line.split()
        folder = Path(point.replace("\\040", " "))
        if (real == folder or folder in real.parents) and len(folder.parts) > best:
            best, kind = len(folder.parts), fs
    return kind


def warn_unsafe_for_sqlite(storage: str) -> str | None:
    """Return a warning if an address's SQLite file is on a file system with unsafe locks; else None."""
    path = get_sqlite_path(storage)
    if path is None or (kind := get_file_system(path)) not in NETWORK:
        return None
    return (
        f"--storage {storage} is on a network file system ({kind}), where SQLite's locks and write-ahead log are "
        "not safe: keep it on a local disk, or use a PostgreSQL database: --storage postgresql://USER@HOST/DATABASE "
        "(docs/cluster.md)"
    )


MB = 1_000_000
SPARE = 100 * MB
"""Reserve on every disk for logs, locks, temporary files, and writes of other programs."""
SWEEP = 400 * MB
"""Space for a sweep without the decoded images: databases, a report, weights of the finalists."""
CHECKPOINTS = 0.25
"""Largest share of the free space (without checkpoints) for checkpoints: 24 million weights need 0.4 GB."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PROTECTED = {errno.EPERM, errno.EACCES, errno.EROFS, errno.EIO}
_SQLITE = ("disk is full", "no space left", "disk i/o error", "readonly database", "unable to open database file")
_SERVER_FULL = "53100"
"""PostgreSQL's error code disk_full."""


def check_room(what: str, place: Path, size: int = SWEEP) -> None:
    """Refuse a disk with less than `size` bytes free, and 100 MB to spare.

    Raises:
        UsageError: with what is needed and what is free.
    """
    free = shutil.disk_usage(find_existing_parent(place)).free
    if free < size + SPARE:
        raise UsageError(
            f"the disk of {what}, {place}, must have {(size + SPARE) / MB:.0f} MB free, got {free / MB:.0f} MB. Free "
            "some (.sweeper/cache may be deleted), or name another place with --storage, --tracking-uri or --out; "
            "nothing was trained"
        )


def keep_within_room(files: Iterable[Path]) -> list[Path]:
    """Delete the last of these files until the others take no more than `CHECKPOINTS` of the disk's free space.

    Args:
        files: the most valuable first; missing ones are skipped.

    Returns:
        The deleted files.
    """
    existing = [(path, path.stat().st_size) for path in files if path.exists()]
    if not existing:
        return []
    total = sum(size for _, size in existing)
    allowed = CHECKPOINTS * (shutil.disk_usage(existing[0][0].parent).free + total)
    gone: list[Path] = []
    while existing and total > allowed:
        path, size = existing.pop()
        path.unlink(missing_ok=True)
        gone.append(path)
        total -= size
    return gone


def explain_write_failure(error: BaseException | None, places: Mapping[str, Path]) -> str | None:
    """Return a sentence on what could not be written, if an error or one of its causes is about writing.

    Args:
        error: the error.
        places: description → file or folder that the sweep writes.

    Returns:
        The sentence; None for any other error.
    """
    for one in iterate_causes(error):
        text = get_cause(one, 200)
        if getattr(one, "sqlstate", None) == _SERVER_FULL:
            return f"the database server has no room left on its own disk ({text})"
        if isinstance(one, sqlite3.Error) and any(words in text.lower() for words in _SQLITE):
            return _explain_unwritable(places, text)
        if not isinstance(one, OSError):
            continue
        path = Path(one.filename).absolute() if isinstance(one.filename, str) else None
        is_ours = path is not None and any(path.is_relative_to(place.absolute()) for place in places.values())
        if one.errno in _FULL or (one.errno in _PROTECTED and is_ours):  # else it may be about reading
            return _explain_unwritable(places if path is None else {"a file": path}, text)
    return None


def _explain_unwritable(places: Mapping[str, Path], text: str) -> str:
    free = [
        f"{what}, {place} ({shutil.disk_usage(find_existing_parent(place)).free / MB:.0f} MB free)"
        for what, place in places.items()
    ]
    return (
        f"{' or '.join(free)} cannot be written: {text}. Its disk is full, a quota or a limit (ulimit -f) is used "
        "up, or it is write-protected"
    )


@contextmanager
def explain_full_disk(
    study: str | None, places: Mapping[str, Path], *, storage: str = STORAGE, options: str = ""
) -> Iterator[Callable[[str], None]]:
    """Turn errors of a full disk or an unwritable file within the block into one message.

    Any other error gets a note with the command that continues the study, if the study's name is known.

    Yields:
        Function to call with the study's name when it becomes known.

    Raises:
        SweeperError: in place of a write error; other errors pass.
    """
    names = [study] if study else []
    try:
        yield names.append
    except SweeperError:
        raise
    except Exception as error:
        resume = format_resume_command(names[-1], storage, options) if names else None
        if (what := explain_write_failure(error, places)) is None:
            if resume is not None:
                error.add_note(resume)
            raise
        on = "repeat the command" if resume is None else f"continue with: {resume}"
        raise SweeperError(f"{what}. The sweep ends here, and what was finished is kept. Fix that, and {on}") from error
