"""The registry of loss families; it needs no torch, because the main process, command line and search import it.

Most families are points of one kernel (`sweeper.losses.kernel`): a family fixes some of the kernel's coordinates and
leaves others free; each free one has a default from the literature and mostly a search range. The other families are
functions of their name in the family's `module`, which follow the kernel's conventions. Search space, `sweeper losses`,
documentation and tests are generated from this registry.
"""

from __future__ import annotations

from sweeper.core.errors import LossError
from sweeper.core.records import Coordinate
from sweeper.core.text import suggest_correction
from sweeper.losses.family_records import (
    ALPHA,
    ALPHA_MULTICLASS,
    ALPHA_POWER,
    BOUNDARY_WEIGHT,
    CLASS_WEIGHT_POWER,
    FN_WEIGHT,
    FP_WEIGHT,
    GAMMA,
    HARD,
    MIX,
    OVERLAP_EXPONENT,
    PLANE_WEIGHT_POWER,
    POS_WEIGHT,
    TASKS,
    LossCoordinate,
    LossFamily,
    ValueLimits,
    make_uniform_range,
    repeat_for_all_tasks,
)

__all__ = ["FAMILIES", "TASKS", "LossCoordinate", "LossFamily"]

DICE = "mean_c (1 − TI_c(½, ½))"

# --- Variants of cross-entropy: a mean over weighted or selected pixels ---

_ODDS = LossCoordinate(
    search=Coordinate(kind="power_of_imbalance", low=0.0, high=1.5),
    start=1.0,
    neutral=1.0,
    limits=ValueLimits(0, 1e9, open_low=True),
    meaning="background / foreground pixels, to the power τ, that the logits are adjusted by: z − log of this",
)
_TAU = LossCoordinate(
    search=make_uniform_range(0.0, 1.5),
    start=1.0,
    default=1.0,
    neutral=0.0,
    frequencies="needed",
    limits=ValueLimits(0, 10),
    meaning="τ in the adjustment of the logits z + τ log f, with f the class's share of the pixels",
)
_TAU_PLANES = _TAU.model_copy(
    update={
        "meaning": "τ in the adjustment of the logits z + τ log f / (1 − f), f being the class's share of the pixels"
    }
)
_SURE = LossCoordinate(
    search=make_uniform_range(0.5, 0.95),
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
        coordinates=repeat_for_all_tasks(),
        helps="Classes of similar size, clean labels, or when calibrated probabilities matter: the baseline.",
        caveat="Rare classes hardly count: each pixel weighs the same.",
        source="Long et al. 2015, Fully Convolutional Networks, arXiv:1411.4038",
        formula="CE = −mean log p_t",
    ),
    LossFamily(
        name="weighted_ce",
        title="Weighted cross-entropy",
        coordinates={
            "binary": {"pos_weight": POS_WEIGHT},
            "multiclass": {"class_weight_power": CLASS_WEIGHT_POWER},
            "multilabel": {"class_weight_power": PLANE_WEIGHT_POWER},
        },
        helps="Rare classes that are missed: raises recall by making their pixels weigh more.",
        caveat="Probabilities come out too high for rare classes; choose the threshold on validation.",
        source="Xie & Tu 2015, HED, arXiv:1504.06375; Cui et al. 2019, Class-Balanced Loss, arXiv:1901.05555",
        formula="CE(w) = −mean w_t log p_t",
    ),
    LossFamily(
        name="focal",
        title="Focal",
        coordinates={
            "binary": {"gamma": GAMMA, "alpha": ALPHA},
            "multiclass": {"gamma": GAMMA, "alpha": ALPHA_MULTICLASS},
            "multilabel": {"gamma": GAMMA, "alpha_power": ALPHA_POWER},
        },
        helps="A great many easy pixels that drown the few hard ones, such as distractors and thin borders.",
        caveat="Follows wrong labels, which look like hard pixels; under-confident probabilities.",
        source="Lin et al. 2017, Focal Loss for Dense Object Detection, arXiv:1708.02002",
        formula="CE(γ, α) = −mean α_t (1 − p_t)^γ log p_t",
    ),
    LossFamily(
        name="topk_ce",
        title="Top-k cross-entropy",
        coordinates=repeat_for_all_tasks(hard_fraction=HARD),
        helps="A great many easy pixels: only the hardest share of the labelled pixels counts.",
        caveat="Wrong labels are the hardest pixels of all, and are never out of it.",
        source="Wu et al. 2016, arXiv:1605.06885; Isensee et al. 2021, nnU-Net, arXiv:1904.08128",
        formula="CE over the hardest share h = −mean log p_t over the k largest, k = ⌊h · labelled pixels⌋",
    ),
    LossFamily(
        name="boundary_ce",
        title="Boundary-weighted cross-entropy",
        coordinates=repeat_for_all_tasks(boundary_weight=BOUNDARY_WEIGHT),
        helps="Outlines matter, or touching objects must stay apart: pixels near a class boundary weigh more.",
        caveat="Labels are least certain at boundaries, and that is where it listens most.",
        source="Ronneberger et al. 2015, U-Net, arXiv:1505.04597 (equation 2, here a flat band of 2 pixels)",
        formula="−mean (1 + v · near_i) log p_t,i, near_i = 1 within 2 pixels of a class boundary",
        images_only=True,
    ),
    LossFamily(
        name="logit_adjusted",
        title="Logit-adjusted cross-entropy",
        coordinates={"binary": {"prior_odds": _ODDS}, "multiclass": {"tau": _TAU}, "multilabel": {"tau": _TAU_PLANES}},
        helps="Rare classes that are missed: each has to win by a margin that grows with its rarity.",
        caveat="Answers lean to rare classes; an operating point chosen on validation takes part of that back.",
        source="Menon et al. 2021, Long-tail learning via logit adjustment, arXiv:2007.07314; τ = 1: Ren et al. 2020, "
        "Balanced Meta-Softmax, arXiv:2007.10740",
        formula="CE(z + τ log f), f = the classes' shares; binary: CE(z − log o), o = (background / foreground)^τ",
        module="other_losses",
    ),
    LossFamily(
        name="ohem_ce",
        title="Hard examples by threshold",
        coordinates=repeat_for_all_tasks(sure_at=_SURE, kept_at_least=_KEPT),
        helps="A great many easy pixels: those that are sure are left out, so that fewer and fewer count as it learns.",
        caveat="Wrong labels are never sure, and are never out of it; probabilities stay near the threshold.",
        source="Shrivastava et al. 2016, arXiv:1604.03540; for pixels: Wu et al. 2016, arXiv:1605.06885",
        formula="CE over the pixels with p_t < θ, and over the hardest share k at least",
        module="other_losses",
    ),
)


