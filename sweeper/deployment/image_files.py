"""Find the image files that a user lists as files, folders and patterns, and name the prediction of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from glob import glob
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from sweeper.core.errors import UsageError
from sweeper.core.paths import expand_user
from sweeper.core.text import format_count, is_unicode, suggest_path
from sweeper.data.decode import read_image, read_image_kind
from sweeper.data.formats.base import walk_files
from sweeper.data.formats.file_patterns import compile_pattern, get_fixed_folder, has_wildcards
from sweeper.data.open_image import IMAGE_SUFFIXES
from sweeper.data.problem_lines import check_no_address
from sweeper.data.store import ImagePixels
from sweeper.data.text_tables import UnreadableFileError, normalise_text
from sweeper.data.variants import compute_shrunk_size, shrink_image


class ImageFile(NamedTuple):
    """An image to read."""

    path: Path
    name: PurePosixPath
    """Path of its prediction, relative to the output folder and without an extension: `a`, `day 1/b`."""


def find_images(arguments: Sequence[str], without: Path | None = None) -> list[ImageFile]:
    """Return the images that the arguments select, each once, in the order of the arguments and of their names.

    A folder selects all images in it and below (by extension, without hidden ones), which keep their relative paths. A
    file is selected whatever its extension.

    Args:
        arguments: paths of files and folders, or patterns such as `day*/**/*.png` if there is no such file.
        without: folder whose files are left out: the output folder, if it is among the images.

    Raises:
        UsageError: an argument selects nothing, or two images would share the name of their prediction.
    """
    problems: list[str] = []
    images: list[tuple[Path, PurePosixPath]] = []
    seen: set[object] = set()
    aside = None if without is None else Path(os.path.realpath(without))
    for argument in arguments:
        for path, place in _resolve_argument(argument, problems):
            real = Path(os.path.realpath(path))  # a link to itself stays one, and cannot be read later
            names = {os.path.abspath(path), (real, place)}  # noqa: PTH100 (a link has a prediction of its own)
            is_aside = aside is not None and real.is_relative_to(aside)
            if not is_aside and not names & seen:
                seen |= names
                images.append((path, place))
    if not images and not problems:
        where = ", ".join(arguments)
        problems.append(f"no image was found in {where}; known are {', '.join(IMAGE_SUFFIXES)}")
    bare = Counter(place.with_suffix("") for _, place in images)
    files = [
        # a.png and a.jpg in one folder keep their extensions
        ImageFile(path, place.with_suffix("") if bare[place.with_suffix("")] == 1 else place)
        for path, place in images
    ]
    first: dict[PurePosixPath, Path] = {}
    for path, name in files:
        if first.setdefault(name, path) != path:
            problems.append(
                f"each answer needs a name of its own, and {first[name]} and "
                f"{path} would share {name}; name the folder above both"
            )
    if problems:
        raise UsageError("\n".join(["images to predict:", *(f"  - {text}" for text in problems[:20])]))
    return files


def _resolve_argument(argument: str, problems: list[str]) -> Iterable[tuple[Path, PurePosixPath]]:
    """Yield the path of each image that an argument selects, and its path relative to the argument."""
    if not Path(argument).exists():
        check_no_address("IMAGES", argument)
    path = expand_user(argument)
    base = path
    if path.is_file():
        yield path, PurePosixPath(path.name)
        return
    if path.is_dir():
        files = walk_files(path)
    elif has_wildcards(argument):
        base = Path(get_fixed_folder(str(path)))
        files = _list_matching(path, base)
    else:
        problems.append(
            f"{argument} must be an image, a folder of images or a pattern; there is none{suggest_path(path)}, check it"
        )
        return
    named = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    images = [file for file in named if not file.is_dir()]
    if not images:
        problems.append(f"{argument} selects no image; known are {', '.join(IMAGE_SUFFIXES)}")
    for image in images:
        yield image, PurePosixPath(image.relative_to(base).as_posix())


def _list_matching(path: Path, base: Path) -> Iterator[Path]:
    """Yield the files that a pattern matches, which begins in a folder."""
    if "**" not in path.parts:
        yield from (Path(one) for one in sorted(glob(str(path))))  # noqa: PTH207 (absolute, too)
    elif base.is_dir():  # glob would follow a link to a parent folder endlessly
        wanted = compile_pattern(os.path.relpath(path, base), "IMAGES")
        for file in walk_files(base):
            if wanted.fullmatch(normalise_text(file.relative_to(base).as_posix())):
                yield file


def read_for(
    path: Path, *, channels: int, full_scale: int, short_side: int | None = None
) -> tuple[ImagePixels, tuple[int, int]]:
    """Read an image like those of a data set: upright, without alpha, in their depth.

    A grey image is repeated for a network with three channels; any other mismatch of channels is an error.

    Args:
        path: the file.
        channels: channels of the training images.
        full_scale: largest value of the training images: 255 (uint8) or 65535 (uint16).
        short_side: shorter side in pixels to which larger images are shrunk; None = not shrunk.

    Returns:
        (H, W, channels) uint8 or uint16, shrunk if requested; and the height and width before shrinking.

    Raises:
        UnreadableFileError: with the problem of the file.
    """
    if not is_unicode(str(path)):
        raise UnreadableFileError("file names must be Unicode (UTF-8), found other bytes; rename it")
    stored = read_image_kind(path).channels
    if stored != channels and (stored, channels) != (1, 3):
        raise UnreadableFileError(
            f"must have {format_count(channels, 'channel')}, as the images had that the network was trained on, "
            f"found {stored}; export it alike"
        )
    image = read_image(path, channels, np.uint8 if full_scale == np.iinfo(np.uint8).max else np.uint16)
    height, width = image.shape[:2]
    if short_side is not None:
        size = compute_shrunk_size(height, width, short_side)
        if size != (height, width):
            image = shrink_image(image, size)
    return image, (height, width)
