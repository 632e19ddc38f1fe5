"""PostgreSQL: how its addresses are written, and locks that the server frees when their holder dies."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sweeper.errors import UsageError
from sweeper.redact import redact

if TYPE_CHECKING:
    import psycopg

SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")
CONNECT_SECONDS = 10
WATCH_SECONDS = 5.0
"""A lock that is held for long is looked after this often."""


def is_postgres(url: str) -> bool:
    """Whether an address is a PostgreSQL server's."""
    return url.startswith(SCHEMES)


def sqlalchemy_url(url: str) -> str:
    """`postgresql+psycopg://…`, which names psycopg 3 as the driver; any other address as it is.

    Raises:
        UsageError: if psycopg is not installed.
    """
    if not is_postgres(url):
        return url
    _require()
    return "postgresql+psycopg://" + url.split("://", 1)[1]


def same_database(one: str, other: str) -> bool:
    """Whether two addresses are one PostgreSQL database, as far as can be told from them."""
    return is_postgres(one) and is_postgres(other) and one.split("://", 1)[1] == other.split("://", 1)[1]


def engine_options() -> dict[str, object]:
    """SQLAlchemy's options for a server that may be restarted: a connection is tried before it is used."""
    return {
        "pool_pre_ping": True,
        "connect_args": {"connect_timeout": CONNECT_SECONDS, "application_name": "sweeper"},
    }


def _require() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise UsageError(
            "a postgresql:// address needs psycopg; install it with: pip install 'sweeper[postgres]'"
        ) from None


class AdvisoryLock:
    """A lock of the database, held by a connection of its own: the server frees it when the process or machine dies.

    While it is held a thread looks after the connection. A server that was restarted has forgotten the lock; it is
    taken again as soon as the server answers, and `lost` says so if another holds it by then.
    """

    def __init__(self, url: str, purpose: str) -> None:
        self._url = "postgresql://" + url.split("://", 1)[1]
        digest = hashlib.blake2b(f"sweeper\0{purpose}".encode(), digest_size=8).digest()
        self._key = int.from_bytes(digest, "big", signed=True)
        self._connection: psycopg.Connection | None = None
        self._end = threading.Event()
        self._watch: threading.Thread | None = None
        self.lost = False

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock; without `wait`, False when another holds it.

        Raises:
            psycopg.OperationalError: if the server does not answer.
        """
        import psycopg

        connection = psycopg.connect(
            self._url, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name="sweeper lock"
        )
        # A machine that lost its power says no goodbye: the server notices within a minute or so.
        mine = False
        try:
            connection.execute(
                "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
            )
            how = "SELECT pg_advisory_lock(%s) IS NOT NULL" if wait else "SELECT pg_try_advisory_lock(%s)"
            row = connection.execute(how, [self._key]).fetchone()
            mine = row is not None and bool(row[0])
        finally:
            if not mine:
                connection.close()
        self._connection = connection if mine else None
        return mine

    def keep(self) -> None:
        """Look after the lock, in a thread, until it is released."""
        self._watch = threading.Thread(target=self._look_after, name="sweeper-lock", daemon=True)
        self._watch.start()

    def release(self) -> None:
        """Give it back. Safe to call twice."""
        self._end.set()
        if self._watch is not None:
            self._watch.join(2 * CONNECT_SECONDS)
        if self._connection is not None:
            with suppress(Exception):  # the server may be away, and then the lock is gone anyhow
                self._connection.close()
            self._connection = None

    def _look_after(self) -> None:
        import psycopg

        while not self._end.wait(WATCH_SECONDS):
            try:
                if self._connection is None:
                    self.lost = not self.acquire(wait=False)
                else:
                    self._connection.execute("SELECT 1")
            except psycopg.Error:
                if self._connection is not None:
                    self._connection.close()
                self._connection = None


@contextmanager
def one_at_a_time(url: str, purpose: str) -> Iterator[None]:
    """Wait until no other process is in such a block for this database.

    Raises:
        UsageError: if the server does not answer.
    """
    _require()
    import psycopg

    lock = AdvisoryLock(url, purpose)
    try:
        lock.acquire(wait=True)
    except psycopg.Error as error:
        text = redact((str(error).strip().splitlines() or [type(error).__name__])[0])
        raise UsageError(f"{redact(url)} must be a PostgreSQL database that answers, got: {text}") from error
    try:
        yield
    finally:
        lock.release()