# --- Variants of Dice: functions of the overlap of each class ---

OVERLAP_FAMILIES = (
    LossFamily(
        name="dice",
        title="Dice",
        fixed={"mix": 0.0},
        coordinates=repeat_for_all_tasks(),
        helps="Small foregrounds scored by overlap: optimises a soft form of the score itself.",
        caveat="Over-confident probabilities; noisy gradients when a batch holds few pixels of a class.",
        source="Milletari et al. 2016, V-Net, arXiv:1606.04797; this form: Drozdzal et al. 2016, arXiv:1608.04117",
        formula="mean_c (1 − TI_c(½, ½)), TI_c(a, b) = (TP_c + 1) / (TP_c + a FP_c + b FN_c + 1)",
    ),
    LossFamily(
        name="jaccard",
        title="Jaccard",
        fixed={"mix": 0.0, "fp_weight": 1.0, "fn_weight": 1.0},
        coordinates=repeat_for_all_tasks(),
        helps="As Dice, where the score is IoU itself; bad overlaps are punished harder.",
        caveat="Flatter than Dice far from the answer: slower at the start.",
        source="Rahman & Wang 2016, Optimizing Intersection-Over-Union, doi:10.1007/978-3-319-50835-1_22",
        formula="mean_c (1 − TI_c(1, 1))",
    ),
    LossFamily(
        name="generalized_dice",
        title="Generalised Dice",
        coordinates=repeat_for_all_tasks(
            volume_exponent=LossCoordinate(
                search=make_uniform_range(0.0, 2.0),
                start=2.0,
                default=2.0,
                limits=ValueLimits(0, 2),
                meaning="e in the class weights w ∝ (pixels of the class in the batch)^−e of generalised Dice",
            )
        ),
        helps="Several classes of very different sizes that should count alike, in one overlap over all of them.",
        caveat="Weights come from the batch: a class with few pixels in it dominates, and gradients are noisy.",
        source="Sudre et al. 2017, Generalised Dice overlap, arXiv:1707.03237",
        formula="Σ_c w_c (FP_c + FN_c) / Σ_c w_c (2 TP_c + FP_c + FN_c), w_c = (pixels of c)^−e, over present classes",
        module="other_losses",
    ),
    LossFamily(
        name="tversky",
        title="Tversky",
        fixed={"mix": 0.0},
        coordinates=repeat_for_all_tasks(fn_weight=FN_WEIGHT, fp_weight=FP_WEIGHT, overlap_exponent=OVERLAP_EXPONENT),
        helps="Missed pixels cost more than false alarms, or the reverse: fn_weight trades recall for precision.",
        caveat="As Dice; far from 0.5 it no longer follows the overlap score.",
        source="Salehi et al. 2017, arXiv:1706.05721; exponent: Abraham & Khan 2019, arXiv:1810.07842",
        formula="mean_c (1 − TI_c(a, b))^κ, a = 1 − b unless given",
    ),
    LossFamily(
        name="focal_tversky",
        title="Focal Tversky",
        fixed={"mix": 0.0},
        coordinates=repeat_for_all_tasks(
            fn_weight=FN_WEIGHT,
            fp_weight=FP_WEIGHT,
            overlap_exponent=OVERLAP_EXPONENT.model_copy(
                update={"search": make_uniform_range(0.4, 2.0), "default": 0.75}
            ),
        ),
        helps="Small structures that Tversky leaves half found: the exponent moves effort between classes.",
        caveat="Two numbers on top of Dice; below 1 the exponent makes the last stretch steep.",
        source="Abraham & Khan 2019, arXiv:1810.07842 (κ = 1/γ of the paper, whose 4/3 is 0.75)",
        formula="mean_c (1 − TI_c(a, b))^κ, a = 1 − b unless given",
    ),
    LossFamily(
        name="lovasz",
        title="Lovász",
        coordinates=repeat_for_all_tasks(),
        helps="The score is IoU and training has settled: the convex extension of the Jaccard index on the batch.",
        caveat="Sorts all pixels; weak far from the answer, so better as a second stage or at a small learning rate.",
        source="Berman et al. 2018, The Lovász-Softmax loss, arXiv:1705.08790",
        formula="mean_c ΔJ_c(sorted errors); errors: |y − p| of the softmax, or the hinge 1 − (2y − 1) z",
        module="other_losses",
    ),
)


