"""What families become at certain coordinates: each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from sweeper.losses.build import build_loss
from sweeper.losses.certification.certified_loss import Subject
from sweeper.losses.certification.checks import Finding, Rule, equal, worst
from sweeper.losses.families import FAMILIES

EXACT = 1e-9
"""Allowed relative difference in float64."""
REST: dict[str, float] = {
    "label_smoothing": 0.0,
    "hard_fraction": 1.0,
    "boundary_weight": 0.0,
    "smoothing": 1.0,
    "per_image": False,
    "squared": False,
}
"""Values at which an option of the kernel does nothing."""
Coordinates = Mapping[str, float | None]


def _becomes(other: str, ours: Coordinates, theirs: Coordinates | None = None) -> Callable[[Subject], Finding]:
    def test(subject: Subject) -> Finding:
        """At these coordinates the family is another one."""
        logits, target = subject.batch()
        first = subject.cost(logits, target, **_taken(subject, ours))
        rival = subject.other(other)
        return equal(first, rival.cost(logits, target, **_taken(rival, theirs or {})), EXACT)

    return test


def _taken(subject: Subject, coordinates: Coordinates) -> dict[str, float | None]:
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


def _reduction(family: str, name: str, other: str, ours: Coordinates, theirs: Coordinates | None = None) -> Rule:
    """`family` at the coordinates `ours` is `other` at `theirs`, for every task where it takes the first of `ours`."""

    def applies(subject: Subject) -> bool:
        known = other in FAMILIES and subject.task in FAMILIES[other].tasks
        return subject.family == family and known and subject.takes(next(iter(ours)))

    return Rule(name, _becomes(other, ours, theirs), applies=applies)


_PLAIN: Coordinates = {"gamma": 0.0, "alpha": None}
_WEIGHTS: Coordinates = {"pos_weight": 3.0, "class_weight_power": 0.7}
_NO_WEIGHTS: Coordinates = {"pos_weight": 1.0, "class_weight_power": 0.0}
_BOTH_CLASSES: Coordinates = {"fn_weight": 0.8, "include_background": True}

RULES = (
    _reduction("focal", "γ = 0 without α is cross-entropy", "cross_entropy", _PLAIN),
    Rule(
        "α is a weight of the foreground",
        _alpha_is_pos_weight,
        applies=lambda s: s.family == "focal" and s.task != "multiclass",
    ),
    Rule(
        "equal weights are cross-entropy",
        _becomes("cross_entropy", _NO_WEIGHTS),
        applies=lambda s: s.family == "weighted_ce",
    ),
    Rule(
        "softmax over (0, z) is the sigmoid",
        _sigmoid_is_two_class_softmax,
        applies=lambda s: s.task == "binary" and s.family in ("cross_entropy", "focal", "topk_ce"),
    ),
    _reduction("topk_ce", "all pixels are cross-entropy", "cross_entropy", {"hard_fraction": 1.0}),
    _reduction("boundary_ce", "no boundary weight is cross-entropy", "cross_entropy", {"boundary_weight": 0.0}),
    _reduction("tversky", "equal halves are Dice", "dice", {"fn_weight": 0.5}),
    _reduction("tversky", "weights of 1 are Jaccard", "jaccard", {"fn_weight": 1.0, "fp_weight": 1.0}),
    _reduction("focal_tversky", "κ = 1 is Tversky", "tversky", {"overlap_exponent": 1.0}),
    _reduction("dice_ce", "mix = 1 is weighted cross-entropy", "weighted_ce", {"mix": 1.0, **_WEIGHTS}, _WEIGHTS),
    _reduction("dice_ce", "mix = 0 is Dice", "dice", {"mix": 0.0}),
    _reduction("dice_focal", "mix = 1 is focal", "focal", {"mix": 1.0, "gamma": 1.5}, {"gamma": 1.5, "alpha": None}),
    _reduction("dice_focal", "mix = 0 is Dice", "dice", {"mix": 0.0}),
    _reduction("dice_focal", "γ = 0 is Dice + cross-entropy", "dice_ce", {"gamma": 0.0}, _NO_WEIGHTS),
    _reduction(
        "dice_topk",
        "mix = 1 is top-k cross-entropy",
        "topk_ce",
        {"mix": 1.0, "hard_fraction": 0.3},
        {"hard_fraction": 0.3},
    ),
    _reduction("dice_topk", "mix = 0 is Dice", "dice", {"mix": 0.0}),
    _reduction("dice_topk", "all pixels are Dice + cross-entropy", "dice_ce", {"hard_fraction": 1.0}, _NO_WEIGHTS),
    _reduction("combo", "mix = 1 is focal at γ = 0", "focal", {"mix": 1.0, "alpha": 0.8}, {"gamma": 0.0, "alpha": 0.8}),
    _reduction("combo", "mix = 0 is Dice", "dice", {"mix": 0.0}),
    _reduction(
        "unified_focal",
        "mix = 1 without suppression is focal at γ = 0",
        "focal",
        {"mix": 1.0, "suppression": 0.0, "delta": 0.8},
        {"gamma": 0.0, "alpha": 0.8},
    ),
    Rule(
        "mix = 0 without suppression is Tversky of both classes",
        _becomes("tversky", {"mix": 0.0, "suppression": 0.0, "delta": 0.8}, _BOTH_CLASSES),
        # Multi-label Tversky has no background class to count.
        applies=lambda s: s.family == "unified_focal" and s.task != "multilabel",
    ),
    _reduction("soft_cldice", "no skeleton weight is Dice", "dice", {"skeleton_weight": 0.0}),
    _reduction("boundary", "no distance is Dice", "dice", {"distance_mix": 0.0}),
    Rule("mix goes in a straight line", _mix_is_straight, applies=lambda s: s.takes("mix")),
    Rule(
        "one label is the binary task",
        _one_label_is_binary,
        applies=lambda s: s.task == "multilabel" and "binary" in s.entry.tasks,
    ),
    Rule(
        "options at rest change nothing",
        _options_at_rest_change_nothing,
        applies=lambda s: any(name in REST for name in s.entry.options(s.task)),
    ),
)
