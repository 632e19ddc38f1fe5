"""A stand-in for Hugging Face's Hub on the loopback address: it serves, refuses, hangs, or drips."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Manner = Literal["serves", "has nothing", "forbids", "is overloaded", "hangs", "drips"]
STATUS = {"has nothing": 404, "forbids": 403, "is overloaded": 503}
COMMIT = "0123456789" * 4


class Hub(ThreadingHTTPServer):
    """Answers for every repository and revision with the same files."""

    daemon_threads = True

    def __init__(self, manner: Manner, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.manner, self.files = manner, files
        self.asked: list[str] = []
        """Method and path of each request."""
        self.closing = threading.Event()

    def handle_error(self, *_: object) -> None:
        """Print nothing if a client disconnects."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _answer(self, body: bool) -> None:
        hub = self.server
        hub.asked.append(f"{self.command} {self.path}")
        content = hub.files.get(self.path.rsplit("/", 1)[-1].partition("?")[0])
        if hub.manner == "hangs":
            hub.closing.wait(60)
            return
        if hub.manner in STATUS or content is None:
            self.send_response(STATUS.get(hub.manner, 404))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        commit = self.path.split("/resolve/")[1].split("/")[0]
        self.send_response(200)
        self.send_header("X-Repo-Commit", commit if len(commit) == 40 else COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not body:
            return
        if hub.manner == "drips" and self.path.endswith("safetensors"):
            for byte in content:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if hub.closing.wait(0.2):
                    return
        else:
            self.wfile.write(content)


@contextmanager
def serve_hub(manner: Manner, files: dict[str, bytes]) -> Iterator[Hub]:
    """Run a hub until the block ends."""
    hub = Hub(manner, files)
    thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        hub.shutdown()
        hub.server_close()
        thread.join(5)
