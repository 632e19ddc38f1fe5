"""nnU-Net, 2-D: `dataset.json`, `imagesTr/CASE_0000.png` (one file per channel) and `labelsTr/CASE.png`.

`imagesTs/` and `labelsTs/` are the test split. The label `ignore` is 255. Both versions of `dataset.json` are read, and
regions, which are lists of labels, as a class map of classes that overlap.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from sweeper.core.records import IGNORE, SplitName
from sweeper.core.text import abbreviate
from sweeper.data.class_map import ClassMap
from sweeper.data.formats.annotation_files import explain_fault
from sweeper.data.formats.base import AnnotationFormat, DataSource, FormatLayout, ReadResult, Sample, drop_repeated
from sweeper.data.formats.file_patterns import STEM, PatternMatch, list_pattern_files
from sweeper.data.formats.patterns import pair_stems
from sweeper.data.open_image import IMAGE_SUFFIXES, MASK_SUFFIXES
from sweeper.data.store import Pixels
from sweeper.data.text_tables import UnreadableFileError, check_numbered_names, load_json

_VOLUMES = (".nii.gz", ".nii", ".mha", ".nrrd")
_NUMBERS = {*map(str, range(256))}
_SPLITS: dict[str, SplitName | None] = {"Tr": None, "Ts": "test"}
"""End of the names of two folders → split of their images."""


class NnunetDataset(BaseModel):
    """The part of dataset.json that is read: numbers of names, or names of numbers."""

    labels: dict[str, Any]


def find_nnunet(place: DataSource) -> FormatLayout | None:
    """Find the folders imagesTr/ and labelsTr/ with a dataset.json."""
    path = place.find_file(place.root / "dataset.json")
    has_folders = all((place.root / name).is_dir() for name in ("imagesTr", "labelsTr"))
    if path is None or not has_folders:
        return None
    if place.entry not in (None, path):
        return None
    return FormatLayout("nnU-Net's dataset.json, imagesTr/ and labelsTr/", partial(_read_nnunet, place, path))


def _read_nnunet(place: DataSource, path: Path) -> ReadResult:
    """Read dataset.json, and pair the files of each case."""
    names, table = _read_labels(place, path)
    samples: list[Sample] = []
    for end, split in _SPLITS.items():
        images, labels = f"images{end}", f"labels{end}"
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
    classes = place.classes or names
    return ReadResult(drop_repeated(place, samples), classes or (), indices=True, place="labelsTr/")


def _read_labels(place: DataSource, path: Path) -> tuple[tuple[str, ...] | None, Pixels]:
    """Return class names in order of their numbers, and the label of each number, (256,)."""
    table, pairs = np.arange(256, dtype=np.uint8), list[tuple[object, object]]()
    try:
        labels = NnunetDataset.model_validate(load_json(path)).labels
        if any(isinstance(value, list) for value in labels.values()):
            regions = {name: tuple(map(str, np.atleast_1d(numbers).tolist())) for name, numbers in labels.items()}
            place.class_map = _join_regions(regions, place.class_map)
            return None, table
        pairs = [(value, key) if isinstance(value, int) else (key, value) for key, value in labels.items()]
    except (UnreadableFileError, ValueError) as error:
        place.add_problem(path, explain_fault(error))
        return None, table
    ignored = [pair for pair in pairs if str(pair[1]).strip().lower() == "ignore"]
    table[[int(number) for number in (str(pair[0]) for pair in ignored) if number in _NUMBERS]] = IGNORE
    classes = [pair for pair in pairs if pair not in ignored]
    return check_numbered_names(f"{place.format_name(path)}: labels", classes, place.problems), table


def _join_regions(regions: ClassMap, class_map: ClassMap) -> ClassMap:
    """Return the regions, changed by a class map of their names; a class map of labels takes their place."""
    taken = {text for texts in class_map.values() for text in texts}
    if class_map and regions.keys().isdisjoint(taken):
        return class_map
    named = {
        name: tuple(dict.fromkeys(label for text in texts for label in regions.get(text, (text,))))
        for name, texts in class_map.items()
    }
    return {name: labels for name, labels in regions.items() if name not in taken} | named


def _list_cases(place: DataSource, images: str, labels: str, table: Pixels, split: SplitName | None) -> list[Sample]:
    """Return the cases of a folder: a mask, and the files of its channels in order."""
    inside = [name for name, _ in place.listing if name.startswith(f"{images}/")]
    volumes = [name for name in inside if name.endswith(_VOLUMES)]
    if volumes:
        place.problems.append(f"{images}/: images must be 2-D, found {abbreviate(volumes)}; export their slices")
    files = list_pattern_files(place, f"{images}/{STEM}_[0-9][0-9][0-9][0-9].*", IMAGE_SUFFIXES)
    masks = list_pattern_files(place, f"{labels}/{STEM}.*", MASK_SUFFIXES)
    channels: dict[str, list[PatternMatch]] = defaultdict(list)
    for one in files:
        channels[one.stem].append(one)
    samples = pair_stems(place, [of_case[0] for of_case in channels.values()], masks, lambda _: split, table)
    return [sample._replace(sources=tuple(one.path for one in channels[sample.stem])) for sample in samples]


FORMAT = AnnotationFormat("nnU-Net's dataset.json, imagesTr/ and labelsTr/ with 2-D images", find_nnunet)
