"""The relatives written down once more, slowly, from what their pages say: see `slow_kernel`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from sweeper.losses.certification import slow_neighbours, slow_overlaps, slow_pixels
from sweeper.losses.certification.slow_kernel import (
    NOWHERE,
    Question,
    Values,
    counted,
    cross_entropy,
    overlap,
    pixel_pairs,
    tversky_loss,
)
from sweeper.losses.families import LossTask

Reference = Callable[[LossTask, Values, Sequence[Question], "Sequence[float] | None"], Tensor]
"""(task, coordinates, questions, counts of the classes) → value."""
SKELETON_ROUNDS = 3
FARTHEST = 100.0


def _classes(asked: Sequence[Question]) -> list[tuple[Question, int]]:
    """Classes that an overlap looks at: all of several, the foreground of two."""
    return [(q, c) for q in asked for c in (range(q.log_p.shape[1]) if q.log_p.shape[1] > 2 else [1])]


def _numbers(values: Values, *names: str) -> list[float]:
    return [float(values[name]) for name in names]


def _log_cosh_dice(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    return overlap(asked, {}).cosh().log()


def _generalized_dice(
    task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None
) -> Tensor:
    """One overlap over the present classes, weighted by their sizes; an absent one costs its mean probability."""
    found = []
    for question in asked:
        classes = [counted(question, c) for c in range(question.log_p.shape[1])]
        present = [c for c in classes if c.actual > 0]
        w = [c.actual ** -values["volume_exponent"] for c in present]
        wrong = [c.false_positives + c.false_negatives for c in present]
        above = torch.stack([w_c * e for w_c, e in zip(w, wrong, strict=True)]).sum()
        both = [w_c * (2 * c.true_positives + e) for w_c, c, e in zip(w, present, wrong, strict=True)]
        absent = [c.mean_probability for c in classes if not c.actual > 0]
        parts = [len(present) * above / torch.stack(both).sum(), *absent]
        found.append(torch.stack(parts).sum() / len(classes))
    return torch.stack(found).mean()


def _unified_focal(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Common: absence of a class, or the most frequent class; its pixels are quietened, rare classes' overlap bent."""
    mix, delta, s = _numbers(values, "mix", "delta", "suppression")
    common = 0 if counts is None or task != "multiclass" else list(counts).index(max(counts))
    numbers = range(asked[0].log_p.shape[1])
    weights = [[1 - delta if c == common else delta for c in numbers] for _ in asked]
    pixels = cross_entropy(asked, weights, {"gamma": [s if c == common else 0.0 for c in numbers]})
    regions = [
        tversky_loss(counted(q, c), 1 - delta, delta, 1.0 if c == common else 1 - s, 1.0)
        for q in asked
        for c in numbers
    ]
    return mix * pixels + (1 - mix) * torch.stack(regions).mean()


def _symmetric_unified_focal(
    task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None
) -> Tensor:
    """As the other form, with each pixel quietened and each overlap bent."""
    mix, delta, s = _numbers(values, "mix", "delta", "suppression")
    common = 0 if counts is None or task != "multiclass" else list(counts).index(max(counts))
    classes = range(asked[0].log_p.shape[1])
    pixels = cross_entropy(asked, [[1 - delta if c == common else delta for c in classes] for _ in asked], {"gamma": s})
    costs = [tversky_loss(counted(q, c), 1 - delta, delta, 1 - s, 1.0) for q in asked for c in classes]
    return mix * pixels + (1 - mix) * torch.stack(costs).mean()


def _metric_overlap(
    errors: float, task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None
) -> Tensor:
    """Of labels that are 0 or 1; soft ones: `sweeper.losses.certification.soft_labels`."""
    (mix,) = _numbers(values, "mix")
    ones = [[1.0] * question.log_p.shape[1] for question in asked]
    regions = overlap(asked, {"fp_weight": errors, "fn_weight": errors})
    return mix * cross_entropy(asked, ones, {}) + (1 - mix) * regions


