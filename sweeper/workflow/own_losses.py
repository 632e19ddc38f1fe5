"""The user's loss, as its code declares it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

from sweeper.core.errors import UsageError
from sweeper.core.own_code import UserCode, find_code, load_code
from sweeper.core.records import Coordinate, FamilySpace, SearchSpace, UserLoss
from sweeper.losses.families import FAMILIES
from sweeper.losses.family_records import ValueLimits
from sweeper.losses.own_losses import OPTION, OWN, register_user_losses
from sweeper.space.space_file import read_coordinate

OFFERED_ARGUMENTS = ("task", "classes", "ignore_index")
"""Arguments that a loss may request by name, in addition to its hyper-parameters."""


def declare_loss(name: str) -> UserLoss:
    """Return the loss `module:function` with its hyper-parameters, and register it as a family.

    Raises:
        UsageError: with all errors of its declaration.
    """
    loss = read_declaration(find_code(name, OPTION))
    register_user_losses([loss])
    return loss


def add_user_losses(space: SearchSpace, losses: tuple[UserLoss, ...]) -> SearchSpace:
    """Return the space with these losses, each in its declared ranges where the space gives no other."""
    ranges = {family.family: family.coordinates for family in space.families}
    ranges |= {loss.name: {**loss.coordinates, **ranges.get(loss.name, {})} for loss in losses}
    families = tuple(FamilySpace(family=name, coordinates=ranges[name]) for name in ranges)
    return space.model_copy(update={"families": families})


@lru_cache(maxsize=8)
def read_declaration(code: UserCode) -> UserLoss:
    """Read the declaration of a function or class: its `search` table, and the defaults of its arguments.

    Raises:
        UsageError: with all errors.
    """
    made = load_code(code, OPTION)
    problems: list[str] = []
    if code.function in FAMILIES and code.function not in OWN:
        problems.append(f"{code.function} is the name of a loss of sweeper's; give it another one")
    is_maker = inspect.isclass(made) or inspect.isroutine(made)
    if not is_maker and not isinstance(made, partial):
        problems.append(f"it must make a loss, found one that is made ({type(made).__name__}); name its class")
    parameters = inspect.signature(made).parameters
    table = getattr(made, "search", {})
    if not isinstance(table, Mapping):
        problems.append(f"search: must be a dict of hyper-parameter: range, got {type(table).__name__}")
        table = {}
    coordinates: dict[str, Coordinate] = {}
    starts: dict[str, float] = {}
    for name, ends_or_value in table.items():
        if name not in parameters or name in OFFERED_ARGUMENTS:
            problems.append(f"search.{name}: must be an argument of {code.function}; it takes {', '.join(parameters)}")
            continue
        ends = {"uniform": list(ends_or_value)} if isinstance(ends_or_value, tuple | list) else ends_or_value
        try:
            coordinates[name] = read_coordinate(ends, ValueLimits(-math.inf, math.inf), ("uniform", "log"))
            starts[name] = _choose_first_value(coordinates[name], parameters[name].default)
        except ValueError as error:
            problems.append(f"search.{name}: {error}")
    unknown = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    named = [one for one in parameters.values() if one.kind not in unknown]
    needed = [one.name for one in named if one.default is one.empty]
    open_ones = [name for name in needed if name not in {*table, *OFFERED_ARGUMENTS}]
    if inspect.isfunction(made) and len(open_ones) == len(("logits", "target")):
        problems.append(
            f"it must make a loss, and seems to be one that takes {' and '.join(open_ones)}; name a function that "
            f"returns it: `def make(): return {code.function}`"
        )
    else:
        problems += [
            f"{name}: must have a default or a range in `search`, as nothing is given for it" for name in open_ones
        ]
    if problems:
        raise UsageError(
            "\n".join([f"{OPTION} {code.name} is not declared as it must be:", *(f"  - {text}" for text in problems)])
        )
    return UserLoss(
        code=code,
        takes=tuple(name for name in OFFERED_ARGUMENTS if name in parameters),
        coordinates=coordinates,
        starts=starts,
    )


def _choose_first_value(coordinate: Coordinate, default: Any) -> float:
    """Return the first trial's value: the argument's default, else the middle of the range.

    Raises:
        ValueError: if the default is no number in the range.
    """
    if default is inspect.Parameter.empty or coordinate.kind == "fixed":
        return coordinate.middle
    if not (isinstance(default, int | float) and coordinate.low <= default <= coordinate.high):
        raise ValueError(f"the argument's default must be a number in the range, got {default!r}")
    return float(default)
