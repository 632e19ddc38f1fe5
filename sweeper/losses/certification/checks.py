"""The record of one check, and how a rule about a loss becomes one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sweeper.core.base import Record
from sweeper.core.document import Document
from sweeper.core.records import Task
from sweeper.losses.certification.certified_loss import Precision, Subject


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


class CertificationDocument(Document):
    """What `sweeper losses --certify` prints."""

    SCHEMA: ClassVar[str] = "sweeper.certification/1"

    device: str
    torch: str
    """Its version."""
    passed: bool
    checks: tuple[Check, ...]


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
    """Try `rule` on `subject`. A loss that raises has failed; the certification goes on."""
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


def equal(first: Tensor, second: Tensor, tolerance: float, what: str = "relative difference") -> Finding:
    """Whether two tensors agree, with the measured difference."""
    gap = difference(first, second)
    return Finding(gap <= tolerance, f"{what} {gap:.1e}, allowed {tolerance:.0e}")


def worst(findings: dict[str, Finding]) -> Finding:
    """The first failure among findings by the place where they were made; else the last, which speaks for all."""
    assert findings
    for where, finding in findings.items():
        if not finding.passed:
            return Finding(False, f"{where}: {finding.detail}")
    where, finding = next(reversed(findings.items()))
    return Finding(True, f"{len(findings)} cases, e.g. {where}: {finding.detail}")


def finite(*tensors: Tensor) -> bool:
    """Whether nothing is NaN or infinite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
