"""The user's losses (`--loss module:function`), registered as families of a study. No torch at import."""

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
"""Registered user losses, by name."""
_ANY = ValueLimits(-math.inf, math.inf)


def register_user_losses(losses: Iterable[UserLoss]) -> None:
    """Register losses as families of this process; the last ones, so that they count as less simple than sweeper's."""
    for user_loss in losses:
        free = {
            name: LossCoordinate(
                search=None if coordinate.kind == "fixed" else coordinate,
                start=user_loss.starts[name],
                default=user_loss.starts[name],
                limits=_ANY,
                meaning="",
            )
            for name, coordinate in user_loss.coordinates.items()
        }
        OWN[user_loss.name] = user_loss
        FAMILIES[user_loss.name] = LossFamily(
            name=user_loss.name,
            title=f"Your own loss, {user_loss.code.name}",
            coordinates=dict.fromkeys(TASKS, free),
            helps="A loss of your own.",
            caveat="sweeper tried it; its tests do not cover it.",
            source=f"{user_loss.code.name}, SHA-256 of the source {user_loss.code.digest}",
            formula=user_loss.code.name,
        )


def make_call_arguments(
    user_loss: UserLoss, params: Mapping[str, Any], task: str, ignore_index: int, classes: int
) -> dict[str, Any]:
    """Return the arguments for the user's function."""
    available = {"task": task, "classes": classes, "ignore_index": ignore_index}
    return {**{name: available[name] for name in user_loss.takes}, **{n: v for n, v in params.items() if v is not None}}


def make_user_snippet(user_loss: UserLoss, params: Mapping[str, float], task: Task, classes: int) -> tuple[str, str]:
    """Return two lines of Python: the import of the loss, and its construction."""
    arguments = ", ".join(
        f"{name}={value!r}" for name, value in make_call_arguments(user_loss, params, task, IGNORE, classes).items()
    )
    return (
        f"from {user_loss.code.module} import {user_loss.code.function}",
        f"criterion = {user_loss.code.function}({arguments})",
    )


def build_own_loss(
    user_loss: UserLoss, params: Mapping[str, Any], *, task: str, ignore_index: int, classes: int
) -> nn.Module:
    """Build the user's loss as a module, called as `loss(logits, target)`; `classes` include the background.

    Raises:
        UsageError: if the loss cannot be imported or constructed.
    """
    from sweeper.core.errors import UsageError
    from sweeper.losses.own_loss_module import UserLossModule

    made = load_code(user_loss.code, OPTION)
    arguments = make_call_arguments(user_loss, params, task, ignore_index, classes)
    try:
        return UserLossModule(user_loss.name, made(**arguments))
    except Exception as error:
        shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise UsageError(
            f"{OPTION} {user_loss.code.name}({shown}) must give a loss, and failed: {format_error_line(error)}"
        ) from error
