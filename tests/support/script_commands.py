"""Commands of real scripts, and one whole training by such a command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from sweeper.core.records import Task
from sweeper.scripts.contract import TrialDocument
from sweeper.scripts.scores import ScriptTask
from sweeper.scripts.script_start import ScriptStart, find_start_problems
from sweeper.scripts.starter import ScriptStarter

SUPPORT = Path(__file__).resolve().parent


def python(*words: object) -> str:
    """Return the command that starts this Python with these words."""
    return shlex.join([sys.executable, *map(str, words)])


def train_once(
    command: str, folder: Path, *, classes: int = 2, family: str = "dice", overlap: bool = False
) -> ScriptStart:
    """Return one training as of a comparison, which has no problem."""
    trial = TrialDocument(kind="confirm", family=family, params={}, seed=3)
    task: Task = "multilabel" if overlap else "binary" if classes == 2 else "multiclass"
    area = 10 if overlap else None
    data = ScriptTask(task=task, kinds={}, metric="miou", class_pixels=(1,) * classes, labelled_pixels=area)
    start = ScriptStarter(command).train(trial, folder, data, "a training")
    assert [*find_start_problems(start, 900)] == []
    return start
