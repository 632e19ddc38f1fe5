"""Image and mask folders: `images/` and `masks/`, paired by stem.

Masks are index, palette, 1-bit, 0/255, 16-bit index, or RGB with a map of colours (`sweeper.data.colours`). Sub-folders
`train`, `val` and `test` of both give a split, and so do `train/images/`, `train/masks/` and so on.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sweeper.core.records import SplitName
from sweeper.data.decode import IMAGE_SUFFIXES, MASK_SUFFIXES, read_mask
from sweeper.data.formats.base import SPLITS, Format, Place, Reading, Sample, Size
from sweeper.data.label_values import some
from sweeper.data.store import Pixels
from sweeper.data.text_tables import Side, normal, shown

LAYOUT = (
    "a data set is a folder with images/ (png, jpg, bmp, tif, webp) and masks/ (png, bmp, tif; class indices) with "
    "equal stems, and optionally classes.txt and split.csv"
)
_HIDDEN = ("thumbs.db", "desktop.ini")
_LOSSY = (".jpg", ".jpeg", ".webp")


class _Listing(NamedTuple):
    """The files of one of the two folders."""

    by_stem: dict[str, list[Path]]
    others: list[str]


def detect(place: Place) -> str | None:
    """Whether images/ and masks/ are there, or both in folders of splits."""
    pairs = _pairs(place.root)
    if not pairs or place.entry is not None:
        return None
    if pairs[0][2] is None:
        return "images/ and masks/"
    return f"{', '.join(f'{i}/ and {m}/' for i, m, _ in pairs)}"


def _pairs(root: Path) -> list[tuple[str, str, SplitName | None]]:
    """Folders of images and of masks that belong together, and the split that they give."""
    found: list[tuple[str, str, SplitName | None]] = []
    for name, split in SPLITS.items():
        for images, masks in ((f"images/{name}", f"masks/{name}"), (f"{name}/images", f"{name}/masks")):
            if (root / images).is_dir() and (root / masks).is_dir():
                found.append((images, masks, split))
    if (root / "images").is_dir() and (root / "masks").is_dir():
        bare = not any(images.startswith("images/") for images, _, _ in found)
        if bare or any(path.suffix.lower() in IMAGE_SUFFIXES for path in (root / "images").iterdir()):
            return [("images", "masks", None)]
    return found


def read(place: Place) -> Reading:
    """List and pair the files; nothing is opened."""
    samples: list[Sample] = []
    stems: set[str] = set()
    others: list[str] = []
    pairs = _pairs(place.root)
    lists = [(i, m, split, _list(place, i, IMAGE_SUFFIXES), _list(place, m, MASK_SUFFIXES)) for i, m, split in pairs]
    every = [stem for *_, images, masks in lists for stem in images.by_stem.keys() | masks.by_stem.keys()]
    repeated = len(every) > len(set(every))
    for images_at, masks_at, split, images, masks in lists:
        prefix = f"{Path(images_at).name if images_at.startswith('images/') else Path(images_at).parts[0]}/"
        stem_of = {stem: prefix + stem if repeated else stem for stem in every}
        samples += _pair(place, (images_at, images), (masks_at, masks), stem_of, Side(split))
        stems |= {stem_of[stem] for stem in images.by_stem.keys() | masks.by_stem.keys()}
        others += [*images.others, *masks.others]
    if others:
        place.notes.append(f"{len(others)} file(s) or folder(s) of another kind were passed over: {some(others)}.")
    classes = place.classes or (place.colours.names if place.colours else None)
    return Reading(
        sorted(samples, key=lambda sample: sample.stem),
        classes,
        stems=frozenset(stems),
        place=f"{pairs[0][0]}/",
        mask_place=f"{pairs[0][1]}/",
    )


def _list(place: Place, folder: str, suffixes: tuple[str, ...]) -> _Listing:
    """Files of one folder by stem; hidden ones are passed over, those of other kinds are counted."""
    by_stem: dict[str, list[Path]] = defaultdict(list)
    others = []
    if not place.inside(place.root / folder):
        return _Listing({}, [])
    for path in sorted((place.root / folder).iterdir()):
        if path.name.startswith(".") or path.name.lower() in _HIDDEN:
            continue
        name = f"{folder}/{shown(path.name)}"
        if path.is_symlink() and not place.inside(path):
            continue
        if path.suffix.lower() in suffixes and path.is_file():
            by_stem[normal(path.stem)].append(path)
        elif suffixes is MASK_SUFFIXES and path.suffix.lower() in _LOSSY:
            # It counts as this stem's mask, so that the fault is named once and not also as a missing mask.
            by_stem[normal(path.stem)].append(path)
            place.problems.append(
                f"{name}: masks must be lossless (png, bmp, tif), found {path.suffix}; save it as PNG"
            )
        else:
            others.append(name)
    for stem, paths in by_stem.items():
        if len(paths) > 1:
            files = ", ".join(shown(path.name) for path in paths)
            place.problems.append(
                f"{folder}/{shown(stem)}: a stem may name one file, found {files}; rename or remove one"
            )
    return _Listing(dict(by_stem), others)


def _pair(
    place: Place, images: tuple[str, _Listing], masks: tuple[str, _Listing], stem_of: dict[str, str], side: Side
) -> list[Sample]:
    """Images that have one file in each folder, by stem; the others are problems."""
    (images_at, pictures), (masks_at, labels) = images, masks
    for stem in pictures.by_stem.keys() - labels.by_stem.keys():
        file = shown(pictures.by_stem[stem][0].name)
        place.problems.append(f"{images_at}/{file}: has no mask; add {masks_at}/{shown(stem)}.png, or remove the image")
    for stem in labels.by_stem.keys() - pictures.by_stem.keys():
        file = shown(labels.by_stem[stem][0].name)
        place.problems.append(
            f"{masks_at}/{file}: has no image; add {images_at}/{shown(stem)}.png (or .jpg), or remove the mask"
        )
    return [
        Sample(
            stem_of[stem],
            place.name(pictures.by_stem[stem][0]),
            (pictures.by_stem[stem][0],),
            mask_file(place, labels.by_stem[stem][0]),
            place.name(labels.by_stem[stem][0]),
            side,
        )
        for stem in pictures.by_stem.keys() & labels.by_stem.keys()
        if len(pictures.by_stem[stem]) == len(labels.by_stem[stem]) == 1
        and labels.by_stem[stem][0].suffix.lower() not in _LOSSY
    ]


def mask_file(place: Place, path: Path) -> partial[Pixels]:
    """What makes the mask of a sample from a file of labels or colours."""
    return partial(_mask, path, place)


def _mask(path: Path, place: Place, size: Size | None) -> Pixels:
    return read_mask(path, place.colours)


FORMAT = Format("images/ and masks/ with equal stems", detect, read)
