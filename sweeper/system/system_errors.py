"""Plain error messages: a library's cause in one line, and limits of the system."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from sweeper.core.redact import redact

_STATEMENT = re.compile(r"\[SQL:.*|\(Background on this error at: .*")
"""SQLAlchemy's additions to a driver's message: the statement, and links to its documentation."""


def get_cause(error: BaseException, longest: int = 300) -> str:
    """Return the driver's message if a database failed, else the error's own, in one line of `longest` characters.

    Secrets are hidden. A longer text is shortened in the middle, because libraries name the reason last.
    """
    drivers = (getattr(one, "orig", None) for one in iterate_causes(error))
    raised = next((driver for driver in drivers if isinstance(driver, BaseException)), error)
    words = redact(_STATEMENT.sub("", " ".join(str(raised).split())).strip())
    if len(words) > longest:
        head, tail = words[: longest // 2 - 1], words[2 - longest // 2 :]
        words = f"{head.rpartition(' ')[0] or head} … {tail.partition(' ')[2] or tail}"
    return words or type(raised).__name__


def iterate_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, the driver's error that SQLAlchemy wraps, the errors it was raised from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        if isinstance(inner := getattr(error, "orig", None), BaseException):
            yield inner
        error = error.__cause__ or error.__context__


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


def limit_reached(error: BaseException, *, sweep: bool = True) -> str | None:
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
        words = " ".join(str(error).split())[:300]
        return f"memory ran out, of the machine or the GPU: {words}. End other programs that use it{fewer}"
    return None
