"""Write MLflow's runs also to TensorBoard's event files or Weights & Biases (`--log-to`).

A separate thread writes them, so that a hanging server delays neither trainings nor MLflow. A resume writes earlier
runs again (TensorBoard) or only their missing parts (W&B).
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import math
import os
import re
import shutil
import threading
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

from sweeper.core.error_causes import get_cause
from sweeper.core.errors import UsageError
from sweeper.core.paths import TENSORBOARD, LogTo, make_folder_name
from sweeper.core.text import format_count
from sweeper.tracking.values import PAUSED, STATUS, DesiredRun, MetricPoint


def check_logger(log_to: LogTo) -> None:
    """Refuse a logger whose package or key is missing.

    Raises:
        UsageError: with what helps.
    """
    if importlib.util.find_spec(log_to) is None:
        raise UsageError(
            f"--log-to {log_to} needs the package {log_to}, which is not here; "
            "pip install -c constraints.txt -e '.[logs]'"
        )
    if log_to == "wandb":
        os.environ.setdefault("WANDB_SILENT", "true")  # else it prints between the sweep's lines
        import wandb  # takes seconds

        if wandb.setup().settings.mode != "online":  # by WANDB_MODE, or `wandb offline`
            return
        with redirect_stderr(io.StringIO()):  # a deprecation warning; its successor `login` queries the server
            has_key = bool(wandb.api.api_key) if hasattr(wandb, "api") else True
        if not has_key:
            raise UsageError(
                "--log-to wandb needs a key of Weights & Biases, and found none; `wandb login` stores one, "
                "WANDB_MODE=offline writes files that `wandb sync` sends later"
            )


class LoggedRuns:
    """Writes the newest state of a study's runs for one logger, in a thread."""

    def __init__(self, log_to: LogTo, study: str, created: str, warn: Callable[[str], None]) -> None:
        """Start the thread.

        Args:
            log_to: the logger.
            study: name of the study.
            created: when the study was created.
            warn: receives a failure of the logger; called in the thread.
        """
        self.option, self._warn = f"--log-to {log_to}", warn
        """The user's option."""
        self._write: Callable[[str, DesiredRun], None] = WandbLogger(study, created)
        if log_to == "tensorboard":
            self._write = TensorboardLogger(TENSORBOARD / make_folder_name(study))
        self._waiting: dict[str, DesiredRun] = {}
        self._has_failed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._write_runs, name=log_to, daemon=True).start()

    def put(self, name: str, run: DesiredRun) -> None:
        """Queue a training's run for writing; `name` is the training's, such as `search/00012`."""
        with self._changed:
            if not self._has_failed:
                self._waiting[name] = run
                self._changed.notify()

    @property
    def left(self) -> int:
        """Number of unwritten runs."""
        return len(self._waiting)

    @property
    def pending_text(self) -> str:
        """Text on unwritten runs; "" if there are none."""
        return format_count(self.left, "run") if self.left else ""

    def _write_runs(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                name, run = next(iter(self._waiting.items()))
            try:
                self._write(name, run)
            except Exception as error:  # of a package, its server, the disk
                with self._changed:
                    self._has_failed = True
                    self._waiting.clear()
                self._warn(
                    f"{self.option} fails, and gets no more runs: {get_cause(error)}. The sweep continues, "
                    f"MLflow has every run, and with --resume {self.option} all are written there"
                )
                return
            with self._changed:
                if self._waiting.get(name) is run:
                    del self._waiting[name]


def _list_points(run: DesiredRun) -> list[MetricPoint]:
    """Return the points of a run, including the last values, without values that are not finite."""
    points = [*run.points, *([] if run.last is None else [run.last])]
    return [p._replace(metrics={n: v for n, v in p.metrics.items() if math.isfinite(v)}) for p in points]


class TensorboardLogger:
    """Writes a folder of event files for each run, with its parameters for the HParams page."""

    def __init__(self, folder: Path) -> None:
        """Remove the runs in `folder`: a resume writes all again, and an earlier study of the name had others."""
        self._folder = folder
        for path in folder.glob("*_[0-9][0-9][0-9][0-9][0-9]_*"):  # only sweeper's folders
            shutil.rmtree(path, ignore_errors=True)

    def __call__(self, name: str, run: DesiredRun) -> None:
        """Write the run, replacing its earlier files."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import metadata, plugin_data_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = self._folder / re.sub(r"[^\w.-]+", "_", f"{name} {run.name}")
        shutil.rmtree(folder, ignore_errors=True)
        writer = EventFileWriter(str(folder))
        begin = plugin_data_pb2.SessionStartInfo(start_time_secs=run.start / 1000)
        for key, text in run.params.items():
            try:
                begin.hparams[key].number_value = float(text)
            except ValueError:
                begin.hparams[key].string_value = text
        data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, session_start_info=begin)
        note = Summary.Value(tag=metadata.SESSION_START_INFO_TAG, metadata=metadata.create_summary_metadata(data))
        writer.add_event(Event(wall_time=run.start / 1000, summary=Summary(value=[note])))
        for point in _list_points(run):
            values = [Summary.Value(tag=key, simple_value=value) for key, value in point.metrics.items()]
            writer.add_event(Event(wall_time=point.at / 1000, step=point.step, summary=Summary(value=values)))
        writer.close()


class WandbLogger:
    """Writes a W&B run for each run, in the project `sweeper` or WANDB_PROJECT; the study is their group."""

    def __init__(self, study: str, created: str) -> None:
        self._study, self._mark = study, f"{study} {created}"

    def __call__(self, name: str, run: DesiredRun) -> None:
        """Write the parts of a run that W&B lacks."""
        import wandb

        if run.status == PAUSED:  # it will continue, and W&B accepts each step only once
            return
        settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True, save_code=False)
        begun = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "sweeper"),
            group=self._study,
            name=run.name,
            id=hashlib.sha256(f"{self._mark} {name}".encode()).hexdigest()[:16],
            job_type=name.partition("/")[0],
            config=dict(run.params),
            resume="allow",
            reinit="create_new",
            settings=settings,
        )
        for point in _list_points(run):
            if point.step >= begun.step:
                begun.log(point.metrics, step=point.step)
        begun.summary.update({key: text for key, text in run.tags.items() if key.startswith("sweeper.")})
        begun.finish(exit_code=0 if run.status == STATUS["complete"] else 1)
