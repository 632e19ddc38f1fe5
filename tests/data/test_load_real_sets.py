"""Real data sets are read as corpus.csv says; `conftest.py` compares every load."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.data import load_dataset

pytestmark = pytest.mark.real_data


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("cracks_cfd", None),
        ("camvid", None),
        ("facade_coco", None),
        ("facade_coco", "coco"),
        ("fruits_both", None),
        ("fruits_both", "coco"),
        ("fruits_both", "labelme"),
        ("labelme_voc/examples/instance_segmentation/data_annotated", None),
    ],
)
def test_real_sets_are_read_alike(real_data: Path, tmp_path: Path, name: str, form: str | None) -> None:
    dataset = load_dataset(str(real_data / name), tmp_path / "cache", format=form, class_map={"overlap": ("flatten",)})
    assert dataset.images and all(sum(image.pixels) for image in dataset.images)
