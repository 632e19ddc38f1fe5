"""Every format gives the same data set, odd files are handled as documented, and the log states the format."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_masks

from sweeper.core.errors import UsageError
from sweeper.core.records import Dataset
from sweeper.data import load_dataset, open_store
from sweeper.data.formats import FORMATS
from sweeper.data.formats import labelme as labelme_format
from sweeper.data.formats.cityscapes import LABEL_IDS
from sweeper.data.formats.coco import CocoAnnotation
from sweeper.data.formats.shapes import KINDS, DrawableShape, check_rle, decode_pixels, draw_outlines, find_point_fault
from tests.support import annotated
from tests.support.annotated import CLASSES, HEIGHT, STEMS, WIDTH, photo, truth
from tests.support.folders import (
    encode_png,
    find_problems,
    get_mask,
    has_warning,
    join_problems,
    list_masks,
    load_folder,
)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_set(tmp_path, name):
    annotated.FORMATS[name](tmp_path / "data")
    lines: list[str] = []
    dataset = load_folder(tmp_path / "data", log=lines.append)
    assert dataset.format == name
    assert len(lines) == 1 and f"format {name}: " in lines[0]
    assert dataset.classes == CLASSES
    assert [image.stem for image in dataset.images] == [*STEMS]
    assert annotated.has_true_masks(dataset)
    store = open_store(dataset.store)
    assert all(np.array_equal(store.get_image(index), np.array(photo(index))) for index in range(len(STEMS)))
    sides = annotated.SIDES if name in ("voc", "yolo", "cityscapes", "manifest") else [None] * 8
    assert [image.split for image in dataset.images] == [*sides]
    if name == "manifest":
        assert [image.group for image in dataset.images] == [f"g{i}" for i in range(8)]


@pytest.mark.parametrize("name", FORMATS)
def test_split_csv_and_classes_txt_apply_to_every_format(tmp_path, name):
    root = tmp_path / "data"
    annotated.FORMATS[name](root)
    (root / "split.csv").write_text("stem,split,group\n" + "".join(f"{stem},,g\n" for stem in STEMS))
    if name != "nnunet":  # its dataset.json numbers the labels
        (root / "classes.txt").write_text("background\ncat\ndog\nhorse\n")
    dataset = load_folder(root)
    assert [image.split for image in dataset.images] == [None] * 8
    assert {image.group for image in dataset.images} == {"g"}
    assert dataset.classes[:3] == CLASSES and (name == "nnunet" or dataset.classes[3] == "horse")
    assert annotated.has_true_masks(dataset)


FLATTEN = {"overlap": ("flatten",)}


def test_classes_txt_orders_the_labels_of_shapes_and_must_contain_them_all(tmp_path):
    for name in ("labelme", "coco", "yolo"):
        root = tmp_path / name
        annotated.FORMATS[name](root)
        (root / "classes.txt").write_text("nothing\ndog\ncat\n")
        dataset = load_folder(root)
        assert dataset.classes == ("nothing", "dog", "cat")
        swapped = np.array([0, 2, 1], dtype=np.uint8)[truth(0)]
        assert np.array_equal(get_mask(dataset), swapped)
        (root / "classes.txt").write_text("background\ncat\n")
        assert "labels must be those of classes.txt (2 classes), found dog" in join_problems(root)


def test_without_a_background_uncovered_pixels_are_ignored_with_a_warning(tmp_path):
    annotated.labelme(tmp_path / "data")
    (tmp_path / "data" / "classes.txt").write_text("cat\ndog\n")
    dataset = load_folder(tmp_path / "data")
    assert sorted(np.unique(get_mask(dataset))) == [0, 1, 255]
    assert has_warning(dataset, "names no background")


def test_folders_precede_json_unless_another_format_is_requested(tmp_path):
    root = tmp_path / "data"
    annotated.folder(root)
    (root / "coco.json").write_text(
        json.dumps(annotated.coco_data(annotations=annotated.coco_data()["annotations"][:1]))
    )
    lines: list[str] = []
    assert load_folder(root, log=lines.append).format == "folder"
    assert "found too: coco" in lines[0]
    requested = load_folder(root, log=lines.append, format="coco")
    assert requested.format == "coco"
    # A resume passes a format, too, which the user did not request.
    assert "format coco: " in lines[-1] and "ask" not in lines[-1]
    assert not get_mask(requested, 3).any()


def test_a_missing_or_unknown_format_is_refused(tmp_path):
    annotated.folder(tmp_path / "data")
    assert "LabelMe's JSON" in join_problems(tmp_path / "data", format="labelme")
    with pytest.raises(UsageError, match="must be one of folder, "):
        load_folder(tmp_path / "data", format="nonsense")
    with pytest.raises(UsageError, match="is for files"):
        load_dataset("synthetic:cracks", tmp_path / "cache", format="coco")


@pytest.mark.parametrize(
    ("name", "file"),
    [("coco", "annotations/instances_default.json"), ("yolo", "data.yaml"), ("manifest", "manifest.csv")],
)
def test_data_may_be_the_annotation_file(tmp_path, name, file):
    root = tmp_path / "data"
    annotated.FORMATS[name](root)
    if name == "coco":
        (root / "annotations" / "instances_default.json").rename(root / "all.json")
        file = "all.json"
    dataset = load_dataset(str(root / file), tmp_path / "cache", class_map=FLATTEN)
    assert dataset.format == name and len(dataset.images) == 8


# --- LabelMe ---------------------------------------------------------------------------------------------------


def make_shape(kind: str, points: list[list[float]], label: str = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, **more}


def draw_shapes(root: Path, *shapes: dict[str, Any], **changes: Any) -> np.ndarray:
    """Return the mask of an image with these shapes in a LabelMe set."""
    annotated.labelme(root)
    annotated.labelme_json(root / "p0.json", 0, shapes=[*shapes], **changes)
    return get_mask(load_folder(root))


def test_circles_lines_and_points_have_labelmes_sizes(tmp_path):
    circle = draw_shapes(tmp_path / "a", make_shape("circle", [[30, 20], [30, 30]]))
    assert circle[20, 20] == circle[20, 40] == circle[10, 30] == 1 and circle[20, 19] == circle[9, 30] == 0
    strip = draw_shapes(tmp_path / "b", make_shape("linestrip", [[5, 10], [50, 10], [50, 40]]))
    assert (strip[:, 20] == 1).sum() == (strip[30] == 1).sum() == 10
    points = draw_shapes(tmp_path / "c", make_shape("points", [[30, 20], [10, 20]]))
    assert (points[20, 20:] == 1).sum() == (points[:, 30] == 1).sum() == (points[:, 10] == 1).sum() == 11


def test_later_shapes_cover_earlier_ones_and_ignore_and_background_are_no_classes(tmp_path):
    cat, dog = make_shape("rectangle", [[0, 0], [63, 47]]), make_shape("rectangle", [[50, 20], [40, 10]], "dog")
    ignored = make_shape("rectangle", [[0, 0], [9, 9]], "__ignore__")
    background = make_shape("rectangle", [[20, 0], [29, 9]], "_background_")
    mask = draw_shapes(tmp_path / "a", cat, ignored, background, dog)
    assert (mask[:10, :10] == 255).all() and (mask[:10, 20:30] == 0).all() and mask[30, 30] == 1
    assert mask[15, 45] == 2 and draw_shapes(tmp_path / "b", dog, cat)[15, 45] == 1


def test_a_mask_among_the_shapes_is_pasted_at_its_corner(tmp_path):
    stencil = Image.new("1", (10, 6))
    stencil.paste(1, (2, 1, 9, 5))
    stencil.save(tmp_path / "stencil.png")
    text = base64.b64encode((tmp_path / "stencil.png").read_bytes()).decode()
    mask = draw_shapes(tmp_path / "data", make_shape("mask", [[20, 10], [29, 15]], mask=text))
    assert (mask[11:15, 22:29] == 1).all() and mask.sum() == 4 * 7
    annotated.labelme_json(
        tmp_path / "data" / "p1.json", 1, shapes=[make_shape("mask", [[20, 10], [30, 15]], mask=text)]
    )
    assert "size of its corners 11×6, found 10×6" in join_problems(tmp_path / "data")


def test_foreign_image_paths_are_resolved_by_name_and_unannotated_images_are_counted(tmp_path):
    root = tmp_path / "data"
    annotated.labelme(root)
    annotated.labelme_json(root / "p0.json", 0, imagePath="C:\\Users\\me\\Desktop\\p0.png")
    annotated.labelme_json(root / "p1.json", 1, imagePath="../../elsewhere/p1.png")
    photo(77).save(root / "spare.png")
    dataset = load_folder(root)
    assert has_warning(dataset, "1 image without an annotation, passed over: spare.png")
    assert has_warning(dataset, "2 images not where the annotations say", "p0.png")
    assert annotated.has_true_masks(dataset)


def test_labels_txt_of_labelme_gives_the_classes(tmp_path):
    root = tmp_path / "data"
    annotated.labelme(root)
    (root / "labels.txt").write_text("__ignore__\n_background_\nzebra\ndog\ncat\n")
    assert load_folder(root).classes == ("background", "zebra", "dog", "cat")


# --- COCO --------------------------------------------------------------------------------------------------------


def load_coco(root: Path, *annotations: dict[str, Any], **changes: Any) -> Dataset:
    """Return a COCO set whose first image has these annotations."""
    annotated.coco(root)
    data = annotated.coco_data()
    others = [a for a in data["annotations"] if a["image_id"] != 1]
    data |= {"annotations": [{"id": 900 + n, "image_id": 1, "category_id": 10, **a} for n, a in enumerate(annotations)]}
    data["annotations"] += others
    (root / "annotations" / "instances_default.json").write_text(json.dumps(data | changes))
    return load_folder(root)


def make_ring(left: int, top: int, right: int, bottom: int) -> list[int]:
    return [left, top, right, top, right, bottom, left, bottom]


def test_a_ring_inside_another_is_a_hole_but_a_repeated_ring_is_not(tmp_path):
    dataset = load_coco(
        tmp_path / "a",
        {"segmentation": [make_ring(5, 5, 40, 40), make_ring(10, 10, 30, 30), make_ring(15, 15, 20, 20)]},
    )
    mask = get_mask(dataset)
    assert (mask[6, 6], mask[12, 12], mask[17, 17]) == (1, 0, 1)
    assert mask.sum() == 35 * 35 - 20 * 20 + 5 * 5
    twice = load_coco(tmp_path / "b", {"segmentation": [make_ring(5, 5, 40, 40), make_ring(5, 5, 40, 40)]})
    assert get_mask(twice).sum() == 35 * 35
    overlapping = load_coco(tmp_path / "c", {"segmentation": [make_ring(5, 5, 20, 20), make_ring(15, 5, 40, 20)]})
    assert get_mask(overlapping).sum() == 35 * 15


def test_run_length_masks_are_read(tmp_path):
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    expected[3:20, 7:30] = 1
    expected[8:12, 10:20] = 0
    flat = expected.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    rle = {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *edges, flat.size]).tolist()}
    assert np.array_equal(get_mask(load_coco(tmp_path / "data", {"segmentation": rle})), expected)


def test_crowds_and_boxes_are_ignored_where_no_object_covers_them(tmp_path):
    dataset = load_coco(
        tmp_path / "data",
        {"segmentation": [make_ring(10, 10, 14, 14)], "iscrowd": "0"},  # numbers may be written as text
        {"segmentation": [make_ring(5, 5, 20, 20)], "iscrowd": 1},
        {"segmentation": [make_ring(40, 5, 50, 20)], "iscrowd": "1"},
        {"bbox": [30, 30, 10, 10], "category_id": 20},
    )
    mask = get_mask(dataset)
    assert mask[12, 12] == 1 and mask[6, 6] == mask[6, 45] == mask[35, 35] == 255 and mask[0, 0] == 0
    assert has_warning(dataset, "1 of 18 objects have a box")


def test_large_areas_are_painted_first_whatever_their_order(tmp_path):
    small, large = (
        {"segmentation": [make_ring(10, 10, 14, 14)], "category_id": 20},
        {"segmentation": [make_ring(5, 5, 30, 30)]},
    )
    for number, order in enumerate(([small, large], [large, small])):
        assert get_mask(load_coco(tmp_path / str(number), *order))[12, 12] == 2


def test_dummy_and_repeated_categories_make_no_class(tmp_path):
    categories = [
        {"id": 0, "name": "animal", "supercategory": "none"},
        {"id": 10, "name": "cat", "supercategory": "animal"},
        {"id": 20, "name": "dog", "supercategory": "animal"},
        {"id": 30, "name": "dog", "supercategory": "animal"},
    ]
    dataset = load_coco(
        tmp_path / "data", {"segmentation": [make_ring(5, 5, 9, 9)], "category_id": 30}, categories=categories
    )
    assert dataset.classes == CLASSES
    assert get_mask(dataset)[6, 6] == 2


def test_several_coco_files_give_the_split(tmp_path):
    root = tmp_path / "data"
    data = annotated.coco_data()
    for side, ids in (("train", range(1, 5)), ("valid", (5, 6)), ("test", (7, 8))):
        annotated.make_folders(root / side)
        for number in ids:
            photo(number - 1).save(root / side / f"p{number - 1}.png")
        part = {key: [e for e in data[key] if e.get("image_id", e["id"]) in ids] for key in ("images", "annotations")}
        (root / side / "_annotations.coco.json").write_text(json.dumps(data | part))
    dataset = load_folder(root)
    assert [p.split for p in dataset.images] == [*annotated.SIDES]
    assert annotated.has_true_masks(dataset)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-5, 400), max_size=12) | st.text(max_size=20) | st.none() | st.floats())
def test_run_length_masks_of_any_kind_are_read_or_refused(counts):
    try:
        pixels = decode_pixels(check_rle({"size": [12, 9], "counts": counts}, (12, 9)))
    except ValueError:
        return
    assert pixels.shape == (12, 9) and isinstance(counts, list | str)
    if isinstance(counts, list):
        assert sum(counts) == 108 and pixels.sum() == sum(counts[1::2])


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_compressed_runs_are_those_of_pycocotools(height, width, seed):
    bits = np.random.default_rng(seed).random((height, width)) < 0.3
    rle = coco_masks.encode(np.asfortranarray(bits, dtype=np.uint8))
    text = {"size": [height, width], "counts": rle["counts"].decode()}
    assert np.array_equal(decode_pixels(check_rle(text, (height, width))), bits)
    with pytest.raises(ValueError, match="runs ≥ 0 that fill it"):
        check_rle({**text, "counts": text["counts"] + "1"}, (height, width))


# --- Parsers against anything ------------------------------------------------------------------------------------

JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
NUMBERS = st.lists(st.integers(-100, 10**400) | st.floats(), max_size=9)


COCO = {
    "id": JSONS,
    "category_id": st.integers(0, 3) | JSONS,
    "segmentation": st.lists(NUMBERS, max_size=3) | JSONS,
    "bbox": NUMBERS | JSONS,
    "iscrowd": JSONS,
    "area": st.floats() | JSONS,
}
LABELME = {
    "label": st.text(max_size=5) | JSONS,
    "shape_type": st.sampled_from([*KINDS, "other"]) | JSONS,
    "points": st.lists(st.lists(st.integers(-9, 99) | st.floats(), min_size=2, max_size=2), max_size=5) | JSONS,
    "mask": st.text(max_size=9) | JSONS,
}


@settings(deadline=None, max_examples=150)
@given(st.fixed_dictionaries({}, optional=COCO))
def test_any_coco_annotation_is_parsed_or_refused(entry):
    try:
        parsed = CocoAnnotation.model_validate({"image_id": 1, **entry}).make_shape()
    except ValueError as error:
        assert str(error)
        return
    assert all(np.isfinite(np.frombuffer(each)).all() for each in parsed.rings)
    assert parsed.rings or parsed.mask is not None


@settings(deadline=None, max_examples=150)
@given(st.fixed_dictionaries({}, optional=LABELME))
def test_any_labelme_shape_is_drawn_or_refused(tmp_path_factory, entry):
    try:
        parsed = labelme_format.parse_shape(1, entry)
    except ValueError as error:
        assert str(error)
        return
    points = np.frombuffer(parsed.rings[0]).reshape(-1, 2)
    if len(points) < KINDS[parsed.kind][0] or find_point_fault(points, (20, 30)):
        return
    try:
        mask = draw_outlines([DrawableShape(7, parsed, [points])], (20, 30), 0)
    except ValueError as error:
        assert "its image must" in str(error)
        return
    assert mask.shape == (20, 30) and set(np.unique(mask)) <= {0, 7}


# --- The others ------------------------------------------------------------------------------------------------


def test_voc_ignores_borders_and_images_without_mask(tmp_path):
    root = tmp_path / "data"
    annotated.voc(root)
    mask = truth(0)
    mask[0] = 255
    annotated.palette(mask).save(root / "SegmentationClass" / "p0.png")
    photo(3).save(root / "JPEGImages" / "spare.png")
    dataset = load_folder(root)
    assert np.array_equal(get_mask(dataset), mask)
    assert has_warning(dataset, "1 image without a mask, passed over: spare.")


def test_images_of_the_voc_data_set_get_its_class_names(tmp_path):
    root = tmp_path / "data"
    annotated.make_folders(root / "JPEGImages", root / "SegmentationClass")
    for index in range(8):
        photo(index).save(root / "JPEGImages" / f"2007_00000{index}.jpg")
        annotated.palette(truth(index)).save(root / "SegmentationClass" / f"2007_00000{index}.png")
    assert load_folder(root).classes[:3] == ("background", "aeroplane", "bicycle")


def test_a_yolo_image_without_text_file_is_background(tmp_path):
    root = tmp_path / "data"
    annotated.yolo(root)
    (root / "train" / "labels" / "p0.txt").unlink()
    (root / "data.yaml").write_text(
        f"path: {root}\ntrain: train.txt\nval: [val/images]\ntest: test/images\nnames: {{0: cat, 1: dog}}\n"
    )
    (root / "train.txt").write_text("".join(f"./train/images/p{i}.png\n" for i in range(4)))
    annotated.make_folders(root / "val" / "images" / ".hidden")
    photo(9).save(root / "val" / "images" / ".hidden" / "p9.png")
    dataset = load_folder(root)
    assert not get_mask(dataset).any()
    assert np.array_equal(get_mask(dataset, 1), truth(1))
    assert [p.split for p in dataset.images] == [*annotated.SIDES]
    assert has_warning(dataset, "1 image without a text file of labels, taken as background: train/images/p0.png.")


def test_cityscapes_label_ids_become_train_ids_and_train_ids_take_precedence(tmp_path):
    def write(root: Path, kind: str, values: list[int]) -> Dataset:
        for index in range(4):
            stem = f"aachen_00000{index}_000019"
            annotated.make_folders(root / "leftImg8bit/train/aachen", root / "gtFine/train/aachen")
            photo(index).save(root / f"leftImg8bit/train/aachen/{stem}_leftImg8bit.png")
            mask = np.array(values, dtype=np.uint8)[truth(index)]
            Image.fromarray(mask).save(root / f"gtFine/train/aachen/{stem}_gtFine_{kind}.png")
        return load_folder(root)

    translated = write(tmp_path / "cityscapes", "labelIds", [3, 7, 26])
    assert translated.classes[0] == "road" and len(translated.classes) == len(LABEL_IDS) == 19
    assert sorted(np.unique(get_mask(translated))) == [0, 13, 255]
    assert has_warning(translated, "become its 19 train ids")
    (tmp_path / "cityscapes" / "classes.txt").write_text("".join(f"c{i}\n" for i in range(27)))
    assert sorted(np.unique(get_mask(load_folder(tmp_path / "cityscapes")))) == [3, 7, 26]
    (tmp_path / "cityscapes" / "classes.txt").unlink()
    with_train_ids = write(tmp_path / "cityscapes", "labelTrainIds", [255, 0, 13])
    assert with_train_ids.digest == translated.digest
    write(tmp_path / "cityscapes", "labelIds", [3, 7, 26])
    (tmp_path / "cityscapes/gtFine").rename(tmp_path / "cityscapes/fine")  # folders of other names
    assert load_folder(tmp_path / "cityscapes").digest == translated.digest
    foreign = write(tmp_path / "foreign", "labelIds", [0, 1, 2])
    assert foreign.classes == ("class_0", "class_1", "class_2")


def test_cityscapes_images_without_fine_labels_are_passed_over(tmp_path):
    root = tmp_path / "data"
    for index, side in enumerate(("train", "train", "val", "test", "train_extra")):
        annotated.make_folders(root / "leftImg8bit" / side, root / "gtFine" / side, root / "gtCoarse" / side)
        photo(index).save(root / "leftImg8bit" / side / f"p{index}_leftImg8bit.png")
        Image.fromarray(truth(7)).save(root / "gtCoarse" / side / f"p{index}_gtCoarse_labelIds.png")
        if index < 3:
            Image.fromarray(truth(index)).save(root / "gtFine" / side / f"p{index}_gtFine_labelIds.png")
    dataset = load_folder(root)
    assert [(p.stem, p.split) for p in dataset.images] == [("p0", "train"), ("p1", "train"), ("p2", "val")]
    assert annotated.has_true_masks(dataset)
    assert has_warning(dataset, "2 images without a mask, passed over: p3, p4.")
    shutil.rmtree(root / "gtFine")
    (problem,) = find_problems(root)
    assert "found coarse labels alone; name these with --images '**/{stem}_leftImg8bit.*' --masks" in problem


def test_cityscapes_test_images_with_withheld_labels_are_passed_over(tmp_path):
    def write(unlabelled: list[str]) -> Dataset:
        for index, side in enumerate(("train", "train", "val", "test", "test")):
            at, stem = tmp_path / "data" / "{}" / side / "aachen", f"aachen_00000{index}_000019"
            images, labels = (Path(str(at).format(name)) for name in ("leftImg8bit", "gtFine"))
            annotated.make_folders(images, labels)
            photo(index).save(images / f"{stem}_leftImg8bit.png")
            mask = np.array([0, 1, 3] if stem in unlabelled else [3, 7, 26], dtype=np.uint8)[truth(index)]
            Image.fromarray(mask).save(labels / f"{stem}_gtFine_labelIds.png")
        return load_folder(tmp_path / "data")

    dataset = write(["aachen_000003_000019", "aachen_000004_000019"])
    assert [p.split for p in dataset.images] == ["train", "train", "val"]
    assert has_warning(dataset, "2 images of a test split without any label, passed over: aachen_000003_000019")
    assert [p.split for p in write(["aachen_000003_000019"]).images] == ["train", "train", "val", "test", "test"]


def test_nnunets_ignore_is_255_and_its_test_split_is_kept(tmp_path):
    root = tmp_path / "data"
    annotated.nnunet(root)
    meta = {"labels": {"background": 0, "cat": 1, "ignore": 2}, "file_ending": ".png", "channel_names": {}}
    (root / "dataset.json").write_text(json.dumps(meta))
    annotated.make_folders(root / "imagesTs", root / "labelsTs")
    for number in range(3):
        (root / "imagesTr" / f"p7_{number:04d}.png").rename(root / "imagesTs" / f"p7_{number:04d}.png")
    (root / "labelsTr" / "p7.png").rename(root / "labelsTs" / "p7.png")
    dataset = load_folder(root)
    assert dataset.classes == ("background", "cat")
    assert np.array_equal(get_mask(dataset), np.array([0, 1, 255], dtype=np.uint8)[truth(0)])
    assert [p.split for p in dataset.images] == [None] * 7 + ["test"]


# --- Images ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "dtype", "options"),
    [
        *((channels, np.uint16, {}) for channels in (12, 4, 3, 1)),
        (12, np.uint8, {}),
        (12, np.uint16, {"planarconfig": "separate"}),
        (12, np.uint16, {"compression": "zlib"}),
        (12, np.uint16, {"compression": "zlib", "predictor": True}),
        (12, np.uint16, {"tile": (16, 16)}),
        (12, np.uint16, None),  # without a word on what the axes are
    ],
)
def test_tiffs_keep_their_channels_and_bits(tmp_path, channels, dtype, options):
    root = tmp_path / "data"
    annotated.deep(root, channels, dtype)
    for index, stem in enumerate(STEMS if options != {} else ()):
        data = annotated.bands(index, channels, dtype)
        if options is None or "planarconfig" in options:
            data = data.transpose(2, 0, 1) if options or index % 2 else data
        more = {} if options is None else {**annotated.layout(channels), **options}
        tifffile.imwrite(root / "images" / f"{stem}.tif", data, **more)
    dataset = load_folder(root)
    assert dataset.channels == channels
    store = open_store(dataset.store)
    assert store.dtype == dtype
    for index in range(len(STEMS)):
        assert np.array_equal(store.get_image(index), annotated.bands(index, channels, dtype))
        view = store.get_view(index)
        assert view.dtype == np.uint8 and view.shape == (HEIGHT, WIDTH, 1 if channels == 1 else 3)
        assert view.min() == 0 and view.max() == 255


@pytest.mark.parametrize("channels", [3, 4])
def test_pngs_of_16_bits_keep_them(tmp_path, channels):
    root = tmp_path / "data"
    annotated.folder(root)
    data = [np.random.default_rng(i).integers(0, 65536, (HEIGHT, WIDTH, channels), dtype=np.uint16) for i in range(8)]
    for index, stem in enumerate(STEMS):
        (root / "images" / f"{stem}.png").write_bytes(encode_png(data[index], 16))
    dataset = load_folder(root)
    store = open_store(dataset.store)
    assert (store.channels, store.dtype) == (3, np.uint16)
    assert all(np.array_equal(store.get_image(i), data[i][:, :, :3]) for i in range(8))


def test_images_of_different_channels_are_a_problem(tmp_path):
    root = tmp_path / "data"
    annotated.deep(root, 12, np.uint16)
    tifffile.imwrite(
        root / "images" / "p1.tif", annotated.bands(1, 5, np.uint16), photometric="minisblack", planarconfig="contig"
    )
    assert "images/p1.tif: images must have the same number of channels, found 5 where 7 have 12" in join_problems(root)


# --- Real data ---------------------------------------------------------------------------------------------------


def measure_disagreement(first: Dataset, second: Dataset) -> float:
    """Return the share of the pixels of all images on which two readings differ."""
    assert [image.stem for image in first.images] == [image.stem for image in second.images]
    pairs = list(zip(list_masks(first), list_masks(second), strict=True))
    return sum(int((a != b).sum()) for a, b in pairs) / sum(mask.size for mask, _ in pairs)


@pytest.mark.real_data
def test_labelme_and_coco_give_the_same_fruits(tmp_path, real_data):
    source = str(real_data / "fruits_both")
    labelme = load_dataset(source, tmp_path, format="labelme")
    coco = load_dataset(source, tmp_path, format="coco")
    folder = load_dataset(source, tmp_path)
    assert labelme.classes == coco.classes == folder.classes
    assert measure_disagreement(labelme, folder) == 0
    assert 0 < measure_disagreement(labelme, coco) < 0.01  # measured: 0.61 %


@pytest.mark.real_data
def test_facade_read_from_its_json_matches_its_masks(tmp_path, real_data):
    source = str(real_data / "facade_coco")
    folder = load_dataset(source, tmp_path)
    assert folder.format == "folder"  # folders win over the JSON next to them
    assert (
        measure_disagreement(load_dataset(source, tmp_path, format="coco", class_map=FLATTEN), folder) < 0.025
    )  # measured: 1.65 %


@pytest.mark.real_data
def test_labelmes_reference_masks_are_reproduced(tmp_path, real_data):
    root = real_data / "labelme_voc" / "examples" / "semantic_segmentation"
    dataset = load_dataset(str(root), tmp_path)
    assert dataset.format == "labelme" and len(dataset.classes) == 21
    right = total = 0
    for image, mask in zip(dataset.images, list_masks(dataset), strict=True):
        reference = np.array(Image.open(root / "data_dataset_voc" / "SegmentationClass" / f"{image.stem}.png"))
        right += int((mask == reference).sum())
        total += mask.size
    assert right / total > 0.995  # measured: 99.9998 %
