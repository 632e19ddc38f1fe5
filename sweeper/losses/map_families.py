"""Families that look at neighbours: centre lines, boundaries. No torch.

Part of the registry (`sweeper.losses.families`): functions of `sweeper.losses.map_losses`.
"""

from __future__ import annotations

from sweeper.core.records import Coordinate
from sweeper.losses.family_records import LossCoordinate, LossFamily, ValueLimits, for_all_tasks, uniform_range

DICE = "mean_c (1 − TI_c(½, ½))"

MAP_FAMILIES = (
    LossFamily(
        name="soft_cldice",
        title="Dice + soft centre-line Dice",
        fixed={},
        # The paper's range: the centre line alone is satisfied by foreground everywhere, which has no skeleton.
        coordinates=for_all_tasks(
            skeleton_weight=LossCoordinate(
                search=uniform_range(0.0, 0.5),
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
        relative=True,
        images_only=True,
        module="map_losses",
    ),
    LossFamily(
        name="boundary",
        title="Dice + boundary distance",
        fixed={},
        coordinates=for_all_tasks(
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
        relative=True,
        images_only=True,
        needs_map="distance",
        module="map_losses",
    ),
)
"""Families, from the simplest on."""
