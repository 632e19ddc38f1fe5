"""`--log-file`: everything that is said, with its time, in a file, beside what the terminal shows."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from sweeper.cli.progress import Left, PlainDisplay
from sweeper.core.errors import UsageError
from sweeper.core.events import SweepEvent
from sweeper.core.redact import redact


class FileDisplay(PlainDisplay):
    """Lines added to a file, every evaluation among them; a disk that is full later never ends a sweep."""

    def __init__(self, path: Path) -> None:
        """Make the file, and its folder, where they are missing.

        Raises:
            UsageError: if it cannot be written.
        """
        super().__init__(1)
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._add("")
        except OSError as error:
            raise UsageError(
                f"--log-file {path} must be a file that can be written: {error.strerror or error}; name another one"
            ) from error

    def _add(self, text: str) -> None:
        """Opened each time: a file that is moved away to be kept is begun anew."""
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)

    def log(self, text: str) -> None:
        """A line for each line of it."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with suppress(OSError):
            self._add("".join(f"{now} {line}\n" for line in redact(text).splitlines()))

    def warn(self, text: str) -> None:
        """The same."""
        self.log(f"warning: {text}")

    def note(self, text: str) -> None:
        """The result, or the error that ended the sweep."""
        self.log(text)

    def close(self) -> None:
        """Nothing: the result comes after the display is closed, and each line is written at once."""


class Displays(PlainDisplay):
    """Two that are told the same."""

    def __init__(self, *each: PlainDisplay) -> None:
        super().__init__()
        self._each = each

    def log(self, text: str) -> None:
        """On each."""
        for display in self._each:
            display.log(text)

    def warn(self, text: str) -> None:
        """On each."""
        for display in self._each:
            display.warn(text)

    def progress(self, what: str, done: int, total: int) -> None:
        """On each."""
        for display in self._each:
            display.progress(what, done, total)

    def phase(self, name: str, done: int, total: int) -> None:
        """On each."""
        for display in self._each:
            display.phase(name, done, total)

    def expect(self, left: Left) -> None:
        """On each."""
        for display in self._each:
            display.expect(left)

    def notify(self, event: SweepEvent) -> None:
        """On each."""
        for display in self._each:
            display.notify(event)

    def note(self, text: str) -> None:
        """On each."""
        for display in self._each:
            display.note(text)

    def close(self) -> None:
        """Each."""
        for display in self._each:
            display.close()
