"""PostgreSQL: its addresses, and connections on which every wait is bounded.

A server or network can fail without closing a connection, for example by a power failure or a firewall's timeout. TCP
alone notices this only after minutes or hours. Every connection therefore has short TCP timeouts at both ends, and the
client limits the server's silence; the server ends a session whose client was lost in a transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, quote

from sweeper.core.errors import UsageError, get_cause, require_extra
from sweeper.core.redact import hide_address_secrets
from sweeper.system.locks import get_sqlite_path, make_sqlite_uri

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy.engine import Engine

Found = TypeVar("Found")

SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")
ANSWER_SECONDS = 30.0
"""Seconds of silence during a wait after which the server counts as away."""
START_SECONDS = 180.0
"""Longest wait for a server that is starting, or has no free connection."""
NAME = "sweeper"
"""Application name, or its beginning, of sweeper's sessions."""
SOCKET: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""The client's end: data unacknowledged for 25 s, or 25 s without a sign of life, end a connection."""
SESSION = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25000",
    "idle_in_transaction_session_timeout": "60000",
}
"""The server's end, likewise, so that a session whose client is gone releases its locks."""
_FULL = ("too many clients", "too many connections", "connection slots are reserved")
_STARTING = ("starting up", "shutting down", "not yet accepting connections", "in recovery mode")
_ADVICE = "Each run needs 4 connections or more: raise the server's max_connections, or run fewer sweeps at once"


def is_postgres(url: str) -> bool:
    """Return whether an address is a PostgreSQL server's."""
    return url.startswith(SCHEMES)


def make_sqlalchemy_url(url: str) -> str:
    """Return a PostgreSQL address with psycopg 3 as driver, `postgresql+psycopg://…`; any other address unchanged.

    Raises:
        UsageError: if psycopg is not installed.
    """
    if not is_postgres(url):
        return url
    require_driver()
    _watch_engines()
    return "postgresql+psycopg://" + url.split("://", 1)[1]


def make_named_url(url: str, purpose: str) -> str:
    """Return `make_sqlalchemy_url` with sweeper's application name, for engines that are made from only the address."""
    address = make_sqlalchemy_url(url)
    if not is_postgres(url) or "application_name" in dict(parse_qsl(address.partition("?")[2])):
        return address
    return f"{address}{'&' if '?' in address else '?'}application_name={quote(f'{NAME} {purpose}')}"


def is_same_database(one: str, other: str) -> bool:
    """Return whether two addresses, compared as text, are of one PostgreSQL database."""
    if not is_postgres(one) or not is_postgres(other):
        return False
    return one.split("://", 1)[1] == other.split("://", 1)[1]


def make_engine_options() -> dict[str, Any]:
    """Return SQLAlchemy's options for a server that may restart: connections are tested before use."""
    return {"pool_pre_ping": True, "connect_args": {"application_name": NAME}}


def make_read_only_engine(url: str) -> Engine:
    """Return an engine without a pool for a server or an existing SQLite file, which it cannot change."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    if (path := get_sqlite_path(url)) is None:
        return create_engine(make_sqlalchemy_url(url), poolclass=NullPool, **make_engine_options())
    return create_engine(f"sqlite:///{make_sqlite_uri(path, 'ro')}&uri=true", poolclass=NullPool)


def connect_to_server(url: str, name: str) -> psycopg.Connection:
    """Open a connection that commits each statement, with bounded waits.

    SQLAlchemy parses the address, as for engines; libpq's parser splits some passwords, and prints parts of them.

    Raises:
        psycopg.OperationalError: if the server does not answer.
    """
    from sqlalchemy.engine import make_url

    from sweeper.system.bounded_connection import BoundedConnection

    address = make_url(make_sqlalchemy_url(url))
    _, options = address.get_dialect()().create_connect_args(address)
    connection: psycopg.Connection = BoundedConnection.connect(**{**options, "application_name": name}, autocommit=True)
    return connection


def explain_server_error(url: str, error: BaseException) -> UsageError:
    """Make the error for an unusable server."""
    text = get_cause(error)
    more = f". {_ADVICE}" if _is_full(error) else ""
    return UsageError(f"{hide_address_secrets(url)} must be a PostgreSQL database that answers, got: {text}{more}")


def _is_full(error: BaseException) -> bool:
    """Return whether an error means that a server has no free connection."""
    return any(words in str(error) for words in _FULL)


def retry_until_accepting(url: str, call: Callable[[], Found], *, warn: Callable[[str], None]) -> Found:
    """Return the call's result; repeat the call while the server has no free connection, or is starting.

    Raises:
        Exception: the call's error, after `START_SECONDS` of such errors, or at once if it is another.
    """
    began, warned = time.monotonic(), False
    while True:
        try:
            return call()
        except Exception as error:
            passes = _is_full(error) or any(words in str(error) for words in _STARTING)
            if not passes or time.monotonic() - began >= START_SECONDS:
                raise
            if not warned:
                warned = True
                more = f". {_ADVICE}" if _is_full(error) else ""
                warn(
                    f"{hide_address_secrets(url)} takes no connection now ({get_cause(error)}); waiting up to "
                    f"{START_SECONDS:.0f} s{more}"
                )
            time.sleep(0.5)


def require_driver() -> None:
    """Check that psycopg is installed.

    Raises:
        UsageError: if not, with the command that installs it.
    """
    with require_extra("a postgresql:// address", "psycopg", "postgres"):
        import psycopg  # noqa: F401


@cache
def _watch_engines() -> None:
    """Make SQLAlchemy's engines with sweeper's application name (Optuna's, MLflow's) use bounded connections."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from sweeper.system.bounded_connection import BoundedConnection

    def bounded(dialect: Any, _record: Any, arguments: Any, options: dict[str, Any]) -> Any:
        if dialect.driver != "psycopg" or not str(options.get("application_name", "")).startswith(NAME):
            return None
        return BoundedConnection.connect(*arguments, **options)

    event.listen(Engine, "do_connect", bounded)
