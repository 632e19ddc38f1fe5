"""The options of `sweeper run`, made from the fields of `Settings`: each is declared there, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from sweeper.cli.completion import encoder_names, space_names, study_names
from sweeper.cli.options import Decorator, SweeperCommand
from sweeper.cli.parameter_types import Choice, Fraction, IntOrAuto, MetricName, Parsed
from sweeper.workflow.settings import Option, Settings, options

COMPLETIONS = {"study": study_names, "space": space_names, "encoder": encoder_names}
"""What a shell proposes as values."""


class RunCommand(SweeperCommand):
    """A command whose settings stand in sections; `--help` shows those that people use, `--help-all` every one."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """With `--help-all` after `--help`."""
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
        """Write the settings by section, then what is no setting."""
        known, every = options(), bool(ctx.meta.get("help-all"))
        lines = {p.name: line for p in self.get_params(ctx) if (line := p.get_help_record(ctx)) is not None}
        for title in dict.fromkeys(option.section for option in known.values()):
            names = [name for name, option in known.items() if option.section == title and (every or option.often)]
            if names:
                with formatter.section(title):
                    formatter.write_dl([lines[name] for name in names if name in lines])
        with formatter.section("Options"):
            formatter.write_dl([line for name, line in lines.items() if name not in known])
        if not every:
            left = sum(not option.often for option in known.values())
            formatter.write_paragraph()
            formatter.write_text(f"{left} more options: sweeper run --help-all. --config takes all of them.")

    @staticmethod
    def _show_all(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            ctx.meta["help-all"] = True
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command an option for each setting."""
    for name in reversed(options()):
        command = setting(name)(command)
    return command


def setting(name: str, *, default: str | None = None, text: str | None = None) -> Decorator:
    """The option of one setting, for any command.

    Args:
        name: the setting's.
        default: what holds without it in this command, in words; None = as for a sweep.
        text: its help; None = as for a sweep.
    """
    field, option = Settings.model_fields[name], options()[name]
    value = "auto" if option.auto else field.default
    words = default if default is not None else option.default
    text = " ".join((text or field.description or "").split()) + (f"  [default: {words}]" if words else "")
    if _plain(field.annotation) == (bool,):
        return click.option(_dashes(name), is_flag=True, default=value, help=text)
    variables = list(option.variables) or None
    return click.option(
        _dashes(name),
        type=_type(field, option),
        default=value,
        show_default=value is not None,
        metavar=option.metavar if option.read is None and option.metavar not in {"FILE", "DIRECTORY"} else None,
        envvar=variables,
        shell_complete=COMPLETIONS.get(name),
        help=text,
    )


def _dashes(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _plain(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation, without None."""
    if get_origin(annotation) is Literal or isinstance(annotation, type):
        return (annotation,)
    return tuple(part for part in get_args(annotation) if part is not NoneType)


def _type(field: FieldInfo, option: Option) -> click.ParamType[Any]:
    parts = _plain(field.annotation)
    if option.read is not None:
        return Parsed(option.metavar or "TEXT", option.read)
    if option.names:
        return MetricName(option.names)
    if int in parts:
        least, most = _limits(field.metadata)
        return IntOrAuto(least, most) if option.auto else click.IntRange(least, most)
    return _of_one_kind(parts[0], option)


def _of_one_kind(kind: Any, option: Option) -> click.ParamType[Any]:
    if kind is Path:
        file = option.metavar == "FILE"
        return click.Path(exists=file, file_okay=file, dir_okay=not file, path_type=Path)
    if get_origin(kind) is Literal:
        return Choice(get_args(kind), auto=option.auto)
    return Fraction() if kind is float else click.STRING


def _limits(metadata: list[Any]) -> tuple[int, int]:
    least, most = (next(getattr(part, end) for part in metadata if hasattr(part, end)) for end in ("ge", "le"))
    return least, most
