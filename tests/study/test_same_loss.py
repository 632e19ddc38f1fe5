"""Losses that equal a simpler loss under another name are not compared with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sweeper.core.records import Collapse, Conditions
from sweeper.space import load_space
from sweeper.study.same_loss import CLOSE, EquivalenceQuestion, find_equivalent_losses, relabel_equivalent_trials
from tests.support import builders

SPACE = load_space("binary", "binary")

MEASURE = """
import sys
from pathlib import Path
from sweeper.data import load_dataset
from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions
from sweeper.study.same_loss import EquivalenceQuestion, measure_loss_distances

if __name__ == "__main__":
    data = load_dataset("synthetic:cracks?images=15&size=64&foreground=0.05", Path(sys.argv[1]), lambda line: None)
    questions = [
        EquivalenceQuestion(1, "weighted_ce", {"pos_weight": 1.007}, "cross_entropy", {}),
        EquivalenceQuestion(2, "weighted_ce", {"pos_weight": 30.0}, "cross_entropy", {}),
    ]
    print(*measure_loss_distances(questions, Conditions(dataset=data, recipe=Recipe(), seed=0)))
    assert "torch" not in sys.modules
"""


@pytest.mark.slow
def test_losses_are_measured_in_a_child_process_without_torch_in_the_parent(tmp_path: Path) -> None:
    script = tmp_path / "measure.py"
    script.write_text(MEASURE)
    run = subprocess.run([sys.executable, script, tmp_path / "cache"], capture_output=True, text=True, check=True)
    same, other = (float(word) for word in run.stdout.split())
    assert same <= CLOSE < 0.1 < other


CONDITIONS = builders.conditions()


def measure_by_closeness(close: set[tuple[str, str]]) -> object:
    def measure(questions: Sequence[EquivalenceQuestion], conditions: Conditions) -> list[float]:
        return [0.004 if (q.family, q.is_family) in close else 0.5 for q in questions]

    return measure


def test_a_trial_counts_as_the_simplest_family_with_equal_gradients() -> None:
    trials = [
        builders.trial("cross_entropy", 0.5, 0),
        builders.trial("weighted_ce", 0.6, 1, spec=builders.spec("weighted_ce", 1, params={"pos_weight": 1.007})),
        builders.trial("dice_ce", 0.6, 2, spec=builders.spec("dice_ce", 2, params={"mix": 1.0, "pos_weight": 1.0})),
        builders.trial("dice_ce", 0.6, 3, spec=builders.spec("dice_ce", 3, params={"mix": 0.3, "pos_weight": 5.0})),
    ]
    close = {("weighted_ce", "cross_entropy"), ("dice_ce", "weighted_ce"), ("dice_ce", "cross_entropy")}
    measure = measure_by_closeness(close)
    same = find_equivalent_losses(trials[:3], SPACE, CONDITIONS, measure)
    assert same.trials == 3
    assert [(s.trial, s.family, s.is_family, s.is_params) for s in same.found] == [
        (1, "weighted_ce", "cross_entropy", {}),
        (2, "dice_ce", "cross_entropy", {}),
    ]
    relabelled = relabel_equivalent_trials(trials, same.found)
    assert [t.spec.family for t in relabelled] == ["cross_entropy", "cross_entropy", "cross_entropy", "dice_ce"]
    assert (relabelled[1].spec.params, relabelled[1].spec.lr) == ({}, trials[1].spec.lr)
    assert relabelled[1].value == trials[1].value


def test_a_simpler_loss_keeps_the_parameters_that_it_has() -> None:
    measured: list[EquivalenceQuestion] = []

    def measure(questions: Sequence[EquivalenceQuestion], conditions: Conditions) -> list[float]:
        measured.extend(questions)
        return [1.0] * len(questions)

    trials = [
        builders.trial("focal", 0.6, 1, spec=builders.spec("focal", 1, params={"gamma": 0.1, "alpha": 0.75})),
        builders.trial("dice_focal", 0.6, 2, spec=builders.spec("dice_focal", 2, params={"mix": 0.9, "gamma": 1.0})),
    ]
    assert find_equivalent_losses(trials, SPACE, CONDITIONS, measure).found == ()
    params = {(q.trial, q.is_family): q.is_params for q in measured}
    assert params[1, "weighted_ce"] == {"pos_weight": pytest.approx(3.0)}
    assert params[1, "cross_entropy"] == {}
    assert params[2, "focal"] == {"gamma": 1.0, "alpha": 0.5}
    assert params[2, "dice_ce"] == {"mix": 0.9, "pos_weight": 1.0}
    assert (1, "dice") not in params  # less simple than focal


def test_stopped_and_diverged_trials_are_not_measured() -> None:
    def fail_to_measure(questions: Sequence[EquivalenceQuestion], conditions: Conditions) -> list[float]:
        raise AssertionError("nothing is to be measured")

    one, two = (builders.spec("weighted_ce", number, params={"pos_weight": 1.0}) for number in (1, 2))
    trials = [
        builders.trial("weighted_ce", 0.6, 1, spec=one, state="pruned"),
        builders.trial("weighted_ce", 0.0, 2, spec=two, collapse=Collapse.DIVERGED),
    ]
    assert find_equivalent_losses(trials, SPACE, CONDITIONS, fail_to_measure).found == ()
