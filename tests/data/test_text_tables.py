"""Text files of a data set, with all their faults at once: split.csv, also as the report writes it, and classes.txt."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.records import Dataset, ImageInfo
from sweeper.data.folds import divide_for_training
from sweeper.data.text_tables import read_classes, read_header, read_split_csv
from sweeper.report.tables import write_split
from tests.support import builders

STEMS = ("a,b", '"', "=1+1", "+x", "-y", "@z", "'q", "日本", "plain", "x 1", "y.2", "z")


def make_named_images(**changes: object) -> Dataset:
    images = (
        ImageInfo(stem=stem, height=10, width=10, pixels=(90, 10), group="-g" if stem in STEMS[:3] else None)
        for stem in STEMS
    )
    return builders.dataset(images=tuple(images), **changes)


@pytest.mark.parametrize("folds", [None, 3])
def test_the_written_table_gives_the_same_test_images_when_read(tmp_path: Path, folds: int | None) -> None:
    dataset = make_named_images()
    split = divide_for_training(dataset, study_seed=0, folds=folds, seed=0)
    write_split(dataset, split, tmp_path / "split.csv")
    problems: list[str] = []
    sides = read_split_csv(tmp_path / "split.csv", STEMS, problems)
    assert problems == []
    test = [dataset.images[i].stem for i in split.test]
    assert bool(test) is (folds is None)
    assert {stem: side.split for stem, side in sides.items() if side.split} == dict.fromkeys(test, "test")
    assert [sides[stem].group for stem in STEMS[:4]] == ["-g", "-g", "-g", None]
    with (tmp_path / "split.csv").open(encoding="utf-8", newline="") as file:
        assert not [cell for row in csv.reader(file) for cell in row if cell.startswith(("=", "+", "-", "@"))]


def test_the_written_table_keeps_given_splits(tmp_path: Path) -> None:
    """Of the other images only the test split is written, so that seeds continue to divide the rest."""
    open_set = make_named_images()
    images = [open_set.images[0].model_copy(update={"split": "val"}), *open_set.images[1:]]
    dataset = open_set.model_copy(update={"images": tuple(images)})
    write_split(dataset, divide_for_training(dataset, study_seed=0, folds=None, seed=0), tmp_path / "split.csv")
    sides = read_split_csv(tmp_path / "split.csv", STEMS, [])
    assert sides[STEMS[0]].split == "val"
    assert {side.split for stem, side in sides.items() if stem != STEMS[0]} == {"test", None}


def read_sides(tmp_path: Path, text: str) -> tuple[dict[str, tuple[str | None, str | None]], list[str]]:
    path, problems = tmp_path / "split.csv", []
    path.write_text(text)
    return {stem: tuple(side) for stem, side in read_split_csv(path, "abcd", problems).items()}, problems


def test_splits_and_groups_are_read(tmp_path: Path) -> None:
    sides, problems = read_sides(
        tmp_path, "note,group,stem,split\nx,g,a,training\n,,b,Validation\n,g,c, Train\n,h,d,\n"
    )
    assert sides == {"a": ("train", "g"), "b": ("val", None), "c": ("train", "g"), "d": (None, "h")} and not problems
    sides, problems = read_sides(tmp_path, "stem,group\na,g\nb,\nc,g\nd,h\n")  # sweeper divides them
    assert sides == {"a": (None, "g"), "b": (None, None), "c": (None, "g"), "d": (None, "h")} and not problems


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbfStem;Split;Group;\r\na;Train;g;\r\nb;;;\r\nc;test;h;\r\nd;VAL;;\r\n;;;\r\n",
        "STEM\tSPLIT\tGROUP\na\ttrain\tg\nb\nc\ttest\th\nd\tval\n".encode("utf-16"),
        b'sep=;\n"stem";"group";"split"\n"a";"g";"train"\n"b";"";""\n"c";"h";"test"\n"d";"";"val"\n',
    ],
)
def test_a_table_from_a_spreadsheet_is_read(tmp_path: Path, raw: bytes) -> None:
    path, problems = tmp_path / "split.csv", []
    path.write_bytes(raw)
    sides = {stem: tuple(side) for stem, side in read_split_csv(path, "abcd", problems).items()}
    assert not problems and {*read_header(path)} == {"stem", "split", "group"}
    assert sides == {"a": ("train", "g"), "b": (None, None), "c": ("test", "h"), "d": ("val", None)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "stem,split\na,train\na,val\nb,vaal\nzz,\nc,\n",
            [
                "line 3: a row must have the stem of an image (without extension), each once, found 'a'",
                "line 4: split must be train, val, test or empty, found 'vaal'",
                "line 5: a row must have the stem of an image (without extension), each once, found 'zz'",
                "found none for 'd'",
            ],
        ),
        ("a;b\n", ["columns stem and split"]),
        ('stem,split\n"a', ["comma-separated"]),
        ("\n", ["columns"]),
    ],
)
def test_faults_of_split_csv_are_listed_together(tmp_path: Path, text: str, words: list[str]) -> None:
    _, problems = read_sides(tmp_path, text)
    assert len(problems) == len(words)
    assert all(word in problem and "split.csv" in problem for word, problem in zip(words, problems, strict=True))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x\n\nx\na\x1bb\n", [f"line {number}: names must be printable and different" for number in (2, 3, 4)]),
        ("c0\n", ["2 to 255 classes, found 1"]),
        ("# classes\nroad\ncar\n", ["line 1: names must be printable and different, and no comments"]),
        ("".join(f"c{i}\n" for i in range(256)), ["2 to 255 classes, found 256"]),
    ],
)
def test_faults_of_classes_txt_are_listed_together(tmp_path: Path, text: str, words: list[str]) -> None:
    path, problems = tmp_path / "classes.txt", []
    path.write_text(text)
    assert read_classes(path, problems) is None
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=80) | st.text(alphabet="stem,plit\n\"' aé;\r", max_size=60).map(str.encode))
def test_reading_the_tables_never_raises(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("tables") / "x"
    path.write_bytes(content)
    problems: list[str] = []
    names = read_classes(path, problems)
    assert (names is None) == bool(problems)
    problems.clear()
    sides = read_split_csv(path, ["a", "b"], problems)
    assert problems or set(sides) == {"a", "b"}
