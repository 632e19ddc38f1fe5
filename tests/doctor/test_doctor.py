"""`sweeper doctor`: sound machines and stores pass, and broken ones are reported with what to do."""

from __future__ import annotations

import base64
import json
import sqlite3
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeper.doctor import check_libraries, check_losses, check_memory, check_sqlite, check_stores, list_unmet
from sweeper.losses import float64_check
from sweeper.storage import open_storage
from sweeper.system.cores import GIB

Sweeper = Callable[..., tuple[int, str, str]]


def test_an_empty_folder_passes_and_nothing_is_written(sweeper: Sweeper, tmp_path: Path) -> None:
    status, out, _ = sweeper("doctor", "--device", "cpu")
    assert "versions" in out and "torch 2." in out and "CPU" in out
    assert "sweeper.db is not there yet" in out and "mlflow.db is not there yet" in out
    assert list(tmp_path.iterdir()) == []
    document = json.loads(sweeper("doctor", "--json", "--device", "cpu")[1])
    names = [check["name"] for check in document["checks"]]
    assert " ".join(names) == "versions packages device losses processors memory disk weights storage MLflow"
    broken = {check["name"] for check in document["checks"] if check["status"] == "broken"}
    assert broken <= {"disk", "memory"}  # of the machine that runs the tests
    assert status == int(bool(broken)) and document["ok"] == (not broken)


@pytest.mark.parametrize("fault", [1.01, float("nan")])
def test_a_machine_that_computes_losses_wrongly_is_reported(monkeypatch: pytest.MonkeyPatch, fault: float) -> None:
    assert check_losses("cpu").status == "ok"
    right = float64_check.build_loss

    def build(family: str, **arguments: Any) -> Callable[..., torch.Tensor]:
        def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            wrong = family == "focal" and logits.dtype == torch.float32
            return right(family, **arguments)(logits, target) * (fault if wrong else 1.0)

        return loss

    monkeypatch.setattr(float64_check, "build_loss", build)
    check = check_losses("cpu")
    assert check.status == "broken" and "focal" in check.found and "dice_ce" not in check.found and check.advice


def test_a_damaged_database_is_reported_with_status_1(sweeper: Sweeper, tmp_path: Path) -> None:
    path = tmp_path / "sweeper.db"
    open_storage(f"sqlite:///{path}").engine.dispose()
    assert check_sqlite(path).status == "ok"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    raw = bytearray(path.read_bytes())
    for page in range(2, len(raw) // 4096):
        raw[page * 4096 : page * 4096 + 200] = b"\xa5" * 200
    path.write_bytes(raw)
    status, out, _ = sweeper("doctor", "--device", "cpu")
    assert status == 1 and "BROKEN  storage" in out and "→" in out
    path.write_bytes(b"no database at all " * 300)
    assert check_sqlite(path).status == "broken"


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
            check = check_stores("sqlite:///none.db", address)[1]
        finally:
            server.shutdown()
            thread.join()
    assert check.status == "ok" and "MLflow 3.0" in check.found and "***" in check.found
    assert requests == [("/version", f"Basic {base64.b64encode(b'me:canary').decode()}"), ("/elsewhere", None)]
    for wrong in (address, "http://me:canary@[::1", "http://canary@127.0.0.1:x", "http://me:canary@:1"):
        checks = check_stores("oracle://me:canary@127.0.0.1:9/db", wrong)
        assert [check.status for check in checks] == ["broken", "broken"]
        assert "canary" not in "".join(check.found + check.advice for check in checks)


def test_packages_are_compared_with_their_requirements() -> None:
    assert list_unmet(["numpy>=1", "nothing-of-this-name>=1; extra == 'ray'"]).status == "ok"
    check = list_unmet(["numpy>=1000", "nothing-of-this-name>=1", "click"])
    assert check.status == "broken"
    assert "numpy" in check.found and "nothing-of-this-name is missing" in check.found and "click" not in check.found


def test_a_checkout_that_is_not_installed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    check = check_libraries()[1]
    assert check.status == "note" and "is not installed" in check.found and "pip install" in check.advice


@pytest.mark.parametrize(
    ("free", "status", "words"),
    [(None, "note", ""), (GIB, "broken", "close"), (3 * GIB, "slow", "--workers 2"), (64 * GIB, "ok", "")],
)
def test_memory_is_compared_with_the_need_of_the_workers(free: int | None, status: str, words: str) -> None:
    check = check_memory(free, 8)
    assert check.status == status and words in check.advice


def test_a_database_on_a_network_file_system_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.doctor.get_file_system", lambda _: "nfs4")
    check = check_sqlite(tmp_path / "sweeper.db")
    assert check.status == "broken" and "network file system" in check.found
