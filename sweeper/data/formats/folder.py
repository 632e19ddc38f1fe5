"""Image and mask folders: `images/` and `masks/`, or called otherwise as people do, paired by stem.

Masks are index, palette, 1-bit, 0/255, 16-bit index, or RGB with a map of colours (`sweeper.data.colours`). Sub-folders
`train`, `val` and `test` of both give a split, and so do `train/images/`, `train/masks/` and so on; other sub-folders
must be the same on both sides. Where no mask has the stem of an image, names like `a_mask.png` for `a.jpg` are
understood (`sweeper.data.formats.file_names`), and it is said which.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sweeper.core.records import SplitName
from sweeper.data.decode import IMAGE_SUFFIXES, MASK_SUFFIXES, read_mask
from sweeper.data.formats.base import SPLITS, Format, Place, Reading, Sample, Size
from sweeper.data.formats.file_names import IMAGE_WORDS, MASK_WORDS, Ambiguous, common_naming
from sweeper.data.label_values import some
from sweeper.data.store import Pixels
from sweeper.data.text_tables import Side, normal, shown

LAYOUT = (
    "a data set is a folder with images/ (png, jpg, bmp, tif, webp) and masks/ (png, bmp, tif, gif; class indices) "
    "with equal stems, and optionally classes.txt and split.csv; img/, labels/, gt/ and the like are understood too; "
    "--images 'img/*.jpg' --masks 'labels/{stem}_m.png' says how all else is called"
)
ONE_BY_ONE = 3
"""Images without a mask, or masks without an image, that are named one by one; more share a line."""
_HIDDEN = ("thumbs.db", "desktop.ini", "__macosx")
LOSSY = (".jpg", ".jpeg", ".webp")


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


class _Listing(NamedTuple):
    """The files of one of the two folders."""

    by_stem: dict[str, list[Path]]
    """By their path below the folder, without extension."""
    others: list[str]


_Lists = list[tuple[Pair, _Listing, _Listing]]


def detect(place: Place) -> str | None:
    """Whether images/ and masks/ are there, or both in folders of splits."""
    layout = find_pairs(place.root, IMAGE_WORDS, MASK_WORDS)
    return None if place.entry is not None or not layout.pairs else layout.line


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


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder that are not hidden, those of splits first; none where there is no such folder."""
    if not folder.is_dir():
        return []
    found = [folder / name for name, is_folder in _entries(folder) if is_folder]
    splits = [*SPLITS]
    order = {path: splits.index(low) if (low := path.name.lower()) in splits else len(splits) for path in found}
    return sorted(found, key=lambda path: (order[path], path.name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _HIDDEN


def _folders(root: Path) -> dict[str, list[str]]:
    """Names of the folders in the set, and in its folders, by their lower-case form."""
    outer = subfolders(root)
    names: dict[str, list[str]] = defaultdict(list)
    for name in sorted({path.name for at in (root, *outer) for path in subfolders(at)}, key=lambda n: (n.lower(), n)):
        names[name.lower()].append(name)
    for same in names.values():
        same.sort(key=lambda name: (not name.islower(), name))
    return names


def holds(root: Path, folder: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a folder below the root, or one below that, holds such a file."""
    return any(path.suffix.lower() in suffixes for path in walk(root / folder, root))


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
        return inner if splits and not _direct(root / images, IMAGE_SUFFIXES) else [Pair(images, masks)]
    return outer


def _direct(folder: Path, suffixes: tuple[str, ...]) -> bool:
    return any(path.suffix.lower() in suffixes and not _hidden(path.name) for path in folder.iterdir())


def read(place: Place) -> Reading:
    """List and pair the files; nothing is opened."""
    layout = find_pairs(place.root, IMAGE_WORDS, MASK_WORDS)
    first = layout.pairs[0]
    if layout.rivals:
        if (Path(first.images).name, Path(first.masks).name) == (IMAGE_WORDS[0], MASK_WORDS[0]):
            place.notes.append(
                f"{layout.line} are read; {_named(layout.rivals)} might be meant too, and --images with --masks would "
                "read them."
            )
        else:
            place.problems.append(
                f"images and masks must lie in one folder each, found {_named([first, *layout.rivals])}; say which "
                f"with {_patterns(place, first)}"
            )
    return read_pairs(place, layout.pairs)


def _named(pairs: Sequence[Pair]) -> str:
    return some([f"{pair.images}/ with {pair.masks}/" for pair in pairs], 3)


def _patterns(place: Place, pair: Pair, image: str = "*", mask: str = "{stem}") -> str:
    """The options that say how the files of a pair are called."""
    suffixes = [
        Counter(path.suffix for path in walk(place.root / at, place.root) if path.suffix.lower() in known).most_common(
            1
        )
        for at, known in ((pair.images, IMAGE_SUFFIXES), (pair.masks, MASK_SUFFIXES))
    ]
    ours, theirs = (found[0][0] if found else ".png" for found in suffixes)
    at = [f"{shown(folder)}/" if folder != "." else "" for folder in (pair.images, pair.masks)]
    return f"--images '{at[0]}{image}{ours}' --masks '{at[1]}{mask}{theirs}'"


def read_pairs(place: Place, pairs: Sequence[Pair]) -> Reading:
    """The images and masks of pairs of folders."""
    lists: _Lists = []
    others: list[str] = []
    for pair in pairs:
        nested = _nested(place.root, pair)
        images, masks = (
            _list(place, at, suffixes, nested)
            for at, suffixes in ((pair.images, IMAGE_SUFFIXES), (pair.masks, MASK_SUFFIXES))
        )
        lists.append((pair, images, masks))
        others += [*images.others, *masks.others]
    return pair_up(place, _called_alike(place, lists), [*others, *_left_over(place.root, pairs)])


def pair_up(place: Place, lists: _Lists, others: Sequence[str]) -> Reading:
    """Samples of files that are paired by their stems; others are named in a note."""
    samples: list[Sample] = []
    stems: set[str] = set()
    every = [stem for _, images, masks in lists for stem in images.by_stem.keys() | masks.by_stem.keys()]
    bare = [stem.rsplit("/", 1)[-1] for stem in every]
    repeated = len(bare) > len(set(bare))
    for pair, images, masks in lists:
        parts = Path(pair.images).parts
        outer, inner = (parts[0], parts[-1]) if parts else ("", "")
        prefix = f"{inner if outer.lower() in IMAGE_WORDS else outer}/" if len(lists) > 1 else ""
        stem_of = {stem: prefix + stem if repeated else stem.rsplit("/", 1)[-1] for stem in every}
        samples += _pair(place, (pair.images, images), (pair.masks, masks), stem_of, Side(pair.split))
        stems |= {stem_of[stem] for stem in images.by_stem.keys() | masks.by_stem.keys()}
    if others:
        place.notes.append(f"{len(others)} file(s) or folder(s) of another kind were passed over: {some([*others])}.")
    classes = place.classes or (place.colours.names if place.colours else None)
    return Reading(
        sorted(samples, key=lambda sample: sample.stem),
        classes,
        stems=frozenset(stems),
        place=f"{lists[0][0].images}/",
        mask_place=f"{lists[0][0].masks}/",
    )


def _left_over(root: Path, pairs: Sequence[Pair]) -> list[str]:
    """Folders beside those of splits that have no counterpart."""
    used = {at for pair in pairs for at in (pair.images, pair.masks)}
    within = {Path(at).parts[0] for at in used if len(Path(at).parts) > 1 and Path(at).parts[0].lower() not in SPLITS}
    found = (f"{at}/{path.name}" for at in sorted(within) for path in subfolders(root / at))
    return [shown(name) for name in found if name not in used and holds(root, name, IMAGE_SUFFIXES)]


def _nested(root: Path, pair: Pair) -> bool:
    """Whether the files lie in sub-folders of a pair of folders."""
    images, masks = root / pair.images, root / pair.masks
    if not _direct(images, IMAGE_SUFFIXES) or not _direct(masks, (*MASK_SUFFIXES, *LOSSY)):
        return True
    return bool({path.name for path in subfolders(images)} & {path.name for path in subfolders(masks)})


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
        return sorted((entry.name, _is_folder(entry)) for entry in found if not _hidden(entry.name))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _list(place: Place, folder: str, suffixes: tuple[str, ...], nested: bool) -> _Listing:
    """Files of a folder by stem; hidden ones are passed over, those of other kinds are counted."""
    at = place.root / folder
    if not place.inside(at):
        return _Listing({}, [])
    files = walk(at, place.root) if nested else (path for path in sorted(at.iterdir()) if not _hidden(path.name))
    return listing(place, at, files, suffixes)


def listing(place: Place, at: Path, files: Iterable[Path], suffixes: tuple[str, ...]) -> _Listing:
    """These files by their stems below the folder `at`; those of other kinds than the suffixes are counted."""
    by_stem: dict[str, list[Path]] = defaultdict(list)
    others = []
    for path in files:
        if path.is_symlink() and not place.inside(path):
            continue
        stem = normal(path.relative_to(at).with_suffix("").as_posix())
        if path.suffix.lower() in suffixes and path.is_file():
            by_stem[stem].append(path)
        elif suffixes is MASK_SUFFIXES and path.suffix.lower() in LOSSY:
            # It counts as this stem's mask, so that the fault is named once and not also as a missing mask.
            by_stem[stem].append(path)
            place.problems.append(
                f"{place.name(path)}: masks must be lossless (png, bmp, tif, gif), found {path.suffix}; save it as PNG"
            )
        else:
            others.append(place.name(path))
    for stem, paths in by_stem.items():
        if len(paths) > 1:
            files_ = ", ".join(shown(path.name) for path in paths)
            place.problems.append(
                f"{place.name(at)}/{shown(stem)}: a stem may name one file, found {files_}; rename or remove one"
            )
    return _Listing(dict(by_stem), others)


def _called_alike(place: Place, lists: _Lists) -> _Lists:
    """The masks by the stems of their images, where these are called otherwise; what was assumed is noted."""
    images, masks = ({stem for at in lists for stem in at[k].by_stem} for k in (1, 2))  # type: ignore[union-attr]
    naming = common_naming(images, masks)
    if isinstance(naming, Ambiguous):
        place.problems.append(
            f"{lists[0][0].masks}/: an image has one mask, found more: {shown(naming.example)}; say which with "
            + _patterns(place, lists[0][0], *(form.format("{stem}") for form in naming.first[:2]))
        )
        rivals = naming.second.masks.keys()
        lists = [(pair, ours, _without(rivals, theirs)) for pair, ours, theirs in lists]
        naming = naming.first
    if naming is not None:
        say_paired(place, naming.example)
        return [(pair, ours, renamed(place, naming.masks, theirs)) for pair, ours, theirs in lists]
    if len(lists) > 1 or 2 * len(images & masks) >= min(len(images), len(masks)):
        return lists
    # Folders on one side alone, or other ones: the files' names decide if they are unique.
    bare = [{stem.rsplit("/", 1)[-1]: stem for stem in stems} for stems in (images, masks)]
    if any(len(names) < len(stems) for names, stems in zip(bare, (images, masks), strict=True)):
        return lists
    both = common_naming(bare[0], bare[1])
    if isinstance(both, Ambiguous):
        return lists
    by_name = {name: name for name in bare[0].keys() & bare[1].keys()} if both is None else both.masks
    if not by_name:
        return lists
    pairs = {bare[1][mask]: bare[0][image] for mask, image in by_name.items()}
    least = min(pairs)
    say_paired(place, f"{least} is the mask of {pairs[least]}")
    return [(pair, ours, renamed(place, pairs, theirs)) for pair, ours, theirs in lists]


def say_paired(place: Place, example: str) -> None:
    """Note by which names masks were given to images."""
    place.notes.append(f"Images and masks were paired by their names: {shown(example)}.")
    place.assumed.append(shown(example))


def _without(gone: Iterable[str], masks: _Listing) -> _Listing:
    left = {stem: paths for stem, paths in masks.by_stem.items() if stem not in {*gone}}
    return _Listing(left, masks.others)


def renamed(place: Place, images: Mapping[str, str], masks: _Listing) -> _Listing:
    """The masks by the stems of their images; those without one keep their own."""
    found: dict[str, list[Path]] = defaultdict(list)
    for stem, paths in masks.by_stem.items():
        found[images.get(stem, stem)] += paths
    for stem, paths in found.items():
        if len({path.stem for path in paths}) > 1:
            both = some([place.name(path) for path in paths])
            place.problems.append(f"{shown(stem)}: an image has one mask, found {both}; remove one, or use --masks")
    return _Listing(dict(found), masks.others)


def _within(place: Place, folder: str, path: Path) -> str:
    """A file's name below one of the two folders."""
    return shown(path.relative_to(place.root / folder).as_posix())


def _pair(
    place: Place, images: tuple[str, _Listing], masks: tuple[str, _Listing], stem_of: dict[str, str], side: Side
) -> list[Sample]:
    """Images that have one file in each folder, by stem; the others are problems."""
    (images_at, pictures), (masks_at, labels) = images, masks
    alone = sorted(pictures.by_stem.keys() - labels.by_stem.keys())
    if len(alone) > ONE_BY_ONE:
        found = f"{images_at}/: {len(alone)} of {len(pictures.by_stem)} images have no mask of the same stem"
        files = [_within(place, images_at, pictures.by_stem[stem][0]) for stem in alone]
        theirs = sorted(_within(place, masks_at, path) for paths in labels.by_stem.values() for path in paths)
        ways = "add the missing ones"
        if not pictures.by_stem.keys() & labels.by_stem.keys():
            named = _patterns(place, Pair(images_at, masks_at), mask="{stem}…")
            ways = f"call the masks like their images, or say how they are called with {named}, or {ways}"
        holds = f"{masks_at}/ holds {some(theirs, 2) or 'nothing'}"
        place.problems.append(f"{found} ({some(files, 2)}); {holds}: {ways}")
    else:
        place.problems += [
            f"{place.name(pictures.by_stem[stem][0])}: has no mask; add {masks_at}/{shown(stem)}.png, or remove "
            "the image"
            for stem in alone
        ]
    alone = sorted(labels.by_stem.keys() - pictures.by_stem.keys())
    if len(alone) > ONE_BY_ONE:
        files = [_within(place, masks_at, labels.by_stem[stem][0]) for stem in alone]
        place.problems.append(
            f"{masks_at}/: {len(alone)} of {len(labels.by_stem)} masks have no image of the same stem "
            f"({some(files, 2)}); call them like their images, or remove them"
        )
    else:
        place.problems += [
            f"{place.name(labels.by_stem[stem][0])}: has no image; add {images_at}/{shown(stem)}.png (or .jpg), or "
            "remove the mask"
            for stem in alone
        ]
    return [
        Sample(
            stem_of[stem],
            place.name(pictures.by_stem[stem][0]),
            (pictures.by_stem[stem][0],),
            mask_file(place, labels.by_stem[stem][0]),
            place.name(labels.by_stem[stem][0]),
            side,
        )
        for stem in pictures.by_stem.keys() & labels.by_stem.keys()
        if len(pictures.by_stem[stem]) == len(labels.by_stem[stem]) == 1
        and labels.by_stem[stem][0].suffix.lower() not in LOSSY
    ]


def mask_file(place: Place, path: Path) -> partial[Pixels]:
    """What makes the mask of a sample from a file of labels or colours."""
    return partial(_mask, path, place)


def _mask(path: Path, place: Place, size: Size | None) -> Pixels:
    return read_mask(path, place.colours)


def _files(place: Place) -> Iterator[Path]:
    return files_of(place.root, find_pairs(place.root, IMAGE_WORDS, MASK_WORDS).pairs)


def files_of(root: Path, pairs: Iterable[Pair]) -> Iterator[Path]:
    """All files in the folders of pairs."""
    return (path for pair in pairs for at in (pair.images, pair.masks) for path in walk(root / at, root))


FORMAT = Format("images/ and masks/ with equal stems", detect, read, _files)
