"""Images to predict: files, folders, patterns and links, of which broken or circular ones do not end a prediction."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweeper.core.errors import UsageError
from sweeper.data.text_tables import UnreadableFileError
from sweeper.deployment.image_files import find_images, read_for
from tests.support.folders import image


def write_images(root: Path) -> Path:
    """Write two images among links, a pipe and a folder called like an image."""
    (root / "day 1").mkdir(parents=True)
    image(0).save(root / "a.png")
    image(1).save(root / "day 1" / "b.png")
    (root / "self.png").symlink_to("self.png")
    (root / "one.png").symlink_to("two.png")
    (root / "two.png").symlink_to("one.png")
    (root / "gone.png").symlink_to("nowhere.png")
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")
    for name in ("up", "again"):  # links to the folder that holds them
        (root / "day 1" / name).symlink_to(root)
    return root


def list_readable(arguments: list[str], without: Path | None = None) -> tuple[list[str], list[str]]:
    """Return the names of the images that can be read, and of those that cannot."""
    good, bad = [], []
    for file in find_images(arguments, without):
        try:
            read_for(file.path, channels=3, full_scale=255)
            good.append(str(file.name))
        except UnreadableFileError:
            bad.append(str(file.name))
    return sorted(good), sorted(bad)


@pytest.mark.parametrize("pattern", ["", "/**/*.png", "/**/*"])
def test_broken_and_circular_links_and_pipes_are_listed_as_unreadable(tmp_path, pattern):
    good, bad = list_readable([f"{write_images(tmp_path / 'new')}{pattern}"])
    assert good == ["a", "day 1/b"]
    assert bad == ["gone", "one", "pipe", "self", "two"]


def test_a_pattern_skips_folders_and_follows_links_to_folders(tmp_path):
    root = write_images(tmp_path / "new")
    (tmp_path / "new" / "day 2").symlink_to(write_images(tmp_path / "else") / "day 1")
    assert list_readable([f"{root}/*/b.png"]) == (["day 1/b", "day 2/b"], [])
    assert list_readable([f"{root}/[af]*.png"]) == (["a"], [])


def test_a_circular_link_is_refused_as_images_and_harmless_as_output_folder(tmp_path):
    root = write_images(tmp_path / "new")
    with pytest.raises(UsageError, match="must be an image, a folder of images or a pattern; there is none"):
        find_images([str(root / "self.png")])
    with pytest.raises(UsageError, match="selects no image"):
        find_images([str(tmp_path / "none" / "**" / "*.png")])
    assert list_readable([str(root)], without=root / "self.png")[0] == ["a", "day 1/b"]


def test_every_path_of_an_image_counts_and_repeated_arguments_count_once(tmp_path, monkeypatch):
    root = write_images(tmp_path / "new")
    (root / "c.png").symlink_to("a.png")
    (root / "day 2").symlink_to("day 1")
    (tmp_path / "same").symlink_to("new")
    names = ["a", "c", "day 1/b", "day 2/b"]
    assert list_readable([str(root)])[0] == names
    monkeypatch.chdir(tmp_path)
    assert list_readable(["new", "new/a.png", str(root / "day 1" / "b.png"), "same", "./new/*.png"])[0] == names
