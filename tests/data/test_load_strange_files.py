"""Links, pipes and devices in place of files: nothing outside the data folder is read or quoted, nothing blocks."""

from __future__ import annotations

import os
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sweeper.core.errors import DataError
from sweeper.data import load_dataset, text_tables
from sweeper.data.formats import FORMATS
from sweeper.data.text_tables import UnreadableFileError, open_file, read_text
from tests.support import annotated
from tests.support.folders import join_problems, load_folder

pytestmark = pytest.mark.timeout(120)
"""Ends a test that waits for a pipe or reads without end."""

SECRET = "stem,split,root:x:0:0:hunter2"

FORMAT_FILES = {
    "folder": ["split.csv", "classes.txt", "colors.txt", "labelmap.txt", "images/p0.png", "masks/p3.png"],
    "coco": ["annotations/instances_default.json"],
    "labelme": ["p0.json", "labels.txt"],
    "yolo": ["data.yaml", "train/labels/p0.txt"],
    "nnunet": ["dataset.json"],
    "manifest": ["manifest.csv"],
    "voc": ["ImageSets/Segmentation/train.txt", "class_names.txt", "JPEGImages/p0.png"],
}
FILES = [(name, file) for name, files in FORMAT_FILES.items() for file in files]
"""Format, and a file that it reads."""


def make_pipe_in_a_hidden_folder(path: Path) -> None:
    hidden = path.parent / ".hidden"
    hidden.mkdir()
    os.mkfifo(hidden / "pipe")
    path.symlink_to(hidden / "pipe")


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a device by a link": (lambda path: path.symlink_to("/dev/zero"), "found a link to /dev/zero"),
    "a pipe": (os.mkfifo, "must be a file or a folder, found a pipe"),
    "a link to a pipe": (make_pipe_in_a_hidden_folder, "must be a file or a folder, found a pipe"),
    "a socket": (lambda path: os.mknod(path, 0o600 | stat.S_IFSOCK), "must be a file or a folder, found a socket"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "(No such file or directory); check where the link"),
    "a link to itself": (lambda path: path.symlink_to(path), "; check where the link leads"),
}


def prepare_place(tmp_path: Path, name: str, file: str) -> Path:
    """Return a place for something strange, in a data set without that file."""
    annotated.FORMATS[name](tmp_path / "data")
    path = tmp_path / "data" / file
    path.unlink(missing_ok=True)
    return path


@pytest.mark.parametrize(("name", "file"), FILES)
def test_no_file_outside_the_data_folder_is_read_through_a_link(tmp_path, name, file):
    path = prepare_place(tmp_path, name, file)
    outside = tmp_path / "outside" / path.name
    outside.parent.mkdir()
    outside.write_text(SECRET)
    path.symlink_to(outside)
    problems = join_problems(tmp_path / "data")
    assert f"{file}: must lie inside the data folder, found a link to {outside}" in problems
    assert "hunter2" not in problems
    path.unlink()
    (tmp_path / "data" / "linked").symlink_to(outside.parent)
    path.symlink_to(Path(os.path.relpath(tmp_path / "data" / "linked" / path.name, path.parent)))
    assert "hunter2" not in join_problems(tmp_path / "data")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "file"), FILES)
def test_anything_but_a_regular_file_is_a_problem_and_does_not_block(tmp_path, name, file, kind):
    make, words = KINDS[kind]
    path = prepare_place(tmp_path, name, file)
    make(path)
    if kind.endswith(("nothing", "itself")) and path.name in ("data.yaml", "instances_default.json", "manifest.csv"):
        words = "found a link that leads nowhere"  # nothing says which format it is
    problems = join_problems(tmp_path / "data")
    assert file in problems and words in problems


@pytest.mark.parametrize("name", ["split.csv", "classes.txt", "colors.txt"])
def test_a_folder_in_place_of_a_text_file_is_a_problem(tmp_path, name):
    prepare_place(tmp_path, "folder", name).mkdir()
    assert f"{name}: cannot be read (a folder, no regular file)" in join_problems(tmp_path / "data")


def test_a_link_inside_the_data_folder_is_followed_even_if_the_folder_is_a_link(tmp_path):
    annotated.folder(tmp_path / "data")
    (tmp_path / "data" / ".names").write_text("background\na\nb\n")
    (tmp_path / "data" / "classes.txt").unlink()
    (tmp_path / "data" / "classes.txt").symlink_to(".names")
    (tmp_path / "other").symlink_to("data")
    assert load_folder(tmp_path / "other").classes == ("background", "a", "b")


