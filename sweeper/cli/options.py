"""Options and value checks that several commands share."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from click.core import ParameterSource

from sweeper.cli.replaced import refuse_replaced, refuse_replaced_variables
from sweeper.core.paths import expand_user
from sweeper.core.redact import hide_command_secrets
from sweeper.workflow.settings import parse_duration

_EMPTY_OPTION = re.compile(r"(--[\w-]+)=")


QUOTED_PATTERNS = "Patterns stand in quotes, --images 'img/*.jpg': else the shell writes the files' names out."


MISSING_MESSAGES = {"study": "STUDY is needed", "study_and_images": "STUDY and IMAGES are needed"}
"""Message for a missing argument that names a study, by the argument's name."""


class SweeperCommand(click.Command):
    """A command that refuses empty values, and options that it had before.

    An empty value is a mistake, such as an unset variable in a script: `--study "$NAME"` would otherwise mean the
    default.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.context_settings["auto_envvar_prefix"] = "SWEEPER"  # SWEEPER_STORAGE serves every command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse empty values of the command line and of the `SWEEPER_*` variables that it does not override.

        Raises:
            click.UsageError: with all of them.
            UsageError: if an option was replaced, with what to use now.
        """
        refuse_replaced_variables(ctx)
        hide_command_secrets(shlex.join(args))  # remembers them
        problems = list(_find_empty_arguments(args))
        patterns = {"--images", "--masks"} & {*args}
        try:
            rest = super().parse_args(ctx, args)
        except click.BadParameter as error:
            name = error.param.name if error.param is not None else None
            if isinstance(error, click.MissingParameter) and name in MISSING_MESSAGES:
                raise click.UsageError(f"{MISSING_MESSAGES[name]}{_list_newest_studies(ctx)}", ctx) from error
            raise
        except click.NoSuchOption as error:
            refuse_replaced(f"{self.name} {error.option_name}")
            refuse_replaced(error.option_name)
            raise
        except click.UsageError as error:
            if error.message.startswith("Got unexpected extra argument") and patterns:
                raise click.UsageError(f"{error.message} {QUOTED_PATTERNS}", ctx) from error
            raise
        problems += _find_empty_variables(ctx)
        if problems:
            raise click.UsageError(
                "\n".join(["a value must not be empty:", *(f"  - {text}" for text in problems)]), ctx
            )
        return rest


def _list_newest_studies(ctx: click.Context) -> str:
    """List the newest studies for a command that lacks its study, if that needs no server."""
    from sweeper.core.errors import SweeperError
    from sweeper.core.paths import STORAGE
    from sweeper.storage import list_study_names, open_storage
    from sweeper.system.locks import get_sqlite_path

    url = ctx.params.get("storage") or os.environ.get("SWEEPER_STORAGE", STORAGE)
    if get_sqlite_path(url) is None:
        return "; `sweeper studies` lists them"
    try:
        names = list_study_names(open_storage(url, create=False))
    except SweeperError as error:
        return f"; {error}"
    return f"; the newest are: {', '.join(names[-5:])}" if names else ", and there is none yet; `sweeper run` makes one"


def _find_empty_arguments(args: list[str]) -> Iterator[str]:
    for before, arg in zip(["", *args], args, strict=False):
        if match := _EMPTY_OPTION.fullmatch(arg):
            yield f"{match[1]}, got '{arg}'; give a value, or leave the option out"
        elif not arg:
            name = before if before.startswith("-") else "an argument"
            yield f"{name}, got ''; give a value, or leave it out"


def _find_empty_variables(ctx: click.Context) -> Iterator[str]:
    for param in ctx.command.get_params(ctx):
        if not param.name or ctx.get_parameter_source(param.name) is not ParameterSource.DEFAULT:
            continue
        variable = f"{ctx.auto_envvar_prefix}_{param.name.upper()}"
        if os.environ.get(variable) == "":
            yield f"the variable {variable}, got ''; give it a value, or unset it"


class ParsedText(click.ParamType[Any]):
    """Value parsed from a text by `read`, whose error begins with `must be`."""

    def __init__(self, name: str, read: Callable[[str], object]) -> None:
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what `read` refuses."""
        try:
            return self._read(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class FiniteNumber(click.FloatRange):
    """A number in a range, except nan, which click accepts in any range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse any other value."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number


class HomePath(click.Path):
    """Path in which `~` is replaced, which no shell does after `--out=`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Replace `~`, then check the path."""
        return super().convert(expand_user(str(value)), param, ctx)


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def add_time_limit_option(default: str, what: str) -> Decorator:
    """Return the option `--time-limit`, in seconds."""
    return click.option(
        "--time-limit",
        type=ParsedText("DURATION", parse_duration),
        help=f"Longest time of one {what} (5400, 90m, 1h30m).  [default: {default}]",
    )


def add_json_option() -> Decorator:
    """Return the option `--json`, with its environment variable."""
    return click.option("--json", "as_json", envvar="SWEEPER_JSON", is_flag=True, help="Print only one JSON document.")


CLAIM_CODES = {"holds": 0, "not_shown": 4, "contradicted": 5}
"""Exit statuses of `--claim`."""


def format_columns(rows: Sequence[Sequence[str]]) -> str:
    """Format rows of cells as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
