"""The common part of all formats: decode every image and its mask, check the whole set, fill the store.

All problems of the set are collected and raised at once, so that they can be fixed together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.core.errors import DataError
from sweeper.core.label_planes import LabelMap, choose_label_type, move_bits
from sweeper.core.records import IGNORE, Dataset, SplitName
from sweeper.core.text import format_count, is_unicode
from sweeper.data.class_map import MappedClasses, find_covered_labels, list_spans, map_classes
from sweeper.data.class_words import list_unnamed_labels, make_class_names, put_background_first
from sweeper.data.decode import NO_DATA, ColourMaskError, ImageKind, read_image, read_image_kind
from sweeper.data.formats.base import DataSource, ReadResult, Sample, Size
from sweeper.data.formats.other_tools import recognise_export
from sweeper.data.groups import group_sides
from sweeper.data.label_values import (
    MIN_OBJECT_NUMBERS,
    OBJECTS_STEP,
    READ,
    Counts,
    MaskNumbers,
    abbreviate,
    infer_meaning,
    number_objects,
)
from sweeper.data.make_dataset import assemble
from sweeper.data.mask_colours import find_palette_fault, join_colour_faults
from sweeper.data.open_image import silence_pillow
from sweeper.data.parallel import Tick, map_in_order
from sweeper.data.problem_lines import group_problems
from sweeper.data.store import ImagePixels, Pixels, StoreWriter, count_labels
from sweeper.data.text_tables import (
    SPLITS,
    SplitAssignment,
    UnreadableFileError,
    normalise_text,
    read_header,
    read_split_csv,
)
from sweeper.data.tiff import turn_upright
from sweeper.system.machine import check_room

MIN_IMAGES = 3
MOST_SHARED = 0.01
"""Share of the classes' pixels that may have several, if the user does not say what they are."""
LIST_FOLDERS = (".", "splits", "ImageSets", "ImageSets/Segmentation")
"""Folders that may contain lists of splits."""


@silence_pillow()
def read_dataset(
    place: DataSource, read: Callable[[], ReadResult], format_name: str, cache: Path, tick: Tick | None = None
) -> Dataset:
    """Decode the set in `place` into a store below `cache`.

    Args:
        place: the folder, with class names and map of colours already read, and problems found so far.
        read: lists its samples.
        format_name: the name of the format.
        cache: where the store is put, named by its digest.
        tick: called after each image, decoded or faulty.

    Raises:
        DataError: with every problem of the set.
    """
    problems = place.problems
    names_are_wrong = bool(problems)  # classes.txt or the map of colours is faulty: labels cannot be judged
    reading = read()
    samples = reading.samples
    if not (samples or place.patterns or reading.indices) and (export := recognise_export(place)) is not None:
        raise DataError(place.title, [export])
    problems.extend(
        f"{sample.name}: file names must be Unicode (UTF-8), found other bytes; rename it and its label"
        for sample in samples
        if not all(map(is_unicode, (sample.stem, *map(str, sample.sources))))
    )
    sides, grouped_by = _read_assignments(place, reading)
    kinds = _read_kinds(samples)
    channels, dtype = _choose_form(samples, kinds, place)
    pixels = sum(kind.height * kind.width for kind in filter(None, kinds))
    mask_dtype = choose_label_type(len(place.planes))
    check_room("the decoded images", cache, pixels * (channels * np.dtype(dtype).itemsize + mask_dtype.itemsize))
    with StoreWriter(cache, channels, dtype, mask_dtype) as writer:
        used, counts, sound = _decode_images(samples, kinds, writer, place, tick)
        join_colour_faults(place, samples)
        _check_overlaps(place, reading)
        classes: MappedClasses | None = None
        # Else the first fault would cause a second one.
        if used and not names_are_wrong and (reading.classes is not None or len(used) == len(samples)):
            classes = _infer_classes(place, reading, counts, [sample.mask_name for sample in used], writer)
        if sound < MIN_IMAGES:
            _report_too_few(place, reading, sound)
        if problems or classes is None:
            raise DataError(place.title, group_problems(problems))
        writer.finish()
        table = classes.table
        if (table != np.arange(256)).any():
            writer.relabel(partial(move_bits, table=table) if place.planes else table.__getitem__, table.dtype)
        dataset = assemble(
            writer,
            name=place.name_of_set,
            source=str(place.root),
            format_name=format_name,
            classes=classes.names,
            is_multilabel=classes.has_planes,
            stems=[sample.stem for sample in used],
            sides=[sides[sample.stem] for sample in used],
            turns=[place.open_turns.get(sample.stem, 1) for sample in used],
            warnings=[*place.notes, *place.tally.format_sentences()],
        )
    labelled = dataset.count_labelled_pixels()
    counted = zip(dataset.classes, dataset.count_class_pixels(), strict=True)
    ends = [name for name, count in counted if count in (0, labelled)] * bool(dataset.planes)
    rule = f"{reading.mask_place}: a class must have some of the pixels, found one with none or all"
    DataError.refuse(place.title, [f"{rule}, {name}; leave it out, or add images" for name in ends])
    return dataset.model_copy(update={"grouped_by": grouped_by})


