"""Images and masks that two patterns name: those of `--images` and `--masks`, of a guess, or of a format of mask files.

What may stand in patterns: `file_patterns.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sweeper.core.records import SplitName
from sweeper.data.class_map import large_label
from sweeper.data.decode import IMAGE_SUFFIXES, LOSSY_SUFFIXES, MASK_SUFFIXES, read_mask
from sweeper.data.formats.base import (
    Layout,
    Place,
    Reading,
    Sample,
    Size,
    drop_repeated,
    split_of,
)
from sweeper.data.formats.class_masks import classes_of, joined
from sweeper.data.formats.file_patterns import (
    STEM,
    FilePattern,
    Match,
    file_pattern,
    has_wildcards,
    masks_of,
    matches,
)
from sweeper.data.label_values import some
from sweeper.data.store import Pixels
from sweeper.data.text_tables import Side, shown

NAME = "patterns"
_WAY_OUT = "say which is meant with --images and --masks"


def layout(place: Place) -> Layout:
    """What the user's patterns name."""
    assert place.patterns is not None
    line = f"--images {shown(place.patterns.images)} --masks {shown(place.patterns.masks)}"
    return Layout(line, partial(_read, place))


def _asked(place: Place) -> tuple[FilePattern, FilePattern]:
    assert place.patterns is not None
    folders = [
        not has_wildcards(text) and (place.root / text).is_dir()
        for text in (place.patterns.images, place.patterns.masks)
    ]
    images = f"{place.patterns.images}/**/*" if folders[0] else place.patterns.images
    masks = f"{place.patterns.masks}/**/{STEM}.*" if folders[1] else place.patterns.masks
    return file_pattern("--images", images), file_pattern("--masks", masks)


def _read(place: Place) -> Reading:
    """List and pair the files that the user's patterns name; nothing is opened."""
    images, masks = _asked(place)
    where = f"--images {shown(images.text)}"
    reading = Reading([], None, place=where, mask_place=f"--masks {shown(masks.text)}")
    if not masks.has_stem and not (masks.folders and len(masks.folders) == len(images.folders)):
        place.problems.append(
            f"--masks must say which mask is whose, with {STEM} for the image's name without extension or the same "
            f"folders as --images, got {shown(masks.text)}; for example 'labels/{STEM}_mask.png'"
        )
    elif image_files := _image_files(place, images):
        labels = [*matches(place, masks)]
        reading.samples, left = paired(place, (image_files, images.text), (labels, masks.text), split_by_folder)
        place.tally.add("mask", "without an image, passed over", *map(place.name, left))
    reading.classes = place.names
    return reading


def split_by_folder(one: Match) -> SplitName | None:
    """The split that the folders of a file give."""
    return split_of(one.below.split("/")[:-1])


def _image_files(place: Place, pattern: FilePattern) -> list[Match]:
    """The images; none, and a problem, where the pattern names none."""
    others: list[str] = []
    if found := listed(place, pattern.text, IMAGE_SUFFIXES, others):
        place.tally.add("file", "of another kind, passed over", *others)
        return found
    there = some(others or [below for below, _ in place.listing if below.startswith(pattern.folder)], 2)
    place.problems.append(
        f"--images {shown(pattern.text)}: must name images ({', '.join(IMAGE_SUFFIXES)}), found {there or 'nothing'}; "
        f"patterns begin at {place.title}, in quotes"
    )
    return []


def listed(place: Place, text: str, suffixes: tuple[str, ...], others: list[str] | None = None) -> list[Match]:
    """Files of these kinds that a pattern names; the names of the other ones are added to `others`."""
    found = []
    for one in matches(place, file_pattern("", text)):
        if one.path.suffix.lower() in suffixes:
            found.append(one)
        elif others is not None:
            others.append(place.name(one.path))
    return found


