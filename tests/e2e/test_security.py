"""What hostile input and foreign pages must not do; docs/security.md is the whole list."""

from __future__ import annotations

import ast
import http.client
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from click.testing import CliRunner
from mlflow.tracking import MlflowClient

from sweeper.cli import ui
from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.paths import ReportPaths, make_folder_name
from sweeper.core.training_files import get_checkpoints_dir
from sweeper.data.formats import yolo
from sweeper.tracking import MlflowTracker
from sweeper.training.encoder_file import load_encoder
from sweeper.training.model import build_model
from tests.cli.test_run import sweeper
from tests.support import hostile_modules
from tests.support.mlflow_server import StoppedServer, free_port, replace_server
from tests.support.small_training import SMALL

PACKAGE = Path(__file__).resolve().parents[2] / "sweeper"
CANARY = "canary-0123456789abcdef"


# --- Files that could run code ---


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, fired: Path) -> None:
        self._fired = fired

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self._fired}",))


def make_network() -> torch.nn.Module:
    return build_model(SMALL, channels=3, bias=(-2.2,), seed=0)


@pytest.mark.parametrize("form", ["zip", "plain pickle", "legacy"])
def test_a_malicious_file_of_weights_runs_nothing_and_is_refused(tmp_path: Path, form: str) -> None:
    fired, file = tmp_path / "fired", tmp_path / "weights.pt"
    if form == "plain pickle":
        file.write_bytes(pickle.dumps(Bomb(fired), protocol=2))
    else:
        torch.save({"conv1.weight": Bomb(fired)}, file, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(UsageError, match="must hold tensors alone") as caught:
        load_encoder(make_network().encoder, "resnet18", str(file))
    assert not fired.exists()
    assert "weights_only" not in str(caught.value)  # no advice to switch the check off
    if form == "plain pickle":
        pickle.loads(file.read_bytes())
    else:
        torch.load(file, weights_only=False)
    assert fired.exists()  # the bomb was live


def test_the_package_uses_no_shell_eval_or_unpickling() -> None:
    dangerous = {"os.system", "os.popen", "eval", "exec", "yaml.load", "yaml.unsafe_load"}
    calls = [(path, node) for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    for path, node in calls:
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in dangerous and not called.startswith("pickle.load"), path
        if called.startswith("subprocess."):  # a user's training script, git, nvidia-smi and MLflow, without a shell
            assert path.name in {"launch.py", "ui.py"} and "shell" not in {k.arg for k in node.keywords}, path
        if called == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), path


def test_only_the_strict_reader_parses_yaml() -> None:
    text = Path(yolo.__file__).read_text("utf-8")
    assert "from sweeper.core.yaml_file import" in text and "import yaml" not in text
    users = [p for p in PACKAGE.rglob("*.py") if "import yaml" in p.read_text("utf-8")]
    assert {p.name for p in users} == {"yaml_file.py", "export.py"}  # the latter writes alone


# --- Paths ---


@pytest.mark.parametrize(
    "name", ["../../etc", "/etc/passwd", "a/../../b", "..", "a\x00b", "C:\\x", "x" * 300, "~root", "%s{0}"]
)
def test_no_study_name_leads_out_of_its_folder(name: str, tmp_path: Path) -> None:
    assert ReportPaths(tmp_path, name).folder.resolve().parent == tmp_path.resolve()
    assert get_checkpoints_dir(tmp_path / "cache", name).resolve().parent == (tmp_path / "checkpoints").resolve()
    assert len(make_folder_name(name)) < 100


# --- The user interface ---


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_ui_answers_this_machine_only(tmp_path: Path) -> None:
    port = free_port()
    MlflowTracker(f"sqlite:///{tmp_path}/mlflow.db", warn=pytest.fail)
    hostile_modules.write_modules(tmp_path)  # nor does it import what is there
    command = [sys.executable, hostile_modules.write_console_script(tmp_path), "ui", "--port", str(port)]
    with (tmp_path / "ui.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
    address = f"127.0.0.1:{port}"

    def ask(method: str, path: str, body: object = None, **headers: str) -> int:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Host": address, "Content-Type": "application/json"} | headers)
            return connection.getresponse().status

    search = "/api/2.0/mlflow/experiments/search"
    create = "/api/2.0/mlflow/experiments/create"
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                assert ask("GET", "/health") == 200
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "ui.txt").read_text()
                time.sleep(0.5)
        assert ask("POST", search, {"max_results": 1}) == 200
        assert ask("POST", search, {"max_results": 1}, Origin=f"http://{address}") == 200
        assert ask("POST", search, {"max_results": 1}, Host=f"localhost:{port}") == 200
        for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "127.0.0.1:1"):
            assert ask("POST", search, {"max_results": 1}, Host=host) == 403, host
            assert ask("GET", "/", Host=host) == 403, host
        for origin in ("http://evil.example", "null", f"https://evil.example:{port}", "http://localhost.evil.example"):
            assert ask("POST", create, {"name": "made by a foreign page"}, Origin=origin) == 403, origin
        experiments = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_experiments()
        assert [e.name for e in experiments] == ["Default"]
        connections = psutil.net_connections("tcp")
        listening = [c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN and c.laddr.port == port]
        assert listening and set(listening) == {"127.0.0.1"}
        assert hostile_modules.list_imported(tmp_path) == []
        time.sleep(1)
        printed = (tmp_path / "ui.txt").read_text()
        assert "all studies: http" in printed and len(printed.splitlines()) == 3  # nothing of the server's log
    finally:
        process.terminate()
        process.wait(10)
    with pytest.raises(OSError):
        while ask("GET", "/health"):
            time.sleep(0.5)


def test_a_server_that_ends_is_reported_with_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    monkeypatch.setattr("sweeper.tracking.list_prepared_studies", lambda _: {})
    monkeypatch.setattr(sys, "executable", shutil.which("ls"))
    options = ["--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db", "--port", str(free_port())]
    with pytest.raises(SweeperError, match=r"(?s)ended; its last lines:\n.*ls: "):
        CliRunner().invoke(ui.command, options, catch_exceptions=False)


def test_a_port_in_use_is_refused_at_once(tmp_path: Path) -> None:
    Path(tmp_path / "mlflow.db").touch()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]
        done = sweeper(tmp_path, "ui", "--port", str(port))
    assert done.returncode == 2 and "starting" not in done.stderr
    assert f"got {port} (Address already in use" in done.stderr and "name another port" in done.stderr


def test_the_command_line_of_the_ui_has_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody on a machine can read the command lines of all its processes."""
    replace_server(monkeypatch)
    monkeypatch.setattr("sweeper.tracking.list_prepared_studies", lambda _: {})
    options = ["--tracking-uri", f"postgresql://me:{CANARY}@host/db", "--port", str(free_port())]
    CliRunner().invoke(ui.command, options, catch_exceptions=False)
    words, environment = StoppedServer.calls[-1]
    assert CANARY not in " ".join(words)
    uri = environment["MLFLOW_BACKEND_STORE_URI"]
    assert uri.endswith("@host/db") and CANARY in uri
