"""On which kind of file system a path lies."""

from __future__ import annotations

from pathlib import Path

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
