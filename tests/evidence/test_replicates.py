"""Trainings of one seed side by side."""

from __future__ import annotations

import pytest

from sweeper.core import metrics
from sweeper.core.records import TrialResult
from sweeper.evidence.replicates import Replicate, class_counts, own_point
from tests.support.builders import confirmation, histogram_counts


def torn_run(seed: int, images: tuple[int, ...], *, lost: bool = False) -> TrialResult:
    """A training scored on image 0, with foreground, and image 1, without any: both answered well."""
    whole = histogram_counts([90, 0], [10, 0], [10, 0], [890, 1000])
    made = confirmation("dice", seed, metrics.of_images(whole, images), seed)
    return made.model_copy(update={"test": None}) if lost else made


@pytest.mark.parametrize("metric", ["miou", "image_dice", "image_iou"])
def test_a_training_without_an_answer_is_right_on_no_image(metric: str) -> None:
    whole, torn = Replicate((torn_run(1, (0, 1)),)), Replicate((torn_run(2, (0,)), torn_run(2, (1,), lost=True)))
    counts = class_counts([whole, torn], (0, 1), own_point, metric)
    assert (counts[0, 0] == counts[1, 0]).all()
    empty = metrics.image_rows(counts[:, 1], metric)
    if metric == "miou":  # all its pixels are missed: none is falsely alarmed
        assert empty[1, :, 0].sum() == 0 and empty[1, :, 1].sum() == 0 and empty[1, 0, 2] == 1000
    else:
        assert empty[:, 0].tolist() == [[1.0, 1.0], [0.0, 1.0]]
