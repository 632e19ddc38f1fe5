"""The values that MLflow has of a study, read from a real SQLite store by its client."""

from __future__ import annotations

import base64
import getpass
import json
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from mlflow.utils.validation import _validate_metric_name

from sweeper.core.errors import UsageError
from sweeper.core.events import TrainingPaused
from sweeper.core.paths import make_class_slugs
from sweeper.core.records import Collapse
from sweeper.tracking import NOTE, NOTE_LIMIT, SweepSummary
from sweeper.tracking.prepared_views import TAG
from tests.support import builders
from tests.support.tracked import begin_tracking, get_run, make_study, store_result, train


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return one store for all tests: making and migrating it takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def test_runs_form_a_tree_with_the_documented_names(uri: str) -> None:
    tracker = begin_tracking(uri, "tree")
    trial = builders.trial("dice_focal", 0.7, 4)
    train(tracker, trial)
    tracker.end_sweep("FINISHED", SweepSummary("**short**", {}, {}, Path("no folder"), "Keep `x`."))

    child, parent = get_run(tracker, trial.spec), get_run(tracker)
    assert child.info.status == parent.info.status == "FINISHED"
    assert child.info.run_name == f"dice_focal #{trial.spec.number}"
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["sweeper.kind"] == "trial"
    assert child.data.tags["sweeper.family"] == "dice_focal"
    assert child.data.tags["sweeper.trial"] == "4"
    assert child.data.tags["sweeper.state"] == "complete"
    assert child.data.params["loss.family"] == "dice_focal"
    assert float(child.data.params["loss.mix"]) == pytest.approx(trial.spec.params["mix"], rel=1e-5)
    assert child.data.params["recipe.arch"] == "unet"
    history = MlflowClient(uri).get_metric_history(child.info.run_id, "val/miou")
    assert [(m.step, m.value) for m in history] == [(e.step, e.chosen.miou) for e in trial.evaluations]
    assert {"val/miou_at_0.5", "val/fg_iou", "val/dice", "val/iou/background", "val/iou/crack", "train/loss"} <= (
        child.data.metrics.keys()
    )
    assert parent.info.run_name == parent.data.tags["sweeper.kind"] == "sweep"
    assert parent.data.tags[NOTE].startswith("**short**\n\n[All trainings](#/")
    assert (parent.data.params["trials"], parent.data.params["seed"]) == ("3", "0")
    assert parent.inputs.dataset_inputs[0].dataset.name == builders.dataset().name
    experiment = MlflowClient(uri).get_experiment_by_name("tree")
    assert experiment is not None and experiment.tags[NOTE] == "Keep x."  # a list shows it as it is


def test_every_run_has_its_user_and_program(uri: str) -> None:
    tracker = begin_tracking(uri, "made by")
    trial = train(tracker, builders.trial("dice", 0.7, 0))
    for run in (get_run(tracker, trial.spec), get_run(tracker)):
        assert run.data.tags["mlflow.user"] == run.info.user_id == getpass.getuser()
        assert run.data.tags["mlflow.source.name"] == sys.argv[0]
        assert run.data.tags["mlflow.source.type"] == "LOCAL"


def test_values_of_a_part_of_the_images_have_separate_names(uri: str) -> None:
    tracker = begin_tracking(uri, "parts")
    done = builders.trial("dice", 0.6, 0, evaluations=builders.curve_on_part((0.5, 0.6, 0.65, 0.7), 0.6))
    stopped = builders.trial("dice", 0.65, 1, state="pruned", evaluations=builders.curve_on_part((0.4, 0.65)))
    diverged = builders.trial("dice", 0.0, 2, evaluations=builders.curve_on_part((0.0,)), collapse="diverged")
    client, histories = MlflowClient(uri), []
    for trial in (done, stopped, diverged):
        train(tracker, trial)
        run = get_run(tracker, trial.spec)
        histories.append(
            {
                name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
            }
        )
    completed, pruned, diverged_values = histories
    assert completed["val/miou"] == completed["val/value"] == [(100, 0.6)]
    assert completed["val_part/miou"] == completed["val_part/value"] == [(25, 0.5), (50, 0.6), (75, 0.65), (100, 0.7)]
    assert {"val_part/miou_at_0.5", "val_part/fg_iou", "val_part/iou/crack", "val_part/threshold"} <= completed.keys()
    assert pruned["val_part/miou"] == [(25, 0.4), (50, 0.65)]
    assert not [name for name in pruned if name.startswith("val/")]
    assert diverged_values["val/value"] == diverged_values["val/miou"] == [(25, 0.0)]


