"""Whole trainings by a script, started some at a time, each on its share of the GPUs."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import socket
import threading
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path

from sweeper.core.document import json_text
from sweeper.core.errors import InterruptedSweepError, UsageError
from sweeper.core.records import Task
from sweeper.core.text import format_count
from sweeper.scripts.contract import RESULTS, TRIAL, TrialDocument, read_events, write_trial_folder
from sweeper.scripts.launch import ScriptEnd, end_left_processes, fill_places, read_output, run_script
from sweeper.scripts.script_start import ScriptStart

PASSING = re.compile(
    r"out of memory|CUDA error|CUDA driver|cudaError|NCCL|device is lost|fell off the bus", re.IGNORECASE
)
"""What a device or a full memory says, and may not say again."""
KILLED = -9
"""Status where the system ended it, most often for its memory."""


class ScriptStarter:
    """Starts whole trainings by a script, some at a time, each on its share of the GPUs."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        seconds: float = inf,
        workers: int = 1,
        gpus_each: int = 0,
        is_stopped: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make it; nothing is started.

        Args:
            words: of the command.
            seconds: that one training may take.
            workers: trainings at a time.
            gpus_each: GPUs of each training; 0 = all trainings see all.
            is_stopped: whether to end what runs and start no more.
            say: is given a line where a training is started once more, and once where one left processes.

        Raises:
            UsageError: if there are fewer GPUs than the trainings need.
        """
        self._words, self.seconds, self.workers = words, seconds, workers
        self.is_stopped, self._say = is_stopped, say
        self._slots: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for slot in share_gpus(workers, gpus_each):
            self._slots.put(slot)
        self._has_remarked = False
        self._writing = threading.Lock()  # ast.parse of Python 3.11 fails in two threads at once

    def train(
        self, trial: TrialDocument, folder: Path, task: Task, frequencies: Sequence[float], title: str
    ) -> ScriptStart:
        """Train once, and once more where the device or the memory failed; return the last start.

        Args:
            trial: what the training is to use.
            folder: of the training; where it exists, an earlier process of the training was stopped.
            task: of the loss.
            frequencies: shares of the classes, for the loss.
            title: the training in words.

        Raises:
            InterruptedSweepError: if it was stopped.
            LossError: if the loss cannot be made.
        """
        slot = self._slots.get()
        try:
            start = self._start(trial, folder, task, frequencies, slot)
            if _may_pass(start.ended) and not self.is_stopped():
                self._say(f"{title}: {start.ended.last[-1] if start.ended.last else 'killed'}; once more")
                start = self._start(trial, folder, task, frequencies, slot)
        finally:
            self._slots.put(slot)
        if self.is_stopped():
            raise InterruptedSweepError("stopped", 130)
        if start.ended.remark and not self._has_remarked:
            self._has_remarked = True
            self._say(f"{title}: {start.ended.remark}")
        return start

    def _start(
        self, trial: TrialDocument, folder: Path, task: Task, frequencies: Sequence[float], slot: dict[str, str]
    ) -> ScriptStart:
        if self.is_stopped():
            raise InterruptedSweepError("stopped", 130)
        if folder.exists() and not _is_of_trial(folder, trial):
            end_left_processes(folder)
            shutil.rmtree(folder)
        if folder.exists():
            trial = trial.model_copy(update={"resumed": True})
            end_left_processes(folder)
            for path in [folder / RESULTS, folder / "stop", *folder.glob("val*.npz"), *folder.glob("test*.npz")]:
                path.unlink(missing_ok=True)
        with self._writing:
            write_trial_folder(folder, trial, task, frequencies)
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
    """Return whether a folder is of this training: a script may continue from what it kept there."""
    try:
        before = json.loads((folder / TRIAL).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return {**before, "resumed": False} == {**json.loads(json_text(trial.document)), "resumed": False}


def _may_pass(ended: ScriptEnd) -> bool:
    """Return whether a training failed by what the next start may be spared."""
    if ended.status == 0 or ended.is_late:
        return False
    return ended.status == KILLED or any(PASSING.search(line) for line in ended.last)


def share_gpus(workers: int, gpus_each: int) -> list[dict[str, str]]:
    """Return the variables of each of so many trainings at a time.

    Args:
        workers: trainings at a time.
        gpus_each: GPUs of each; 0 = all see all.

    Raises:
        UsageError: if there are fewer.
    """
    if not gpus_each:
        return [{} for _ in range(workers)]
    gpus = _list_gpus()
    if len(gpus) < workers * gpus_each:
        raise UsageError(
            f"--workers × --gpus-per-trial must be at most the GPUs that there are, got {workers} × {gpus_each} of "
            f"{format_count(len(gpus), 'GPU')}; give fewer (CUDA_VISIBLE_DEVICES says which are used)"
        )
    return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[n * gpus_each : (n + 1) * gpus_each])} for n in range(workers)]


def _list_gpus() -> list[str]:
    """Return the GPUs that may be used, as CUDA_VISIBLE_DEVICES has them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [word.strip() for word in visible.split(",") if word.strip() not in ("", "-1")]
    listed = read_output("nvidia-smi", "-L") or ""
    return [match[1] for line in listed.splitlines() if (match := re.match(r"GPU (\d+):", line))]


def _find_free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])