def _check_overlaps(place: DataSource, reading: ReadResult) -> None:
    """Add the problem of classes that overlap, where the user did not say what pixels of several of them are."""
    shared, covered = np.sum([(0, 0), *place.overlaps], axis=0)
    if place.overlap is None and shared > MOST_SHARED * covered:
        problem = (
            f"{reading.mask_place}: classes must hardly overlap, found {100 * shared / covered:.2g} % of their pixels "
            "in several; `echo 'overlap: keep' > overlap.yaml`, then --class-map overlap.yaml keeps all classes of a "
            "pixel, `overlap: flatten` one"
        )
        ways = filter(None, (problem, place.describe_way_out()))
        place.problems.append("; or, if these are drawings of the same, ".join(ways))


def _report_too_few(place: DataSource, reading: ReadResult, sound: int) -> None:
    """Add the problem of too few sound images, unless there are no samples, for a reason that is already a problem."""
    problem = (
        f"{reading.place}: at least {MIN_IMAGES} usable images with masks are needed (one each to train, validate and "
        f"test), found {sound}; add more or fix the others"
    )
    if reading.samples:
        place.problems.append(problem)
    elif not place.problems:
        place.problems.append("; or see: ".join([problem, *place.tally.format_sentences()]))


def _infer_classes(
    place: DataSource, reading: ReadResult, counts: Counts, files: Sequence[str], writer: StoreWriter
) -> MappedClasses | None:
    """Return the classes' names, and the label of each number in masks, (256,); None, and problems, if it has none.

    The numbers have these counts, (n, 256); the writer has the images, if there was no problem yet.
    """
    names, where, problems, before = reading.classes, reading.mask_place, place.problems, len(place.problems)
    if place.planes:
        planes = MappedClasses(place.planes, np.arange(256, dtype=np.uint8), "", has_planes=True)
        return planes if place.class_map is None else _map_classes(place, ("background", *place.planes), counts, files)
    is_known = reading.indices or place.tally.has_warning("mask", NO_DATA)
    meaning = infer_meaning(
        MaskNumbers(
            counts,
            files,
            where,
            sorted(place.lossy),
            is_known=is_known or (IGNORE, IGNORE) in list_spans(place.class_map),
            is_named=names is not None or place.class_map is not None,
            may_be_binary=len(names or ()) <= 2,
        )
    )
    covered = find_covered_labels(place.class_map)
    table = np.where(covered, np.arange(256, dtype=np.uint8), meaning.labels)
    counts = _move_label_counts(counts, table)
    if place.class_map is None and not problems:
        problems += _find_objects(place, reading, counts, writer)
    if meaning.score >= READ:
        place.notes += filter(None, [meaning.sentence])
    elif len(problems) == before and not covered.any():
        problems.append(meaning.sentence)
    if len(problems) > before:
        return None
    if place.class_map is not None:
        mapped = _map_classes(place, names, counts, files)
        if mapped is None or mapped.has_planes:
            return mapped and mapped._replace(table=mapped.table[table])
        names, counts, table = mapped.names, _move_label_counts(counts, mapped.table), mapped.table[table]
    highest = np.flatnonzero(counts[:, :IGNORE].any(axis=0)).max(initial=0)
    names, moved = put_background_first(names or make_class_names(int(highest) + 1), place.notes)
    counts, table = _move_label_counts(counts, moved), moved[table]
    _check_labels(place, where, counts, names, files)
    return MappedClasses(names, table, "", has_planes=False)


