"""Runs of Weights & Biases: files that wandb wrote offline, and its public API."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeper.core.errors import UsageError
from sweeper.judging.read import read_score_file
from sweeper.judging.rows import ScoreRequest, ScoresError
from sweeper.judging.wandb_runs import read_project

WRITE = """
import sys, wandb
for method, seed in (("dice", 0), ("dice", 1), ("ce", 0), ("ce", 1)):
    base = 0.7 if method == "dice" else 0.6
    run = wandb.init(project="p", mode="offline", dir=sys.argv[1], config={"loss": {"name": method}, "seed": seed})
    for step in range(700):  # beyond one block of the file
        run.log({"val/dice": 0.5 - abs(step - 300) / 1000, "test/dice": base + seed / 100 + step / 10000})
    run.summary["final/dice"] = base
    run.finish()
"""


def read_scores(source: Path, **options: Any) -> dict[tuple[str, str], float]:
    request = ScoreRequest(columns={"method": "loss.name"}, **options)
    columns = read_score_file(str(source), request).columns
    keys = zip(columns["loss.name"], columns["seed"], strict=True)
    return dict(zip(keys, columns[request.metric or ""], strict=True))


def test_files_that_wandb_wrote_offline_are_read(tmp_path: Path, sweeper: Any) -> None:
    pytest.importorskip("wandb", reason="needs the extra `logs`")
    subprocess.run([sys.executable, "-c", WRITE, str(tmp_path)], check=True, capture_output=True)
    runs = {("dice", "0"): 0.7, ("dice", "1"): 0.71, ("ce", "0"): 0.6, ("ce", "1"): 0.61}
    for at, more in ((None, 0.0699), ("best:val/dice", 0.03), ("300", 0.03)):
        assert read_scores(tmp_path, metric="test/dice", at=at) == pytest.approx({k: v + more for k, v in runs.items()})
    assert read_scores(tmp_path / "wandb", metric="final/dice")["ce", "1"] == 0.6
    with pytest.raises(ScoresError) as caught:
        read_score_file(str(tmp_path), ScoreRequest(metric="test/dice"))
    assert "each run must have 'method' in its config, got the keys loss.name and seed" in str(caught.value)
    words = ("judge", str(tmp_path), "--metric", "test/dice", "--column", "method=loss.name", "--at", "best:val/dice")
    status, out, error = sweeper(*words, "--json")
    assert status == 0, error
    assert any("at the row where val/dice is highest" in caveat for caveat in json.loads(out)["caveats"])


def test_a_file_that_wandb_did_not_write_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs the extra `logs`")
    (tmp_path / "a" / "0").mkdir(parents=True)
    (tmp_path / "a" / "0" / "run-x.wandb").write_bytes(b"something else")
    with pytest.raises(ScoresError, match="its first bytes are not :W&B"):
        read_score_file(str(tmp_path), ScoreRequest(metric="x"))


class Server:
    """Has the documented members of wandb's public API: config, summary, state, name, `scan_history(keys=…)`."""

    def __init__(self, *runs: Any) -> None:
        self.list, self.projects = runs, list[str]()

    def Api(self) -> Any:
        return self

    def runs(self, project: str) -> Any:
        self.projects.append(project)
        return self.list


def make_run(name: str, method: str, values: list[float], state: str = "finished") -> Any:
    rows = [{"_step": step, "val": -abs(step - 1), "test": value} for step, value in enumerate(values)]

    def scan_history(keys: list[str]) -> Iterator[dict[str, Any]]:
        return ({key: row[key] for key in keys} for row in rows if all(key in row for key in keys))

    config = {"loss": {"name": method}, "_wandb": {}}
    return SimpleNamespace(
        name=name, config=config, summary={"end": 1.0, "test": 99.0}, state=state, scan_history=scan_history
    )


def test_a_project_is_read_by_the_public_api(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(
        *(make_run(f"{m}-{i}", m, [0.1, 0.2 + i, 0.3 + i]) for m in ("a", "b") for i in range(3)),
        make_run("lost", "a", [5.0], "crashed"),
    )
    monkeypatch.setitem(sys.modules, "wandb", server)
    for at, expected in ((None, 0.3), ("best:val", 0.2)):
        request = ScoreRequest(metric="test", at=at, columns={"method": "loss.name"}, where={"state": "finished"})
        columns = read_score_file("wandb:me/p", request).columns
        assert columns["test"] == pytest.approx([expected + i for i in range(3)] * 2)
        assert columns["seed"] == tuple(f"{m}-{i}" for m in ("a", "b") for i in range(3))
    assert server.projects == ["me/p", "me/p"]
    with pytest.raises(ScoresError, match="with those that --where leaves, got none"):
        read_score_file("wandb:me/p", ScoreRequest(metric="test", where={"state": "killed"}))


def test_a_server_that_does_not_answer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Down(Server):
        def runs(self, project: str) -> Any:
            raise ValueError("Could not find project")

    monkeypatch.setitem(sys.modules, "wandb", Down())
    with pytest.raises(UsageError, match="wandb must answer for me/p, got Could not find project; `wandb login`"):
        read_project("me/p", ["x"], {})


def test_options_of_logs_are_refused_for_tables(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("method,score\na,1\n")
    with pytest.raises(UsageError, match="--at is for logs of trainings"):
        read_score_file(str(tmp_path / "t.csv"), ScoreRequest(at="last"))
    with pytest.raises(UsageError, match="--where is for `mlflow:EXPERIMENT` and `wandb:ENTITY/PROJECT`"):
        read_score_file(str(tmp_path / "t.csv"), ScoreRequest(where={"a": "b"}))
