"""Join several masks of an image: one for each class (`a_road.png`, `a_car.png`), or one for each object.

Pixels other than 0 belong to the class; where two overlap, the one with fewer pixels in the image wins; the rest is
background. Objects are all of one class.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from sweeper.core.label_planes import LabelMap
from sweeper.core.records import IGNORE
from sweeper.core.text import abbreviate
from sweeper.data.decode import ColourMaskError, read_mask, read_planes
from sweeper.data.formats.annotation_files import ClassNames, list_objects, number_words
from sweeper.data.formats.base import DataSource, Size
from sweeper.data.formats.file_patterns import WAY_OUT, Matches, PatternMatch, suggest_options
from sweeper.data.formats.matching import list_own_words
from sweeper.data.label_values import MaskNumbers, infer_meaning
from sweeper.data.open_image import LOSSY_SUFFIXES, read_stack
from sweeper.data.store import Pixels, count_labels
from sweeper.data.text_tables import MAX_CLASSES, UnreadableFileError

MaskLists = Sequence[tuple[PatternMatch, Sequence[Path]]]
"""Images, and the masks of each."""
_MASK_WORD = re.compile(r"^(?:masks?|labels?|gt|seg|segm|segmentation|manual)(?=\d*$)", re.IGNORECASE)
_TASK = re.compile(r"task-(\d+)-annotation-\d+-by-\d+-tag-(.+)-\d+")


def note_tasks(place: DataSource, masks: Matches) -> bool:
    """Return whether masks are named by Label Studio's tasks, not by images, which becomes a problem."""
    matches = {one.path: _TASK.fullmatch(PurePosixPath(one.below).stem) for one in masks}
    tasks = {path: match for path, match in matches.items() if match}
    if tasks:
        path, first = next(iter(tasks.items()))
        meant = [f"{place.format_name(path)} (class {match[2]} of task {match[1]})" for path, match in tasks.items()]
        wanted = path.with_name(f"IMAGE_{first[2]}{path.suffix}").relative_to(place.root)
        place.problems.append(
            f"{path.parent.relative_to(place.root)}/: masks must be called by their images, found "
            f"Label Studio's task and class: {abbreviate(meant)}; rename each, with the name of its task's image for "
            f"IMAGE: mv '{place.format_name(path)}' '{wanted}'"
        )
    return bool(tasks)


def choose_join(place: DataSource, every: MaskLists) -> Callable[[Sequence[Path], Size | None], LabelMap] | None:
    """Return the function that joins the masks of an image, or their planes, if there are several; else None.

    The place receives the classes, unless it has some, and a note.
    """
    words = _list_words(place, every)
    kinds = _find_kinds(every, words) if len(words) > len(every) else {}
    place.describe_way_out = cache(partial(_suggest_one_mask, place, every, kinds))
    if kinds:
        labels = number_words(place, sorted({*kinds.values()}), sorted({*kinds.values()}), "masks of one class each")
        first, place.classes = min(kinds, key=str), labels.names or place.classes
        place.notes.append(
            f"Masks of one class each were joined ({place.format_name(first)} is {kinds[first]}): classes are "
            f"{', '.join(labels.names)}; where two overlap, that with fewer pixels counts, with `overlap: keep` both."
        )
        return partial(join_masks, place, labels, kinds)
    own = [[words[path] for path in masks] for _, masks in every]
    # Objects: images have different numbers of masks, and either words of their names occur with one image only, or
    # masks are numbered without gaps (images would lack some of numbered classes).
    may_be_objects = len(words) > len(every) and len({*map(len, own)}) > 1
    if may_be_objects and (_are_names_unique(own) or _are_numbered(own)):
        _note_objects(place, max(len(masks) for _, masks in every))
        return partial(join_objects, place)
    planes = 0
    with suppress(UnreadableFileError):  # reported when it is decoded
        planes = sum(len(read_stack(masks[0])) for _, masks in every[:1])
    return _name_planes(place, planes) if planes else None


