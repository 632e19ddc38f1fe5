"""Configurations that the same-work benchmarks train; light, so that importing them costs neither side anything."""

from __future__ import annotations

from typing import Any


def fixed_trials(count: int) -> list[dict[str, Any]]:
    """Return configurations that do not depend on a sampler, for measuring the same work."""
    kinds: list[dict[str, Any]] = [
        {"loss": "ce"},
        {"loss": "weighted_ce", "power": 0.5},
        {"loss": "focal", "gamma": 2.0, "alpha": 0.5},
        {"loss": "dice"},
        {"loss": "tversky", "fn_weight": 0.7},
        {"loss": "dice_ce", "mix": 0.5},
    ]
    rates = (1e-3, 3e-3)
    return [{**kinds[i % len(kinds)], "lr": rates[(i // len(kinds)) % 2]} for i in range(count)]
