"""Reader of the plain layout: `images/` and `masks/`, paired by stem, with `classes.txt` and `split.csv` beside them.

All problems of the whole set are collected and raised once, so that they can be mended in one go.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import PIL

from sweeper.data.assemble import assemble
from sweeper.data.decode import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    UnreadableFileError,
    in_order,
    picture_kind,
    quiet_pillow,
    read_image,
    read_mask,
)
from sweeper.data.labels import class_names, foreground_is_255, some
from sweeper.data.store import Pixels, StoreWriter
from sweeper.data.tables import Side, normal, read_classes, read_sides, shown
from sweeper.errors import DataError
from sweeper.records import IGNORE, Dataset

READER = "folder/1"
"""Raised when this reader starts to give other pixels or checks, so that remembered readings are read again."""
MIN_PICTURES = 3
LAYOUT = (
    "a data set is a folder with images/ (png, jpg, bmp, tif, webp) and masks/ (png, bmp, tif; class indices) with "
    "equal stems, and optionally classes.txt and split.csv"
)
_HIDDEN = ("thumbs.db", "desktop.ini")
_LOSSY = (".jpg", ".jpeg", ".webp")

Counts = npt.NDArray[np.int64]


class _Pair(NamedTuple):
    stem: str
    image: Path
    mask: Path


class _Listing(NamedTuple):
    """The files of one of the two folders."""

    by_stem: dict[str, list[Path]]
    others: list[str]


def fingerprint(root: Path) -> str:
    """Changes whenever a file that the reader looks at is added, removed, renamed or written; nothing is opened.

    Raises:
        DataError: the folder, its images/ or its masks/ is missing.
    """
    _check_layout(root)
    rows: list[tuple[str, int, int, int]] = []
    for folder in ("images", "masks"):
        for entry in os.scandir(root / folder):
            rows.append((f"{folder}/{entry.name}", *_stamp(Path(entry.path))))
    rows += [(name, *_stamp(root / name)) for name in ("classes.txt", "split.csv") if (root / name).exists()]
    text = json.dumps([READER, PIL.__version__, sorted(rows)])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int]:
    """Size and times in nanoseconds; the change time also shows a copy that kept its modification time."""
    try:
        stat = path.stat()
    except OSError:  # a link into nowhere: the reader says so
        return 0, 0, 0
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _check_layout(root: Path) -> None:
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise DataError(str(root), [f"{shown(root)}: must be a folder, found {found} there; {LAYOUT}"])
    missing = [name for name in ("images", "masks") if not (root / name).is_dir()]
    if missing:
        found = some(sorted(shown(p.name) for p in root.iterdir() if not p.name.startswith("."))) or "nothing"
        raise DataError(
            str(root), [f"{name}/: is missing in {shown(root)}, which holds {found}; {LAYOUT}" for name in missing]
        )


def read_folder(root: Path, cache: Path, say: Callable[[str], None]) -> Dataset:
    """Decode the set in `root` into a store below `cache`.

    Args:
        root: folder with images/ and masks/.
        cache: where the store is put, named by its digest.
        say: receives one line of progress.

    Raises:
        DataError: with every problem of the set.
    """
    _check_layout(root)
    with quiet_pillow():
        return _read(root, cache, say)


def _read(root: Path, cache: Path, say: Callable[[str], None]) -> Dataset:
    problems: list[str] = []
    images = _list(root, "images", IMAGE_SUFFIXES, problems)
    masks = _list(root, "masks", MASK_SUFFIXES, problems)
    pairs = _pair(images, masks, problems)
    declared = None
    if (path := root / "classes.txt").exists() and _inside(path, root, problems):
        declared = read_classes(path, problems)
        names_are_wrong = declared is None
    else:
        names_are_wrong = False
    sides: dict[str, Side] = {}
    if (path := root / "split.csv").exists() and _inside(path, root, problems):
        sides = read_sides(path, images.by_stem.keys() | masks.by_stem.keys(), problems)

    say(f"decoding {len(pairs)} pictures of {shown(root)}")
    channels, deep = _channels(pairs)
    with StoreWriter(cache, channels) as writer:
        used, counts, sound = _decode(pairs, writer, problems)
        mask_files = [f"masks/{shown(pair.mask.name)}" for pair in used]
        relabel = foreground_is_255(counts, mask_files, problems)
        if relabel:
            counts[:, 1] = counts[:, IGNORE]
            counts[:, IGNORE] = 0
        if used and not names_are_wrong:
            declared = class_names(counts, declared, mask_files, problems)
        if sound < MIN_PICTURES:
            problems.append(
                f"images/: at least {MIN_PICTURES} usable pictures with masks are needed (one each to train, validate "
                f"and test), found {sound}; add more or mend the others"
            )
        if problems or declared is None:
            raise DataError(shown(root), sorted(set(problems)))
        store = writer.finish()
        if relabel:
            writer.relabel(IGNORE, 1)
        return assemble(
            writer,
            store,
            name=root.resolve().name or "data",
            source=str(root),
            classes=declared,
            stems=[pair.stem for pair in used],
            counts=counts,
            sides=[sides.get(pair.stem, Side()) for pair in used],
            synthetic=False,
            warnings=_notes(images, masks, deep),
        )


def _list(root: Path, folder: str, suffixes: tuple[str, ...], problems: list[str]) -> _Listing:
    """Files of one folder by stem; hidden ones are passed over, those of other kinds are counted."""
    by_stem: dict[str, list[Path]] = defaultdict(list)
    others = []
    if not _inside(root / folder, root, problems):
        return _Listing({}, [])
    for path in sorted((root / folder).iterdir()):
        if path.name.startswith(".") or path.name.lower() in _HIDDEN:
            continue
        name = f"{folder}/{shown(path.name)}"
        if path.is_symlink() and not _inside(path, root, problems):
            continue
        if path.suffix.lower() in suffixes and path.is_file():
            by_stem[normal(path.stem)].append(path)
        elif folder == "masks" and path.suffix.lower() in _LOSSY:
            # It counts as this stem's mask, so that the fault is named once and not also as a missing mask.
            by_stem[normal(path.stem)].append(path)
            problems.append(f"{name}: masks must be lossless (png, bmp, tif), found {path.suffix}; save it as PNG")
        else:
            others.append(name)
    for stem, paths in by_stem.items():
        if len(paths) > 1:
            files = ", ".join(shown(path.name) for path in paths)
            problems.append(f"{folder}/{shown(stem)}: a stem may name one file, found {files}; rename or remove one")
    return _Listing(dict(by_stem), others)


def _inside(path: Path, root: Path, problems: list[str]) -> bool:
    """Whether the file lies in the data folder once links are followed; else a problem."""
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:
        problems.append(
            f"{shown(path.relative_to(root))}: must be a file, found a link that leads nowhere ({error}); remove it"
        )
        return False
    if target.is_relative_to(root.resolve()):
        return True
    problems.append(
        f"{shown(path.relative_to(root))}: must lie inside the data folder, found a link to {shown(target)}; "
        "copy the file here"
    )
    return False


def _pair(images: _Listing, masks: _Listing, problems: list[str]) -> list[_Pair]:
    """Pictures that have one file in each folder, by stem; the others are problems."""
    for stem in images.by_stem.keys() - masks.by_stem.keys():
        file = shown(images.by_stem[stem][0].name)
        problems.append(f"images/{file}: has no mask; add masks/{shown(stem)}.png, or remove the picture")
    for stem in masks.by_stem.keys() - images.by_stem.keys():
        file = shown(masks.by_stem[stem][0].name)
        problems.append(f"masks/{file}: has no picture; add images/{shown(stem)}.png (or .jpg), or remove the mask")
    return [
        _Pair(stem, images.by_stem[stem][0], masks.by_stem[stem][0])
        for stem in sorted(images.by_stem.keys() & masks.by_stem.keys())
        if len(images.by_stem[stem]) == len(masks.by_stem[stem]) == 1
        and masks.by_stem[stem][0].suffix.lower() not in _LOSSY
    ]


def _channels(pairs: Sequence[_Pair]) -> tuple[int, int]:
    """1 where all readable pictures are grey, else 3; and how many have more than 8 bits. Headers only."""

    def kind(pair: _Pair) -> tuple[bool, bool] | None:
        try:
            return picture_kind(pair.image)
        except UnreadableFileError:  # reported when it is decoded
            return None

    kinds = [found for found in in_order(kind, pairs) if found is not None]
    return 1 if kinds and all(grey for grey, _ in kinds) else 3, sum(deep for _, deep in kinds)


def _decode(pairs: Sequence[_Pair], writer: StoreWriter, problems: list[str]) -> tuple[list[_Pair], Counts, int]:
    """Write the pictures; pairs with a readable mask, the pixels of each value in it, (n, 256), and how many are sound.

    After the first problem nothing more is written, but everything is still looked at.
    """
    used, counts, sound = [], [], 0
    for pair, (image, mask, faults) in zip(pairs, in_order(partial(_one, writer.channels), pairs), strict=True):
        problems += faults
        sound += not faults
        if mask is None:
            continue
        # Labels are judged even where the picture is at fault, so that both faults are named.
        used.append(pair)
        counts.append(np.bincount(mask.ravel(), minlength=256))
        if not problems and image is not None:
            writer.append(image, mask)
    table: Counts = np.array(counts, dtype=np.int64).reshape(-1, 256)
    return used, table, sound


def _one(channels: int, pair: _Pair) -> tuple[Pixels | None, Pixels | None, list[str]]:
    """Picture, mask and faults of one pair."""
    image = mask = None
    faults = []
    image_name, mask_name = f"images/{shown(pair.image.name)}", f"masks/{shown(pair.mask.name)}"
    try:
        image = read_image(pair.image, channels)
    except UnreadableFileError as error:
        faults.append(f"{image_name}: {error}")
    try:
        mask = read_mask(pair.mask)
    except UnreadableFileError as error:
        faults.append(f"{mask_name}: {error}")
    if image is not None and mask is not None and image.shape[:2] != mask.shape:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
        faults.append(
            f"{mask_name}: must have its picture's size {width}×{height} (upright), found {mask_width}×{mask_height}; "
            "export the mask again at that size, without resizing smoothly"
        )
    return image, mask, faults


def _notes(images: _Listing, masks: _Listing, deep: int) -> list[str]:
    """Warnings about what was passed over or reduced."""
    notes = []
    if others := images.others + masks.others:
        notes.append(f"{len(others)} file(s) or folder(s) of another kind were passed over: {some(others)}.")
    if deep:
        notes.append(f"{deep} picture(s) have 16 bits per pixel and were reduced to their high byte.")
    return notes
