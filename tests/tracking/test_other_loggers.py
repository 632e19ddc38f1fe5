"""Runs in TensorBoard's files and in Weights & Biases, next to MLflow: read back with their own packages."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from sweeper.core.errors import UsageError
from sweeper.tracking import other_loggers
from sweeper.workflow.request_checks import check_request
from sweeper.workflow.settings import Settings
from tests.support import builders
from tests.support.tracked import begin_tracking, get_run, make_study, train

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the packages


@pytest.fixture(autouse=True)
def work_in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def track(log_to: Any, **options: Any) -> Any:
    """Return a tracker that wrote a trial and a confirmation, and the tracked results."""
    tracker = begin_tracking("sqlite:///mlflow.db", make_study("seen"), log_to=log_to, **options)
    counts = builders.counts_from_iou([0.6])
    results = [builders.trial("dice_ce", 0.61), builders.confirmation("dice_ce", 101, counts)]
    for result in results:
        train(tracker, result)
    tracker.end_sweep("FINISHED")
    return tracker, results


def test_tensorboard_has_the_points_and_parameters_that_mlflow_has(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra `logs`")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    tracker, results = track("tensorboard")
    folders = sorted((tmp_path / "tensorboard/seen").iterdir())
    assert len(folders) == 2
    for result in results:
        run = get_run(tracker, result.spec)
        name = result.spec.name.replace("/", "_")
        (folder,) = (each for each in folders if each.name.startswith(name))
        events = EventAccumulator(str(folder)).Reload()
        for key, value in run.data.metrics.items():
            assert events.Scalars(key)[-1].value == pytest.approx(value, rel=1e-6)
        assert [point.step for point in events.Scalars("val/miou")] == [e.step for e in result.evaluations]
        content = events.PluginTagToContent(metadata.PLUGIN_NAME)[metadata.SESSION_START_INFO_TAG]
        hparams = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
        assert hparams["loss.family"].string_value == "dice_ce"
        assert hparams["lr"].number_value == pytest.approx(result.spec.lr)
    before = {path.parent.name: path.stat().st_size for path in tmp_path.rglob("events.*")}
    (tmp_path / "tensorboard/seen/search_00000_another_0").mkdir()
    (tmp_path / "tensorboard/seen/mine").mkdir()
    track("tensorboard")
    names = {path.name for path in (tmp_path / "tensorboard/seen").iterdir()}
    assert "mine" in names and "search_00000_another_0" not in names  # of an earlier study of this name; not of sweeper
    assert {path.parent.name: path.stat().st_size for path in tmp_path.rglob("events.*")} == before  # nothing twice


@pytest.mark.slow
def test_wandb_has_the_points_and_parameters_that_mlflow_has(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs the extra `logs`")
    from sweeper.judging.wandb_runs import read_offline_run

    tracker, results = track("wandb")
    runs = {read_offline_run(path).name: read_offline_run(path) for path in tmp_path.rglob("run-*.wandb")}
    assert len(runs) == 2
    for result in results:
        run = get_run(tracker, result.spec)
        logged = runs[run.info.run_name]
        assert logged.config["loss.family"] == "dice_ce"
        for key, value in run.data.metrics.items():
            assert [entry[key] for entry in logged.entries if key in entry][-1] == pytest.approx(value)


def test_a_logger_that_fails_is_switched_off_and_mlflow_has_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra `logs`")
    warnings: list[str] = []

    def fail(self: object, name: str, run: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(other_loggers.TensorboardLogger, "__call__", fail)
    tracker, results = track("tensorboard", warn=warnings.append)
    assert all(get_run(tracker, result.spec).data.metrics for result in results)
    assert len(warnings) == 1 and "--log-to tensorboard fails, and gets no more runs" in warnings[0]
    assert "No space left on device" in warnings[0] and "--resume --log-to tensorboard" in warnings[0]


@pytest.mark.slow
def test_a_logger_that_hangs_delays_neither_mlflow_nor_the_end_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra `logs`")
    warnings: list[str] = []
    monkeypatch.setattr(other_loggers.TensorboardLogger, "__call__", lambda *_: threading.Event().wait())
    monkeypatch.setattr("sweeper.tracking.tracker.END_PATIENCE", 0.5)
    tracker, results = track("tensorboard", warn=warnings.append)
    assert all(get_run(tracker, result.spec).data.metrics for result in results)
    assert warnings == ["--log-to tensorboard lacks 2 runs; with --resume and that option all are written"]


@pytest.mark.slow
def test_a_stopped_sweep_does_not_wait_for_another_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra `logs`")
    warnings: list[str] = []
    monkeypatch.setattr(other_loggers.TensorboardLogger, "__call__", lambda *_: threading.Event().wait())
    monkeypatch.setattr("sweeper.tracking.tracker.END_PATIENCE", 3600.0)
    monkeypatch.setattr("sweeper.tracking.tracker.MOST_SECONDS", 3600.0)
    track("tensorboard", warn=warnings.append, stopped=lambda: True)  # ends at all
    assert len(warnings) == 1 and "lacks 2 runs" in warnings[0]


def test_a_missing_package_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs the package wandb, which is not here; pip install -c"):
        check_request(None, Settings(log_to="wandb"))


@pytest.mark.slow
def test_wandb_needs_a_key_unless_it_is_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In separate processes, as wandb reads its settings once."""
    pytest.importorskip("wandb", reason="needs the extra `logs`")
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_SILENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))

    def check(**environment: str) -> list[str]:
        code = "from sweeper.tracking.other_loggers import check_logger; check_logger('wandb')"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | environment
        )
        return (done.stdout + done.stderr).strip().splitlines()[-1:]

    assert "needs a key of Weights & Biases, and found none; `wandb login`" in check()[0]
    assert check(WANDB_MODE="offline") == check(WANDB_API_KEY="a" * 40) == []
    Path("wandb").mkdir()
    Path("wandb/settings").write_text("[default]\nmode = offline\n", "utf-8")  # as `wandb offline` writes it
    assert check() == []
