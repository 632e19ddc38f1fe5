"""MLflow that goes away and comes back: real stores, real servers, every point once."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sweeper.core.events import Dropped, Evaluated, Paused, Resumed, Started
from sweeper.core.records import TrialResult
from sweeper.tracking import Tracker, send_spooled
from sweeper.tracking.courier import MOST_FLUSH_SECONDS, Courier
from sweeper.tracking.mlflow_writes import KEY, Operation
from sweeper.tracking.spool import Spool
from tests import builders
from tests.mlflow_server import Server
from tests.test_cli_run import QUICK, SHORT, start, sweeper, wait_for


class Line:
    """An MLflow client whose line can be cut: before a request arrives, or before its answer does."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self.cut: str | None = None
        self.cuts: Callable[[], str | None] = lambda: self.cut
        """How the line is at each request."""
        self.requests = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **settings: Any) -> Any:
            self.requests += 1
            cut = self.cuts()
            if cut == "request":
                raise ConnectionError("cut")
            answer = method(*arguments, **settings)
            if cut == "answer":
                raise ConnectionError("the answer was lost")
            return answer

        return call


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


class Bench:
    """A tracker on a line that can be cut, and what became of its trainings."""

    def __init__(self, uri: str, folder: Path, study: str) -> None:
        self.uri, self.warnings, self.clock = uri, list[str](), Clock()
        self.found: dict[str, str] = {}
        self.tracker = Tracker(uri, warn=self.warnings.append, spool=folder)
        self.line = Line(self.tracker._client)
        self.tracker._client = self.line  # type: ignore[assignment]
        self.tracker.start_sweep(study, builders.conditions(), parent_run_id=None, settings={}, found=self.found.update)
        self.tracker._courier._clock = self.clock
        self.spool = Spool(folder, study, uri)

    def train(self, number: int, cut: Callable[[int], str | None] = lambda _: None) -> TrialResult:
        """One training; `cut(i)` says how the line is before its i-th call."""
        trial = builders.trial("dice", 0.5, number).model_copy(update={"run_id": None})
        calls: list[Callable[[], object]] = [lambda: self.tracker.notify(Started(trial.spec))]
        calls += [lambda e=e: self.tracker.notify(Evaluated(trial.spec, e, last=False)) for e in trial.evaluations]  # type: ignore[misc]
        for index, call in enumerate(calls):
            self.line.cut = cut(index)
            call()
        self.line.cut = cut(len(calls))
        return self.tracker.record(trial)

    def points(self) -> dict[str, list[int]]:
        """Steps of val/miou in each trial's run, by trial; a run that is there twice has its steps twice."""
        return points_of(self.uri, self.tracker.experiment_id)


def points_of(uri: str, experiment: str, *, killed: bool = True) -> dict[str, list[int]]:
    client = MlflowClient(uri)
    runs = client.search_runs([experiment], "tags.sweeper.kind != 'sweep'", max_results=5000)
    runs = [run for run in runs if run.info.status != "KILLED" or killed]
    found: dict[str, list[int]] = {}
    for run in runs:
        name = f"{run.data.tags['sweeper.kind']}/{int(run.data.tags['sweeper.trial']):05d}"
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "val/miou")]
        found[name] = sorted(found.get(name, []) + steps)
    return found


STEPS = [e.step for e in builders.trial("dice", 0.5, 0).evaluations]


@pytest.mark.parametrize("how", ["request", "answer"])
@pytest.mark.parametrize("call", range(len(STEPS) + 2))
def test_whatever_call_the_line_is_cut_at_everything_arrives_once(
    uri: str, tmp_path: Path, how: str, call: int
) -> None:
    bench = Bench(uri, tmp_path, f"cut-{how}-{call}")
    bench.train(0)
    bench.train(1, lambda i: how if i == call else None)  # it answers again, and is asked again after the pause
    assert len(bench.warnings) == 1 and "sweep goes on" in bench.warnings[0]
    bench.line.cut = None
    assert bench.spool
    bench.clock.now += 100
    bench.train(2)
    assert bench.points() == {f"trial/{n:05d}": STEPS for n in range(3)}
    assert not bench.spool.path.exists()
    assert "answers again" in bench.warnings[1]
    runs = MlflowClient(uri).search_runs([bench.tracker.experiment_id])
    assert len({run.data.tags[KEY] for run in runs}) == len(runs) == 4


