"""The row of a log that has the score: the last, a step, or the best by a validation metric, not a test metric."""

from __future__ import annotations

import math

import pytest

from sweeper.core.errors import UsageError
from sweeper.judging.row_choice import parse_choice

ENTRIES = [
    {"step": 10, "val_dice": 0.8, "val_loss": 0.4},
    {"step": 10, "test_dice": 0.70},
    {"step": 20, "val_dice": 0.9, "val_loss": 0.5},
    {"step": 20, "test_dice": 0.71, "epoch": 1},
    {"step": 30, "val_dice": "nan", "val_loss": 0.6},
    {"step": 30, "test_dice": 0.60},
]


@pytest.mark.parametrize(
    ("text", "expected", "name"),
    [
        (None, 0.60, "the last value"),
        ("last", 0.60, "the last value"),
        ("10", 0.70, "the value at step 10"),
        ("epoch=1", 0.71, "the value at epoch 1"),
        ("best:val_dice", 0.71, "the row where val_dice is highest"),
        ("lowest:val_loss", 0.70, "the row where val_loss is lowest"),
    ],
)
def test_the_chosen_row_has_the_score(text: str | None, expected: float, name: str) -> None:
    choice = parse_choice(text, "test_dice")
    assert choice.find_value(ENTRIES, "test_dice") == expected and str(choice) == name


@pytest.mark.parametrize("text", ["11", "best:val_iou"])
def test_a_missing_row_has_no_score(text: str) -> None:
    assert parse_choice(text, "test_dice").find_value(ENTRIES, "test_dice") is None


def test_a_run_that_diverged_at_the_chosen_row_gets_no_earlier_score() -> None:
    value = parse_choice("lowest:val_loss", "test_dice").find_value(
        [{"epoch": 0, "val_loss": 1.0, "test_dice": 0.5}, {"epoch": 1, "val_loss": 0.5, "test_dice": "nan"}],
        "test_dice",
    )
    assert value is not None and math.isnan(value)


@pytest.mark.parametrize("text", ["best:test_dice", "lowest:test/loss", "best:Test_IoU", "best:dice", "lowest:dice"])
def test_a_choice_by_the_judged_metric_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="choice on the test images"):
        parse_choice(text, "dice")


def test_a_name_that_only_contains_the_letters_is_no_test_metric() -> None:
    assert parse_choice("best:val_contest", "dice").name == "val_contest"


@pytest.mark.parametrize("text", ["first", "best", "best:", "-5", "5.5"])
def test_a_choice_of_no_row_is_refused_with_the_possible_ones(text: str) -> None:
    with pytest.raises(UsageError, match=r"--at must be last, a step \(5000, epoch=50\), best:METRIC"):
        parse_choice(text, "dice")


def test_the_best_of_a_loss_is_refused_for_its_lowest() -> None:
    with pytest.raises(UsageError, match="--at lowest:val_loss"):
        parse_choice("best:val_loss", "dice")
