"""Losses of the user's (`--loss module:function`): families once a study names them. No torch at first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sweeper.core.own_code import format_error_line, load_code
from sweeper.core.records import IGNORE, Task, UserLoss
from sweeper.losses.families import FAMILIES
from sweeper.losses.family_records import TASKS, LossCoordinate, LossFamily, ValueLimits

if TYPE_CHECKING:
    from torch import nn

OPTION = "--loss"
OWN: dict[str, UserLoss] = {}
"""Those that are registered, by name."""
_ANY = ValueLimits(-math.inf, math.inf)


def register_user_losses(losses: Iterable[UserLoss]) -> None:
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
        FAMILIES[own.name] = LossFamily(
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


def make_call_arguments(
    own: UserLoss, params: Mapping[str, Any], task: str, ignore_index: int, classes: int
) -> dict[str, Any]:
    """What the user's function is called with."""
    known = {"task": task, "classes": classes, "ignore_index": ignore_index}
    return {**{name: known[name] for name in own.takes}, **{n: v for n, v in params.items() if v is not None}}


def make_user_snippet(own: UserLoss, params: Mapping[str, float], task: Task, classes: int) -> tuple[str, str]:
    """Python text that imports the loss, and that which makes it."""
    given = ", ".join(
        f"{name}={value!r}" for name, value in make_call_arguments(own, params, task, IGNORE, classes).items()
    )
    return f"from {own.code.module} import {own.code.function}", f"criterion = {own.code.function}({given})"


def build_own_loss(
    own: UserLoss, params: Mapping[str, Any], *, task: str, ignore_index: int, classes: int
) -> nn.Module:
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
    from sweeper.losses.own_loss_module import UserLossModule

    made = load_code(own.code, OPTION)
    given = make_call_arguments(own, params, task, ignore_index, classes)
    try:
        loss = made(**given)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        shown = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise UsageError(
            f"{OPTION} {own.code.name}({shown}) must give a loss, and failed: {format_error_line(error)}"
        ) from error
    if not callable(loss):
        raise UsageError(
            f"{OPTION} {own.code.name} must give what can be called as loss(logits, target), got {type(loss).__name__}"
        )
    return UserLossModule(own.name, loss)
