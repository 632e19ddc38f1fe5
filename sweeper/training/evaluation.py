"""Evaluate whole images: confusion counts per image at every operating point, with one transfer from the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sweeper.core.contours import count_boundary_pixels, count_centreline_pixels, measure_thinness
from sweeper.core.label_parts import Counter
from sweeper.core.label_planes import LabelMap, list_class_maps
from sweeper.core.metrics import METRICS
from sweeper.core.records import ImageCounts, OperatingPoint, Predictions, TestDetail
from sweeper.core.records.training import FEW_THRESHOLDS, TAUS
from sweeper.core.tasks import RULES
from sweeper.training.batches import Crop, normalise_inputs
from sweeper.training.counters import HistogramCounter, MulticlassCounter, PartCounter, decide_labels
from sweeper.training.training_context import TrainingContext

TILE = 1024
"""Side in pixels of the parts in which larger images are predicted, including `HALO`; a multiple of every stride."""
HALO = 64
"""Pixels of its surroundings that a tile includes on each side, a multiple of every stride."""

THIN_SHARE = 0.3
"""Centre lines are measured of classes with at least this share of thin pixels in the images' labels: thinning a
broad class takes long and is uninformative. It is well below the share of a thin structure (0.5) in the data set's
profile."""


class Tile(NamedTuple):
    """A part of an image that is predicted at once, as rows and columns."""

    place: tuple[slice, slice]
    """The tile within the image."""
    seen: tuple[slice, slice]
    """Input of the network: the tile with its surroundings, within the image."""
    kept: tuple[slice, slice]
    """The tile within `seen`."""


def list_tiles(height: int, width: int) -> Iterator[Tile]:
    """Yield tiles that cover an image, row by row; an image no larger than a tile is one.

    The sides of the image, and therefore of every `seen`, are multiples of the network's stride.
    """
    core = TILE - 2 * HALO if max(height, width) > TILE else TILE
    for top in range(0, height, core):
        for left in range(0, width, core):
            bottom, right = min(height, top + core), min(width, left + core)
            above, before = max(0, top - HALO), max(0, left - HALO)
            yield Tile(
                place=(slice(top, bottom), slice(left, right)),
                seen=(slice(above, min(height, bottom + HALO)), slice(before, min(width, right + HALO))),
                kept=(slice(top - above, bottom - above), slice(left - before, right - before)),
            )


class Evaluator:
    """Predicts whole images of one store, and counts the results."""

    def __init__(
        self,
        context: TrainingContext,
        *,
        normal: tuple[Tensor, Tensor],
        autocast: Callable[[], AbstractContextManager[object]],
        log_prior: np.ndarray[tuple[int], np.dtype[np.float64]],
    ) -> None:
        """Create an evaluator; `log_prior` (C,) is log π_c of the training pixels in z_c − τ log π_c."""
        recipe, dataset = context.conditions.recipe, context.conditions.dataset
        self._context, self._store, self._device = context, context.store, context.device
        self._rules, self._classes, self._autocast = RULES[dataset.task], len(dataset.classes), autocast
        # Label maps are counted as a whole, or of each plane only the class 1.
        self._planes = self._classes * self._rules.has_planes
        self._values, self._own = (2, slice(1, None)) if self._planes else (self._classes, slice(0, None))
        self._mean, self._std = normal
        self._log_prior: Tensor | None = None
        if self._rules.is_exclusive:
            self._log_prior = torch.as_tensor(log_prior, dtype=torch.float32, device=self._device)
        self._stride, self._metric = recipe.stride, recipe.metric
        self._pixels_at_once = 2**18 if self._device.type == "cpu" else 2**23

    def count(self, model: nn.Module, images: tuple[int, ...]) -> tuple[ImageCounts, bool]:
        """Return the confusion counts of these images, and whether every logit was finite."""
        counters = self._make_counters(images)
        finite = torch.ones((), dtype=torch.bool, device=self._device)
        for positions, logits, masks in self._predict(model, images):
            finite &= torch.isfinite(logits).all()
            cleaned = torch.nan_to_num(logits)
            for counter in counters:
                counter.add(positions, cleaned, masks)
        return _join_counts(counters), bool(finite)

    def _make_counters(self, images: tuple[int, ...]) -> list[HistogramCounter | MulticlassCounter | PartCounter]:
        """Return the counter of pixels, and of label maps if the metric needs them."""
        classes, points = self._classes, FEW_THRESHOLDS
        pixels: HistogramCounter | MulticlassCounter = HistogramCounter(
            images, self._rules.list_planes(classes), self._device, self._rules.get_ignored_label(classes)
        )
        if self._log_prior is not None:
            pixels, points = MulticlassCounter(images, classes, self._device, self._log_prior), TAUS
        count = METRICS[self._metric].parts
        if count is None:
            return [pixels]

        def prepared(position: int) -> tuple[Counter, tuple[int, ...]]:
            maps = self._list_maps(images[position])
            counts = [count(each, self._values) for each in maps]
            return partial(self._count_maps, counts), maps[0].shape

        return [pixels, PartCounter(images, classes, points, self._log_prior, prepared)]

    def _list_maps(self, image: int) -> list[LabelMap]:
        return list_class_maps(np.asarray(self._store.get_mask(image)), self._planes)

    def _count_maps(self, counts: list[Counter], answer: LabelMap) -> npt.NDArray[np.int64]:
        maps = list_class_maps(answer, self._planes)
        return np.concatenate([count(each)[self._own] for count, each in zip(counts, maps, strict=True)])

    def measure_test_images(
        self,
        model: nn.Module,
        images: tuple[int, ...],
        point: OperatingPoint,
        *,
        keep: int = 0,
        labels: tuple[int, ...] | None = None,
    ) -> tuple[ImageCounts, TestDetail, Predictions | None]:
        """Make all measurements of the test images, from one prediction of each.

        Args:
            model: the network.
            images: indices of the test images.
            point: operating point of the label maps.
            keep: number of first images whose label maps are returned; 0 = none.
            labels: images whose labels decide which classes are thin enough for centre lines, the same for all folds;
                None = `images`.
        """
        counters = self._make_counters(images)
        boundary = np.zeros((len(images), self._classes, 3), dtype=np.uint32)
        centreline = np.zeros((len(images), self._classes, 4), dtype=np.uint32)
        thin = np.concatenate(
            [
                measure_thinness((self._list_maps(i)[k] for i in labels or images), self._values)[self._own]
                for k in range(self._planes or 1)
            ]
        )
        thin = thin >= THIN_SHARE
        thin[: self._rules.first_object] = False  # the background is never a thin structure
        kept: dict[int, LabelMap] = {}
        for positions, raw, masks in self._predict(model, images):
            logits = torch.nan_to_num(raw)
            for counter in counters:
                counter.add(positions, logits, masks)
            answers = decide_labels(logits, point, self._log_prior).cpu().numpy()
            for n, padded in zip(positions.tolist(), answers, strict=True):
                label = np.asarray(self._store.get_mask(images[n]))
                answer = padded[: label.shape[0], : label.shape[1]].astype(label.dtype)
                pairs = [*zip(self._list_maps(images[n]), list_class_maps(answer, self._planes), strict=True)]
                boundary[n] = np.concatenate([count_boundary_pixels(*pair, self._values)[self._own] for pair in pairs])
                lines = [
                    count_centreline_pixels(*pair, np.concatenate([[False] * self._own.start, marks]))[self._own]
                    for pair, marks in zip(pairs, np.array_split(thin, len(pairs)), strict=True)
                ]
                centreline[n] = np.concatenate(lines)
                if n < keep:
                    kept[n] = answer
        detail = TestDetail(images=images, boundary=boundary, centreline=centreline)
        shown = images[:keep]
        predictions = Predictions(images=shown, masks=tuple(kept[n] for n in range(len(shown)))) if shown else None
        return _join_counts(counters), detail, predictions

    @torch.no_grad()
    def _predict(self, model: nn.Module, indices: tuple[int, ...]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield batches of one padded size: positions (N,), float32 logits (N, K, H, W), masks (N, H, W) int64."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for position, index in enumerate(indices):
            height, width = self._store.get_mask(index).shape
            by_size.setdefault((self._pad_up(height), self._pad_up(width)), []).append(position)
        for (height, width), positions in by_size.items():
            at_once = max(1, self._pixels_at_once // (height * width))
            for start in range(0, len(positions), at_once):
                batch = positions[start : start + at_once]
                places = [Crop(indices[n], 0, 0, *self._store.sizes[indices[n]]) for n in batch]
                images, masks = self._context.load_crops(places, height, width)
                self._store.release_memory()
                logits = self._predict_tiled(model, normalise_inputs(images, self._mean, self._std))
                yield torch.tensor(batch, device=self._device), logits, masks.long()

    def _pad_up(self, length: int) -> int:
        return -(-length // self._stride) * self._stride

    def _predict_tiled(self, model: nn.Module, inputs: Tensor) -> Tensor:
        height, width = inputs.shape[-2:]
        whole_logits = torch.zeros(0)
        for part in list_tiles(height, width):
            with self._autocast():
                logits: Tensor = model(inputs[(..., *part.seen)]).float()
            if logits.shape[-2:] == (height, width):
                return logits
            if not whole_logits.numel():
                whole_logits = logits.new_empty((*logits.shape[:2], height, width))
            whole_logits[(..., *part.place)] = logits[(..., *part.kept)]
        return whole_logits


def _join_counts(counters: list[HistogramCounter | MulticlassCounter | PartCounter]) -> ImageCounts:
    counted, *parts = (counter.make_counts() for counter in counters)
    return counted.model_copy(update={"parts": parts[0]}) if parts else counted
