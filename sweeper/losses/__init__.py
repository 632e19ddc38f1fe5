"""Losses: which families there are, and how to build one.

    from sweeper.losses import FAMILIES, build_loss
    criterion = build_loss("tversky", task="binary", fn_weight=0.7)
    loss = criterion(logits, target)

families.py           the registry: what each family is, searches, is good for (no torch); family_records.py
coordinates.py        checks of coordinates, and their translation into the kernel's terms (no torch)
kernel.py             cross-entropy, focal, Dice, Tversky and their mixtures, as pure functions of tensors; per_pixel.py
batch.py              a batch as the losses outside the kernel see it: pixel_losses.py, overlap_losses.py, map_losses.py
build.py              `build_loss` and the modules; loss_module.py: how they are called, what they refuse
own_losses.py         losses of the user: families once a study names them (no torch at first); own_loss_module.py: the
                      module around one, and what is tried of it
snippet.py            Python text that builds a loss (no torch)
operating_point.py    threshold or τ of another network, chosen from its validation logits
gradient_distance.py  whether two losses are the same function on a data set's labels
float64_check.py      whether this machine computes losses right, for `sweeper doctor`

Importing this package does not import torch; `build_loss` and `choose_…` bring it in when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweeper.losses.families import FAMILIES, LossCoordinate, LossFamily
from sweeper.losses.snippet import make_snippet

if TYPE_CHECKING:
    from sweeper.losses.build import build_loss
    from sweeper.losses.operating_point import choose_tau, choose_threshold

__all__ = ["FAMILIES", "LossCoordinate", "LossFamily", "build_loss", "choose_tau", "choose_threshold", "make_snippet"]


def __getattr__(name: str) -> Any:
    """Import what needs torch at first use (PEP 562)."""
    if name == "build_loss":
        from sweeper.losses.build import build_loss

        return build_loss
    if name in ("choose_tau", "choose_threshold"):
        from sweeper.losses import operating_point

        return getattr(operating_point, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
