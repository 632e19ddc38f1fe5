"""Certification: every family of losses, on this machine, against what it claims to be.

    from sweeper.losses.certification import certify
    checks = certify("cpu")
    assert all(check.passed for check in checks)

certified_loss.py  what is tried (a family, a task, a device, a precision) and the batches it is tried on
checks.py          the record of one check; how a rule becomes one
identities.py      what families equal: torch's losses, formulas, each other, themselves with the classes renamed
gradients.py       the slope is that of the value
stability.py       ignored pixels, extreme inputs, precision, layouts of memory (layouts.py)

Tried is what a machine and its torch can get wrong. That each family is its paper's formula is tested
(tests/losses/test_formulas.py), and that broken losses are found here (tests/losses/test_certify.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch

from sweeper.core.errors import UsageError
from sweeper.core.records import Task
from sweeper.core.text import suggestion
from sweeper.losses.certification import identities, stability
from sweeper.losses.certification.certified_loss import Precision, Subject
from sweeper.losses.certification.checks import Check, Rule, judged
from sweeper.losses.families import FAMILIES, TASKS

__all__ = ["RULES", "Check", "certify"]

RULES: tuple[Rule, ...] = (*identities.RULES, *stability.RULES)


def certify(
    device: str = "cpu", families: Iterable[str] | None = None, tasks: Iterable[Task] | None = None
) -> list[Check]:
    """Try every rule on every family, task and precision it speaks of.

    Nothing is random: the batches come from their own generators, so that a check gives the same twice.

    Args:
        device: "cpu", "cuda" or "cuda:0" and so on; float16 is tried on a GPU alone.
        families: names in `FAMILIES`; None = all.
        tasks: None = all that a family can be used for.

    Returns:
        One record for each, in the registry's order; `passed` says whether the rule holds.

    Raises:
        UsageError: for an unknown family or task, or a device that is not there.
    """
    chosen = list(FAMILIES) if families is None else list(families)
    for name in chosen:
        if name not in FAMILIES:
            raise UsageError(
                f"a family to certify must be one of {', '.join(FAMILIES)}, got {name!r}"
                f"{suggestion(name, FAMILIES)}; `sweeper losses` lists them"
            )
    wanted = TASKS if tasks is None else tuple(tasks)
    for task in wanted:
        if task not in TASKS:
            raise UsageError(f"a task must be one of {', '.join(TASKS)}, got {task!r}{suggestion(task, TASKS)}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"the device must be present, got {device!r} and no GPU is visible to torch; use `cpu`")
    with _one_thread():
        return [
            judged(rule, subject)
            for family in chosen
            for task in FAMILIES[family].tasks
            if task in wanted
            for rule in RULES
            for subject in _subjects(rule, Subject(family, task, device, "float64"))
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


def _subjects(rule: Rule, subject: Subject) -> list[Subject]:
    """The subject in each precision the rule is tried in; none where the rule does not apply."""
    if not rule.applies(subject):
        return []
    skipped: tuple[Precision, ...] = () if subject.device.startswith("cuda") else ("float16",)
    return [subject.at(precision) for precision in rule.precisions if precision not in skipped]
