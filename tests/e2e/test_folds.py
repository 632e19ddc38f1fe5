"""Cross-validation in place of a test split: the flow, and its label wherever the result is."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from mlflow import MlflowClient

from sweeper.core.errors import InterruptedSweepError
from sweeper.core.records import TrialResult, TrialSpec
from sweeper.data.folds import get_split
from sweeper.storage import list_extra_results
from sweeper.study.finalist import derive_confirmation_seed
from sweeper.workflow.conclude import draw_conclusion
from tests.support import builders, faking
from tests.support.sweeping import TWO_LOSSES, Recorder, run_small_sweep

CONFIRM = {"trials": 4, "seeds": "2", "folds": 3, "steps": 24, "confirm_steps": 24, "space": TWO_LOSSES}
"""Two finalists, as each of them is trained once per seed and fold."""

TOY = builders.dataset(images=12)
GROUPED = tuple(image.model_copy(update={"group": "abcdef"[i // 2]}) for i, image in enumerate(TOY.images))
DATA = TOY.model_copy(update={"images": GROUPED})
CONDITIONS = builders.conditions(DATA).model_copy(update={"folds": 3})
PLAN = faking.new_plan(conditions=CONDITIONS)


def train_fold(spec: TrialSpec) -> TrialResult:
    """Return a training of `faking`, scored on the images of its own fold."""
    result = faking.fake_result(spec)
    if spec.purpose != "confirm":
        return result
    images = get_split(CONDITIONS, spec.seed, spec.fold).test
    noise = np.random.default_rng([spec.seed, 7]).normal(0, 0.1, 12)[list(images)]
    test = builders.counts_from_iou(np.clip(result.value + noise, 0.05, 0.95))
    return result.model_copy(update={"test": test.model_copy(update={"images": images})})


def train(study: optuna.Study, executor: faking.FakeExecutor | None = None) -> list[TrialResult]:
    faking.train(study, executor or faking.FakeExecutor(train_fold), plan=PLAN)
    return list_extra_results(study, "confirm")


def test_every_seed_of_every_finalist_scores_each_image_once_on_common_folds() -> None:
    runs = train(faking.new_study())
    scored: dict[tuple[str, int], list[int]] = defaultdict(list)
    shared: dict[tuple[int, int | None], set[tuple[int, ...]]] = defaultdict(set)
    for run in runs:
        scored[run.spec.family, run.spec.seed] += run.test.images
        shared[run.spec.seed, run.spec.fold].add(run.test.images)
        groups = {DATA.images[i].group for i in run.test.images}
        split = get_split(CONDITIONS, run.spec.seed, run.spec.fold)
        assert not groups & {DATA.images[i].group for i in (*split.train, *split.val)}
    assert len(scored) >= 2 * 3  # three finalists, two seeds at least
    assert all(sorted(images) == list(range(12)) for images in scored.values())
    assert all(len(images) == 1 for images in shared.values())  # paired: the same for all finalists
    assert Counter(run.spec.seed for run in runs)[derive_confirmation_seed(0, 0)] == 3 * 3


@pytest.mark.parametrize("left", [16, 13, 7, 3])
def test_a_resume_finishes_an_interrupted_rotation_without_repeating_folds(left: int) -> None:
    uncut = train(faking.new_study(), executor := faking.FakeExecutor(train_fold))
    study = faking.new_study()
    with pytest.raises(faking.CrashError):
        train(study, faking.FakeExecutor(train_fold, crash_after=executor.ended - left))
    assert 0 < len(list_extra_results(study, "confirm")) < len(uncut)
    assert [r.spec for r in train(study)] == [r.spec for r in uncut]


def test_a_failed_fold_excludes_its_seed_and_is_a_reason() -> None:
    def train_one(spec: TrialSpec) -> TrialResult:
        if spec.purpose == "confirm" and spec.family == "dice" and spec.fold == 1:
            return builders.failed_trial("dice", spec=spec)
        return train_fold(spec)

    study = faking.new_study()
    faking.train(study, faking.FakeExecutor(train_one), plan=PLAN)
    conclusion = draw_conclusion(faking.record_sweep(study, PLAN))
    assert "dice" not in {f.family for f in conclusion.evidence.finalists}
    assert conclusion.answer.find("MISSING").values == {"loss": "dice"}


@pytest.mark.slow
def test_every_output_says_that_the_images_were_not_held_out(tmp_path: Path) -> None:
    """Of a small real sweep with three folds, cut off amid its confirmation and resumed."""
    with pytest.raises(InterruptedSweepError):
        run_small_sweep(tmp_path, cut := Recorder(stop_after=9), **CONFIRM)
    assert 0 < sum(result.spec.purpose == "confirm" for result in cut.results) < 12
    options: dict[str, Any] = {"trials": 4, "steps": None, "confirm_steps": None, "data": None}
    outcome = run_small_sweep(tmp_path, display := Recorder(), figures=True, resume=True, **options)
    text = outcome.paths.markdown.read_text("utf-8")
    assert "Not held out: the search saw these images." in text
    assert "the search never saw" not in text and "test split" not in text
    document = json.loads(outcome.paths.recommendation.read_text("utf-8"))
    assert document["held_out"] is False and document["folds"] == 3
    assert len(document["losses"][0]["mlflow_run_ids"]) == 6 and document["losses"][0]["seeds"] == 2
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    parent = client.get_run(outcome.sweep.parent_run_id or "")
    assert parent.data.tags["sweeper.held_out"] == "false" and "Not held out" in parent.data.tags["mlflow.note.content"]
    assert any("not held out" in warning for warning in display.warnings)
    assert any("each a rotation over 3 folds" in line for line in display.lines)
