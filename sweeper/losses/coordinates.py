"""The kernel's coordinates: checks, and their translation into the kernel's own terms. No torch."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sweeper.core.errors import LossError
from sweeper.core.records import Task
from sweeper.core.text import suggestion
from sweeper.losses.accepted_values import FLAGS, POWER_LIMITS, SMALLEST_SHARE, Limits
from sweeper.losses.class_weights import alpha_weights, effective_number_weights, frequency_weights
from sweeper.losses.families import FAMILIES, LIMITS, MEANINGS, TASKS, Family

__all__ = [
    "LIMITS",
    "MEANINGS",
    "POWER_LIMITS",
    "KernelSettings",
    "Limits",
    "Value",
    "checked",
    "frequency_weights",
    "kernel_settings",
    "needs_frequencies",
    "uses_frequencies",
]

Value = float | bool | tuple[float, ...] | None
"""A checked coordinate: a number, a flag, a number per class, or not used."""

WEIGHTINGS = ("alpha", "pos_weight", "class_weight_power", "class_weights", "effective_number")
"""Different ways of giving the same thing, the weight of each class's pixels: one at a time."""
VECTORS = ("alpha", "class_weights")
"""What may be one number for each class."""


class KernelSettings(NamedTuple):
    """A point of the kernel `λ·CE(γ | w) + (1 − λ)·mean_c (1 − TI_c(a, b))^κ`; α has become part of w."""

    mix: float
    gamma: float
    class_weights: tuple[float, ...] | None
    """w_c of each class (binary: background, foreground); None = 1 for all."""
    fp_weight: float
    fn_weight: float
    overlap_exponent: float
    label_smoothing: float = 0.0
    hard_fraction: float = 1.0
    boundary_weight: float = 0.0
    smoothing: float = 1.0
    per_image: bool = False
    include_background: bool | None = None
    """None = the task's custom: no for binary, yes for multi-class."""
    squared: bool = False
    weigh_overlap: bool = False
    """Whether `class_weights` are weights of the classes' overlaps, too."""


TVERSKY_ELSEWHERE = {
    "alpha": "the α of other libraries is `fp_weight`",
    "beta": "the β of other libraries is `fn_weight`",
    "gamma": "the exponent is `overlap_exponent`, on each class",
}
ELSEWHERE = {
    "reduction": "a loss is one number here, the mean over the labelled pixels",
    "weight": "weights of classes are `class_weights`",
    "smooth": "pixels added above and below are `smoothing`",
    "eps": "pixels added above and below are `smoothing`",
    "smooth_nr": "pixels added above and below are `smoothing`, half of MONAI's number",
    "smooth_dr": "pixels added above and below are `smoothing`, half of MONAI's number",
    "batch": "the whole batch is one overlap; `per_image=True` takes each image alone",
    "squared_pred": "it is `squared`",
    "from_logits": "all losses take logits",
    "sigmoid": "all losses take logits, and the task decides",
    "softmax": "all losses take logits, and the task decides",
    "to_onehot_y": "multi-class targets are class indices",
    "mode": "it is `task`",
    "log_loss": "it is the family log_dice",
    "weight_dice": "the parts' weights are `mix` and 1 − mix, up to a factor of the loss",
    "classes": "a class that is not to count has weight 0 in `class_weights`",
    "lambda_dice": "the parts' weights are `mix` and 1 − mix, up to a factor of the loss",
    "lambda_ce": "the parts' weights are `mix` and 1 − mix, up to a factor of the loss",
    "loss_weight": "a factor of the whole loss is for the caller",
    "thresh": "it is `sure_at` of the family ohem_ce",
    "min_kept": "it is `kept_at_least` of the family ohem_ce, a share of the labelled pixels",
}
"""Arguments of other libraries, and what they are here."""


def needs_frequencies(values: Mapping[str, object], task: str) -> str | None:
    """The coordinate that makes the weights depend on the class frequencies, if one does."""
    if values.get("effective_number"):
        return "effective_number"
    if task != "multiclass":
        return None
    alpha = values.get("alpha")
    if alpha is not None and not isinstance(alpha, Sequence):
        return "alpha"
    return next((name for name in ("class_weight_power", "tau") if values.get(name)), None)


def uses_frequencies(values: Mapping[str, object], task: str) -> bool:
    """Whether the loss is another one with class frequencies than without, or needs them."""
    if needs_frequencies(values, task):
        return True
    return task == "multiclass" and "suppression" in values


# --- Checks -------------------------------------------------------------------------------------------------


