"""Options of a command: fields of a record, from which the command line and the signature in Python are generated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from sweeper.core.base import Record
from sweeper.core.errors import RequestError
from sweeper.core.text import suggest_correction

Options = TypeVar("Options", bound=Record)
"""Record with the options of a command."""
AUTO = BeforeValidator(lambda value: None if value == "auto" else value, json_schema_input_type=Literal["auto"])
"""Accepts `auto` for None."""


@dataclass(frozen=True)
class Option:
    """Form of a setting on the command line, in addition to its name, type, limits and default."""

    section: str
    """Section of `sweeper run --help-all`."""
    default: str = ""
    """Default in words; "" = no value, or the field's own default."""
    often: bool = False
    """Whether `--help` lists it, too, as a common option."""
    metavar: str | None = None
    """FILE = an existing file, DIRECTORY = a folder; any other text is only the placeholder in the help."""
    opposite: str = ""
    """Option that sets it to false."""
    variables: tuple[str, ...] = ()
    """Environment variables that set it, in addition to SWEEPER_NAME."""


def make_setting(section: str, value: object = None, **more: Any) -> Any:
    """Return a field with an option; `more` has fields of `Option` and pydantic's limits. Its docstring is its help."""
    form = {name: more.pop(name) for name in [*more] if name in Option.__dataclass_fields__}
    field = Field(value, **more)
    field.metadata.append(Option(section, **form))
    return field


def make_options(
    kind: type[Options], options: Mapping[str, Any], what: str, format_name: Callable[[str], str] = str
) -> Options:
    """Return the record of this kind with these values, the options of `what`.

    `format_name` formats the name of an option in messages.

    Raises:
        RequestError: with every option that is unknown or has a wrong value.
    """
    try:
        return kind(**options)
    except ValidationError as error:
        messages: dict[str, str] = {}  # an option of two types has two messages
        for one in error.errors():
            name, text = str(one["loc"][0]), one["msg"].removeprefix("Value error, ")
            if one["type"] == "extra_forbidden":
                text = f"no option that can be given here{suggest_correction(name, kind.model_fields)}"
            messages[name] = f"{messages[name]}; or {text}" if name in messages else f"{format_name(name)}: {text}"
        problems = [
            text if ", got " in text else f"{text}; got {options.get(name)!r}" for name, text in messages.items()
        ]
        raise RequestError(what, problems) from error


def list_options(kind: type[Record]) -> dict[str, Option]:
    """Return the options of the command line by the setting's name."""
    return {
        name: part for name, field in kind.model_fields.items() for part in field.metadata if isinstance(part, Option)
    }
