"""nnU-Net, 2-D: `dataset.json`, `imagesTr/CASE_0000.png` (one file per channel) and `labelsTr/CASE.png`.

`imagesTs/` and `labelsTs/` are the test split. A label called `ignore` is 255. Both versions of
`dataset.json` are read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.core.records import IGNORE, SplitName
from sweeper.data.decode import IMAGE_SUFFIXES, MASK_SUFFIXES, UnreadableFileError, read_mask
from sweeper.data.formats.base import Format, Place, Reading, Sample, Size, drop_repeated, is_file
from sweeper.data.json_file import load_json
from sweeper.data.label_values import some
from sweeper.data.store import Pixels
from sweeper.data.text_tables import MAX_CLASSES, Side, normal, shown

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")
_NUMBER = re.compile(r"[0-9]{1,3}")
_FOLDERS: tuple[tuple[str, str, SplitName | None], ...] = (
    ("imagesTr", "labelsTr", None),
    ("imagesTs", "labelsTs", "test"),
)


def detect(place: Place) -> str | None:
    """Whether imagesTr/, labelsTr/ and dataset.json are there."""
    there = all((place.root / name).is_dir() for name in ("imagesTr", "labelsTr")) and _json(place) is not None
    return "nnU-Net's dataset.json, imagesTr/ and labelsTr/" if there else None


def _json(place: Place) -> Path | None:
    path = place.root / "dataset.json"
    return path if is_file(path) and place.entry in (None, path) else None


def read(place: Place) -> Reading:
    """Read dataset.json, and pair the files of each case."""
    path = _json(place)
    assert path is not None  # detected
    names, table = _labels(place, path)
    samples: list[Sample] = []
    for images, labels, split in _FOLDERS:
        if (place.root / images).is_dir() and (place.root / labels).is_dir():
            samples += _cases(place, images, labels, table, Side(split))
    channels = {len(sample.sources) for sample in samples}
    if len(channels) > 1:
        most = max(channels)
        place.problems.extend(
            f"{sample.name}: every case must have its {most} channel files, found {len(sample.sources)}; add the others"
            for sample in samples
            if len(sample.sources) < most
        )
    return Reading(
        drop_repeated(place, samples), place.classes or names, indices=True, place="imagesTr/", mask_place="labelsTr/"
    )


def _labels(place: Place, path: Path) -> tuple[tuple[str, ...] | None, dict[int, int]]:
    """Class names in order of their numbers, and the label that each number becomes."""
    try:
        data: Any = load_json(path) if place.inside(path) else {}
    except UnreadableFileError as error:
        place.problems.append(f"{place.name(path)}: {error}")
        return None, {}
    raw = data.get("labels") if isinstance(data, dict) else None
    pairs: dict[int, str] = {}
    for key, value in raw.items() if isinstance(raw, dict) else ():
        number, name = (value, key) if isinstance(value, int) else (key, value)
        if (
            not isinstance(name, str)
            or not name.strip()
            or not name.isprintable()
            or not _NUMBER.fullmatch(f"{number}")
        ):
            place.problems.append(
                f"{place.name(path)}: labels must be a name and a number each, found {shown(key)!r}: "
                f"{shown(value)[:60]!r} (regions of several labels cannot be read); write one number each"
            )
            return None, {}
        pairs[int(number)] = normal(name.strip())
    ignored = [number for number, name in pairs.items() if name.lower() == "ignore"]
    classes = {number: name for number, name in pairs.items() if number not in ignored}
    if sorted(classes) != [*range(len(classes))] or not 2 <= len(classes) <= MAX_CLASSES:
        place.problems.append(
            f"{place.name(path)}: labels must be numbered from 0 without gaps, 2 to {MAX_CLASSES} of them, found "
            f"{some([str(number) for number in sorted(classes)]) or 'none'}; mend it"
        )
        return None, {}
    if len(set(classes.values())) < len(classes):
        place.problems.append(f"{place.name(path)}: the names of labels must differ, found one twice; rename it")
        return None, {}
    return tuple(classes[number] for number in range(len(classes))), dict.fromkeys(ignored, IGNORE)


def _cases(place: Place, images: str, labels: str, table: dict[int, int], side: Side) -> list[Sample]:
    """The cases of a folder: a mask, and the files of its channels in order."""
    files: dict[str, list[Path]] = defaultdict(list)
    volumes = []
    for path in sorted((place.root / images).iterdir() if place.inside(place.root / images) else []):
        found = _CHANNEL.fullmatch(path.stem)
        if path.name.endswith((".nii.gz", ".nii", ".mha", ".nrrd")):
            volumes.append(place.name(path))
        elif found and path.suffix.lower() in IMAGE_SUFFIXES and _usable(place, path):
            files[normal(found["case"])].append(path)
    if volumes:
        place.problems.append(
            f"{images}/: images must be 2-D (png, tif, bmp), found volumes: {some(volumes)}; export their slices"
        )
    masks: dict[str, Path] = {}
    for path in sorted((place.root / labels).iterdir() if place.inside(place.root / labels) else []):
        if path.suffix.lower() in MASK_SUFFIXES and not path.name.startswith(".") and _usable(place, path):
            masks[normal(path.stem)] = path
    for case in sorted(files.keys() - masks.keys()):
        place.problems.append(f"{place.name(files[case][0])}: has no mask; add {labels}/{shown(case)}.png")
    for case in sorted(masks.keys() - files.keys()):
        place.problems.append(f"{place.name(masks[case])}: has no image; add {images}/{shown(case)}_0000.png")
    return [
        Sample(
            case,
            place.name(files[case][0]),
            tuple(files[case]),
            partial(_mask, masks[case], table),
            place.name(masks[case]),
            side,
        )
        for case in sorted(masks.keys() & files.keys())
    ]


def _usable(place: Place, path: Path) -> bool:
    return is_file(path) and (not path.is_symlink() or place.inside(path))


def _mask(path: Path, table: dict[int, int], size: Size | None) -> Pixels:
    mask = read_mask(path)
    for number, label in table.items():
        mask[mask == np.uint8(number)] = label
    return mask


FORMAT = Format("nnU-Net's dataset.json, imagesTr/ and labelsTr/ with 2-D images", detect, read)
