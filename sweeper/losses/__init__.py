"""Losses: which families there are, and how to build one.

    from sweeper.losses import FAMILIES, build_loss
    criterion = build_loss("tversky", task="binary", fn_weight=0.7)
    loss = criterion(logits, target)

families.py           registry of the families; family_records.py: its records (no torch)
coordinates.py        checks of coordinates, and their translation into kernel settings (no torch)
kernel.py             cross-entropy, focal, Dice, Tversky and their mixtures, as pure functions of tensors; per_pixel.py
other_losses.py       batches, and the losses outside the kernel
build.py              `build_loss` and the modules it returns, which check their input
own_losses.py         the user's losses, registered as families (no torch at import); own_loss_module.py: their module
                      and its checks
snippet.py            Python text that builds a loss (no torch)
operating_point.py    choice of thresholds or τ from a network's validation logits
gradient_distance.py  whether two losses are the same function on a data set's labels

Importing this package does not import torch; the first use of `build_loss` or `choose_…` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweeper.losses.families import FAMILIES, LossCoordinate, LossFamily
from sweeper.losses.snippet import make_snippet

if TYPE_CHECKING:
    from sweeper.losses.build import build_loss
    from sweeper.losses.operating_point import choose_tau, choose_threshold, choose_thresholds

__all__ = [
    "FAMILIES",
    "LossCoordinate",
    "LossFamily",
    "build_loss",
    "choose_tau",
    "choose_threshold",
    "choose_thresholds",
    "make_snippet",
]


def __getattr__(name: str) -> Any:
    """Import the functions that need torch on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sweeper.losses import build, operating_point

    return getattr(build if name == "build_loss" else operating_point, name)
