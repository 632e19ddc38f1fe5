"""Trainings of classes that overlap: counts, thresholds, scores, and what a network predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweeper.core import metrics, point_choice
from sweeper.core.label_planes import unpack_planes
from sweeper.core.metrics import METRICS
from sweeper.core.records import Collapse, Conditions, Dataset, ImageCounts
from sweeper.core.records.training import BINS, THRESHOLDS
from sweeper.core.tasks import RULES
from sweeper.data.store import open_store
from sweeper.losses import FAMILIES
from sweeper.training.counters import HistogramCounter, decide_labels, unpack_labels
from sweeper.training.engine import StudyTraining
from sweeper.training.predictor import Predictor
from sweeper.training.scores import judge_collapse
from sweeper.training.training_context import open_context
from sweeper.training.weights_file import read_record
from tests.support.marks import rest_slow
from tests.support.overlapping import make_overlapping
from tests.support.small_training import SMALL, spec, train, train_to_end

IGNORE = 255


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_overlapping(tmp_path_factory.mktemp("cells"))


def draw_logits(cells: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and masks of all images that are right in part."""
    store, rng = open_store(cells.store), torch.Generator().manual_seed(0)
    masks = torch.stack([torch.from_numpy(np.array(store.get_mask(i))).long() for i in range(len(store))])
    planes = unpack_labels(masks, 3)
    scale = torch.tensor([2.0, 1.0, 4.0]).view(-1, 1, 1)
    return (planes == 1) * scale - scale / 3 + torch.randn(planes.shape, generator=rng), masks


def count(logits: torch.Tensor, masks: torch.Tensor) -> ImageCounts:
    counter = HistogramCounter(tuple(range(len(masks))), (3,), torch.device("cpu"))
    for start in range(0, len(masks), 7):
        part = slice(start, start + 7)
        counter.add(torch.arange(len(masks))[part], logits[part], masks[part])
    return counter.make_counts()


def test_counts_and_scores_are_those_of_each_class_alone(cells: Dataset) -> None:
    logits, masks = draw_logits(cells)
    counts, planes = count(logits, masks), unpack_labels(masks, 3)
    assert counts.task == "multilabel" and counts.data.shape == (24, 3, 2, BINS)
    point = THRESHOLDS[200], THRESHOLDS[255], THRESHOLDS[300]
    at_point = metrics.count_at_point(counts, point)
    edges = torch.logit(torch.tensor(point, dtype=torch.float64)).view(-1, 1, 1)
    answers, labelled = logits >= edges - 1e-6, planes != IGNORE
    for n, (answer, truth) in enumerate(((answers & labelled, planes == 1),)):
        expected = [(answer & truth).sum((2, 3)), (answer & ~truth).sum((2, 3)), (~answer & truth).sum((2, 3))]
        np.testing.assert_array_equal(at_point, torch.stack(expected, -1), err_msg=str(n))
    for c in range(3):
        alone = HistogramCounter(counts.images, (), torch.device("cpu"))
        alone.add(torch.arange(24), logits[:, c : c + 1], planes[:, c])
        assert alone.make_counts().task == "binary"
        np.testing.assert_array_equal(at_point[:, c], metrics.count_at_point(alone.make_counts(), point[c])[:, 1])
        binary = alone.make_counts()
        for metric, of_foreground in (("miou", "fg_iou"), ("image_dice", "image_dice")):
            best = point_choice.find_best_point(counts, metric)[0][c]  # type: ignore[index]
            assert best == point_choice.find_best_point(binary, of_foreground)[0]
    np.testing.assert_array_equal(metrics.count_at_all_points(counts)[:, 255], metrics.count_at_point(counts, 0.5))
    with pytest.raises(ValueError, match="must be one of the stored 511"):
        metrics.count_at_point(counts, (0.5, 0.5, 0.1234))


def test_scores_equal_those_of_torchmetrics(cells: Dataset) -> None:
    library = pytest.importorskip("torchmetrics.classification", reason="needs the extra `oracles`")
    logits, masks = draw_logits(cells)
    scores = metrics.compute_scores(metrics.count_at_point(count(logits, masks), 0.5), "multilabel")
    planes, p = unpack_labels(masks, 3), logits.sigmoid()
    options = {"num_labels": 3, "ignore_index": IGNORE}
    iou = library.MultilabelJaccardIndex(average="none", **options)(p, planes)
    np.testing.assert_allclose(scores.iou, iou, rtol=1e-6)  # type: ignore[arg-type]
    assert scores.miou == pytest.approx(float(iou.mean())) and scores.fg_iou is None
    assert scores.dice == pytest.approx(float(library.MultilabelF1Score(average="macro", **options)(p, planes)))


