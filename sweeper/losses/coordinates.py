"""The kernel's coordinates: limits, checks, and their translation into the kernel's own terms. No torch."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sweeper.errors import LossError
from sweeper.losses.families import FAMILIES, TASKS, Family
from sweeper.records import Task


class Limits(NamedTuple):
    """What a coordinate may be; `open_low` excludes the lower end."""

    low: float
    high: float
    open_low: bool = False

    def problem(self, value: float) -> str | None:
        """The rule, when `value` breaks it, else None."""
        if math.isfinite(value) and self.low <= value <= self.high and not (self.open_low and value == self.low):
            return None
        return f"must be {'above' if self.open_low else 'at least'} {self.low:g} and at most {self.high:g}"


LIMITS: dict[str, Limits] = {
    "mix": Limits(0, 1),
    "gamma": Limits(0, 50),
    "alpha": Limits(0, 1),
    "pos_weight": Limits(0, 1e9, open_low=True),
    "class_weight_power": Limits(0, 2),
    "fp_weight": Limits(0, 100),
    "fn_weight": Limits(0, 100),
    "overlap_exponent": Limits(0, 10, open_low=True),
}
"""What `build_loss` accepts; searches keep well inside. Beyond the high ends float32 has nothing left to tell."""
POWER_LIMITS = Limits(0, 2)
"""Exponents of the imbalance."""
SMALLEST_SHARE = 1e-12
"""Of the pixels; less is not a count of pixels, and its weight would leave float32's range."""

MEANINGS: dict[str, str] = {
    "mix": "weight of the cross-entropy part; the overlap part has 1 − mix",
    "gamma": "focal exponent; 0 = cross-entropy",
    "alpha": "focal balance: foreground × α, background × (1 − α); multi-class: commonest class × (1 − α), others × α",
    "pos_weight": "weight of foreground pixels in the cross-entropy part",
    "class_weight_power": "p in the class weights w ∝ f^−p, with f the class's share of the pixels",
    "fp_weight": "weight of false positives in the overlap part",
    "fn_weight": "weight of false negatives in the overlap part",
    "overlap_exponent": "exponent of 1 − Tversky index",
}


class KernelSettings(NamedTuple):
    """A point of the kernel `λ·CE(γ | w) + (1 − λ)·mean_c (1 − TI_c(a, b))^κ`; α has become part of w."""

    mix: float
    gamma: float
    class_weights: tuple[float, ...] | None
    """w_c of each class (binary: background, foreground); None = 1 for all."""
    fp_weight: float
    fn_weight: float
    overlap_exponent: float


