"""Requests to MLflow's server that end: the timeout of `requests` is one between two bytes, and never of the whole.

MLflow makes its sessions with one adapter class. Ours takes its place: the answer to a request, from the moment it is
waited for, may take the timeout, and as long as its bytes take on a slow line. What is sent has no such trouble: a
socket's timeout is that of a whole block.
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


class _Answer(io.RawIOBase):
    """What comes from a socket, until its time is over."""

    def __init__(self, sock: socket.socket, own: io.RawIOBase, timeout: float) -> None:
        """`own` is the socket's own file, which keeps it open; `timeout` in seconds."""
        self._sock, self._own, self._silence = sock, own, timeout
        self._until = time.monotonic() + timeout

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """As a socket's file.

        Raises:
            TimeoutError: if its time is over.
        """
        left = min(self._silence, self._until - time.monotonic())
        if left <= 0:
            raise TimeoutError("timed out, though bytes keep coming")
        self._sock.settimeout(left)  # the next request sets it anew
        size = self._sock.recv_into(buffer)
        self._until += size / SLOWEST_LINE
        return size

    def close(self) -> None:
        """Close the socket's own file."""
        self._own.close()
        super().close()


class _Bounded(HTTPConnection):
    """A connection whose answers have an end."""

    def response_class(self, sock: socket.socket, *given: Any, **more: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        """An answer, also of a proxy on the way."""
        response = http.client.HTTPResponse(sock, *given, **more)
        if self.timeout is not None:
            response.fp = io.BufferedReader(_Answer(sock, response.fp.detach(), self.timeout))
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
