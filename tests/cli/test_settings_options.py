"""The options of `sweeper run`, made of its settings."""

from __future__ import annotations

import re
from collections.abc import Callable

import click
import pytest

from sweeper.cli.settings_options import make_setting_option
from sweeper.workflow.settings import Settings, list_options

Sweeper = Callable[..., tuple[int, str, str]]


def test_help_all_lists_every_option_once_and_help_the_common_ones(sweeper: Sweeper) -> None:
    options = list_options()
    every, common = (sweeper("run", word)[1] for word in ("--help-all", "--help"))
    written = {text: re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE) for text in (every, common)}
    others = {"--dry-run", "--json", "--verbose", "--quiet"}
    others |= {"--help", "--help-all"}
    of_settings = {f"--{name.replace('_', '-')}": option for name, option in options.items()}
    assert sorted(written[every]) == sorted({*of_settings, *others})
    assert set(written[common]) == {name for name, option in of_settings.items() if option.often} | others
    assert all(f"\n{option.section}:\n" in every for option in options.values())
    assert "--help-all" in common and len(written[common]) <= 18 and len(written[every]) <= 42


@pytest.mark.parametrize("name", list(list_options()))
def test_the_command_line_accepts_what_settings_accept(name: str) -> None:
    # A limit that is refused late is reported after minutes; one that is refused too early cannot be used.
    kind, field = make_setting_option(name)(lambda: None).__click_params__[0].type, Settings.model_fields[name]
    limits = {type(part).__name__.lower(): part for part in field.metadata if type(part).__name__ in {"Ge", "Le"}}
    if isinstance(kind, click.IntRange | click.FloatRange):
        assert (kind.min, kind.max) == (limits["ge"].ge, limits["le"].le)
    if isinstance(kind, click.Choice) and name != "metric":
        for choice in set(kind.choices) - {"auto"}:
            assert getattr(Settings(**{name: choice}), name) == choice