def test_while_it_is_away_it_is_asked_now_and_then_and_no_more(uri: str, tmp_path: Path) -> None:
    bench = Bench(uri, tmp_path, "away")
    before = bench.line.requests
    for number in range(5):
        bench.train(number, lambda _: "request")
    assert bench.line.requests == before + 1
    asked = []
    for number in range(5, 25):
        bench.clock.now += 10
        before = bench.line.requests
        bench.train(number, lambda _: "request")
        asked.append(bench.line.requests - before)
    assert max(asked) == 1 and 3 <= sum(asked) <= 10
    assert len(bench.warnings) == 1


def test_the_runs_of_trainings_that_ended_meanwhile_are_told_later(uri: str, tmp_path: Path) -> None:
    bench = Bench(uri, tmp_path, "late")
    ended = bench.train(3, lambda _: "request")
    assert ended.run_id is None
    bench.line.cut = None
    bench.tracker.catch_up()
    assert set(bench.found) == {"search/00003"}
    assert MlflowClient(uri).get_run(bench.found["search/00003"]).data.tags["sweeper.trial"] == "3"


def test_an_attempt_that_was_dropped_is_not_the_trainings_run(uri: str, tmp_path: Path) -> None:
    bench = Bench(uri, tmp_path, "dropped")
    bench.line.cut = "request"
    spec = builders.spec("dice", 0)
    bench.tracker.notify(Started(spec))
    bench.tracker.notify(Dropped(spec, "worker killed by signal 9", died=True))
    bench.train(0, lambda _: "request")
    bench.line.cut = None
    bench.tracker.catch_up()
    run = MlflowClient(uri).get_run(bench.found["search/00000"])
    assert run.data.tags["sweeper.state"] == "complete" and run.info.status == "FINISHED"


def test_what_a_killed_session_kept_is_sent_first_by_the_next_one(uri: str, tmp_path: Path) -> None:
    bench = Bench(uri, tmp_path, "next")
    bench.train(0, lambda _: "answer")
    bench.line.cut = "request"
    bench.tracker.notify(Started(builders.spec("dice", 1)))  # amid this one the power goes
    again = Tracker(uri, warn=bench.warnings.append, spool=tmp_path)
    again.start_sweep(
        "next",
        builders.conditions(),
        parent_run_id=bench.tracker.parent_run_id,
        settings={},
        found=bench.found.update,
    )
    assert bench.points() == {"trial/00000": STEPS, "trial/00001": []}
    assert set(bench.found) == {"search/00000"}
    runs = MlflowClient(uri).search_runs([bench.tracker.experiment_id], "tags.sweeper.kind = 'trial'")
    assert {r.data.tags["sweeper.trial"]: r.info.status for r in runs} == {"0": "FINISHED", "1": "KILLED"}


def test_a_crash_amid_sending_repeats_nothing(uri: str, tmp_path: Path) -> None:
    """The power goes after each single operation that was taken, before that could be noted."""
    bench = Bench(uri, tmp_path, "crashes")
    bench.train(0, lambda _: "request")
    waiting = len(bench.spool)
    bench.line.cut = None
    for _ in range(waiting):
        first = bench.spool.first()
        assert first is not None
        courier = Courier(bench.line, bench.spool, place=uri, warn=pytest.fail, found=bench.found.update)  # type: ignore[arg-type]
        bench.spool.attempt(first.number)
        courier._deliver(first.operation)  # and here
        after = Courier(bench.line, bench.spool, place=uri, warn=pytest.fail, found=bench.found.update)  # type: ignore[arg-type]
        again = bench.spool.first()
        assert again is not None and again.attempted
        assert after._replay(again)
    assert not bench.spool
    assert bench.points() == {"trial/00000": STEPS}


