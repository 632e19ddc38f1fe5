"""Certify every family of losses against what it claims to be.

    from tests.support.certification import certify
    checks = certify("dice")
    assert all(check.passed for check in checks)

Tried is what a machine and its torch can get wrong: what families equal (torch's cross-entropy, the kernel,
themselves with the classes renamed), that the slope is that of the value, ignored pixels, extreme inputs, precision.
It proves no formula: that each family is its paper's is tested (tests/losses/test_families_formulas.py), and that each
rule finds a loss that breaks it (tests/losses/test_build_certification.py). `certified_loss.py` has the batches.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.core.base import Record
from sweeper.core.errors import UsageError
from sweeper.core.records import IGNORE, Task
from sweeper.losses.families import FAMILIES
from tests.support.certified_loss import COUNTS, SHARES, Precision, Subject

EXACT = 1e-9
"""Allowed relative difference in float64."""
DIRECTIONS = 3
STEP = 1e-6
PLAIN: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
"""Precisions that people train in; float16 is tried on a GPU alone."""
JUNK = (1e4, -1e4, float("inf"), float("-inf"), float("nan"))
LEVELS = (30.0, 1e4)
Coordinates = Mapping[str, float | None]


class Check(Record):
    """One rule, tried on one family for one task in one precision."""

    family: str
    task: Task
    precision: Precision
    name: str
    """The rule, as a short statement."""
    passed: bool
    detail: str
    """The measured figure, or what went wrong."""


class Finding(NamedTuple):
    """What a rule found."""

    passed: bool
    detail: str


class Rule(NamedTuple):
    """A statement about losses that can be tried on a `Subject`."""

    name: str
    test: Callable[[Subject], Finding]
    precisions: tuple[Precision, ...] = ("float64",)
    applies: Callable[[Subject], bool] = lambda subject: True
    """Whether the rule says something about this family and task."""


def judged(rule: Rule, subject: Subject) -> Check:
    """Try `rule` on `subject`. A loss that raises has failed; the certification continues."""
    try:
        finding = rule.test(subject)
    except Exception as error:  # a broken family may raise anything
        finding = Finding(False, f"raised {type(error).__name__}: {error}".splitlines()[0][:200])
    return Check(
        family=subject.family,
        task=subject.task,
        precision=subject.precision,
        name=rule.name,
        passed=finding.passed,
        detail=finding.detail,
    )


def difference(first: Tensor, second: Tensor) -> float:
    """Largest difference relative to the larger of 1e-3 and the largest value of `second`; inf where one is NaN."""
    gap = (first.double() - second.double()).abs().max().item()
    scale = max(1e-3, second.double().abs().max().item())
    return float("inf") if math.isnan(gap) else gap / scale


def equal(first: Tensor, second: Tensor, tolerance: float) -> Finding:
    """Return whether two tensors agree, with the measured difference."""
    gap = difference(first, second)
    return Finding(gap <= tolerance, f"relative difference {gap:.1e}, allowed {tolerance:.0e}")


def worst(findings: dict[str, Finding]) -> Finding:
    """Return the first failure among findings by the place where they were made; else the last, which covers all."""
    assert findings
    for where, finding in findings.items():
        if not finding.passed:
            return Finding(False, f"{where}: {finding.detail}")
    where, finding = next(reversed(findings.items()))
    return Finding(True, f"{len(findings)} cases, e.g. {where}: {finding.detail}")


# --- What families equal ---


def _torch_cross_entropy(subject: Subject) -> Finding:
    """Torch's, with its weights, divided by the number of labelled pixels and not by the weights' sum."""
    logits, target = subject.batch()
    keep = target != IGNORE
    findings = {}
    for given in (0.5, 1.0, 30.0) if subject.task == "binary" else (0.0, 0.5, 1.0):
        if subject.task == "binary":
            weight = logits.new_tensor(given if subject.takes("pos_weight") else 1.0)
            labels = target[keep].to(logits.dtype)
            of_torch = F.binary_cross_entropy_with_logits(logits.squeeze(1)[keep], labels, pos_weight=weight)
        else:
            shares = logits.new_tensor(SHARES["multiclass"])
            raw = shares ** -(given if subject.takes("class_weight_power") else 0.0)
            weights = raw / (shares * raw).sum()
            total = F.cross_entropy(logits, target, weights, ignore_index=IGNORE, reduction="sum")
            of_torch = total / keep.sum()
        value = subject.cost(logits, target, **_taken(subject, {"pos_weight": given, "class_weight_power": given}))
        findings[f"weight {given:g}"] = equal(value, of_torch, EXACT)
    return worst(findings)


def _renamed_classes_cost_the_same(subject: Subject) -> Finding:
    """Check that the loss is the same with its classes in another order, in logits, labels and counts alike."""
    order = [2, 0, 1]
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


def _taken(subject: Subject, coordinates: Coordinates) -> dict[str, float | None]:
    """Return those of the coordinates that the family takes for this task."""
    return {name: value for name, value in coordinates.items() if subject.takes(name)}


def _identity(words: str, family: str, at: Coordinates, other: str, others_at: Coordinates) -> Rule:
    """`family` is `other` at these coordinates of both."""

    def test(subject: Subject) -> Finding:
        logits, target = subject.batch()
        first, second = subject, replace(subject, family=other)
        value = first.cost(logits, target, **_taken(first, at))
        return equal(value, second.cost(logits, target, **_taken(second, others_at)), EXACT)

    return Rule(words, test, applies=_of(family))


def _of(*families: str) -> Callable[[Subject], bool]:
    return lambda subject: subject.family in families


# --- Ignored pixels, extreme inputs, precision ---


def _tried_points(subject: Subject) -> dict[str, dict[str, float]]:
    """Return the subject's points, in half precision without the ends of the ranges.

    Half precision is computed in float32 all the same.
    """
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


def _ignored_pixels_are_as_good_as_absent(subject: Subject) -> Finding:
    """Return a batch whose last columns are ignored costs what it costs without these columns."""
    logits, target = subject.logits(), subject.target()
    left = target.shape[-1] * 5 // 8
    hidden = target.clone()
    hidden[..., left:] = IGNORE
    findings = {}
    for point, coordinates in subject.points().items():
        value = subject.cost(logits, hidden, **coordinates)
        findings[point] = equal(value, subject.cost(logits[..., :left], target[..., :left], **coordinates), EXACT)
    return worst(findings)


def _nothing_labelled_costs_nothing(subject: Subject) -> Finding:
    """Return a fully ignored batch has value 0 and gradient 0, whatever the logits."""
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
                finite = bool(torch.isfinite(value) & torch.isfinite(gradient).all())
                findings[f"logits {given}, labels {labels}, {point}"] = Finding(
                    finite, f"value {value.item():.3g}, largest slope {largest:.3g}"
                )
    return worst(findings)


def _half_precision_is_computed_in_float32(subject: Subject) -> Finding:
    """Half-precision logits under autocast cost what the same numbers cost in float32."""
    logits, target = subject.logits(size=32), subject.target(size=32, ignored=0.1)
    plain = replace(subject, precision="float32")
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


IDENTITIES = (
    _identity("γ = 0 without α is cross-entropy", "focal", {"gamma": 0.0, "alpha": None}, "cross_entropy", {}),
    _identity("τ = 0 is cross-entropy", "logit_adjusted", {"tau": 0.0, "prior_odds": 1.0}, "cross_entropy", {}),
    _identity("all pixels are cross-entropy", "ohem_ce", {"kept_at_least": 1.0}, "cross_entropy", {}),
    _identity(
        "without a threshold it is top-k cross-entropy",
        "ohem_ce",
        {"sure_at": 0.0, "kept_at_least": 0.3},
        "topk_ce",
        {"hard_fraction": 0.3},
    ),
    _identity(
        "mix = 1 without suppression is focal at γ = 0",
        "unified_focal",
        {"mix": 1.0, "suppression": 0.0, "delta": 0.8},
        "focal",
        {"gamma": 0.0, "alpha": 0.8},
    ),
)
RULES = (
    Rule("equals torch's cross-entropy", _torch_cross_entropy, applies=_of("cross_entropy", "weighted_ce")),
    *IDENTITIES,
    Rule(
        "renamed classes cost the same",
        _renamed_classes_cost_the_same,
        applies=lambda subject: subject.task == "multiclass",
    ),
    Rule("its slope agrees with finite differences", _slope_agrees_with_finite_differences),
    Rule("ignored pixels change nothing", _ignored_pixels_change_nothing, PLAIN),
    Rule("ignored pixels are as good as absent", _ignored_pixels_are_as_good_as_absent),
    Rule("a batch without labels costs nothing", _nothing_labelled_costs_nothing, PLAIN),
    Rule("extreme inputs stay finite", _extreme_inputs_stay_finite, PLAIN),
    Rule("half precision is computed in float32", _half_precision_is_computed_in_float32, ("bfloat16", "float16")),
)


def certify(family: str, device: str = "cpu") -> list[Check]:
    """Try every rule on a family, for each task and in each precision that it speaks of.

    Nothing is random: the batches come from their own generators, so that a check gives the same twice.

    Args:
        family: a name in `FAMILIES`.
        device: "cpu", "cuda" or "cuda:0" and so on; float16 is tried on a GPU alone.

    Returns:
        One record for each; `passed` says whether the rule holds.

    Raises:
        UsageError: for a device that is not there.
    """
    on_gpu = device.startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        raise UsageError(f"the device must be present, got {device!r} and no GPU is visible to torch; use `cpu`")
    with _one_thread():
        return [
            judged(rule, Subject(family, task, device, precision))
            for task in FAMILIES[family].tasks
            for rule in RULES
            if rule.applies(Subject(family, task, device, "float64"))
            for precision in rule.precisions
            if precision != "float16" or on_gpu
        ]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Tiny tensors lose time to threads that wait for each other, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
