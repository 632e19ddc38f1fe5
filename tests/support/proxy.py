"""A forwarder between a client and a server, on the loopback address, that fails as networks do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.conninfo import conninfo_to_dict


class Proxy:
    """Forwards every connection to one server until it is set to fail."""

    def __init__(self, target: str | tuple[str, int]) -> None:
        """`target` is the path of a Unix socket, or a host and a port."""
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.passing = threading.Event()
        """Set while data may pass."""
        self.passing.set()
        self.delay = 0.0
        """Seconds that each piece of data takes on its way."""
        self.drips = 0.0
        """Seconds that each byte takes on its way to the client, from now on; 0 = all are sent at once."""
        self.drips_from = 0
        """How many bytes of an answer are sent at once before it drips."""
        self._pairs: list[_Pair] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def silent(self) -> None:
        """Drop all data from now on: connections remain open, and can be made, but nothing arrives."""
        self.passing.clear()

    def forget(self) -> None:
        """Forget the present connections, as a firewall does: both ends keep theirs open, and nothing passes."""
        with self._lock:
            for pair in self._pairs:
                pair.forgotten = True

    def close(self) -> None:
        """End everything."""
        self.passing.set()
        self._listener.close()
        with self._lock:
            for pair in self._pairs:
                pair.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            pair = _Pair(self, client, self._connected())
            with self._lock:
                self._pairs.append(pair)
            pair.start()

    def _connected(self) -> socket.socket:
        if isinstance(self._target, tuple):
            return socket.create_connection(self._target)
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._target)
        return server


class _Pair:
    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self.forgotten = False

    def start(self) -> None:
        for source, sink in ((self._client, self._server), (self._server, self._client)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def reset(self) -> None:
        for end in (self._client, self._server):
            _reset(end)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self._proxy.delay)
                self._proxy.passing.wait()
                if not self.forgotten:
                    self._pass_on(data, sink)
            self._proxy.passing.wait()
            if not self.forgotten:  # else the other end never learns of it
                sink.shutdown(socket.SHUT_WR)

    def _pass_on(self, data: bytes, sink: socket.socket) -> None:
        """Pass data on; the rest is sent at once when the dripping ends."""
        if sink is self._client and self._proxy.drips:
            sink.sendall(data[: self._proxy.drips_from])
            data = data[self._proxy.drips_from :]
        while sink is self._client and self._proxy.drips and data:
            sink.sendall(data[:1])
            data = data[1:]
            time.sleep(self._proxy.drips)
        sink.sendall(data)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextmanager
def run_proxy(url: str) -> Iterator[tuple[Proxy, str]]:
    """Yield a proxy before the PostgreSQL server of an address, and the address of the same database through it."""
    parameters = conninfo_to_dict(url)
    host, port = str(parameters["host"]), int(parameters.get("port") or 5432)
    proxy = Proxy(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port))
    try:
        # A connection that asks for encryption first would need one more round trip, and the server has none.
        yield proxy, f"postgresql://{parameters['user']}@127.0.0.1:{proxy.port}/{parameters['dbname']}?sslmode=disable"
    finally:
        proxy.close()