def test_a_list_in_a_hidden_folder_is_not_read(tmp_path):
    annotated.yolo(tmp_path / "data")
    (tmp_path / "outside.txt").write_text(SECRET)
    (tmp_path / "data" / ".cache").mkdir()
    (tmp_path / "data" / ".cache" / "list.txt").symlink_to(tmp_path / "outside.txt")
    path = tmp_path / "data" / "data.yaml"
    path.write_text(path.read_text().replace("../train/images", ".cache/list.txt"))
    problems = join_problems(tmp_path / "data")
    assert "train: must be a folder or list in here, found .cache/list.txt" in problems and "hunter2" not in problems


OPENED: list[str] = []
"""Paths below the watched folder, once for each time that anything opens them."""
WATCHED: list[str] = []


def record_opening(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and WATCHED:
        path, mode, flags = arguments
        inner = mode is None and isinstance(flags, int) and flags & os.O_NONBLOCK  # that of `open_file`
        if not inner and isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(WATCHED[0]):
            OPENED.append(os.fsdecode(path))


@pytest.fixture(scope="module")
def recorded_openings() -> None:
    """Record openings below the watched folder until the process ends."""
    sys.addaudithook(record_opening)


@pytest.mark.usefixtures("recorded_openings")
@pytest.mark.parametrize("name", FORMATS)
def test_every_file_of_every_format_is_opened_by_open_file(tmp_path, monkeypatch, name):
    """Python reports each opening to an audit hook, whoever opens: ours, Pillow, tifffile, json, csv or yaml."""
    annotated.FORMATS[name](tmp_path / "data")
    opened: list[str] = []

    def record_and_open(path: Path) -> object:
        opened.append(str(path))
        return open_file(path)

    for module in [module for key, module in sys.modules.items() if key.startswith("sweeper.data")]:
        if getattr(module, "open_file", None) is open_file:
            monkeypatch.setattr(module, "open_file", record_and_open)
    OPENED.clear()
    WATCHED[:] = [f"{tmp_path}/data/"]
    try:
        load_folder(tmp_path / "data")
    finally:
        WATCHED.clear()
    assert len(OPENED) >= len(annotated.STEMS)
    assert sorted(OPENED) == sorted(opened)


def test_a_file_that_became_a_pipe_or_grew_after_it_was_listed_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableFileError, match="a pipe, no regular file"):
        open_file(tmp_path / "pipe")
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(text_tables.MAX_TABLE + 1)
    faults: list[str] = []
    assert read_text(tmp_path / "large.txt", faults, "large.txt") is None
    assert faults == ["large.txt: must be 32 MiB at most, found 32 MiB; divide it, or name the right file"]
    status = os.stat_result((0o100600, *[0] * 9))
    monkeypatch.setattr(text_tables.os, "fstat", lambda _: status)  # a size of 0, as files of /proc have
    assert read_text(tmp_path / "large.txt", faults, "large.txt") is None and len(faults) == 2


def test_control_characters_in_names_are_escaped_in_all_messages(tmp_path):
    root, lines = tmp_path / "data", []
    annotated.FORMATS["folder"](root)
    for place in ("images", "masks"):
        (root / place / "p0.png").rename(root / place / "e\x1b[31m\n.png")
    (root / "images" / "p1.png").write_bytes((root / "images" / "e\x1b[31m\n.png").read_bytes())
    (tmp_path / "\x1b[2J").symlink_to(root)
    dataset = load_dataset(str(tmp_path / "\x1b[2J"), tmp_path / "cache", lines.append)
    assert r"2 images have the same pixels: (e\x1b[31m\n, p1)" in " ".join(dataset.warnings)
    assert all(line.isprintable() for line in (*lines, *dataset.warnings, dataset.name))
    (root / "images" / "e\x1b[31m\n.png").write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        load_dataset(str(root), tmp_path / "cache")
    assert [problem[:22] for problem in caught.value.problems] == [r"images/e\x1b[31m\n.png"]


@pytest.mark.parametrize(("pages", "big", "back_to"), [(1, False, 0), (3, False, 1), (2, True, 0)])
def test_a_chain_of_pages_that_leads_back_ends_in_a_problem(tmp_path, pages, big, back_to):
    """In place of memory: tifffile follows the chain."""
    path = prepare_place(tmp_path, "folder", "images/p0.png").with_suffix(".tif")
    for _ in range(pages):
        tifffile.imwrite(path, np.zeros((48, 64), np.uint8), append=True, metadata=None, bigtiff=big or None)
    with tifffile.TiffFile(path) as tiff:
        offsets, last = [page.offset for page in tiff.pages], tiff.pages[-1]
        form = tiff.tiff
        at = last.offset + form.tagnosize + len(last.tags) * form.tagsize
    with path.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack(form.offsetformat, offsets[back_to]))
    assert "images/p0.tif: pages must follow each other to an end, found a circle" in join_problems(tmp_path / "data")
