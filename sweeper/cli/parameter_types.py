"""What click is told of an option's value, where its own types say too little."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, get_args

import click

from sweeper.core.recipe import Precision
from sweeper.workflow.settings import MOST_STEPS


class Fraction(click.FloatRange):
    """A number from 0 to 1. click's own range lets `nan` pass, which no comparison refuses."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuse what is not a number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not in the range 0<=x<=1.", param, ctx)
        return number


class Workers(click.ParamType[Any]):
    """`auto` or a whole number ≥ 1."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Turn `auto` into None."""
        if value is None or value == "auto":
            return None
        if not re.fullmatch("[0-9]{1,4}", str(value)) or int(value) < 1:
            self.fail(f"must be auto or a whole number from 1 to 9999, got {value!r}", param, ctx)
        return int(value)


class Slots(Workers):
    """The same, with `auto` kept."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Keep `auto` as it is."""
        return value if value == "auto" else super().convert(value, param, ctx)


class Precisions(click.Choice[str]):
    """`auto` or a precision."""

    def __init__(self) -> None:
        super().__init__(["auto", *get_args(Precision)])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn `auto` into None."""
        found = super().convert(value, param, ctx)
        return None if found == "auto" else found


class Parsed(click.ParamType[Any]):
    """A text that `read` accepts, passed on as it is; its complaint begins with `must be`."""

    def __init__(self, name: str, read: Callable[[str], object]) -> None:
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what `read` refuses."""
        try:
            self._read(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class Steps(click.ParamType[Any]):
    """`auto` or a whole number ≥ 4."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Keep `auto` as it is."""
        if value == "auto":
            return "auto"
        if not re.fullmatch("[0-9]{1,10}", str(value)) or not 4 <= int(value) <= MOST_STEPS:
            self.fail(f"must be auto or a whole number from 4 to {MOST_STEPS}, got {value!r}", param, ctx)
        return int(value)


class MetricName(click.Choice[str]):
    """The name of a metric, or `module:function` for one of the user's."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Leave `module:function` as it is."""
        return str(value) if ":" in str(value) else super().convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """Both forms."""
        return f"[{'|'.join(map(str, self.choices))}|MODULE:FUNCTION]"
