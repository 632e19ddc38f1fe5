"""`--images` and `--masks`: what patterns mean, what they pair, and what they refuse."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from sweeper.core.errors import SweeperError
from sweeper.core.records import Dataset
from sweeper.data import load_dataset
from sweeper.data.formats.file_patterns import get_requested_patterns
from sweeper.data.variants import store_here
from tests.support.folders import image, load_folder, mask, pair_five, write_pairs


def load(root: Path, images: str | None, masks: str | None, **options: Any) -> Dataset:
    data, patterns = get_requested_patterns(str(root), images, masks)
    assert data is not None
    return load_folder(Path(data), patterns=patterns, **options)


def reject(root: Path, images: str | None, masks: str | None, *words: str, **options: Any) -> None:
    with pytest.raises(SweeperError) as caught:
        load(root, images, masks, **options)
    for word in words:
        assert word in str(caught.value), caught.value
    assert len(getattr(caught.value, "problems", "1")) == 1


@pytest.mark.parametrize(
    ("files", "patterns"),
    [
        (("img/x/{}.jpg", "lab/x/{}_m.png"), ("img/**/*.jpg", "lab/**/{stem}_m.png")),
        (("img/x/{}.JPG", "lab/x/{}_m.PNG"), ("img/**/*.jpg", "lab/**/{stem}_m.png")),
        (("img/{}.bmp", "lab/{}.png"), ("img/*.{jpg,bmp}", "lab/{stem}.[pt][ni][gf]")),
        (("A/{}.png", "B/{}.png"), ("A", "B")),
        (("{}.png", "{}_mask.png"), ("*.png", "{stem}_mask.png")),
        (("case{}/image.png", "case{}/mask.png"), ("*/image.png", "*/mask.png")),
        (("a/img_{}.png", "b/mask_{}_9.png"), ("a/img_{stem}.png", "b/*_{stem}_?.png")),
        (("bïlder [1]/{} ø.png", "masken {{x}}/{} ø.png"), ("bïlder [[]1]/*.png", "masken */{stem}.png")),
    ],
)
def test_patterns_find_images_and_their_masks(tmp_path, files, patterns):
    dataset = load(write_pairs(tmp_path / "data", *pair_five(*files)), *patterns)
    assert [p.pixels[1] for p in dataset.images] == [16] * 5
    assert dataset.format == "patterns" and dataset.read_as == f"--images {patterns[0]} --masks {patterns[1]}"
    assert dataset.images[0].stem in {"a", "a ø", "img_a", "casea/image"} and dataset.warnings == ()


def test_files_of_two_folders_are_paired_by_names_without_words_like_image(tmp_path):
    root = write_pairs(tmp_path / "data", *pair_five("img/{}_image.png", "lab/{}_annotation.png"))
    (root / "lab" / "a_annotation.yaml").write_text("x: 1\n")
    dataset = load(root, "img", "lab")
    assert [p.pixels[1] for p in dataset.images] == [16] * 5
    assert dataset.warnings == (
        "Images and masks were paired by their names: lab/a_annotation.png is the mask of img/a_image.png.",
    )
    (root / "lab" / "b_annotation.png").unlink()
    reject(
        root, "img", "lab", "img/b_image.png: has no mask; add it (as lab/a_annotation.png is that of img/a_image.png)"
    )


def test_patterns_without_a_stem_pair_files_by_their_names(tmp_path):
    root = write_pairs(
        tmp_path / "data", *pair_five("img/um_{}.png", "gt/um_road_{}.png"), *pair_five("", "gt/um_lane_{}.png")
    )
    dataset = load(root, "img/*", "gt/*_road_*")
    assert [p.pixels[1] for p in dataset.images] == [16] * 5
    assert "gt/um_road_a.png is the mask of img/um_a.png" in " ".join(dataset.warnings)


def test_pictures_derived_from_images_are_passed_over(tmp_path):
    """As ISIC 2017 is downloaded."""
    root = write_pairs(tmp_path / "data", *pair_five("S_Data/{}.jpg", "S_GroundTruth/{}_segmentation.png"))
    write_pairs(root, *pair_five("S_Data/{}_superpixels.png", "away/{}.png"))
    shutil.rmtree(root / "away")
    for dataset in (load(root, "S_Data", "S_GroundTruth"), load_folder(root)):
        assert [p.stem for p in dataset.images] == [*"abcde"]
        assert any("5 pictures made of an image, passed over" in line for line in dataset.warnings)
    (root / "S_Data" / "a_other.png").write_bytes((root / "S_Data" / "b.jpg").read_bytes())
    reject(root, "S_Data", "S_GroundTruth", "6 files", "has no mask")
    for path in (root / "S_Data").glob("*_*.png"):
        path.unlink()
    (root / "S_Data" / "a_night.jpg").write_bytes((root / "S_Data" / "b.jpg").read_bytes())
    reject(root, "S_Data", "S_GroundTruth", "S_Data/a_night.jpg: has no mask")  # one is an image without its mask


def test_without_data_the_folder_is_the_common_one_of_both_patterns(tmp_path, monkeypatch):
    root = write_pairs(tmp_path / "data", *pair_five("img/{}.png", "lab/{}.png"))
    monkeypatch.chdir(root)
    expected = ("img/*.png", "lab/{stem}.png")
    for request in (expected, [f"{root}/{text}" for text in expected], [f"../data/{text}" for text in expected]):
        data, patterns = get_requested_patterns(None, *request)
        assert patterns is not None and (patterns.images, patterns.masks) == expected
        assert data is not None and Path(data).resolve() == root
    assert get_requested_patterns(None, "img/sub/*.png", "img/{stem}.png")[0] == "img"
    assert get_requested_patterns(str(root), f"{root}/img/*.png", expected[1])[1] == patterns


def test_folder_wildcards_match_the_same_folders_for_image_and_mask(tmp_path):
    root = write_pairs(tmp_path / "data", *pair_five("i/x/{}.png", "m/x/{}.png"))
    write_pairs(root, *pair_five("i/y/{}.png", "m/y/{}.png"))
    assert len(load(root, "i/**/*.png", "m/**/{stem}.png").images) == 10
    reject(root, "i/**/*.png", "m/x/{stem}.png", "5 files, e.g. m/x/a.png, m/x/b.png: a mask has one image, found")
    (root / "m" / "x" / "a.png").unlink()
    reject(root, "i/**/*.png", "m/**/{stem}.png", "i/x/a.png: has no mask; add it (as m/x/b.png is that of i/x/b.png)")
    reject(root, "i/x/b.png", "m/*/{stem}.png", "found m/x/b.png, m/y/b.png; to take the first of each: --images 'i/x/")
    side = write_pairs(tmp_path / "split", *pair_five("i/{0}/train/{0}.png", "m/{0}/{0}.png"))
    assert [p.split for p in load(side, "i/**/*.png", "m/**/{stem}.png").images] == ["train"] * 5


def test_changes_are_detected_and_a_missing_store_is_made_again(tmp_path):
    root, patterns = tmp_path / "data", ("img/*.png", "lab/**/{stem}.png")
    write_pairs(root, *pair_five("img/{}.png", "lab/deep/{}.png"))
    before = load(root, *patterns)
    mask(0, 1, 1).save(root / "lab" / "deep" / "b.png")
    after = load(root, *patterns)
    assert before.digest != after.digest
    os.rename(after.store, f"{after.store}-away")  # noqa: PTH104
    assert store_here(after) == Path(after.store)


def test_invalid_patterns_are_refused(tmp_path):
    root = write_pairs(tmp_path / "data", *pair_five("img/x/{}.jpg", "lab/{}_m.png"))
    valid = ("img/**/*.jpg", "lab/{stem}_m.png")
    reject(root, valid[0], None, "go together, got --images alone; add the other, for example --images")
    reject(root, None, valid[1], "got --masks alone")
    reject(root, valid[0], "lab/{name}.png", "knows {stem} alone", "{name}")
    reject(root, valid[0], "lab/a_m.png", "--masks must say which mask is whose")
    reject(root, "imgs/*.jpg", valid[1], "found nothing; patterns begin at")
    reject(root, "img/*.tif", valid[1], "found img/x/a.jpg, img/x/b.jpg and 3 more")
    reject(root, valid[0], "lab/{stem}.png", "5 files, e.g. img/x/a.jpg, img/x/b.jpg: has no mask; add it, remove")
    reject(root, "lab/*.png", "lab/{stem}.png", "as the mask of itself")
    reject(root, "../x/*.jpg", valid[1], "must name files below", "name a folder above")
    reject(root, valid[0], "img/x/{stem}.jpg", "as the mask of itself")
    reject(root, "img/[z-a]\0*.jpg", valid[1], "must name images")
    reject(root, *valid, "--format must be one of patterns, got 'folder'", format="folder")
    with pytest.raises(SweeperError, match="--images is for files, and synthetic:cracks is drawn"):
        data, patterns = get_requested_patterns("synthetic:cracks", *valid)
        load_dataset(str(data), tmp_path, patterns=patterns)
    with pytest.raises(SweeperError, match=r"--images must name a file or folder of this machine; s3://b/\*.jpg is an"):
        get_requested_patterns(None, "s3://b/*.jpg", valid[1])
    for i, stem in enumerate("abcde"):
        image(i).save(root / "lab" / f"{stem}.pcx")
    reject(root, valid[0], "lab/{stem}.pcx", "5 files, e.g. lab/a.pcx, lab/b.pcx: masks must be one of .png, .bmp")
