"""The kernel's coordinates: what each may be and means, and how families that share one search it. No torch.

A coordinate that one family alone has is declared with that family.
"""

from __future__ import annotations

from sweeper.core.records import Coordinate
from sweeper.losses.family_records import Limits, LossCoordinate, uniform

KERNEL_LIMITS: dict[str, Limits] = {
    "mix": Limits(0, 1),
    "gamma": Limits(0, 50),
    "alpha": Limits(0, 1),
    "pos_weight": Limits(0, 1e9, open_low=True),
    "class_weight_power": Limits(0, 2),
    "fp_weight": Limits(0, 100),
    "fn_weight": Limits(0, 100),
    "overlap_exponent": Limits(0, 10, open_low=True),
    "hard_fraction": Limits(0, 1, open_low=True),
    "boundary_weight": Limits(0, 1000),
}
"""What `build_loss` accepts; searches keep well inside. Beyond the high ends float32 has nothing left to tell."""
POWER_LIMITS = Limits(0, 2)
"""Exponents of the imbalance."""

KERNEL_MEANINGS: dict[str, str] = {
    "mix": "weight of the cross-entropy part; the overlap part has 1 − mix",
    "gamma": "focal exponent; 0 = cross-entropy",
    "alpha": "focal balance: foreground × α, background × (1 − α); multi-class: commonest class × (1 − α), others × α",
    "pos_weight": "weight of foreground pixels in the cross-entropy part",
    "class_weight_power": "p in the class weights w ∝ f^−p, with f the class's share of the pixels",
    "fp_weight": "weight of false positives in the overlap part",
    "fn_weight": "weight of false negatives in the overlap part",
    "overlap_exponent": "exponent of 1 − Tversky index",
    "hard_fraction": "share of the labelled pixels, the hardest ones, that the cross-entropy part averages over",
    "boundary_weight": "pixels within 2 of a class boundary weigh 1 + this in the cross-entropy part",
}

IMBALANCE_POWER = Coordinate(kind="power_of_imbalance", low=0.0, high=1.1)
MIX = LossCoordinate(search=uniform(0.0, 1.0), start=0.5, default=0.5)
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
