"""Files of scores: a file that is not a table is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.judging.read import read_table
from sweeper.judging.rows import ScoresError


@pytest.mark.parametrize("text", ["", "\n", " \n\n", "\ufeff"])
def test_an_empty_file_is_one_problem(tmp_path: Path, text: str) -> None:
    (tmp_path / "scores.csv").write_text(text, "utf-8")
    with pytest.raises(ScoresError) as caught:
        read_table(tmp_path / "scores.csv")
    (problem,) = caught.value.problems
    assert problem.endswith("got an empty file; write method,seed,image,score, and a row below for each score")


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("method,score\n", "utf-8")
    assert read_table(tmp_path / "scores.csv").to_dict("list") == {"method": [], "score": []}
