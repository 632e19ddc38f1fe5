"""Sentences that give the reasons of a verdict and its limits."""

from __future__ import annotations

import numpy as np
import pytest

from sweeper.core.records import Collapse
from sweeper.evidence.reasons import (
    FEW_IMAGES,
    _format_error_sources,
    compute_collapse_rate,
    explain_collapses,
    list_evidence_caveats,
)
from tests.evidence.test_paired_comparisons import THREE, change_tests
from tests.evidence.weighing import make_gap, simulate, weigh
from tests.support.builders import BINARY, evidence

UNKNOWN = "the part of the images cannot be separated from it"


@pytest.mark.parametrize(
    ("se_seed", "se_image", "words"),
    [
        (0.003, 0.0, f"0.003 from seeds; {UNKNOWN}"),
        (0.0, 0.0, f"0.000 from seeds; {UNKNOWN}"),
        (0.003, 0.0002, "0.003 from seeds, hardly anything from images"),
        (0.0, 0.004, "0.004 from images, hardly anything from seeds"),
        (0.003, 0.004, "0.003 from seeds, 0.004 from images"),
    ],
)
def test_a_variance_that_is_estimated_as_0_is_not_called_0(se_seed: float, se_image: float, words: str) -> None:
    assert _format_error_sources(evidence({}), make_gap(0.01, se_seed, se_image)) == words


@pytest.mark.parametrize(
    ("collapses", "trainings", "low", "high"),
    [(0, 8, 0.0, 0.3694), (1, 8, 0.0032, 0.5265), (8, 8, 0.6306, 1.0), (2, 10, 0.0252, 0.5561), (0, 0, 0.0, 1.0)],
)
def test_the_rate_of_collapses_has_the_exact_interval(collapses: int, trainings: int, low: float, high: float) -> None:
    """Values of R's binom.test."""
    settings = {"collapses": collapses, "points": (0.5,) * trainings}
    finalist = evidence({"dice": 0.75}, finalists={"dice": settings}).finalists[0]
    assert compute_collapse_rate(finalist) == pytest.approx((low, high), abs=1e-4)
    before = {"points": (0.5,) * (trainings // 2), "trainings_in_search": trainings - trainings // 2}
    assert compute_collapse_rate(finalist.model_copy(update=before)) == pytest.approx((low, high), abs=1e-4)


NEVER = "dice, dice_ce and cross_entropy never collapsed,"


def test_a_collapse_in_the_search_counts_for_the_rate() -> None:
    settings = {"collapses_in_search": 1, "trainings_in_search": 2}
    record = evidence({"dice": 0.75, "cross_entropy": 0.7}, finalists={"dice": settings})
    (sentence,) = explain_collapses(record)
    assert sentence.startswith("0 of 3 confirmation trainings of dice and 1 before them collapsed (")
    assert "with those before, a rate of 1 to 72 % (95 % interval)" in sentence
    assert list_evidence_caveats(record)[-1].startswith("cross_entropy never collapsed, in 3 or more trainings")


def test_few_images_rare_classes_and_few_trainings_are_caveats() -> None:
    runs = simulate(THREE, images=40)
    mask = np.ones((40, 2, 1), int)
    mask[3:, 1] = 0  # foreground in three images only
    rare = change_tests(runs, lambda test: {"data": test.data * mask})
    collapsed = [run.model_copy(update={"collapse": Collapse.ALL_BACKGROUND}) for run in runs]
    for record, words in (
        (
            weigh(simulate(THREE)),
            [
                f"24 test images, fewer than {FEW_IMAGES}",
                f"{NEVER} in 3 or more trainings with those before the confirmation: a rate of 0 to 71 %",
            ],
        ),
        (
            weigh(runs, groups=["a", "a", *[None] * 38]),
            ["39 groups of test images, fewer than 40", "40 test images come in 39 groups", "71 %"],
        ),
        (weigh(rare), [f"fewer than 5 test images: {BINARY[1]} (3 images)", "71 %"]),
        (weigh(collapsed), []),
    ):
        caveats = list_evidence_caveats(record)
        assert len(caveats) == len(words) and all(map(str.__contains__, caveats, words))
