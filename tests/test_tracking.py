"""MLflow, as it is: a real SQLite store, read back with MLflow's own client."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from mlflow.tracking import MlflowClient
from mlflow.tracking._tracking_service import utils

from sweeper.core.errors import UsageError
from sweeper.core.events import Evaluated, Started
from sweeper.core.records import Collapse, TrialResult
from sweeper.tracking import NOTE, NOTE_LIMIT, Tracker, class_slugs, send_spooled
from sweeper.tracking.mlflow_connection import connect
from sweeper.tracking.mlflow_writes import Operation
from sweeper.tracking.spool import Spool
from tests import builders


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests: making and migrating it takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def test_a_relative_address_names_a_file_below_the_working_folder_of_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert connect("sqlite:///mlflow.db").get_experiment_by_name("s") is None
        connect("sqlite:///mlflow.db").create_experiment("s")
        assert (tmp_path / name / "mlflow.db").stat().st_size > 100_000


def started(uri: str, study: str, **conditions: object) -> Tracker:
    tracker = Tracker(uri, warn=pytest.fail)
    tracker.start_sweep(
        study,
        builders.conditions(**conditions),
        parent_run_id=None,
        settings={"trials": "3"},  # type: ignore[arg-type]
    )
    return tracker


def test_runs_form_a_tree_with_the_contracts_names(uri: str) -> None:
    tracker = started(uri, "tree")
    trial = builders.trial("dice_focal", 0.7, 4)
    tracker.notify(Started(trial.spec))
    for evaluation in trial.evaluations:
        tracker.notify(Evaluated(trial.spec, evaluation, last=False))
    ended = tracker.record(trial)
    tracker.end_sweep("FINISHED", note="short")

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tree")
    assert experiment is not None and ended.run_id is not None
    child = client.get_run(ended.run_id)
    assert child.info.status == "FINISHED"
    assert child.data.tags["mlflow.parentRunId"] == tracker.parent_run_id
    assert child.data.tags["sweeper.kind"] == "trial"
    assert child.data.tags["sweeper.family"] == "dice_focal"
    assert child.data.tags["sweeper.trial"] == "4"
    assert child.data.tags["sweeper.state"] == "complete"
    assert child.data.params["loss.family"] == "dice_focal"
    assert float(child.data.params["loss.mix"]) == pytest.approx(trial.spec.params["mix"], rel=1e-5)
    assert child.data.params["recipe.arch"] == "unet"
    history = client.get_metric_history(ended.run_id, "val/miou")
    assert [(m.step, m.value) for m in history] == [(e.step, e.chosen.miou) for e in trial.evaluations]
    assert {"val/miou_at_0.5", "val/fg_iou", "val/dice", "val/iou/background", "val/iou/crack", "train/loss"} <= (
        child.data.metrics.keys()
    )
    parent = client.get_run(tracker.parent_run_id)
    assert parent.data.tags["sweeper.kind"] == "sweep"
    assert parent.data.tags[NOTE] == "short"
    assert parent.inputs.dataset_inputs[0].dataset.name == builders.dataset().name


def test_values_from_a_part_of_the_images_have_names_of_their_own(uri: str) -> None:
    tracker = started(uri, "parts")
    done = builders.trial("dice", 0.6, 0, evaluations=builders.curve_on_part((0.5, 0.6, 0.65, 0.7), 0.6))
    stopped = builders.trial("dice", 0.65, 1, state="pruned", evaluations=builders.curve_on_part((0.4, 0.65)))
    lost = builders.trial("dice", 0.0, 2, evaluations=builders.curve_on_part((0.0,)), collapse="diverged")
    client, histories = MlflowClient(uri), []
    for trial in (done, stopped, lost):
        tracker.notify(Started(trial.spec))
        for evaluation in trial.evaluations:
            tracker.notify(Evaluated(trial.spec, evaluation, last=False))
        run_id = tracker.record(trial).run_id
        assert run_id is not None
        histories.append(
            {
                name: [(m.step, m.value) for m in client.get_metric_history(run_id, name)]
                for name in client.get_run(run_id).data.metrics
            }
        )
    whole, part, nothing = histories
    assert whole["val/miou"] == whole["val/value"] == [(100, 0.6)]
    assert whole["val_part/miou"] == whole["val_part/value"] == [(25, 0.5), (50, 0.6), (75, 0.65), (100, 0.7)]
    assert {"val_part/miou_at_0.5", "val_part/fg_iou", "val_part/iou/crack", "val_part/threshold"} <= whole.keys()
    assert part["val_part/miou"] == [(25, 0.4), (50, 0.65)]
    assert not [name for name in part if name.startswith("val/")]
    assert nothing["val/value"] == nothing["val/miou"] == [(25, 0.0)]
    tracker.end_sweep("FINISHED")


def test_confirmations_carry_test_metrics(uri: str) -> None:
    tracker = started(uri, "confirmations")
    result = builders.confirmation("dice_focal", 101)
    tracker.notify(Started(result.spec))
    ended = tracker.record(result)
    assert ended.run_id is not None
    run = MlflowClient(uri).get_run(ended.run_id)
    assert run.data.tags["sweeper.kind"] == "confirm"
    assert 0 < run.data.metrics["test/miou"] < 1
    assert "test/iou/crack" in run.data.metrics


@pytest.mark.parametrize("purpose", ["recheck", "probe"])
def test_rechecks_and_probes_have_a_kind_of_their_own_beside_a_trial_of_the_same_number(uri: str, purpose: str) -> None:
    tracker = started(uri, f"kind-{purpose}")
    trial = builders.trial("dice", 0.6, 0)
    other = trial.model_copy(update={"spec": trial.spec.model_copy(update={"purpose": purpose, "seed": 1999})})
    for result in (trial, other):
        tracker.notify(Started(result.spec))
    ended = [tracker.record(result).run_id for result in (trial, other)]
    runs = [MlflowClient(uri).get_run(run_id or "") for run_id in ended]
    assert [run.data.tags["sweeper.kind"] for run in runs] == ["trial", purpose]
    assert runs[1].data.params["seed"] == "1999"
    assert "test/miou" not in runs[1].data.metrics


def test_what_a_probe_decides_is_written_to_the_sweeps_run_when_it_is_known(uri: str) -> None:
    tracker = Tracker(uri, warn=pytest.fail)
    undecided = ("steps", "confirm_steps")
    tracker.start_sweep("probing", builders.conditions(), parent_run_id=None, settings={}, undecided=undecided)
    client = MlflowClient(uri)
    params = client.get_run(tracker.parent_run_id).data.params
    assert "recipe.arch" in params and not {"recipe.steps", "recipe.confirm_steps"} & params.keys()
    decided = builders.conditions(steps=400, confirm_steps=800)
    tracker.decide(decided)
    tracker.decide(decided)  # a resume says it again
    params = client.get_run(tracker.parent_run_id).data.params
    assert (params["recipe.steps"], params["recipe.confirm_steps"]) == ("400", "800")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"state": "pruned"}, "FINISHED"),
        ({"state": "failed", "value": None, "reason": "ValueError: no"}, "FAILED"),
        ({"value": 0.0, "collapse": Collapse.DIVERGED}, "FINISHED"),
    ],
)
def test_states_become_statuses_and_tags(uri: str, changes: dict[str, object], status: str) -> None:
    tracker = started(uri, f"states-{status}-{len(changes)}-{changes.get('state')}")
    result = builders.trial("dice", 0.5, 1).model_copy(update=changes)
    tracker.notify(Started(result.spec))
    ended = tracker.record(result)
    run = MlflowClient(uri).get_run(ended.run_id or "")
    assert run.info.status == status
    assert run.data.tags.get("sweeper.collapse") == ("diverged" if "collapse" in changes else None)
    assert run.data.tags.get("sweeper.reason") == changes.get("reason")


def test_the_sweeps_run_has_the_searchs_course_over_all_sessions(uri: str) -> None:
    def ended(tracker: Tracker, *results: TrialResult) -> None:
        for result in results:
            tracker.notify(Started(result.spec))
            tracker.record(result)

    pruned, failed = builders.trial("dice", 0.9, 0, state="pruned"), builders.failed_trial("focal", 1)
    first = [pruned, failed, builders.trial("dice", 0.5, 2), builders.trial("dice", 0.4, 3)]
    tracker = started(uri, "course")
    ended(tracker, *first, builders.confirmation("dice", 101))
    tracker.end_sweep("KILLED")
    again = Tracker(uri, warn=pytest.fail)
    given: dict[str, Any] = {"parent_run_id": tracker.parent_run_id, "settings": {}, "before": first}
    again.start_sweep("course", builders.conditions(), **given)
    ended(again, builders.trial("dice", 0.6, 4))
    points = MlflowClient(uri).get_metric_history(tracker.parent_run_id, "search/best_so_far")
    assert [(point.step, point.value) for point in points] == [(2, 0.5), (3, 0.5), (4, 0.6)]


def test_every_run_shows_the_data_set_with_its_profile(uri: str) -> None:
    tracker = Tracker(uri, warn=pytest.fail)
    profile = builders.profile()
    tracker.start_sweep("data", builders.conditions(), parent_run_id=None, settings={}, profile=profile)
    for spec in (builders.spec("dice", 0), builders.spec("dice", 0, 101, purpose="confirm")):
        tracker.notify(Started(spec))
    found = {}
    for run in MlflowClient(uri).search_runs([tracker.experiment_id]):
        [used] = run.inputs.dataset_inputs
        found[run.data.tags["sweeper.kind"]] = used.tags[0].value
        lines = json.loads(used.dataset.profile)
    assert found == {"sweep": "sweep", "trial": "search", "confirm": "confirmation"}
    assert lines["images"] == str(profile.pictures) and lines["imbalance"].endswith(" : 1")
    share = 100 * profile.classes[1].pixel_share
    assert lines["class crack"].startswith(f"{share:.3g} % of pixels, in ")


def test_what_a_crash_left_running_is_closed_at_the_next_start(uri: str) -> None:
    tracker = started(uri, "crash")
    spec = builders.spec("dice", 0)
    tracker.notify(Started(spec))
    again = Tracker(uri, warn=pytest.fail)
    again.start_sweep("crash", builders.conditions(), parent_run_id=tracker.parent_run_id, settings={})
    assert again.parent_run_id == tracker.parent_run_id
    client = MlflowClient(uri)
    statuses = {r.data.tags["sweeper.kind"]: r.info.status for r in client.search_runs([tracker.experiment_id])}
    assert statuses == {"sweep": "RUNNING", "trial": "KILLED"}
    again.end_sweep("FINISHED")
    assert client.get_run(tracker.parent_run_id).info.status == "FINISHED"


def test_class_names_become_slugs_and_stay_distinct(uri: str) -> None:
    names = ("a|b", "a&b", "a(b", "été", "日本")
    assert class_slugs(names) == ("a_b", "a_b-2", "a_b-3", "ete", "x")
    classes = ("back ground", "a|b (c) & d")
    tracker = started(uri, "slugs", data=builders.dataset(classes))
    trial = builders.trial("dice", 0.5, 0)
    tracker.notify(Started(trial.spec))
    tracker.notify(Evaluated(trial.spec, trial.evaluations[-1], last=False))
    ended = tracker.record(trial)
    run = MlflowClient(uri).get_run(ended.run_id or "")
    assert run.data.metrics["val/iou/a_b_c_d"] >= 0
    assert run.data.tags["sweeper.class.a_b_c_d"] == "a|b (c) & d"


def test_notes_are_cut_where_mlflow_would_cut_them(uri: str) -> None:
    tracker = started(uri, "notes")
    tracker.end_sweep("FINISHED", note="x" * 9000)
    note = MlflowClient(uri).get_run(tracker.parent_run_id).data.tags[NOTE]
    assert len(note) == NOTE_LIMIT and note.endswith("…")


def test_others_runs_in_an_experiment_of_the_same_name_are_left_alone(uri: str) -> None:
    first = started(uri, "shared")
    first.notify(Started(builders.spec("dice", 0)))
    second = started(uri, "shared")
    assert second.parent_run_id != first.parent_run_id
    statuses = [r.info.status for r in MlflowClient(uri).search_runs([first.experiment_id])]
    assert statuses == ["RUNNING"] * 3


def test_a_resume_on_another_store_makes_a_parent_there(uri: str) -> None:
    tracker = Tracker(uri, warn=pytest.fail)
    tracker.start_sweep("moved", builders.conditions(), parent_run_id="0" * 32, settings={})
    assert MlflowClient(uri).get_run(tracker.parent_run_id).data.tags["sweeper.kind"] == "sweep"


def test_ending_the_sweep_closes_what_still_runs(uri: str) -> None:
    tracker = started(uri, "ending")
    tracker.notify(Started(builders.spec("dice", 0)))
    tracker.end_sweep("KILLED", values={"test/miou": 0.5})
    client = MlflowClient(uri)
    assert {r.info.status for r in client.search_runs([tracker.experiment_id])} == {"KILLED"}
    assert client.get_run(tracker.parent_run_id).data.metrics["test/miou"] == 0.5


@pytest.mark.slow
def test_cold_starts_at_once_all_succeed(tmp_path: Path) -> None:
    code = (
        "import sys; from sweeper.tracking import Tracker; from sweeper.storage import open_storage; "
        "open_storage('sqlite:///sweeper.db'); Tracker('sqlite:///mlflow.db', warn=print)"
    )
    starts = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    ended = [(start.communicate(timeout=200)[1], start.returncode) for start in starts]
    assert [status for _, status in ended] == [0] * 6, ended


def test_a_store_that_cannot_be_reached_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("this is no database, and long enough not to look like an empty one" * 20)
    with pytest.raises(UsageError, match="--tracking-uri"):
        Tracker(f"sqlite:///{tmp_path}/file", warn=pytest.fail)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def as_in_a_new_process() -> None:
    """MLflow remembers for as long as a process lives where a run's files are, by the run's id alone."""
    utils._artifact_repos_cache.clear()


def reported(folder: Path, study: str, words: str, parent: str | None = None) -> tuple[Tracker, list[str]]:
    """A sweep with one training on the store in `folder`, whose report says these words."""
    as_in_a_new_process()
    warnings: list[str] = []
    tracker = Tracker(f"sqlite:///{folder}/mlflow.db", warn=warnings.append, spool=folder / "spool")
    tracker.start_sweep(study, builders.conditions(), parent_run_id=parent, settings={})
    trial = builders.trial("dice", 0.5, 0)
    tracker.notify(Started(trial.spec))
    tracker.record(trial)
    (folder / "report").mkdir(exist_ok=True)
    (folder / "report" / "report.md").write_text(words)
    tracker.end_sweep("FINISHED", folder=folder / "report")
    return tracker, warnings


def test_a_copied_or_moved_folder_writes_its_files_beside_itself(tmp_path: Path) -> None:
    original, copy, elsewhere = tmp_path / "the original", tmp_path / "cöpy", tmp_path / "below" / "moved"
    original.mkdir()
    studies = ("study", "Another Study")  # the second has a folder of another name
    parents = {}
    for study in studies:
        tracker, warnings = reported(original, study, f"first {study}")
        parents[study] = tracker.parent_run_id
        assert not warnings
    client = MlflowClient(f"sqlite:///{original}/mlflow.db")
    own = client.create_experiment("own", artifact_location=str(tmp_path / "elsewhere" / "mlruns" / "own files"))
    before = files_below(original)
    shutil.copytree(original, copy)
    for index, study in enumerate(studies):
        _, warnings = reported(copy, study, "second", parents[study])
        assert sum("was moved or copied" in text for text in warnings) == (2 if index == 0 else 0)
    assert files_below(original) == before
    assert list(copy.rglob("mlruns/*/*/artifacts/report/report.md"))
    in_copy = MlflowClient(f"sqlite:///{copy}/mlflow.db")
    for study in studies:
        place = in_copy.get_run(parents[study]).info.artifact_uri
        assert place.startswith(copy.as_uri() + "/mlruns/")
        assert (Path(unquote(urlsplit(place).path)) / "report/report.md").read_text() == "second"
    assert in_copy.get_experiment(own).artifact_location == client.get_experiment(own).artifact_location

    shutil.rmtree(original)
    elsewhere.parent.mkdir()
    shutil.move(copy, elsewhere)
    _, warnings = reported(elsewhere, "study", "third", parents["study"])
    assert len(warnings) == 2
    assert not original.exists() and not copy.exists()
    again, warnings = reported(elsewhere, "study", "fourth", parents["study"])
    assert not warnings and again.parent_run_id == parents["study"]


def test_a_store_that_is_moved_without_its_files_still_finds_them(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    tracker, _ = reported(first, "study", "first")
    run = tracker.parent_run_id

    def report() -> str:
        as_in_a_new_process()
        path = MlflowClient(uri).download_artifacts(run, "report/report.md", str(second))
        return Path(path).read_text()

    uri = f"sqlite:///{second}/mlflow.db"
    for path in first.glob("mlflow.db*"):
        shutil.move(path, second)
    warnings: list[str] = []
    client = connect(uri, warnings.append)
    assert report() == "first"
    assert len(warnings) == 1
    assert f"1 run stay at {first.as_uri()}/mlruns/study" in warnings[0]
    experiment = client.get_experiment_by_name("study")
    assert experiment is not None and experiment.artifact_location == f"{second.as_uri()}/mlruns/study"
    later, warnings = reported(second, "study", "later")  # a new sweep of that name
    assert not warnings and client.get_run(later.parent_run_id).info.artifact_uri.startswith(second.as_uri())
    assert report() == "first"
    assert len(list(first.rglob("artifacts/report/report.md"))) == 1

    shutil.copytree(first / "mlruns", second / "mlruns", dirs_exist_ok=True)  # the files come along at last
    shutil.rmtree(first)
    connect(uri, pytest.fail)
    assert client.get_run(run).info.artifact_uri.startswith(second.as_uri())
    assert report() == "first"


def test_what_waited_for_a_copied_store_goes_to_the_copy(tmp_path: Path) -> None:
    """`sweeper report` alone, without a resume."""
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    tracker, _ = reported(original, "study", "first")
    before = files_below(original)
    shutil.copytree(original, copy)
    (copy / "report" / "report.md").write_text("second")
    uri = f"sqlite:///{copy}/mlflow.db"
    waiting = Operation(kind="artifacts", key="sweep", at=1, run_id=tracker.parent_run_id, folder=str(copy / "report"))
    Spool(copy / "spool", "study", uri).append(waiting)
    as_in_a_new_process()
    warnings: list[str] = []
    sent = send_spooled(uri, copy / "spool", "study", warn=warnings.append, found=lambda _: None)
    assert sent == (1, 0) and "was moved or copied" in warnings[0]
    assert files_below(original) == before
    found = list(copy.rglob("mlruns/*/*/artifacts/report/report.md"))
    assert [path.read_text() for path in found] == ["second"]
