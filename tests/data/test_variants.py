"""Data sets with images shrunk: exact, with warnings about lost labels, and made again if missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sweeper.core.errors import DataError, SweeperError
from sweeper.core.records import IGNORE
from sweeper.data import load_dataset, open_store
from sweeper.data.store import is_complete
from sweeper.data.variants import (
    compute_shrunk_size,
    count_components_lost,
    enlarge_mask,
    resize_dataset,
    shrink_image,
    shrink_mask,
    store_here,
)
from sweeper.storage import list_plan_differences
from sweeper.workflow.prepare import resolve_dataset_request
from sweeper.workflow.settings import Settings
from tests.support import annotated, builders
from tests.support.faking import new_plan
from tests.support.folders import folder, has_warning, load_folder
from tests.support.sweeping import Recorder

SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9)).map(lambda pair: (max(pair), min(pair)))


def list_covered_pixels(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return what each new pixel covers, in pieces of equal area: (h, w, pieces, …)."""
    height, width = array.shape[:2]
    fine = np.repeat(np.repeat(array, size[0], axis=0), size[1], axis=1)
    blocks = fine.reshape(size[0], height, size[1], width, *array.shape[2:]).swapaxes(1, 2)
    return blocks.reshape(*size, height * width, *array.shape[2:])


@pytest.mark.parametrize(
    ("old", "side", "new"),
    [
        ((480, 640), 240, (240, 320)),
        ((640, 480), 240, (320, 240)),
        ((100, 333), 32, (32, 107)),  # 106.56
        ((64, 65), 32, (32, 33)),  # 32.5, half up
        ((64, 640), 64, (64, 640)),
        ((20, 30), 64, (20, 30)),
    ],
)
def test_the_shorter_side_gets_the_requested_size_and_nothing_is_enlarged(old, side, new):
    assert compute_shrunk_size(*old, side) == new


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, st.sampled_from([1, 3, 5]), st.sampled_from([np.uint8, np.uint16]), st.integers(0, 99))
def test_a_shrunk_pixel_is_the_mean_of_the_area_that_it_covers(rows, columns, channels, dtype, seed):
    old, size = (rows[0], columns[0]), (rows[1], columns[1])
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (*old, channels), dtype=dtype)
    expected = np.floor(list_covered_pixels(image, size).astype(np.float64).mean(axis=2) + 0.5)
    small = shrink_image(image, size)
    assert small.dtype == dtype and np.array_equal(small, expected)


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, st.integers(0, 99))
def test_a_shrunk_label_covers_most_of_its_area_and_ties_go_to_the_rarer_label(rows, columns, seed):
    old, size = (rows[0], columns[0]), (rows[1], columns[1])
    mask = np.random.default_rng(seed).choice(np.array([0, 0, 1, 2, IGNORE], np.uint8), old)
    total = np.bincount(mask.ravel(), minlength=256)
    parts, small = list_covered_pixels(mask, size), shrink_mask(mask, size)
    assert small.shape == size and small.dtype == np.uint8
    for row, column in np.ndindex(size):
        covered = np.bincount(parts[row, column], minlength=256)
        best = np.flatnonzero(covered == covered.max())
        assert small[row, column] == min(best, key=lambda label: (label == IGNORE, total[label], label))


def test_components_that_merge_do_not_count_as_lost():
    mask = np.zeros((8, 8), np.uint8)
    mask[0:3, 0:3] = mask[0:3, 4:7] = 1
    mask[7, 7] = 1
    small = shrink_mask(mask, (4, 4))
    assert np.array_equal(count_components_lost(mask, small, 2), [[0, 0], [3, 1]])
    assert np.array_equal(enlarge_mask(small, (8, 8))[::2, ::2], small)


def write_scenes(root: Path) -> Path:
    """Write four images of 48 × 72 with a crack of one pixel and a block of 12 × 12."""
    masks = {}
    for number in range(4):
        labels = np.zeros((48, 72), np.uint8)
        labels[10 + number] = 1
        labels[24:36, 24:36] = 2
        masks[str(number)] = Image.fromarray(labels)
    return folder(root, masks, classes="ground\ncrack\nblock\n")


def test_the_loss_of_a_thin_crack_is_reported_with_numbers(tmp_path):
    dataset = load_folder(write_scenes(tmp_path / "d"))
    small = resize_dataset(dataset, 16, tmp_path / "cache")
    assert small.resized == 16 and {(p.height, p.width) for p in small.images} == {(16, 24)}
    assert small.digest != dataset.digest and len(open_store(small.store)) == 4
    (line,) = [line for line in small.warnings if "erases" in line]
    assert "class crack: it has 0 % of the pixels instead of 2.08 % (100 % of its share lost)" in line
    assert "4 of its 4 connected components are gone (100 %)" in line
    assert has_warning(small, "--resize shrank 4 of 4 images to a shorter side of 16 pixels")
    assert has_warning(small, "1 of 3 classes (0 to 2) never occurs: crack.")


def test_images_that_are_small_enough_are_not_changed(tmp_path):
    root = write_scenes(tmp_path / "d")
    for name in ("images", "masks"):
        path = root / name / "0.png"
        Image.open(path).crop((0, 0, 40, 20)).save(path)
    dataset = load_folder(root)
    progress: list[tuple[int, int]] = []
    small = resize_dataset(dataset, 24, tmp_path / "cache", lambda done, total: progress.append((done, total)))
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
    old, new = open_store(dataset.store), open_store(small.store)
    assert new.sizes == ((20, 40), (24, 36), (24, 36), (24, 36))
    assert np.array_equal(old.get_image(0), new.get_image(0)) and np.array_equal(old.get_mask(0), new.get_mask(0))
    assert np.array_equal(new.get_image(2), shrink_image(old.get_image(2), (24, 36)))
    counts = [tuple(np.bincount(new.get_mask(i).ravel(), minlength=3)[:3]) for i in range(4)]
    assert [p.pixels for p in small.images] == counts
    untouched = resize_dataset(dataset, 48, tmp_path / "cache")
    assert (untouched.digest, untouched.store) == (dataset.digest, dataset.store)
    assert "changes nothing" in untouched.warnings[-1]


