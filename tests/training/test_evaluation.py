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
from sweeper.core.calibration import ClassCalibration
from sweeper.core.contours import count_boundary_pixels
from sweeper.core.operating_points import THRESHOLDS
from sweeper.core.records import IGNORE, Conditions, Dataset
from sweeper.data import open_store
from sweeper.data.store import PixelStore
from sweeper.training.batches import normalise_inputs
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
    [
        ("tiny", Echo(1), (0.5, THRESHOLDS[100], THRESHOLDS[400])),
        ("tiny_street", FiveClasses(), (-1.0, 0.0, 0.5)),
    ],
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


def test_calibrated_probabilities_of_classes_have_the_shares_of_the_labels(tiny_street: Dataset) -> None:
    bench, images = make_evaluator(tiny_street), (1, 3)
    counts, _ = bench.count(FiveClasses(), images)
    calibration = bench.fit_calibration(FiveClasses(), counts)
    assert isinstance(calibration, ClassCalibration)
    shares = []
    for _, logits, masks in bench._predict(FiveClasses(), images):
        z = calibration.slope * logits + torch.tensor(calibration.biases).view(-1, 1, 1)
        shares.append(z.softmax(1).permute(0, 2, 3, 1)[masks != IGNORE])
    labels = np.concatenate([open_store(tiny_street.store).get_mask(i).ravel() for i in images])
    of_labels = np.bincount(labels[labels != IGNORE], minlength=5) / (labels != IGNORE).sum()
    assert torch.cat(shares).mean(0).numpy() == pytest.approx(of_labels, abs=2e-3)


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


def test_confidence_of_many_classes_is_that_of_the_softmax(tiny_street: Dataset) -> None:
    bench, images = make_evaluator(tiny_street), (1, 3)
    measured, detail, _ = bench.measure_test_images(FiveClasses(), images, 0.5)
    store = open_store(tiny_street.store)
    for n, index in enumerate(images):
        mask = torch.from_numpy(np.array(store.get_mask(index))).long()
        mean, std = make_normaliser(store, images)
        image = torch.from_numpy(np.array(store.get_image(index)))[None]
        best, answer = FiveClasses()(normalise_inputs(image, mean, std)).float().softmax(1).max(1)
        labelled = mask != IGNORE
        assert detail.confidence[n, :, 2].sum() == pytest.approx(float(best[0][labelled].sum()), rel=1e-5)
        assert detail.confidence[n, :, 1].sum() == int((answer[0] == mask)[labelled].sum())
    counts, _ = bench.count(FiveClasses(), images)
    np.testing.assert_array_equal(measured.data, counts.data)


def test_ignored_pixels_and_padding_are_not_counted(tiny: Dataset) -> None:
    class Masked:
        """The store with the left half of every mask ignored, at a height that must be padded."""

        channels, dtype = open_store(tiny.store).channels, open_store(tiny.store).dtype
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
    _, detail, _ = bench.measure_test_images(Echo(1), (0, 2), 0.5)
    assert detail.confidence[:, :, 0].sum(axis=1).tolist() == [61 * 32] * 2
    right = make_evaluator(tiny)
    halves = [np.array(open_store(tiny.store).get_mask(i))[:61, 32:] for i in (0, 2)]
    predictions = right.measure_test_images(Echo(1), (0, 2), 0.5, keep=2)[2]
    assert predictions is not None
    for n, half in enumerate(halves):
        expected = count_boundary_pixels(half, predictions.masks[n][:61, 32:], 2, 2)
        np.testing.assert_array_equal(detail.boundary[n], expected)
