"""The whole flow on small images: what it leaves in the stores and in the report's folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

import sweeper
from sweeper import storage as studies
from sweeper.core.errors import DataError, NothingCompletedError, NothingConfirmedError, StudyError, UsageError
from sweeper.core.records import Outcome
from sweeper.data import divide_images, write_scenes
from sweeper.space import load_space
from sweeper.workflow.conclude import ReportedStudy, draw_conclusion, report_study
from tests.support.sweeping import TWO_LOSSES, Recorder, run_small_sweep

SEARCHED = [family.family for family in load_space("binary", "binary").families]
"""The families of the default space, in its order."""
LEARN = {"steps": 16, "confirm_steps": 16, "batch_size": 4}
"""Enough to beat a constant answer."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def outcome(folder: Path) -> ReportedStudy:
    return run_small_sweep(folder, trials=8, figures=True, advised=True, **LEARN)


@pytest.mark.slow
def test_the_study_has_its_trials_and_nothing_running(outcome: ReportedStudy, folder: Path) -> None:
    study = optuna.load_study(study_name="study", storage=f"sqlite:///{folder}/sweeper.db")
    assert len(study.trials) == 8
    assert {t.state.name for t in study.trials} <= {"COMPLETE", "PRUNED"}
    first = [t.params["loss"] for t in study.trials[:7]]
    assert sorted(first) == sorted(SEARCHED) and first != SEARCHED  # in the order of the advice
    assert 0 < study.best_value <= 1
    assert not list(folder.rglob("*.pt"))  # no training waits


@pytest.mark.slow
def test_mlflow_has_a_parent_and_a_child_for_each_training(outcome: ReportedStudy, folder: Path) -> None:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("study")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    kinds = [r.data.tags["sweeper.kind"] for r in runs]
    sweep = outcome.sweep
    assert (kinds.count("sweep"), kinds.count("trial"), kinds.count("rate")) == (1, 8, len(sweep.at_rates))
    finalists = outcome.conclusion.evidence.finalists
    assert kinds.count("confirm") == len(sweep.confirmations) == 2 * len(finalists)
    assert {r.info.status for r in runs} == {"FINISHED"}
    children = [r for r in runs if r.data.tags["sweeper.kind"] != "sweep"]
    assert all("val/miou" in r.data.metrics for r in children)
    assert all(r.data.tags["mlflow.parentRunId"] == sweep.parent_run_id for r in children)
    stored = {t.run_id for t in sweep.trainings}
    assert stored == {r.info.run_id for r in children}
    listed = {a.path for a in client.list_artifacts(sweep.parent_run_id, "report")}
    files = ("report.md", "recommendation.json", "trials.csv", "split.csv", "figures")
    assert {f"report/{name}" for name in files} <= listed
    assert client.get_run(sweep.parent_run_id).data.params["recipe.steps"] == str(LEARN["steps"])
    tested = {r.info.run_id: r.data.metrics["test/miou"] for r in runs if r.data.tags["sweeper.kind"] == "confirm"}
    for finalist in finalists:
        assert finalist.miou.estimate == pytest.approx(np.mean([tested[run_id] for run_id in finalist.run_ids]))


@pytest.mark.slow
def test_the_files_of_the_report_agree_with_the_outcome(outcome: ReportedStudy) -> None:
    text = outcome.paths.markdown.read_text("utf-8")
    document = json.loads(outcome.paths.recommendation.read_text("utf-8"))
    use = outcome.document.use
    assert f"`{use.loss}`" in text[:2000] and document["use"]["loss"] == use.loss
    assert document["outcome"] == outcome.conclusion.answer.outcome
    assert document["search"]["trials"] == 8
    split = document["split"]
    rows = outcome.paths.split.read_text("utf-8").splitlines()[1:]
    assert sorted(rows) == sorted(
        f"{stem},{'test' if side == 'test' else ''}," for side, stems in split.items() for stem in stems
    )
    predictions = outcome.sweep.confirmations[0].predictions
    assert split["test"] == [outcome.sweep.conditions.dataset.images[i].stem for i in predictions.images]
    assert [analysis["seeds"] for analysis in document["analyses"]] == [2]
    assert document["analyses"][-1]["outcome"] == document["outcome"]
    table = pd.read_csv(outcome.paths.trials)
    assert len(table) == len(outcome.sweep.trainings)
    assert (outcome.paths.figures / "predictions.svg").stat().st_size > 5000
    exec(use.snippet, {})  # what it computes: tests/losses/test_snippet.py


