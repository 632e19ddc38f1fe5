"""Where a difference's uncertainty comes from, in words."""

from __future__ import annotations

import pytest

from sweeper.core.records import Interval
from sweeper.evidence.reasons import _sources
from tests.support import builders


@pytest.mark.parametrize(
    ("se_seed", "se_image", "words"),
    [
        (0.003, 0.0, "0.003 from seeds; from images too little to be told from it"),
        (0.0, 0.004, "0.004 from images; from seeds too little to be told from it"),
        (0.003, 0.004, "0.003 from seeds, 0.004 from images"),
    ],
)
def test_an_estimated_variance_that_came_out_as_0_is_not_called_0(se_seed: float, se_image: float, words: str) -> None:
    found = Interval(estimate=0.01, low=0.0, high=0.02, se_seed=se_seed, se_image=se_image)
    assert _sources(builders.evidence({"dice": 0.7, "focal": 0.6}), found) == words
