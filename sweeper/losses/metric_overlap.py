"""Dice and Jaccard that take soft labels: the metric losses (Wang et al. 2023, arXiv:2302.05666 and arXiv:2303.16296).

λ · CE + (1 − λ) · mean_c (1 − (TP_c + 1) / (TP_c + a FP_c + a FN_c + 1)) with TP_c = Σ min(p, y),
FP_c = Σ max(p − y, 0) and FN_c = Σ max(y − p, 0); a = 1 for Jaccard, ½ for Dice. Where labels are 0 or 1 these are the
usual counts, and the loss is `jaccard` or `dice`. With labels in between, a product p y would be largest at p = 1,
while these costs are 0 at p = y and there alone. CE is that of soft labels, −Σ_c y_c log p_c.

Soft labels are floating point, shaped as the logits, in [0, 1]; the labels of several classes usually have the sum 1,
which is not asked for. A pixel of `ignore_index` in any channel is ignored; multi-label: the channel of that pixel. A
class of which no pixel has a share costs its mean probability. Over the whole batch, smoothing 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.core.errors import LossError
from sweeper.losses.batch_checks import check_weight
from sweeper.losses.build import KernelLoss
from sweeper.losses.class_probabilities import mass
from sweeper.losses.coordinates import KernelSettings
from sweeper.losses.families import LossTask
from sweeper.losses.kernel import NEARLY_NOTHING, class_cost
from sweeper.losses.loss_module import SegmentationLoss, as_image
from sweeper.losses.per_pixel import averaged, cleaned, readable


class MetricOverlap(SegmentationLoss):
    """`mix` λ; `weight` a of both kinds of errors.

    Called as `loss(logits, target, weight=None)` with integer labels, shaped as for every loss, or with floating point
    labels, shaped as the logits; those of a binary task may be (N, *space), too.
    """

    def __init__(self, family: str, task: LossTask, ignore_index: int, mix: float, weight: float) -> None:
        super().__init__(family, task, {"mix": mix}, ignore_index)
        self.mix = mix
        self._part = KernelSettings(mix, 0.0, None, weight, weight, 1.0)
        self._of_labels = KernelLoss(family, task, {}, self._part, ignore_index)

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None, **maps: Tensor | None) -> Tensor:
        """See `SegmentationLoss.forward`; `target` may be floating point, see above.

        Raises:
            LossError: if shapes or types do not fit, or a label of the first batches lies outside [0, 1].
        """
        soft = isinstance(target, Tensor) and target.is_floating_point() and isinstance(logits, Tensor)
        if not soft or not logits.is_floating_point():
            return super().forward(logits, target, weight, **maps)
        if self.task == "binary" and target.ndim == logits.ndim - 1:
            target = target.unsqueeze(1)
        self._check_soft(logits, target)
        labelled = target != self.ignore_index
        if self.task != "multilabel":
            labelled = labelled.all(dim=1, keepdim=True)
        if weight is not None:
            check_weight(weight, logits, self.task)
            weight = weight.unsqueeze(1) if weight.ndim < logits.ndim else weight
            weight = as_image(torch.where(labelled, weight, 0.0), 2)
        return self._value(as_image(logits, 2), as_image(target, 2), as_image(labelled, 2), weight)

    def compute(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor | None) -> Tensor:
        """The loss of a checked batch of integer labels, of which these losses are points of the kernel."""
        return self._of_labels.compute(logits, target, weight, distance)

    def _value(self, logits: Tensor, target: Tensor, labelled: Tensor, weight: Tensor | None) -> Tensor:
        """Logits and labels in [0, 1] (N, C, H, W), whatever under ignore; the others (N, 1 or C, H, W)."""
        z = cleaned(logits, labelled).contiguous()
        whole = weight is None and readable(labelled) and bool(labelled.all())  # there is nothing to leave out
        y = target.to(z.dtype) if whole else torch.where(labelled, target.to(z.dtype), 0.0)
        mask = labelled.to(z.dtype) if weight is None else labelled * weight.to(z.dtype)
        parts: list[Tensor] = []
        if self.mix > 0:
            if self.task == "multiclass":
                entropy = -(y * F.log_softmax(z, dim=1)).sum(dim=1, keepdim=True)
            else:  # −y log σ(z) − (1 − y) log σ(−z)
                entropy = F.softplus(z) - y * z
            parts.append(self.mix * averaged(entropy, labelled, 1.0, weight))
        if self.mix < 1:
            p = F.softmax(z, dim=1) if self.task == "multiclass" else torch.sigmoid(z)
            marked, missed = torch.relu(p - y), torch.relu(y - p)
            if not whole:
                p, y, marked, missed = p * mask, y * mask, marked * mask, missed * mask
            mean = mass(p) / mass(mask).clamp(min=NEARLY_NOTHING)
            counts = mass(marked), mass(missed), mass(y)
            parts.append((1 - self.mix) * class_cost(*counts, mean, self._part).mean())
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def _check_soft(self, logits: Tensor, target: Tensor) -> None:
        fewest = 2 if self.task == "multiclass" else 1
        channels = logits.shape[1] if logits.ndim > 2 else 0
        if channels < fewest or (self.task == "binary" and channels != 1):
            raise LossError(
                f"{self.task} logits must have shape (N, {'1' if self.task == 'binary' else 'C'}, H, W), or other axes "
                f"in place of H and W, got {tuple(logits.shape)}; check the model's output"
            )
        if target.shape != logits.shape:
            raise LossError(
                f"soft labels must have the logits' shape {tuple(logits.shape)}, got {tuple(target.shape)}; "
                "give a share in [0, 1] for each class, or integers of shape (N, H, W)"
            )
        if self._batches_to_check and self.checks_labels and readable(target) and target.numel():
            self._batches_to_check -= 1
            known = torch.where(target == self.ignore_index, 0.0, target)
            low, high = (float(end) for end in torch.aminmax(known))
            if not (low >= 0 and high <= 1):
                wrong = high if low >= 0 else low
                raise LossError(
                    f"soft labels must lie in [0, 1] or be {self.ignore_index} (no label), got {wrong:g}; "
                    "give probabilities, not scores or masks of 0 and 255"
                )
