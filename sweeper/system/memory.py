"""How much memory may still be taken."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

GIB = 2**30


def available_memory(system: Path = Path("/")) -> int | None:
    """Bytes that may still be taken, by the machine's and the control group's word; None where neither says.

    Pages of files that a control group holds are counted as free, as the machine counts its own: the kernel drops them
    for a process that needs memory.

    Args:
        system: the root of the file system.
    """
    found = []
    with suppress(OSError):
        lines = (system / "proc" / "meminfo").read_text("ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    group = system / "sys" / "fs" / "cgroup"
    with suppress(OSError):
        limit, used = ((group / f"memory.{name}").read_text("ascii").strip() for name in ("max", "current"))
        if limit.isdigit():
            found += [max(0, int(limit) - max(0, int(used) - _pages_of_files(group)))]
    return min(found, default=None)


def _pages_of_files(group: Path) -> int:
    """Bytes of a control group's memory that hold what is on disk as well."""
    try:
        pairs = [line.split() for line in (group / "memory.stat").read_text("ascii").splitlines()]
    except OSError:
        return 0
    return sum(int(number) for name, number in pairs if name in {"inactive_file", "active_file"})


def shown_memory(size: float) -> str:
    """Bytes for people: GiB, and MB where less than one is meant."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 1e6:.0f} MB"
