"""Losses of instances and skeletons written down once more, slowly, one pixel after the other: see `slow_kernel`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from sweeper.losses.certification.slow_kernel import NOWHERE, Question, Values, counted, cross_entropy, overlap
from sweeper.losses.families import LossTask

Place = tuple[int, ...]
Labels = dict[Place, int]
"""Class of each labelled pixel of an image, by its place."""
TUBE = 2
"""Steps from a skeleton, along the axes, that belong to its tube."""
CLOCKWISE = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


def _images(question: Question) -> Iterator[tuple[int, Labels]]:
    for image, labels in enumerate(question.labels.cpu()):
        places = itertools.product(*(range(n) for n in labels.shape))
        yield image, {place: c for place in places if (c := int(labels[place])) != NOWHERE}


def _number(question: Question) -> range:
    """Classes that have instances and skeletons: all but the first."""
    return range(1, question.log_p.shape[1])


def _components(pixels: set[Place]) -> list[set[Place]]:
    """Pixels that hang together, corners included."""
    left, found = set(pixels), []
    while left:
        waiting = [left.pop()]
        one = set(waiting)
        while waiting:
            place = waiting.pop()
            near = itertools.product(*((x - 1, x, x + 1) for x in place))
            new = left.intersection(near)
            left -= new
            one |= new
            waiting += new
        found.append(one)
    return found


def _of(labels: Labels, c: int) -> set[Place]:
    return {place for place, label in labels.items() if label == c}


def instance_ce(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Shirokikh et al. 2020: each pixel's cross-entropy times (pixels of its component)^−e, over the sum of those."""
    above, below = [], 0.0
    for question in asked:
        sizes = torch.ones_like(question.labels, dtype=question.log_p.dtype)
        for image, labels in _images(question):
            groups = [_of(labels, 0)]
            for c in _number(question):
                groups += _components(_of(labels, c))
            for group in groups:
                for place in group:
                    sizes[(image, *place)] = len(group)
        known = question.labels != NOWHERE
        log_p = question.log_p.movedim(1, -1)[known].gather(1, question.labels[known].unsqueeze(1)).squeeze(1)
        w = sizes[known] ** -values["instance_power"]
        above.append(-(w * question.weight[known] * log_p).sum())
        below += float(w.sum())
    return torch.stack(above).sum() / max(below, 1e-300)


def blob_dice(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Kofler et al. 2022: Dice of each component, from the image without the class's other components."""
    each = []
    for question in asked:
        for c in _number(question):
            found = []
            for image, labels in _images(question):
                own = _of(labels, c)
                for blob in _components(own):
                    seen = question._replace(
                        log_p=question.log_p[image : image + 1],
                        labels=question.labels[image : image + 1].clone(),
                        weight=question.weight[image : image + 1],
                    )
                    for place in own - blob:
                        seen.labels[(0, *place)] = NOWHERE
                    n = counted(seen, c)
                    if n.actual > 0:
                        hit = 2 * (n.true_positives + 1)
                        found.append(1 - hit / (hit + n.false_positives + n.false_negatives))
            each.append(torch.stack(found).mean() if found else counted(question, c).mean_probability)
    share: float = values["blob_share"]
    return (1 - share) * overlap(asked, {}) + share * torch.stack(each).mean()


@lru_cache(maxsize=256)
def _tube(pixels: frozenset[Place]) -> frozenset[Place]:
    """Zhang & Suen's thinning, pixel by pixel, widened and cut to the class; a blob that vanished keeps its middle."""
    thin = set(pixels)
    while True:
        before = len(thin)
        for half in (0, 1):
            gone = {place for place in thin if _goes(place, thin, half)}
            thin -= gone
        if len(thin) == before:
            break
    for blob in _components(set(pixels)):
        if not blob & thin:
            thin.add(_deepest(blob, pixels))
    for _ in range(TUBE):
        thin |= {(r + a, c + b) for r, c in thin for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))}
    return frozenset(thin & pixels)


def _goes(place: Place, thin: set[Place], half: int) -> bool:
    p = [(place[0] + a, place[1] + b) in thin for a, b in CLOCKWISE]
    north, east, south, west = p[::2]
    if not 2 <= sum(p) <= 6 or sum(not x and y for x, y in zip(p, p[1:] + p[:1], strict=True)) != 1:
        return False
    if half == 0:
        return not (north and east and south) and not (east and south and west)
    return not (north and east and west) and not (north and south and west)


def _deepest(blob: set[Place], pixels: frozenset[Place]) -> Place:
    """The pixel farthest from what is not of the class (beyond the image's edge, too); the first of several."""

    def depth(place: Place) -> int:
        reach = range(-len(pixels), len(pixels) + 1)
        outside = ((a, b) for a in reach for b in reach if (place[0] + a, place[1] + b) not in pixels)
        return min(a * a + b * b for a, b in outside)

    return min(blob, key=lambda place: (-depth(place), place))


def skeleton_recall(
    task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None
) -> Tensor:
    """Kirchhoff et al. 2024: the share of each class's tube that the answer does not have."""
    missed = []
    for question in asked:
        for c in _number(question):
            tube = torch.zeros_like(question.labels, dtype=torch.bool)
            for image, labels in _images(question):
                for place in _tube(frozenset(_of(labels, c))):
                    tube[(image, *place)] = True
            class_counts, w, p = counted(question, c), question.weight[tube], question.log_p[:, c][tube].exp()
            recall = ((w * p).sum() + 1) / (w.sum() + 1)
            missed.append(1 - recall if class_counts.actual > 0 else class_counts.mean_probability)
    share: float = values["skeleton_weight"]
    ones = [[1.0] * question.log_p.shape[1] for question in asked]
    rest = (cross_entropy(asked, ones, {}) + overlap(asked, {})) / 2
    return (1 - share) * rest + share * torch.stack(missed).mean()
