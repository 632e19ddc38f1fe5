"""Families of cross-entropy's kind for rare classes and wrong labels, each beside the kernel; no torch.

Part of the registry (`sweeper.losses.families`), which puts them in their place.
"""

from __future__ import annotations

from sweeper.core.records import Coordinate
from sweeper.losses.accepted_values import Limits
from sweeper.losses.family_records import Family, LossCoordinate, Reduction, everywhere, uniform

_ODDS = LossCoordinate(
    search=Coordinate(kind="power_of_imbalance", low=0.0, high=1.5),
    start=1.0,
    limits=Limits(0, 1e9, open_low=True),
    meaning="background / foreground pixels, to the power τ, that the logits are adjusted by: z − log of this",
)
_TAU = LossCoordinate(
    search=uniform(0.0, 1.5),
    start=1.0,
    default=1.0,
    limits=Limits(0, 10),
    meaning="τ in the adjustment of the logits z + τ log f, with f the class's share of the pixels",
)
_SURE = LossCoordinate(
    search=uniform(0.5, 0.95),
    start=0.7,
    default=0.7,
    limits=Limits(0, 1),
    meaning="probability of the own class from which a pixel is left out",
)
_KEPT = LossCoordinate(
    start=0.0625,
    default=0.0625,
    limits=Limits(0, 1),
    meaning="share of the labelled pixels, the hardest ones, that stay in however sure they are",
)

PIXEL_FAMILIES = (
    Family(
        name="logit_adjusted",
        title="Logit-adjusted cross-entropy",
        fixed={},
        coordinates={
            "binary": {"prior_odds": _ODDS},
            "multiclass": {"tau": _TAU},
        },
        helps="Rare classes that are missed: each has to win by a margin that grows with its rarity.",
        caveat="Answers lean to rare classes; an operating point chosen on validation takes part of that back.",
        source="Menon et al. 2021, Long-tail learning via logit adjustment, arXiv:2007.07314; τ = 1: Ren et al. 2020, "
        "Balanced Meta-Softmax, arXiv:2007.10740",
        formula="CE(z + τ log f), f = the classes' shares; binary: CE(z − log o), o = (background / foreground)^τ",
        relative=True,
        module="logit_adjusted",
        becomes=(Reduction(words="τ = 0 is cross-entropy", at={"tau": 0.0, "prior_odds": 1.0}, other="cross_entropy"),),
    ),
    Family(
        name="ohem_ce",
        title="Hard examples by threshold",
        fixed={},
        coordinates=everywhere(sure_at=_SURE, kept_at_least=_KEPT),
        helps="A great many easy pixels: those that are sure are left out, so that fewer and fewer count as it learns.",
        caveat="Wrong labels are never sure, and are never out of it; probabilities stay near the threshold.",
        source="Shrivastava et al. 2016, arXiv:1604.03540; for pixels: Wu et al. 2016, arXiv:1605.06885",
        formula="CE over the pixels with p_t < θ, and over the hardest share k at least",
        relative=True,
        module="ohem_ce",
        becomes=(
            Reduction(words="all pixels are cross-entropy", at={"kept_at_least": 1.0}, other="cross_entropy"),
            Reduction(
                words="without a threshold it is top-k cross-entropy",
                at={"sure_at": 0.0, "kept_at_least": 0.3},
                other="topk_ce",
                others_at={"hard_fraction": 0.3},
            ),
        ),
    ),
    Family(
        name="recall_ce",
        title="Recall cross-entropy",
        fixed={},
        coordinates=everywhere(),
        helps="Rare classes that are missed, without weights to tune: each weighs what the batch still misses of it.",
        caveat="Weights change from batch to batch; a class of few pixels in it can take over.",
        source="Tian et al. 2021, Recall Loss, arXiv:2106.14917 (weights as in the authors' code)",
        formula="CE(w), w_c = max(1, wrong pixels of c) / (pixels of c) in the batch",
        relative=True,
        module="recall_ce",
    ),
)
"""From the simplest on."""
