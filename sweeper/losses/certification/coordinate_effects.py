"""Rules about coordinates: more of each does what its name says."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sweeper.losses.certification.certified_loss import Subject
from sweeper.losses.certification.checks import Finding, Rule


def _has(coordinate: str) -> Callable[[Subject], bool]:
    return lambda subject: subject.takes(coordinate)


def _pull(subject: Subject, loss: nn.Module, target: Tensor, chosen: Tensor) -> float:
    """Share of the slope that lies on the `chosen` pixels, at small random logits; `chosen` is shaped as the target."""
    logits = subject.logits(scale=0.2, size=16)
    _, gradient = subject.value_and_gradient(loss, logits, target)
    size = gradient.abs() if subject.task == "multilabel" else gradient.abs().sum(1)
    return ((size * chosen).sum() / size.sum()).item()


def _grows(subject: Subject, coordinate: str, low: float, high: float, chosen: Tensor) -> Finding:
    """Whether the chosen pixels' share of the slope grows from the coordinate's low to its high value."""
    target = subject.target(size=16)
    rest = _only_cross_entropy(subject) if coordinate not in ("fn_weight", "fp_weight") else {}
    if coordinate in ("fn_weight", "fp_weight"):
        # The other weight stays, so that only one moves.
        other = "fp_weight" if coordinate == "fn_weight" else "fn_weight"
        if other in subject.entry.coordinates[subject.task]:
            rest[other] = 0.5
    weak, strong = (
        _pull(subject, subject.build(**{**rest, coordinate: value}), target, chosen) for value in (low, high)
    )
    return Finding(strong > weak, f"share of the slope {weak:.3f} at {low:g}, {strong:.3f} at {high:g}")


def _only_cross_entropy(subject: Subject) -> dict[str, float | None]:
    """Coordinates that leave the overlap part out, so that the cross-entropy part is seen alone."""
    return {"mix": 1.0} if "mix" in subject.entry.coordinates[subject.task] else {}


def _more_weight_on_foreground(coordinate: str, low: float, high: float) -> Callable[[Subject], Finding]:
    def test(subject: Subject) -> Finding:
        """More of the coordinate moves the slope towards foreground pixels (multi-class: all but the commonest)."""
        return _grows(subject, coordinate, low, high, subject.target(size=16) > 0)

    return test


def _more_weight_on_background(subject: Subject) -> Finding:
    """More weight of false positives moves the slope towards background pixels (with two classes in view)."""
    return _grows(subject, "fp_weight", 0.2, 0.8, subject.target(size=16) == 0)


def _more_weight_on_the_rarest(subject: Subject) -> Finding:
    """A higher power of the class frequencies moves the slope towards the rarest class."""
    return _grows(subject, "class_weight_power", 0.0, 1.0, subject.target(size=16) == 2)


def _focal_exponent_quietens_easy_pixels(subject: Subject) -> Finding:
    """A higher γ moves the slope from pixels that are right by 4 to pixels that are wrong by 1."""
    target = subject.target(size=16)
    easy = subject.target(seed=6, size=16) > 0
    size = easy if subject.task == "multilabel" else easy.unsqueeze(1)
    logits = torch.where(size, subject.perfect(target, 4.0), -subject.perfect(target, 1.0))
    shares = []
    for gamma in (0.0, 2.0):
        loss = subject.build(**_only_cross_entropy(subject), gamma=gamma)
        _, gradient = subject.value_and_gradient(loss, logits, target)
        slope = gradient.abs() if subject.task == "multilabel" else gradient.abs().sum(1)
        shares.append(((slope * easy).sum() / slope.sum()).item())
    return Finding(shares[1] < shares[0] / 2, f"easy pixels' share {shares[0]:.4f} at γ = 0, {shares[1]:.4f} at 2")


def _fewer_pixels_when_harder(subject: Subject) -> Finding:
    """A smaller hard fraction leaves fewer pixels with a slope, those of the largest cross-entropy."""
    logits, target = subject.logits(size=16), subject.target(size=16)
    counts = []
    for fraction in (0.1, 0.5):
        loss = subject.build(**_only_cross_entropy(subject), hard_fraction=fraction)
        _, gradient = subject.value_and_gradient(loss, logits, target)
        slope = gradient if subject.task == "multilabel" else gradient.abs().sum(1)
        counts.append((slope != 0).double().mean().item())
    passed = abs(counts[0] - 0.1) < 0.02 and abs(counts[1] - 0.5) < 0.02
    return Finding(passed, f"{counts[0]:.1%} of the pixels at 0.1, {counts[1]:.1%} at 0.5")


def _boundary_weight_raises_the_boundary(subject: Subject) -> Finding:
    """More boundary weight moves the slope to pixels that have a neighbour of another class."""
    target = subject.target(size=16)
    border = torch.zeros_like(target, dtype=torch.bool)
    border[..., 1:] |= target[..., 1:] != target[..., :-1]
    border[..., :-1] |= target[..., 1:] != target[..., :-1]
    border[..., 1:, :] |= target[..., 1:, :] != target[..., :-1, :]
    border[..., :-1, :] |= target[..., 1:, :] != target[..., :-1, :]
    return _grows(subject, "boundary_weight", 0.0, 4.0, border)


def _smoothed_labels_stop_certainty(subject: Subject) -> Finding:
    """With label smoothing a margin of 20 is too sure: the slope pulls it back; without, it does not."""
    target = subject.target()
    logits = subject.perfect(target)
    pulls = []
    for smoothing in (0.0, 0.2):
        loss = subject.build(**_only_cross_entropy(subject), label_smoothing=smoothing)
        _, gradient = subject.value_and_gradient(loss, logits, target)
        pulls.append((gradient * logits).sum().item())
    return Finding(pulls[0] <= 1e-6 < pulls[1], f"pull back {pulls[0]:.2g} without, {pulls[1]:.2g} with 0.2")


FOCAL_ON_BACKGROUND_ALONE = frozenset({"unified_focal"})
"""Families whose γ acts by class, so that it does not simply quieten easy pixels."""


def _focal(subject: Subject) -> bool:
    return _has("gamma")(subject) and subject.family not in FOCAL_ON_BACKGROUND_ALONE


RULES = (
    Rule("alpha favours the foreground", _more_weight_on_foreground("alpha", 0.25, 0.75), applies=_has("alpha")),
    Rule(
        "pos_weight favours the foreground", _more_weight_on_foreground("pos_weight", 1, 10), applies=_has("pos_weight")
    ),
    Rule("delta favours the foreground", _more_weight_on_foreground("delta", 0.3, 0.9), applies=_has("delta")),
    Rule(
        "fn_weight favours the foreground",
        _more_weight_on_foreground("fn_weight", 0.3, 0.9),
        # With softmax over several classes each class's false negative is another's false positive.
        applies=lambda subject: subject.task != "multiclass" and _has("fn_weight")(subject),
    ),
    Rule(
        "fp_weight favours the background",
        _more_weight_on_background,
        applies=lambda subject: subject.task != "multiclass" and _has("fp_weight")(subject),
    ),
    Rule(
        "class_weight_power favours rare classes",
        _more_weight_on_the_rarest,
        applies=lambda subject: subject.task == "multiclass" and _has("class_weight_power")(subject),
    ),
    Rule("gamma quietens easy pixels", _focal_exponent_quietens_easy_pixels, applies=_focal),
    Rule("hard_fraction keeps the hardest", _fewer_pixels_when_harder, applies=_has("hard_fraction")),
    Rule("boundary_weight raises boundaries", _boundary_weight_raises_the_boundary, applies=_has("boundary_weight")),
    Rule("label_smoothing stops certainty", _smoothed_labels_stop_certainty, applies=_has("label_smoothing")),
)
