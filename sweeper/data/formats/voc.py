"""Pascal VOC: `JPEGImages/`, `SegmentationClass/` (palette PNG, 255 = border), the lists of `ImageSets/Segmentation/`.

Names come from `classes.txt`, a map of colours (CVAT's `labelmap.txt`), `class_names.txt`, or are VOC's own twenty if
the images are VOC's.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from sweeper.data.formats.base import AnnotationFormat, DataSource, FormatLayout, ReadResult
from sweeper.data.formats.file_patterns import STEM, escape_pattern, list_pattern_files
from sweeper.data.formats.patterns import leave_out_unlabelled, pair_stems
from sweeper.data.open_image import IMAGE_SUFFIXES, MASK_SUFFIXES
from sweeper.data.text_tables import read_classes

MASKS = ("SegmentationClass", "SegmentationClassPNG")
VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_VOC_STEM = re.compile(r"20\d\d_\d{6}")


def find_voc(place: DataSource) -> FormatLayout | None:
    """Find the folders JPEGImages/ and SegmentationClass/, in the root or in VOC2012/ (or such) below it."""
    below = sorted([*place.root.glob("VOC*"), *place.root.glob("VOCdevkit/VOC*")])
    for base in (place.root, *below) if place.entry is None else ():
        for masks in MASKS:
            if (base / "JPEGImages").is_dir() and any(path.suffix == ".png" for path in (base / masks).glob("*.*")):
                line = f"Pascal VOC's {place.format_name(base / 'JPEGImages')}/ and {masks}/"
                return FormatLayout(line, partial(_read_voc, place, base, f"{masks}/"))
    return None


def _read_voc(place: DataSource, base: Path, masks_at: str) -> ReadResult:
    """Pair every mask with its image; images without a mask, which are for detection only, are left out."""
    below = "" if base == place.root else f"{escape_pattern(base.relative_to(place.root).as_posix())}/"
    images = list_pattern_files(place, f"{below}JPEGImages/{STEM}.*", IMAGE_SUFFIXES)
    masks = list_pattern_files(place, f"{below}{masks_at}{STEM}.*", MASK_SUFFIXES)
    images = leave_out_unlabelled(place, images, masks)
    samples = pair_stems(place, images, masks, lambda _: None)
    classes = _read_names(place, base, [one.stem for one in images])
    return ReadResult(samples, classes, indices=True, place=masks_at)


def _read_names(place: DataSource, base: Path, stems: list[str]) -> tuple[str, ...]:
    if place.names:
        return place.names
    for folder in dict.fromkeys((base, place.root)):
        if (path := place.find_file(folder / "class_names.txt")) is not None:
            return read_classes(path, place.problems) or ()
    if stems and all(_VOC_STEM.fullmatch(stem) for stem in stems):
        return VOC_NAMES
    return ()


FORMAT = AnnotationFormat("Pascal VOC's JPEGImages/ and SegmentationClass/", find_voc)
