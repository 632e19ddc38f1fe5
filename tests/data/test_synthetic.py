"""Synthetic scenes: deterministic, true to their shares, readable as files, with parameters that are checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from sweeper.core.errors import DataError, UsageError
from sweeper.data import load_dataset, open_store, write_scenes
from sweeper.data.class_map import read_class_map
from sweeper.data.synthetic import SCENES, draw_image, get_parameters, label_pieces, parse_scene, spoil_labels


def measure_share(text: str) -> float:
    """Return the share of foreground of a data set."""
    scenes = parse_scene(text)
    return float(np.mean([(draw_image(scenes, i).mask > 0).mean() for i in range(scenes.canvas.images)]))


@pytest.mark.parametrize("name", SCENES)
def test_an_image_depends_only_on_seed_and_index(name):
    few, many = parse_scene(f"{name}?images=3&size=64"), parse_scene(f"{name}?images=900&size=64")
    first, second = draw_image(few, 2), draw_image(many, 2)
    assert np.array_equal(first.image, second.image) and np.array_equal(first.mask, second.mask)
    other = draw_image(parse_scene(f"{name}?images=3&size=64&seed=1"), 2)
    assert not np.array_equal(first.image, other.image)
    assert not np.array_equal(first.image, draw_image(few, 1).image)


@pytest.mark.parametrize("name", SCENES)
def test_store_and_files_contain_the_drawn_images(tmp_path, name):
    source = f"synthetic:{name}?images=4&size=64"
    dataset = load_dataset(source, tmp_path / "cache")
    assert (dataset.name, dataset.source, dataset.synthetic) == (name, source, True)
    assert dataset.classes == SCENES[name].classes
    assert dataset.task == {"street": "multiclass", "cells": "multilabel"}.get(name, "binary")
    store, scenes = open_store(dataset.store), parse_scene(source)
    for index, image in enumerate(dataset.images):
        drawn = draw_image(scenes, index)
        assert np.array_equal(store.get_image(index), drawn.image)
        assert np.array_equal(store.get_mask(index), drawn.mask)
        assert name == "cells" or sum(image.pixels) == 64 * 64
    assert write_scenes(f"{name}?images=4&size=64", tmp_path / "out").canvas.images == 4
    class_map = read_class_map(tmp_path / "out" / "overlap.yaml") if name == "cells" else None
    read = load_dataset(str(tmp_path / "out"), tmp_path / "cache", class_map=class_map)
    assert (read.digest, read.classes, read.synthetic) == (dataset.digest, dataset.classes, False)


@pytest.mark.parametrize(
    ("name", "share"), [("cracks", 0.005), ("cracks", 0.01), ("cracks", 0.03), ("blobs", 0.05), ("blobs", 0.3)]
)
def test_scenes_keep_their_share(name, share):
    assert measure_share(f"{name}?images=30&foreground={share}") == pytest.approx(share, rel=0.25)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("synthetic:craks", ["'craks'", "cracks", "blobs", "street"]),
        ("cracks?colour=red", ["'colour'", "images, size, seed, noise, shift, missing, foreground, spread"]),
        ("cracks?images=2", ["`images`", "from 3 to 20000", "'2'"]),
        ("cracks?foreground=nan", ["`foreground`", "'nan'"]),
        ("cracks?foreground=0.5", ["0.002 to 0.1", "'0.5'"]),
        ("cracks?size=64&size=64", ["each once, found 'size'"]),
        ("shapes?classes=12&ratio=100", ["rarest class in an image must be 4 to"]),
        ("shapes?object=128&size=64", ["length of objects must be 1 to 64, found 128;"]),
        ("shapes?object=4&elongation=40", ["width of objects must be 1 to 25.3, found 0.632"]),
        ("shapes?classes=2.5", ["whole number"]),
        ("stret", ["found 'stret', did you mean `street`?"]),
        ("cracks?foregrond=0.1", ["found 'foregrond', did you mean `foreground`?; write one of"]),
    ],
)
def test_the_error_of_an_invalid_scene_states_rule_and_value(text, words):
    with pytest.raises(DataError) as caught:
        parse_scene(text)
    assert caught.value.exit_status == 2
    assert len(caught.value.problems) == 1
    for word in words:
        assert word in caught.value.problems[0]


def test_the_overlap_is_about_the_share_of_the_nuclei_in_cells():
    def measure(overlap: float) -> float:
        masks = np.stack(draw_masks(f"cells?overlap={overlap}&foreground=0.06"))
        return float((masks == 3).sum() / (masks >= 2).sum())

    shares = [measure(overlap) for overlap in (0, 0.3, 0.6, 1)]
    assert shares == sorted(shares) and shares[0] < 0.3 and shares[-1] == 1
    assert measure_share("cells?images=30") == pytest.approx(0.25, rel=0.25)


# --- The test bench -------------------------------------------------------------------------------------------

STORED_DIGESTS = {
    "cracks?images=6&size=96": "d4a3cde16bcadb01",
    "blobs?images=6&size=96": "7ba99cb0222bea6b",
    "street?images=6&size=96": "d3ac744ceed48084",
    "cracks?images=4&size=64&foreground=0.05&seed=3": "51e6c489006c8a80",
    "blobs?images=4&foreground=0.3&noise=0.1": "43e5b231bca6a372",
    "cracks?images=3&size=64&spread=0&noise=0": "59da1d1070fc46fa",
    "shapes?images=3&size=96&classes=3&elongation=4&blur=2&spread=1&shift=2&missing=0.5": "960084059122e54d",
}


@pytest.mark.parametrize("name", STORED_DIGESTS)
def test_scenes_equal_those_of_earlier_studies_bit_for_bit(tmp_path, name):
    assert load_dataset(f"synthetic:{name}", tmp_path).digest.removeprefix("sha256:")[:16] == STORED_DIGESTS[name]


def test_equal_scenes_have_equal_names_however_they_are_written():
    scenes = parse_scene("cracks?missing=0&shift=2&images=0160")
    assert scenes.name == parse_scene("cracks?shift=2.0").name and parse_scene(scenes.name) == scenes


def draw_masks(text: str, count: int = 12) -> list[np.ndarray]:
    scenes = parse_scene(text)
    return [draw_image(scenes, i).mask for i in range(count)]


def test_spread_varies_the_share_of_images_and_not_of_the_data_set():
    wide = [(labels > 0).mean() for labels in draw_masks("shapes?spread=1&images=60", 60)]
    assert np.std(wide) / np.mean(wide) == pytest.approx(0.35, abs=0.06)
    assert np.mean(wide) == pytest.approx(0.05, rel=0.12)


@pytest.mark.parametrize(("diameter", "elongation"), [(6, 1), (40, 1), (24, 16)])
@pytest.mark.slow
def test_objects_have_the_requested_size_and_elongation(diameter, elongation):
    widths, areas = [], []
    for labels in draw_masks(f"shapes?object={diameter}&elongation={elongation}&foreground=0.2&size=192", 6):
        pieces = label_pieces(labels)
        depth = ndimage.distance_transform_edt(pieces > 0)
        for piece in range(1, pieces.max() + 1):
            areas.append((pieces == piece).sum())
            widths.append(2 * depth[pieces == piece].max() - 1)
    assert np.median(widths) == pytest.approx(diameter / elongation**0.5, abs=2)
    assert np.median(areas) == pytest.approx(np.pi / 4 * diameter**2, rel=0.08 if elongation == 1 else 0.12)


@pytest.mark.parametrize(("classes", "ratio"), [(2, 1), (3, 1), (5, 3), (12, 1), (4, 10)])
def test_classes_have_exactly_the_requested_ratio(classes, ratio):
    masks = draw_masks(f"shapes?classes={classes}&ratio={ratio}&foreground=0.3", 3)
    shares = ratio ** -np.arange(classes - 1.0)
    expected = np.round(0.3 * shares / shares.sum() * 128 * 128)
    for labels in masks:
        assert np.bincount(labels.ravel(), minlength=classes)[1:].tolist() == expected.tolist()


@pytest.mark.parametrize("name", SCENES)
def test_label_noise_does_not_change_the_image(name):
    clean, noisy = (draw_image(parse_scene(f"{name}?size=64{more}"), 1) for more in ("", "&shift=3&missing=0.5"))
    assert np.array_equal(clean.image, noisy.image)
    assert not np.array_equal(clean.mask, noisy.mask)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 500), st.floats(0.5, 20))
def test_a_shift_has_the_requested_length(seed, shift):
    labels = np.zeros((64, 64), np.uint8)
    labels[30:34, 31:36] = 1
    moved = spoil_labels(np.random.default_rng(seed), labels, shift, 0)
    before, after = (np.argwhere(m).mean(axis=0) for m in (labels, moved))
    assert (moved > 0).sum() == 20
    assert np.hypot(*(after - before)) == pytest.approx(shift, abs=0.75)


def test_a_piece_is_connected_and_of_one_class():
    labels = np.array([[1, 0, 2, 2, 0], [0, 1, 2, 0, 0], [0, 0, 0, 0, 1], [0, 1, 1, 0, 1]], np.uint8)
    assert label_pieces(labels).tolist() == [[1, 0, 4, 4, 0], [0, 1, 4, 0, 0], [0, 0, 0, 0, 2], [0, 3, 3, 0, 2]]


@pytest.mark.parametrize("missing", [0.1, 0.37, 1.0])
@pytest.mark.slow
def test_objects_are_erased_whole_and_in_the_requested_share(missing):
    erased = total = 0
    for index in range(40):
        scenes = parse_scene(f"shapes?missing={missing}&foreground=0.1&seed=5")
        pieces = label_pieces(draw_image(parse_scene("shapes?foreground=0.1&seed=5"), index).mask)
        noisy = draw_image(scenes, index).mask
        for piece in range(1, pieces.max() + 1):
            shares = (noisy[pieces == piece] > 0).mean()
            assert shares in (0, 1)
            erased += shares == 0
            total += 1
    assert erased / total == pytest.approx(missing, abs=0.02)


def test_help_and_documentation_list_every_parameter(capsys):
    from sweeper.cli.synth import command

    with pytest.raises(SystemExit):
        command.main(["--help"])
    output = capsys.readouterr().out
    text = (Path(__file__).parents[2] / "docs" / "synthetic.md").read_text("utf-8")
    for name in SCENES:
        for key in get_parameters(name):
            assert f"{key}=" in output and f"`{key}`" in text


def test_a_folder_with_files_is_not_written_into(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="new or empty"):
        write_scenes("cracks?images=3", tmp_path / "mine.txt")
    with pytest.raises(UsageError, match="writable"):
        write_scenes("cracks?images=3", tmp_path / "mine.txt" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
