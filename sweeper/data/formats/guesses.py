"""Image and mask files that only names tell: read if a word names the masks, else proposed.

`folder`: the best hypothesis (`sides.py`) has folders of usual names, like `images/` and `masks/`. `pairs`, if no
format of annotations is found: any other that a word supports. A tie is refused with the two best.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from sweeper.core.text import abbreviate
from sweeper.data.formats.base import AnnotationFormat, DataSource, FormatLayout, ReadResult
from sweeper.data.formats.class_masks import note_tasks
from sweeper.data.formats.file_patterns import PatternMatch, describe_sides, suggest_options
from sweeper.data.formats.patterns import choose_split_rule, leave_out_made, note_naming, pair_by_names, pair_files
from sweeper.data.formats.sides import MARGIN, MASK_FOLDERS, READ, Files, Sides, infer_sides, list_pictures
from sweeper.data.formats.unread import find_broken_link
from sweeper.data.open_image import IMAGE_SUFFIXES, MASK_FORMATS, MASK_SUFFIXES, open_image, read_tiff
from sweeper.data.text_tables import UnreadableFileError

_LIKE = 0.15
"""Least score by looks of a hypothesis that is proposed."""


SAMPLED = 12
"""Files of each side that are opened."""
_SIDE = 512
"""Longest side of the part of a file that is looked at, in pixels."""
_FEW = 64
"""Numbers or colours up to which a file may be a mask for sure."""


def find_folder(place: DataSource) -> FormatLayout | None:
    """Find folders of usual names, like images/ and masks/."""
    pictures = list_pictures(place)
    folders = {part.lower() for path in pictures for part in path.split("/")[:-1]}
    sides = [] if folders.isdisjoint(MASK_FOLDERS) else infer_sides(pictures)
    if not sides or not sides[0].has_usual_folders:
        return None
    return _make_layout(place, sides)


def find_pairs(place: DataSource) -> FormatLayout | None:
    """Find folders or files that are paired by their names."""
    sides = infer_sides(list_pictures(place))
    is_clear = bool(sides) and sides[0].score >= READ
    if not is_clear or find_broken_link(place) is not None:
        return None
    return _make_layout(place, sides)


def propose(place: DataSource) -> str:
    """Return the options for masks that no word names, by the looks of files; "" if nothing looks like masks."""
    if find_broken_link(place) is not None:
        return ""
    paths, ranked = dict(place.listing), []
    for one in infer_sides(list_pictures(place)):
        pairs = [(paths[of_mask[0]], paths[mask]) for mask, of_mask in sorted(one.owners.items()) if len(of_mask) == 1]
        gap, numbers = compare_looks(pairs)
        ranked.append((gap * one.coverage, one, numbers))
    ranked.sort(key=lambda item: -item[0] * (len(item[1].owners) + len(item[1].matched)))
    lines: dict[Files, str] = {}
    for score, one, numbers in ranked:
        if score < _LIKE or any(one.masks & others for others in lines):
            continue
        paired = pair_by_names(place, one.owners)
        if found := suggest_options(place, paired):
            what = f"numbers {abbreviate([*map(str, numbers)])}" if numbers else "few colours"
            lines[one.masks] = f"{found} ({len(paired)} of {len(one.images)} images, masks of {what})"
    if not lines:
        return ""
    return f"no word names the masks, and by their looks they are read with {'; or '.join([*lines.values()][:2])}"


def _make_layout(place: DataSource, sides: Sequence[Sides]) -> FormatLayout:
    """Return the layout of the best hypothesis."""
    best, *others = sides
    rivals = []
    for one in (one for one in others if one.score >= READ):
        has_other_masks = one.masks.isdisjoint(best.masks)
        is_of_same_images = has_other_masks and not one.images.isdisjoint(best.matched)
        is_of_same_masks = one.images.isdisjoint(best.images) and not has_other_masks
        if is_of_same_images or is_of_same_masks:
            rivals.append(one)
    return FormatLayout(_format_line(best), partial(_read_sides, place, best, rivals))


def _format_line(sides: Sides) -> str:
    """Return a description of the finding."""
    at, other = describe_sides(sides.matched, sides.masks)
    return "masks next to their images" if at == other else f"{at}/ and {other}/"


def _list_files(place: DataSource, sides: Sides) -> tuple[list[PatternMatch], list[PatternMatch]]:
    """Return the files of both sides; their folders are those in which images differ."""
    paths = dict(place.listing)
    levels = [*zip_longest(*(path.split("/")[:-1] for path in sides.matched))]
    differ = [depth for depth, names in enumerate(levels) if len({*names}) > 1]

    def match(path: str) -> PatternMatch:
        above = path.split("/")[:-1]
        folders = tuple(above[depth] for depth in differ if depth < len(above))
        return PatternMatch(paths[path], path, PurePosixPath(path).stem, folders)

    return [*map(match, sorted(sides.images))], [*map(match, sorted(sides.masks))]


def _read_sides(place: DataSource, sides: Sides, rivals: Sequence[Sides]) -> ReadResult:
    """Read the images and masks of a hypothesis, paired by names, without opening any; rivals are reported."""
    result = ReadResult([], place=f"{describe_sides(sides.matched, sides.masks)[1]}/")
    images, masks = _list_files(place, sides)
    counts = Counter(below for below, _ in place.listing)
    for one in (one for one in (*images, *masks) if counts[one.below] > 1):
        place.add_problem(one.path, f"a name may be that of one file, found {counts[one.below]}; rename or remove one")
    if note_tasks(place, [*images, *masks]):
        return result
    paired = pair_by_names(place, sides.owners)
    images = leave_out_made(place, images, paired)
    folders = {one.path.parent for one in images if one.path in paired}
    folders = folders or {one.path.parent for one in images}
    images = [one for one in images if one.path.parent in folders]
    result.samples, left = pair_files(place, images, masks, paired, choose_split_rule(place, images))
    for rival in rivals[:1]:
        _report_rival(place, sides, rival)
    known = frozenset[str]().union(*(one.matched | one.masks for one in rivals))
    _report_unread(place, {one.path for one in (*images, *masks)}, known)
    note_naming(place, result.samples, paired)
    found = suggest_options(place, paired) if left else ""
    options = found or "--images and --masks"
    for path in left:
        place.add_problem(path, f"has no image of its name; add it, remove the mask, or leave it out with {options}")
    result.classes = place.names
    return result


def _report_rival(place: DataSource, best: Sides, rival: Sides) -> None:
    """Add a problem about a hypothesis that is as good as the best, else a note."""
    options = [suggest_options(place, pair_by_names(place, one.owners)) for one in (best, rival)]
    lines = [f"{_format_line(one)} ({len(one.owners)} masks)" for one in (best, rival)]
    if best.score - rival.score < MARGIN:
        step = ", or with ".join(filter(None, options))
        place.problems.append(
            f"images and masks must be in one folder each, found {lines[0]}, {lines[1]}; say which with {step}"
        )
    else:
        place.notes.append(f"{lines[0]} are read; {lines[1]} might be meant too: {options[1]} reads it.")


def _report_unread(place: DataSource, used: Collection[Path], known: Files) -> None:
    """Note folders of pictures that are not read, and files of other kinds next to those that are."""
    folders = {path.parent for path in used} - {place.root}
    unread = [path for below, path in place.listing if below not in known]
    rest = [path for path in filter(Path.is_file, unread) if path not in used]
    pictures = {path for path in rest if path.suffix.lower() in {*IMAGE_SUFFIXES, *MASK_SUFFIXES}}
    near = [path for path in rest if path.parent in folders]
    others = [path for path in near if path not in pictures]
    place.tally.add("file", "of another kind, passed over", *map(place.format_name, others))
    why = "of pictures without a mask by name, passed over (--images and --masks can name all)"
    place.tally.add("folder", why, *(f"{place.format_name(path.parent)}/" for path in pictures))


class Look(NamedTuple):
    """What a file looks like."""

    likeness: float
    """0 = a photograph, 1 = a mask."""
    size: tuple[int, int]
    numbers: frozenset[int]
    """Its grey numbers; of a file in colours none."""


def look_at(path: Path) -> Look | None:
    """Return what a file looks like; None if it cannot be read."""
    try:
        with open_image(path, MASK_FORMATS, read_tiff(path)) as image:
            box = (0, 0, min(image.width, _SIDE), min(image.height, _SIDE))
            part, size = image.crop(box), image.size
            pixels = np.asarray(part.convert("RGB") if part.mode in ("P", "RGBA", "CMYK", "YCbCr", "LA") else part)
    except (UnreadableFileError, OSError, ValueError):
        return None
    flat = pixels.reshape(*pixels.shape[:2], -1).astype(np.int64)
    keys = flat @ (1 << 16 * np.arange(flat.shape[2]))
    numbers = np.unique(keys)
    steps = [np.abs(np.diff(flat.mean(axis=2), axis=axis)).ravel() for axis in (0, 1)]
    even = float(np.mean(np.concatenate(steps) <= 2)) if flat.size > 3 else 0.0
    few = min(1.0, _FEW / len(numbers)) ** 0.5
    grey = pixels.ndim == 2 and len(numbers) <= _FEW
    return Look(even * few, size, frozenset(numbers.tolist() if grey else ()))


def compare_looks(pairs: Sequence[tuple[Path, Path]]) -> tuple[float, list[int]]:
    """Return how much more the second files look like masks of the first than these do, −1 to 1, and their numbers.

    A few of the pairs are opened.
    """
    gaps, same, numbers = [], [], set[int]()
    for pair in pairs[:: max(1, len(pairs) // SAMPLED)]:
        image, mask = map(look_at, pair)
        if image is not None and mask is not None:
            gaps.append(mask.likeness - image.likeness)
            same.append(sorted(image.size) == sorted(mask.size))
            numbers |= mask.numbers
    return (float(np.quantile(gaps, 0.2)) * float(np.mean(same)), sorted(numbers)) if gaps else (0.0, [])


FOLDER = AnnotationFormat("images/ and masks/ with equal stems", find_folder)
PAIRS = AnnotationFormat(
    "image and mask files that are called alike (photos/ and targets/; a.jpg next to a_mask.png)", find_pairs
)
