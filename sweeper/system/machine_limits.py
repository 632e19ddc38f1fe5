"""Errors that a limit of this machine causes, rather than a mistake in sweeper."""

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
_OTHERS = (
    "can't start new thread",
    "no space left",
    "disk is full",
    "disk i/o error",
    "readonly database",
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
