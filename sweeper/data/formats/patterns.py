"""Read images and masks given by two patterns: from `--images` and `--masks`, a guess, or a format of mask files.

The syntax of patterns is in `file_patterns.py`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path, PurePosixPath

from sweeper.core.records import SplitName
from sweeper.data.class_map import find_large_label
from sweeper.data.decode_mask import read_mask
from sweeper.data.formats.base import (
    DataSource,
    FormatLayout,
    ReadResult,
    Sample,
    Size,
    drop_repeated,
    find_split,
)
from sweeper.data.formats.class_masks import (
    find_image_stem,
    find_mask_classes,
    join_masks,
    join_objects,
    note_objects,
    note_tasks,
    remove_stem,
)
from sweeper.data.formats.file_patterns import (
    STEM,
    FilePattern,
    MatchedFiles,
    PatternMatch,
    compile_pattern,
    escape_pattern,
    find_masks,
    find_matches,
    get_fixed_folder,
    has_wildcards,
)
from sweeper.data.formats.layout_guess import LayoutGuess
from sweeper.data.formats.name_words import find_naming, match_zeros, strip_common_ends, strip_word
from sweeper.data.label_values import abbreviate
from sweeper.data.open_image import IMAGE_SUFFIXES, LOSSY_SUFFIXES, MASK_SUFFIXES
from sweeper.data.store import Pixels
from sweeper.data.text_tables import SPLITS, SplitAssignment

NAME = "patterns"
_WAY_OUT = "say which is meant with --images and --masks"
_MADE = re.compile(r"(.+)[_-]([A-Za-z]\w*)")
"""Pattern of an image derived from another one, with whose name it begins."""


def make_pattern_layout(place: DataSource) -> FormatLayout:
    """Return the layout of the user's patterns."""
    assert place.patterns is not None
    line = f"--images {place.patterns.images} --masks {place.patterns.masks}"
    return FormatLayout(line, partial(_read_patterns, place))


def _list_named_folders(place: DataSource) -> list[bool]:
    """Return whether images and masks are given as folders, of which all files are read."""
    assert place.patterns is not None
    texts = (place.patterns.images, place.patterns.masks)
    return [not has_wildcards(text) and (place.root / text).is_dir() for text in texts]


def _get_patterns(place: DataSource) -> tuple[FilePattern, FilePattern]:
    assert place.patterns is not None
    folders = _list_named_folders(place)
    images = f"{place.patterns.images}/**/*" if folders[0] else place.patterns.images
    masks = f"{place.patterns.masks}/**/{STEM}.*" if folders[1] else place.patterns.masks
    return compile_pattern(images, "--images"), compile_pattern(masks, "--masks")


def _read_patterns(place: DataSource) -> ReadResult:
    """List and pair the files that match the user's patterns, without opening any."""
    images, masks = _get_patterns(place)
    where = f"--images {images.text}"
    reading = ReadResult([], None, place=where, mask_place=f"--masks {masks.text}")
    has_same_folders = bool(masks.folders) and len(masks.folders) == len(images.folders)
    is_by_names = all(_list_named_folders(place)) or not (masks.has_stem or has_same_folders)
    if is_by_names and not has_wildcards(masks.text):
        place.problems.append(
            f"--masks must say which mask is whose, with {STEM} for the image's name without extension or the same "
            f"folders as --images, got {masks.text}; for example 'labels/{STEM}_mask.png'"
        )
    elif (matched := _list_image_files(place, images)).files:
        every = [*find_matches(place, masks)]
        drawn = [one for one in every if one.path.suffix.lower() in MASK_SUFFIXES]
        labels = MatchedFiles(masks, drawn or every)
        if is_by_names:
            are_masks = {one.path for one in labels.files}
            others = [one for one in matched.files if one.path not in are_masks]
            named = match_names(place, matched._replace(files=others or matched.files), labels)
        else:
            named = matched, labels
        if named is not None:
            reading.samples, left = pair_files(place, *named, choose_split_rule(place, named[0].files))
            place.tally.add("mask", "without an image, passed over", *map(place.format_name, left))
            if is_by_names and all(len(of_image) == 1 for of_image in find_masks(*named).values()):
                note_naming(place, reading.samples)
    reading.classes = place.names
    return reading


