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
    meaning="background / foreground pixels, to the power τ, that the logits are adjusted by: z − log of this; "
    "multi-label: one for all, or one per class",
)
_TAU = LossCoordinate(
    search=uniform(0.0, 1.5),
    start=1.0,
    default=1.0,
    limits=Limits(0, 10),
    meaning="τ in the adjustment of the logits z + τ log f, with f the class's share of the pixels",
)
_MARGIN = LossCoordinate(
    search=uniform(0.0, 5.0),
    start=1.0,
    default=1.0,
    limits=Limits(0, 100),
    meaning="m: by so much of a logit the rarest class (the foreground) must win to count as even; commoner ones by "
    "m · (n_c / n_min)^−¼; multi-label: one for all, or one per class",
)

_FIRST_TERM = LossCoordinate(
    search=uniform(-1.0, 4.0),
    start=2.0,
    default=2.0,
    limits=Limits(-1, 100),
    meaning="ε: weight of 1 − p_t beside −log p_t; −1 takes the first term out of cross-entropy's series",
)
_ROBUSTNESS = LossCoordinate(
    search=uniform(0.0, 1.0),
    start=0.7,
    default=0.7,
    limits=Limits(0, 1),
    meaning="q in (1 − p_t^q) / q; 0 = cross-entropy, 1 = mean absolute error",
)
_REVERSE = LossCoordinate(
    search=uniform(0.8, 1.0),
    start=0.976,
    default=0.976,
    limits=Limits(0, 1),
    meaning="weight of the reverse cross-entropy part 1 − p_t; cross-entropy has 1 − this",
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
            "multilabel": {"prior_odds": _ODDS},
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
        name="ldam",
        title="Label-distribution-aware margin (LDAM)",
        fixed={},
        coordinates=everywhere(margin=_MARGIN),
        helps="Rare classes that are learned by heart or missed: each must win by a margin, the rarer the larger.",
        caveat="Between plain and logit-adjusted cross-entropy; scores lean to rare classes.",
        source="Cao et al. 2019, LDAM, arXiv:1906.07413 (logits in place of scaled cosines, so that m is another)",
        formula="CE with z_t − Δ_t in place of z_t, Δ_c = m (n_c / n_min)^−¼",
        relative=True,
        module="ldam",
        becomes=(Reduction(words="no margin is cross-entropy", at={"margin": 0.0}, other="cross_entropy"),),
    ),
    Family(
        name="poly_ce",
        title="PolyLoss (Poly-1)",
        fixed={},
        coordinates=everywhere(first_term=_FIRST_TERM),
        helps="As cross-entropy, with a dial for how much half-right pixels pull, against the very wrong ones.",
        caveat="Its gains were found in classification and detection; the best sign of ε depends on the task.",
        source="Leng et al. 2022, PolyLoss, arXiv:2204.12511 (Poly-1; ε = 2 as on ImageNet)",
        formula="mean (−log p_t + ε (1 − p_t))",
        relative=True,
        module="poly_ce",
        becomes=(Reduction(words="ε = 0 is cross-entropy", at={"first_term": 0.0}, other="cross_entropy"),),
    ),
    Family(
        name="generalized_ce",
        title="Generalised cross-entropy",
        fixed={},
        coordinates=everywhere(robustness=_ROBUSTNESS),
        helps="Wrong labels: the surer the network is that a label is wrong, the less it listens to it.",
        caveat="Rare classes look like wrong labels at first, and may never be learned; slow at q near 1.",
        source="Zhang & Sabuncu 2018, arXiv:1805.07836 (equation 6, without truncation)",
        formula="mean (1 − p_t^q) / q",
        relative=True,
        module="generalized_ce",
        becomes=(
            Reduction(words="q = 0 is cross-entropy", at={"robustness": 0.0}, other="cross_entropy"),
            Reduction(
                words="q = 1 is the mean absolute error",
                at={"robustness": 1.0},
                other="symmetric_ce",
                others_at={"reverse_share": 1.0},
            ),
        ),
    ),
    Family(
        name="symmetric_ce",
        title="Symmetric cross-entropy",
        fixed={},
        coordinates=everywhere(reverse_share=_REVERSE),
        helps="Wrong labels: a bounded part learns what most labels agree on, some cross-entropy the hard classes.",
        caveat="Rare classes look like wrong labels at first; up to a factor it is poly_ce with a large ε.",
        source="Wang et al. 2019, Symmetric Cross Entropy, arXiv:1908.06112 (r = 0.976 is α = 0.1, β = 1, A = −4)",
        formula="(1 − r) · CE + r · mean (1 − p_t)",
        relative=True,
        module="symmetric_ce",
        becomes=(Reduction(words="r = 0 is cross-entropy", at={"reverse_share": 0.0}, other="cross_entropy"),),
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
