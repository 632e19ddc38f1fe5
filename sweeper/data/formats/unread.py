"""Say what is in a folder that no format reads, and the lines that write its images and masks.

A few kinds of files have a shorter step. They are recognised by words in their beginning; nothing is parsed.
"""

from __future__ import annotations

import re
import shlex
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sweeper.core.spreadsheet import decode_text
from sweeper.core.text import abbreviate
from sweeper.data.formats.base import DataSource
from sweeper.data.open_image import IMAGE_SUFFIXES, WRITE_PAGES, read_tiff
from sweeper.data.text_tables import POINTER, POINTER_STEP, UnreadableFileError, point_to_lines, read_beginning

_LOOKED_AT = 1 << 18
_SHOWN = 60
"""Characters of a text's first line that are shown."""
_SOME = 50
"""Most files opened for each kind."""
_MOST_KINDS = 6
"""Most suffixes that are listed."""
_YAML = r"printf 'train: images\nnames: [object]\n' > data.yaml"
_TWO_FILES = rb"(?i)\.(png|jpe?g|bmp|tiff?|gif|webp)\"?[,;\t|].*\.(png|jpe?g|bmp|tiff?|gif|webp)\b"
_RUNS = rb"(?i)encoded_?pixels|\brle\b|_rle\b|[,;\t\"]\d+ \d+ \d+ \d+( \d+ \d+)*[\",;\t\r\n]"
_SHAPE = re.compile(rb"'shape': (\([\d, ]*\))")
"""Shape of an array in the beginning of its file."""
UNREAD = """{}: must hold images/ and masks/ with equal stems, or annotations of docs/formats.md, \
found {}; export another tool's annotations again as COCO, or their masks as PNG; files that are called otherwise are \
read with --images 'img/*.jpg' --masks 'labels/{{stem}}_m.png'; all else is written by these lines, of which the two \
with ... are yours to fill in, and read by `sweeper profile set`:
    import pathlib, numpy as np, PIL.Image as Image
    images = ...  # for each entry an array (H, W) or (H, W, 3), such as np.load("X_train.npy")
    masks = ...  # in the same order, arrays (H, W) of class numbers from 0 on, 0 for the background
    for folder, arrays in (("images", images), ("masks", masks)):
        pathlib.Path("set", folder).mkdir(parents=True, exist_ok=True)
        for n, one in enumerate(map(np.squeeze, arrays)):
            one = one * (255 if folder == "images" and one.max() <= 1 else 1)
            Image.fromarray(one.astype("uint8" if one.max() < 256 else "uint16")).save(f"set/{{folder}}/{{n}}.png")"""

NO_MASKS = """{}: each image must have a mask, found {} and no masks; put the masks into masks/, each called as its \
image, or name both: --images 'img/*.jpg' --masks 'labels/{{stem}}_m.png'; LabelMe, CVAT and others draw them"""


class KnownFile(NamedTuple):
    """A kind of file that is not read, and the step that makes it readable."""

    name: str
    suffixes: tuple[str, ...]
    words: tuple[bytes, ...]
    """Regular expressions that must all match in the beginning of a file."""
    step: str


def _make_step(section: str, folders: str = "masks/") -> str:
    return point_to_lines(f"write PNGs into {folders}", section)


