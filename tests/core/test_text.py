"""Words and paths in messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.core.paths import expand_user
from sweeper.core.text import fill_words, format_count, format_ratio, format_signed, format_upper_bound


@pytest.mark.parametrize(
    ("n", "forms", "text"),
    [
        (1, ("trial",), "1 trial"),
        (1_200, ("trial",), "1,200 trials"),
        (2, ("family",), "2 families"),
        (2, ("class",), "2 classes"),
        (1, ("image has", "images have"), "1 image has"),
        (0, ("image has", "images have"), "0 images have"),
    ],
)
def test_a_number_and_its_noun_agree(n: int, forms: tuple[str, ...], text: str) -> None:
    assert format_count(n, *forms) == text


@pytest.mark.parametrize(
    ("bound", "margin", "text"),
    [
        (0.0, 0.01, "0.001"),
        (0.0061, 0.01, "0.007"),
        (0.01, 0.01, "0.010"),
        (0.0094, 0.0095, "0.0094"),
        (2e-4, 0.1, "0.001"),
    ],
)
def test_a_bound_is_rounded_up_but_not_past_the_margin(bound: float, margin: float, text: str) -> None:
    assert format_upper_bound(bound, margin) == text


def test_a_name_with_a_leading_tilde_that_is_no_user_is_not_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Editors name backups like this."""
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_user("~nobody-of-this-name/x.png") == Path("~nobody-of-this-name/x.png")
    assert expand_user("~/x.png") == Path("/home/me/x.png")


def test_a_gain_that_rounds_to_nothing_has_no_sign() -> None:
    assert [format_signed(v) for v in (0.0004, -0.0004, 0.0006, -0.0006)] == ["0.000", "0.000", "+0.001", "−0.001"]
    assert [format_signed(v, 2) for v in (-0.004, 0.006)] == ["0.00", "+0.01"]


@pytest.mark.parametrize(("ratio", "text"), [(1, "1:1"), (2.345, "2.35:1"), (61.54, "61.5:1"), (999.6, "1,000:1")])
def test_a_ratio_has_three_digits(ratio: float, text: str) -> None:
    assert format_ratio(ratio) == text


def test_lines_are_broken_only_between_words() -> None:
    text = "keep cross-entropy, or run `sweeper run --study mine --resume` with a larger --confirm-steps value"
    lines = fill_words(text, 24, first="- ", rest="  ").splitlines()
    assert "  `sweeper run --study mine --resume`" in lines  # to be copied, though longer than a line
    assert " ".join(line[2:] for line in lines) == text
    assert not [line for line in lines if line.endswith("-")]
