"""Search-space files: YAML → SearchSpace, or every error with its key path.

A file contains the families to search, the range of each of their coordinates, and the range of the learning rate:

    version: 1
    task: binary
    nuisance: {lr: {log: [1.0e-4, 1.0e-2]}}
    losses:
      dice: {}
      focal: {gamma: {uniform: [0, 5]}, alpha: 0.25}
      weighted_ce: {pos_weight: {power_of_imbalance: [0, 1.1]}}

A range is `{uniform: [low, high]}`, `{log: [low, high]}`, `{power_of_imbalance: [low, high]}` (only pos_weight and
prior_odds), or a plain number for a fixed value.

In place of a file losses can be named, `dice_ce,tversky:fn_weight=0.7`: each has the given parameters and else its
defaults, and only the learning rate is searched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field, ValidationError

from sweeper.core.base import Record
from sweeper.core.errors import LossError, SpaceError
from sweeper.core.paths import search_spaces_dir
from sweeper.core.records import Coordinate, CoordinateKind, FamilySpace, SearchSpace, Task
from sweeper.core.text import suggest_correction
from sweeper.core.yaml_file import format_key, format_value, read_yaml
from sweeper.losses.coordinates import check_coordinates, check_tversky_weights
from sweeper.losses.families import FAMILIES, LossCoordinate, is_own_loss, parse_loss
from sweeper.losses.family_records import POWER_LIMITS, ValueLimits
from sweeper.losses.own_losses import OWN

if TYPE_CHECKING:
    import optuna


LR_LIMITS = ValueLimits(0, 10, open_low=True)


class _LearningRate(Record):
    lr: Any


class SpaceFile(Record):
    """A file of a search space, whose losses and ranges are not checked yet."""

    version: Literal[1]
    task: Task
    nuisance: _LearningRate
    losses: dict[str, dict[str, Any] | None] = Field(min_length=1)
    """An empty `dice:` means `dice: {}`; `module:function` is the user's loss."""


def list_shipped_spaces() -> dict[str, Path]:
    """Return the files of the shipped spaces by name; the default space of a task has its name."""
    return {path.stem: path for path in sorted(search_spaces_dir().glob("*.yaml"))}


def read_space_file(name_or_path: str) -> SpaceFile:
    """Read a search space: a shipped one by its name, else a YAML file of at most 1 MiB by its path.

    Raises:
        SpaceError: if there is none, or with every error of its form, each beginning with its key path.
    """
    problems: list[str] = []
    shipped = list_shipped_spaces()
    path = shipped.get(name_or_path, Path(name_or_path))
    if not path.is_file():
        wanted = f"must be a shipped space ({', '.join(shipped)}), a YAML file or losses, got {name_or_path!r}"
        raise SpaceError(name_or_path, [f"{wanted}{suggest_correction(name_or_path, [*shipped, *FAMILIES])}"])
    content = read_yaml(path, problems)
    if not problems:
        try:
            return SpaceFile.model_validate(content)
        except ValidationError as error:
            for one in error.errors(include_url=False):
                place = ".".join(format_key(str(key)) for key in one["loc"]) or "(top)"
                problems.append(f"{place}: {one['msg']}, got {format_value(one['input'])}")
    raise SpaceError(name_or_path, problems)


def list_named_losses(text: str) -> tuple[str, ...]:
    """Return the losses of `dice_ce,tversky:fn_weight=0.7`; () for the name of a shipped space or a file."""
    words = tuple(filter(None, (word.strip() for word in text.split(","))))
    is_loss = text.partition(":")[0] in FAMILIES or is_own_loss(text)
    is_list = len(words) > 1 or is_loss
    if not is_list or Path(text).is_file():
        return ()
    return words


def fill_parameters(name: str, given: Mapping[str, float], task: Task, imbalance: float) -> dict[str, float]:
    """Return all parameters of a loss: the given ones, else those of its first trial on data of this imbalance.

    Raises:
        LossError: if there is no such loss for the task, or a parameter is not its own.
    """
    space, starts = load_full_space(task), OWN[name].starts if name in OWN else {}
    if name in space.by_name:
        starts = make_default_choice(space.by_name[name], space, imbalance).params
    params = {**starts, **given}
    check_coordinates(name, task, params, (1.0, 1.0))
    return params


def load_named_losses(words: Sequence[str], task: Task, imbalance: float) -> SearchSpace:
    """Return the space of these losses, with the given parameters and else their defaults: only the rate is searched.

    The user's losses must be registered.

    Raises:
        SpaceError: with every error, and each loss that is there twice.
    """
    families, problems = dict[str, FamilySpace](), list[str]()
    for word in words:
        try:
            name, given = parse_loss(word)
            params = fill_parameters(name, given, task, imbalance)
        except LossError as error:
            problems.append(f"{word}: {error}")
            continue
        if name in families:
            problems.append(f"{word}: {name} is there twice, and a study has each loss once; begin another for it")
        fixed = {key: Coordinate(kind="fixed", low=value, high=value) for key, value in params.items()}
        families[name] = FamilySpace(family=name, coordinates=fixed)
    SpaceError.refuse("the named losses", problems)
    known = sorted(families.values(), key=lambda one: list(FAMILIES).index(one.family))
    return SearchSpace(name="named", task=task, lr=load_full_space(task).lr, families=tuple(known))


