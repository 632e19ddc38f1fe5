"""Read images and masks: those that the user's patterns give, that names pair, or that a format of mask files defines.

The syntax of patterns is in `file_patterns.py`. A CSV may name the pairs, too: columns `image`, `mask`, and optionally
`split` and `group`, paths relative to the file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from sweeper.core.records import Patterns, SplitName
from sweeper.core.text import abbreviate
from sweeper.data.class_map import label_large_ranges
from sweeper.data.decode import read_mask
from sweeper.data.formats.annotation_files import find_image
from sweeper.data.formats.base import (
    AnnotationFormat,
    DataSource,
    FormatLayout,
    ReadResult,
    Sample,
    Size,
    drop_repeated,
    find_split,
    make_unique_stems,
)
from sweeper.data.formats.class_masks import choose_join, note_tasks
from sweeper.data.formats.file_patterns import (
    STEM,
    WAY_OUT,
    Matches,
    Pairs,
    PatternMatch,
    find_masks,
    get_fixed_folder,
    has_wildcards,
    list_pattern_files,
)
from sweeper.data.formats.matching import READINGS, TokenTable, list_own_words, match_masks
from sweeper.data.label_values import AS_STORED
from sweeper.data.open_image import IMAGE_SUFFIXES, LOSSY_SUFFIXES, MASK_SUFFIXES
from sweeper.data.store import Pixels
from sweeper.data.text_tables import SPLITS, SplitAssignment, parse_assignment, read_header, read_table_rows

NAME = "patterns"
SplitRule = Callable[[PatternMatch], SplitName | None]


def _complete_pattern(place: DataSource, text: str, rest: str) -> str:
    """Return a pattern, with that of all files below it if it is a folder."""
    return text + rest * (not has_wildcards(text) and (place.root / text).is_dir())


def read_patterns(place: DataSource, given: Patterns) -> ReadResult:
    """List and pair the files that match the user's patterns, without opening any.

    No match, and masks of which nothing says whose they are, become problems. Files are paired by their names where
    both sides are folders, or where neither `{stem}` nor the same folders say which mask is whose.
    """
    masks = _complete_pattern(place, given.masks, f"/**/{STEM}.*")
    result = ReadResult([], place=f"--masks {masks}")
    if not has_wildcards(masks):
        place.problems.append(
            f"--masks must say which mask is whose, with {STEM} for the image's name without extension or the same "
            f"folders as --images, got {masks}; for example 'labels/{STEM}_mask.png'"
        )
        return result
    images = _complete_pattern(place, given.images, "/**/*")
    files = _list_image_files(place, images)
    labels = list_pattern_files(place, masks, MASK_SUFFIXES) or list_pattern_files(place, masks)
    if not files or note_tasks(place, labels):
        return result
    drawings = {one.path for one in labels}
    others = [one for one in files if one.path not in drawings]
    files = others or files  # masks may be next to their images
    paired: Pairs = find_masks(files, labels, masks)
    are_folders = images != given.images and masks != given.masks
    has_one_each = any(one.folders for one in labels) and [*map(len, paired.values())] == [1] * len(files)
    says_whose = STEM in masks or has_one_each
    is_by_names = are_folders or not says_whose
    if is_by_names:
        owners = match_masks([one.below for one in files], [one.below for one in labels], TokenTable())
        paired = pair_by_names(place, owners)
        files = leave_out_made(place, files, paired)
    result.samples, left = pair_files(place, files, labels, paired, choose_split_rule(place, files))
    place.tally.add("mask", "without an image, passed over", *map(place.format_name, left))
    if is_by_names:
        note_naming(place, result.samples, paired)
    result.classes = place.names  # those of masks of one class each, too
    return result


def split_by_folder(one: PatternMatch) -> SplitName | None:
    """Return the split of a file by its folders."""
    return find_split(one.below.split("/")[:-1])


def choose_split_rule(place: DataSource, files: Matches) -> SplitRule:
    """Return the rule for the split of files: by folders named like a split, else by a word in all folders' names.

    A split by words, as in `ISIC_Training_Data/` and `ISIC_Test_Data/`, is noted; `train_val/` has two, thus no split.
    """
    splits = {one.path.parent: _find_split_word(one.below.split("/")[:-1]) for one in files}
    are_told_apart = None not in splits.values() and len({*splits.values()}) > 1
    if any(map(split_by_folder, files)) or not are_told_apart:
        return split_by_folder
    sides = [f"{place.format_name(folder)}/ is {split}" for folder, split in sorted(splits.items())]
    place.notes.append(f"Words in the folders' names give the split: {abbreviate(sides, 6)}.")
    return lambda one: splits[one.path.parent]


def _find_split_word(folders: Sequence[str]) -> SplitName | None:
    """Return the split of the last folder whose name has words of a split; None if it has words of several."""
    for folder in reversed(folders):
        words = {word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", folder)}
        if splits := {SPLITS[word] for word in words & SPLITS.keys()}:
            return splits.pop() if len(splits) == 1 else None
    return None


def _list_image_files(place: DataSource, text: str) -> list[PatternMatch]:
    """Return the images; none, and a problem, if the pattern matches none."""
    images = list_pattern_files(place, text, IMAGE_SUFFIXES)
    read = {one.path for one in images}
    others = [place.format_name(one.path) for one in list_pattern_files(place, text) if one.path not in read]
    if images:
        place.tally.add("file", "of another kind, passed over", *others)
        return images
    folder = get_fixed_folder(text)
    listed = [below for below, _ in place.listing if below.startswith(folder)]
    examples = abbreviate(others or listed, 2)
    place.problems.append(
        f"--images {text}: must name images ({', '.join(IMAGE_SUFFIXES)}), found "
        f"{examples or 'nothing'}; patterns begin at {place.title}, in quotes"
    )
    return []


def pair_files(
    place: DataSource,
    images: Matches,
    masks: Matches,
    paired: Pairs,
    split: SplitRule,
    *,
    table: Pixels = AS_STORED,
    named: bool = False,
) -> tuple[list[Sample], list[Path]]:
    """Return samples of the images with masks, and the masks without an image; all else is a problem.

    Images that are masks of others are left out. `table`: (256,), the label of each number in the masks. `named`:
    whether a format defines the names; then samples are named by `{stem}`, else by their files.
    """
    used_masks = {path for of_image in paired.values() for path in of_image}
    both = [one for one in images if one.path in paired.get(one.path, ())]
    if both:
        place.problems.append(
            "--masks must name other files than --images, found "
            f"{abbreviate([place.format_name(one.path) for one in both], 2)} as "
            "the mask of itself; correct one of the patterns"
        )
        return [], []
    files = [one for one in images if one.path not in used_masks]  # masks may be next to their images
    owners: dict[Path, list[Path]] = defaultdict(list)
    for one in files:
        for path in paired.get(one.path, ()):
            owners[path].append(one.path)
    names = {one.path: one.stem if named else PurePosixPath(one.below).stem for one in files}
    repeated = len(set(names.values())) < len(names)
    every = [(one, paired[one.path]) for one in files if one.path in paired]
    join = choose_join(place, every)
    first = [tuple(map(place.format_name, (of_image[0], one.path))) for one, of_image in every[:1]]
    example = "".join(f" (as {mask} is that of {image})" for mask, image in first)
    samples, faults = [], set()
    for one in files:
        of_image = paired.get(one.path, ())
        if not of_image:
            way_out = "remove the image, or give a CSV (image,mask) of those that have one as DATA"
            place.add_problem(one.path, f"has no mask; add it{example}, {way_out}")
        elif fault := _find_fault(place, of_image, owners[of_image[0]], is_joined=join is not None):
            faults.add(fault)
        else:
            stem = "/".join([*filter(None, one.folders), names[one.path]]) if repeated else names[one.path]
            made = partial(join, of_image) if join else partial(read_mask_file, place, of_image[0], table)
            mask_names = [*map(place.format_name, of_image)]
            labels_at = abbreviate([" + ".join(mask_names[:2]), *mask_names[2:]], 1)
            side = SplitAssignment(split(one))
            samples.append(Sample(stem, place.format_name(one.path), (one.path,), made, labels_at, side))
    place.problems += sorted(faults)
    return drop_repeated(place, samples), [one.path for one in masks if one.path not in used_masks]


def leave_out_unlabelled(place: DataSource, images: Matches, masks: Matches) -> list[PatternMatch]:
    """Leave out images without a mask of their stem, with a note."""
    stems = {one.stem for one in masks}
    place.tally.add("image", "without a mask, passed over", *{one.stem for one in images} - stems)
    return [one for one in images if one.stem in stems]


def pair_stems(
    place: DataSource, images: Matches, masks: Matches, split: SplitRule, table: Pixels = AS_STORED
) -> list[Sample]:
    """Return samples of a format that defines the names of its files; a mask without an image is a problem."""
    samples, left = pair_files(place, images, masks, find_masks(images, masks), split, table=table, named=True)
    for path in left:
        place.add_problem(path, "has no image; add it, or remove the mask")
    return samples


def _find_fault(place: DataSource, masks: Sequence[Path], owners: Sequence[Path], *, is_joined: bool) -> str:
    """Return why an image cannot have these masks, the first of which has these images; "" if it can."""
    these = [abbreviate([*map(place.format_name, paths)], 3) for paths in (masks, owners)]
    first = place.format_name(masks[0])
    if len(masks) > 1 and not is_joined:
        rule = "an image has one mask, or one for each class, called alike for all images (a_road.png, a_car.png)"
        step = f"{place.describe_way_out()}, or join those of one image into one"
        return f"{place.format_name(owners[0])}: {rule}, found {these[0]}; {step}"
    if len(owners) > 1:
        return f"{first}: a mask has one image, found {these[1]}; rename or remove one, or {WAY_OUT}"
    if masks[0].suffix.lower() not in MASK_SUFFIXES:
        kinds = ", ".join(MASK_SUFFIXES)
        return f"{first}: masks must be one of {kinds}, found {masks[0].suffix or 'none'}; save it as PNG"
    return ""


def pair_by_names(place: DataSource, owners: Mapping[str, Sequence[str]]) -> Pairs:
    """Return the masks of each image by the images of each mask, whose paths have the same words.

    Where each image has one mask, and their names have different words of their own, each may be of another class: then
    only those without such a word are paired.
    """
    words = {
        mask: tuple(
            word for word in list_own_words(mask.rpartition("/")[2], image, READINGS[2]) if not word.isdecimal()
        )
        for mask, of_mask in owners.items()
        for image in of_mask
    }
    if len({*words.values()}) > 1 and len({*map(tuple, owners.values())}) == len(owners):
        owners = {mask: of_mask for mask, of_mask in owners.items() if not words[mask]}
    paths, paired = dict(place.listing), defaultdict[Path, list[Path]](list)
    for mask, of_mask in sorted(owners.items()):
        for image in of_mask:
            paired[paths[image]].append(paths[mask])
    return paired


def leave_out_made(place: DataSource, images: Matches, paired: Pairs) -> list[PatternMatch]:
    """Leave out images derived from others, such as ISIC's `a_superpixels.png` next to `a.jpg`.

    Such images have no mask, and exist for at least half of the images that have one, all with the same word.
    """
    with_masks = {one.below for one in images if one.path in paired}
    made = match_masks(with_masks, {one.below for one in images} - with_masks, TokenTable())
    words = {tuple(list_own_words(path, image)) for path, of_path in made.items() for image in of_path}
    is_one_way = len(words) == 1 and any(words)
    if not is_one_way or 2 * len(made) < len(with_masks):
        return [*images]
    place.tally.add("picture", "made of an image, passed over", *made)
    return [one for one in images if one.below not in made]


def note_naming(place: DataSource, samples: Sequence[Sample], paired: Pairs) -> None:
    """Note an example of a mask and its image if all images have one, and the names of the two differ."""
    for sample in samples[:1] if max(map(len, paired.values()), default=0) == 1 else ():
        if Path(sample.mask_name).stem != Path(sample.name).stem:
            example = f"{sample.mask_name} is the mask of {sample.name}"
            place.notes.append(f"Images and masks were paired by their names: {example}.")


def read_mask_file(place: DataSource, path: Path, table: Pixels, size: Size | None) -> Pixels:
    """Read the labels of a mask file, and translate them by a table, (256,)."""
    name = place.format_name(path)
    if path.suffix.lower() in LOSSY_SUFFIXES:
        place.lossy.add(name)
    mask = read_mask(
        path,
        place.colours,
        size,
        note=lambda what: place.tally.add("mask", what, name),
        large=label_large_ranges(place.class_map),
        note_palette=partial(place.palettes.__setitem__, name),
        note_colours=partial(place.colour_counts.__setitem__, name),
    )
    return table[mask]


def find_manifest(place: DataSource) -> FormatLayout | None:
    """Find a CSV with the columns image and mask: manifest.csv, or another in the root."""
    needed = {"image", "mask"}
    tables = [path for path in place.list_candidates(".csv") if path.parent == place.root]
    tables = [path for path in tables if needed <= {*read_header(path)}]
    if not tables:
        return None
    path = min(tables, key=lambda path: path.name != "manifest.csv")
    return FormatLayout(f"the pairs of {place.format_name(path)}", partial(_read_manifest, place, path))


def _read_manifest(place: DataSource, path: Path) -> ReadResult:
    """Read image, mask and side of each row; faults become problems."""
    where = place.format_name(path)
    rows: list[tuple[Path, Path, SplitAssignment]] = []
    for line, row in read_table_rows(path, where, ("image", "mask"), place.problems):
        at = f"{where}: line {line}"
        near, keys = [path.parent], ("image", "mask")
        image, mask = (find_image(place, row[key].strip(), near, f"{at}: {key}", place.problems) for key in keys)
        side = parse_assignment(row, at, place.problems)
        if image and mask and side is not None:
            rows.append((image, mask, side))
    stems = make_unique_stems(place, [image for image, _, _ in rows])
    samples = []
    for (image, mask, side), stem in zip(rows, stems, strict=True):
        read = partial(read_mask_file, place, mask, AS_STORED)
        samples.append(Sample(stem, place.format_name(image), (image,), read, place.format_name(mask), side))
    return ReadResult(drop_repeated(place, samples), place.names, place=where)


MANIFEST = AnnotationFormat("a CSV with the columns image and mask", find_manifest)
