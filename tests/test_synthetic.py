"""Synthetic scenes: deterministic, true to their shares, readable as files, and asked for correctly."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.data import load_dataset, open_store, write_scenes
from sweeper.data.synthetic import SCENES, draw, parse_scene
from sweeper.errors import DataError, UsageError


def share(text: str) -> float:
    """Foreground of a whole set."""
    scenes = parse_scene(text)
    return float(np.mean([(draw(scenes, i).mask > 0).mean() for i in range(scenes.images)]))


@pytest.mark.parametrize("name", SCENES)
def test_a_picture_depends_on_seed_and_index_alone(name):
    few, many = parse_scene(f"{name}?images=3&size=64"), parse_scene(f"{name}?images=900&size=64")
    np.random.seed(1)  # noqa: NPY002
    first = draw(few, 2)
    np.random.seed(2)  # noqa: NPY002
    second = draw(many, 2)
    assert np.array_equal(first.image, second.image) and np.array_equal(first.mask, second.mask)
    other = draw(parse_scene(f"{name}?images=3&size=64&seed=1"), 2)
    assert not np.array_equal(first.image, other.image)
    assert not np.array_equal(first.image, draw(few, 1).image)


@pytest.mark.parametrize("name", SCENES)
def test_a_set_goes_through_the_same_store_and_record(tmp_path, name):
    source = f"synthetic:{name}?images=12&size=64"
    dataset = load_dataset(source, tmp_path)
    assert (dataset.name, dataset.source, dataset.synthetic) == (name, source, True)
    assert dataset.classes == SCENES[name].classes
    assert dataset.task == ("multiclass" if name == "street" else "binary")
    store, scenes = open_store(dataset.store), parse_scene(source)
    for index, picture in enumerate(dataset.pictures):
        drawn = draw(scenes, index)
        assert np.array_equal(store.image(index), drawn.image)
        assert np.array_equal(store.mask(index), drawn.mask)
        assert sum(picture.pixels) == 64 * 64


@pytest.mark.parametrize("name", SCENES)
def test_files_are_read_back_to_identical_pixels(tmp_path, name):
    written = write_scenes(f"{name}?images=12&size=64", tmp_path / "out")
    assert written.images == 12
    read = load_dataset(str(tmp_path / "out"), tmp_path / "cache")
    direct = load_dataset(f"synthetic:{name}?images=12&size=64", tmp_path / "cache2")
    assert read.digest == direct.digest
    assert read.classes == direct.classes
    assert not read.synthetic


def test_a_second_start_draws_nothing(tmp_path, monkeypatch):
    first = load_dataset("synthetic:cracks?images=4&size=64", tmp_path)
    monkeypatch.setattr("sweeper.data.synthetic.draw", lambda *args: pytest.fail("drawn again"))
    again = load_dataset("synthetic:cracks?size=64&images=4&noise=0.04", tmp_path)
    assert again.digest == first.digest
    assert again.source == "synthetic:cracks?size=64&images=4&noise=0.04"


@pytest.mark.parametrize("wanted", [0.005, 0.01, 0.03])
def test_cracks_keep_their_share(wanted):
    assert share(f"cracks?images=60&foreground={wanted}") == pytest.approx(wanted, rel=0.25)


@pytest.mark.parametrize("wanted", [0.05, 0.18, 0.3])
def test_blobs_keep_their_share(wanted):
    assert share(f"blobs?images=40&foreground={wanted}") == pytest.approx(wanted, rel=0.25)


def test_street_spans_three_orders_of_magnitude():
    scenes = parse_scene("street?images=100&size=64")
    counts = sum(np.bincount(draw(scenes, i).mask.ravel(), minlength=5) for i in range(100))
    shares = counts / counts.sum()
    assert 0.2 < shares[1] < 0.4
    assert 0.01 < shares[2] < 0.03
    assert 0.0015 < shares[3] < 0.005
    assert 0.0003 < shares[4] < 0.001
    assert shares[0] / shares[4] > 1000


def test_crack_pixels_are_thin_and_darker_than_their_surroundings():
    scenes = parse_scene("cracks?images=20")
    contrast = []
    for index in range(20):
        drawn = draw(scenes, index)
        inside = drawn.mask > 0
        assert inside.any()
        # No 5 × 5 block lies wholly inside: cracks are a few pixels wide.
        blocks = np.lib.stride_tricks.sliding_window_view(inside, (5, 5)).all(axis=(2, 3))
        assert blocks.mean() < 0.001
        contrast.append(drawn.image[~inside].mean() - drawn.image[inside].mean())
    assert 5 < np.mean(contrast) < 80


def test_noise_is_the_cameras():
    quiet = parse_scene("cracks?images=3&noise=0")
    loud = parse_scene("cracks?images=3&noise=0.2")
    first, second = draw(quiet, 0), draw(loud, 0)
    assert np.array_equal(first.mask, second.mask)
    difference = second.image.astype(float) - first.image
    assert 0.12 < difference.std() / 255 < 0.25


def test_the_default_set_is_drawn_in_seconds(tmp_path):
    start = time.process_time()
    dataset = load_dataset("synthetic:cracks", tmp_path)
    assert time.process_time() - start < 15
    assert (len(dataset.pictures), dataset.pictures[0].height) == (160, 128)
    assert dataset.class_pixels()[1] / dataset.class_pixels().sum() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("synthetic:craks", ["'craks'", "cracks", "blobs", "street"]),
        ("synthetic:", ["''", "cracks"]),
        ("cracks?colour=red", ["'colour'", "images, size, seed, noise, foreground"]),
        ("street?foreground=0.1", ["street takes", "'foreground'"]),
        ("cracks?images=2", ["`images`", "from 3 to 20000", "'2'"]),
        ("cracks?images=3.5", ["whole number", "'3.5'"]),
        ("cracks?foreground=nan", ["`foreground`", "'nan'"]),
        ("cracks?foreground=0.5", ["0.002 to 0.1", "'0.5'"]),
        ("cracks?size=", ["`size`", "''"]),
        ("cracks?size", ["`size`", "''"]),
        ("cracks?size=64&size=64", ["`size` may be set once"]),
    ],
)
def test_a_wrong_scene_names_rule_and_value(text, words):
    with pytest.raises(DataError) as caught:
        parse_scene(text)
    assert caught.value.exit_status == 2
    assert len(caught.value.problems) == 1
    for word in words:
        assert word in caught.value.problems[0]


def test_all_mistakes_of_a_scene_are_named_at_once():
    with pytest.raises(DataError) as caught:
        parse_scene("cracks?images=x&size=1&huh=3")
    assert len(caught.value.problems) == 3


@settings(deadline=None, max_examples=80)
@given(st.text(max_size=30), st.sampled_from(["", "cracks?", "synthetic:street?", "blobs?images="]))
def test_any_text_is_a_set_or_a_data_error(text, start):
    try:
        scenes = parse_scene(start + text)
    except DataError as error:
        assert error.problems
    else:
        assert parse_scene(scenes.name) == scenes


def test_a_folder_with_files_is_not_written_into(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="new or empty"):
        write_scenes("cracks?images=3", tmp_path)
    with pytest.raises(UsageError, match="new or empty"):
        write_scenes("cracks?images=3", tmp_path / "mine.txt")
    with pytest.raises(UsageError, match="writable"):
        write_scenes("cracks?images=3", tmp_path / "mine.txt" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