def split_by_folder(one: PatternMatch) -> SplitName | None:
    """Return the split of a file by its folders."""
    return find_split(one.below.split("/")[:-1])


def choose_split_rule(place: DataSource, files: Sequence[PatternMatch]) -> Callable[[PatternMatch], SplitName | None]:
    """Return the rule for the split of files: by folders named like a split, else by a word in all folders' names.

    A split by words, as in `ISIC_Training_Data/` and `ISIC_Test_Data/`, is noted; `train_val/` has two, thus no split.
    """
    if any(map(split_by_folder, files)):
        return split_by_folder
    splits = {one.path.parent: _find_split_word(one.below.split("/")[:-1]) for one in files}
    if None in splits.values() or len({*splits.values()}) < 2:
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


def _list_image_files(place: DataSource, pattern: FilePattern) -> MatchedFiles:
    """Return the images; none, and a problem, if the pattern matches none."""
    others: list[str] = []
    images = list_pattern_files(place, pattern.text, IMAGE_SUFFIXES, others)
    if images.files:
        place.tally.add("file", "of another kind, passed over", *others)
        return images
    folder = get_fixed_folder(pattern.text)
    examples = abbreviate(others or [below for below, _ in place.listing if below.startswith(folder)], 2)
    place.problems.append(
        f"--images {pattern.text}: must name images ({', '.join(IMAGE_SUFFIXES)}), found "
        f"{examples or 'nothing'}; patterns begin at {place.title}, in quotes"
    )
    return images


def list_pattern_files(
    place: DataSource, text: str, suffixes: tuple[str, ...], others: list[str] | None = None
) -> MatchedFiles:
    """List the files with these suffixes that match a pattern; the names of other files are added to `others`."""
    pattern, files = compile_pattern(text), []
    for one in find_matches(place, pattern):
        if one.path.suffix.lower() in suffixes:
            files.append(one)
        elif others is not None:
            others.append(place.format_name(one.path))
    return MatchedFiles(pattern, files)


