"""A real MLflow server on the loopback address that tests may kill and start again, and a proxy with a password."""

from __future__ import annotations

import base64
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Server:
    """`mlflow server` on a SQLite store in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.store = f"sqlite:///{folder}/server.db"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", self.store]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.txt").open("a") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while not self.answers():
            assert self._process.poll() is None and time.monotonic() < deadline, (
                self.folder / "server.txt"
            ).read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None


class PasswordProxy:
    """Passes requests on to a server where they carry the password (HTTP basic authentication), else answers 401.

    `fails(n)` says of the n-th request with the password (from 1) whether it is answered by status 500 instead.
    """

    def __init__(self, server: Server, user: str, password: str) -> None:
        self.fails: Callable[[int], bool] = lambda _: False
        self.requests = 0
        self.refused = 0
        self._lock = threading.Lock()
        wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1  # an answer in one piece

            def log_message(self, *_: object) -> None:
                pass

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Authorization") != wanted:
                    proxy.refused += 1
                    self._answer(401, b"a password is needed")
                    return
                with proxy._lock:
                    proxy.requests += 1
                    fails = proxy.fails(proxy.requests)
                if fails:
                    self._answer(500, b"the server fails")
                    return
                try:
                    status, answer = self._ask(body)
                except OSError:
                    status, answer = 502, b"the server is away"
                self._answer(status, answer)

            def _ask(self, body: bytes) -> tuple[int, bytes]:
                with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
                    passed_on = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "authorization"}}
                    connection.request(self.command, self.path, body, passed_on | {"Accept-Encoding": "identity"})
                    answer = connection.getresponse()
                    return answer.status, answer.read()

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.port: int = self._http.server_address[1]
        self.uri = f"http://{user}:{password}@127.0.0.1:{self.port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
