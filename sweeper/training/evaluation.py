"""Whole images in, confusion counts per image at every operating point out; one transfer from the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sweeper.core.calibration import Calibration, ClassCalibration, fit_classes, fit_counts
from sweeper.core.contours import boundary_counts, centreline_counts, thinness
from sweeper.core.label_parts import Counter
from sweeper.core.metrics import METRICS, at_point, measured
from sweeper.core.operating_points import BINS, FEW_THRESHOLDS, LOGIT_RANGE, TAUS, THRESHOLDS
from sweeper.core.records import IGNORE, ImageCounts, Task, TestDetail
from sweeper.data.store import PixelStore
from sweeper.training.batches import Crop, to_inputs
from sweeper.training.resident_store import ResidentStore, as_tensor

TILE = 1024
"""Larger images are predicted in tiles of this many pixels a side…"""
HALO = 64
"""…each of which sees this many pixels of its surroundings. Both are multiples of every stride."""

CALIBRATED = 100_000
"""Pixels of validation images from whose logits several classes' calibration is fitted."""
THIN_SHARE = 0.3
"""Centre lines are measured of classes with at least this share of thin pixels in the images' labels: thinning a
broad class costs much and says nothing. Well below what counts as a thin structure (0.5), which is judged by the whole
data set's profile."""


class Part(NamedTuple):
    """A part of an image that is answered at once, as rows and columns."""

    place: tuple[slice, slice]
    """Within the image."""
    seen: tuple[slice, slice]
    """With its surroundings, which the network sees, too."""
    kept: tuple[slice, slice]
    """Within what is seen."""


def parts(height: int, width: int) -> Iterator[Part]:
    """Parts that cover an image, row by row; an image that is no larger than a tile is one.

    Both sides are multiples of the network's stride, and so are those of what is seen.
    """
    core = TILE - 2 * HALO if max(height, width) > TILE else TILE
    for top in range(0, height, core):
        for left in range(0, width, core):
            bottom, right = min(height, top + core), min(width, left + core)
            above, before = max(0, top - HALO), max(0, left - HALO)
            yield Part(
                place=(slice(top, bottom), slice(left, right)),
                seen=(slice(above, min(height, bottom + HALO)), slice(before, min(width, right + HALO))),
                kept=(slice(top - above, bottom - above), slice(left - before, right - before)),
            )


class Examination(NamedTuple):
    """What the test images gave."""

    counts: ImageCounts
    detail: TestDetail
    maps: tuple[np.ndarray[tuple[int, int], np.dtype[np.uint8]], ...]
    """Label maps of the first images."""


