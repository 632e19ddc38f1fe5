"""Where images and masks lie: folders by the names that people give them, and the files in them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sweeper.core.records import SplitName
from sweeper.data.decode import IMAGE_SUFFIXES, MASK_SUFFIXES
from sweeper.data.formats.base import SPLITS
from sweeper.data.formats.file_names import IMAGE_WORDS, MASK_WORDS

_HIDDEN = ("thumbs.db", "desktop.ini", "__macosx")


class Pair(NamedTuple):
    """A folder of images and one of masks that belong together, by their paths below the root."""

    images: str
    masks: str
    split: SplitName | None = None


class Layout(NamedTuple):
    """Where images and masks lie."""

    pairs: list[Pair]
    rivals: list[Pair]
    """Others that might be meant."""

    @property
    def line(self) -> str:
        """For people."""
        return ", ".join(f"{pair.images}/ and {pair.masks}/" for pair in self.pairs)


def find_pairs(root: Path, image_words: Sequence[str], mask_words: Sequence[str], *, anywhere: bool = False) -> Layout:
    """Folders of images and of masks that are called by these words, the first that go together before all others.

    Both lie in the root, or in its folders of splits; with `anywhere`, in others of its folders too. Folders of masks
    but the first of the words must hold mask files: others keep text or JSON there.
    """
    names = _folders(root)
    found: list[list[Pair]] = []
    for images in (name for word in image_words for name in names.get(word, ())):
        for masks in (name for word in mask_words for name in names.get(word, ())):
            pairs = _pairs_called(root, images, masks, anywhere=anywhere)
            if pairs and (masks == mask_words[0] or all(holds(root, pair.masks, MASK_SUFFIXES) for pair in pairs)):
                found.append(pairs)
    full = [
        pairs[0]
        for pairs in found[1:]
        if holds(root, pairs[0].images, IMAGE_SUFFIXES) and holds(root, pairs[0].masks, MASK_SUFFIXES)
    ]
    return Layout(found[0] if found else [], full)


def _pairs_called(root: Path, images: str, masks: str, *, anywhere: bool) -> list[Pair]:
    """Folders with these names that belong together, and the split that they give."""
    theirs = {path.name for path in subfolders(root / masks)}
    inner = [
        Pair(f"{images}/{name}", f"{masks}/{name}", SPLITS.get(name.lower()))
        for name in (path.name for path in subfolders(root / images))
        if name in theirs
    ]
    splits = [pair for pair in inner if pair.split is not None]
    outer = [
        Pair(f"{at.name}/{images}", f"{at.name}/{masks}", SPLITS.get(at.name.lower()))
        for at in subfolders(root)
        if (at / images).is_dir() and (at / masks).is_dir() and (anywhere or at.name.lower() in SPLITS)
    ]
    if (root / images).is_dir() and (root / masks).is_dir():
        return inner if splits and not holds_itself(root / images, IMAGE_SUFFIXES) else [Pair(images, masks)]
    return outer


def _folders(root: Path) -> dict[str, list[str]]:
    """Names of the folders in the set, and in its folders, by their lower-case form."""
    outer = subfolders(root)
    names: dict[str, list[str]] = defaultdict(list)
    for name in sorted({path.name for at in (root, *outer) for path in subfolders(at)}, key=lambda n: (n.lower(), n)):
        names[name.lower()].append(name)
    for same in names.values():
        same.sort(key=lambda name: (not name.islower(), name))
    return names


def missing(root: Path) -> list[str]:
    """What is missing for image and mask folders, where `detect` finds none: each begins with the name of a folder."""
    there = {
        path.relative_to(root).as_posix(): path
        for at in (root, *(root / name for name in SPLITS if (root / name).is_dir()))
        for path in subfolders(at)
    }
    images = [name for name, path in there.items() if path.name.lower() in IMAGE_WORDS]
    masks = [name for name, path in there.items() if path.name.lower() in MASK_WORDS]
    if images and masks:
        empty = [name for name in masks if not holds(root, name, MASK_SUFFIXES)] or masks
        return [f"{name}/: holds no masks (png, bmp, tif, gif) of the images in {images[0]}/" for name in empty]
    if images:
        return [f"{images[0].removesuffix(there[images[0]].name)}masks/: is missing beside {images[0]}/"]
    if masks:
        return [f"{masks[0].removesuffix(there[masks[0]].name)}images/: is missing beside {masks[0]}/"]
    return ["images/: is missing", "masks/: is missing"]


def holds(root: Path, folder: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a folder below the root, or one below that, holds such a file."""
    return any(path.suffix.lower() in suffixes for path in walk(root / folder, root))


def holds_itself(folder: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether there is such a file in a folder, and not below it."""
    return any(path.suffix.lower() in suffixes and not hidden(path.name) for path in folder.iterdir())


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder that are not hidden, those of splits first; none where there is no such folder."""
    if not folder.is_dir():
        return []
    found = [folder / name for name, is_folder in _entries(folder) if is_folder]
    splits = [*SPLITS]
    order = {path: splits.index(low) if (low := path.name.lower()) in splits else len(splits) for path in found}
    return sorted(found, key=lambda path: (order[path], path.name))


def walk(folder: Path, root: Path) -> Iterator[Path]:
    """Files in a folder and below in order of their paths; hidden ones are passed over.

    Links to folders are followed, but for those to a folder above; those that lead out of `root` stand for themselves.
    """
    real_root = root.resolve()
    waiting: list[tuple[Path, bool, tuple[Path, ...]]] = [(folder, True, ())]
    while waiting:
        path, is_folder, above = waiting.pop()
        if not is_folder:
            yield path
            continue
        here = path.resolve()
        if above and not here.is_relative_to(real_root):
            yield path
        elif here not in above:
            below = (*above, here)
            waiting += [(path / name, inner, below) for name, inner in reversed(_entries(path))]


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """Names in a folder in order, hidden ones passed over, and whether each is a folder."""
    with os.scandir(folder) as found:
        return sorted((entry.name, _is_folder(entry)) for entry in found if not hidden(entry.name))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def hidden(name: str) -> bool:
    """Whether a file or folder is none of a data set's."""
    return name.startswith(".") or name.lower() in _HIDDEN


def files_of(root: Path, pairs: Iterable[Pair]) -> Iterator[Path]:
    """All files in the folders of pairs."""
    return (path for pair in pairs for at in (pair.images, pair.masks) for path in walk(root / at, root))
