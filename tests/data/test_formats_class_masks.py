"""One mask for each class of an image: joined, or refused with which file is of which class."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeper.core.records import IGNORE, Patterns
from tests.support import annotated
from tests.support.folders import find_problems, get_mask, has_warning, join_problems, list_masks, load_folder


def draw_corner(rows: int, columns: int, value: int) -> Image.Image:
    """Return a corner of so many rows and columns."""
    mask = np.zeros((annotated.HEIGHT, annotated.WIDTH), np.uint8)
    mask[:rows, :columns] = value
    return Image.fromarray(mask)


def write_masks(root: Path, image: str, masks: str, classes: tuple[str, ...] = ("road", "car"), value: int = 255):
    """Write six images; of classes the first covers 20 rows of 40 columns, each other 5 rows of 10 fewer."""
    for index in range(6):
        stem = f"a{index}"
        path = root / image.format(stem)
        annotated.make_folders(path.parent)
        annotated.photo(index).save(path)
        for place, name in enumerate(classes):
            path = root / masks.format(stem, name)
            annotated.make_folders(path.parent)
            draw_corner(5 if place else 20, 40 - 10 * place, value).save(path)
    return root


@pytest.mark.parametrize(
    ("image", "masks", "value"),
    [
        ("images/{}.png", "masks/{0}_{1}.png", 255),
        ("images/{}.jpg", "masks/{1}-{0}.png", 1),
        ("img/{}.png", "gt/{1}/{0}.png", 255),
        ("images/{}.png", "labels/{0}/{1}.png", 7),
        ("images/{}.png", "masks/{0}_{1}_mask.png", 255),
        ("images/{}.png", "masks/mask_{0}_{1}.tif", 255),
        ("images/{}.png", "masks/{0}.{1}.png", 255),
        ("images/{}.png", "{1}/{0}.png", 255),
        ("train/images/{}.png", "train/masks/{1}/{0}.png", 255),
        ("{}.jpg", "{0}_{1}.png", 255),
        ("images/{}.png", "masks/{0}_{1}.jpg", 255),
        ("P{0}/images/{0}.png", "P{0}/masks/{1}/{0}.png", 255),
        ("images/p_{}.png", "masks/p_{1}_{0}.png", 255),
    ],
)
def test_class_masks_are_joined_and_the_smaller_class_counts_where_they_overlap(tmp_path, image, masks, value):
    dataset = load_folder(write_masks(tmp_path / "data", image, masks, value=value))
    assert dataset.classes == ("background", "car", "road")
    assert {image.pixels for image in dataset.images} == {(48 * 64 - 800, 150, 650)}
    warnings = " ".join(dataset.warnings)
    assert re.search(r"joined \(\S*a0\S* is (car|road)\): classes are background, car, road; where two", warnings)


def test_class_masks_may_have_long_names_a_background_and_classes_txt(tmp_path):
    names = ("optic_disc", "optic_cup", "background", "void")
    dataset = load_folder(write_masks(tmp_path / "data", "images/{}.png", "masks/{0}_{1}.png", names))
    assert dataset.classes == ("background", "optic_cup", "optic_disc")
    assert has_warning(dataset, "classes are background, optic_cup, optic_disc;")
    mask = get_mask(dataset)
    assert [mask[0, column] for column in (0, 15, 25, 35, 50)] == [IGNORE, 0, 1, 2, 0]
    root = write_masks(tmp_path / "listed", "images/{}.png", "masks/{0}_{1}.png")
    (root / "classes.txt").write_text("ground\nroad\ncar\n")
    assert load_folder(root).classes == ("ground", "road", "car") and load_folder(root).images[0].pixels[2] == 150
    (root / "classes.txt").write_text("ground\nroad\n")
    assert "labels must be those of classes.txt (2 classes), found car; add them" in join_problems(root)


def test_uncovered_pixels_are_ignored_if_classes_txt_has_no_background(tmp_path):
    root = write_masks(tmp_path / "data", "images/{}.png", "masks/{0}_{1}.png")
    (root / "classes.txt").write_text("road\ncar\n")
    dataset = load_folder(root)
    assert {(image.pixels, image.ignored) for image in dataset.images} == {((650, 150), 48 * 64 - 800)}
    assert "names no background: what no annotation covers is ignored" in " ".join(dataset.warnings)


def test_a_class_name_in_both_folder_and_file_name_counts_once(tmp_path):
    dataset = load_folder(write_masks(tmp_path / "data", "images/{}.png", "masks/{1}/{0}_{1}.png", ("MA", "EX")))
    assert dataset.classes == ("background", "EX", "MA")


def test_images_with_masks_of_different_classes_are_not_read_as_one_foreground(tmp_path):
    root = write_masks(tmp_path / "data", "images/{}.png", "masks/{0}_{1}.png")
    for index in range(6):
        (root / "masks" / f"a{index}_{'road' if index % 2 else 'car'}.png").unlink()
    assert "has no image of its name" in join_problems(root)


def test_patterns_find_class_masks_and_an_image_may_lack_a_class(tmp_path):
    root = write_masks(tmp_path / "data", "x/{}.png", "y/{1}/of_{0}.png")
    (root / "y" / "car" / "of_a3.png").unlink()
    dataset = load_folder(root, patterns=Patterns(images="x/*.png", masks="y/*/of_{stem}.png"))
    assert dataset.classes == ("background", "car", "road")
    assert [image.pixels[1] > 0 for image in dataset.images] == [True] * 3 + [False] + [True] * 2


def test_leading_zeros_and_numbered_folders_do_not_prevent_pairing_class_masks(tmp_path):
    """As CelebAMask-HQ has them: folder 0 holds masks of many images, and is not the image 0."""
    root = tmp_path / "data"
    for index in range(6):
        write_masks(root, "HQ-img/{}.jpg", f"HQ-mask-anno/{index // 4}/{{0}}_{{1}}.png", ("skin", "hair"))
    for index in range(6):
        (root / "HQ-img" / f"a{index}.jpg").rename(root / "HQ-img" / f"{index}.jpg")
        for name in ("skin", "hair"):
            (root / f"HQ-mask-anno/{1 - index // 4}/a{index}_{name}.png").unlink()
            path = root / f"HQ-mask-anno/{index // 4}/a{index}_{name}.png"
            path.rename(path.with_name(f"0000{index}_{name}.png"))
    dataset = load_folder(root)
    assert dataset.classes == ("background", "hair", "skin") and len(dataset.images) == 6
    assert {image.pixels for image in dataset.images} == {(48 * 64 - 800, 150, 650)}


def draw_twice(root: Path, masks: str, shift: int, colour: tuple[int, int, int] | None = None) -> Path:
    """Write six images with masks of two names, of the same rows except for a shift."""
    write_masks(root, "{}.png", masks, ("ah", "vk"))
    for index in range(6):
        for name in ("ah", "vk"):
            mask = np.zeros((annotated.HEIGHT, annotated.WIDTH, *((3,) if colour else ())), np.uint8)
            mask[10 + shift * (name == "ah") : 30] = colour or 255
            Image.fromarray(mask).save(root / masks.format(f"a{index}", name))
    return root


def test_two_annotators_are_no_classes_and_the_printed_options_select_one(tmp_path):
    """As STARE has them: two annotators, called by letters."""
    root = draw_twice(tmp_path / "nested", "{0}.{1}.png", 2)
    # One within the other, as an optic cup is in its disc.
    assert load_folder(root).classes == ("background", "ah", "vk")
    for index in range(6):
        (root / f"a{index}.vk.png").unlink()
        draw_corner(28, 64, 255).save(root / f"a{index}.vk.png")
    (problem,) = find_problems(root, overlap=None)
    assert "classes must hardly overlap, found 53 % of their pixels in several; `echo 'overlap: keep'" in problem
    assert problem.endswith("to take those of ah alone: --images '??.png' --masks '*.ah.*'")
    dataset = load_folder(root, patterns=Patterns(images="??.png", masks="*.ah.*"))
    assert dataset.classes == ("background", "foreground")


def test_coloured_class_masks_are_refused_with_options_that_work(tmp_path):
    """As KITTI's roads have them."""
    root = draw_twice(tmp_path / "data", "{0}_{1}.png", 0, (255, 0, 255))
    problems = join_problems(root)
    assert (
        "where an image has masks of several classes; to take those of ah alone: --images '??.*' --masks '*_ah.*'"
        in problems
    )
    (root / "colors.txt").write_text("road:255,0,255::\nbackground:0,0,0::\n")
    assert load_folder(root, patterns=Patterns(images="??.*", masks="*_ah.*")).classes == ("background", "road")


