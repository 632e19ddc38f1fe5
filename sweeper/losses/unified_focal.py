"""Unified focal loss (Yeung et al. 2022, arXiv:2102.04525), the asymmetric form (equations 16 to 18).

λ · CE part + (1 − λ) · overlap part, with one weight δ and one exponent s (the paper's γ) for both parts:

- a rare class's pixel costs −δ log p_t, a common one's −(1 − δ) (1 − p_t)^s log p_t; mean over labelled pixels;
- each class costs 1 − TI_c(1 − δ, δ), a rare one that to the power 1 − s; mean over the classes.

Common: background (binary), the most frequent class (multi-class; class 0 when no class frequencies are given). All
others are rare. As the paper has it, the overlap part counts the background, too. A class absent from the batch costs
its mean probability in place of 1 − TI_c. Over the whole batch, smoothing 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.losses.batch import Batch, class_sums, mixed, surprise
from sweeper.losses.class_weights import commonest
from sweeper.losses.coordinates import KernelSettings
from sweeper.losses.kernel import NEARLY_NOTHING, class_cost
from sweeper.losses.per_pixel import averaged, focal_factor


def unified_focal(batch: Batch, *, mix: float, delta: float, suppression: float) -> Tensor:
    """`mix` λ, `delta` δ, `suppression` s."""
    known = batch.class_frequencies if batch.task == "multiclass" else None
    common = commonest(known) if known else 0

    def pixels() -> Tensor:
        loss, labelled = surprise(batch)
        is_common = (batch.target == common).to(loss.dtype)
        if suppression > 0:
            loss = loss * focal_factor(loss, suppression * is_common)
        return averaged(loss * (delta + (1 - 2 * delta) * is_common), labelled)

    def overlap() -> Tensor:
        marked, missed, actual, rest = class_sums(batch)
        if batch.task == "binary":  # the background comes first
            marked, missed = torch.cat([missed, marked]), torch.cat([marked, missed])
            actual, rest = torch.cat([rest, actual]), torch.cat([actual, rest])
        # An absent class has no other probability than false positives.
        counts = (marked, missed, actual, marked / (actual + rest).clamp(min=NEARLY_NOTHING))
        settings = KernelSettings(0.0, 0.0, None, 1 - delta, delta, 1 - suppression)
        steep = class_cost(*counts, settings)
        is_common = torch.arange(len(actual), device=actual.device) == common
        return torch.where(is_common, class_cost(*counts, settings._replace(overlap_exponent=1.0)), steep).mean()

    return mixed(mix, pixels, overlap)
