"""Losses of Dice's kind beside the kernel: functions of soft counts of each class over the whole batch.

Each function has the name of its family; a batch and the family's coordinates → a scalar. A class absent from the
batch costs its mean probability.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.losses.batch import Batch, as_classes, class_sums, mass, mean_probability, mixed, surprise
from sweeper.losses.kernel import NEARLY_NOTHING, raised
from sweeper.losses.per_pixel import averaged


def generalized_dice(batch: Batch, *, volume_exponent: float) -> Tensor:
    """Generalised Dice (Sudre et al. 2017): one overlap over all classes, each weighted by its size in the batch.

    `Σ_c w_c (FP_c + FN_c) / Σ_c w_c (2 TP_c + FP_c + FN_c)` with w_c = (pixels of c)^−e over the present classes, e = 2
    in the paper. Of one class background and foreground count, as the paper has it. The paper's weight of an absent
    class is infinite (libraries put in 0 or the largest other weight); here the present classes' overlap and the
    absent classes' mean probabilities are averaged, each class counting once.
    """
    found = class_sums(batch)
    false_positives, false_negatives, actual, rest = found
    labelled = found.labelled.clamp(min=NEARLY_NOTHING)
    errors = false_positives + false_negatives
    hit, size = actual - false_negatives, actual
    if batch.task == "binary":  # background and foreground share their errors
        hit, size = torch.cat([hit, rest - false_positives]), torch.cat([size, rest])
    present = size > 0
    # Shares instead of pixels: the same ratio, and far from float32's limits.
    share = torch.where(present, size / labelled, 1.0)
    w = torch.where(present, share.pow(-volume_exponent), 0.0)
    # An absent class has no false negatives: its mean probability is its errors over the labelled pixels.
    absent = torch.where(present, 0.0, errors / labelled)
    lost = (w * errors).sum() / (w * (errors + 2 * hit)).sum().clamp(min=NEARLY_NOTHING)
    return (present.sum() * lost + absent.sum()) / len(size)


def log_dice(batch: Batch) -> Tensor:
    """Mean over the classes of −log TI_c(½, ½), with the kernel's smoothing and its Dice index TI.

    As 1 − TI near a perfect overlap, and ever steeper the worse it is: a class that is hardly found pulls much more.
    Common since Dice has been reported on a logarithmic scale (Wong et al. 2018, arXiv:1809.00076, with other
    exponents); `log_loss=True` in segmentation-models-pytorch.
    """
    return _log_index(batch).mean()


def _log_index(batch: Batch) -> Tensor:
    """−log of the Dice index of each class, (C,); the mean probability of a class that is absent."""
    found = class_sums(batch)
    marked, missed, actual, _ = found
    # 1 / TI − 1, without the cancellation near a perfect overlap.
    more = (marked + missed) / 2 / (actual - missed + 1)
    return torch.where(actual > 0, torch.log1p(more), marked / found.labelled.clamp(min=NEARLY_NOTHING))


def exp_log(batch: Batch, *, mix: float, log_exponent: float) -> Tensor:
    """Exponential logarithmic loss (Wong et al. 2018, arXiv:1809.00076).

    λ · mean (−log p_t)^e + (1 − λ) · mean_c (−log TI_c)^e, where TI_c is the kernel's Dice index. An exponent below 1
    makes both parts steep near the answer and flat far from it; the authors' is 0.3 for both, with 0.2 and 0.8 as the
    parts' weights. Their class weights of the cross-entropy are left out. Below 1e-6 the power goes on as a straight
    line, so that slopes stay bounded.
    """

    def pixels() -> Tensor:
        loss, labelled = surprise(batch)
        return averaged(raised(loss, log_exponent), labelled)

    return mixed(mix, pixels, lambda: raised(_log_index(batch), log_exponent).mean())


def robust_dice(batch: Batch, *, error_exponent: float) -> Tensor:
    """Noise-robust Dice (Wang et al. 2020, COPLE-Net, doi:10.1109/TMI.2020.3000314).

    mean_c Σ |p_c − y_c|^e / (Σ p_c² + Σ y_c² + 2), over the labelled pixels, e in [1, 2]. e = 2 is Dice with squared
    errors (V-Net's), e = 1 an absolute error that follows single wrong labels less; the authors' is 1.5. The 2 is
    Dice's smoothing of one pixel (theirs: 1e-5).
    """
    found = as_classes(batch)
    p, rest, own, mask = found
    errors = mass(raised(p, error_exponent) * (mask - own) + raised(rest, error_exponent) * own)
    lost = errors / (mass(p.square() * mask) + mass(own) + 2)
    return torch.where(mass(own) > 0, lost, mean_probability(found)).mean()


def sens_spec(batch: Batch, *, sensitivity_share: float) -> Tensor:
    """Sensitivity–specificity (Brosch et al. 2015, doi:10.1007/978-3-319-24574-4_1), mean over the classes.

    r · Σ (1 − p_c)² y_c / Σ y_c + (1 − r) · Σ p_c² (1 − y_c) / Σ (1 − y_c), over the labelled pixels: the mean squared
    error of the class's own pixels and that of all others, each counting as a whole however few they are. The authors'
    r is 0.05. Of a class that is absent the squares alone are so flat that other classes' would push probability over
    to it: hence its mean probability. Where there is nothing but the class, the second term is 0.
    """
    found = as_classes(batch)
    p, rest, own, mask = found
    others = mask - own
    actual = mass(own)
    missed = mass(rest.square() * own) / actual.clamp(min=NEARLY_NOTHING)
    marked = mass(p.square() * others) / mass(others).clamp(min=NEARLY_NOTHING)
    each = sensitivity_share * missed + (1 - sensitivity_share) * marked
    return torch.where(actual > 0, each, mean_probability(found)).mean()


def mcc(batch: Batch) -> Tensor:
    """1 − Matthews' correlation of each class (Abhishek & Hamarneh 2021, arXiv:2010.13454), mean over the classes.

    MCC = (TP TN − FP FN) / √((TP + FP)(TP + FN)(TN + FP)(TN + FN)) of soft counts: the one of the overlap losses that
    looks at true negatives, and sees class and background alike. One pixel is added to TP and TN, as one is added to
    Dice, so that nothing is divided by 0 and a perfect answer costs 0. In [0, 2]. A class that fills the batch costs
    the mean of what is missing.
    """
    marked, missed, actual, rest = class_sums(batch)
    lost = _one_less_mcc(actual - missed + 1, marked, missed, rest - marked + 1)
    # One of the two has no pixel then, and its probability is that of errors alone.
    mean = (marked + missed) / (actual + rest).clamp(min=NEARLY_NOTHING)
    return torch.where((actual > 0) & (rest > 0), lost, mean).mean()


def _one_less_mcc(hit: Tensor, marked: Tensor, missed: Tensor, kept: Tensor) -> Tensor:
    """1 − MCC from true positives, false positives, false negatives and true negatives in pixels; the ends above 0."""
    total = hit + marked + missed + kept
    a, b, c, d = hit / total, marked / total, missed / total, kept / total  # products of shares stay in float32's range
    good, crossed = a * d - b * c, a * d + b * c
    square = (crossed + a * c + b * d) * (crossed + a * b + c * d)
    root = square.sqrt()
    # √² − good² with every term positive: near a perfect answer 1 − good / root would have no digits left.
    apart = crossed * (a * c + b * d + a * b + c * d) + (a * c + b * d) * (a * b + c * d) + 4 * a * b * c * d
    near = apart / (root * (root + good.clamp(min=0)))
    return torch.where(good > 0, near, 1 - good / root)
