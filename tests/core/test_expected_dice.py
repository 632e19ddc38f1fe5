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


def enumerated(p: np.ndarray, taken: np.ndarray) -> float:
    """Compute the expected Dice of an answer (n,) bool with independent pixels of probability p, by its sum.

    An image without foreground scores as in `metrics.make_image_rows`: 1 where nothing is taken, else 0.
    """
    labels = (np.arange(2 ** len(p))[:, None] >> np.arange(len(p))) & 1
    weights = np.where(labels == 1, p, 1 - p).prod(axis=1)
    hit = labels[:, taken].sum(axis=1)
    false, missed = taken.sum() - hit, labels.sum(axis=1) - hit
    counts = np.stack(
        [np.stack([len(p) - hit - false - missed, missed, false], -1), np.stack([hit, false, missed], -1)], 1
    )
    return float(weights @ metrics.make_image_rows(counts, "image_dice")[:, 0, 0])


def pixel_by_pixel(p: np.ndarray) -> np.ndarray:
    """(n,) by ascending probability: expected Dice of the answers that begin at each pixel."""
    bins = np.r_[1e-9, p]  # an empty bin below, so that there is an edge before the first pixel
    return compute_expected_dice(np.r_[0.0, np.ones(len(p))][None], bins)[0]


@pytest.mark.parametrize("pixels", [1, 2, 7, 16])
def test_expectations_are_those_of_enumeration(pixels: int) -> None:
    p = np.sort(np.random.default_rng(pixels).beta(0.4, 0.8, pixels)).clip(1e-6, 1 - 1e-6)
    found = pixel_by_pixel(p)
    for first in range(0, pixels, 1 if pixels < 16 else 5):
        assert found[first] == pytest.approx(enumerated(p, np.arange(pixels) >= first), abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.2, 0.02])
@pytest.mark.parametrize("seed", range(4))
def test_no_answer_at_all_beats_the_best_threshold_of_an_image(seed: int, scale: float) -> None:
    p = (scale * np.sort(np.random.default_rng(seed).beta(0.5, 1.0, 8))).clip(1e-6, 1 - 1e-6)
    best = max(enumerated(p, np.array(taken, dtype=bool)) for taken in itertools.product((False, True), repeat=8))
    found = find_best_edges(np.repeat([0.0, 1.0], 8)[None], np.r_[np.full(8, 1e-9), p])[0]  # empty bins below
    assert enumerated(p, np.arange(8) >= found - 7) == pytest.approx(best, abs=1e-6)
    assert (found == 15) == (enumerated(p, np.zeros(8, dtype=bool)) == pytest.approx(best))


@pytest.mark.parametrize(("doubt", "nothing"), [(0.01, True), (0.05, True), (0.3, False)])
def test_nothing_is_predicted_in_an_image_that_is_probably_empty(doubt: float, nothing: bool) -> None:
    """Sixteen pixels alike, in the bins of a study."""
    calibration = Calibration(slope=1.0, bias=float(np.log(doubt / (1 - doubt))) - LOGITS[256])
    pixels = np.zeros((1, BINS))
    pixels[0, 256] = 16
    p = np.full(16, doubt)
    empty, best = enumerated(p, np.zeros(16, dtype=bool)), max(enumerated(p, np.arange(16) < k) for k in range(1, 17))
    assert (empty > best) == nothing
    found = find_best_edges(pixels, calibration.bin_probabilities)[0]
    assert found == BINS - 1 if nothing else found < 256


def test_it_agrees_with_the_authors_blind_approximation_without_pruning() -> None:
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
    exact = pixel_by_pixel(p)
    assert np.abs(exact - blind).max() < 2e-3
    assert exact[blind.argmax()] > exact.max() - 1e-5


def test_bins_lose_no_more_than_a_shift_by_one_of_them() -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        logits = np.sort(rng.normal(-4, 3, 3000).clip(-11.9, 11.9))
        exact = pixel_by_pixel(Calibration().compute_probability(logits))
        ends = np.linspace(-LOGIT_RANGE, LOGIT_RANGE, BINS + 1)
        edge = find_best_edges(np.histogram(logits, ends)[0][None], Calibration().bin_probabilities)[0]
        chosen = np.searchsorted(logits, ends[edge + 1])
        best = logits[exact.argmax()]
        around = np.searchsorted(logits, [best - WIDTH, best + WIDTH])
        assert exact[chosen] >= exact[around].min()
        assert exact[chosen] > exact.max() - 1e-4


def test_the_best_edge_is_found_without_trying_each() -> None:
    rng = np.random.default_rng(3)
    places, widths, sizes = rng.normal(-4, 3, (60, 1)), rng.uniform(2, 30, (60, 1)), np.exp(rng.normal(4, 2, (60, 1)))
    pixels = rng.poisson(sizes * np.exp(-((LOGITS - places) ** 2) / widths))
    pixels[0], pixels[1, :3], pixels[2, 510:] = 0, 4, 7
    every = compute_expected_dice(pixels, Calibration(slope=0.7, bias=0.5).bin_probabilities)
    found = find_best_edges(pixels, Calibration(slope=0.7, bias=0.5).bin_probabilities)
    p = Calibration(slope=0.7, bias=0.5).bin_probabilities
    none = np.prod((1 - p) ** pixels, axis=1) > every.max(axis=1)
    assert none.any() and (found[none] == BINS - 1).all()
    assert every[~none, found[~none]] == pytest.approx(every[~none].max(axis=1), abs=1e-9)


def test_one_threshold_is_optimal_where_counts_are_summed_over_images() -> None:
    """Koyejo et al. 2014: a threshold for each image does not beat a common one on the ratio of sums."""
    rng = np.random.default_rng(2)
    images = [np.sort(rng.beta(0.5, a, 6)) for a in (0.5, 1.0, 3.0)]
    everything = sum(p.sum() for p in images)

    def score(cuts: tuple[float, ...]) -> float:
        taken = [p[p >= cut] for p, cut in zip(images, cuts, strict=True)]
        return float(2 * sum(t.sum() for t in taken) / (sum(map(len, taken)) + everything))

    best = max(score(cuts) for cuts in itertools.product(*[[*p, 2.0] for p in images]))
    assert max(score((cut,) * 3) for cut in np.concatenate(images)) == pytest.approx(best)


def test_an_image_of_much_doubt_is_answered_and_one_without_pixels_is_not() -> None:
    pixels = np.zeros((2, BINS))
    pixels[0, :200] = 1000
    edges = find_best_edges(pixels, Calibration().bin_probabilities)
    assert pixels[0, edges[0] + 1 :].sum() > 0 and edges[1] == BINS - 1
    assert LOGITS[0] == pytest.approx(-LOGIT_RANGE + WIDTH / 2)


@pytest.mark.parametrize("most", [3, 50, 3000])
def test_no_edge_is_passed_over(most: int) -> None:
    """Pixels in few bins: as a function of the edge the expectation has several peaks."""
    rng = np.random.default_rng(most)
    p = 1 / (1 + np.exp(-(np.arange(BINS) + 0.5) * WIDTH + LOGIT_RANGE))
    counts = np.zeros((200, BINS))
    for image in counts:
        bins = rng.integers(0, BINS, rng.integers(1, 60))
        image[bins] += rng.integers(1, most, len(bins))
    values = np.column_stack([compute_expected_dice(counts, p), np.exp(counts @ np.log1p(-p))])
    found = values[np.arange(len(counts)), find_best_edges(counts, p)]
    assert found == pytest.approx(values.max(axis=1), abs=1e-12)
