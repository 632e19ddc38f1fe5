"""The softmax form: cross-entropy and class sums in one pass over the logits, their gradient in another.

What is kept between the passes is q = p − y (0 under ignore), and of each pixel a factor k where the slope of its
cross-entropy is not q but k q. The backward pass writes over q.

With o the pixel's own class, ℓ = −log p_o and the focal factor F = (1 − p_o)^γ: dℓ/dz_c = q_c and
d(F ℓ)/dz_c = F (1 + γ ℓ p_o / (1 − p_o)) q_c, where p_o / (1 − p_o) = 1 / expm1(ℓ). Of the overlap with slopes a_c of
false positives and b_c of false negatives, S = Σ_{c≠o} p_c a_c − p_o b_o: p_c (a_c − S), and −p_o (b_o + S) for o.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sweeper.losses.fused_cpu.passes import in_two_passes
from sweeper.losses.fused_cpu.sums import Batch, Entropy, Plan, Slopes, Sums, block_size, hardest, precision_of

BLOCK = 1 << 20
"""Elements worked on at once by a thread: images of usual size whole, which saves copies."""
LOG2_E = 1 / math.log(2)
Place = tuple[slice, slice]
"""Images, and pixels of each."""


class Kept(NamedTuple):
    """What the backward pass needs."""

    error: Tensor | None
    """(N, C, H·W): p − y. None: there is no backward pass."""
    factor: Tensor | None
    """(N, H·W): of each pixel's slope of the cross-entropy part; None = 1."""
    number: float
    """What the cross-entropy was divided by."""


