"""Whether the search's steps and trials sufficed."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.evidence.search_analysis import describe_search, estimate_expected_gain
from tests.support.builders import curve, diverged, evaluation, failed_trial, spec, trial


def test_still_rising_curves_are_counted() -> None:
    flat = [trial("dice", 0.7, n, evaluations=curve(0.7)) for n in range(3)]
    rising = [trial("focal", 0.7, n + 3, evaluations=curve(0.7, rise=0.03)) for n in range(5)]
    sentence = describe_search(flat + rising, 0.01, "mIoU")[0]
    assert "5 of 8 complete search trainings still gained more than 0.01 validation mIoU" in sentence
    assert "the budget ends before the losses do" in sentence
    sentence = describe_search(flat, 0.01, "mIoU")[0]
    assert "0 of 3 complete" in sentence and "had flattened" in sentence


def test_gains_of_the_last_third_are_reported() -> None:
    values = [0.5] * 10 + [0.6] * 4 + [0.65]
    sentence = describe_search([trial("dice", v, n) for n, v in enumerate(values)], 0.01, "mean Dice")[1]
    assert "The last third of the 15 complete trainings raised the best mean Dice by 0.150" in sentence
    assert "more trials may help" in sentence
    assert "hardly help" in describe_search([trial("dice", 0.7, n) for n in range(15)], 0.01, "mIoU")[1]


def test_a_search_with_too_few_complete_trials_is_not_described() -> None:
    diverged_trial = diverged("dice", 0, 1).model_copy(update={"spec": spec("dice", 1)})
    stopped = trial("dice", 0.5, 2).model_copy(update={"state": "pruned"})
    assert describe_search([failed_trial("dice", 0), diverged_trial, stopped], 0.01, "mIoU") == ()
    assert len(describe_search([trial("dice", 0.7)], 0.01, "mIoU")) == 1  # which cannot show what more would bring


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=7))
def test_the_expected_gain_is_that_of_random_halves(values: list[float]) -> None:
    halves = [max(c) for c in combinations(values, len(values) // 2)]
    assert estimate_expected_gain(values) == pytest.approx(max(values) - np.mean(halves), abs=1e-12)


@pytest.mark.parametrize("draw", ["exponential", "normal"])
def test_the_expected_gain_predicts_the_gain_of_as_many_draws(draw: str) -> None:
    rng = np.random.default_rng(0)
    values = getattr(rng, draw)(size=(2000, 80))
    expected = np.mean([estimate_expected_gain(v[:40]) for v in values])
    actual = np.mean(values.max(axis=1) - values[:, :40].max(axis=1))
    assert expected == pytest.approx(actual, rel=0.25) and expected > 0.9 * actual


def test_trainings_that_were_evaluated_once_are_not_called_flat() -> None:
    once = [trial("dice", 0.5 + n / 100, n, evaluations=(evaluation(25, 0.5 + n / 100),)) for n in range(8)]
    (sentence,) = describe_search(once, 0.01, "mIoU")
    assert sentence.startswith("The last third of the 8 complete trainings")
    assert describe_search(once[:1], 0.01, "mIoU") == ()
