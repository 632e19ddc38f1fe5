"""On which kind of file system a path lies, and whether SQLite may lie there."""

from __future__ import annotations

from pathlib import Path

from sweeper.system.locks import sqlite_path

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
"""File systems whose locks SQLite cannot rely on."""


def existing(path: Path) -> Path:
    """The path, or its nearest folder that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def file_system(path: Path, mounts: str | None = None) -> str | None:
    """Type of the file system that a path lies on; None where the system does not say."""
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text("utf-8")
        except OSError:
            return None
    real = existing(path).resolve()
    best, kind = -1, None
    for line in mounts.splitlines():
        _, point, fs, *_ = line.split()
        folder = Path(point.replace("\\040", " "))
        if (real == folder or folder in real.parents) and len(folder.parts) > best:
            best, kind = len(folder.parts), fs
    return kind


def unsafe_for_sqlite(storage: str) -> str | None:
    """A warning where the SQLite file of an address lies where its locks are not safe; else None."""
    path = sqlite_path(storage)
    if path is None or (kind := file_system(path)) not in NETWORK:
        return None
    return (
        f"--storage {storage} lies on a network file system ({kind}), where SQLite's locks and write-ahead log are "
        "not safe: keep it on a local disk, or use a PostgreSQL database: --storage postgresql://USER@HOST/DATABASE "
        "(docs/cluster.md)"
    )