def pair_files(
    place: DataSource,
    images: MatchedFiles,
    masks: MatchedFiles,
    split: Callable[[PatternMatch], SplitName | None],
    *,
    table: Pixels | None = None,
    named: bool = False,
) -> tuple[list[Sample], list[Path]]:
    """Return samples of the images with masks, and the masks without an image; all else is a problem.

    Args:
        place: receives the problems.
        images: the image files; those that are masks of others are left out.
        masks: the mask files.
        split: returns the split of an image.
        table: (256,), the label of each number in the masks; None = the numbers are labels.
        named: whether a format defines the names. Then samples are named by `{stem}`, and masks without an image are
            problems. Else samples are named by their files.
    """
    masks_of_images = find_masks(images, masks)
    used_masks = {path for masks_of_image in masks_of_images.values() for path in masks_of_image}
    if both := [one for one in images.files if one.path in masks_of_images.get(one.path, ())]:
        place.problems.append(
            "--masks must name other files than --images, found "
            f"{abbreviate([place.format_name(one.path) for one in both], 2)} as "
            "the mask of itself; correct one of the patterns"
        )
        return [], []
    image_files = [one for one in images.files if one.path not in used_masks]  # masks may be next to their images
    owners: dict[Path, list[PatternMatch]] = defaultdict(list)
    for one in image_files:
        for path in masks_of_images.get(one.path, ()):
            owners[path].append(one)
    names = {one.path: one.stem if named else one.name.rpartition("/")[2] for one in image_files}
    repeated = len(set(names.values())) < len(names)
    every = [(one, masks_of_images[one.path]) for one in image_files if one.path in masks_of_images]
    are_several = any(len(masks_of_image) > 1 for _, masks_of_image in every)
    classes, labels = find_mask_classes(every, place) if are_several else ({}, None)
    are_objects = are_several and not classes and note_objects(every, place)
    samples, faults = [], set()
    place.describe_way_out = cache(partial(_name_some_masks, place, every, classes))
    for one in image_files:
        masks_of_image = masks_of_images.get(one.path, [])
        if not masks_of_image:
            missing = _guess_pattern_name(masks, one.stem)
            way_out = "a CSV (image,mask) of those that have one as DATA"
            lacking = f"has no mask{place.describe_unread(one.path)}"
            place.add_problem(one.path, f"{lacking}; add {missing}, remove the image, or give {way_out}")
            continue
        path, name = masks_of_image[0], place.format_name(one.path)
        if len(masks_of_image) > 1 and not (classes or are_objects):
            these = abbreviate([place.format_name(path) for path in masks_of_image], 3)
            rule = "an image has one mask, or one for each class, called alike for all images (a_road.png, a_car.png)"
            step = f"{place.describe_way_out()}, or join those of one image into one"
            faults.add(f"{name}: {rule}, found {these}; {step}")
        elif len(owners[path]) > 1:
            these = abbreviate([place.format_name(owner.path) for owner in owners[path]], 3)
            faults.add(
                f"{place.format_name(path)}: a mask has one image, found {these}; rename or remove one, or {_WAY_OUT}"
            )
        elif path.suffix.lower() not in MASK_SUFFIXES:
            rule = f"masks must be one of {', '.join(MASK_SUFFIXES)}"
            place.add_problem(path, f"{rule}, found {path.suffix or 'none'}; save it as PNG")
        else:
            stem = "/".join([*filter(None, one.folders), names[one.path]]) if repeated else names[one.path]
            made = partial(read_mask_file, place, path, table)
            if classes:
                made = partial(join_masks, place, labels, [(path, classes[path]) for path in masks_of_image])
            if are_objects:
                made = partial(join_objects, place, masks_of_image)
            mask_names = [*map(place.format_name, masks_of_image)]
            labels_at = abbreviate([" + ".join(mask_names[:2]), *mask_names[2:]], 1)
            samples.append(Sample(stem, name, (one.path,), made, labels_at, SplitAssignment(split(one))))
    place.problems += sorted(faults)
    left = [one for one in masks.files if one.path not in used_masks]
    for one in left if named else ():
        missing = _guess_pattern_name(images, one.stem)
        place.add_problem(one.path, f"has no image; add {missing}, or remove the mask")
    return drop_repeated(place, samples), [one.path for one in left]


def match_names(
    place: DataSource, images: MatchedFiles, masks: MatchedFiles
) -> tuple[MatchedFiles, MatchedFiles] | None:
    """Give files stems that pair them by their names, and leave out images derived from others.

    Return None, and a problem, if masks are named by tasks.
    """
    if note_tasks(place, masks.files):
        return None
    images, masks = find_stems(images, masks)
    return _leave_out_made(place, images, masks), masks


def find_stems(images: MatchedFiles, masks: MatchedFiles) -> tuple[MatchedFiles, MatchedFiles]:
    """Give files stems that pair them by their names, without words as in `a_mask.png`."""
    image_word, mask_word = find_naming({one.stem for one in images.files}, {one.stem for one in masks.files})
    image_files = [one._replace(stem=strip_word(one.stem, image_word)) for one in images.files]
    mask_files = [one._replace(stem=strip_word(one.stem, mask_word)) for one in masks.files]
    image_files, mask_files = strip_common_ends(match_zeros(image_files, mask_files), mask_files)
    stems = {one.stem for one in image_files}
    stem_of_mask = {one: stem for one in mask_files if one.stem not in stems and (stem := find_image_stem(one, stems))}
    words = {remove_stem(one.stem, stem) for one, stem in stem_of_mask.items()}
    if len({*stem_of_mask.values()}) < len(stem_of_mask) or len(words) == 1:
        # Otherwise each is of one unknown class.
        mask_files = [one._replace(stem=stem_of_mask.get(one, one.stem)) for one in mask_files]
    pattern = masks.pattern._replace(has_stem=True, exact=True)
    return images._replace(files=image_files), MatchedFiles(pattern, mask_files)


