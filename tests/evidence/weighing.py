"""Evidence for several test modules: computed from simulated confirmations, or literal with known errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sweeper.core.records import Comparison, Evidence, Interval, TrialResult
from sweeper.evidence.interim_analyses import plan_analyses
from sweeper.evidence.paired_comparisons import compute_evidence
from sweeper.evidence.regret import add_regrets
from tests.support.builders import BINARY, ORDER, evidence, simulated_confirmations, trial

SEARCH = {family: trial(family, 0.7, i) for i, family in enumerate(ORDER)}
ANALYSES = plan_analyses(2, 8)
PLACE = {analysis.seeds: place for place, analysis in enumerate(ANALYSES)}
EIGHT = tuple(range(101, 109))
"""Seeds."""


def simulate(levels: dict[str, float], seed: int = 0, **settings: Any) -> list[TrialResult]:
    """Return confirmations of losses of these true foreground IoUs."""
    return simulated_confirmations(levels, np.random.default_rng(seed), **settings)


def weigh(runs: list[TrialResult], **settings: Any) -> Evidence:
    return compute_evidence(runs, SEARCH, **{"classes": BINARY, **settings})


def get_gap(evidence: Evidence, first: str, second: str) -> Interval:
    names = [f.family for f in evidence.finalists]
    pair = (names.index(first), names.index(second))
    return next(c.difference for c in evidence.comparisons if (c.first, c.second) == pair)


def make_gap(estimate: float, se_seed: float, se_image: float, se_both: float = 0.0) -> Interval:
    errors = {"se_seed": se_seed, "se_image": se_image, "se_both": se_both}
    return Interval(estimate=estimate, low=-1, high=1, **errors)


def change_pairs(evidence: Evidence, change: Callable[[Comparison], dict[str, Any]]) -> Evidence:
    """Return the evidence with other fields of each comparison."""
    pairs = tuple(pair.model_copy(update=change(pair)) for pair in evidence.comparisons)
    return evidence.model_copy(update={"comparisons": pairs})


def set_errors(evidence: Evidence, **errors: float) -> Evidence:
    """Return the evidence with these standard errors of each difference."""
    return change_pairs(evidence, lambda pair: {"difference": pair.difference.model_copy(update=errors)})


def make_three_seeds(levels: dict[str, float], se_seed: float, se_image: float, **changes: Any) -> Evidence:
    """Return open comparisons after three seeds whose standard errors are known."""
    settings = {"half": 0.05, "analyses": ANALYSES, "analysis_index": PLACE[3], **changes}
    return add_regrets(set_errors(evidence(levels, **settings), se_seed=se_seed, se_image=se_image))
