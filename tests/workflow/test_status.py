"""The sign of life: the status file that a running sweep writes, and the output of `sweeper studies show`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sweeper import storage as studies
from sweeper.cli.main import cli
from sweeper.core.errors import InterruptedSweepError, NothingCompletedError, UsageError
from sweeper.core.events import ResultStored, TrainingDropped, TrainingEvaluated
from sweeper.workflow import status as status_module
from sweeper.workflow.phase_progress import PhaseCounts
from sweeper.workflow.status import (
    BEAT_SECONDS,
    REPORT,
    SILENT_SECONDS,
    Heartbeat,
    SweepLife,
    diagnose_sweep,
    get_status_file,
    read_life,
)
from sweeper.workflow.studies import list_study_rows
from tests.support import builders
from tests.support.faking import ONE_RATE, FakeExecutor, new_plan, new_study, train
from tests.support.postgres_server import Server


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def read_state(path: Path) -> SweepLife:
    return read_life(path)


def test_the_status_file_follows_the_sweep(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "status" / "s.json"
    with Heartbeat(path, "s", clock) as heartbeat:
        assert (read_state(path).state, read_state(path).pid) == ("running", os.getpid())
        heartbeat.begin_phase("search", 9, PhaseCounts((builders.trial("dice", 0.5, 8),)))
        clock.now += 5
        heartbeat.record_sign_of_life()
        assert read_state(path).written == 1_000_000.0, "a beat is written now and then alone"
        clock.now += BEAT_SECONDS
        heartbeat.record_sign_of_life()
        assert read_state(path).written == clock.now and read_state(path).progress == 1_000_000.0
        spec = builders.spec()
        heartbeat.notify(TrainingEvaluated(spec, builders.evaluation(4, 0.5)))
        assert read_state(path).progress == clock.now
        for number in range(2):
            clock.now += 1
            heartbeat.notify(ResultStored(builders.failed_trial(number=number, reason="it raised")))
        state = read_state(path)
        assert (state.failures, state.last_reason, state.done, state.total) == (2, "it raised", 3, 9)
        assert state.progress == clock.now - 2, "a failure is no progress"
        heartbeat.notify(TrainingDropped(spec, "the time was up", died=False))
        assert read_state(path).failures == 2, "what the time limit cuts off is no fault"
        heartbeat.notify(TrainingDropped(spec, "it hung", died=True))
        assert read_state(path).failures == 3 and read_state(path).last_reason == "it hung"
        heartbeat.notify(ResultStored(builders.trial("dice", 0.5, 3)))
        assert read_state(path).failures == 0
        clock.now -= 7200  # the clock was set back
        heartbeat.record_sign_of_life()
        assert read_state(path).written == clock.now
    assert read_state(path).state == "finished"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "error, state",
    [
        (InterruptedSweepError("stopped", 143), "stopped"),
        (KeyboardInterrupt(), "stopped"),
        (NothingCompletedError("nothing"), "finished"),
        (RuntimeError("no"), "failed"),
    ],
)
def test_the_status_file_has_how_a_sweep_ended(tmp_path: Path, error: BaseException, state: str) -> None:
    with pytest.raises(type(error)), Heartbeat(tmp_path / "s.json", "s"):
        raise error
    assert read_state(tmp_path / "s.json").state == state


def test_a_folder_that_cannot_be_written_ends_no_sweep(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("a file where the folder would be")
    with Heartbeat(tmp_path / "status" / "s.json", "s") as heartbeat:
        heartbeat.begin_phase("search", 3)
    assert read_life(tmp_path / "status" / "s.json") is None


def get_ended_process() -> int:
    """Return the id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def make_life(**changes: Any) -> SweepLife:
    fields: dict[str, Any] = {"study": "s", "state": "running", "written": 1000.0, "progress": 1000.0}
    return SweepLife(**{**fields, "pid": os.getpid(), "host": socket.gethostname(), **changes})


def test_a_sweep_that_needs_attention_has_a_problem() -> None:
    assert diagnose_sweep(make_life(), 1010.0).problems == ()
    silent = 1000.0 + SILENT_SECONDS + 1
    cases: list[tuple[SweepLife, float, str]] = [
        (make_life(pid=get_ended_process()), 1010.0, "is gone"),
        (make_life(), silent, "it hangs"),
        (make_life(host="elsewhere", pid=get_ended_process()), silent, "it hangs"),
        (make_life(failures=3, last_reason="it raised"), 1010.0, "3 trainings in a row failed; the last: it raised"),
        (make_life(state="failed"), 1010.0, "ended with an error"),
    ]
    for one, now, words in cases:
        assert len(diagnose_sweep(one, now).problems) == 1 and words in diagnose_sweep(one, now).problems[0], words
    assert diagnose_sweep(make_life(host="elsewhere", pid=get_ended_process()), 1010.0).problems == ()
    for state in ("finished", "stopped"):
        assert diagnose_sweep(make_life(state=state, pid=get_ended_process()), silent).problems == ()
    assert diagnose_sweep(make_life(progress=900.0), 1010.0).stalled_seconds == 110.0


