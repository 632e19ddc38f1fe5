"""What holds of losses beside their formulas (test_formulas.py) and what the certificate tries (test_certify.py)."""

from __future__ import annotations

import pytest
import torch

from sweeper.losses import build_loss
from tests.support.loss_cases import CASES, IGNORE, make, noise, right_logits


def batch(task):
    """float64 logits and labels with some pixels ignored."""
    logits, target = noise(task, size=7)
    target[..., 2:4, 3:] = IGNORE
    return 2 * logits.double(), target


@pytest.mark.parametrize("pos_weight", [0.5, 9.0])
def test_alpha_and_pos_weight_are_one_coordinate(pos_weight):
    logits, target = batch("binary")
    alpha = pos_weight / (1 + pos_weight)
    focal = build_loss("focal", task="binary", gamma=0, alpha=alpha)(logits, target)
    weighted = build_loss("weighted_ce", task="binary", pos_weight=pos_weight)(logits, target)
    torch.testing.assert_close(focal / (1 - alpha), weighted)


def test_softmax_over_background_and_foreground_is_the_sigmoid():
    z, target = batch("binary")
    two = torch.cat([torch.zeros_like(z), z], dim=1)
    for gamma in (0.0, 2.0):
        binary = build_loss("focal", task="binary", gamma=gamma, alpha=None)(z, target)
        softmax = build_loss("focal", task="multiclass", gamma=gamma, alpha=None)(two, target)
        torch.testing.assert_close(binary, softmax)


@pytest.mark.parametrize("family", [name for name, task in CASES if task == "multiclass"])
def test_a_constant_added_to_softmax_logits_changes_nothing(family):
    logits, target = batch("multiclass")
    loss = make(family, "multiclass")
    torch.testing.assert_close(loss(logits + 37.5, target), loss(logits, target))


@pytest.mark.parametrize(("family", "task"), CASES)
def test_better_logits_cost_less(family, task):
    """Moving every labelled pixel's logit towards its label lowers every loss."""
    logits, target = batch(task)
    push = right_logits(task, target, 1.0).double()
    loss = make(family, task)
    values = [loss(logits + amount * push, target).item() for amount in (-1.0, 0.0, 1.0, 30.0)]
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] < 1e-3
