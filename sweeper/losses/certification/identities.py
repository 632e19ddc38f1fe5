"""What families equal: losses of torch and torchvision, and their papers' formulas written down once more."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.core.records import IGNORE
from sweeper.losses.certification.certified_loss import CLASSES, FREQUENCIES, Subject
from sweeper.losses.certification.checks import Finding, Rule, equal, worst

EXACT = 1e-10
"""Allowed relative difference in float64."""


def _entries(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Labelled logits and labels of a binary or multi-label batch, flat."""
    z = logits if target.ndim == logits.ndim else logits.squeeze(1)
    keep = target != IGNORE
    return z[keep], target[keep].to(z.dtype)


# --- Libraries ------------------------------------------------------------------------------------------------------


def _torch_cross_entropy(subject: Subject) -> Finding:
    """Cross-entropy is torch's over the labelled pixels."""
    logits, target = subject.batch()
    if subject.task == "multiclass":
        theirs = F.cross_entropy(logits, target, ignore_index=IGNORE)
    else:
        theirs = F.binary_cross_entropy_with_logits(*_entries(logits, target))
    return equal(subject.cost(logits, target), theirs, EXACT)


def _torch_weighted(subject: Subject) -> Finding:
    """Weights act as torch's, and the sum is divided by the number of labelled pixels, not by the weights."""
    logits, target = subject.batch()
    findings = {}
    for given in (0.2, 1.0, 30.0) if subject.task != "multiclass" else (0.0, 0.5, 1.0):
        if subject.task == "multiclass":
            shares = torch.tensor(FREQUENCIES, dtype=logits.dtype, device=logits.device)
            weights = shares**-given / (shares * shares**-given).sum()
            total = F.cross_entropy(logits, target, weights, ignore_index=IGNORE, reduction="sum")
            theirs, value = total / (target != IGNORE).sum(), subject.cost(logits, target, class_weight_power=given)
        else:
            weight = torch.tensor(given, dtype=logits.dtype, device=logits.device)
            theirs = F.binary_cross_entropy_with_logits(*_entries(logits, target), pos_weight=weight)
            value = subject.cost(logits, target, pos_weight=given)
        findings[f"weight {given:g}"] = equal(value, theirs, 1e-9)
    return worst(findings)


def _torchvision_focal(subject: Subject) -> Finding:
    """Binary focal is torchvision's sigmoid_focal_loss, averaged over the labelled pixels."""
    sigmoid_focal_loss = importlib.import_module("torchvision.ops").sigmoid_focal_loss
    logits, target = subject.batch()
    findings = {}
    for gamma in (0.5, 2.0, 5.0):
        for alpha in (0.25, 0.9, None):
            z, y = _entries(logits, target)
            theirs = sigmoid_focal_loss(z, y, alpha=-1 if alpha is None else alpha, gamma=gamma, reduction="mean")
            value = subject.cost(logits, target, gamma=gamma, alpha=alpha)
            findings[f"γ = {gamma:g}, α = {alpha}"] = equal(value, theirs, EXACT)
    return worst(findings)


# --- Formulas -------------------------------------------------------------------------------------------------------


def _softmax_focal(subject: Subject) -> Finding:
    """Multi-class focal is −w (1 − p_t)^γ log p_t with p from the softmax, w = 1 − α for the commonest class."""
    logits, target = subject.batch()
    keep = target != IGNORE
    p = logits.softmax(1).movedim(1, -1)[keep].gather(1, target[keep].unsqueeze(1)).squeeze(1)
    findings = {}
    for gamma in (0.5, 2.0):
        for alpha in (None, 0.8):
            w = 1.0 if alpha is None else torch.where(target[keep] == 0, 1 - alpha, alpha)
            formula = (-w * (1 - p) ** gamma * p.log()).mean()
            value = subject.cost(logits, target, gamma=gamma, alpha=alpha)
            findings[f"γ = {gamma:g}, α = {alpha}"] = equal(value, formula, 1e-6)
    return worst(findings)


def _pairs_of_classes(subject: Subject, logits: Tensor, target: Tensor) -> list[list[tuple[Tensor, Tensor]]]:
    """Problems of a batch as lists of classes, each with probabilities and labels of the labelled pixels.

    Multi-class is one problem of all classes; binary and multi-label have a problem of two for each channel.
    """
    if subject.task == "multiclass":
        keep = target != IGNORE
        p, y = logits.softmax(1).movedim(1, -1)[keep], target[keep]
        return [[(p[:, c], y == c) for c in range(CLASSES)]]
    labels = target.unsqueeze(1) if subject.task == "binary" else target
    channels = [(logits[:, c], labels[:, c]) for c in range(logits.shape[1])]
    found = []
    for z, own in channels:
        keep = own != IGNORE
        p, y = z[keep].sigmoid(), own[keep] == 1
        found.append([(1 - p, ~y), (p, y)])
    return found


