"""What all loss modules share: how they are called, what they refuse, how they show themselves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from sweeper.core.errors import LossError
from sweeper.core.records import Task
from sweeper.losses.batch import Batch
from sweeper.losses.batch_checks import check_batch, check_labels
from sweeper.losses.coordinates import Value
from sweeper.losses.families import FAMILIES
from sweeper.losses.label_maps import made_map
from sweeper.losses.per_pixel import readable

CHECKED_BATCHES = 4
"""Batches whose labels are checked: what is wrong with labels is wrong from the first, and the rest costs nothing."""


class SegmentationLoss(nn.Module):
    """A loss called as `loss(logits, target)`; subclasses compute it.

    Has no parameters and nothing in its state dict; follows the logits to whatever device they are on, so that it need
    not be moved. Works under autocast, `torch.compile`, DDP and in a CUDA graph (after one warm-up call), and pickles.
    Derivatives of any order, and `torch.func`'s transformations.
    """

    checks_labels = True
    """Whether the values of the first batches' labels are checked, on a processor; False where they are known to be
    right."""

    def __init__(
        self,
        family: str,
        task: Task,
        coordinates: dict[str, Value],
        ignore_index: int,
        *,
        class_frequencies: Sequence[float] | None = None,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.family = family
        self.task: Task = task
        self.coordinates = coordinates
        self.ignore_index = ignore_index
        self.class_frequencies = None if class_frequencies is None else tuple(class_frequencies)
        self.classes = classes
        """Channels the logits must have; None = any."""
        self._batches_to_check = CHECKED_BATCHES
        self._foreground_seen = False

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        distance: Tensor | None = None,
        sizes: Tensor | None = None,
        instances: Tensor | None = None,
        skeleton: Tensor | None = None,
    ) -> Tensor:
        """Loss of a batch of images.

        Maps of the labels (`distance`, `sizes`, `instances`, `skeleton`) are used by families that declare them
        (`needs_map`), which make them from the target where they are not given.

        Args:
            logits: (N, 1, H, W) for binary, (N, C, H, W) for multi-class; floating, unbounded.
            target: (N, H, W) of class indices; integer or bool; `ignore_index` = no label. Values are checked in the
                first batches alone, and on a processor alone.
            distance: shaped as the logits, floating, signed distances to the class boundaries in pixels.
            sizes: shaped as the target: pixels of the instance that each pixel belongs to.
            instances: shaped as the target, integer: number of that instance in its image, 0 = none.
            skeleton: shaped as the target: nonzero on the widened skeleton of the pixel's class.

        Returns:
            Scalar, float32 (float64 for float64 logits), ≥ 0.

        Raises:
            LossError: if shapes or types do not fit, or a label of the first batches is no class.
        """
        check_batch(logits, target, self.task)
        if self._batches_to_check and self.checks_labels and readable(target):
            self._check_labels(logits.shape[1], target)
        if self.classes is not None and logits.shape[1] != self.classes:
            raise LossError(
                f"logits must have one channel per class of `class_frequencies` ({self.classes}), "
                f"got {logits.shape[1]}; build the loss with the numbers of the model's classes"
            )
        given = {"distance": distance, "sizes": sizes, "instances": instances, "skeleton": skeleton}
        _check_maps(given, logits, target)
        kind = FAMILIES[self.family].needs_map
        label_map = None if kind is None else given[kind]
        if kind is not None and label_map is None:
            label_map = made_map(kind, target, self.task, logits.shape[1], self.ignore_index)
        return self.compute(Batch(logits, target, self.task, self.ignore_index, self.class_frequencies, label_map))

    def _check_labels(self, channels: int, target: Tensor) -> None:
        """Refuse labels that are no class, and say so where a mask of 0 and 255 seems to be taken for labels."""
        self._batches_to_check -= 1
        highest, ignored = check_labels(target, channels, self.task, self.ignore_index)
        self._foreground_seen |= highest > 0 or not ignored or self.task == "multiclass"
        if self._batches_to_check == 0 and not self._foreground_seen:
            warnings.warn(
                f"{CHECKED_BATCHES} batches without one pixel of foreground, in which {self.ignore_index} (no label) "
                f"occurs: if {self.ignore_index} is the foreground of these masks, nothing is learned; "
                "give (target > 0).long()",
                stacklevel=4,
            )

    def compute(self, batch: Batch) -> Tensor:
        """The loss of a checked batch."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The family and its coordinates."""
        shown = [f"{name}={value:.4g}" for name, value in self.coordinates.items() if value is not None]
        return ", ".join([self.family, f"task={self.task}", *shown, f"ignore_index={self.ignore_index}"])


def _check_maps(given: Mapping[str, Tensor | None], logits: Tensor, target: Tensor) -> None:
    """Refuse maps of the labels whose shape does not fit."""
    for name, found in given.items():
        wanted = logits.shape if name == "distance" else target.shape
        if found is not None and found.shape != wanted:
            whose, what = ("logits'", "signed distances to each class's boundary")
            if name != "distance":
                whose, what = "target's", f"{name} of its labels"
            raise LossError(
                f"{name} must have the {whose} shape {tuple(wanted)}, got {tuple(found.shape)}; give the {what}"
            )
