"""Runs of MLflow experiments judged: what MLflow's own client wrote is read as that client reads it."""

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
from sweeper.judging.rows import ScoresError
from sweeper.tracking import connect_to_mlflow
from tests.judging.test_judgement import drawn
from tests.project.test_architecture import loaded_by
from tests.support.mlflow_server import Server
from tests.support.mlflow_template import lay

Sweeper = Callable[..., tuple[int, str, str]]
NAMES = {"method": "loss"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with the experiment `losses`: two losses, three seeds, a metric in each run."""
    folder = tmp_path_factory.mktemp("filled")
    lay(folder)
    fill(connect_to_mlflow(f"sqlite:///{folder}/mlflow.db"))
    return folder / "mlflow.db"


@pytest.fixture
def uri(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Copy that store, and make another file."""
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect(filled)) as store, closing(sqlite3.connect("mlflow.db")) as copy:
        store.backup(copy)
    (tmp_path / "scores.csv").write_text("method,score\n")
    return TRACKING


def fill(client: MlflowClient) -> None:
    experiment = client.create_experiment("losses")
    parent = client.create_run(experiment, run_name="all of them").info.run_id
    scores = drawn(gap=0.05)
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


def run_named(name: str) -> str:
    client = connect_to_mlflow(TRACKING)
    found = client.get_experiment_by_name("losses")
    assert found is not None
    runs = client.search_runs([found.experiment_id], f"attributes.run_name = '{name}'")
    return str(runs[0].info.run_id)


def problems(**asked: object) -> list[str]:
    with pytest.raises(ScoresError) as error:
        package.judge("mlflow:losses", **{"columns": NAMES, **asked})  # type: ignore[arg-type]
    return list(error.value.problems)


def test_a_metric_of_each_run_is_a_score_of_its_training(uri: str) -> None:
    found = package.judge("mlflow:losses", columns=NAMES, tracking_uri=uri, paired_seeds=True)
    scores = drawn(gap=0.05)
    assert (found.document.metric, found.document.scope, found.verdict) == ("dice", "trainings", "clear_winner")
    rows = {row.name: row for row in found.document.methods}
    assert rows["a"].runs == ("0", "1", "2") and rows["a"].score == pytest.approx(scores[0].mean())
    assert "1 run with children and without a method of its own: left out." in found.caveats


def test_sqlite_stores_are_read_as_mlflows_client_reads_them(uri: str) -> None:
    client, run = connect_to_mlflow(uri), run_named("a0")
    client.log_param(run, "both", "parameter")
    client.set_tag(run, "both", "tag")
    client.log_metric(run, "dice", float("nan"), step=2)
    client.delete_run(run_named("b2"))
    client.log_metric(run, "dice", 0.25)  # at step 0 again: the later value counts there
    read, asked = mlflow_runs.list_runs("losses", uri, ("dice",)), mlflow_runs._request_runs("losses", uri, ("dice",))
    assert next(each for each in read if each.id == run).entries[0] == {"step": 0, "dice": 0.25}
    assert len(read) == 6 and next(each for each in read if each.id == run).fields["both"] == "parameter"
    key = lambda each: each.id  # noqa: E731
    for mine, theirs in zip(sorted(read, key=key), sorted(asked, key=key), strict=True):
        assert repr(mine) == repr(theirs._replace(metrics=dict(theirs.metrics), fields=dict(mine.fields)))  # NaN too
        assert {**theirs.fields} == {**mine.fields}


