"""The registry of loss families, without torch: the parent process, the command line and the search read it.

Most families are points of one kernel (`sweeper.losses.kernel`): a family fixes some of the kernel's coordinates and
leaves others free; each free one has a search range and a default from the literature. The others, relatives, name the
module that has them (see `sweeper.losses.class_probabilities`) and keep the kernel's conventions. Search
space, `sweeper losses`, documentation and tests come from this declaration: adding a family means adding an entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sweeper.losses.accepted_values import KERNEL_LIMITS, KERNEL_MEANINGS, Limits
from sweeper.losses.common_coordinates import ALPHA_MULTICLASS, DICE_WEIGHTS, GAMMA, HARD, NO_WEIGHTS, POWER
from sweeper.losses.family_records import (
    TASKS,
    Family,
    LossCoordinate,
    Reduction,
    everywhere,
    uniform,
)
from sweeper.losses.map_families import INSTANCE_CE, MAP_FAMILIES
from sweeper.losses.mixture_families import MIXTURE_FAMILIES
from sweeper.losses.overlap_families import OVERLAP_FAMILIES
from sweeper.losses.pixel_families import PIXEL_FAMILIES

__all__ = ["FAMILIES", "LIMITS", "MEANINGS", "TASKS", "Family", "LossCoordinate"]


# α and the weight of rare pixels are one coordinate (w = α / (1 − α)): no family has both.
_ALPHA = LossCoordinate(search=uniform(0.05, 0.95), start=0.25, default=0.25)
_TVERSKY = {
    "fn_weight": LossCoordinate(search=uniform(0.3, 0.9), start=0.7, default=0.7),
    "fp_weight": LossCoordinate(start=0.3),
    "overlap_exponent": LossCoordinate(start=0.75, default=1.0),
}

_DECLARED = (
    Family(
        name="cross_entropy",
        title="Cross-entropy",
        fixed={"mix": 1.0},
        coordinates=everywhere(),
        helps="Classes of similar size, clean labels, or when calibrated probabilities matter: the baseline.",
        caveat="Rare classes hardly count: each pixel weighs the same.",
        source="Long et al. 2015, Fully Convolutional Networks, arXiv:1411.4038",
        formula="CE = −mean log p_t",
    ),
    Family(
        name="weighted_ce",
        title="Weighted cross-entropy",
        fixed={"mix": 1.0},
        coordinates={
            "binary": {"pos_weight": POWER},
            # Not 1: full inverse frequency does poorly on long tails, its square root is the usual softening
            # (Cui et al. 2019, sections 1 and 2).
            "multiclass": {"class_weight_power": LossCoordinate(search=uniform(0.0, 1.1), start=0.5, default=0.5)},
        },
        helps="Rare classes that are missed: raises recall by making their pixels weigh more.",
        caveat="Probabilities come out too high for rare classes; choose the threshold on validation.",
        source="Xie & Tu 2015, HED, arXiv:1504.06375; Cui et al. 2019, Class-Balanced Loss, arXiv:1901.05555",
        formula="CE(w) = −mean w_t log p_t",
        becomes=(Reduction(words="equal weights are cross-entropy", at=NO_WEIGHTS, other="cross_entropy"),),
    ),
    Family(
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
        becomes=(
            Reduction(
                words="γ = 0 without α is cross-entropy", at={"gamma": 0.0, "alpha": None}, other="cross_entropy"
            ),
        ),
    ),
    Family(
        name="topk_ce",
        title="Top-k cross-entropy",
        fixed={"mix": 1.0},
        coordinates=everywhere(hard_fraction=HARD),
        helps="A great many easy pixels: only the hardest share of the labelled pixels counts.",
        caveat="Wrong labels are the hardest pixels of all, and are never out of it.",
        source="Wu et al. 2016, arXiv:1605.06885; Isensee et al. 2021, nnU-Net, arXiv:1904.08128",
        formula="CE over the hardest share h = −mean log p_t over the k largest, k = ⌊h · labelled pixels⌋",
        becomes=(Reduction(words="all pixels are cross-entropy", at={"hard_fraction": 1.0}, other="cross_entropy"),),
    ),
    Family(
        name="boundary_ce",
        title="Boundary-weighted cross-entropy",
        fixed={"mix": 1.0},
        coordinates=everywhere(boundary_weight=LossCoordinate(search=uniform(0.0, 20.0), start=5.0, default=5.0)),
        helps="Outlines matter, or touching objects must stay apart: pixels near a class boundary weigh more.",
        caveat="Labels are least certain at boundaries, and that is where it listens most.",
        source="Ronneberger et al. 2015, U-Net, arXiv:1505.04597 (equation 2, here a flat band of 2 pixels)",
        formula="−mean (1 + v · near_i) log p_t,i, near_i = 1 within 2 pixels of a class boundary",
        becomes=(
            Reduction(words="no boundary weight is cross-entropy", at={"boundary_weight": 0.0}, other="cross_entropy"),
        ),
    ),
    *PIXEL_FAMILIES,
    INSTANCE_CE,
    Family(
        name="dice",
        title="Dice",
        fixed={"mix": 0.0, **DICE_WEIGHTS},
        coordinates=everywhere(),
        helps="Small foregrounds scored by overlap: optimises a soft form of the score itself.",
        caveat="Over-confident probabilities; noisy gradients when a batch holds few pixels of a class.",
        source="Milletari et al. 2016, V-Net, arXiv:1606.04797; this form: Drozdzal et al. 2016, arXiv:1608.04117",
        formula="mean_c (1 − TI_c(½, ½)), TI_c(a, b) = (TP_c + 1) / (TP_c + a FP_c + b FN_c + 1)",
    ),
    Family(
        name="jaccard",
        title="Jaccard",
        fixed={"mix": 0.0, "fp_weight": 1.0, "fn_weight": 1.0},
        coordinates=everywhere(),
        helps="As Dice, where the score is IoU itself; bad overlaps are punished harder.",
        caveat="Flatter than Dice far from the answer: slower at the start.",
        source="Rahman & Wang 2016, Optimizing Intersection-Over-Union, doi:10.1007/978-3-319-50835-1_22",
        formula="mean_c (1 − TI_c(1, 1))",
    ),
    Family(
        name="generalized_dice",
        title="Generalised Dice",
        fixed={},
        coordinates=everywhere(
            volume_exponent=LossCoordinate(
                search=uniform(0.0, 2.0),
                start=2.0,
                default=2.0,
                limits=Limits(0, 2),
                meaning="e in the class weights w ∝ (pixels of the class in the batch)^−e of generalised Dice",
            )
        ),
        helps="Several classes of very different sizes that should count alike, in one overlap over all of them.",
        caveat="Weights come from the batch: a class with few pixels in it dominates, and gradients are noisy.",
        source="Sudre et al. 2017, Generalised Dice overlap, arXiv:1707.03237",
        formula="Σ_c w_c (FP_c + FN_c) / Σ_c w_c (2 TP_c + FP_c + FN_c), w_c = (pixels of c)^−e, over present classes",
        relative=True,
        module="generalized_dice",
    ),
    Family(
        name="tversky",
        title="Tversky",
        fixed={"mix": 0.0},
        coordinates=everywhere(**_TVERSKY),
        helps="Missed pixels cost more than false alarms, or the reverse: fn_weight trades recall for precision.",
        caveat="As Dice; far from 0.5 it no longer follows the overlap score.",
        source="Salehi et al. 2017, arXiv:1706.05721; exponent: Abraham & Khan 2019, arXiv:1810.07842",
        formula="mean_c (1 − TI_c(a, b))^κ, a = 1 − b unless given",
        becomes=(
            Reduction(words="equal halves are Dice", at={"fn_weight": 0.5}, other="dice"),
            Reduction(words="weights of 1 are Jaccard", at={"fn_weight": 1.0, "fp_weight": 1.0}, other="jaccard"),
        ),
    ),
    Family(
        name="focal_tversky",
        title="Focal Tversky",
        fixed={"mix": 0.0},
        coordinates=everywhere(
            fn_weight=_TVERSKY["fn_weight"],
            fp_weight=_TVERSKY["fp_weight"],
            overlap_exponent=LossCoordinate(search=uniform(0.4, 2.0), start=0.75, default=0.75),
        ),
        helps="Small structures that Tversky leaves half found: the exponent moves effort between classes.",
        caveat="Two numbers on top of Dice; below 1 the exponent makes the last stretch steep.",
        source="Abraham & Khan 2019, arXiv:1810.07842 (κ = 1/γ of the paper, whose 4/3 is 0.75)",
        formula="mean_c (1 − TI_c(a, b))^κ, a = 1 − b unless given",
        becomes=(Reduction(words="κ = 1 is Tversky", at={"overlap_exponent": 1.0}, other="tversky"),),
    ),
    Family(
        name="lovasz",
        title="Lovász",
        fixed={},
        coordinates=everywhere(),
        helps="The score is IoU and training has settled: the convex extension of the Jaccard index on the batch.",
        caveat="Sorts all pixels; weak far from the answer, so better as a second stage or at a small learning rate.",
        source="Berman et al. 2018, The Lovász-Softmax loss, arXiv:1705.08790",
        formula="mean_c ΔJ_c(sorted errors); errors: |y − p| of the softmax, or the hinge 1 − (2y − 1) z",
        relative=True,
        module="lovasz",
    ),
    *OVERLAP_FAMILIES,
    *MIXTURE_FAMILIES,
    *MAP_FAMILIES,
)

FAMILIES: dict[str, Family] = {family.name: family for family in _DECLARED}
"""All families by name, simplest first: the declared order that settles ties and orders the first trials."""


def _own_coordinates(declared: Iterable[Family]) -> Iterator[tuple[str, Limits, str]]:
    """Coordinates that are not the kernel's: name, limits, meaning.

    Raises:
        RuntimeError: for one that nobody bounds or explains, before a loss accepts anything for it.
    """
    for family in declared:
        for free in family.coordinates.values():
            for name, own in free.items():
                if name in KERNEL_LIMITS:
                    continue
                if own.limits is None or own.meaning is None:
                    raise RuntimeError(f"the coordinate {name} of {family.name} needs `limits` and a `meaning`")
                yield name, own.limits, own.meaning


LIMITS: dict[str, Limits] = KERNEL_LIMITS | {name: limits for name, limits, _ in _own_coordinates(_DECLARED)}
"""What each coordinate and option of any family may be."""
MEANINGS: dict[str, str] = KERNEL_MEANINGS | {name: meaning for name, _, meaning in _own_coordinates(_DECLARED)}
"""And what it means."""
