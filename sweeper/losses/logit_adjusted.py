"""Logit-adjusted cross-entropy (Menon et al. 2021, arXiv:2007.07314): CE(z + τ log f).

f are the classes' shares of the training pixels. A network that has learned it puts out z free of the prior: rare
classes have to win by τ times the logarithm of their rarity, at every pixel. τ = 1 is the balanced softmax (Ren et al.
2020, arXiv:2007.10740), 0 cross-entropy. Binary is softmax over (0, z): z − log o, where o is the odds
of background to foreground to the power τ. A class without training pixels is adjusted as the rarest that has some.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from sweeper.core.records import Task
from sweeper.losses.build import build_part
from sweeper.losses.class_weights import log_prior_shifts
from sweeper.losses.coordinates import Value
from sweeper.losses.loss_module import KeptNumbers, SegmentationLoss
from sweeper.losses.per_pixel import at_least_float32


class LogitAdjusted(SegmentationLoss):
    """`shifts` are added to the logits: one for all channels, or one for each."""

    def __init__(self, task: Task, ignore_index: int, coordinates: dict[str, Value], shifts: tuple[float, ...]) -> None:
        classes = len(shifts) if len(shifts) > 1 else None
        super().__init__("logit_adjusted", task, coordinates, ignore_index, classes)
        self._shifts = KeptNumbers((shifts,))
        self.entropy = build_part("cross_entropy", task=task, ignore_index=ignore_index)

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        z = at_least_float32(logits)
        value: Tensor = self.entropy(z + self._shifts.like(z)[0].view(-1, 1, 1), target)
        return value


def build(
    *,
    task: Task,
    ignore_index: int,
    class_frequencies: Sequence[float] | None,
    tau: float | None = None,
    prior_odds: float | None = None,
) -> LogitAdjusted:
    """The module, from checked coordinates: `tau` for multi-class, `prior_odds` for binary."""
    if task == "binary":
        assert prior_odds is not None
        return LogitAdjusted(task, ignore_index, {"prior_odds": prior_odds}, (-math.log(prior_odds),))
    assert tau is not None
    if tau == 0 or class_frequencies is None:
        return LogitAdjusted(task, ignore_index, {"tau": tau}, (0.0,))
    return LogitAdjusted(task, ignore_index, {"tau": tau}, log_prior_shifts(class_frequencies, tau))
