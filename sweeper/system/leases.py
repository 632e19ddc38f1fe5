"""Exclusive leases: rows of a PostgreSQL database that their holders renew while they live.

When a holder ends, for whatever reason, others can take the lease after it expires. A restarted server or a lost
connection therefore neither frees a lease nor blocks it for ever. All times are the server's.
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
"""Seconds without a renewal after which a holder counts as dead."""
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
"""Changes nothing if another process has taken the lease, even if that one has released it."""
_HOLDER = "SELECT who, ends FROM sweeper_leases WHERE purpose = %s"
_FREE = "DELETE FROM sweeper_leases WHERE purpose = %s AND token = %s"


class LeaseTakenError(Exception):
    """A living process holds the lease; the message is its name."""


class Lease:
    """One process's lease for a purpose; a thread renews the lease while it is held."""

    _connection: psycopg.Connection
    """Set by `acquire`."""

    def __init__(self, url: str, purpose: str) -> None:
        """Create a lease that is not yet held; processes with the same purpose exclude each other."""
        self._url, self._purpose = url, purpose
        self._token, self._who = uuid.uuid4().hex, f"process {os.getpid()} on {socket.gethostname()}"
        self._end = threading.Event()
        self._renewing = threading.Thread(target=self._run_renewals, name="sweeper-lease", daemon=True)
        self.lost, self._renewed = False, time.monotonic()
        """Whether another process has taken the lease, by the last renewal; and the time of that renewal."""

    def acquire(self, *, wait: bool, warn: Callable[[str], None] = lambda _: None) -> None:
        """Take the lease and keep it.

        A living holder renews within `RENEW_SECONDS`; a dead one is recognised after `LEASE_SECONDS` without a renewal,
        and `warn` is called for that wait.

        Raises:
            LeaseTakenError: without `wait`, if the holder lives.
            psycopg.Error: if the server does not answer.
        """
        import psycopg

        self._connection = connect_to_server(self._url, f"{NAME} lease")
        errors = psycopg.errors
        # Another process creates the table at the same time; its progress decides which of the three is raised.
        with suppress(errors.UniqueViolation, errors.DuplicateObject, errors.DuplicateTable):
            self._connection.execute(_MAKE)
        first: tuple[str, object] | None = None
        began, warned = time.monotonic(), False
        values = [self._purpose, self._token, self._who, LEASE_SECONDS]
        while not self._connection.execute(_TAKE, values).rowcount:
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
        """Release the lease."""
        self._end.set()
        self._renewing.join(20)
        with suppress(Exception):  # the server may be away: the lease expires
            self._connection.execute(_FREE, [self._purpose, self._token])
            self._connection.close()

    def is_lost(self) -> bool:
        """Return whether another process has taken the lease; if it was not renewed in time, ask the server."""
        if not self.lost and time.monotonic() - self._renewed > 2 * RENEW_SECONDS:
            self._renewed = time.monotonic()  # do not ask an unreachable server again at once
            with suppress(Exception), connect_to_server(self._url, f"{NAME} lease") as connection:
                self.lost = not self._extend_lease(connection)
        return self.lost

    def _extend_lease(self, connection: psycopg.Connection) -> bool:
        return connection.execute(_RENEW, [LEASE_SECONDS, self._purpose, self._token]).rowcount == 1

    def _run_renewals(self) -> None:
        import psycopg

        while not self._end.wait(RENEW_SECONDS) and not self.lost:
            try:
                if self._connection.closed:
                    self._connection = connect_to_server(self._url, f"{NAME} lease")
                began = time.monotonic()  # the answer may be read long after it was sent
                self.lost, self._renewed = not self._extend_lease(self._connection), began
            except psycopg.Error:  # the server is away: try again
                self._connection.close()


@contextmanager
def hold_lease(url: str, purpose: str, *, wait: bool, warn: Callable[[str], None] = lambda _: None) -> Iterator[Lease]:
    """Hold a lease while the block runs. `warn` receives the reason for a wait.

    Raises:
        LeaseTakenError: without `wait`, if another process holds the lease.
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
