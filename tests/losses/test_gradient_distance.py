"""How far the gradients of two losses are apart: names of one function are close, different losses are not."""

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


def labels(task: Task, share: float = 0.05) -> np.ndarray:
    """(4, 32, 32) with some pixels unlabelled."""
    rng = np.random.default_rng(0)
    classes = 2 if task == "binary" else 3
    found = rng.choice(classes, size=(4, 32, 32), p=[1 - share * (classes - 1), *[share] * (classes - 1)])
    found[rng.random(found.shape) < 0.02] = 255
    return found.astype(np.uint8)


def distance(task: Task, first: ComparedLoss, second: ComparedLoss, share: float = 0.05) -> float:
    drawn = labels(task, share)
    pixels = np.bincount(drawn[drawn != 255].ravel(), minlength=2).tolist()
    return measure_gradient_distances([(first, second)], drawn, task, pixels)[0]


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
def test_names_of_one_function_are_close(task: Task, first: ComparedLoss, second: ComparedLoss) -> None:
    assert distance(task, first, second) <= CLOSE


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
def test_different_losses_are_not(task: Task, first: ComparedLoss, second: ComparedLoss) -> None:
    assert distance(task, first, second) > CLOSE


def test_at_which_mix_a_part_no_longer_counts_depends_on_the_labels() -> None:
    nearly = ComparedLoss("dice_ce", {"mix": 0.998, "pos_weight": 1.0}), ComparedLoss("cross_entropy", {})
    assert distance("binary", *nearly, share=0.5) < distance("binary", *nearly, share=0.01)


def test_what_cannot_be_built_or_needs_more_than_labels_is_the_same_as_nothing() -> None:
    assert (
        distance("binary", ComparedLoss("weighted_ce", {"pos_weight": -1.0}), ComparedLoss("cross_entropy", {}))
        == math.inf
    )
    assert distance("binary", ComparedLoss("boundary", {}), ComparedLoss("dice", {})) == math.inf


def test_pairs_that_some_components_show_to_be_apart_are_not_measured_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the 36 families of a full space each gradient would be computed again for each pair."""
    ours, drawn, computed = gradient_distance.build_loss, labels("multiclass"), []

    def counted(family: str, **options: Any) -> torch.nn.Module:
        computed.append(family)
        return ours(family, **options)

    monkeypatch.setattr(gradient_distance, "build_loss", counted)
    losses = [ComparedLoss("tversky", {"fn_weight": w}) for w in (0.3, 0.502, 0.7, 0.9)]
    losses += [ComparedLoss(name, {}) for name in ("cross_entropy", "jaccard", "lovasz")]
    pairs = [(one, ComparedLoss("dice", {})) for one in losses]
    pixels = [3000, 200, 200]
    exact = measure_gradient_distances(pairs, drawn, "multiclass", pixels)
    assert len(computed) > 3 * (len(losses) + 1)
    computed.clear()
    found = measure_gradient_distances(pairs, drawn, "multiclass", pixels, enough=CLOSE)
    near = [distance <= CLOSE for distance in exact]
    assert [distance <= CLOSE for distance in found] == near and sum(near) == 1
    assert all(a == b if close else a <= b for a, b, close in zip(found, exact, near, strict=True))
    assert len(computed) < 3 * (len(losses) + 1)  # one stage of most
