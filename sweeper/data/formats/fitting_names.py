"""Guess folders of images and masks that are paired only by their files' names, as in ISIC's challenges."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence, Set
from os.path import commonprefix
from pathlib import PurePosixPath

from sweeper.data.formats.base import DataSource
from sweeper.data.formats.file_patterns import STEM, escape_pattern
from sweeper.data.formats.layout_guess import LayoutGuess, make_alternatives
from sweeper.data.formats.name_words import (
    IMAGE_FOLDER_WORD,
    LAST_MASK_FOLDER_WORD,
    MASK_FOLDER_WORD,
    MASK_WORDS,
    MORE_MASK_WORDS,
    take_common_ends,
)
from sweeper.data.open_image import IMAGE_SUFFIXES, MASK_SUFFIXES

_MOST_FOLDERS = 100
"""Most folders of masks that are compared with all others."""
_CORE = "\0"
"""Placeholder for the part of folder names that differs."""
_BREAK = re.compile(r"[\W_]+")
_WORD = re.compile(r"^[A-Z]|[\W_]|(?<=[a-z])[A-Z]")
"""Beginning of a word within a name."""


def guess_by_fit(place: DataSource) -> list[LayoutGuess]:
    """Return folders whose file names all equal those of another folder, except for one prefix and one suffix.

    Pairs of folders that differ in one part are one guess (`Training_Input/a.jpg` with `Training_Truth/a_x.png`,
    `Test_Input/` with `Test_Truth/`). If one folder of images has several folders of masks, each is a guess, or only
    those whose own name has a mask word.
    """
    stems: dict[PurePosixPath, set[str]] = defaultdict(set)
    for below, path in place.listing:
        if "/" in below and path.suffix.lower() in {*IMAGE_SUFFIXES, *MASK_SUFFIXES}:
            stems[PurePosixPath(below).parent].add(PurePosixPath(below).stem)
    masks = [folder for folder in stems if any(map(_is_mask_word, folder.parts))]
    if len(masks) > _MOST_FOLDERS:
        return []
    pairs: dict[PurePosixPath, list[tuple[PurePosixPath, tuple[str, str]]]] = defaultdict(list)
    for folder in sorted(masks, key=lambda folder: ("instance" in str(folder).lower(), folder)):
        others = (one for one in stems if one not in masks or (one != folder and IMAGE_FOLDER_WORD.search(str(one))))
        forms = {other: form for other in others if (form := _fit(stems[other], stems[folder]))}
        nearness = {
            other: (form[0] == STEM, bool(IMAGE_FOLDER_WORD.search(other.name)), _count_shared(folder, other))
            for other, form in forms.items()
        }
        images = [other for other, near in nearness.items() if near == max(nearness.values())]
        if len(images) == 1:
            pairs[images[0]].append((folder, forms[images[0]]))
    begin, end, cores = _split_folders([*map(str, pairs)])
    above = begin[: begin.rfind("/") + 1]
    alike: dict[tuple[str, tuple[str, str]], set[str]] = defaultdict(set)
    for core, of_image in zip(cores, pairs.values(), strict=True):
        are_named = any(_is_mask_word(folder.name) for folder, _ in of_image)
        for folder, form in of_image:
            if not are_named or _is_mask_word(folder.name):
                alike[_replace_word(str(folder), core, above), form].add(core)
    depths = {core.count("/") for core in cores}
    levels = zip(*(core.split("/") for core in cores), strict=False)
    some = "/".join(make_alternatives(sorted({*level})) for level in levels)
    return [
        _pair_folders(
            f"{escape_pattern(begin)}{some}{escape_pattern(end)}", some.join(map(escape_pattern, at.split(_CORE))), form
        )
        for (at, form), of in alike.items()
        if len(of) == len(cores) and len(depths) == 1
    ]


def _is_mask_word(name: str) -> bool:
    return LAST_MASK_FOLDER_WORD.search(name) is not None or name.lower() in (*MASK_WORDS, *MORE_MASK_WORDS)


def _count_shared(folder: PurePosixPath, other: PurePosixPath) -> int:
    """Count the words that both paths share."""
    return len({*_BREAK.split(str(folder))} & {*_BREAK.split(str(other))})


def _split_folders(folders: Sequence[str]) -> tuple[str, str, list[str]]:
    """Split paths into the words common to their starts and ends, and the part of each between; "" for one path."""
    if len(folders) < 2:
        return "".join(folders), "", [""] * len(folders)
    begin, end = (commonprefix([folder[::step] for folder in folders]) for step in (1, -1))  # noqa: RUF071 (characters)
    begin = begin[: max((match.end() for match in _BREAK.finditer(begin)), default=0)]
    start = _WORD.search(end[::-1])
    end = "" if start is None else end[::-1][start.start() :]
    return begin, end, [folder[len(begin) : len(folder) - len(end)] for folder in folders]


def _replace_word(path: str, word: str, above: str) -> str:
    """Replace a word in a path by `_CORE`, also if a mask word follows directly, but not in the folders above."""
    at = path[: len(above)] if path.startswith(above) else ""
    form = rf"(?:(?<![^\W_])|(?<=[a-z])(?=[A-Z])){re.escape(word)}(?:(?![a-z\d])|(?={MASK_FOLDER_WORD.pattern}))"
    return at + re.sub(form, _CORE, path[len(at) :]) if word else path


def _fit(images: Set[str], masks: Collection[str]) -> tuple[str, str] | None:
    """Return patterns of image and mask names with a common part, `a{stem}` and `{stem}_x`; None if none fit."""
    first = min(masks)
    for cores in ({stem: stem for stem in images}, dict(zip(images, take_common_ends([*images]), strict=True))):
        within = (stem for stem, core in cores.items() if core and core in first)
        for stem in sorted(within, key=lambda stem: (-len(cores[stem]), stem)):
            sides = [text.partition(cores[stem]) for text in (stem, first)]
            if {*masks} <= {f"{sides[1][0]}{core}{sides[1][2]}" for core in cores.values()}:
                form, of_masks = (STEM.join(map(escape_pattern, side[::2])) for side in sides)
                return form, of_masks
    return None


def _pair_folders(at: str, other: str, form: tuple[str, str]) -> LayoutGuess:
    """Return the guess for two folders and the patterns of their files."""
    return LayoutGuess(f"{at}/{form[0]}.*", f"{other}/{form[1]}.*", (at, other))
