"""Patterns of file names, `images/**/*.jpg` and `masks/**/{stem}_mask.png`, and the masks that they assign to images.

`*` and `?` match any part of a name, `**` folders, `[ab]` and `{jpg,png}` one of several; `{stem}` in the masks'
pattern is the image's name without extension, or what `{stem}` matches in the images' pattern. The case of extensions
is ignored. If both patterns have wildcards for folders, these must match the same folders. Patterns are also made of
files, for messages and for the options that select them.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, product
from os.path import commonprefix
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sweeper.core.errors import UsageError
from sweeper.core.paths import expand_user
from sweeper.core.records import Patterns
from sweeper.data.formats.base import DataSource
from sweeper.data.problem_lines import check_no_address
from sweeper.data.text_tables import normalise_text

STEM = "{stem}"
WAY_OUT = "say which is meant with --images and --masks"
MOST_NAMES = 10
"""Most folders that a pattern lists."""
_STEM, _AGAIN = "(?P<stem>[^/]+)", "(?P=stem)"
_SIGN = re.compile(r"[*?\[{]")
_TOKEN = re.compile(r"\*\*/|\*+|\?|\[!?\]?[^\]/]*\]|\{[^{}/]*\}|/|[^*?\[{/]+|.", re.DOTALL)
_WILDCARDS = {"**/": "(?:[^/]+/)*", "*": "[^/]*", "?": "[^/]"}
_ENDING = re.compile(r"\.(\*|\{[^{}]*\})$")
"""Pattern of an extension by wildcard or alternatives."""


class PatternMatch(NamedTuple):
    """A file that matches a pattern."""

    path: Path
    below: str
    """Path below the root, in composed form."""
    stem: str
    """Text that `{stem}` matches; without `{stem}` the name without extension."""
    folders: tuple[str, ...]
    """Texts that the folder wildcards match."""


Matches = Sequence[PatternMatch]
Pairs = Mapping[Path, Sequence[Path]]
"""The masks of each image that has any."""


def get_requested_patterns(
    data: str | None, images: str | None, masks: str | None
) -> tuple[str | None, Patterns | None]:
    """Return the folder (or archive) of the data, and the patterns below it; None without patterns.

    Args:
        data: folder or zip archive in which the patterns start; None = the deepest folder that contains both.
        images: pattern of the images, or their folder.
        masks: pattern of the masks, or their folder.

    Raises:
        UsageError: (or DataError) a pattern is missing, is an address, leads out of the folder, or is invalid.
    """
    given = {option: text for option, text in (("--images", images), ("--masks", masks)) if text is not None}
    if not given:
        return data, None
    if len(given) < 2:
        example = f"for example --images 'img/**/*.jpg' --masks 'labels/{STEM}.png'"
        raise UsageError(f"--images and --masks go together, got {next(iter(given))} alone; add the other, {example}")
    for option, text in given.items():
        check_no_address(option, text)
    base = expand_user(data or ".")
    texts = {o: os.path.normpath(os.path.join(base, expand_user(text))) for o, text in given.items()}  # noqa: PTH118
    if data is None:
        if any(text.startswith(("/", "..")) for text in texts.values()):
            texts = {option: os.path.abspath(text) for option, text in texts.items()}  # noqa: PTH100 (no path: wildcards)
        folders = [text if Path(text).is_dir() else get_fixed_folder(text) for text in texts.values()]
        data = os.path.commonpath(folders) or "."
    texts = {option: os.path.relpath(text, expand_user(data)) for option, text in texts.items()}
    for option, text in texts.items():
        if text.split("/")[0] == "..":
            raise UsageError(f"{option} must name files below {data}, got {given[option]}; name a folder above")
        compile_pattern(text, option)  # refuses invalid patterns
    return data, Patterns(images=texts["--images"], masks=texts["--masks"])


def get_fixed_folder(text: str) -> str:
    """Return the folder before the first wildcard."""
    return os.path.dirname(_SIGN.split(text, maxsplit=1)[0])  # noqa: PTH120 (wildcards are no path)


def compile_pattern(text: str, option: str = "") -> re.Pattern[str]:
    """Compile a pattern of paths below the root; the case of extensions is ignored. `option` is its name in messages.

    The groups of the expression are `stem` and one for each wildcard of folders.

    Raises:
        UsageError: it contains a name in braces other than `{stem}`.
    """
    text = normalise_text(text)
    plain = re.sub(r"\.\w+\Z", "", text)
    folders = plain.rpartition("/")[0]
    parts: list[str] = []
    for token in _TOKEN.finditer(plain):
        if token[0] == STEM:
            parts.append(_AGAIN if _STEM in parts else _STEM)
            continue
        expression = _make_expression(option, text, token[0])
        is_group = has_wildcards(token[0]) and token.start() < len(folders)
        parts.append(f"(?P<f{len(parts)}>{expression})" if is_group else expression)
    return re.compile(f"{''.join(parts)}(?i:{re.escape(text[len(plain) :])})", re.DOTALL)


def _make_expression(option: str, text: str, token: str) -> str:
    if (expression := _WILDCARDS.get(token, _WILDCARDS.get(token[0]))) is not None:
        return expression
    if token.startswith("[") and len(token) > 2:
        return f"(?!/){fnmatch.translate(token)[:-2]}"  # without the end that translate adds
    if token.startswith("{") and token.endswith("}"):
        if "," not in token:
            raise UsageError(f"{option} knows {STEM} alone, the image's name without extension; got {token} in {text}")
        return f"(?:{'|'.join(re.escape(one) for one in token[1:-1].split(','))})"
    return re.escape(token)


def has_wildcards(text: str) -> bool:
    """Return whether a text is a pattern rather than a plain path."""
    return _SIGN.search(text) is not None


def escape_pattern(name: str) -> str:
    """Return a name as a pattern that matches only itself."""
    return _SIGN.sub(r"[\g<0>]", name)


def find_matches(files: Iterable[tuple[str, Path]], pattern: re.Pattern[str]) -> Iterator[PatternMatch]:
    """Yield the files, as in a listing, that match a pattern."""
    for below, path in files:
        if (match := pattern.fullmatch(below)) is not None:
            texts = match.groupdict()
            stem = texts.pop("stem", PurePosixPath(below).stem)
            yield PatternMatch(path, below, stem, tuple(text.rstrip("/") for text in texts.values()))


def list_pattern_files(place: DataSource, text: str, suffixes: tuple[str, ...] = ("",)) -> list[PatternMatch]:
    """List the files with these suffixes, by default with any, that match a pattern, sorted by path."""
    return [
        one for one in find_matches(place.listing, compile_pattern(text)) if one.path.suffix.lower().endswith(suffixes)
    ]


def find_masks(images: Matches, masks: Matches, text: str = STEM) -> Pairs:
    """Return the candidate masks of each image by two patterns, for the images that have any.

    If both have equally many folder wildcards, the matched folders must be equal, unless no image would have a mask
    then. `text` is the masks' pattern.
    """
    has_stem, others = STEM in text, [part.replace(STEM, "") for part in text.split("/") if STEM in part]
    if any(has_wildcards(_ENDING.sub("", part)) for part in others):  # else a path has one stem at most
        masks = [*_list_readings(masks, compile_pattern(text), {one.stem for one in images})]
    by_stem: dict[str, list[Path]] = defaultdict(list)
    by_folders: dict[tuple[str, tuple[str, ...]], list[Path]] = defaultdict(list)
    for one in masks:
        stem = one.stem * has_stem
        by_stem[stem].append(one.path)
        by_folders[stem, one.folders].append(one.path)
    found = {one.path: by_folders[one.stem * has_stem, one.folders] for one in images}
    if not any(found.values()):
        found = {one.path: by_stem[one.stem] for one in images}
    return {path: of_image for path, of_image in found.items() if of_image}


def _list_readings(masks: Iterable[PatternMatch], pattern: re.Pattern[str], stems: set[str]) -> Iterator[PatternMatch]:
    """Yield each mask with each of the image stems that its path may contain where the pattern has `{stem}`."""
    lengths = {len(stem) for stem in stems}
    for mask in masks:
        parts = {mask.below[i : i + n] for n in lengths for i in range(len(mask.below) - n + 1)}
        for stem in sorted(parts & stems):
            text = pattern.pattern.replace(_STEM, re.escape(stem)).replace(_AGAIN, re.escape(stem))
            for one in find_matches([(mask.below, mask.path)], re.compile(text, pattern.flags)):
                yield one._replace(stem=stem)


def make_alternatives(names: Sequence[str]) -> str:
    """Return a pattern that matches these names, `{train,test}_masks`; `*` for many."""
    if len(names) == 1:
        return escape_pattern(names[0])
    if len(names) > MOST_NAMES or any(re.search(r"[{},*?\[]", name) for name in names):
        return "*"
    commons = (commonprefix([name[::step] for name in names]) for step in (1, -1))  # noqa: RUF071 (characters)
    begin, end = (re.sub(r"[^\W_]+$", "", common) for common in commons)  # up to a sign that separates words
    parts = [name[len(begin) : len(name) - len(end)] for name in names]
    return f"{begin}{{{','.join(parts)}}}{end[::-1]}" if all(parts) else f"{{{','.join(names)}}}"


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
    depths = {path.count("/") for path in paths}
    levels = [*map(make_alternatives, _list_levels(paths)), *["**"] * (len(depths) > 1)]
    folders = "".join(f"{level}/" for level in levels)
    stems, suffixes = ({*parts} for parts in zip(*((p.stem, p.suffix) for p in map(PurePosixPath, paths)), strict=True))
    begin, end = (commonprefix([stem[::step] for stem in stems]) for step in (1, -1))  # noqa: RUF071 (characters)
    begin, end, length = re.sub(r"\w$|\d+$", "", begin), end[::-1], min(map(len, stems))
    ends = dict.fromkeys(("*", "?" * length, f"*{escape_pattern(end)}", f"{escape_pattern(begin)}*"))
    kinds = [".*", *map(escape_pattern, sorted(suffixes))]
    yield from (f"{folders}{name}{kind}" for name in ends for kind in kinds)


def suggest_options(place: DataSource, wanted: Pairs) -> str:
    """Return options by which exactly these pairs are read, from the folder that the user gave on; "" if none do."""
    if not wanted:
        return ""
    below = {path: name for name, path in place.listing}
    masks = {below[path] for of_image in wanted.values() for path in of_image}
    images = {below[path] for path in wanted}
    texts = [*product(list_patterns(images), list_patterns(masks))]
    found = {text: {one.below for one in list_pattern_files(place, text)} for text in {*chain.from_iterable(texts)}}
    exact = [pair for pair in texts if (found[pair[1]], found[pair[0]] - masks) == (masks, images)]
    for pair in sorted(exact, key=lambda pair: not found[pair[0]].isdisjoint(masks))[:1]:
        at, other = (shlex.quote(escape_pattern(place.above) + text) for text in pair)
        return f"--images {at} --masks {other}"
    return ""
