"""Causes of errors: the message of the library that failed, in one line."""

from __future__ import annotations

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