def _name_problems(family: Family, task: Task, given: Iterable[str]) -> list[str]:
    free, options = family.coordinates[task], family.options(task)
    takes = f"{family.name} takes {', '.join(f'`{name}`' for name in free) or 'no hyper-parameters'} for {task} tasks"
    more = f", and the options {', '.join(f'`{name}`' for name in options)}" if options else ""
    return [
        f"`{name}` is not a hyper-parameter of {family.name} for {task} tasks"
        f"{suggestion(name, [*free, *options])}{_elsewhere(family, name)}; {takes}{more}"
        for name in given
        if name not in free and name not in options
    ]


def _elsewhere(family: Family, name: str) -> str:
    """What an argument of other libraries is called here."""
    tversky = family.name in ("tversky", "focal_tversky")
    ours = TVERSKY_ELSEWHERE.get(name) if tversky else None
    ours = ours or ELSEWHERE.get(name)
    return f" ({ours})" if ours else ""


def _is_vector(value: object) -> bool:
    """A list, tuple, array or tensor of one dimension, by what it can do."""
    return hasattr(value, "__len__") and hasattr(value, "__iter__") and not isinstance(value, (str, bytes, Mapping))


def _value_problem(name: str, value: object, task: Task, classes: int | None) -> str | None:
    if value is None and name in ("alpha", "fp_weight"):
        return None  # their own way of saying "not used" and "1 − fn_weight"
    if name in FLAGS:
        return None if isinstance(value, bool) else f"`{name}` must be True or False, got {value!r}; give one of them"
    if _is_vector(value) and name in VECTORS:
        return _vector_problem(name, list(value), classes)  # type: ignore[call-overload]
    if name == "class_weights":
        return f"`class_weights` must be a sequence with one number per class, got {value!r}; give a tuple"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return f"`{name}` must be a number, got {value!r}; give an int or a float"
    rule = LIMITS[name].problem(float(value)) if name in LIMITS else None
    return f"`{name}` {rule}, got {value!r}; give a value in that range" if rule else None


def _vector_problem(name: str, items: list[object], classes: int | None) -> str | None:
    """What is wrong with one number per class."""
    if classes is not None and len(items) != classes:
        return f"`{name}` must have one number per class ({classes}), got {len(items)}: {items!r}; give {classes}"
    for item in items:
        try:
            rule = None if isinstance(item, (bool, str)) else LIMITS[name].problem(float(item))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return f"`{name}` must hold numbers, got {item!r}; give ints or floats"
        if isinstance(item, (bool, str)):
            return f"`{name}` must hold numbers, got {item!r}; give ints or floats"
        if rule:
            return f"`{name}` {rule} in every place, got {items!r}; give values in that range"
    if not items or not any(float(item) for item in items):  # type: ignore[arg-type]
        return f"`{name}` must have a positive number for at least one class, got {items!r}; give one number per class"
    return None


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
    if not (0 < total < math.inf and all(f == 0 or f / total >= SMALLEST_SHARE for f in frequencies)):
        return (
            "`class_frequencies` must be two or more finite numbers ≥ 0, not all 0, and none a share of the sum "
            f"between 0 and {SMALLEST_SHARE:g}, got {list(frequencies)}; "
            "give the training pixels of each class in class order"
        )
    if needed_by == "effective_number" and any(0 < f < 1 for f in frequencies):
        return (
            "`class_frequencies` must be counts of pixels for `effective_number`, which depends on how many there are, "
            f"got the shares {list(frequencies)}; give the training pixels of each class"
        )
    return None


def _together_problem(values: Mapping[str, Value], given: Iterable[str]) -> str | None:
    """What is wrong with several values together."""
    fp, fn = values.get("fp_weight"), values.get("fn_weight")
    if isinstance(fn, float) and fp is None and fn > 1:
        return f"`fn_weight` must be at most 1 when `fp_weight` is left to 1 − fn_weight, got {fn!r}; give `fp_weight`"
    if fn == 0 and fp == 0:
        return "`fp_weight` and `fn_weight` must not both be 0; give one of them a positive value"
    options = [name for name in ("class_weights", "effective_number") if name in given]
    active = [name for name in WEIGHTINGS if name in options or _says_something(name, values.get(name))]
    if options and len(active) > 1:
        names = " and ".join(f"`{name}`" for name in active)
        return f"{names} all set the weights of classes, and only one of them may; leave the others at rest"
    return None


def _says_something(name: str, value: Value) -> bool:
    at_rest = {"pos_weight": 1.0, "class_weight_power": 0.0}
    return value is not None and value != at_rest.get(name)


