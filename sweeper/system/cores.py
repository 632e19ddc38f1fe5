"""Processor cores and memory that this process may use, and how trainings are to use them."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

_SYSTEM = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_PROCESSOR = Path("/proc/cpuinfo")


def count_available_cores() -> int:
    """Cores by this process's affinity, and by the quota of its control group (containers, jobs); at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = read_cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def read_cpu_quota(system: Path = _SYSTEM, own_group: Path = _OWN) -> float | None:
    """Cores' worth of time that Linux's control groups allow, the least of this process's group and those above it.

    Args:
        system: where the control groups are mounted (version 2).
        own_group: the file that says which is this process's.

    Returns:
        None where there is no limit, or none can be read.
    """
    quotas: list[float] = []
    with suppress(OSError, ValueError):
        path = own_group.read_text(encoding="utf-8").partition("0::")[2]
        names = Path(path.splitlines()[0]).parts[1:] if path else ()
        # In a container its own group may be mounted at the top, under a path as seen from outside.
        for depth in range(len(names) + 1):
            with suppress(OSError, ValueError):
                quota, period = system.joinpath(*names[:depth], "cpu.max").read_text(encoding="utf-8").split()
                quotas += [] if quota == "max" else [int(quota) / int(period)]
    return min(quotas, default=None)


def get_processor_name(cpuinfo: Path = _PROCESSOR) -> str:
    """Return the processor's name, different for two that compute at different speeds.

    Clouds show one model name for several processors, and hide instructions of them: what the kernel says of the first
    core's family, model, stepping and flags is in the name.
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
    """`OMP_NUM_THREADS`, the first number of it; None where it is not set, or says nothing."""
    match = re.match(r"\s*(\d+)\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
    return int(match[1]) or None if match else None


@contextmanager
def set_unless_given(variables: dict[str, str], others: Sequence[str] = ()) -> Iterator[None]:
    """Give processes begun in the block these variables, unless the user set one of them, or one of the `others`."""
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
    """Let threads of processes begun in the block sleep while they wait, unless the user said otherwise.

    OpenMP's own default is to spin. That takes the core from the very thread that is waited for when the machine has
    other work: 12 steps on two threads of a busy two-core machine took 38 to 74 s, and sleeping ones 12 s.
    """
    return set_unless_given({"OMP_WAIT_POLICY": "PASSIVE"}, ("GOMP_SPINCOUNT", "KMP_BLOCKTIME"))


GIB = 2**30


def get_available_memory(system: Path = Path("/")) -> int | None:
    """Bytes that may still be taken, by the machine's and the control group's word; None where neither says.

    Pages of files that a control group holds are counted as free, as the machine counts its own: the kernel drops them
    for a process that needs memory.
    """
    limits = []
    with suppress(OSError):
        lines = (system / "proc" / "meminfo").read_text("ascii").splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    group = system / "sys" / "fs" / "cgroup"
    with suppress(OSError):
        limit, used = ((group / f"memory.{name}").read_text("ascii").strip() for name in ("max", "current"))
        if limit.isdigit():
            limits += [max(0, int(limit) - max(0, int(used) - _read_file_pages(group)))]
    return min(limits, default=None)


def _read_file_pages(group: Path) -> int:
    """Bytes of a control group's memory that hold what is on disk as well."""
    try:
        pairs = [line.split() for line in (group / "memory.stat").read_text("ascii").splitlines()]
    except OSError:
        return 0
    return sum(int(number) for name, number in pairs if name in {"inactive_file", "active_file"})


def format_memory(size: float) -> str:
    """Return bytes as text: GiB, or MB below one GiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 1e6:.0f} MB"
