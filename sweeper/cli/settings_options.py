"""The options of the commands, generated from the fields of their records, their only declaration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from sweeper.cli.options import Decorator, HomePath, SweeperCommand
from sweeper.core.base import Record
from sweeper.core.options import AUTO, Option, list_options, make_options
from sweeper.workflow.settings import Settings

if TYPE_CHECKING:
    from sweeper.core.records import Dataset


class RunCommand(SweeperCommand):
    """A command with its settings in sections; `--help` lists the common ones, `--help-all` every one."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Add `--help-all` after `--help`."""
        every = click.Option(
            ["--help-all"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=self._show_all,
            help="Show every option and exit.",
        )
        return [*super().get_params(ctx), every]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the settings by section, then the other options."""
        settings, every = list_options(Settings), bool(ctx.meta.get("help-all"))
        records = {param.name: param.get_help_record(ctx) for param in self.get_params(ctx)}
        lines = {name: line for name, line in records.items() if line is not None}
        shown = {name: option.section for name, option in settings.items() if every or option.often}
        for title in dict.fromkeys(shown.values()):
            with formatter.section(title):
                formatter.write_dl([lines[name] for name, section in shown.items() if section == title])
        with formatter.section("Options"):
            formatter.write_dl([line for name, line in lines.items() if name not in {*settings, "data"}])
        if not every:
            left = sum(not option.often for option in settings.values())
            formatter.write_paragraph()
            formatter.write_text(f"{left} more options: sweeper run --help-all.")

    @staticmethod
    def _show_all(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            ctx.meta["help-all"] = True
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()


def add_options(kind: type[Record]) -> Decorator:
    """Give a command an option for each setting of a record."""

    def declare(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(list_options(kind)):
            command = make_setting_option(name, kind=kind)(command)
        return command

    return declare


def make_setting_option(
    name: str, *, kind: type[Record] = Settings, default: str | None = None, text: str | None = None
) -> Decorator:
    """Return the option of one setting, for any command; `default`, in words, and `text` replace the record's."""
    field, option = kind.model_fields[name], list_options(kind)[name]
    value = "auto" if AUTO in field.metadata else field.default
    words = default or option.default
    text = " ".join(str(text or field.description).split()) + (f"  [default: {words}]" if words else "")
    if value is False or option.opposite:
        names = "/".join(filter(None, [format_option_name(name), option.opposite]))
        return click.option(names, is_flag=True, default=value, help=text)
    return click.option(
        format_option_name(name),
        type=_get_type(field, option),
        default=value,
        multiple=isinstance(value, tuple | dict),
        show_default=bool(value),
        metavar=option.metavar,
        envvar=option.variables,
        help=text,
    )


def format_option_name(name: str) -> str:
    """Format the name of a setting as an option: `batch_size` is `--batch-size`."""
    return f"--{name.replace('_', '-')}"


def _get_type(field: FieldInfo, option: Option) -> click.ParamType[Any]:
    """Return the type that the help and the shell know; `make_options` checks the values."""
    parts = (field.annotation, *get_args(field.annotation))
    if Path in parts:
        file = option.metavar == "FILE"
        return HomePath(exists=file, file_okay=file, dir_okay=not file, path_type=Path)
    choices = [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
    return click.Choice([*["auto"] * (AUTO in field.metadata), *choices]) if choices else click.STRING


# --- Commands that read a data set and train nothing ---------------------------------------------------------


def add_data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument DATA and its options to a command; `read_requested_dataset` takes their values."""
    defaults = {"class_map": "all as they are", "groups": "auto", "resize": "native"}
    for name in reversed(("images", "masks", "format", *defaults)):
        command = make_setting_option(name, default=defaults.get(name))(command)
    return click.argument("data", required=False)(command)


def read_requested_dataset(options: dict[str, Any]) -> Dataset:
    """Read the data set of `add_data_options`.

    Raises:
        click.UsageError: if no data are given.
        SweeperError: if they cannot be read.
    """
    from sweeper.cli.progress import PlainDisplay
    from sweeper.workflow.prepare import resolve_dataset_request

    settings = make_options(Settings, options, "the sweep", format_option_name)
    if {settings.data, settings.images, settings.masks} == {None}:
        raise click.UsageError("Missing argument 'DATA', or --images with --masks.")
    return resolve_dataset_request(settings, None, PlainDisplay())
