"""Families of cross-entropy's kind: a mean over pixels, which are weighted or chosen. No torch.

Part of the registry (`sweeper.losses.families`). Points of the kernel (`sweeper.losses.kernel`) and functions of
`sweeper.losses.pixel_losses`.
"""

from __future__ import annotations

from sweeper.core.records import Coordinate
from sweeper.losses.family_records import (
    ALPHA_MULTICLASS,
    GAMMA,
    HARD,
    POWER,
    LossCoordinate,
    LossFamily,
    ValueLimits,
    for_all_tasks,
    uniform_range,
)

# α and the weight of rare pixels are one coordinate (w = α / (1 − α)): no family has both.
_ALPHA = LossCoordinate(search=uniform_range(0.05, 0.95), start=0.25, default=0.25)
_ODDS = LossCoordinate(
    search=Coordinate(kind="power_of_imbalance", low=0.0, high=1.5),
    start=1.0,
    limits=ValueLimits(0, 1e9, open_low=True),
    meaning="background / foreground pixels, to the power τ, that the logits are adjusted by: z − log of this",
)
_TAU = LossCoordinate(
    search=uniform_range(0.0, 1.5),
    start=1.0,
    default=1.0,
    limits=ValueLimits(0, 10),
    meaning="τ in the adjustment of the logits z + τ log f, with f the class's share of the pixels",
)
_SURE = LossCoordinate(
    search=uniform_range(0.5, 0.95),
    start=0.7,
    default=0.7,
    limits=ValueLimits(0, 1),
    meaning="probability of the own class from which a pixel is left out",
)
_KEPT = LossCoordinate(
    start=0.0625,
    default=0.0625,
    limits=ValueLimits(0, 1),
    meaning="share of the labelled pixels, the hardest ones, that stay in however sure they are",
)

PIXEL_FAMILIES = (
    LossFamily(
        name="cross_entropy",
        title="Cross-entropy",
        fixed={"mix": 1.0},
        coordinates=for_all_tasks(),
        helps="Classes of similar size, clean labels, or when calibrated probabilities matter: the baseline.",
        caveat="Rare classes hardly count: each pixel weighs the same.",
        source="Long et al. 2015, Fully Convolutional Networks, arXiv:1411.4038",
        formula="CE = −mean log p_t",
    ),
    LossFamily(
        name="weighted_ce",
        title="Weighted cross-entropy",
        fixed={"mix": 1.0},
        coordinates={
            "binary": {"pos_weight": POWER},
            # Not 1: full inverse frequency does poorly on long tails, its square root is the usual softening
            # (Cui et al. 2019, sections 1 and 2).
            "multiclass": {
                "class_weight_power": LossCoordinate(search=uniform_range(0.0, 1.1), start=0.5, default=0.5)
            },
        },
        helps="Rare classes that are missed: raises recall by making their pixels weigh more.",
        caveat="Probabilities come out too high for rare classes; choose the threshold on validation.",
        source="Xie & Tu 2015, HED, arXiv:1504.06375; Cui et al. 2019, Class-Balanced Loss, arXiv:1901.05555",
        formula="CE(w) = −mean w_t log p_t",
    ),
    LossFamily(
        name="focal",
        title="Focal",
        fixed={"mix": 1.0},
        coordinates={
            "binary": {"gamma": GAMMA, "alpha": _ALPHA},
            "multiclass": {"gamma": GAMMA, "alpha": ALPHA_MULTICLASS},
        },
        helps="A great many easy pixels that drown the few hard ones, such as distractors and thin borders.",
        caveat="Follows wrong labels, which look like hard pixels; under-confident probabilities.",
        source="Lin et al. 2017, Focal Loss for Dense Object Detection, arXiv:1708.02002",
        formula="CE(γ, α) = −mean α_t (1 − p_t)^γ log p_t",
    ),
    LossFamily(
        name="topk_ce",
        title="Top-k cross-entropy",
        fixed={"mix": 1.0},
        coordinates=for_all_tasks(hard_fraction=HARD),
        helps="A great many easy pixels: only the hardest share of the labelled pixels counts.",
        caveat="Wrong labels are the hardest pixels of all, and are never out of it.",
        source="Wu et al. 2016, arXiv:1605.06885; Isensee et al. 2021, nnU-Net, arXiv:1904.08128",
        formula="CE over the hardest share h = −mean log p_t over the k largest, k = ⌊h · labelled pixels⌋",
    ),
    LossFamily(
        name="boundary_ce",
        title="Boundary-weighted cross-entropy",
        fixed={"mix": 1.0},
        coordinates=for_all_tasks(
            boundary_weight=LossCoordinate(search=uniform_range(0.0, 20.0), start=5.0, default=5.0)
        ),
        helps="Outlines matter, or touching objects must stay apart: pixels near a class boundary weigh more.",
        caveat="Labels are least certain at boundaries, and that is where it listens most.",
        source="Ronneberger et al. 2015, U-Net, arXiv:1505.04597 (equation 2, here a flat band of 2 pixels)",
        formula="−mean (1 + v · near_i) log p_t,i, near_i = 1 within 2 pixels of a class boundary",
        images_only=True,
    ),
    LossFamily(
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
        module="pixel_losses",
    ),
    LossFamily(
        name="ohem_ce",
        title="Hard examples by threshold",
        fixed={},
        coordinates=for_all_tasks(sure_at=_SURE, kept_at_least=_KEPT),
        helps="A great many easy pixels: those that are sure are left out, so that fewer and fewer count as it learns.",
        caveat="Wrong labels are never sure, and are never out of it; probabilities stay near the threshold.",
        source="Shrivastava et al. 2016, arXiv:1604.03540; for pixels: Wu et al. 2016, arXiv:1605.06885",
        formula="CE over the pixels with p_t < θ, and over the hardest share k at least",
        relative=True,
        module="pixel_losses",
    ),
)
"""Families, from the simplest on."""
