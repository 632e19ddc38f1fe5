"""What a library's error says, in one line: its cause, without the library's advice to programmers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sweeper.core.redact import redact

_ADVICE = re.compile(
    r"\(Background on this error at: [^)]*\)?"
    r"|\(raised as a result of Query-invoked autoflush[^)]*\)"
    r"|This Session's transaction has been rolled back.*?(?:Original exception was:|$)"
    r"|Can't reconnect until invalid (?:savepoint )?transaction is rolled back\."
    r"|Please rollback\(\) fully before proceeding"
    r"|An exception is raised during the commit\. This typically happens due to invalid data in the commit, "
    r"e\.g\. exceeding max length\."
    r"|\[SQL:.*|\[parameters:.*"
    r"|\((?:[a-z]\w*\.)+\w*Error\)"
)
"""Of SQLAlchemy and Optuna: how a program should be written, statements, links to their pages, names of classes."""


def cause(error: BaseException, longest: int = 300) -> str:
    """The driver's words where a database failed, else the error's own: one line of at most `longest` characters.

    Secrets are hidden. Where nothing but advice is left, the words are those of what led to the error.
    """
    for one in _chain(error):
        words = _ADVICE.sub(" ", " ".join(str(getattr(one, "orig", None) or one).split()))
        if words := " ".join(words.split()).strip():
            return redact(words)[:longest]
    return "the connection to the database was lost" if str(error) else type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and what led to it."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__