@pytest.mark.parametrize(
    ("masks", "classes"),
    [
        ("masks/{0}_{1}.png", ("mask", "gt")),
        ("masks/{0}_{1}.png", ("1", "2")),
        ("masks/{0}_{1}.png", ("manual1", "manual2")),
        ("masks/{0}/{0}-{1}.png", ("object_1", "object_2", "tree")),
        ("masks/{1}/{0}.png", ("reader1", "reader2")),
        ("masks/{0}_{1}.png", ("1stHO", "2ndHO")),
        ("masks/{1}/{0}.png", ("3rd_reader", "4th_reader")),
    ],
)
def test_annotators_and_numbered_objects_are_no_classes(tmp_path, masks, classes):
    problems = join_problems(write_masks(tmp_path / "data", "images/{}.png", masks, classes))
    assert "an image has one mask, or one for each class" in problems and "remove" not in problems


def test_names_that_differ_for_each_image_are_no_classes(tmp_path):
    root = write_masks(tmp_path / "data", "images/{}.png", "masks/{0}_{1}.png")
    for number, path in enumerate(sorted((root / "masks").iterdir())):
        path.rename(path.with_name(path.name.replace("car", f"car{chr(97 + number)}x").replace("ro", f"r{number}")))
    assert "or one for each class, called alike for all images" in join_problems(root)


