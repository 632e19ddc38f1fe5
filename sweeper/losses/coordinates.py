"""The families' coordinates: checks, and their translation into kernel settings. No torch."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
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
    """w_c of each class; of independent classes first that of each one's other pixels, then of its own (binary:
    background, foreground). None = 1 for all."""
    fp_weight: float = 0.5
    fn_weight: float = 0.5
    overlap_exponent: float = 1.0
    hard_fraction: float = 1.0
    boundary_weight: float = 0.0


def uses_frequencies(family: LossFamily, task: Task, values: Mapping[str, Value]) -> bool:
    """Return whether the loss depends on class frequencies."""
    return any(
        one.frequencies is not None and one.is_on(values[name]) for name, one in family.coordinates[task].items()
    )


def check_coordinates(
    family: str, task: Task, coordinates: Mapping[str, object], class_frequencies: Sequence[float] | None = None
) -> dict[str, Value]:
    """Check the given coordinates and add the literature defaults of the family's others.

    Raises:
        LossError: for an unknown family, task or coordinate; a value that is not a finite number within the limits; a
            missing coordinate without default; missing or unusable frequencies.
    """
    if family not in FAMILIES or task not in FAMILIES[family].tasks:
        raise LossError(
            f"there is no loss {family!r} for the task {task!r}{suggest_correction(family, FAMILIES)}; "
            f"`sweeper losses` lists them, and the tasks are {' and '.join(TASKS)}"
        )
    free = FAMILIES[family].coordinates[task]
    for name in coordinates.keys() - free.keys():
        raise LossError(
            f"`{name}` is not a hyper-parameter of {family} for {task} tasks{suggest_correction(name, free)}; it takes "
            f"{', '.join(free) or 'none'}"
        )
    values = {name: _check_value(name, one, coordinates.get(name, one.default)) for name, one in free.items()}
    by_role = FAMILIES[family].map_roles(task, values)
    check_tversky_weights(by_role.get("fn_weight"), by_role.get("fp_weight"))
    on = [(name, one) for name, one in free.items() if one.is_on(values[name])]
    needs = [name for name, one in on if one.frequencies == "needed"]
    if needs and class_frequencies is None:
        raise LossError(
            f"`{needs[0]}` needs `class_frequencies`; give the training pixels of each class, as counts or shares"
        )
    if class_frequencies is not None and not (min(class_frequencies) >= 0 and 0 < sum(class_frequencies) < math.inf):
        raise LossError(
            f"`class_frequencies` must be finite numbers ≥ 0, not all 0, got {list(class_frequencies)}; give the "
            "training pixels of each class in class order"
        )
    if task == "multilabel" and max(class_frequencies or (0,)) > 1:
        raise LossError(
            f"`class_frequencies` of a multi-label task must be at most 1, got {list(class_frequencies or ())}; give "
            "the share of the labelled training pixels that each class has"
        )
    return values


def _check_value(name: str, coordinate: LossCoordinate, value: object) -> Value:
    if value is None and coordinate.optional:
        return None
    if not (isinstance(value, numbers.Real) and coordinate.limits.is_allowed(float(value))):
        raise LossError(f"`{name}` must be a number {coordinate.limits.text}, got {value!r}; give one")
    return float(value)


def check_tversky_weights(fn_weight: Value, fp_weight: Value) -> None:
    """Check the weights of false negatives and false positives in the Tversky index; None = 1 − the other, or ½.

    Raises:
        LossError: if one would be negative, or both are 0.
    """
    fn = 0.5 if fn_weight is None else fn_weight
    fp = 1 - fn if fp_weight is None else fp_weight
    if fp < 0 or fp == fn == 0:
        raise LossError(
            f"the weights of false negatives and false positives must be at least 0, not both 0, got {fn:g} and "
            f"{fp:g}; without the second it is 1 − the first"
        )


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
    power = point.get("class_weight_power", 0.0)
    if task == "multilabel":
        own = [odds ** point.get("alpha_power", power) for odds in compute_odds(frequencies)]
        parts = [1 + weight if "alpha_power" in point else 1.0 for weight in own]
        return *(1 / part for part in parts), *(weight / part for weight, part in zip(own, parts, strict=True))
    if alpha is not None:
        most = find_most_frequent_class(frequencies)
        return tuple(1 - alpha if c == most else alpha for c in range(len(frequencies)))
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


def compute_odds(shares: Sequence[float]) -> tuple[float, ...]:
    """Return other / own pixels of independent classes by their shares of the labelled pixels, not all 0.

    A class without pixels gets those of the rarest other.
    """
    least = min(f for f in shares if f > 0)
    return tuple(max(1 - f, 1e-6) / max(f, least) for f in shares)


def log_prior_shifts(frequencies: Sequence[float], tau: float, task: Task = "multiclass") -> tuple[float, ...]:
    """Return the logit adjustment τ log f_c of each class; a class without pixels gets the f_c of the rarest other.

    Args:
        frequencies: pixels of each class, as counts or shares; finite, ≥ 0, not all 0.
        tau: ≥ 0.
        task: of independent classes the adjustment is τ log f_c / (1 − f_c).
    """
    if task == "multilabel":
        return tuple(-tau * math.log(odds) for odds in compute_odds(frequencies))
    total, least = math.fsum(frequencies), min(f for f in frequencies if f > 0)
    return tuple(tau * math.log(max(f, least) / total) for f in frequencies)


def find_most_frequent_class(frequencies: Sequence[float]) -> int:
    """Return the index of the most frequent class; of ties the first."""
    return max(range(len(frequencies)), key=lambda c: frequencies[c])
