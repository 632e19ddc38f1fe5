"""Whole trainings by a script, several at a time, each on its share of the GPUs."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import socket
import threading
from collections.abc import Callable
from math import inf
from pathlib import Path

from sweeper.core.document import format_json
from sweeper.core.errors import InterruptedSweepError
from sweeper.scripts.contract import TRIAL, VALIDATED, WRITTEN, TrialDocument, read_events, write_trial_folder
from sweeper.scripts.launch import ScriptEnd, end_processes, fill_places, read_output, run_script, split_command
from sweeper.scripts.scores import ScriptTask
from sweeper.scripts.script_start import ScriptStart
from sweeper.system.whole_files import read_json, remove_path

TRANSIENT_ERRORS = re.compile(
    r"out of memory|CUDA error|CUDA driver|cudaError|NCCL|device is lost|fell off the bus", re.IGNORECASE
)
"""Messages of a failed device or full memory, which may not occur again."""
KILLED = -9
"""Status after SIGKILL, by which the system most often ends a process for its memory."""


class ScriptStarter:
    """Starts whole trainings by a script, several at a time, each on its share of the GPUs."""

    def __init__(
        self,
        command: str,
        *,
        seconds: float = inf,
        workers: int = 1,
        is_stopped: Callable[[], bool] = lambda: False,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Create the starter; nothing is started.

        `seconds` is the time limit of one training. If `is_stopped` becomes true, running trainings are ended, and no
        more started. `log` receives a line when a training is repeated, and once when one left processes.

        Raises:
            UsageError: if the command is invalid.
        """
        self._words, self.seconds, self.workers = split_command(command), seconds, workers
        self.is_stopped, self._log = is_stopped, log
        self._slots: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for slot in share_gpus(workers):
            self._slots.put(slot)
        self._has_remarked = False
        self._writing = threading.Lock()  # ast.parse of Python 3.11 fails in two threads at once

    def train(self, trial: TrialDocument, folder: Path, task: ScriptTask, title: str) -> ScriptStart:
        """Train once, and once more if the device or the memory failed; return the last start.

        If the folder exists, an earlier process of the training was stopped. `title` is the training in words.

        Raises:
            InterruptedSweepError: if it was stopped.
            LossError: if the loss cannot be built.
        """
        trial, slot = trial.model_copy(update={"class_pixels": task.class_pixels}), self._slots.get()
        try:
            start = self._start(trial, folder, task, slot)
            if is_transient_failure(start.ended) and not self.is_stopped():
                self._log(f"{title}: {start.ended.last[-1] if start.ended.last else 'killed'}; once more")
                start = self._start(trial, folder, task, slot)
        finally:
            self._slots.put(slot)
        if self.is_stopped():
            raise InterruptedSweepError("stopped", 130)
        shutil.rmtree(folder / VALIDATED, ignore_errors=True)
        if start.ended.remark and not self._has_remarked:
            self._has_remarked = True
            self._log(f"{title}: {start.ended.remark}")
        return start

    def _start(self, trial: TrialDocument, folder: Path, task: ScriptTask, slot: dict[str, str]) -> ScriptStart:
        if self.is_stopped():
            raise InterruptedSweepError("stopped", 130)
        if folder.exists():
            end_processes(folder)  # those of a sweeper that was killed would write into it
            trial = trial.model_copy(update={"resumed": _is_of_trial(folder, trial)})
            written = [folder / name for name in WRITTEN] if trial.resumed else [folder]
            for path in [*written, *folder.glob("val*.npz"), *folder.glob("test*.npz")]:
                remove_path(path)
        with self._writing:
            write_trial_folder(folder, trial, task.task, task.frequencies)
        ended = run_script(
            fill_places(self._words, trial, folder),
            folder,
            seconds=self.seconds,
            is_done=self.is_stopped,
            grace=0.0,
            environment={**slot, "MASTER_PORT": str(_find_free_port())},
        )
        return ScriptStart(folder, trial, ended, read_events(folder))


def _is_of_trial(folder: Path, trial: TrialDocument) -> bool:
    """Return whether a folder belongs to this training, so that the script may continue from its files."""
    try:
        before = read_json(folder / TRIAL)
    except (OSError, ValueError):
        return False
    own = json.loads(format_json(trial.document))
    return before in ({**own, "resumed": False}, {**own, "resumed": True})


def is_transient_failure(ended: ScriptEnd) -> bool:
    """Return whether a training failed for a reason that may not occur again."""
    if ended.status == 0 or ended.is_late:
        return False
    return ended.status == KILLED or any(TRANSIENT_ERRORS.search(line) for line in ended.last)


def share_gpus(workers: int) -> list[dict[str, str]]:
    """Return the environment variables of each of `workers` trainings at a time, which give it its share of the GPUs.

    More trainings than GPUs each see all of them.
    """
    gpus = _list_gpus()
    if not (each := len(gpus) // workers):
        return [{} for _ in range(workers)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[n * each : (n + 1) * each])} for n in range(workers)]


def _list_gpus() -> list[str]:
    """List the available GPUs, as in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [word.strip() for word in visible.split(",") if word.strip() not in ("", "-1")]
    listed = read_output("nvidia-smi", "-L") or ""
    return re.findall(r"^GPU (\d+):", listed, re.MULTILINE)


def _find_free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])
