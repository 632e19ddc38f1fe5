"""The sigmoid form: cross-entropy and class sums in one pass over the logits, their gradient in another.

What is kept between the passes is e = y − p, signed error of each pixel (0 under ignore), if the cross-entropy's slope
is a multiple of it; else that slope, and e (1 − |e|) for the overlap. The backward pass writes over them.

With s = ±1 (is the class there?) and u = s z, p of the truth is σ(u), and all follows from log σ(u) and σ(−u) = |e|:
d(−log σ(u))/dz = −e, d|e|/dz = −e (1 − |e|), and with the focal factor F = |e|^γ,
d(−F log σ(u))/dz = −s F (|e| − γ (1 − |e|) log σ(u)).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.losses.fused_cpu.passes import in_two_passes
from sweeper.losses.fused_cpu.sums import Batch, Entropy, Plan, Slopes, Sums, block_size, hardest, precision_of

BLOCK = 1 << 17
"""Elements worked on at once by a thread: a few arrays of them fit into a core's cache."""
Place = tuple[int, slice, slice]


class Kept(NamedTuple):
    """What the backward pass needs; all (N, C, H·W), or (1, 1, N·H·W) for one channel."""

    error: Tensor | None
    """Where an overlap is wanted: y − p, or minus its own slope, see `bent`."""
    bent: bool
    """Whether `error` is e (1 − |e|), because the cross-entropy's slope does not need e."""
    slope: Tensor | None
    """Minus the cross-entropy's slope, before division by the number of pixels."""
    number: float
    """What the cross-entropy was divided by."""


def _flat(values: Tensor, one_channel: bool) -> Tensor:
    """(N, C, H, W) → (N, C, H·W); all pixels in one row where there is one channel."""
    values = values.contiguous()
    return values.view(1, 1, -1) if one_channel else values.view(*values.shape[:2], -1)