def test_what_mlflow_refuses_is_left_out_and_the_rest_is_sent(uri: str, tmp_path: Path) -> None:
    bench = Bench(uri, tmp_path, "refused")
    bench.line.cut = "request"
    bench.tracker._post("batch", "sweep", params={"trials": "1"})
    bench.tracker._post("batch", "sweep", params={"trials": "2"})  # MLflow's parameters are written once
    bench.train(0, lambda _: "request")
    bench.line.cut = None
    bench.tracker.catch_up()
    assert bench.points() == {"trial/00000": STEPS}
    assert sum("refuses what" in text for text in bench.warnings) == 1
    assert not bench.spool.path.exists()


def test_a_spool_that_cannot_be_written_is_said_once(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(uri, tmp_path, "full")

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Spool, "append", full)
    for number in range(3):
        bench.train(number, lambda _: "request")
    assert [("sweep goes on" in text) for text in bench.warnings] == [True, True]
    assert "disk is full" in bench.warnings[1]


def test_operations_survive_the_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "study/../x", "http://user:secret@host")
    assert not spool and not list(tmp_path.iterdir())
    written = Operation(kind="batch", key="k", at=5, metrics={"val/miou": 1 / 3}, tags={"ü": "|'\n"}, step=3)
    spool.append(written)
    spool.append(written, attempted=True)
    assert [p.parent for p in tmp_path.rglob("*.db")] == [tmp_path]
    assert "secret" not in spool.path.name
    first = Spool(tmp_path, "study/../x", "http://user:secret@host").first()
    assert first is not None and first.operation == written and not first.attempted
    spool.done(first.number, "k", "id", kept=True)
    second = spool.first()
    assert second is not None and second.attempted
    assert not Spool(tmp_path, "study/../x", "http://elsewhere")


def test_the_end_says_how_to_send_what_is_left_and_that_works(uri: str, tmp_path: Path) -> None:
    bench = Bench(uri, tmp_path, "end")
    bench.train(0, lambda _: "request")
    bench.tracker._courier.flush(5, sleep=bench.clock.sleep)
    assert bench.clock.now == pytest.approx(5)
    bench.tracker.end_sweep("KILLED")
    assert "sweeper report" in bench.warnings[-1]
    sent, left = send_spooled(uri, tmp_path, "end", warn=pytest.fail, found=bench.found.update)
    assert sent > 5 and left == 0
    assert bench.points() == {"trial/00000": STEPS}
    assert MlflowClient(uri).get_run(bench.tracker.parent_run_id).info.status == "KILLED"
    assert send_spooled(uri, tmp_path, "end", warn=pytest.fail, found=bench.found.update) == (0, 0)


@pytest.mark.parametrize("seed", range(4))
def test_a_store_that_fails_now_and_then_gets_everything_at_the_end(uri: str, tmp_path: Path, seed: int) -> None:
    """Every third request fails or its answer is lost, and in between it is away for five seconds."""
    bench = Bench(uri, tmp_path, f"flapping-{seed}")
    trainings = 8
    for number in range(trainings):
        bench.train(number, lambda _: "request")
    waiting = len(bench.spool)
    assert waiting > trainings * len(STEPS)
    luck = random.Random(seed)

    def cuts() -> str | None:
        bench.clock.now += 0.2
        if 20 < bench.clock.now % 30 < 25:
            return "request"
        return luck.choice([None, None, None, None, "request", "answer"])

    bench.line.cuts = cuts
    assert bench.tracker._courier.flush(20.0, sleep=bench.clock.sleep) == 0
    assert bench.clock.now > 20  # it took longer than what is waited where nothing is taken
    assert bench.points() == {f"trial/{n:05d}": STEPS for n in range(trainings)}
    assert not bench.spool.path.exists()


