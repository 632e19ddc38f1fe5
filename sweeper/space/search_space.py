"""Parameters that Optuna suggests from a search space.

They are `loss`, `FAMILY.coordinate` and `FAMILY.lr`, because names shared by families would mix their values.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from sweeper.core.base import Record
from sweeper.core.records import Coordinate, FamilySpace, SearchSpace
from sweeper.losses.families import FAMILIES, LossCoordinate

if TYPE_CHECKING:
    import optuna

FLOOR = 3
"""Least number of trials of every family, unless its equal share is less."""


class TrialChoice(Record):
    """Configuration of one trial."""

    family: str
    params: dict[str, float]
    """Coordinates for `build_loss`; pos_weight is the weight itself, not an exponent."""
    lr: float


def suggest_choice(trial: optuna.trial.BaseTrial, space: SearchSpace, imbalance: float) -> TrialChoice:
    """Let a trial choose family, coordinates and learning rate.

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
    return TrialChoice(family=family.family, params=params, lr=_ask_coordinate(trial, f"{family.family}.lr", space.lr))


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

    They are the literature's defaults, clipped into the space, the middle of the range for coordinates without a
    default, and the geometric middle for the learning rate.
    """
    entry: dict[str, Any] = {"loss": family.family}
    free = FAMILIES[family.family].coordinates[space.task]
    for name, coordinate in family.coordinates.items():
        start = _get_literature_start(free[name], coordinate)
        if coordinate.kind == "fixed":
            continue
        start = coordinate.middle if start is None else coordinate.clip(start)
        entry[get_parameter_name(family.family, name, coordinate)] = start
    if space.lr.kind != "fixed":
        entry[f"{family.family}.lr"] = space.lr.clip(math.sqrt(space.lr.low * space.lr.high))
    return entry


def list_first_trials(space: SearchSpace) -> dict[str, list[dict[str, Any]]]:
    """Return the parameters of each family's first trials, by Optuna's names, in the families' starting order.

    A family's defaults come first, then the space's `starts`, whose learning rates the search chooses.
    """
    families = space.by_name
    starts = [start for start in space.starts if start.family in families]
    order = dict.fromkeys([*(start.family for start in starts), *families])
    by_family: dict[str, list[dict[str, Any]]] = {name: [get_default_params(families[name], space)] for name in order}
    for start in starts:
        params = {"loss": start.family, **start.params}
        if not any(params.items() <= earlier.items() for earlier in by_family[start.family]):
            by_family[start.family].append(params)
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
    return "low" if place < 0.05 else "high" if place > 0.95 else None
