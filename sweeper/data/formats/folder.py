"""Image and mask folders: `images/` and `masks/`, or called otherwise as people do, paired by stem.

Masks are index, palette, 1-bit, 0/255, 16-bit index, or RGB with a map of colours (`sweeper.data.colours`). Sub-folders
`train`, `val` and `test` of both give a split, and so do `train/images/`, `train/masks/` and so on. Where no mask has
the stem of an image, names like `a_mask.png` for `a.jpg` are understood (`sweeper.data.formats.file_names`), and it is
said which.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sweeper.core.records import SplitName
from sweeper.data.decode import IMAGE_SUFFIXES, MASK_SUFFIXES, read_mask
from sweeper.data.formats.base import SPLITS, Format, Place, Reading, Sample, Size
from sweeper.data.formats.file_names import Naming, common_naming
from sweeper.data.label_values import some
from sweeper.data.store import Pixels
from sweeper.data.text_tables import Side, normal, shown

LAYOUT = (
    "a data set is a folder with images/ (png, jpg, bmp, tif, webp) and masks/ (png, bmp, tif; class indices) with "
    "equal stems, and optionally classes.txt and split.csv; img/, labels/, gt/ and the like are understood too"
)
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "Images", "Image")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "gt", "ground_truth", "groundtruth"),
    *("Masks", "Mask", "Labels", "Label", "Annotations", "GT", "Ground_truth"),
)
"""Names that are looked for, in this order. Folders of masks but the first must hold mask files: others keep text or
JSON there."""
ONE_BY_ONE = 3
"""Images without a mask, or masks without an image, that are named one by one; more share a line."""
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
    return f"{', '.join(f'{i}/ and {m}/' for i, m, _ in pairs)}"


def _pairs(root: Path) -> list[tuple[str, str, SplitName | None]]:
    """Folders of images and of masks that belong together, and the split that they give."""
    there = _folders(root)
    for images in (name for name in IMAGE_FOLDERS if name in there):
        for masks in (name for name in MASK_FOLDERS if name in there):
            found = _pairs_called(root, images, masks)
            if found and (masks == MASK_FOLDERS[0] or all(_holds_masks(root / at) for _, at, _ in found)):
                return found
    return []


def missing(root: Path) -> list[str]:
    """What is missing for image and mask folders, where `detect` finds none: each begins with the name of a folder."""
    there = {
        path.relative_to(root).as_posix(): path
        for at in (root, *(root / name for name in SPLITS if (root / name).is_dir()))
        for path in sorted(at.iterdir())
        if path.is_dir()
    }
    images = [name for name, path in there.items() if path.name in IMAGE_FOLDERS]
    masks = [name for name, path in there.items() if path.name in MASK_FOLDERS]
    if images and masks:
        empty = [name for name in masks if not _holds_masks(there[name])] or masks
        return [f"{name}/: holds no masks (png, bmp, tif) of the images in {images[0]}/" for name in empty]
    if images:
        return [f"{images[0].removesuffix(there[images[0]].name)}masks/: is missing beside {images[0]}/"]
    if masks:
        return [f"{masks[0].removesuffix(there[masks[0]].name)}images/: is missing beside {masks[0]}/"]
    return ["images/: is missing", "masks/: is missing"]


def _folders(root: Path) -> set[str]:
    """Names of the folders in the set, and in its folders of splits."""
    there = {path.name for path in root.iterdir() if path.is_dir()}
    inner = (path for name in SPLITS if name in there for path in (root / name).iterdir())
    return there | {path.name for path in inner if path.is_dir()}


def _holds_masks(folder: Path) -> bool:
    return any(path.suffix.lower() in MASK_SUFFIXES for path in folder.iterdir())


def _pairs_called(root: Path, images: str, masks: str) -> list[tuple[str, str, SplitName | None]]:
    """The same of folders with these names."""
    found: list[tuple[str, str, SplitName | None]] = []
    for name, split in SPLITS.items():
        for images_at, masks_at in ((f"{images}/{name}", f"{masks}/{name}"), (f"{name}/{images}", f"{name}/{masks}")):
            if (root / images_at).is_dir() and (root / masks_at).is_dir():
                found.append((images_at, masks_at, split))
    if (root / images).is_dir() and (root / masks).is_dir():
        bare = not any(at.startswith(f"{images}/") for at, _, _ in found)
        if bare or any(path.suffix.lower() in IMAGE_SUFFIXES for path in (root / images).iterdir()):
            return [(images, masks, None)]
    return found


def read(place: Place) -> Reading:
    """List and pair the files; nothing is opened."""
    samples: list[Sample] = []
    stems: set[str] = set()
    others: list[str] = []
    pairs = _pairs(place.root)
    lists = [(i, m, split, _list(place, i, IMAGE_SUFFIXES), _list(place, m, MASK_SUFFIXES)) for i, m, split in pairs]
    naming = common_naming(*({s for at in lists for s in at[k].by_stem} for k in (3, 4)))  # type: ignore[union-attr]
    if naming is not None:
        lists = [(i, m, split, images, _renamed(naming, images, masks)) for i, m, split, images, masks in lists]
        place.notes.append(f"Images and masks were paired by their names: {naming.example}.")
    every = [stem for *_, images, masks in lists for stem in images.by_stem.keys() | masks.by_stem.keys()]
    repeated = len(every) > len(set(every))
    for images_at, masks_at, split, images, masks in lists:
        outer, inner = Path(images_at).parts[0], Path(images_at).name
        prefix = f"{inner if outer in IMAGE_FOLDERS else outer}/"
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
    alone = sorted(pictures.by_stem.keys() - labels.by_stem.keys())
    files = [shown(pictures.by_stem[stem][0].name) for stem in alone]
    if len(alone) > ONE_BY_ONE:
        found = f"{images_at}/: {len(alone)} of {len(pictures.by_stem)} images have no mask of the same stem"
        theirs = some(sorted(shown(path.name) for paths in labels.by_stem.values() for path in paths), 2) or "nothing"
        place.problems.append(
            f"{found} ({some(files, 2)}); {masks_at}/ holds {theirs}: call the masks like their images, or add the "
            "missing ones"
        )
    else:
        place.problems += [
            f"{images_at}/{file}: has no mask; add {masks_at}/{shown(stem)}.png, or remove the image"
            for stem, file in zip(alone, files, strict=True)
        ]
    alone = sorted(labels.by_stem.keys() - pictures.by_stem.keys())
    files = [shown(labels.by_stem[stem][0].name) for stem in alone]
    if len(alone) > ONE_BY_ONE:
        place.problems.append(
            f"{masks_at}/: {len(alone)} of {len(labels.by_stem)} masks have no image of the same stem "
            f"({some(files, 2)}); call them like their images, or remove them"
        )
    else:
        place.problems += [
            f"{masks_at}/{file}: has no image; add {images_at}/{shown(stem)}.png (or .jpg), or remove the mask"
            for stem, file in zip(alone, files, strict=True)
        ]
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


def _renamed(naming: Naming, images: _Listing, masks: _Listing) -> _Listing:
    """The masks by the stems of their images; those without one keep their own."""
    stems = {naming.core_of_image(stem): stem for stem in images.by_stem}
    found = {stems.get(naming.core_of_mask(stem), stem): paths for stem, paths in masks.by_stem.items()}
    return _Listing(found, masks.others)


def mask_file(place: Place, path: Path) -> partial[Pixels]:
    """What makes the mask of a sample from a file of labels or colours."""
    return partial(_mask, path, place)


def _mask(path: Path, place: Place, size: Size | None) -> Pixels:
    return read_mask(path, place.colours)


def _files(place: Place) -> Iterator[Path]:
    return (path for *at, _ in _pairs(place.root) for folder in at for path in (place.root / folder).iterdir())


FORMAT = Format("images/ and masks/ with equal stems", detect, read, _files)
