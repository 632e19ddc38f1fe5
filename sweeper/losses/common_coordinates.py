"""Coordinates that several families have; part of the registry (`sweeper.losses.families`)."""

from __future__ import annotations

from sweeper.core.records import Coordinate
from sweeper.losses.family_records import LossCoordinate, uniform

IMBALANCE_POWER = Coordinate(kind="power_of_imbalance", low=0.0, high=1.1)
GAMMA = LossCoordinate(search=uniform(0.0, 5.0), start=2.0, default=2.0)
# Lin's 0.25 is for one foreground against background; the softmax form is commonly used without α, which up to a
# factor of the whole loss is α = 0.5.
ALPHA_MULTICLASS = LossCoordinate(search=uniform(0.05, 0.95), start=0.5, default=None)
DICE_WEIGHTS = {"fp_weight": 0.5, "fn_weight": 0.5}
WEIGHTS: dict[str, float | None] = {"pos_weight": 3.0, "class_weight_power": 0.7}
NO_WEIGHTS: dict[str, float | None] = {"pos_weight": 1.0, "class_weight_power": 0.0}
POWER = LossCoordinate(search=IMBALANCE_POWER, start=1.0)
# nnU-Net's top-k takes the hardest tenth.
HARD = LossCoordinate(search=Coordinate(kind="log", low=0.02, high=1.0), start=0.1, default=0.1)
