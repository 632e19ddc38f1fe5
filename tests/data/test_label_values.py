"""Messages about the numbers in masks; the class maps that they print are pasted and must make the data readable."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeper.core.records import Dataset
from sweeper.data.class_map import read_class_map
from tests.support.folders import find_problems, folder, has_warning, join_problems, load_folder, mask
from tests.support.pasting import paste


def load_with_pasted_map(root: Path, text: str) -> Dataset:
    """Return the data set with the first class map that a text prints."""
    command = re.search(r"`(printf [^`]+ > (\S+))`, then --class-map \2", text)
    assert command, text
    assert paste(command[1], root.parent).returncode == 0
    return load_folder(root, class_map=read_class_map(root.parent / command[2]))


def get_shares(dataset: Dataset) -> list[float]:
    """Return each class's share of all pixels."""
    total = sum(image.height * image.width for image in dataset.images)
    return [float(share) for share in dataset.count_class_pixels() / total]


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        ((1, 2, 3), "1 of 4 classes (0 to 3) never occurs: class_0; "),
        ((2, 5, 4, 255), "3 of 6 classes (0 to 5) never occur: class_0, class_1, class_3; "),
        (range(1, 12), "1 of 12 classes (0 to 11) never occurs: class_0; "),
    ],
)
def test_labels_that_start_above_0_get_a_class_map_that_starts_at_0(tmp_path, labels, line):
    root = folder(tmp_path / "data", {stem: mask(*labels, height=24, shift=i) for i, stem in enumerate("abcd")})
    (warning,) = [text for text in load_folder(root).warnings if "never occur" in text]
    assert warning.startswith(line)
    dataset = load_with_pasted_map(root, warning)
    names = sorted(f"class_{label}" for label in labels if label != 255)
    assert sorted(dataset.classes) == names and dataset.classes[0] == f"class_{min(labels)}"
    ignored = 1 / 24 * (255 in labels)
    assert min(get_shares(dataset)) == pytest.approx(1 / 24) and np.sum(get_shares(dataset)) == pytest.approx(
        1 - ignored
    )
    assert not has_warning(dataset, "never occur")


def test_declared_classes_get_no_class_map(tmp_path):
    masks = {stem: mask(1, 2, shift=i) for i, stem in enumerate("abcd")}
    dataset = load_folder(folder(tmp_path / "named", masks, classes="a\nb\nc\n"))
    assert "1 of 3 classes (0 to 2) never occurs: a." in dataset.warnings


def draw_levels(root: Path, shares: dict[int, float], *, only_in: int = 0) -> str:
    """Write eight masks of 100×100 with a share of each level and return the problem of this data set.

    Levels but the lowest and the highest are in the masks from number `only_in` on.
    """
    masks = {}
    for number in range(8):
        values = np.full(10_000, min(shares), dtype=np.uint8)
        start = 1000 + number
        for level, share in shares.items():
            if number >= only_in or level == max(shares):
                values[start : start + round(10_000 * share)] = level
            start += round(10_000 * share)
        masks[f"m{number}"] = Image.fromarray(values.reshape(100, 100))
    (problem,) = find_problems(folder(root, masks))
    return problem


@pytest.mark.parametrize(
    "shares",
    [
        {128: 0.1, 255: 0.3},
        {85: 0.1, 170: 0.2, 255: 0.3},
        {29: 0.05, 76: 0.1, 105: 0.1, 150: 0.1, 255: 0.2},
        {200: 0.1, 255: 0.2},
        {100: 0.1, 200: 0.2},
    ],
)
def test_grey_levels_including_255_become_classes(tmp_path, shares):
    problem = draw_levels(tmp_path / "data", {0: 0.1} | shares)
    assert f"found {', '.join(map(str, [0, *shares]))} ({max(shares)} in masks/m0.png, " in problem
    dataset = load_with_pasted_map(tmp_path / "data", problem)
    assert dataset.classes == ("background", *(f"class_{i}" for i in range(1, len(shares) + 1)))
    assert get_shares(dataset) == pytest.approx([1 - sum(shares.values()), *shares.values()])


def test_255_is_ignored_if_its_line_in_the_class_map_is_called_ignore(tmp_path):
    problem = draw_levels(tmp_path / "data", {0: 0.1, 128: 0.1, 255: 0.3})
    assert "; or part the numbers: `printf 'background: 0-64\\nclass_1: 65-191\\nclass_2: 192-255\\n' > cl" in problem
    assert "(where 255 means no label, write ignore for the name of its line)" in problem
    dataset = load_with_pasted_map(tmp_path / "data", problem.replace("class_2", "ignore"))
    assert dataset.classes == ("background", "class_1") and get_shares(dataset) == pytest.approx([0.6, 0.1])


def test_for_rare_grey_levels_a_map_of_two_classes_is_printed_first(tmp_path):
    problem = draw_levels(tmp_path / "data", {0: 0.1, 100: 0.0005, 120: 0.0005, 128: 0.0005, 255: 0.3})
    assert problem.index("of two classes (0.5 % of what is no background is between)") < problem.index("or part the")
    dataset = load_with_pasted_map(tmp_path / "data", problem)
    assert dataset.classes == ("background", "object") and get_shares(dataset) == pytest.approx([0.6995, 0.3005])


def test_grey_levels_in_some_masks_among_masks_of_0_and_255_get_a_class_map(tmp_path):
    problem = draw_levels(tmp_path / "data", {0: 0.1, 76: 0.1, 226: 0.2, 255: 0.3}, only_in=6)
    assert "found 0, 76, 226, 255 (255 in" in problem
    dataset = load_with_pasted_map(tmp_path / "data", problem)
    assert get_shares(dataset) == pytest.approx([0.7 - 0.3 / 4, 0.1 / 4, 0.2 / 4, 0.3])


def test_few_masks_of_class_indices_among_masks_of_0_and_255_are_refused(tmp_path):
    masks = {stem: mask(*((0, 1, 2, 255) if stem == "a" else (0, 255)), shift=i) for i, stem in enumerate("abcd")}
    (problem,) = find_problems(folder(tmp_path / "data", masks))
    assert "255 must mean the same in all masks, found 0 and 255 alone in 3 (masks/b.png" in problem
    assert "and other labels in 1 (masks/a.png); save all as class indices" in problem


@pytest.mark.parametrize("labels", [(0, 1, 2, 255), (0, 1, 2, 3, 40, 255)])
def test_255_next_to_class_indices_is_ignored(tmp_path, labels):
    root = folder(tmp_path / "data", {stem: mask(*labels, shift=i) for i, stem in enumerate("abcd")})
    if 40 in labels:
        problems = join_problems(root)
        assert "found 0, 1, 2, 3, 40 (40 in" in problems
        dataset = load_with_pasted_map(root, problems)
    else:
        dataset = load_folder(root)
    assert len(dataset.classes) == len(labels) - 1
    assert {image.ignored for image in dataset.images} == {16} and min(get_shares(dataset)) == pytest.approx(1 / 12)


def test_the_printed_command_writes_the_names_of_many_classes(tmp_path):
    numbers = np.arange(70, dtype=np.uint8).reshape(7, 10)
    root = folder(tmp_path / "data", {stem: Image.fromarray(np.roll(numbers, i)) for i, stem in enumerate("abcd")})
    command = re.search(r"`(seq [^`]+)`", join_problems(root))
    assert command and paste(command[1], root).returncode == 0
    assert load_folder(root).classes == tuple(f"class_{i}" for i in range(70))
