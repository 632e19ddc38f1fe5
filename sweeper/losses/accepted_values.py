"""What a coordinate of the kernel or an option may be, and what it means. No torch.

A coordinate that one family alone has is declared with that family (`sweeper.losses.families`), which has both lists
whole.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Limits(NamedTuple):
    """What a coordinate may be; `open_low` and `open_high` exclude an end."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def problem(self, value: float) -> str | None:
        """The rule, when `value` breaks it, else None."""
        inside = self.low <= value <= self.high
        if math.isfinite(value) and inside and not self._excluded(value):
            return None
        low = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        return f"must be {low} and {'below' if self.open_high else 'at most'} {self.high:g}"

    def _excluded(self, value: float) -> bool:
        return (self.open_low and value == self.low) or (self.open_high and value == self.high)


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
    "label_smoothing": Limits(0, 1, open_high=True),
    "effective_number": Limits(0, 1, open_high=True),
    "class_weights": Limits(0, 1e9),
    "smoothing": Limits(0, 1e6),
}
"""What `build_loss` accepts; searches keep well inside. Beyond the high ends float32 has nothing left to tell."""
POWER_LIMITS = Limits(0, 2)
"""Exponents of the imbalance."""
SMALLEST_SHARE = 1e-12
"""Of the pixels; less is not a count of pixels, and its weight would leave float32's range."""

KERNEL_MEANINGS: dict[str, str] = {
    "mix": "weight of the cross-entropy part; the overlap part has 1 − mix",
    "gamma": "focal exponent; 0 = cross-entropy",
    "alpha": "focal balance: foreground × α, background × (1 − α); multi-class: commonest class × (1 − α), others × α; "
    "or one number for each class",
    "pos_weight": "weight of foreground pixels in the cross-entropy part",
    "class_weight_power": "p in the class weights w ∝ f^−p, with f the class's share of the pixels",
    "fp_weight": "weight of false positives in the overlap part",
    "fn_weight": "weight of false negatives in the overlap part",
    "overlap_exponent": "exponent of 1 − Tversky index",
    "hard_fraction": "share of the labelled pixels, the hardest ones, that the cross-entropy part averages over",
    "boundary_weight": "pixels within 2 of a class boundary weigh 1 + this in the cross-entropy part",
    "label_smoothing": "share of each pixel's label that is spread over all classes",
    "effective_number": "β of the class weights (1 − β) / (1 − β^n), with n the class's pixels (Cui et al. 2019)",
    "class_weights": "weight of each class's pixels in the cross-entropy part; of a loss without one, weight of each "
    "class in the overlap; binary: (background, foreground)",
    "smoothing": "pixels added to numerator and denominator of the overlap; 1 unless given",
    "per_image": "overlap of each image, then their mean, in place of the overlap of the whole batch",
    "include_background": "whether class 0 counts in the overlap part; unless given no for binary, yes for multi-class",
    "squared": "squared errors in the overlap part (V-Net's denominator) in place of absolute ones",
    "weigh_overlap": "whether the class weights of the cross-entropy part weigh the classes' overlaps, "
    "too: Σ w_c (1 − TI_c) / Σ w_c",
}

FLAGS = ("per_image", "include_background", "squared", "weigh_overlap")
"""Options that are true or false."""
CROSS_ENTROPY_OPTIONS = ("label_smoothing", "hard_fraction", "boundary_weight", "class_weights", "effective_number")
OVERLAP_OPTIONS = ("smoothing", "per_image", "include_background", "squared", "weigh_overlap")
"""Coordinates that `build_loss` takes for every point of the kernel that has the part, beside the family's own."""
OVERLAP_WEIGHTINGS = ("class_weights", "effective_number", "class_weight_power")
"""Options of an overlap without a cross-entropy part: the weights are those of the classes' overlaps."""
