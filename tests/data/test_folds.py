"""Folds in place of a test split, and the warnings about them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.errors import DataError
from sweeper.data import divide_images
from sweeper.data.folds import divide_for_fold, get_split, hold_out_validation
from sweeper.data.split_warnings import list_fold_warnings, list_split_warnings
from tests.data.test_split import PLAIN, find_side
from tests.support import builders
from tests.support.builders import counted_dataset


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_each_image_is_tested_in_one_fold_and_no_group_is_divided(data: Any) -> None:
    n = data.draw(st.integers(3, 30))
    groups = data.draw(st.lists(st.sampled_from([None, None, None, "p", "q"]), min_size=n, max_size=n))
    rows = data.draw(st.lists(st.tuples(st.just(50), st.integers(0, 3), st.integers(0, 1)), min_size=n, max_size=n))
    dataset = counted_dataset(rows, None, groups)
    folds = data.draw(st.integers(3, 8))
    units = len({g for g in groups if g}) + groups.count(None)
    if units < folds:
        with pytest.raises(DataError, match=f"found {units}"):
            divide_for_fold(dataset, folds=folds, number=0, test_seed=0, seed=0)
        return
    splits = [divide_for_fold(dataset, folds=folds, number=k, test_seed=5, seed=k) for k in range(folds)]
    assert sorted(i for split in splits for i in split.test) == list(range(n))
    for split in splits:
        assert split.train and split.val and split.test
        assert sorted(split.train + split.val + split.test) == list(range(n))
        for name in {g for g in groups if g}:
            assert len({find_side(split, i) for i in range(n) if groups[i] == name}) == 1


def test_folds_are_even_and_stratified() -> None:
    rows = [(80, 20, 5 if i % 5 == 0 else 0) for i in range(50)]
    splits = [divide_for_fold(counted_dataset(rows), folds=5, number=k, test_seed=1, seed=1) for k in range(5)]
    assert [len(split.test) for split in splits] == [10] * 5
    assert [sum(1 for i in split.test if rows[i][2]) for split in splits] == [2] * 5
    assert {len(split.val) for split in splits} == {10}


def test_the_test_seed_decides_the_folds_and_the_seed_decides_validation() -> None:
    first, second = (divide_for_fold(PLAIN, folds=4, number=2, test_seed=3, seed=s) for s in (0, 1))
    assert first.test == second.test and first.val != second.val
    assert divide_for_fold(PLAIN, folds=4, number=2, test_seed=4, seed=0).test != first.test


def test_two_folds_leave_images_to_train_and_to_validate() -> None:
    four = counted_dataset([(9, 1)] * 4)
    splits = [divide_for_fold(four, folds=2, number=k, test_seed=0, seed=0) for k in range(2)]
    assert [len(split.test) for split in splits] == [2, 2]
    with pytest.raises(DataError, match="needs 4 groups of images at least, found 3"):
        divide_for_fold(counted_dataset([(9, 1)] * 3), folds=2, number=0, test_seed=0, seed=0)


def test_folds_are_refused_if_images_have_a_given_split() -> None:
    with pytest.raises(DataError, match="1 image has a given split"):
        divide_for_fold(counted_dataset([(9, 1)] * 6, ["test", *[None] * 5]), folds=3, number=0, test_seed=0, seed=0)


def test_a_search_with_folds_trains_and_validates_on_all_images() -> None:
    conditions = builders.conditions(builders.dataset(images=20)).model_copy(update={"folds": 4})
    split = get_split(conditions, 7)
    assert (len(split.train), len(split.val), split.test) == (15, 5, ())
    rotations = [{i for k in range(4) for i in get_split(conditions, seed, k).test} for seed in (1000, 1001)]
    assert rotations == [set(range(20))] * 2
    assert get_split(conditions, 1000, 0).test != get_split(conditions, 1001, 0).test  # another seed: other folds


def test_warnings_recommend_folds_for_small_sets_and_state_limits_of_folds() -> None:
    small = counted_dataset([(9, 1)] * 9 + [(9, 0)])
    assert "--folds 5 (not held out then)" in list_split_warnings(small, divide_images(small, test_seed=0, seed=0))[-1]
    divided = counted_dataset([(9, 1)] * 10, ["train"] * 7 + ["val"] + ["test"] * 2)
    assert "--folds" not in list_split_warnings(divided, divide_images(divided, test_seed=0, seed=0))[-1]

    rare = counted_dataset([(9, 1, 0)] * 9 + [(9, 1, 5)])
    notes = list_fold_warnings(rare, hold_out_validation(rare, 0), 3)
    assert "not held out" in notes[0] and "3 trainings of every finalist" in notes[0]
    assert any("c2 occurs in image 0009 only" in note for note in notes)
