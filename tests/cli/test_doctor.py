"""`sweeper doctor`: sound stores pass, broken ones are reported, and nothing is written."""

from __future__ import annotations

import base64
import json
import sqlite3
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sweeper.cli.doctor import DoctorCheck, describe_store, examine
from sweeper.storage import open_storage

Sweeper = Callable[..., tuple[int, str, str]]


def check_store(option: str, url: str) -> DoctorCheck:
    return examine("store", lambda: describe_store(option, url))


def test_an_empty_folder_passes_and_nothing_is_written(sweeper: Sweeper, tmp_path: Path) -> None:
    status, out, _ = sweeper("doctor", "--device", "cpu")
    assert status == 0 and "torch 2." in out and "CPU" in out
    assert "sweeper.db is not there yet" in out and "mlflow.db is not there yet" in out
    assert list(tmp_path.iterdir()) == []
    document = json.loads(sweeper("doctor", "--json", "--device", "cpu")[1])
    assert document["ok"] and [check["name"] for check in document["checks"]] == [
        "versions",
        "device",
        "storage",
        "MLflow",
    ]


def test_a_missing_device_is_reported(sweeper: Sweeper) -> None:
    status, out, _ = sweeper("doctor", "--device", "mps")
    assert status == 1 and "BROKEN  device    --device mps needs an Apple GPU" in out


def test_a_damaged_database_is_reported_with_status_1(sweeper: Sweeper, tmp_path: Path) -> None:
    path = tmp_path / "sweeper.db"
    url = f"sqlite:///{path}"
    open_storage(url).engine.dispose()
    assert check_store("--storage", url).ok
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    raw = bytearray(path.read_bytes())
    for page in range(2, len(raw) // 4096):
        raw[page * 4096 : page * 4096 + 200] = b"\xa5" * 200
    path.write_bytes(raw)
    status, out, _ = sweeper("doctor", "--device", "cpu")
    assert status == 1 and "BROKEN  storage" in out and "restore a backup" in out
    path.write_bytes(b"no database at all " * 300)
    assert not check_store("--storage", url).ok


def test_a_store_of_another_version_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "sweeper.db"
    url = f"sqlite:///{path}"
    open_storage(url).engine.dispose()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v99'")
    connection.close()
    check = check_store("--storage", url)
    assert not check.ok and "pip install -U optuna" in check.found


def test_a_password_is_sent_only_to_its_server_and_never_printed() -> None:
    requests: list[tuple[str, str | None]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.path, self.headers["Authorization"]))
            self.send_response(302 if self.path == "/version" else 200)
            self.send_header("Location", f"http://localhost:{server.server_port}/elsewhere")
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"3.0")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://me:canary@127.0.0.1:{server.server_port}"
        try:
            check = check_store("--tracking-uri", address)
        finally:
            server.shutdown()
            thread.join()
    assert check.ok and "MLflow 3.0" in check.found and "***" in check.found
    assert requests == [("/version", f"Basic {base64.b64encode(b'me:canary').decode()}"), ("/elsewhere", None)]


@pytest.mark.parametrize(
    ("option", "url"),
    [
        ("--storage", "postgresql://me:canary@127.0.0.1:9/db"),
        ("--tracking-uri", "http://me:canary@127.0.0.1:9"),
        ("--tracking-uri", "http://me:canary@[::1"),
        ("--tracking-uri", "http://canary@127.0.0.1:x"),
        ("--tracking-uri", "http://me:canary@:1"),
    ],
)
def test_a_store_that_does_not_answer_is_reported_without_its_password(option: str, url: str) -> None:
    check = check_store(option, url)
    assert not check.ok and "canary" not in check.found