def _counts(subject: Subject, logits: Tensor, target: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Soft true positives, false positives and false negatives of each class that the overlap part looks at."""
    problems = _pairs_of_classes(subject, logits, target)
    chosen = problems[0] if subject.task == "multiclass" else [classes[1] for classes in problems]
    return [(p[y].sum(), p[~y].sum(), (1 - p[y]).sum()) for p, y in chosen]


def _tversky_formula(a: float, b: float, exponent: float = 1.0) -> Callable[[Subject, Tensor, Tensor], Tensor]:
    def formula(subject: Subject, logits: Tensor, target: Tensor) -> Tensor:
        lost = [
            (1 - (tp + 1) / (tp + a * fp + b * fn + 1)) ** exponent for tp, fp, fn in _counts(subject, logits, target)
        ]
        return torch.stack(lost).mean()

    return formula


def _is_formula(formula: Callable[[Subject, Tensor, Tensor], Tensor], **given: float) -> Callable[[Subject], Finding]:
    def test(subject: Subject) -> Finding:
        """The family at these coordinates is its formula, written down once more without the kernel."""
        logits, target = subject.batch()
        return equal(subject.cost(logits, target, **given), formula(subject, logits, target), 1e-9)

    return test


def _jaccard_from_dice(subject: Subject) -> Finding:
    """1 − J = 2D / (1 + D) with D = 1 − Dice, exactly, for one class."""
    logits, target = subject.batch()
    dice = subject.other("dice").cost(logits, target)
    return equal(subject.cost(logits, target), 2 * dice / (1 + dice), EXACT)


def _log_cosh(subject: Subject) -> Finding:
    """Log-cosh Dice is log cosh of Dice."""
    logits, target = subject.batch()
    return equal(subject.cost(logits, target), subject.other("dice").cost(logits, target).cosh().log(), 1e-9)


def _adjusted_logits(subject: Subject) -> Finding:
    """Cross-entropy of z + τ log f; with two classes the difference of the shares' logarithms is that of the odds."""
    logits, target = subject.batch()
    findings = {}
    for tau in (0.5, 1.0):
        if subject.task == "multiclass":
            shares = torch.tensor(FREQUENCIES, dtype=logits.dtype, device=logits.device)
            theirs = F.cross_entropy(logits + tau * shares.log().view(1, -1, 1, 1), target, ignore_index=IGNORE)
            value = subject.cost(logits, target, tau=tau)
        else:
            odds = 20.0**tau
            z, y = _entries(logits, target)
            two = torch.stack([torch.full_like(z, math.log(odds)), z], dim=1)
            theirs, value = F.cross_entropy(two, y.long()), subject.cost(logits, target, prior_odds=odds)
        findings[f"τ = {tau:g}"] = equal(value, theirs, EXACT)
    return worst(findings)


def _own(subject: Subject, logits: Tensor, target: Tensor) -> Tensor:
    """Probability of each labelled pixel's own class, flat; multi-label: of each class or its absence."""
    return torch.cat([p[y] for classes in _pairs_of_classes(subject, logits, target) for p, y in classes])


def _of_own(cost: Callable[[Tensor], Tensor], **given: float) -> Callable[[Subject], Finding]:
    return _is_formula(lambda subject, logits, target: cost(_own(subject, logits, target)).mean(), **given)


def _hard_examples(subject: Subject, logits: Tensor, target: Tensor) -> Tensor:
    """At a threshold of 0.7 the pixels below it, where they are more than the share that always stays in."""
    own = _own(subject, logits, target)
    return -own[own < 0.7].log().mean()


def _recall(subject: Subject, logits: Tensor, target: Tensor) -> Tensor:
    """Each class's cross-entropy times the share of its pixels that the answer gives to another."""
    total, pixels = torch.zeros((), dtype=logits.dtype, device=logits.device), 0
    for classes in _pairs_of_classes(subject, logits, target):
        answers = torch.stack([p for p, _ in classes]).argmax(0)
        for c, (p, y) in enumerate(classes):
            total = total - (answers != c)[y].double().mean().clamp(min=1 / int(y.sum())) * p[y].log().sum()
            pixels += int(y.sum())
    return total / pixels


def _log_dice(exponent: float) -> Callable[[Subject, Tensor, Tensor], Tensor]:
    def formula(subject: Subject, logits: Tensor, target: Tensor) -> Tensor:
        counts = _counts(subject, logits, target)
        indices = [(tp + 1) / (tp + 0.5 * fp + 0.5 * fn + 1) for tp, fp, fn in counts]
        return (-torch.stack(indices).log()).pow(exponent).mean()

    return formula


def _exp_log(subject: Subject, logits: Tensor, target: Tensor) -> Tensor:
    """Wong's two parts, both to the power ½."""
    pixels = (-_own(subject, logits, target).log()).sqrt().mean()
    return 0.3 * pixels + 0.7 * _log_dice(0.5)(subject, logits, target)


def _of_classes(cost: Callable[[Tensor, Tensor], Tensor], **given: float) -> Callable[[Subject], Finding]:
    """Mean over the classes that an overlap looks at of a cost of probabilities and labels."""

    def formula(subject: Subject, logits: Tensor, target: Tensor) -> Tensor:
        problems = _pairs_of_classes(subject, logits, target)
        chosen = problems[0] if subject.task == "multiclass" else [classes[1] for classes in problems]
        return torch.stack([cost(p, y) for p, y in chosen]).mean()

    return _is_formula(formula, **given)


def _correlation(p: Tensor, y: Tensor) -> Tensor:
    tp, fp, fn, tn = p[y].sum() + 1, p[~y].sum(), (1 - p[y]).sum(), (1 - p[~y]).sum() + 1
    return 1 - (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)).sqrt()


