"""A real MLflow server on the loopback address that tests may kill and start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import ClassVar

import pytest


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class StoppedServer:
    """`subprocess.Popen` of a server that answers, until Ctrl-C."""

    pid = 999_999_999

    def __init__(self, words: list[str], env: dict[str, str], **_: object) -> None:
        self.calls.append((words, env))

    calls: ClassVar[list[tuple[list[str], dict[str, str]]]] = []

    def poll(self) -> None:
        return None

    def wait(self) -> None:
        raise KeyboardInterrupt


def replace_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `sweeper ui` start no server."""
    monkeypatch.setattr("sweeper.cli.ui.subprocess.Popen", StoppedServer)
    monkeypatch.setattr("sweeper.cli.ui._is_answering", lambda _: True)


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
