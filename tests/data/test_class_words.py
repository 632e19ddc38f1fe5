"""A class whose name says background is class 0, one that says ignore is 255, wherever the names come from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sweeper.core.records import IGNORE
from sweeper.data.class_map import read_class_map
from sweeper.data.class_words import find_background, put_background_first
from tests.support import annotated
from tests.support.folders import folder, has_warning, list_masks, load_folder, mask
from tests.support.pasting import paste


@pytest.mark.parametrize(
    ("names", "ordered", "labels", "note"),
    [
        (("leaf", "background"), ("background", "leaf"), (1, 0), "background is class 0, not 1"),
        (("a", "b", "_BackGround_"), ("_BackGround_", "a", "b"), (1, 2, 0), "_BackGround_ is class 0, not 2"),
        (("a", "BG", "b"), ("BG", "a", "b"), (1, 0, 2), "BG is class 0, not 1"),
        (("a", "un-labelled"), ("un-labelled", "a"), (1, 0), "un-labelled is class 0"),
        (("other", "a", "background"), ("background", "other", "a"), (1, 2, 0), "background is class 0, not 2"),
        (("a", "other", "none"), ("other", "a", "none"), (1, 0, 2), "other is class 0, not 1"),
        (("crack", "void"), ("void", "crack"), (1, 0), "void is class 0, not 1"),
        (("a", "Void", "b"), ("a", "b"), (0, IGNORE, 1), "Void is ignored"),
        (("void", "b", "bg"), ("bg", "b"), (IGNORE, 1, 0), "bg is class 0, not 2 and void is ignored"),
        (("a", "b", "ignore"), ("a", "b"), (0, 1, IGNORE), "ignore is ignored"),
        (
            ("Background", "a", "background"),
            ("Background", "a", "background"),
            (0, 1, 2),
            "background is a class of its own (`Background: [Background, background]` joins them)",
        ),
        (("unlabelled", "a"), ("unlabelled", "a"), (0, 1), "unlabelled is trained (`ignore: [unlabelled]` ignores it)"),
        (("none", "other", "x"), ("none", "other", "x"), (0, 1, 2), None),
        (("road", "car", "another", "bgr"), ("road", "car", "another", "bgr"), (0, 1, 2, 3), None),
    ],
)
def test_a_background_becomes_class_0_and_void_is_ignored(names, ordered, labels, note):
    notes: list[str] = []
    classes, table = put_background_first(names, notes)
    assert classes == ordered and tuple(table[: len(names)]) == labels
    assert (note in notes[0]) if note else not notes


@given(st.lists(st.sampled_from(["void", "ignore", "bg", "other", "none", "a", "b", "c"]), min_size=2, unique=True))
def test_only_the_order_of_classes_changes(names):
    classes, table = put_background_first(names, [])
    assert {*classes} <= {*names} and len(classes) == len({*table[: len(names)]} - {IGNORE})
    assert [classes[label] for label in table[: len(names)] if label != IGNORE] == [n for n in names if n in classes]
    assert find_background(classes) in (None, 0) and list(table[len(names) :]) == [*range(len(names), 256)]


@pytest.mark.parametrize("source", ["classes.txt", "colors.txt", "labelmap.txt", "colours with classes.txt"])
def test_every_source_of_class_names_puts_the_background_first(tmp_path, source):
    """Three rows of leaf in each image, whatever the files number it."""
    coloured = source != "classes.txt"
    leaf, ground = (np.array([0, 99, 0], np.uint8), np.zeros(3, np.uint8)) if coloured else (np.uint8(0), np.uint8(1))
    rows = [np.arange(12)[:, None] < 3 + i for i in range(4)]
    area = [np.broadcast_to(row, (12, 16)) for row in rows]
    masks = [Image.fromarray(np.where(a[..., None] if coloured else a, leaf, ground).astype(np.uint8)) for a in area]
    root = folder(tmp_path / "data", dict(zip("abcd", masks, strict=True)))
    if coloured:
        name = "labelmap.txt" if source == "labelmap.txt" else "colors.txt"
        (root / name).write_text("leaf:0,99,0::\nbackground:0,0,0::\n")
    if "classes.txt" in source:
        (root / "classes.txt").write_text("leaf\nbackground\n")
    dataset = load_folder(root)
    assert dataset.classes == ("background", "leaf") and dataset.task == "binary"
    assert [image.pixels[1] for image in dataset.images] == [48, 64, 80, 96]
    assert has_warning(dataset, "background is class 0, not 1")
    assert load_folder(root) == dataset


def test_the_names_in_a_class_map_decide_which_class_is_background(tmp_path):
    root = folder(tmp_path / "data", {s: mask(0, 1, 2) for s in "abcd"}, classes="water\nsoil\nother")

    assert load_folder(root).classes == ("other", "water", "soil")
    assert load_folder(root, class_map={"rest": ("other",)}).classes == ("water", "soil", "rest")
    assert load_folder(root, class_map={"background": ("soil",)}).classes == ("background", "water", "other")


@pytest.mark.parametrize(
    ("name", "renamed", "classes", "labels"),
    [
        ("labelme", {'"cat"': '"void"', '"dog"': '"other"'}, ("background", "other"), {0, 1, IGNORE}),
        ("coco", {'"cat"': '"BG"'}, ("background", "dog"), {0, 1}),
        ("yolo", {"'cat', 'dog'": "'dog', 'background'"}, ("background", "dog"), {0, 1}),
    ],
)
def test_shapes_called_void_are_ignored_and_those_called_bg_are_background(tmp_path, name, renamed, classes, labels):
    annotated.FORMATS[name](tmp_path / "data")
    for path in [*(tmp_path / "data").rglob("*.json"), *(tmp_path / "data").rglob("*.yaml")]:
        for before, after in renamed.items():
            path.write_text(path.read_text().replace(before, after))
    dataset = load_folder(tmp_path / "data")
    assert dataset.classes == classes
    assert all({*np.unique(mask)} == labels for mask in list_masks(dataset))


@pytest.mark.parametrize("names", [("background", "Car", "car"), ("background", "traffic light", "Traffic_Light")])
def test_names_that_differ_by_case_or_blanks_are_joined_by_the_printed_map(tmp_path, names):
    root = folder(tmp_path / "data", {stem: mask(0, 1, 2) for stem in "abcd"}, classes="\n".join(names))
    dataset = load_folder(root)
    (warning,) = (line for line in dataset.warnings if "differ only by case or blanks" in line)
    assert paste(warning.split("`")[1], tmp_path).returncode == 0
    joined = load_folder(root, class_map=read_class_map(tmp_path / "alike.yaml"))
    assert joined.classes == names[:2] and joined.images[0].pixels[1] == sum(dataset.images[0].pixels[1:])
    assert not has_warning(joined, "differ only by case")
