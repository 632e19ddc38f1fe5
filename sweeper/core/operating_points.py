"""Operating points at which every evaluation is counted: thresholds of a binary task, τ of a multi-class one."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

BINS = 512
"""Logit bins of a binary histogram."""
LOGIT_RANGE = 12.0
"""The bins cover [−12, 12]."""
THRESHOLDS: tuple[float, ...] = tuple(
    1 / (1 + math.exp(-(-LOGIT_RANGE + 2 * LOGIT_RANGE * k / BINS))) for k in range(1, BINS)
)
"""Probability of each inner bin edge; the one at index 255 is 0.5."""
FEW_THRESHOLDS = THRESHOLDS[143:368:16]
"""15 of them, 0.75 apart in the logit around 0.5, for counts of whole label maps."""
TAUS = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
"""Strengths of the logit adjustment z_c − τ log π_c (Menon et al. 2021). Symmetric: weighting classes by 1/f
is undone by τ = −1, and τ = 1 makes an unweighted network favour rare classes as fully."""
_BY_NAME = {"thresholds": THRESHOLDS, "few_thresholds": FEW_THRESHOLDS, "taus": TAUS}


def _resolve_points(value: Any) -> Any:
    return _BY_NAME.get(value, value) if isinstance(value, str) else value


def _abbreviate_points(points: tuple[float, ...]) -> str | tuple[float, ...]:
    return next((name for name, values in _BY_NAME.items() if values == points), points)


Points = Annotated[
    tuple[float, ...], BeforeValidator(_resolve_points), PlainSerializer(_abbreviate_points, when_used="json")
]
"""Operating points of some counts; the sets above are stored in JSON by name (`thresholds`, `few_thresholds`,
`taus`)."""
