"""`--metric module:function`: a metric of the user is checked, maximised, and compared by the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sweeper.core import metrics, own_metric
from sweeper.core.errors import UsageError
from sweeper.core.metrics import BUILT_IN, METRICS, compute_objective
from sweeper.core.own_code import find_code
from sweeper.core.point_choice import find_best_point
from sweeper.core.records import Conditions, Dataset, SweepRecord
from sweeper.deployment import recommended_network
from sweeper.deployment.recommended_network import load_answer
from sweeper.evidence.paired_comparisons import compute_evidence, get_metric_floor
from sweeper.evidence.paired_scores import make_paired_scores
from sweeper.evidence.replicates import Replicate
from sweeper.storage import list_plan_differences
from sweeper.training.network_in_training import make_checkpoint_key
from sweeper.workflow.recipe_choice import load_metric_code
from sweeper.workflow.study_remarks import list_study_remarks
from tests.report.test_markdown import render_text
from tests.support import builders
from tests.support.faking import new_plan
from tests.support.own_modules import own_module
from tests.support.simulated_studies import cracks
from tests.support.small_training import SMALL, train

METRICS_HERE = """
import numpy as np

def worst_f2(tp, fp, fn):
    return np.nan_to_num(5 * tp / (5 * tp + 4 * fn + fp), nan=1.0).min(axis=-1)

def last_iou(tp, fp, fn):
    return np.nan_to_num(tp / (tp + fp + fn), nan=1.0)[..., -1]

def kappa(tp, fp, fn):
    pixels = (tp + fn).sum(axis=-1)
    chance = ((tp + fp) * (tp + fn)).sum(axis=-1) / pixels**2
    return np.nan_to_num((tp.sum(axis=-1) / pixels - chance) / (1 - chance), nan=1.0)

def rounded(tp, fp, fn):
    return np.round(worst_f2(tp, fp, fn), 2)
def each(tp, fp, fn):
    return np.nan_to_num(tp / (tp + fp + fn), nan=1.0)
def undefined(tp, fp, fn):
    return (tp / (tp + fp + fn)).mean(axis=-1)
def percent(tp, fp, fn):
    return 100 * worst_f2(tp, fp, fn)
def cost(tp, fp, fn):
    return 1 - worst_f2(tp, fp, fn)
def smoothed(tp, fp, fn):
    return ((tp + 100) / (tp + fp + fn + 100)).mean(axis=-1)
def ranked(tp, fp, fn):
    return np.full(tp.shape[:-1], worst_f2(tp, fp, fn).max())
def fails(tp, fp, fn):
    raise ValueError("not today")
