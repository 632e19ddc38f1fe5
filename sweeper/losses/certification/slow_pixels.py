"""Losses of single pixels beside the kernel, written down once more, slowly, from their papers: see `slow_kernel`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sweeper.losses.certification.slow_kernel import NOWHERE, Question, Values
from sweeper.losses.families import LossTask


def _own(question: Question) -> tuple[Tensor, Tensor]:
    """Log-probability of the own class at each labelled pixel, and the pixel's weight; both (labelled pixels,)."""
    known = question.labels != NOWHERE
    log_p = question.log_p.movedim(1, -1)[known]
    return log_p.gather(1, question.labels[known].unsqueeze(1)).squeeze(1), question.weight[known]


def _all_own(asked: Sequence[Question]) -> tuple[Tensor, Tensor]:
    """The same of all questions together."""
    found = [_own(question) for question in asked]
    return torch.cat([log_p for log_p, _ in found]), torch.cat([weight for _, weight in found])


def mean_cost(each: Tensor, weight: Tensor) -> Tensor:
    """Weighted costs over the number of pixels; 0 without any."""
    return (weight * each).sum() / max(1, each.numel())


def pixel_power(asked: Sequence[Question], exponent: float) -> Tensor:
    """Mean of (−log p_t)^e."""
    log_p, weight = _all_own(asked)
    return mean_cost((-log_p) ** exponent, weight)


def logit_adjusted(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Menon et al. 2021: z_c + τ log f_c in place of z_c; of two classes the logarithm of their odds."""
    adjusted = []
    for channel, question in enumerate(asked):
        if task == "multiclass":
            assert counts is not None
            shift = [values["tau"] * math.log(n / sum(counts)) for n in counts]
        else:
            odds = values["prior_odds"]
            shift = [0.0, -math.log(odds[channel] if isinstance(odds, tuple) else odds)]
        scores = torch.stack([question.log_p[:, c] + s for c, s in enumerate(shift)], dim=1)
        adjusted.append(question._replace(log_p=scores - scores.logsumexp(1, keepdim=True)))
    return pixel_power(adjusted, 1)


def ldam(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Cao et al. 2019: the own class's score less its margin, pixel by pixel."""
    found = []
    for channel, question in enumerate(asked):
        largest = values["margin"][channel] if isinstance(values["margin"], tuple) else values["margin"]
        margins = [0.0, largest] if counts is None else [largest / (n / min(counts)) ** (1 / 4) for n in counts]
        known = question.labels != NOWHERE
        scores, labels = question.log_p.movedim(1, -1)[known], question.labels[known].tolist()
        less = scores.new_tensor([[m if c == label else 0.0 for c, m in enumerate(margins)] for label in labels])
        log_p = (scores - less.view(scores.shape)).log_softmax(1)
        own = log_p.gather(1, question.labels[known].unsqueeze(1)).squeeze(1)
        found.append((-own, question.weight[known]))
    return mean_cost(torch.cat([each for each, _ in found]), torch.cat([weight for _, weight in found]))


def poly_ce(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Leng et al. 2022, Poly-1: −log p_t + ε (1 − p_t)."""
    log_p, weight = _all_own(asked)
    return mean_cost(-log_p + values["first_term"] * (1 - log_p.exp()), weight)


def generalized_ce(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Zhang & Sabuncu 2018, equation 6: (1 − p_t^q) / q, whose limit at q = 0 is −log p_t."""
    log_p, weight = _all_own(asked)
    q = values["robustness"]
    return mean_cost((1 - log_p.exp() ** q) / q if q else -log_p, weight)


def symmetric_ce(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Wang et al. 2019: α CE + β RCE with β = 1, A = −1, α = (1 − r) / r, times r."""
    r, found = values["reverse_share"], []
    for question in asked:
        known = question.labels != NOWHERE
        log_p, labels = question.log_p.movedim(1, -1)[known], question.labels[known]
        own = torch.stack([labels == c for c in range(log_p.shape[1])], dim=1).to(log_p)
        reverse = -(log_p.exp() * torch.where(own > 0, 0.0, -1.0)).sum(1)  # −Σ_k p_k log y_k with log 0 := A
        found.append(((1 - r) * -(own * log_p).sum(1) + r * reverse, question.weight[known]))
    return mean_cost(torch.cat([each for each, _ in found]), torch.cat([weight for _, weight in found]))


def ohem_ce(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """From the hardest pixel to the easiest: each is in while p_t is below the threshold, or too few are in."""
    log_p, weight = _all_own(asked)
    least = 0
    if values["kept_at_least"] > 0:
        least = max(1, math.floor(values["kept_at_least"] * log_p.numel() + 1e-6))
    chosen: list[int] = []
    p = log_p.detach().exp().tolist()
    for at in sorted(range(len(p)), key=p.__getitem__):
        if p[at] >= values["sure_at"] and len(chosen) >= least:
            break
        chosen.append(at)
    return mean_cost(-log_p[chosen], weight[chosen])


def recall_ce(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Tian et al. 2021, as in their code: each class's cross-entropy times FN_c (1 at least) over its pixels."""
    costs, number = [], 0
    for question in asked:
        log_p, weight = _own(question)
        known = question.labels != NOWHERE
        labels = question.labels[known].tolist()
        answers = question.log_p.argmax(1)[known].tolist()
        number += len(labels)
        for c in set(labels):
            own = [at for at, label in enumerate(labels) if label == c]
            missed = sum(answers[at] != c for at in own)
            costs.append(max(1, missed) / len(own) * -(weight[own] * log_p[own]).sum())
        costs.append(0 * log_p.sum())
    return torch.stack(costs).sum() / max(1, number)
