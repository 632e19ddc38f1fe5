"""The folder reader: what it accepts, what it refuses, what it warns of."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sweeper.core.errors import DataError
from sweeper.core.records import Dataset, Patterns
from sweeper.data import load_dataset, open_store
from sweeper.data.text_tables import read_classes, read_sides
from tests.support.folders import five, folder, image, laid_out, mask


def load(root: Path) -> Dataset:
    return load_dataset(str(root), root.parent / "cache")


def problems(root: Path) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        load(root)
    assert list(caught.value.problems) == sorted(set(caught.value.problems))
    return caught.value.problems


def only(found: tuple[str, ...], *words: str) -> None:
    """Exactly one problem, holding all these words."""
    assert len(found) == 1, found
    for word in words:
        assert word in found[0]


def labels(dataset: Dataset, index: int = 0) -> list[int]:
    return [int(v) for v in np.unique(open_store(dataset.store).mask(index))]


@pytest.mark.parametrize(
    ("pairs", "said", "stem"),
    [
        (five("IMAGES/{}.JPG", "Masks/{}.PNG"), "folder: IMAGES/ and Masks/", "a"),
        (
            five("img/{}.jpg", "labels/{}.jpg.png"),
            "format folder: img/ and labels/ Images and masks were paired by their names: labels/a.jpg.png is",
            "a",
        ),
        (five("images/x/{}x.jpg", "masks/{}x_GT.png"), "masks/ax_GT.png is the mask of images/x/ax.jpg", "ax"),
        (
            [*five("images/x/{}.jpg", "masks/x/mask_{}.gif"), *five("images/y/{}.jpg", "masks/y/mask_{}.gif")],
            "masks/x/mask_a.gif is the mask of images/x/a.jpg",
            "x/a",
        ),
        (five("top/set/images/{}.png", "top/set/gt/{}.png"), "in top/set/, format folder: images/ and gt/", "a"),
        (
            five("{} ü.jpg", "{} ü_mask.png"),
            "a ü_mask.png is the mask of a ü.jpg",
            "a ü",
        ),
        (
            five("{}.jpg", "{}.png"),
            "pairs: masks beside their images Images and masks were paired by their names: a.png is the",
            "a",
        ),
        (five("2020/{}_rgb.png", "2020/{}_label.png"), "a_label.png is the mask of a_rgb.png", "a_rgb"),
        (
            five("train/{}.jpg", "train_masks/{}_mask.gif"),
            "train_masks/a_mask.gif is the mask of train/a.jpg",
            "a",
        ),
        (five("JPEGImages/{}.jpg", "labels/{}.png"), "pairs: JPEGImages/ and labels/", "a"),
        (
            five("s{0}/images/p{0}.jpg", "s{0}/masks/p{0}.png"),
            "pairs: {sa,sb,sc,sd,se}/images/ and {sa,sb,sc,sd,se}/masks/",
            "pa",
        ),
        (five("images_2020/{}.jpg", "masks_2020/{}.png"), "pairs: images_2020/ and masks_2020/", "a"),
        (five("images/{}_sat.png", "masks/{}_mask.png"), "masks/a_mask.png is the mask of images/a_sat.png", "a_sat"),
        (five("images/img_{}.png", "masks/mask_{}.png"), "masks/mask_a.png is the mask of images/img_a.png", "img_a"),
        (five("images/{}_image.png", "masks/{}.png"), "masks/a.png is the mask of images/a_image.png", "a_image"),
    ],
)
def test_the_folders_that_people_have_are_read_and_what_was_assumed_is_said(tmp_path, pairs, said, stem):
    dataset = load(laid_out(tmp_path / "data", *pairs))
    assert said in f"{dataset.read_as} {' '.join(dataset.warnings)}"
    assert len(dataset.images) == len(pairs) and dataset.images[0].stem == stem
    assert [p.pixels[1] for p in dataset.images] == [16] * len(pairs) and dataset.name == "data"
    store = open_store(dataset.store)
    assert all(store.mask(i)[i % 5, 0] == 1 for i in range(5))


@pytest.mark.parametrize("mask", ["{}annot/{}.png", "{}/{}_mask.png"])
def test_folders_of_splits_may_be_called_so_on_both_sides_or_hold_both(tmp_path, mask):
    sides = ("train", "train", "train", "val", "test")
    pairs = [(f"{side}/{i}.png", mask.format(side, i)) for i, side in enumerate(sides)]
    assert [p.split for p in load(laid_out(tmp_path / "data", *pairs)).images] == [*sides]


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (
            [*five("img/{}.jpg", "labels/{}.png"), *five("", "gt/{}.png")],
            ["found img/ and labels/, img/ and gt/", "--images 'img/**/{stem}.*' --masks 'labels/**/{stem}.*'"],
        ),
        (
            [*five("images/{}.jpg", "masks/{}_mask.png"), *five("", "masks/{}_gt.png")],
            ["an image has one mask, found masks/a_gt.png, masks/a_mask.png; remove one, or say which is meant with"],
        ),
        (
            [*five("images/{}.jpg", "masks/{}.png"), *five("", "masks/{}0.png")],
            ["masks/a0.png, masks/b0.png: has no image of its name", "--images 'images/**/{stem}.*' --masks 'masks/"],
        ),
        (
            [*five("{}.png", "{}_mask.png"), *five("", "{}_gt.png")],
            ["an image has one mask, found a_gt.png, a_mask.png"],
        ),
        ([*five("images/{}.jpg", "masks/{}_mask.png"), ("", "masks/a.png")], ["found masks/a.png, masks/a_mask.png"]),
        (
            [*five("img/{}.jpg", "gt/{}.png"), ("img/a.JPG", "")],
            ["gt/a.png: a mask has one image, found img/a.JPG, img/a.jpg"],
        ),
    ],
)
def test_what_may_mean_two_things_is_refused_with_the_way_out(tmp_path, pairs, words):
    root = laid_out(tmp_path / "data", *pairs)
    found = problems(root)
    only(found, *words)
    if (way := re.search("--images '(.*)' --masks '(.*)'", found[0])) is not None:
        patterns = Patterns(images=way[1], masks=way[2])
        assert len(load_dataset(str(root), tmp_path / "cache", patterns=patterns).images) == 5


def test_masks_beside_others_are_read_and_the_others_are_named(tmp_path):
    root = laid_out(tmp_path / "data", *five("images/{}.jpg", "masks/{}.png"), *five("", "labels/{}.png"))
    assert any("images/ and labels/ might be meant too" in warning for warning in load(root).warnings)


def test_a_folder_without_its_counterpart_is_named(tmp_path):
    pairs = [*five("images/train/{}.jpg", "masks/train/{}.png"), ("images/test/z.jpg", "")]
    assert any(
        "without any mask, passed over: images/test" in warning
        for warning in load(laid_out(tmp_path / "d", *pairs)).warnings
    )


def test_links_are_followed_once(tmp_path):
    root, away = tmp_path / "data", laid_out(tmp_path / "away", *five("images/x/{}.jpg", "masks/x/{}.png"))
    root.mkdir()
    (root / "images").symlink_to(away / "images")
    (root / "masks").symlink_to(away / "masks")
    (away / "images" / "x" / "loop").symlink_to(away / "images")
    assert len(load(root).images) == 5


def test_the_grey_of_a_gif_counts_and_not_the_order_of_its_palette(tmp_path):
    root = laid_out(tmp_path / "data", *five("images/{}.jpg", "masks/{}.gif"), labels=(0, 255))
    plain = load(root)
    for name, palette in (("a", [255] * 3 + [0] * 3), ("b", [0] * 3 + [255] * 3)):
        with Image.open(root / "masks" / f"{name}.gif") as file:
            drawn = np.array(file.convert("L")) > 0
        flipped = Image.fromarray((drawn != (palette[0] == 255)).astype(np.uint8))
        flipped.putpalette(palette)
        flipped.save(root / "masks" / f"{name}.gif", optimize=False)
    assert load(root).digest == plain.digest
    flipped.save(root / "masks" / "c.gif", transparency=1)
    only(problems(root), "masks/c.gif: masks must not be transparent")
    flipped.putpalette([0, 0, 0, 200, 0, 0])
    flipped.save(root / "masks" / "c.gif")
    only(problems(root), "masks/c.gif: masks must hold one number", "a colour image ((200, 0, 0)", "colors.txt")
    flipped.save(root / "masks" / "c.gif", save_all=True, append_images=[Image.new("P", flipped.size)])
    only(problems(root), "masks/c.gif", "2 frames")


def test_text_files_in_labels_are_no_masks(tmp_path):
    root = folder(tmp_path / "data")
    shutil.rmtree(root / "masks")
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("0 0.1 0.1 0.5 0.5\n")
    only(
        problems(root), "labels/: holds no masks (png, bmp, tif, gif) of the images in images/", "holds images, labels;"
    )


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (["img"], "masks/: is missing beside img/ in "),
        (["gt", "other"], "images/: is missing beside gt/ in "),
        (["train/image", "val/image"], "train/masks/: is missing beside train/image/ in "),
    ],
)
def test_what_is_missing_is_said_of_the_folders_that_are_there(tmp_path, made, said):
    for name in made:
        (tmp_path / "data" / name).mkdir(parents=True)
    found = problems(tmp_path / "data")
    assert len(found) == 1 and found[0].startswith(said)


def test_many_faults_of_one_kind_are_one_line_with_examples(tmp_path):
    root = folder(tmp_path / "data", {f"{i:03d}": mask(0, 1) for i in range(12)})
    for path in (root / "masks").iterdir():
        path.rename(path.with_name(f"nothing like it {path.stem}.png"))
    found = problems(root)
    assert len(found) == 2
    assert found[0].startswith("12 files, e.g. images/000.png, images/001.png: has no mask; add masks/000.png, or")
    assert found[1].startswith("12 files, e.g. masks/nothing like it 000.png")


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("s3://bucket/set", "s3://bucket/set"),
        ("s3:/bucket/set", "s3://bucket/set"),  # what pathlib.Path makes of it
        ("https://me:secret@host/set.zip", "https://***@host/set.zip"),
    ],
)
def test_an_address_is_called_one(tmp_path, address, named):
    with pytest.raises(DataError) as caught:
        load_dataset(address, tmp_path)
    only(caught.value.problems, "--data must name what lies on this machine", f"{named} is an address: copy")
    assert "secret" not in str(caught.value)


def test_a_folder_called_like_an_address_is_a_folder(tmp_path, monkeypatch):
    folder(tmp_path / "s3:" / "bucket")
    monkeypatch.chdir(tmp_path)
    assert len(load_dataset("s3://bucket", tmp_path / "cache").images) == 4


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
        assert np.array_equal(store.mask(index), array), dataset.images[index].stem


def test_255_is_foreground_where_it_is_the_only_other_value(tmp_path):
    dataset = load(folder(tmp_path / "data", {"a": mask(0, 255), "b": mask(0), "c": mask(255)}))
    assert dataset.classes == ("background", "foreground")
    assert labels(dataset) == [0, 1]
    assert [p.pixels for p in dataset.images] == [(176, 16), (192, 0), (0, 192)]
    assert all(p.ignored == 0 for p in dataset.images)


def test_255_is_ignore_where_another_label_occurs(tmp_path):
    dataset = load(folder(tmp_path / "data", {"a": mask(0, 1, 255), "b": mask(0, 1), "c": mask(0, 255)}))
    assert labels(dataset) == [0, 1, 255]
    assert [p.ignored for p in dataset.images] == [16, 0, 16]


@pytest.mark.parametrize("found", [(0, 38, 75), (0, 1, 200), (*range(10), 70)])
def test_sparse_labels_ask_for_classes_txt(tmp_path, found):
    root = folder(tmp_path / "data", {"a": mask(*found), "b": mask(0, 1), "c": mask(0, 1)})
    only(problems(root), "classes.txt", str(found[-1]), "masks/a.png")


def test_labels_above_255_are_refused(tmp_path):
    deep = Image.fromarray(np.array(mask(0, 1)).astype(np.uint16) * 300)
    root = folder(tmp_path / "data", {"a": mask(0, 1), "b": mask(0, 1), "c": mask(0, 1), "d": deep})
    only(problems(root), "masks/d.png", "300")


def test_one_bit_masks_are_zero_and_one(tmp_path):
    masks = {stem: mask(0, 255).convert("1") for stem in "abc"}
    assert labels(load(folder(tmp_path / "data", masks))) == [0, 1]


def test_grey_sets_have_one_channel_and_mixed_ones_three(tmp_path):
    root = folder(tmp_path / "grey")
    for seed, stem in enumerate("abcd"):
        image(seed, mode="L").save(root / "images" / f"{stem}.png")
    grey = load(root)
    assert grey.channels == 1
    assert open_store(grey.store).image(0).shape == (12, 16, 1)
    image(0).save(root / "images" / "d.png")
    mixed = load(root)
    assert mixed.channels == 3
    first = open_store(mixed.store).image(0)
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
    stored = open_store(dataset.store).image(0)
    assert stored.shape == (12, 16, 3)
    if mode == "I;16":
        assert np.array_equal(stored[:, :, 0], np.array(image(0, mode="L")))
        assert any("16 bits" in warning for warning in dataset.warnings)
    else:
        assert np.array_equal(stored, np.array(source.convert("L" if mode == "LA" else "RGB").convert("RGB")))


def test_exif_orientation_is_applied_to_images_alone(tmp_path):
    root = folder(tmp_path / "data")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    (root / "images" / "a.png").unlink()
    image(0, height=16, width=12).save(root / "images" / "a.tif", exif=exif)
    dataset = load(root)
    assert (dataset.images[0].height, dataset.images[0].width) == (12, 16)
    upright = np.rot90(np.array(image(0, height=16, width=12)), -1)
    assert np.array_equal(open_store(dataset.store).image(0), upright)
    image(0).save(root / "images" / "a.tif", exif=exif)
    only(problems(root), "masks/a.png", "12×16", "16×12")


def test_images_may_differ_in_size(tmp_path):
    root = folder(tmp_path / "data")
    image(0, 30, 7).save(root / "images" / "b.png")
    mask(0, 1, 1, height=30, width=7).save(root / "masks" / "b.png")
    store = open_store(load(root).store)
    assert store.sizes == ((12, 16), (30, 7), (12, 16), (12, 16))
    assert np.array_equal(store.image(1), np.array(image(0, 30, 7)))
    assert np.array_equal(store.image(2), np.array(image(2)))
    assert np.array_equal(store.mask(1), np.array(mask(0, 1, 1, height=30, width=7)))


def test_all_faults_of_a_set_are_named_at_once(tmp_path):
    root = folder(tmp_path / "data", {s: mask(0, 1) for s in "abcdefghi"}, classes="x\ny\n")
    (root / "masks" / "a.png").unlink()
    mask(0, 1, height=11).save(root / "masks" / "b.png")
    big = image(3, 200, 200)
    big.save(root / "images" / "c.png")
    (root / "images" / "c.png").write_bytes((root / "images" / "c.png").read_bytes()[:4000])
    mask(0, 9).save(root / "masks" / "d.png")
    (root / "images" / "e.png").write_bytes(b"")
    (root / "images" / "f.png").write_bytes(b"not an image")
    shutil.copy(root / "images" / "g.png", root / "images" / "g.bmp")
    (root / "images" / "h.png").unlink()
    found = "\n".join(problems(root))
    assert "images/a.png: has no mask" in found
    assert "masks/b.png: must have its image's size 16×12 (upright), found 16×11" in found
    assert "images/c.png: cannot be decoded" in found
    assert "masks/d.png: labels must be below 2" in found
    assert "images/e.png" in found and "0 bytes" in found
    assert "images/f.png: must be one of" in found
    assert "masks/g.png: a mask has one image, found images/g.bmp, images/g.png" in found
    assert "masks/h.png: has no image" in found
    assert "at least 3 usable images" in found  # only i is sound
    assert len(found.splitlines()) == 9


def test_hidden_files_are_ignored_and_others_counted(tmp_path):
    root = folder(tmp_path / "data")
    for name in (".DS_Store", "Thumbs.db", "._a.png"):
        (root / "images" / name).write_bytes(b"x")
    assert load(root).warnings == ()
    (root / "images" / "notes.txt").write_text("x")
    assert any("images/notes.txt" in warning for warning in load(root).warnings)


@pytest.mark.parametrize("kind", ["other names", "splits", "a linked folder"])
def test_a_changed_mask_is_seen_wherever_it_lies(tmp_path, kind):
    root = folder(tmp_path / "data")
    masks_at = root / "masks"
    if kind == "other names":
        (root / "images").rename(root / "img")
        masks_at = masks_at.rename(root / "labels")
    elif kind == "splits":
        (root / "train").mkdir()
        (root / "images").rename(root / "train" / "image")
        masks_at = masks_at.rename(root / "train" / "gt")
    else:
        masks_at = masks_at.rename(tmp_path / "elsewhere")
        (root / "masks").symlink_to(masks_at)
    before = load(root)
    mask(0, 1, 1).save(masks_at / "a.png")
    after = load(root)
    assert after.digest != before.digest and after.images[0].pixels == (160, 32)


def test_splits_and_groups_are_read(tmp_path):
    split = "note,group,stem,split\nx,g,a,train\n,,b,val\n,g,c, Train\n,h,d,\n"
    dataset = load(folder(tmp_path / "data", split=split))
    assert [(p.split, p.group) for p in dataset.images] == [
        ("train", "g"),
        ("val", None),
        ("train", "g"),
        (None, "h"),
    ]
    assert dataset.warnings == ()


def test_faults_of_split_csv_are_named_together(tmp_path):
    root = folder(tmp_path / "data", split="stem,split\na,train\na,val\nb,validation\nzz,\nc,\n")
    found = "\n".join(problems(root))
    assert "line 3: a stem has one row, found 'a' again after line 2" in found
    assert "line 4: split must be train, val, test or empty, found 'validation'" in found
    assert "line 5: no image has the stem 'zz'" in found
    assert "found none for 'd'" in found
    assert len(found.splitlines()) == 4


@pytest.mark.parametrize(
    ("split", "word"), [("a;b\n", "columns stem and split"), ('stem,split\n"a', "comma-separated"), ("\n", "columns")]
)
def test_a_split_csv_that_is_no_table_is_one_problem(tmp_path, split, word):
    only(problems(folder(tmp_path / "data", split=split)), "split.csv", word)


def test_faults_of_classes_txt_are_named_together(tmp_path):
    found = "\n".join(problems(folder(tmp_path / "data", classes="x\n\nx\na\x1bb\n")))
    assert "line 2 must hold a class name" in found
    assert "line 3: names must differ, found 'x' twice" in found
    assert "line 4: names must be printable" in found
    assert len(found.splitlines()) == 3


@pytest.mark.parametrize("count", [1, 256])
def test_the_number_of_classes_is_bounded(tmp_path, count):
    names = "\n".join(f"c{i}" for i in range(count))
    only(problems(folder(tmp_path / "data", classes=names)), "2 to 255", f"found {count}")


def test_warnings_say_what_is_allowed_but_odd(tmp_path):
    drawn = mask(0, 1, 0, 1)
    masks = {"a": drawn, "b": drawn, "c": mask(0, 1), "d": mask(255), "e": mask(0), "f": mask(0)}
    masks["c"].putpixel((0, 9), 255)
    split = "stem,split,group\na,train,g\nb,test,g\nc,,\nd,,\ne,,\nf,,\n"
    root = folder(tmp_path / "data", masks, classes="x\ny\nz\n", split=split)
    found = load(root).warnings
    assert any("never occur: z" in warning for warning in found)
    assert any("2 images have byte-identical masks: (a, b)" in warning for warning in found)
    assert any("no labelled pixel" in warning and warning.endswith(": d.") for warning in found)
    assert any(
        "1 group lies on several sides of the given split: g (train: a; test: b)" in warning for warning in found
    )
    assert len(found) == 4  # e and f are equal by nature: nothing is drawn on them
    shutil.copy(root / "images" / "a.png", root / "images" / "c.png")
    assert any("2 images have the same pixels: (a, c)" in warning for warning in load(root).warnings)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=80) | st.text(alphabet="stem,plit\n\"' aé;\r", max_size=60).map(str.encode))
def test_the_tables_never_raise(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("tables") / "x"
    path.write_bytes(content)
    found: list[str] = []
    names = read_classes(path, found)
    assert (names is None) == bool(found)
    found.clear()
    sides = read_sides(path, ["a", "b"], found)
    assert found or set(sides) == {"a", "b"}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "sizes", "ignored", "words"),
    [
        ("cracks_cfd", (118, 2), False, ["042, 065"]),
        ("camvid", (160, 11), True, ["0001TP ("]),
        ("fruits_both", (18, 4), False, []),
    ],
)
def test_real_sets_are_read(  # noqa: PLR0917
    tmp_path, real_data, name, sizes, ignored, words
):
    dataset = load_dataset(str(real_data / name), tmp_path)
    assert (dataset.name, len(dataset.images), len(dataset.classes)) == (name, *sizes)
    assert any(p.ignored for p in dataset.images) == ignored
    for word in words:
        assert any(word in warning for warning in dataset.warnings)
    first = dataset.images[0]
    truth = np.array(Image.open(real_data / name / "masks" / f"{first.stem}.png"))
    assert np.array_equal(open_store(dataset.store).mask(0), truth)
