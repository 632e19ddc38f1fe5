"""Logits, labels and maps that do not fit are refused with a remedy, or warned of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sweeper.core.errors import LossError
from sweeper.losses import build_loss
from sweeper.losses.loss_module import CHECKED_BATCHES
from tests.support.loss_cases import draw_batch, make_loss


def make_labels(*values: int, dtype: torch.dtype = torch.long) -> torch.Tensor:
    """Return a target (2, 8, 8) in which these values occur."""
    target = torch.zeros(2, 8, 8, dtype=dtype)
    target.flatten()[: len(values)] = torch.tensor(values).to(dtype)
    return target


@pytest.mark.parametrize(
    ("task", "ignore", "target", "words"),
    [
        ("binary", 255, make_labels(0, 1, 2), ["must be 0, 1 or 255", "got 2", "labels begin at 0"]),
        ("binary", -100, make_labels(0, 255), ["got 255", "(target > 0).long()"]),
        ("binary", 255, make_labels(0, 1, -100), ["got -100", "ignore_index=-100"]),
        ("multiclass", 255, make_labels(0, 3), ["must be 0 … 2 or 255", "got 3"]),
        ("multiclass", -100, make_labels(0, 2, 255), ["got 255", "ignore_index=255"]),
        ("multiclass", 255, make_labels(-1), ["got -1", "ignore_index=-1"]),
    ],
)
def test_labels_outside_the_classes_are_refused(task, ignore, target, words):
    logits, _ = draw_batch(task)
    with pytest.raises(LossError) as caught:
        build_loss("focal", task=task, ignore_index=ignore)(logits, target)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_probable_mask_of_0_and_255_is_warned_of_once():
    logits, _ = draw_batch("binary")
    loss = build_loss("dice", task="binary")
    with pytest.warns(UserWarning, match=r"255 is the foreground of these masks.*\(target > 0\)\.long"):
        for _ in range(CHECKED_BATCHES):
            loss(logits, make_labels(0, 255))
    loss(logits, make_labels(0, 255))  # a warning would be an error here


@pytest.mark.parametrize(
    "target", [make_labels(0, 1, 255), make_labels(0), make_labels(1, 1), make_labels(1, dtype=torch.bool)]
)
def test_right_labels_are_accepted_without_warning(target):
    logits, _ = draw_batch("binary")
    loss = build_loss("dice", task="binary")
    loss(logits, target)
    for _ in range(CHECKED_BATCHES):  # a warning would be an error here
        loss(logits, make_labels(0, 255) if 1 in target else make_labels(0))


def test_labels_are_checked_only_in_the_first_batches_unless_switched_off():
    logits, _ = draw_batch("binary")
    loss = build_loss("dice", task="binary")
    for _ in range(CHECKED_BATCHES):
        loss(logits, make_labels(0, 1))
    assert loss(logits, make_labels(0, 1, 2)).isfinite()
    for family in ("dice", "logit_adjusted"):  # the second calls the first
        unchecked = make_loss(family, "binary")
        unchecked.checks_labels = False
        assert unchecked(logits, make_labels(0, 1, 2)).isfinite()


@pytest.mark.parametrize(
    ("task", "logits", "target", "words"),
    [
        ("binary", (2, 3, 4, 4), (2, 4, 4), ["(N, 1, H, W) or (N, 2, H, W)", "(2, 3, 4, 4)"]),
        ("binary", (2, 1, 4, 4), (2, 8, 8), ["(N, H, W) = (2, 4, 4)", "resize the logits"]),
        ("binary", (2, 2, 4, 4), (2, 8, 8), ["(N, H, W) = (2, 4, 4) to go with logits (2, 2, 4, 4)"]),
        ("binary", (2, 2, 4, 4), (2, 2, 4, 4), ["(2, 2, 4, 4) like the logits", "target.argmax(1)"]),
        ("multiclass", (2, 1, 4, 4), (2, 4, 4), ["C ≥ 2"]),
        ("multiclass", (2, 4, 4, 4), (2, 4, 4), ["(3)", "got 4"]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(task, logits, target, words):
    weighting = {"class_weight_power": 1.0} if task == "multiclass" else {}
    loss = build_loss("dice_ce", task=task, class_frequencies=(0.9, 0.07, 0.03), **weighting)
    with pytest.raises(LossError) as caught:
        loss(torch.zeros(logits), torch.zeros(target, dtype=torch.long))
    for word in words:
        assert word in str(caught.value)


def test_types_that_do_not_fit_are_refused_with_a_remedy():
    loss = build_loss("dice", task="binary")
    logits, target = draw_batch("binary")
    for output, mask, words in (
        ({"out": 1, "aux": 2}, target, ["got dict", 'output["out"]']),
        (SimpleNamespace(logits=1), target, ["got SimpleNamespace", "output.logits"]),
        (logits, target.numpy(), ["torch.as_tensor"]),
        (logits, target.float(), ["target.long"]),
        (target.unsqueeze(1), target, ["floating point"]),
        (logits.expand(-1, 2, -1, -1) > 0, target, ["floating point, got torch.bool"]),
        (logits[..., None, None], target, ["must have shape (N, 1, H, W)", "volumes have an axis D before H"]),
    ):
        with pytest.raises(LossError) as caught:
            loss(output, mask)
        assert all(word in str(caught.value) for word in words), caught.value
    with pytest.raises(LossError, match=r"target\.argmax\(1\)"):
        build_loss("dice", task="multiclass")(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8).long())
    with pytest.raises(LossError, match="distance must have the shape"):
        build_loss("boundary", task="binary")(logits, target, distance=torch.ones_like(target))
