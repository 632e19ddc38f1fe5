"""Kinds of files of public reports: each is read right, or refused with a step that, run here, makes it readable."""

from __future__ import annotations

import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tifffile
from PIL import Image

from sweeper.core.records import IGNORE, Dataset, Patterns
from sweeper.data import open_image
from sweeper.data.class_map import read_class_map
from tests.support.annotated import CLASSES, SIDES, STEMS, coco_data, photo, truth, write_images
from tests.support.folders import find_problems, folder, get_mask, has_warning, image, join_problems, load_folder, mask
from tests.support.pasting import paste

DOCS = Path(__file__).parents[2] / "docs" / "formats.md"


def run_documented_lines(title: str) -> None:
    """Run the Python of a section of the page in the current folder."""
    exec(DOCS.read_text("utf-8").split(f"### {title}")[1].split("```python\n")[1].split("```")[0], {})


def has_true_masks(dataset: Dataset) -> bool:
    return all(np.array_equal(get_mask(dataset, index), truth(index)) for index in range(len(STEMS)))


# --- COCO's crowds ---------------------------------------------------------------------------------------------------


def run_lengths(bits: Any) -> dict[str, Any]:
    """Return COCO's uncompressed run lengths, (H, W)."""
    flat = np.r_[0, bits.T.ravel().astype(int)]
    ends = np.flatnonzero(np.diff(flat))
    return {"size": [*bits.shape], "counts": np.diff([0, *ends, bits.size]).tolist()}


def write_brushed(root: Path, brushed: str) -> Path:
    """Write a COCO set in which some objects are drawn with CVAT's brush: run lengths with iscrowd 1."""
    write_images(root, "images/{stem}.png")
    data = coco_data()
    for entry in data["annotations"]:
        index, label = entry["image_id"] - 1, entry["category_id"] // 10
        if {"all": True, "dogs": label == 2, "half": index % 2 == 0}[brushed]:
            area = np.zeros_like(truth(index), bool)
            left, top, width, height = entry["bbox"]
            area[top : top + height, left : left + width] = True
            entry |= {"segmentation": run_lengths(area), "iscrowd": 1}
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_default.json").write_text(json.dumps(data))
    return root


@pytest.mark.parametrize(("brushed", "names"), [("all", "cat, dog"), ("dogs", "dog")])
def test_a_class_of_crowds_alone_is_read_as_objects(tmp_path, brushed, names):
    """As CVAT's brush and Datumaro write them."""
    dataset = load_folder(write_brushed(tmp_path / "data", brushed))
    assert dataset.classes == CLASSES and has_true_masks(dataset)
    assert has_warning(dataset, f"objects of {names} are crowds (iscrowd 1), read as objects.")


def test_crowds_of_a_class_with_other_objects_are_ignored_with_their_number(tmp_path):
    root = write_brushed(tmp_path / "data", "half")
    dataset = load_folder(root)
    assert np.array_equal(get_mask(dataset, 0), np.where(truth(0), IGNORE, 0))
    assert np.array_equal(get_mask(dataset, 1), truth(1))
    (warning,) = [line for line in dataset.warnings if "crowds" in line]
    assert (
        "8 of 16 objects of cat, dog are crowds (iscrowd 1), read as ignored (write 0 where they are objects)"
        in warning
    )


# --- Names of the background -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("drawn", [False, True])
def test_two_backgrounds_stay_two_classes_and_the_printed_map_joins_them(tmp_path, drawn):
    """As CVAT exports a label called Background next to its own background."""
    colours = [(0, 215, 255), (255, 0, 204), (0, 255, 0), (0, 0, 0)]
    names = ["Background", "Bone", "Damage", "background"]
    root = tmp_path / "data"
    write_images(root, "JPEGImages/{stem}.png")
    (root / "SegmentationClass").mkdir()
    lines = "".join(f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in zip(names, colours, strict=True))
    (root / "labelmap.txt").write_text(lines)
    for index, stem in enumerate(STEMS):
        labels = np.array(truth(index))
        labels[:, :3] = 3 if drawn else 0
        Image.fromarray(np.array(colours, np.uint8)[labels]).save(root / "SegmentationClass" / f"{stem}.png")
    dataset = load_folder(root)
    assert dataset.classes == ("Background", "Bone", "Damage", "background")
    assert dataset.images[0].pixels[3] == (48 * 3 if drawn else 0)
    (warning,) = [line for line in dataset.warnings if "By their names" in line]
    (tmp_path / "map.yaml").write_text(warning.split("`")[1])
    joined = load_folder(root, class_map=read_class_map(tmp_path / "map.yaml"))
    assert joined.classes == ("Background", "Bone", "Damage") and has_true_masks(joined)


