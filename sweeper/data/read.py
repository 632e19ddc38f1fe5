"""The common part of all formats: decode every image and its mask, check the whole set, fill the store.

All problems of the set are collected and raised at once, so that they can be fixed together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.core.errors import DataError
from sweeper.core.label_planes import LabelMap, choose_label_type, move_bits
from sweeper.core.records import Dataset
from sweeper.core.text import is_unicode
from sweeper.data.class_map import MappedClasses
from sweeper.data.class_words import list_alike_names
from sweeper.data.decode import ColourMaskError, ImageKind, read_image, read_image_kind
from sweeper.data.formats.base import DataSource, ReadResult, Sample, Size
from sweeper.data.formats.unread import explain_unread
from sweeper.data.groups import assign_images
from sweeper.data.infer_classes import check_masks, infer_classes, list_flat_classes
from sweeper.data.label_values import Counts
from sweeper.data.make_dataset import assemble
from sweeper.data.open_image import silence_pillow, turn_upright
from sweeper.data.parallel import Tick, map_in_order
from sweeper.data.problem_lines import group_problems
from sweeper.data.store import ImagePixels, StoreWriter, count_labels
from sweeper.data.text_tables import UnreadableFileError, point_to_lines
from sweeper.system.machine import check_room

MIN_IMAGES = 3


@silence_pillow()
def read_dataset(
    place: DataSource, read: Callable[[], ReadResult], format_name: str, cache: Path, tick: Tick
) -> Dataset:
    """Decode the samples that `read` lists into a store below `cache`; `tick` is called after each, even if faulty.

    The place has class names and map of colours already, and the problems found so far.

    Raises:
        DataError: with every problem of the set.
    """
    problems = place.problems
    names_are_wrong = bool(problems)  # classes.txt or the map of colours is faulty: labels cannot be judged
    reading = read()
    samples = reading.samples
    _check_samples(place, reading)
    sides, grouped_by = assign_images(place, reading)
    kinds = [*map_in_order(_read_kind, samples)]
    channels, dtype = _choose_form(samples, kinds, place)
    pixels = sum(kind.height * kind.width for kind in kinds)
    mask_dtype = choose_label_type(len(place.planes))
    check_room("the decoded images", cache, pixels * (channels * np.dtype(dtype).itemsize + mask_dtype.itemsize))
    with StoreWriter(cache, channels, dtype, mask_dtype) as writer:
        used, counts, sound = _decode_images(samples, kinds, writer, place, tick)
        check_masks(place, reading)
        classes: MappedClasses | None = None
        has_labels = bool(used) and not names_are_wrong
        are_complete = bool(reading.classes) or len(used) == len(samples)
        if has_labels and are_complete:  # else the first fault would cause a second one
            classes = infer_classes(place, reading, counts, [sample.mask_name for sample in used], writer)
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
            sides=sides,
            turns=place.open_turns,
            warnings=[*place.notes, *list_alike_names(classes.names), *place.tally.format_sentences()],
        )
    if dataset.planes:
        counted = dataset.count_class_pixels(), dataset.count_labelled_pixels()
        DataError.refuse(place.title, [*list_flat_classes(reading, dataset.classes, *counted)])
    return dataset.model_copy(update={"grouped_by": grouped_by})


def _check_samples(place: DataSource, reading: ReadResult) -> None:
    """Refuse a set of which nothing is read; add the problem of each name that is no Unicode."""
    if not (reading.samples or place.problems):
        raise DataError(place.title, [explain_unread(place)])
    place.problems.extend(
        f"{sample.name}: file names must be Unicode (UTF-8), found other bytes; rename it and its label"
        for sample in reading.samples
        if not all(map(is_unicode, (sample.stem, *map(str, sample.sources))))
    )


def _report_too_few(place: DataSource, reading: ReadResult, sound: int) -> None:
    """Add the problem of too few sound images, unless there are no samples, for a reason that is already a problem."""
    if reading.samples:
        place.problems.append(
            f"{reading.place}: at least {MIN_IMAGES} usable images with masks are needed (one each to train, validate "
            f"and test), found {sound}; add more or fix the others"
        )


def _read_kind(sample: Sample) -> ImageKind:
    """Read the headers of a sample, with their channels added up; of height 0 if one is unreadable."""
    try:
        kinds = [read_image_kind(source) for source in sample.sources]
    except UnreadableFileError:  # reported when it is decoded
        return ImageKind(0, 0, 3, 8)
    bits = min(each.bits for each in kinds)
    return kinds[0]._replace(channels=sum(each.channels for each in kinds), bits=bits)


def _choose_form(samples: Sequence[Sample], kinds: Sequence[ImageKind], place: DataSource) -> tuple[int, Any]:
    """Return the number of channels of the whole set, and np.uint8 or np.uint16.

    One channel if all images are grey, three if they are grey or RGB, else the most common number; 16 bits if all
    images have them.
    """
    readable = [(sample, kind) for sample, kind in zip(samples, kinds, strict=True) if kind.height]
    bands = Counter(kind.channels for _, kind in readable)
    deep = [sample.name for sample, kind in readable if kind.bits == 16]
    all_deep = 0 < len(deep) == len(readable)
    if not all_deep:
        place.tally.add("image", "with 16 bits per pixel, unlike the others, reduced to the high byte", *deep)
    are_plain = bands.keys() <= {1, 3}
    channels = max(bands, default=3) if are_plain else bands.most_common(1)[0][0]
    fitting = (1, 3) if are_plain else (channels,)
    place.problems.extend(
        f"{sample.name}: images must have the same number of channels, found {kind.channels} where "
        f"{bands[channels]} have {channels}; export them alike"
        for sample, kind in readable
        if kind.channels not in fitting
    )
    return channels, np.uint16 if all_deep else np.uint8


def _decode_images(
    samples: Sequence[Sample], kinds: Sequence[ImageKind], writer: StoreWriter, place: DataSource, tick: Tick
) -> tuple[list[Sample], Counts, int]:
    """Write the images; return samples with readable masks, pixels of each value (n, 256), and number of sound samples.

    After the first problem nothing more is written, but all samples are still checked.
    """
    used, counts, sound = [], [], 0
    work = partial(_read_sample, writer.channels, writer.dtype.type, place)
    results = map_in_order(
        work,
        list(zip(samples, kinds, strict=True)),
        cost=lambda pair: pair[1].height * pair[1].width * (pair[1].channels * writer.dtype.itemsize + 1),
    )
    for number, sample in enumerate(samples, 1):
        image = mask = None  # free the last one, which may be large, while waiting for the next
        image, mask, faults = next(results)
        tick(number, len(samples))
        place.problems += faults
        sound += not faults
        if mask is None:
            continue
        # Labels are judged even if the image is faulty, so that both faults are reported.
        used.append(sample)
        counts.append(count_labels(mask, len(place.planes)))
        if not place.problems:
            assert image is not None
            writer.append(image, mask)
    table: Counts = np.array(counts, dtype=np.int64).reshape(-1, 256)
    return used, table, sound


def _read_sample(
    channels: int, dtype: Any, place: DataSource, pair: tuple[Sample, ImageKind]
) -> tuple[ImagePixels | None, LabelMap | None, list[str]]:
    """Return image, mask and faults of one sample."""
    sample, kind = pair
    image: ImagePixels | None = None
    mask: LabelMap | None = None
    faults = []
    try:
        sample_channels = channels if kind.channels in (1, 3) else kind.channels
        image = _stack_sources(sample, sample_channels, dtype)
    except UnreadableFileError as error:
        faults.append(f"{sample.name}: {error}")
    size = None if image is None else (image.shape[0], image.shape[1])
    try:
        mask = sample.mask(size)
        if size is not None and mask is not None:
            mask = _fit_label(place, sample, mask, size, kind.orientation)
    except UnreadableFileError as error:
        faults.append(f"{sample.mask_name}: {error}")
        if isinstance(error, ColourMaskError):
            place.colour_faults[sample.mask_name] = error
    return image, mask, faults


def _fit_label(place: DataSource, sample: Sample, mask: LabelMap, size: Size, turn: int) -> LabelMap:
    """Return the mask for an upright image of this (height, width), turned if need be.

    `turn` is the image's EXIF orientation.

    Raises:
        UnreadableFileError: the mask has another size.
    """
    height, width = size
    if turn > 4 and mask.shape == size[::-1] != size:
        place.tally.add("label", "drawn before its image's EXIF orientation, and turned by it", sample.mask_name)
        return np.ascontiguousarray(turn_upright(mask, turn))
    if mask.shape != size:
        step = point_to_lines("export it again at that size, not resized smoothly", "masks-of-another-size")
        rule = f"must have its image's size {width}×{height} (upright by EXIF)"
        raise UnreadableFileError(f"{rule}, found {mask.shape[1]}×{mask.shape[0]}; {step}")
    may_be_turned = turn < 5 or width == height
    is_upright = sample.is_sized and not may_be_turned
    if turn <= 1 or is_upright:
        return mask
    if may_be_turned:
        place.open_turns[sample.stem] = turn
    unchecked = "with an EXIF orientation that sizes cannot check; labels are read as drawn on the upright image"
    place.tally.add("image", unchecked, sample.name)
    return mask


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