def _lovasz(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Errors from the largest to the smallest, each times what its pixel adds to the Jaccard loss of those so far."""
    found = []
    for question, c in _classes(asked):
        known = question.labels != NOWHERE
        own = question.labels[known] == c
        if task == "multiclass":
            p = question.log_p[:, c][known].exp()
            errors = torch.where(own, 1 - p, p)
        else:
            z = (question.log_p[:, 1] - question.log_p[:, 0])[known]
            errors = (1 - torch.where(own, z, -z)).clamp(min=0)
        if not own.any():
            found.append(errors.mean())
            continue
        total, before, parts = int(own.sum()), 0.0, []
        missed = marked = 0
        for at in errors.argsort(descending=True).tolist():
            missed, marked = missed + int(own[at]), marked + int(~own[at])
            jaccard_loss = 1 - (total - missed) / (total + marked)
            parts.append(errors[at] * (jaccard_loss - before))
            before = jaccard_loss
        found.append(torch.stack(parts).sum())
    return torch.stack(found).mean()


def _skeleton(values: Tensor, known: Tensor, near: dict[str, Tensor]) -> Tensor:
    """Soft centre lines of values (N, H·W): what an opening takes away, at each of several widths."""

    # Whatever stands under ignore takes part in nothing, but must be finite for its slope to be 0.
    def eroded(x: Tensor) -> Tensor:
        least = torch.where(near["cross"] & known.unsqueeze(1), x.unsqueeze(1), math.inf).amin(2)
        return torch.where(known, least, 0.0)

    def opened(x: Tensor) -> Tensor:
        most = torch.where(near["square"] & known.unsqueeze(1), eroded(x).unsqueeze(1), -math.inf).amax(2)
        return torch.where(known, most, 0.0)

    line = (values - opened(values)).clamp(min=0)
    for _ in range(SKELETON_ROUNDS):
        values = eroded(values)
        thin = (values - opened(values)).clamp(min=0)
        line = line + (thin - line * thin).clamp(min=0)
    return line


def _soft_cldice(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    (share,), found = _numbers(values, "skeleton_weight"), []
    for question, c in _classes(asked):
        near = {"cross": pixel_pairs(question, 1.0) <= 1, "square": pixel_pairs(question, math.inf) <= 1}
        p, labels = question.log_p[:, c].exp().flatten(1), question.labels.flatten(1)
        known = labels != NOWHERE
        w = question.weight.flatten(1)[known]
        own = (labels == c).to(p)
        line, true_line = (_skeleton(x, known, near)[known] for x in (p, own))
        precision = ((w * line * own[known]).sum() + 1) / ((w * line).sum() + 1)
        recall = ((w * true_line * p[known]).sum() + 1) / ((w * true_line).sum() + 1)
        class_counts = counted(question, c)
        harmonic = 1 - 2 * precision * recall / (precision + recall)
        found.append(harmonic if class_counts.actual > 0 else class_counts.mean_probability)
    return (1 - share) * overlap(asked, {}) + share * torch.stack(found).mean()


def _boundary(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Each error costs its distance to the nearest labelled pixel of the other side, less half a pixel."""
    (mix,), costs, number = _numbers(values, "distance_mix"), [], 0
    for question, c in _classes(asked):
        between = pixel_pairs(question, 2.0)
        for image in range(len(question.labels)):
            labels = question.labels[image].flatten()
            known = labels != NOWHERE
            own = labels == c
            other_side = (own.unsqueeze(0) != own.unsqueeze(1)) & known.unsqueeze(0)
            far = torch.where(other_side, between - 0.5, math.inf).amin(1).clamp(max=FARTHEST)
            p, w = question.log_p[image, c].exp().flatten(), question.weight[image].flatten()
            costs.append((w[known] * far.to(p)[known] * (p - own.to(p)).abs()[known]).sum())
            number += int(known.sum())
    return (1 - mix) * overlap(asked, {}) + mix * torch.stack(costs).sum() / max(1, number)


RELATIVES: dict[str, Reference] = {
    "blob_dice": slow_neighbours.blob_dice,
    "boundary": _boundary,
    "dice_metric": partial(_metric_overlap, 0.5),
    "exp_log": slow_overlaps.exp_log,
    "generalized_ce": slow_pixels.generalized_ce,
    "generalized_dice": _generalized_dice,
    "instance_ce": slow_neighbours.instance_ce,
    "jaccard_metric": partial(_metric_overlap, 1.0),
    "ldam": slow_pixels.ldam,
    "log_cosh_dice": _log_cosh_dice,
    "log_dice": slow_overlaps.log_dice,
    "logit_adjusted": slow_pixels.logit_adjusted,
    "lovasz": _lovasz,
    "mcc": slow_overlaps.mcc,
    "ohem_ce": slow_pixels.ohem_ce,
    "poly_ce": slow_pixels.poly_ce,
    "recall_ce": slow_pixels.recall_ce,
    "robust_dice": slow_overlaps.robust_dice,
    "sens_spec": slow_overlaps.sens_spec,
    "skeleton_recall": slow_neighbours.skeleton_recall,
    "soft_cldice": _soft_cldice,
    "symmetric_ce": slow_pixels.symmetric_ce,
    "symmetric_unified_focal": _symmetric_unified_focal,
    "unified_focal": _unified_focal,
}
"""By family: one for every family that is no point of the kernel (tests/test_certify.py)."""
