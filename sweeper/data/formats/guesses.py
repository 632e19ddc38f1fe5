"""Guess image and mask files by common names: patterns are tried in order until one finds both.

`folder`: `images/` and `masks/`, or similar names, in the data folder or in folders of splits. `pairs`, if no format of
annotations is found: folders with ambiguous names (`photos/` with `targets/`), a folder named after another (`train/`
with `train_masks/`), and masks next to their images.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from sweeper.core.text import format_count
from sweeper.data.formats.base import AnnotationFormat, DataSource, FormatLayout, ReadResult, list_subfolders
from sweeper.data.formats.class_masks import match_masks_by_beginning
from sweeper.data.formats.file_patterns import (
    STEM,
    MatchedFiles,
    PatternMatch,
    compile_pattern,
    escape_pattern,
    find_masks,
    find_matches,
)
from sweeper.data.formats.fitting_names import guess_by_fit
from sweeper.data.formats.layout_guess import LayoutGuess, make_alternatives, walk_folders
from sweeper.data.formats.name_words import (
    IMAGE_FILE,
    IMAGE_FOLDER,
    IMAGE_WORDS,
    LAST_MASK_FOLDER,
    LAST_MASK_WORDS,
    MANUAL_WORDS,
    MASK_FILE,
    MASK_FOLDER,
    MASK_FOLDER_WORD,
    MASK_WORDS,
    MORE_IMAGE_WORDS,
    MORE_MASK_WORDS,
    find_masks_among,
    strip_word,
)
from sweeper.data.formats.patterns import (
    choose_split_rule,
    find_stems,
    list_pattern_files,
    match_names,
    note_naming,
    pair_files,
)
from sweeper.data.label_values import abbreviate
from sweeper.data.open_image import IMAGE_SUFFIXES, LOSSY_SUFFIXES, MASK_SUFFIXES
from sweeper.data.text_tables import SPLITS

LAYOUT = (
    "a data set is a folder with images/ (png, jpg, bmp, tif, webp, ppm) and masks/ (png, bmp, tif, gif, ppm; class "
    "indices) with equal stems, and optionally classes.txt and split.csv; img/, labels/, gt/ and the like are "
    "understood too; --images 'img/*.jpg' --masks 'labels/{stem}_m.png' says how all else is called"
)
_RARE = 20
"""Files next to the folders are left out if the folders hold at least this many times as many."""
_SEVERAL_SPLITS = ("trainval", "train_val", "train-val")
"""Folders of splits that define none: next to train/ or val/ they repeat the same images."""
_DRAWN = tuple(suffix for suffix in MASK_SUFFIXES if suffix not in LOSSY_SUFFIXES)


def _has_match(place: DataSource, pattern: str, suffixes: tuple[str, ...]) -> bool:
    """Return whether a pattern matches a file with one of these suffixes."""
    return any(one.path.suffix.lower() in suffixes for one in find_matches(place, compile_pattern(pattern)))


def _guess_by_folder_words(
    place: DataSource, image_words: Sequence[str], mask_words: Sequence[str], *, anywhere: bool = False
) -> list[LayoutGuess]:
    """Guess folders with these names, the likeliest first; only the first guess may be without image files.

    Both folders are in the root, or in its folders of splits; with `anywhere`, in its other folders too. Except for the
    first mask word, a folder of masks must contain mask files, as others may hold text or JSON.
    """
    root = place.root
    names: dict[str, list[str]] = defaultdict(list)
    for name in sorted(
        {path.name for at in (root, *list_subfolders(root)) for path in list_subfolders(at)}, reverse=True
    ):
        names[name.lower()].append(name)
    guesses: list[LayoutGuess] = []
    for images in (name for word in image_words for name in names.get(word, ())):
        for masks in (name for word in mask_words for name in names.get(word, ())):
            at, other = escape_pattern(images), escape_pattern(masks)
            if not ((root / images).is_dir() and (root / masks).is_dir()):
                outer = [
                    folder.name
                    for folder in list_subfolders(root)
                    if (anywhere or folder.name.lower() in (*SPLITS, *_SEVERAL_SPLITS))
                    and (folder / images).is_dir()
                    and (folder / masks).is_dir()
                ]
                if {SPLITS.get(name.lower()) for name in outer} & {"train", "val"}:
                    outer = [name for name in outer if name.lower() not in _SEVERAL_SPLITS]
                if not outer:
                    continue
                at, other = (f"{make_alternatives(outer)}/{name}" for name in (at, other))
            guess = walk_folders(at, other)
            if masks != mask_words[0] and not _has_match(place, guess.masks, MASK_SUFFIXES):
                continue
            if not guesses or _has_match(place, guess.images, IMAGE_SUFFIXES):
                guesses.append(guess)
    return guesses


def _guess_alike_folders(place: DataSource, mask_word: re.Pattern[str] = MASK_FOLDER) -> LayoutGuess | None:
    """Guess folders of images and masks whose names are equal except for a mask word."""
    forms: dict[tuple[str, str], list[str]] = defaultdict(list)
    for masks, images in find_masks_among(
        [path.name for path in list_subfolders(place.root)], IMAGE_FOLDER, mask_word
    ).items():
        files = ((images, IMAGE_SUFFIXES), (masks, MASK_SUFFIXES))
        if all(_has_match(place, f"{escape_pattern(name)}/**/*", suffixes) for name, suffixes in files):
            core = strip_word(masks, mask_word)
            forms[images.replace(core, STEM, 1), masks.replace(core, STEM, 1)].append(core)
    if not forms:
        return None
    most = max(forms, key=lambda pair: len(forms[pair]))
    images, masks = (make_alternatives(forms[most]).join(map(escape_pattern, form.split(STEM))) for form in most)
    return walk_folders(images, masks)


def _guess_same_folder(place: DataSource, least: float = 0) -> LayoutGuess | None:
    """Guess masks next to their images, if name words pair at least the share `least` of all files."""
    names: dict[str, set[str]] = defaultdict(set)
    for below, path in place.listing:
        names[path.suffix.lower()].add(below.removesuffix(path.suffix))
    names_with_images = set().union(*(names[suffix] for suffix in {*IMAGE_SUFFIXES, *MASK_SUFFIXES}))
    words = find_masks_among(names_with_images, IMAGE_FILE, MASK_FILE) or match_masks_by_beginning(names_with_images)
    if words and len({*words, *words.values()}) >= least * len(names_with_images):
        return LayoutGuess(f"**/{STEM}.*", f"**/{STEM}.*", words=True)
    lossy, drawn = (set().union(*(names[suffix] for suffix in suffixes)) for suffixes in (LOSSY_SUFFIXES, _DRAWN))
    if not lossy & drawn or 2 * len(lossy & drawn) < max(len(lossy), len(drawn)):
        return None
    kinds = (",".join(suffix[1:] for suffix in suffixes) for suffixes in (LOSSY_SUFFIXES, _DRAWN))
    images, masks = (f"**/{STEM}.{{{kind}}}" for kind in kinds)
    return LayoutGuess(images, masks)


def _guess_class_folders(place: DataSource) -> LayoutGuess | None:
    """Guess a folder of images among folders of masks, one for each class."""
    names = [path.name for path in list_subfolders(place.root)]
    images = [name for name in names if name.lower() in (*IMAGE_WORDS, *MORE_IMAGE_WORDS)]
    masks = [name for name in names if name not in images and _has_match(place, f"{escape_pattern(name)}/**/*", _DRAWN)]
    return (
        walk_folders(escape_pattern(images[0]), make_alternatives(masks))
        if len(images) == 1 and len(masks) > 1
        else None
    )


def _guess_two_folders(place: DataSource) -> LayoutGuess | None:
    """Guess two folders of pictures, if only these have pictures and one name has a mask word.

    They are the innermost folders, the same two in each parent (masks may be missing, as in a test set), or the
    outermost.
    """
    inner: dict[str, set[str]] = defaultdict(set)
    outer: set[str] = set()
    for below, path in place.listing:
        *above, parent, folder, _ = ("", "", *below.split("/"))
        if path.suffix.lower() in {*IMAGE_SUFFIXES, *MASK_SUFFIXES} and folder:
            inner["/".join(filter(None, (*above, parent)))].add(folder)
            outer.add(below.split("/")[0])
    for names in (inner, {"": outer}):
        both = set().union(*names.values())
        masks = [name for name in both if MASK_FOLDER_WORD.search(name)]
        if len(both) == 2 and len(masks) == 1 and all(folders >= both - {*masks} for folders in names.values()):
            parents = "" if {*names} == {""} else "**/"
            (images,) = both - {*masks}
            return walk_folders(*(f"{parents}{escape_pattern(name)}" for name in (images, masks[0])))
    return None


def find_folder(place: DataSource) -> FormatLayout | None:
    """Find the folders images/ and masks/, or both in folders of splits."""
    guesses = [] if place.entry is not None else _guess_by_folder_words(place, IMAGE_WORDS, MASK_WORDS)
    if not guesses:
        return None
    if manual := _guess_by_folder_words(place, IMAGE_WORDS, ("", *MANUAL_WORDS)):
        place.notes.append(
            f"{manual[0].format_line} are read; {guesses[0].folders[1]}/ is taken for fields of view: "
            f"{guesses[0].format_options(place)} reads it."
        )
        return FormatLayout(manual[0].format_line, partial(_read_guess, place, manual[0], guesses))
    return FormatLayout(guesses[0].format_line, partial(_read_folder, place, *guesses))


def _read_folder(place: DataSource, first: LayoutGuess, *rivals: LayoutGuess) -> ReadResult:
    """List and pair the files without opening any."""
    others = abbreviate([guess.format_line for guess in rivals], 3)
    if rivals and first.folders == (IMAGE_WORDS[0], MASK_WORDS[0]):
        place.notes.append(
            f"{first.format_line} are read; {others} might be meant too: --images with --masks would say so."
        )
    elif rivals:
        place.problems.append(
            f"images and masks must be in one folder each, found {first.format_line}, {others}; say which with "
            + first.format_options(place)
        )
    return _read_guess(place, first, rivals)


def find_pairs(place: DataSource) -> FormatLayout | None:
    """Find folders or files that are paired by their names."""
    if place.entry is not None:
        return None
    images, masks = (*IMAGE_WORDS, *MORE_IMAGE_WORDS), (*MASK_WORDS, *MORE_MASK_WORDS)
    if called := _guess_by_folder_words(place, images, masks, anywhere=True):
        guesses = called[:1] if _has_match(place, called[0].images, IMAGE_SUFFIXES) else []
    else:
        ways = (
            _guess_alike_folders,
            partial(_guess_same_folder, least=0.5),
            _guess_class_folders,
            _guess_two_folders,
            partial(_guess_alike_folders, mask_word=LAST_MASK_FOLDER),
            _guess_same_folder,
        )
        by_words = [*filter(None, (guess_by(place) for guess_by in ways))]
        guess = next((one for one in by_words if find_masks(*find_stems(*_list_guess(place, one)))), None)
        last = [] if guess else _guess_by_folder_words(place, images, ("", *LAST_MASK_WORDS), anywhere=True)
        last = [one for one in last if _has_match(place, one.images, IMAGE_SUFFIXES)]
        guesses = [guess] if guess else last[:1] or guess_by_fit(place) or by_words[:1]
    return FormatLayout(guesses[0].format_line, partial(_read_folder, place, *guesses)) if guesses else None


def _read_guess(place: DataSource, guess: LayoutGuess, rivals: Sequence[LayoutGuess] = ()) -> ReadResult:
    """Read the images and masks of a guess, paired by names; `rivals` are not reported as unread."""
    others: list[str] = []
    images, masks = _list_guess(place, guess, others)
    if not guess.words:
        place.tally.add("thing", "of another kind, passed over", *others)
        images, masks = (side._replace(files=_leave_out_pictures(place, side.files)) for side in (images, masks))
    named = match_names(place, images, masks)
    if named is None:
        return ReadResult([], None)
    images, masks = named
    of_images = find_masks(images, masks)
    images = _keep_folders_with_masks(place, images, of_images)
    samples, left = pair_files(place, images, masks, choose_split_rule(place, images.files))
    _note_unread(place, (guess, *rivals), len(samples))
    at, other = guess.folders
    has_one_each = all(len(of_image) == 1 for of_image in of_images.values())
    if has_one_each:
        note_naming(place, samples, always=at == other)
    step = f"add it, remove the mask, or say which are meant with {guess.format_options(place)}"
    for path in left:
        place.add_problem(path, f"has no image of its name{place.describe_unread(path)}; {step}")
    return ReadResult(samples, place.names, place=f"{at}/", mask_place=f"{other}/")


def _list_guess(
    place: DataSource, guess: LayoutGuess, others: list[str] | None = None
) -> tuple[MatchedFiles, MatchedFiles]:
    """List the files of a guess; names of files of other kinds are added to `others`."""
    images = list_pattern_files(place, guess.images, IMAGE_SUFFIXES, others)
    masks = list_pattern_files(place, guess.masks, MASK_SUFFIXES, others)
    if guess.words:
        names = {one.name for one in (*images.files, *masks.files)}
        image_names = find_masks_among(names, IMAGE_FILE, MASK_FILE) or match_masks_by_beginning(names)
        images = images._replace(files=[one for one in images.files if one.name not in image_names])
        masks = masks._replace(files=[one for one in masks.files if one.name in image_names])
    return images, masks


def _note_unread(place: DataSource, guesses: Sequence[LayoutGuess], number: int) -> None:
    """Warn of pictures in folders outside the guesses, if there are more than a few."""
    read = [compile_pattern(text).regex for guess in guesses for text in (guess.images, guess.masks)]
    folders = Counter(
        place.format_name(path.parent)
        for below, path in place.listing
        if path.suffix.lower() in IMAGE_SUFFIXES and "/" in below and not any(one.fullmatch(below) for one in read)
    )
    if 10 * sum(folders.values()) > max(20, number):
        place.notes.append(
            f"{format_count(sum(folders.values()), 'picture')} in other folders are not read: "
            f"{abbreviate(sorted(folders))}; if they have masks, --images and --masks can name all."
        )


def _leave_out_pictures(place: DataSource, files: Sequence[PatternMatch]) -> list[PatternMatch]:
    """Leave out the few files in the data folder itself, such as a README's pictures, if all others are below it."""
    on_top = [one for one in files if "/" not in one.below]
    if not 0 < _RARE * len(on_top) <= len(files):
        return [*files]
    place.tally.add(
        "picture", "of the data folder itself, passed over", *(place.format_name(one.path) for one in on_top)
    )
    return [one for one in files if "/" in one.below]


def _keep_folders_with_masks(place: DataSource, images: MatchedFiles, with_masks: Collection[Path]) -> MatchedFiles:
    """Leave out images in folders without any mask, usually a test set, if other folders have masks."""
    folders = {one.path.parent for one in images.files if one.path in with_masks}
    if not folders:
        return images
    bare = {place.format_name(one.path.parent) for one in images.files if one.path.parent not in folders}
    place.tally.add("image folder", "without any mask, passed over", *bare)
    return images._replace(files=[one for one in images.files if one.path.parent in folders])


FOLDER = AnnotationFormat("images/ and masks/ with equal stems", find_folder)
PAIRS = AnnotationFormat(
    "image and mask files that are called alike (photos/ and targets/; a.jpg next to a_mask.png)", find_pairs
)
