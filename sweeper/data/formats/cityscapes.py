"""Cityscapes' naming: `NAME_leftImg8bit.png` with `NAME_gtFine_labelTrainIds.png` or `NAME_gtFine_labelIds.png`.

Folders called train, val and test give the split; a city's folder is no group. Labels are taken as they are written,
255 = ignore. Where files are named as Cityscapes' own (`CITY_######_######`) and no classes.txt says otherwise, train
ids have its 19 names, and label ids that go beyond 6 are translated to train ids.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from sweeper.core.records import IGNORE
from sweeper.data.decode import IMAGE_SUFFIXES, UnreadableFileError, read_mask
from sweeper.data.formats.base import (
    Format,
    Place,
    Reading,
    Sample,
    Size,
    drop_repeated,
    note_passed_over,
    split_of,
    unique_stems,
)
from sweeper.data.store import Pixels
from sweeper.data.text_tables import Side, normal, shown

NAMES = [
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic_light",
    "traffic_sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
]
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The label id of each train id (cityscapesScripts, labels.py)."""
_OWN = re.compile(r"[a-z-]+_\d{6}_\d{6}")
_IMAGE = "_leftImg8bit"
_LABEL = re.compile(r"(?P<stem>.+)_gt(?:Fine|Coarse)_label(?P<kind>TrainIds|Ids)\.(?:png|tif|tiff|bmp)", re.IGNORECASE)
_LOOKED_AT = 8
"""Masks that tell whether label ids are Cityscapes' own."""


def detect(place: Place) -> str | None:
    """Whether there are files of both suffixes."""
    if place.entry is not None:
        return None
    images = sum(path.stem.endswith(_IMAGE) for path in place.files)
    labels = sum(_LABEL.fullmatch(path.name) is not None for path in place.files)
    return f"Cityscapes' naming ({images} *{_IMAGE}, {labels} *_gtFine_label…Ids)" if images and labels else None


def read(place: Place) -> Reading:
    """Pair images and labels by what comes before the suffix."""
    images: dict[tuple[str, str], Path] = {}
    labels: dict[str, dict[tuple[str, str], Path]] = {"trainids": {}, "ids": {}}
    for path in place.files:
        found = _LABEL.fullmatch(path.name)
        if found:
            labels[found["kind"].lower()][_key(place, path, found["stem"])] = path
        elif path.stem.endswith(_IMAGE) and path.suffix.lower() in IMAGE_SUFFIXES:
            images[_key(place, path, path.stem.removesuffix(_IMAGE))] = path
    kind = "trainids" if labels["trainids"] else "ids"
    masks = labels[kind]
    for key in sorted(masks.keys() - images.keys()):
        place.problems.append(f"{place.name(masks[key])}: has no image; add {shown(key[1])}{_IMAGE}.png, or remove it")
    bare = sorted(images.keys() - masks.keys())
    wanted = "_gtFine_labelTrainIds.png" if kind == "trainids" else "_gtFine_labelIds.png"
    if bare and all(key[0] == "test" for key in bare):  # withheld by their makers
        left = [shown(key[1]) for key in bare]
        note_passed_over(place, "test image without labels", "test images without labels", left)
    else:
        place.problems.extend(
            f"{place.name(images[key])}: has no mask; add {shown(key[1])}{wanted}, or remove the image" for key in bare
        )
    both = sorted(key for key in masks.keys() & images.keys() if _inside(place, images[key], masks[key]))
    translate, names = _meaning(place, [masks[key] for key in both], kind, both)
    stems = [key[1] for key in both]
    if len(set(stems)) < len(stems):
        stems = unique_stems(place, [images[key] for key in both])
    samples = [
        Sample(
            stem,
            place.name(images[key]),
            (images[key],),
            partial(_mask, masks[key], translate),
            place.name(masks[key]),
            Side(split_of([key[0]])),
        )
        for key, stem in zip(both, stems, strict=True)
    ]
    where = f"*{_IMAGE}"
    return Reading(drop_repeated(place, samples), names, indices=True, place=where, mask_place=f"*{wanted}")


def _inside(place: Place, *paths: Path) -> bool:
    return all(not path.is_symlink() or place.inside(path) for path in paths)


def _key(place: Place, path: Path, stem: str) -> tuple[str, str]:
    """The split that the folders give (empty without one) and the stem: equal for an image and its labels."""
    return split_of(path.relative_to(place.root).parts[:-1]) or "", normal(stem)


def _meaning(
    place: Place, masks: list[Path], kind: str, keys: list[tuple[str, str]]
) -> tuple[bool, tuple[str, ...] | None]:
    """Whether label ids are to be translated to train ids, and the class names."""
    own = bool(keys) and all(_OWN.fullmatch(stem) for _, stem in keys)
    if place.classes is not None or not own:
        return False, place.classes
    if kind == "trainids":
        return False, tuple(NAMES)
    highest = 0
    for path in masks[:: max(1, len(masks) // _LOOKED_AT)]:
        try:
            mask = read_mask(path)
        except UnreadableFileError:  # reported when it is decoded
            continue
        highest = max(highest, int(mask[mask != IGNORE].max(initial=0)))
    if not LABEL_IDS[0] <= highest <= LABEL_IDS[-1]:
        return False, None
    place.notes.append(
        "Label ids are read as Cityscapes' own and become its 19 train ids; write classes.txt where they are not."
    )
    return True, tuple(NAMES)


def _mask(path: Path, translate: bool, size: Size | None) -> Pixels:
    mask = read_mask(path)
    if not translate:
        return mask
    table = np.full(256, IGNORE, dtype=np.uint8)
    table[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))
    return table[mask]


FORMAT = Format("files called *_leftImg8bit.png and *_gtFine_labelIds.png (or labelTrainIds)", detect, read)
