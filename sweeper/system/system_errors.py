"""Plain messages for errors caused by limits of the system."""

from __future__ import annotations

import errno

from sweeper.core.error_causes import get_cause, iterate_causes

MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "out of memory",
    "bad alloc",
    "bad_alloc",
    "alloc_failed",  # of cuBLAS and cuDNN
)
"""Lower-case words of library errors about lack of memory, of the machine or a GPU."""
WORKER_BYTES = 5 * 10**9
"""Address space of a worker: torch and its libraries reserve 3.5 GB, a training the rest."""


def explain_memory_limit() -> str | None:
    """Return a message with the next step if a program may reserve less memory than a worker needs; else None."""
    try:
        import resource
    except ImportError:  # on Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft >= WORKER_BYTES:
        return None
    return (
        f"a program may reserve {soft / 1e9:.1f} GB of memory here (`ulimit -v`), and a worker needs "
        f"{WORKER_BYTES / 1e9:.0f} GB, most of which it never uses: raise that limit (`ulimit -v unlimited`, or what "
        "the batch system was asked for)"
    )


def explain_limit(error: BaseException, *, sweep: bool = True) -> str | None:
    """Return a message with the next step for an error caused by a limit of the machine; None for any other.

    Args:
        error: the error.
        sweep: whether it ended a sweep, which could use fewer workers and smaller batches.
    """
    for one in iterate_causes(error):
        if isinstance(one, ImportError | MemoryError) and (limited := explain_memory_limit()) is not None:
            return limited
        if (text := _explain_limit(one, sweep=sweep)) is not None:
            return text
    return None


def _explain_limit(error: BaseException, *, sweep: bool) -> str | None:
    fewer = ", or ask for fewer --workers" if sweep else ""
    number = error.errno if isinstance(error, OSError) else None
    if (isinstance(error, RuntimeError) and "can't start new thread" in str(error)) or number == errno.EAGAIN:
        return (
            f"the system lets this user start no more processes or threads: {error}. End other programs, raise the "
            f"limit (`ulimit -u`, the container's `pids.max`){fewer}"
        )
    if number in {errno.EMFILE, errno.ENFILE}:
        return f"the system lets this program open no more files: {error}. Raise the limit (`ulimit -n`){fewer}"
    if "database disk image is malformed" in str(error):
        return (
            "a SQLite file, of the study or of MLflow, is damaged (database disk image is malformed): `sweeper doctor` "
            "says which. Restore a backup, or copy what SQLite can still read: `sqlite3 FILE .recover | sqlite3 NEW`"
        )
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return (
            "the machine's memory, or what this program may have of it (`ulimit -v`, the container's limit), is used "
            f"up. End other programs{fewer}{' or a smaller --batch-size' if sweep else ''}"
        )
    if isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in MEMORY):
        return f"memory ran out, of the machine or the GPU: {get_cause(error)}. End other programs that use it{fewer}"
    return None
