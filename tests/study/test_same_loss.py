"""Losses that are another name for a simpler one are not compared with it."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweeper.core.records import Collapse, Conditions, Task
from sweeper.losses import gradient_distance
from sweeper.losses.gradient_distance import Loss, gradient_distances
from sweeper.space import load_space
from sweeper.study.same_loss import CLOSE, Question, as_they_are, same_losses
from tests.support import builders

SPACES = {"binary": load_space("binary", "binary"), "multiclass": load_space("multiclass", "multiclass")}


def labels(task: Task, share: float = 0.05) -> np.ndarray:
    """(4, 32, 32) with some pixels unlabelled."""
    rng = np.random.default_rng(0)
    classes = 2 if task == "binary" else 3
    found = rng.choice(classes, size=(4, 32, 32), p=[1 - share * (classes - 1), *[share] * (classes - 1)])
    found[rng.random(found.shape) < 0.02] = 255
    return found.astype(np.uint8)


def distance(task: Task, first: Loss, second: Loss, share: float = 0.05) -> float:
    drawn = labels(task, share)
    pixels = np.bincount(drawn[drawn != 255].ravel(), minlength=2).tolist()
    return gradient_distances([(first, second)], drawn, task, pixels)[0]


@pytest.mark.parametrize(
    ("task", "first", "second"),
    [
        ("binary", Loss("weighted_ce", {"pos_weight": 1.0}), Loss("cross_entropy", {})),
        ("binary", Loss("weighted_ce", {"pos_weight": 1.007}), Loss("cross_entropy", {})),
        ("binary", Loss("focal", {"gamma": 0.0, "alpha": 0.5}), Loss("cross_entropy", {})),
        ("binary", Loss("focal", {"gamma": 0.0, "alpha": 0.8}), Loss("weighted_ce", {"pos_weight": 4.0})),
        ("binary", Loss("tversky", {"fn_weight": 0.5}), Loss("dice", {})),
        ("binary", Loss("dice_ce", {"mix": 1.0, "pos_weight": 3.0}), Loss("weighted_ce", {"pos_weight": 3.0})),
        ("binary", Loss("dice_ce", {"mix": 0.0, "pos_weight": 3.0}), Loss("dice", {})),
        ("binary", Loss("dice_focal", {"mix": 0.5, "gamma": 0.0}), Loss("dice_ce", {"mix": 0.5, "pos_weight": 1.0})),
        ("multiclass", Loss("weighted_ce", {"class_weight_power": 0.0}), Loss("cross_entropy", {})),
        ("multiclass", Loss("tversky", {"fn_weight": 0.5}), Loss("dice", {})),
        ("multiclass", Loss("focal", {"gamma": 0.0, "alpha": 0.5}), Loss("cross_entropy", {})),
    ],
)
def test_names_of_one_function_are_close(task: Task, first: Loss, second: Loss) -> None:
    assert distance(task, first, second) <= CLOSE


@pytest.mark.parametrize(
    ("task", "first", "second"),
    [
        ("binary", Loss("weighted_ce", {"pos_weight": 1.2}), Loss("cross_entropy", {})),
        ("binary", Loss("focal", {"gamma": 0.3, "alpha": 0.5}), Loss("cross_entropy", {})),
        ("binary", Loss("tversky", {"fn_weight": 0.6}), Loss("dice", {})),
        ("binary", Loss("dice_ce", {"mix": 0.9, "pos_weight": 1.0}), Loss("cross_entropy", {})),
        (
            "binary",
            Loss("tversky", {"fn_weight": 0.5, "overlap_exponent": 2.0}),
            Loss("dice", {}),
        ),  # one direction, but another length at each stage
        ("binary", Loss("dice", {}), Loss("cross_entropy", {})),
        ("multiclass", Loss("weighted_ce", {"class_weight_power": 0.2}), Loss("cross_entropy", {})),
    ],
)
def test_different_losses_are_not(task: Task, first: Loss, second: Loss) -> None:
    assert distance(task, first, second) > CLOSE


def test_at_which_mix_a_part_no_longer_counts_depends_on_the_labels() -> None:
    nearly = Loss("dice_ce", {"mix": 0.998, "pos_weight": 1.0}), Loss("cross_entropy", {})
    assert distance("binary", *nearly, share=0.5) < distance("binary", *nearly, share=0.01)


def test_what_cannot_be_built_or_needs_more_than_labels_is_the_same_as_nothing() -> None:
    assert distance("binary", Loss("weighted_ce", {"pos_weight": -1.0}), Loss("cross_entropy", {})) == math.inf
    assert distance("binary", Loss("boundary", {}), Loss("dice", {})) == math.inf


MEASURE = """
import sys
from pathlib import Path
from sweeper.data import load_dataset
from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions
from sweeper.study.same_loss import Question, measured

if __name__ == "__main__":
    data = load_dataset("synthetic:cracks?images=15&size=64&foreground=0.05", Path(sys.argv[1]), lambda line: None)
    questions = [
        Question(1, "weighted_ce", {"pos_weight": 1.007}, "cross_entropy", {}),
        Question(2, "weighted_ce", {"pos_weight": 30.0}, "cross_entropy", {}),
    ]
    print(*measured(questions, Conditions(dataset=data, recipe=Recipe(), seed=0)))
    assert "torch" not in sys.modules