def _map_classes(
    place: DataSource, names: tuple[str, ...] | None, counts: Counts, files: Sequence[str]
) -> MappedClasses | None:
    """Return what the user's class map makes of the classes, and note it; None, and problems, if that is nothing."""
    assert place.class_map is not None
    has_planes = bool(place.planes)
    mapped = map_classes(place.class_map, names, counts, files, problems=place.problems, has_planes=has_planes)
    place.notes += [mapped.line] if mapped else []
    return mapped


def _find_objects(place: DataSource, reading: ReadResult, counts: Counts, writer: StoreWriter) -> list[str]:
    """Return the problem of masks that number their objects; note a few numbers, which may be classes."""
    has_unnamed = counts[:, len(reading.classes or ()) : IGNORE].any()
    highest = number_objects(counts, writer.finish()) if has_unnamed else 0
    line = (
        f"{reading.mask_place}: numbers must be classes, found 1 to {highest}, which look like objects that are "
        "numbered in each image (each is connected, and neither look nor place follows from it); "
        f"{OBJECTS_STEP}; where they are classes, name them in classes.txt, one a line"
    )
    if highest >= MIN_OBJECT_NUMBERS:
        return [line]
    place.notes += [line] if highest else []
    return []


def _check_labels(place: DataSource, where: str, counts: Counts, names: Sequence[str], files: Sequence[str]) -> None:
    """Add a problem of labels, (n, 256), that are beyond the names; without problems, one if fewer than two occur."""
    place.problems += list_unnamed_labels(counts, files, names)
    used = np.flatnonzero(counts[:, :IGNORE].any(axis=0))
    if len(used) < 2 and not place.problems:  # else these may be the cause
        occurring = f"label {used[0]} alone" if len(used) else "no labelled pixel"
        if counts[:, IGNORE].any():
            occurring += " and 255, which is ignored (`foreground: 255` in a class map makes it a class)"
        problem = f"{where}: at least two classes must occur, found {occurring}; add images that show another"
        place.problems.append("; or see: ".join([problem, *place.tally.format_sentences()]))


def _move_label_counts(counts: Counts, table: Pixels) -> Counts:
    """Return the pixels of each label, (n, 256), after replacing each label by that of `table`."""
    moved = np.zeros_like(counts)
    for old, new in enumerate(table):
        moved[:, new] += counts[:, old]
    return moved


def _read_assignments(place: DataSource, reading: ReadResult) -> tuple[dict[str, SplitAssignment], str | None]:
    """Return split and group of each image, and the source of the groups: `split.csv` if it exists, else the format."""
    sides = {sample.stem: sample.side for sample in reading.samples}
    has_splits = any(side.split for side in sides.values())
    path = place.find_file(place.root / "split.csv")
    if path is not None:
        if has_splits:
            place.notes.append("split.csv decides the split; the one that the annotations give is not used.")
        rows = read_split_csv(path, sorted(sides), place.problems)
        sides = {stem: rows.get(stem, SplitAssignment()) for stem in sides}
        return group_sides(place, reading.samples, sides, path.name if "group" in read_header(path) else None)
    if not has_splits:
        tables = [path for path in place.files if path.parent == place.root and path.suffix.lower() == ".csv"]
        unread = {place.format_name(path) for path in tables if "split" in read_header(path)} - {reading.place}
        place.notes += [
            f"{name} has a column split, which is not read: that of split.csv is." for name in sorted(unread)
        ]
        listed = _read_split_lists(place, reading.samples)
        sides = {stem: side._replace(split=listed.get(stem)) for stem, side in sides.items()}
    if len(splits := {side.split for side in sides.values()}) == 1 and splits <= {"val", "test"}:
        place.notes.append(f"All images are of the split {splits.pop()}, by their folder: they are divided again.")
        sides = {stem: side._replace(split=None) for stem, side in sides.items()}
    by = "the annotations" if any(side.group for side in sides.values()) else None
    return group_sides(place, reading.samples, sides, by)


