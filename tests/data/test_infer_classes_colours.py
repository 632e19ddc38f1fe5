"""Coloured masks without a map of colours: the printed map is pasted and must make the data set readable."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from matplotlib import image
from PIL import Image

from sweeper.core.records import Dataset, Patterns
from sweeper.data import load_dataset
from tests.support.folders import find_problems, folder, load_folder
from tests.support.pasting import paste

VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128)]


def draw_colours(
    root: Path, *colours: tuple[int, int, int], suffix: str = ".png", number: int = 6, classes: str = ""
) -> Path:
    """Write masks of 24×32 in the first colour, with a row of each of the others; the last one is only in one mask."""
    folder(root, dict.fromkeys("abcdefghijkl"[:number]), classes=classes)
    for index, stem in enumerate("abcdefghijkl"[:number]):
        pixels = np.full((24, 32, 3), colours[0], np.uint8)
        last = len(colours) - (index < number - 1 and len(colours) > 2)
        for row, colour in enumerate(colours[1:last]):
            pixels[row + index % 2] = colour
        Image.new("RGB", (32, 24), (index, 9, 9)).save(root / "images" / f"{stem}.png")
        Image.fromarray(pixels).save(root / "masks" / f"{stem}{suffix}")
    return root


def get_problem(root: Path) -> str:
    return find_problems(root)[-1]


def load_with_pasted_map(root: Path, problem: str) -> Dataset:
    command = re.search(r"`(printf '[^`]+)`", problem)
    assert command, problem
    assert paste(command[1], root.parent).returncode == 0
    return load_folder(root)


def test_the_printed_map_of_colours_makes_the_data_set_readable(tmp_path):
    root = draw_colours(tmp_path / "my data", (0, 0, 0), (128, 255, 255), (255, 255, 255), (9, 200, 0))
    problem = get_problem(root)
    assert problem.startswith(
        "masks/a.png: masks must hold one number per pixel, found a colour image ((128, 255, 255)"
    )
    assert "y=0), as in 6 masks; name the 4 colours in 6 masks: `printf 'background:0,0,0::\\nclass_1:" in problem
    dataset = load_with_pasted_map(root, problem)
    assert dataset.classes == ("background", "class_1", "class_2", "class_3")
    assert dataset.count_class_pixels().tolist() == [32 * (6 * 24 - 13), 6 * 32, 6 * 32, 32]


def test_the_most_common_colour_is_the_background_where_none_is_black(tmp_path, sweeper):
    root = draw_colours(tmp_path / "data", (60, 16, 152), (132, 41, 246), (110, 193, 228), suffix=".gif")
    dataset = load_with_pasted_map(root, get_problem(root))
    assert dataset.count_class_pixels().tolist() == [32 * (6 * 24 - 7), 6 * 32, 32]
    assert sweeper("profile", root)[0] == 0


def test_the_colour_of_a_plain_grey_mask_is_in_the_printed_map(tmp_path):
    root = draw_colours(tmp_path / "data", (0, 0, 0), (255, 0, 0))
    Image.new("RGB", (32, 24), (255, 255, 255)).save(root / "masks" / "c.png")
    dataset = load_with_pasted_map(root, get_problem(root))
    assert len(dataset.classes) == 3 and max(dataset.images[2].pixels) == 24 * 32
    assert dataset.images[2].pixels[0] == 0 and dataset.images[0].pixels[0] == 23 * 32


@pytest.mark.parametrize("scale", ["viridis", "jet", "magma"])
def test_colours_of_a_plot_that_are_scaled_in_each_file_are_no_classes(tmp_path, scale):
    root = folder(tmp_path / "data", dict.fromkeys("abcdef"))
    for index, path in enumerate(sorted((root / "images").iterdir())):
        image.imsave(root / "masks" / path.name, np.arange(12 * 16).reshape(12, 16) // 64 % (2 + index % 2), cmap=scale)
    problem = get_problem(root)
    assert f"in 6 masks; these are colours of a plot ({scale})" in problem and "printf" not in problem


def test_channels_that_may_be_classes_are_read_as_planes_by_the_printed_lines(tmp_path):
    colours = [(0, 0, 0), (255, 0, 0), (255, 255, 0), (0, 0, 255)]
    root = draw_colours(tmp_path / "my data", *colours)
    command, images, masks = re.findall(r"`(python -c .*?)`, then --images '(.*?)' --masks '(.*?)'", get_problem(root))[
        0
    ]
    assert paste(command, root).returncode == 0
    dataset = load_folder(root, overlap="keep", patterns=Patterns(images=images, masks=masks))
    assert dataset.task == "multilabel" and dataset.count_class_pixels().tolist() == [6 * 2 * 32, 6 * 32, 32]
    assert "python -c" not in get_problem(draw_colours(tmp_path / "classes", *colours[1:]))


def sort_palettes(root: Path, *colours: tuple[int, int, int]) -> Path:
    """Give the masks palettes, every second one in the reverse order, as programs that make files smaller sort them."""
    for index, path in enumerate(sorted((root / "masks").iterdir())):
        order = colours[:: -1 if index % 2 else 1]
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
            numbers = [order.index(tuple(int(value) for value in pixel)) for pixel in pixels]
            sorted_mask = Image.fromarray(np.array(numbers, np.uint8).reshape(image.height, image.width), mode="P")
        sorted_mask.putpalette([value for colour in order for value in colour])
        sorted_mask.save(path)
    return root


def test_palettes_that_disagree_are_read_by_colours_and_not_by_numbers(tmp_path):
    root = sort_palettes(draw_colours(tmp_path / "data", (0, 0, 0), (255, 0, 0), number=6), (0, 0, 0), (255, 0, 0))
    problem = get_problem(root)
    assert (
        "masks/b.png: a colour must have one number in the palettes of all masks, found (255, 0, 0) as 0 here and as 1 "
        "in masks/a.png; name the 2 colours in 6 masks: `printf" in problem
    )
    dataset = load_with_pasted_map(root, problem)
    assert [image.pixels for image in dataset.images] == [(23 * 32, 32)] * 6


def test_a_repeated_colour_in_a_palette_is_no_disagreement(tmp_path):
    root = sort_palettes(draw_colours(tmp_path / "data", (0, 0, 0), (255, 0, 0)), (0, 0, 0), (255, 0, 0))
    for path in (root / "masks").iterdir():
        with Image.open(path) as image:
            image.putpalette([9, 9, 9] * 256)
            image.save(path)
    assert len(load_dataset(str(root), tmp_path / "cache").classes) == 2


def test_a_palette_with_a_colour_missing_from_the_map_is_refused(tmp_path):
    colours = (0, 0, 0), (255, 0, 0), (0, 0, 255)
    root = sort_palettes(draw_colours(tmp_path / "data", *colours), *colours)
    (root / "colors.txt").write_text("background:0,0,0::\ncrack:255,0,0::\n")
    assert (
        "masks/f.png: all colours of a palette must be in the map of colours, found (0, 0, 255), which is not, and "
        in get_problem(root)
    )


def test_the_printed_map_has_the_names_of_classes_txt(tmp_path):
    root = draw_colours(tmp_path / "data", *VOC[:3], classes="cat\nbackground\ntraffic light\n")
    dataset = load_with_pasted_map(root, get_problem(root))
    assert dataset.classes == ("background", "cat", "traffic light")
    quoted = draw_colours(tmp_path / "quoted", *VOC[:3], classes="cat's\nbackground\ndog\n")
    assert "3 colours in 6 masks: write colors.txt with one `name:r,g,b::` a line" in get_problem(quoted)


def test_many_colours_are_no_classes(tmp_path):
    root = draw_colours(tmp_path / "data", *VOC[:3])
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 2, (12, 16, 3), dtype=np.uint8) * 255)
    noise.resize((32, 24), Image.Resampling.BICUBIC).save(root / "masks" / "b.png")
    assert "more than 40 colours in masks/b.png: smoothly resized or JPEG; export the masks again" in get_problem(root)
    many = [(i, 5 * i, 200) for i in range(22)]
    root = draw_colours(tmp_path / "many", *many)
    problem = get_problem(root)
    assert "22 colours in 6 masks: write colors.txt with one `name:r,g,b::` a line" in problem and "smoothly" in problem


def test_no_map_is_printed_for_masks_that_cannot_use_one(tmp_path):
    root = draw_colours(tmp_path / "data", *VOC[:3])
    for stem in "abcdef":
        (root / "masks" / f"{stem}.png").unlink()
        values = np.zeros((24, 32, 3), np.uint16)
        values[:3] = 0, 300, 0
        tifffile.imwrite(root / "masks" / f"{stem}.tif", values, photometric="rgb")
    assert get_problem(root).endswith("as in 6 masks; save class indices as an 8-bit PNG")


def test_for_an_archive_the_first_step_is_to_unpack_it(tmp_path):
    root = draw_colours(tmp_path / "data", *VOC[:3])
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted(root.rglob("*.png")):
            archive.write(path, path.relative_to(root))
    problem = get_problem(tmp_path / "set.zip")
    assert "; unpack the archive, give its folder, and in it name the 3 colours in 6 masks: `printf" in problem
    assert "> colors.txt` (correct the names)" in problem
