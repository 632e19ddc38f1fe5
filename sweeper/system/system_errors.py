"""Errors that are the machine's and not the program's: limits of the system, a damaged file; and the words for them."""

from __future__ import annotations

import errno


def limit_reached(error: BaseException) -> str | None:
    """What to say of an error that the machine made, with the next step; None for any other."""
    seen: BaseException | None = error
    while seen is not None:
        if (text := _words(seen)) is not None:
            return text
        seen = seen.__cause__ or seen.__context__
    return None


def _words(error: BaseException) -> str | None:
    number = error.errno if isinstance(error, OSError) else None
    if (isinstance(error, RuntimeError) and "can't start new thread" in str(error)) or number == errno.EAGAIN:
        return (
            "the system lets this user start no more processes or threads"
            f"{_limit('RLIMIT_NPROC', 'ulimit -u')}: {error}. End other programs, raise the limit (`ulimit -u`, the "
            "container's `pids.max`), or ask for fewer --workers"
        )
    if number in {errno.EMFILE, errno.ENFILE}:
        return (
            f"the system lets this program open no more files{_limit('RLIMIT_NOFILE', 'ulimit -n')}: {error}. Raise "
            "the limit (`ulimit -n`), or ask for fewer --workers"
        )
    if "database disk image is malformed" in str(error):
        return (
            "a SQLite file, of the study or of MLflow, is damaged (database disk image is malformed): `sweeper "
            "doctor` says which. `sweeper doctor --repair STUDY` saves what can be read of a study; or restore a backup"
        )
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return (
            "the machine's memory, or what this program may have of it (`ulimit -v`, the container's limit), is used "
            "up. End other programs, or ask for fewer --workers or a smaller --batch-size"
        )
    return None


def _limit(name: str, command: str) -> str:
    """` (ulimit -u: 8)`, where the system can say it."""
    try:
        import resource

        soft, _ = resource.getrlimit(getattr(resource, name))
    except (ImportError, AttributeError, OSError, ValueError):
        return ""
    return "" if soft == resource.RLIM_INFINITY else f" ({command}: {soft})"
