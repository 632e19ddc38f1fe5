"""The tracker during failures of MLflow and killed sweeps: a real store has every run and every point once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import optuna
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sweeper.core.events import TrainingContinued, TrainingDropped, TrainingPaused
from sweeper.core.records import TrialResult
from sweeper.tracking import MlflowTracker, SweepSummary
from sweeper.tracking import tracker as tracker_module
from sweeper.tracking.mirror import SWEEP, MlflowMirror
from sweeper.tracking.mlflow_connection import connect_to_mlflow
from sweeper.tracking.values import DesiredRun, RunValues, TrackedTraining
from sweeper.tracking.values import run_of as desired_run
from tests.support import builders
from tests.support.tracked import begin_tracking, get_run, make_study, read_steps, store_result, store_waiting, train
from tests.support.waiting import wait_until

STEPS = [e.step for e in builders.trial("dice", 0.5, 0).evaluations]


class Line:
    """An MLflow client whose line can be cut: before a request arrives, or before its answer does."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self.cut: str | None = None
        self.cuts: Callable[[], str | None] = lambda: self.cut
        """The state of the line at each request."""
        self.requests = 0
        self.open = threading.Event()
        self.open.set()
        """While this is cleared, requests hang."""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **settings: Any) -> Any:
            self.requests += 1
            self.open.wait()
            cut = self.cuts()
            if cut == "request":
                raise ConnectionError("cut")
            answer = method(*arguments, **settings)
            if cut == "answer":
                raise ConnectionError("the answer was lost")
            return answer

        return call


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(autouse=True)
def shorten_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let passes follow each other quickly."""
    for name, seconds in {"PASS_EVERY": 0.02, "PAUSE_AFTER_FAILURE": 0.2}.items():
        monkeypatch.setattr(tracker_module, name, seconds)


@pytest.fixture
def line(uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """Yield the line that every new tracker uses."""
    line = Line(connect_to_mlflow(uri))
    monkeypatch.setattr("sweeper.tracking.tracker.connect_to_mlflow", lambda *_: line)
    yield line
    line.cuts, line.cut = lambda: None, None
    line.open.set()


def make_hanging_tracker(uri: str, study: str, line: Line, trainings: int) -> MlflowTracker:
    """Return a tracker that has `trainings` to write, and whose first request hangs."""
    tracker = begin_tracking(uri, study)
    assert tracker.wait_until_written() is None
    line.open.clear()
    before = line.requests
    for number in range(trainings):
        train(tracker, builders.trial("dice", 0.5, number))
    wait_until(lambda: line.requests > before)
    assert line.requests == before + 1  # it hangs in the thread
    return tracker


def list_statuses(uri: str, tracker: MlflowTracker) -> dict[str, str]:
    """Return the status of each run, by kind and number."""
    runs = MlflowClient(uri).search_runs([tracker.mirror.experiment_id])
    by_name = {run.data.tags["sweeper.kind"] + run.data.tags.get("sweeper.trial", ""): run.info.status for run in runs}
    assert len(by_name) == len(runs)
    return by_name


# --- One pass ---


class Tree:
    """A sweep and one trial that has ended, of which the trial is not written."""

    def __init__(self, line: Line, uri: str, study: str) -> None:
        values = RunValues(builders.conditions())
        sweep = DesiredRun(
            "sweep", {"sweeper.kind": SWEEP}, {}, values.make_dataset_input(SWEEP), start=0, status="RUNNING", end=0
        )
        self.mirror = MlflowMirror(line, uri)  # type: ignore[arg-type]
        self.mirror.begin_sweep(study, sweep, mark="m")
        trial = builders.trial("dice", 0.5, 1)
        self._name = trial.spec.name
        self._run = desired_run(TrackedTraining(trial, 0.0), values, self.mirror.parent_run_id)

    def sync(self) -> None:
        self.mirror.write_run(self._name, self._run)


@pytest.mark.parametrize("lost_part", ["request", "answer"])
@pytest.mark.slow
def test_the_next_pass_completes_the_runs_whichever_request_was_lost(uri: str, lost_part: str) -> None:
    """A lost request of the experiment or the sweep's run is repeated by the next session, others by the same one."""
    complete = Tree(line := Line(connect_to_mlflow(uri)), uri, f"whole-{lost_part}")
    complete.sync()
    assert read_steps(uri, complete.mirror.experiment_id) == {"trial/00001": STEPS}
    for number in range(1, line.requests + 1):
        study, tree = f"{lost_part}-{number}", None
        other = Line(connect_to_mlflow(uri))
        other.cuts = lambda other=other, number=number: lost_part if other.requests == number else None  # type: ignore[misc]
        with pytest.raises(ConnectionError):
            tree = Tree(other, uri, study)
            tree.sync()
        tree = tree or Tree(other, uri, study)
        tree.sync()
        assert read_steps(uri, tree.mirror.experiment_id) == {"trial/00001": STEPS}
        runs = {r.data.tags["sweeper.kind"]: r for r in other.search_runs([tree.mirror.experiment_id])}
        run = runs["trial"]
        assert len(runs) == len(other.search_runs([tree.mirror.experiment_id])) == 2
        assert run.info.status == "FINISHED" and run.data.metrics["seconds"] and run.inputs.dataset_inputs
        assert run.data.params["loss.family"] == "dice" and run.data.tags["sweeper.state"] == "complete"
        again = Tree(other, uri, study)  # another session finds the trial's run, too
        requests = other.requests  # those of its beginning; complete runs are not written
        again.sync()
        assert other.requests == requests and not again.mirror.made | again.mirror.completed


