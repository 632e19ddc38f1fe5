"""What every reader shares: labels, channels and sizes of images, all problems at once, warnings."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeper.core.errors import DataError
from sweeper.core.records import Dataset
from sweeper.data import load_dataset, open_store
from tests.support.folders import folder, image, mask


def load(root: Path) -> Dataset:
    return load_dataset(str(root), root.parent / "cache")


def problems(root: Path) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        load(root)
    assert list(caught.value.problems) == sorted(set(caught.value.problems))
    return caught.value.problems


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
    dataset = load(root)
    store = open_store(dataset.store)
    assert len(dataset.images) == 7
    for index in range(7):
        assert np.array_equal(store.get_mask(index), array), dataset.images[index].stem


@pytest.mark.parametrize(
    ("masks", "pixels", "ignored"),
    [
        ([mask(0, 255), mask(0), mask(255)], [(176, 16), (192, 0), (0, 192)], [0, 0, 0]),
        ([mask(0, 1, 255), mask(0, 1), mask(0, 255)], [(160, 16), (176, 16), (176, 0)], [16, 0, 16]),
        ([mask(0, 255).convert("1")] * 3, [(176, 16)] * 3, [0, 0, 0]),
    ],
)
def test_255_is_foreground_where_it_is_the_only_other_value_and_else_ignored(tmp_path, masks, pixels, ignored):
    dataset = load(folder(tmp_path / "data", dict(zip("abc", masks, strict=True))))
    assert dataset.classes == ("background", "foreground")
    assert [p.pixels for p in dataset.images] == pixels and [p.ignored for p in dataset.images] == ignored


@pytest.mark.parametrize("found", [(0, 38, 75), (0, 1, 200), (*range(10), 70)])
def test_sparse_labels_ask_for_classes_txt(tmp_path, found):
    root = folder(tmp_path / "data", {"a": mask(*found), "b": mask(0, 1), "c": mask(0, 1)})
    (problem,) = problems(root)
    assert all(word in problem for word in ("classes.txt", str(found[-1]), "masks/a.png"))


def test_grey_sets_have_one_channel_and_mixed_ones_three(tmp_path):
    root = folder(tmp_path / "grey")
    for seed, stem in enumerate("abcd"):
        image(seed, mode="L").save(root / "images" / f"{stem}.png")
    grey = load(root)
    assert grey.channels == 1
    assert open_store(grey.store).get_image(0).shape == (12, 16, 1)
    image(0).save(root / "images" / "d.png")
    mixed = load(root)
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
    dataset = load(root)
    stored = open_store(dataset.store).get_image(0)
    assert stored.shape == (12, 16, 3)
    if mode == "I;16":
        assert np.array_equal(stored[:, :, 0], np.array(image(0, mode="L")))
        assert any("16 bits" in warning for warning in dataset.warnings)
    else:
        assert np.array_equal(stored, np.array(source.convert("L" if mode == "LA" else "RGB").convert("RGB")))


def test_exif_orientation_is_applied_to_images_alone(tmp_path):
    root = folder(tmp_path / "data")
    exif = Image.Exif()
    exif[0x0112] = 6  # is on its side
    (root / "images" / "a.png").unlink()
    image(0, height=16, width=12).save(root / "images" / "a.tif", exif=exif)
    dataset = load(root)
    assert (dataset.images[0].height, dataset.images[0].width) == (12, 16)
    upright = np.rot90(np.array(image(0, height=16, width=12)), -1)
    assert np.array_equal(open_store(dataset.store).get_image(0), upright)


def test_all_faults_of_a_set_are_named_at_once(tmp_path):
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
    found = "\n".join(problems(root))
    assert "images/a.png: has no mask" in found
    assert "masks/b.png: must have its image's size 16×12 (upright), found 16×11" in found
    assert "images/c.png: cannot be decoded" in found
    assert "masks/d.png: labels must be below 255 (255 = ignore), found 300" in found
    assert "images/e.png" in found and "0 bytes" in found
    assert "images/f.png: must be one of" in found
    assert "masks/f.png: labels must be below 2 (the classes in classes.txt) or 255 (ignore), found 5" in found
    assert "masks/g.png: a mask has one image, found images/g.bmp, images/g.png" in found
    assert "masks/h.png: has no image" in found
    assert "at least 3 usable images" in found  # only i is sound
    assert len(found.splitlines()) == 10


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"


@pytest.mark.parametrize("kind", ["images", "masks"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pointers_of_git_lfs_are_called_so_in_one_line(tmp_path, kind, suffix):
    root = folder(tmp_path / "data", dict.fromkeys("abcdef", mask(0, 1)))
    for stem in "abcde":
        (root / kind / f"{stem}.png").unlink()
        (root / kind / f"{stem}{suffix}").write_text(POINTER)
    first, *others = problems(root)
    assert first.startswith(
        f"5 files, e.g. {kind}/a{suffix}, {kind}/b{suffix}: must be an image, found a Git LFS pointer"
    )
    assert "; run `git lfs pull` in the repository" in first
    assert len(others) == 1 and "at least 3 usable images" in others[0]


def test_a_list_of_classes_may_be_such_a_pointer_too(tmp_path):
    (found,) = problems(folder(tmp_path / "data", classes=POINTER))
    assert found.startswith("classes.txt: must be the file itself, found a Git LFS pointer; run `git lfs pull`")


def test_warnings_say_what_is_allowed_but_odd(tmp_path):
    drawn = mask(0, 1, 0, 1)
    masks = {"a": drawn, "b": drawn, "c": mask(0, 1), "d": mask(255), "e": mask(0), "f": mask(0)}
    masks["c"].putpixel((0, 9), 255)
    split = "stem,split,group\na,train,g\nb,test,g\nc,,\nd,,\ne,,\nf,,\n"
    root = folder(tmp_path / "data", masks, classes="x\ny\nz\n", split=split)
    found = load(root).warnings
    assert any("never occurs: z" in warning for warning in found)
    assert any("2 images have byte-identical masks: (a, b)" in warning for warning in found)
    assert any("no labelled pixel" in warning and warning.endswith(": d.") for warning in found)
    assert any("1 group is on several sides of the given split: g (train: a; test: b)" in warning for warning in found)
    assert len(found) == 4  # e and f are equal by nature: nothing is drawn on them
    shutil.copy(root / "images" / "a.png", root / "images" / "c.png")
    assert any("2 images have the same pixels: (a, c)" in warning for warning in load(root).warnings)