def test_unlabelled_pixels_that_are_a_class_are_said_to_be_trained_and_the_printed_map_ignores_them(tmp_path):
    """As CamVid has them: the last number, called unlabelled."""
    names = "sky\nroad\nunlabelled\n"
    root = folder(tmp_path / "data", {stem: mask(0, 1, 2, shift=i) for i, stem in enumerate("abcd")}, classes=names)
    dataset = load_folder(root)
    assert dataset.classes == ("unlabelled", "sky", "road")
    (warning,) = [line for line in dataset.warnings if "unlabelled" in line]
    assert "unlabelled is class 0, not 2 and unlabelled is trained (`ignore: [unlabelled]` ignores it)" in warning
    (tmp_path / "map.yaml").write_text(warning.split("`")[1])
    ignoring = load_folder(root, class_map=read_class_map(tmp_path / "map.yaml"))
    assert ignoring.classes == ("sky", "road") and ignoring.images[0].ignored == 16


# --- Files of other kinds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", ["u1", "u2"])
def test_the_documented_lines_write_the_pages_of_stacks(tmp_path, monkeypatch, depth):
    """As ISBI 2012 has them."""
    (root := tmp_path / "data").mkdir()
    monkeypatch.chdir(root)
    images = [np.asarray(photo(index))[..., 0].astype(depth) * (1 if depth == "u1" else 257) for index in range(8)]
    for name, pages in (("train-volume", images), ("train-labels", [*map(truth, range(8))]), ("test-volume", images)):
        tifffile.imwrite(root / f"{name}.tif", np.stack(pages), photometric="minisblack", metadata=None)
    (problem,) = find_problems(root)
    assert problem.endswith(
        "must be a single image, found 8 pages; write each page as a file (docs/formats.md#stacks-of-pages has the "
        "lines that do)"
    )
    run_documented_lines("Stacks of pages")
    for path in root.glob("*.tif"):
        path.unlink()
    assert has_true_masks(load_folder(root))