def _places(images: int, classes: int, pixels: int) -> Iterator[Place]:
    """Several images, or runs of pixels of one."""
    size = block_size(BLOCK)
    together, most = max(1, size // (classes * pixels)), max(1, size // classes)
    for first in range(0, images, together):
        for start in range(0, pixels, most):
            yield slice(first, first + together), slice(start, start + most)


class _Labels(NamedTuple):
    """Labels of a block: n images of P pixels each."""

    own: Tensor
    """(n·P,) int64: class; 0 under ignore."""
    places: Tensor
    """(n·P,) int64: where the own class lies in a contiguous (n, C, P) block."""
    known: Tensor | None
    """(n, 1, P) bool: whether there is a label; None: everywhere."""
    number: int
    """Labelled pixels."""


def _labels(target: Tensor, ignore_index: int, classes: int) -> _Labels:
    """From labels (n, P)."""
    own, known, number = target.long(), None, target.numel()
    low, high = (int(x) for x in torch.aminmax(own))
    if low < 0 or high >= classes or 0 <= ignore_index < classes:
        mask = own != ignore_index
        own = torch.where(mask, own, 0)
        low, high = (int(x) for x in torch.aminmax(own))
        if low < 0 or high >= classes:
            raise IndexError(f"Target {low if low < 0 else high} is out of bounds.")  # as torch's cross-entropy says it
        known, number = mask.unsqueeze(1), int(torch.count_nonzero(mask))
    images, pixels = own.shape
    first = torch.arange(images).unsqueeze(1) * (classes * pixels) + torch.arange(pixels)
    return _Labels(own.reshape(-1), first.add_(own, alpha=pixels).view(-1), known, number)


def _block(logits: Tensor, place: Place, precision: torch.dtype, known: Tensor | None) -> Tensor:
    """Logits (N, C, H·W) → contiguous (n, C, P), 0 under ignore."""
    z = logits[place[0], :, place[1]].to(precision).contiguous()
    return z if known is None else torch.where(known, z, 0.0)


def _measure(batch: Batch, plan: Plan) -> tuple[Sums, Kept]:
    logits, target, weight, factor = batch
    classes, precision = logits.shape[1], precision_of(logits)
    z, labels = logits.detach().flatten(2), target.flatten(1)
    weight = None if weight is None else weight.flatten(1)
    factor = None if factor is None else factor.flatten(1)
    images, _, pixels = z.shape
    entropy = plan.entropy
    errors = torch.empty(z.shape, dtype=precision) if plan.keep else None
    factors = losses = None
    if entropy is not None:
        if plan.keep and not (_is_plain(entropy) and weight is None and factor is None):
            factors = torch.empty(labels.shape, dtype=precision)
        if entropy.hard_fraction < 1:
            losses = torch.empty(labels.shape, dtype=precision)
    counts = torch.zeros(4, classes, dtype=torch.float64)  # rows: Σ q, false negatives, actual, labelled
    total, number = 0.0, 0
    for place in _places(images, classes, pixels):
        at = _labels(labels[place], plan.ignore_index, classes)
        number += at.number
        w = None if weight is None else weight[place].reshape(-1)
        block = None if errors is None else errors[place[0], :, place[1]]
        q, surprise = _error(_block(z, place, precision, at.known), at, block)
        if entropy is not None:
            loss, k = _entropy(entropy, surprise, at, w, None if factor is None else factor[place].reshape(-1))
            if losses is None:
                total += float(loss.sum())
            else:
                losses[place] = loss.view(labels[place].shape)
            if factors is not None:
                factors[place] = k.view(labels[place].shape) if isinstance(k, Tensor) else k
        if plan.overlap:
            _count(counts, q, at, w)
        if block is not None and q.data_ptr() != block.data_ptr():
            block.copy_(q)
    divisor = float(max(1, number))
    mean = total / divisor
    if losses is not None and entropy is not None:
        most = hardest(losses, number, entropy.hard_fraction)
        mean, divisor = most.mean, float(most.number)
        if factors is not None:
            factors.mul_(most.chosen(losses))
    marked = (counts[0] + counts[1]).clamp_min(0)  # Σ q = false positives − false negatives
    columns = (row.to(precision) for row in (marked, counts[1], counts[2], counts[3] - counts[2]))
    sums = Sums(torch.tensor(mean, dtype=precision), *columns)
    return sums, Kept(errors, factors, divisor)


def _is_plain(entropy: Entropy) -> bool:
    """Whether every labelled pixel's cross-entropy has weight 1."""
    return not any(entropy.gammas) and set(entropy.weights) == {1.0} and entropy.hard_fraction == 1


def _error(z: Tensor, at: _Labels, into: Tensor | None) -> tuple[Tensor, Tensor]:
    """(n, C, P) p − y, written to `into` where its memory allows, and (n·P,) −log p of the own class."""
    q = torch.sub(
        z, z.amax(1, keepdim=True), out=into if into is not None and into.is_contiguous() else torch.empty_like(z)
    )
    own = q.view(-1).index_select(0, at.places)
    # 2^(x log2 e) takes half of the time of e^x; x is at most 0 and exact where it is small.
    sums = q.mul_(LOG2_E).exp2_().sum(1, keepdim=True)
    surprise = sums.log().view(-1).sub_(own)
    q.mul_(sums.reciprocal_())
    q.view(-1).index_add_(0, at.places, sums.fill_(-1).view(-1))
    if at.known is not None:
        q.mul_(at.known)
    return q, surprise


def _entropy(
    entropy: Entropy, surprise: Tensor, at: _Labels, weight: Tensor | None, factor: Tensor | None
) -> tuple[Tensor, Tensor | float]:
    """(n·P,) loss of each pixel, 0 under ignore, and the factor k of its slope k q."""
    k: Tensor | float = 1.0
    if len(entropy.weights) > 1:
        k = surprise.new_tensor(entropy.weights).index_select(0, at.own)
    elif entropy.weights[0] != 1:
        k = torch.full_like(surprise, entropy.weights[0])
    for more in (None if at.known is None else at.known.reshape(-1), weight, factor):
        if more is not None:
            k = more.to(surprise.dtype) * k
    loss = surprise * k
    if not any(entropy.gammas):
        return loss, k
    gamma = surprise.new_tensor(entropy.gammas)
    power = gamma.index_select(0, at.own) if len(entropy.gammas) > 1 else gamma
    # Kept off p = 1, where (1 − p)^γ has no finite slope and the loss is 0.
    odds = surprise.clamp(min=torch.finfo(surprise.dtype).tiny)
    eased = torch.exp(power * torch.log(-torch.expm1(-odds)))
    return loss * eased, eased * (1 + power * odds / torch.expm1(odds)) * k


def _count(counts: Tensor, q: Tensor, at: _Labels, weight: Tensor | None) -> None:
    images, classes, pixels = q.shape
    wrong = q.view(-1).index_select(0, at.places).neg_()
    if weight is None:
        actual = torch.bincount(at.own, minlength=classes)
        if at.known is not None:
            actual[0] -= at.known.numel() - at.number
        labelled = float(at.number)
    else:
        weight = weight if at.known is None else weight * at.known.reshape(-1)
        q, wrong = q * weight.view(images, 1, pixels), wrong * weight
        actual, labelled = torch.bincount(at.own, weight, classes), float(weight.sum())
    counts[0] += q.sum((0, 2))
    counts[1] += torch.bincount(at.own, wrong, classes)
    counts[2] += actual
    counts[3] += labelled


def _gradient(batch: Batch, plan: Plan, kept: Kept, slopes: Slopes) -> Tensor:
    logits, target, weight, _ = batch
    of_entropy, of_false_positives, of_false_negatives = slopes
    error, factor = kept.error, kept.factor
    assert error is not None
    images, classes, pixels = error.shape
    g = 0.0 if of_entropy is None else float(of_entropy) / kept.number
    in_place = error.dtype == logits.dtype and logits.is_contiguous()
    gradient = error.view(logits.shape) if in_place else _room_for_gradient(logits)
    out = gradient.view(images, classes, pixels)  # never a copy: what is written there is the gradient
    overlap = of_false_positives is not None or of_false_negatives is not None
    none = error.new_zeros(classes)
    marked = none if of_false_positives is None else of_false_positives
    missed = none if of_false_negatives is None else of_false_negatives
    labels = target.flatten(1)
    weight = None if weight is None else weight.flatten(1)
    for place in _places(images, classes, pixels):
        q, into = error[place[0], :, place[1]].contiguous(), out[place[0], :, place[1]]
        k: Tensor | float = g if factor is None else (factor[place] * g).unsqueeze(1)
        if overlap:
            at = _labels(labels[place], plan.ignore_index, classes)
            w = None if weight is None else weight[place].unsqueeze(1)
            q = _overlap_gradient(q, at, w, k, (marked, missed))
        else:
            q.mul_(k)
        if q.data_ptr() != into.data_ptr():
            # In the gradient's own precision first: turning rows into columns is quicker between equal types.
            into.copy_(q.to(logits.dtype))
    return gradient


def _room_for_gradient(logits: Tensor) -> Tensor:
    """Uninitialised, shaped as the logits, rows and columns in one run: in their layout where that is channels_last."""
    last = logits.is_contiguous(memory_format=torch.channels_last)
    return torch.empty_like(logits, memory_format=torch.channels_last if last else torch.contiguous_format)


def _overlap_gradient(
    q: Tensor, at: _Labels, weight: Tensor | None, k: Tensor | float, slopes: tuple[Tensor, Tensor]
) -> Tensor:
    """Writes the gradient of a block over q (n, C, P).

    Args:
        q: p − y.
        at: its labels.
        weight: (n, 1, P), of each pixel.
        k: (n, 1, P) or a number, slope of the cross-entropy.
        slopes: (C,) of false positives and of false negatives.
    """
    marked, missed = slopes
    if at.known is not None:
        weight = at.known.to(q.dtype) if weight is None else weight * at.known
    own = q.view(-1).index_select(0, at.places)
    a, b = marked.index_select(0, at.own), missed.index_select(0, at.own)
    rest = q * marked.view(1, -1, 1)
    # Σ_{c≠o} p_c a_c − p_o b_o, with p_o = 1 + q_o.
    right = own + 1
    s = rest.sum(1, keepdim=True)
    s.view(-1).addcmul_(own, a, value=-1).addcmul_(right, b, value=-1)
    mine = b.add_(s.view(-1)).mul_(right).neg_()
    if weight is not None:
        rest.mul_(weight)
        s.mul_(weight)
        mine.mul_(weight.reshape(-1))
    torch.addcmul(rest, q, torch.rsub(s, k), out=q)
    mine.add_(own * (k.reshape(-1) if isinstance(k, Tensor) else k))
    q.view(-1).scatter_(0, at.places, mine)
    return q


SoftmaxSums = in_two_passes(_measure, _gradient, softmax=True)
"""(plan, logits (N, C, H, W), target (N, H, W), weight, factor) → the fields of `Sums`."""