@pytest.mark.parametrize("purpose", ["confirm", "replicate", "rate", "probe"])
def test_other_trainings_have_another_kind_than_a_trial_of_the_same_number(uri: str, purpose: str) -> None:
    tracker = begin_tracking(uri, f"kind-{purpose}")
    trial, other = builders.trial("dice", 0.6, 0), builders.confirmation("dice", 1999)
    spec = other.spec.model_copy(update={"purpose": purpose})
    other = other.model_copy(update={"spec": spec, "test": other.test if purpose == "confirm" else None})
    for result in (trial, other):
        train(tracker, result)
    runs = [get_run(tracker, result.spec) for result in (trial, other)]
    assert [run.data.tags["sweeper.kind"] for run in runs] == ["trial", purpose]
    assert runs[1].data.params["seed"] == "1999"
    tested = {name for name in runs[1].data.metrics if name.startswith("test/")}
    assert ({"test/miou", "test/iou/crack"} <= tested) if purpose == "confirm" else not tested


def test_the_budget_of_a_probe_is_written_to_the_sweeps_run_once_decided(uri: str) -> None:
    tracker = begin_tracking(uri, "probing")
    params = get_run(tracker).data.params
    assert "seed" in params and "recipe.steps" not in params
    decided = builders.conditions(steps=400, confirm_steps=800)
    tracker.update_plan(decided)
    tracker.update_plan(decided)  # as a resume does
    params = get_run(tracker).data.params
    assert (params["recipe.steps"], params["recipe.confirm_steps"]) == ("400", "800")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"state": "pruned"}, "FINISHED"),
        ({"state": "failed", "value": None, "reason": "ValueError: no"}, "FAILED"),
        ({"value": 0.0, "collapse": Collapse.DIVERGED}, "FINISHED"),
        ({"own_runs": {"wandb": "team/cracks/1a"}}, "FINISHED"),
    ],
)
def test_states_are_written_as_statuses_and_tags(uri: str, changes: dict[str, object], status: str) -> None:
    tracker = begin_tracking(uri, f"states-{'-'.join(changes)}-{changes.get('state')}")
    result = builders.trial("dice", 0.5, 1).model_copy(update=changes)
    train(tracker, result)
    run = get_run(tracker, result.spec)
    assert run.info.status == status
    assert run.data.tags.get("sweeper.collapse") == ("diverged" if "collapse" in changes else None)
    assert run.data.tags.get("sweeper.reason") == changes.get("reason")
    assert run.data.tags.get("sweeper.own_run.wandb") == ("team/cracks/1a" if "own_runs" in changes else None)


def test_a_repeated_training_has_only_its_last_result(uri: str) -> None:
    tracker = begin_tracking(uri, "again")
    good = builders.confirmation("dice", 101)
    bad = good.model_copy(
        update={"state": "failed", "value": None, "reason": "it raised", "evaluations": (), "test": None, "seconds": 1}
    )
    train(tracker, bad)
    first = get_run(tracker, good.spec)
    assert first.info.status == "FAILED" and first.data.tags["sweeper.reason"] == "it raised"
    train(tracker, good)
    run = get_run(tracker, good.spec)
    assert run.info.run_id == first.info.run_id and run.info.status == "FINISHED"
    assert "sweeper.reason" not in run.data.tags and run.data.tags["sweeper.state"] == "complete"
    assert run.data.metrics["seconds"] == good.seconds != 1


def test_class_names_become_slugs_and_stay_distinct(uri: str) -> None:
    names = ("a|b", "a&b", "a(b", "été", "日本")
    assert make_class_slugs(names) == ("a_b", "a_b-2", "a_b-3", "ete", "x")
    classes = ("back ground", "a|b (c) & d")
    tracker = begin_tracking(uri, "slugs", builders.conditions(data=builders.dataset(classes)))
    trial = builders.trial("dice", 0.5, 0)
    train(tracker, trial)
    run = get_run(tracker, trial.spec)
    assert run.data.metrics["val/iou/a_b_c_d"] >= 0
    assert run.data.tags["sweeper.class.a_b_c_d"] == "a|b (c) & d"


@pytest.mark.parametrize(
    ("classes", "slugs"),
    [
        (("a b", "a_b", "a b-2"), ("a_b", "a_b-2", "a_b-2-2")),
        (("road-2", "Road", "ROAD", "road_"), ("road-2", "road", "road-3", "road-4")),
        (("猫", "x-2", "犬"), ("x", "x-2", "x-3")),
    ],
)
def test_a_slug_that_a_class_has_is_not_given_to_another(classes: tuple[str, ...], slugs: tuple[str, ...]) -> None:
    assert make_class_slugs(classes) == slugs


@given(st.lists(st.text(alphabet="aAbÄ _-.|2猫", max_size=6) | st.text(max_size=90), max_size=40, unique=True))
def test_any_classes_have_distinct_slugs_that_mlflow_takes(classes: list[str]) -> None:
    slugs = make_class_slugs(tuple(classes))
    assert len({one.lower() for one in slugs}) == len(classes)
    for one in slugs:
        _validate_metric_name(f"val/iou/{one}")


