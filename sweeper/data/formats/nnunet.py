"""nnU-Net, 2-D: `dataset.json`, `imagesTr/CASE_0000.png` (one file per channel) and `labelsTr/CASE.png`.

`imagesTs/` and `labelsTs/` are the test split. The label `ignore` is 255. Both versions of `dataset.json` are read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.core.records import IGNORE, SplitName
from sweeper.data.formats.base import AnnotationFormat, DataSource, FormatLayout, ReadResult, Sample, drop_repeated
from sweeper.data.formats.file_patterns import STEM, PatternMatch, find_masks
from sweeper.data.formats.patterns import list_pattern_files, pair_files
from sweeper.data.label_values import abbreviate
from sweeper.data.open_image import IMAGE_SUFFIXES, MASK_SUFFIXES
from sweeper.data.store import Pixels
from sweeper.data.text_tables import MAX_CLASSES, UnreadableFileError, load_json, normalise_text

_VOLUMES = (".nii.gz", ".nii", ".mha", ".nrrd")
_NUMBER = re.compile(r"[0-9]{1,3}")
_FOLDERS: tuple[tuple[str, str, SplitName | None], ...] = (
    ("imagesTr", "labelsTr", None),
    ("imagesTs", "labelsTs", "test"),
)


def find_nnunet(place: DataSource) -> FormatLayout | None:
    """Find the folders imagesTr/ and labelsTr/ with a dataset.json."""
    path = place.find_file(place.root / "dataset.json")
    has_folders = all((place.root / name).is_dir() for name in ("imagesTr", "labelsTr"))
    if path is None or not has_folders or place.entry not in (None, path):
        return None
    return FormatLayout("nnU-Net's dataset.json, imagesTr/ and labelsTr/", partial(_read_nnunet, place, path))


def _read_nnunet(place: DataSource, path: Path) -> ReadResult:
    """Read dataset.json, and pair the files of each case."""
    names, table = _read_labels(place, path)
    samples: list[Sample] = []
    for images, labels, split in _FOLDERS:
        if (place.root / images).is_dir() and (place.root / labels).is_dir():
            samples += _list_cases(place, images, labels, table, split)
    channels = {len(sample.sources) for sample in samples}
    if len(channels) > 1:
        most = max(channels)
        place.problems.extend(
            f"{sample.name}: every case must have its {most} channel files, found {len(sample.sources)}; add the others"
            for sample in samples
            if len(sample.sources) < most
        )
    return ReadResult(
        drop_repeated(place, samples), place.classes or names, indices=True, place="imagesTr/", mask_place="labelsTr/"
    )


def _read_labels(place: DataSource, path: Path) -> tuple[tuple[str, ...] | None, Pixels]:
    """Return class names in order of their numbers, and the label of each number, (256,)."""
    try:
        return _read_numbered_labels(load_json(path))
    except UnreadableFileError as error:
        place.add_problem(path, error)
        return None, np.arange(256, dtype=np.uint8)


def _read_numbered_labels(data: Any) -> tuple[tuple[str, ...], Pixels]:
    """Return class names and labels from the content of a dataset.json.

    Raises:
        UnreadableFileError: invalid labels, with rule, value found and next step.
    """
    raw = data.get("labels") if isinstance(data, dict) else None
    pairs: dict[int, str] = {}
    for key, value in raw.items() if isinstance(raw, dict) else ():
        number, name = (value, key) if isinstance(value, int) else (key, value)
        name = normalise_text(name.strip()) if isinstance(name, str) else ""
        if not name or not name.isprintable() or not _NUMBER.fullmatch(f"{number}"):
            raise UnreadableFileError(
                f"labels must be a name and a number each, found {key!r}: "
                f"{str(value)[:60]!r} (regions of several labels cannot be read); write one number each"
            )
        pairs[int(number)] = name
    ignored = [number for number, name in pairs.items() if name.lower() == "ignore" and number <= IGNORE]
    classes = {number: name for number, name in pairs.items() if name.lower() != "ignore"}
    names = tuple(classes[number] for number in sorted(classes))
    if sorted(classes) != [*range(len(names))] or not 2 <= len(names) <= MAX_CLASSES or len({*names}) < len(names):
        labels = abbreviate([f"{number} {name}" for number, name in sorted(classes.items())])
        raise UnreadableFileError(
            f"labels must be numbered from 0 without gaps, 2 to {MAX_CLASSES} of them with different names, found "
            f"{labels or 'none'}; correct them"
        )
    table = np.arange(256, dtype=np.uint8)
    table[ignored] = IGNORE
    return names, table


def _list_cases(place: DataSource, images: str, labels: str, table: Pixels, split: SplitName | None) -> list[Sample]:
    """Return the cases of a folder: a mask, and the files of its channels in order."""
    volumes = [name for name, _ in place.listing if name.startswith(f"{images}/") and name.endswith(_VOLUMES)]
    if volumes:
        place.problems.append(
            f"{images}/: images must be 2-D (png, tif, bmp), found volumes: {abbreviate(volumes)}; export their slices"
        )
    files = list_pattern_files(place, f"{images}/{STEM}_[0-9][0-9][0-9][0-9].*", IMAGE_SUFFIXES)
    masks = list_pattern_files(place, f"{labels}/{STEM}.*", MASK_SUFFIXES)
    channels: dict[str, list[PatternMatch]] = defaultdict(list)
    for one in files.files:
        channels[one.stem].append(one)
    first = files._replace(files=[of_case[0] for of_case in channels.values()])
    samples, _ = pair_files(
        place, first.files, masks.files, find_masks(first, masks), lambda _: split, table=table, named=True
    )
    return [sample._replace(sources=tuple(one.path for one in channels[sample.stem])) for sample in samples]


FORMAT = AnnotationFormat("nnU-Net's dataset.json, imagesTr/ and labelsTr/ with 2-D images", find_nnunet)