@pytest.mark.slow
def test_the_report_can_be_rewritten_from_the_storage(outcome: ReportedStudy, folder: Path, tmp_path: Path) -> None:
    rewritten = report_study(studies.open_storage(f"sqlite:///{folder}/sweeper.db"), "study", out=tmp_path)
    assert rewritten.conclusion == outcome.conclusion
    assert rewritten.paths.markdown.read_text("utf-8") == outcome.paths.markdown.read_text("utf-8")
    frame = sweeper.load_study("study", storage=f"sqlite:///{folder}/sweeper.db").trials
    search = frame[frame["purpose"] == "search"]
    assert sorted(search["family"][:7]) == sorted(SEARCHED) and search["value"].between(0, 1).all()


@pytest.mark.slow
def test_no_search_trial_sees_the_test_split(outcome: ReportedStudy) -> None:
    dataset = outcome.sweep.conditions.dataset
    locked = set(divide_images(dataset, test_seed=0, seed=0).test)
    for trial in (*outcome.sweep.trials, *outcome.sweep.at_rates):
        assert trial.test is None and trial.predictions is None
        assert trial.val is None or not locked & set(trial.val.images)
    for result in outcome.sweep.confirmations:
        assert set(result.test.images) == locked
        assert not locked & set(result.val.images)
    validation = {r.spec.seed: r.val.images for r in outcome.sweep.confirmations}
    assert len(validation) == len(set(validation.values())) == 2  # what was not given is divided again for each seed


@pytest.mark.slow
@pytest.mark.exhaustive
def test_swapped_labels_in_the_test_masks_change_only_the_test_scores(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_scenes("cracks?images=15&size=64&foreground=0.05", data)
    stems = sorted(p.stem for p in (data / "images").iterdir())
    sides = ["train"] * 9 + ["val"] * 3 + ["test"] * 3
    rows = [f"{stem},{side}" for stem, side in zip(stems, sides, strict=True)]
    (data / "split.csv").write_text("\n".join(["stem,split", *rows]) + "\n")

    honest = run_small_sweep(tmp_path / "honest", data=str(data), trials=7, steps=8, confirm_steps=8)
    for stem in stems[12:]:
        path = data / "masks" / f"{stem}.png"
        mask = np.asarray(Image.open(path))
        Image.fromarray((mask == 0).astype(np.uint8) * (255 if mask.max() > 1 else 1)).save(path)
    swapped = run_small_sweep(tmp_path / "swapped", data=str(data), trials=7, steps=8, confirm_steps=8)

    assert honest.sweep.conditions.dataset.digest != swapped.sweep.conditions.dataset.digest
    for first, second in zip(honest.sweep.trials, swapped.sweep.trials, strict=True):
        assert first.spec == second.spec
        assert [e.value for e in first.evaluations] == [e.value for e in second.evaluations]
    for first, second in zip(honest.sweep.confirmations, swapped.sweep.confirmations, strict=True):
        assert first.spec == second.spec
        assert first.evaluations[-1].point == second.evaluations[-1].point
        assert np.array_equal(first.val.data, second.val.data)
        assert not np.array_equal(first.test.data, second.test.data)
        assert np.array_equal(first.test.data.sum(axis=1), second.test.data.sum(axis=1))  # the same predictions
    before, after = honest.conclusion.evidence, swapped.conclusion.evidence
    assert {f.family: f.miou.estimate for f in before.finalists} != {f.family: f.miou.estimate for f in after.finalists}


@pytest.mark.slow
def test_a_resume_is_refused_with_another_recipe_and_while_another_process_runs_the_study(
    outcome: ReportedStudy, folder: Path
) -> None:
    with pytest.raises(StudyError, match="cannot be resumed") as caught:
        run_small_sweep(folder, resume=True, steps=5, seed=3)
    for words in ("recipe.steps: 16 → 5", "seed: 0 → 3"):
        assert words in str(caught.value)
    url = f"sqlite:///{folder}/sweeper.db"
    before = optuna.load_study(study_name="study", storage=url).user_attrs
    with studies.hold_study(url, "study"), pytest.raises(StudyError, match="being run by another process"):
        run_small_sweep(folder, resume=True, **(LEARN | {"confirm_steps": 999}))
    assert optuna.load_study(study_name="study", storage=url).user_attrs == before


def test_an_unknown_encoder_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="resnet7"):
        run_small_sweep(tmp_path, encoder="resnet7")
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}  # what was decoded serves the next try