def _read_split_lists(place: DataSource, samples: Sequence[Sample]) -> dict[str, SplitName]:
    """Return the split of images in lists: train.txt, val.txt and test.txt next to the images' folders.

    The first word of a line names an image by the end of its path, with or without extension. Lines that name no
    image, or several, are passed over; if all lines of a file are, it is no list.
    """
    stems_by_end: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        for end in (*_list_ends(sample.name.rpartition(".")[0]), *_list_ends(sample.stem)):
            stems_by_end[end].add(sample.stem)

    def find_stem(line: str) -> str | None:
        word = line.split(maxsplit=1)[0].replace("\\", "/")
        ends = (end for text in (word, word.rpartition(".")[0]) for end in _list_ends(text))
        stems = next((stems_by_end[end] for end in ends if end in stems_by_end), set())
        return next(iter(stems)) if len(stems) == 1 else None

    splits: dict[str, SplitName] = {}
    used: list[str] = []
    bases = dict.fromkeys((place.root, *(place.root / Path(sample.name).parent.parent for sample in samples)))
    for path in (base / folder / f"{name}.txt" for base in bases for folder in LIST_FOLDERS for name in SPLITS):
        stems = {line: find_stem(line) for line in map(normalise_text, place.read_lines(path)) if line.strip()}
        unknown = [line.split()[0] for line, stem in stems.items() if stem is None]
        if unknown:
            use = "is not read as a split: it names" if len(unknown) == len(stems) else "is read without"
            what = f"{abbreviate(unknown, 2)}, which is not exactly one image"
            place.notes.append(f"{place.format_name(path)} {use} {what}.")
        for stem in filter(None, stems.values()):
            if (first := splits.setdefault(stem, SPLITS[path.stem])) != SPLITS[path.stem]:
                fault = f"{stem} must be in one list, found it in that of {first}, too; remove one"
                place.add_problem(path, fault)
        used += [place.format_name(path)] if len(unknown) < len(stems) else []
    if used:
        rest = f"; {len(samples) - len(splits)} others are divided" if len(splits) < len(samples) else ""
        place.notes.append(f"{', '.join(used)} give the split of {format_count(len(splits), 'image')}{rest}.")
    return splits


def _list_ends(path: str) -> list[str]:
    """Return a path without its first folders, from the whole path to the name alone."""
    parts = path.split("/")
    return ["/".join(parts[begin:]) for begin in range(len(parts))]


def _read_kinds(samples: Sequence[Sample]) -> list[ImageKind | None]:
    """Read the header of each sample, with its channels added up; None if one is unreadable."""

    def kind(sample: Sample) -> ImageKind | None:
        try:
            kinds = [read_image_kind(source) for source in sample.sources]
        except UnreadableFileError:  # reported when it is decoded
            return None
        bits = min(each.bits for each in kinds)
        return kinds[0]._replace(channels=sum(each.channels for each in kinds), bits=bits)

    return list(map_in_order(kind, samples))


def _choose_form(samples: Sequence[Sample], kinds: Sequence[ImageKind | None], place: DataSource) -> tuple[int, Any]:
    """Return the number of channels of the whole set, and np.uint8 or np.uint16.

    One channel if all images are grey, three if they are grey or RGB, else the most common number; 16 bits if all
    images have them.
    """
    readable = [(sample, kind) for sample, kind in zip(samples, kinds, strict=True) if kind is not None]
    bands = Counter(kind.channels for _, kind in readable)
    deep = [sample.name for sample, kind in readable if kind.bits == 16]
    all_deep = bool(readable) and len(deep) == len(readable)
    if not all_deep:
        place.tally.add("image", "with 16 bits per pixel, unlike the others, reduced to the high byte", *deep)
    are_plain = bands.keys() <= {1, 3}
    channels = max(bands, default=3) if are_plain else bands.most_common(1)[0][0]
    place.problems.extend(
        f"{sample.name}: images must have the same number of channels, found {kind.channels} where "
        f"{bands[channels]} have {channels}; export them alike"
        for sample, kind in readable
        if kind.channels not in ((1, 3) if are_plain else (channels,))
    )
    return channels, np.uint16 if all_deep else np.uint8


