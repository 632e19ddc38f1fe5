"""The kernel written down once more, slowly: lists of labelled pixels, one class and one image after the other.

Nothing is shared with the code it is compared with but the registry: no masks, no sums over shapes, no derivatives
written by hand, no short cuts. Autograd of plain float64 operations gives the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sweeper.losses.families import LossTask

Values = Mapping[str, Any]
"""Coordinates and options by name; one that is missing is at rest."""
ALONG_THE_BOUNDARY = 2
"""Pixels, in rows and in columns."""
NOWHERE = -1
"""Label of an ignored pixel in a `Question`."""


class Question(NamedTuple):
    """K classes of which each labelled pixel has one. Multi-class: one question; else one for each channel, K = 2."""

    log_p: Tensor
    """(N, K, H, W), log-probabilities."""
    labels: Tensor
    """(N, H, W) in [0, K), or NOWHERE."""
    weight: Tensor
    """(N, H, W) of each pixel, 1 unless given."""


def questions(
    task: LossTask, logits: Tensor, target: Tensor, ignore_index: int, weight: Tensor | None = None
) -> list[Question]:
    """A batch, shaped as for the losses, as questions; `weight` (N, H, W), or (N, C, H, W) for multi-label."""
    labels = torch.where(target == ignore_index, NOWHERE, target.long())
    given = torch.ones_like(labels, dtype=logits.dtype) if weight is None else weight
    if task == "multiclass":
        return [Question(logits.log_softmax(1), labels, given)]
    if task == "binary":
        labels, given = labels.unsqueeze(1), given.unsqueeze(1)
    found = []
    for c in range(logits.shape[1]):
        both = torch.stack([torch.zeros_like(logits[:, c]), logits[:, c]], dim=1)
        found.append(Question(both.log_softmax(1), labels[:, c], given[:, c]))
    return found


# --- Class weights ---------------------------------------------------------------------------------------------------


def class_weights(task: LossTask, values: Values, counts: Sequence[float] | None, channels: int) -> list[list[float]]:
    """w_c of each question's classes: [absent, there] for each channel, or one list of all classes."""
    return _of_channels(values, channels) if task == "multilabel" else [_of_classes(task, values, counts, channels)]


def _of_channels(values: Values, channels: int) -> list[list[float]]:
    given, alpha, pos = values.get("class_weights"), values.get("alpha"), values.get("pos_weight")
    if given is not None:
        return [[w, w] for w in given]
    if alpha is not None:
        return [[1 - a, a] for a in (alpha if isinstance(alpha, tuple) else (alpha,) * channels)]
    return [[1.0, w] for w in (pos if isinstance(pos, tuple) else (1.0 if pos is None else pos,) * channels)]


def _of_classes(task: LossTask, values: Values, counts: Sequence[float] | None, channels: int) -> list[float]:
    alpha, beta = values.get("alpha"), values.get("effective_number")
    power = values.get("class_weight_power") or 0.0
    given = values.get("class_weights", alpha if isinstance(alpha, tuple) else None)
    if given is not None:
        return list(given)
    if beta is not None or power:
        assert counts is not None
        raw = [(1 - beta) / (1 - beta**n) for n in counts] if beta is not None else [n**-power for n in counts]
        mean = sum(n * w for n, w in zip(counts, raw, strict=True)) / sum(counts)
        return [w / mean for w in raw]
    if alpha is not None:
        most = 0 if counts is None or task == "binary" else list(counts).index(max(counts))
        return [1 - alpha if c == most else alpha for c in range(2 if task == "binary" else channels)]
    pos = values.get("pos_weight")
    return [1.0, 1.0 if pos is None else pos] if task == "binary" else [1.0] * channels


# --- Cross-entropy ---------------------------------------------------------------------------------------------------


def pixel_pairs(question: Question, norm: float) -> Tensor:
    """(H·W, H·W): how far any two pixels of an image are from each other; `norm` 1, 2 or infinity."""
    height, width = question.labels.shape[1:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1).to(question.log_p.device, torch.float64)
    return torch.cdist(places, places, p=norm)


def _near_boundary(question: Question) -> Tensor:
    """(N, H, W): whether a labelled pixel of another class is at most `ALONG_THE_BOUNDARY` away."""
    labels = question.labels.flatten(1)
    close = pixel_pairs(question, math.inf) <= ALONG_THE_BOUNDARY
    others = (labels.unsqueeze(1) != labels.unsqueeze(2)) & (labels != NOWHERE).unsqueeze(1)
    return (others & close).any(2).view_as(question.labels)