def suggestion(name: str, known: Iterable[str]) -> str:
    """`, did you mean …?` for a likely typing error, else an empty text."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f", did you mean `{close[0]}`?" if close else ""


def frequency_weights(frequencies: Sequence[float], power: float) -> tuple[float, ...]:
    """Class weights w_c ∝ f_c^−power with Σ f_c w_c = 1; a class without pixels gets the largest weight present.

    Args:
        frequencies: pixels of each class, as counts or shares; finite, ≥ 0, not all 0.
        power: 0 = all weights 1, 1 = inverse frequency.
    """
    total = math.fsum(frequencies)
    shares = [f / total for f in frequencies]
    raw = [f**-power if f > 0 else None for f in shares]
    mean = math.fsum(f * w for f, w in zip(shares, raw, strict=True) if w is not None)
    largest = max(w for w in raw if w is not None)
    return tuple((largest if w is None else w) / mean for w in raw)


def alpha_weights(frequencies: Sequence[float], alpha: float) -> tuple[float, ...]:
    """Multi-class α: 1 − α for the most frequent class (the first, of several), α for every other."""
    commonest = max(range(len(frequencies)), key=lambda c: frequencies[c])
    return tuple(1 - alpha if c == commonest else alpha for c in range(len(frequencies)))


def weighting_coordinate(values: Mapping[str, float | None]) -> str | None:
    """The coordinate that makes multi-class weights depend on the class frequencies, if one does."""
    if values.get("alpha") is not None:
        return "alpha"
    return "class_weight_power" if values.get("class_weight_power") else None


def _name_problems(family: Family, task: Task, given: Iterable[str]) -> list[str]:
    free = family.coordinates[task]
    takes = f"{family.name} takes {', '.join(f'`{name}`' for name in free) or 'no coordinates'} for {task} tasks"
    return [
        f"`{name}` is not a coordinate of {family.name} for {task} tasks{suggestion(name, free)}; {takes}"
        for name in given
        if name not in free
    ]


def _value_problem(name: str, value: object) -> str | None:
    if value is None and name in ("alpha", "fp_weight"):
        return None  # their own way of saying "not used" and "1 − fn_weight"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return f"`{name}` must be a number, got {value!r}; give an int or a float"
    rule = LIMITS[name].problem(float(value)) if name in LIMITS else None
    return f"`{name}` {rule}, got {value!r}; give a value in that range" if rule else None


def _frequency_problem(frequencies: Sequence[float] | None, needed_by: str | None) -> str | None:
    if frequencies is None:
        if needed_by is None:
            return None
        return (
            f"`{needed_by}` needs `class_frequencies`, got None; "
            "give the training pixels of each class, as counts or shares, in class order"
        )
    usable = len(frequencies) >= 2 and all(math.isfinite(f) and f >= 0 for f in frequencies)
    total = sum(frequencies) if usable else 0
    if 0 < total < math.inf and all(f == 0 or f / total >= SMALLEST_SHARE for f in frequencies):
        return None
    return (
        "`class_frequencies` must be two or more finite numbers ≥ 0, not all 0, and none a share of the sum "
        f"between 0 and {SMALLEST_SHARE:g}, got {list(frequencies)}; "
        "give the training pixels of each class in class order"
    )


def _tversky_problem(values: Mapping[str, float | None]) -> str | None:
    """What is wrong with fp_weight and fn_weight together."""
    fp, fn = values.get("fp_weight"), values.get("fn_weight")
    if fn is not None and fp is None and fn > 1:
        return f"`fn_weight` must be at most 1 when `fp_weight` is left to 1 − fn_weight, got {fn!r}; give `fp_weight`"
    if fn == 0 and fp == 0:
        return "`fp_weight` and `fn_weight` must not both be 0; give one of them a positive value"
    return None


def checked(
    family: str, task: Task, given: Mapping[str, float | None], class_frequencies: Sequence[float] | None = None
) -> dict[str, float | None]:
    """All free coordinates of a family: the given ones, checked, and the literature defaults of the others.

    Raises:
        LossError: naming every fault at once: unknown family, task or coordinate; a value that is not a finite number
            in `LIMITS`; a coordinate without default that is missing; frequencies missing or unusable.
    """
    if family not in FAMILIES:
        raise LossError(
            f"family must be one of {', '.join(FAMILIES)}, got {family!r}{suggestion(family, FAMILIES)}; "
            "`sweeper losses` lists them"
        )
    entry = FAMILIES[family]
    if task not in entry.tasks:
        raise LossError(
            f"task of {family} must be one of {', '.join(entry.tasks)}, got {task!r}{suggestion(task, TASKS)}; "
            "give the task of the data"
        )
    free = entry.coordinates[task]
    values = {name: given.get(name, free[name].default) for name in free}
    missing = [n for n in free if n not in given and free[n].default is None and n not in ("alpha", "fp_weight")]
    # The frequencies only matter where weights differ from class to class.
    needed_by = weighting_coordinate(values) if task == "multiclass" else None
    found = [_value_problem(name, value) for name, value in given.items() if name in free]
    problems = [
        *_name_problems(entry, task, given),
        *(f"`{n}` of {family} has no default, only the data can decide it; give {n}=…" for n in missing),
        *(problem for problem in found if problem),
    ]
    if not problems and (together := _tversky_problem(values)):
        problems.append(together)
    if task == "multiclass" and (problem := _frequency_problem(class_frequencies, needed_by)):
        problems.append(problem)
    if problems:
        raise LossError(f"cannot build the loss {family} for a {task} task: " + "\n  - ".join(["", *problems]))
    return {name: None if value is None else float(value) for name, value in values.items()}


def kernel_settings(
    family: Family, task: Task, values: Mapping[str, float | None], class_frequencies: Sequence[float] | None
) -> KernelSettings:
    """The point of the kernel for checked coordinates `values`."""
    point: dict[str, float | None] = {**family.fixed, **values}

    def number(name: str, otherwise: float) -> float:
        value = point.get(name)
        return otherwise if value is None else float(value)

    alpha = point.get("alpha")
    weights: tuple[float, ...] | None = None
    if task == "binary":
        weights = (1.0, number("pos_weight", 1.0)) if alpha is None else (1.0 - alpha, alpha)
    elif class_frequencies is not None and weighting_coordinate(point) is not None:
        weights = (
            frequency_weights(class_frequencies, number("class_weight_power", 0.0))
            if alpha is None
            else alpha_weights(class_frequencies, alpha)
        )
    fn_weight = number("fn_weight", 0.5)
    return KernelSettings(
        mix=number("mix", 1.0),
        gamma=number("gamma", 0.0),
        class_weights=None if weights == (1.0, 1.0) else weights,
        fp_weight=number("fp_weight", 1.0 - fn_weight),
        fn_weight=fn_weight,
        overlap_exponent=number("overlap_exponent", 1.0),
    )
