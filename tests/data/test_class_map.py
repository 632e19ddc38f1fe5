"""`--class-map`: classes merged, renamed and ignored, in the store and in all that is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeper.core.errors import ClassMapError
from sweeper.core.records import Dataset
from sweeper.data.class_map import read_class_map
from sweeper.data.variants import store_here
from tests.support import annotated
from tests.support.folders import find_problems, folder, get_mask, has_warning, list_masks, load_folder, mask

NAMES = "sky\nroad\ncar\ntruck\n"


def read_map(root: Path, text: str) -> dict[str, tuple[str, ...]]:
    """Return the class map of a file with this text."""
    path = root.parent / "map.yaml"
    path.write_text(text, encoding="utf-8")
    return read_class_map(path)


def load_with_map(root: Path, text: str) -> Dataset:
    return load_folder(root, class_map=read_map(root, text), overlap=None)


def list_labels(dataset: Dataset) -> list[int]:
    return np.unique(np.concatenate([mask.ravel() for mask in list_masks(dataset)])).tolist()


def reject(root: Path, text: str, *words: str) -> None:
    """Check that a class map is refused in one line with these words."""
    (problem,) = find_problems(root, class_map=read_map(root, text))
    assert all(word in problem for word in words), problem


def write_labels(root: Path, *labels: int, classes: str = "") -> Path:
    """Write four masks, each with all of these labels."""
    return folder(root, {stem: mask(*labels, shift=i) for i, stem in enumerate("abcd")}, classes=classes)


def test_a_class_map_merges_renames_and_ignores_labels(tmp_path):
    root = write_labels(tmp_path / "data", 0, 1, 2, 3, 255, classes=NAMES)
    dataset = load_with_map(root, "vehicle: [car, 3]\nVoid: [sky, 255]\n")
    assert dataset.classes == ("road", "vehicle") and dataset.task == "binary"
    assert dataset.class_map == {"vehicle": ("car", "3"), "ignore": ("sky", "255")}
    assert list_labels(dataset) == [0, 1, 255]
    assert all((p.pixels, p.ignored) == ((16, 32), 192 - 48) for p in dataset.images)
    assert has_warning(dataset, "vehicle = car + 3, ignore = sky + 255; as they were: road.")
    plain = load_folder(root, overlap=None)
    assert plain.digest != dataset.digest and plain.class_map is None
    assert plain.classes == ("sky", "road", "car", "truck")
    assert load_with_map(root, "vehicle: [car, 3]\nVoid: [sky, 255]\n") == dataset
    Path(dataset.store).rename(tmp_path / "away")
    assert store_here(dataset) == Path(dataset.store)


def test_unmapped_labels_remain_classes_and_are_numbered_without_gaps(tmp_path):
    dataset = load_with_map(write_labels(tmp_path / "data", 0, 38, 75, 200), "road: [75, 38]\n")
    assert dataset.classes == ("background", "road", "class_200") and list_labels(dataset) == [0, 1, 2]


@pytest.mark.parametrize("text", ["crack: [255]", "crack: 1", "crack: [foreground]"])
def test_a_class_map_can_rename_the_foreground_of_masks_of_0_and_255(tmp_path, text):
    dataset = load_with_map(write_labels(tmp_path / "data", 0, 255), text)
    assert dataset.classes == ("background", "crack") and list_labels(dataset) == [0, 1]


def test_ranges_and_any_merge_labels(tmp_path):
    root = write_labels(tmp_path / "data", 0, 1, 2, 7, 9, 255)
    dataset = load_with_map(root, "low: 1-6\nhigh: [7 - 9]")
    assert dataset.classes == ("background", "low", "high") and list_labels(dataset) == [0, 1, 2, 255]
    assert has_warning(dataset, "low = 1-6, high = 7 - 9")
    rest = load_with_map(root, "wide: 1-2\nthing: any\n")
    assert rest.classes == ("background", "wide", "thing") and list_labels(rest) == [0, 1, 2, 255]
    assert has_warning(rest, "thing = any")
    everything = load_with_map(root, "ignore: 9\nthing: any")
    assert [(p.pixels, p.ignored) for p in everything.images] == [((192 - 80, 48), 32)] * 4
    with_255 = load_with_map(root, "thing: 1-65535")
    assert with_255.classes == ("background", "thing") and list_labels(with_255) == [0, 1]


@pytest.mark.parametrize(
    ("text", "classes", "labels"),
    [("thing: any", ("background", "thing"), [0, 1]), ("a: 1-2\nb: 3-999", ("background", "a", "b"), [0, 1, 2])],
)
def test_ranges_map_numbers_above_255(tmp_path, text, classes, labels):
    root = write_labels(tmp_path / "data", 0, 1)
    for i, path in enumerate(sorted((root / "masks").iterdir())):
        deep = np.zeros((12, 16), np.uint16)
        deep[1], deep[3], deep[5], deep[7] = 2, 255, 300 + i, 900
        Image.fromarray(deep).save(path)
    dataset = load_with_map(root, text)
    assert dataset.classes == classes and list_labels(dataset) == labels
    assert all(p.ignored == 0 for p in dataset.images)
    problems = find_problems(root, class_map=read_map(root, "a: 1-899"))
    assert "labels must be below 255 (255 = ignore), found 900" in problems[0]


@pytest.mark.parametrize("size", [1000, 256])
def test_ranges_map_numbers_of_class_and_object(tmp_path, size):
    """As those of Cityscapes (class × 1000 + object) and KITTI (class × 256 + object)."""
    root = write_labels(tmp_path / "data", 0, 1)
    for i, path in enumerate(sorted((root / "masks").iterdir())):
        deep = np.full((12, 16), 7, np.uint16)
        deep[1], deep[3], deep[4], deep[6], deep[9] = 4, 24 * size + 1, 24 * size + 2 + i, 26 * size, 40 * size + 5
        Image.fromarray(deep).save(path)
    assert "where these are class × 1000 + object, name their ranges" in str(find_problems(root))
    ranges = [f"{name}: {c * size}-{c * size + size - 1}" for name, c in (("car", 26), ("person", 24), ("ignore", 40))]
    assert "labels must be below 255" in str(find_problems(root, class_map=read_map(root, "\n".join(ranges[:2]))))
    dataset = load_with_map(root, "\n".join(["road: 7", *ranges]))
    assert dataset.classes == ("background", "class_4", "road", "person", "car")[1:]
    assert [(p.pixels, p.ignored) for p in dataset.images] == [((16, 7 * 16, 2 * 16, 16), 16)] * 4


def test_the_order_of_lines_in_a_class_map_does_not_matter(tmp_path):
    root = write_labels(tmp_path / "data", 0, 1, 2, 3)
    first, second = load_with_map(root, "b: [3]\na: [1, 9]\n"), load_with_map(root, "a: [9, 1]\nb: 3\n")
    assert first.classes == second.classes == ("background", "a", "class_2", "b") and first.digest == second.digest


def test_classes_of_shapes_are_mapped_by_their_names(tmp_path):
    annotated.coco(tmp_path / "data")
    dataset = load_with_map(tmp_path / "data", "animal: [cat, dog]\noverlap: flatten\n")
    assert dataset.classes == ("background", "animal")
    assert np.array_equal(get_mask(dataset), annotated.truth(0) > 0)


def test_a_class_map_that_does_not_fit_the_data_is_refused(tmp_path):
    root = write_labels(tmp_path / "data", 0, 1, 2, 3, classes=NAMES)
    reject(root, "vehicle: [care]", "no class is called 'care', did you mean `car`?", "sky, road, car, truck")
    reject(root, "car: [truck]", "car: is the name of class 2 too", "add 2 to its list")
    reject(root, "a: [9]", "no", "found none of them; there are 0, 1, 2, 3")
    reject(root, "all: [sky, road, car, truck]", "at least two classes must occur")
    (root / "classes.txt").unlink()
    reject(root, "a: [car]", "there is no classes.txt, so that labels are numbers")
    mask(0, 1, 2, 9).save(root / "masks" / "a.png")
    (root / "classes.txt").write_text(NAMES)
    reject(root, "a: [car]", "masks/a.png: labels must be below 4", "or in the class map, found 9")
    assert load_with_map(root, "a: [car]\nignore: 9").classes == ("sky", "road", "a", "truck")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["must be classes with what becomes them"]),
        ("- 1", ["must be classes with what becomes them"]),
        ("3: road\n4: road", ["3: must be the printable name", "4: must be"]),
        ("ignore: 1\nvoid: 2", ["must be the printable name of one class"]),
        ("a: &x [1]", ["an anchor or alias"]),
        ("a: [", ["must be valid YAML"]),
        ("a: 9-3\nb: 300-400\nc: 400-700", ["a: must be", "(ranges): labels above 255 must be in one range each"]),
        (
            "a: []\nb: [x: 1]\nc: [9-3]\nd: [true, ~]\n'': 1",
            ["a: must be", "b: must be", "c: must be", "d: must be", "(empty): must be the printable name"],
        ),
    ],
)
def test_all_problems_of_a_class_map_are_listed_at_once(tmp_path, text, words):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(ClassMapError) as caught:
        read_class_map(path)
    assert len(caught.value.problems) == len(words), caught.value
    assert all(word in str(caught.value) for word in words) and str(path) in str(caught.value)
