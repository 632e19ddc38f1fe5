"""Rules about losses that take soft labels: shares in [0, 1] in place of class indices."""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.core.records import IGNORE
from sweeper.losses.certification.certified_loss import CLASSES, Subject
from sweeper.losses.certification.checks import Finding, Rule, equal, worst
from sweeper.losses.certification.option_values import variants

EXACT = 1e-9
"""Allowed relative difference in float64."""
ERROR_WEIGHT = {"jaccard_metric": 1.0, "dice_metric": 0.5}


def _soft(subject: Subject, seed: int = 21) -> Tensor:
    """Shares shaped as the logits; some exactly 0 and 1, some pixels ignored."""
    drawn = torch.rand(subject.logits().shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shares = (1.4 * drawn - 0.2).clamp(0, 1).to(subject.device)
    if subject.task == "multiclass":
        shares = shares / shares.sum(1, keepdim=True)
    hidden = subject.target(ignored=0.2) == IGNORE
    return torch.where(hidden if subject.task == "multilabel" else hidden.unsqueeze(1), float(IGNORE), shares)


def _reference(subject: Subject, mix: float, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Wang et al. 2023, from |x|, |y| and |x − y|, one class after the other; weights shaped as the logits."""
    p = logits.softmax(1) if subject.task == "multiclass" else logits.sigmoid()
    known, a = labels != IGNORE, ERROR_WEIGHT[subject.family]
    costs, entropy = [], []
    for c in range(p.shape[1]):
        k = known[:, c]
        x, y, w = p[:, c][k], labels[:, c][k], weight[:, c][k]
        apart = (w * (x - y).abs()).sum()
        hit = ((w * x).sum() + (w * y).sum() - apart) / 2
        marked, missed = (w * x).sum() - hit, (w * y).sum() - hit
        lost = 1 - (hit + 1) / (hit + a * marked + a * missed + 1)
        costs.append(lost if (w * y).sum() > 0 else (w * x).sum() / w.sum())
        other = 0 if subject.task == "multiclass" else (1 - y) * (1 - x).log()
        entropy.append(-(w * (y * x.log() + other)).sum())
    pixels = known.sum() / (CLASSES if subject.task == "multiclass" else 1)
    return mix * torch.stack(entropy).sum() / pixels + (1 - mix) * torch.stack(costs).mean()


def _soft_labels_are_the_formula(subject: Subject) -> Finding:
    """Value and gradient, weighted or not, with a class of which there is nothing, and along other axes."""
    logits, labels = subject.logits(), _soft(subject)
    nothing = labels.clone()
    nothing[:, -1] = torch.where(nothing[:, -1] == IGNORE, nothing[:, -1], 0.0)
    ones = torch.ones_like(logits)
    drawn = subject.pixel_weights(subject.target(ignored=0.2)).to(logits)
    wide = drawn if drawn.ndim == logits.ndim else drawn.unsqueeze(1).expand_as(logits)
    findings: dict[str, Finding] = {}
    for place, coordinates in variants(subject).items():
        loss = subject.build(**coordinates)
        mix = coordinates.get("mix", 0.0)
        for how, (target, given, weight) in {
            "plain": (labels, None, ones),
            "a class absent": (nothing, None, ones),
            "weighted": (labels, drawn, wide),
        }.items():
            leaf = logits.detach().requires_grad_()
            expected = _reference(subject, mix, leaf, target, weight)
            (slope,) = torch.autograd.grad(expected, leaf)
            value = loss(leaf, target, given)
            (gradient,) = torch.autograd.grad(value, leaf)
            findings[f"value, {how} ({place})"] = equal(value.detach(), expected.detach(), EXACT)
            findings[f"gradient, {how} ({place})"] = equal(gradient, slope, EXACT)
        volume = loss(logits.view(*logits.shape[:2], 4, 4, 4), labels.view(*logits.shape[:2], 4, 4, 4))
        findings[f"a volume ({place})"] = equal(volume, loss(logits, labels), EXACT)
    return worst(findings)


def _hard_labels_are_labels(subject: Subject) -> Finding:
    """Shares of 0 and 1 cost what class indices cost."""
    logits, target = subject.batch()
    if subject.task == "multiclass":
        known = torch.where(target == IGNORE, 0, target)
        shares = torch.nn.functional.one_hot(known, CLASSES).movedim(-1, 1).double()
        shares = torch.where((target == IGNORE).unsqueeze(1), float(IGNORE), shares)
    else:
        shares = target.double().view(logits.shape)
    findings = {}
    for place, coordinates in variants(subject).items():
        loss = subject.build(**coordinates)
        findings[place] = equal(loss(logits, shares), loss(logits, target), EXACT)
    return worst(findings)


def _the_label_itself_costs_least(subject: Subject) -> Finding:
    """An answer of exactly the shares costs nothing, and one that is surer or less sure costs more."""
    labels = _soft(subject).clamp(0.01, 0.99)
    if subject.task == "multiclass":
        labels = labels / labels.sum(1, keepdim=True)
    right = labels.log() if subject.task == "multiclass" else torch.logit(labels)
    loss = subject.build(mix=0.0)
    least = float(loss(right, labels))
    others = {f"logits × {factor:g}": float(loss(factor * right, labels)) for factor in (0.5, 0.9, 1.1, 2.0)}
    passed = abs(least) < 1e-12 and min(others.values()) > 1e-4
    return Finding(passed, f"the label {least:.1e}, " + ", ".join(f"{k} {v:.3g}" for k, v in others.items()))


def _takes_them(subject: Subject) -> bool:
    return subject.entry.soft_labels and subject.family in ERROR_WEIGHT


RULES = (
    Rule("equals its slow reference on soft labels", _soft_labels_are_the_formula, applies=_takes_them),
    Rule("soft labels of 0 and 1 are labels", _hard_labels_are_labels, applies=_takes_them),
    Rule("the soft label itself costs least", _the_label_itself_costs_least, applies=_takes_them),
)
