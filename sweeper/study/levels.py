"""The level of each configuration, estimated from all of its trainings, shrunk by the noise of a training.

The maximum of single noisy trainings chooses by luck: one training of 100 steps scores ± 0.02. So a configuration's
level θ, its value apart from luck, is estimated from every complete training on validation images: of ladder, first
look, search and replication. With blocks of trainings that share seed, steps and fold, and so images and batches,

  value = θ_configuration + block + ε,    θ ~ family + N(0, `SPREAD`²),    family ~ N(0, `FAMILY_SPREAD`²),

where the blocks' means are free, and ε ~ N(0, s²), with more for other steps than the confirmation's. s comes from the
first look, whose pairs were trained on the same seeds, together with `NOISE`. All is normal, so that the posterior is
exact (best linear unbiased prediction, Robinson 1991, "That BLUP is a Good Thing"). Test images take no part.

Pure; no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from sweeper.core.records import TrialResult

NOISE, NOISE_WEIGHT = 0.02, 4.0
"""Usual standard deviation of a training's value, in mIoU, and how many differences of pairs it counts as."""
FAMILY_SPREAD, SPREAD = 0.03, 0.02
"""Standard deviations of the families' levels, and of configurations within a family, in mIoU."""
STEPS_SPREAD = 0.01
"""Standard deviation of what other steps than the confirmation's change in a configuration's level."""
BLOCK_SPREAD = 1.0
"""Standard deviation of the blocks' means: nothing is known of them."""

Loss = tuple[object, ...]
"""A loss and its parameters (`TrialSpec.loss`)."""


@dataclass(frozen=True)
class Levels:
    """Levels of some configurations, relative to one another: a normal posterior."""

    losses: tuple[Loss, ...]
    means: npt.NDArray[np.float64]
    """(N,) means, in mIoU."""
    covariance: npt.NDArray[np.float64]
    """(N, N)."""

    @cached_property
    def _places(self) -> dict[Loss, int]:
        return {loss: place for place, loss in enumerate(self.losses)}

    def get_mean(self, loss: Loss) -> float:
        """Return the mean of a configuration's level."""
        return float(self.means[self._places[loss]])

    def compute_chance(self, loss: Loss, other: Loss) -> float:
        """Compute the probability that a configuration's level is above another's."""
        i, j = self._places[loss], self._places[other]
        variance = self.covariance[i, i] + self.covariance[j, j] - 2 * self.covariance[i, j]
        return float(ndtr((self.means[i] - self.means[j]) / math.sqrt(max(variance, 1e-12))))


def estimate_levels(trainings: Iterable[TrialResult], steps: int) -> Levels:
    """Estimate the levels for trainings of `steps` steps, from complete trainings at the study's learning rates.

    A training that diverged counts with its value, 0.
    """
    trained = [one for one in trainings if one.state == "complete"]
    if not trained:
        return Levels((), np.zeros(0), np.zeros((0, 0)))
    losses = [one.spec.loss for one in trained]
    blocks = [(one.spec.seed, one.spec.steps, one.spec.fold) for one in trained]
    is_other = np.array([one.spec.steps != steps for one in trained])
    known = tuple(dict.fromkeys(losses))
    of_known = _match(losses, known)
    prior = FAMILY_SPREAD**2 * _match([loss[0] for loss in known], [loss[0] for loss in known])
    prior += SPREAD**2 * np.eye(len(known))
    noise = estimate_noise(trained) ** 2 + STEPS_SPREAD**2 * is_other
    variance = of_known @ prior @ of_known.T + BLOCK_SPREAD**2 * _match(blocks, blocks) + np.diag(noise)
    values = np.array([one.score for one in trained])
    weights = np.linalg.solve(variance, of_known @ prior).T
    return Levels(known, weights @ (values - values.mean()), prior - weights @ of_known @ prior)


def estimate_noise(trainings: Sequence[TrialResult]) -> float:
    """Estimate the standard deviation of a training's value from pairs that were trained on the same seeds.

    The differences of each two configurations with two seeds or more in common, each less its mean, count together with
    `NOISE_WEIGHT` differences of the usual size.
    """
    by_loss: dict[Loss, dict[object, float]] = {}
    for one in trainings:
        block = (one.spec.seed, one.spec.steps, one.spec.fold)
        by_loss.setdefault(one.spec.loss, {})[block] = one.score
    first, *others = sorted(by_loss.values(), key=len, reverse=True)
    squares, freedom = NOISE_WEIGHT * 2 * NOISE**2, NOISE_WEIGHT
    for other in others:
        gaps = np.array([other[block] - value for block, value in first.items() if block in other])
        if len(gaps) > 1:
            squares += float(((gaps - gaps.mean()) ** 2).sum())
            freedom += len(gaps) - 1
    return math.sqrt(squares / freedom / 2)


def _match(rows: Sequence[object], columns: Sequence[object]) -> npt.NDArray[np.float64]:
    """Return 1 where a row equals a column, else 0."""
    return np.array([[float(row == column) for column in columns] for row in rows])
