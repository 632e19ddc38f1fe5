"""A connection to PostgreSQL on which no wait is without end. Whoever imports this loads psycopg."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any, TypeVar

import psycopg

from sweeper.system import postgres
from sweeper.system.database_waits import Patience

Found = TypeVar("Found")
PART_SECONDS = 0.1
"""A part of an answer, of up to 16 KiB, may take so long on a slow line: a server that sends single bytes is away."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server is silent for too long while it is waited for."""

    patience: Patience = Patience()

    @classmethod
    def connect(  # type: ignore[override]
        cls, conninfo: str = "", *, patience: Patience | None = None, **options: Any
    ) -> Any:
        """As psycopg's, with our timeouts where the address names none.

        Args:
            conninfo: as psycopg takes it.
            patience: says how long silence is waited for.
            options: of psycopg and libpq.

        Raises:
            psycopg.OperationalError: if the server does not answer, or is a standby that takes no writes.
        """
        patience = patience or Patience()
        given = psycopg.conninfo.conninfo_to_dict(conninfo)
        defaults = {key: value for key, value in postgres.SOCKET.items() if key not in given}
        limit = float(given.get("connect_timeout") or postgres.CONNECT_SECONDS)
        defaults["connect_timeout"] = max(2, int(patience.seconds(limit)))  # 0 would be without end
        autocommit = bool(options.pop("autocommit", False))
        connection = super().connect(conninfo, autocommit=True, **{**defaults, **options})
        connection.patience = patience
        try:
            _begin(connection)
            connection.autocommit = autocommit
        except BaseException:
            connection.close()
            raise
        return connection

    def wait(self, gen: Any, interval: float = 0.1, **more: Any) -> Any:  # type: ignore[override]
        """As psycopg's, for so long as the server is not silent for longer than `postgres.ANSWER_SECONDS`, nor its
        answer's parts come so slowly that it is away all the same."""
        try:
            return super().wait(self._while_it_answers(gen), interval, **more)
        except _SilentError as error:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"the server did not answer within {error.seconds:.0f} s") from None

    def _while_it_answers(self, gen: Generator[Any, Any, Found]) -> Generator[Any, Any, Found]:
        began = heard = time.monotonic()
        parts = 0
        try:
            state = next(gen)
            while True:
                ready = yield state
                now = time.monotonic()
                if ready:
                    heard, parts = now, parts + 1
                if now - min(heard, began + parts * PART_SECONDS) > (
                    limit := self.patience.seconds(postgres.ANSWER_SECONDS)
                ):
                    raise _SilentError(limit)
                state = gen.send(ready)
        except StopIteration as end:
            found: Found = end.value
            return found


class _SilentError(Exception):
    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def _begin(connection: psycopg.Connection[Any]) -> None:
    """Set the server's end of the timeouts, and refuse a standby."""
    asked = ", ".join("set_config(%s, %s, false)" for _ in postgres.SESSION)
    values = [text for pair in postgres.SESSION.items() for text in pair]
    # A server that does not know one of them: this end's timeouts have to do.
    with suppress(psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError):
        connection.execute(f"SELECT {asked}", values, prepare=False)
    row = connection.execute("SELECT pg_is_in_recovery(), current_setting('max_connections')").fetchone()
    info = connection.info
    postgres.note_limit(info.host, info.port, str(row[1] if row else ""))
    if row is None or row[0]:
        raise psycopg.OperationalError("the server is a standby, which takes no writes")
