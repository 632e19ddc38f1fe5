"""Annotations as tools spell them: ids of any type, boxes among outlines, kinds of shapes, and one fault at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from tests.support import annotated
from tests.support.annotated import HEIGHT, STEMS, WIDTH, has_true_masks, truth
from tests.support.folders import find_problems, get_mask, has_warning, load_folder

# --- COCO: ids ---------------------------------------------------------------------------------------------------

Respell = Callable[[Any], Any]


def write_coco(root: Path, **respell: Respell) -> Path:
    """Make a COCO set whose ids of `images`, `image`_id, ids of `categories` and `category`_id are respelled."""
    annotated.coco(root)
    data = annotated.coco_data()
    for name, entries, key in (
        ("images", data["images"], "id"),
        ("image", data["annotations"], "image_id"),
        ("categories", data["categories"], "id"),
        ("category", data["annotations"], "category_id"),
    ):
        for entry in entries if name in respell else ():
            entry[key] = respell[name](entry[key])
    return save_coco(root, data)


def save_coco(root: Path, data: dict[str, Any]) -> Path:
    (root / "annotations" / "instances_default.json").write_text(json.dumps(data))
    return root


@pytest.mark.parametrize(
    "changes",
    [
        {"images": str},
        {"image": float, "category": float},
        {"image": lambda n: f"{n}.0"},
        {"categories": float, "category": str},
        {"images": lambda n: f" {n}", "category": lambda n: {20: "20"}.get(n, n)},
    ],
)
def test_ids_that_differ_only_in_type_match(tmp_path, changes):
    dataset = load_folder(write_coco(tmp_path / "data", **changes))
    assert annotated.has_true_masks(dataset) and not dataset.warnings


@pytest.mark.parametrize("name", [lambda n: f"{n:012d}", lambda n: f"scan-{n}", str])
def test_image_ids_may_be_any_text(tmp_path, name):
    dataset = load_folder(write_coco(tmp_path / "data", images=name, image=name))
    assert np.array_equal(get_mask(dataset), truth(0))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"image": lambda n: f"{n:04d}"}, 'unknown ones ("0001", "0002" and 6 more; `images` has 1, 2'),
        ({"category": lambda n: f"cat {n}"}, 'category_id: Input should be a valid integer, found "cat 20"'),
        ({"image": lambda n: n + 0.5}, "image_id: Input should be a valid integer, found 1.5"),
        ({"category": lambda _: None}, "should be a valid integer, found null"),
        ({"images": lambda n: {2: "1"}.get(n, n)}, 'an id of its own, whatever its type, found "1" again'),
    ],
)
def test_unmatched_and_invalid_ids_are_refused_with_their_type(tmp_path, changes, problem):
    (message,) = find_problems(write_coco(tmp_path / "data", **changes))
    assert problem in message


# --- one fault at a time -------------------------------------------------------------------------------------------


def break_images(data: dict[str, Any]) -> None:
    data["images"][3]["id"] = [4]


def break_categories(data: dict[str, Any]) -> None:
    for entry in data["categories"]:
        entry["name"] = ""


def lose_images(data: dict[str, Any]) -> None:
    for entry in data["annotations"]:
        entry["image_id"] += 100


def break_shapes(data: dict[str, Any]) -> None:
    for entry in data["annotations"]:
        entry["segmentation"] = [[1, 2, 3]]


@pytest.mark.parametrize("fault", [break_images, break_categories, lose_images, break_shapes])
def test_a_fault_of_a_coco_file_causes_no_further_problems(tmp_path, fault):
    annotated.coco(tmp_path / "data")
    data = annotated.coco_data()
    fault(data)
    assert len({problem.partition("[")[0] for problem in find_problems(save_coco(tmp_path / "data", data))}) == 1


def test_coordinates_of_coco_as_fractions_of_the_size_are_refused(tmp_path):
    annotated.coco(tmp_path / "data")
    data = annotated.coco_data()
    for entry in data["annotations"]:
        for ring in entry["segmentation"]:
            ring[:] = [value / (WIDTH, HEIGHT)[n % 2] for n, value in enumerate(ring)]
    problems = find_problems(save_coco(tmp_path / "data", data))
    assert problems[0].startswith(
        "annotations/instances_default.json: coordinates must be in pixels, found only numbers"
    )


def test_images_of_coco_may_be_named_as_in_an_address(tmp_path):
    root = tmp_path / "data"
    annotated.coco(root)
    data = annotated.coco_data()
    for folder, entry in zip(("", "images/", "upload/1/") * 3, data["images"], strict=False):
        image = root / "images" / entry["file_name"]
        image.rename(image.with_name(f"an ü {image.name}"))
        entry["file_name"] = quote(f"{folder}an ü {image.name}")
    dataset = load_folder(save_coco(root, data))
    assert has_true_masks(dataset)


# --- boxes among outlines ----------------------------------------------------------------------------------------


def write_box(root: Path, index: int, line: int) -> tuple[int, int, int, int]:
    """Write an object of a YOLO set as a box (class, centre, width, height) and return the box in pixels."""
    label, left, top, right, bottom = annotated.boxes(index)[::-1][line]
    path = root / annotated.SIDES[index] / "labels" / f"{STEMS[index]}.txt"
    shares = ((left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT, (right - left) / WIDTH, (bottom - top) / HEIGHT)
    lines = path.read_text().splitlines()
    lines[line] = " ".join([str(label - 1), *(f"{share:.6f}" for share in shares)])
    path.write_text("\n".join(lines) + "\n")
    return left, top, right, bottom


@pytest.mark.parametrize("line", [0, 1])
def test_areas_of_yolo_boxes_among_polygons_are_ignored_and_polygons_are_drawn(tmp_path, line):
    root = tmp_path / "data"
    annotated.yolo(root)
    left, top, right, bottom = write_box(root, 0, line)
    write_box(root, 5, line)
    dataset = load_folder(root)
    expected = truth(0)
    polygon = expected == 1 + line  # the object that is still a polygon
    expected[top:bottom, left:right] = 255
    expected[polygon] = truth(0)[polygon] if line == 0 else 2
    if line == 0:  # the dog was on the cat, whose polygon is below it
        expected[top:bottom, left:right] = 1
    assert np.array_equal(get_mask(dataset), expected)
    assert np.array_equal(get_mask(dataset, 1), truth(1))
    assert has_warning(dataset, "2 of 16 objects have a box and no segmentation")


def test_a_yolo_box_is_cut_at_the_edge_and_one_without_area_covers_nothing(tmp_path):
    root = tmp_path / "data"
    annotated.yolo(root)
    path = root / annotated.SIDES[0] / "labels" / "p0.txt"
    path.write_text(f"{path.read_text()}0 1 1 {8 / WIDTH} {6 / HEIGHT}\n1 0.9 0.1 0 0\n")
    mask = get_mask(load_folder(root))
    assert (mask == 255).sum() == 4 * 3 and (mask[-3:, -4:] == 255).all()


def test_labels_of_only_boxes_are_refused_with_their_number_and_the_next_step(tmp_path):
    root = tmp_path / "data"
    annotated.yolo(root)
    for index in range(len(STEMS)):
        for line in (0, 1):
            write_box(root, index, line)
    (problem,) = find_problems(root)
    assert problem.startswith("data.yaml: objects must have outlines, found only boxes (16 of 16)")
    assert "draw polygons" in problem


@pytest.mark.parametrize(
    "line", ["kpt_shape: [17, 3]", "kpt_shape: [4, 2]\nflip_idx: [1, 0, 2, 3]", "'kpt_shape': [1,2]"]
)
def test_key_points_of_yolo_are_refused(tmp_path, line):
    annotated.yolo(tmp_path / "data")
    with (tmp_path / "data" / "data.yaml").open("a") as file:
        file.write(f"{line}\n")
    (problem,) = find_problems(tmp_path / "data")
    assert problem.startswith("data.yaml: `kpt_shape` says") and "export it as YOLO-seg" in problem


# --- kinds of shapes -----------------------------------------------------------------------------------------------


def write_shapes(root: Path, kind: str, points: list[list[float]] | None = None) -> Path:
    """Return a LabelMe set each of whose images has a cat of this kind before its dog."""
    annotated.labelme(root)
    for index, stem in enumerate(STEMS[:-1]):
        cat, dog = annotated.shapes(index)
        cat |= {"shape_type": kind, "points": points or cat["points"], "direction": 0.4}
        annotated.labelme_json(root / f"{stem}.json", index, shapes=[cat, dog])
    return root


@pytest.mark.parametrize("kind", ["rotation", "quadrilateral", "oriented_rectangle"])
def test_shapes_of_four_corners_are_drawn_as_their_polygon(tmp_path, kind):
    dataset = load_folder(write_shapes(tmp_path / "data", kind))
    assert annotated.has_true_masks(dataset)


@pytest.mark.parametrize("kind", ["cuboid", "ellipse", "Brush"])
def test_shapes_of_an_unknown_kind_are_refused_once_with_a_step_for_all(tmp_path, kind):
    (problem,) = find_problems(write_shapes(tmp_path / "data", kind))
    assert problem.startswith("7 files, e.g. p0.json, p1.json: shape 1 must be one of polygon, ")
    assert f"found '{kind}'; convert all of its kind to polygons at once" in problem and "draw it again" not in problem


def test_a_rotated_rectangle_must_have_four_points(tmp_path):
    problems = find_problems(write_shapes(tmp_path / "data", "rotation", [[1, 1], [9, 2], [9, 9]]))
    assert "must have 4 points as a rotation, found 3" in "".join(problems)


@pytest.mark.parametrize("place", ["/content/set", r"C:\data\set"])
def test_folders_of_yolo_may_be_paths_of_another_machine(tmp_path, place):
    root = tmp_path / "data"
    annotated.yolo(root)
    path = root / "data.yaml"
    path.write_text(path.read_text().replace("..", place))
    dataset = load_folder(root)
    assert has_true_masks(dataset) and tuple(one.split for one in dataset.images) == annotated.SIDES


def test_a_folder_of_yolo_on_two_sides_is_one_problem(tmp_path):
    root = tmp_path / "data"
    annotated.yolo(root)
    path = root / "data.yaml"
    path.write_text(path.read_text().replace("val: ../val", "val: ../train"))
    (problem,) = find_problems(root)
    assert problem == (
        "data.yaml: an image must be on one side of the split, found 4 images in train and val (train/images/p0.png, "
        "train/images/p1.png, train/images/p2.png and 1 more); give val images of its own, or remove it, and "
        "sweeper divides the rest"
    )


def test_a_single_class_is_explained_by_missing_label_files_of_yolo(tmp_path):
    root = tmp_path / "data"
    annotated.yolo(root)
    for path in [*root.glob("*/labels")]:
        path.rename(path.with_name("annotations"))
    (problem,) = find_problems(root)
    assert "add images that show another; or see: 8 images without a text file" in problem


def test_two_annotations_of_an_image_are_refused_without_advice_to_rename(tmp_path):
    root = tmp_path / "data"
    annotated.labelme(root)
    annotated.labelme_json(root / "p0 copy.json", 0, imagePath="p0.png")
    (problem,) = find_problems(root)
    assert problem.endswith("p0.png (p0 copy.json), p0.png (p0.json); rename, remove or join one")


@pytest.mark.parametrize("name", ["folder", "coco", "labelme", "yolo", "manifest"])
def test_file_names_may_be_in_another_case(tmp_path, name):
    root = tmp_path / "data"
    annotated.FORMATS[name](root)
    for path in [path for path in root.rglob("*") if path.suffix in (".png", ".txt")]:
        path.rename(path.with_name(path.name.upper()))
    dataset = load_folder(root)
    assert has_true_masks(dataset) and dataset.classes == annotated.CLASSES


def test_an_empty_name_of_a_file_is_refused_as_empty(tmp_path: Path) -> None:
    annotated.manifest(tmp_path)
    table = tmp_path / "manifest.csv"
    head, first, *others = table.read_text("utf-8").splitlines()
    image, _, *end = first.split(",")
    table.write_text("\n".join([head, ",".join([image, "", *end]), *others]), "utf-8")
    (problem,) = find_problems(tmp_path)
    assert "line 2: mask: the file '' must be in the data folder, found 0 files of that name" in problem