def test_the_end_is_bounded_shown_and_ends_when_asked(uri: str, tmp_path: Path) -> None:
    bench = Bench(uri, tmp_path, "bounded")
    for number in range(4):
        bench.train(number, lambda _: "request")
    courier, said = bench.tracker._courier, list[str]()
    courier._say = said.append

    def slow() -> str | None:
        bench.clock.now += 50.0
        return None

    bench.line.cuts = slow
    waiting = len(bench.spool)
    assert 0 < courier.flush(1000.0, sleep=bench.clock.sleep) < waiting
    assert MOST_FLUSH_SECONDS <= bench.clock.now <= MOST_FLUSH_SECONDS + 500
    assert said and "still to be sent" in said[0]
    courier._stopped = lambda: True
    before = bench.line.requests
    assert courier.flush(1000.0, sleep=bench.clock.sleep) > 0
    assert bench.line.requests <= before + 2


def test_nothing_waits_behind_files_that_a_server_cannot_take(uri: str, tmp_path: Path) -> None:
    bench = Bench(uri, tmp_path, "files")
    bench.train(0)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md").write_text("words")
    client = bench.line._client

    def full(*_: object, **__: object) -> None:
        raise OSError("507 insufficient storage")

    bench.line.log_artifact = full  # type: ignore[attr-defined]
    bench.tracker._courier._stopped = lambda: True
    bench.tracker.end_sweep("FINISHED", folder=tmp_path / "report")
    assert client.get_run(bench.tracker.parent_run_id).info.status == "FINISHED"
    assert len(bench.spool) == 1 and "1 operation is kept" in bench.warnings[-1]


def test_a_report_that_a_server_cannot_take_holds_up_no_later_session(uri: str, tmp_path: Path) -> None:
    bench = Bench(uri, tmp_path, "later")
    bench.train(0)
    folders = [tmp_path / "report", tmp_path / "elsewhere"]
    for folder in folders:
        folder.mkdir()
        (folder / f"{folder.name}.md").write_text("words")
    tried: list[Path] = []

    def full(_: str, path: str, *__: object) -> None:
        tried.append(Path(path))
        raise OSError("507 insufficient storage")

    bench.line.log_artifact = full  # type: ignore[attr-defined]
    paused = builders.trial("dice", 0.5, 1)
    bench.tracker.notify(Started(paused.spec))
    waiting = bench.tracker.run_id(paused.spec)
    bench.tracker.notify(Paused(paused.spec, paused))
    bench.tracker.end_sweep("KILLED", folder=folders[0])
    assert len(bench.spool) == 1 and waiting is not None
    for session, folder in enumerate(reversed(folders)):
        clock, warnings = Clock(), list[str]()
        again = Tracker(uri, warn=warnings.append, spool=tmp_path)
        again._client = bench.line  # type: ignore[assignment]
        tried.clear()
        again.start_sweep(
            "later", builders.conditions(), parent_run_id=bench.tracker.parent_run_id, settings={}, found=pytest.fail
        )
        assert len(tried) == 1 and "does not take the report's files" in warnings[0]
        again._courier._clock, again._courier._stopped = clock, lambda: True
        bench.tracker = again
        assert bench.train(10 + session).run_id is not None
        assert bench.points()[f"trial/{10 + session:05d}"] == STEPS
        again.catch_up()
        assert len(tried) == 1 and len(bench.spool) == session + 1
        again.end_sweep("FINISHED", folder=folder)
        assert len(bench.spool) == 2 and len(warnings) == 2 and "2 operations are kept" in warnings[1]
    assert MlflowClient(uri).get_run(waiting).info.status == "KILLED"
    del bench.line.log_artifact
    assert send_spooled(uri, tmp_path, "later", warn=pytest.fail, found=lambda _: None) == (2, 0)
    place = MlflowClient(uri).get_run(bench.tracker.parent_run_id).info.artifact_uri
    sent = {path.name for path in (Path(unquote(urlsplit(place).path)) / "report").iterdir()}
    assert sent == {"report.md", "elsewhere.md"} and not bench.spool.path.exists()


