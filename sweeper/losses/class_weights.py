"""Class weights, and shifts of logits, from α or the classes' shares of the pixels. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence


def frequency_weights(frequencies: Sequence[float], power: float) -> tuple[float, ...]:
    """Class weights w_c ∝ f_c^−power with Σ f_c w_c = 1; a class without pixels gets the largest weight present.

    Args:
        frequencies: pixels of each class, as counts or shares; finite, ≥ 0, not all 0.
        power: 0 = all weights 1, 1 = inverse frequency.
    """
    total = math.fsum(frequencies)
    raw = [(f / total) ** -power if f > 0 else None for f in frequencies]
    mean = math.fsum(f / total * w for f, w in zip(frequencies, raw, strict=True) if w is not None)
    largest = max(w for w in raw if w is not None)
    return tuple((largest if w is None else w) / mean for w in raw)


def log_prior_shifts(frequencies: Sequence[float], tau: float) -> tuple[float, ...]:
    """τ log f_c of each class, what the logits are adjusted by; a class without pixels counts as the rarest with some.

    Args:
        frequencies: pixels of each class, as counts or shares; finite, ≥ 0, not all 0.
        tau: ≥ 0.
    """
    total, least = math.fsum(frequencies), min(f for f in frequencies if f > 0)
    return tuple(tau * math.log(max(f, least) / total) for f in frequencies)


def commonest(frequencies: Sequence[float]) -> int:
    """Index of the most frequent class, the first of several."""
    return max(range(len(frequencies)), key=lambda c: frequencies[c])


def alpha_weights(frequencies: Sequence[float], alpha: float) -> tuple[float, ...]:
    """Multi-class α: 1 − α for the most frequent class (the first, of several), α for every other."""
    most = commonest(frequencies)
    return tuple(1 - alpha if c == most else alpha for c in range(len(frequencies)))
