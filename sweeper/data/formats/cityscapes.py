"""Cityscapes' naming: `NAME_leftImg8bit.png` with `NAME_gtFine_labelTrainIds.png` or `NAME_gtFine_labelIds.png`.

Folders named train, val and test define the split; a test split without any label is left out, as Cityscapes withholds
these. Labels are used as stored, 255 = ignore. If all files are named like Cityscapes' own (`CITY_######_######`) and
there is no classes.txt, train ids get its 19 names, and label ids are translated to train ids. Coarse labels are not
read.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial

import numpy as np

from sweeper.core.records import IGNORE
from sweeper.data.decode import read_mask
from sweeper.data.formats.base import AnnotationFormat, DataSource, FormatLayout, ReadResult
from sweeper.data.formats.file_patterns import STEM, Matches, PatternMatch, list_pattern_files
from sweeper.data.formats.patterns import leave_out_unlabelled, pair_stems, split_by_folder
from sweeper.data.label_values import AS_STORED
from sweeper.data.open_image import IMAGE_SUFFIXES, MASK_SUFFIXES
from sweeper.data.store import Pixels
from sweeper.data.text_tables import UnreadableFileError

NAMES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic_light", "traffic_sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The label id of each train id (cityscapesScripts, labels.py)."""
_OWN = re.compile(r"[a-z-]+_\d{6}_\d{6}")
_IMAGES = f"**/{STEM}_leftImg8bit.*"
_MASKS = {kind: f"**/{STEM}_gtFine_label{kind}.*" for kind in ("TrainIds", "Ids")}
_LABEL = re.compile(r"_gt(Fine|Coarse)_label(TrainIds|Ids)\.")

_LOOKED_AT = 8
"""Masks by which label ids are recognised as Cityscapes' own; of more every n-th, fewer than twice this number."""


def find_cityscapes(place: DataSource) -> FormatLayout | None:
    """Find files with both suffixes."""
    files = place.list_candidates("")
    images = sum(path.stem.endswith("_leftImg8bit") for path in files)
    labels = sum(_LABEL.search(path.name) is not None for path in files)
    if not images or not labels:
        return None
    line = f"Cityscapes' naming ({images} *_leftImg8bit, {labels} *_gt…_label…Ids)"
    return FormatLayout(line, partial(_read_cityscapes, place))


def _read_cityscapes(place: DataSource) -> ReadResult:
    """Pair images and labels by the name before the suffix; unlabelled test images are left out."""
    found = {kind: list_pattern_files(place, text, MASK_SUFFIXES) for kind, text in _MASKS.items()}
    kind = next((kind for kind, masks in found.items() if masks), "Ids")
    masks = found[kind]
    if not masks:
        place.problems.append(
            f"*_gtFine_labelIds.png: must be there, found coarse labels alone; name these with --images '{_IMAGES}' "
            f"--masks '**/{STEM}_gtCoarse_labelIds.png'"
        )
    images = leave_out_unlabelled(place, list_pattern_files(place, _IMAGES, IMAGE_SUFFIXES), masks)
    table, names = _read_meaning(place, masks, train_ids=kind == "TrainIds")
    tested = [one for one in masks if split_by_folder(one) == "test"]
    if len(tested) < len(masks) and not any(_has_labels(one, table) for one in tested):
        left = {one.stem for one in tested}
        place.tally.add("image", "of a test split without any label, passed over", *left)
        images, masks = ([one for one in files if one.stem not in left] for files in (images, masks))
    samples = pair_stems(place, images, masks, split_by_folder, table)
    return ReadResult(samples, names, indices=True, place=_MASKS[kind])


def _has_labels(one: PatternMatch, table: Pixels) -> bool:
    """Return whether a mask has a pixel that is not ignored, or is unreadable, which decoding reports."""
    with suppress(UnreadableFileError):
        return bool((table[read_mask(one.path)] != IGNORE).any())
    return True


def _read_meaning(place: DataSource, masks: Matches, *, train_ids: bool) -> tuple[Pixels, tuple[str, ...]]:
    """Return the label of each number in masks, (256,), and the class names."""
    if place.classes or not all(_OWN.fullmatch(one.stem) for one in masks):
        return AS_STORED, place.classes or ()
    if train_ids:
        return AS_STORED, NAMES
    highest = 0
    for one in masks[:: max(1, len(masks) // _LOOKED_AT)]:
        with suppress(UnreadableFileError):  # reported when it is decoded
            mask = read_mask(one.path)
            highest = max(highest, int(mask[mask != IGNORE].max(initial=0)))
    if not LABEL_IDS[0] <= highest <= LABEL_IDS[-1]:
        return AS_STORED, ()
    place.notes.append(
        "Label ids are read as Cityscapes' own and become its 19 train ids; write classes.txt where they are not."
    )
    table = np.full(256, IGNORE, dtype=np.uint8)
    table[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))
    return table, NAMES


FORMAT = AnnotationFormat(
    "files called *_leftImg8bit.png and *_gtFine_labelIds.png (or labelTrainIds)", find_cityscapes
)