def test_files_that_cannot_be_sent_let_those_of_another_folder_pass(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "s", "http://host")
    for folder in ("one", "two", "one"):
        spool.append(Operation(kind="artifacts", key="sweep", at=1, folder=folder))
    spool.append(Operation(kind="batch", key="sweep", at=1))
    order = []
    while (first := spool.first()) is not None:
        order.append(first.operation.folder)
        if order == ["", "two"]:
            spool.postpone(first.number)
        else:
            spool.drop(first.number)
    assert order == ["", "two", "one", "two"]


def test_many_files_reach_a_store_that_fails_every_third_time(uri: str, tmp_path: Path) -> None:
    bench = Bench(uri, tmp_path, "many-files")
    folder = tmp_path / "report"
    for number in range(40):
        path = folder / ("figures" if number % 2 else "") / f"{number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    luck = random.Random(0)
    bench.line.cuts = lambda: luck.choice([None, None, "request", "answer"])
    bench.tracker.end_sweep("FINISHED", folder=folder)
    place = MlflowClient(uri).get_run(bench.tracker.parent_run_id).info.artifact_uri
    kept = Path(unquote(urlsplit(place).path)) / "report"
    found = {p.relative_to(kept): p.read_text() for p in kept.rglob("*.md")}
    assert found == {p.relative_to(folder): p.read_text() for p in folder.rglob("*.md")}
    assert len(bench.spool) == 0


# --- Paused trainings ---


def so_far(result: TrialResult, evaluations: int) -> TrialResult:
    return result.model_copy(update={"evaluations": result.evaluations[:evaluations], "run_id": None})


def test_a_paused_training_goes_on_in_its_own_run(uri: str, tmp_path: Path) -> None:
    client = MlflowClient(uri)
    tracker = Tracker(uri, warn=pytest.fail, spool=tmp_path)
    tracker.start_sweep("pause", builders.conditions(), parent_run_id=None, settings={})
    trials = [builders.trial("dice", 0.5, number) for number in range(4)]
    for trial in trials:
        tracker.notify(Started(trial.spec))
        tracker.notify(Evaluated(trial.spec, trial.evaluations[0], last=False))
        tracker.notify(Paused(trial.spec, so_far(trial, 1)))
    ids = [tracker.run_id(trial.spec) for trial in trials]
    assert {client.get_run(i or "").info.status for i in ids} == {"SCHEDULED"}
    assert {client.get_run(i or "").data.tags["sweeper.state"] for i in ids} == {"waiting"}
    tracker.notify(Resumed(trials[0].spec, so_far(trials[0], 1)))  # in the same session
    assert client.get_run(ids[0] or "").info.status == "RUNNING"
    for evaluation in trials[0].evaluations[1:]:
        tracker.notify(Evaluated(trials[0].spec, evaluation, last=False))
    assert tracker.record(trials[0]).run_id == ids[0]
    tracker.end_sweep("KILLED")
    assert client.get_run(ids[1] or "").info.status == "SCHEDULED"

    again = Tracker(uri, warn=pytest.fail, spool=tmp_path)
    again.start_sweep("pause", builders.conditions(), parent_run_id=tracker.parent_run_id, settings={})
    again.notify(Resumed(trials[1].spec, so_far(trials[1], 1)))
    for evaluation in trials[1].evaluations[1:]:
        again.notify(Evaluated(trials[1].spec, evaluation, last=False))
    assert again.record(trials[1]).run_id == ids[1]
    pruned = so_far(trials[2], 1).model_copy(update={"state": "pruned"})
    assert again.record(pruned).run_id == ids[2]  # it was not gone on with
    again.end_sweep("FINISHED")
    assert client.get_run(ids[2] or "").info.status == "FINISHED"
    assert client.get_run(ids[3] or "").info.status == "KILLED"  # nobody cared
    assert points_of(uri, tracker.experiment_id) == {
        "trial/00000": STEPS,
        "trial/00001": STEPS,
        "trial/00002": STEPS[:1],
        "trial/00003": STEPS[:1],
    }


