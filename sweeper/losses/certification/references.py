"""Rules: every family is its slow reference, at every option, on every path of the code, weighted or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad_and_value

from sweeper.core.records import IGNORE
from sweeper.losses.certification.certified_loss import COUNTS, DATA_DECIDED, Subject
from sweeper.losses.certification.checks import Finding, Rule, equal, worst
from sweeper.losses.certification.option_values import VALUES, few, variants
from sweeper.losses.certification.slow_kernel import kernel_reference, questions
from sweeper.losses.certification.slow_relatives import RELATIVES

EXACT = 1e-9
"""Allowed relative difference in float64: the references take the straight way, which loses digits."""
ROUNDED = 1e-6
"""Of families that read distances in float32."""
OTHER_IGNORE = -100
"""What torch calls no label."""
NAMES = frozenset(VALUES) | {"class_weights"}


def known(subject: Subject) -> bool:
    """Whether there is a reference, which knows every coordinate of the family: of every family that is shipped
    (tests/test_certify.py), but of none that a caller has put beside them."""
    entry = subject.entry
    if entry.relative and subject.family not in RELATIVES:
        return False
    return set(entry.coordinates[subject.task]) | set(entry.fixed) <= NAMES


def reference(
    subject: Subject,
    coordinates: Mapping[str, Any],
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = IGNORE,
) -> tuple[Tensor, ...]:
    """Value, gradient in the logits and, where there are weights, in the weights."""
    free = subject.entry.coordinates[subject.task]
    defaults = {name: one.default for name, one in free.items()}
    needed = {name: DATA_DECIDED[name] for name, value in defaults.items() if value is None and name in DATA_DECIDED}
    values = {**subject.entry.fixed, **defaults, **needed, **coordinates}
    if subject.entry.fixed.get("mix") == 0:  # all weights are the overlap's
        values["weigh_overlap"] = True
    leaf = logits.detach().requires_grad_()
    inputs = [leaf] if weight is None else [leaf, weight.detach().requires_grad_()]
    asked = questions(subject.task, leaf, target, ignore_index, None if weight is None else inputs[1])
    counts = COUNTS[subject.task]
    if subject.entry.relative:
        value = RELATIVES[subject.family](subject.task, values, asked, counts)
    else:
        value = kernel_reference(subject.task, values, asked, counts)
    return value.detach(), *torch.autograd.grad(value, inputs, materialize_grads=True)


def _found(loss: nn.Module, logits: Tensor, target: Tensor, weight: Tensor | None, *, of_weight: bool) -> list[Tensor]:
    """Value and gradients as in a training; with a gradient of the weights, too, by the plain path."""
    leaf = logits.detach().requires_grad_()
    inputs = [leaf]
    if of_weight:
        assert weight is not None
        weight = weight.detach().requires_grad_()
        inputs.append(weight)
    value = loss(leaf, target) if weight is None else loss(leaf, target, weight)
    return [value.detach(), *torch.autograd.grad(value, inputs, materialize_grads=True)]


def _transformed(loss: nn.Module, logits: Tensor, target: Tensor) -> list[Tensor]:
    """Value and gradient by torch.func, which only the plain path can do."""
    gradient, value = grad_and_value(lambda z: loss(z, target))(logits)
    return [value, gradient]


def _compared(subject: Subject, path: str, found: list[Tensor], expected: tuple[Tensor, ...]) -> dict[str, Finding]:
    """Each of value, gradient and gradient in the weights."""
    allowed = ROUNDED if subject.entry.needs_distance else EXACT
    names = ("value", "gradient", "gradient in the weights")
    return {
        f"{name}, {path}": equal(ours, theirs, allowed)
        for name, ours, theirs in zip(names, found, expected, strict=False)
    }


def _equals_its_reference(subject: Subject) -> Finding:
    """Value and gradient, on the usual path (on a processor the fused one) and on the plain one."""
    logits, target = subject.batch()
    findings: dict[str, Finding] = {}
    for place, coordinates in variants(subject).items():
        loss = subject.build(**coordinates)
        expected = reference(subject, coordinates, logits, target)
        findings |= _compared(
            subject, f"usual path ({place})", _found(loss, logits, target, None, of_weight=False), expected
        )
        findings |= _compared(subject, f"plain path ({place})", _transformed(loss, logits, target), expected)
    return worst(findings)


def _equals_it_on_odd_labels(subject: Subject) -> Finding:
    """The same where a class or an image's labels are missing, where there is one class alone, far from boundaries, and
    where every answer is right."""
    logits, usual_target = subject.batch()
    batches = {oddity: (logits, target) for oddity, target in subject.odd_targets().items()}
    # Not equally right everywhere: a rank has no slope.
    batches["right answers"] = (subject.perfect(usual_target, 3.0) + logits / 16, usual_target)
    alone = torch.where(usual_target == IGNORE, IGNORE, subject.filled(1))
    batches["one class alone"] = (logits, alone)
    findings: dict[str, Finding] = {}
    for place, coordinates in few(subject).items():
        loss = subject.build(**coordinates)
        for oddity, (given, target) in batches.items():
            expected = reference(subject, coordinates, given, target)
            usual = _found(loss, given, target, None, of_weight=False)
            findings |= _compared(subject, f"{oddity}, usual path ({place})", usual, expected)
            plain = _transformed(loss, given, target)
            findings |= _compared(subject, f"{oddity}, plain path ({place})", plain, expected)
    return worst(findings)


def _weights_act_as_in_its_reference(subject: Subject) -> Finding:
    """Weights of pixels, and the gradient in them; NaN under ignore."""
    logits, target = subject.batch()
    weight = subject.pixel_weights(target)
    if not getattr(subject.build(), "takes_weight", False):
        return Finding(True, "takes no weights")
    findings: dict[str, Finding] = {}
    for place, coordinates in variants(subject).items():
        loss = subject.build(**coordinates)
        expected = reference(subject, coordinates, logits, target, weight=weight)
        usual = _found(loss, logits, target, weight, of_weight=False)
        findings |= _compared(subject, f"usual path ({place})", usual, expected)
        plain = _found(loss, logits, target, weight, of_weight=True)
        findings |= _compared(subject, f"plain path ({place})", plain, expected)
    return worst(findings)


def _any_label_can_be_ignored(subject: Subject) -> Finding:
    """Another `ignore_index`, and the labels in other types of integers."""
    logits, target = subject.batch()
    weight = subject.pixel_weights(target)
    ignored = {"the first class ignored": (0, torch.int64)} if subject.task == "multiclass" else {}
    ignored[f"ignore_index {OTHER_IGNORE}"] = (OTHER_IGNORE, torch.int64)
    types = {f"labels of {dtype}": (77, dtype) for dtype in (torch.uint8, torch.int8, torch.int32)}
    findings: dict[str, Finding] = {}
    for place, coordinates in few(subject).items():
        for how, (index, dtype) in (ignored | types if place == "generic" else ignored).items():
            labels = torch.where(target == IGNORE, index, target)
            expected = reference(subject, coordinates, logits, labels, ignore_index=index)
            loss, given = subject.build(index, **coordinates), labels.to(dtype)
            usual = _found(loss, logits, given, None, of_weight=False)
            findings |= _compared(subject, f"{how}, usual path ({place})", usual, expected)
            if dtype == torch.int64:
                plain = _transformed(loss, logits, given)
                findings |= _compared(subject, f"{how}, plain path ({place})", plain, expected)
            if dtype == torch.int64 and getattr(loss, "takes_weight", False):
                weighted = _found(loss, logits, given, weight, of_weight=False)
                told = reference(subject, coordinates, logits, labels, weight=weight, ignore_index=index)
                findings |= _compared(subject, f"{how}, with weights ({place})", weighted, told)
    return worst(findings)


RULES = (
    Rule("equals its slow reference at every option, on each path", _equals_its_reference, applies=known),
    Rule("equals its slow reference on odd labels", _equals_it_on_odd_labels, applies=known),
    Rule("weights of pixels act as in its slow reference", _weights_act_as_in_its_reference, applies=known),
    Rule("any label can be the ignored one", _any_label_can_be_ignored, applies=known),
)
