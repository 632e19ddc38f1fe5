"""Simulate how often a study with a final training says a wrong change, where gains differ between two networks.

    python bench/final_simulation.py [--studies 20000] [--seed 0]

True gains of the loss of the answer in the search's network and in the final one are drawn with a common spread of
0.05 and a correlation of 0, 0.5 or 1; in further rows they are fixed. The luck of a difference is normal, 0.03 in the
search's network and 0.02 in the final one. The confirmation is the planned race of 3 to 8 seeds, and the final training
follows `needs_seed`, with the analyses of the product (`FINAL_ANALYSIS`, `FIRST_LOOK`); images, which only widen
intervals, are left out.

`wrong` is the share of the studies whose final gain is at most 0 that end with a change, `found` that of those whose
final gain is at least 0.03. Both with and without the final training, so that one sees what it does; and how many seeds
it takes.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from sweeper.core.records import FinalComparison, InterimAnalysis, Interval
from sweeper.evidence.final_comparison import FINAL_ANALYSIS, MOST_SEEDS, needs_seed
from sweeper.evidence.interim_analyses import FIRST_LOOK, plan_analyses
from sweeper.evidence.verdict_predicates import is_win

Floats = npt.NDArray[np.float64]
MARGIN, SPREAD, LUCK, FINAL_LUCK = 0.01, 0.05, 0.03, 0.02
CONFIRMATION = plan_analyses(3, 8)
LARGE = 0.03
"""A gain that should be found."""


def make_interval(values: Floats, error: float, *, spread: float | None = None, freedom: int = 0) -> Interval:
    """Return the interval of the mean by Student's t; `spread` of a single value and its `freedom` pool with theirs."""
    mean, count = float(np.mean(values)), len(values)
    own = count - 1
    total = own * float(np.var(values, ddof=1)) if own else 0.0
    if spread is not None:
        total += freedom * spread**2
        own += freedom
    se = math.sqrt(total / own / count)
    half = float(stdtrit(own, 1 - error / 2)) * se
    return Interval(estimate=mean, low=mean - half, high=mean + half, se_seed=se, se_image=0.0)


def shows_gain(values: Floats, analyses: Sequence[InterimAnalysis]) -> bool:
    """Return whether one of these analyses shows a gain; each sees the first seeds."""
    seen = [analysis for analysis in analyses if analysis.seeds <= len(values)]
    return any(is_win(make_interval(values[: one.seeds], one.error), MARGIN) for one in seen)


def run_final(values: Floats, before: Floats, *, is_shown: bool) -> tuple[bool, int]:
    """Return whether the study ends with a change, and the seeds of its final training."""
    analysis = FINAL_ANALYSIS if is_shown else FIRST_LOOK
    spread, gap = float(np.std(before, ddof=1)), make_interval(before, 0.05)
    for seeds in range(1, MOST_SEEDS + 1):
        drawn = values[:seeds]
        after = make_interval(drawn, 0.05, spread=spread, freedom=len(before) - 1)
        found = FinalComparison(first="a", second="b", seeds=seeds, steps=500, before=gap, after=after)
        if not needs_seed(found, MARGIN, is_shown=is_shown, is_same_network=False):
            break
    return shows_gain(values[:seeds], [analysis]), seeds


def simulate(true: Sequence[tuple[float, float]], rng: np.random.Generator) -> list[tuple[bool, bool, int]]:
    """Return for each study: a change without the final training, with it, and its seeds."""
    rows = []
    for search, final in true:
        before = search + rng.normal(0, LUCK, CONFIRMATION[-1].seeds)
        is_shown = shows_gain(before, CONFIRMATION)
        change, seeds = run_final(final + rng.normal(0, FINAL_LUCK, MOST_SEEDS), before[:3], is_shown=is_shown)
        rows.append((is_shown, change, seeds))
    return rows


def main() -> None:
    """Print a row for each kind of study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, count = np.random.default_rng(arguments.seed), arguments.studies
    print("| true gains | wrong without | wrong | found without | found | seeds |\n|---|--:|--:|--:|--:|--:|")
    for correlation in (0.0, 0.5, 1.0):
        covariance = SPREAD**2 * np.array([[1, correlation], [correlation, 1]])
        pairs = rng.multivariate_normal([0.01, 0.01], covariance, count)
        print_row(f"correlation {correlation:g}", pairs, rng)
    for search, final in ((0.0, 0.0), (0.05, 0.0), (0.2, 0.0), (0.2, 0.009), (0.05, 0.05), (0.0, 0.05), (0.2, 0.04)):
        print_row(f"{search:+.3f} in the search, {final:+.3f} final", np.tile([search, final], (count, 1)), rng)


def print_row(name: str, pairs: Floats, rng: np.random.Generator) -> None:
    """Print how often these studies say a change where it is wrong, and where it should be found."""
    rows = np.array(simulate([tuple(pair) for pair in pairs], rng), dtype=float)
    cells = []
    for chosen in (pairs[:, 1] <= 0, pairs[:, 1] >= LARGE):
        shares = rows[chosen, :2].mean(axis=0) if chosen.any() else [math.nan] * 2
        cells += ["–" if math.isnan(share) else f"{100 * share:.1f} %" for share in shares]
    print(f"| {name} | {' | '.join(cells)} | {rows[:, 2].mean():.1f} |", flush=True)


if __name__ == "__main__":
    main()
