"""Rules for every loss: ignored pixels, extreme inputs, precision, and what a loss may do to its surroundings."""

from __future__ import annotations

import copy
import pickle

import torch

from sweeper.core.records import IGNORE
from sweeper.losses.certification.certified_loss import DTYPES, Precision, Subject
from sweeper.losses.certification.checks import Finding, Rule, difference, equal, finite, worst
from sweeper.losses.certification.layouts import LAYOUTS

PLAIN: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
"""Precisions that people train in; float16 is tried on a GPU alone."""
JUNK = (1e4, -1e4, float("inf"), float("-inf"), float("nan"))
LEVELS = (30.0, 1e4)


def _tried_points(subject: Subject) -> dict[str, dict[str, float]]:
    """Those of the subject, options in use among them; in half precision, which is computed in float32 all the same,
    without the ends of the ranges."""
    points = subject.points(options=True)
    return {p: c for p, c in points.items() if subject.precision == "float32" or not p.endswith("ends")}


def _ignored_pixels_change_nothing(subject: Subject) -> Finding:
    """Whatever stands under ignore leaves value and gradient as they are, to the last bit; the gradient there is 0."""
    target = subject.target(ignored=0.3)
    hidden = (target == IGNORE).expand_as(target)
    under = hidden if subject.task == "multilabel" else hidden.unsqueeze(1)
    logits = subject.logits()
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


def _ignored_rows_are_as_good_as_cut_off(subject: Subject) -> Finding:
    """The loss of an image with ignored rows is that of the image without them: averages leave them out."""
    logits, target = subject.logits(), subject.target()
    kept = target.shape[-2] - 3
    target[..., kept:, :] = IGNORE
    findings = {}
    for point, coordinates in subject.points().items():
        loss = subject.build(**coordinates)
        whole = subject.call(loss, logits, target)
        cut = subject.call(loss, logits[..., :kept, :], target[..., :kept, :])
        findings[point] = equal(whole, cut, 1e-9)
    return worst(findings)


def _nothing_labelled_costs_nothing(subject: Subject) -> Finding:
    """A fully ignored batch has value 0 and gradient 0, whatever the logits."""
    findings = {}
    for point, coordinates in _tried_points(subject).items():
        for level in (2.0, 1e4):
            value, gradient = subject.value_and_gradient(
                subject.build(**coordinates), subject.logits(scale=level), subject.filled(IGNORE)
            )
            slope = gradient.double().abs().max().item()
            passed = value.item() == 0 and slope == 0
            findings[f"{point}, logits ±{level:g}"] = Finding(passed, f"value {value.item():g}, slope {slope:g}")
    return worst(findings)


def _extreme_inputs_stay_finite(subject: Subject) -> Finding:
    """Logits of 0, ±30 and ±1e4 on half-ignored, empty, full and absent-class labels; in half precision ±1e4."""
    mixed = subject.target()
    half = torch.where(subject.target(seed=5, ignored=0.5) == IGNORE, IGNORE, mixed)
    targets = {"half ignored": half, "empty": subject.filled(0), "full": subject.filled(1)}
    if subject.task == "multiclass":
        targets["a class absent"] = mixed.clamp(max=1)
    logits = subject.logits()
    ones, signs = torch.ones_like(logits), logits.sign()
    most = max(LEVELS)
    inputs = {f"logits random signs × {most:g}": most * signs}
    if subject.precision == "float32":
        inputs |= {f"logits random signs × {level:g}": level * signs for level in LEVELS}
        inputs |= {
            "logits 0": 0 * ones,
            f"logits all low × {most:g}": -most * ones,
            f"all high × {most:g}": most * ones,
        }
    findings = {}
    for point, coordinates in _tried_points(subject).items():
        loss = subject.build(**coordinates)
        for given, values in inputs.items():
            for labels, target in targets.items():
                value, gradient = subject.value_and_gradient(loss, values, target)
                largest = gradient.double().abs().max().item()
                findings[f"{given}, labels {labels}, {point}"] = Finding(
                    finite(value, gradient), f"value {value.item():.3g}, largest slope {largest:.3g}"
                )
    return worst(findings)


def _a_nan_shows(subject: Subject) -> Finding:
    """NaN on a labelled pixel makes the loss NaN: divergence must be seen, not masked away."""
    logits = subject.logits()
    logits[0, 0, 0, 0] = float("nan")
    value = subject.call(subject.build(), logits, subject.target())
    return Finding(bool(value.isnan()), f"value {value.item():g}")


def _half_precision_is_computed_in_float32(subject: Subject) -> Finding:
    """Half-precision logits under autocast cost what the same numbers cost in float32."""
    logits, target = subject.logits(size=32), subject.target(size=32, ignored=0.1)
    plain = subject.at("float32")
    findings = {}
    for point, coordinates in subject.points(options=True).items():
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
    findings = {}
    for point, coordinates in subject.points(options=True).items():
        loss = subject.build(**coordinates)
        value = subject.call(loss, subject.logits(size=16), subject.target(size=16))
        expected = subject.call(loss, subject.logits(size=16).double(), subject.target(size=16))
        if (value.dtype, expected.dtype) != (torch.float32, torch.float64) or value.shape != ():
            return Finding(False, f"{point}: types {value.dtype} and {expected.dtype}, shape {tuple(value.shape)}")
        findings[point] = equal(value, expected, 2e-5)
    return worst(findings)


