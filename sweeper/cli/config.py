"""`--config FILE`: options of `sweeper run` from a YAML file, overridden by the environment and the command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sweeper.cli.replaced import explain_replaced
from sweeper.core.errors import RequestError
from sweeper.core.redact import hide_command_secrets
from sweeper.core.text import suggest_correction
from sweeper.core.yaml_file import format_key, format_value, read_yaml


def read_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Use the file's values as defaults of the command; callback of an eager option.

    Raises:
        RequestError: with every mistake of the file.
    """
    if value is None:
        return None
    problems: list[str] = []
    content = read_yaml(value, problems, as_written=True)
    if content is None and not problems:
        content = {}
    if not isinstance(content, Mapping):
        problems = problems or [f"(top): must be a mapping of options to values, got {format_value(content)}"]
        raise RequestError(f"what --config {value} asks for", problems)
    written = [word for key, given in content.items() for word in (f"--{key}".replace("_", "-"), str(given))]
    hide_command_secrets(shlex.join(written))  # remembers them
    options = {
        name.removeprefix("--"): option
        for option in ctx.command.params
        if isinstance(option, click.Option) and option is not param
        for name in option.opts
        if name.startswith("--")
    }
    settings: dict[str, Any] = {}
    for key, option_value in content.items():
        option = options.get(key.replace("_", "-"))
        if option is None:
            name = key.replace("_", "-")
            words = explain_replaced(f"--{name}") or f"unknown option{suggest_correction(name, options)}"
            problems.append(f"{format_key(key)}: {words}")
        elif (fault := _format_fault(option, option_value)) is not None:
            problems.append(f"{format_key(key)}: {fault}")
        else:
            settings[str(option.name)] = option_value
    if problems:
        raise RequestError(f"what --config {value} asks for", problems)
    ctx.default_map = settings
    return value


def _format_fault(option: click.Option, value: object) -> str | None:
    if option.is_flag != isinstance(value, bool):
        return f"must be {'true or false' if option.is_flag else 'a value'}, got {format_value(value)}"
    if not isinstance(value, str | bool) or value == "":
        return f"must be one value, got {format_value(value)}; give one, or leave the line out"
    return None