def _leave_out_made(place: DataSource, images: MatchedFiles, masks: MatchedFiles) -> MatchedFiles:
    """Leave out images derived from others, such as ISIC's `a_superpixels.png` next to `a.jpg`.

    Such images have no mask, and exist for at least half of the images that have one, all with the same suffix.
    """
    with_masks = find_masks(images, masks)
    stems = {one.stem for one in images.files if one.path in with_masks}
    without = (one for one in images.files if one.path not in with_masks)
    parts = {one.path: match for one in without if (match := _MADE.fullmatch(one.stem)) and match[1] in stems}
    if len({match[2] for match in parts.values()}) != 1 or 2 * len(parts) < len(stems):
        return images
    place.tally.add("picture", "made of an image, passed over", *map(place.format_name, parts))
    return images._replace(files=[one for one in images.files if one.path not in parts])


def note_naming(place: DataSource, samples: Sequence[Sample], *, always: bool = False) -> None:
    """Note an example of a mask and its image if their names differ."""
    if samples and (always or Path(samples[0].mask_name).stem != Path(samples[0].name).stem):
        example = f"{samples[0].mask_name} is the mask of {samples[0].name}"
        place.notes.append(f"Images and masks were paired by their names: {example}.")


def _name_some_masks(
    place: DataSource, every: Sequence[tuple[PatternMatch, Sequence[Path]]], classes: Mapping[Path, str]
) -> str:
    """Return the step, with options, that selects one mask per image: the first, or that of the most common class."""
    kind = Counter(classes[path] for _, masks in every for path in masks).most_common(1)[0][0] if classes else ""
    wanted = {one.path: [path for path in masks if classes.get(path, "") == kind][:1] for one, masks in every}
    wanted = {path: of_image for path, of_image in wanted.items() if of_image}
    image, path = next((PurePosixPath(one.below), wanted[one.path][0]) for one, _ in every if one.path in wanted)
    mask = PurePosixPath(path.relative_to(place.root).as_posix())
    at, other = (
        escape_pattern(f"{file.parent}/".removeprefix("./")) if len(folders) == 1 else "**/"
        for file, folders in ((image, {path.parent for path in wanted}), (mask, {m[0].parent for m in wanted.values()}))
    )
    lengths = {len(PurePosixPath(one.below).stem) for one, _ in every}
    names = ["*", "?" * min(lengths)] if len(lengths) == 1 else ["*"]
    ends = [
        STEM.join(map(escape_pattern, mask.stem.split(image.stem, 1))),
        *([f"*{escape_pattern(kind)}*"] if kind else []),
    ]
    for texts in product(
        (f"{at}{name}{image.suffix}" for name in names), (f"{other}{end}{mask.suffix}" for end in ends)
    ):
        images, masks = (MatchedFiles(one, [*find_matches(place, one)]) for one in map(compile_pattern, texts))
        used = {one.path for one in masks.files}
        images = images._replace(files=[one for one in images.files if one.path not in used])
        if not masks.pattern.has_stem:
            images, masks = find_stems(images, masks)
        if (
            find_masks(images, masks) == wanted
            and {one.path for one in images.files} == wanted.keys()
            and len({*map(str, wanted.values())}) == len(wanted)
        ):
            of = f"those of {kind} alone" if kind else "the first of each"
            return f"to take {of}: {LayoutGuess(*texts).format_options(place)}"
    return _WAY_OUT


def _guess_pattern_name(matched: MatchedFiles, stem: str) -> str:
    """Return the file name that a pattern gives a stem, with the extension of the other files."""
    name = matched.pattern.text.replace("**/", "").replace("[0-9]", "0").replace(STEM, stem)
    if name.endswith(".*"):
        name = name.removesuffix(".*") + (matched.files[0].path.suffix if matched.files else ".png")
    return f"one that {matched.pattern.text!r} names" if "*" in name else name


def read_mask_file(place: DataSource, path: Path, table: Pixels | None, size: Size | None) -> Pixels:
    """Read the labels of a mask file; with a table, (256,), translate them."""

    def note(what: str) -> None:
        place.tally.add("mask", what, place.format_name(path))

    def note_palette(palette: dict[int, int]) -> None:
        place.palettes[place.format_name(path)] = palette

    if path.suffix.lower() in LOSSY_SUFFIXES:
        place.lossy.add(place.format_name(path))
    large = find_large_label(place.class_map)
    labels = read_mask(path, place.colours, size, note=note, large=large, note_palette=note_palette)
    return labels if table is None else table[labels]