def checked(
    family: str, task: Task, given: Mapping[str, object], class_frequencies: Sequence[float] | None = None
) -> dict[str, Value]:
    """All free coordinates of a family: the given ones, checked, and the literature defaults of the others.

    Options (see `sweeper.losses.accepted_values`) appear only where they are given.

    Raises:
        LossError: naming every fault at once: unknown family, task or coordinate; a value that is not a finite number
            in `LIMITS`; a vector of the wrong length; two ways of weighting classes; a coordinate without default that
            is missing; frequencies missing or unusable.
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
    wanted = [*free, *(name for name in entry.options(task) if name in given)]
    values = {name: given[name] if name in given else free[name].default for name in wanted}
    missing = [n for n in free if n not in given and free[n].default is None and n not in ("alpha", "fp_weight")]
    classes = 2 if task == "binary" else None if class_frequencies is None else len(class_frequencies)
    found = [_value_problem(name, given[name], task, classes) for name in wanted if name in given]
    problems = [
        *_name_problems(entry, task, given),
        *(f"`{n}` of {family} has no default, only the data can decide it; give {n}=…" for n in missing),
        *(problem for problem in found if problem),
    ]
    clean = {} if problems else {name: _clean(value) for name, value in values.items()}
    if not problems and (together := _together_problem(clean, given)):
        problems.append(together)
    # The frequencies only matter where weights differ from class to class.
    needed_by = needs_frequencies(values, task)
    if task == "multiclass" or uses_frequencies(values, task):
        problem = _frequency_problem(class_frequencies, needed_by)
        if problem is None and task == "binary" and class_frequencies is not None and len(class_frequencies) != 2:
            problem = f"`class_frequencies` must be (background, foreground), got {list(class_frequencies)}; give two"
        problems += [problem] if problem else []
    if problems:
        raise LossError(f"cannot build the loss {family} for a {task} task: " + "\n  - ".join(["", *problems]))
    return clean


def _clean(value: object) -> Value:
    if value is None or isinstance(value, bool):
        return value
    if _is_vector(value):
        return tuple(float(item) for item in value)  # type: ignore[attr-defined]
    return float(value)  # type: ignore[arg-type]


# --- Translation --------------------------------------------------------------------------------------------


def kernel_settings(
    family: Family, task: Task, values: Mapping[str, Value], class_frequencies: Sequence[float] | None
) -> KernelSettings:
    """The point of the kernel for checked coordinates `values`."""
    point: dict[str, Value] = {**family.fixed, **values}

    weights = _class_weights(task, point, class_frequencies)
    if all(w == 1.0 for w in weights or ()):
        weights = None
    fn_weight = _number(point, "fn_weight", 0.5)
    overlap_alone = family.fixed.get("mix") == 0
    background = point.get("include_background")
    return KernelSettings(
        mix=_number(point, "mix", 1.0),
        gamma=_number(point, "gamma", 0.0),
        class_weights=weights,
        fp_weight=_number(point, "fp_weight", 1.0 - fn_weight),
        fn_weight=fn_weight,
        overlap_exponent=_number(point, "overlap_exponent", 1.0),
        label_smoothing=_number(point, "label_smoothing", 0.0),
        hard_fraction=_number(point, "hard_fraction", 1.0),
        boundary_weight=_number(point, "boundary_weight", 0.0),
        smoothing=_number(point, "smoothing", 1.0),
        per_image=bool(point.get("per_image")),
        include_background=None if background is None else bool(background),
        squared=bool(point.get("squared")),
        weigh_overlap=weights is not None and (overlap_alone or bool(point.get("weigh_overlap"))),
    )


def _class_weights(
    task: Task, point: Mapping[str, Value], frequencies: Sequence[float] | None
) -> tuple[float, ...] | None:
    """Weights of the classes; None = 1 for all."""
    for name in VECTORS:
        if isinstance(given := point.get(name), tuple):
            return given
    alpha = None if point.get("alpha") is None else _number(point, "alpha", 0.0)
    beta = point.get("effective_number")
    if isinstance(beta, float) and beta > 0 and frequencies is not None:
        return effective_number_weights(frequencies, beta)
    if task == "binary":
        return (1.0, _number(point, "pos_weight", 1.0)) if alpha is None else (1.0 - alpha, alpha)
    if frequencies is None:
        return None
    if alpha is not None:
        return alpha_weights(frequencies, alpha)
    power = _number(point, "class_weight_power", 0.0)
    return frequency_weights(frequencies, power) if power else None


def _number(point: Mapping[str, Value], name: str, otherwise: float) -> float:
    value = point.get(name)
    return otherwise if value is None or isinstance(value, tuple) else float(value)
