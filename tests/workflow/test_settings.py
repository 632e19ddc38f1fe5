"""Parsing of options: ranges of seeds, durations."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from sweeper.workflow.settings import Settings, parse_duration, parse_seed_range


@pytest.mark.parametrize(
    ("text", "ends"),
    [("3..8", (3, 8)), ("5", (5, 5)), (2, (2, 2)), (" 3 .. 8 ", (3, 8)), ((3, 8), (3, 8)), ("100", (100, 100))],
)
def test_seeds_are_a_range_or_one_number(text: object, ends: tuple[int, int]) -> None:
    assert parse_seed_range(text) == ends


@pytest.mark.parametrize("text", ["", "8..3", "0", "0..3", "3..", "..8", "3-8", "3..8..9", "-1", "1e2", "3..101", "٣"])
def test_other_seeds_are_refused_with_the_rule_and_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"1 ≤ MIN ≤ MAX ≤ 100, got .*; for example '3\.\.8"):
        parse_seed_range(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), (90, 90), ("0.5", 0.5), ("90m", 5400), ("1H 30M", 5400), ("1.5h", 5400), ("1d2h3m4s", 93784)],
)
def test_a_duration_is_a_number_of_seconds_or_has_units(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0m", "-5", "soon", "30m1h", "1h1h", "1h30", "5 parsecs", "nan", "inf", "9999999h"]
)
def test_other_durations_are_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="1h30m"):
        parse_duration(text)


def test_settings_keep_one_spelling_and_refuse_the_rest() -> None:
    assert Settings(seeds=2).seeds == "2"
    settings = Settings(seeds="4..4", time=" 90m ")
    assert (settings.seeds, settings.time) == ("4", "90m")
    for wrong in ({"seeds": "8..3"}, {"time": "soon"}):
        with pytest.raises(ValidationError):
            Settings(**wrong)


def test_a_home_in_a_path_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert Settings(out="~/reports").out == Path("/home/me/reports")
