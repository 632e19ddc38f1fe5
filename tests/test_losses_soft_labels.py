"""Soft labels: what is taken, what is refused, what is ignored (that they are right: the certificate, and MONAI)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sweeper.core.errors import LossError
from sweeper.losses import build_loss
from tests.loss_cases import IGNORE, channels, noise, value_and_gradient

TASKS = ("binary", "multiclass", "multilabel")
METRICS = ("dice_metric", "jaccard_metric")


def soft(task: Any) -> tuple[torch.Tensor, torch.Tensor]:
    logits, _ = noise(task)
    shares = torch.rand(logits.shape, generator=torch.Generator().manual_seed(0))
    return logits, shares / shares.sum(1, keepdim=True) if task == "multiclass" else shares


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", METRICS)
@pytest.mark.parametrize("mix", [0.0, 0.4])
def test_what_stands_under_ignore_does_not_matter(family: str, task: Any, mix: float) -> None:
    logits, shares = soft(task)
    shares[:, 0, :3] = IGNORE
    loss = build_loss(family, task=task, mix=mix)
    value, gradient = value_and_gradient(loss, logits, shares)
    spoiled = logits.clone()
    spoiled[:, 0 if task == "multilabel" else slice(None), :3] = torch.nan
    weight = torch.ones(2, 8, 8)
    weight[:, :3] = torch.nan if task != "multilabel" else 1.0
    again, slope = value_and_gradient(loss, spoiled, shares, weight=weight)
    assert torch.equal(value, again) and torch.equal(gradient, slope)
    assert (gradient[:, 0, :3] == 0).all() and (gradient[:, :, 3:] != 0).all()
    cut = loss(logits[:, :, 3:], shares[:, :, 3:])
    assert task == "multilabel" or torch.allclose(value, cut)
    nothing, flat = value_and_gradient(loss, logits, torch.full_like(shares, IGNORE))
    assert nothing == 0 and (flat == 0).all()


@pytest.mark.parametrize("task", TASKS)
def test_any_precision_and_any_axes_of_space(task: Any) -> None:
    logits, shares = soft(task)
    loss = build_loss("jaccard_metric", task=task, mix=0.2)
    expected = loss(logits, shares)
    assert expected.dtype == torch.float32
    torch.testing.assert_close(loss(logits.double(), shares).float(), expected)
    torch.testing.assert_close(loss(logits, shares.half()), expected, rtol=1e-3, atol=0)
    assert loss(logits.bfloat16(), shares).dtype == torch.float32
    torch.testing.assert_close(loss(logits.view(2, -1, 64), shares.view(2, -1, 64)), expected)
    turned = logits.mT.contiguous().mT
    torch.testing.assert_close(loss(turned, shares.mT.contiguous().mT), expected)
    if task == "binary":
        torch.testing.assert_close(loss(logits, shares[:, 0]), expected)


@pytest.mark.parametrize("task", TASKS)
def test_what_is_no_share_is_refused(task: Any) -> None:
    logits, shares = soft(task)
    for wrong in (-0.1, 1.5, float("nan")):
        spoiled = shares.clone()
        spoiled[0, 0, 0, 0] = wrong
        with pytest.raises(LossError, match=r"soft labels must lie in \[0, 1\] or be 255"):
            build_loss("dice_metric", task=task)(logits, spoiled)
    loss = build_loss("dice_metric", task=task)
    with pytest.raises(LossError, match="soft labels must have the logits' shape"):
        loss(logits, shares[..., 1:])
    with pytest.raises(LossError, match="weight must be floating point of shape"):
        loss(logits, shares, torch.ones(2, 7, 8))
    with pytest.raises(LossError, match="logits must have shape"):
        loss(torch.zeros(2, channels(task)), torch.zeros(2, channels(task)))
    with pytest.raises(LossError, match="target must be"):
        build_loss("dice", task=task)(logits, shares[:, 0] if task != "multilabel" else shares)
