"""What click is told of an option's value, where its own types say too little."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import click


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


class IntOrAuto(click.ParamType[Any]):
    """`auto` or a whole number from `least` to `most`; `auto` becomes None."""

    name = "auto|N"

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Refuse what is neither."""
        if value is None or value == "auto":
            return None
        if not re.fullmatch("[0-9]{1,10}", str(value)) or not self._least <= int(value) <= self._most:
            self.fail(f"must be auto or a whole number from {self._least} to {self._most}, got {value!r}", param, ctx)
        return int(value)


class Choice(click.Choice[str]):
    """One of some names; with `auto`, that too, which becomes None."""

    def __init__(self, names: Sequence[str], *, auto: bool) -> None:
        self._auto = auto
        super().__init__(["auto", *names] if auto else list(names))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what is none of them."""
        found = super().convert(value, param, ctx)
        return None if self._auto and found == "auto" else found


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


class MetricName(click.Choice[str]):
    """The name of a metric, or `module:function` for one of the user's."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Leave `module:function` as it is."""
        return str(value) if ":" in str(value) else super().convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """Both forms."""
        return f"[{'|'.join(map(str, self.choices))}|MODULE:FUNCTION]"