def cross_entropy(asked: Sequence[Question], weights: Sequence[Sequence[float]], values: Values) -> Tensor:
    """−w (1 − p)^γ log p over the labelled pixels, or over the hardest of them; `gamma` may be one for each class."""
    smoothing = values.get("label_smoothing", 0.0)
    found = []
    for question, w in zip(asked, weights, strict=True):
        known = question.labels != NOWHERE
        log_p = question.log_p.movedim(1, -1)[known]
        gamma = values.get("gamma", 0.0)
        exponents = log_p.new_tensor(gamma if isinstance(gamma, list) else [gamma] * len(w))
        each = -log_p.new_tensor(w) * (1 - log_p.exp()) ** exponents * log_p
        own = each.gather(1, question.labels[known].unsqueeze(1)).squeeze(1)
        loss = (1 - smoothing) * own + smoothing * each.mean(1)
        loss = loss * (1 + values.get("boundary_weight", 0.0) * _near_boundary(question)[known].to(loss))
        found.append(loss * question.weight[known])
    losses = torch.cat(found)
    if not losses.numel():
        return losses.sum()
    fraction: float = values.get("hard_fraction", 1.0)
    number = max(1, math.floor(fraction * losses.numel() + 1e-6))
    return losses.sort(descending=True).values[:number].sum() / number


# --- Overlap ---------------------------------------------------------------------------------------------------------


class Counts(NamedTuple):
    """Soft counts of one class in pixels (or their weights), and what it costs where it is absent."""

    actual: Tensor
    true_positives: Tensor
    false_positives: Tensor
    false_negatives: Tensor
    mean_probability: Tensor


def counted(question: Question, c: int, image: int | None = None, *, squared: bool = False) -> Counts:
    """Of class c in the batch, or in one image of it."""
    chosen = slice(None) if image is None else slice(image, image + 1)
    p, labels, w = question.log_p[chosen, c].exp(), question.labels[chosen], question.weight[chosen]
    own, others, known = labels == c, (labels != c) & (labels != NOWHERE), labels != NOWHERE
    power = 2 if squared else 1
    return Counts(
        actual=w[own].sum(),
        true_positives=(w[own] * p[own]).sum(),
        false_positives=(w[others] * p[others] ** power).sum(),
        false_negatives=(w[own] * (1 - p[own]) ** power).sum(),
        mean_probability=(w[known] * p[known]).sum() / w[known].sum().clamp(min=1e-300),
    )


def tversky_loss(counts: Counts, fp_weight: float, fn_weight: float, exponent: float, smoothing: float) -> Tensor:
    """(1 − TI)^κ; of a class without pixels its mean probability in place of 1 − TI."""
    if counts.actual > 0:
        errors = fp_weight * counts.false_positives + fn_weight * counts.false_negatives
        lost = 1 - (counts.true_positives + smoothing) / (counts.true_positives + errors + smoothing)
    else:
        lost = counts.mean_probability
    return lost**exponent if exponent != 1 else lost


def overlap(asked: Sequence[Question], values: Values, weights: Sequence[Sequence[float]] | None = None) -> Tensor:
    """Mean over the classes that count, and over images where each counts alone; `weights`: of the classes."""
    fn_weight = values.get("fn_weight", 0.5)
    fp_weight = values.get("fp_weight")
    arguments = (
        1 - fn_weight if fp_weight is None else fp_weight,
        fn_weight,
        values.get("overlap_exponent", 1.0),
        values.get("smoothing", 1.0),
    )
    found, sizes = [], []
    for number, question in enumerate(asked):
        images = range(len(question.labels)) if values.get("per_image") else [None]
        for image in images:
            if image is not None and not (question.labels[image] != NOWHERE).any():
                continue
            for c in _averaged_classes(question, values):
                counts = counted(question, c, image, squared=bool(values.get("squared")))
                sizes.append(1.0 if weights is None else weights[number][c])
                found.append(sizes[-1] * tversky_loss(counts, *arguments))
    return torch.stack(found).sum() / sum(sizes)


def _averaged_classes(question: Question, values: Values) -> Sequence[int]:
    classes, background = question.log_p.shape[1], values.get("include_background")
    if background is None:  # a question of two classes is about its foreground
        background = classes > 2
    return range(0 if background else 1, classes)


def kernel_reference(
    task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None
) -> Tensor:
    """λ · CE + (1 − λ) · overlap."""
    channels = asked[0].log_p.shape[1] if task == "multiclass" else len(asked)
    mix = values.get("mix", 1.0)
    weights, parts = class_weights(task, values, counts, channels), []
    if mix > 0:
        parts.append(mix * cross_entropy(asked, weights, values))
    if mix < 1:
        parts.append((1 - mix) * overlap(asked, values, weights if values.get("weigh_overlap") else None))
    return torch.stack(parts).sum()
