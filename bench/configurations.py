"""Configurations that bench/sweep.py trains on both sides; without imports, so that no side starts later for them."""

from __future__ import annotations

from typing import Any


def list_fixed_configurations(count: int) -> list[dict[str, Any]]:
    """Return losses with their parameters and learning rates, as bench/plain_loop.py would draw them."""
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
