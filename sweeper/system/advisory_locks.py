"""Locks of a PostgreSQL database, which its server frees when their holder dies, and which know a dead holder."""

from __future__ import annotations

import hashlib
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from sweeper.core.errors import UsageError
from sweeper.core.redact import shown_address
from sweeper.system.database_waits import Patience
from sweeper.system.postgres import NAME, connect, require_driver, server_error, when_it_takes_connections

if TYPE_CHECKING:
    import psycopg

WATCH_SECONDS = 5.0
"""Who holds a lock gives a sign of life this often."""
GHOST_SECONDS = 60.0
"""A session that gave none for so long has lost its process: its lock is taken from it."""
POLL_SECONDS = 0.2
_HOLDER = """
SELECT a.pid, coalesce(a.application_name, ''), a.backend_start,
       greatest(a.backend_start, a.query_start, a.state_change),
       extract(epoch FROM clock_timestamp() - greatest(a.backend_start, a.query_start, a.state_change)),
       a.state_change IS NOT NULL
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid = %s AND l.objid = %s
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Holder(NamedTuple):
    """The session that holds a lock."""

    pid: int
    name: str
    began: object
    active: object
    """When it was active last; `silent` seconds ago by the server's clock."""
    silent: float
    known: bool
    """Whether the server tells when it was active: it does of sessions of the same role."""

    @property
    def who(self) -> str:
        """For people: the process that began it."""
        parts = self.name.split(" ")
        if len(parts) < 5:
            return f"a session of the server's (process {self.pid} there)"
        return f"process {parts[3]} on {' '.join(parts[4:])}"


class AdvisoryLock:
    """A lock of the database, held by a session of its own, which says whose it is.

    While the lock is held a thread gives a sign of life every few seconds. A server that was restarted has forgotten
    the lock; it is taken again as soon as the server answers, and `lost` says so if another holds it by then. A
    connection can also be cut without the server's notice, so that its session goes on holding the lock. Such a ghost
    of our own is known by its name, and that of a process that is gone by its silence; both are ended.
    """

    def __init__(self, url: str, purpose: str, patience: Patience | None = None) -> None:
        """Not yet held.

        Args:
            url: PostgreSQL's address.
            purpose: what is locked; the same for all who exclude each other.
            patience: of this process.
        """
        self._url, self._outer = url, patience or Patience()
        digest = hashlib.blake2b(f"sweeper\0{purpose}".encode(), digest_size=8).digest()
        self._key = int.from_bytes(digest, "big", signed=True)
        self._token = uuid.uuid4().hex[:8]
        self._name = f"{NAME} lock {self._token} {os.getpid()} {socket.gethostname()}"[:63]
        self._connection: psycopg.Connection | None = None
        self._end = threading.Event()
        self._patience = Patience(lambda: self._end.is_set() or self._outer.hurries())
        self._watch: threading.Thread | None = None
        self.lost = False
        self.holder: Holder | None = None
        """Who held it when it could not be had."""

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock; False when it is not to be had: without `wait`, when another process that lives holds it.

        Whether it lives shows within `WATCH_SECONDS`, or, if it is silent, after `GHOST_SECONDS` of silence. A process
        that is to stop waits for neither.

        Raises:
            psycopg.Error: if the server does not answer.
        """
        connection = connect(self._url, self._name, self._patience)
        mine = False
        try:
            mine = self._take(connection, wait)
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
            self._watch.join(20)
        if self._connection is not None:
            with suppress(Exception):  # the server may be away, and then the lock is gone anyhow
                self._connection.close()
            self._connection = None

    def _take(self, connection: psycopg.Connection, wait: bool) -> bool:
        first: Holder | None = None
        began = time.monotonic()
        while True:
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", [self._key]).fetchone()
            if row is not None and row[0]:
                return True
            holder = self.holder = self._found(connection)
            if holder is not None:
                if self._token in holder.name or (holder.known and holder.silent > GHOST_SECONDS):
                    # By its start, too: the number of a session that ended meanwhile may be another's.
                    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s"
                    connection.execute(end, [holder.pid, holder.began])
                elif not wait:
                    same = first is not None and (first.pid, first.began) == (holder.pid, holder.began)
                    if not holder.known or (same and first is not None and first.active != holder.active):
                        return False
                    first = first if same else holder
            if self._end.wait(POLL_SECONDS):
                return False
            # Who looks after a lock is ended by its release, and is to see for certain whether another has it.
            if self._watch is None and time.monotonic() - began >= self._outer.seconds(math.inf):
                return False

    def _found(self, connection: psycopg.Connection) -> Holder | None:
        number = self._key & 0xFFFFFFFFFFFFFFFF
        row = connection.execute(_HOLDER, [number >> 32, number & 0xFFFFFFFF]).fetchone()
        return None if row is None else Holder(row[0], row[1], row[2], row[3], float(row[4] or 0), bool(row[5]))

    def _look_after(self) -> None:
        import psycopg

        while not self._end.wait(WATCH_SECONDS):
            try:
                if self._connection is not None:
                    self._connection.execute("SELECT 1")
                elif not self.acquire(wait=False) and not self._end.is_set():
                    self.lost = True
                    return
            except psycopg.Error:
                if self._connection is not None:
                    self._connection.close()
                self._connection = None


@contextmanager
def one_at_a_time(
    url: str, purpose: str, *, warn: Callable[[str], None] = lambda _: None, patience: Patience | None = None
) -> Iterator[None]:
    """Wait until no other process is in such a block for this database.

    Raises:
        UsageError: if the server does not answer, or this process is to stop.
    """
    require_driver()
    import psycopg

    lock = AdvisoryLock(url, purpose, patience)
    try:
        mine = when_it_takes_connections(
            url, lambda: lock.acquire(wait=True), warn=warn, patience=patience or Patience()
        )
    except psycopg.Error as error:
        raise server_error(url, error) from error
    if not mine:
        by = "another process" if lock.holder is None else lock.holder.who
        raise UsageError(f"{shown_address(url)} was not opened: {by} was still making tables there")
    lock.keep()  # making the tables of MLflow takes a while: who waits sees that this process lives
    try:
        yield
    finally:
        lock.release()
