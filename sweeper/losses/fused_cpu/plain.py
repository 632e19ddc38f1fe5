"""The same sums in plain operations of torch: on other devices, compiled, transformed, and for second derivatives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.losses.fused_cpu.sums import Batch, Entropy, Plan, Slopes, Sums
from sweeper.losses.kernel import own_class
from sweeper.losses.per_pixel import averaged, cleaned, focal_factor, placed


def plain_sums(batch: Batch, plan: Plan, *, softmax: bool) -> Sums:
    """What `class_sums` gives, differentiable as often as one likes; shapes and meaning as there.

    Labels that are no class are not looked for.
    """
    return _softmax_sums(batch, plan) if softmax else _sigmoid_sums(batch, plan)


def differentiable_gradient(batch: Batch, plan: Plan, slopes: Slopes, *, softmax: bool) -> Tensor | None:
    """Gradient of the sums in the logits, itself differentiable in logits and slopes.

    Args:
        batch: as for `class_sums`; the logits as they came into the forward pass, with their history.
        plan: what the forward pass found.
        slopes: of the result in cross-entropy, false positives and false negatives; None = 0.
        softmax: whether classes exclude each other.

    Returns:
        Shaped as the logits; None where every slope is None.
    """
    with torch.enable_grad():
        found = plain_sums(batch, plan, softmax=softmax)[:3]
        pairs = [(f, s) for f, s in zip(found, slopes, strict=True) if s is not None and f.requires_grad]
        if not pairs:
            return None
        values, given = zip(*pairs, strict=True)
        (gradient,) = torch.autograd.grad(values, batch.logits, given, create_graph=True)
    return gradient


def _softmax_sums(batch: Batch, plan: Plan) -> Sums:
    logits, target, weight, factor = batch
    labels = target.long()
    labelled = labels != plan.ignore_index
    z = cleaned(logits, labelled.unsqueeze(1)).contiguous()
    index = torch.where(labelled, labels, 0)
    entropy, p = z.new_zeros(()), None
    if plan.entropy is not None:
        log_p = F.log_softmax(z, dim=1)
        loss = -own_class(log_p, index)
        if any(plan.entropy.gammas):
            loss = loss * focal_factor(loss, _of_class(plan.entropy.gammas, index, loss))
        if set(plan.entropy.weights) != {1.0}:
            loss = loss * _of_class(plan.entropy.weights, index, loss)
        entropy = _average(loss, labelled, plan.entropy, weight, factor)
        p = log_p.exp()
    p = F.softmax(z, dim=1) if p is None else p
    mask = labelled.to(z.dtype) if weight is None else labelled * weight.to(z.dtype)
    own = placed(p, index.unsqueeze(1), mask.unsqueeze(1))
    return _sums(entropy, (p, 1 - p), own, mask.unsqueeze(1), plan)


def _sigmoid_sums(batch: Batch, plan: Plan) -> Sums:
    logits, target, weight, factor = batch
    labels = target.long()
    labelled = labels != plan.ignore_index
    z = cleaned(logits, labelled)
    there = (labels == 1).to(z.dtype)
    absent = labelled.to(z.dtype) - there
    # Everything follows from the logit of being right: p_t = σ(u), 1 − p_t = σ(−u).
    u = z * (there - absent)
    entropy = z.new_zeros(())
    if plan.entropy is not None:
        log_right = F.logsigmoid(u)
        loss = -log_right
        low, high = plan.entropy.gammas
        if low > 0 or high > 0:
            loss = loss * torch.exp((low * absent + high * there) * (log_right - u))  # log σ(−u) = log σ(u) − u
        each = [_of_channel(w, loss) for w in (plan.entropy.absent_weights, plan.entropy.weights)]
        loss = loss * (each[0] * absent + each[1] * there)
        entropy = _average(loss, labelled, plan.entropy, weight, factor)
    mask, own = labelled.to(z.dtype), there
    if weight is not None:
        mask, own = mask * weight, own * weight
    return _sums(entropy, (torch.sigmoid(z), torch.sigmoid(-z)), own, mask, plan)


def _sums(entropy: Tensor, p: tuple[Tensor, Tensor], own: Tensor, mask: Tensor, plan: Plan) -> Sums:
    """From the probabilities of each class and of its absence, and pixel weights where it is and where any label is."""
    others = mask - own
    actual, rest = _mass(own), _mass(others)
    if not plan.overlap:
        return Sums(entropy, torch.zeros_like(actual), torch.zeros_like(actual), actual, rest)
    return Sums(entropy, _mass(p[0] * others), _mass(p[1] * own), actual, rest)


def _mass(values: Tensor) -> Tensor:
    """Sum over the pixels of the batch, (N, C, H, W) → (C,)."""
    return values.sum(dim=(0, 2, 3))


def _average(loss: Tensor, labelled: Tensor, entropy: Entropy, weight: Tensor | None, factor: Tensor | None) -> Tensor:
    loss = loss if factor is None else loss * factor
    return averaged(loss, labelled, entropy.hard_fraction, weight)


def _of_class(values: Sequence[float], index: Tensor, like: Tensor) -> Tensor | float:
    """The number of each pixel's class, without a copy to the device."""
    if len(values) == 1:
        return values[0]
    return torch.stack([value * (index == c).to(like.dtype) for c, value in enumerate(values)]).sum(0)


def _of_channel(values: Sequence[float], like: Tensor) -> Tensor | float:
    """One number for all channels, or (C, 1, 1)."""
    if len(values) == 1:
        return values[0]
    return torch.stack([like.new_full((), value) for value in values]).view(-1, 1, 1)
