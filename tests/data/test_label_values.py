"""What is said of the numbers in masks, and the class maps to paste: each is pasted here, and its set read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sweeper.core.records import Dataset
from sweeper.data import load_dataset
from sweeper.data.class_map import read_class_map
from tests.support.folders import folder, mask
from tests.support.pasting import paste


def load_with_pasted_map(root: Path, text: str) -> Dataset:
    """Return the set as it is with the first class map that a text prints."""
    command = re.search(r"`(printf [^`]+ > (\S+))`, then --class-map \2", text)
    assert command, text
    assert paste(command[1], root.parent).returncode == 0
    return load_dataset(str(root), root.parent / "cache", class_map=read_class_map(root.parent / command[2]))


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
def test_labels_that_begin_above_0_get_the_map_that_numbers_them_from_0(tmp_path, labels, line):
    root = folder(tmp_path / "data", {stem: mask(*labels, height=24, shift=i) for i, stem in enumerate("abcd")})
    (warning,) = [text for text in load_dataset(str(root), tmp_path / "cache").warnings if "never occur" in text]
    assert warning.startswith(line) and "declared" not in warning
    dataset = load_with_pasted_map(root, warning)
    names = sorted(f"class_{label}" for label in labels if label != 255)
    assert sorted(dataset.classes) == names and dataset.classes[0] == f"class_{min(labels)}"
    ignored = 1 / 24 * (255 in labels)
    assert min(get_shares(dataset)) == pytest.approx(1 / 24) and np.sum(get_shares(dataset)) == pytest.approx(
        1 - ignored
    )
    assert not any("never occur" in text for text in dataset.warnings)


def test_gaps_above_0_and_declared_classes_get_no_map(tmp_path):
    masks = {stem: mask(0, 2, shift=i) for i, stem in enumerate("abcd")}
    found = load_dataset(str(folder(tmp_path / "data", masks)), tmp_path / "cache").warnings
    assert "1 of 3 classes (0 to 2) never occurs: class_1." in found
    masks = {stem: mask(1, 2, shift=i) for i, stem in enumerate("abcd")}
    found = load_dataset(str(folder(tmp_path / "named", masks, classes="a\nb\nc\n")), tmp_path / "cache").warnings
    assert "1 of 3 declared classes never occurs: a." in found
