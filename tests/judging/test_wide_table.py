"""Wide tables are refused with a line of pandas that makes a table that is judged."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sweeper
from tests.judging.tables import draw_scores, find_problems, make_table
from tests.support.pasting import run_text

FRAME = make_table(draw_scores(images=12, gap=0.05))


def widen(key: str, name: str, *, at: str = "score") -> pd.DataFrame:
    """Return a table with a column for each value of a key, named by a pattern."""
    frame = FRAME.assign(**{key: FRAME["seed"].map("abc".__getitem__)}) if key not in FRAME else FRAME
    ids = [column for column in ("method", "seed", "image") if column != key]
    wide = frame.pivot_table(index=ids, columns=key, values=at).reset_index()
    return wide.rename(columns={value: name.format(value) for value in frame[key].unique()})


def join_problems(frame: pd.DataFrame, **options: Any) -> str:
    return "\n".join(find_problems(frame, **options))


def melt_as_printed(frame: pd.DataFrame, text: str) -> tuple[pd.DataFrame, str | None]:
    """Return the table that the printed code makes, and the metric of the printed option."""
    code, option = re.search(r"`(table = table.melt.*?)`", text), re.search(r"--metric (\S+) names the scores", text)
    assert code is not None, text
    return run_text(code[1], table=frame)["table"], option[1] if option else None


@pytest.mark.parametrize(
    ("key", "name", "metric"),
    [
        ("method", "{}", None),
        ("seed", "seed{}", None),
        ("seed", "Run {}", None),
        ("seed", "{}", None),
        ("seed", "dice_seed_{}", "dice"),
        ("seed", "dice_{}", "dice"),
        ("image", "img{}", None),
    ],
)
def test_the_printed_code_makes_the_table_that_is_judged(key: str, name: str, metric: str | None) -> None:
    wide = widen(key, name)
    wide.columns = wide.columns.map(str)
    long, printed = melt_as_printed(wide, join_problems(wide))
    assert printed == metric
    result, expected = sweeper.judge(long, metric=printed), sweeper.judge(FRAME)
    scores, expected_scores = ([row.score for row in each.document.methods] for each in (result, expected))
    assert scores == pytest.approx(expected_scores)
    assert (result.verdict, result.document.images) == (expected.verdict, expected.document.images)


@pytest.mark.parametrize("names", [("dice_liver", "dice_tumor"), ("liver dice", "tumor dice"), ("HD95/a", "HD95/b")])
@pytest.mark.parametrize("lacks", [False, True])
def test_a_column_for_each_class_is_made_long(names: tuple[str, str], lacks: bool) -> None:
    wide = FRAME.rename(columns={"score": names[0]}).assign(**{names[1]: FRAME["score"] / 2})
    if lacks:  # the class is not in an image
        wide.loc[wide["image"] == 3, names[1]] = np.nan
    long, metric = melt_as_printed(wide, join_problems(wide))
    assert metric == ("HD95" if "HD95/a" in names else "dice") and set(long["class"]) == set(names)
    assert len(long) == 2 * len(FRAME) - 6 * lacks
    assert sweeper.judge(long, metric=metric, lower_is_better=False).document.images == 12


def test_several_metrics_and_a_similar_name_of_a_column_are_no_wide_table() -> None:
    several = FRAME.rename(columns={"score": "val_dice"}).assign(val_iou=0.5, iou50=0.5, iou75=0.4, hd95=3.0)
    assert "melt" not in join_problems(several) and "--metric names another" in join_problems(several)
    models = FRAME.rename(columns={"method": "model"})
    assert "melt" not in join_problems(models)


def test_a_wide_table_of_folds_becomes_one_with_folds_and_the_requested_metric() -> None:
    wide = pd.DataFrame({"method": ["a", "b"], "fold1": [0.7, 0.6], "fold2": [0.72, 0.61], "fold3": [0.71, 0.63]})
    long, option = melt_as_printed(wide, join_problems(wide, metric="dice"))
    assert option is None and set(long.columns) == {"method", "fold", "dice"}
    assert sweeper.judge(long, metric="dice").document.methods[0].name == "a"
