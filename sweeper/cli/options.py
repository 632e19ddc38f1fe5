"""Options and value checks that several commands share."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import click
from click.core import ParameterSource

from sweeper.cli.slips import explain_option, explain_refusal, explain_value
from sweeper.core.errors import MissingStudyError, UsageError
from sweeper.core.paths import STORAGE, expand_user
from sweeper.core.redact import hide_command_secrets

_EMPTY_OPTION = re.compile(r"--[\w-]+=")


class SweeperCommand(click.Command):
    """A command that refuses empty values, and explains what it refuses.

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
        """
        hide_command_secrets(shlex.join(args))  # remembers them
        given = [str(ctx.info_name), *args]
        ctx.meta["given"] = given
        try:
            rest = super().parse_args(ctx, [*args])
        except click.NoSuchOption as error:
            word = next((word for word in args if word.startswith(error.option_name)), error.option_name)
            word = word.partition("=")[0]
            raise click.UsageError(f"no such option, {word}{explain_option(word, self)}", ctx) from error
        except click.UsageError as error:
            text = error.format_message().removesuffix(".") + explain_value(error, given)
            if text.startswith(("Missing argument 'STUDY", "Missing argument '[STUDY]")):
                text += "; `sweeper studies` lists the studies"
            raise click.UsageError(text, ctx) from error
        empty = [shlex.join(words) for words in pairwise(given) if not words[1]]
        empty += [word for word in given if _EMPTY_OPTION.fullmatch(word)]
        empty += [f"{name}=" for name in _list_variables(ctx) if os.environ.get(name) == ""]
        if empty:
            raise click.UsageError(f"a value must not be empty, got {', '.join(empty)}; give it, or leave it out", ctx)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command; where it refuses a word that has a meaning elsewhere, add the command with it."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            refused = ctx.params.get("study") if isinstance(error, MissingStudyError) else error.refused
            explain_refusal(error, refused, ctx.meta["given"], ctx.params.get("storage", STORAGE))
            raise


def _list_variables(ctx: click.Context) -> list[str]:
    """List the variables of the parameters that are not given."""
    names = [str(param.name) for param in ctx.command.get_params(ctx)]
    missing = [name for name in names if ctx.get_parameter_source(name) is ParameterSource.DEFAULT]
    return [f"{ctx.auto_envvar_prefix}_{name.upper()}" for name in missing]


class HomePath(click.Path):
    """Path in which `~` is replaced, which no shell does after `--out=`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Replace `~`, then check the path."""
        return super().convert(expand_user(str(value)), param, ctx)


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def add_json_option() -> Decorator:
    """Return the option `--json`, with its environment variable."""
    return click.option("--json", "as_json", envvar="SWEEPER_JSON", is_flag=True, help="Print only one JSON document.")


CLAIM_STATUS = {"CLAIM_HOLDS": 0, "CLAIM_NOT_SHOWN": 4, "CLAIM_UNKNOWN": 4, "CLAIM_CONTRADICTED": 5}
"""Exit statuses of `--claim`."""


def format_columns(rows: Sequence[Sequence[str]]) -> str:
    """Format rows of cells as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