KNOWN_FILES = (
    KnownFile(
        "a Git LFS pointer",
        (".json", ".csv", ".yaml", ".yml", ".txt", ".xml", ".ndjson", ".geojson"),
        (rb"\A" + re.escape(POINTER),),
        POINTER_STEP.partition("; ")[2],
    ),
    KnownFile("VOC's detection boxes", (".xml",), (rb"<annotation", rb"<bndbox"), "draw polygons or masks"),
    KnownFile("run-length masks", (".csv",), (_RUNS,), _make_step("run-length-tables")),
    KnownFile("YOLO's labels alone", (".txt",), (rb"(?m)^\d+( [01]?\.\d+){6}",), f"run this next to images/: {_YAML}"),
    KnownFile("a file table", (".csv",), (_TWO_FILES,), "call its columns image and mask (and split and group)"),
    KnownFile("Hugging Face's parquet", (".parquet",), (rb"\APAR1",), _make_step("parquet", "images/ and masks/")),
    KnownFile("an archive", (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"), (), "tar -xf FILE"),
    KnownFile(
        "a compressed file",
        tuple(f"{suffix}.gz" for suffix in (*IMAGE_SUFFIXES, ".npy", ".json", ".csv")),
        (),
        "run this in the data folder: gunzip -r .",
    ),
)


def find_broken_link(place: DataSource) -> Path | None:
    """Return the first file that is a link to nothing; None without one."""
    links = filter(Path.is_symlink, place.files)
    return next((path for path in links if not path.exists()), None)


def recognise_file(place: DataSource) -> str | None:
    """Return the problem of a folder with a broken link, or with files that have a step of their own; else None."""
    if (path := find_broken_link(place)) is not None:
        return f"{place.format_name(path)}: must be a file, found a link that leads nowhere; copy what it leads to"
    for known in KNOWN_FILES:
        for path in place.list_candidates(*known.suffixes)[:_SOME]:
            start = read_beginning(path, _LOOKED_AT)
            if all(re.search(word, start) for word in known.words):
                step = known.step.replace("FILE", shlex.quote(str(path)))
                return f"{place.format_name(path)}: must be annotations that are read, found {known.name}; {step}"
    for path in place.list_candidates(".tif", ".tiff")[:_SOME]:
        with suppress(UnreadableFileError):
            if (pages := read_tiff(path).pages) > 1:
                return f"{place.format_name(path)}: must be a single image, found {pages} pages; {WRITE_PAGES}"
    return None


def explain_unread(place: DataSource) -> str:
    """Return the problem of a folder in which nothing is read: what is there, and the step."""
    if problem := recognise_file(place):
        return problem
    has_only_images = place.list_candidates("") == place.list_candidates(*IMAGE_SUFFIXES) != []
    text = NO_MASKS if has_only_images else UNREAD
    return text.format(place.entry or place.title, list_contents(place))


def list_contents(place: DataSource) -> str:
    """Return the files by suffix: `.npy (x.npy: (9, 64, 64), y.npy: (9, 64)), .json (…)`; the commonest first.

    Arrays have their shapes, other files the beginning of their first line, if it is text; archives their entries.
    """
    by_suffix = defaultdict[str, list[Path]](list)
    for path in place.list_candidates(""):
        by_suffix[path.suffix.lower()].append(path)
    ranked = sorted(by_suffix.items(), key=lambda item: -len(item[1]))
    kinds = [f"{len(paths)} {suffix} ({_describe_files(place, paths)})" for suffix, paths in ranked]
    return abbreviate(kinds, _MOST_KINDS) or "nothing"


def _describe_files(place: DataSource, paths: Sequence[Path]) -> str:
    names = [*map(place.format_name, paths)]
    names[:2] = [f"{name}{_look_inside(path)}" for name, path in zip(names[:2], paths, strict=False)]
    return abbreviate(names, 2)


def _look_inside(path: Path) -> str:
    """Return `: ` and what a file begins with, or the entries of an archive; "" if it says nothing."""
    with suppress(Exception), zipfile.ZipFile(path) as archive:  # of what is no archive, or a damaged one, any
        names = archive.namelist()
        names[:3] = [f"{name}{_format_start(archive.open(name).read(_LOOKED_AT))}" for name in names[:3]]
        return f": {abbreviate(names, 3)}"
    return _format_start(read_beginning(path, _LOOKED_AT))


def _format_start(start: bytes) -> str:
    """Return `: ` and the shape of an array, or the first line of a text; "" for other bytes."""
    if (shape := _SHAPE.search(start)) is not None:
        return f": {shape[1].decode()}"
    line = decode_text(start, "replace").partition("\n")[0].strip()
    is_text = line.replace("\ufffd", "\0").isprintable()
    return f": `{line[:_SHOWN]}`" * (is_text * len(line) > 0)
