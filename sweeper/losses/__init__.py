"""Losses: which families there are, and how to build one.

    from sweeper.losses import FAMILIES, build_loss
    criterion = build_loss("tversky", task="binary", fn_weight=0.7)
    loss = criterion(logits, target)

families.py           the registry: what each family is, searches, is good for (no torch); pixel_families.py,
                      overlap_families.py, mixture_families.py and map_families.py, which are parts of it;
                      common_coordinates.py, family_records.py
accepted_values.py    what each coordinate may be and means (no torch)
coordinates.py        their checks, and their translation into the kernel's terms (no torch); class_weights.py
kernel.py             cross-entropy, focal, Dice, Tversky and their mixtures, as pure functions of tensors; per_pixel.py
build.py              `build_loss` and the module of a point of the kernel; loss_module.py: what all modules share;
                      batch_checks.py: what they refuse of a batch
reloadable.py         a point of the kernel whose hyper-parameters are tensors, for recorded steps
class_sums.py         what losses of whole classes beside the kernel share: generalized_dice.py, log_dice.py,
                      matthews.py, unified_focal.py, symmetric_unified_focal.py, exponential_logarithmic.py;
                      class_probabilities.py: noise_robust_dice.py, sensitivity_specificity.py, soft_cldice.py,
                      boundary.py; lovasz.py stands alone
surprise.py           −log p_t of each pixel: ohem_ce.py and others; logit_adjusted.py and recall_ce.py stand alone
label_maps.py         what losses of instances and skeletons share: instance_ce.py, blob_dice.py, skeleton_recall.py
own_losses.py         losses of the user: families once a study names them (no torch at first); own_loss_module.py: the
                      module around one, and what is tried of it
coming_from_elsewhere.py  what arguments of other libraries are here (no torch): a part of docs_page.py
snippet.py            Python text that builds a loss; other_libraries.py: the same with other libraries (no torch)

Importing this package does not import torch; `build_loss` brings it in when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweeper.losses.families import FAMILIES, Family, LossCoordinate
from sweeper.losses.other_libraries import equivalent
from sweeper.losses.snippet import snippet

if TYPE_CHECKING:
    from sweeper.losses.build import build_loss

__all__ = ["FAMILIES", "Family", "LossCoordinate", "build_loss", "equivalent", "snippet"]


def __getattr__(name: str) -> Any:
    """Import what needs torch at first use (PEP 562)."""
    if name == "build_loss":
        from sweeper.losses.build import build_loss

        return build_loss
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
