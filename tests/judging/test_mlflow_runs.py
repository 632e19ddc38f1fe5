"""Judgements of runs in MLflow experiments, which are read as MLflow's client reads them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

import sweeper as package
from sweeper.core.errors import UsageError
from sweeper.core.paths import TRACKING
from sweeper.judging import mlflow_runs
from sweeper.tracking import connect_to_mlflow
from tests.judging.tables import draw_scores, find_problems, list_notes
from tests.support.mlflow_server import Server
from tests.support.mlflow_template import write_store

Sweeper = Callable[..., tuple[int, str, str]]
NAMES = {"method": "loss"}


@pytest.fixture(scope="module")
def filled_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with the experiment `losses`: two losses, three seeds, a metric in each run."""
    folder = tmp_path_factory.mktemp("filled")
    write_store(folder)
    fill_store(connect_to_mlflow(f"sqlite:///{folder}/mlflow.db"))
    return folder / "mlflow.db"


@pytest.fixture
def uri(filled_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Copy that store, and make another file."""
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect(filled_store)) as store, closing(sqlite3.connect("mlflow.db")) as copy:
        store.backup(copy)
    (tmp_path / "scores.csv").write_text("method,score\n")
    return TRACKING


def fill_store(client: MlflowClient) -> None:
    experiment = client.create_experiment("losses")
    parent = client.create_run(experiment, run_name="all of them").info.run_id
    scores = draw_scores(gap=0.05)
    for m, loss in enumerate("ab"):
        for seed in range(3):
            run = client.create_run(
                experiment, run_name=f"{loss}{seed}", tags={"mlflow.parentRunId": parent, "seed": str(seed)}
            ).info.run_id
            client.log_param(run, "loss", loss)
            last = float(scores[m, seed].mean())
            for step, value in enumerate((last / 2, last)):
                client.log_metric(run, "dice", value, step=step)
            client.set_terminated(run)
    client.set_terminated(parent)


def find_run(name: str) -> str:
    client = connect_to_mlflow(TRACKING)
    experiment = client.get_experiment_by_name("losses")
    runs = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    return str(runs[0].info.run_id)


def list_problems(**options: object) -> list[str]:
    return find_problems("mlflow:losses", **{"column": NAMES, **options})


@pytest.mark.parametrize("name", ["loss", "note"])
def test_a_metric_of_each_run_is_a_score_of_its_training(uri: str, name: str) -> None:
    connect_to_mlflow(uri).log_param(find_run("all of them"), name, "a")  # a parent without a score
    judgement = package.judge("mlflow:losses", column=NAMES, tracking_uri=uri, paired_seeds=True)
    scores = draw_scores(gap=0.05)
    assert (judgement.answer.scale.score, judgement.answer.scope, judgement.answer.sure) == (
        "dice",
        "trainings",
        "established",
    )
    rows = {row.loss: row for row in judgement.answer.losses}
    assert rows["a"].runs == ("0", "1", "2") and rows["a"].mean == pytest.approx(scores[0].mean())
    assert "1 run with children and without a method and score of its own: left out" in str(judgement.answer.remarks)


def test_a_sqlite_store_is_read_and_stays_as_it_is(uri: str) -> None:
    client, run = connect_to_mlflow(uri), find_run("a0")
    client.log_param(run, "both", "parameter")
    client.set_tag(run, "both", "tag")
    client.log_metric(run, "dice", float("nan"), step=2)
    client.delete_run(find_run("b2"))
    client.log_metric(run, "dice", 0.25)  # at step 0 again: the later value counts there
    before = Path("mlflow.db").read_bytes()
    read = {each.id: each for each in mlflow_runs.list_runs("losses", uri, ("dice",))}
    assert read[run].points[1] == ("dice", 0, 0.25) and read[run].fields["both"] == "parameter"
    assert len(read) == 6 and Path("mlflow.db").read_bytes() == before


def test_all_problems_of_runs_are_in_one_list(uri: str) -> None:
    client = connect_to_mlflow(uri)
    experiment = client.get_run(find_run("a0")).info.experiment_id
    client.log_metric(find_run("a0"), "dice", float("nan"), step=2)
    client.log_metric(find_run("a1"), "dice", float("inf"), step=2)
    for name, status, fields in (
        ("still running", "RUNNING", {"loss": "a", "seed": "3"}),
        ("broken", "FAILED", {"loss": "b", "seed": "3"}),
        ("again", "FINISHED", {"loss": "b", "seed": "1"}),
        ("nobody", "FINISHED", {"seed": "4"}),
    ):
        client.set_terminated(client.create_run(experiment, run_name=name, tags=fields).info.run_id, status=status)
    problems = list_problems()
    for words in (
        "each run must be finished, got still running RUNNING and broken FAILED;",
        "b, 1 must have one run, got b1 and again;",
    ):
        assert sum(problem.startswith(words) for problem in problems) == 1, problems
    assert len(problems) == 2
    for name in ("still running", "broken", "again"):
        client.delete_run(find_run(name))
    assert "run nobody: the method must have a name, got none" in str(list_problems())
    client.set_tag(find_run("nobody"), "loss", "b")
    assert "b, 4 must have a score at its last step, got none" in list_problems()[0]
    client.delete_run(find_run("nobody"))
    (problem,) = list_problems(at="2", ignore=())[:1]
    assert "must have a score at step 2" in problem
    assert "runs a0 and a1: a score must be a finite number" in list_problems(at="last")[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"column": {}}, "--column method=NAME must name what the runs have, got method; there are loss, seed and"),
        ({"metric": "dicee"}, "got dicee, did you mean `dice`?"),
        ({"where": {"statsu": "FINISHED"}}, "--where must name what the runs have, got statsu, did you mean `status`?"),
        ({"where": {"seed": "7"}}, "at least one run is needed, got none that --where asks for"),
        ({"column": {"method": "loss", "seed": "sed"}}, "runs have, got sed, did you mean `seed`?"),
    ],
)  # fmt: skip
def test_a_request_for_what_no_run_has_is_refused_with_what_they_have(
    uri: str, options: dict[str, object], words: str
) -> None:
    assert words in list_problems(**options)[0]


@pytest.mark.parametrize(
    ("at", "part", "caveat"),
    [
        ("0", 0.5, "its dice at step 0"),
        ("best:val", 0.5, "its dice at the step where val is highest"),
        ("lowest:val", 1, "its dice at the step where val is lowest"),
        ("epoch=7", 1, "its dice at epoch 7"),
    ],
)
@pytest.mark.slow
def test_the_history_of_a_metric_has_the_score_of_a_row(uri: str, at: str, part: float, caveat: str) -> None:
    log_more()
    judgement = package.judge("mlflow:losses", column=NAMES, metric="dice", at=at)
    score = next(row for row in judgement.answer.losses if row.loss == "a").mean
    assert score == pytest.approx(part * draw_scores(gap=0.05)[0].mean())
    assert any(caveat in note for note in list_notes(judgement.answer))


def log_more() -> None:
    """Log a validation metric that falls, epochs, and a last value that no row before it has."""
    client = connect_to_mlflow(TRACKING)
    for name in ("a0", "a1", "a2", "b0", "b1", "b2"):
        for metric, value, step in (("val", 0.8, 0), ("val", 0.7, 1), ("epoch", 7, 1), ("dice", 0.99, 5)):
            client.log_metric(find_run(name), metric, value, step=step)


def test_rows_of_a_history_that_have_no_score_are_refused(uri: str) -> None:
    log_more()
    assert "--at must name what the runs have, got vall, did you mean `val`?" in str(list_problems(at="best:vall"))
    assert "a, 0, a, 1, a, 2 and 3 more must have a score at step 9" in list_problems(metric="dice", at="9")[0]
    assert "--metric and --at must name what the runs have, got none; there are dice, epoch" in list_problems(at="1")[0]
    connect_to_mlflow(uri).log_metric(find_run("a0"), "dice", float("inf"), step=1)
    assert "run a0: a score must be a finite number" in list_problems(metric="dice", at="1")[0]
    with pytest.raises(UsageError, match="choice on the test images"):
        package.judge("mlflow:losses", column=NAMES, metric="dice", at="best:dice")


def test_without_seeds_each_run_is_a_training(uri: str) -> None:
    client = connect_to_mlflow(uri)
    for name in ("a0", "a1", "a2", "b0", "b1", "b2"):
        client.delete_tag(find_run(name), "seed")
    judgement = package.judge("mlflow:losses", column=NAMES)
    assert next(row for row in judgement.answer.losses if row.loss == "a").runs == ("a0", "a1", "a2")
    assert "--paired-seeds compares runs of one seed, got no seed in common" in list_problems(paired_seeds=True)[0]
    client.log_param(find_run("a1"), "lr", "0.1")  # trials of a search are no trainings
    client.log_param(find_run("a2"), "lr", "0.2")
    (problem,) = list_problems()
    assert (
        "each column must be known, got lr; for each of them add --column image=lr if it says the image (or group"
        in problem
    )
    assert package.judge("mlflow:losses", column=NAMES, ignore=["lr"]).contest == judgement.contest


def test_runs_that_end_at_different_steps_are_not_compared_by_their_ends(uri: str) -> None:
    connect_to_mlflow(uri).log_metric(find_run("b1"), "dice", 0.9, step=7)
    (problem,) = list_problems()
    assert "got 1 as the last of a, 0 and 7 of b, 1; --at 1 compares them there" in problem
    same = package.judge("mlflow:losses", column=NAMES, at="1").answer.losses
    assert all(0.6 < row.mean < 0.85 for row in same)


def test_the_command_judges_runs_and_reports_those_left_out(uri: str, sweeper: Sweeper) -> None:
    words = ("judge", "mlflow:losses", "--column", "method=loss", "--where", "status=FINISHED", "--json")
    status, text, _ = sweeper(*words)
    assert status == 0 and json.loads(text)["sure"] == "established"
    client = connect_to_mlflow(uri)
    client.set_terminated(find_run("b2"), status="KILLED")
    status, text, _ = sweeper(*words)
    assert status == 0 and json.loads(text)["sure"] == "probable"
    assert "1 run that --where does not" in text
    status, text, error = sweeper("judge", "mlflow:lossses")
    assert status == 2 and not text and "has no experiment 'lossses', did you mean `losses`?" in error


@pytest.mark.parametrize(
    ("source", "tracking_uri", "words"),
    [
        ("mlflow:losses", "sqlite:///nowhere.db", "got sqlite:///nowhere.db: no such file"),
        ("mlflow:losses", "sqlite:///scores.csv", "must be an MLflow store, got sqlite:///scores.csv: "),
        ("mlflow:losses", "mlflow.db", "got mlflow.db; write --tracking-uri sqlite:///mlflow.db"),
        ("scores.csv", TRACKING, "--where is for mlflow:EXPERIMENT, got scores.csv"),
    ],
)
def test_an_address_of_no_store_is_refused(uri: str, source: str, tracking_uri: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        package.judge(source, tracking_uri=tracking_uri, column=NAMES, where={"status": "FINISHED"})
    assert words in str(error.value)


@pytest.mark.slow
def test_runs_are_read_from_a_server(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        fill_store(connect_to_mlflow(server.uri))
        one = package.judge("mlflow:losses", column=NAMES, metric="dice", at="1", tracking_uri=server.uri)
        assert one.answer.use.loss == "a" and one.answer.scope == "trainings"
    finally:
        server.kill()


def test_a_logged_loss_is_judged_only_in_the_requested_direction(uri: str) -> None:
    client = connect_to_mlflow(uri)
    for number, name in enumerate(f"{loss}{seed}" for loss in "ab" for seed in range(3)):
        client.log_metric(find_run(name), "val_loss", 0.1 + 0.1 * number + 0.01 * number**2)
    (problem,) = list_problems(metric="val_loss")
    assert "--lower-is-better" in problem and "--higher-is-better" in problem
    for lower, best in ((True, "a"), (False, "b")):
        judgement = package.judge("mlflow:losses", column=NAMES, metric="val_loss", lower_is_better=lower)
        assert judgement.answer.losses[0].loss == best
