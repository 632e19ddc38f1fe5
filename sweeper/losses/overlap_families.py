"""Families of Dice's kind: functions of the overlap of each class. No torch.

Part of the registry (`sweeper.losses.families`). Points of the kernel (`sweeper.losses.kernel`) and functions of
`sweeper.losses.overlap_losses`.
"""

from __future__ import annotations

from sweeper.losses.family_records import (
    DICE_WEIGHTS,
    LossCoordinate,
    LossFamily,
    ValueLimits,
    for_all_tasks,
    uniform_range,
)

_TVERSKY = {
    "fn_weight": LossCoordinate(search=uniform_range(0.3, 0.9), start=0.7, default=0.7),
    "fp_weight": LossCoordinate(start=0.3),
    "overlap_exponent": LossCoordinate(start=0.75, default=1.0),
}

OVERLAP_FAMILIES = (
    LossFamily(
        name="dice",
        title="Dice",
        fixed={"mix": 0.0, **DICE_WEIGHTS},
        coordinates=for_all_tasks(),
        helps="Small foregrounds scored by overlap: optimises a soft form of the score itself.",
        caveat="Over-confident probabilities; noisy gradients when a batch holds few pixels of a class.",
        source="Milletari et al. 2016, V-Net, arXiv:1606.04797; this form: Drozdzal et al. 2016, arXiv:1608.04117",
        formula="mean_c (1 − TI_c(½, ½)), TI_c(a, b) = (TP_c + 1) / (TP_c + a FP_c + b FN_c + 1)",
    ),
    LossFamily(
        name="jaccard",
        title="Jaccard",
        fixed={"mix": 0.0, "fp_weight": 1.0, "fn_weight": 1.0},
        coordinates=for_all_tasks(),
        helps="As Dice, where the score is IoU itself; bad overlaps are punished harder.",
        caveat="Flatter than Dice far from the answer: slower at the start.",
        source="Rahman & Wang 2016, Optimizing Intersection-Over-Union, doi:10.1007/978-3-319-50835-1_22",
        formula="mean_c (1 − TI_c(1, 1))",
    ),
    LossFamily(
        name="generalized_dice",
        title="Generalised Dice",
        fixed={},
        coordinates=for_all_tasks(
            volume_exponent=LossCoordinate(
                search=uniform_range(0.0, 2.0),
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
        relative=True,
        module="overlap_losses",
    ),
    LossFamily(
        name="tversky",
        title="Tversky",
        fixed={"mix": 0.0},
        coordinates=for_all_tasks(**_TVERSKY),
        helps="Missed pixels cost more than false alarms, or the reverse: fn_weight trades recall for precision.",
        caveat="As Dice; far from 0.5 it no longer follows the overlap score.",
        source="Salehi et al. 2017, arXiv:1706.05721; exponent: Abraham & Khan 2019, arXiv:1810.07842",
        formula="mean_c (1 − TI_c(a, b))^κ, a = 1 − b unless given",
    ),
    LossFamily(
        name="focal_tversky",
        title="Focal Tversky",
        fixed={"mix": 0.0},
        coordinates=for_all_tasks(
            fn_weight=_TVERSKY["fn_weight"],
            fp_weight=_TVERSKY["fp_weight"],
            overlap_exponent=LossCoordinate(search=uniform_range(0.4, 2.0), start=0.75, default=0.75),
        ),
        helps="Small structures that Tversky leaves half found: the exponent moves effort between classes.",
        caveat="Two numbers on top of Dice; below 1 the exponent makes the last stretch steep.",
        source="Abraham & Khan 2019, arXiv:1810.07842 (κ = 1/γ of the paper, whose 4/3 is 0.75)",
        formula="mean_c (1 − TI_c(a, b))^κ, a = 1 − b unless given",
    ),
    LossFamily(
        name="lovasz",
        title="Lovász",
        fixed={},
        coordinates=for_all_tasks(),
        helps="The score is IoU and training has settled: the convex extension of the Jaccard index on the batch.",
        caveat="Sorts all pixels; weak far from the answer, so better as a second stage or at a small learning rate.",
        source="Berman et al. 2018, The Lovász-Softmax loss, arXiv:1705.08790",
        formula="mean_c ΔJ_c(sorted errors); errors: |y − p| of the softmax, or the hinge 1 − (2y − 1) z",
        relative=True,
        module="overlap_losses",
    ),
)
"""Families, from the simplest on."""
