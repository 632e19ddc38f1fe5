"""What is certified: one family for one task on one device in one precision; and the batches it is tried on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sweeper.core.records import IGNORE, Task
from sweeper.losses.build import build_loss
from sweeper.losses.families import FAMILIES, LossFamily

Precision = Literal["float64", "float32", "bfloat16", "float16"]
"""float64 and float32: plain tensors. bfloat16 and float16: logits of that type, as a network under autocast gives
them, and the loss called under autocast."""

DTYPES: dict[Precision, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
SHARES: dict[Task, tuple[float, ...]] = {"binary": (0.7, 0.3), "multiclass": (0.25, 0.7, 0.05)}
"""Pixels of each class in every batch. The most common is not the first, so that no loss finds it by its place."""
COUNTS = {task: tuple(2000 * share for share in shares) for task, shares in SHARES.items()}
"""Pixels of each class that losses receive."""
CLASSES = len(SHARES["multiclass"])
IMBALANCE = 30.0
"""What `power_of_imbalance` is a power of."""
DATA_DECIDED = {"pos_weight": 5.0, "prior_odds": 5.0}
"""Values for coordinates that have no default."""


@dataclass(frozen=True)
class Subject:
    """A family under test; `family` names an entry of `FAMILIES`."""

    family: str
    task: Task
    device: str
    precision: Precision

    @property
    def entry(self) -> LossFamily:
        """Return the family's declaration."""
        return FAMILIES[self.family]

    def takes(self, name: str) -> bool:
        """Return whether the family takes a coordinate of this name."""
        return name in self.entry.coordinates[self.task]

    def build(self, counts: tuple[float, ...] | None = None, /, **coordinates: Any) -> nn.Module:
        """Return the loss; coordinates that the data must decide take a value of their own unless given.

        Args:
            counts: pixels of each class that it receives; None = `COUNTS`.
            coordinates: as for `build_loss`.
        """
        free = self.entry.coordinates[self.task]
        needed = {n: v for n, v in DATA_DECIDED.items() if n in free and free[n].default is None}
        return build_loss(
            self.family,
            task=self.task,
            class_frequencies=counts or COUNTS[self.task],
            **(needed | coordinates),
        )

    def points(self) -> dict[str, dict[str, float]]:
        """Coordinates the family is tried at: the literature's values, and both ends of every searched range."""
        searched = self.entry.list_searched(self.task)
        if not searched:
            return {"as it is": {}}
        found: dict[str, dict[str, float]] = {"literature": {}, "low ends": {}, "high ends": {}}
        for name, free in searched.items():
            search = free.search
            assert search is not None
            start = search.low if free.start is None else free.start
            for point, value in zip(found.values(), (start, search.low, search.high), strict=True):
                point[name] = IMBALANCE**value if search.kind == "power_of_imbalance" else value
        return found

    def call(self, loss: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
        """Value of `loss` for logits in this precision, as a scalar tensor."""
        with self.autocast():
            value = loss(logits, target)
        assert isinstance(value, Tensor)
        return value

    def cost(self, logits: Tensor, target: Tensor, **coordinates: Any) -> Tensor:
        """Value of the family's loss at these coordinates."""
        return self.call(self.build(**coordinates), logits, target)

    def value_and_gradient(self, loss: nn.Module, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Value and gradient with respect to the logits, which are converted to this precision first."""
        leaf = logits.detach().to(DTYPES[self.precision]).requires_grad_()
        value = self.call(loss, leaf, target)
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.detach(), gradient

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Autocast for the half precisions; nothing for the others."""
        half = self.precision in ("bfloat16", "float16")
        with torch.autocast(self.device.split(":")[0], dtype=DTYPES[self.precision] if half else None, enabled=half):
            yield

    # --- Batches, the same in every run: drawn on the CPU from their own generator, then moved ---------------------

    def logits(self, seed: int = 0, scale: float = 2.0, size: int = 8) -> Tensor:
        """(2, C, size, size), normal with standard deviation `scale`; C = 1 (binary) or 3."""
        rng = torch.Generator().manual_seed(seed)
        channels = 1 if self.task == "binary" else CLASSES
        drawn = scale * torch.randn(2, channels, size, size, generator=rng, dtype=torch.float64)
        return drawn.to(self.device, DTYPES[self.precision])

    def target(self, seed: int = 1, size: int = 8, ignored: float = 0.0) -> Tensor:
        """(2, size, size) int64: connected regions, every class in every image; ignored with chance `ignored`."""
        rng = torch.Generator().manual_seed(seed)
        smooth = torch.randn(2, size, size, generator=rng, dtype=torch.float64)
        smooth = torch.nn.functional.avg_pool2d(smooth, 3, stride=1, padding=1, count_include_pad=False)
        # Ranks per image, so that the shares are exact.
        rank = smooth.flatten(1).argsort(-1).argsort(-1).view(smooth.shape) / (size * size)
        ends = torch.tensor(SHARES[self.task], dtype=torch.float64).cumsum(0)[:-1]
        labels = (rank.unsqueeze(-1) >= ends).sum(-1)
        labels[torch.rand(labels.shape, generator=rng) < ignored] = IGNORE
        return labels.to(self.device)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Logits and labels, a fifth of them ignored."""
        return self.logits(), self.target(ignored=0.2)

    def filled(self, label: int) -> Tensor:
        """Return a target that is `label` everywhere."""
        return torch.full_like(self.target(), label)
