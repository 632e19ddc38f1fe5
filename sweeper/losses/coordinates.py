"""The families' coordinates: checks, and their translation into kernel settings. No torch."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sweeper.core.errors import LossError
from sweeper.core.records import Task
from sweeper.core.text import suggest_correction
from sweeper.losses.families import FAMILIES, TASKS
from sweeper.losses.family_records import LossCoordinate, LossFamily

Value = float | None
"""A checked coordinate: a number, or None = not used."""


class KernelSettings(NamedTuple):
    """A point of the kernel `λ·CE(γ | w) + (1 − λ)·mean_c (1 − TI_c(a, b))^κ`; w includes α."""

    mix: float = 1.0
    gamma: float = 0.0
    class_weights: tuple[float, ...] | None = None
    """w_c of each class (binary: background, foreground); None = 1 for all."""
    fp_weight: float = 0.5
    fn_weight: float = 0.5
    overlap_exponent: float = 1.0
    hard_fraction: float = 1.0
    boundary_weight: float = 0.0


def find_frequency_need(family: LossFamily, task: Task, values: Mapping[str, object]) -> str | None:
    """Return the coordinate that requires class frequencies, if any."""
    free = family.coordinates[task]
    on = (name for name in free if free[name].frequencies == "needed" and free[name].is_on(values[name]))
    return next(on, None)


def uses_frequencies(family: LossFamily, task: Task, values: Mapping[str, object]) -> bool:
    """Return whether the loss depends on class frequencies."""
    free = family.coordinates[task]
    return any(free[name].frequencies is not None and free[name].is_on(values[name]) for name in free)


# --- Checks -------------------------------------------------------------------------------------------------


def _name_problems(family: LossFamily, task: Task, names: Iterable[str]) -> list[str]:
    free = family.coordinates[task]
    takes = f"{family.name} takes {', '.join(f'`{name}`' for name in free) or 'no hyper-parameters'} for {task} tasks"
    return [
        f"`{name}` is not a hyper-parameter of {family.name} for {task} tasks{suggest_correction(name, free)}; {takes}"
        for name in names
        if name not in free
    ]


def _find_value_problem(name: str, coordinate: LossCoordinate, value: object) -> str | None:
    if value is None and coordinate.optional:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return f"`{name}` must be a number, got {value!r}; give an int or a float"
    rule = coordinate.limits.find_problem(float(value))
    return f"`{name}` {rule}, got {value!r}; give a value in that range" if rule else None


def _find_frequency_problem(frequencies: Sequence[float] | None, needed_by: str | None) -> str | None:
    if frequencies is None:
        if needed_by is None:
            return None
        return (
            f"`{needed_by}` needs `class_frequencies`, got None; "
            "give the training pixels of each class, as counts or shares, in class order"
        )
    usable = len(frequencies) >= 2 and all(math.isfinite(f) and f >= 0 for f in frequencies)
    total = sum(frequencies) if usable else 0
    if 0 < total < math.inf:
        return None
    return (
        f"`class_frequencies` must be two or more finite numbers ≥ 0, not all 0, got {list(frequencies)}; "
        "give the training pixels of each class in class order"
    )


def _find_tversky_problem(by_role: Mapping[str, Value]) -> str | None:
    """Return the problem with the pair of Tversky weights, if any."""
    fp, fn = by_role.get("fp_weight"), by_role.get("fn_weight")
    if fn is not None and fp is None and fn > 1:
        return f"`fn_weight` must be at most 1 when `fp_weight` is left to 1 − fn_weight, got {fn!r}; give `fp_weight`"
    if fn == 0 and fp == 0:
        return "`fp_weight` and `fn_weight` must not both be 0; give one of them a positive value"
    return None


def check_coordinates(
    family: str, task: Task, coordinates: Mapping[str, object], class_frequencies: Sequence[float] | None = None
) -> dict[str, Value]:
    """Check the given coordinates and add the literature defaults of the family's others.

    Raises:
        LossError: with every fault: unknown family, task or coordinate; a value that is not a finite number in
            `LIMITS`; a missing coordinate without default; missing or unusable frequencies.
    """
    if family not in FAMILIES:
        raise LossError(
            f"family must be one of {', '.join(FAMILIES)}, got {family!r}{suggest_correction(family, FAMILIES)}; "
            "`sweeper losses` lists them"
        )
    entry = FAMILIES[family]
    if task not in entry.tasks:
        raise LossError(
            f"task of {family} must be one of {', '.join(entry.tasks)}, got {task!r}{suggest_correction(task, TASKS)}; "
            "give the task of the data"
        )
    free = entry.coordinates[task]
    values = {name: coordinates[name] if name in coordinates else free[name].default for name in free}
    missing = [n for n, c in free.items() if n not in coordinates and c.default is None and not c.optional]
    value_problems = [_find_value_problem(n, c, coordinates[n]) for n, c in free.items() if n in coordinates]
    problems = [
        *_name_problems(entry, task, coordinates),
        *(f"`{n}` of {family} has no default, only the data can decide it; give {n}=…" for n in missing),
        *(problem for problem in value_problems if problem),
    ]
    clean: dict[str, Value] = {}
    if not problems:
        clean = {name: None if value is None else float(value) for name, value in values.items()}  # type: ignore[arg-type]
        problems += [problem] if (problem := _find_tversky_problem(entry.map_roles(task, clean))) else []
    problem = _find_frequency_problem(class_frequencies, find_frequency_need(entry, task, values))
    problems += [problem] if problem else []
    if problems:
        raise LossError(f"cannot build the loss {family} for a {task} task: " + "\n  - ".join(["", *problems]))
    return clean


# --- Translation --------------------------------------------------------------------------------------------


def make_kernel_settings(
    family: LossFamily, task: Task, values: Mapping[str, Value], class_frequencies: Sequence[float] | None
) -> KernelSettings:
    """Return the kernel settings of a family at checked coordinates `values`."""
    given = family.map_roles(task, {name: value for name, value in values.items() if value is not None})
    point: dict[str, float] = {**family.fixed, **given}
    weights = _compute_class_weights(task, point, class_frequencies)
    if all(w == 1.0 for w in weights or ()):
        weights = None
    if "fn_weight" in point:
        point = {"fp_weight": 1.0 - point["fn_weight"], **point}
    used = {name: value for name, value in point.items() if name in KernelSettings._fields}
    return KernelSettings(class_weights=weights, **used)


def _compute_class_weights(
    task: Task, point: Mapping[str, float], frequencies: Sequence[float] | None
) -> tuple[float, ...] | None:
    """Return the class weights; None = 1 for all."""
    alpha = point.get("alpha")
    if task == "binary":
        return (1.0, point.get("pos_weight", 1.0)) if alpha is None else (1.0 - alpha, alpha)
    if frequencies is None:
        return None
    if alpha is not None:
        most = find_most_frequent_class(frequencies)
        return tuple(1 - alpha if c == most else alpha for c in range(len(frequencies)))
    power = point.get("class_weight_power", 0.0)
    return compute_frequency_weights(frequencies, power) if power else None


def compute_frequency_weights(frequencies: Sequence[float], power: float) -> tuple[float, ...]:
    """Return class weights w_c ∝ f_c^−power with Σ f_c w_c = 1; a class without pixels gets the largest of the others.

    Args:
        frequencies: pixels of each class, as counts or shares; finite, ≥ 0, not all 0.
        power: 0 = all weights 1, 1 = inverse frequency.
    """
    total = math.fsum(frequencies)
    raw = [(f / total) ** -power if f > 0 else None for f in frequencies]
    mean = math.fsum(f / total * w for f, w in zip(frequencies, raw, strict=True) if w is not None)
    largest = max(w for w in raw if w is not None)
    return tuple((largest if w is None else w) / mean for w in raw)


def log_prior_shifts(frequencies: Sequence[float], tau: float) -> tuple[float, ...]:
    """Return the logit adjustment τ log f_c of each class; a class without pixels gets the f_c of the rarest other.

    Args:
        frequencies: pixels of each class, as counts or shares; finite, ≥ 0, not all 0.
        tau: ≥ 0.
    """
    total, least = math.fsum(frequencies), min(f for f in frequencies if f > 0)
    return tuple(tau * math.log(max(f, least) / total) for f in frequencies)


def find_most_frequent_class(frequencies: Sequence[float]) -> int:
    """Return the index of the most frequent class; of ties the first."""
    return max(range(len(frequencies)), key=lambda c: frequencies[c])