@pytest.mark.parametrize("sent", range(len(STEPS)))
def test_whatever_a_crash_kept_from_a_run_is_written_when_its_training_goes_on(
    uri: str, tmp_path: Path, sent: int
) -> None:
    """The trial waited after its first evaluation, went on, and the crash came after `sent` evaluations were sent."""
    client = MlflowClient(uri)
    tracker = Tracker(uri, warn=pytest.fail, spool=tmp_path)
    tracker.start_sweep(f"crashed-{sent}", builders.conditions(), parent_run_id=None, settings={})
    trial = builders.trial("dice", 0.5, 0)
    tracker.notify(Started(trial.spec))
    for evaluation in trial.evaluations[:sent]:
        tracker.notify(Evaluated(trial.spec, evaluation, last=False))
    run_id = tracker.run_id(trial.spec)
    again = Tracker(uri, warn=pytest.fail, spool=tmp_path)
    again.start_sweep(f"crashed-{sent}", builders.conditions(), parent_run_id=tracker.parent_run_id, settings={})
    assert client.get_run(run_id or "").info.status == "KILLED"
    again.notify(Resumed(trial.spec, so_far(trial, 1)))
    assert again.run_id(trial.spec) == run_id
    assert client.get_run(run_id or "").info.status == "RUNNING"
    for evaluation in trial.evaluations[max(1, sent) :]:
        again.notify(Evaluated(trial.spec, evaluation, last=False))
    again.record(trial)
    assert points_of(uri, tracker.experiment_id) == {"trial/00000": STEPS}


# --- A real server ---


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    try:  # one that does not come up in time is ended, too
        server.start()
        yield server
    finally:
        server.kill()


