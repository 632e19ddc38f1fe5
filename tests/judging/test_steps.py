"""The step of a training that has its score: an equal last one, a step, or the best by a validation metric."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import sweeper
from sweeper.core.errors import UsageError
from sweeper.judging.steps import parse_choice
from tests.judging.tables import find_problems, list_notes

LEVELS = {"a": 0.1, "b": 0.0}


def make_log(lost: str = "") -> pd.DataFrame:
    """Return the log of three seeds of two methods: a row for each of two splits at each of three steps."""
    rows: list[dict[str, Any]] = []
    for method, level in LEVELS.items():
        for seed in range(3):
            for step, val, loss, test in ((10, 0.8, 0.4, 0.70), (20, 0.9, 0.5, 0.71), (30, lost, 0.6, 0.60)):
                keys = {"method": method, "seed": seed, "step": step, "epoch": step // 10 - 1}
                rows += [
                    {**keys, "val_dice": val, "val_loss": loss, "test_dice": ""},
                    {**keys, "val_dice": "", "val_loss": "", "test_dice": test + level + 0.001 * seed**2},
                ]
    return pd.DataFrame(rows)


def judge(frame: pd.DataFrame, at: str | None, **options: Any) -> Any:
    chosen = [name for name in ("epoch", "val_dice", "val_loss") if at is None or name not in at]
    return sweeper.judge(frame, metric="test_dice", at=at, ignore=chosen, **options)


@pytest.mark.parametrize(
    ("at", "expected", "name"),
    [
        (None, 0.60, "test_dice at its last step"),
        ("last", 0.60, "test_dice at its last step"),
        ("10", 0.70, "test_dice at step 10"),
        ("epoch=1", 0.71, "test_dice at epoch 1"),
        ("best:val_dice", 0.71, "test_dice at the step where val_dice is highest"),
        ("lowest:val_loss", 0.70, "test_dice at the step where val_loss is lowest"),
    ],
)
@pytest.mark.parametrize("lost", ["", "nan"])
def test_the_chosen_step_has_the_score(at: str | None, expected: float, name: str, lost: str) -> None:
    judgement = judge(make_log(lost), at)
    assert judgement.answer.losses[1].mean == pytest.approx(expected + 0.005 / 3)
    assert sum(name in note for note in list_notes(judgement.answer)) == 1 and judgement.answer.use.loss == "a"


def test_the_best_step_of_images_is_one_step_of_their_training() -> None:
    """By the mean of the validation metric, and not for each image by its own."""
    log = make_log().query("test_dice != ''").drop(columns=["val_dice", "val_loss", "epoch"])
    images = pd.concat([log.assign(image=image, val=[0.3 * image, 0.2, 0.1] * 6) for image in range(3)])
    judged = sweeper.judge(images, metric="test_dice", at="best:val")
    assert judged.answer.losses[1].mean == pytest.approx(0.70 + 0.005 / 3)
    assert judged.answer.images == 3


def test_trainings_that_end_at_different_steps_are_compared_where_all_have_a_score() -> None:
    log = make_log()
    short = log[(log["method"] == "a") | (log["seed"] > 0) | (log["step"] < 30)]
    options = {"metric": "test_dice", "ignore": ["epoch", "val_dice", "val_loss"]}
    (problem,) = find_problems(short, **options)
    assert (
        "at one step, got 20 as the last of b, 0 and 30 of a, " in problem and "--at 20 compares them there" in problem
    )
    assert sweeper.judge(short, at="20", **options).contest == sweeper.judge(log, at="20", **options).contest
    last = {row.loss: row.mean for row in sweeper.judge(short, at="last", **options).answer.losses}
    assert last["b"] == pytest.approx((0.71 + 0.601 + 0.604) / 3)
    none = short[(short["method"] == "a") | (short["step"] != 20) | (short["seed"] > 0)]
    assert "--at 10 compares" in find_problems(none, **options)[0]


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("11", "a, 0, a, 1, a, 2 and 3 more must have a score at step 11, got none; take another --at"),
        ("best:val_iou", "a column 'val_iou' must say the step of each row, got none"),
    ],
)
def test_a_step_without_a_score_is_refused(at: str, words: str) -> None:
    options = {"metric": "test_dice", "at": at, "ignore": ["epoch", "val_dice", "val_loss"]}
    assert words in find_problems(make_log(), **options)[0]


def test_a_training_that_diverged_at_the_chosen_step_gets_no_earlier_score() -> None:
    log = make_log()
    log.loc[(log["test_dice"] != "") & (log["step"] == 30) & (log["seed"] == 1), "test_dice"] = "nan"
    options = {"metric": "test_dice", "ignore": ["epoch", "val_dice", "val_loss"]}
    for at in (None, "last", "30"):
        assert "a score must be a finite number" in find_problems(log, at=at, **options)[0]


@pytest.mark.parametrize("text", ["best:test_dice", "lowest:test/loss", "best:Test_IoU", "best:dice", "lowest:dice"])
def test_a_choice_by_the_judged_metric_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="choice on the test images"):
        parse_choice(text, "dice")


def test_a_name_that_only_contains_the_letters_is_no_test_metric() -> None:
    assert parse_choice("best:val_contest", "dice").names == ("val_contest",)


@pytest.mark.parametrize("text", ["first", "best", "best:", "-5", "5.5"])
def test_a_choice_of_no_step_is_refused_with_the_possible_ones(text: str) -> None:
    with pytest.raises(UsageError, match=r"--at must be last, a step \(5000, epoch=50\), best:METRIC"):
        parse_choice(text, "dice")


def test_the_best_of_a_loss_is_refused_for_its_lowest() -> None:
    with pytest.raises(UsageError, match="--at lowest:val_loss"):
        parse_choice("best:val_loss", "dice")
