"""Measure whether a noisy loss hides the gains of others, with and without the limit of borrowed degrees of freedom.

    python bench/lent_variance.py [--simulations 2000]

The variance of a pair of losses borrows degrees of freedom from the other pairs, unless fewer than `MIN_BORROWED` could
be borrowed (sweeper/evidence/moderated_variance.py). Simulates confirmations of three losses on five seeds and 40
images; trainings with the same seed share 0.01 (standard deviation).

Prints for each case the share of confirmations in which some loss beats cross-entropy: without this limit
(`MIN_BORROWED` = 0), and with it.
"""

from __future__ import annotations

import argparse

import numpy as np

from sweeper.evidence import moderated_variance
from sweeper.evidence.interim_analyses import plan_analyses
from sweeper.evidence.intervals import ImageTable
from sweeper.evidence.paired_comparisons import compare_pairs

SEEDS, IMAGES, LOSSES, MARGIN = 5, 40, 3, 0.01
CASES = {
    "gain of 0.03, the third collapses on a fifth of its seeds": ((0.006, 0.006, 0.006), 0.03, 0.2),
    "gain of 0.03, the third is five times as noisy": ((0.006, 0.006, 0.03), 0.03, 0.0),
    "equal losses": ((0.01, 0.01, 0.01), 0.0, 0.0),
    "equal losses, the third collapses on a fifth of its seeds": ((0.01, 0.01, 0.01), 0.0, 0.2),
    "equal losses, the third is five times as noisy": ((0.01, 0.01, 0.05), 0.0, 0.0),
}
"""Case → spread of each loss, gain of the second, probability that a training of the third collapses."""


def has_win(rng: np.random.Generator, spreads: tuple[float, ...], gain: float, collapse: float) -> bool:
    """Draw a confirmation; return whether a loss beats the first one in it."""
    scores = 0.6 + rng.normal(0, 0.01, (1, SEEDS)) + np.array(spreads)[:, None] * rng.normal(0, 1, (LOSSES, SEEDS))
    scores[1] += gain
    scores[-1] -= 0.5 * (rng.random(SEEDS) < collapse)
    shares = np.repeat(rng.normal(0, 0.02, (LOSSES, IMAGES)), SEEDS, axis=0) / IMAGES
    table = ImageTable(scores.ravel(), shares - shares.mean(axis=1, keepdims=True))
    places = [{seed: loss * SEEDS + seed for seed in range(SEEDS)} for loss in range(LOSSES)]
    comparisons = compare_pairs(places, table, plan_analyses(2, SEEDS), MARGIN, baseline=0)
    return any(each.won for each in comparisons if each.second == 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    simulations = parser.parse_args().simulations
    limit = moderated_variance.MIN_BORROWED
    for title, case in CASES.items():
        shares = []
        for least in (0.0, limit):
            moderated_variance.MIN_BORROWED = least
            wins = sum(has_win(np.random.default_rng([0, n]), *case) for n in range(simulations))
            shares.append(wins / simulations)
        print(f"{title}: {shares[0]:.1%} without the limit, {shares[1]:.1%} with it", flush=True)


if __name__ == "__main__":
    main()
