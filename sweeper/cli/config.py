"""`--config FILE`: options of `sweeper run` from a YAML file, under those of the environment and the command line."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from sweeper.cli.options import note_json
from sweeper.core.errors import RequestError
from sweeper.core.redact import redact, remember_words
from sweeper.core.text import suggestion
from sweeper.core.yaml_file import key_text, read_yaml, shown

OWN = "config"
RIVALS = {"steps": "epochs", "epochs": "steps"}
"""Options that exclude each other: who gives one elsewhere gives the other up."""


def read_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Take the file's values as defaults of the command; the callback of an eager option.

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
        problems = problems or [f"(top): must be a mapping of options to values, got {shown(content)}"]
        raise RequestError(f"what --config {value} asks for", problems)
    if content.get("json") is True and "SWEEPER_JSON" not in os.environ:
        note_json(ctx, param, True)  # for the mistakes below; what else decides it is read after the file
    remember_words(word for key, given in content.items() for word in (f"--{key}".replace("_", "-"), str(given)))
    known = _options(ctx.command)
    found: dict[str, Any] = {}
    for key, given in content.items():
        option = known.get(key.replace("_", "-"))
        if option is None:
            problems.append(f"{key_text(key)}: unknown option{suggestion(key.replace('_', '-'), known)}")
        elif option.name in found:
            problems.append(f"{key_text(key)}: appears twice, with - and with _; keep one of them")
        elif (fault := _fault(option, given)) is not None:
            problems.append(f"{key_text(key)}: {fault}")
        else:
            found[str(option.name)] = given
    if problems:
        raise RequestError(f"what --config {value} asks for", problems)
    ctx.default_map = found
    return value


def _options(command: click.Command) -> dict[str, click.Option]:
    """Options that a file may set, by their long names without the dashes."""
    options = (param for param in command.params if isinstance(param, click.Option) and param.name != OWN)
    return {name.removeprefix("--"): option for option in options for name in option.opts if name.startswith("--")}


def _fault(option: click.Option, given: object) -> str | None:
    if option.is_flag != isinstance(given, bool):
        return f"must be {'true or false' if option.is_flag else 'a value'}, got {shown(given)}"
    if not isinstance(given, str | bool) or given == "":
        return f"must be one value, got {shown(given)}; give one, or leave the line out"
    return None


def overruled(ctx: click.Context) -> set[str]:
    """Parameters whose values from the file do not count, as the command line or a variable gives their rival."""
    given = {ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT}
    return {
        name
        for name in ctx.default_map or {}
        if ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP
        and name in RIVALS
        and ctx.get_parameter_source(RIVALS[name]) in given
    }


def from_config(ctx: click.Context, ignored: Collection[str] = ()) -> str | None:
    """What a run takes from the file, and what the command line or the environment says otherwise: a line for people.

    Parameters in `ignored` are said to be so. None where there is no file.
    """
    path = ctx.params.get(OWN)
    if path is None:
        return None
    names = {option.name: f"--{name}" for name, option in _options(ctx.command).items()}
    taken, other, left = [], [], []
    for name, given in (ctx.default_map or {}).items():
        option = names[name]
        if name in ignored:
            left.append(option)
        elif ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP:
            taken.append(option if given is True else f"{option} {given}")
        else:
            value = ctx.params[name]
            other.append(f"{option} {'auto' if value is None else value} (the file: {given})")
    line = f"from {path}: {', '.join(taken) or 'nothing'}"
    line += f"; given otherwise: {', '.join(other)}" if other else ""
    return redact(line + (f"; not taken: {', '.join(left)}" if left else ""))