def write_objects(root: Path, image: str, mask: str) -> Path:
    """Write four images with 1, 2, 3 and 4 masks, each of one row of 8 pixels."""
    for index in range(4):
        path = root / image.format(f"p{index}")
        annotated.make_folders(path.parent)
        annotated.photo(index).save(path)
        for number in range(index + 1):
            drawing = np.zeros((annotated.HEIGHT, annotated.WIDTH), np.uint8)
            drawing[2 * number, :8] = 255
            path = root / mask.format(f"p{index}", number, f"c{index}{number}ffa")
            annotated.make_folders(path.parent)
            Image.fromarray(drawing).save(path)
    return root


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{0}/images/{0}.png", "{0}/masks/{2}.png"),
        ("images/{}.jpg", "masks/{0}/{2}-1.png"),
        ("images/{}.jpg", "masks/{0}_{1}.png"),
        ("images/{}.jpg", "masks/{0}/mask{1}.png"),
        ("images/{}.jpg", "masks/{0}/object_{2}.png"),
        ("images/{}.jpg", "masks/{0}/object_{1}.png"),
    ],
)
def test_masks_of_single_objects_are_joined_into_one_foreground(tmp_path, image, mask):
    dataset = load_folder(write_objects(tmp_path / "data", image, mask))
    assert dataset.classes == ("background", "foreground")
    assert [image.pixels[1] for image in dataset.images] == [8, 16, 24, 32]
    assert has_warning(dataset, "Up to 4 masks of an image, whose names say no class, were joined as objects")


def test_classes_txt_names_the_class_of_object_masks_which_may_not_overlap(tmp_path):
    root = write_objects(tmp_path / "data", "images/{}.png", "masks/{0}/{2}.png")
    (root / "classes.txt").write_text("slide\nnucleus\n")
    assert load_folder(root).classes == ("slide", "nucleus")
    (root / "classes.txt").write_text("slide\nnucleus\nmitosis\n")
    problems = join_problems(root)
    assert "classes.txt: must have two classes, found 3: " in problems and "call masks by their classes" in problems
    (root / "classes.txt").unlink()
    for path in (root / "masks" / "p3").iterdir():
        draw_corner(9, 9, 255).save(path)
    assert "must hardly overlap, found 81 of 81 pixels in several of 4 masks" in join_problems(root)


def test_a_class_mask_of_several_numbers_or_wrong_size_is_reported_with_its_class(tmp_path):
    root = write_masks(tmp_path / "data", "images/{}.png", "masks/{0}_{1}.png")
    Image.fromarray(annotated.truth(0)).save(root / "masks" / "a2_car.png")
    Image.new("L", (8, 8)).save(root / "masks" / "a4_road.png")
    problems = join_problems(root)
    assert "a mask of one class (car) must hold 0 and one other number, found 1, 2 in masks/a2_car.png" in problems
    assert "masks/a4_car.png + masks/a4_road.png: masks of one image must have one size" in problems


def test_masks_of_label_studio_are_refused_with_their_class_and_a_step_that_works(tmp_path):
    form = "masks/task-{0}-annotation-9-by-1-tag-{1}-0.png"
    root = write_masks(tmp_path / "data", "images/{}.png", form)
    for path in sorted((root / "masks").iterdir()):
        path.rename(path.with_name(path.name.replace("task-a", "task-")))
    text = join_problems(root)
    assert "masks/task-0-annotation-9-by-1-tag-car-0.png (class car of task 0)" in text and "remove" not in text
    step = text.split("for IMAGE: ")[1]
    for task in range(6):
        for name in ("car", "road"):
            command = step.replace("task-0-", f"task-{task}-").replace("car", name).replace("IMAGE", f"a{task}")
            subprocess.run(command, shell=True, check=True, cwd=root)
    assert load_folder(root).classes == ("background", "car", "road")


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_class_masks_saved_as_jpeg_are_read_by_half_range(tmp_path, quality):
    exact = load_folder(write_masks(tmp_path / "exact", "images/{}.png", "masks/{}_{}.png"))
    root = write_masks(tmp_path / "data", "images/{}.png", "masks/{}_{}.png")
    for path in (root / "masks").iterdir():
        with Image.open(path) as mask:
            mask.convert("L").save(path.with_suffix(".jpg"), quality=quality)
        path.unlink()
    lossy = load_folder(root)
    assert lossy.classes == exact.classes
    pairs = zip(list_masks(exact), list_masks(lossy), strict=True)
    assert all(np.mean(mask != smeared) < 0.01 for mask, smeared in pairs)
