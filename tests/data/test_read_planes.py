"""Classes that overlap: read from masks, planes, shapes and regions, with one clear list where they cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from sweeper.core.label_planes import list_layers, pack_planes, unpack_planes
from sweeper.core.records import IGNORE, Dataset
from sweeper.data import divide_images, load_dataset, open_store
from sweeper.data.label_maps import MapStore
from sweeper.data.variants import resize_dataset, shrink_mask
from sweeper.fingerprint.imbalance import measure_imbalance, profile_dataset, profile_masks
from sweeper.fingerprint.label_checks import examine_labels
from tests.support import annotated
from tests.support.folders import find_problems, folder, get_mask, has_warning, load_folder, mask

KEEP = {"overlap": ("keep",)}
NAMES = ("cell", "nucleus", "speck")


def draw_planes(index: int) -> np.ndarray:
    """Return the planes (3, 24, 32) of image `index`: the second is partly in the first, the third in both."""
    planes = np.zeros((3, 24, 32), dtype=bool)
    planes[0, 2:14, 2 + index : 18 + index] = planes[1, 6:20, 8 + index : 20 + index] = True
    planes[2, 8:10, 9 + index : 12 + index] = True
    return planes


def write_images(root: Path) -> list[str]:
    """Write five images, and return their stems."""
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(5):
        noise = rng.integers(0, 99, (24, 32, 3)) + 50 * draw_planes(index).sum(axis=0)[..., None]
        Image.fromarray(noise.astype(np.uint8)).save(root / "images" / f"a{index}.png")
    return [f"a{index}" for index in range(5)]


def write_class_masks(root: Path, names: tuple[str, ...] = NAMES, value: int = 255) -> Path:
    for index, stem in enumerate(write_images(root)):
        for plane, name in zip(draw_planes(index), names, strict=False):
            (root / "masks" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray((plane * value).astype(np.uint8)).save(root / "masks" / name / f"{stem}.png")
    return root


def check_planes(dataset: Dataset, classes: tuple[str, ...] = NAMES, order: tuple[int, ...] = (0, 1, 2)) -> None:
    """Check that the planes are those that were drawn, in this order."""
    assert (dataset.task, dataset.classes, dataset.planes) == ("multilabel", classes, len(classes))
    for index, image in enumerate(dataset.images):
        planes = draw_planes(index)[list(order)]
        assert np.array_equal(unpack_planes(get_mask(dataset, index), len(classes)), planes)
        assert image.pixels == tuple(planes.sum(axis=(1, 2)))


def test_masks_of_classes_that_overlap_are_read_as_the_class_map_says(tmp_path):
    root = write_class_masks(tmp_path / "data")
    (problem,) = find_problems(root, overlap=None)
    covered, shared = (sum((draw_planes(i).sum(axis=0) > least).sum() for i in range(5)) for least in (0, 1))
    assert (
        f"masks/{{cell,nucleus,speck}}/: classes must hardly overlap, found {100 * shared / covered:.2g} %" in problem
    )
    assert "`echo 'overlap: keep' > overlap.yaml`, then --class-map overlap.yaml" in problem
    flat = load_folder(root)
    assert flat.classes == ("background", *NAMES) and get_mask(flat)[9, 10] == 3
    kept = load_folder(root, overlap="keep")
    check_planes(kept)
    assert kept.class_map == KEEP and has_warning(kept, "where two overlap, that with fewer pixels counts, with")
    (root / "classes.txt").write_text("nucleus\nbackground\nspeck\ncell\n")
    check_planes(load_folder(root, overlap="keep"), ("nucleus", "speck", "cell"), (1, 2, 0))


def test_classes_that_hardly_overlap_need_no_choice(tmp_path):
    root = write_class_masks(tmp_path / "data", NAMES[:2])
    for path in (root / "masks" / "nucleus").iterdir():
        apart = np.zeros((24, 32), dtype=np.uint8)
        apart[14:20, 2:30] = apart[13, 3] = 255
        Image.fromarray(apart).save(path)
    assert load_folder(root, overlap=None).classes == ("background", "cell", "nucleus")


@pytest.mark.parametrize("name", ["coco", "labelme", "yolo"])
def test_shapes_keep_all_their_classes(tmp_path, name):
    annotated.FORMATS[name](tmp_path / "data")
    (problem,) = find_problems(tmp_path / "data", overlap=None)
    assert "classes must hardly overlap, found 22 % of their pixels in several" in problem
    dataset = load_folder(tmp_path / "data", overlap="keep")
    assert dataset.classes == ("cat", "dog")
    for index in range(len(dataset.images)):
        planes = np.zeros((2, annotated.HEIGHT, annotated.WIDTH), dtype=np.uint8)
        for label, left, top, right, bottom in annotated.boxes(index):
            planes[label - 1, top:bottom, left:right] = 1
        assert np.array_equal(unpack_planes(get_mask(dataset, index), 2), planes)


def write_planes(path: Path, planes: np.ndarray, kind: str) -> None:
    """Write planes (C, H, W) as pages or channels of a TIFF, or as an array."""
    path.parent.mkdir(exist_ok=True)
    if kind == "pages":
        first, *others = map(Image.fromarray, planes)
        first.save(path.with_suffix(".tif"), save_all=True, append_images=others)
    elif kind == "channels":
        channels = np.ascontiguousarray(planes.transpose(1, 2, 0))
        tifffile.imwrite(path.with_suffix(".tif"), channels, photometric="minisblack", planarconfig="contig")
    elif kind == "stack":
        tifffile.imwrite(path.with_suffix(".tif"), planes, photometric="minisblack")
    else:
        np.save(path.with_suffix(".npy"), planes if kind == "npy" else planes.transpose(1, 2, 0) > 0)


@pytest.mark.parametrize("kind", ["pages", "stack", "channels", "npy", "npy last"])
@pytest.mark.parametrize("value", [1, 255])
def test_planes_of_a_file_are_classes(tmp_path, kind, value):
    root = tmp_path / "data"
    for index, stem in enumerate(write_images(root)):
        write_planes(root / "masks" / stem, (draw_planes(index) * value).astype(np.uint8), kind)
    assert "classes must hardly overlap" in find_problems(root, overlap=None)[0]
    check_planes(load_folder(root, overlap="keep"), ("class_1", "class_2", "class_3"))
    (root / "classes.txt").write_text("background\n" + "\n".join(NAMES))
    check_planes(load_folder(root, overlap="keep"))
    (root / "classes.txt").write_text("cell\nnucleus\n")
    assert "must have a plane for each of 2 classes, found 3" in find_problems(root, overlap="keep")[0]


REGIONS = {"whole": ("1", "2", "3"), "core": ("2", "3"), "tip": ("3",), "ignore": ("4",)}


def check_regions(dataset: Dataset, labels: np.ndarray) -> None:
    assert (dataset.task, dataset.classes) == ("multilabel", ("whole", "core", "tip"))
    planes = [(labels >= least) & (labels < 4) for least in (1, 2, 3)]
    assert np.array_equal(get_mask(dataset), pack_planes(planes, labels == 4))


def test_a_class_map_makes_regions_of_labels(tmp_path):
    root = folder(tmp_path / "data", {stem: mask(0, 1, 2, 3, 4, shift=i) for i, stem in enumerate("abcd")})
    labels = np.asarray(Image.open(root / "masks" / "a.png"))
    dataset = load_folder(root, overlap=None, class_map=REGIONS)
    check_regions(dataset, labels)
    assert has_warning(dataset, "core = 2 + 3, tip = 3, ignore = 4", "a pixel may have several of these")
    (root / "classes.txt").write_text("ground\na\nb\nc\nrest\n")
    named = load_folder(root, overlap=None, class_map={"whole": ("a", "b"), "core": ("b",)})
    assert named.classes == ("whole", "core", "c", "rest")
    assert np.unique(get_mask(named)).tolist() == [0, 1, 3, 4, 8]
    shared = {"tissue": ("ground", "a"), "tumour": ("a", "b"), "ignore": ("c", "rest")}
    first = load_folder(root, overlap=None, class_map=shared)  # a class of the label 0 and more is no background
    assert first.classes == ("tissue", "tumour") and np.unique(get_mask(first)).tolist() == [1, 2, 3, 255]


def test_regions_of_nnunet_are_classes(tmp_path):
    annotated.FORMATS["nnunet"](tmp_path / "data")
    path = tmp_path / "data" / "dataset.json"
    content = json.loads(path.read_text())
    content["labels"] = {"background": 0, "animal": [1, 2], "dog": 2}
    path.write_text(json.dumps(content | {"regions_class_order": [1, 2]}))
    dataset = load_folder(tmp_path / "data", overlap=None)
    assert (dataset.task, dataset.classes) == ("multilabel", ("animal", "dog"))
    assert np.array_equal(get_mask(dataset), np.array([0, 1, 3])[annotated.truth(0)])
    for class_map, names in (
        ({"pet": ("dog",)}, ("animal", "pet")),
        ({"all": ("animal", "dog")}, ("background", "all")),
        ({"cat": ("1",)}, ("background", "cat", "class_2")),
    ):
        assert load_folder(tmp_path / "data", overlap=None, class_map=class_map).classes == names


def test_a_class_map_joins_and_ignores_classes_that_overlap(tmp_path):
    root = write_class_masks(tmp_path / "data", ("a", "b", "c"))
    dataset = load_folder(root, overlap="keep", class_map={"both": ("a", "b"), "ignore": ("c",)})
    a, b, c = draw_planes(0)
    assert dataset.classes == ("both",) and dataset.task == "multilabel"
    assert np.array_equal(unpack_planes(get_mask(dataset), 1)[0], np.where(c, IGNORE, a | b))


@pytest.mark.parametrize(("classes", "dtype"), [(7, np.uint8), (8, np.uint16), (32, np.uint64)])
def test_many_classes_take_wider_labels_and_33_are_refused(tmp_path, classes, dtype):
    root = folder(tmp_path / "data", {stem: mask(*range(9), shift=i) for i, stem in enumerate("abcd")})
    every = tuple(map(str, range(1, 9)))
    class_map = {f"c{i}": every[i % 8 :] for i in range(33)}
    some = dict([*class_map.items()][: classes - 1]) | {"all": every}
    dataset = load_folder(root, overlap=None, class_map=some)
    assert len(dataset.classes) == classes and open_store(dataset.store).mask_dtype == dtype
    (problem,) = find_problems(root, overlap=None, class_map=class_map)
    assert problem.startswith(
        "--class-map: at most 32 classes may overlap, found 33; join some, as --class-map with `joined: "
    )


def test_faulty_planes_are_listed_at_once(tmp_path):
    root = tmp_path / "data"
    for index, stem in enumerate(write_images(root)):
        planes = draw_planes(index).astype(np.uint8)
        planes[0] += index == 1
        planes[2] = 0
        write_planes(root / "masks" / stem, planes[: 3 - (index == 2)], "npy")
    problems = find_problems(root, overlap="keep")
    assert any("a1.npy: planes must hold 0 and 1 (or 0 and 255), found 0, 1, 2; save one" in text for text in problems)
    assert any("a2.npy: must have a plane for each of 3 classes, found 2" in text for text in problems)
    assert any("found one with none or all, class_3" in text for text in problems)
    sizes = write_class_masks(tmp_path / "sizes")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(sizes / "masks" / "cell" / "a0.png")
    assert "masks of one image must have one size" in find_problems(sizes, overlap="keep")[0]
    empty = write_class_masks(tmp_path / "empty")
    for path in (empty / "masks" / "speck").iterdir():
        Image.fromarray(np.zeros((24, 32), np.uint8)).save(path)
    (problem,) = find_problems(empty, overlap="keep")
    assert "a class must have some of the pixels, found one with none or all, speck; leave it out" in problem


def test_damaged_planes_are_a_problem(tmp_path):
    root = tmp_path / "data"
    for index, stem in enumerate(write_images(root)):
        (root / "masks").mkdir(exist_ok=True)
        path = root / "masks" / f"{stem}.tif"
        tifffile.imwrite(path, draw_planes(index).astype(np.uint8), photometric="minisblack", compression="zlib")
        with tifffile.TiffFile(path) as file:
            start = file.pages[1].dataoffsets[0]
        content = path.read_bytes()
        path.write_bytes(content[:start] + b"zz" * (index > 2) + content[start + 2 * (index > 2) :])
    problems = find_problems(root, overlap="keep")
    assert [text[:46] for text in problems] == [f"masks/a{i}.tif: cannot be decoded (error: Error " for i in (3, 4)]


# --- What the rest of the data layer makes of them ---


@pytest.fixture(scope="module")
def cells(tmp_path_factory: Any) -> Dataset:
    return load_dataset("synthetic:cells?images=20&overlap=0.6&size=96", tmp_path_factory.mktemp("cells"))


def test_the_profile_of_each_class_is_that_of_its_own_mask(cells):
    profile, store = profile_dataset(cells), open_store(cells.store)
    for number, name in enumerate(cells.classes):
        planes = [unpack_planes(store.get_mask(i), 2)[number] for i in range(len(store))]
        alone = profile_masks(planes, ("background", name))
        assert profile.classes[number] == alone.classes[1]
        assert profile.class_weights[number] == pytest.approx(alone.imbalance)
    assert profile.imbalance == max(profile.class_weights) and profile.pos_weight is None
    masks = np.stack([store.get_mask(i) for i in range(len(store))])
    assert profile.overlap == (masks == 3).sum() / (masks > 0).sum()
    assert profile.empty_images == sum(not one.any() for one in masks)
    swapped = profile_masks(np.array([0, 2, 1, 3], np.uint8)[masks], cells.classes[::-1], has_planes=True)
    assert (swapped.classes, swapped.imbalance) == (profile.classes[::-1], profile.imbalance)
    assert measure_imbalance(cells, tuple(range(20))) == profile.imbalance
    assert not [finding for finding in examine_labels(cells) if finding.severity != "note"]


def test_splits_balance_how_much_there_is_of_each_class(cells):
    split = divide_images(cells, test_seed=0, seed=0)
    everywhere = cells.count_class_pixels() / cells.count_labelled_pixels()
    for side in (split.train, split.val, split.test):
        share = cells.count_class_pixels(side) / cells.count_labelled_pixels(side)
        assert share == pytest.approx(everywhere, rel=0.3)


def test_resizing_and_distance_maps_treat_each_class_by_itself(cells, tmp_path):
    small, store = open_store(resize_dataset(cells, 40, tmp_path).store), open_store(cells.store)
    layers = list_layers(store.get_mask(0), 2)
    for old, new in zip(layers, list_layers(small.get_mask(0), 2), strict=True):
        assert np.array_equal(shrink_mask(old, (40, 40)), new)
    maps = MapStore(store, (0, 1), has_planes=True).compute_maps(store.get_mask(0))
    for number, (layer, one) in enumerate(zip(layers, maps, strict=True), 1):
        assert np.array_equal(one, MapStore(store, (number,)).compute_maps(layer)[0])
