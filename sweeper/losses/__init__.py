"""Losses: which families there are, and how to build one.

    from sweeper.losses import FAMILIES, build_loss
    criterion = build_loss("tversky", task="binary", fn_weight=0.7)
    loss = criterion(logits, target)

families.py     the registry: what each family is, searches, is good for (no torch); family.py: its records
limits.py       what each coordinate may be and means (no torch)
coordinates.py  their checks, and their translation into the kernel's terms (no torch); weights.py: class weights
kernel.py       the mathematics, as pure functions of tensors; pixels.py: its parts that act pixel by pixel
onepass/        the same on a processor, in one pass over the logits and one for the gradient
module.py       `build_loss` and the module of a point of the kernel; segmentation.py: what all modules share
relatives.py    what the losses beside the kernel share: generalized_dice.py, log_cosh_dice.py, unified_focal.py,
                lovasz.py, soft_cldice.py, boundary.py
snippet.py      Python text that builds a loss; equivalent.py: the same with other libraries (no torch)

Importing this package does not import torch; `build_loss` brings it in when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweeper.losses.equivalent import equivalent
from sweeper.losses.families import FAMILIES, Family, LossCoordinate
from sweeper.losses.snippet import snippet

if TYPE_CHECKING:
    from sweeper.losses.module import build_loss

__all__ = ["FAMILIES", "Family", "LossCoordinate", "build_loss", "equivalent", "snippet"]


def __getattr__(name: str) -> Any:
    """Import `build_loss`, and torch with it, at first use (PEP 562)."""
    if name == "build_loss":
        from sweeper.losses.module import build_loss

        return build_loss
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
