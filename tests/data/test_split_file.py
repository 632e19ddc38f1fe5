"""Which image trained, validated and tested: the report's split.csv is one that a data set may hold."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sweeper.core.records import Dataset, ImageInfo
from sweeper.data.folds import split_for
from sweeper.data.text_tables import read_sides
from sweeper.report.tables import stems_of, write_split
from tests.support import builders

STEMS = ("a,b", '"', "=1+1", "+x", "-y", "@z", "'q", "日本", "plain", "x 1", "y.2", "z")


def named(**changes: object) -> Dataset:
    images = (
        ImageInfo(stem=stem, height=10, width=10, pixels=(90, 10), group="-g" if stem in STEMS[:3] else None)
        for stem in STEMS
    )
    return builders.dataset(images=tuple(images), **changes)


@pytest.mark.parametrize("folds", [None, 3])
def test_the_table_gives_a_later_reader_the_same_test_images(tmp_path: Path, folds: int | None) -> None:
    dataset = named(excluded=("-left", "out"))
    split = split_for(dataset, study_seed=0, folds=folds, seed=0)
    write_split(dataset, split, tmp_path / "split.csv")
    problems: list[str] = []
    sides = read_sides(tmp_path / "split.csv", [*STEMS, *dataset.excluded], problems)
    assert problems == []
    stems = stems_of(dataset, split)
    assert bool(stems["test"]) is (folds is None)
    assert {stem: side.split for stem, side in sides.items() if side.split} == dict.fromkeys(stems["test"], "test")
    assert [sides[stem].group for stem in STEMS[:4]] == ["-g", "-g", "-g", None]
    with (tmp_path / "split.csv").open(encoding="utf-8", newline="") as file:
        assert not [cell for row in csv.reader(file) for cell in row if cell.startswith(("=", "+", "-", "@"))]


def test_sides_that_the_data_set_gives_stay(tmp_path: Path) -> None:
    """What it leaves open stays open, so that seeds go on dividing it anew."""
    given = named()
    images = [given.images[0].model_copy(update={"split": "val"}), *given.images[1:]]
    dataset = given.model_copy(update={"images": tuple(images)})
    write_split(dataset, split_for(dataset, study_seed=0, folds=None, seed=0), tmp_path / "split.csv")
    sides = read_sides(tmp_path / "split.csv", STEMS, [])
    assert sides[STEMS[0]].split == "val"
    assert {side.split for stem, side in sides.items() if stem != STEMS[0]} == {"test", None}