def test_notes_are_cut_at_the_limit_of_mlflow(uri: str) -> None:
    tracker = begin_tracking(uri, "notes")
    tracker.set_description("x" * 9000)
    note = get_run(tracker).data.tags[NOTE]
    assert len(note) == NOTE_LIMIT and "x…\n\n[All trainings](#/" in note


def test_the_finalists_are_the_trainings_that_the_answer_counts(uri: str) -> None:
    """Ground: the group of finalists averaged a surplus seed, 0.614 where the report said 0.622."""
    tracker = begin_tracking(uri, "surplus")
    runs = [builders.confirmation("dice", seed, number=n) for n, seed in enumerate((1000, 1001, 1002))]
    spec = builders.spec("dice", 0, 1003, purpose="first", steps=200)
    runs.append(builders.confirmation("dice", 1003, spec=spec))
    for run in (*runs, builders.trial("dice", 0.7, 0)):
        train(tracker, run)
    ids = [get_run(tracker, run.spec).info.run_id for run in runs]
    tracker.end_sweep("FINISHED", SweepSummary("", {}, {}, Path("no folder"), compared={ids[0], ids[1], ids[3]}))
    client, experiment = MlflowClient(uri), tracker.mirror.experiment_id
    view = json.loads(zlib.decompress(base64.b64decode(read_tag(client, experiment).removeprefix("deflate;"))))
    shown = client.search_runs([experiment], view["searchFilter"])
    assert {run.info.run_id for run in shown} == {ids[0], ids[1], ids[3]}
    tags = {run.info.run_id: run.data.tags.get("sweeper.compared") for run in client.search_runs([experiment])}
    assert tags[ids[2]] == "no" and [*tags.values()].count(None) == 2  # the trial, and the sweep


def read_tag(client: MlflowClient, experiment: str) -> str:
    return str(client.get_experiment(experiment).tags[f"{TAG}finalists"])


def test_runs_of_another_study_of_the_same_name_are_not_changed(uri: str) -> None:
    first = begin_tracking(uri, "shared")
    first.notify(TrainingPaused(builders.spec("dice", 0), builders.trial("dice", 0.5, 0)))
    run = get_run(first, builders.spec("dice", 0))
    second = begin_tracking(uri, "shared", created="2026-11-21T07:00:00+00:00")
    assert get_run(second).info.run_id != get_run(first).info.run_id
    train(second, builders.trial("dice", 0.5, 0))
    assert get_run(second, builders.spec("dice", 0)).info.run_id != run.info.run_id
    second.end_sweep("FINISHED")
    statuses = [get_run(first, spec).info.status for spec in (builders.spec("dice", 0), None)]
    assert statuses == ["SCHEDULED", "RUNNING"]


def test_a_renamed_experiment_gets_no_run_twice(uri: str) -> None:
    study, trial = make_study("renamed"), builders.trial("dice", 0.5, 0)
    first = begin_tracking(uri, study)
    store_result(study, train(first, trial))
    first.end_sweep("KILLED")
    first.mirror.client.rename_experiment(first.mirror.experiment_id, "by the user")
    second = begin_tracking(uri, study, warn=pytest.fail)
    assert get_run(second).info.run_id == get_run(first).info.run_id
    assert second.mirror.client.get_experiment_by_name("renamed") is None


def test_an_experiment_with_runs_of_others_is_refused(uri: str) -> None:
    client = MlflowClient(uri)
    client.create_experiment("base")
    begin_tracking(uri, "base", created="2026-11-19T07:00:00+00:00").close()  # of an experiment without runs
    begin_tracking(uri, "base").close()
    experiment = client.create_experiment("theirs")
    for _ in range(3):
        client.create_run(experiment)
    with pytest.raises(UsageError, match=r"'theirs' in MLflow at sqlite:.* has 3 runs of others; give another --study"):
        begin_tracking(uri, "theirs")
    assert len(client.search_runs([experiment])) == 3


def test_a_resume_on_another_store_writes_all_runs_to_it(uri: str, tmp_path: Path) -> None:
    study, trial = make_study("moved"), builders.trial("dice", 0.5, 0)
    first = begin_tracking(uri, study)
    store_result(study, train(first, trial))
    first.end_sweep("KILLED")
    messages: list[str] = []
    second = begin_tracking(f"sqlite:///{tmp_path}/other.db", study, warn=messages.append)
    assert len(messages) == 1 and "is another store than the study's last" in messages[0]
    run = get_run(second, trial.spec)
    assert run.info.status == "FINISHED" and run.data.tags["mlflow.parentRunId"] == get_run(second).info.run_id
    assert study.user_attrs["mlflow_runs"] == {"search/00000": run.info.run_id}
    assert study.user_attrs["parent_run_id"] == get_run(second).info.run_id != get_run(first).info.run_id
