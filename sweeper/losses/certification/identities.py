"""What families equal: torch's losses, a formula, each other, and themselves with the classes renamed; and that the
slope of each is that of its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
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


def _torch_cross_entropy(subject: Subject) -> Finding:
    """Torch's, with its weights, divided by the number of labelled pixels and not by the weights' sum."""
    logits, target = subject.batch()
    keep = target != IGNORE
    findings = {}
    for given in (0.5, 1.0, 30.0) if subject.task == "binary" else (0.0, 0.5, 1.0):
        if subject.task == "binary":
            weight = logits.new_tensor(given if subject.takes("pos_weight") else 1.0)
            labels = target[keep].to(logits.dtype)
            theirs = F.binary_cross_entropy_with_logits(logits.squeeze(1)[keep], labels, pos_weight=weight)
        else:
            shares = logits.new_tensor(SHARES["multiclass"])
            raw = shares ** -(given if subject.takes("class_weight_power") else 0.0)
            weights = raw / (shares * raw).sum()
            total = F.cross_entropy(logits, target, weights, ignore_index=IGNORE, reduction="sum")
            theirs = total / keep.sum()
        value = subject.cost(logits, target, **_taken(subject, {"pos_weight": given, "class_weight_power": given}))
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


def _taken(subject: Subject, coordinates: Mapping[str, float | bool | None]) -> dict[str, float | bool | None]:
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
        known = subject.task in FAMILIES[reduction.other].tasks
        return subject.family == family.name and known and any(subject.takes(name) for name in reduction.at)

    return Rule(reduction.words, test, applies=applies)


def _of(*families: str) -> Callable[[Subject], bool]:
    return lambda subject: subject.family in families


RULES = (
    Rule("equals torch's cross-entropy", _torch_cross_entropy, applies=_of("cross_entropy", "weighted_ce")),
    Rule("is the Tversky formula", _tversky_formula, applies=_of("dice", "jaccard", "tversky", "focal_tversky")),
    *(_reduction(family, reduction) for family in FAMILIES.values() for reduction in family.becomes),
    Rule(
        "renamed classes cost the same",
        _renamed_classes_cost_the_same,
        applies=lambda subject: subject.task == "multiclass",
    ),
    Rule("its slope agrees with finite differences", _slope_agrees_with_finite_differences),
)
