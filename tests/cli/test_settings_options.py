"""The options of `sweeper run`, made of its settings."""

from __future__ import annotations

import re
from collections.abc import Callable

from sweeper.core.options import list_options
from sweeper.workflow.settings import Settings

Sweeper = Callable[..., tuple[int, str, str]]


def test_help_all_lists_every_option_once_and_help_the_common_ones(sweeper: Sweeper) -> None:
    options = list_options(Settings)
    every, common = (sweeper("run", word)[1] for word in ("--help-all", "--help"))
    written = {text: re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE) for text in (every, common)}
    others = {"--dry-run", "--json", "--verbose", "--quiet"}
    others |= {"--help", "--help-all"}
    of_settings = {f"--{name.replace('_', '-')}": option for name, option in options.items()}
    assert sorted(written[every]) == sorted({*of_settings, *others})
    assert set(written[common]) == {name for name, option in of_settings.items() if option.often} | others
    assert all(f"\n{option.section}:\n" in every for option in options.values())
    assert "--help-all" in common and len(written[common]) <= 18


def test_wrong_values_are_reported_together_by_their_options(sweeper: Sweeper) -> None:
    words = ("--steps", "3", "--batch-size", "many", "--margin", "nan", "--workers", "²", "--time", "soon")
    status, out, err = sweeper("run", *words)
    assert (status, out) == (2, "") and "5 problems; nothing was trained" in err
    for name, value in zip(words[::2], words[1::2], strict=True):
        assert re.search(rf"  - {name}: .*got '{value}'", err)


def test_auto_is_none_in_python_and_on_the_command_line() -> None:
    assert Settings(workers="auto", precision="auto", engine="auto").model_fields_set == {
        *("workers", "precision", "engine")
    }
    assert Settings(workers="auto").workers is None and Settings(workers="3").workers == 3
