"""Requests to MLflow's server that end: the timeout of `requests` is one between two bytes, and never of the whole.

MLflow makes its sessions with one adapter class. Ours takes its place, and its connections have a clock: a request,
from its first byte to the last of its answer, may take its timeout, and as long as what it moves takes on a slow line.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any, ClassVar

from mlflow.utils import request_utils
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

SLOWEST_LINE = 16 * 1024
"""Bytes per second."""
BLOCK = 16 * 1024
"""Bytes that are sent at a time."""


class _Clock:
    """Of one request."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = float("inf") if timeout is None else timeout
        self._began = self._heard = time.monotonic()
        self._bytes = 0

    def moved(self, size: int) -> None:
        """So many bytes were sent or received."""
        self._bytes += size
        self._heard = time.monotonic()

    def left(self) -> float:
        """Seconds that it may still take.

        Raises:
            TimeoutError: if there are none left.
        """
        end = min(self._heard, self._began + self._bytes / SLOWEST_LINE) + self._timeout
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"timed out after {self._bytes} bytes")
        return left


class _Answer(io.RawIOBase):
    """What comes from a socket, for so long as its clock allows."""

    def __init__(self, sock: socket.socket, own: io.RawIOBase, clock: _Clock) -> None:
        """`own` is the socket's own file, which keeps it open."""
        self._sock, self._own, self._clock = sock, own, clock

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """As a socket's file."""
        self._sock.settimeout(self._clock.left())
        size = self._sock.recv_into(buffer)
        self._clock.moved(size)
        return size

    def close(self) -> None:
        """Close the socket's own file."""
        self._own.close()
        super().close()


class _Bounded(HTTPConnection):
    """A connection whose requests have a clock each."""

    _clock: _Clock

    def connect(self) -> None:
        """As urllib3's; an encrypted one, or one through a proxy, talks before its first request."""
        self._clock = _Clock(self.timeout)
        super().connect()

    def putrequest(self, *given: Any, **more: Any) -> None:
        """Begin a request."""
        self._clock = _Clock(self.timeout)
        super().putrequest(*given, **more)

    def send(self, data: Any) -> None:
        """Send bytes, block by block."""
        for start in range(0, len(data), BLOCK):
            if self.sock is not None:  # else this connects
                self.sock.settimeout(self._clock.left())
            block = data[start : start + BLOCK]
            super().send(block)
            self._clock.moved(len(block))

    def response_class(self, sock: socket.socket, *given: Any, **more: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        """An answer that is read by the clock."""
        response = http.client.HTTPResponse(sock, *given, **more)
        response.fp = io.BufferedReader(_Answer(sock, response.fp.detach(), self._clock))
        return response


class _BoundedEncrypted(_Bounded, HTTPSConnection):
    """The same with TLS."""


class BoundedPool(HTTPConnectionPool):
    """Connections to a server; errors name this class."""

    ConnectionCls = _Bounded


class BoundedTlsPool(HTTPSConnectionPool):
    """The same with TLS."""

    ConnectionCls = _BoundedEncrypted


class BoundedAdapter(request_utils.TCPKeepAliveHTTPAdapter):
    """MLflow's adapter of `requests`, on such connections."""

    _POOLS: ClassVar = {"http": BoundedPool, "https": BoundedTlsPool}

    def init_poolmanager(self, *given: Any, **more: Any) -> None:
        """As MLflow's."""
        super().init_poolmanager(*given, **more)  # type: ignore[no-untyped-call]
        self.poolmanager.pool_classes_by_scheme = self._POOLS

    def proxy_manager_for(self, *given: Any, **more: Any) -> Any:
        """As MLflow's."""
        manager = super().proxy_manager_for(*given, **more)  # type: ignore[no-untyped-call]
        manager.pool_classes_by_scheme = self._POOLS
        return manager


request_utils.TCPKeepAliveHTTPAdapter = BoundedAdapter  # type: ignore[misc]
