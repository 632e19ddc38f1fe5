"""Image and mask files that their names pair, where no format of annotations is found.

In this order: folders called by words that may mean something else (`photos/` with `targets/`), two folders of which
one is called like the other's masks (`train/` with `train_masks/`, `trainannot/`, `images_2020/` with `masks_2020/`),
and masks beside their images in one folder (`a.jpg` with `a_mask.png` or `a.png`), at any depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from sweeper.data.decode import IMAGE_SUFFIXES, MASK_SUFFIXES
from sweeper.data.formats import folder
from sweeper.data.formats.base import SPLITS, Format, Place, Reading
from sweeper.data.formats.file_names import (
    IMAGE_WORDS,
    MASK_WORDS,
    MORE_IMAGE_WORDS,
    MORE_MASK_WORDS,
    Ambiguous,
    naming_in_one_place,
)
from sweeper.data.formats.folder_layout import Pair, find_pairs, holds, subfolders, walk
from sweeper.data.formats.paired_files import LOSSY, listing, pair_up, read_pairs, renamed, say_paired
from sweeper.data.text_tables import normal, shown

_SEPARATORS = ("_", "-", " ", "")


class _Beside(NamedTuple):
    """Images and masks in one folder."""

    masks: dict[str, str]
    """Path of the mask → that of its image, both without extension."""
    example: str
    fault: str | None = None
    others: frozenset[str] = frozenset()
    """What may be masks too, where that is the fault."""


def detect(place: Place) -> str | None:
    """Whether names pair folders or files, where no folders are called images/ and masks/."""
    if place.entry is not None or folder.detect(place) is not None:
        return None
    if pairs := _pairs(place.root):
        return ", ".join(f"{shown(pair.images)}/ and {shown(pair.masks)}/" for pair in pairs)
    found = _beside(_files_below(place.root))
    return None if found is None else "masks beside their images"


def _pairs(root: Path) -> list[Pair]:
    words = (*IMAGE_WORDS, *MORE_IMAGE_WORDS), (*MASK_WORDS, *MORE_MASK_WORDS)
    found = find_pairs(root, *words, anywhere=True)
    if found.pairs:
        full = all(holds(root, pair.images, IMAGE_SUFFIXES) for pair in found.pairs)
        return found.pairs if full else []
    names = {path.name.lower(): path.name for path in subfolders(root)}
    pairs = [
        Pair(images, names[other], SPLITS.get(_split_word(low)))
        for low, images in names.items()
        for other in _called_masks_of(low)
        if other in names and other != low
    ]
    return [
        pair for pair in pairs if holds(root, pair.images, IMAGE_SUFFIXES) and holds(root, pair.masks, MASK_SUFFIXES)
    ]


def _called_masks_of(images: str) -> Iterator[str]:
    """Names, in lower case, that the folder of masks of a folder of images may have."""
    masks = (*MASK_WORDS, *(word for word in MORE_MASK_WORDS if len(word) > 1))
    for word in masks:
        for separator in _SEPARATORS:
            yield f"{images}{separator}{word}"
            if separator:
                yield f"{word}{separator}{images}"
    for own in (*IMAGE_WORDS, *MORE_IMAGE_WORDS):
        for separator in _SEPARATORS[:-1]:
            for word in masks:
                if images.endswith(f"{separator}{own}"):
                    yield f"{images.removesuffix(own)}{word}"
                if images.startswith(f"{own}{separator}"):
                    yield f"{word}{images.removeprefix(own)}"


def _split_word(images: str) -> str:
    """What is left of a folder's name without a word for images."""
    for own in IMAGE_WORDS:
        for separator in _SEPARATORS[:-1]:
            images = images.removesuffix(f"{separator}{own}").removeprefix(f"{own}{separator}")
    return images


def read(place: Place) -> Reading:
    """List and pair the files; nothing is opened."""
    if pairs := _pairs(place.root):
        return read_pairs(place, pairs)
    files = _files_below(place.root)
    found = _beside(files)
    assert found is not None  # detected
    if found.fault is not None:
        place.problems.append(found.fault)
    same = bool(found.masks.keys() & {*found.masks.values()})  # a.jpg with a.png
    image_files: list[Path] = []
    labels: list[Path] = []
    for path, key in files.items():
        if key in found.others:
            continue
        lossy = path.suffix.lower() in LOSSY
        is_mask = key in found.masks and (path.suffix.lower() in MASK_SUFFIXES or lossy) and not (same and lossy)
        (labels if is_mask else image_files).append(path)
    images = listing(place, place.root, image_files, IMAGE_SUFFIXES)
    masks = renamed(place, found.masks, listing(place, place.root, labels, MASK_SUFFIXES))
    say_paired(place, found.example)
    return pair_up(place, [(Pair(".", "."), images, masks)], images.others)


def _beside(files: Mapping[Path, str]) -> _Beside | None:
    """Masks and their images, where these lie in one folder each.

    Args:
        files: images and masks with their paths below the root, without extension.
    """
    images = {key for path, key in files.items() if path.suffix.lower() in IMAGE_SUFFIXES}
    naming = naming_in_one_place(images, {*files.values()})
    if isinstance(naming, Ambiguous):
        first = naming.first
        fault = (
            f"an image has one mask, found more: {shown(naming.example)}; say which with --images "
            f"'{first.image.format('{stem}')}.jpg' --masks '{first.mask.format('{stem}')}.png'"
        )
        others = naming.second.masks.keys() - first.masks.keys()
        return _Beside({**first.masks}, first.example, fault, frozenset(others))
    if naming is not None:
        return _Beside({**naming.masks}, naming.example)
    lossy = {key: path.name for path, key in files.items() if path.suffix.lower() in LOSSY}
    drawn = {key: path.name for path, key in files.items() if path.suffix.lower() in MASK_SUFFIXES}
    same = sorted(lossy.keys() & drawn.keys())
    if not same or 2 * len(same) < max(len(lossy), len(drawn)):
        return None
    return _Beside({stem: stem for stem in same}, f"{drawn[same[0]]} is the mask of {lossy[same[0]]}")


def _files_below(root: Path) -> dict[Path, str]:
    """Images and masks with their paths below the root, without extension."""
    known = {*IMAGE_SUFFIXES, *MASK_SUFFIXES}
    start = len(str(root / "x")) - 1
    found = ((path, path.suffix) for path in walk(root, root))
    return {path: normal(str(path)[start : -len(suffix)]) for path, suffix in found if suffix.lower() in known}


FORMAT = Format(
    "image and mask files that are called alike (photos/ and targets/; a.jpg beside a_mask.png)", detect, read
)
