"""Cityscapes' naming: `NAME_leftImg8bit.png` with `NAME_gtFine_labelTrainIds.png` or `NAME_gtFine_labelIds.png`.

Where an image has no fine labels, its coarse ones (`NAME_gtCoarse_labelIds.png`) are read.
Folders called train, val and test give the split; a city's folder is no group. Labels are taken as they are written,
255 = ignore. Where files are named as Cityscapes' own (`CITY_######_######`) and no classes.txt says otherwise, train
ids have its 19 names, and label ids that go beyond 6 are translated to train ids.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from itertools import product

import numpy as np

from sweeper.core.records import IGNORE, SplitName
from sweeper.data.decode import IMAGE_SUFFIXES, MASK_SUFFIXES, read_mask
from sweeper.data.formats.base import Format, Layout, Place, Reading, split_of
from sweeper.data.formats.file_patterns import STEM, Match, file_pattern
from sweeper.data.formats.patterns import listed, paired
from sweeper.data.store import Pixels
from sweeper.data.text_tables import UnreadableFileError, shown

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
_LABEL = re.compile(r"_gt(Fine|Coarse)_label(TrainIds|Ids)\.")
_LOOKED_AT = 8
"""Masks that tell whether label ids are Cityscapes' own."""


def find(place: Place) -> Layout | None:
    """Files of both suffixes."""
    files = place.files if place.entry is None else ()
    images = sum(path.stem.endswith(_IMAGE) for path in files)
    labels = sum(_LABEL.search(path.name) is not None for path in files)
    line = f"Cityscapes' naming ({images} *{_IMAGE}, {labels} *_gtFine_label…Ids)"
    return Layout(line, partial(_read, place)) if images and labels else None


def _read(place: Place) -> Reading:
    """Pair images and labels by what comes before the suffix."""
    for kind, apart in product(("TrainIds", "Ids"), (True, False)):
        texts = [
            f"{f'gt{quality}/' if apart else ''}**/{STEM}_gt{quality}_label{kind}.*" for quality in ("Fine", "Coarse")
        ]
        fine, coarse = (listed(place, text, MASK_SUFFIXES) for text in texts)
        if fine or coarse:
            break
    # Labels in gtFine/ and images in leftImg8bit/ lie in folders of the same names there.
    folder = "leftImg8bit/" if apart and (place.root / "leftImg8bit").is_dir() else ""
    images_text, masks_text = f"{folder}**/{STEM}{_IMAGE}.*", texts[not fine]
    images = listed(place, images_text, IMAGE_SUFFIXES)
    without = {one.stem for one in images} - {one.stem for one in fine}
    masks = [*fine, *(one for one in coarse if not fine or one.stem in without)]
    stems = {one.stem for one in masks}
    bare = [one for one in images if one.stem not in stems]
    if bare and all(_split(one) == "test" for one in bare):  # withheld by their makers
        place.tally.add("test image", "without labels, passed over", *(shown(one.stem) for one in bare))
        images = [one for one in images if one.stem in stems]
    table, names = _meaning(place, masks, train_ids=kind == "TrainIds")
    image, mask = file_pattern("", images_text), file_pattern("", masks_text)
    samples, _ = paired(place, (images, image), (masks, mask), _split, table=table, named=True)
    return Reading(samples, names, indices=True, place=f"*{_IMAGE}", mask_place=masks_text)


def _split(one: Match) -> SplitName | None:
    return split_of(one.below.split("/")[:-1])


def _meaning(place: Place, masks: Sequence[Match], *, train_ids: bool) -> tuple[Pixels | None, tuple[str, ...] | None]:
    """The train id of each label id, (256,), where these are to be translated, and the class names."""
    if place.classes is not None or not all(_OWN.fullmatch(one.stem) for one in masks):
        return None, place.classes
    if train_ids:
        return None, tuple(NAMES)
    highest = 0
    for one in masks[:: max(1, len(masks) // _LOOKED_AT)]:
        try:
            mask = read_mask(one.path)
        except UnreadableFileError:  # reported when it is decoded
            continue
        highest = max(highest, int(mask[mask != IGNORE].max(initial=0)))
    if not LABEL_IDS[0] <= highest <= LABEL_IDS[-1]:
        return None, None
    place.notes.append(
        "Label ids are read as Cityscapes' own and become its 19 train ids; write classes.txt where they are not."
    )
    table = np.full(256, IGNORE, dtype=np.uint8)
    table[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))
    return table, tuple(NAMES)


FORMAT = Format("files called *_leftImg8bit.png and *_gtFine_labelIds.png (or labelTrainIds)", find)
