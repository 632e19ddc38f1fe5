"""Where a database file lies: on which kind of file system, and whether it is still the one that was opened."""

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


class SameFile:
    """A file that this process keeps open, remembered by its device and its number there.

    What is written to a deleted file is gone in the end.
    """

    def __init__(self, path: Path) -> None:
        """Remember the file that lies at `path` now.

        Raises:
            OSError: if there is none.
        """
        self.path = path.resolve()
        self._identity = self._found()

    def fault(self) -> str | None:
        """What became of it, for people; None while the same file lies at its path."""
        try:
            return None if self._found() == self._identity else "was replaced by another file"
        except (FileNotFoundError, NotADirectoryError):
            return "was deleted, or its folder was renamed"
        except OSError:  # a disk or a network that does not answer is no deletion
            return None

    def _found(self) -> tuple[int, int]:
        stat = self.path.stat()
        return stat.st_dev, stat.st_ino
