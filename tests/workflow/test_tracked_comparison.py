"""A comparison in MLflow: real stores, and a script that is a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from sweeper.core.errors import ScriptError, UsageError
from sweeper.scripts import starter
from sweeper.scripts.comparison_plan import ConfirmationPlan
from sweeper.scripts.confirm import confirm_losses
from sweeper.scripts.launch import ScriptEnd
from sweeper.scripts.starter import ScriptStarter
from sweeper.scripts.trainings import ScriptTrainings
from sweeper.tracking import NOTE, connect_to_mlflow, list_prepared_studies, tracker
from sweeper.tracking.prepared_views import TAG
from sweeper.workflow.tracked_comparison import ComparisonRuns
from tests.scripts.test_confirm import Script, make_plan, make_script
from tests.support import mlflow_template

Track = Callable[..., ComparisonRuns]
RESUME_COMMAND = "sweeper confirm --study own --resume --tracking-uri sqlite:///elsewhere.db"


@pytest.fixture
def track(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Track:
    """Compare losses in a `Script`, and write that to the store of a folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(starter, "end_processes", lambda folder: None)
    mlflow_template.write_store(tmp_path)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md").write_text("# Losses")

    def run(script: Script, plan: ConfirmationPlan, warnings: list[str] | None = None) -> ComparisonRuns:
        monkeypatch.setattr(starter, "run_script", script.run)
        warn = (warnings or []).append if warnings is None else warnings.append
        runs = ComparisonRuns(get_address(tmp_path), plan, warn, resume_command=RESUME_COMMAND)
        starts = ScriptStarter("train", workers=2)
        trainings = ScriptTrainings(starts, tmp_path / "own", plan.task, on_training_end=runs.write_training)
        confirmation = confirm_losses(plan, trainings, resume_command=RESUME_COMMAND)
        runs.write_answer(confirmation.answer, confirmation.trainings, tmp_path / "report")
        return runs

    return run


def get_address(folder: Path) -> str:
    """Return a store's address."""
    return f"sqlite:///{folder / 'mlflow.db'}"


def plan_comparison(script: Script, **changes: Any) -> ConfirmationPlan:
    """Return the plan of a comparison that was begun at some time."""
    return make_plan(script, "dice", **changes).model_copy(update={"created": "2026-11-28"})


