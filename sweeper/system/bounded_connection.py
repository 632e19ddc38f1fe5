"""A connection to PostgreSQL on which every wait is bounded. Importing this module loads psycopg."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any, TypeVar

import psycopg

from sweeper.system import postgres

Found = TypeVar("Found")


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed if the server is silent for too long during a wait."""

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Any:
        """Connect like psycopg, with sweeper's timeouts unless `options` has others; connecting always has a timeout.

        Raises:
            psycopg.OperationalError: if the server does not answer.
        """
        autocommit = bool(options.pop("autocommit", False))
        limits = {**postgres.SOCKET, **options}
        limits["connect_timeout"] = max(2, int(limits["connect_timeout"]))  # 0 would mean unbounded
        connection = super().connect(conninfo, autocommit=True, **limits)
        try:
            _set_server_timeouts(connection)
            connection.autocommit = autocommit
        except BaseException:
            connection.close()
            raise
        return connection

    def wait(self, gen: Any, interval: float = 0.1, **more: Any) -> Any:  # type: ignore[override]
        """Wait like psycopg, but close if the server is silent for longer than `postgres.ANSWER_SECONDS`."""
        try:
            return super().wait(self._wait_while_answering(gen), interval, **more)
        except _SilentError:
            self.pgconn.finish()
            seconds = postgres.ANSWER_SECONDS
            raise psycopg.OperationalError(f"the server did not answer within {seconds:.0f} s") from None

    def _wait_while_answering(self, gen: Generator[Any, Any, Found]) -> Generator[Any, Any, Found]:
        heard = time.monotonic()
        try:
            state = next(gen)
            while True:
                ready = yield state
                now = time.monotonic()
                if ready:
                    heard = now
                if now - heard > postgres.ANSWER_SECONDS:
                    raise _SilentError
                state = gen.send(ready)
        except StopIteration as end:
            result: Found = end.value
            return result


class _SilentError(Exception):
    pass


def _set_server_timeouts(connection: psycopg.Connection[Any]) -> None:
    """Set the server's timeouts."""
    settings = ", ".join("set_config(%s, %s, false)" for _ in postgres.SESSION)
    values = [text for pair in postgres.SESSION.items() for text in pair]
    # If the server does not know one of them, only the client's timeouts apply.
    with suppress(psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError):
        connection.execute(f"SELECT {settings}", values, prepare=False)