def _decode_images(
    samples: Sequence[Sample],
    kinds: Sequence[ImageKind | None],
    writer: StoreWriter,
    place: DataSource,
    tick: Tick | None,
) -> tuple[list[Sample], Counts, int]:
    """Write the images; return samples with readable masks, pixels of each value (n, 256), and number of sound samples.

    After the first problem nothing more is written, but all samples are still checked.
    """

    def cost(pair: tuple[Sample, ImageKind | None]) -> int:
        kind = pair[1]
        return 0 if kind is None else kind.height * kind.width * (kind.channels * writer.dtype.itemsize + 1)

    used, counts, sound = [], [], 0
    work = partial(_read_sample, writer.channels, writer.dtype.type, place)
    results = map_in_order(work, list(zip(samples, kinds, strict=True)), cost=cost)
    for number, sample in enumerate(samples, 1):
        image = mask = None  # free the last one, which may be large, while waiting for the next
        image, mask, faults = next(results)
        if tick is not None:
            tick(number, len(samples))
        place.problems += faults
        sound += not faults
        if mask is None:
            continue
        # Labels are judged even if the image is faulty, so that both faults are reported.
        used.append(sample)
        counts.append(count_labels(mask, len(place.planes)))
        if not place.problems and image is not None:
            writer.append(image, mask)
    find_palette_fault(place)
    table: Counts = np.array(counts, dtype=np.int64).reshape(-1, 256)
    return used, table, sound


def _read_sample(
    channels: int, dtype: Any, place: DataSource, pair: tuple[Sample, ImageKind | None]
) -> tuple[ImagePixels | None, LabelMap | None, list[str]]:
    """Return image, mask and faults of one sample."""
    sample, kind = pair
    image: ImagePixels | None = None
    mask = None
    faults = []
    try:
        sample_channels = channels if kind is None or kind.channels in (1, 3) else kind.channels
        image = _stack_sources(sample, sample_channels, dtype)
    except UnreadableFileError as error:
        faults.append(f"{sample.name}: {error}")
    try:
        mask = sample.mask(None if image is None else (image.shape[0], image.shape[1]))
    except UnreadableFileError as error:
        faults.append(f"{sample.mask_name}: {error}")
        if isinstance(error, ColourMaskError):
            place.colour_faults[sample.mask_name] = error
    if image is not None and mask is not None:
        turn = 1 if kind is None else kind.orientation
        mask, fault = _fit_label(place, sample, mask, (image.shape[0], image.shape[1]), turn)
        faults += [fault] if fault else []
    return image, mask, faults


def _fit_label(place: DataSource, sample: Sample, mask: LabelMap, size: Size, turn: int) -> tuple[LabelMap, str]:
    """Return the mask for an upright image of this (height, width), turned if need be, and its fault, else "".

    `turn` is the image's EXIF orientation.
    """
    (height, width), is_square = size, size[0] == size[1]
    is_lying = mask.shape == (width, height) and not is_square
    if turn > 4 and is_lying:
        place.tally.add("label", "drawn before its image's EXIF orientation, and turned by it", sample.mask_name)
        return np.ascontiguousarray(turn_upright(mask, turn)), ""
    if mask.shape != size:
        cause = "" if turn == 1 else f" by its EXIF orientation {turn}"
        step = "it seems turned by 90°: turn it back" if is_lying else "export the mask again at that size"
        return mask, (
            f"{sample.mask_name}: must have its image's size {width}×{height} (upright{cause}), found "
            f"{mask.shape[1]}×{mask.shape[0]}; {step}, without resizing smoothly "
            "(docs/formats.md#masks-of-another-size has the lines that do)"
        )
    may_be_turned = turn < 5 or is_square
    if turn > 1 and (may_be_turned or not sample.is_sized):
        if may_be_turned:
            place.open_turns[sample.stem] = turn
        compared = ", which `sweeper profile` compares with edges" if may_be_turned else ""
        place.tally.add(
            "image",
            "with an EXIF orientation that sizes cannot check; "
            f"labels are read as drawn on the upright image{compared}",
            sample.name,
        )
    return mask, ""


def _stack_sources(sample: Sample, channels: int, dtype: Any) -> ImagePixels:
    """Return the image's sources as one array, (H, W, channels)."""
    if len(sample.sources) == 1:
        return read_image(sample.sources[0], channels, dtype)
    parts = [read_image(source, read_image_kind(source).channels, dtype) for source in sample.sources]
    sizes = {part.shape[:2] for part in parts}
    if len(sizes) > 1:
        sizes_text = ", ".join(f"{width}×{height}" for height, width in sorted(sizes))
        raise UnreadableFileError(
            f"the files of an image's channels must have one size, found {sizes_text}; export them alike"
        )
    return np.concatenate(parts, axis=2)