def test_everything_that_is_wrong_with_runs_comes_in_one_list(uri: str) -> None:
    client = connect_to_mlflow(uri)
    experiment = client.get_run(run_named("a0")).info.experiment_id
    client.log_metric(run_named("a0"), "dice", float("nan"), step=2)
    client.log_metric(run_named("a1"), "dice", float("inf"), step=2)
    for name, status, fields in (
        ("still running", "RUNNING", {"loss": "a", "seed": "3"}),
        ("broken", "FAILED", {"loss": "b", "seed": "3"}),
        ("again", "FINISHED", {"loss": "b", "seed": "1"}),
        ("nobody's", "FINISHED", {"seed": "4"}),
    ):
        client.set_terminated(client.create_run(experiment, run_name=name, tags=fields).info.run_id, status=status)
    found = problems()
    for words in (
        "2 runs not finished (still running RUNNING and broken FAILED)",
        "1 run without the parameter or tag 'loss' (nobody's)",
        "b, seed 1, has 2 runs (b1 and again)",
        "4 runs without the metric 'dice' (still running, broken, again and 1 more)",
        "2 runs whose 'dice' is no finite number (a0 nan and a1 1.79769e+308)",
    ):
        assert sum(problem.startswith(words) for problem in found) == 1, found
    assert len(found) == 5


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"columns": {}}, "none called 'method'; name it with --column method=NAME; there are loss and seed"),
        ({"metric": "dicee"}, "got dicee, did you mean `dice`?"),
        ({"where": {"statsu": "FINISHED"}}, "got 'statsu', did you mean `status`?"),
        ({"where": {"seed": "7"}}, "at least one run is needed, got none that counts of 7 runs"),
        ({"columns": {"method": "loss", "seed": "sed"}}, "6 runs without the parameter or tag 'sed'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_what_there_is(uri: str, asked: dict[str, object], words: str) -> None:
    found = problems(**asked)
    assert len(found) == 1 and words in found[0]


@pytest.mark.parametrize(
    ("at", "part", "said"),
    [
        ("0", 0.5, "the value at step 0"),
        ("best:val", 0.5, "its dice at the row where val is highest"),
        ("lowest:val", 1, "its dice at the row where val is lowest"),
        ("epoch=7", 1, "the value at epoch 7"),
    ],
)
@pytest.mark.slow
def test_the_history_of_a_metric_has_the_score_of_a_row(uri: str, at: str, part: float, said: str) -> None:
    log_more()
    found = package.judge("mlflow:losses", columns=NAMES, metric="dice", at=at)
    score = next(row for row in found.document.methods if row.name == "a").score
    assert score == pytest.approx(part * drawn(gap=0.05)[0].mean())
    assert any(said in caveat for caveat in found.caveats)


def log_more() -> None:
    """Log a validation metric that falls, epochs, and a last value that no row before it has."""
    client = connect_to_mlflow(TRACKING)
    for name in ("a0", "a1", "a2", "b0", "b1", "b2"):
        for metric, value, step in (("val", 0.8, 0), ("val", 0.7, 1), ("epoch", 7, 1), ("dice", 0.99, 5)):
            client.log_metric(run_named(name), metric, value, step=step)


def test_rows_of_a_history_are_refused_as_those_of_logs(uri: str) -> None:
    log_more()
    assert "--at must name a logged value, got vall, did you mean `val`?" in problems(metric="dice", at="best:vall")[0]
    assert "6 runs without the metric 'dice' (the value at step 9) (a0" in problems(metric="dice", at="9")[0]
    assert "--metric must name a metric of the runs, got none" in problems(at="1")[0]
    connect_to_mlflow(uri).log_metric(run_named("a0"), "dice", float("inf"), step=1)
    assert "1 run whose 'dice' is no finite number (a0 nan)" in problems(metric="dice", at="1")[0]
    with pytest.raises(UsageError, match="choice on the test images"):
        package.judge("mlflow:losses", columns=NAMES, metric="dice", at="best:dice")


def test_without_seeds_each_run_is_a_training(uri: str) -> None:
    client = connect_to_mlflow(uri)
    for name in ("a0", "a1", "a2", "b0", "b1", "b2"):
        client.delete_tag(run_named(name), "seed")
    found = package.judge("mlflow:losses", columns=NAMES)
    assert next(row for row in found.document.methods if row.name == "a").runs == ("a0", "a1", "a2")
    assert any("--paired-seeds needs a parameter or tag `seed`" in problem for problem in problems(paired_seeds=True))


def test_the_command_takes_runs_and_says_what_it_left_out(uri: str, sweeper: Sweeper) -> None:
    words = ("judge", "mlflow:losses", "--column", "method=loss", "--where", "status=FINISHED", "--json")
    status, text, _ = sweeper(*words, "--exit-code-by-verdict")
    assert status == 0 and json.loads(text)["verdict"] == "clear_winner"
    client = connect_to_mlflow(uri)
    client.set_terminated(run_named("b2"), status="KILLED")
    status, text, _ = sweeper(*words, "--exit-code-by-verdict")
    assert status == 12 and any(c.startswith("1 run that --where does not") for c in json.loads(text)["caveats"])
    status, text, error = sweeper("judge", "mlflow:lossses")
    assert status == 2 and not text and "has no experiment 'lossses', did you mean `losses`?" in error


@pytest.mark.parametrize(
    ("source", "tracking_uri", "words"),
    [
        ("mlflow:losses", "sqlite:///nowhere.db", "got sqlite:///nowhere.db: no such file"),
        ("mlflow:losses", "sqlite:///scores.csv", "must be an MLflow store, got sqlite:///scores.csv: "),
        ("scores.csv", TRACKING, "--where is for `mlflow:EXPERIMENT` and `wandb:ENTITY/PROJECT`, got scores.csv"),
    ],
)
def test_what_is_no_store_is_refused(uri: str, source: str, tracking_uri: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        package.judge(source, tracking_uri=tracking_uri, columns=NAMES, where={"status": "FINISHED"})
    assert words in str(error.value)


def test_reading_a_sqlite_store_loads_no_mlflow(uri: str) -> None:
    call = "import sweeper; sweeper.judge('mlflow:losses', columns={'method': 'loss'})"
    assert not loaded_by(call) & {"mlflow", "sqlalchemy", "pandas"}


@pytest.mark.slow
def test_a_server_is_asked_for_runs(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        fill(connect_to_mlflow(server.uri))
        one = package.judge("mlflow:losses", columns=NAMES, metric="dice", at="1", tracking_uri=server.uri)
        assert one.named == "a" and one.document.scope == "trainings"
    finally:
        server.kill()


def test_a_logged_loss_is_judged_in_the_direction_that_is_said_alone(uri: str) -> None:
    client = connect_to_mlflow(uri)
    for number, name in enumerate(f"{loss}{seed}" for loss in "ab" for seed in range(3)):
        client.log_metric(run_named(name), "val_loss", 0.1 + 0.1 * number + 0.01 * number**2)
    (problem,) = problems(metric="val_loss")
    assert "--lower-is-better" in problem and "--higher-is-better" in problem
    for lower, best in ((True, "a"), (False, "b")):
        asked = package.judge("mlflow:losses", columns=NAMES, metric="val_loss", lower_is_better=lower)
        assert asked.document.methods[0].name == best