# --- Next to the training loop ---


def test_a_server_that_hangs_delays_no_training(uri: str, line: Line) -> None:
    tracker = make_hanging_tracker(uri, "hangs", line, trainings=20)
    line.open.set()
    assert tracker.wait_until_written() is None
    assert read_steps(uri, tracker.mirror.experiment_id) == {f"trial/{n:05d}": STEPS for n in range(20)}


def test_a_training_takes_few_requests_whatever_the_number_of_its_evaluations(uri: str, line: Line) -> None:
    tracker = begin_tracking(uri, "batches")
    assert tracker.wait_until_written() is None
    before = line.requests
    evaluations = tuple(builders.evaluation(step, 0.5) for step in range(1, 31))
    train(tracker, builders.trial("dice", 0.5, 0, evaluations=evaluations))
    assert tracker.wait_until_written() is None
    assert line.requests - before <= 5  # its own four, and one for the search's course
    assert read_steps(uri, tracker.mirror.experiment_id) == {"trial/00000": list(range(1, 31))}


def test_an_unreachable_server_is_tried_rarely_and_gets_everything_when_it_answers(uri: str, line: Line) -> None:
    study, warnings = make_study("away"), list[str]()
    tracker = begin_tracking(uri, study, warn=warnings.append)
    assert tracker.wait_until_written() is None
    line.cut = "request"
    before = line.requests
    for number in range(5):
        train(tracker, builders.trial("dice", 0.5, number))
    wait_until(lambda: line.requests >= before + 3)
    start, requests = time.monotonic(), line.requests
    while time.monotonic() < start + 1:
        tracker.set_description("nothing new")
        time.sleep(0.01)
    assert line.requests - requests <= 1 / tracker_module.PAUSE_AFTER_FAILURE + 1  # however much happens
    assert len(warnings) == 1 and "fails: cut" in warnings[0] and "Training continues" in warnings[0]
    line.cut = None
    assert tracker.wait_until_written() is None
    assert len(warnings) == 2 and "answers again" in warnings[1]
    assert read_steps(uri, tracker.mirror.experiment_id) == {f"trial/{n:05d}": STEPS for n in range(5)}
    noted = study.user_attrs["mlflow_runs"].values()
    assert {MlflowClient(uri).get_run(run_id).data.tags["sweeper.trial"] for run_id in noted} == set("01234")


def read_artifacts(uri: str, tracker: MlflowTracker) -> dict[str, str]:
    """Return the report's files in MLflow."""
    place = MlflowClient(uri).get_run(tracker.mirror.parent_run_id).info.artifact_uri
    folder = Path(unquote(urlsplit(place).path)) / "report"
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.*")}


def test_a_deleted_run_is_created_again_and_the_others_are_written(uri: str, line: Line) -> None:
    study, warnings = make_study("refused"), list[str]()
    tracker = begin_tracking(uri, study, warn=warnings.append)
    trial = builders.trial("dice", 0.5, 0)
    tracker.notify(TrainingPaused(trial.spec, cut_evaluations(trial, 1)))
    deleted = get_run(tracker, trial.spec).info.run_id
    MlflowClient(uri).delete_run(deleted)
    for number in range(3):
        store_result(study, train(tracker, builders.trial("dice", 0.5, number)))
    tracker.end_sweep("KILLED")
    assert get_run(tracker, trial.spec).info.run_id != deleted
    assert read_steps(uri, tracker.mirror.experiment_id) == {f"trial/{n:05d}": STEPS for n in range(3)}