"""


@pytest.mark.slow
def test_the_parent_process_measures_in_another_and_loads_no_torch(tmp_path: Path) -> None:
    script = tmp_path / "measure.py"
    script.write_text(MEASURE)
    run = subprocess.run([sys.executable, script, tmp_path / "cache"], capture_output=True, text=True, check=True)
    same, other = (float(word) for word in run.stdout.split())
    assert same <= CLOSE < 0.1 < other


# --- trials ---

CONDITIONS = builders.conditions()


def by_closeness(close: set[tuple[str, str]]) -> object:
    def measure(questions: Sequence[Question], conditions: Conditions) -> list[float]:
        return [0.004 if (q.family, q.is_family) in close else 0.5 for q in questions]

    return measure


def test_a_trial_counts_as_the_simplest_family_that_it_is() -> None:
    trials = [
        builders.trial("cross_entropy", 0.5, 0),
        builders.trial("weighted_ce", 0.6, 1, spec=builders.spec("weighted_ce", 1, params={"pos_weight": 1.007})),
        builders.trial("dice_ce", 0.6, 2, spec=builders.spec("dice_ce", 2, params={"mix": 1.0, "pos_weight": 1.0})),
        builders.trial("dice_ce", 0.6, 3, spec=builders.spec("dice_ce", 3, params={"mix": 0.3, "pos_weight": 5.0})),
    ]
    close = {("weighted_ce", "cross_entropy"), ("dice_ce", "weighted_ce"), ("dice_ce", "cross_entropy")}
    measure = by_closeness(close)
    found = same_losses(trials[:3], SPACES["binary"], CONDITIONS, measure)  # type: ignore[arg-type]
    assert found.trials == 3
    assert [(s.trial, s.family, s.is_family, s.is_params) for s in found.found] == [
        (1, "weighted_ce", "cross_entropy", {}),
        (2, "dice_ce", "cross_entropy", {}),
    ]
    named = as_they_are(trials, found.found)
    assert [t.spec.family for t in named] == ["cross_entropy", "cross_entropy", "cross_entropy", "dice_ce"]
    assert named[1].spec.params == {} and named[1].spec.lr == trials[1].spec.lr and named[1].value == trials[1].value


def test_simpler_losses_take_over_the_coordinates_that_they_know() -> None:
    asked: list[Question] = []

    def measure(questions: Sequence[Question], conditions: Conditions) -> list[float]:
        asked.extend(questions)
        return [1.0] * len(questions)

    trials = [
        builders.trial("focal", 0.6, 1, spec=builders.spec("focal", 1, params={"gamma": 0.1, "alpha": 0.75})),
        builders.trial("dice_focal", 0.6, 2, spec=builders.spec("dice_focal", 2, params={"mix": 0.9, "gamma": 1.0})),
    ]
    assert same_losses(trials, SPACES["binary"], CONDITIONS, measure).found == ()
    of = {(q.trial, q.is_family): q.is_params for q in asked}
    assert of[1, "weighted_ce"] == {"pos_weight": pytest.approx(3.0)}
    assert of[1, "cross_entropy"] == {}
    assert of[2, "focal"] == {"gamma": 1.0, "alpha": 0.5}
    assert of[2, "dice_ce"] == {"mix": 0.9, "pos_weight": 1.0}
    assert (1, "dice") not in of  # less simple than focal


def test_stopped_and_diverged_trials_are_left_alone() -> None:
    def never(questions: Sequence[Question], conditions: Conditions) -> list[float]:
        raise AssertionError("nothing is to be measured")

    trials = [
        builders.trial(
            "weighted_ce", 0.6, 1, spec=builders.spec("weighted_ce", 1, params={"pos_weight": 1.0}), state="pruned"
        ),
        builders.trial(
            "weighted_ce",
            0.0,
            2,
            spec=builders.spec("weighted_ce", 2, params={"pos_weight": 1.0}),
            collapse=Collapse.DIVERGED,
        ),
    ]
    assert same_losses(trials, SPACES["binary"], CONDITIONS, never).found == ()


def test_pairs_that_some_components_show_to_be_apart_are_not_measured_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the 36 families of a full space each gradient would be computed again for each pair."""
    ours, drawn, computed = gradient_distance._gradient, labels("multiclass"), []

    def counted(loss: Loss, *args: Any) -> torch.Tensor | None:
        computed.append(loss)
        return ours(loss, *args)

    monkeypatch.setattr(gradient_distance, "_gradient", counted)
    losses = [Loss("tversky", {"fn_weight": w}) for w in (0.3, 0.502, 0.7, 0.9)]
    losses += [Loss(name, {}) for name in ("cross_entropy", "jaccard", "lovasz")]
    pairs = [(one, Loss("dice", {})) for one in losses]
    pixels = [3000, 200, 200]
    exact = gradient_distances(pairs, drawn, "multiclass", pixels)
    assert len(computed) > 3 * (len(losses) + 1)
    computed.clear()
    found = gradient_distances(pairs, drawn, "multiclass", pixels, enough=CLOSE)
    near = [distance <= CLOSE for distance in exact]
    assert [distance <= CLOSE for distance in found] == near and sum(near) == 1
    assert all(a == b if close else a <= b for a, b, close in zip(found, exact, near, strict=True))
    assert len(computed) < 3 * (len(losses) + 1)  # one stage of most