def test_a_constant_answer_and_missing_classes_are_recognised(cells: Dataset) -> None:
    logits, masks = draw_logits(cells)
    shares = [(unpack_labels(masks, 3) == 1)[:, c].sum() / (masks != IGNORE).sum() for c in range(3)]
    assert metrics.compute_constant_miou(count(logits, masks)) == pytest.approx(float(sum(shares)) / 3)
    cases = {
        Collapse.ALL_BACKGROUND: torch.full_like(logits, -5.0),
        Collapse.NO_BETTER_THAN_CONSTANT: torch.full_like(logits, 5.0),
        Collapse.CLASS_NEVER_PREDICTED: torch.cat([logits[:, :2], torch.full_like(logits[:, 2:], -5.0)], 1),
        Collapse.NONE: logits,
    }
    for expected, answer in cases.items():
        assert judge_collapse(count(answer, masks), 0.5) is expected


def test_answers_have_the_bits_of_their_classes() -> None:
    logits = torch.logit(torch.tensor([[0.2, 0.6], [0.4, 0.6], [0.9, 0.1]])).view(1, 3, 1, 2)
    labels = decide_labels(logits, (0.1, 0.5, 0.5), None)
    assert labels.tolist() == [[[0b101, 0b011]]]
    assert unpack_labels(labels, 3).flatten(1).tolist() == [[1, 1, 0, 1, 1, 0]]


@pytest.mark.parametrize("family", [*FAMILIES])
def test_every_loss_trains(cells: Dataset, family: str) -> None:
    result = train(cells, family=family, params={})
    assert result.state == "complete" and result.collapse is not Collapse.DIVERGED
    assert result.val is not None and len(result.evaluations[-1].chosen.iou) == 3
    point = result.evaluations[-1].point
    assert isinstance(point, tuple) and len(point) == 3


@pytest.mark.parametrize("metric", rest_slow([name for name, entry in METRICS.items() if "multilabel" in entry.tasks]))
def test_a_confirmation_learns_the_classes_and_is_measured(cells: Dataset, metric: str, tmp_path: Path) -> None:
    recipe = SMALL.model_copy(update={"steps": 150, "confirm_steps": 150, "metric": metric, "batch_size": 4})
    conditions = Conditions(dataset=cells, recipe=recipe, seed=0)
    wanted: dict[str, Any] = {"purpose": "confirm", "family": "dice_ce", "lr": 5e-3, "keep_predictions": 2}
    training = StudyTraining(spec(steps=150, **wanted), open_context(conditions, "cpu"))
    result = train_to_end(training)
    last = result.evaluations[-1]
    assert result.test is not None and result.detail is not None and result.predictions is not None
    assert result.test.task == "multilabel" and isinstance(last.point, tuple)
    assert last.chosen.miou > 0.5 and not result.never_predicted
    training.save_weights(tmp_path / "w.safetensors")
    record = read_record(tmp_path / "w.safetensors")
    predictor = Predictor(tmp_path / "w.safetensors", record, "cpu", "float32", record.point)
    store, at_point = open_store(cells.store), metrics.count_at_point(result.test, last.point)
    for n, (image, kept) in enumerate(zip(result.predictions.images, result.predictions.masks, strict=True)):
        answer = predictor.predict_labels(store.get_image(image), probabilities=True)
        np.testing.assert_array_equal(answer.mask, kept)
        assert answer.probabilities is not None and answer.probabilities.shape == (3, 64, 64)
        truth, planes = (unpack_planes(np.asarray(mask), 3) for mask in (store.get_mask(image), kept))
        np.testing.assert_array_equal(at_point[n, :, 0], ((truth == 1) & (planes == 1)).sum((1, 2)))
    assert set(metrics.compute_detail_scores(result.detail, "multilabel")) >= {"boundary_iou"}
    if METRICS[metric].parts is not None:
        assert result.test.parts is not None
        parts = metrics.count_at_point(result.test.parts, last.point)
        assert parts.shape == at_point.shape and (parts.sum((0, 2)) > 0).all()


def test_the_output_starts_at_each_classes_log_odds(cells: Dataset) -> None:
    bias = torch.tensor(RULES["multilabel"].compute_bias(cells, (0, 1, 2)))
    pixels, labelled = cells.count_class_pixels((0, 1, 2)), cells.count_labelled_pixels((0, 1, 2))
    assert labelled == 3 * 64**2 - 36
    np.testing.assert_allclose(bias.sigmoid(), pixels / labelled, rtol=1e-5)
    assert RULES["multilabel"].make_frequencies(cells, (0, 1, 2)) == [n / labelled for n in pixels]
