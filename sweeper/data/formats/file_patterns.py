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
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import takewhile
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
MOST_NAMES = 10
"""Most folders that a pattern lists."""
_STEM, _AGAIN = "(?P<stem>[^/]+)", "(?P=stem)"
_SIGN = re.compile(r"[*?\[{]")
_TOKEN = re.compile(r"\*\*/|\*+|\?|\[!?\]?[^\]/]*\]|\{stem\}|\{[^{}/]*,[^{}/]*\}|\{[^{}/]*\}|/|[^*?\[{/]+|.", re.DOTALL)


_ENDING = re.compile(r"\.(\*|\{[^{}]*\})$")
"""Pattern of an extension by wildcard or alternatives."""


class FilePattern(NamedTuple):
    """A compiled pattern of images or masks, which matches paths below the root."""

    text: str
    regex: re.Pattern[str]
    folders: tuple[str, ...]
    """Names of the regex groups of folder wildcards."""
    has_stem: bool
    exact: bool
    """Whether a path has at most one stem, as the path part with `{stem}` has no other wildcard."""


class PatternMatch(NamedTuple):
    """A file that matches a pattern."""

    path: Path
    below: str
    """Path below the root, in composed form."""
    stem: str
    """Text that `{stem}` matches; without `{stem}` the name without extension."""
    folders: tuple[str, ...]
    """Texts that the folder wildcards match."""

    @property
    def name(self) -> str:
        """The file's name without extension, below the folders that the wildcards match."""
        return "/".join([*filter(None, self.folders), PurePosixPath(self.below).stem])


class MatchedFiles(NamedTuple):
    """Files that match a pattern, or some of them."""

    pattern: FilePattern
    files: Sequence[PatternMatch]


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
    match = _SIGN.search(text)
    return os.path.dirname(text if match is None else text[: match.start()])  # noqa: PTH120 (wildcards are no path)


def compile_pattern(text: str, option: str = "") -> FilePattern:
    """Compile a pattern; the case of extensions is ignored. `option` is its name in messages.

    Raises:
        UsageError: it contains a name in braces other than `{stem}`.
    """
    parts: list[str] = []
    folders: list[str] = []
    has_stem = False
    tokens = _TOKEN.findall(normalise_text(text))
    last = max((i for i, token in enumerate(tokens) if token in {"/", "**/"}), default=-1)
    names = tokens[last + 1 :]
    suffix = re.search(r"\.\w+$", names[-1]) if names and not _SIGN.match(names[-1]) else None
    if suffix is not None:
        tokens[-1:] = [names[-1][: suffix.start()]]
    for i, token in enumerate(tokens):
        if token == STEM:
            parts.append(_AGAIN if has_stem else _STEM)
            has_stem = True
            continue
        expression = _make_expression(option, text, token)
        if i < last + 1 and _SIGN.match(token) and token != "/":
            folders.append(f"f{len(folders)}")
            expression = f"(?P<{folders[-1]}>{expression})"
        parts.append(expression)
    if suffix is not None:
        parts.append(f"(?i:{re.escape(suffix[0])})")
    others = [_ENDING.sub("", part.replace(STEM, "")) for part in text.split("/") if STEM in part]
    exact = not any(map(has_wildcards, others))
    regex = re.compile("".join(parts), re.DOTALL)
    return FilePattern(text, regex, tuple(folders), has_stem, exact)


def _make_expression(option: str, text: str, token: str) -> str:
    if token == "**/":
        return "(?:[^/]+/)*"
    if token.startswith("*"):
        return "[^/]*"
    if token == "?":
        return "[^/]"
    if token.startswith("[") and len(token) > 2:
        return f"(?!/){fnmatch.translate(token)[:-2]}"  # without the end that translate adds
    if token.startswith("{") and "," in token:
        return f"(?:{'|'.join(re.escape(one) for one in token[1:-1].split(','))})"
    if token.startswith("{") and token.endswith("}"):
        raise UsageError(f"{option} knows {STEM} alone, the image's name without extension; got {token} in {text}")
    return re.escape(token)


def has_wildcards(text: str) -> bool:
    """Return whether a text is a pattern rather than a plain path."""
    return _SIGN.search(text) is not None


def escape_pattern(name: str) -> str:
    """Return a name as a pattern that matches only itself."""
    return _SIGN.sub(r"[\g<0>]", name)


def find_matches(place: DataSource, pattern: FilePattern) -> Iterator[PatternMatch]:
    """Yield the files that match a pattern, sorted by path."""
    for below, path in place.listing:
        if (match := pattern.regex.fullmatch(below)) is not None:
            stem = match["stem"] if pattern.has_stem else PurePosixPath(below).stem
            yield PatternMatch(path, below, stem, _list_folders(match, pattern))


def _list_folders(match: re.Match[str], pattern: FilePattern) -> tuple[str, ...]:
    return tuple(match[group].rstrip("/") for group in pattern.folders)


def find_masks(images: MatchedFiles, masks: MatchedFiles) -> dict[Path, list[Path]]:
    """Return the candidate masks of each image by two patterns, for the images that have any.

    If both have equally many folder wildcards, the matched folders must be equal, unless no image would have a mask
    then.
    """
    image, mask = images.pattern, masks.pattern
    loose: dict[str, list[Path]] = defaultdict(list)
    strict: dict[tuple[str, tuple[str, ...]], list[Path]] = defaultdict(list)
    stems = {one.stem for one in images.files}
    for label in masks.files:
        for stem, folders in _list_stems(label, mask, stems):
            loose[stem].append(label.path)
            strict[stem, folders].append(label.path)
    same = {one.path: strict.get((one.stem if mask.has_stem else "", one.folders), []) for one in images.files}
    if len(image.folders) != len(mask.folders) or not image.folders or (mask.has_stem and not any(same.values())):
        same = {one.path: loose.get(one.stem, []) for one in images.files}
    return {path: of_image for path, of_image in same.items() if of_image}


def _list_stems(label: PatternMatch, mask: FilePattern, stems: set[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the image stems that a mask's path may contain, each with the folders that its wildcards match then."""
    if not mask.has_stem:
        yield "", label.folders
    elif mask.exact:
        yield label.stem, label.folders
    else:
        lengths = {len(stem) for stem in stems}
        parts = (label.below[i : i + n] for n in lengths for i in range(len(label.below) - n + 1))
        for stem in sorted({part for part in parts if part in stems}):
            escaped_stem = re.escape(stem)
            regex = re.compile(
                mask.regex.pattern.replace(_STEM, escaped_stem).replace(_AGAIN, escaped_stem), mask.regex.flags
            )
            if (match := regex.fullmatch(label.below)) is not None:
                yield stem, _list_folders(match, mask)


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
    begin, end, length = re.sub(r"\w$|\d+$", "", begin), end[::-1], min(map(len, stems))
    ends = dict.fromkeys(("*", "?" * length, f"*{escape_pattern(end)}", f"{escape_pattern(begin)}*"))
    kinds = [".*", *map(escape_pattern, sorted(suffixes))]
    for at in dict.fromkeys((wide, folders)):
        yield from (f"{at}{name}{kind}" for name in ends for kind in kinds)
