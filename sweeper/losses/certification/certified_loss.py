"""What is certified: one family for one task on one device in one precision; and the batches it is tried on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sweeper.core.records import IGNORE
from sweeper.losses.boundary import distance_maps
from sweeper.losses.build import build_loss
from sweeper.losses.families import FAMILIES, Family, LossTask
from sweeper.losses.loss_module import SegmentationLoss

Precision = Literal["float64", "float32", "bfloat16", "float16"]
"""float64 and float32: plain tensors. bfloat16 and float16: logits of that type, as a network under autocast gives
them, and the loss called under autocast."""

DTYPES: dict[Precision, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
FREQUENCIES = (0.7, 0.25, 0.05)
"""Shares of the three classes of every multi-class batch."""
COUNTS: dict[LossTask, tuple[float, ...] | None] = {
    "binary": (1400.0, 600.0),
    "multiclass": (1400.0, 500.0, 100.0),
    "multilabel": None,
}
"""Pixels of each class that losses are told."""
CLASSES = len(FREQUENCIES)
IMBALANCE = 30.0
"""What `power_of_imbalance` is a power of."""
FUSED_OPTIONS: dict[str, Any] = {
    "hard_fraction": 0.5,
    "boundary_weight": 3.0,
    "smoothing": 0.0,
    "include_background": True,
}
"""Values of the kernel's options that are far from rest, and hard on stability: no smoothing is a division by 0."""
PLAIN_OPTIONS: dict[str, Any] = {"label_smoothing": 0.1, "per_image": True, "squared": True}
"""Those that the plain path alone has: with one of them, the fused one is not tried."""
DATA_DECIDED = {"pos_weight": 5.0, "prior_odds": 5.0}
"""Values for coordinates that have no default."""


