"""The options of `sweeper run`, generated from the fields of `Settings`, their only declaration."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from sweeper.cli.options import Decorator, HomePath, ParsedText, SweeperCommand
from sweeper.workflow.settings import Option, Settings, list_options

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
        settings, every = list_options(), bool(ctx.meta.get("help-all"))
        lines = {p.name: line for p in self.get_params(ctx) if (line := p.get_help_record(ctx)) is not None}
        for title in dict.fromkeys(option.section for option in settings.values()):
            names = [name for name, option in settings.items() if option.section == title and (every or option.often)]
            if names:
                with formatter.section(title):
                    formatter.write_dl([lines[name] for name in names if name in lines])
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


def add_settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command an option for each setting."""
    for name in reversed(list_options()):
        command = make_setting_option(name)(command)
    return command


def make_setting_option(name: str, *, default: str | None = None, text: str | None = None) -> Decorator:
    """Return the option of one setting, for any command; `default`, in words, and `text` replace those of a sweep."""
    field, option = Settings.model_fields[name], list_options()[name]
    value = "auto" if option.auto else field.default
    words = default if default is not None else option.default
    text = " ".join((text or field.description or "").split()) + (f"  [default: {words}]" if words else "")
    if _strip_none(field.annotation) == (bool,):
        return click.option(_make_dashes(name), is_flag=True, default=value, help=text)
    kind = _get_type(field, option)
    return click.option(
        _make_dashes(name),
        type=kind,
        default=value,
        multiple=isinstance(value, tuple),
        show_default=bool(value),
        metavar=None if isinstance(kind, ParsedText | click.Path) else option.metavar,
        envvar=list(option.variables) or None,
        help=text,
    )


def _make_dashes(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _strip_none(annotation: Any) -> tuple[Any, ...]:
    """Return the alternatives of an annotation, without None."""
    if get_origin(annotation) is Literal or isinstance(annotation, type):
        return (annotation,)
    return tuple(part for part in get_args(annotation) if part is not NoneType)


def _get_type(field: FieldInfo, option: Option) -> click.ParamType[Any]:
    parts = _strip_none(field.annotation)
    if get_origin(parts[0]) is Annotated:  # a text that a validator converts or refuses
        return ParsedText(option.metavar or "TEXT", get_args(parts[0])[1].func)
    if option.names:
        return MetricName(option.names)
    if int in parts:
        least, most = _get_limits(field.metadata)
        return IntOrAuto(least, most) if option.auto else click.IntRange(least, most)
    if float in parts:
        return FiniteNumber(*_get_limits(field.metadata))
    if Path in parts:
        file = option.metavar == "FILE"
        return HomePath(exists=file, file_okay=file, dir_okay=not file, path_type=Path)
    is_choice = get_origin(parts[0]) is Literal
    return ChoiceOrAuto(get_args(parts[0]), auto=option.auto) if is_choice else click.STRING


def _get_limits(metadata: list[Any]) -> tuple[Any, Any]:
    least, most = (next(getattr(part, end) for part in metadata if hasattr(part, end)) for end in ("ge", "le"))
    return least, most


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

    settings = Settings(**options)
    if settings.data is None and settings.images is None and settings.masks is None:
        raise click.UsageError("Missing argument 'DATA', or --images with --masks.")
    return resolve_dataset_request(settings, None, PlainDisplay())


# --- Types of values, where click's own say too little -------------------------------------------------------


class IntOrAuto(click.IntRange):
    """`auto` or a whole number in a range; `auto` becomes None."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse any other value."""
        if value is None or value == "auto":
            return None
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"must be auto or a whole number in {self._describe_range()}, got {value!r}", param, ctx)


class FiniteNumber(click.FloatRange):
    """A number in a range, except nan, which click accepts in any range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse any other value."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number


class ChoiceOrAuto(click.Choice[str]):
    """One of some names; with `auto`, also that, which becomes None."""

    def __init__(self, names: Sequence[str], *, auto: bool) -> None:
        self._auto = auto
        super().__init__(["auto", *names] if auto else list(names))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse any other value."""
        choice = super().convert(value, param, ctx)
        return None if self._auto and choice == "auto" else choice


class MetricName(click.Choice[str]):
    """Name of a metric, or `module:function` for one of the user's own."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Accept `module:function` unchanged."""
        return str(value) if ":" in str(value) else super().convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """Return both forms."""
        return f"[{'|'.join(map(str, self.choices))}|MODULE:FUNCTION]"
