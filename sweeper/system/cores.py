"""Processor cores and memory that this process may use, and settings of threads."""

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
    """Return the cores allowed by affinity and by the control group's quota (containers, jobs); at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
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
    return int(match[1]) or None if match else None


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
