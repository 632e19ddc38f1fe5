"""Kill a study between two of its writes, and compare its continuation with a study that was not killed.

    python -m tests.support.killing FOLDER KIND FIRST STEP

Optuna and SQLite are real, trainings cost nothing and die with the process. KIND `sweep` is all phases, the
final training in another network; `search` has few families and trials enough for the sampler to model them, and for
trials to wait and continue. The K-th commit that changes the study's database is not reached: the process kills itself
with SIGKILL right before it, and another process continues to the end; for K = FIRST, FIRST + STEP, … The result is
compared with a study that was not killed. Printed as JSON are the `writes` of that study, how often one was `killed`,
and the `differences`, by K.

It is a program so that pytest's process, which has threads, is not forked.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

from sqlalchemy import event
from sqlalchemy.engine import Engine

from sweeper import storage as studies
from sweeper.core.errors import MissingStudyError, StudyError
from sweeper.core.paths import STORAGE
from sweeper.core.recipe import FinalNetwork
from sweeper.core.records import SweepRecord, TrialResult, TrialSpec
from sweeper.storage.results import read_analyses
from sweeper.study.loop import run_work
from sweeper.study.search import enqueue_defaults
from sweeper.workflow.conclude import draw_conclusion, make_document
from sweeper.workflow.settings import FinalOptions
from tests.support import builders
from tests.support.faking import DATA, SPACE, FakeExecutor, fake_result, new_plan, new_search, train
from tests.support.sweeping import Recorder

NAME = "s"


def make_crossing_result(spec: TrialSpec) -> TrialResult:
    """Return a result whose curve crosses others, so that trials wait, continue and lose their lead."""
    result = fake_result(spec)
    if spec.purpose != "search":
        return result
    value = result.value or 0.0
    bend = crc32(str(spec.loss).encode()) % 7 / 7 - 0.5
    evaluations = tuple(
        e.model_copy(update={"value": min(0.99, max(0.01, value * (0.6 + 0.1 * part + bend * 0.1 * (4 - part))))})
        for part, e in enumerate(result.evaluations, 1)
    )
    return result.model_copy(update={"evaluations": evaluations, "value": evaluations[-1].value})


class Writes:
    """Counts the commits that change a database, and ends the process right before one of them."""

    def __init__(self, last: int | None) -> None:
        self.count, self._last, self._changed = 0, last, False
        event.listen(Engine, "before_cursor_execute", self._execute)
        event.listen(Engine, "commit", self._commit)

    def _execute(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        self._changed |= statement.lstrip().split(None, 1)[0].upper() in {"INSERT", "UPDATE", "DELETE"}

    def _commit(self, connection: Any) -> None:
        if not self._changed:
            return
        self._changed = False
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


WHOLE = FinalNetwork(encoder="resnet34", encoder_weights="imagenet", size=96)
PLANS = {
    "sweep": new_plan(conditions=builders.conditions(DATA, final=WHOLE)),
    "search": new_plan(SPACE.model_copy(update={"families": SPACE.families[1:3]})),
}


def run_session(folder: Path, kind: str, kill_at: int | None = None) -> int:
    """Run one session of the study in `folder`, killed at its `kill_at`-th write, and return the number of writes."""
    storage = studies.open_storage(f"sqlite:///{folder}/sweeper.db")
    plan, display, writes = PLANS[kind], Recorder(), Writes(kill_at)
    try:
        studies.read_plan(storage, NAME)
        study = studies.open_study(storage, NAME)
    except MissingStudyError:
        study = studies.create_study(storage, NAME, plan)
    if kind == "sweep":
        options = {"trials": 14, "finds_steps": True, "looks_first": True, "final": FinalOptions()}
        train(study, FakeExecutor(make_crossing_result), display, plan=plan, **options)
    else:
        studies.reconcile_study(study)
        enqueue_defaults(study, plan.space, 18)
        run_work(FakeExecutor(make_crossing_result), new_search(study, 18, display, folder, plan.space), lambda: None)
    return writes.count


def read_record(folder: Path, kind: str) -> dict[str, Any]:
    """Return all results of the study and its answer."""
    storage = studies.open_storage(f"sqlite:///{folder}/sweeper.db")
    sweep: SweepRecord = studies.load_sweep(storage, NAME).model_copy(update={"storage": STORAGE})  # wherever it is
    study = studies.open_study(storage, NAME)
    return {
        "answer": make_document(sweep, draw_conclusion(sweep)).model_dump_json(),
        "trials": [
            [t.number, t.state.name, t.params, t.value, {str(k): v for k, v in t.intermediate_values.items()}]
            for t in study.get_trials(deepcopy=False)
        ],
        "results": [r.model_dump(mode="json") for r in studies.list_all_results(study)],
        "analyses": read_analyses(study.user_attrs).model_dump(mode="json"),
    }


def run_in_process(folder: Path, kind: str, kill_at: int | None) -> int:
    """Run one session in a forked process, and return its status."""
    child = os.fork()
    if child == 0:
        try:
            run_session(folder, kind, kill_at)
        except StudyError as error:
            (folder / "refused.txt").write_text(str(error))
            os._exit(2)
        except BaseException as error:
            (folder / "error.txt").write_text(repr(error))
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def list_differences(folder: Path, kind: str, kill_at: int, expected: dict[str, Any]) -> list[str]:
    """Return the keys whose values differ from those of a study that was not killed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if (status := run_in_process(folder, kind, kill_at)) != -signal.SIGKILL:
        return [f"status {status} in place of SIGKILL"]
    status = run_in_process(folder, kind, None)
    if status == 2 and "cut off while being made" in (folder / "refused.txt").read_text():
        return []  # only the name was stored
    if status:
        return [f"status {status} of the resume: {(folder / 'error.txt').read_text()}"]
    record = read_record(folder, kind)
    return [key for key in expected if json.dumps(record[key]) != json.dumps(expected[key])]


def main(folder: Path, kind: str, first: int, step: int) -> None:
    """Print the summary."""
    (folder / "whole").mkdir(parents=True)
    writes = run_session(folder / "whole", kind)
    expected = read_record(folder / "whole", kind)
    by_write = {k: list_differences(folder / "cut", kind, k, expected) for k in range(first, writes + 1, step)}
    differing = {k: d for k, d in by_write.items() if d}
    print(json.dumps({"writes": writes, "killed": len(by_write), "differences": differing}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
