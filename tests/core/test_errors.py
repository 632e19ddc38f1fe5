"""Messages of errors can be printed to a terminal."""

from __future__ import annotations

from sweeper.core.errors import DataError, UsageError


def test_unprintable_characters_are_escaped_and_line_breaks_kept():
    assert str(UsageError("images\x1b[31m\r:\nβ must be there")) == r"images\x1b[31m\r:" + "\nβ must be there"
    assert str(DataError("a\x07", ["b\x1b[31m: must be an image"])).endswith(":\n  - b\\x1b[31m: must be an image")