def test_variants_are_made_once_and_keep_splits_and_warnings(tmp_path, monkeypatch):
    root = write_scenes(tmp_path / "d")
    (root / "split.csv").write_text("stem,split,group\n0,train,a\n1,val,\n2,test,\n3,train,a\n")
    dataset = load_folder(root)
    first = resize_dataset(dataset, 24, tmp_path / "cache")
    assert [(p.split, p.group) for p in first.images] == [("train", "a"), ("val", None), ("test", None), ("train", "a")]
    assert set(dataset.warnings) < set(first.warnings)
    assert first.format == dataset.format == "folder"
    monkeypatch.setattr("sweeper.data.variants._shrink_set", lambda *args: pytest.fail("made again"))
    assert resize_dataset(dataset, 24, tmp_path / "cache") == first


def test_a_single_remaining_class_is_a_problem(tmp_path):
    root = write_scenes(tmp_path / "d")
    for path in (root / "masks").iterdir():
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 2, 0, mask).astype(np.uint8)).save(path)
    (root / "classes.txt").write_text("ground\ncrack\n")
    dataset = load_folder(root)
    with pytest.raises(DataError, match="two classes must be left, found 1; choose"):
        resize_dataset(dataset, 16, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".writing")]


def test_a_study_keeps_its_data_options_if_images_move_and_reports_changes(tmp_path):
    root, files, cache = tmp_path / "data", tmp_path / "files", {"cache": tmp_path / "cache"}
    annotated.write_images(root, "images/{stem}.png", "masks/{stem}.png")
    files.mkdir()
    for name in ("animal", "pet"):
        (files / name).write_text(f"{name}: [1, 2]\n")
    names = {"images": "images/*.png", "masks": "masks/{stem}.png"}
    display = Recorder()
    changes = {"class_map": files / "animal", "resize": 24}
    first = resolve_dataset_request(Settings(data=str(root), **names, **changes, **cache), None, display)
    assert {what: (done, total) for what, done, total in display.steps} == {"decoding": (8, 8), "shrinking": (8, 8)}
    other = resolve_dataset_request(Settings(class_map=files / "pet", resize=32, **cache), first, Recorder())
    shutil.rmtree(files)
    moved = root.rename(tmp_path / "moved")
    resumed = resolve_dataset_request(Settings(data=str(moved), **cache), first, Recorder())
    assert resumed == first.model_copy(update={"source": str(moved), "name": "moved"})
    assert (resumed.class_map, resumed.resized) == ({"animal": ("1", "2")}, 24)
    plans = [new_plan(conditions=builders.conditions(one)) for one in (first, resumed, other)]
    assert list_plan_differences(*plans[:2]) == []
    (difference,) = list_plan_differences(plans[0], plans[2])
    before, after = difference.split(" → ")
    assert before.startswith("data set: ") and "'animal': ('1', '2')" in before and "resized to 24" in before
    assert "'pet': ('1', '2')" in after and "resized to 32" in after
    folders = resolve_dataset_request(Settings(data=str(moved), format="folder", **cache), first, Recorder())
    assert (folders.patterns, folders.format, folders.digest) == (None, "folder", first.digest)
    (moved / "images").rename(moved / "fotos")
    renamed = Settings(data=str(moved), **names | {"images": "fotos/*.png"}, **cache)
    assert resolve_dataset_request(renamed, first, Recorder()).digest == first.digest


def test_a_study_keeps_its_format_if_another_one_would_be_detected(tmp_path):
    root, cache = tmp_path / "data", tmp_path / "cache"
    annotated.coco(root)
    (tmp_path / "map.yaml").write_text("overlap: flatten")
    asked = Settings(data=str(root), format="coco", cache=cache, class_map=tmp_path / "map.yaml")
    first = resolve_dataset_request(asked, None, Recorder())
    annotated.folder(root)
    assert resolve_dataset_request(Settings(data=str(root), cache=cache), None, Recorder()).format == "folder"
    assert resolve_dataset_request(Settings(cache=cache), first, Recorder()).format == "coco"


def test_a_missing_store_is_made_again_and_other_images_are_refused(tmp_path):
    cache = tmp_path / "cache"
    dataset = resize_dataset(load_dataset("synthetic:cracks?images=5&size=64", cache), 32, cache)
    assert store_here(dataset) == Path(dataset.store)
    shutil.rmtree(cache)
    assert store_here(dataset) == Path(dataset.store) and is_complete(Path(dataset.store))
    shutil.rmtree(cache)
    with pytest.raises(SweeperError, match="holds other images"):
        store_here(dataset.model_copy(update={"digest": "sha256:" + 64 * "0"}))
    shutil.rmtree(cache)
    with pytest.raises(SweeperError, match=r"lacks the decoded images .* cannot read"):
        store_here(dataset.model_copy(update={"source": str(tmp_path / "nowhere")}))


@pytest.mark.real_data
def test_real_cracks_survive_shrinking_to_240_but_not_to_120_pixels(tmp_path, real_data):
    dataset = load_dataset(str(real_data / "cracks_cfd"), tmp_path)
    assert not has_warning(resize_dataset(dataset, 240, tmp_path), "erases")
    (line,) = [line for line in resize_dataset(dataset, 120, tmp_path).warnings if "erases" in line]
    assert "120 of its 667 connected components are gone (18 %)" in line
