"""Variants of cross-entropy outside the kernel, which select pixels or adjust logits.

Each function has the name of its family and maps a batch and the family's coordinates to a scalar.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sweeper.losses.batch import CROSS_ENTROPY, LossBatch, compute_kernel, compute_negative_log_likelihood
from sweeper.losses.coordinates import log_prior_shifts
from sweeper.losses.per_pixel import cast_to_float32, select_hardest_share


def logit_adjusted(batch: LossBatch, *, tau: float = 0.0, prior_odds: float = 1.0) -> Tensor:
    """Compute the cross-entropy of z + τ log f (Menon et al. 2021, arXiv:2007.07314).

    f is each class's share of the training pixels. The trained network's z is free of the prior: during training, class
    a had to exceed class b by τ log(f_b / f_a), which is more for a rare class. τ = 1 is the balanced softmax (Ren et
    al. 2020, arXiv:2007.10740), τ = 0 cross-entropy. Binary is the softmax over (0, z): z − log o, with o the odds of
    background to foreground to the power τ. A class without training pixels gets the adjustment of the rarest other
    class.
    """
    z = cast_to_float32(batch.logits)
    if batch.task == "binary":
        shifted = z - math.log(prior_odds)
    else:
        shifts = log_prior_shifts(batch.class_frequencies, tau) if tau and batch.class_frequencies else (0.0,)
        # Filled on the device: a copy would wait for the device.
        shifted = z + torch.cat([z.new_full((1, 1, 1), shift) for shift in shifts])
    return compute_kernel(batch._replace(logits=shifted), CROSS_ENTROPY)


def ohem_ce(batch: LossBatch, *, sure_at: float, kept_at_least: float) -> Tensor:
    """Compute the mean cross-entropy over the pixels with p_t below a threshold, but at least over a hardest share.

    Online hard example mining: Shrivastava et al. 2016 (arXiv:1604.03540) for regions, Wu et al. 2016
    (arXiv:1605.06885) for pixels. The code of HRNet, BiSeNet and MMSegmentation uses threshold 0.7 and a minimum number
    of pixels (BiSeNet: a sixteenth of them). Ignored pixels are neither chosen nor counted.
    """
    loss, labelled = compute_negative_log_likelihood(batch)
    with torch.no_grad():
        cutoff = loss.new_full((), -math.log(sure_at) if sure_at > 0 else math.inf)
        if kept_at_least > 0 and loss.numel() > 0:
            hardest, wanted = select_hardest_share(loss, labelled, kept_at_least)
            cutoff = torch.minimum(hardest.gather(0, (wanted - 1).view(1)).squeeze(0), cutoff)
        chosen = labelled & ~(loss < cutoff)  # not `>=`: NaN must not be masked
        number = chosen.sum().clamp(min=1)
    return torch.where(chosen, loss, 0.0).sum() / number