def test_a_run_that_mlflow_refuses_delays_no_other_and_is_reported_at_the_end(
    uri: str, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that it refuses, and files on a full disk."""
    monkeypatch.setattr(tracker_module, "END_PATIENCE", 1.0)
    study, warnings = make_study("never"), list[str]()
    (tmp_path / "report.md").write_text("words")
    tracker = begin_tracking(uri, study, warn=warnings.append)
    assert tracker.wait_until_written() is None
    create = line.create_run

    def create_most(*arguments: Any, **options: Any) -> Any:
        if options["tags"].get("sweeper.trial") == "1":
            raise MlflowException("no such runs here")
        return create(*arguments, **options)

    def fail_on_full_disk(*_: object, **__: object) -> None:
        raise OSError("507 insufficient storage")

    line.create_run, line.log_artifact = create_most, fail_on_full_disk  # type: ignore[attr-defined]
    for number in range(4):
        store_result(study, train(tracker, builders.trial("dice", 0.5, number)))
    tracker.end_sweep("FINISHED", SweepSummary("", {}, {}, tmp_path))
    assert "1 run" in warnings[-1] and "1 file" in warnings[-1] and " left (" in warnings[-1]
    assert set(list_statuses(uri, tracker).values()) == {"FINISHED"}
    assert read_steps(uri, tracker.mirror.experiment_id) == {f"trial/{n:05d}": STEPS for n in (0, 2, 3)}
    del line.create_run, line.log_artifact
    again = begin_tracking(uri, study, status="FINISHED")
    again.end_sweep("FINISHED", SweepSummary("", {}, {}, tmp_path))
    assert (
        read_artifacts(uri, again) == {"report.md": "words"} and len(read_steps(uri, again.mirror.experiment_id)) == 4
    )


# --- The end ---


def test_the_end_reports_unwritten_runs_and_the_command_that_writes_them(uri: str, line: Line) -> None:
    study, warnings = make_study("end of all"), list[str]()
    tracker = begin_tracking(uri, study, warn=warnings.append)
    assert tracker.wait_until_written() is None
    line.cut = "request"
    store_result(study, train(tracker, builders.trial("dice", 0.5, 0)))
    tracker.end_sweep("KILLED")
    assert "did not take everything: 2 runs left (cut)" in warnings[-1]
    assert "sweeper studies sync 'end of all'" in warnings[-1]
    line.cut = None
    time.sleep(0.1)
    assert list_statuses(uri, tracker) == {"sweep": "RUNNING"}  # nothing is written after the end
    again = begin_tracking(uri, study, status="KILLED")
    assert again.wait_until_written() is None
    assert list_statuses(uri, again) == {"sweep": "KILLED", "trial0": "FINISHED"}
    assert read_steps(uri, again.mirror.experiment_id) == {"trial/00000": STEPS}


def test_the_wait_at_the_end_is_bounded_logged_and_can_be_stopped(
    uri: str, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages, stopped = list[str](), threading.Event()
    tracker = begin_tracking(uri, "bounded", log=messages.append, stopped=stopped.is_set)
    assert tracker.wait_until_written() is None
    monkeypatch.setattr(tracker_module, "MOST_SECONDS", 1.0)
    monkeypatch.setattr(tracker_module, "LAST_SECONDS", 0.1)
    line.cuts = lambda: time.sleep(0.05)
    for number in range(200):
        train(tracker, builders.trial("dice", 0.5, number))
    lacks = tracker.wait_until_written()  # although runs are written all the time
    assert lacks is not None and "waiting for MLflow" in messages[0] and "runs to be written" in messages[0]
    line.open.clear()
    stopped.set()
    monkeypatch.setattr(tracker_module, "MOST_SECONDS", 1000.0)
    beats: list[int] = []
    assert tracker.wait_until_written(lambda: beats.append(1)) is not None and beats
    tracker.close()


def test_a_closed_tracker_writes_no_further_run(uri: str, line: Line) -> None:
    """Another process may be running the study by then."""
    others = set(threading.enumerate())
    tracker = make_hanging_tracker(uri, "handed over", line, trainings=5)
    tracker.close()
    line.open.set()
    wait_until(lambda: set(threading.enumerate()) <= others)
    assert len(list_statuses(uri, tracker)) <= 2


# --- Sessions ---


@pytest.mark.slow
def test_another_store_than_the_last_is_warned_of(uri: str, tmp_path: Path) -> None:
    study = make_study("moved")
    begin_tracking(uri, study).close()
    begin_tracking(uri, study).close()
    messages: list[str] = []
    begin_tracking(f"sqlite:///{tmp_path}/other.db", study, warn=messages.append).close()
    assert len(messages) == 1 and "other.db is another store than the study's last, or a new one" in messages[0]


def cut_evaluations(result: TrialResult, evaluations: int) -> TrialResult:
    return result.model_copy(update={"evaluations": result.evaluations[:evaluations], "run_id": None})


def pause(tracker: MlflowTracker, study: optuna.Study, trial: TrialResult, evaluations: int = 1) -> str:
    """Let a trial wait at a rung, and return the id of its run."""
    store_waiting(study, cut_evaluations(trial, evaluations))
    tracker.notify(TrainingPaused(trial.spec, cut_evaluations(trial, evaluations)))
    run = get_run(tracker, trial.spec)
    assert run.info.status == "SCHEDULED" and run.data.tags["sweeper.state"] == "waiting"
    assert run.data.metrics["val/miou"] == trial.evaluations[evaluations - 1].chosen.miou
    return str(run.info.run_id)


def test_a_paused_training_continues_in_its_run(uri: str) -> None:
    study = make_study("pause")
    tracker = begin_tracking(uri, study)
    trials = [builders.trial("dice", 0.5, number) for number in range(3)]
    ids = [pause(tracker, study, trial) for trial in trials]
    pause(tracker, study, trials[0], 2)  # at the next rung
    store_result(study, train(tracker, trials[0]))  # in the same session
    tracker.end_sweep("KILLED")
    assert list_statuses(uri, tracker) == {
        "sweep": "KILLED",
        "trial0": "FINISHED",
        **{f"trial{number}": "SCHEDULED" for number in (1, 2)},
    }
    again = begin_tracking(uri, study)
    train(again, trials[1])
    train(again, cut_evaluations(trials[2], 1).model_copy(update={"state": "pruned"}))  # it was not continued
    again.end_sweep("FINISHED")
    assert list_statuses(uri, again) == dict.fromkeys(("sweep", "trial0", "trial1", "trial2"), "FINISHED")
    assert [get_run(again, trial.spec).info.run_id for trial in trials] == ids
    assert read_steps(uri, again.mirror.experiment_id) == {
        "trial/00000": STEPS,
        "trial/00001": STEPS,
        "trial/00002": STEPS[:1],
    }


def test_a_long_training_is_written_while_it_runs_and_ends_in_the_same_run(uri: str) -> None:
    study = make_study("live")
    tracker = begin_tracking(uri, study)
    first = builders.confirmation("dice", 1)
    specs = [first.spec.model_copy(update={"number": number}) for number in range(3)]
    confirmed = [first.model_copy(update={"spec": spec}) for spec in specs]
    for training, seconds in zip(confirmed, (12.0, 9.0, 12.0), strict=True):
        result = cut_evaluations(training, 1).model_copy(update={"state": "pruned", "seconds": seconds})
        tracker.notify(TrainingContinued(training.spec, result))
    run = get_run(tracker, confirmed[0].spec)
    assert (run.info.status, run.data.tags["sweeper.state"]) == ("RUNNING", "running")
    result = cut_evaluations(confirmed[0], 2).model_copy(update={"state": "pruned", "seconds": 15.0})
    tracker.notify(TrainingContinued(confirmed[0].spec, result))  # too early
    running = {f"confirm{training.spec.number}": "RUNNING" for training in (confirmed[0], confirmed[2])}
    assert list_statuses(uri, tracker) == {"sweep": "RUNNING"} | running  # the short one is not written
    experiment, steps = tracker.mirror.experiment_id, [e.step for e in confirmed[0].evaluations]
    name = f"confirm/{confirmed[0].spec.number:05d}"
    assert read_steps(uri, experiment)[name] == steps[:1]
    store_result(study, train(tracker, confirmed[0]))
    tracker.notify(TrainingDropped(confirmed[2].spec, "it is not needed any more", died=False))
    tracker.end_sweep("KILLED")
    assert list_statuses(uri, tracker) == {"sweep": "KILLED", f"confirm{confirmed[0].spec.number}": "FINISHED"}
    assert read_steps(uri, experiment) == {name: steps}


def test_a_training_that_a_killed_sweep_was_running_is_not_a_run_of_its_resume(uri: str) -> None:
    study = make_study("cut")
    tracker, trial = begin_tracking(uri, study), builders.trial("dice", 0.5, 0)
    result = cut_evaluations(trial, 1).model_copy(update={"state": "pruned", "seconds": 99.0})
    tracker.notify(TrainingContinued(trial.spec, result))
    assert get_run(tracker, trial.spec).info.status == "RUNNING"
    tracker.close()  # kill -9
    again = begin_tracking(uri, study)
    assert list_statuses(uri, again) == {"sweep": "RUNNING"}
    store_result(study, train(again, trial))
    again.end_sweep("FINISHED")
    assert list_statuses(uri, again) == {"sweep": "FINISHED", "trial0": "FINISHED"}


# --- Connecting ---


@pytest.mark.slow
def test_a_request_to_a_server_that_hangs_times_out() -> None:
    """It accepts connections and sends nothing."""
    import socket

    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(16)
        start = time.monotonic()
        with pytest.raises(MlflowException, match=r"timeout|timed out"):
            MlflowClient(f"http://127.0.0.1:{mute.getsockname()[1]}").get_run("0" * 32)
        assert time.monotonic() - start < 60  # not a speed: MLflow's own default is 120 s, seven times