def paired(
    place: Place,
    images: tuple[Sequence[Match], str],
    masks: tuple[Sequence[Match], str],
    split: Callable[[Match], SplitName | None],
    *,
    table: Pixels | None = None,
    named: bool = False,
) -> tuple[list[Sample], list[Path]]:
    """Samples of the images that have one mask, and the masks that belong to no image; what else there is are problems.

    Args:
        place: receives the problems.
        images: the image files and the pattern that names them. Masks among them are no images.
        masks: the same of the masks.
        split: the split of an image.
        table: (256,), the label that each number in the masks becomes.
        named: whether a format gives the names. Then samples are called by what `{stem}` stands for, and masks without
            an image are problems. Else samples are called by their files' names.
    """
    (image_files, image), (labels, mask) = images, masks
    found = masks_of(image_files, labels, image, mask)
    taken = {path for own in found.values() for path in own}
    if both := [one for one in image_files if one.path in found.get(one.path, ())]:
        place.problems.append(
            f"--masks must name other files than --images, found {some([place.name(one.path) for one in both], 2)} as "
            "the mask of itself; mend one of the patterns"
        )
        return [], []
    image_files = [one for one in image_files if one.path not in taken]  # masks beside their images
    owners: dict[Path, list[Match]] = defaultdict(list)
    for one in image_files:
        for path in found.get(one.path, ()):
            owners[path].append(one)
    place.problems += [
        f"{place.name(one.path)}: has no mask; add {_called(masks, one.stem)}, or remove the image"
        for one in image_files
        if one.path not in found
    ]
    names = {one.path: one.stem if named else one.name.rpartition("/")[2] for one in image_files}
    repeated = len(set(names.values())) < len(names)
    every = [(one, found[one.path]) for one in image_files if one.path in found]
    classes = classes_of(every, place) if any(len(own) > 1 for _, own in every) else {}
    samples, faults = [], set()
    for one in image_files:
        own = found.get(one.path, [])
        if not own:
            continue
        path, name = own[0], place.name(one.path)
        if len(own) > 1 and not classes:
            these = some([place.name(path) for path in own], 3)
            rule = "an image has one mask, or one for each class, called alike for all images (a_road.png, a_car.png)"
            faults.add(f"{name}: {rule}, found {these}; {_WAY_OUT}, or join those of one image into one")
        elif len(owners[path]) > 1:
            these = some([place.name(owner.path) for owner in owners[path]], 3)
            faults.add(f"{place.name(path)}: a mask has one image, found {these}; rename or remove one, or {_WAY_OUT}")
        elif path.suffix.lower() not in MASK_SUFFIXES:
            rule = f"masks must be one of {', '.join(MASK_SUFFIXES)}"
            place.problems.append(f"{place.name(path)}: {rule}, found {shown(path.suffix) or 'none'}; save it as PNG")
        else:
            stem = "/".join([*filter(None, one.folders), names[one.path]]) if repeated else names[one.path]
            made = mask_file(place, path, table)
            if classes:
                made = partial(joined, place, [(path, classes[path]) for path in own])
            labels_at = " + ".join(map(place.name, own))
            samples.append(Sample(stem, name, (one.path,), made, labels_at, Side(split(one))))
    place.problems += sorted(faults)
    left = [one for one in labels if one.path not in taken]
    if named:
        place.problems += [
            f"{place.name(one.path)}: has no image; add {_called(images, one.stem)}, or remove the mask" for one in left
        ]
    return drop_repeated(place, samples), [one.path for one in left]


def _called(files: tuple[Sequence[Match], str], stem: str) -> str:
    """How a pattern calls the file of a stem, with the extension that others have."""
    others, pattern = files
    name = pattern.replace("**/", "").replace("[0-9]", "0").replace(STEM, stem)
    if name.endswith(".*"):
        name = name.removesuffix(".*") + (others[0].path.suffix if others else ".png")
    return shown(name)


def mask_file(place: Place, path: Path, table: Pixels | None = None) -> partial[Pixels]:
    """What makes the mask of a sample from a file of labels or colours; labels become those of a table, (256,)."""
    return partial(_mask, path, place, table)


def _mask(path: Path, place: Place, table: Pixels | None, size: Size | None) -> Pixels:
    def note(what: str) -> None:
        place.tally.add("mask", what, place.name(path))

    if path.suffix.lower() in LOSSY_SUFFIXES:
        place.lossy.add(place.name(path))
    labels = read_mask(path, place.colours, size, note, large_label(place.class_map))
    return labels if table is None else table[labels]