number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield a module of metrics in the working folder; its metrics are unregistered afterwards."""
    with own_module("own_metrics_here", METRICS_HERE, tmp_path, monkeypatch) as name:
        yield name
    unregister_metrics()


def unregister_metrics() -> None:
    for name in [name for name in METRICS if name not in BUILT_IN]:
        del METRICS[name]


def register(name: str) -> str:
    own_metric.register_metric(load_metric_code(name))
    return name


def use_metric(sweep: SweepRecord, name: str) -> SweepRecord:
    """Return the study as if it had maximised this metric."""
    recipe = sweep.conditions.recipe.model_copy(update={"metric": name, "own_metric": load_metric_code(name)})
    return sweep.model_copy(update={"conditions": sweep.conditions.model_copy(update={"recipe": recipe})})


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", ["worst_f2", "last_iou", "kappa"])
def test_a_sound_metric_passes(module: str, name: str, classes: int) -> None:
    own_metric.check_metric(find_code(f"{module}:{name}", "--metric"), classes)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("each", "must give one number for each sum, an array of shape (2, 5), got (2, 5, 3)"),
        ("undefined", "must be within -1 and 1, the higher the better, got nan"),
        ("percent", "must be within -1 and 1, the higher the better, got "),
        ("cost", "must be higher where all pixels are right than where none is, got 0 and 1"),
        ("smoothed", "must not depend on the number of images"),
        ("ranked", "must give the same for a sum by itself as among others"),
        ("rounded", "must change with a few pixels"),
        ("fails", "and failed: ValueError: not today"),
        ("number", "must name a function or class"),
        ("absent", "has no absent"),
    ],
)
def test_a_metric_that_cannot_be_maximised_is_refused(module: str, name: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        own_metric.check_metric(find_code(f"{module}:{name}", "--metric"), 3)
    assert words in str(caught.value) and "nothing was trained" in str(caught.value)


def test_a_failed_training_gets_the_lowest_value_of_a_negative_metric(module: str) -> None:
    name = register(f"{module}:kappa")
    worse_than_chance = np.array([[10, 30, 40], [10, 40, 30]])
    both = np.ones(2, dtype=bool)
    value = float(compute_objective(worse_than_chance, both, name))
    chance = (40 * 50 + 50 * 40) / 90**2
    assert value == pytest.approx((20 / 90 - chance) / (1 - chance)) and value < 0
    floors = [metrics.compute_metric_floor(worse_than_chance, both, metric) for metric in (name, "miou")]
    assert floors[0] < 0 == floors[1]
    bench = make_paired_scores([Replicate((run,)) for run in builders.sweep().confirmations], 2, None, name)
    assert -1 <= bench.least < 0 and get_metric_floor(bench) == -1


def test_a_training_is_scored_by_an_own_metric_at_the_point_that_maximises_it(module: str, tiny: Dataset) -> None:
    name = register(f"{module}:last_iou")
    recipe = SMALL.model_copy(update={"own_metric": load_metric_code(name), "metric": name})
    result = train(tiny, family="dice", params={}, steps=8, recipe=recipe)
    last = result.evaluations[-1]
    counts = result.val
    assert counts is not None and result.value == last.value
    assert (last.point, last.value) == pytest.approx(find_best_point(counts, "fg_iou"))
    assert (last.point, last.value) == pytest.approx(find_best_point(counts, name))


def test_finalists_are_compared_by_an_own_metric(module: str) -> None:
    name = register(f"{module}:worst_f2")
    runs = [Replicate((run,)) for run in builders.sweep().confirmations]
    bench = make_paired_scores(runs, 2, None, name)
    tp, fp, fn = np.moveaxis(bench.counts.sum(axis=1), -1, 0)
    np.testing.assert_allclose(bench.metric_scores.scores, (5 * tp / (5 * tp + 4 * fn + fp)).min(axis=-1))


def test_a_resume_compares_the_source_of_a_metric_and_not_its_folder(
    module: str, tiny: Dataset, tmp_path: Path
) -> None:
    code = find_code(f"{module}:worst_f2", "--metric")
    recipe = SMALL.model_copy(update={"own_metric": code, "metric": code.name})
    conditions = Conditions(dataset=tiny, recipe=recipe, seed=0)

    def list_differences(**changes: object) -> list[str]:
        other = conditions.model_copy(update={"recipe": recipe.model_copy(update=changes)})
        return list_plan_differences(new_plan(conditions=conditions), new_plan(conditions=other))

    elsewhere = {"own_metric": code.model_copy(update={"folder": "/elsewhere"})}
    moved = conditions.model_copy(update={"recipe": recipe.model_copy(update=elsewhere)})
    assert make_checkpoint_key(conditions) == make_checkpoint_key(moved) and not list_differences(**elsewhere)
    (tmp_path / "own_metrics_here.py").write_text(METRICS_HERE + "\n# another\n")
    (line,) = list_differences(own_metric=find_code(code.name, "--metric"))
    assert line.startswith(f"SHA-256 of the source of {module}:worst_f2: ")
    assert f"recipe.metric: {module}:worst_f2 → miou" in list_differences(own_metric=None, metric="miou")


def test_a_report_compares_finalists_by_an_own_metric_if_its_code_exists(module: str, tmp_path: Path) -> None:
    name = register(f"{module}:last_iou")
    study = cracks()
    sweep = use_metric(study.sweep, name)
    before = study.evidence
    origins = {f.family: next(t for t in sweep.trials if t.spec.number == f.search_trial) for f in before.finalists}
    evidence = compute_evidence(
        sweep.confirmations, origins, classes=before.classes, metric=own_metric.resolve_verdict_metric(name)
    )
    assert evidence.scale.score == "last_iou"
    for finalist in evidence.finalists:
        assert finalist.fg_iou is not None and finalist.score.estimate == pytest.approx(finalist.fg_iou.estimate)
    assert "test last_iou" in render_text(sweep, evidence)
    assert "OTHER_METRIC" not in {remark.code for remark in list_study_remarks(sweep, evidence, None, [])}
    (tmp_path / "own_metrics_here.py").unlink()
    unregister_metrics()
    own_metric.register_metric(sweep.conditions.recipe.own_metric)
    assert own_metric.resolve_verdict_metric(name) == "miou"
    (remark,) = (one for one in list_study_remarks(sweep, before, None, []) if one.code == "OTHER_METRIC")
    assert remark.values == {"metric": name}


def test_a_recommendation_is_not_used_after_its_metric_changed(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = register(f"{module}:last_iou")
    sweep = use_metric(cracks().sweep, name)
    monkeypatch.setattr(recommended_network, "load_sweep", lambda *_: sweep)
    assert load_answer(None, "s", "train").chosen.loss  # type: ignore[arg-type]
    with (tmp_path / "own_metrics_here.py").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(UsageError, match=r"--metric own_metrics_here:last_iou must be what it was: .* has changed"):
        load_answer(None, "s", "train")  # type: ignore[arg-type]
