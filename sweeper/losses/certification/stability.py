"""Rules for every loss: ignored pixels, extreme inputs, precision, layouts of memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sweeper.core.records import IGNORE
from sweeper.losses.certification.certified_loss import Precision, Subject
from sweeper.losses.certification.checks import Finding, Rule, difference, equal, finite, worst

PLAIN: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
"""Precisions that people train in; float16 is tried on a GPU alone."""
JUNK = (1e4, -1e4, float("inf"), float("-inf"), float("nan"))
LEVELS = (30.0, 1e4)


def _sliced(x: Tensor) -> Tensor:
    wide = x.new_zeros(*x.shape[:-2], 2 * x.shape[-2], x.shape[-1] + 2)
    wide[..., ::2, 1:-1] = x
    return wide[..., ::2, 1:-1]


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.mT.contiguous().mT,
    "channels_last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "classes first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "a slice of something larger": _sliced,
    "one image expanded": lambda x: x[:1].expand_as(x),
}
"""(N, C, H, W) → the same shape and type. The last repeats values; the others only move them."""


def _tried_points(subject: Subject) -> dict[str, dict[str, float]]:
    """Those of the subject; in half precision, which is computed in float32 all the same, without the ends of the
    ranges."""
    points = subject.points()
    return {p: c for p, c in points.items() if subject.precision == "float32" or not p.endswith("ends")}


def _ignored_pixels_change_nothing(subject: Subject) -> Finding:
    """Whatever stands under ignore leaves value and gradient as they are, to the last bit; the gradient there is 0."""
    logits, target = subject.logits(), subject.target(ignored=0.3)
    under = (target == IGNORE).unsqueeze(1)
    findings = {}
    for point, coordinates in _tried_points(subject).items():
        loss = subject.build(**coordinates)
        value, gradient = subject.value_and_gradient(loss, logits, target)
        if (gradient.masked_select(under) != 0).any() or not (gradient != 0).any():
            return Finding(False, f"{point}: the gradient is not 0 under ignore, or is 0 everywhere")
        for junk in JUNK if subject.precision == "float32" else JUNK[-1:]:
            spoiled = torch.where(under, torch.full_like(logits, junk), logits)
            other_value, other_gradient = subject.value_and_gradient(loss, spoiled, target)
            same = torch.equal(value, other_value) and torch.equal(gradient, other_gradient)
            moved = difference(other_value, value)
            findings[f"{junk:g} under ignore ({point})"] = Finding(same, f"value moves by {moved:.1e}")
    return worst(findings)


def _nothing_labelled_costs_nothing(subject: Subject) -> Finding:
    """A fully ignored batch has value 0 and gradient 0, whatever the logits."""
    findings = {}
    for point, coordinates in _tried_points(subject).items():
        for level in (2.0, 1e4):
            logits, target = subject.logits(scale=level), subject.filled(IGNORE)
            value, gradient = subject.value_and_gradient(subject.build(**coordinates), logits, target)
            slope = gradient.double().abs().max().item()
            passed = value.item() == 0 and slope == 0
            findings[f"{point}, logits ±{level:g}"] = Finding(passed, f"value {value.item():g}, slope {slope:g}")
    return worst(findings)


def _extreme_inputs(subject: Subject) -> dict[str, Tensor]:
    """Logits by name: in half precision ±1e4 alone."""
    logits = subject.logits()
    ones, signs, most = torch.ones_like(logits), logits.sign(), max(LEVELS)
    if subject.precision != "float32":
        return {f"random signs × {most:g}": most * signs}
    return {
        **{f"random signs × {level:g}": level * signs for level in LEVELS},
        "0": 0 * ones,
        f"all low × {most:g}": -most * ones,
        f"all high × {most:g}": most * ones,
    }


def _extreme_inputs_stay_finite(subject: Subject) -> Finding:
    """Logits of 0, ±30 and ±1e4 on half-ignored, empty, full and absent-class labels."""
    mixed = subject.target()
    half = torch.where(subject.target(seed=5, ignored=0.5) == IGNORE, IGNORE, mixed)
    targets = {"half ignored": half, "empty": subject.filled(0), "full": subject.filled(1)}
    if subject.task == "multiclass":
        targets["a class absent"] = mixed.clamp(max=1)
    findings = {}
    for point, coordinates in _tried_points(subject).items():
        loss = subject.build(**coordinates)
        for given, logits in _extreme_inputs(subject).items():
            for labels, target in targets.items():
                value, gradient = subject.value_and_gradient(loss, logits, target)
                largest = gradient.double().abs().max().item()
                findings[f"logits {given}, labels {labels}, {point}"] = Finding(
                    finite(value, gradient), f"value {value.item():.3g}, largest slope {largest:.3g}"
                )
    return worst(findings)


def _half_precision_is_computed_in_float32(subject: Subject) -> Finding:
    """Half-precision logits under autocast cost what the same numbers cost in float32."""
    logits, target = subject.logits(size=32), subject.target(size=32, ignored=0.1)
    plain = subject.at("float32")
    findings = {}
    for point, coordinates in subject.points().items():
        loss = subject.build(**coordinates)
        value, gradient = subject.value_and_gradient(loss, logits, target)
        expected, slope = plain.value_and_gradient(loss, logits, target)
        if value.dtype != torch.float32:
            return Finding(False, f"{point}: the value has type {value.dtype}")
        findings[f"value ({point})"] = equal(value, expected, 1e-6)
        # The slope leaves in the type of the logits, and may be subnormal there: compared as a whole.
        gap = (gradient.double() - slope.double()).norm() / slope.double().norm()
        findings[f"gradient ({point})"] = Finding(gap.item() < 0.01, f"relative difference {gap.item():.1e}")
    return worst(findings)


def _float32_agrees_with_float64(subject: Subject) -> Finding:
    """float64 logits give a float64 value; float32 the same to rounding."""
    logits, target = subject.logits(size=16), subject.target(size=16)
    findings = {}
    for point, coordinates in subject.points().items():
        loss = subject.build(**coordinates)
        value, expected = subject.call(loss, logits, target), subject.call(loss, logits.double(), target)
        if (value.dtype, expected.dtype) != (torch.float32, torch.float64) or value.shape != ():
            return Finding(False, f"{point}: types {value.dtype} and {expected.dtype}, shape {tuple(value.shape)}")
        findings[point] = equal(value, expected, 2e-5)
    return worst(findings)


def _the_same_twice(subject: Subject) -> Finding:
    """Two calls agree to the last bit and leave the random state of the device alone."""
    logits, target = subject.logits(size=16), subject.target(size=16, ignored=0.1)
    states = torch.cuda.get_rng_state if subject.device.startswith("cuda") else torch.get_rng_state
    before, loss = states(), subject.build()
    first, second = (subject.value_and_gradient(loss, logits, target) for _ in range(2))
    if not torch.equal(before, states()):
        return Finding(False, "the global random state was used")
    same = all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    return Finding(same, f"values {first[0].item():.9g} and {second[0].item():.9g}")


def _memory_layout_does_not_matter(subject: Subject) -> Finding:
    """Logits and labels in any layout give the value and the gradient of contiguous memory."""
    logits, target = subject.batch()
    target = target.mT.contiguous().mT
    findings = {}
    for point, coordinates in subject.points().items():
        if point.endswith("ends"):
            continue
        loss = subject.build(**coordinates)
        for name, layout in LAYOUTS.items():
            leaf = layout(logits).detach().requires_grad_()
            value = subject.call(loss, leaf, target)
            (gradient,) = torch.autograd.grad(value, leaf)
            expected, slope = subject.value_and_gradient(loss, leaf.contiguous(), target.contiguous())
            findings[f"gradient, {name} ({point})"] = equal(gradient, slope, 1e-9)
            findings[f"value, {name} ({point})"] = equal(value.detach(), expected, 1e-9)
    return worst(findings)


RULES = (
    Rule("ignored pixels change nothing", _ignored_pixels_change_nothing, PLAIN),
    Rule("a batch without labels costs nothing", _nothing_labelled_costs_nothing, PLAIN),
    Rule("extreme inputs stay finite", _extreme_inputs_stay_finite, PLAIN),
    Rule("half precision is computed in float32", _half_precision_is_computed_in_float32, ("bfloat16", "float16")),
    Rule("float32 agrees with float64", _float32_agrees_with_float64, ("float32",)),
    Rule("the same twice", _the_same_twice, PLAIN),
    Rule("memory layout does not matter", _memory_layout_does_not_matter),
)
