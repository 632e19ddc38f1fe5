"""Slope and bias of calibrations: recovered from drawn labels, finite in edge cases, and their effect on the error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from sweeper.core.calibration import LOGITS, Calibration, count_calibration_gaps, fit_calibration, fit_classes
from sweeper.core.detail_scores import compute_calibration_error
from sweeper.core.operating_points import BINS


def count_labelled(slope: float, bias: float, pixels: float = 1e6, centre: float = -3.0) -> np.ndarray:
    """Return (2, 512) expected counts of logits around `centre`, whose labels are calibrated by this slope and bias."""
    density = np.exp(-((LOGITS - centre) ** 2) / 18)
    amount = pixels * density / density.sum()
    p = Calibration(slope=slope, bias=bias).bin_probabilities
    return np.stack([amount * (1 - p), amount * p])


@pytest.mark.parametrize(("slope", "bias"), [(1.0, 0.0), (0.4, -1.5), (2.5, 3.0)])
def test_slope_and_bias_of_drawn_labels_are_recovered(slope: float, bias: float) -> None:
    fitted = fit_calibration(count_labelled(slope, bias))
    assert (fitted.slope, fitted.bias) == pytest.approx((slope, bias), abs=1e-2)
    assert fitted.compute_probability(-bias / slope) == pytest.approx(0.5, abs=5e-3)


def test_the_calibration_has_the_largest_likelihood() -> None:
    counts = np.random.default_rng(0).poisson(count_labelled(0.7, 1.0, 3000))
    negative, positive = counts.sum(axis=1)
    high, low = (positive + 1) / (positive + 2), 1 / (negative + 2)

    def loss(at: np.ndarray) -> float:
        z = at[0] * LOGITS + at[1]
        cost = [np.logaddexp(0, z) - target * z for target in (low, high)]
        return float(counts[0] @ cost[0] + counts[1] @ cost[1])

    fitted = fit_calibration(counts)
    assert loss(np.array([fitted.slope, fitted.bias])) <= minimize(loss, [1.0, 0.0]).fun + 1e-6


@pytest.mark.parametrize(("background", "foreground"), [(True, False), (False, True), (True, True)])
def test_labels_that_logits_do_not_separate_get_the_plain_calibration(background: bool, foreground: bool) -> None:
    """All pixels of one label, or the labels upside down."""
    counts = np.zeros((2, BINS))
    counts[0, 300:], counts[1, :200] = 50 * background, 50 * foreground
    assert fit_calibration(counts) == Calibration()


def test_labels_that_logits_separate_get_a_finite_calibration() -> None:
    counts = np.zeros((2, BINS))
    counts[0, :200], counts[1, 300:] = 50, 50
    fitted = fit_calibration(counts)
    assert 0 < fitted.slope < 100 and abs(fitted.bias) < 100


def test_calibrated_probabilities_have_no_calibration_error() -> None:
    counts = count_labelled(0.5, -1.0)[None]
    before = compute_calibration_error(count_calibration_gaps(counts, Calibration()).sum(axis=0))
    after = compute_calibration_error(count_calibration_gaps(counts, Calibration(slope=0.5, bias=-1.0)).sum(axis=0))
    assert before > 0.02 and after < 1e-9
    assert count_calibration_gaps(counts, Calibration())[..., 0].sum() == pytest.approx(1e6)


# --- Several classes ---------------------------------------------------------------------------------------------


def draw_pixels(slope: float, biases: tuple[float, ...], pixels: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (n, C), and labels drawn from softmax(slope · logits + biases)."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(pixels, len(biases)))
    noise = rng.gumbel(size=logits.shape)
    return logits, (slope * logits + np.array(biases) + noise).argmax(axis=1)


@pytest.mark.parametrize(("slope", "biases"), [(1.0, (0.0, 0.0, 0.0)), (0.5, (1.0, 0.5, -1.5)), (2.0, (0.3, -0.3))])
def test_slope_and_biases_of_drawn_labels_of_classes_are_recovered(slope: float, biases: tuple[float, ...]) -> None:
    logits, labels = draw_pixels(slope, biases)
    fitted = fit_classes(logits, labels)
    assert fitted.slope == pytest.approx(slope, rel=0.03)
    centred, expected = (np.array(values) - np.mean(values) for values in (fitted.biases, biases))
    assert centred == pytest.approx(expected, abs=0.05)


def test_mean_probabilities_are_the_shares_of_the_classes() -> None:
    logits, labels = draw_pixels(0.7, (1.0, 0.0, -1.0, 0.0))
    occurring = labels != 3
    fitted = fit_classes(logits[occurring], labels[occurring])
    z = fitted.slope * logits[occurring] + np.array(fitted.biases)
    shares = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert shares.mean(axis=0) == pytest.approx(np.bincount(labels[occurring], minlength=4) / occurring.sum(), abs=1e-3)
    assert np.isfinite(fitted.biases).all()
