"""What several commands have in common: how values are read, and options."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from sweeper.core import paths
from sweeper.core.redact import remember_words

_EMPTY_OPTION = re.compile(r"(--[\w-]+)=")


class SweeperCommand(click.Command):
    """A command that refuses empty values, and whose help may have sections.

    An empty value is a slip, as of a script whose variable is not set: `--data "$DIR"` would else mean the default.
    """

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]] | None = None, **kwargs: Any) -> None:
        """`sections`: title → names of the parameters in it, in their order; what is in none comes last."""
        super().__init__(*args, **kwargs)
        self._sections = sections or {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by section."""
        lines = {p.name: line for p in self.get_params(ctx) if (line := p.get_help_record(ctx)) is not None}
        for title, names in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([lines.pop(name) for name in names])
        if lines:
            with formatter.section("Options"):
                formatter.write_dl(list(lines.values()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse empty values of the command line and of the `SWEEPER_*` variables that it does not override.

        Raises:
            click.UsageError: with all of them.
        """
        remember_words(args)
        problems = list(_empty_arguments(args))
        patterns = {"--images", "--masks"} & {*args}
        try:
            rest = super().parse_args(ctx, args)
        except click.BadParameter as error:
            name = error.param.name if error.param is not None else None
            if name and ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP:
                words = f"{error.message} (from --config {ctx.params.get('config')})"
                raise click.BadParameter(words, ctx, error.param, error.param_hint) from error
            raise
        except click.UsageError as error:
            if error.message.startswith("Got unexpected extra argument") and patterns:
                words = "Patterns stand in quotes, --images 'img/*.jpg': else the shell writes the files' names out."
                raise click.UsageError(f"{error.message} {words}", ctx) from error
            raise
        problems += _empty_variables(ctx)
        if problems:
            raise click.UsageError(
                "\n".join(["a value must not be empty:", *(f"  - {text}" for text in problems)]), ctx
            )
        return rest


def _empty_arguments(args: list[str]) -> Iterator[str]:
    for before, arg in zip(["", *args], args, strict=False):
        if found := _EMPTY_OPTION.fullmatch(arg):
            yield f"{found[1]}, got '{arg}'; give a value, or leave the option out"
        elif not arg:
            name = before if before.startswith("-") else "an argument"
            yield f"{name}, got ''; give a value, or leave it out"


def _empty_variables(ctx: click.Context) -> Iterator[str]:
    for param in ctx.command.get_params(ctx):
        default = {ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP}
        if not param.name or ctx.get_parameter_source(param.name) not in default:
            continue
        variable = f"{ctx.auto_envvar_prefix}_{param.name.upper()}"
        if os.environ.get(variable) == "":
            yield f"the variable {variable}, got ''; give it a value, or unset it"


Noted = dict[str, bool]
"""What is noted for errors, when the context is gone: the context's object, which `main` makes."""


def note_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """Note that one JSON document is asked for, wherever that was said; the callback of an eager option."""
    if isinstance(ctx.obj, dict):
        ctx.obj["as_json"] = value
    return value


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def exclude_option(default: str) -> Decorator:
    """`--exclude FILE`; `default` says what holds without it."""
    return click.option(
        "--exclude",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"Text file with the stems of images to leave out, one per line.  [default: {default}]",
    )


def resize_option(default: str) -> Decorator:
    """`--resize SHORT_SIDE`; `default` says what holds without it."""
    return click.option(
        "--resize",
        type=click.IntRange(16, 65_536),
        metavar="SHORT_SIDE",
        help="Shrink larger images to this shorter side in pixels; scores hold at that resolution.  "
        f"[default: {default}]",
    )


def pattern_options(default: str) -> Decorator:
    """`--images PATTERN` and `--masks PATTERN`; `default` says what holds without them."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        masks = click.option(
            "--masks",
            metavar="PATTERN",
            help="Names of their masks, where {stem} is the image's name without extension: 'labels/{stem}_mask.png'.  "
            f"[default: {default}]",
        )
        images = click.option(
            "--images",
            metavar="PATTERN",
            help="Names of the images, in quotes: 'img/**/*.jpg'. Below DATA, where that is given.  "
            f"[default: {default}]",
        )
        return images(masks(command))

    return add


def class_map_option(default: str) -> Decorator:
    """`--class-map FILE`; `default` says what holds without it."""
    return click.option(
        "--class-map",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="YAML file of classes that are merged, renamed or ignored (road: [3, 4], ignore: [255, car]).  "
        f"[default: {default}]",
    )


def storage_option() -> Decorator:
    """`--storage ADDRESS` of the studies."""
    return click.option(
        "--storage", default=paths.STORAGE, show_default=True, help="Optuna's storage: sqlite:///FILE or postgresql://…"
    )


def tracking_option(what: str) -> Decorator:
    """`--tracking-uri ADDRESS`; `what` says what the MLflow store is for."""
    return click.option(
        "--tracking-uri",
        envvar=["SWEEPER_TRACKING_URI", "MLFLOW_TRACKING_URI"],
        default=paths.TRACKING,
        show_default=True,
        help=f"MLflow store that {what}.",
    )


def out_option() -> Decorator:
    """`--out FOLDER` of the reports."""
    return click.option(
        "--out", type=click.Path(file_okay=False, path_type=Path), default=paths.REPORTS, show_default=True
    )


def json_option() -> Decorator:
    """`--json`, with its variable."""
    return click.option("--json", "as_json", envvar="SWEEPER_JSON", is_flag=True, help="Print one JSON document alone.")