def _suggest_one_mask(place: DataSource, every: MaskLists, kinds: Mapping[Path, str]) -> str:
    """Return the step, with options, that selects one mask per image: the first, or that of the most common class."""
    kind = Counter(kinds[path] for _, masks in every for path in masks).most_common(1)[0][0] if kinds else ""
    wanted = {one.path: [path for path in masks if kinds.get(path, "") == kind][:1] for one, masks in every}
    options = suggest_options(place, {path: of_image for path, of_image in wanted.items() if of_image})
    which = f"those of {kind} alone" if kind else "the first of each"
    return f"to take {which}: {options}" if options else WAY_OUT


def _name_planes(place: DataSource, planes: int) -> Callable[[Sequence[Path], Size | None], LabelMap]:
    """Return the function that joins the planes of a mask, named by classes.txt, with or without a background."""
    names = place.classes or tuple(f"class_{number}" for number in range(1, planes + 1))
    names = names if len(names) == planes else list_objects(names)
    labels = number_words(place, names, names, "planes of masks")
    place.classes = labels.names or place.classes
    return partial(join_planes, place, labels, names)


def _list_words(place: DataSource, every: MaskLists) -> dict[Path, list[str]]:
    """Return the words of each mask's path that its image's lacks and not all masks have, without such as `mask`."""
    names = {path: (path.relative_to(place.root).as_posix(), one.below) for one, masks in every for path in masks}
    words = {path: [_MASK_WORD.sub("", word) for word in list_own_words(*both)] for path, both in names.items()}
    times = Counter(word for of_mask in words.values() for word in {*of_mask})
    left_out = {word for word, n in times.items() if n >= len(words)} | {""}
    return {path: [word for word in of_mask if word not in left_out] for path, of_mask in words.items()}


def _find_kinds(every: MaskLists, words: Mapping[Path, Sequence[str]]) -> dict[Path, str]:
    """Return the class of each mask, by its own words.

    Return {} if the words are no classes: some have none or only numbers, an image has two of one class, or most occur
    once.
    """
    kinds = {path: "_".join(dict.fromkeys(of_mask)) for path, of_mask in words.items()}
    names = {*kinds.values()}
    plain = {re.sub(r"\d+(?:st|nd|rd|th)?|_", "", name.lower()) for name in names} - {""}
    repeated = any(len({kinds[path] for path in masks}) < len(masks) for _, masks in every)
    are_distinct = len(plain) == len(names) and not repeated
    are_few = 2 <= len(names) < MAX_CLASSES and len(kinds) >= 2 * len(names)
    if are_distinct and are_few:
        return kinds
    return {}


def _note_objects(place: DataSource, most: int) -> None:
    """Note that masks are joined as objects, of which an image has `most`, and of which class they are."""
    place.classes = place.classes or ("background", "foreground")
    if len(place.classes) != 2:
        place.problems.append(
            f"classes.txt: must have two classes, found {len(place.classes)}: each mask is one object, and no name "
            "says of which class; call masks by their classes (a_road.png, a_car.png), or leave two classes"
        )
    place.notes.append(
        f"Up to {most} masks of an image, whose names say no class, were joined as objects of one "
        f"class, {place.classes[-1]}."
    )


def _are_names_unique(words: Sequence[Sequence[Sequence[str]]]) -> bool:
    """Return whether nearly all masks of an image have a word that is no number, and no word occurs with two images."""
    texts = [[[word for word in name if not word.isdecimal()] for name in of_image] for of_image in words]
    images = Counter(word for of_image in texts for word in {word for name in of_image for word in name})
    names = [name for of_image in texts if len(of_image) > 1 for name in of_image]
    return 10 * sum(map(bool, names)) >= 9 * len(names) and max(images.values(), default=0) == 1


def _are_numbered(words: Sequence[Sequence[Sequence[str]]]) -> bool:
    """Return whether the masks of each image are numbered 0, 1, 2, … or 1, 2, … without gaps."""
    names = [["_".join(name) or "0" for name in of_image] for of_image in words]  # a_mask.png comes before a_mask_1.png
    if not all(name.isdecimal() for of_image in names for name in of_image):
        return False
    numbers = [sorted(map(int, of_image)) for of_image in names]
    first = min(of_image[0] for of_image in numbers)
    return all(of_image == [*range(first, first + len(of_image))] for of_image in numbers)


