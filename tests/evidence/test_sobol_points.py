"""Sobol points equal scipy's, to the last digit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import qmc

from sweeper.evidence.sobol_points import DIRECTIONS, SEED, sobol_points


@pytest.mark.parametrize("dimensions", range(1, len(DIRECTIONS) + 2))
def test_points_are_those_of_scipy(dimensions: int) -> None:
    assert np.array_equal(sobol_points(dimensions, 256), qmc.Sobol(dimensions, seed=SEED).random(256))
