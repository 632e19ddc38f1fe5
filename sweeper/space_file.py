"""Search-space files: strict, bounded YAML → SearchSpace, with every mistake named by its key path.

The form of a file is described in search_spaces/README.md and in `sweeper.space`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sweeper.losses.coordinates import LIMITS, POWER_LIMITS, Limits, suggestion
from sweeper.losses.families import FAMILIES, TASKS, Family
from sweeper.records import Coordinate, CoordinateKind, FamilySpace, SearchSpace, Task

KINDS: tuple[CoordinateKind, ...] = ("uniform", "log", "power_of_imbalance")
LR_LIMITS = Limits(0, 10, open_low=True)
MAX_BYTES = 1 << 20
MAX_DEPTH = 20
_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


# --- YAML: no tags, no aliases, no duplicate keys -----------------------------------------------------------


def read_yaml(path: Path, problems: list[str]) -> Any:
    """Plain data (dicts with text keys, lists, scalars) of a YAML file.

    Mistakes are added to `problems`, beginning with their key path or line. When the file cannot be read as YAML at all
    the result is None; after a duplicate key the first one counts.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        problems.append(f"(file): must be readable, got {error.strerror or error}; check the path and its permissions")
        return None
    if len(raw) > MAX_BYTES:
        problems.append("(file): must be at most 1 MiB, got more; a search space is a page of text")
        return None
    try:
        return parse_yaml(raw.decode("utf-8-sig"), problems)
    except UnicodeDecodeError as error:
        problems.append(f"(file): must be UTF-8 text, got other bytes at offset {error.start}; save it as UTF-8")
        return None


def parse_yaml(text: str, problems: list[str]) -> Any:
    """The same from text."""
    try:
        if fault := _structure_fault(text):
            problems.append(f"(file): {fault}")
            return None
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else _plain(loader, node, "", problems)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "(file)"
        problems.append(f"{where}: must be valid YAML, got {error.problem or error.context}; mend that line")
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        problems.append(f"(file): must be valid YAML, got {reason[:200]}; mend that value")
    return None


def _structure_fault(text: str) -> str | None:
    """What could make a small file expand or take for ever: references and nesting without end."""
    depth = 0
    for token in yaml.scan(text, yaml.SafeLoader):
        if isinstance(token, (yaml.AliasToken, yaml.AnchorToken)):
            return "must not use anchors or aliases (& and *); write the values out"
        if isinstance(token, _OPENING):
            depth += 1
        elif isinstance(token, _CLOSING):
            depth -= 1
        if depth > MAX_DEPTH:
            return f"must not be nested deeper than {MAX_DEPTH} levels; a search space has five"
    return None


def _plain(loader: yaml.SafeLoader, node: yaml.Node, path: str, problems: list[str]) -> Any:
    """Data of a node, reporting duplicate and non-text keys by their path."""
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, path, problems) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node, deep=True)
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(
                f"{path or '(top)'}: keys must be plain words (line {line}); write one word before the colon"
            )
            continue
        key = str(key_node.value)
        inner = f"{path}.{_key(key)}" if path else _key(key)
        value = _plain(loader, value_node, inner, problems)
        if key in result:
            problems.append(f"{inner}: appears twice (line {line}); keep one of them")
            continue
        result[key] = value
    return result


# --- Meaning ------------------------------------------------------------------------------------------------


def parse_space(name: str, content: Any, task: Task | None, problems: list[str]) -> SearchSpace | None:
    """The space that plain YAML data stands for; mistakes are added to `problems`, and then None may be returned."""
    if not isinstance(content, dict):
        problems.append(f"(top): must be a mapping with version, task, nuisance, losses, got {_shown(content)}")
        return None
    before = len(problems)
    _check_keys("", content, ("version", "task", "nuisance", "losses"), problems, required=True)
    version = content.get("version", 1)
    if version != 1 or isinstance(version, bool):
        problems.append(f"version: must be 1, got {_shown(version)}; this sweeper reads version 1 alone")
    own_task = _task(content.get("task"), task, problems) if "task" in content else task
    lr = _learning_rate(content.get("nuisance"), problems) if "nuisance" in content else None
    families = _families(content["losses"], own_task, problems) if "losses" in content and own_task else []
    if len(problems) > before or lr is None or own_task is None:
        return None
    return SearchSpace(name=name, task=own_task, lr=lr, families=tuple(families))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _key(name: str) -> str:
    """A key for a message: as it is when it is a word, else escaped and cut."""
    return name if name.isidentifier() and len(name) <= 60 else _shown(name)


def _check_keys(
    path: str, mapping: Mapping[str, Any], known: Iterable[str], problems: list[str], *, required: bool = False
) -> None:
    """Report keys that are not known and, on demand, known ones that are missing."""
    known = list(known)
    for key in mapping:
        if key not in known:
            problems.append(f"{path}{_key(key)}: unknown key{suggestion(key, known)}; known here: {', '.join(known)}")
    if required:
        problems.extend(f"{path}{key}: missing; add it" for key in known if key not in mapping)


def _task(value: Any, wanted: Task | None, problems: list[str]) -> Task | None:
    task = next((known for known in TASKS if known == value), None)
    if task is None:
        hint = suggestion(value, TASKS) if isinstance(value, str) else ""
        problems.append(f"task: must be {' or '.join(TASKS)}, got {_shown(value)}{hint}")
        return wanted
    if wanted is not None and task != wanted:
        problems.append(f"task: must be {wanted} as the data are, got {task}; use a space for {wanted} tasks")
    return task