def load_space(name_or_path: str, task: Task | None = None) -> SearchSpace:
    """Read and check the file of a search space; its families are in the registry's order, not the file's.

    `task` is the data's, which the file's must equal; None = accept the file's. The user's losses are registered.

    Raises:
        SpaceError: with every error, each beginning with its key path.
    """
    file = read_space_file(name_or_path)
    problems: list[str] = []
    if task not in (None, file.task):
        problems.append(f"task: must be {task} as the data are, got {file.task}; use a space for {task} tasks")
    own = {name: loss.code.name for name, loss in OWN.items()}
    usable = {own.get(name, name): name for name, family in FAMILIES.items() if file.task in family.tasks}
    for key in sorted(file.losses.keys() - usable.keys()):
        problems.append(f"losses.{format_key(key)}: no loss for this task{suggest_correction(key, usable)}")
    lr = _read_into(problems, "nuisance.lr", file.nuisance.lr, LR_LIMITS, ("uniform", "log"))
    # In the registry's order: the file's order must not change a study.
    families = [_read_family(key, usable[key], file, problems) for key in usable if key in file.losses]
    SpaceError.refuse(name_or_path, problems)
    return SearchSpace(name=Path(name_or_path).stem, task=file.task, lr=lr, families=tuple(families))


def load_full_space(task: Task) -> SearchSpace:
    """Load the shipped space with all losses of a task."""
    return load_space({"binary": "full"}.get(task, f"full_{task}"))


def _read_family(key: str, name: str, file: SpaceFile, problems: list[str]) -> FamilySpace:
    path, content, task = f"losses.{format_key(key)}", file.losses[key] or {}, file.task
    free = FAMILIES[name].coordinates[task]
    for other in sorted(content.keys() - free.keys()):
        takes = f"{suggest_correction(other, free)}; it takes {', '.join(free) or 'none'}"
        problems.append(f"{path}.{format_key(other)}: not a hyper-parameter of {name} for {task} tasks{takes}")
    coordinates = {
        key: _read_into(problems, f"{path}.{key}", content[key], one.limits, _list_kinds(one))
        for key, one in free.items()
        if key in content
    }
    needed = [key for key, one in free.items() if one.default is None and not one.optional]
    problems += [
        f"{path}.{key}: missing, and it has no default; add {key}: {{power_of_imbalance: [0, 1.1]}}"
        for key in needed
        if key not in content
    ]
    by_role = FAMILIES[name].map_roles(task, coordinates)
    ends = [[getattr(by_role.get(role), end, None) for end in ("low", "high")] for role in ("fn_weight", "fp_weight")]
    for fn_weight, fp_weight in {*zip(*ends, strict=True)}:
        try:
            check_tversky_weights(fn_weight, fp_weight)
        except LossError as error:
            problems.append(f"{path}: {error}")
    return FamilySpace(family=name, coordinates=coordinates)


def _list_kinds(free: LossCoordinate) -> tuple[CoordinateKind, ...]:
    is_power = free.search is not None and free.search.kind == "power_of_imbalance"
    return ("uniform", "log", "power_of_imbalance") if is_power else ("uniform", "log")


def _read_into(
    problems: list[str], path: str, value: Any, limits: ValueLimits, kinds: tuple[CoordinateKind, ...]
) -> Coordinate:
    """Read a coordinate; with a problem, which is added to `problems`, return one without a meaning."""
    try:
        return read_coordinate(value, limits, kinds)
    except ValueError as error:
        problems.append(f"{path}: {error}")
        return Coordinate(kind="fixed", low=1, high=1)


def read_coordinate(value: Any, limits: ValueLimits, kinds: tuple[CoordinateKind, ...]) -> Coordinate:
    """Read a range or fixed number, from a space file or a loss's declaration.

    Raises:
        ValueError: with the rule and the value found.
    """
    try:
        ((kind, ends),) = value.items() if isinstance(value, dict) else [("fixed", (value, value))]
        low, high = (float(str(end)) for end in ends)  # YAML 1.1 takes 3e-4 for text; the text of true is no number
    except (TypeError, ValueError):
        kind, low, high = "", 0.0, 0.0
    within, rule = POWER_LIMITS if kind == "power_of_imbalance" else limits, ""
    if kind not in ("fixed", *kinds):
        rule = f"must be a number or one of {', '.join(f'{{{kind}: [low, high]}}' for kind in kinds)}"
    elif not (within.is_allowed(low) and within.is_allowed(high)):
        rule = f"must be {within.text}"
    elif (low < high) == (kind == "fixed"):
        rule = "low must be below high"
    elif kind == "log" and low <= 0:
        rule = "low must be above 0 for a logarithmic range"
    if rule:
        raise ValueError(f"{rule}, got {format_value(value)}")
    return Coordinate(kind=cast(CoordinateKind, kind), low=low, high=high)


