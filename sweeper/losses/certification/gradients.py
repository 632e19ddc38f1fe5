"""Rules for every loss: its slope is that of its value, and following the slope leads to the mask."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sweeper.losses.certification.certified_loss import CLASSES, Subject
from sweeper.losses.certification.checks import Finding, Rule, equal, worst

DIRECTIONS = 3
STEP = 1e-6
ROUNDED = 1e-6
"""Of families that read distances in float32."""
REFUSED = "marked with @once_differentiable"
"""What torch says of a function that has no second derivative and admits it."""
DESCENT_STEPS = 120
"""At most."""
RECOVERED = 0.95
"""Share of the labelled pixels that descent must have got right."""


def _slope_agrees_with_finite_differences(subject: Subject) -> Finding:
    """Directional derivatives in random directions against central differences of the value."""
    logits, target = subject.logits(size=6), subject.target(size=6, ignored=0.1)
    findings = {}
    for point, coordinates in subject.points(options=True).items():
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


def _second_derivatives_agree_with_finite_differences(subject: Subject) -> Finding:
    """Hessian × direction against central differences of the slope: refused in words, or neither missing nor wrong."""
    logits, target = subject.logits(size=6), subject.target(size=6, ignored=0.1)
    along = subject.logits(seed=100, scale=1.0, size=6)
    findings = {}
    for point, coordinates in subject.points(options=True).items():
        loss = subject.build(**coordinates)
        leaf = logits.clone().requires_grad_()
        (slope,) = torch.autograd.grad(subject.call(loss, leaf, target), leaf, create_graph=True)
        if not slope.requires_grad:
            return Finding(False, f"{point}: the slope has no derivative, and nothing says so")
        try:
            (bend,) = torch.autograd.grad((slope * along).sum(), leaf, materialize_grads=True)
        except RuntimeError as error:
            if REFUSED not in str(error):
                raise
            findings[point] = Finding(True, "refused")
            continue
        _, ahead = subject.value_and_gradient(loss, logits + STEP * along, target)
        _, behind = subject.value_and_gradient(loss, logits - STEP * along, target)
        # Where the slope does not change (hinges), rounding is all that is left.
        rest = torch.finfo(slope.dtype).eps * slope.abs().max().item() / STEP
        gap = (bend - (ahead - behind) / (2 * STEP)).abs().max().item()
        size = bend.abs().max().item()
        findings[point] = Finding(gap <= 1e-5 * size + 10 * rest, f"off by {gap:.1e}, size {size:.1e}")
    return worst(findings)


def _a_constant_changes_nothing(subject: Subject) -> Finding:
    """Softmax does not see a number added to all logits of a pixel, so neither does the loss."""
    logits, target = subject.logits(), subject.target()
    shift = subject.logits(seed=9, scale=20.0)[:, :1]
    findings = {}
    for point, coordinates in subject.points().items():
        loss = subject.build(**coordinates)
        value, gradient = subject.value_and_gradient(loss, logits, target)
        moved, _ = subject.value_and_gradient(loss, logits + shift, target)
        findings[f"slope along the constant ({point})"] = equal(
            gradient.sum(1) + gradient.abs().max(), torch.zeros_like(shift[:, 0]) + gradient.abs().max(), 1e-9
        )
        findings[point] = equal(moved, value, 1e-9)
    return worst(findings)


def _order_of_pixels_does_not_matter(subject: Subject) -> Finding:
    """The same pixels in another order cost the same."""
    logits, target = subject.logits(), subject.target(ignored=0.1)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(4)).to(subject.device)
    mixed = logits.flatten(-2)[..., order].view_as(logits), target.flatten(-2)[..., order].view_as(target)
    findings = {}
    for point, coordinates in subject.points().items():
        loss = subject.build(**coordinates)
        findings[point] = equal(subject.call(loss, *mixed), subject.call(loss, logits, target), 1e-9)
    return worst(findings)


def _order_of_images_does_not_matter(subject: Subject) -> Finding:
    """Batches in another order and mirrored images cost the same; maps of the labels go along, as in training."""
    logits, target = subject.logits(), subject.target(ignored=0.1)
    maps = subject.maps(logits, target)
    moves: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "pictures": lambda x: x.flip(0),
        "mirrored": lambda x: x.flip(-1),
        "turned": lambda x: x.mT.contiguous(),
    }
    findings = {}
    for point, coordinates in subject.points().items():
        loss = subject.build(**coordinates)
        expected = subject.call(loss, logits, target)
        for how, move in moves.items():
            moved = {kind: move(found) for kind, found in maps.items()}
            value = subject.call(loss, move(logits), move(target), **moved)
            findings[f"{how} ({point})"] = equal(value, expected, ROUNDED if "distance" in maps else 1e-9)
    return worst(findings)


def _false_positives_of_an_absent_class_cost(subject: Subject) -> Finding:
    """Where a class has no pixel in the batch, more of it costs more, and the slope says so."""
    target = subject.target()
    if subject.task == "multiclass":
        channel, target = CLASSES - 1, target.clamp(max=CLASSES - 2)
    elif subject.task == "multilabel":
        channel, target = 1, torch.stack([target[:, 0], torch.zeros_like(target[:, 1])], dim=1)
    else:
        channel, target = 0, torch.zeros_like(target)
    logits = subject.logits(scale=1.0)
    more = logits.clone()
    more[:, channel] += 2
    findings = {}
    for point, coordinates in subject.points().items():
        loss = subject.build(**coordinates)
        value, gradient = subject.value_and_gradient(loss, logits, target)
        raised = subject.call(loss, more, target) - value
        slope = gradient[:, channel].sum()
        findings[point] = Finding(
            bool(raised > 1e-6) and bool(slope > 1e-8), f"2 more costs {raised.item():.3g}, slope {slope.item():.3g}"
        )
    return worst(findings)


def _a_perfect_prediction_costs_least(subject: Subject) -> Finding:
    """No other prediction is cheaper than the mask itself."""
    target = subject.target(size=16)
    perfect = subject.perfect(target)
    others = {
        "inverted": -perfect,
        "undecided": torch.zeros_like(perfect),
        "noise": subject.logits(size=16),
        "noise of ±20": 20 * subject.logits(seed=3, size=16).sign(),
        "shifted by a pixel": perfect.roll(1, -1),
        "only the first class": subject.perfect(subject.filled(0, size=16)),
        "only the second class": subject.perfect(subject.filled(1, size=16)),
    }
    findings = {}
    for point, coordinates in subject.points().items():
        loss = subject.build(**coordinates)
        least = subject.call(loss, perfect, target).item()
        for name, logits in others.items():
            cost = subject.call(loss, logits, target).item()
            findings[f"{name} ({point})"] = Finding(cost > least, f"costs {cost:.4g}, the mask {least:.4g}")
    return worst(findings)


def _descent_recovers_the_mask(subject: Subject) -> Finding:
    """Free logits that follow the slope become the mask: a wrong sign or a dead slope would show."""
    target = subject.target(size=12)
    logits = subject.logits(scale=0.1, size=12).requires_grad_()
    loss = subject.build()
    optimizer = torch.optim.Adam([logits], lr=0.3)
    first = last = subject.call(loss, logits, target).item()
    right, steps = 0.0, 0
    while steps < DESCENT_STEPS and not (right >= RECOVERED and last < first):
        optimizer.zero_grad()
        value = subject.call(loss, logits, target)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        steps, last = steps + 1, value.item()
        right = (subject.answers(logits.detach()) == target).double().mean().item()
    return Finding(
        last < first and right >= RECOVERED,
        f"{right:.1%} of the pixels right after {steps} steps, value {first:.3g} → {last:.3g}",
    )


RULES = (
    Rule("its slope agrees with finite differences", _slope_agrees_with_finite_differences),
    Rule("second derivatives agree with finite differences", _second_derivatives_agree_with_finite_differences),
    Rule(
        "a constant on all softmax logits changes nothing",
        _a_constant_changes_nothing,
        applies=lambda subject: subject.task == "multiclass",
    ),
    Rule(
        "the order of pixels does not matter",
        _order_of_pixels_does_not_matter,
        applies=lambda subject: not subject.entry.spatial,
    ),
    Rule("the order of images, mirrors and turns do not matter", _order_of_images_does_not_matter),
    Rule("false positives of an absent class cost something", _false_positives_of_an_absent_class_cost),
    Rule("a perfect prediction costs least", _a_perfect_prediction_costs_least),
    Rule("descent recovers the mask", _descent_recovers_the_mask, ("float32",)),
)
