"""Counters of predicted images, batch by batch: confusion counts on the device, parts of a metric."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sweeper.core.label_parts import Counter
from sweeper.core.records import IGNORE, ImageCounts, OperatingPoint
from sweeper.core.records.training import BINS, LOGIT_RANGE, TAUS, THRESHOLDS


def unpack_labels(labels: Tensor, channels: int, ignored_label: int = IGNORE) -> Tensor:
    """Return the labels of each channel's class, (N, C, H, W): 0, 1, or 255 = ignored; of masks (N, H, W) int64.

    A mask has the bits of its pixels' classes; that of a binary task is one of a single class.
    """
    bits = torch.arange(channels, device=labels.device).view(-1, 1, 1)
    planes = labels.unsqueeze(1)
    return torch.where(planes == ignored_label, IGNORE, (planes >> bits) & 1)


def decide_labels(logits: Tensor, point: OperatingPoint, log_prior: Tensor | None) -> Tensor:
    """Return label maps (N, H, W) as in the store from logits (N, C, H, W) at an operating point.

    Exclusive classes: argmax of z_c − τ log π_c with τ = `point` and `log_prior` (C,). Independent ones, without
    `log_prior`: the bits of those whose probability is at least `point`, or their own threshold in it.
    """
    if log_prior is not None:
        assert isinstance(point, float)
        return (logits - point * log_prior.view(1, -1, 1, 1)).argmax(1).to(torch.uint8)
    thresholds = np.broadcast_to(np.asarray(point, dtype=np.float64), logits.shape[1])
    edges = torch.as_tensor(np.log(thresholds / (1 - thresholds)), dtype=logits.dtype, device=logits.device)
    bits = torch.arange(logits.shape[1], device=logits.device).view(-1, 1, 1)
    return ((logits >= edges.view(-1, 1, 1)).long() << bits).sum(1)


class HistogramCounter:
    """Counts logits of independent classes per image, class, label and bin."""

    def __init__(
        self, images: tuple[int, ...], planes: tuple[int, ...], device: torch.device, ignored_label: int = IGNORE
    ) -> None:
        self._images, self._ignored_label = images, ignored_label
        self._shape = (len(images), *planes, 2, BINS)
        self._total = torch.zeros(int(np.prod(self._shape)) + 1, dtype=torch.int64, device=device)

    def add(self, positions: Tensor, logits: Tensor, masks: Tensor) -> None:
        """Count a batch of positions (N,), logits (N, C, H, W) and masks (N, H, W) int64."""
        channels = logits.shape[1]
        planes = unpack_labels(masks, channels, self._ignored_label)
        bins = ((logits + LOGIT_RANGE) * (BINS / (2 * LOGIT_RANGE))).floor_().clamp_(0, BINS - 1).long()
        place = positions.view(-1, 1, 1, 1) * channels + torch.arange(channels, device=masks.device).view(-1, 1, 1)
        cell = (place * 2 + planes) * BINS + bins
        cell = torch.where(planes == IGNORE, self._total.numel() - 1, cell).flatten()  # the last: ignored pixels
        self._total.scatter_add_(0, cell, torch.ones_like(cell))

    def make_counts(self) -> ImageCounts:
        """Return the counts so far."""
        data = self._total[:-1].cpu().numpy().reshape(self._shape).astype(np.uint32)
        return ImageCounts(kind="histogram", images=self._images, points=THRESHOLDS, data=data)


class MulticlassCounter:
    """Counts predicted, correct and labelled pixels per image, τ and class; no C × C matrix, so that C may be large."""

    def __init__(self, images: tuple[int, ...], classes: int, device: torch.device, log_prior: Tensor) -> None:
        self._images, self._shape = images, (3, len(images), len(TAUS), classes)
        self._log_prior = log_prior.view(1, -1, 1, 1)
        self._total = torch.zeros(int(np.prod(self._shape)) + 1, dtype=torch.int64, device=device)

    def add(self, positions: Tensor, logits: Tensor, masks: Tensor) -> None:
        """Count a batch of positions (N,), logits (N, 1 or C, H, W) and masks (N, H, W), 255 = ignored."""
        _, images, taus, classes = self._shape
        ignored = masks == IGNORE
        trash = self._total.numel() - 1
        ones = torch.ones_like(masks).flatten()
        block = images * taus * classes
        labelled = torch.where(ignored, trash, 2 * block + positions.view(-1, 1, 1) * taus * classes + masks)
        self._total.scatter_add_(0, labelled.flatten(), ones)  # independent of τ: counted once, at the first τ
        for number, tau in enumerate(TAUS):
            answer = (logits - tau * self._log_prior).argmax(1)
            row = (positions.view(-1, 1, 1) * taus + number) * classes
            predicted = torch.where(ignored, trash, row + answer)
            hit = torch.where(ignored | (answer != masks), trash, block + row + answer)
            for cell in (predicted, hit):
                self._total.scatter_add_(0, cell.flatten(), ones)

    def make_counts(self) -> ImageCounts:
        """Return the counts so far."""
        predicted, hit, labelled = self._total[:-1].cpu().numpy().reshape(self._shape)
        data = np.stack([hit, predicted - hit, labelled[:, :1] - hit], axis=-1).astype(np.uint32)
        return ImageCounts(kind="points", images=self._images, points=TAUS, data=data)


class PartCounter:
    """Counts label maps for a metric, per image and operating point, on the processor in NumPy."""

    def __init__(
        self,
        images: tuple[int, ...],
        classes: int,
        points: tuple[float, ...],
        log_prior: Tensor | None,
        prepared: Callable[[int], tuple[Counter, tuple[int, ...]]],
    ) -> None:
        self._images, self._points, self._log_prior, self._prepared = images, points, log_prior, prepared
        self._total = np.zeros((len(images), len(points), classes, 3), dtype=np.int64)

    def add(self, positions: Tensor, logits: Tensor, masks: Tensor) -> None:
        """Count a batch of positions (N,) and logits (N, 1 or C, H, W); `masks` are not used."""
        maps = [decide_labels(logits, point, self._log_prior).cpu().numpy() for point in self._points]
        for n, position in enumerate(positions.tolist()):
            (count, (height, width)), before = self._prepared(position), None
            for k, answers in enumerate(maps):
                answer = answers[n, :height, :width]
                same = before is not None and np.array_equal(answer, before)
                self._total[position, k] = self._total[position, k - 1] if same else count(answer)
                before = answer

    def make_counts(self) -> ImageCounts:
        """Return the counts so far, in the smallest type that holds them."""
        data = self._total.astype(np.min_scalar_type(int(self._total.max(initial=0))))
        return ImageCounts(kind="points", images=self._images, points=self._points, data=data)
