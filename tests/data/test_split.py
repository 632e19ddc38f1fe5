"""Splits: given ones kept, groups whole, rare classes on every side, reproducible."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.errors import DataError
from sweeper.core.records import Dataset
from sweeper.data import divide_images, load_dataset, select_stratified_subset
from sweeper.data.split import select_scored_images
from sweeper.data.split_warnings import FEW_SPLIT_GROUPS, list_split_warnings
from tests.support.builders import counted_dataset

PLAIN = counted_dataset([(90, 10)] * 100)


def find_side(split: Any, index: int) -> str:
    return next(name for name in ("train", "val", "test") if index in getattr(split, name))


def test_images_without_a_given_split_are_divided_60_20_20():
    split = divide_images(PLAIN, test_seed=0, seed=0)
    assert (len(split.train), len(split.val), len(split.test)) == (60, 20, 20)


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_every_split_is_a_partition_that_keeps_given_splits_and_groups(data):
    n = data.draw(st.integers(3, 40))
    groups = data.draw(st.lists(st.sampled_from([None, None, "p", "q", "r"]), min_size=n, max_size=n))
    splits = data.draw(st.lists(st.sampled_from([None, None, "train", "val", "test"]), min_size=n, max_size=n))
    rows = data.draw(st.lists(st.tuples(st.just(50), st.integers(0, 3), st.integers(0, 1)), min_size=n, max_size=n))
    dataset = counted_dataset(rows, splits, groups)
    try:
        split = divide_images(dataset, test_seed=data.draw(st.integers(0, 99)), seed=data.draw(st.integers(-5, 99)))
    except DataError:
        free = sum(1 for s, g in zip(splits, groups, strict=True) if s is None and g is None)
        assert free < 3  # with three free images there is always a way
        return
    assert sorted(split.train + split.val + split.test) == list(range(n))
    assert all(list(side) == sorted(side) for side in (split.train, split.val, split.test))
    for index, expected in enumerate(splits):
        if expected in ("val", "test"):
            assert find_side(split, index) == expected
        if expected == "train" and "val" in splits and "test" in splits:
            assert find_side(split, index) == "train"
    for name in {g for g in groups if g}:
        members = [i for i in range(n) if groups[i] == name]
        if len({splits[i] for i in members if splits[i]}) <= 1:
            assert len({find_side(split, i) for i in members}) == 1


@pytest.mark.parametrize("seed", range(8))
def test_a_rare_class_reaches_every_side(seed):
    rows = [(80, 20, 5 if i % 10 == 0 else 0) for i in range(100)]
    split = divide_images(counted_dataset(rows), test_seed=seed, seed=seed)
    rare = [sum(1 for i in side if rows[i][2]) for side in (split.train, split.val, split.test)]
    assert rare == [6, 2, 2]


@pytest.mark.parametrize("seed", range(8))
def test_binary_sides_have_nearly_the_same_share_of_foreground(seed):
    rng = np.random.default_rng(seed)
    amounts = rng.lognormal(3, 1.2, 100).astype(int).clip(1, 900)
    split = divide_images(counted_dataset([(1000 - a, int(a)) for a in amounts]), test_seed=seed, seed=seed)
    quartiles = np.argsort(np.argsort(amounts)) // 25
    for side, expected in ((split.train, 15), (split.val, 5), (split.test, 5)):
        assert np.abs(np.bincount(quartiles[list(side)], minlength=4) - expected).max() <= 1


@pytest.mark.parametrize("seed", range(4))
def test_a_group_that_is_too_large_for_the_other_sides_is_trained_on(seed):
    sound, cracked = [(100, 0)] * 80, [(90, 10)] * 20
    groups: list[str | None] = ["sound"] * 80 + [f"kind{n // 5}" for n in range(20)]
    split = divide_images(counted_dataset(sound + cracked, groups=groups), test_seed=seed, seed=seed)
    assert {*range(80)} <= {*split.train} and split.val and split.test


@pytest.mark.parametrize("seed", range(4))
def test_every_side_has_foreground_even_if_there_are_few_groups(seed):
    sizes = {"sound": 95, "break": 8, "blowhole": 12, "fray": 3, "uneven": 10, "crack": 6}
    rows = [(100, 0) if kind == "sound" else (90, 10 + n) for kind, size in sizes.items() for n in range(size)]
    groups = [kind for kind, size in sizes.items() for _ in range(size)]
    split = divide_images(counted_dataset(rows, groups=groups), test_seed=seed, seed=seed)
    for side in (split.train, split.val, split.test):
        assert any(rows[i][1] for i in side)


def test_missing_validation_is_a_quarter_of_training():
    dataset = counted_dataset([(9, 1)] * 50, ["train"] * 40 + ["test"] * 10)
    first, second = (divide_images(dataset, test_seed=0, seed=seed) for seed in (0, 1))
    assert len(first.val) == 10 and max(first.val) < 40
    assert first.test == second.test == tuple(range(40, 50))
    assert first.val != second.val


@pytest.mark.parametrize("unassigned", [0, 10])
def test_a_missing_test_split_comes_from_unassigned_images_before_training_images(unassigned):
    dataset = counted_dataset([(9, 1)] * 50, [None] * unassigned + ["train"] * (40 - unassigned) + ["val"] * 10)
    split = divide_images(dataset, test_seed=0, seed=0)
    assert len(split.test) == 10 and max(split.test) < (unassigned or 40)
    assert split.val == tuple(range(40, 50))
    assert divide_images(dataset, test_seed=0, seed=9) == split


@pytest.mark.parametrize("splits", [None, ["train"] * 10, ["test"] * 10, ["val"] * 5 + ["test"] * 5])
def test_too_few_groups_are_a_problem(splits):
    groups = ["a"] * 5 + ["b"] * 5
    with pytest.raises(DataError, match=r"need a group of images each, found 2 \(images with a given split: train "):
        divide_images(counted_dataset([(9, 1)] * 10, splits, groups), test_seed=0, seed=0)


def test_scored_images_cost_half_of_the_training_and_are_at_least_32():
    dataset = counted_dataset([(9_000, 1_000)] * 100)  # 10,000 pixels each
    images = range(100)
    assert len(select_scored_images(dataset, images, work=1_000)) == 32
    assert len(select_scored_images(dataset, images, work=400_000)) == 60  # of which a pixel is worth 3
    assert len(select_scored_images(dataset, images, work=10**9)) == 100
    assert len(select_scored_images(dataset, images, work=400_000, cost=0.03, least=8)) == 8


def test_a_subset_keeps_every_class_that_occurs():
    rows = [(90, 10, 0, 0, 0)] * 40
    rows[7], rows[23], rows[31] = (90, 0, 5, 0, 0), (90, 0, 0, 5, 0), (90, 0, 0, 2, 0)
    dataset = counted_dataset(rows)
    subset = select_stratified_subset(dataset, range(40), 6)
    assert {7, 23} <= set(subset)
    assert subset == select_stratified_subset(dataset, list(reversed(range(40))), 6)
    assert set(select_stratified_subset(dataset, range(20), 2)) > {7}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=1, max_size=25), st.integers(1, 25))
def test_a_subset_has_the_requested_count_and_every_class_that_fits(rows, count):
    subset = select_stratified_subset(counted_dataset(rows), range(len(rows)), count)
    assert len(subset) == min(count, len(rows)) and list(subset) == sorted(set(subset))
    if count >= 4:
        table = np.array(rows)
        assert ((table > 0).any(axis=0) == (table[list(subset)] > 0).any(axis=0)).all()


# --- Warnings about a split ---------------------------------------------------------------------------------------


def list_notes(dataset: Dataset) -> tuple[str, ...]:
    return list_split_warnings(dataset, divide_images(dataset, test_seed=0, seed=0))


def test_warnings_list_sides_that_lack_a_class_with_the_consequence():
    assert list_notes(counted_dataset([(80, 20, 5)] * 40)) == ()
    (first, second) = list_notes(counted_dataset([(80, 20, 5 if i == 17 else 0) for i in range(40)]))
    assert first.startswith(
        "the validation split (8 images) has no pixel of: c2; it is not learned there, chosen for or scored"
    )
    assert second.startswith("the test split (8 images) has no pixel of: c2; it is not learned there")
    splits = ["train"] * 20 + ["val"] * 10 + ["test"] * 10
    (note, _) = list_notes(counted_dataset([(80, 20, 5 if i == 39 else 0) for i in range(40)], splits))
    assert note.startswith("the training split (20 images) has no pixel of: c2; it is not learned there")


def test_a_warning_says_that_a_small_test_split_is_only_a_hint():
    (note,) = list_notes(counted_dataset([(9, 1)] * 10))
    assert "10 images leave 2 images to test on" in note and "hint" in note
    assert list_notes(counted_dataset([(9, 1)] * FEW_SPLIT_GROUPS)) == ()
    (note,) = list_notes(counted_dataset([(9, 1)] * 40, None, [f"g{i % 8}" for i in range(40)]))
    assert "8 groups of images leave 10 images to test on" in note


# --- Splits of earlier studies ------------------------------------------------------------------------------------

SEEDS = ((0, 0), (0, 1000), (7, 7001))
STORED_HASHES = {
    "synthetic:cracks?images=60&size=64": ["8a4175a61f9f", "b07c4a30c4e6", "99214ef990c7"],
    "synthetic:street?images=60&size=64": ["652eadc1b5dc", "c177d9c681fb", "08d0e211d000"],
}
STORED_HASHES_REAL = {
    "cracks_cfd": ["a3bc74b0a054", "ec2023170711", "838b1f0eb186"],
    "camvid": ["826dfea7a7e4"] * 3,
    "facade_coco": ["a02175865157", "c03faa0cc2f2", "29184c05e4a1"],
    "fruits_both": ["31e6f53cfeae", "4a7d3bfacb30", "6842233f74fb"],
}


def hash_splits(dataset: Dataset) -> list[str]:
    splits = [divide_images(dataset, test_seed=first, seed=second) for first, second in SEEDS]
    texts = [json.dumps([split.train, split.val, split.test]) for split in splits]
    return [hashlib.sha256(text.encode()).hexdigest()[:12] for text in texts]


@pytest.mark.parametrize("source", STORED_HASHES)
def test_splits_equal_those_of_earlier_studies(tmp_path, source):
    assert hash_splits(load_dataset(source, tmp_path)) == STORED_HASHES[source]


@pytest.mark.real_data
@pytest.mark.parametrize("name", STORED_HASHES_REAL)
def test_splits_of_real_data_sets_equal_those_of_earlier_studies(tmp_path, real_data, name):
    assert hash_splits(load_dataset(str(real_data / name), tmp_path)) == STORED_HASHES_REAL[name]
