"""Names of folders and files that are not UTF-8."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweeper.core.errors import DataError
from sweeper.data import load_dataset
from sweeper.data.text_tables import UnreadableFileError
from sweeper.deployment.image_files import find_images, read_for
from tests.support.folders import folder, image, mask

LATIN = os.fsdecode(b"caf\xe9")
"""A name that is not UTF-8."""


def write_data(root: Path) -> Path:
    return folder(root, {name: mask(0, 1) for name in "abcd"})


@pytest.mark.parametrize("place", ["images/{}.png", "images/{}/a.png"])
def test_other_bytes_in_the_name_of_an_image_or_its_folder_are_refused(tmp_path: Path, place: str) -> None:
    root = write_data(tmp_path / "data")
    for kind in ("images", "masks"):
        path = root / place.format(LATIN).replace("images", kind)
        path.parent.mkdir(exist_ok=True)
        (root / kind / "a.png").rename(path)
    with pytest.raises(DataError, match=r"caf.udce9.*: file names must be Unicode \(UTF-8\), found other bytes"):
        load_dataset(str(root), tmp_path / "cache")


def test_a_link_to_a_folder_with_other_bytes_in_its_name_is_loaded(tmp_path: Path) -> None:
    (write_data(tmp_path / LATIN) / f"{LATIN}.txt").write_text("x")
    (tmp_path / "link").symlink_to(LATIN)
    dataset = load_dataset(str(tmp_path / "link"), tmp_path / "cache")
    assert dataset.name == "caf\\udce9" and dataset.model_dump_json()


def test_an_image_with_other_bytes_in_its_name_is_not_predicted_and_others_are(tmp_path: Path) -> None:
    image(0).save(tmp_path / f"{LATIN}.png")
    image(1).save(tmp_path / "é.png")
    options = {"channels": 3, "full_scale": 255}
    files = {file.path.name: file.path for file in find_images([str(tmp_path)])}
    assert read_for(files["é.png"], **options)[1] == (12, 16)
    with pytest.raises(UnreadableFileError, match="file names must be Unicode"):
        read_for(files[f"{LATIN}.png"], **options)