@dataclass(frozen=True)
class Subject:
    """A family under test; `family` names an entry of `FAMILIES`."""

    family: str
    task: LossTask
    device: str
    precision: Precision

    @property
    def entry(self) -> Family:
        """The family's declaration."""
        return FAMILIES[self.family]

    def at(self, precision: Precision) -> Subject:
        """The same in another precision."""
        return replace(self, precision=precision)

    def other(self, family: str, task: LossTask | None = None) -> Subject:
        """Another family (or this one for another task) under the same conditions."""
        return replace(self, family=family, task=task or self.task)

    def build(self, ignore_index: int = IGNORE, /, **coordinates: Any) -> nn.Module:
        """The loss; coordinates that the data must decide take a value of their own unless given."""
        free = self.entry.coordinates[self.task]
        needed = {n: v for n, v in DATA_DECIDED.items() if n in free and free[n].default is None}
        return build_loss(
            self.family,
            task=self.task,
            ignore_index=ignore_index,
            class_frequencies=COUNTS[self.task],
            **(needed | coordinates),
        )

    def points(self, options: bool = False) -> dict[str, dict[str, float]]:
        """Coordinates the family is tried at: the literature's values, and both ends of every searched range.

        `options` adds points with the options that the kernel takes beside them in use: those of the fused path, and
        all of them.
        """
        searched = self.entry.searched(self.task)
        taken = self.entry.options(self.task) if options else ()
        fused = {name: FUSED_OPTIONS[name] for name in taken if name in FUSED_OPTIONS}
        plain = {name: PLAIN_OPTIONS[name] for name in taken if name in PLAIN_OPTIONS}
        with_options = {"options": fused} if fused else {}
        with_options |= {"options of the plain path": fused | plain} if plain else {}
        if not searched:
            return {"as it is": {}, **with_options}
        found: dict[str, dict[str, float]] = {"literature": {}, "low ends": {}, "high ends": {}}
        for name, free in searched.items():
            search = free.search
            assert search is not None
            start = search.low if free.start is None else free.start
            for point, value in zip(found.values(), (start, search.low, search.high), strict=True):
                point[name] = IMBALANCE**value if search.kind == "power_of_imbalance" else value
        return found | with_options

    def call(self, loss: nn.Module, logits: Tensor, target: Tensor, **maps: Tensor) -> Tensor:
        """Value of `loss` for logits in this precision, as a scalar tensor."""
        with self.autocast():
            value = loss(logits, target, **maps)
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
        """(2, C, size, size), normal with standard deviation `scale`; C = 1 (binary), 3 (multi-class), 2."""
        channels = {"binary": 1, "multiclass": CLASSES}.get(self.task, 2)
        rng = torch.Generator().manual_seed(seed)
        drawn = scale * torch.randn(2, channels, size, size, generator=rng, dtype=torch.float64)
        return drawn.to(self.device, DTYPES[self.precision])

    def target(self, seed: int = 1, size: int = 8, ignored: float = 0.0) -> Tensor:
        """Labels with connected regions and every class in every image; each pixel ignored with chance `ignored`.

        Binary and multi-class: (2, size, size); multi-label: (2, 2, size, size). int64.
        """
        rng = torch.Generator().manual_seed(seed)
        channels = 2 if self.task == "multilabel" else 1
        smooth = torch.randn(2, channels, size, size, generator=rng, dtype=torch.float64)
        smooth = torch.nn.functional.avg_pool2d(smooth, 3, stride=1, padding=1, count_include_pad=False)
        # Ranks per image and channel, so that the shares are exact: commonest class first.
        rank = smooth.flatten(2).argsort(-1).argsort(-1).view(smooth.shape) / (size * size)
        labels = (rank >= FREQUENCIES[0]).long()
        if self.task == "multiclass":
            labels += (rank >= FREQUENCIES[0] + FREQUENCIES[1]).long()
        if channels == 1:
            labels = labels.squeeze(1)
        labels[torch.rand(labels.shape, generator=rng) < ignored] = IGNORE
        return labels.to(self.device)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Logits and labels, a fifth of them ignored."""
        return self.logits(), self.target(ignored=0.2)

    def maps(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The map of the labels that the family wants beside them, as it comes with the data; none for most."""
        kind, loss = self.entry.needs_map, self.build()
        if kind is None or not isinstance(loss, SegmentationLoss):
            return {}
        if kind == "distance":
            return {kind: distance_maps(target, self.task, logits.shape[1], IGNORE)}
        found = loss.made_map(target)
        assert found is not None
        return {kind: found}

    def takes(self, name: str) -> bool:
        """Whether the family takes a coordinate of this name, as its own or as an option."""
        return name in self.entry.coordinates[self.task] or name in self.entry.options(self.task)

    def filled(self, label: int, size: int = 8) -> Tensor:
        """A target that is `label` everywhere."""
        return torch.full_like(self.target(size=size), label)

    def perfect(self, target: Tensor, margin: float = 20.0) -> Tensor:
        """Logits that predict `target`, by `margin`; 0 where the target is ignored."""
        if self.task == "multiclass":
            own = torch.nn.functional.one_hot(target.clamp(max=CLASSES - 1), CLASSES).movedim(-1, 1)
            right = own * (target != IGNORE).unsqueeze(1)
        else:
            right = (target == 1).long() - (target == 0).long()
            right = right.unsqueeze(1) if self.task == "binary" else right
        return (margin * right).to(DTYPES[self.precision])

    def answers(self, logits: Tensor) -> Tensor:
        """Hard predictions of `logits`, shaped as the target."""
        if self.task == "multiclass":
            return logits.argmax(1)
        return (logits.squeeze(1) if self.task == "binary" else logits).gt(0).long()

    def odd_targets(self) -> dict[str, Tensor]:
        """Targets that seldom come by themselves, by what is odd about them; nearly all with ignored pixels."""
        usual = self.target(ignored=0.2)
        nowhere = usual.clone()
        # The rarest class, the foreground, or the foreground of the second label.
        part = nowhere[:, 1] if self.task == "multilabel" else nowhere
        part[part == (CLASSES - 1 if self.task == "multiclass" else 1)] = 0
        unlabelled = usual.clone()
        unlabelled[1] = IGNORE
        # Far from the boundaries, too, so that it is seen how far they reach; and one pixel ignored there.
        halves = torch.zeros_like(usual)
        halves[..., 3:] = 1
        if self.task == "multiclass":
            halves[..., -1, :] = CLASSES - 1
        halves[..., 1, -1] = IGNORE
        halves[1, ..., 4:6, :2] = 1  # thinning takes a square away to nothing
        return {
            "a class absent": nowhere,
            "a class absent from an image": torch.cat([nowhere[:1], usual[1:]]),
            "an image without labels": unlabelled,
            "two halves": halves,
        }

    def pixel_weights(self, target: Tensor, seed: int = 11) -> Tensor:
        """A weight for each pixel, shaped as the target: in [0, 2), some 0, NaN under ignore."""
        rng = torch.Generator().manual_seed(seed)
        drawn = 2.4 * torch.rand(target.shape, generator=rng, dtype=torch.float64) - 0.4
        return torch.where(target == IGNORE, float("nan"), drawn.clamp(min=0).to(target.device))
