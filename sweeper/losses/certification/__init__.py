"""Certification: every family of losses, on this machine, against what it claims to be.

    from sweeper.losses.certification import certify
    checks = certify("cpu")
    assert all(check.passed for check in checks)

certified_loss.py      what is tried (a family, a task, a device, a precision) and the batches it is tried on
layouts.py             layouts of memory
checks.py              the record of one check; how a rule becomes one
identities.py          what families equal: losses of torch and torchvision, their papers' formulas
slow_kernel.py         the kernel written down once more, slowly
slow_relatives.py      and the relatives, of which
slow_pixels.py         those that are sums over single pixels, and
slow_overlaps.py       those that count whole classes, and
slow_neighbours.py     those of instances and skeletons
option_values.py       what every coordinate and option is tried at against them
references.py          families equal these at every option, on the plain and the fused path, with weights of pixels
relations.py           what families become at certain coordinates: each other
soft_labels.py         labels that are shares in [0, 1]
coordinate_effects.py  more of a coordinate does what its name says
stability.py           ignored pixels, extreme inputs, precision, surroundings
paths.py               torch.func, forward derivatives, batches of several blocks
gradients.py           the slope is that of the value, and leads to the mask

tests/test_certificate_mutations.py plants faults in the losses; each of them is found.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch

from sweeper.core.errors import UsageError
from sweeper.core.text import suggestion
from sweeper.losses.certification import (
    coordinate_effects as directions,
)
from sweeper.losses.certification import (
    gradients as meaning,
)
from sweeper.losses.certification import (
    identities,
    paths,
    references,
    relations,
    soft_labels,
    stability,
)
from sweeper.losses.certification.certified_loss import Precision, Subject
from sweeper.losses.certification.checks import Check, Rule, judged
from sweeper.losses.families import FAMILIES, LOSS_TASKS, LossTask

__all__ = ["RULES", "Check", "certify", "checks"]

RULES: tuple[Rule, ...] = (
    *identities.RULES,
    *references.RULES,
    *relations.RULES,
    *soft_labels.RULES,
    *directions.RULES,
    *stability.RULES,
    *paths.RULES,
    *meaning.RULES,
)


def certify(
    device: str = "cpu", families: Iterable[str] | None = None, tasks: Iterable[LossTask] | None = None
) -> list[Check]:
    """All of `checks`, which says what they are, as a list."""
    return list(checks(device, families, tasks))


def checks(
    device: str = "cpu", families: Iterable[str] | None = None, tasks: Iterable[LossTask] | None = None
) -> Iterator[Check]:
    """Try every rule on every family, task and precision it speaks of.

    Nothing is random: the batches come from their own generators, so that a check gives the same twice.

    Args:
        device: "cpu", "cuda" or "cuda:0" and so on; float16 is tried on a GPU alone.
        families: names in `FAMILIES`; None = all.
        tasks: None = all that a family can be used for.

    Yields:
        One record for each as it is tried, in the registry's order; `passed` says whether the rule holds.

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
    wanted = LOSS_TASKS if tasks is None else tuple(tasks)
    for task in wanted:
        if task not in LOSS_TASKS:
            raise UsageError(
                f"a task must be one of {', '.join(LOSS_TASKS)}, got {task!r}{suggestion(task, LOSS_TASKS)}"
            )
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"the device must be present, got {device!r} and no GPU is visible to torch; use `cpu`")
    subjects = [
        (rule, subject)
        for family in chosen
        for task in FAMILIES[family].tasks
        if task in wanted
        for rule in RULES
        for subject in _subjects(rule, Subject(family, task, device, "float64"))
    ]
    return _tried(subjects)


def _tried(subjects: Iterable[tuple[Rule, Subject]]) -> Iterator[Check]:
    for rule, subject in subjects:
        with _one_thread():
            check = judged(rule, subject)
        yield check


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