FLOOR = 3
"""Least number of trials of every family, unless its equal share is less."""


class TrialChoice(Record):
    """Configuration of one trial."""

    family: str
    params: dict[str, float]
    """Coordinates for `build_loss`; pos_weight is the weight itself, not an exponent."""
    lr: float


def suggest_choice(trial: optuna.trial.BaseTrial, space: SearchSpace, imbalance: float) -> TrialChoice:
    """Let a trial choose family and coordinates, at the middle of the learning rates.

    `imbalance` is the base of `power_of_imbalance`: background / foreground pixels of the training split, finite and
    above 0.
    """
    family = space.by_name[trial.suggest_categorical("loss", list(space.by_name))]
    free = FAMILIES[family.family].coordinates[space.task]
    params: dict[str, float] = {}
    for name, coordinate in family.coordinates.items():
        value = _ask_coordinate(trial, get_parameter_name(family.family, name, coordinate), coordinate)
        if coordinate.kind == "power_of_imbalance":
            value = min(imbalance**value, free[name].limits.high)
        params[name] = value
    return TrialChoice(family=family.family, params=params, lr=get_middle_rate(space.lr))


def get_middle_rate(searched: Coordinate) -> float:
    """Return the middle of a range of learning rates, on the logarithm."""
    return searched.clip(math.sqrt(searched.low * searched.high))


def get_parameter_name(family: str, name: str, coordinate: Coordinate) -> str:
    """Return Optuna's name of a coordinate: `focal.gamma`, or `weighted_ce.pos_weight_power` for an exponent."""
    return f"{family}.{name}_power" if coordinate.kind == "power_of_imbalance" else f"{family}.{name}"


def _ask_coordinate(trial: optuna.trial.BaseTrial, name: str, coordinate: Coordinate) -> float:
    if coordinate.kind == "fixed":
        return coordinate.low
    return trial.suggest_float(name, coordinate.low, coordinate.high, log=coordinate.kind == "log")


def count_floor_trials(space: SearchSpace, trials: int) -> int:
    """Return the number of trials of each family before the sampler may choose: min(3, trials // families)."""
    return min(FLOOR, trials // len(space.families))


def get_default_params(family: FamilySpace, space: SearchSpace) -> dict[str, Any]:
    """Return the parameters of a family's first trial, by Optuna's names.

    They are those that the present loss is used with, else the literature's defaults, clipped into the space, and the
    middle of the range for coordinates without a default.
    """
    entry: dict[str, Any] = {"loss": family.family}
    free = FAMILIES[family.family].coordinates[space.task]
    for name, coordinate in family.coordinates.items():
        start = _get_literature_start(free[name], coordinate)
        if coordinate.kind == "fixed":
            continue
        start = coordinate.middle if start is None else coordinate.clip(start)
        entry[get_parameter_name(family.family, name, coordinate)] = start
    return entry | space.present.params if family.family == space.present.family else entry


def list_first_trials(space: SearchSpace) -> dict[str, list[dict[str, Any]]]:
    """Return the parameters of each family's first trials, by Optuna's names, in the families' starting order.

    A family begins with the best configuration on similar data, the first of the space's `starts`, then come its
    defaults, then its other starts. The present loss begins with the parameters that it is used with.
    """
    families = space.by_name
    starts = [start for start in space.starts if start.family in families]
    order = dict.fromkeys([*(start.family for start in starts), *families])
    by_family = dict[str, list[dict[str, Any]]]()
    for name in order:
        defaults = get_default_params(families[name], space)
        advised = [{**defaults, **start.params} for start in starts if start.family == name]
        is_present = name == space.present.family
        every = [defaults, *advised] if is_present else [*advised[:1], defaults, *advised[1:]]
        by_family[name] = [params for at, params in enumerate(every) if params not in every[:at]]
    return by_family


def _get_literature_start(free: LossCoordinate, coordinate: Coordinate) -> float | None:
    """Return the literature default on the searched scale; None if it depends on the data."""
    declared_as_power = free.search is not None and free.search.kind == "power_of_imbalance"
    if declared_as_power == (coordinate.kind == "power_of_imbalance"):
        return free.start
    return free.default


def make_default_choice(family: FamilySpace, space: SearchSpace, imbalance: float) -> TrialChoice:
    """Return the configuration of a family's defaults; `imbalance` as in `suggest_choice`."""
    import optuna

    return suggest_choice(optuna.trial.FixedTrial(get_default_params(family, space)), space, imbalance)


def find_range_edge(lr: float, space: SearchSpace) -> Literal["low", "high"] | None:
    """Return at which end of the searched range a learning rate is (outer 5 % on the log scale); None = inside."""
    low, high = space.lr.low, space.lr.high
    if not 0 < low < high:
        return None
    place = math.log(lr / low) / math.log(high / low)
    if place < 0.05:
        return "low"
    return "high" if place > 0.95 else None
