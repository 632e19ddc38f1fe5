"""Levels of configurations: estimated from all trainings, shrunk by luck, calibrated where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from sweeper.core.records import TrialResult
from sweeper.study.levels import FAMILY_SPREAD, NOISE, SPREAD, estimate_levels, estimate_noise
from tests.support import builders

STEPS = 200


def make_training(family: str, mix: float, value: float, seed: int = 0, steps: int = STEPS) -> TrialResult:
    spec = builders.spec(family, params={"mix": mix}, seed=seed, steps=steps)
    return builders.trial(family, value, spec=spec, evaluations=())


def test_a_single_value_is_shrunk_towards_its_family_and_several_are_shrunk_less() -> None:
    base = [make_training("focal", 0.0, 0.5, seed) for seed in range(4)]
    once = estimate_levels([*base, make_training("dice", 0.0, 0.6)], STEPS)
    often = estimate_levels([*base, *(make_training("dice", 0.0, 0.6, seed) for seed in range(4))], STEPS)
    gaps = [levels.means[1] - levels.means[0] for levels in (once, often)]
    assert 0 < gaps[0] < gaps[1] < 0.1
    assert once.compute_chance(once.losses[1], once.losses[0]) < often.compute_chance(often.losses[1], often.losses[0])


def test_what_a_seed_does_to_all_losses_alike_is_no_level() -> None:
    trainings = [make_training(name, 0.0, 0.5 + 0.2 * seed, seed) for seed in range(3) for name in ("dice", "focal")]
    alone = make_training("tversky", 0.0, 0.9, seed=2)  # high only as everything is on this seed
    levels = estimate_levels([*trainings, alone], STEPS)
    assert np.ptp(levels.means) < 0.002


def test_the_noise_is_that_of_the_pairs() -> None:
    rng = np.random.default_rng(0)

    def estimate(deviation: float) -> float:
        values = rng.normal(0.5, deviation, (2, 40))
        rows = zip(("dice", "focal"), values, strict=True)
        return estimate_noise([make_training(name, 0.0, float(v), s) for name, row in rows for s, v in enumerate(row)])

    assert estimate_noise([make_training("dice", 0.0, 0.5)]) == pytest.approx(NOISE)
    assert estimate(0.005) < 0.009 and estimate(0.05) > 0.035


def test_levels_are_nearer_to_the_truth_than_values_and_their_chances_are_calibrated() -> None:
    """Twelve configurations of three families in a search of one seed; one of each family on four further seeds."""
    rng, errors, chances, hits = np.random.default_rng(1), [], [], []
    for _ in range(150):
        truth = 0.6 + np.repeat(FAMILY_SPREAD * rng.standard_normal(3), 4) + SPREAD * rng.standard_normal(12)
        drawn = {(k, 0): truth[k] for k in range(12)} | {(k, s): truth[k] for k in (0, 4, 8) for s in range(1, 5)}
        luck = rng.normal(0, 0.05, 5)
        values = {at: float(value + luck[at[1]] + rng.normal(0, NOISE)) for at, value in drawn.items()}
        trainings = [make_training("abc"[k // 4], float(k), value, seed) for (k, seed), value in values.items()]
        levels = estimate_levels(trainings, STEPS)
        order = [int(dict(loss[1])["mix"]) for loss in levels.losses]  # type: ignore[call-overload]
        true, raw = truth[order], np.array([values[k, 0] for k in order])
        centred = [x - x.mean() - (true - true.mean()) for x in (levels.means, raw)]
        errors.append([float(np.mean(x**2)) for x in centred])
        for i, j in ((0, 1), (1, 5), (4, 9)):
            first, second = levels.losses[i], levels.losses[j]
            chances.append(levels.compute_chance(first, second))
            hits.append(true[i] > true[j])
    mine, single = np.mean(errors, axis=0)
    assert mine < 0.75 * single
    chance, hit = np.array(chances), np.array(hits)
    assert np.mean(hit[chance > 0.8]) == pytest.approx(np.mean(chance[chance > 0.8]), abs=0.08)
    assert np.mean(hit[chance < 0.2]) == pytest.approx(np.mean(chance[chance < 0.2]), abs=0.08)


def test_without_a_complete_training_there_is_no_level() -> None:
    levels = estimate_levels([make_training("dice", 0.0, 0.5).model_copy(update={"state": "pruned"})], STEPS)
    assert levels.losses == ()