def _the_same_twice(subject: Subject) -> Finding:
    """Two calls agree to the last bit and leave the global random state alone."""
    logits, target = subject.logits(size=16), subject.target(size=16, ignored=0.1)
    states = [torch.get_rng_state()] + ([torch.cuda.get_rng_state()] if subject.device.startswith("cuda") else [])
    loss = subject.build()
    first, second = (subject.value_and_gradient(loss, logits, target) for _ in range(2))
    after = [torch.get_rng_state()] + ([torch.cuda.get_rng_state()] if subject.device.startswith("cuda") else [])
    if not all(torch.equal(a, b) for a, b in zip(states, after, strict=True)):
        return Finding(False, "the global random state was used")
    same = all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    return Finding(same, f"values {first[0].item():.9g} and {second[0].item():.9g}")


def _its_inputs_are_left_alone(subject: Subject) -> Finding:
    """Neither logits nor labels are written to."""
    logits, target = subject.logits(), subject.target(ignored=0.2)
    kept_logits, kept_target = logits.clone(), target.clone()
    subject.value_and_gradient(subject.build(), logits, target)
    same = torch.equal(logits, kept_logits) and torch.equal(target, kept_target)
    return Finding(same, "unchanged" if same else "logits or labels were overwritten")


def _it_pickles(subject: Subject) -> Finding:
    """A pickled and a copied loss give the same value."""
    logits, target = subject.logits(), subject.target()
    loss = subject.build()
    expected = subject.call(loss, logits, target)
    others = {"pickled": pickle.loads(pickle.dumps(loss)), "copied": copy.deepcopy(loss)}
    return worst({how: equal(subject.call(other, logits, target), expected, 0.0) for how, other in others.items()})


def _memory_layout_does_not_matter(subject: Subject) -> Finding:
    """Logits and labels in any layout give the value and the gradient of contiguous memory."""
    logits, target = subject.batch()
    findings = {}
    for point, coordinates in subject.points(options=True).items():
        if point.endswith("ends"):
            continue
        loss, first = subject.build(**coordinates), next(iter(LAYOUTS))
        for name, layout in LAYOUTS.items():
            leaf = layout(logits).detach().requires_grad_()
            labels = layout(target) if target.ndim == logits.ndim else target.mT.contiguous().mT
            value = subject.call(loss, leaf, labels)
            (gradient,) = torch.autograd.grad(value, leaf)
            expected, slope = subject.value_and_gradient(loss, leaf.contiguous(), labels.contiguous())
            findings[f"gradient, {name} ({point})"] = equal(gradient, slope, 1e-9)
            findings[f"value, {name} ({point})"] = equal(value.detach(), expected, 1e-9)
            if name == first and getattr(loss, "takes_weight", False):
                weight = subject.pixel_weights(labels)
                turned = loss(leaf, labels, weight.mT.contiguous().mT)
                findings[f"weights, {name} ({point})"] = equal(
                    turned.detach(), loss(leaf.detach().contiguous(), labels.contiguous(), weight), 1e-9
                )
    return worst(findings)


def _it_never_waits_for_the_device(subject: Subject) -> Finding:
    """Runs on tensors without values, where anything that has to read one fails: no synchronisation, no shape that
    depends on data. Families that want maps of the labels are given them, as in training."""
    logits, target = subject.logits(), subject.target()
    maps = {kind: found.to("meta") for kind, found in subject.maps(logits, target).items()}
    value = subject.build()(logits.to("meta").requires_grad_(), target.to("meta"), **maps)
    return Finding(value.shape == () and value.dtype == DTYPES[subject.precision], "runs without reading a value")


def _weights_of_pixels(subject: Subject) -> Finding:
    """Weights of 1 change nothing, NaN as the weight of an ignored pixel neither; a pixel of weight 0 has no slope."""
    logits, target = subject.logits(), subject.target(ignored=0.2)
    loss = subject.build()
    if not getattr(loss, "takes_weight", False):
        return Finding(True, "takes no weights")
    ones = torch.ones(target.shape, dtype=torch.float64, device=target.device)
    spoiled = torch.where(target == IGNORE, float("nan"), ones)
    expected = subject.call(loss, logits, target)
    findings = {
        "weights of 1": equal(loss(logits, target, ones), expected, 1e-12),
        "NaN under ignore": equal(loss(logits, target, spoiled), expected, 1e-12),
    }
    if subject.family == "soft_cldice":  # a pixel without weight is still part of its neighbours' skeleton
        return worst(findings)
    off = subject.target(seed=8) > 0
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, target, torch.where(off, 0.0, ones)), leaf)
    slope = gradient.masked_select(off if target.ndim == logits.ndim else off.unsqueeze(1)).abs().max().item()
    findings["weight 0"] = Finding(slope == 0, f"slope {slope:g} on pixels of weight 0")
    return worst(findings)


RULES = (
    Rule("ignored pixels change nothing", _ignored_pixels_change_nothing, PLAIN),
    Rule("ignored rows are as good as cut off", _ignored_rows_are_as_good_as_cut_off),
    Rule("weights of pixels count", _weights_of_pixels),
    Rule("a batch without labels costs nothing", _nothing_labelled_costs_nothing, PLAIN),
    Rule("extreme inputs stay finite", _extreme_inputs_stay_finite, PLAIN),
    Rule("a NaN shows", _a_nan_shows, PLAIN),
    Rule("half precision is computed in float32", _half_precision_is_computed_in_float32, ("bfloat16", "float16")),
    Rule("float32 agrees with float64", _float32_agrees_with_float64, ("float32",)),
    Rule("the same twice", _the_same_twice, PLAIN),
    Rule("its inputs are left alone", _its_inputs_are_left_alone, PLAIN),
    Rule("it pickles", _it_pickles, ("float32",)),
    Rule("memory layout does not matter", _memory_layout_does_not_matter),
    Rule("it never waits for the device", _it_never_waits_for_the_device, ("float32",)),
)