def _learning_rate(nuisance: Any, problems: list[str]) -> Coordinate | None:
    if not isinstance(nuisance, dict):
        problems.append(f"nuisance: must be a mapping with lr, got {_shown(nuisance)}")
        return None
    _check_keys("nuisance.", nuisance, ("lr",), problems, required=True)
    if "lr" not in nuisance:
        return None
    return _coordinate("nuisance.lr", nuisance["lr"], LR_LIMITS, ("uniform", "log"), problems)


def _families(losses: Any, task: Task, problems: list[str]) -> list[FamilySpace]:
    if not isinstance(losses, dict) or not losses:
        problems.append(f"losses: must be a mapping with at least one family, got {_shown(losses)}")
        return []
    usable = [name for name, family in FAMILIES.items() if task in family.tasks]
    _check_keys("losses.", losses, usable, problems)
    return [_family(FAMILIES[name], losses[name], task, problems) for name in usable if name in losses]


def _family(family: Family, given: Any, task: Task, problems: list[str]) -> FamilySpace:
    path = f"losses.{family.name}"
    given = {} if given is None else given  # `dice:` without anything means `dice: {}`
    if not isinstance(given, dict):
        problems.append(f"{path}: must be a mapping of coordinates ({{}} for none), got {_shown(given)}")
        given = {}
    free = family.coordinates[task]
    coordinates: dict[str, Coordinate] = {}
    for name, value in given.items():
        if name not in free:
            takes = ", ".join(free) or "none"
            problems.append(
                f"{path}.{_key(name)}: not a coordinate of {family.name} for {task} tasks{suggestion(name, free)}; "
                f"it takes {takes}"
            )
            continue
        kinds = KINDS if name == "pos_weight" else ("uniform", "log")
        found = _coordinate(f"{path}.{name}", value, LIMITS[name], kinds, problems)
        if found is not None:
            coordinates[name] = found
    if "pos_weight" in free and free["pos_weight"].default is None and "pos_weight" not in given:
        problems.append(
            f"{path}.pos_weight: missing, and it has no default; add pos_weight: {{power_of_imbalance: [0, 1.1]}}"
        )
    _check_tversky(path, coordinates, "fp_weight" in given, problems)
    # In the registry's order: the order of a file must not change a study.
    return FamilySpace(family=family.name, coordinates={n: coordinates[n] for n in free if n in coordinates})


def _check_tversky(path: str, coordinates: Mapping[str, Coordinate], fp_given: bool, problems: list[str]) -> None:
    fn, fp = coordinates.get("fn_weight"), coordinates.get("fp_weight")
    if fn is not None and not fp_given and fn.high > 1:
        problems.append(
            f"{path}.fn_weight: must be at most 1 when fp_weight is left to 1 − fn_weight, got {fn.high:g}; "
            "lower it or add fp_weight"
        )
    if fn is not None and fp is not None and fn.low == 0 and fp.low == 0:
        problems.append(f"{path}: fn_weight and fp_weight must not both reach 0; raise the lower end of one")


def _number(value: Any) -> float | None:
    """A finite number, also where YAML 1.1 takes `3e-4` for text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _coordinate(
    path: str, value: Any, limits: Limits, kinds: tuple[CoordinateKind, ...], problems: list[str]
) -> Coordinate | None:
    """One range or fixed number."""
    if isinstance(value, dict):
        kind = next((known for known in kinds if known in value), None)
        if kind is not None and len(value) == 1:
            return _range(f"{path}.{kind}", kind, value[kind], limits, problems)
        names = [_key(name) for name in value]
        hint = suggestion(names[0], kinds) if len(names) == 1 else ""
        problems.append(
            f"{path}: must have exactly one of {', '.join(kinds)}, got {', '.join(names) or 'nothing'}{hint}"
        )
        return None
    number = _number(value)
    rule: str | None
    if number is None:
        forms = ", ".join(f"{{{kind}: [low, high]}}" for kind in kinds)
        rule = f"must be {forms} or a finite number"
    else:
        rule = limits.problem(number)
    if rule is None and number is not None:
        return Coordinate(kind="fixed", low=number, high=number)
    problems.append(f"{path}: {rule}, got {_shown(value)}")
    return None


def _range(path: str, kind: CoordinateKind, ends: Any, limits: Limits, problems: list[str]) -> Coordinate | None:
    """The range `kind: [low, high]`."""
    numbers = [_number(end) for end in ends] if isinstance(ends, list) else []
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        problems.append(f"{path}: must be [low, high], two finite numbers, got {_shown(ends)}")
        return None
    low, high = numbers[0], numbers[1]
    limits = POWER_LIMITS if kind == "power_of_imbalance" else limits
    rule = limits.problem(low) or limits.problem(high)
    if low >= high:
        rule = "low must be below high" + (" (for one value write the number alone)" if low == high else "")
    elif rule is None and kind == "log" and low <= 0:
        rule = "low must be above 0 for a logarithmic range"
    if rule is not None:
        problems.append(f"{path}: {rule}, got [{low:g}, {high:g}]")
        return None
    return Coordinate(kind=kind, low=low, high=high)