@pytest.mark.slow
def test_the_report_of_a_sweep_without_completed_trials_recommends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_error(*_: object, **__: object) -> None:
        raise ValueError("this loss is broken")

    monkeypatch.setattr("sweeper.training.training_steps.build_loss", raise_error)
    with pytest.raises(NothingCompletedError, match="this loss is broken") as caught:
        run_small_sweep(tmp_path, trials=2)
    assert caught.value.exit_status == 3
    sweep = studies.load_sweep(studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db"), "study")
    assert draw_conclusion(sweep).answer.outcome is Outcome.NONE
    document = json.loads((tmp_path / "reports/study/recommendation.json").read_text("utf-8"))
    assert document["outcome"] == "none" and document["use"] is None
    assert document["search"]["failed"] == 2
    assert "this loss is broken" in (tmp_path / "reports/study/report.md").read_text("utf-8")


@pytest.mark.slow
def test_multiclass_runs_from_images_to_report(tmp_path: Path) -> None:
    outcome = run_small_sweep(tmp_path, data="synthetic:street?images=15&size=64", trials=2, seeds="1", **LEARN)
    assert outcome.document.use.point is not None
    assert {t.state for t in outcome.sweep.trials} <= {"complete", "pruned"}
    document = json.loads(outcome.paths.recommendation.read_text("utf-8"))
    assert document["dataset"]["task"] == "multiclass"
    assert len(document["dataset"]["classes"]) == 5
    assert "τ" in outcome.paths.markdown.read_text("utf-8")


@pytest.mark.slow
def test_a_sweep_whose_time_is_up_reports_what_it_has_and_is_resumed(tmp_path: Path) -> None:
    display = Recorder()
    words = f"sweeper run --study study --resume --storage sqlite:///{tmp_path}/sweeper.db --tracking-uri"
    command = rf"{re.escape(words)} \S+ --out \S+"
    with pytest.raises(NothingConfirmedError, match=command) as caught:
        limit = {"time": "60", "timer": lambda: 61.0 * any(r.spec.purpose == "search" for r in display.results)}
        run_small_sweep(tmp_path, display, trials=4, space=TWO_LOSSES, **limit)
    assert caught.value.exit_status == 1
    storage = studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db")
    cut = report_study(storage, "study", out=tmp_path / "reports")
    assert cut.sweep.cut
    assert 0 < len(cut.sweep.trials) <= 4 and "the search ended after" in cut.sweep.cut[0]
    document = json.loads(cut.paths.recommendation.read_text("utf-8"))
    (said,) = [remark for remark in document["remarks"] if remark["code"] == "CUT"]
    assert said["values"]["parts"] == "; ".join(cut.sweep.cut)
    assert "--time 60" in cut.sweep.command
    resumed = run_small_sweep(tmp_path, resume=True, trials=5, time="2h")
    assert len(resumed.sweep.trials) == 5 and resumed.sweep.cut == ()


@pytest.mark.parametrize("side", ["val", "test"])
def test_a_side_of_the_split_with_one_class_is_refused(tmp_path: Path, side: str) -> None:
    data = tmp_path / "data"
    write_scenes("cracks?images=12&size=64&foreground=0.05", data)
    stems = sorted(p.stem for p in (data / "images").iterdir())
    sides = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    (data / "split.csv").write_text("\n".join(["stem,split", *map(",".join, zip(stems, sides, strict=True))]) + "\n")
    for stem, stem_side in zip(stems, sides, strict=True):
        if stem_side == side:
            Image.fromarray(np.zeros((64, 64), np.uint8)).save(data / "masks" / f"{stem}.png")
    with pytest.raises(DataError, match="at least two classes"):
        run_small_sweep(tmp_path, data=str(data))


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "\x1b[31m"])
def test_unfit_study_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match="--study"):
        run_small_sweep(tmp_path, study=name)
