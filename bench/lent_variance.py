"""Does a noisy loss hide what others gain? Wins over cross-entropy with and without variance that little is lent of.

    python bench/lent_variance.py [--simulations 2000]

Scores of three losses on five seeds and 40 images; trainings of one seed share 0.01 (standard deviation). Each line has
the share of simulated confirmations in which some loss has beaten cross-entropy, where less than one degree of freedom
is lent (`MIN_BORROWED` = 0) and where it is not (as it is).
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
"""Case → spread of each loss, gain of the second, chance that a training of the third collapses."""


def has_change(rng: np.random.Generator, spreads: tuple[float, ...], gain: float, collapse: float) -> bool:
    """Draw a confirmation, and return whether a loss has beaten the first in it."""
    scores = 0.6 + rng.normal(0, 0.01, (1, SEEDS)) + np.array(spreads)[:, None] * rng.normal(0, 1, (LOSSES, SEEDS))
    scores[1] += gain
    scores[-1] -= 0.5 * (rng.random(SEEDS) < collapse)
    shares = np.repeat(rng.normal(0, 0.02, (LOSSES, IMAGES)), SEEDS, axis=0) / IMAGES
    table = ImageTable(scores.ravel(), shares - shares.mean(axis=1, keepdims=True))
    places = [{seed: loss * SEEDS + seed for seed in range(SEEDS)} for loss in range(LOSSES)]
    comparisons = compare_pairs(places, table, plan_analyses(2, SEEDS), MARGIN, baseline=0)
    return any(each.won for each in comparisons if each.second == 0)


def main() -> None:
    """Print each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    simulations = parser.parse_args().simulations
    usual = moderated_variance.MIN_BORROWED
    for title, case in CASES.items():
        shares = []
        for least in (0.0, usual):
            moderated_variance.MIN_BORROWED = least
            shares.append(
                sum(has_change(np.random.default_rng([0, n]), *case) for n in range(simulations)) / simulations
            )
        print(f"{title}: {shares[0]:.1%} if it is lent, {shares[1]:.1%} as it is", flush=True)


if __name__ == "__main__":
    main()
