"""What families equal: torch's losses, a formula, each other, and themselves with the classes renamed; and that the
slope of each is that of its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.core.records import IGNORE
from sweeper.losses.certification.certified_loss import COUNTS, SHARES, Subject
from sweeper.losses.certification.checks import Finding, Rule, equal, worst
from sweeper.losses.families import FAMILIES, Family
from sweeper.losses.family_records import Reduction

EXACT = 1e-9
"""Allowed relative difference in float64."""
DIRECTIONS = 3
STEP = 1e-6


def _entries(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Labelled logits and labels of a binary batch, flat."""
    keep = target != IGNORE
    return logits.squeeze(1)[keep], target[keep].to(logits.dtype)


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
    for given in (0.2, 1.0, 30.0) if subject.task == "binary" else (0.0, 0.5, 1.0):
        if subject.task == "binary":
            weight = torch.tensor(given, dtype=logits.dtype, device=logits.device)
            theirs = F.binary_cross_entropy_with_logits(*_entries(logits, target), pos_weight=weight)
            value = subject.cost(logits, target, pos_weight=given)
        else:
            shares = torch.tensor(SHARES["multiclass"], dtype=logits.dtype, device=logits.device)
            weights = shares**-given / (shares * shares**-given).sum()
            total = F.cross_entropy(logits, target, weights, ignore_index=IGNORE, reduction="sum")
            theirs, value = total / (target != IGNORE).sum(), subject.cost(logits, target, class_weight_power=given)
        findings[f"weight {given:g}"] = equal(value, theirs, EXACT)
    return worst(findings)


def _tversky_formula(subject: Subject) -> Finding:
    """(1 − TI)^κ of each class from the labelled pixels' probabilities, then the mean."""
    logits, target = subject.batch()
    keep = target != IGNORE
    p = logits.softmax(1) if subject.task == "multiclass" else logits.sigmoid()
    given = {"fp_weight": 0.3, "fn_weight": 0.8, "overlap_exponent": 0.75}
    exponent = given["overlap_exponent"] if subject.takes("overlap_exponent") else 1.0
    point = {**given, **subject.entry.fixed}
    lost = []
    for c in range(p.shape[1]):
        chance, own = p[:, c][keep], target[keep] == (c if subject.task == "multiclass" else 1)
        tp, fp, fn = chance[own].sum(), chance[~own].sum(), (1 - chance[own]).sum()
        index = (tp + 1) / (tp + point["fp_weight"] * fp + point["fn_weight"] * fn + 1)
        lost.append((1 - index) ** exponent)
    return equal(subject.cost(logits, target, **_taken(subject, given)), torch.stack(lost).mean(), EXACT)


def _renamed_classes_cost_the_same(subject: Subject) -> Finding:
    """With the classes in another order, in logits, labels and counts alike, the loss is the same.

    Where class 0 is the background it keeps its place.
    """
    order = [0, 2, 1] if subject.entry.background_first else [2, 0, 1]
    logits, target = subject.batch()
    renamed = target.clone()
    for new, old in enumerate(order):
        renamed[target == old] = new
    counts = tuple(COUNTS["multiclass"][old] for old in order)
    findings = {}
    for place, coordinates in subject.points().items():
        expected = subject.cost(logits, target, **coordinates)
        value = subject.call(subject.build(counts, **coordinates), logits[:, order], renamed)
        findings[place] = equal(value, expected, EXACT)
    return worst(findings)


def _mix_is_straight(subject: Subject) -> Finding:
    """Between its ends `mix` goes in a straight line."""
    logits, target = subject.batch()
    low, third, high = (subject.cost(logits, target, mix=mix) for mix in (0.0, 0.3, 1.0))
    return equal(third, 0.7 * low + 0.3 * high, EXACT)


def _slope_agrees_with_finite_differences(subject: Subject) -> Finding:
    """Directional derivatives in random directions against central differences of the value."""
    logits, target = subject.logits(size=6), subject.target(size=6, ignored=0.1)
    findings = {}
    for point, coordinates in subject.points().items():
        loss = subject.build(**coordinates)
        _, gradient = subject.value_and_gradient(loss, logits, target)
        for k in range(DIRECTIONS):
            along = subject.logits(seed=100 + k, scale=1.0, size=6)
            ahead = subject.call(loss, logits + STEP * along, target)
            behind = subject.call(loss, logits - STEP * along, target)
            slope = (gradient * along).sum()
            measured = (ahead - behind) / (2 * STEP)
            gap = (slope - measured).abs().item()
            allowed = 1e-7 + 1e-5 * measured.abs().item()
            findings[f"{point}, direction {k}"] = Finding(
                gap <= allowed, f"slope {slope.item():.6g}, measured {measured.item():.6g}"
            )
    return worst(findings)


Coordinates = Mapping[str, float | bool | None]


def _taken(subject: Subject, coordinates: Coordinates) -> dict[str, float | bool | None]:
    """Those of the coordinates that the family takes for this task."""
    return {name: value for name, value in coordinates.items() if subject.takes(name)}


def _reduction(family: Family, reduction: Reduction) -> Rule:
    """`family` is `reduction.other` there, for every task where it takes one of the coordinates."""

    def test(subject: Subject) -> Finding:
        logits, target = subject.batch()
        first = subject.cost(logits, target, **_taken(subject, reduction.at))
        other = subject.other(reduction.other)
        return equal(first, other.cost(logits, target, **_taken(other, reduction.others_at)), EXACT)

    def applies(subject: Subject) -> bool:
        known = reduction.other in FAMILIES and subject.task in FAMILIES[reduction.other].tasks
        takes = any(subject.takes(name) for name in reduction.at)
        return subject.family == family.name and known and takes

    return Rule(reduction.words, test, applies=applies)


def _of(*families: str) -> Callable[[Subject], bool]:
    return lambda subject: subject.family in families


RULES = (
    Rule("equals torch's cross-entropy", _torch_cross_entropy, applies=_of("cross_entropy")),
    Rule("equals torch's weighted cross-entropy, but for the divisor", _torch_weighted, applies=_of("weighted_ce")),
    Rule("is the Tversky formula", _tversky_formula, applies=_of("dice", "jaccard", "tversky", "focal_tversky")),
    *(_reduction(family, reduction) for family in FAMILIES.values() for reduction in family.becomes),
    Rule("mix goes in a straight line", _mix_is_straight, applies=lambda subject: subject.takes("mix")),
    Rule(
        "renamed classes cost the same",
        _renamed_classes_cost_the_same,
        applies=lambda subject: subject.task == "multiclass",
    ),
    Rule("its slope agrees with finite differences", _slope_agrees_with_finite_differences),
)
