"""What every reader shares: labels, channels and sizes of images, all problems at once, warnings."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from sweeper.data import open_store
from tests.support.folders import find_problems, folder, has_warning, image, list_masks, load_folder, mask


def test_labels_survive_every_mask_kind(tmp_path):
    array = np.array(mask(0, 1, 2))
    palette = Image.fromarray(array)
    palette.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200] + [0] * 759)
    kinds = {
        "grey": Image.fromarray(array),
        "palette": palette,
        "deep": Image.fromarray(array.astype(np.uint16)),
        "rgb": Image.fromarray(np.repeat(array[:, :, None], 3, axis=2)),
        "rgba": Image.fromarray(np.dstack([array, array, array, np.full_like(array, 255)])),
    }
    assert kinds["palette"].mode == "P" and kinds["deep"].mode == "I;16"
    root = folder(tmp_path / "data", kinds)
    Image.fromarray(array).save(root / "masks" / "bmp.bmp")
    Image.fromarray(array).save(root / "masks" / "tif.TIF")
    for stem in ("bmp", "tif"):
        image(9).save(root / "images" / f"{stem}.png")
    masks = list_masks(load_folder(root))
    assert len(masks) == 7 and all(np.array_equal(mask, array) for mask in masks)


@pytest.mark.parametrize(
    ("masks", "pixels", "ignored"),
    [
        ([mask(0, 255), mask(0), mask(255)], [(176, 16), (192, 0), (0, 192)], [0, 0, 0]),
        ([mask(0, 1, 255), mask(0, 1), mask(0, 255)], [(160, 16), (176, 16), (176, 0)], [16, 0, 16]),
        ([mask(0, 255).convert("1")] * 3, [(176, 16)] * 3, [0, 0, 0]),
    ],
)
def test_255_is_foreground_if_it_is_the_only_value_above_0_and_ignored_otherwise(tmp_path, masks, pixels, ignored):
    dataset = load_folder(folder(tmp_path / "data", dict(zip("abc", masks, strict=True))))
    assert dataset.classes == ("background", "foreground")
    assert [p.pixels for p in dataset.images] == pixels and [p.ignored for p in dataset.images] == ignored


@pytest.mark.parametrize("labels", [(0, 38, 75), (0, 1, 200), (*range(10), 70)])
def test_sparse_labels_ask_for_classes_txt(tmp_path, labels):
    root = folder(tmp_path / "data", {"a": mask(*labels), "b": mask(0, 1), "c": mask(0, 1)})
    (problem,) = find_problems(root)
    assert all(word in problem for word in ("classes.txt", str(labels[-1]), "masks/a.png"))


def test_grey_sets_have_one_channel_and_mixed_ones_three(tmp_path):
    root = folder(tmp_path / "grey")
    for seed, stem in enumerate("abcd"):
        image(seed, mode="L").save(root / "images" / f"{stem}.png")
    grey = load_folder(root)
    assert grey.channels == 1
    assert open_store(grey.store).get_image(0).shape == (12, 16, 1)
    image(0).save(root / "images" / "d.png")
    mixed = load_folder(root)
    assert mixed.channels == 3
    first = open_store(mixed.store).get_image(0)
    assert np.array_equal(first, np.repeat(np.array(image(0, mode="L"))[:, :, None], 3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "1", "LA", "I;16"])
def test_other_image_modes_become_rgb(tmp_path, mode):
    root = folder(tmp_path / "data")
    (root / "images" / "a.png").unlink()
    if mode == "I;16":
        source = Image.fromarray(np.array(image(0, mode="L")).astype(np.uint16) << 8)
    else:
        source = image(0).convert(mode)
    source.save(root / "images" / "a.tif")
    dataset = load_folder(root)
    stored = open_store(dataset.store).get_image(0)
    assert stored.shape == (12, 16, 3)
    if mode == "I;16":
        assert np.array_equal(stored[:, :, 0], np.array(image(0, mode="L")))
        assert has_warning(dataset, "16 bits")
    else:
        assert np.array_equal(stored, np.array(source.convert("L" if mode == "LA" else "RGB").convert("RGB")))


def test_all_faults_of_a_data_set_are_listed_at_once(tmp_path):
    root = folder(tmp_path / "data", {s: mask(0, 1) for s in "abcdefghi"}, classes="x\ny\n")
    (root / "masks" / "a.png").unlink()
    mask(0, 1, height=11).save(root / "masks" / "b.png")
    big = image(3, 200, 200)
    big.save(root / "images" / "c.png")
    (root / "images" / "c.png").write_bytes((root / "images" / "c.png").read_bytes()[:4000])
    Image.fromarray(np.array(mask(0, 1)).astype(np.uint16) * 300).save(root / "masks" / "d.png")
    (root / "images" / "e.png").write_bytes(b"")
    (root / "images" / "f.png").write_bytes(b"not an image")
    mask(0, 5).save(root / "masks" / "f.png")
    shutil.copy(root / "images" / "g.png", root / "images" / "g.bmp")
    (root / "images" / "h.png").unlink()
    problems = find_problems(root)
    for words in (
        "images/a.png: has no mask",
        "images/c.png: cannot be decoded",
        "images/e.png: ",
        "images/f.png: must be one of",
        "masks/b.png: must have its image's size 16×12 (upright by EXIF), found 16×11",
        "masks/d.png: labels must be below 255 (255 = ignore), found 300",
        "masks/f.png: labels must be below 2 (the classes in classes.txt), 255 (ignore) or in the class map, found 5",
        "masks/g.png: a mask has one image, found images/g.bmp, images/g.png",
        "masks/h.png: has no image",
        "masks/: at least 3 usable images",  # only i is sound
    ):
        assert sum(problem.startswith(words) for problem in problems) == 1, words
    assert len(problems) == 10 and any("0 bytes" in problem for problem in problems)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"


@pytest.mark.parametrize("kind", ["images", "masks"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_git_lfs_pointers_are_reported_in_one_line(tmp_path, kind, suffix):
    root = folder(tmp_path / "data", dict.fromkeys("abcdef", mask(0, 1)))
    for stem in "abcde":
        (root / kind / f"{stem}.png").unlink()
        (root / kind / f"{stem}{suffix}").write_text(POINTER)
    first, *others = find_problems(root)
    assert first.startswith(
        f"5 files, e.g. {kind}/a{suffix}, {kind}/b{suffix}: must be an image, found a Git LFS pointer"
    )
    assert "; run `git lfs pull` in the repository" in first
    assert len(others) == 1 and "at least 3 usable images" in others[0]


def test_a_git_lfs_pointer_as_classes_txt_is_reported(tmp_path):
    (problem,) = find_problems(folder(tmp_path / "data", classes=POINTER))
    assert problem.startswith("classes.txt: must be the file itself, found a Git LFS pointer; run `git lfs pull`")


def test_valid_but_odd_data_cause_warnings(tmp_path):
    repeated = mask(0, 1, 0, 1)
    masks = {"a": repeated, "b": repeated, "c": mask(0, 1), "d": mask(255), "e": mask(0), "f": mask(0)}
    masks["c"].putpixel((0, 9), 255)
    split = "stem,split,group\na,train,g\nb,test,g\nc,,\nd,,\ne,,\nf,,\n"
    root = folder(tmp_path / "data", masks, classes="x\ny\nz\n", split=split)
    dataset = load_folder(root)
    assert has_warning(dataset, "never occurs: z")
    assert has_warning(dataset, "2 images have byte-identical masks: (a, b)")
    assert has_warning(dataset, "1 image without any labelled pixel", ": d.")
    assert has_warning(dataset, "1 group is on several sides of the given split: g (train: a; test: b)")
    assert len(dataset.warnings) == 4  # e and f are equal because they are empty
    shutil.copy(root / "images" / "a.png", root / "images" / "c.png")
    assert has_warning(load_folder(root), "2 images have the same pixels: (a, c)")


def test_a_warning_says_that_a_split_in_another_table_is_not_read(tmp_path):
    root = folder(tmp_path / "data")
    (root / "metadata.csv").write_text("image,mask,split\nimages/a.png,masks/a.png,test\n")
    dataset = load_folder(root)
    assert {one.split for one in dataset.images} == {None}
    assert has_warning(dataset, "1 table with a column split, which is not read: that of split.csv is: metadata.csv.")