def test_the_phases_of_a_sweep_reach_the_status_file(tmp_path: Path) -> None:
    """All phases with trainings that cost nothing: the loop beats, failures in a row are counted."""
    path = tmp_path / "s.json"
    heartbeat = Heartbeat(path, "s")
    study = new_study()
    states: list[SweepLife] = []

    def fail(spec: Any) -> Any:
        states.append(read_state(path))
        return builders.failed_trial(spec.family, spec.number, spec=spec)

    train(study, FakeExecutor(fail), trials=4, heartbeat=heartbeat, plan=ONE_RATE)
    assert states[0].phase == "search" and states[0].total == 4
    assert [state.failures for state in states] == [0, 1, 2, 3] and read_state(path).failures == 4
    phases: list[str] = []
    train(
        new_study(), FakeExecutor(began=lambda _: phases.append(read_state(path).phase)), trials=9, heartbeat=heartbeat
    )
    assert list(dict.fromkeys(phases)) == ["rate", "search", "confirm"] and read_state(path).failures == 0


def test_a_misspelt_study_is_answered_with_the_similar_name(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/sweeper.db"
    with Heartbeat(get_status_file(storage, "cracks-2026"), "cracks-2026"):
        pass
    result = CliRunner().invoke(cli, ["studies", "show", "--storage", storage, "crack-2026"], standalone_mode=False)
    assert isinstance(result.exception, UsageError) and "did you mean `cracks-2026`?" in str(result.exception)


def test_status_reports_as_text_and_as_a_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = f"sqlite:///{tmp_path}/sweeper.db"

    def ask_status(*more: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["studies", "show", "--storage", storage, *more], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return int(result.return_value), result.stdout

    with pytest.raises(UsageError, match=r"nothing is known of a in .*; name the --storage of the run, in the folder"):
        ask_status("a")
    with monkeypatch.context() as patched, pytest.raises(UsageError, match="in the folder of the sweep"):
        patched.chdir(tmp_path)
        ask_status("a", "--storage", "postgresql://localhost/sweeper")
    with Heartbeat(get_status_file(storage, "a"), "a") as heartbeat:
        heartbeat.begin_phase("confirm", 6, PhaseCounts(tuple(builders.confirmation("dice", seed) for seed in (1, 2))))
        status, text = ask_status("a")
        assert status == 0 and text.startswith("ok") and "confirm 2/6" in text
        heartbeat.begin_phase(REPORT, 0)
        assert "running, report, last progress" in ask_status("a")[1]
        heartbeat.record_answer("Keep cross-entropy")
        assert "last sign of life" in ask_status("a")[1] and "answer: Keep cross-entropy" in ask_status("a")[1]
    with pytest.raises(RuntimeError), Heartbeat(get_status_file(storage, "b"), "b"):
        raise RuntimeError
    assert ask_status("a")[0] == 0
    status, text = ask_status("--json")
    document = json.loads(text)
    assert status == 1 and document["ok"] is False
    rows = [(row["study"], row["ok"], row["state"]) for row in document["studies"]]
    assert rows == [("a", True, "finished"), ("b", False, "failed")]
    assert "PROBLEM" in ask_status()[1] and "--resume" in ask_status()[1]


def test_a_study_that_another_process_continued_has_no_problem(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = postgres.fresh()
    study = studies.create_study(studies.open_storage(url), "s", new_plan())
    studies.note_session(study)
    path = tmp_path / get_status_file(url, "s")
    Heartbeat(path, "s")  # and then it is killed
    monkeypatch.setattr(status_module, "_is_alive", lambda _: False)

    def ask_status() -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["studies", "show", "--storage", url], standalone_mode=False)
        return int(result.return_value), result.stdout

    def list_state() -> str:
        return list_study_rows(studies.open_storage(url, create=False), url)[0].state

    status, text = ask_status()
    assert status == 1 and "is gone: sweeper run --study s --resume" in text and list_state() == "gone"
    study.set_user_attr(studies.SESSION, "process 7 on elsewhere")
    status, text = ask_status()
    assert status == 0 and text.startswith("ok") and "process 7 on elsewhere has continued it since" in text
    assert list_state() == "stopped"


def test_status_starts_without_the_libraries_of_a_sweep(tmp_path: Path) -> None:
    code = (
        "import sys; from sweeper.cli.main import cli; cli(['studies', 'show'], standalone_mode=False) or None; "
        "print(sorted({'optuna', 'torch', 'sqlalchemy'} & sys.modules.keys()))"
    )
    with Heartbeat(tmp_path / get_status_file("sqlite:///sweeper.db", "s"), "s"):
        run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("storage", ["nonsense", "mysql://user:secret@host/base"])
def test_status_refuses_an_invalid_storage_address(sweeper: Any, storage: str) -> None:
    with Heartbeat(get_status_file(storage, "s"), "s"):
        status, out, err = sweeper("studies", "show", "--storage", storage)
    assert status == 2 and "--storage must be sqlite:///FILE" in err and "secret" not in err + out
