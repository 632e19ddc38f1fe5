"""Losses of the user's (`--loss module:function`): families once a study names them. No torch at first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sweeper.core.own_code import error_line, load_code
from sweeper.core.records import IGNORE, OwnLoss, Task
from sweeper.losses.families import FAMILIES
from sweeper.losses.family_records import TASKS, Family, Limits, LossCoordinate

if TYPE_CHECKING:
    from torch import nn

OPTION = "--loss"
OWN: dict[str, OwnLoss] = {}
"""Those that are registered, by name."""
_ANY = Limits(-math.inf, math.inf)


def register(losses: Iterable[OwnLoss]) -> None:
    """Make losses families of this process, after all others: each is taken for less simple than any of sweeper's."""
    for own in losses:
        free = {
            name: LossCoordinate(
                search=None if coordinate.kind == "fixed" else coordinate,
                start=own.starts[name],
                default=own.starts[name],
                limits=_ANY,
                meaning="a hyper-parameter of your own loss",
            )
            for name, coordinate in own.coordinates.items()
        }
        OWN[own.name] = own
        FAMILIES[own.name] = Family(
            name=own.name,
            title=f"Your own loss, {own.code.name}",
            fixed={},
            coordinates=dict.fromkeys(TASKS, free),
            helps="A loss of your own.",
            caveat="sweeper tried it; its tests do not cover it.",
            source=f"{own.code.name}, SHA-256 of the source {own.code.digest}",
            formula=own.code.name,
            relative=True,
        )


def arguments(own: OwnLoss, params: Mapping[str, Any], task: str, ignore_index: int, classes: int) -> dict[str, Any]:
    """What the user's function is called with."""
    known = {"task": task, "classes": classes, "ignore_index": ignore_index}
    return {**{name: known[name] for name in own.takes}, **{n: v for n, v in params.items() if v is not None}}


def own_snippet(own: OwnLoss, params: Mapping[str, float], task: Task, classes: int) -> tuple[str, str]:
    """Python text that imports the loss, and that which makes it."""
    given = ", ".join(f"{name}={value!r}" for name, value in arguments(own, params, task, IGNORE, classes).items())
    return f"from {own.code.module} import {own.code.function}", f"criterion = {own.code.function}({given})"


def build_own_loss(own: OwnLoss, params: Mapping[str, Any], *, task: str, ignore_index: int, classes: int) -> nn.Module:
    """The user's loss as a module, called as `loss(logits, target)`.

    Args:
        own: which.
        params: its hyper-parameters.
        task: binary or multiclass.
        ignore_index: label of pixels that do not count.
        classes: of the data, the background among them.

    Raises:
        UsageError: if it cannot be imported or made.
    """
    from sweeper.core.errors import UsageError
    from sweeper.losses.own_loss_module import OwnLossModule

    made = load_code(own.code, OPTION)
    given = arguments(own, params, task, ignore_index, classes)
    try:
        loss = made(**given)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        shown = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise UsageError(
            f"{OPTION} {own.code.name}({shown}) must give a loss, and failed: {error_line(error)}"
        ) from error
    if not callable(loss):
        raise UsageError(
            f"{OPTION} {own.code.name} must give what can be called as loss(logits, target), got {type(loss).__name__}"
        )
    return OwnLossModule(own.name, loss)
