"""A point of the kernel whose hyper-parameters are tensors: the loss of a step that many trainings take.

A recorded program cannot be changed, but the memory that it reads can. What has no influence on a point (a γ of 0, a
mixing weight of 0 or 1, an exponent of 1) is left out of the program, as in the single loss; the rest is its
`structure`. Any point of the same structure is loaded in place.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.core.errors import LossError
from sweeper.losses.batch_checks import check_batch
from sweeper.losses.build import KernelLoss
from sweeper.losses.kernel import TensorSettings, sigmoid_loss, softmax_loss

HYPER_PARAMETERS = ("mix", "gamma", "fp_weight", "fn_weight", "overlap_exponent")
"""Numbers of the kernel that are loaded; class weights are the other ones."""
OPTIONS = ("hard_fraction", "boundary_weight", "weigh_overlap")
"""Part of the structure: what is computed depends on them."""
WITHOUT_INFLUENCE: dict[str, tuple[float, ...]] = {"mix": (0.0, 1.0), "gamma": (0.0,), "overlap_exponent": (1.0,)}
"""Values at which a part of the kernel is not computed."""


def structure(loss: KernelLoss) -> Hashable:
    """What is computed at a point of the kernel, whatever its numbers are: equal for those that replace each other."""
    settings = loss.settings
    fixed = tuple(_fixed(name, getattr(settings, name)) for name in HYPER_PARAMETERS)
    weights = len(settings.class_weights or ())
    return loss.task, loss.ignore_index, fixed, weights, tuple(getattr(settings, name) for name in OPTIONS)


class ReloadableLoss(nn.Module):
    """One loss of the kernel, whose numbers another loss of its structure replaces. Move it to the logits' device.

    Works in a CUDA graph, under autocast and `torch.compile`. Its hyper-parameters are buffers that no state dict has.
    """

    class_weights: Tensor | None

    def __init__(self, loss: KernelLoss, *, dtype: torch.dtype = torch.float32) -> None:
        """The loss as it begins.

        Args:
            loss: by `build_loss`.
            dtype: of the hyper-parameters; float32, or float64 for float64 logits.
        """
        super().__init__()
        self.task, self.ignore_index = loss.task, loss.ignore_index
        self.structure = structure(loss)
        settings = loss.settings
        self._constant: dict[str, Any] = {name: getattr(settings, name) for name in OPTIONS}
        self._tensors: list[str] = []
        for name in HYPER_PARAMETERS:
            if (fixed := _fixed(name, getattr(settings, name))) is not None:
                self._constant[name] = fixed
            else:
                self._tensors.append(name)
                self.register_buffer(name, torch.zeros((), dtype=dtype), persistent=False)
        given = settings.class_weights
        empty = None if given is None else torch.zeros(len(given), dtype=dtype)
        self.register_buffer("class_weights", empty, persistent=False)
        self.load(loss)

    def load(self, loss: KernelLoss) -> None:
        """Take another loss's numbers, in the memory that is there.

        Raises:
            LossError: if its structure is another one.
        """
        if structure(loss) != self.structure:
            raise LossError(
                f"a loss that is loaded must have the structure {self.structure}, got {structure(loss)}; "
                "make another ReloadableLoss for it"
            )
        with torch.no_grad():
            for name in self._tensors:
                getattr(self, name).fill_(getattr(loss.settings, name))
            if self.class_weights is not None:
                given = loss.settings.class_weights
                self.class_weights.copy_(torch.tensor(given, dtype=self.class_weights.dtype))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch of images.

        Args:
            logits: (N, 1, H, W) for binary, (N, C, H, W) for multi-class; floating, unbounded.
            target: (N, H, W); integer or bool. Values are not checked.

        Returns:
            Scalar, float32 (float64 for float64 logits), ≥ 0.

        Raises:
            LossError: if shapes or types do not fit.
        """
        check_batch(logits, target, self.task)
        fields = {**self._constant, **{name: getattr(self, name) for name in self._tensors}}
        settings, given = TensorSettings(**fields), self.class_weights
        if self.task == "multiclass":
            return softmax_loss(logits, target, settings, self.ignore_index, given)
        both: tuple[Tensor | float, Tensor | float] = (1.0, 1.0) if given is None else (given[0], given[1])
        return sigmoid_loss(logits, target, settings, self.ignore_index, both)


def _fixed(name: str, value: float) -> float | None:
    """The value of a hyper-parameter where it has no influence; None where it is a tensor."""
    return value if value in WITHOUT_INFLUENCE.get(name, ()) else None
