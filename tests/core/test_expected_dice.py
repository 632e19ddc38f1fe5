"""The answers with the highest expected Dice, against enumeration and their authors' approximation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import norm

from sweeper.core import metrics
from sweeper.core.calibration import LOGITS, Calibration
from sweeper.core.expected_dice import compute_expected_dice, find_best_edges
from sweeper.core.operating_points import BINS, LOGIT_RANGE

WIDTH = 2 * LOGIT_RANGE / BINS


def sum_expected_dice(p: np.ndarray, answer: np.ndarray) -> float:
    """Return the expected Dice of an answer (n,) bool with independent pixels of probability p, by its sum.

    An image without foreground scores as in `metrics.make_image_rows`: 1 where nothing is predicted, else 0.
    """
    labels = (np.arange(2 ** len(p))[:, None] >> np.arange(len(p))) & 1
    weights = np.where(labels == 1, p, 1 - p).prod(axis=1)
    hit = labels[:, answer].sum(axis=1)
    false, missed = answer.sum() - hit, labels.sum(axis=1) - hit
    counts = np.stack(
        [np.stack([len(p) - hit - false - missed, missed, false], -1), np.stack([hit, false, missed], -1)], 1
    )
    return float(weights @ metrics.make_image_rows(counts, "image_dice")[:, 0, 0])


def compute_by_pixel(p: np.ndarray) -> np.ndarray:
    """Return the expected Dice (n,) of the answers that begin at each pixel, by ascending probability."""
    bins = np.r_[1e-9, p]  # an empty bin below, so that there is an edge before the first pixel
    return compute_expected_dice(np.r_[0.0, np.ones(len(p))][None], bins)[0]


@pytest.mark.parametrize("pixels", [1, 2, 7, 16])
def test_expectations_are_those_of_enumeration(pixels: int) -> None:
    p = np.sort(np.random.default_rng(pixels).beta(0.4, 0.8, pixels)).clip(1e-6, 1 - 1e-6)
    expected = compute_by_pixel(p)
    for first in range(0, pixels, 1 if pixels < 16 else 5):
        assert expected[first] == pytest.approx(sum_expected_dice(p, np.arange(pixels) >= first), abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.2, 0.02])
@pytest.mark.parametrize("seed", range(4))
def test_no_answer_has_a_higher_expected_dice_than_the_best_threshold(seed: int, scale: float) -> None:
    p = (scale * np.sort(np.random.default_rng(seed).beta(0.5, 1.0, 8))).clip(1e-6, 1 - 1e-6)
    answers = [np.array(answer, dtype=bool) for answer in itertools.product((False, True), repeat=8)]
    best = max(sum_expected_dice(p, answer) for answer in answers)
    edge = find_best_edges(np.repeat([0.0, 1.0], 8)[None], np.r_[np.full(8, 1e-9), p])[0]  # empty bins below
    assert sum_expected_dice(p, np.arange(8) >= edge - 7) == pytest.approx(best, abs=1e-6)
    assert (edge == 15) == (sum_expected_dice(p, np.zeros(8, dtype=bool)) == pytest.approx(best))


@pytest.mark.parametrize(("doubt", "nothing"), [(0.01, True), (0.05, True), (0.3, False)])
def test_nothing_is_predicted_in_an_image_that_is_probably_empty(doubt: float, nothing: bool) -> None:
    """Sixteen equal pixels, in the bins of a study."""
    calibration = Calibration(slope=1.0, bias=float(np.log(doubt / (1 - doubt))) - LOGITS[256])
    pixels = np.zeros((1, BINS))
    pixels[0, 256] = 16
    p = np.full(16, doubt)
    empty = sum_expected_dice(p, np.zeros(16, dtype=bool))
    assert (empty > max(sum_expected_dice(p, np.arange(16) < k) for k in range(1, 17))) == nothing
    edge = find_best_edges(pixels, calibration.bin_probabilities)[0]
    assert edge == BINS - 1 if nothing else edge < 256


def test_the_expected_dice_agrees_with_the_blind_approximation_of_its_authors() -> None:
    """Dai & Li's BA agrees: Γ, the number of foreground pixels, is taken as normal and independent of each pixel."""
    rng = np.random.default_rng(0)
    p = np.sort(1 / (1 + np.exp(-rng.normal(-3, 3, 4000))))
    mean, sd = p.sum(), np.sqrt((p * (1 - p)).sum())
    amount = np.arange(len(p) + 1)
    chance = norm.pdf(amount, mean, sd)
    chance /= chance.sum()
    down = p[::-1].cumsum()
    volumes = np.arange(1, len(p) + 1)
    blind = np.array([2 * down[k - 1] * (chance / (k + amount + 1)).sum() for k in volumes])[::-1]
    exact = compute_by_pixel(p)
    assert np.abs(exact - blind).max() < 2e-3
    assert exact[blind.argmax()] > exact.max() - 1e-5


def test_bins_lose_no_more_than_a_shift_by_one_bin() -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        logits = np.sort(rng.normal(-4, 3, 3000).clip(-11.9, 11.9))
        exact = compute_by_pixel(Calibration().compute_probability(logits))
        ends = np.linspace(-LOGIT_RANGE, LOGIT_RANGE, BINS + 1)
        edge = find_best_edges(np.histogram(logits, ends)[0][None], Calibration().bin_probabilities)[0]
        chosen = np.searchsorted(logits, ends[edge + 1])
        best = logits[exact.argmax()]
        around = np.searchsorted(logits, [best - WIDTH, best + WIDTH])
        assert exact[chosen] >= exact[around].min()
        assert exact[chosen] > exact.max() - 1e-4


def test_an_uncertain_image_has_foreground_and_one_without_pixels_has_none() -> None:
    pixels = np.zeros((2, BINS))
    pixels[0, :200] = 1000
    edges = find_best_edges(pixels, Calibration().bin_probabilities)
    assert pixels[0, edges[0] + 1 :].sum() > 0 and edges[1] == BINS - 1


@pytest.mark.parametrize("most", [3, 50, 3000])
def test_each_of_many_images_gets_its_best_edge(most: int) -> None:
    """Pixels in few bins: as a function of the edge the expectation has several peaks."""
    rng = np.random.default_rng(most)
    p = 1 / (1 + np.exp(-(np.arange(BINS) + 0.5) * WIDTH + LOGIT_RANGE))
    counts = np.zeros((200, BINS))
    for image in counts:
        bins = rng.integers(0, BINS, rng.integers(1, 60))
        image[bins] += rng.integers(1, most, len(bins))
    values = np.column_stack([compute_expected_dice(counts, p), np.exp(counts @ np.log1p(-p))])
    chosen = values[np.arange(len(counts)), find_best_edges(counts, p)]
    assert chosen == pytest.approx(values.max(axis=1), abs=1e-12)