def test_the_documented_lines_write_the_pictures_of_parquet(tmp_path, monkeypatch):
    """As Hugging Face's `datasets` has them."""
    (root := tmp_path / "data" / "set").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "data")

    def encode(picture: Image.Image) -> dict[str, Any]:
        picture.save(buffer := io.BytesIO(), "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    for side in ("train", "val", "test"):
        of_side = [index for index in range(8) if SIDES[index] == side]
        table = {
            "id": of_side,
            "pixel_values": [encode(photo(index)) for index in of_side],
            "label": [encode(Image.fromarray(truth(index))) for index in of_side],
        }
        name = {"val": "validation"}.get(side, side)
        pyarrow.parquet.write_table(pyarrow.table(table), root / f"{name}-00000-of-00001.parquet")
    (problem,) = find_problems(tmp_path / "data")
    assert "found Hugging Face's parquet; write PNGs into images/ and masks/ (docs/formats.md#parquet has" in problem
    run_documented_lines("Parquet")
    dataset = load_folder(tmp_path / "data")
    masks = sorted(get_mask(dataset, index).tobytes() for index in range(8))
    assert masks == sorted(truth(index).tobytes() for index in range(8))
    assert [image.split for image in dataset.images] == ["test"] * 2 + ["train"] * 4 + ["val"] * 2


@pytest.mark.parametrize("name", ["images/{}.avif", "images/{}.jpg", "{}.avif"])
def test_avif_is_read_also_if_it_is_called_otherwise(tmp_path, name):
    root = tmp_path / "data"
    write_images(root, masks="masks/{stem}.png" if "/" in name else "{stem}.png")
    for index, stem in enumerate(STEMS):
        path = root / name.format(stem)
        path.parent.mkdir(exist_ok=True)
        photo(index).save(path, "AVIF")
    dataset = load_folder(root)
    assert has_true_masks(dataset) and [one.stem for one in dataset.images] == [*STEMS]


@pytest.mark.skipif("HEIF" in open_image.LOSSY_FORMATS, reason="pillow-heif is installed")
def test_heic_is_refused_with_the_package_that_reads_it(tmp_path):
    root = tmp_path / "data"
    write_images(root, masks="masks/{stem}.png")
    (root / "images").mkdir()
    for index, stem in enumerate(STEMS):
        photo(index).save(buffer := io.BytesIO(), "AVIF")
        (root / "images" / f"{stem}.heic").write_bytes(buffer.getvalue().replace(b"ftypavif", b"ftypheic", 1))
    problem = find_problems(root)[0]
    assert (
        "images/p0.heic, images/p1.heic: must be one of " in problem
        and "(HEIC after pip install pillow-heif)" in problem
    )


def test_compressed_files_are_read_after_the_printed_step(tmp_path):
    root = tmp_path / "data"
    write_images(root, "images/{stem}.ppm", "masks/{stem}.ppm")
    for path in [*root.rglob("*.ppm")]:
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (problem,) = find_problems(root)
    assert paste(problem.partition("run this in the data folder: ")[2], root).returncode == 0
    assert has_true_masks(load_folder(root))


# --- Numbers ---------------------------------------------------------------------------------------------------------


def test_the_printed_map_calls_the_most_common_level_background(tmp_path):
    """As REFUGE has them: 0 is the cup, 128 the disc, 255 the rest."""
    levels = np.array([255, 128, 0], np.uint8)
    root = tmp_path / "data"
    write_images(root, "images/{stem}.png", "masks/{stem}.bmp", lambda labels: Image.fromarray(levels[labels]))
    problem = join_problems(root)
    command = next(one for one in re.findall("`(printf [^`]+)`", problem) if "class_2" in one)
    assert paste(command, tmp_path).returncode == 0
    dataset = load_folder(root, class_map=read_class_map(tmp_path / "classes.yaml"))
    assert dataset.classes == ("background", "class_1", "class_2")
    assert np.array_equal(get_mask(dataset), np.array([0, 2, 1])[truth(0)])


def test_labels_with_gaps_are_read_after_the_printed_list_of_names(tmp_path):
    root = folder(tmp_path / "data", {stem: mask(0, 7, 9, shift=i) for i, stem in enumerate("abcd")})
    command = re.search(r"\(`(seq [^`]+)`\)", join_problems(root))
    assert command and paste(command[1], root).returncode == 0
    dataset = load_folder(root)
    assert len(dataset.classes) == 10 and dataset.images[0].pixels[7] == dataset.images[0].pixels[9] == 16


def test_masks_with_soft_edges_are_named(tmp_path):
    masks = {}
    for stem in "abcdef":
        labels = np.zeros((48, 64), np.uint8)
        labels[10:30, 10:40] = 255
        masks[stem] = Image.fromarray(labels)
    for stem in "de":
        small = masks[stem].resize((13, 11), Image.Resampling.BOX)
        masks[stem] = small.resize((64, 48), Image.Resampling.BICUBIC)
    root = folder(tmp_path / "data", masks)
    problem = join_problems(root)
    assert "in masks/d.png, masks/e.png; save" in problem
    command = next(one for one in re.findall("`(printf [^`]+)`", problem) if "object" in one)
    assert paste(command, tmp_path).returncode == 0
    dataset = load_folder(root, class_map=read_class_map(tmp_path / "two.yaml"))
    assert dataset.classes == ("background", "object") and 590 < dataset.images[4].pixels[1] < 680


def test_patterns_that_fail_are_reported_although_there_are_arrays(tmp_path):
    """As A2D2 has lidar's arrays next to its images."""
    (root := tmp_path / "data").mkdir()
    image().save(root / "camera.png")
    np.savez(root / "lidar.npz", points=np.zeros(3))
    problems = join_problems(root, patterns=Patterns(images="camera/*.png", masks="label/{stem}.png"))
    assert "--images camera/*.png: must name images" in problems and "arrays" not in problems
