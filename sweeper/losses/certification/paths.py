"""Rules about the ways through the code: torch.func, forward derivatives, batches too large for one block."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad_and_value, vmap

from sweeper.core.errors import LossError
from sweeper.losses.certification.certified_loss import Subject
from sweeper.losses.certification.checks import Finding, Rule, equal, worst
from sweeper.losses.certification.option_values import few
from sweeper.losses.certification.references import reference
from sweeper.losses.families import LossTask

EXACT = 1e-9
"""Allowed relative difference in float64."""
BLOCKWISE = frozenset({"boundary_ce", "cross_entropy", "dice_focal", "topk_ce", "unified_focal"})
"""Families that between them take every way through the blocks; the others use the same code."""
LARGE: dict[LossTask, int] = {"binary": 270, "multiclass": 600, "multilabel": 370}
"""Edge of two images that the fused path walks in several blocks: of images, and of pixels of one."""


def _vmap_gives_each_image_its_own(subject: Subject) -> Finding:
    """Per-image values and gradients by `torch.func.vmap`: those of the images alone; weights take part."""
    logits, target = subject.batch()
    weight = subject.pixel_weights(target)
    findings = {}
    for place, coordinates in few(subject).items():
        loss = subject.build(**coordinates)
        batch = (logits, target, weight) if getattr(loss, "takes_weight", False) else (logits, target)

        def one(*image: Tensor, loss: torch.nn.Module = loss) -> Tensor:
            value = loss(*(x.unsqueeze(0) for x in image))
            assert isinstance(value, Tensor)
            return value

        for how, count in {"logits and labels": 2, "logits alone": 1, "weights, too": len(batch)}.items():
            dims = tuple(0 if i < count else None for i in range(len(batch)))[: max(2, count)]
            given = [x if d == 0 else x[0] for x, d in zip(batch, dims, strict=False)]
            slopes, values = vmap(grad_and_value(one), dims)(*given)
            for i in range(len(logits)):
                leaf = logits[i].detach().requires_grad_()
                value = one(leaf, *(x[i] if d == 0 else x for x, d in zip(given[1:], dims[1:], strict=True)))
                (slope,) = torch.autograd.grad(value, leaf)
                findings[f"value, {how}, image {i} ({place})"] = equal(values[i], value.detach(), EXACT)
                findings[f"gradient, {how}, image {i} ({place})"] = equal(slopes[i], slope, EXACT)
    return worst(findings)


def _forward_derivatives_are_the_slope(subject: Subject) -> Finding:
    """The derivative along a direction, carried forward, is that of the gradient."""
    logits, target = subject.batch()
    along = subject.logits(seed=100, scale=1.0)
    findings = {}
    for place, coordinates in few(subject).items():
        loss = subject.build(**coordinates)
        _, gradient = subject.value_and_gradient(loss, logits, target)
        with warnings.catch_warnings():  # torch's own forward mode still uses what it deprecates
            warnings.simplefilter("ignore", DeprecationWarning)
            with forward_ad.dual_level():
                dual = forward_ad.make_dual(logits, along)  # type: ignore[no-untyped-call]
                value = subject.call(loss, dual, target)
                tangent = forward_ad.unpack_dual(value).tangent  # type: ignore[no-untyped-call]
        if tangent is None:
            return Finding(False, f"{place}: the value carries no derivative")
        findings[place] = equal(tangent.detach(), (gradient * along).sum(), EXACT)
    return worst(findings)


def _large_batches_are_done_as_small_ones(subject: Subject) -> Finding:
    """Where the fused path goes block by block, value and gradient are those of the plain path, which does not."""
    size = LARGE[subject.task]
    logits, target = subject.logits(size=size), subject.target(size=size, ignored=0.2)
    findings = {}
    for place, coordinates in few(subject, options=False).items():
        loss = subject.build(**coordinates)
        slope, expected = grad_and_value(lambda z, loss=loss: loss(z, target))(logits)
        value, gradient = subject.value_and_gradient(loss, logits, target)
        findings[f"value ({place})"] = equal(value, expected, EXACT)
        # Slopes are divided by the number of pixels.
        number = float(target.numel())
        findings[f"gradient ({place})"] = equal(number * gradient, number * slope, EXACT)
    return worst(findings)


SPACES = {"a volume": (4, 4, 4), "points": (64,), "four axes": (2, 4, 2, 4)}
"""Other axes in place of the 8 × 8 pixels."""


def _volumes_are_as_good_as_images(subject: Subject) -> Finding:
    """The same pixels along other axes have the same value and gradient; where neighbours matter they are refused, or
    are those of the slow reference."""
    logits, target = subject.batch()
    weight = subject.pixel_weights(target)
    findings: dict[str, Finding] = {}
    places = few(subject)
    if subject.entry.volumes:
        return _other_neighbours(subject, logits, target, weight)
    if not subject.entry.spatial:  # the other options once more without the one that looks at neighbours
        places |= {f"{p}, but one": {n: v for n, v in c.items() if n != "boundary_weight"} for p, c in places.items()}
    for place, coordinates in places.items():
        planar = subject.entry.spatial or "boundary_weight" in coordinates
        loss = subject.build(**coordinates)
        given = [weight] if getattr(loss, "takes_weight", False) else []
        leaf = logits.detach().requires_grad_()
        expected = loss(leaf, target, *given)
        (slope,) = torch.autograd.grad(expected, leaf)
        for space, axes in SPACES.items():
            turned = [x.reshape(*x.shape[:-2], *axes) for x in (logits, target, *given)]
            if planar:
                findings[f"{space} ({place})"] = _refused(loss, turned)
                continue
            leaf = turned[0].requires_grad_()
            value = loss(leaf, *turned[1:])
            (gradient,) = torch.autograd.grad(value, leaf)
            findings[f"value, {space} ({place})"] = equal(value.detach(), expected.detach(), EXACT)
            findings[f"gradient, {space} ({place})"] = equal(gradient.reshape(slope.shape), slope, EXACT)
    return worst(findings)


def _other_neighbours(subject: Subject, logits: Tensor, target: Tensor, weight: Tensor) -> Finding:
    findings: dict[str, Finding] = {}
    for place, coordinates in few(subject).items():
        loss = subject.build(**coordinates)
        for space, axes in SPACES.items():
            turned = [x.reshape(*x.shape[:-2], *axes) for x in (logits, target, weight)]
            expected, slope, _ = reference(subject, coordinates, turned[0], turned[1], weight=turned[2])
            leaf = turned[0].requires_grad_()
            value = loss(leaf, *turned[1:])
            (gradient,) = torch.autograd.grad(value, leaf)
            findings[f"value, {space} ({place})"] = equal(value.detach(), expected, EXACT)
            findings[f"gradient, {space} ({place})"] = equal(gradient, slope, EXACT)
    return worst(findings)


def _refused(loss: torch.nn.Module, batch: list[Tensor]) -> Finding:
    try:
        loss(*batch)
    except LossError as error:
        return Finding("neighbours" in str(error), str(error))
    return Finding(False, "taken, though neighbours matter")


RULES = (
    Rule("volumes are as good as images, or refused", _volumes_are_as_good_as_images),
    Rule("vmap gives each image its own value and gradient", _vmap_gives_each_image_its_own),
    Rule("forward derivatives are the slope along a direction", _forward_derivatives_are_the_slope),
    Rule(
        "large batches are done as small ones",
        _large_batches_are_done_as_small_ones,
        applies=lambda subject: subject.family in BLOCKWISE,
    ),
)
