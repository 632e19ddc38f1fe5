"""Tables of scores that several test modules judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

import sweeper
from sweeper.evidence.document import AnswerDocument
from sweeper.judging.judgement import Judgement, judge_scores
from sweeper.judging.request import ScoreRequest
from sweeper.judging.rows import ScoreRows, ScoresError

Floats = npt.NDArray[np.float64]


def make_table(scores: Floats, methods: Sequence[str] = ("a", "b")) -> pd.DataFrame:
    """Return the rows of (methods, runs, images) scores."""
    m, s, i = (index.ravel() for index in np.indices(scores.shape))
    return pd.DataFrame({"method": np.array(methods)[m], "seed": s, "image": i, "score": scores.ravel()})


def draw_scores(
    *, methods: int = 2, runs: int = 3, images: int = 40, gap: float = 0.0, seed: float = 0.005, noise: float = 0.02,
    key: int = 0,
) -> Floats:  # fmt: skip
    """Return (methods, runs, images) scores of which the first method's are higher by `gap`."""
    rng = np.random.default_rng(key)
    level = np.zeros((methods, 1, 1))
    level[0] = gap
    return (
        0.7
        + level
        + 0.08 * rng.standard_normal(images)
        + seed * rng.standard_normal((methods, runs, 1))
        + noise * rng.standard_normal((methods, runs, images))
    )


def judge_columns(columns: dict[str, list[Any]], **options: Any) -> Judgement:
    return judge_scores(ScoreRows(columns, "a table"), ScoreRequest(**options))


def list_notes(answer: AnswerDocument) -> list[str]:
    """Return what an answer says of the scores themselves."""
    return [str(remark.values["text"]) for remark in answer.remarks if remark.code == "DATA"]


def find_problems(table: pd.DataFrame | dict[str, list[Any]] | str, **options: Any) -> list[str]:
    """Return why a table, or what a source names, cannot be judged."""
    with pytest.raises(ScoresError) as error:
        judge_columns(table, **options) if isinstance(table, dict) else sweeper.judge(table, **options)
    return list(error.value.problems)
