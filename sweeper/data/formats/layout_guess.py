"""Guessed places of images and masks, as two patterns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sweeper.data.formats.base import DataSource
from sweeper.data.formats.file_patterns import STEM, escape_pattern

MOST_NAMES = 10
"""Most folders that a pattern lists."""


class LayoutGuess(NamedTuple):
    """Possible places of images and masks."""

    images: str
    """A pattern with `{stem}` for the images' names."""
    masks: str
    folders: tuple[str, str] = (".", ".")
    """Display names of the images' and masks' places; equal if masks are next to their images."""
    words: bool = False
    """Whether masks are separated from the images next to them only by words in their names."""

    @property
    def format_line(self) -> str:
        """Description of the finding."""
        at, other = self.folders
        return "masks next to their images" if at == other else f"{at}/ and {other}/"

    def format_options(self, place: DataSource) -> str:
        """Return the options that select the same files, relative to the folder that the user gave."""
        images, masks = (escape_pattern(place.above) + one for one in (self.images, self.masks))
        return f"--images '{images}' --masks '{masks}'"


def walk_folders(images: str, masks: str) -> LayoutGuess:
    """Return the guess of all files in and below folders that match these patterns."""
    return LayoutGuess(f"{images}/**/{STEM}.*", f"{masks}/**/{STEM}.*", (images, masks))


def make_alternatives(names: Sequence[str]) -> str:
    """Return a pattern that matches these names; `*` for many."""
    if len(names) == 1:
        return escape_pattern(names[0])
    is_any = len(names) > MOST_NAMES or any(re.search(r"[{},*?\[]", name) for name in names)
    return "*" if is_any else f"{{{','.join(names)}}}"
