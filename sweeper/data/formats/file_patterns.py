"""The patterns that name files: what may stand in `--images` and `--masks`, and the expression that it becomes.

`*` and `?` stand for any part of a name, `**` for folders, `[ab]` and `{jpg,png}` for one of several; `{stem}` in the
masks' pattern is the image's name without extension, or what `{stem}` stands for in the images' pattern. The extension
counts in any case.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sweeper.core.errors import UsageError
from sweeper.core.paths import expanded
from sweeper.core.records import Patterns
from sweeper.data.addresses import check_no_address
from sweeper.data.synthetic import PREFIX
from sweeper.data.text_tables import normal, shown

STEM = "{stem}"
_STEM, _AGAIN = "(?P<stem>[^/]+)", "(?P=stem)"
_SIGN = re.compile(r"[*?\[{]")
_TOKEN = re.compile(r"\*\*/|\*+|\?|\[!?\]?[^\]/]*\]|\{stem\}|\{[^{}/]*,[^{}/]*\}|\{[^{}/]*\}|/|[^*?\[{/]+|.", re.DOTALL)


class FilePattern(NamedTuple):
    """One of the two patterns, ready to match paths below the root."""

    option: str
    text: str
    regex: re.Pattern[str]
    folder: str
    """The folder before the first wildcard, below the root; empty for the root."""
    folders: tuple[str, ...]
    """Groups of the wildcards that stand for folders."""
    has_stem: bool
    exact: bool
    """Whether a path has one stem at most: no other wildcard stands in that part of it."""

    def of_stem(self, stem: str) -> re.Pattern[str]:
        """The same of the files of one image."""
        own = re.escape(stem)
        return re.compile(self.regex.pattern.replace(_STEM, own).replace(_AGAIN, own), re.DOTALL)


def patterns_of(data: str | None, images: str, masks: str) -> tuple[str, Patterns]:
    """What is named: the folder (or archive), and the patterns below it.

    Without `data` the folder is the deepest that both patterns are in.

    Args:
        data: a folder or a zip archive; then the patterns begin there.
        images: pattern of the images, or their folder.
        masks: pattern of the masks, or their folder.

    Raises:
        UsageError: (DataError among them) a pattern is an address, leads out of the folder, or has no meaning.
    """
    given = {"--images": images, "--masks": masks}
    for option, text in (*given.items(), *([] if data is None or os.path.exists(data) else [("--data", data)])):  # noqa: PTH110
        if "\0" in text:
            raise UsageError(f"{option} must be text, found a NUL character; mend it")
        check_no_address(option, text)
    texts = {
        option: os.path.normpath(str(expanded(text)) if text.startswith("~") else text)
        for option, text in given.items()
    }
    if data is None:
        if any(PurePosixPath(text).is_absolute() or text.startswith("..") for text in texts.values()):
            texts = {option: os.path.abspath(text) for option, text in texts.items()}  # noqa: PTH100 (no path: wildcards)
        folders = [text if Path(text).is_dir() else _fixed(text) for text in texts.values()]
        data = os.path.commonpath(folders) or "."
        texts = {option: os.path.relpath(text, data) for option, text in texts.items()}
    else:
        root = os.path.abspath(expanded(data))  # noqa: PTH100
        texts = {
            option: os.path.relpath(text, root) if PurePosixPath(text).is_absolute() else text
            for option, text in texts.items()
        }
    for option, text in texts.items():
        if text.split("/")[0] == "..":
            raise UsageError(
                f"{option} must name files below {shown(data)}, got {shown(given[option])}; name a folder above"
            )
        file_pattern(option, text)  # refuses what has no meaning
    return data, Patterns(images=texts["--images"], masks=texts["--masks"])


def asked_patterns(data: str | None, images: str | None, masks: str | None) -> tuple[str | None, Patterns | None]:
    """The same of options that may be missing: without patterns `data` as it is, and None.

    Raises:
        UsageError: as `patterns_of`; one of the patterns is missing, or `data` is drawn.
    """
    if images is None and masks is None:
        return data, None
    if images is None or masks is None:
        given, other = ("--masks", "--images") if images is None else ("--images", "--masks")
        example = "'img/**/*.jpg'" if images is None else f"'labels/{STEM}.png'"
        raise UsageError(f"--images and --masks go together, got {given} alone; add {other}, for example {example}")
    if data is not None and data.startswith(PREFIX):
        raise UsageError(f"--images and --masks are for files, and {shown(data)} is drawn; leave them out")
    return patterns_of(data, images, masks)


def _fixed(text: str) -> str:
    """The folder before the first wildcard."""
    found = _SIGN.search(text)
    return os.path.dirname(text if found is None else text[: found.start()])  # noqa: PTH120 (wildcards are no path)


def file_pattern(option: str, text: str) -> FilePattern:
    """A pattern as an expression.

    Raises:
        UsageError: it holds a name in braces other than `{stem}`.
    """
    parts: list[str] = []
    folders: list[str] = []
    has_stem = False
    tokens = _TOKEN.findall(normal(text))
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
        found = _expression(option, text, token)
        if i < last + 1 and _SIGN.match(token) and token != "/":
            folders.append(f"f{len(folders)}")
            found = f"(?P<{folders[-1]}>{found})"
        parts.append(found)
    if suffix is not None:
        parts.append(f"(?i:{re.escape(suffix[0])})")
    holders = [part for part in re.split("/", text) if STEM in part]
    exact = all(_SIGN.search(part.replace(STEM, "")) is None for part in holders)
    return FilePattern(
        option, text, re.compile("".join(parts), re.DOTALL), _fixed(text), tuple(folders), has_stem, exact
    )


def _expression(option: str, text: str, token: str) -> str:
    if token == "**/":
        return "(?:[^/]+/)*"
    if token.startswith("*"):
        return "[^/]*"
    if token == "?":
        return "[^/]"
    if token.startswith("[") and len(token) > 2:
        inner = token[2:-1] if token[1] == "!" else token[1:-1]
        safe = inner.replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^").replace("]", r"\]")
        safe = re.sub(r"(?<=[&~|])(?=[&~|])", r"\\", safe)
        try:
            found = f"[{'^/' if token[1] == '!' else ''}{safe}]"
            re.compile(found)
        except re.error as error:
            raise UsageError(
                f"{option}: {shown(token)} in {shown(text)} is no choice of characters ({error})"
            ) from error
        return found
    if token.startswith("{") and "," in token:
        return f"(?:{'|'.join(re.escape(one) for one in token[1:-1].split(','))})"
    if token.startswith("{") and token.endswith("}"):
        raise UsageError(
            f"{option} knows {STEM} alone, the image's name without extension; got {shown(token)} in {shown(text)}"
        )
    return re.escape(token)


def has_wildcards(text: str) -> bool:
    """Whether a text is a pattern, and no plain path."""
    return _SIGN.search(text) is not None