def join_masks(
    place: DataSource, labels: ClassNames, kinds: Mapping[Path, str], masks: Sequence[Path], size: Size | None
) -> LabelMap:
    """Join the masks of an image into one mask, (H, W), by the labels of their classes.

    Raises:
        UnreadableFileError: one cannot be read, contains several numbers, or has another size.
    """
    names = [kinds[path] for path in masks]
    return _join_parts(place, labels, [*zip(names, _read_parts(place, masks, names, size), strict=True)])


def _join_parts(place: DataSource, labels: ClassNames, named: Sequence[tuple[str, NDArray[np.bool_]]]) -> LabelMap:
    """Join masks of one class each, with the names of these; if one class counts, that with fewer pixels."""
    parts = [(labels.numbers.get(name, IGNORE), part) for name, part in named]
    flat = np.full(parts[0][1].shape, labels.background, dtype=np.uint8)
    for label, part in sorted(parts, key=lambda one: -np.count_nonzero(one[1])):
        flat[part] = label
    return place.join_classes({label: part for label, part in parts if label not in (labels.background, IGNORE)}, flat)


def join_planes(
    place: DataSource, labels: ClassNames, names: Sequence[str], masks: Sequence[Path], size: Size | None
) -> LabelMap:
    """Join the planes of a mask file, of classes of these names.

    Raises:
        UnreadableFileError: the file cannot be read, or has other planes.
    """
    planes = read_planes(masks[0])
    if len(planes) != len(names):
        raise UnreadableFileError(
            f"must have a plane for each of {len(names)} classes, found {len(planes)}; export it again, or correct "
            "classes.txt"
        )
    return _join_parts(place, labels, [*zip(names, planes, strict=True)])


def join_objects(place: DataSource, masks: Sequence[Path], size: Size | None) -> Pixels:
    """Join the object masks of an image into one mask, (H, W), with 1 for objects.

    Raises:
        UnreadableFileError: one cannot be read, contains several numbers, or has another size; or most pixels overlap.
    """
    parts = _read_parts(place, masks, ["object"] * len(masks), size)
    whole = next(parts).astype(np.uint16)
    for part in parts:
        whole += part
    if 2 * np.count_nonzero(whole > 1) > (covered := np.count_nonzero(whole)):
        raise UnreadableFileError(
            f"masks of one object each must hardly overlap, found {np.count_nonzero(whole > 1):,} of {covered:,} "
            f"pixels in several of {len(masks)} masks; keep one drawing of each object, or one mask for each image"
        )
    return np.minimum(whole, 1).astype(np.uint8)


def _read_parts(
    place: DataSource, masks: Sequence[Path], names: Sequence[str], size: Size | None
) -> Iterator[NDArray[np.bool_]]:
    """Yield masks of one class each, with the names of these, as (H, W) bool.

    Raises:
        UnreadableFileError: one cannot be read, contains several numbers, or has another size.
    """
    shapes = set()
    for path, name in zip(masks, names, strict=True):
        try:
            mask = read_mask(path, size=size)
        except ColourMaskError as error:
            raise UnreadableFileError(
                f"{error.finding} where an image has masks of several classes; {place.describe_way_out()}"
            ) from error
        lossy = [str(path)] if path.suffix.lower() in LOSSY_SUFFIXES else []
        stored = MaskNumbers(count_labels(mask)[None], [str(path)], lossy, is_named=True)
        mask = infer_meaning(stored).labels[mask]
        if len(values := np.unique(mask[mask > 0])) > 1:
            numbers = abbreviate([*map(str, values)])
            raise UnreadableFileError(
                f"a mask of one class ({name}) must hold 0 and one other number, found {numbers} "
                f"in {place.format_name(path)}; export one mask with a number for each class, or one for each class"
            )
        shapes.add(mask.shape)
        if len(shapes) > 1:
            raise UnreadableFileError("masks of one image must have one size, found several; export them alike")
        yield mask > 0
