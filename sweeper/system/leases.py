"""Who does something alone: a row of a PostgreSQL database with a lease, which its holder renews while it lives.

A holder that is gone, however it went, is followed when its lease has run out. So neither a server that is restarted
nor a connection that is cut frees the row or keeps it. All times are the server's.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sweeper.system.postgres import NAME, connect_to_server, explain_server_error, require_driver, retry_until_accepting

if TYPE_CHECKING:
    import psycopg

LEASE_SECONDS = 60.0
"""A holder that did not renew its lease for so long is taken for dead."""
RENEW_SECONDS = 5.0
POLL_SECONDS = 0.2
_MAKE = "CREATE TABLE IF NOT EXISTS sweeper_leases (purpose text PRIMARY KEY, token text, who text, ends timestamptz)"
_TAKE = """
INSERT INTO sweeper_leases AS held VALUES (%s, %s, %s, clock_timestamp() + make_interval(secs => %s))
ON CONFLICT (purpose) DO UPDATE SET token = excluded.token, who = excluded.who, ends = excluded.ends
WHERE held.token = excluded.token OR held.ends < clock_timestamp()
"""
_RENEW = """
UPDATE sweeper_leases SET ends = clock_timestamp() + make_interval(secs => %s) WHERE purpose = %s AND token = %s
"""
"""Changes nothing where another process took it, though it gave it back since."""
_HOLDER = "SELECT who, ends FROM sweeper_leases WHERE purpose = %s"
_FREE = "DELETE FROM sweeper_leases WHERE purpose = %s AND token = %s"


class LeaseTakenError(Exception):
    """A living process has the lease; the message says which."""


class Lease:
    """One process's claim to a purpose. While it is held a thread renews it."""

    def __init__(self, url: str, purpose: str) -> None:
        """Make a lease that is not yet held; the purpose is the same for all who exclude each other."""
        self._url, self._purpose = url, purpose
        self._token, self._who = uuid.uuid4().hex, f"process {os.getpid()} on {socket.gethostname()}"
        self._connection: psycopg.Connection | None = None
        self._end = threading.Event()
        self._renewing = threading.Thread(target=self._run_renewals, name="sweeper-lease", daemon=True)
        self.lost, self._renewed = False, time.monotonic()
        """Whether another process took it, as of the last renewal; and when that was."""

    def acquire(self, *, wait: bool, warn: Callable[[str], None] = lambda _: None) -> None:
        """Take the lease and keep it.

        Whether its holder lives shows within `RENEW_SECONDS`, and that it does not after `LEASE_SECONDS` without a
        renewal: `warn` is called for that wait.

        Raises:
            TakenError: without `wait`, if its holder lives.
            psycopg.Error: if the server does not answer.
        """
        import psycopg

        self._connection = connect_to_server(self._url, f"{NAME} lease")
        errors = psycopg.errors
        # Another process made the table at the same time. Which of the three is raised depends on how far that was.
        with suppress(errors.UniqueViolation, errors.DuplicateObject, errors.DuplicateTable):
            self._connection.execute(_MAKE)
        first: tuple[str, object] | None = None
        began, warned = time.monotonic(), False
        while not self._try_acquire(self._connection):
            holder: tuple[str, object] = self._connection.execute(_HOLDER, [self._purpose]).fetchone() or (
                "nobody",
                None,
            )
            first = first or holder
            if not wait and holder != first:  # it was renewed
                self._connection.close()
                raise LeaseTakenError(holder[0])
            if not warned and time.monotonic() - began > 2 * RENEW_SECONDS:
                warned = True
                warn(f"{holder[0]} has the lease and gives no sign of life; waiting up to {LEASE_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
        self._renewing.start()

    def release(self) -> None:
        """Give it back."""
        self._end.set()
        self._renewing.join(20)
        with suppress(Exception):  # the server may be away: the lease ends by itself
            if self._connection is not None:
                self._connection.execute(_FREE, [self._purpose, self._token])
                self._connection.close()

    def is_lost(self) -> bool:
        """Return whether another process took it: as the server says, where it was not renewed in time."""
        if not self.lost and time.monotonic() - self._renewed > 2 * RENEW_SECONDS:
            self._renewed = time.monotonic()  # a server that is away is not asked at once again
            with suppress(Exception), connect_to_server(self._url, f"{NAME} lease") as connection:
                self.lost = not self._extend_lease(connection)
        return self.lost

    def _try_acquire(self, connection: psycopg.Connection) -> bool:
        return connection.execute(_TAKE, [self._purpose, self._token, self._who, LEASE_SECONDS]).rowcount == 1

    def _extend_lease(self, connection: psycopg.Connection) -> bool:
        return connection.execute(_RENEW, [LEASE_SECONDS, self._purpose, self._token]).rowcount == 1

    def _run_renewals(self) -> None:
        import psycopg

        while not self._end.wait(RENEW_SECONDS) and not self.lost:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = connect_to_server(self._url, f"{NAME} lease")
                began = time.monotonic()  # the answer may be read long after the server gave it
                self.lost, self._renewed = not self._extend_lease(self._connection), began
            except psycopg.Error:  # the server is away: it is asked again
                if self._connection is not None:
                    self._connection.close()


@contextmanager
def hold_lease(url: str, purpose: str, *, wait: bool, warn: Callable[[str], None] = lambda _: None) -> Iterator[Lease]:
    """Hold a lease for as long as the block lasts. `warn` receives what is waited for.

    Raises:
        TakenError: without `wait`, if another process has it.
        UsageError: if the server does not answer.
    """
    require_driver()
    import psycopg

    lease = Lease(url, purpose)
    try:
        retry_until_accepting(url, lambda: lease.acquire(wait=wait, warn=warn), warn=warn)
    except psycopg.Error as error:
        raise explain_server_error(url, error) from error
    try:
        yield lease
    finally:
        lease.release()
