"""Kill a study between two of its writes, and see whether it becomes another.

    python -m tests.support.killing FOLDER KIND FIRST STEP

Optuna and SQLite are real, trainings cost nothing and die with the process. KIND `sweep` is all phases, in which each
family is tried once; `search` has few families and trials enough for the sampler to model them, and for trials to wait
and continue. The K-th commit that changes the study's database is not reached: the process kills itself with SIGKILL
right before it, and another continues to the end; for K = FIRST, FIRST + STEP, … What is left is compared with a study
that nothing cut off, and printed as JSON: the `writes` of that study, how often one was `killed`, and the
`differences`, by K.

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

from sqlalchemy import event
from sqlalchemy.engine import Engine

from sweeper import storage as studies
from sweeper.core.errors import MissingStudyError, StudyError
from sweeper.core.paths import STORAGE
from sweeper.core.records import SweepRecord, TrialResult, TrialSpec
from sweeper.evidence.recommendation import make_recommendation_json
from sweeper.storage.interim_analyses import read_analyses
from sweeper.study.loop import run_work
from sweeper.study.search import enqueue_defaults
from sweeper.workflow.conclude import draw_conclusion
from tests.support.faking import SPACE, FakeExecutor, fake_result, new_plan, new_search, train
from tests.support.sweeping import Recorder

NAME = "s"


def crossing(spec: TrialSpec) -> TrialResult:
    """Curves that cross, so that trials wait, continue and lose their lead."""
    made = fake_result(spec)
    if spec.purpose != "search":
        return made
    value = made.value or 0.0
    bend = (spec.lr * 1e6) % 7 / 7 - 0.5
    evaluations = tuple(
        e.model_copy(update={"value": min(0.99, max(0.01, value * (0.6 + 0.1 * part + bend * 0.1 * (4 - part))))})
        for part, e in enumerate(made.evaluations, 1)
    )
    return made.model_copy(update={"evaluations": evaluations, "value": evaluations[-1].value})


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


PLANS = {"sweep": new_plan(), "search": new_plan(SPACE.model_copy(update={"families": SPACE.families[1:3]}))}


def session(folder: Path, kind: str, kill_at: int | None = None) -> int:
    """Return one session of the study in `folder`, killed at its `kill_at`-th write; how many it made."""
    storage = studies.open_storage(f"sqlite:///{folder}/sweeper.db")
    plan, display, writes = PLANS[kind], Recorder(), Writes(kill_at)
    try:
        studies.read_plan(storage, NAME)
        study = studies.load_study(storage, NAME)
    except MissingStudyError:
        study = studies.create_study(storage, NAME, plan)
    if kind == "sweep":
        train(study, FakeExecutor(crossing), display, trials=9)
    else:
        studies.reconcile_study(study)
        enqueue_defaults(study, plan.space, 18)
        run_work(FakeExecutor(crossing), new_search(study, 18, display, folder, plan.space), lambda: None)
    return writes.count


def record_of(folder: Path, kind: str) -> dict[str, Any]:
    """Return all that the study and its recommendation say."""
    storage = studies.open_storage(f"sqlite:///{folder}/sweeper.db")
    sweep: SweepRecord = studies.load_sweep(storage, NAME).model_copy(update={"storage": STORAGE})  # wherever it is
    study = studies.load_study(storage, NAME)
    return {
        "recommendation": make_recommendation_json(sweep, draw_conclusion(sweep)),
        "trials": [
            [t.number, t.state.name, t.params, t.value, {str(k): v for k, v in t.intermediate_values.items()}]
            for t in study.get_trials(deepcopy=False)
        ],
        "results": [r.model_dump(mode="json") for r in studies.list_all_results(study)],
        "analyses": read_analyses(study.user_attrs).model_dump(mode="json"),
    }


def in_a_process(folder: Path, kind: str, kill_at: int | None) -> int:
    """Return the status of a forked process that ran one session."""
    child = os.fork()
    if child == 0:
        try:
            session(folder, kind, kill_at)
        except StudyError as error:
            (folder / "refused.txt").write_text(str(error))
            os._exit(2)
        except BaseException as error:
            (folder / "error.txt").write_text(repr(error))
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def differences(folder: Path, kind: str, kill_at: int, whole: dict[str, Any]) -> list[str]:
    """Return what is not as in a search that was not cut off."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if (status := in_a_process(folder, kind, kill_at)) != -signal.SIGKILL:
        return [f"status {status} in place of SIGKILL"]
    status = in_a_process(folder, kind, None)
    if status == 2 and "cut off while being made" in (folder / "refused.txt").read_text():
        return []  # nothing was stored yet but the name
    if status:
        return [f"status {status} of the resume: {(folder / 'error.txt').read_text()}"]
    found = record_of(folder, kind)
    return [key for key in whole if json.dumps(found[key]) != json.dumps(whole[key])]


def main(folder: Path, kind: str, first: int, step: int) -> None:
    """Print the summary."""
    (folder / "whole").mkdir(parents=True)
    writes = session(folder / "whole", kind)
    whole = record_of(folder / "whole", kind)
    found = {k: differences(folder / "cut", kind, k, whole) for k in range(first, writes + 1, step)}
    differing = {k: d for k, d in found.items() if d}
    print(json.dumps({"writes": writes, "killed": len(found), "differences": differing}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