def read_runs(folder: Path) -> tuple[Run, list[Run]]:
    """Return the comparison's run, and those of its trainings in the order of their names."""
    client = MlflowClient(get_address(folder))
    experiment = client.get_experiment_by_name("own")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    (parent,) = [run for run in runs if run.data.tags["sweeper.kind"] == "sweep"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == len(runs) - 1
    return parent, sorted(children, key=lambda run: run.info.run_name or "")


def test_each_training_is_a_run_below_that_of_the_comparison(track: Track, tmp_path: Path) -> None:
    script = make_script(noise=0.001)
    track(script, plan_comparison(script, rates=(0.5, 1.0)))
    parent, runs = read_runs(tmp_path)
    assert [run.info.run_name for run in runs] == [
        *("cross_entropy rate 0.5", "cross_entropy rate 1"),
        *(f"cross_entropy seed {seed}" for seed in (1000, 1001, 1002)),
        *("dice rate 0.5", "dice rate 1"),
        *(f"dice seed {seed}" for seed in (1000, 1001, 1002)),
    ]
    assert {run.info.status for run in [parent, *runs]} == {"FINISHED"}
    tuned, confirmed = runs[-5], runs[-1]
    assert (tuned.data.tags["sweeper.kind"], confirmed.data.tags["sweeper.kind"]) == ("tune", "confirm")
    assert confirmed.data.params.items() >= {"loss.family": "dice", "seed": "1002", "share": "1"}.items()
    assert "test/miou" not in tuned.data.metrics and tuned.data.params["lr_factor"] == "0.5"
    scores = confirmed.data.metrics
    assert scores["test/miou"] == scores["test/value"] > 0.5 and scores["seconds"] == 1.5
    assert {"val/miou", "val/threshold"} <= scores.keys()
    assert confirmed.data.tags["sweeper.own_run.wandb"] == "team/cracks/1a"
    note, experiment = parent.data.tags[NOTE], MlflowClient(get_address(tmp_path)).get_experiment_by_name("own")
    assert note.startswith("**Change to `dice`") and "\n\n[All trainings](#/" in note
    assert experiment is not None and experiment.tags[NOTE].startswith("Change to dice: at least ")
    assert parent.data.tags["sweeper.use"] == "dice"
    ends = [parent.data.metrics[f"test/miou{end}"] for end in ("_ci_low", "", "_ci_high")]
    assert ends == sorted(ends)
    files = MlflowClient(get_address(tmp_path)).list_artifacts(parent.info.run_id, "report")
    assert [Path(file.path).name for file in files] == ["report.md"]
    assert "own" in list_prepared_studies(get_address(tmp_path))


def test_a_repetition_writes_nothing_twice_and_more_seeds_are_added(track: Track, tmp_path: Path) -> None:
    script = make_script(gaps={}, noise=0.05)
    plan = plan_comparison(script, rates=(1.0,), seeds=(3, 3))
    track(script, plan)
    before = {run.info.run_id for run in read_runs(tmp_path)[1]}
    track(script, plan)
    assert {run.info.run_id for run in read_runs(tmp_path)[1]} == before and len(before) == 6
    track(script, plan.model_copy(update={"seeds": (3, 4)}))
    runs = read_runs(tmp_path)[1]
    assert before < {run.info.run_id for run in runs} and len(runs) == 8


def test_a_study_of_the_same_name_keeps_its_views(track: Track, tmp_path: Path) -> None:
    client = connect_to_mlflow(get_address(tmp_path))
    client.set_experiment_tag(client.create_experiment("own"), f"{TAG}sweep", "its own")
    script = make_script(noise=0.001)
    track(script, plan_comparison(script, rates=(1.0,)))
    assert client.get_experiment_by_name("own").tags[f"{TAG}sweep"] == "its own"


def test_another_comparison_of_the_same_name_has_other_runs(track: Track, tmp_path: Path) -> None:
    script = make_script(noise=0.001)
    plan = plan_comparison(script, rates=(1.0,))
    track(script, plan)
    track(script, plan.model_copy(update={"created": "2026-11-29"}))
    client = MlflowClient(get_address(tmp_path))
    experiment = client.get_experiment_by_name("own")
    assert len(client.search_runs([experiment.experiment_id])) == 14


def test_losses_of_one_family_differ_by_their_names_and_scores_of_the_script_are_values(
    track: Track, tmp_path: Path
) -> None:
    script = make_script(kind="score", gaps={})
    losses = "tversky:fn_weight=0.6,tversky:fn_weight=0.7"
    track(script, make_plan(script, losses, rates=(1.0,)).model_copy(update={"created": "2026-11-28"}))
    _, runs = read_runs(tmp_path)
    names = {run.data.params["loss.family"] for run in runs}
    assert names == {"cross_entropy", "tversky:fn_weight=0.6", "tversky:fn_weight=0.7"}
    assert {run.data.tags["sweeper.family"] for run in runs} == {"cross_entropy", "tversky"}
    assert {"val/value", "test/value"} <= runs[0].data.metrics.keys()
    assert not {"val/miou", "val/threshold"} & runs[0].data.metrics.keys()


def test_a_diverged_training_is_marked_and_a_failed_one_has_its_reason(track: Track, tmp_path: Path) -> None:
    class Fails(Script):
        def end(self, trial: dict[str, Any]) -> ScriptEnd:
            fails = trial["kind"] == "search" and trial["lr_factor"] > 1
            return ScriptEnd(1, 1.5, False, 100, ("https://me:word@host",)) if fails else super().end(trial)

    script = Fails()
    track(script, plan_comparison(script, rates=(1.0, 3.0)))
    failed = [run for run in read_runs(tmp_path)[1] if run.info.status == "FAILED"]
    assert [run.info.run_name for run in failed] == ["cross_entropy rate 3", "dice rate 3"]
    reason = failed[0].data.tags["sweeper.reason"]
    assert "status 1" in reason and "@host" in reason and "word" not in reason
    assert failed[0].data.tags["sweeper.state"] == "failed"


def test_a_failing_store_stops_no_training_and_a_repetition_writes_the_missing_runs(
    track: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, warnings = make_script(noise=0.001), list[str]()
    plan = plan_comparison(script, rates=(1.0,))
    with monkeypatch.context() as patched:

        def fail(*_: object, **__: object) -> None:
            raise ConnectionError("away")

        patched.setattr(MlflowClient, "log_batch", fail)
        with pytest.raises(UsageError, match=f"Nothing was trained. Fix this, then resume with: {RESUME_COMMAND}"):
            track(script, plan, warnings)
        assert not script.trained
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "set_terminated", fail)
        patched.setattr(tracker, "END_PATIENCE", 3.0)
        track(script, plan, warnings)
    assert len(script.trained) == 6 and "fails: away. Training continues" in warnings[0]
    assert "7 runs" in warnings[-1] and f"this writes what it lacks: {RESUME_COMMAND}" in warnings[-1]
    assert read_runs(tmp_path)[0].info.status == "RUNNING"
    before = len(warnings)
    track(script, plan, warnings)
    assert len(script.trained) == 6 and len(warnings) == before
    parent, runs = read_runs(tmp_path)
    assert {run.info.status for run in [parent, *runs]} == {"FINISHED"} and len(runs) == 6


def test_the_run_of_a_comparison_that_ends_early_has_its_status(track: Track, tmp_path: Path) -> None:
    class Crashes(Script):
        def end(self, trial: dict[str, Any]) -> ScriptEnd:
            return ScriptEnd(1, 1.5, False, 100, ("oh",)) if trial["family"] == "dice" else super().end(trial)

    script = Crashes()
    plan = plan_comparison(script, rates=(1.0,))
    with pytest.raises(ScriptError):
        track(script, plan)
    runs = ComparisonRuns(get_address(tmp_path), plan, lambda _: None, resume_command=RESUME_COMMAND)
    runs.end_sweep("KILLED")
    assert read_runs(tmp_path)[0].info.status == "KILLED"
