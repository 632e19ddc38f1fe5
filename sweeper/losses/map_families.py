"""Families that look at neighbours: instances, centre lines, boundaries. No torch.

Part of the registry (`sweeper.losses.families`): functions of `sweeper.losses.map_losses`.
"""

from __future__ import annotations

from sweeper.core.records import Coordinate
from sweeper.losses.family_records import Family, Limits, LossCoordinate, everywhere, uniform

DICE = "mean_c (1 − TI_c(½, ½))"
_SKELETON = "weight of the centre-line part; the rest of the loss has 1 − this"

MAP_FAMILIES = (
    Family(
        name="blob_dice",
        title="Dice + blob loss",
        fixed={},
        # Alone it says nothing of images without an instance.
        coordinates=everywhere(
            blob_share=LossCoordinate(
                search=uniform(0.0, 0.9),
                start=0.333,
                default=0.333,
                limits=Limits(0, 1),
                meaning="weight of the mean Dice of single instances; Dice of the whole has 1 − this",
            )
        ),
        helps="Many instances of very different sizes that should all be found: each has a Dice of its own.",
        caveat="A false alarm counts once for every instance of its image; means nothing for one large region. Class 0 "
        "is the background.",
        source="Kofler et al. 2022, blob loss, arXiv:2205.08209 (their weights 2 and 1 are b = ⅓)",
        formula=f"(1 − b) · {DICE} + b · mean_c mean_k (1 − TI_k(½, ½)), k = connected components of c",
        relative=True,
        needs_map="instances",
        module="map_losses",
    ),
    Family(
        name="soft_cldice",
        title="Dice + soft centre-line Dice",
        fixed={},
        # The paper's range: the centre line alone is satisfied by foreground everywhere, which has no skeleton.
        coordinates=everywhere(
            skeleton_weight=LossCoordinate(
                search=uniform(0.0, 0.5), start=0.5, default=0.5, limits=Limits(0, 1), meaning=_SKELETON
            )
        ),
        helps="Thin, connected structures, such as vessels, roads and cracks, where a gap is worse than a wrong width.",
        caveat="Skeletons mean little for blobs; several times the work of Dice.",
        source="Shit et al. 2021, clDice, arXiv:2003.07311 (algorithm 1 with 3 rounds, as MONAI)",
        formula=f"(1 − s) · {DICE} + s · mean_c (1 − 2 P_c R_c / (P_c + R_c)), P, R of the soft skeletons",
        relative=True,
        module="map_losses",
    ),
    Family(
        name="skeleton_recall",
        title="Dice + cross-entropy + skeleton recall",
        fixed={},
        # The recall alone is satisfied by foreground everywhere.
        coordinates=everywhere(
            skeleton_weight=LossCoordinate(
                search=uniform(0.0, 0.8), start=0.333, default=0.333, limits=Limits(0, 1), meaning=_SKELETON
            )
        ),
        helps="Thin, connected structures: as soft_cldice, at little more than the cost of Dice + cross-entropy.",
        caveat="Nothing in it minds what is marked beside the lines, so that they come out thick as s grows. Class 0 "
        "is the background.",
        source="Kirchhoff et al. 2024, Skeleton Recall, arXiv:2404.03010 (their three equal parts are s = ⅓)",
        formula=f"(1 − s) · ½ ({DICE} + CE) + s · mean_c (1 − (Σ_tube p_c + 1) / (|tube_c| + 1))",
        relative=True,
        needs_map="skeleton",
        module="map_losses",
    ),
    Family(
        name="boundary",
        title="Dice + boundary distance",
        fixed={},
        coordinates=everywhere(
            distance_mix=LossCoordinate(
                search=Coordinate(kind="log", low=1e-3, high=0.5),
                start=0.01,
                default=0.01,
                limits=Limits(0, 1),
                meaning="weight of the distance part, in pixels; Dice has 1 − this",
            )
        ),
        helps="Distance to the true outline matters, as in Hausdorff scores: an error costs its distance to it.",
        caveat="Needs distance maps: sweeper keeps them with the data; elsewhere each call computes them, slowly.",
        source="Kervadec et al. 2019, Boundary loss for highly unbalanced segmentation, arXiv:1812.07032",
        formula=f"(1 − m) · {DICE} + m · mean |φ_c| · |p_c − y_c|, φ = distance to the boundary in pixels",
        relative=True,
        needs_map="distance",
        module="map_losses",
    ),
)
"""From the simplest on."""
