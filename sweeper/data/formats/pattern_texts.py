"""Patterns that describe files: the names of folders in messages, and the options that select the same files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import takewhile
from os.path import commonprefix
from pathlib import PurePosixPath

from sweeper.data.formats.file_patterns import escape_pattern

MOST_NAMES = 10
"""Most folders that a pattern lists."""


def make_alternatives(names: Sequence[str]) -> str:
    """Return a pattern that matches these names, `{train,test}_masks`; `*` for many."""
    if len(names) == 1:
        return escape_pattern(names[0])
    if len(names) > MOST_NAMES or any(re.search(r"[{},*?\[]", name) for name in names):
        return "*"
    begin, end = (_find_common_words([name[::step] for name in names]) for step in (1, -1))
    parts = [name[len(begin) : len(name) - len(end)] for name in names]
    return f"{begin}{{{','.join(parts)}}}{end[::-1]}" if all(parts) else f"{{{','.join(names)}}}"


def _find_common_words(names: Sequence[str]) -> str:
    """Return the beginning of all names up to the last sign that separates words."""
    return re.sub(r"[^\W_]+$", "", commonprefix(names))  # noqa: RUF071 (characters)


def describe_sides(images: Collection[str], masks: Collection[str]) -> tuple[str, str]:
    """Return patterns of the folders of images and masks, without the inner ones that both have: `img`, `{P1,P2}/gt`.

    Both are `.` if masks are next to their images.
    """
    sides = [_list_levels(paths) for paths in (images, masks)]
    while all(sides) and sides[0][-1] == sides[1][-1]:
        sides = [levels[:-1] for levels in sides]
    at, other = ("/".join(map(make_alternatives, levels)) or "." for levels in sides)
    return at, other


def _list_levels(paths: Collection[str]) -> list[list[str]]:
    """Return the names of each level of folders that all files have."""
    return [sorted({*names}) for names in zip(*(path.split("/")[:-1] for path in paths), strict=False)]


def list_patterns(paths: Collection[str]) -> Iterator[str]:
    """Yield patterns that match these files, and perhaps others, from short to long."""
    levels = _list_levels(paths)
    depths = {path.count("/") for path in paths}
    folders = "".join(f"{make_alternatives(names)}/" for names in levels) + "**/" * (len(depths) > 1)
    same = [names[0] for names in takewhile(lambda names: len(names) == 1, levels)]
    above = "".join(f"{escape_pattern(name)}/" for name in same)
    wide = above + "**/" * (len(depths) > 1 or len(same) < len(levels))
    stems, suffixes = ({*parts} for parts in zip(*((p.stem, p.suffix) for p in map(PurePosixPath, paths)), strict=True))
    begin, end = (commonprefix([stem[::step] for stem in stems]) for step in (1, -1))  # noqa: RUF071 (characters)
    begin, end = re.sub(r"\w$|\d+$", "", begin) if len(stems) > 1 else "", end[::-1]
    lengths = {*map(len, stems)}
    ends = dict.fromkeys(
        (
            "*",
            *(["?" * lengths.pop()] if len(lengths) == 1 else []),
            f"*{escape_pattern(end)}",
            f"{escape_pattern(begin)}*",
        )
    )
    kinds = [".*", *([escape_pattern(suffix) for suffix in suffixes] if len(suffixes) == 1 else [])]
    for at in dict.fromkeys((wide, folders)):
        yield from (f"{at}{name}{kind}" for name in ends for kind in kinds)
