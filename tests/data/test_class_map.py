"""`--class-map`: classes merged, renamed and ignored, in the store and in all that is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeper.core.errors import ClassMapError, DataError
from sweeper.core.records import Dataset
from sweeper.data import load_dataset, open_store
from sweeper.data.class_map import read_class_map
from sweeper.data.variants import store_here
from tests.support import annotated
from tests.support.folders import folder, mask

NAMES = "sky\nroad\ncar\ntruck\n"


def mapped(root: Path, text: str) -> Dataset:
    path = root.parent / "map.yaml"
    path.write_text(text, encoding="utf-8")
    return load_dataset(str(root), root.parent / "cache", class_map=read_class_map(path))


def labels(dataset: Dataset) -> list[int]:
    store = open_store(dataset.store)
    return [int(v) for v in np.unique(np.concatenate([store.get_mask(i).ravel() for i in range(len(store))]))]


def refused(root: Path, text: str, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        mapped(root, text)
    assert len(caught.value.problems) == 1, caught.value
    for word in words:
        assert word in caught.value.problems[0]


def many(root: Path, *found: int, classes: str = "") -> Path:
    return folder(root, {stem: mask(*found, shift=i) for i, stem in enumerate("abcd")}, classes=classes)


def test_labels_are_merged_renamed_and_ignored_everywhere(tmp_path):
    root = many(tmp_path / "data", 0, 1, 2, 3, 255, classes=NAMES)
    dataset = mapped(root, "vehicle: [car, 3]\nVoid: [sky, 255]\n")
    assert dataset.classes == ("road", "vehicle") and dataset.task == "binary"
    assert dataset.class_map == {"vehicle": ("car", "3"), "ignore": ("sky", "255")}
    assert labels(dataset) == [0, 1, 255]
    assert all((p.pixels, p.ignored) == ((16, 32), 192 - 48) for p in dataset.images)
    assert any("vehicle = 2 + 3, ignore = 0 + 255; as they were: road." in warning for warning in dataset.warnings)
    plain = load_dataset(str(root), tmp_path / "cache")
    assert (
        plain.digest != dataset.digest and plain.class_map is None and plain.classes == ("sky", "road", "car", "truck")
    )
    assert mapped(root, "vehicle: [car, 3]\nVoid: [sky, 255]\n") == dataset
    Path(dataset.store).rename(tmp_path / "away")
    assert store_here(dataset) == Path(dataset.store)


def test_what_the_map_does_not_name_stays_and_gaps_close(tmp_path):
    dataset = mapped(many(tmp_path / "data", 0, 38, 75, 200), "road: [75, 38]\n")
    assert dataset.classes == ("background", "road", "class_200") and labels(dataset) == [0, 1, 2]


@pytest.mark.parametrize("text", ["crack: [255]", "crack: 1", "crack: [foreground]"])
def test_the_foreground_of_a_set_of_0_and_255_can_be_named(tmp_path, text):
    dataset = mapped(many(tmp_path / "data", 0, 255), text)
    assert dataset.classes == ("background", "crack") and labels(dataset) == [0, 1]


def test_ranges_and_any_put_labels_together(tmp_path):
    root = many(tmp_path / "data", 0, 1, 2, 7, 9, 255)
    dataset = mapped(root, "low: 1-6\nhigh: [7 - 9]")
    assert dataset.classes == ("background", "low", "high") and labels(dataset) == [0, 1, 2, 255]
    assert any("low = 1 + 2 + 3 + 4 + 5 + 6, high = 7 + 8 + 9" in warning for warning in dataset.warnings)
    rest = mapped(root, "wide: 1-2\nthing: any\n")
    assert rest.classes == ("background", "wide", "thing") and labels(rest) == [0, 1, 2, 255]
    assert any("thing = any" in warning for warning in rest.warnings)
    everything = mapped(root, "ignore: 9\nthing: any")
    assert [(p.pixels, p.ignored) for p in everything.images] == [((192 - 80, 48), 32)] * 4
    with_255 = mapped(root, "thing: 1-65535")
    assert with_255.classes == ("background", "thing") and labels(with_255) == [0, 1]
    refused(root, "a: 1-7\nb: 7-9", "b: 7 can become one class, found in a too")


@pytest.mark.parametrize(
    ("text", "classes", "found"),
    [("thing: any", ("background", "thing"), [0, 1]), ("a: 1-2\nb: 3-999", ("background", "a", "b"), [0, 1, 2])],
)
def test_numbers_beyond_255_are_taken_by_ranges(tmp_path, text, classes, found):
    root = many(tmp_path / "data", 0, 1)
    for i, path in enumerate(sorted((root / "masks").iterdir())):
        deep = np.zeros((12, 16), np.uint16)
        deep[1], deep[3], deep[5], deep[7] = 2, 255, 300 + i, 900
        Image.fromarray(deep).save(path)
    dataset = mapped(root, text)
    assert dataset.classes == classes and labels(dataset) == found
    assert all(p.ignored == 0 for p in dataset.images)
    with pytest.raises(DataError, match=r"labels must be below 255 \(255 = ignore\), found 900"):
        mapped(root, "a: 1-899")


def test_the_order_of_lines_changes_nothing(tmp_path):
    root = many(tmp_path / "data", 0, 1, 2, 3)
    first, second = mapped(root, "b: [3]\na: [1, 9]\n"), mapped(root, "a: [9, 1]\nb: 3\n")
    assert first.classes == second.classes == ("background", "a", "class_2", "b") and first.digest == second.digest


def test_classes_of_shapes_are_mapped_by_their_names(tmp_path):
    annotated.coco(tmp_path / "data")
    dataset = mapped(tmp_path / "data", "animal: [cat, dog]\n")
    assert dataset.classes == ("background", "animal")
    assert np.array_equal(open_store(dataset.store).get_mask(0), annotated.truth(0) > 0)


def test_what_does_not_fit_the_data_is_refused(tmp_path):
    root = many(tmp_path / "data", 0, 1, 2, 3, classes=NAMES)
    refused(root, "vehicle: [care]", "no class is called 'care', did you mean `car`?", "sky, road, car, truck")
    refused(root, "a: [car]\nb: [02]", "b: 2 (car) can become one class, found in a too")
    refused(root, "car: [truck]", "car: is the name of class 2 too", "add 2 to its list")
    refused(root, "a: [9]", "no", "found none of them; there are 0, 1, 2, 3")
    refused(root, "all: [sky, road, car, truck]", "at least two classes must occur")
    (root / "classes.txt").unlink()
    refused(root, "a: [car]", "there is no classes.txt, so that labels are numbers")
    mask(0, 1, 2, 9).save(root / "masks" / "a.png")
    (root / "classes.txt").write_text(NAMES)
    refused(root, "a: [car]", "masks/a.png: labels must be below 4", "or in the class map, found 9")
    assert mapped(root, "a: [car]\nignore: 9").classes == ("sky", "road", "a", "truck")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["must be classes with what becomes them"]),
        ("- 1", ["must be classes with what becomes them"]),
        ("3: road\n4: road", ["write them the other way round"]),
        ("ignore: 1\nvoid: 2", ["must stand once"]),
        ("a: &x [1]", ["anchors"]),
        ("a: [", ["must be valid YAML"]),
        ("a: 9-3\nb: 300-400\nc: 1-70000", ["a: labels must be", "b: labels must be", "c: labels must be"]),
        (
            "a: []\nb: [x: 1]\nc: [300]\nd: [true, ~]\n'': 1",
            ["a: must list", "b: must list", "c: labels must be 0 to 255, got 300", "d: must list", "printable"],
        ),
    ],
)
def test_a_wrong_file_gets_one_list_of_all_problems(tmp_path, text, words):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(ClassMapError) as caught:
        read_class_map(path)
    assert len(caught.value.problems) == len(words), caught.value
    assert all(word in str(caught.value) for word in words) and str(path) in str(caught.value)