def _lovasz_is_jaccard_on_corners(subject: Subject) -> Finding:
    """On certain predictions the Lovász extension is the Jaccard loss itself (hinge at ±1: twice it)."""
    target = subject.target(ignored=0.1)
    answer = subject.target(seed=7)
    logits = subject.perfect(answer, 1.0 if subject.task != "multiclass" else 200.0)
    lost = []
    for c in range(CLASSES) if subject.task == "multiclass" else (1,):
        hit, miss, false = (
            ((answer == c) & (target == c)),
            ((answer != c) & (target == c)),
            ((answer == c) & (target != c) & (target != IGNORE)),
        )
        channels = range(target.shape[1]) if subject.task == "multilabel" else (slice(None),)
        for k in channels:
            part = (slice(None), k) if subject.task == "multilabel" else (slice(None),)
            tp, fn, fp = hit[part].sum().double(), miss[part].sum().double(), false[part].sum().double()
            lost.append(1 - tp / (tp + fn + fp))
    expected = torch.stack(lost).mean() * (1 if subject.task == "multiclass" else 2)
    return equal(subject.cost(logits, target), expected, 1e-6)


def _generalized_dice(subject: Subject) -> Finding:
    """Sudre's formula over the classes that are present, all of them here."""
    logits, target = subject.batch()
    findings = {}
    for exponent in (0.0, 1.0, 2.0):
        lost = []
        for classes in _pairs_of_classes(subject, logits, target):
            weights = [y.sum().double() ** -exponent for _, y in classes]
            hit = torch.stack([w * p[y].sum() for w, (p, y) in zip(weights, classes, strict=True)]).sum()
            total = torch.stack([w * (p.sum() + y.sum()) for w, (p, y) in zip(weights, classes, strict=True)]).sum()
            lost.append(1 - 2 * hit / total)
        value = subject.cost(logits, target, volume_exponent=exponent)
        findings[f"exponent {exponent:g}"] = equal(value, torch.stack(lost).mean(), 1e-9)
    return worst(findings)


def _unified_focal(subject: Subject) -> Finding:
    """Yeung's asymmetric form: background (multi-class: the commonest class) is common, all else is rare."""
    logits, target = subject.batch()
    delta, s, mix = 0.7, 0.4, 0.3
    pixel, region, pixels = [], [], 0
    for classes in _pairs_of_classes(subject, logits, target):
        pixels += classes[0][1].numel()
        for c, (p, y) in enumerate(classes):
            own = p[y]
            pixel.append(((1 - delta) * (1 - own) ** s if c == 0 else delta) * -own.log())
            tp, fp, fn = own.sum(), p[~y].sum(), (1 - own).sum()
            lost = 1 - (tp + 1) / (tp + (1 - delta) * fp + delta * fn + 1)
            region.append(lost if c == 0 else lost ** (1 - s))
    formula = mix * torch.cat(pixel).sum() / pixels + (1 - mix) * torch.stack(region).mean()
    return equal(subject.cost(logits, target, mix=mix, delta=delta, suppression=s), formula, 1e-6)


