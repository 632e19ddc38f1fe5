"""Masks that number their objects are recognised and refused with a step that works; masks of classes are accepted."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeper.core.records import Dataset
from sweeper.data.class_map import read_class_map
from tests.support import annotated
from tests.support.folders import get_mask, has_warning, join_problems, load_folder

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
SIZES = {"largest": -1, "smallest": 1}
"""Which object is number 1, where objects are numbered by their sizes."""


def draw_cells(
    number: Callable[[np.random.Generator], int],
    *,
    order: str = "",
    first: int = 1,
    step: int = 0,
    coloured: bool = False,
    side: int = 128,
    radius: int = 6,
    dtype: type[np.integer] = np.uint8,
) -> Draw:
    """Discs that do not touch, numbered from `first` + image × `step` on, ordered by row, column, size or not."""

    def draw(rng: np.random.Generator, index: int) -> tuple[np.ndarray, np.ndarray]:
        places = range(radius + 2, side - radius, 2 * radius + 4)
        grid = list(itertools.product(places, places))
        chosen = [grid[i] for i in rng.permutation(len(grid))[: number(rng)]]
        chosen.sort(key={"rows": lambda c: c, "columns": lambda c: c[::-1]}.get(order, lambda _: 0))
        mask = np.zeros((side, side), dtype)
        image = rng.normal(80, 10, (side, side, 3))
        rows, columns = np.indices(mask.shape)
        radii = rng.integers(radius - 4 if order in SIZES else radius - 2, radius + 1, len(chosen))
        radii = np.sort(radii)[:: SIZES[order]] if order in SIZES else radii
        for i, (y, x) in enumerate(chosen):
            inside = (rows - y) ** 2 + (columns - x) ** 2 < radii[i] ** 2
            mask[inside] = first + index * step + i
            colour = np.random.default_rng(i).integers(100, 250, 3) if coloured else [150, 100, 90]
            image[inside] = rng.normal(colour, 12, (int(inside.sum()), 3))
        return image.clip(0, 255).astype(np.uint8), mask

    return draw


def draw_parts(rng: np.random.Generator, _: int) -> tuple[np.ndarray, np.ndarray]:
    """Six parts that look alike, each about where it always is: classes."""
    mask = np.zeros((96, 128), np.uint8)
    for i in range(6):
        top, left = 10 + 40 * (i // 3) + rng.integers(-4, 5), 8 + 40 * (i % 3) + rng.integers(-4, 5)
        mask[top : top + 20, left : left + 20] = i + 1
    return (rng.normal(90, 20, (96, 128, 3)) + 40 * (mask > 0)[..., None]).clip(0, 255).astype(np.uint8), mask


def write_set(root: Path, draw: Draw, images: int = 10, suffix: str = ".png", classes: str = "") -> Path:
    annotated.make_folders(root / "images", root / "masks")
    for index in range(images):
        image, mask = draw(np.random.default_rng(index), index)
        Image.fromarray(image).save(root / "images" / f"a{index}.png")
        Image.fromarray(mask).save(root / "masks" / f"a{index}{suffix}")
    if classes:
        (root / "classes.txt").write_text(classes)
    return root


def load_after_the_printed_step(root: Path) -> Dataset:
    """Run the step that the refusal of a data set prints and return the data set."""
    problems = join_problems(root)
    (command,) = set(re.findall(r"echo '[^']+' > \S+\.yaml", problems))
    assert "--class-map objects.yaml" in problems and "without classes.txt" not in problems
    assert "neither look nor place follows from it" in problems or "below 255" in problems
    subprocess.run(command, shell=True, cwd=root.parent, check=True)
    return load_folder(root, class_map=read_class_map(root.parent / "objects.yaml"))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("draw", "images", "classes"),
    [
        (draw_cells(lambda rng: int(rng.integers(5, 15))), 10, ""),
        (draw_cells(lambda rng: 6), 10, ""),
        (draw_cells(lambda rng: int(rng.integers(5, 15)), order="rows"), 10, ""),
        (draw_cells(lambda rng: int(rng.integers(5, 15)), order="columns"), 10, ""),
        (draw_cells(lambda rng: int(rng.integers(5, 15)), order="largest"), 10, ""),  # as Segment Anything writes them
        (draw_cells(lambda rng: int(rng.integers(3, 15)), order="smallest"), 10, ""),
        (draw_cells(lambda rng: int(rng.integers(5, 15)), order="largest", step=15), 10, ""),
        (draw_cells(lambda rng: int(rng.integers(5, 15))), 10, "background\ncell\n"),
        (draw_cells(lambda rng: 8, step=8), 10, ""),  # numbers that run through all images
        (draw_cells(lambda rng: 80, side=160), 5, ""),
        (draw_cells(lambda rng: 300, side=180, radius=3, dtype=np.uint16), 4, ""),
        (draw_cells(lambda rng: 20, first=1000, step=20, dtype=np.uint16), 4, ""),
    ],
)
def test_the_printed_step_turns_numbered_objects_into_one_class(tmp_path, draw, images, classes, suffix):
    root = write_set(tmp_path / "data", draw, images, suffix, classes)
    dataset = load_after_the_printed_step(root)
    assert dataset.classes == ("background", "object")
    for index in range(images):
        truth = draw(np.random.default_rng(index), index)[1] > 0
        assert np.array_equal(get_mask(dataset, index), truth)


@pytest.mark.parametrize(
    "draw",
    [
        draw_parts,
        draw_cells(lambda rng: 8, coloured=True),
        draw_cells(lambda rng: 8, coloured=True, order="rows"),
        draw_cells(lambda rng: 8, order="largest"),
    ],
)
def test_classes_of_one_part_each_are_not_mistaken_for_objects(tmp_path, draw):
    dataset = load_folder(write_set(tmp_path / "data", draw))
    assert len(dataset.classes) > 6 and not has_warning(dataset, "objects")


def test_numbers_that_all_have_names_are_classes(tmp_path):
    names = "".join(f"organ {i}\n" for i in range(7))
    root = write_set(tmp_path / "data", draw_cells(lambda rng: 6), classes=names)
    assert len(load_folder(root).classes) == 7


def test_a_few_numbered_objects_cause_only_a_warning(tmp_path):
    root = write_set(tmp_path / "data", draw_cells(lambda rng: int(rng.integers(1, 5))))
    assert has_warning(load_folder(root), "1 to 4, which look like objects")


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["camvid", "facade_coco", "fruits_both"])
def test_real_classes_without_names_are_not_mistaken_for_objects(tmp_path, real_data, name):
    for folder in ("images", "masks"):
        shutil.copytree(real_data / name / folder, tmp_path / "data" / folder)
    assert not has_warning(load_folder(tmp_path / "data"), "objects")