# --- Mixtures of cross-entropy with an overlap ---

_DELTA = LossCoordinate(
    search=make_uniform_range(0.3, 0.95),
    start=0.6,
    default=0.6,
    limits=ValueLimits(0, 1),
    meaning="weight of rare classes and missed pixels; common classes and false alarms have 1 − this",
)
_SUPPRESSION = LossCoordinate(
    search=make_uniform_range(0.0, 0.95),
    start=0.5,
    default=0.5,
    limits=ValueLimits(0, 1, open_high=True),
    meaning="focal exponent of common classes; the overlap exponent of rare ones is 1 − this",
)

MIXTURE_FAMILIES = (
    LossFamily(
        name="dice_ce",
        title="Dice + cross-entropy",
        coordinates={
            "binary": {"mix": MIX, "pos_weight": POS_WEIGHT.model_copy(update={"start": 0.0, "default": 1.0})},
            "multiclass": {
                "mix": MIX,
                "class_weight_power": CLASS_WEIGHT_POWER.model_copy(update={"start": 0.0, "default": 0.0}),
            },
            "multilabel": {
                "mix": MIX,
                "class_weight_power": PLANE_WEIGHT_POWER.model_copy(update={"start": 0.0, "default": 0.0}),
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
        coordinates=repeat_for_all_tasks(mix=MIX, gamma=GAMMA),
        helps="Strong imbalance with hard examples: overlap for rare classes, focal for their borders.",
        caveat="Follows wrong labels as focal does; one hyper-parameter more to tune than Dice.",
        source="Zhu et al. 2019, AnatomyNet, arXiv:1808.05238",
        formula="λ · CE(γ) + (1 − λ) · mean_c (1 − TI_c(½, ½))",
    ),
    LossFamily(
        name="dice_topk",
        title="Dice + top-k cross-entropy",
        coordinates=repeat_for_all_tasks(mix=MIX, hard_fraction=HARD),
        helps="Small targets with hard parts, such as tumours: overlap for the whole, cross-entropy for the worst.",
        caveat="Wrong labels stay in the worst pixels for good.",
        source="Isensee et al. 2021, nnU-Net, arXiv:1904.08128; Ma et al. 2021, doi:10.1016/j.media.2021.102035",
        formula=f"λ · CE over the hardest share h + (1 − λ) · {DICE}",
    ),
    LossFamily(
        name="unified_focal",
        title="Unified focal",
        coordinates={
            "binary": {"mix": MIX, "delta": _DELTA, "suppression": _SUPPRESSION},
            "multiclass": {
                "mix": MIX,
                "delta": _DELTA,
                "suppression": _SUPPRESSION.model_copy(update={"frequencies": "used"}),
            },
            "multilabel": {"mix": MIX, "delta": _DELTA, "suppression": _SUPPRESSION},
        },
        helps="Strong imbalance: what is common is quietened where easy, what is rare never is, in both parts alike.",
        caveat="Three numbers to tune; the rare classes' slope grows steep near a perfect overlap.",
        source="Yeung et al. 2022, Unified Focal loss, arXiv:2102.04525 (the asymmetric form, equations 16 to 18)",
        formula="λ · CE(α = δ; γ = s if common) + (1 − λ) · mean_c (1 − TI_c(1 − δ, δ))^κ, κ = 1 if common, else 1 − s",
        module="other_losses",
    ),
)


# --- Families that depend on neighbouring pixels: centre lines, boundaries ---

MAP_FAMILIES = (
    LossFamily(
        name="soft_cldice",
        title="Dice + soft centre-line Dice",
        # The paper's range: foreground everywhere has no skeleton, and would satisfy the centre-line part.
        coordinates=repeat_for_all_tasks(
            skeleton_weight=LossCoordinate(
                search=make_uniform_range(0.0, 0.5),
                start=0.5,
                default=0.5,
                limits=ValueLimits(0, 1),
                meaning="weight of the centre-line part; the rest of the loss has 1 − this",
            )
        ),
        helps="Thin, connected structures, such as vessels, roads and cracks, where a gap is worse than a wrong width.",
        caveat="Skeletons mean little for blobs; several times the work of Dice.",
        source="Shit et al. 2021, clDice, arXiv:2003.07311 (algorithm 1 with 3 rounds, as MONAI)",
        formula=f"(1 − s) · {DICE} + s · mean_c (1 − 2 P_c R_c / (P_c + R_c)), P, R of the soft skeletons",
        images_only=True,
        module="other_losses",
    ),
    LossFamily(
        name="boundary",
        title="Dice + boundary distance",
        coordinates=repeat_for_all_tasks(
            distance_mix=LossCoordinate(
                search=Coordinate(kind="log", low=1e-3, high=0.5),
                start=0.01,
                default=0.01,
                limits=ValueLimits(0, 1),
                meaning="weight of the distance part, in pixels; Dice has 1 − this",
            )
        ),
        helps="Distance to the true outline matters, as in Hausdorff scores: an error costs its distance to it.",
        caveat="Needs distance maps: sweeper keeps them with the data; elsewhere each call computes them, slowly.",
        source="Kervadec et al. 2019, Boundary loss for highly unbalanced segmentation, arXiv:1812.07032",
        formula=f"(1 − m) · {DICE} + m · mean |φ_c| · |p_c − y_c|, φ = distance to the boundary in pixels",
        images_only=True,
        needs_map="distance",
        module="other_losses",
    ),
)


# --- All of them ---

FAMILIES: dict[str, LossFamily] = {
    family.name: family for family in (*PIXEL_FAMILIES, *OVERLAP_FAMILIES, *MIXTURE_FAMILIES, *MAP_FAMILIES)
}
"""All families by name, simplest first; this order breaks ties and orders the first trials."""
PRESENT = "cross_entropy"
"""The loss that is used now, unless another is named."""


def is_own_loss(text: str) -> bool:
    """Return whether a text names a loss of the user's, `module:function`, and none with parameters."""
    is_place = ":" in text and "=" not in text
    return is_place and text.partition(":")[0] not in FAMILIES


def parse_loss(text: str, where: str = "") -> tuple[str, dict[str, float]]:
    """Parse `dice_ce` or `dice_ce:mix=0.5;pos_weight=3`: a family and its parameters; `module:function` has none.

    Raises:
        LossError: with the first problem, which begins with `where`.
    """
    family, _, rest = text.partition(":")
    if is_own_loss(text):
        family, rest = rest, ""
    params: dict[str, float] = {}
    for pair in filter(None, rest.split(";")):
        key, _, value = pair.partition("=")
        try:
            params[key.strip()] = float(value)
        except ValueError:
            raise LossError(f"{where}{text}: must be FAMILY:NAME=NUMBER, got {pair!r}") from None
    if family not in FAMILIES:
        raise LossError(
            f"{where}{family!r} is no family{suggest_correction(family, FAMILIES)}; `sweeper losses` lists them"
        )
    return family, params
