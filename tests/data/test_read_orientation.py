"""EXIF orientations of images and masks: each label is on its pixels, or the tag is stated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeper.core.errors import DataError
from sweeper.core.records import Dataset
from sweeper.data import open_store
from sweeper.data.open_image import turn_upright
from tests.support.folders import encode_png, folder, get_mask, has_warning, load_folder

INVERSE = {6: 8, 8: 6}
"""Orientation → its inverse, if that is another orientation."""
TRUTH = np.zeros((12, 16), np.uint8)
TRUTH[1:4, 2:13] = 1
TRUTH[4:9, 2:4] = 1
"""Mask of the upright image, which every turn changes."""


def make_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def turn_as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Return the pixels as they are in a file with this orientation."""
    return np.ascontiguousarray(turn_upright(upright, INVERSE.get(orientation, orientation)))


def draw_photo(seed: int, shape: tuple[int, int] = TRUTH.shape) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def write_photos(root: Path, orientation: int, suffix: str = ".png", shape: tuple[int, int] = TRUTH.shape) -> Path:
    """Write four images with an orientation, and no masks yet."""
    folder(root, dict.fromkeys("abcd"))
    for seed, path in enumerate(sorted((root / "images").iterdir())):
        path.unlink()
        pixels = turn_as_stored(draw_photo(seed, shape), orientation)
        Image.fromarray(pixels).save(path.with_suffix(suffix), exif=make_exif(orientation))
    return root


def load_with_masks(root: Path, label: np.ndarray, suffix: str = ".png", orientation: int = 1) -> Dataset:
    """Return the set after each image got this mask, with or without an orientation tag."""
    options = {"exif": make_exif(orientation)} if orientation > 1 else {}
    for stem in "abcd":
        Image.fromarray(label).save(root / "masks" / f"{stem}{suffix}", **options)
    return load_folder(root)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_fits_its_image_whether_it_was_drawn_before_or_after_the_turn(tmp_path, orientation, suffix):
    upright = load_with_masks(write_photos(tmp_path / "after", orientation, suffix), TRUTH)
    assert np.array_equal(get_mask(upright), TRUTH)
    if suffix in (".png", ".tif"):
        assert np.array_equal(open_store(upright.store).get_image(0), draw_photo(0))
    assert has_warning(upright, "EXIF orientation that sizes cannot check") == (orientation in (2, 3, 4))
    assert [image.open_turn for image in upright.images] == [orientation if orientation in (2, 3, 4) else 1] * 4
    if orientation > 4:
        before = load_with_masks(
            write_photos(tmp_path / "before", orientation, suffix), turn_as_stored(TRUTH, orientation)
        )
        assert np.array_equal(get_mask(before), TRUTH)
        assert has_warning(before, "4 labels drawn before its image's EXIF orientation")


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_mask_that_fits_neither_way_is_refused_with_the_tag(tmp_path, orientation):
    root = write_photos(tmp_path / "data", orientation)
    with pytest.raises(DataError, match="16×12 \\(upright by EXIF\\), found 10×12"):
        load_with_masks(root, TRUTH[:, :10])


def test_square_images_with_a_turning_tag_cause_a_warning(tmp_path):
    square = np.pad(TRUTH, ((0, 4), (0, 0)))
    dataset = load_with_masks(write_photos(tmp_path / "data", 6, ".jpg", square.shape), square)
    assert np.array_equal(get_mask(dataset), square) and dataset.images[0].open_turn == 6
    assert has_warning(dataset, "sizes cannot check")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_mask_with_an_orientation_tag_is_turned_if_it_then_fits(tmp_path, orientation, suffix):
    root = write_photos(tmp_path / "data", 1)
    dataset = load_with_masks(root, turn_as_stored(TRUTH, orientation), suffix, orientation)
    assert np.array_equal(get_mask(dataset), TRUTH)
    assert has_warning(dataset, "4 masks with an EXIF orientation of their own")
    if orientation > 4:  # a tag that was left in a mask that is upright already
        stale = load_with_masks(write_photos(tmp_path / "stale", 1), TRUTH, suffix, orientation)
        assert np.array_equal(get_mask(stale), TRUTH)


@pytest.mark.parametrize("orientation", [3, 6])
def test_png_of_16_bits_per_colour_is_turned_too(tmp_path, orientation):
    exif = make_exif(orientation).tobytes().removeprefix(b"Exif\0\0")
    root = folder(tmp_path / "data", dict.fromkeys("abcd"))
    for seed, stem in enumerate("abcd"):
        photo = turn_as_stored(draw_photo(seed), orientation).astype(np.uint16) << 8
        label = np.repeat(turn_as_stored(TRUTH, orientation)[..., None], 3, 2).astype(np.uint16)
        (root / "images" / f"{stem}.png").write_bytes(encode_png(photo, 16, exif))
        (root / "masks" / f"{stem}.png").write_bytes(encode_png(label, 16, exif))
    dataset = load_folder(root)
    assert np.array_equal(open_store(dataset.store).get_image(0), draw_photo(0).astype(np.uint16) << 8)
    assert np.array_equal(get_mask(dataset), TRUTH)


@pytest.mark.parametrize("kind", ["labelme", "coco"])
@pytest.mark.parametrize("written", ["upright", "stored", "none"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_in_an_annotation_file_decides_how_its_shapes_are_turned(tmp_path, orientation, written, kind):
    root = write_photos(tmp_path / "data", orientation, ".jpg")
    (root / "masks").rmdir()
    before = written == "stored" and orientation > 4
    label = turn_as_stored(TRUTH, orientation) if before else TRUTH
    rows, columns = np.nonzero(label)
    box = [int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
    height, width = turn_as_stored(TRUTH, orientation).shape if written == "stored" else TRUTH.shape
    size = {} if written == "none" else {"height": height, "width": width}
    if kind == "coco":
        left, top, right, bottom = box
        ring = [left, top, right, top, right, bottom, left, bottom]
        images = [{"id": i, "file_name": f"{stem}.jpg", **size} for i, stem in enumerate("abcd")]
        objects = [{"id": i, "image_id": i, "category_id": 1, "segmentation": [ring]} for i in range(4)]
        content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}
        (root / "annotations.json").write_text(json.dumps(content))
    else:
        corners = [[box[0], box[1]], [box[2] - 1, box[3] - 1]]
        shapes = [{"label": "cat", "shape_type": "rectangle", "points": corners}]
        sizes = {f"image{key.title()}": value for key, value in size.items()}
        for stem in "abcd":
            content = {"shapes": shapes, "imagePath": f"{stem}.jpg", "imageData": None, **sizes}
            (root / "images" / f"{stem}.json").write_text(json.dumps(content))
    filled = np.zeros_like(TRUTH)
    filled[1:9, 2:13] = 1
    dataset = load_folder(root)
    assert np.array_equal(get_mask(dataset), filled)
    is_open = orientation in (2, 3, 4) or (orientation > 4 and written == "none")
    assert has_warning(dataset, "that sizes cannot check") == is_open
    assert {image.open_turn for image in dataset.images} == {orientation if orientation in (2, 3, 4) else 1}


def test_a_json_of_the_turned_size_without_any_tag_is_refused(tmp_path):
    root = write_photos(tmp_path / "data", 1)
    for stem in "abcd":
        content = {"shapes": [], "imagePath": f"{stem}.png", "imageData": None, "imageHeight": 16, "imageWidth": 12}
        (root / "images" / f"{stem}.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"must have its image's size 16×12 \(upright by EXIF\), found 12×16"):
        load_folder(root, format="labelme")