def log_prior_of(class_pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Logarithm of each class's share of the pixels, (C,); an absent class counts as one pixel."""
    at_least_one = np.maximum(class_pixels, 1)
    prior: npt.NDArray[np.float64] = np.log(at_least_one / at_least_one.sum())
    return prior


class Evaluator:
    """Predicts whole images of one store with one network, and counts."""

    def __init__(
        self,
        store: PixelStore,
        *,
        task: Task,
        classes: int,
        stride: int,
        device: torch.device,
        normal: tuple[Tensor, Tensor],
        autocast: Callable[[], AbstractContextManager[object]],
        log_prior: np.ndarray[tuple[int], np.dtype[np.float64]],
        resident: ResidentStore | None = None,
        metric: str = "miou",
        boundary_pixels: int = 2,
    ) -> None:
        """`resident` has the store's pixels on the device, if they are there; `boundary_pixels` is contours' width.

        `log_prior` (C,) is of the training pixels; it is what τ scales in z_c − τ log π_c."""
        self._store, self._task, self._classes, self._stride = store, task, classes, stride
        self._device, self._autocast, self._resident = device, autocast, resident
        self._mean, self._std = normal
        self._log_prior = torch.as_tensor(log_prior, dtype=torch.float32, device=device)
        self._metric, self._boundary_pixels = metric, boundary_pixels
        self._few = FEW_THRESHOLDS if task == "binary" else TAUS
        self._pixels_at_once = 2**18 if device.type == "cpu" else 2**23

    def count(self, model: nn.Module, images: tuple[int, ...]) -> tuple[ImageCounts, bool]:
        """Confusion counts of these images, and whether every logit was finite."""
        counts, parts = self._counters(images)
        finite = torch.ones((), dtype=torch.bool, device=self._device)
        for positions, logits, masks in self._predict(model, images):
            finite &= torch.isfinite(logits).all()
            known = torch.nan_to_num(logits)
            counts.add(positions, known, masks)
            if parts is not None:
                parts.add(positions, known)
        return self._counted(images, counts, parts), bool(finite)

    def calibration(self, model: nn.Module, counts: ImageCounts) -> Calibration | ClassCalibration | None:
        """What makes probabilities of this network's logits, from the images that `counts` are of.

        Binary it is read off the counts; of several classes from the logits of `CALIBRATED` pixels that have a label,
        as many of each image, drawn at random. None where there are none.
        """
        if self._task == "binary":
            return fit_counts(counts)
        most = max(1, CALIBRATED // max(1, len(counts.images)))
        drawn: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]] = []
        for positions, logits, masks in self._predict(model, counts.images):
            for position, own, mask in zip(positions.tolist(), logits, masks, strict=True):
                known = torch.nonzero(mask.flatten() != IGNORE).flatten().cpu().numpy()
                rng = np.random.default_rng(counts.images[position])
                at = torch.as_tensor(rng.permutation(known)[:most], device=self._device)
                pixels = torch.nan_to_num(own.flatten(1)[:, at].T)
                drawn.append((pixels.cpu().numpy(), mask.flatten()[at].cpu().numpy()))
        values, labels = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        return fit_classes(values, labels) if len(labels) else None

    def _counters(self, images: tuple[int, ...]) -> tuple[BinaryCounter | MulticlassCounter, PartCounter | None]:
        counter = BinaryCounter if self._task == "binary" else MulticlassCounter
        counts = counter(len(images), self._classes, self._device, self._log_prior)
        count, classes, width = METRICS[self._metric].parts, self._classes, self._boundary_pixels
        if count is None:
            return counts, None

        def prepared(position: int) -> tuple[Counter, tuple[int, ...]]:
            label = np.asarray(self._store.mask(images[position]))
            return count(label, classes, width), label.shape

        shape = (len(images), len(self._few), classes, 3)
        return counts, PartCounter(shape, self._few, self._log_prior, prepared)

    def _counted(
        self, images: tuple[int, ...], counts: BinaryCounter | MulticlassCounter, parts: PartCounter | None
    ) -> ImageCounts:
        binary = self._task == "binary"
        found = None
        if parts is not None:
            data = parts.total.astype(np.min_scalar_type(int(parts.total.max(initial=0))))
            found = ImageCounts(kind="points", images=images, points=self._few, data=data)
        return ImageCounts(
            kind=counts.kind,
            images=images,
            points=THRESHOLDS if binary else TAUS,
            data=counts.arrange(counts.total.cpu().numpy()),
            parts=found,
        )

    def examine(
        self,
        model: nn.Module,
        images: tuple[int, ...],
        point: float,
        *,
        keep: int = 0,
        labels: tuple[int, ...] | None = None,
    ) -> Examination:
        """Everything that is measured of the test images, from one prediction of each.

        `point` is the operating point of the label maps, of which those of the first `keep` images are kept. The
        labels of the images `labels` (None = these) say which classes are thin enough for centre lines: of folds the
        same in each.
        """
        counts, parts = self._counters(images)
        confidence = ConfidenceCounter(len(images), self._device)
        boundary = np.zeros((len(images), self._classes, 3), dtype=np.uint32)
        centreline = np.zeros((len(images), self._classes, 4), dtype=np.uint32)
        thin = thinness((self._store.mask(i) for i in labels or images), self._classes) >= THIN_SHARE
        thin[0] = False  # the background, or what is commonest: never a thin structure
        kept: dict[int, np.ndarray[tuple[int, int], np.dtype[np.uint8]]] = {}
        for positions, raw, masks in self._predict(model, images):
            logits = torch.nan_to_num(raw)
            counts.add(positions, logits, masks)
            if parts is not None:
                parts.add(positions, logits)
            confidence.add(positions, logits, masks)
            for n, answer in self._maps(positions, logits, images, point).items():
                label = np.asarray(self._store.mask(images[n]))
                if self._metric != "boundary_iou":  # else they are among its counts
                    boundary[n] = boundary_counts(label, answer, self._classes, self._boundary_pixels)
                centreline[n] = centreline_counts(label, answer, thin)
                if n < keep:
                    kept[n] = answer
        counted = self._counted(images, counts, parts)
        if self._metric == "boundary_iou":
            boundary = at_point(measured(counted, self._metric), point).astype(np.uint32)
        return Examination(
            counts=counted,
            detail=TestDetail(
                images=images,
                boundary_pixels=self._boundary_pixels,
                boundary=boundary,
                centreline=centreline,
                confidence=confidence.arrange(),
            ),
            maps=tuple(kept[n] for n in range(min(keep, len(images)))),
        )

    def _maps(
        self, positions: Tensor, logits: Tensor, images: tuple[int, ...], point: float
    ) -> dict[int, np.ndarray[tuple[int, int], np.dtype[np.uint8]]]:
        """Label maps of a batch by position, without the padding."""
        batch = labels_of(logits, point, self._log_prior).cpu().numpy()
        maps = {}
        for n, position in enumerate(positions.tolist()):
            height, width = self._store.mask(images[position]).shape
            maps[position] = batch[n, :height, :width]
        return maps

    @torch.no_grad()
    def _predict(self, model: nn.Module, indices: tuple[int, ...]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Batches of (positions (N,), float32 logits (N, K, H, W), masks (N, H, W) int64) of one padded size each."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for position, index in enumerate(indices):
            height, width = self._store.mask(index).shape
            by_size.setdefault((self._up(height), self._up(width)), []).append(position)
        for (height, width), positions in by_size.items():
            at_once = max(1, self._pixels_at_once // (height * width))
            for start in range(0, len(positions), at_once):
                batch = positions[start : start + at_once]
                images, masks = self._whole([indices[position] for position in batch], height, width)
                logits = self._tiled(model, to_inputs(images, self._mean, self._std))
                yield torch.tensor(batch, device=self._device), logits, masks.long()

    def _whole(self, indices: list[int], height: int, width: int) -> tuple[Tensor, Tensor]:
        """Images (N, height, width, channels) and masks (N, height, width) on the device, padded to this size."""
        if self._resident is not None:
            places = as_tensor([Crop(i, 0, 0, *self._store.sizes[i]) for i in indices]).to(self._device)
            return self._resident.cut(places, height, width)
        images = np.zeros((len(indices), height, width, self._store.channels), dtype=self._store.dtype)
        masks = np.full((len(indices), height, width), IGNORE, dtype=np.uint8)
        for n, index in enumerate(indices):
            mask = self._store.mask(index)
            images[n, : mask.shape[0], : mask.shape[1]] = self._store.image(index)
            masks[n, : mask.shape[0], : mask.shape[1]] = mask
        self._store.forget()
        return torch.from_numpy(images).to(self._device), torch.from_numpy(masks).to(self._device)

    def _up(self, length: int) -> int:
        return -(-length // self._stride) * self._stride

    def _tiled(self, model: nn.Module, inputs: Tensor) -> Tensor:
        height, width = inputs.shape[-2:]
        found = torch.zeros(0)
        for part in parts(height, width):
            with self._autocast():
                logits: Tensor = model(inputs[(..., *part.seen)]).float()
            if logits.shape[-2:] == (height, width):
                return logits
            if not found.numel():
                found = logits.new_empty((*logits.shape[:2], height, width))
            found[(..., *part.place)] = logits[(..., *part.kept)]
        return found


# --- What is counted of a batch, on the device ---

BINS_OF_CONFIDENCE = 30
"""Bins of the winning class's probability, uniform on [0, 1]; binary answers fill the upper 15."""
_UNIT = 2**20
"""Confidence is summed in integers of this resolution: exact, and the same in any order on any device."""


def labels_of(logits: Tensor, point: float, log_prior: Tensor) -> Tensor:
    """Class of each pixel, (N, H, W) uint8, of logits (N, 1 or C, H, W) at an operating point.

    One channel: 1 where the probability is at least `point`, in (0, 1). C channels: argmax of z_c − τ log π_c with
    τ = `point` and `log_prior` (C,).
    """
    if logits.shape[1] == 1:
        return (logits[:, 0] >= float(np.log(point / (1 - point)))).to(torch.uint8)
    return (logits - point * log_prior.view(1, -1, 1, 1)).argmax(1).to(torch.uint8)


class BinaryCounter:
    """Histogram of logits per image and true class."""

    kind: Literal["histogram", "points"] = "histogram"

    def __init__(self, images: int, classes: int, device: torch.device, log_prior: Tensor) -> None:
        self._images = images
        self.total = torch.zeros(images * 2 * BINS + 1, dtype=torch.int64, device=device)  # the last is for ignored

    def add(self, positions: Tensor, logits: Tensor, masks: Tensor) -> None:
        """Count a batch of positions (N,), logits (N, 1 or C, H, W) and masks (N, H, W), 255 = ignored."""
        bins = ((logits[:, 0] + LOGIT_RANGE) * (BINS / (2 * LOGIT_RANGE))).floor_().clamp_(0, BINS - 1).long()
        cell = (positions.view(-1, 1, 1) * 2 + masks) * BINS + bins
        cell = torch.where(masks == IGNORE, self.total.numel() - 1, cell).flatten()
        self.total.scatter_add_(0, cell, torch.ones_like(cell))

    def arrange(
        self, data: np.ndarray[tuple[int], np.dtype[np.int64]]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
        """The counts as (images, 2 true classes, bins)."""
        return data[:-1].reshape(self._images, 2, BINS).astype(np.uint32)


class MulticlassCounter:
    """Pixels predicted, hit and labelled per image, τ and class; no C × C matrix, so that C may be large."""

    kind: Literal["histogram", "points"] = "points"

    def __init__(self, images: int, classes: int, device: torch.device, log_prior: Tensor) -> None:
        self._shape = (3, images, len(TAUS), classes)
        self._log_prior = log_prior.view(1, -1, 1, 1)
        self.total = torch.zeros(int(np.prod(self._shape)) + 1, dtype=torch.int64, device=device)

    def add(self, positions: Tensor, logits: Tensor, masks: Tensor) -> None:
        """Count a batch of positions (N,), logits (N, 1 or C, H, W) and masks (N, H, W), 255 = ignored."""
        _, images, taus, classes = self._shape
        ignored = masks == IGNORE
        trash = self.total.numel() - 1
        ones = torch.ones_like(masks).flatten()
        block = images * taus * classes
        labelled = torch.where(ignored, trash, 2 * block + positions.view(-1, 1, 1) * taus * classes + masks)
        self.total.scatter_add_(0, labelled.flatten(), ones)  # does not depend on τ: counted once, at its first value
        for number, tau in enumerate(TAUS):
            answer = (logits - tau * self._log_prior).argmax(1)
            row = (positions.view(-1, 1, 1) * taus + number) * classes
            predicted = torch.where(ignored, trash, row + answer)
            hit = torch.where(ignored | (answer != masks), trash, block + row + answer)
            for cell in (predicted, hit):
                self.total.scatter_add_(0, cell.flatten(), ones)

    def arrange(
        self, data: np.ndarray[tuple[int], np.dtype[np.int64]]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
        """The counts as (images, τ, classes, 3): tp, fp and fn."""
        predicted, hit, labelled = data[:-1].reshape(self._shape)
        labelled = labelled[:, :1]
        return np.stack([hit, predicted - hit, labelled - hit], axis=-1).astype(np.uint32)


class PartCounter:
    """What a metric counts of the label maps of each image at every operating point: on the processor, in NumPy."""

    def __init__(
        self,
        shape: tuple[int, ...],
        points: tuple[float, ...],
        log_prior: Tensor,
        prepared: Callable[[int], tuple[Counter, tuple[int, ...]]],
    ) -> None:
        self._points, self._log_prior, self._prepared = points, log_prior, prepared
        self.total = np.zeros(shape, dtype=np.int64)

    def add(self, positions: Tensor, logits: Tensor) -> None:
        """Count a batch of positions (N,) and logits (N, 1 or C, H, W)."""
        maps = [labels_of(logits, point, self._log_prior).cpu().numpy() for point in self._points]
        for n, position in enumerate(positions.tolist()):
            (count, (height, width)), before = self._prepared(position), None
            for k, answers in enumerate(maps):
                answer = answers[n, :height, :width]
                same = before is not None and np.array_equal(answer, before)
                self.total[position, k] = self.total[position, k - 1] if same else count(answer)
                before = answer


class ConfidenceCounter:
    """Pixels, right ones and summed confidence per image and bin of the winning class's probability."""

    def __init__(self, images: int, device: torch.device) -> None:
        self._shape = (3, images, BINS_OF_CONFIDENCE)
        self._total = torch.zeros(int(np.prod(self._shape)) + 1, dtype=torch.int64, device=device)

    def add(self, positions: Tensor, logits: Tensor, masks: Tensor) -> None:
        """Count a batch of positions (N,), logits (N, 1 or C, H, W) and masks (N, H, W), 255 = ignored."""
        if logits.shape[1] == 1:
            answer = (logits[:, 0] >= 0).long()
            confidence = torch.sigmoid(logits[:, 0].abs())
        else:
            confidence, answer = logits.softmax(1).max(1)
        ignored, trash = masks == IGNORE, self._total.numel() - 1
        block = self._shape[1] * self._shape[2]
        bins = (confidence * BINS_OF_CONFIDENCE).long().clamp_(max=BINS_OF_CONFIDENCE - 1)
        cell = positions.view(-1, 1, 1) * BINS_OF_CONFIDENCE + bins
        one = torch.ones_like(masks)
        amounts = (one, (answer == masks).long(), (confidence * _UNIT).round().long())
        for number, amount in enumerate(amounts):
            where = torch.where(ignored, trash, number * block + cell)
            self._total.scatter_add_(0, where.flatten(), amount.flatten())

    def arrange(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """The counts as (images, bins, 3): pixels, right ones, summed confidence."""
        counts = self._total[:-1].cpu().numpy().reshape(self._shape).astype(np.float64)
        counts[2] /= _UNIT
        return np.moveaxis(counts, 0, -1)