def _boundary_distance(subject: Subject) -> Finding:
    """Each error costs its distance to the nearest pixel of the other side, less the half pixel to the boundary."""
    logits, target = subject.logits(size=6), subject.target(size=6)
    grid = torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij"), -1).view(-1, 2)
    between = torch.cdist(grid, grid).double().to(logits.device)
    p = logits.softmax(1) if subject.task == "multiclass" else logits.sigmoid()
    labels = target if subject.task == "multilabel" else target.unsqueeze(1)
    costs = []
    for image in range(p.shape[0]):
        for c in range(p.shape[1]):
            y = (labels[image, 0] == c if subject.task == "multiclass" else labels[image, c] == 1).flatten()
            other = torch.where(y.unsqueeze(1) != y.unsqueeze(0), between, torch.inf).amin(1)
            far = (other - 0.5).clamp(max=100)
            costs.append(far * (p[image, c].flatten() - y.double()).abs())
    value = subject.cost(logits, target, distance_mix=1.0)
    return equal(value, torch.cat(costs).mean(), 1e-6)


def _of(family: str, *tasks: str) -> Callable[[Subject], bool]:
    return lambda subject: subject.family == family and (not tasks or subject.task in tasks)


RULES = (
    Rule("equals torch's cross-entropy", _torch_cross_entropy, applies=_of("cross_entropy")),
    Rule("equals torch's weighted cross-entropy, but for the divisor", _torch_weighted, applies=_of("weighted_ce")),
    Rule(
        "equals torchvision's focal loss",
        _torchvision_focal,
        applies=lambda s: (
            _of("focal", "binary", "multilabel")(s) and importlib.util.find_spec("torchvision") is not None
        ),
    ),
    Rule("is the softmax form of focal", _softmax_focal, applies=_of("focal", "multiclass")),
    Rule("is the Dice formula", _is_formula(_tversky_formula(0.5, 0.5)), applies=_of("dice")),
    Rule("is the Jaccard formula", _is_formula(_tversky_formula(1, 1)), applies=_of("jaccard")),
    Rule("follows from Dice as 2D / (1 + D)", _jaccard_from_dice, applies=_of("jaccard", "binary")),
    Rule(
        "is the Tversky formula",
        _is_formula(_tversky_formula(0.3, 0.8), fp_weight=0.3, fn_weight=0.8, overlap_exponent=1.0),
        applies=lambda s: s.family in ("tversky", "focal_tversky"),
    ),
    Rule(
        "κ acts on each class's 1 − TI",
        _is_formula(_tversky_formula(0.3, 0.8, 0.75), fp_weight=0.3, fn_weight=0.8, overlap_exponent=0.75),
        applies=lambda s: s.family in ("tversky", "focal_tversky"),
    ),
    Rule("is the generalised Dice formula", _generalized_dice, applies=_of("generalized_dice")),
    Rule("is log cosh of Dice", _log_cosh, applies=_of("log_cosh_dice")),
    Rule("is cross-entropy of adjusted logits", _adjusted_logits, applies=_of("logit_adjusted")),
    Rule(
        "is −log p_t + ε (1 − p_t)", _of_own(lambda p: 1.5 * (1 - p) - p.log(), first_term=1.5), applies=_of("poly_ce")
    ),
    Rule("is (1 − √p_t) / ½", _of_own(lambda p: 2 - 2 * p.sqrt(), robustness=0.5), applies=_of("generalized_ce")),
    Rule(
        "is (1 − r) CE + r (1 − p_t)",
        _of_own(lambda p: 0.9 * (1 - p) - 0.1 * p.log(), reverse_share=0.9),
        applies=_of("symmetric_ce"),
    ),
    Rule("is cross-entropy below the threshold", _is_formula(_hard_examples), applies=_of("ohem_ce")),
    Rule("weighs each class by what is missed of it", _is_formula(_recall), applies=_of("recall_ce")),
    Rule("is −log of the Dice index", _is_formula(_log_dice(1.0)), applies=_of("log_dice")),
    Rule(
        "is the exponential logarithmic formula",
        _is_formula(_exp_log, mix=0.3, log_exponent=0.5),
        applies=_of("exp_log"),
    ),
    Rule(
        "is |p − y|^1.5 over the squares",
        _of_classes(
            lambda p, y: (p - y.to(p.dtype)).abs().pow(1.5).sum() / (p.square().sum() + y.sum() + 2), error_exponent=1.5
        ),
        applies=_of("robust_dice"),
    ),
    Rule(
        "is the mean squared error of each side",
        _of_classes(lambda p, y: 0.3 * (1 - p[y]).square().mean() + 0.7 * p[~y].square().mean(), sensitivity_share=0.3),
        applies=_of("sens_spec"),
    ),
    Rule("is one less Matthews' correlation", _of_classes(_correlation), applies=_of("mcc")),
    Rule("is the Jaccard loss on certain predictions", _lovasz_is_jaccard_on_corners, applies=_of("lovasz")),
    Rule("is the unified focal formula", _unified_focal, applies=_of("unified_focal")),
    Rule("is the distance to the boundary", _boundary_distance, applies=_of("boundary")),
)