def _places(shape: torch.Size) -> Iterator[Place]:
    """Blocks of one channel: some images, or some pixels of an image."""
    images, channels, pixels = shape
    size = block_size(BLOCK)
    together = max(1, size // max(1, pixels))
    for channel in range(channels):
        for first in range(0, images, together):
            for start in range(0, pixels, size):
                yield channel, slice(first, first + together), slice(start, start + size)


def _at(values: Tensor, place: Place) -> Tensor:
    channel, images, pixels = place
    return values[images, min(channel, values.shape[1] - 1), pixels]


class _Labels(NamedTuple):
    """A block's labels as numbers."""

    there: Tensor
    """1 where the class is, else 0."""
    sign: Tensor
    """1 where the class is, −1 where it is not, 0 under ignore."""
    known: Tensor | None
    """1 where there is a label, else 0; None: everywhere."""
    number: int
    """Labelled pixels."""


def _labels(target: Tensor, ignore_index: int, precision: torch.dtype) -> _Labels:
    there = target.to(precision)
    low, high = torch.aminmax(there)
    if float(low) >= 0 and float(high) <= 1:
        return _Labels(there, torch.rsub(there, -1, alpha=-2), None, there.numel())
    labels = target.long()  # 156 is −100 in eight bits
    mask = labels != ignore_index
    known, there = mask.to(precision), (labels == 1).to(precision)
    return _Labels(there, torch.sub(2 * there, known), known, int(torch.count_nonzero(mask)))


def _measure(batch: Batch, plan: Plan) -> tuple[Sums, Kept]:
    logits, target, weight, factor = batch
    channels, precision = logits.shape[1], precision_of(logits)
    z, labels = _flat(logits.detach(), channels == 1), _flat(target, channels == 1)
    weight = None if weight is None else _flat(weight, channels == 1)
    factor = None if factor is None else _flat(factor, channels == 1)
    entropy = plan.entropy
    error, slope, losses = _room(plan, z.shape, precision, factored=factor is not None)
    bent = entropy is None or slope is not None
    counts = [[0.0] * 4 for _ in range(channels)]  # false positives, false negatives, actual, rest
    total, number = 0.0, 0
    for place in _places(z.shape):
        known = _labels(_at(labels, place), plan.ignore_index, precision)
        number += known.number
        w = None if weight is None else _at(weight, place)
        x = _at(z, place).to(precision)
        u = (x if known.known is None else torch.where(known.known > 0, x, 0.0)) * known.sign
        e = torch.empty_like(u) if error is None else _at(error, place)
        log_right = None
        if entropy is None:
            torch.mul(u.neg_().sigmoid_(), known.sign, out=e)
        else:
            log_right, rest = torch.ops.aten.log_sigmoid_forward(u)
            torch.ops.aten.log_sigmoid_backward.grad_input(known.sign, u, rest, grad_input=e)
        if entropy is not None and log_right is not None:
            f = _pixel_factor(entropy, place[0], known, w, None if factor is None else _at(factor, place))
            loss, steep = _entropy(entropy, known, _Right(u, log_right, e), f, wanted=slope is not None)
            if losses is None:
                total += float(loss.sum())
            else:
                torch.neg(loss, out=_at(losses, place))
            if slope is not None and steep is not None:
                _at(slope, place).copy_(steep)
        if plan.overlap:
            _count(counts[place[0]], e, known, w)
            if bent and error is not None:
                e.addcmul_(e, e.abs(), value=-1)
    divisor = float(max(1, number))
    mean = -total / divisor
    if losses is not None and entropy is not None:
        most = hardest(losses, number, entropy.hard_fraction)
        mean, divisor = most.mean, float(most.number)
        if slope is not None:
            for place in _places(z.shape):
                _at(slope, place).mul_(most.chosen(_at(losses, place)))
    columns = torch.tensor(counts, dtype=torch.float64).to(precision).unbind(1)
    sums = Sums(torch.tensor(mean, dtype=precision), *columns)
    return sums, Kept(error, bent, slope, divisor)


def _room(
    plan: Plan, shape: torch.Size, precision: torch.dtype, *, factored: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """For what is kept of each pixel: error, slope, and loss where the hardest are wanted."""
    entropy = plan.entropy
    hard = entropy is not None and entropy.hard_fraction < 1
    # The slope of a plain cross-entropy follows from the error, if that is kept.
    follows = plan.overlap and entropy is not None and not any(entropy.gammas) and not hard and not factored
    wanted = (plan.keep and plan.overlap, plan.keep and entropy is not None and not follows, hard)
    error, slope, losses = (torch.empty(shape, dtype=precision) if it else None for it in wanted)
    return error, slope, losses


def _each(values: tuple[float, ...], channel: int) -> float:
    return values[channel if len(values) > 1 else 0]


def _pixel_factor(
    entropy: Entropy, channel: int, known: _Labels, weight: Tensor | None, factor: Tensor | None
) -> Tensor | float:
    """Weight of each pixel's cross-entropy: of its class, its own, and 0 under ignore."""
    low, high = _each(entropy.absent_weights, channel), _each(entropy.weights, channel)
    found: Tensor | float = low
    if low != high:
        found = torch.rsub(known.there, low, alpha=low - high)
    if known.known is not None:
        found = known.known * found
    for more in (weight, factor):
        found = found if more is None else more * found
    return found


class _Right(NamedTuple):
    """Of each pixel: logit of being right, log of that probability, signed probability of being wrong."""

    u: Tensor
    log_right: Tensor
    e: Tensor


def _entropy(
    entropy: Entropy, known: _Labels, right: _Right, f: Tensor | float, *, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Minus each pixel's loss, and minus its slope."""
    u, log_right, e = right
    loss = log_right if isinstance(f, float) and f == 1 else log_right * f
    low, high = entropy.gammas
    if low == high == 0:
        return loss, (e * f if wanted else None)
    gamma: Tensor | float = low if low == high else torch.rsub(known.there, low, alpha=low - high)
    wrong = e.abs()
    squared = isinstance(gamma, float) and gamma == 2
    eased = wrong * wrong if squared else torch.sub(log_right, u).mul_(gamma).exp_()  # log σ(−u) = log σ(u) − u
    steep = None
    if wanted:
        # |e| − γ (1 − |e|) log σ(u)
        steep = torch.rsub(wrong, 1).mul_(log_right).mul_(gamma)
        steep = torch.sub(wrong, steep, out=steep).mul_(eased).mul_(known.sign).mul_(f)
    return loss * eased, steep


def _count(counts: list[float], e: Tensor, known: _Labels, weight: Tensor | None) -> None:
    missed, marked = e.clamp_min(0), e.clamp_max(0)
    if weight is not None:
        missed, marked = missed.mul_(weight), marked.mul_(weight)
        labelled = float((weight if known.known is None else weight * known.known).sum())
        actual = float((weight * known.there).sum())
    else:
        labelled, actual = float(known.number), float(known.there.sum())
    for i, value in enumerate((-float(marked.sum()), float(missed.sum()), actual, labelled - actual)):
        counts[i] += value


def _by_sign(x: Tensor, above: float, below: float) -> None:
    """Multiply x by `above` where it is positive, by `below` where it is negative, in place."""
    if above == below or math.isnan(above + below):
        x.mul_(above + below if above != below else above)
    elif abs(above) > abs(below):
        F.leaky_relu_(x, below / above).mul_(above)
    else:
        F.leaky_relu_(x.neg_(), above / below).mul_(-below)


def _with_entropy(e: Tensor, entropy: tuple[float, float], overlap: tuple[float, float]) -> None:
    """−e (a + b (1 − |e|)) in place of e; a, b: slopes of cross-entropy and overlap at positive and negative e."""
    (high, low), (missed, marked) = entropy, overlap
    positive, negative = e.clamp_min(0), e.clamp_max(0)
    first = torch.rsub(positive, -(high + missed), alpha=-missed).mul_(positive)
    torch.addcmul(first, torch.rsub(negative, -(low + marked), alpha=marked), negative, out=e)


def _gradient(batch: Batch, plan: Plan, kept: Kept, slopes: Slopes) -> Tensor:
    logits, weight = batch.logits, batch.weight
    of_entropy, of_false_positives, of_false_negatives = slopes
    channels, entropy = logits.shape[1], plan.entropy
    error, slope = kept.error, kept.slope
    g = 0.0 if of_entropy is None else float(of_entropy) / kept.number
    marked = [0.0] * channels if of_false_positives is None else of_false_positives.tolist()
    missed = [0.0] * channels if of_false_negatives is None else of_false_negatives.tolist()
    weight = None if weight is None else _flat(weight, channels == 1)
    work = error if error is not None else slope
    assert work is not None
    out = work if work.dtype == logits.dtype else torch.empty(work.shape, dtype=logits.dtype)
    for place in _places(work.shape):
        if error is None:
            assert slope is not None
            found = _at(slope, place).mul_(-g)
        else:
            found, c = _at(error, place), place[0]
            if kept.bent:
                _by_sign(found, -missed[c], -marked[c])
            elif entropy is not None:
                high, low = g * _each(entropy.weights, c), g * _each(entropy.absent_weights, c)
                _with_entropy(found, (high, low), (missed[c], marked[c]))
            if weight is not None:
                found.mul_(_at(weight, place))
            if slope is not None:
                found.add_(_at(slope, place), alpha=-g)
        target = _at(out, place)
        if target.data_ptr() != found.data_ptr():
            target.copy_(found)
    return out.view(logits.shape)


SigmoidSums = in_two_passes(_measure, _gradient, softmax=False)
"""(plan, logits (N, C, H, W), target (N, C, H, W), weight, factor) → the fields of `Sums`."""
