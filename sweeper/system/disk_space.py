"""Disks: the file system of a path, and the check of free space before any training."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from sweeper.core.errors import UsageError
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
