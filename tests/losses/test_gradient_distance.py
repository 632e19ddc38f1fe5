"""The distance of the gradients of two losses: small for two names of one function, large for different losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from sweeper.core.records import Task
from sweeper.losses import gradient_distance
from sweeper.losses.gradient_distance import ComparedLoss, measure_gradient_distances
from sweeper.study.same_loss import CLOSE


def draw_masks(task: Task, share: float = 0.05) -> np.ndarray:
    """Return masks (4, 32, 32) with some ignored pixels."""
    rng = np.random.default_rng(0)
    classes = 2 if task == "binary" else 3
    mask = rng.choice(classes, size=(4, 32, 32), p=[1 - share * (classes - 1), *[share] * (classes - 1)])
    mask[rng.random(mask.shape) < 0.02] = 255
    return mask.astype(np.uint8)


def measure_distance(task: Task, first: ComparedLoss, second: ComparedLoss, share: float = 0.05) -> float:
    masks = draw_masks(task, share)
    pixels = np.bincount(masks[masks != 255].ravel(), minlength=2).tolist()
    return measure_gradient_distances([(first, second)], masks, task, pixels)[0]


@pytest.mark.parametrize(
    ("task", "first", "second"),
    [
        ("binary", ComparedLoss("weighted_ce", {"pos_weight": 1.007}), ComparedLoss("cross_entropy", {})),
        (
            "binary",
            ComparedLoss("focal", {"gamma": 0.0, "alpha": 0.8}),
            ComparedLoss("weighted_ce", {"pos_weight": 4.0}),
        ),
        ("binary", ComparedLoss("tversky", {"fn_weight": 0.5}), ComparedLoss("dice", {})),
        (
            "binary",
            ComparedLoss("dice_ce", {"mix": 1.0, "pos_weight": 3.0}),
            ComparedLoss("weighted_ce", {"pos_weight": 3.0}),
        ),
        ("binary", ComparedLoss("dice_ce", {"mix": 0.0, "pos_weight": 3.0}), ComparedLoss("dice", {})),
        (
            "binary",
            ComparedLoss("dice_focal", {"mix": 0.5, "gamma": 0.0}),
            ComparedLoss("dice_ce", {"mix": 0.5, "pos_weight": 1.0}),
        ),
        ("multiclass", ComparedLoss("weighted_ce", {"class_weight_power": 0.0}), ComparedLoss("cross_entropy", {})),
        ("multiclass", ComparedLoss("focal", {"gamma": 0.0, "alpha": 0.5}), ComparedLoss("cross_entropy", {})),
    ],
)
def test_two_names_of_one_function_are_close(task: Task, first: ComparedLoss, second: ComparedLoss) -> None:
    assert measure_distance(task, first, second) <= CLOSE


@pytest.mark.parametrize(
    ("task", "first", "second"),
    [
        ("binary", ComparedLoss("weighted_ce", {"pos_weight": 1.2}), ComparedLoss("cross_entropy", {})),
        ("binary", ComparedLoss("focal", {"gamma": 0.3, "alpha": 0.5}), ComparedLoss("cross_entropy", {})),
        ("binary", ComparedLoss("tversky", {"fn_weight": 0.6}), ComparedLoss("dice", {})),
        ("binary", ComparedLoss("dice_ce", {"mix": 0.9, "pos_weight": 1.0}), ComparedLoss("cross_entropy", {})),
        # one direction, but another length at each stage
        ("binary", ComparedLoss("tversky", {"fn_weight": 0.5, "overlap_exponent": 2.0}), ComparedLoss("dice", {})),
        ("multiclass", ComparedLoss("weighted_ce", {"class_weight_power": 0.2}), ComparedLoss("cross_entropy", {})),
    ],
)
def test_different_losses_are_not_close(task: Task, first: ComparedLoss, second: ComparedLoss) -> None:
    assert measure_distance(task, first, second) > CLOSE


def test_the_effect_of_a_small_part_of_a_mix_depends_on_the_labels() -> None:
    nearly = ComparedLoss("dice_ce", {"mix": 0.998, "pos_weight": 1.0}), ComparedLoss("cross_entropy", {})
    assert measure_distance("binary", *nearly, share=0.5) < measure_distance("binary", *nearly, share=0.01)


def test_a_loss_that_cannot_be_computed_has_an_infinite_distance() -> None:
    assert (
        measure_distance("binary", ComparedLoss("weighted_ce", {"pos_weight": -1.0}), ComparedLoss("cross_entropy", {}))
        == math.inf
    )
    assert measure_distance("binary", ComparedLoss("boundary", {}), ComparedLoss("dice", {})) == math.inf


def test_pairs_that_differ_at_one_stage_are_not_measured_at_all_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the 36 families of a full space each gradient would be computed again for each pair."""
    build, masks, computed = gradient_distance.build_loss, draw_masks("multiclass"), []

    def count_losses(family: str, **options: Any) -> torch.nn.Module:
        computed.append(family)
        return build(family, **options)

    monkeypatch.setattr(gradient_distance, "build_loss", count_losses)
    losses = [ComparedLoss("tversky", {"fn_weight": w}) for w in (0.3, 0.502, 0.7, 0.9)]
    losses += [ComparedLoss(name, {}) for name in ("cross_entropy", "jaccard", "lovasz")]
    pairs = [(one, ComparedLoss("dice", {})) for one in losses]
    pixels = [3000, 200, 200]
    exact = measure_gradient_distances(pairs, masks, "multiclass", pixels)
    assert len(computed) > 3 * (len(losses) + 1)
    computed.clear()
    bounded = measure_gradient_distances(pairs, masks, "multiclass", pixels, enough=CLOSE)
    near = [distance <= CLOSE for distance in exact]
    assert [distance <= CLOSE for distance in bounded] == near and sum(near) == 1
    assert all(a == b if close else a <= b for a, b, close in zip(bounded, exact, near, strict=True))
    assert len(computed) < 3 * (len(losses) + 1)  # one stage of most
