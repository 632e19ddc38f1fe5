"""Images and masks of two folders, paired by their stems or as people name them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sweeper.data.decode import IMAGE_SUFFIXES, MASK_SUFFIXES, read_mask
from sweeper.data.formats.base import SPLITS, Place, Reading, Sample, Size, note_passed_over
from sweeper.data.formats.file_names import IMAGE_WORDS, Ambiguous, common_naming
from sweeper.data.formats.folder_layout import Pair, hidden, holds, holds_itself, subfolders, walk
from sweeper.data.label_values import some
from sweeper.data.store import Pixels
from sweeper.data.text_tables import Side, normal, shown

ONE_BY_ONE = 3
"""Images without a mask, or masks without an image, that are named one by one; more share a line."""
LOSSY = (".jpg", ".jpeg", ".webp")


class _Listing(NamedTuple):
    """The files of one of the two folders."""

    by_stem: dict[str, list[Path]]
    """By their path below the folder, without extension."""
    others: list[str]


_Lists = list[tuple[Pair, _Listing, _Listing]]


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


def _nested(root: Path, pair: Pair) -> bool:
    """Whether the files lie in sub-folders of a pair of folders."""
    images, masks = root / pair.images, root / pair.masks
    if not holds_itself(images, IMAGE_SUFFIXES) or not holds_itself(masks, (*MASK_SUFFIXES, *LOSSY)):
        return True
    return bool({path.name for path in subfolders(images)} & {path.name for path in subfolders(masks)})


def _left_over(root: Path, pairs: Sequence[Pair]) -> list[str]:
    """Folders beside those of splits that have no counterpart."""
    used = {at for pair in pairs for at in (pair.images, pair.masks)}
    within = {Path(at).parts[0] for at in used if len(Path(at).parts) > 1 and Path(at).parts[0].lower() not in SPLITS}
    found = (f"{at}/{path.name}" for at in sorted(within) for path in subfolders(root / at))
    return [shown(name) for name in found if name not in used and holds(root, name, IMAGE_SUFFIXES)]


def _list(place: Place, folder: str, suffixes: tuple[str, ...], nested: bool) -> _Listing:
    """Files of a folder by stem; hidden ones are passed over, those of other kinds are counted."""
    at = place.root / folder
    if not place.inside(at):
        return _Listing({}, [])
    files = walk(at, place.root) if nested else (path for path in sorted(at.iterdir()) if not hidden(path.name))
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
            + patterns_of(place, lists[0][0], *(form.format("{stem}") for form in naming.first[:2]))
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
        note_passed_over(place, "file or folder of another kind", "files or folders of another kind", others)
    classes = place.classes or (place.colours.names if place.colours else None)
    return Reading(
        sorted(samples, key=lambda sample: sample.stem),
        classes,
        stems=frozenset(stems),
        place=f"{lists[0][0].images}/",
        mask_place=f"{lists[0][0].masks}/",
    )


def _pair(
    place: Place, images: tuple[str, _Listing], masks: tuple[str, _Listing], stem_of: dict[str, str], side: Side
) -> list[Sample]:
    """Images that have one file in each folder, by stem; the others are problems."""
    (images_at, image_files), (masks_at, labels) = images, masks
    alone = sorted(image_files.by_stem.keys() - labels.by_stem.keys())
    if len(alone) > ONE_BY_ONE:
        found = f"{images_at}/: {len(alone)} of {len(image_files.by_stem)} images have no mask of the same stem"
        files = [_within(place, images_at, image_files.by_stem[stem][0]) for stem in alone]
        theirs = sorted(_within(place, masks_at, path) for paths in labels.by_stem.values() for path in paths)
        ways = "add the missing ones"
        if not image_files.by_stem.keys() & labels.by_stem.keys():
            named = patterns_of(place, Pair(images_at, masks_at), mask="{stem}…")
            ways = f"call the masks like their images, or say how they are called with {named}, or {ways}"
        holds = f"{masks_at}/ holds {some(theirs, 2) or 'nothing'}"
        place.problems.append(f"{found} ({some(files, 2)}); {holds}: {ways}")
    else:
        place.problems += [
            f"{place.name(image_files.by_stem[stem][0])}: has no mask; add {masks_at}/{shown(stem)}.png, or remove "
            "the image"
            for stem in alone
        ]
    alone = sorted(labels.by_stem.keys() - image_files.by_stem.keys())
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
            place.name(image_files.by_stem[stem][0]),
            (image_files.by_stem[stem][0],),
            mask_file(place, labels.by_stem[stem][0]),
            place.name(labels.by_stem[stem][0]),
            side,
        )
        for stem in image_files.by_stem.keys() & labels.by_stem.keys()
        if len(image_files.by_stem[stem]) == len(labels.by_stem[stem]) == 1
        and labels.by_stem[stem][0].suffix.lower() not in LOSSY
    ]


def _within(place: Place, folder: str, path: Path) -> str:
    """A file's name below one of the two folders."""
    return shown(path.relative_to(place.root / folder).as_posix())


def patterns_of(place: Place, pair: Pair, image: str = "*", mask: str = "{stem}") -> str:
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


def mask_file(place: Place, path: Path) -> partial[Pixels]:
    """What makes the mask of a sample from a file of labels or colours."""
    return partial(_mask, path, place)


def _mask(path: Path, place: Place, size: Size | None) -> Pixels:
    return read_mask(path, place.colours)
