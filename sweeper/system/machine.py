"""This machine: its cores, threads, memory and disks, and errors that their limits cause."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import accumulate
from pathlib import Path

from sweeper.core.errors import UsageError, get_cause, iterate_causes
from sweeper.system.locks import get_sqlite_path

_SYSTEM = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_PROCESSOR = Path("/proc/cpuinfo")


def count_available_cores() -> int:
    """Return the cores allowed by affinity and by the control group's quota (containers, jobs); at least 1."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    quota = read_cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def read_cpu_quota(system: Path = _SYSTEM, own_group: Path = _OWN) -> float | None:
    """Read the CPU quota, in cores, of this process's Linux control group and its parents: the least.

    Args:
        system: mount point of the control groups (version 2).
        own_group: file with this process's group.

    Returns:
        The quota; None if there is none, or it cannot be read.
    """
    quotas: list[float] = []
    with suppress(OSError, ValueError):
        path = own_group.read_text(encoding="utf-8").partition("0::")[2]
        names = Path(path.splitlines()[0]).parts[1:] if path else ()
        # A container's own group may be mounted at the top, while its path is the one outside of the container.
        for depth in range(len(names) + 1):
            with suppress(OSError, ValueError):
                quota, period = system.joinpath(*names[:depth], "cpu.max").read_text(encoding="utf-8").split()
                quotas += [] if quota == "max" else [int(quota) / int(period)]
    return min(quotas, default=None)


def get_processor_name(cpuinfo: Path = _PROCESSOR) -> str:
    """Return a name of the processor that differs between processors of different speed.

    Clouds use one model name for several processors, and hide some of their instructions. The name therefore includes
    family, model, stepping and flags of the first core, as reported by the kernel.
    """
    try:
        first = cpuinfo.read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()}".strip()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    kept = [fields.get(key, "") for key in ("cpu family", "model", "stepping", "flags", "Features", "CPU part")]
    digest = hashlib.sha256("\n".join(kept).encode()).hexdigest()[:8]
    return f"{fields.get('model name', platform.machine())} {digest}"


def read_requested_threads() -> int | None:
    """Return the first number of `OMP_NUM_THREADS`; None if there is none."""
    match = re.match(r"\s*(\d+)\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
    number = int(match[1]) if match else 0
    return number or None


@contextmanager
def set_unless_given(variables: dict[str, str], others: Sequence[str] = ()) -> Iterator[None]:
    """Set variables for processes started in the block, unless the user has set one of them or of the `others`."""
    if any(name in os.environ for name in (*variables, *others)):
        yield
        return
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)


def use_passive_waiting() -> AbstractContextManager[None]:
    """Let threads of processes started in the block sleep while they wait, unless the user chose otherwise.

    OpenMP's default is to spin, which on a busy machine takes the core from the awaited thread: 12 steps on two threads
    of a busy two-core machine took 38 to 74 s, with sleeping threads 12 s.
    """
    return set_unless_given({"OMP_WAIT_POLICY": "PASSIVE"}, ("GOMP_SPINCOUNT", "KMP_BLOCKTIME"))


GIB = 2**30


def format_memory(size: float) -> str:
    """Format bytes: GiB, or MB below one GiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 1e6:.0f} MB"


NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "9p", "afs", "ceph"),
    *("fuse.sshfs", "fuse.glusterfs"),
}
"""File systems on whose locks SQLite cannot rely."""


def find_existing_parent(path: Path) -> Path:
    """Return the path, or its nearest existing folder."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def get_file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """Return the type of a path's file system; None if unknown."""
    rows = [line.split() for line in mounts.read_text("utf-8").splitlines()] if mounts.exists() else []
    kinds = {Path(row[1].replace("\\040", " ")): row[2] for row in rows}
    real = find_existing_parent(path).resolve()
    return next((kinds[folder] for folder in (real, *real.parents) if folder in kinds), None)


def warn_unsafe_for_sqlite(storage: str) -> str | None:
    """Return a warning if an address's SQLite file is on a file system with unsafe locks; else None."""
    path = get_sqlite_path(storage)
    kind = None if path is None else get_file_system(path)
    if kind not in NETWORK:
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
    existing = [path for path in files if path.exists()]
    if not existing:
        return []
    sizes = [path.stat().st_size for path in existing]
    allowed = CHECKPOINTS * (shutil.disk_usage(existing[0].parent).free + sum(sizes))
    gone = [path for path, total in zip(existing, accumulate(sizes), strict=True) if total > allowed]
    for path in gone:
        path.unlink(missing_ok=True)
    return gone


MEMORY = (
    *("can't allocate memory", "cannot allocate memory", "unable to allocate", "out of memory", "bad alloc"),
    *("bad_alloc", "alloc_failed"),  # the last of cuBLAS and cuDNN
)
"""Lower-case words of library errors about lack of memory, of the machine or a GPU."""
_OTHERS = (
    *("can't start new thread", "no space left", "disk is full", "disk i/o error", "readonly database"),
    "unable to open database file",
)
_NUMBERS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM),
    *(errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE),
}


def explain_machine_limit(error: BaseException) -> str | None:
    """Return a sentence with the next step for an error caused by a limit of the machine; None for any other."""
    for one in iterate_causes(error):
        text = get_cause(one, 200)
        is_known = isinstance(one, MemoryError) or getattr(one, "errno", None) in _NUMBERS
        if is_known or any(words in text.lower() for words in (*MEMORY, *_OTHERS)):
            return (
                f"this machine allows no more: {text}. Its memory, a disk or the user's share of it, processes or open "
                "files are used up, or a place is write-protected; `df -h`, `free -h` and `ulimit -a` show them. Make "
                "room, or use fewer --workers or a smaller --batch-size"
            )
    return None
