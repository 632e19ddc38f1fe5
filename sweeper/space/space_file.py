"""Parse search-space files: the data of a YAML file → SearchSpace, or every error with its key path.

search_spaces/README.md and `sweeper.space.search_space` describe the files' format.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from sweeper.core.records import Coordinate, CoordinateKind, FamilySpace, SearchSpace, Task
from sweeper.core.text import suggest_correction
from sweeper.core.yaml_file import format_key, format_value
from sweeper.losses.families import FAMILIES, TASKS, LossCoordinate, LossFamily
from sweeper.losses.family_records import POWER_LIMITS, ValueLimits

KINDS: tuple[CoordinateKind, ...] = ("uniform", "log", "power_of_imbalance")
LR_LIMITS = ValueLimits(0, 10, open_low=True)


def parse_space(name: str, content: Any, task: Task | None, problems: list[str]) -> SearchSpace | None:
    """Parse the data of a YAML file; problems are added to `problems`, and the result may then be None."""
    if not isinstance(content, dict):
        problems.append(f"(top): must be a mapping with version, task, nuisance, losses, got {format_value(content)}")
        return None
    before = len(problems)
    _check_keys("", content, ("version", "task", "nuisance", "losses"), problems, required=True)
    version = content.get("version", 1)
    if version != 1 or isinstance(version, bool):
        problems.append(f"version: must be 1, got {format_value(version)}; this sweeper reads version 1 alone")
    own_task = _read_task(content.get("task"), task, problems) if "task" in content else task
    lr = _read_learning_rate(content.get("nuisance"), problems) if "nuisance" in content else None
    families = _read_families(content["losses"], own_task, problems) if "losses" in content and own_task else []
    if len(problems) > before or lr is None or own_task is None:
        return None
    return SearchSpace(name=name, task=own_task, lr=lr, families=tuple(families))


def _check_keys(
    path: str, mapping: Mapping[str, Any], allowed: Iterable[str], problems: list[str], *, required: bool = False
) -> None:
    """Report unknown keys and, if `required`, missing ones."""
    allowed = list(allowed)
    for key in mapping:
        if key not in allowed:
            problems.append(
                f"{path}{format_key(key)}: unknown key{suggest_correction(key, allowed)}; known here: "
                f"{', '.join(allowed)}"
            )
    if required:
        problems.extend(f"{path}{key}: missing; add it" for key in allowed if key not in mapping)


def _read_task(value: Any, wanted: Task | None, problems: list[str]) -> Task | None:
    task = next((task_name for task_name in TASKS if task_name == value), None)
    if task is None:
        hint = suggest_correction(value, TASKS) if isinstance(value, str) else ""
        problems.append(f"task: must be {' or '.join(TASKS)}, got {format_value(value)}{hint}")
        return wanted
    if wanted is not None and task != wanted:
        problems.append(f"task: must be {wanted} as the data are, got {task}; use a space for {wanted} tasks")
    return task


def _read_learning_rate(nuisance: Any, problems: list[str]) -> Coordinate | None:
    if not isinstance(nuisance, dict):
        problems.append(f"nuisance: must be a mapping with lr, got {format_value(nuisance)}")
        return None
    _check_keys("nuisance.", nuisance, ("lr",), problems, required=True)
    if "lr" not in nuisance:
        return None
    return read_coordinate("nuisance.lr", nuisance["lr"], LR_LIMITS, ("uniform", "log"), problems)


def _read_families(losses: Any, task: Task, problems: list[str]) -> list[FamilySpace]:
    if not isinstance(losses, dict) or not losses:
        problems.append(f"losses: must be a mapping with at least one family, got {format_value(losses)}")
        return []
    usable = [name for name, family in FAMILIES.items() if task in family.tasks]
    _check_keys("losses.", losses, usable, problems)
    return [_read_family(FAMILIES[name], losses[name], task, problems) for name in usable if name in losses]


def _read_family(family: LossFamily, content: Any, task: Task, problems: list[str]) -> FamilySpace:
    path = f"losses.{family.name}"
    content = {} if content is None else content  # an empty `dice:` means `dice: {}`
    if not isinstance(content, dict):
        problems.append(f"{path}: must be a mapping of hyper-parameters ({{}} for none), got {format_value(content)}")
        content = {}
    free = family.coordinates[task]
    coordinates: dict[str, Coordinate] = {}
    for name, value in content.items():
        if name not in free:
            takes = ", ".join(free) or "none"
            problems.append(
                f"{path}.{format_key(name)}: not a hyper-parameter of {family.name} for {task} tasks"
                f"{suggest_correction(name, free)}; it takes {takes}"
            )
            continue
        kinds = KINDS if _is_power(free[name]) else ("uniform", "log")
        coordinate = read_coordinate(f"{path}.{name}", value, free[name].limits, kinds, problems)
        if coordinate is not None:
            coordinates[name] = coordinate
    for name, free_coordinate in free.items():
        if _is_power(free_coordinate) and free_coordinate.default is None and name not in content:
            problems.append(
                f"{path}.{name}: missing, and it has no default; add {name}: {{power_of_imbalance: [0, 1.1]}}"
            )
    _check_tversky(path, family.map_roles(task, coordinates), problems)
    # In the registry's order: the file's order must not change a study.
    return FamilySpace(family=family.name, coordinates={n: coordinates[n] for n in free if n in coordinates})


def _is_power(free: LossCoordinate) -> bool:
    """Return whether the coordinate can be searched as a power of the imbalance."""
    return free.search is not None and free.search.kind == "power_of_imbalance"


def _check_tversky(path: str, by_role: Mapping[str, Coordinate], problems: list[str]) -> None:
    fn, fp = by_role.get("fn_weight"), by_role.get("fp_weight")
    if fn is not None and fp is None and fn.high > 1:
        problems.append(
            f"{path}.fn_weight: must be at most 1 when fp_weight is left to 1 − fn_weight, got {fn.high:g}; "
            "lower it or add fp_weight"
        )
    if fn is not None and fp is not None and fn.low == 0 and fp.low == 0:
        problems.append(f"{path}: fn_weight and fp_weight must not both reach 0; raise the lower end of one")


def _read_number(value: Any) -> float | None:
    """Return a finite number, even if a text as `3e-4` in YAML 1.1; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def read_coordinate(
    path: str, value: Any, limits: ValueLimits, kinds: tuple[CoordinateKind, ...], problems: list[str]
) -> Coordinate | None:
    """Parse one range or fixed number; problems are added to `problems`."""
    if isinstance(value, dict):
        kind = next((kind_name for kind_name in kinds if kind_name in value), None)
        if kind is not None and len(value) == 1:
            return _read_range(f"{path}.{kind}", kind, value[kind], limits, problems)
        names = [format_key(name) for name in value]
        hint = suggest_correction(names[0], kinds) if len(names) == 1 else ""
        problems.append(
            f"{path}: must have exactly one of {', '.join(kinds)}, got {', '.join(names) or 'nothing'}{hint}"
        )
        return None
    number, forms = _read_number(value), ", ".join(f"{{{kind}: [low, high]}}" for kind in kinds)
    rule = f"must be {forms} or a finite number" if number is None else limits.find_problem(number)
    if rule is None and number is not None:
        return Coordinate(kind="fixed", low=number, high=number)
    problems.append(f"{path}: {rule}, got {format_value(value)}")
    return None


def _read_range(
    path: str, kind: CoordinateKind, ends: Any, limits: ValueLimits, problems: list[str]
) -> Coordinate | None:
    """Parse the range `kind: [low, high]`."""
    numbers = [_read_number(end) for end in ends] if isinstance(ends, list) else []
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        problems.append(f"{path}: must be [low, high], two finite numbers, got {format_value(ends)}")
        return None
    low, high = numbers[0], numbers[1]
    limits = POWER_LIMITS if kind == "power_of_imbalance" else limits
    rule = limits.find_problem(low) or limits.find_problem(high)
    if low >= high:
        rule = "low must be below high" + (" (for one value write the number alone)" if low == high else "")
    elif rule is None and kind == "log" and low <= 0:
        rule = "low must be above 0 for a logarithmic range"
    if rule is not None:
        problems.append(f"{path}: {rule}, got [{low:g}, {high:g}]")
        return None
    return Coordinate(kind=kind, low=low, high=high)
