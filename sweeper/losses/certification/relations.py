"""What families become at certain coordinates: each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from sweeper.losses.build import build_loss
from sweeper.losses.certification.certified_loss import Subject
from sweeper.losses.certification.checks import Finding, Rule, equal, worst
from sweeper.losses.families import FAMILIES, Family
from sweeper.losses.family_records import Reduction

EXACT = 1e-9
"""Allowed relative difference in float64."""
REST: dict[str, float] = {
    "label_smoothing": 0.0,
    "hard_fraction": 1.0,
    "boundary_weight": 0.0,
    "smoothing": 1.0,
    "per_image": False,
    "squared": False,
    "weigh_overlap": False,
}
"""Values at which an option of the kernel does nothing."""
Coordinates = Mapping[str, float | bool | None]


def _becomes(other: str, ours: Coordinates, theirs: Coordinates | None = None) -> Callable[[Subject], Finding]:
    def test(subject: Subject) -> Finding:
        """At these coordinates the family is another one."""
        logits, target = subject.batch()
        first = subject.cost(logits, target, **_taken(subject, ours))
        rival = subject.other(other)
        return equal(first, rival.cost(logits, target, **_taken(rival, theirs or {})), EXACT)

    return test


def _taken(subject: Subject, coordinates: Coordinates) -> dict[str, float | bool | None]:
    """Those of the coordinates that the family takes for this task."""
    return {name: value for name, value in coordinates.items() if subject.takes(name)}


def _mix_is_straight(subject: Subject) -> Finding:
    """Between its ends `mix` goes in a straight line."""
    logits, target = subject.batch()
    low, third, high = (subject.cost(logits, target, mix=mix) for mix in (0.0, 0.3, 1.0))
    return equal(third, 0.7 * low + 0.3 * high, EXACT)


def _alpha_is_pos_weight(subject: Subject) -> Finding:
    """α / (1 − α) is the weight of the foreground, up to the factor 1 − α."""
    logits, target = subject.batch()
    focal = subject.cost(logits, target, gamma=0.0, alpha=0.9)
    return equal(focal / 0.1, subject.other("weighted_ce").cost(logits, target, pos_weight=9.0), EXACT)


def _sigmoid_is_two_class_softmax(subject: Subject) -> Finding:
    """Softmax over the logits (0, z) is the sigmoid of z."""
    logits, target = subject.batch()
    free = {"gamma": 2.0, "alpha": None}
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    softmax = subject.other(subject.family, "multiclass")
    coordinates: dict[str, Any] = _taken(softmax, free)
    loss = build_loss(subject.family, task="multiclass", **coordinates)
    return equal(subject.cost(logits, target, **_taken(subject, free)), subject.call(loss, two, target), EXACT)


def _one_label_is_binary(subject: Subject) -> Finding:
    """A multi-label task with one class is the binary task."""
    binary = subject.other(subject.family, "binary")
    logits, target = binary.batch()
    findings = {}
    for point, coordinates in subject.points().items():
        alone = subject.cost(logits, target.unsqueeze(1), **coordinates)
        findings[point] = equal(alone, binary.cost(logits, target, **_taken(binary, coordinates)), EXACT)
    return worst(findings)


def _options_at_rest_change_nothing(subject: Subject) -> Finding:
    """Every option of the kernel, given at rest, leaves the loss as it is."""
    logits, target = subject.batch()
    expected = subject.cost(logits, target)
    findings = {}
    for name in subject.entry.options(subject.task):
        if name in REST:
            findings[name] = equal(subject.cost(logits, target, **{name: REST[name]}), expected, EXACT)
    return worst(findings)


def _reduction(family: Family, reduction: Reduction) -> Rule:
    """`family` is `reduction.other` there, for every task where it takes one of the coordinates."""

    def applies(subject: Subject) -> bool:
        known = reduction.other in FAMILIES and subject.task in FAMILIES[reduction.other].tasks
        takes = any(subject.takes(name) for name in reduction.at)
        return subject.family == family.name and known and takes and subject.task in reduction.tasks

    return Rule(reduction.words, _becomes(reduction.other, reduction.at, reduction.others_at), applies=applies)


RULES = (
    *(_reduction(family, reduction) for family in FAMILIES.values() for reduction in family.becomes),
    Rule(
        "α is a weight of the foreground",
        _alpha_is_pos_weight,
        applies=lambda s: s.family == "focal" and s.task != "multiclass",
    ),
    Rule(
        "softmax over (0, z) is the sigmoid",
        _sigmoid_is_two_class_softmax,
        applies=lambda s: s.task == "binary" and s.family in ("cross_entropy", "focal", "topk_ce"),
    ),
    Rule("mix goes in a straight line", _mix_is_straight, applies=lambda s: s.takes("mix")),
    Rule(
        "one label is the binary task",
        _one_label_is_binary,
        # Of two classes there are frequencies, which margins follow.
        applies=lambda s: s.task == "multilabel" and "binary" in s.entry.tasks and s.family != "ldam",
    ),
    Rule(
        "options at rest change nothing",
        _options_at_rest_change_nothing,
        applies=lambda s: any(name in REST for name in s.entry.options(s.task)),
    ),
)
