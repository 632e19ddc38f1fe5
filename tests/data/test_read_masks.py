"""Which labels the numbers of mask files mean, whatever tags, palettes, bits and compression the files have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from sweeper.core.errors import DataError
from sweeper.core.records import Dataset
from sweeper.data.class_map import read_class_map
from sweeper.data.decode import read_image
from tests.support.folders import encode_png, folder, get_mask, has_warning, join_problems, load_folder

TRUTH = np.zeros((24, 32), np.uint8)
TRUTH[3:15, 5:20] = 1
INDEX = TRUTH.copy()
INDEX[18:22, 2:9] = 2


def write_set(root: Path, write: Callable[[Path], None], suffix: str = ".tif") -> Path:
    """Write four images whose masks are all what `write` makes."""
    folder(root, dict.fromkeys("abcd"))
    for seed, stem in enumerate("abcd"):
        pixels = np.random.default_rng(seed).integers(0, 256, (*TRUTH.shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{stem}.png")
        write(root / "masks" / f"{stem}{suffix}")
    return root


def load(*arguments: Any) -> Dataset:
    return load_folder(write_set(*arguments))


def refuse(*arguments: Any) -> str:
    return join_problems(write_set(*arguments))


def make_tiff(values: np.ndarray, **options: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, values, **options)


def make_png(bits: int, values: np.ndarray) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(encode_png(values, bits)) and None


def make_palette(colours: list[int], **options: Any) -> Callable[[Path], None]:
    image = Image.fromarray(TRUTH)
    image.putpalette(colours)
    return lambda path: image.save(path, **options)


WHITE_ZERO = {
    "bool": make_tiff(TRUTH.astype(bool)),
    "8 bits": make_tiff(TRUTH, photometric="miniswhite"),
    "full": make_tiff(TRUTH * 255, photometric="miniswhite"),
    "deflate": make_tiff(TRUTH * 255, photometric="miniswhite", compression="zlib"),
    "16 bits": make_tiff(TRUTH.astype(np.uint16), photometric="miniswhite"),
    # Pillow stores what looks like the image under that tag
    "lzw": lambda path: Image.fromarray(255 - TRUTH * 255).save(path, compression="tiff_lzw", tiffinfo={262: 0}),
    "fax": lambda path: Image.fromarray(TRUTH == 0).save(path, compression="group4", tiffinfo={262: 0}),
}


@pytest.mark.parametrize("kind", WHITE_ZERO)
def test_stored_numbers_are_labels_even_if_a_tag_says_that_0_is_white(tmp_path, kind):
    probe = tmp_path / "probe.tif"
    WHITE_ZERO[kind](probe)
    with tifffile.TiffFile(probe) as file:
        assert int(file.pages[0].photometric) == 0
    dataset = load(tmp_path / "data", WHITE_ZERO[kind])
    assert np.array_equal(get_mask(dataset), TRUTH)
    assert has_warning(dataset, "4 masks in which 0 is white", "0 is the background")


def test_images_in_which_0_is_white_are_inverted(tmp_path):
    grey = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)
    for number, values in enumerate((grey.astype(np.uint8), grey, grey > 99)):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(path, values, photometric="miniswhite")
        maximum = 1 if values.dtype == bool else np.iinfo(values.dtype).max
        dtype = np.uint16 if values.dtype == np.uint16 else np.uint8
        scale = 255 if values.dtype == bool else 1
        assert np.array_equal(read_image(path, 1, dtype)[:, :, 0], (maximum - values.astype(np.int64)) * scale)


@pytest.mark.parametrize(
    ("write", "suffix", "warned"),
    [
        (make_palette([255] * 3 + [0] * 3, bits=1), ".png", True),
        (make_palette([255] * 3 + [0] * 3), ".bmp", True),
        (make_palette([v for v in range(255, -1, -1) for _ in "rgb"]), ".png", True),  # ImageJ's inverting table
        (make_palette([v for v in range(255, -1, -1) for _ in "rgb"]), ".tif", True),
        (make_palette([9, 200, 3, 255, 0, 0], transparency=0), ".png", False),
        (make_palette([0] * 3 + [255] * 3), ".png", False),
        (make_png(1, TRUTH), ".png", False),
        (lambda path: Image.fromarray(TRUTH > 0).save(path), ".bmp", False),
        (lambda path: Image.fromarray(TRUTH > 0).save(path), ".gif", False),
    ],
)
def test_two_classes_survive_palettes_and_one_bit(tmp_path, write, suffix, warned):
    dataset = load(tmp_path / "data", write, suffix)
    assert np.array_equal(get_mask(dataset), TRUTH)
    assert has_warning(dataset, "0 is white") == warned


@pytest.mark.parametrize(
    ("write", "suffix"),
    [
        (make_png(2, INDEX), ".png"),
        (make_png(4, INDEX), ".png"),
        (make_png(16, np.repeat(INDEX[..., None], 3, 2)), ".png"),
        (make_tiff(INDEX, photometric="miniswhite"), ".tif"),
        *((make_tiff(INDEX.astype(kind)), ".tif") for kind in (np.int64, np.uint32, np.float64, np.float16, np.int8)),
        (make_tiff(INDEX.astype(np.float32)), ".tif"),
        (make_tiff(np.repeat(INDEX[..., None].astype(np.uint16), 3, 2), photometric="rgb"), ".tif"),
    ],
)
def test_class_indices_survive_every_data_type(tmp_path, write, suffix):
    dataset = load(tmp_path / "data", write, suffix)
    assert np.array_equal(get_mask(dataset), INDEX) and len(dataset.classes) == 3


def test_a_bmp_that_pillow_would_misread_is_refused(tmp_path):
    assert "a grey BMP must have 1 or 8 bits" in refuse(tmp_path / "data", make_palette([0] * 3 + [255] * 3), ".bmp")


# --- No data -----------------------------------------------------------------------------------------------------


def remove_data(values: np.ndarray, empty: float) -> np.ndarray:
    """Return the mask with two rows of the number for no data."""
    partial = values.copy()
    partial[:2] = empty
    return partial


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize(
    ("values", "tag"),
    [
        (remove_data(INDEX.astype(np.int16), -1), None),
        (remove_data(INDEX.astype(np.int16), -9999), "-9999"),
        (remove_data(INDEX.astype(np.float32), np.nan), None),
        (remove_data(INDEX.astype(np.float32), -3.4e38), None),
        (remove_data(INDEX, 200), "200"),
        (remove_data(INDEX.astype(np.uint16), 65535), None),
    ],
)
def test_pixels_without_data_are_ignored(tmp_path, values, tag, compression):
    def write(path: Path) -> None:
        extra = [] if tag is None else [(42113, "s", 0, tag, True)]
        if compression is None:
            tifffile.imwrite(path, values, extratags=extra)
        else:
            Image.fromarray(values).save(path, compression="tiff_lzw", tiffinfo={42113: tag} if tag else {})

    dataset = load(tmp_path / "data", write)
    assert np.array_equal(get_mask(dataset), remove_data(INDEX, 255))
    assert has_warning(dataset, "4 masks with pixels without data", "ignored") or values.dtype == np.uint16


def test_no_data_is_never_the_foreground(tmp_path):
    half = remove_data(np.zeros_like(TRUTH, dtype=np.int16), -1)
    problems = refuse(tmp_path / "data", make_tiff(half))
    assert "at least two classes must occur, found label 0, 255 alone (255 is ignored" in problems


def test_0_is_background_even_if_a_tag_says_that_it_is_no_data(tmp_path):
    dataset = load(tmp_path / "data", make_tiff(TRUTH, extratags=[(42113, "s", 0, "0", True)]))
    assert np.array_equal(get_mask(dataset), TRUTH) and has_warning(dataset, "0 is no data", "`ignore: 0`")


def test_masks_of_probabilities_are_refused_with_a_threshold(tmp_path):
    problems = refuse(tmp_path / "data", make_tiff(TRUTH * np.float32(0.7)))
    assert "masks must hold whole numbers, found 0.7 at x=5, y=3" in problems and "p > 0.5" in problems


# --- Pages -------------------------------------------------------------------------------------------------------


def write_pages(*kinds: int, dtype: Any = np.uint8, compression: str | None = "zlib") -> Callable[[Path], None]:
    """Return the mask, after and before pages of these kinds (NewSubfileType): overviews, validity masks, others."""

    def write(path: Path) -> None:
        with tifffile.TiffWriter(path) as file:
            for kind in kinds:
                if kind & 4:
                    file.write(np.ones(TRUTH.shape, bool), subfiletype=kind, photometric="mask", metadata=None)
                else:
                    values = INDEX.astype(dtype)[:: 1 + (kind & 1), :: 1 + (kind & 1)]
                    file.write(values, subfiletype=kind, metadata=None, compression=compression)

    return write


@pytest.mark.parametrize("kinds", [(0, 1), (0, 1, 1), (0, 4), (0, 4, 5, 1), (1, 0)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_overviews_and_validity_pages_of_a_mask_are_skipped(tmp_path, kinds, dtype):
    assert np.array_equal(get_mask(load(tmp_path / "data", write_pages(*kinds, dtype=dtype))), INDEX)


@pytest.mark.parametrize("kinds", [(0, 0), (0, 2, 1), (0, 0, 4)])
def test_stacks_of_labels_are_refused(tmp_path, kinds):
    assert "planes must hold 0 and 1 (or 0 and 255), found 0, 1, 2" in refuse(tmp_path / "data", write_pages(*kinds))


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_only_the_first_page_is_read_of_an_image_with_overviews(tmp_path, channels, dtype):
    shape = (24, 32) if channels == 1 else (24, 32, channels)
    pixels = np.random.default_rng(0).integers(0, 250, shape).astype(dtype)
    more: dict[str, Any] = {"photometric": "rgb" if channels == 3 else "minisblack", "planarconfig": "contig"}
    more = {"metadata": None, **(more if channels > 1 else {})}
    if dtype == np.int16:
        pixels[0, 0] = -1  # no data
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, **more)
        file.write(pixels[::2, ::2], subfiletype=1, **more)
        file.write(np.ones((24, 32), bool), subfiletype=4, photometric="mask", metadata=None)
    image = read_image(path, channels, np.uint8 if dtype == np.uint8 else np.uint16)
    assert np.array_equal(image, np.maximum(pixels, 0).reshape(24, 32, channels))


# --- Lossy and resized masks --------------------------------------------------------------------------------------


def enlarge(values: np.ndarray) -> np.ndarray:
    return np.kron(values, np.ones((4, 4), np.uint8))


def smear(values: np.ndarray, quality: int, suffix: str, mode: str = "L") -> Callable[[Path], None]:
    """Return what writes a mask through JPEG or WebP, as PNG what came out of JPEG, and its image."""

    def write(path: Path) -> None:
        lossy = path.with_suffix(".jpg" if suffix == ".png" else suffix)
        Image.fromarray(enlarge(values)).convert(mode).save(lossy, quality=quality)
        if suffix == ".png":
            Image.open(lossy).convert("L").save(path)
            lossy.unlink()
        Image.new("RGB", (128, 96)).save(path.parent.parent / "images" / f"{path.stem}.png")

    return write


@pytest.mark.parametrize("quality", [20, 50, 75, 95])
@pytest.mark.parametrize(("suffix", "mode"), [(".jpg", "L"), (".jpeg", "RGB"), (".webp", "RGB"), (".png", "L")])
def test_lossy_masks_of_two_classes_are_read_by_half_range(tmp_path, quality, suffix, mode):
    dataset = load(tmp_path / "data", smear(TRUTH * 255, quality, suffix, mode), suffix)
    assert dataset.classes == ("background", "foreground")
    assert np.mean(get_mask(dataset) != enlarge(TRUTH)) < 0.01
    assert has_warning(
        dataset, "read by half range (128 and above is foreground)", "of 49,152 pixels", "between 32 and 223"
    )


def load_with_printed_map(root: Path, text: str) -> Dataset:
    """Return the set with the first class map that a text prints."""
    path = root.parent / "classes.yaml"
    path.write_text(text.partition("printf '")[2].partition("'")[0].replace("\\n", "\n"))
    return load_folder(root, class_map=read_class_map(path))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("levels", [(0, 128, 255), (0, 90, 200)])
def test_lossy_masks_of_more_levels_are_refused_with_a_map_that_reads_them(tmp_path, levels, suffix):
    write = smear(np.array(levels, np.uint8)[INDEX], 75, suffix)
    problems = refuse(tmp_path / "data", write, suffix)
    assert ("must be lossless" in problems or suffix == ".png") and len(problems.splitlines()) == 1
    dataset = load_with_printed_map(tmp_path / "data", problems)
    assert dataset.classes == ("background", "class_1", "class_2")
    assert np.mean(get_mask(dataset) != enlarge(INDEX)) < 0.02


@pytest.mark.parametrize("factor", [0.5, 1.5, 4])
@pytest.mark.parametrize("method", [Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_smoothly_resized_masks_of_two_classes_are_read_or_refused_with_a_map(tmp_path, method, factor):
    discs = np.hypot(*(np.indices((64, 64)) - 31)) < 17.5
    size = (round(64 * factor),) * 2

    def write(path: Path) -> None:
        Image.fromarray(discs.astype(np.uint8) * 255).resize(size, method).save(path)
        Image.new("RGB", size).save(path.parent.parent / "images" / f"{path.stem}.png")

    try:
        dataset = load(tmp_path / "data", write, ".png")
    except DataError as error:
        dataset = load_with_printed_map(tmp_path / "data", str(error).partition("of two classes")[2])
    assert dataset.classes in {("background", "foreground"), ("background", "object")}
    truth = Image.fromarray(discs).convert("L").resize(size, Image.Resampling.BOX)
    assert np.mean(get_mask(dataset) != (np.asarray(truth) >= 128)) < 0.01


@pytest.mark.parametrize("values", [INDEX, TRUTH])
def test_class_indices_in_a_jpeg_are_refused(tmp_path, values):
    problems = refuse(tmp_path / "data", smear(values, 90, ".jpg"), ".jpg")
    assert "must be lossless" in problems and "save class indices as PNG" in problems


def test_lossy_masks_of_0_and_255_are_no_classes_of_several(tmp_path):
    root = write_set(tmp_path / "data", smear(TRUTH * 255, 95, ".webp", "RGB"), ".webp")
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    assert "masks of more than two classes must be lossless" in join_problems(root)


def test_coloured_masks_must_be_lossless(tmp_path):
    def write(path: Path) -> None:
        Image.fromarray(np.dstack([TRUTH * 255, TRUTH, TRUTH])).save(path)

    problems = refuse(tmp_path / "data", write, ".jpg")
    assert "must be lossless where they are coloured, found JPEG; export it again as PNG" in problems


def test_class_indices_with_254_and_255_are_not_read_as_a_lossy_mask(tmp_path):
    labels = INDEX.copy()
    labels[:3, :5] = np.arange(3, 18).reshape(3, 5)
    labels[20:, 30:] = 254, 255
    problems = refuse(tmp_path / "data", lambda path: Image.fromarray(labels).save(path), ".png")
    assert "without classes.txt labels must be 0, 1, 2" in problems


@pytest.mark.parametrize("maximum", [2, 15, 100, 255, 300, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_a_pgm_or_ppm_mask_is_read_by_its_numbers_whatever_its_maximum(tmp_path, kind, maximum):
    def write(path: Path) -> None:
        values = np.repeat(INDEX.ravel(), 1 if kind in ("P2", "P5") else 3)
        text = ("\n".join(map(str, values)) + "\n").encode()
        binary = values.astype(">u2" if maximum > 255 else "u1").tobytes()
        header = f"{kind}\n{INDEX.shape[1]} {INDEX.shape[0]}\n{maximum}\n".encode()
        path.write_bytes(header + (text if kind in ("P2", "P3") else binary))

    if kind in ("P3", "P6") and maximum > 255:  # Pillow keeps only the high bytes
        problems = refuse(tmp_path / "data", write, ".ppm")
        assert f"coloured masks must store numbers up to 255, found {maximum}; save it as PNG" in problems
    else:
        dataset = load(tmp_path / "data", write, ".pgm")
        assert np.array_equal(get_mask(dataset), INDEX)
