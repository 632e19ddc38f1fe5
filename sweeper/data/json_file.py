"""JSON from strangers: bounded in memory, whole (`load_json`) or entry by entry (`stream_entries`)."""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeper.core.regular_files import open_regular, read_regular
from sweeper.data.decode import UnreadableFileError

MAX_BYTES = 1 << 27
"""Of a file that is read as a whole: room for an embedded image."""
MAX_VALUES = 4_000_000
"""Values in such a file: Python takes up to a hundred bytes for each."""
MAX_ENTRY = 1 << 24
"""Characters of one entry of a list that is read entry by entry."""
_SPACE = " \t\r\n"


def load_json(path: Path) -> Any:
    """The data of a JSON file.

    Raises:
        UnreadableFileError: not JSON, too large, or nested without end.
    """
    with _faults():
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UnreadableFileError(
                f"must be {MAX_BYTES >> 20} MiB at most, found {size >> 20} MiB; is it an annotation of one image?"
            )
        raw = read_regular(path)
        values = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
        if values > MAX_VALUES:
            raise UnreadableFileError(f"must hold {MAX_VALUES:,} values at most, found about {values:,}; divide it")
        text = raw.decode("utf-8-sig")
        del raw
        return json.loads(text)


def stream_entries(path: Path, keys: Collection[str]) -> Iterator[tuple[str, Any]]:
    """The entries of the lists named `keys` in a JSON object, in the file's order; one is in memory at a time.

    Raises:
        UnreadableFileError: not JSON, not an object, one entry is enormous, or one of `keys` holds no list.
    """
    with _faults(), open_regular(path) as file:
        yield from _members(_Window(file), keys)


@contextmanager
def _faults() -> Iterator[None]:
    """Says of a file that cannot be read, or is no JSON, what is wrong with it."""
    try:
        yield
    except OSError as error:
        raise UnreadableFileError(f"cannot be read ({error.strerror}); check its permissions") from error
    except UnicodeDecodeError as error:
        raise UnreadableFileError(
            f"must be UTF-8 text, found other bytes ({error.reason}); save it as UTF-8"
        ) from error
    except RecursionError as error:
        raise UnreadableFileError("must be JSON, found lists in lists without end; export it again") from error
    except ValueError as error:
        raise UnreadableFileError(f"must be JSON, found an error: {error}; export it again") from error


def _members(window: _Window, keys: Collection[str]) -> Iterator[tuple[str, Any]]:
    window.expect("{")
    if window.peek() == "}":
        return
    while True:
        key = window.value()
        window.expect(":")
        listed = window.peek() == "["
        if key in keys and not listed:
            raise UnreadableFileError(f"{key!r} must be a list, found something else; is it COCO?")
        if listed:
            for entry in _entries(window):
                if key in keys:
                    yield key, entry
        else:
            window.value()
        if window.expect(",}") == "}":
            return


def _entries(window: _Window) -> Iterator[Any]:
    window.expect("[")
    if window.peek() == "]":
        window.expect("]")
        return
    while True:
        yield window.value()
        if window.expect(",]") == "]":
            return


class _Window:
    """The part of a text file that is being parsed."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._parse = json.JSONDecoder().raw_decode
        self._text, self._at, self._ended = "", 0, False

    def _more(self) -> bool:
        """Read as much again as is left, at least 64 KiB; False at the end of the file."""
        if self._ended:
            return False
        left = self._text[self._at :]
        raw = self._file.read(max(1 << 16, len(left)))
        self._ended = not raw
        self._text, self._at = left + self._decode(raw, self._ended), 0
        return True

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def expect(self, characters: str) -> str:
        """Take the next character, which must be one of these."""
        found = self.peek()
        if not found or found not in characters:
            raise ValueError(f"{' or '.join(characters)} expected, found {found or 'the end of the file'!r}")
        self._at += 1
        return found

    def value(self) -> Any:
        """Take the next value, however much text it needs."""
        self.peek()
        while True:
            try:
                value, end = self._parse(self._text, self._at)
                if end < len(self._text) or self._ended:  # a number at the edge may go on behind it
                    self._at = end
                    return value
            except ValueError:
                if self._ended:
                    raise
            if len(self._text) - self._at > MAX_ENTRY:
                raise UnreadableFileError(
                    f"one entry must have {MAX_ENTRY >> 20} Mi characters at most, or is no JSON, found more; divide it"
                )
            self._more()
