"""Wide tables are refused with a line of pandas that makes a table that is judged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sweeper
from tests.judging.tables import draw_scores, find_problems, make_table
from tests.support.pasting import run_text

FRAME = make_table(draw_scores(images=12, gap=0.05))


def widen(key: str, name: str) -> pd.DataFrame:
    """Return a table with a column for each value of a key, named by a pattern."""
    ids = [column for column in ("method", "seed", "image") if column != key]
    wide = FRAME.pivot_table(index=ids, columns=key, values="score").reset_index()
    wide = wide.rename(columns={value: name.format(value) for value in FRAME[key].unique()})
    return wide.set_axis(wide.columns.map(str), axis=1)


def melt_as_printed(frame: pd.DataFrame, **options: Any) -> tuple[pd.DataFrame, str]:
    """Return the table that the printed code makes, and the metric of the printed option."""
    text = "\n".join(find_problems(frame, **options))
    code = re.search(r"`(table = table.melt.*?)`, for --metric (\S+)", text)
    assert code is not None, text
    return run_text(code[1], table=frame)["table"], code[2]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("method", "{}"),
        ("seed", "seed{}"),
        ("seed", "Run {}"),
        ("seed", "{}"),
        ("seed", "dice_seed_{}"),
        ("image", "image {}"),
    ],
)
def test_the_printed_code_makes_the_table_that_is_judged(key: str, name: str) -> None:
    long, metric = melt_as_printed(widen(key, name))
    result, expected = sweeper.judge(long, metric=metric), sweeper.judge(FRAME)
    scores, expected_scores = ([row.mean for row in each.answer.losses] for each in (result, expected))
    assert metric == "score" and scores == pytest.approx(expected_scores)
    assert (result.answer.outcome, result.answer.images) == (expected.answer.outcome, expected.answer.images)


def test_a_table_with_a_column_for_each_method_is_made_long_whatever_their_names_are_like(tmp_path: Path) -> None:
    images = FRAME.groupby(["image", "method"])["score"].mean().unstack().rename(columns={"a": "ce", "b": "dice"})
    long, metric = melt_as_printed(images.reset_index())
    answer = sweeper.judge(long, metric=metric).answer
    assert answer.images == 12 and {row.loss for row in answer.losses} == {"ce", "dice"}
    FRAME.pivot_table(index="image", columns=["method", "seed"], values="score").to_csv(tmp_path / "pivot.csv")
    code = re.search(r"`(table = pd.*?)`", "\n".join(find_problems(str(tmp_path / "pivot.csv"))))
    assert code is not None
    result = sweeper.judge(run_text(code[1], pd=pd)["table"])
    assert result.contest.comparisons == sweeper.judge(FRAME).contest.comparisons


@pytest.mark.parametrize("names", [("dice_liver", "dice_tumor"), ("HD95/a", "HD95/b")])
@pytest.mark.parametrize("lacks", [False, True])
def test_a_column_for_each_class_is_made_long(names: tuple[str, str], lacks: bool) -> None:
    """Of distances the direction is still asked for, as their name stays in the metric's."""
    wide = FRAME.rename(columns={"score": names[0]}).assign(**{names[1]: FRAME["score"] / 2})
    if lacks:  # the class is not in an image
        wide.loc[wide["image"] == 3, names[1]] = np.nan
    long, metric = melt_as_printed(wide)
    assert set(long["class"]) == set(names) and len(long) == 2 * len(FRAME) - 6 * lacks
    assert ("--lower-is-better" in str(find_problems(long, metric=metric))) if "HD95/a" in names else metric == "score"
    assert sweeper.judge(long, metric=metric, lower_is_better=False).answer.images == 12


def test_a_wide_table_of_folds_becomes_one_with_folds_and_the_requested_metric() -> None:
    wide = pd.DataFrame({"method": ["a", "b"], "fold1": [0.7, 0.6], "fold2": [0.72, 0.61], "fold3": [0.71, 0.63]})
    long, metric = melt_as_printed(wide, metric="dice")
    assert metric == "dice" and set(long.columns) == {"method", "fold", "dice"}
    assert sweeper.judge(long, metric="dice").answer.losses[0].loss == "a"
