"""Evaluations of whole images give the counts of a direct computation."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sweeper.core import metrics
from sweeper.core.contours import count_boundary_pixels
from sweeper.core.records import IGNORE, Conditions, Dataset
from sweeper.core.records.training import THRESHOLDS
from sweeper.data import open_store
from sweeper.data.store import PixelStore
from sweeper.training.evaluation import Evaluator
from sweeper.training.model import make_normaliser
from sweeper.training.training_context import TrainingContext
from tests.support.small_training import SMALL

CPU = torch.device("cpu")


class Echo(nn.Module):
    """A network that answers with what it sees: the first channels of the normalised image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, inputs: Tensor) -> Tensor:
        return 3 * inputs[:, : self.channels]


def make_evaluator(dataset: Dataset, store: PixelStore | None = None) -> Evaluator:
    store = store or open_store(dataset.store)
    pixels = dataset.count_class_pixels()
    return Evaluator(
        TrainingContext(Conditions(dataset=dataset, recipe=SMALL, seed=0), store, CPU),
        normal=make_normaliser(store, (0,)),
        autocast=nullcontext,
        log_prior=np.log(np.maximum(pixels, 1) / pixels.sum()),
    )


class FiveClasses(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([3 * inputs, inputs.flip(1)[:, :2]], dim=1)


@pytest.mark.parametrize(
    ("kind", "network", "points"),
    [("tiny", Echo(1), (0.5, THRESHOLDS[100], THRESHOLDS[400])), ("tiny_street", FiveClasses(), (-1.0, 0.0, 0.5))],
)
def test_counts_equal_a_direct_confusion_matrix(
    request: pytest.FixtureRequest, kind: str, network: nn.Module, points: tuple[float, ...]
) -> None:
    dataset: Dataset = request.getfixturevalue(kind)
    bench, images = make_evaluator(dataset), (2, 0, 5)
    counts, finite = bench.count(network, images)
    assert finite
    for point in points:
        predictions = bench.measure_test_images(network, images, point, keep=len(images))[2]
        assert predictions is not None
        maps = predictions.masks
        counted = metrics.count_at_point(counts, point)
        for n, index in enumerate(images):
            truth = open_store(dataset.store).get_mask(index)
            for label in range(len(dataset.classes)):
                hit = int(((maps[n] == label) & (truth == label)).sum())
                wrong = int(((maps[n] == label) & (truth != IGNORE)).sum()) - hit
                assert counted[n, label].tolist() == [hit, wrong, int((truth == label).sum()) - hit]


def test_large_images_are_predicted_in_tiles_with_the_same_answer(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = make_evaluator(tiny).count(Echo(1), (0, 1))
    monkeypatch.setattr("sweeper.training.evaluation.TILE", 32)
    monkeypatch.setattr("sweeper.training.evaluation.HALO", 8)
    tiled, _ = make_evaluator(tiny).count(Echo(1), (0, 1))
    assert np.array_equal(whole.data, tiled.data)


def test_logits_that_are_not_finite_are_noticed(tiny: Dataset) -> None:
    class Broken(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs[:, :1] * math.nan

    counts, finite = make_evaluator(tiny).count(Broken(), (0,))
    assert not finite
    assert counts.data.sum() == 64 * 64


def test_ignored_pixels_and_padding_are_not_counted(tiny: Dataset) -> None:
    class Masked:
        """The store with the left half of every mask ignored, at a height that must be padded."""

        channels, dtype, mask_dtype = (getattr(open_store(tiny.store), n) for n in ("channels", "dtype", "mask_dtype"))
        ignored_label = IGNORE
        sizes = tuple((61, width) for _, width in open_store(tiny.store).sizes)

        def get_mask(self, index: int) -> Any:
            mask = np.array(open_store(tiny.store).get_mask(index))[:61]
            mask[:, :32] = IGNORE
            return mask

        def get_image(self, index: int) -> Any:
            return np.array(open_store(tiny.store).get_image(index))[:61]

        def release_memory(self) -> None:
            """Release nothing: this store maps nothing."""

    bench = make_evaluator(tiny, Masked())  # type: ignore[arg-type]
    counts, detail, _ = bench.measure_test_images(Echo(1), (0, 2), 0.5)
    assert counts.data.sum(axis=(1, 2)).tolist() == [61 * 32] * 2
    right = make_evaluator(tiny)
    halves = [np.array(open_store(tiny.store).get_mask(i))[:61, 32:] for i in (0, 2)]
    predictions = right.measure_test_images(Echo(1), (0, 2), 0.5, keep=2)[2]
    assert predictions is not None
    for n, half in enumerate(halves):
        expected = count_boundary_pixels(half, predictions.masks[n][:61, 32:], 2, 2)
        np.testing.assert_array_equal(detail.boundary[n], expected)
