"""Image and mask folders: `images/` and `masks/`, or called otherwise as people do, paired by stem.

Masks are index, palette, 1-bit, 0/255, 16-bit index, or RGB with a map of colours (`sweeper.data.colours`). Sub-folders
`train`, `val` and `test` of both give a split, and so do `train/images/`, `train/masks/` and so on; other sub-folders
must be the same on both sides. Where no mask has the stem of an image, names like `a_mask.png` for `a.jpg` are
understood (`sweeper.data.formats.file_names`), and it is said which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sweeper.data.formats.base import Format, Place, Reading
from sweeper.data.formats.file_names import IMAGE_WORDS, MASK_WORDS
from sweeper.data.formats.folder_layout import Pair, files_of, find_pairs
from sweeper.data.formats.paired_files import patterns_of, read_pairs
from sweeper.data.label_values import some

LAYOUT = (
    "a data set is a folder with images/ (png, jpg, bmp, tif, webp) and masks/ (png, bmp, tif, gif; class indices) "
    "with equal stems, and optionally classes.txt and split.csv; img/, labels/, gt/ and the like are understood too; "
    "--images 'img/*.jpg' --masks 'labels/{stem}_m.png' says how all else is called"
)


def detect(place: Place) -> str | None:
    """Whether images/ and masks/ are there, or both in folders of splits."""
    layout = find_pairs(place.root, IMAGE_WORDS, MASK_WORDS)
    return None if place.entry is not None or not layout.pairs else layout.line


def read(place: Place) -> Reading:
    """List and pair the files; nothing is opened."""
    layout = find_pairs(place.root, IMAGE_WORDS, MASK_WORDS)
    first = layout.pairs[0]
    if layout.rivals:
        if (Path(first.images).name, Path(first.masks).name) == (IMAGE_WORDS[0], MASK_WORDS[0]):
            place.notes.append(
                f"{layout.line} are read; {_named(layout.rivals)} might be meant too, and --images with --masks would "
                "read them."
            )
        else:
            place.problems.append(
                f"images and masks must lie in one folder each, found {_named([first, *layout.rivals])}; say which "
                f"with {patterns_of(place, first)}"
            )
    return read_pairs(place, layout.pairs)


def _named(pairs: Sequence[Pair]) -> str:
    return some([f"{pair.images}/ with {pair.masks}/" for pair in pairs], 3)


def _files(place: Place) -> Iterator[Path]:
    return files_of(place.root, find_pairs(place.root, IMAGE_WORDS, MASK_WORDS).pairs)


FORMAT = Format("images/ and masks/ with equal stems", detect, read, _files)