def evaluations_of(folder: Path, study: str) -> dict[str, list[int]]:
    """What the study's own storage says was evaluated: the steps of each counted training."""
    from sweeper.storage import load_sweep, open_storage

    sweep = load_sweep(open_storage(f"sqlite:///{folder}/sweeper.db"), study)
    kinds = {"search": "trial"}
    everything = [*sweep.trials, *sweep.rechecks, *sweep.confirmations]
    assert all(result.run_id for result in everything)  # also of those that ended meanwhile
    return {
        f"{kinds.get(r.spec.purpose, r.spec.purpose)}/{r.spec.number:05d}": [e.step for e in r.evaluations]
        for r in everything
    }


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_stopped_amid_a_sweep_and_started_again_has_every_point_once(tmp_path: Path, server: Server) -> None:
    process = start(
        tmp_path, "run", *QUICK, "--trials", "40", "--study", "s", "--workers", "2", "--tracking-uri", server.uri
    )
    wait_for(tmp_path, "[5/40]", process)
    server.kill()
    wait_for(tmp_path, "does not answer", process)
    wait_for(tmp_path, "[15/40]", process)
    server.start()
    assert process.wait(600) == 0, (tmp_path / "err.txt").read_text()
    log = (tmp_path / "err.txt").read_text()
    assert log.count("does not answer") == 1 and "answers again" in log
    server.kill()
    client = MlflowClient(server.store)
    experiment = client.get_experiment_by_name("s")
    assert experiment is not None
    assert points_of(server.store, experiment.experiment_id) == evaluations_of(tmp_path, "s")
    assert {r.info.status for r in client.search_runs([experiment.experiment_id])} == {"FINISHED"}
    assert not list(tmp_path.glob(".sweeper/spool/*"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_9_while_the_server_is_away_and_a_resume_leave_every_point_once(tmp_path: Path, server: Server) -> None:
    arguments = ["--study", "s", "--tracking-uri", server.uri, "--workers", "2"]
    process = start(tmp_path, "run", *SHORT, "--trials", "8", *arguments)
    wait_for(tmp_path, "[3/8]", process)
    server.kill()
    wait_for(tmp_path, "[6/8]", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    assert list(tmp_path.glob(".sweeper/spool/*.db"))
    refused = sweeper(tmp_path, "run", "--resume", *arguments)
    assert refused.returncode == 2 and "--tracking-uri" in refused.stderr
    server.start()
    done = sweeper(tmp_path, "run", "--resume", *arguments)
    assert done.returncode == 0, done.stderr
    server.kill()
    client = MlflowClient(server.store)
    experiment = client.get_experiment_by_name("s")
    assert experiment is not None
    wanted = evaluations_of(tmp_path, "s")
    assert (
        points_of(server.store, experiment.experiment_id, killed=False) == wanted
    )  # but for attempts that were cut off
    statuses = Counter(r.info.status for r in client.search_runs([experiment.experiment_id], max_results=1000))
    assert set(statuses) <= {"FINISHED", "KILLED"}


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_a_server_that_never_comes_back_costs_seconds_and_the_report_sends_the_rest(
    tmp_path: Path, server: Server
) -> None:
    process = start(
        tmp_path, "run", *SHORT, "--trials", "6", "--study", "s", "--workers", "1", "--tracking-uri", server.uri
    )
    wait_for(tmp_path, "[2/6]", process)
    server.kill()
    assert process.wait(600) == 0, (tmp_path / "err.txt").read_text()
    log = (tmp_path / "err.txt").read_text()
    assert "sweeper report STUDY" in log
    server.start()
    told = sweeper(tmp_path, "report", "s", "--tracking-uri", server.uri)
    assert told.returncode == 0 and "had missed" in told.stderr
    server.kill()
    client = MlflowClient(server.store)
    experiment = client.get_experiment_by_name("s")
    assert experiment is not None
    assert points_of(server.store, experiment.experiment_id) == evaluations_of(tmp_path, "s")
    parent = client.search_runs([experiment.experiment_id], "tags.sweeper.kind = 'sweep'")[0]
    assert parent.info.status == "FINISHED" and "sweeper.verdict" in parent.data.tags
    assert (tmp_path / "artifacts").exists()


def test_a_server_that_is_slow_at_the_begin_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeper.tracking.mlflow_connection import FIRST_ATTEMPTS, connect

    asked: list[str] = []
    answers = ["read timed out"] * (FIRST_ATTEMPTS - 1)

    def search(*_: object, **__: object) -> list[object]:
        asked.append("")
        if len(asked) <= len(answers):
            raise MlflowException(answers[len(asked) - 1])
        return []

    monkeypatch.setattr(MlflowClient, "search_experiments", search)
    connect("http://127.0.0.1:9")
    assert len(asked) == FIRST_ATTEMPTS
    asked.clear()
    answers[:] = ["connection refused"]
    with pytest.raises(MlflowException, match="refused"):
        connect("http://127.0.0.1:9")
    assert len(asked) == 1


def test_a_server_that_hangs_is_given_up_in_seconds(tmp_path: Path) -> None:
    """It takes connections and says nothing."""
    import socket

    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(16)
        began = time.monotonic()
        with pytest.raises(Exception, match=r"timeout|timed out") as caught:
            MlflowClient(f"http://127.0.0.1:{mute.getsockname()[1]}").get_run("0" * 32)
        assert isinstance(caught.value, MlflowException)
        assert time.monotonic() - began < 60  # not a speed: MLflow's own default is 120 s, seven times
