"""Images and masks that two patterns name: `--images 'img/**/*.jpg' --masks 'labels/{stem}_mask.png'`.

What may stand in them: `file_patterns.py`. Where wildcards stand for folders on both sides, they must stand for the
same: `*/mask.png` is the mask of `*/image.png` in one folder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sweeper.data.decode import IMAGE_SUFFIXES, MASK_SUFFIXES
from sweeper.data.formats.base import (
    Format,
    Place,
    Reading,
    Sample,
    drop_repeated,
    note_passed_over,
    split_of,
    unique_stems,
)
from sweeper.data.formats.file_patterns import STEM, FilePattern, file_pattern, has_wildcards
from sweeper.data.formats.folder_layout import walk
from sweeper.data.formats.paired_files import LOSSY, ONE_BY_ONE, mask_file
from sweeper.data.label_values import some
from sweeper.data.text_tables import Side, normal, shown

NAME = "patterns"


class _Match(NamedTuple):
    path: Path
    below: str
    """Path below the root, in composed form."""
    stem: str
    folders: tuple[str, ...]
    """What the wildcards for folders stand for."""


def detect(place: Place) -> str | None:
    """What the patterns are."""
    return (
        None
        if place.patterns is None
        else f"--images {shown(place.patterns.images)} --masks {shown(place.patterns.masks)}"
    )


def names_something(place: Place) -> bool:
    """Whether the pattern of the images names a file."""
    return next(_matches(place, _both(place)[0]), None) is not None


def _both(place: Place) -> tuple[FilePattern, FilePattern]:
    assert place.patterns is not None  # detected
    texts = [
        f"{text}/**/*" if not has_wildcards(text) and (place.root / text).is_dir() else text
        for text in (place.patterns.images, place.patterns.masks)
    ]
    if texts[1] != place.patterns.masks:
        texts[1] = f"{place.patterns.masks}/**/{STEM}.*"
    return file_pattern("--images", texts[0]), file_pattern("--masks", texts[1])


def _matches(place: Place, pattern: FilePattern) -> Iterator[_Match]:
    """Files that a pattern names, in order of their paths."""
    folder = place.root / pattern.folder
    if not folder.is_dir():
        return
    for path in walk(folder, place.root):
        below = normal(path.relative_to(place.root).as_posix())
        found = pattern.regex.fullmatch(below)
        if found is not None:
            stem = found["stem"] if pattern.has_stem else PurePosixPath(below).stem
            yield _Match(path, below, stem, tuple(found[group].rstrip("/") for group in pattern.folders))


def read(place: Place) -> Reading:
    """List and pair the files; nothing is opened."""
    images, masks = _both(place)
    where = f"--images {shown(images.text)}"
    reading = Reading([], None, place=where, mask_place=f"--masks {shown(masks.text)}")
    if not _meaningful(images, masks):
        place.problems.append(
            f"--masks must say which mask is whose, with {STEM} for the image's name without extension or the same "
            f"folders as --images, got {shown(masks.text)}; for example 'labels/{STEM}_mask.png'"
        )
        return reading
    image_files = _image_files(place, images)
    if not image_files:
        return reading
    labels = [one for one in _matches(place, masks) if _usable(place, one.path)]
    found = _paired(image_files, labels, images, masks)
    taken = {path for own in found.values() for path in own}
    if both := [one for one in image_files if one.path in found.get(one.path, ())]:
        place.problems.append(
            f"--masks must name other files than --images, found {some([place.name(one.path) for one in both], 2)} as "
            "the mask of itself; mend one of the patterns"
        )
        return reading
    image_files = [one for one in image_files if one.path not in taken]  # masks beside their images
    samples = _samples(place, image_files, found, masks)
    left = [one for one in labels if one.path not in taken]
    if left:
        bare = [place.name(one.path) for one in left]
        note_passed_over(place, "mask without an image", "masks without an image", bare)
    classes = place.classes or (place.colours.names if place.colours else None)
    return reading_of(reading, drop_repeated(place, samples), classes)


def reading_of(reading: Reading, samples: list[Sample], classes: tuple[str, ...] | None) -> Reading:
    """The reading with what was found."""
    reading.samples, reading.classes = samples, classes
    return reading


def _meaningful(images: FilePattern, masks: FilePattern) -> bool:
    return masks.has_stem or (bool(masks.folders) and len(masks.folders) == len(images.folders))


def _image_files(place: Place, pattern: FilePattern) -> list[_Match]:
    """The images; none, and a problem, where the pattern names none."""
    matched = [*_matches(place, pattern)]
    known = [one for one in matched if one.path.suffix.lower() in IMAGE_SUFFIXES]
    others = [place.name(one.path) for one in matched if one.path.suffix.lower() not in IMAGE_SUFFIXES]
    if others and known:
        note_passed_over(place, "file of another kind", "files of another kind", others)
    if known:
        return [one for one in known if _usable(place, one.path)]
    folder = place.root / pattern.folder
    there = [place.name(path) for path in walk(folder, place.root)] if folder.is_dir() else []
    if others:
        fault = f"must name images ({', '.join(IMAGE_SUFFIXES)}), found {some(others, 2)}"
    elif not folder.is_dir():
        fault = f"must name images, and there is no folder {shown(pattern.folder)}/"
    else:
        holds = some(there, 2) or "nothing"
        fault = f"must name images, and nothing is called so; {shown(pattern.folder) or '.'}/ holds {holds}"
    place.problems.append(f"--images {shown(pattern.text)}: {fault}; patterns begin at {place.title}, in quotes")
    return []


def _usable(place: Place, path: Path) -> bool:
    """Whether it is a file that lies in the data folder; else a problem."""
    if path.is_symlink():
        if not place.inside(path):
            return False
        if not path.exists():
            place.problems.append(
                f"{place.name(path)}: must be a file, found a link that leads nowhere; mend or remove it"
            )
            return False
    return path.is_file()


def _paired(
    image_files: Sequence[_Match], labels: Sequence[_Match], images: FilePattern, masks: FilePattern
) -> Mapping[Path, list[Path]]:
    """The masks that each image may have. Where both patterns have as many wildcards for folders, these must be equal,
    unless no image would have a mask then."""
    by_stem: dict[str, list[_Match]] = defaultdict(list)
    if masks.has_stem and masks.exact:
        for one in labels:
            by_stem[one.stem].append(one)
    elif masks.has_stem:
        stems = {one.stem for one in image_files}
        lengths = {len(stem) for stem in stems}
        for one in labels:
            parts = (one.below[i : i + n] for n in lengths for i in range(len(one.below) - n + 1))
            for stem in {part for part in parts if part in stems}:
                by_stem[stem].append(one)
    else:
        by_stem[""] = [*labels]

    def candidates(image: _Match) -> Iterable[_Match]:
        if not masks.has_stem:
            return by_stem[""]
        if masks.exact:
            return by_stem.get(image.stem, ())
        regex = masks.of_stem(image.stem)
        return [
            one._replace(folders=tuple(found[group].rstrip("/") for group in masks.folders))
            for one in by_stem.get(image.stem, ())
            if (found := regex.fullmatch(one.below)) is not None
        ]

    loose = {image: [*candidates(image)] for image in image_files} if masks.has_stem else {}
    if len(images.folders) != len(masks.folders) or not images.folders:
        return {image.path: [one.path for one in found] for image, found in loose.items() if found}
    if masks.has_stem:
        strict = {p: [one for one in found if one.folders == p.folders] for p, found in loose.items()}
    else:
        at: dict[tuple[str, ...], list[_Match]] = defaultdict(list)
        for one in labels:
            at[one.folders].append(one)
        strict = {image: at.get(image.folders, []) for image in image_files}
    chosen = strict if any(strict.values()) else loose
    return {image.path: [one.path for one in found] for image, found in chosen.items() if found}


def _samples(
    place: Place, image_files: Sequence[_Match], found: Mapping[Path, list[Path]], masks: FilePattern
) -> list[Sample]:
    """The images that have one mask; the others are problems."""
    samples: list[Sample] = []
    owners: dict[Path, list[Path]] = defaultdict(list)
    for one in image_files:
        for mask in found.get(one.path, ()):
            owners[mask].append(one.path)
    stems = unique_stems(place, [one.path for one in image_files])
    bare, several = [], []
    for one, stem in zip(image_files, stems, strict=True):
        own = found.get(one.path, [])
        name = place.name(one.path)
        if not own:
            bare.append(name)
        elif len(own) > 1:
            several.append(
                f"{name}: an image has one mask, found {some([place.name(path) for path in own], 3)}; narrow --masks"
            )
        elif len(owners[own[0]]) > 1:
            both = some([place.name(path) for path in owners[own[0]]], 3)
            several.append(f"{place.name(own[0])}: a mask has one image, found {both}; narrow --images or --masks")
        elif own[0].suffix.lower() not in MASK_SUFFIXES:
            rule = (
                "masks must be lossless (png, bmp, tif, gif)"
                if own[0].suffix.lower() in LOSSY
                else (f"masks must be one of {', '.join(MASK_SUFFIXES)}")
            )
            place.problems.append(
                f"{place.name(own[0])}: {rule}, found {shown(own[0].suffix) or 'no extension'}; save it as PNG"
            )
        else:
            folders = one.path.relative_to(place.root).parts[:-1]
            side = Side(split_of(folders))
            samples.append(Sample(stem, name, (one.path,), mask_file(place, own[0]), place.name(own[0]), side))
    place.problems += sorted(set(several))
    wanted = shown(masks.text)
    at = place.root / masks.folder
    there = some([place.name(path) for path in walk(at, place.root)], 2) if at.is_dir() and not samples else ""
    holds = f" ({shown(masks.folder) or '.'}/ holds {there})" if there else ""
    if len(bare) > ONE_BY_ONE:
        place.problems.append(
            f"--images: {len(bare)} of {len(image_files)} images have no mask, e.g. {bare[0]}, {bare[1]}: nothing is "
            f"called as --masks {wanted} says{holds}; mend the pattern, or add the masks"
        )
    else:
        place.problems += [f"{name}: has no mask that is called as --masks {wanted} says; add it" for name in bare]
    if samples:
        place.named += [path for own in found.values() for path in own]
    return samples


def _files(place: Place) -> Iterator[Path]:
    return (one.path for pattern in _both(place) for one in _matches(place, pattern))


FORMAT = Format("what --images and --masks name", detect, read, _files)
