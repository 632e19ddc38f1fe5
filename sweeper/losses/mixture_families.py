"""Families that mix cross-entropy with an overlap. No torch.

Part of the registry (`sweeper.losses.families`). Points of the kernel (`sweeper.losses.kernel`) and functions of
`sweeper.losses.overlap_losses`.
"""

from __future__ import annotations

from sweeper.losses.family_records import (
    DICE_WEIGHTS,
    GAMMA,
    HARD,
    IMBALANCE_POWER,
    MIX,
    LossCoordinate,
    LossFamily,
    ValueLimits,
    for_all_tasks,
    uniform_range,
)
from sweeper.losses.map_families import DICE

_DELTA = LossCoordinate(
    search=uniform_range(0.3, 0.95),
    start=0.6,
    default=0.6,
    limits=ValueLimits(0, 1),
    meaning="weight of rare classes and missed pixels; common classes and false alarms have 1 − this",
)
_SUPPRESSION = LossCoordinate(
    search=uniform_range(0.0, 0.95),
    start=0.5,
    default=0.5,
    limits=ValueLimits(0, 1, open_high=True),
    meaning="focal exponent of common classes; the overlap exponent of rare ones is 1 − this",
)
_PLAIN_POWER = LossCoordinate(search=IMBALANCE_POWER, start=0.0, default=1.0)

MIXTURE_FAMILIES = (
    LossFamily(
        name="dice_ce",
        title="Dice + cross-entropy",
        fixed=DICE_WEIGHTS,
        coordinates={
            "binary": {"mix": MIX, "pos_weight": _PLAIN_POWER},
            "multiclass": {
                "mix": MIX,
                "class_weight_power": LossCoordinate(search=uniform_range(0.0, 1.1), start=0.0, default=0.0),
            },
        },
        helps="The safe choice under imbalance: overlap for rare classes, cross-entropy for smooth gradients.",
        caveat="Two parts on different scales: the best mix depends on the data.",
        source="Isensee et al. 2021, nnU-Net, arXiv:1904.08128; Taghanaki et al. 2019, Combo Loss, arXiv:1805.02798",
        formula="λ · CE(w) + (1 − λ) · mean_c (1 − TI_c(½, ½))",
    ),
    LossFamily(
        name="dice_focal",
        title="Dice + focal",
        fixed=DICE_WEIGHTS,
        coordinates=for_all_tasks(mix=MIX, gamma=GAMMA),
        helps="Strong imbalance with hard examples: overlap for rare classes, focal for their borders.",
        caveat="Follows wrong labels as focal does; one hyper-parameter more to tune than Dice.",
        source="Zhu et al. 2019, AnatomyNet, arXiv:1808.05238",
        formula="λ · CE(γ) + (1 − λ) · mean_c (1 − TI_c(½, ½))",
    ),
    LossFamily(
        name="dice_topk",
        title="Dice + top-k cross-entropy",
        fixed=DICE_WEIGHTS,
        coordinates=for_all_tasks(mix=MIX, hard_fraction=HARD),
        helps="Small targets with hard parts, such as tumours: overlap for the whole, cross-entropy for the worst.",
        caveat="Wrong labels stay in the worst pixels for good.",
        source="Isensee et al. 2021, nnU-Net, arXiv:1904.08128; Ma et al. 2021, doi:10.1016/j.media.2021.102035",
        formula=f"λ · CE over the hardest share h + (1 − λ) · {DICE}",
    ),
    LossFamily(
        name="unified_focal",
        title="Unified focal",
        fixed={},
        coordinates=for_all_tasks(mix=MIX, delta=_DELTA, suppression=_SUPPRESSION),
        helps="Strong imbalance: what is common is quietened where easy, what is rare never is, in both parts alike.",
        caveat="Three numbers to tune; the rare classes' slope grows steep near a perfect overlap.",
        source="Yeung et al. 2022, Unified Focal loss, arXiv:2102.04525 (the asymmetric form, equations 16 to 18)",
        formula="λ · CE(α = δ; γ = s if common) + (1 − λ) · mean_c (1 − TI_c(1 − δ, δ))^κ, κ = 1 if common, else 1 − s",
        relative=True,
        module="overlap_losses",
    ),
)
"""Families, from the simplest on."""
