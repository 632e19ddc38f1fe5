"""Image and mask files that are called as people call them: patterns that are tried in order until one names both.

`folder`: `images/` and `masks/`, or called otherwise, in the data folder or in folders of splits. `pairs`, where no
format of annotations is found: folders whose names may mean something else (`photos/` with `targets/`), folders of
which one is called like the other's masks (`train/` with `train_masks/`), and masks beside their images.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sweeper.core.records import SplitName
from sweeper.data.decode import IMAGE_SUFFIXES, MASK_SUFFIXES
from sweeper.data.formats.base import (
    SPLITS,
    Format,
    Layout,
    Place,
    Reading,
    hidden,
    split_of,
    subfolders,
    walk,
)
from sweeper.data.formats.file_names import (
    FOLDER_FORMS,
    IMAGE_WORDS,
    MASK_WORDS,
    MORE_IMAGE_WORDS,
    MORE_MASK_WORDS,
    STEM,
    Naming,
    common_naming,
    naming_in_one_place,
)
from sweeper.data.formats.file_patterns import Match, file_pattern, match, matches, plain
from sweeper.data.formats.patterns import LOSSY, listed, paired
from sweeper.data.label_values import some
from sweeper.data.text_tables import normal, shown

LAYOUT = (
    "a data set is a folder with images/ (png, jpg, bmp, tif, webp) and masks/ (png, bmp, tif, gif; class indices) "
    "with equal stems, and optionally classes.txt and split.csv; img/, labels/, gt/ and the like are understood too; "
    "--images 'img/*.jpg' --masks 'labels/{stem}_m.png' says how all else is called"
)
_MASKS = (*MASK_SUFFIXES, *LOSSY)


class Guess(NamedTuple):
    """Where images and masks may lie."""

    images: str
    """A pattern with `{stem}` for the images' names."""
    masks: str
    folders: tuple[str, str] | None = None
    """Those of images and of masks, for people; None where masks lie beside their images."""
    splits: bool = False
    """Whether the first wildcard of the images may stand for a split."""
    split: SplitName | None = None
    """Of all images, where they have one."""
    naming: Naming | None = None
    """How masks beside their images are called: then not all files that may be images have the images' form."""
    unpaired: tuple[str, ...] = ()
    """Folders of images beside these that have no counterpart."""

    @property
    def line(self) -> str:
        """What was found, for people."""
        if self.folders is None:
            return "masks beside their images"
        return f"{self.folders[0]}/ and {self.folders[1]}/"

    @property
    def options(self) -> str:
        """The options that ask for the same."""
        return f"--images '{shown(self.images)}' --masks '{shown(self.masks)}'"


def _guess(root: Path, images: str, masks: str, cores: Sequence[str] = ("",)) -> Guess:
    """The guess of folders of images and of masks, with `{stem}` where one of the `cores` stands in both names.

    Files in their sub-folders count where the folders hold none themselves, or both have sub-folders of one name.
    """
    pairs = [(root / images.replace(STEM, core), root / masks.replace(STEM, core)) for core in cores]
    deep = any(
        not _holds_itself(at, IMAGE_SUFFIXES)
        or not _holds_itself(other, _MASKS)
        or {path.name for path in subfolders(at)} & {path.name for path in subfolders(other)}
        for at, other in pairs
    )
    same = plain(cores[0])
    if len(cores) > 1:
        same = "*" if any(re.search("[{},]", core) for core in cores) else f"{{{','.join(cores)}}}"
    at, other = (same.join(map(plain, text.split(STEM))) for text in (images, masks))
    name = f"/**/{STEM}.*" if deep else f"/{STEM}.*"
    split = SPLITS.get(cores[0].lower()) if len(cores) == 1 else None
    return Guess(at + name, other + name, (shown(at), shown(other)), len(cores) > 1, split)


def _holds_itself(folder: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether there is such a file in a folder, and not below it."""
    return any(path.suffix.lower() in suffixes and not hidden(path.name) for path in folder.iterdir())


def _holds(root: Path, pattern: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a pattern names such a file."""
    return any(one.path.suffix.lower() in suffixes for one in matches(root, file_pattern("", pattern)))


def _guesses(
    root: Path, image_words: Sequence[str], mask_words: Sequence[str], *, anywhere: bool = False
) -> list[Guess]:
    """Guesses of folders that are called by these words, the likeliest first; all but the first hold files.

    Both lie in the root, or in its folders of splits; with `anywhere`, in others of its folders too. Folders of masks
    but the first of the words must hold mask files: others keep text or JSON there.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for name in sorted({path.name for at in (root, *subfolders(root)) for path in subfolders(at)}):
        names[name.lower()].append(name)
    for same in names.values():
        same.sort(key=lambda name: not name.islower())
    found: list[Guess] = []
    for images in (name for word in image_words for name in names.get(word, ())):
        for masks in (name for word in mask_words for name in names.get(word, ())):
            guess = _called(root, images, masks, anywhere=anywhere)
            if guess is None or (masks != mask_words[0] and not _holds(root, guess.masks, MASK_SUFFIXES)):
                continue
            if not found or _holds(root, guess.images, IMAGE_SUFFIXES):
                found.append(guess)
    return found


def _called(root: Path, images: str, masks: str, *, anywhere: bool) -> Guess | None:
    """Folders with these names that belong together."""
    if (root / images).is_dir() and (root / masks).is_dir():
        there = {path.name for path in subfolders(root / masks)}
        inner = [path.name for path in subfolders(root / images) if path.name in there]
        if any(name.lower() in SPLITS for name in inner) and not _holds_itself(root / images, IMAGE_SUFFIXES):
            guess = _guess(root, f"{images}/{STEM}", f"{masks}/{STEM}", inner)
            left = [f"{at}/{path.name}" for at in (images, masks) for path in subfolders(root / at)]
            left = [name for name in left if Path(name).name not in inner]
            return guess._replace(unpaired=tuple(n for n in left if _holds(root, f"{plain(n)}/**/*", IMAGE_SUFFIXES)))
        return _guess(root, images, masks)
    outer = [
        at.name
        for at in subfolders(root)
        if (anywhere or at.name.lower() in SPLITS) and (at / images).is_dir() and (at / masks).is_dir()
    ]
    return _guess(root, f"{STEM}/{images}", f"{STEM}/{masks}", outer) if outer else None


def _alike(root: Path) -> Guess | None:
    """Folders of which one is called like the masks of the other."""
    names = [path.name for path in subfolders(root)]
    naming = naming_in_one_place(names, names, FOLDER_FORMS)
    if naming is None:
        return None
    cores: dict[tuple[str, str], list[str]] = defaultdict(list)
    for masks, images in naming.masks.items():
        if _holds(root, f"{plain(images)}/**/*", IMAGE_SUFFIXES) and _holds(
            root, f"{plain(masks)}/**/*", MASK_SUFFIXES
        ):
            (image, core), (mask, _) = _taken_apart(images, naming.image), _taken_apart(masks, naming.mask)
            cores[image, mask].append(core)
    most = max(cores, key=lambda forms: len(cores[forms]), default=None)
    return None if most is None else _guess(root, *most, cores[most])


def _taken_apart(name: str, form: str) -> tuple[str, str]:
    """A form with the letters of a name that has it, in their case, and what `{stem}` stands for in that name."""
    before, after = map(len, form.split(STEM))
    end = len(name) - after
    return f"{name[:before]}{STEM}{name[end:]}", name[before:end]


def _beside(root: Path) -> Guess | None:
    """Masks and their images in one folder each."""
    names: dict[str, set[str]] = defaultdict(set)
    for path in walk(root, root):
        names[path.suffix.lower()].add(normal(path.relative_to(root).with_suffix("").as_posix()))
    images, known = (
        set().union(*(names.get(suffix, ()) for suffix in suffixes))
        for suffixes in (IMAGE_SUFFIXES, (*IMAGE_SUFFIXES, *MASK_SUFFIXES))
    )
    naming = naming_in_one_place(images, known)
    if naming is not None:
        return Guess(f"**/{naming.image}.*", f"**/{naming.mask}.*", naming=naming)
    lossy, drawn = (set().union(*(names.get(s, ()) for s in suffixes)) for suffixes in (LOSSY, MASK_SUFFIXES))
    if not lossy & drawn or 2 * len(lossy & drawn) < max(len(lossy), len(drawn)):
        return None
    lossy_kinds, mask_kinds = (",".join(suffix[1:] for suffix in suffixes) for suffixes in (LOSSY, MASK_SUFFIXES))
    return Guess(f"**/{STEM}.{{{lossy_kinds}}}", f"**/{STEM}.{{{mask_kinds}}}")


def find_folder(place: Place) -> Layout | None:
    """The folders images/ and masks/, or both in folders of splits."""
    found = [] if place.entry is not None else _guesses(place.root, IMAGE_WORDS, MASK_WORDS)
    if not found:
        return None
    return Layout(found[0].line, partial(_read_folder, place, *found), partial(_files, place, found[0]))


def _read_folder(place: Place, first: Guess, *rivals: Guess) -> Reading:
    """List and pair the files; nothing is opened."""
    others = some([guess.line for guess in rivals], 3)
    if rivals and first.folders == (IMAGE_WORDS[0], MASK_WORDS[0]):
        place.notes.append(f"{first.line} are read; {others} might be meant too: --images with --masks would say so.")
    elif rivals:
        place.problems.append(
            f"images and masks must lie in one folder each, found {first.line}, {others}; say which with "
            + first.options
        )
    return _read(place, first)


def find_pairs(place: Place) -> Layout | None:
    """Folders or files that their names pair."""
    if place.entry is not None:
        return None
    words = (*IMAGE_WORDS, *MORE_IMAGE_WORDS), (*MASK_WORDS, *MORE_MASK_WORDS)
    if called := _guesses(place.root, *words, anywhere=True):
        found = called[0] if _holds(place.root, called[0].images, IMAGE_SUFFIXES) else None
    else:
        found = _alike(place.root) or _beside(place.root)
    return None if found is None else Layout(found.line, partial(_read, place, found))


def _read(place: Place, guess: Guess) -> Reading:
    """The images and masks of a guess, by the names that these files have."""
    others = [*guess.unpaired]
    images = listed(place, guess.images if guess.naming is None else f"**/{STEM}.*", IMAGE_SUFFIXES, others)
    masks = listed(place, guess.masks, _MASKS, others)
    found = guess.naming
    if guess.folders is not None and (found := _naming(images, masks)) is not None:
        guess = guess._replace(
            images=guess.images.replace(STEM, found.image), masks=guess.masks.replace(STEM, found.mask)
        )
    if found is not None and found.others:
        place.problems.append(_two_masks(guess, found, images))
        # Names may be those of the files alone, without the folders.
        images, masks = (
            [one for one in files if not {one.name, one.name.rpartition("/")[2]} & found.others.keys()]
            for files in (images, masks)
        )
    image, mask = (file_pattern("", text, any_case=True) for text in (guess.images, guess.masks))
    # A file that is called otherwise keeps its own name: it is a problem where that belongs to no other.
    images = [match(one.path, one.below, image) or one for one in images]
    masks = [match(one.path, one.below, mask) or one for one in masks]

    def split(one: Match) -> SplitName | None:
        if guess.folders is None:
            return split_of(one.path.relative_to(place.root).parts[:-1])
        return split_of(one.folders[:1]) if guess.splits else guess.split

    samples, left = paired(place, (images, image), (masks, mask), split)
    if samples and (guess.folders is None or Path(samples[0].mask_name).stem != Path(samples[0].name).stem):
        example = f"{samples[0].mask_name} is the mask of {samples[0].name}"
        place.notes.append(f"Images and masks were paired by their names: {example}.")
        place.assumed.append(example)
    place.problems += [
        f"{place.name(path)}: has no image of its name; add it, remove the mask, or say which are meant with "
        + guess.options
        for path in left
    ]
    if guess.folders is not None:
        place.tally.add("thing", "of another kind, passed over", *others)
    used = {sample.name for sample in samples}
    lost = [one.name.rpartition("/")[2] for one in images if place.name(one.path) not in used]
    return Reading(
        samples,
        place.classes or (place.colours.names if place.colours else None),
        stems=frozenset(
            [*(sample.stem for sample in samples), *lost, *(one.stem for one in masks if one.path in left)]
        ),
        place=f"{guess.folders[0] if guess.folders else '.'}/",
        mask_place=f"{guess.folders[1] if guess.folders else '.'}/",
    )


def _two_masks(guess: Guess, naming: Naming, images: Sequence[Match]) -> str:
    """The problem that images have masks of two kinds."""
    second, image = min(naming.others.items())
    both = [second, *(first for first, own in naming.masks.items() if own == image)]
    found = f"{guess.line}: an image has one mask, found {' and '.join(map(shown, both))} for {shown(image)}"
    if guess.folders is None:  # a pattern tells images from masks beside them by the extension alone
        kinds = {one.name: one.path.suffix for one in images}
        if kinds[image] == kinds.get(second):
            return f"{found}; move one kind elsewhere"
        guess = guess._replace(images=guess.images.replace(".*", kinds[image]))
    return f"{found}; say which with {guess.options}"


def _naming(images: Sequence[Match], masks: Sequence[Match]) -> Naming | None:
    """How images and masks are called, where not alike; in folders on one side alone by the files' names."""
    names = [{one.name for one in files} for files in (images, masks)]
    found = common_naming(*names)
    if found is not None or 2 * len(names[0] & names[1]) >= min(map(len, names)):
        return found
    bare = [{name.rpartition("/")[2] for name in own} for own in names]
    unique = all(len(own) == len(all_) for own, all_ in zip(bare, names, strict=True))
    return common_naming(*bare) if unique else None


def _files(place: Place, guess: Guess) -> Iterator[Path]:
    """All files in the folders of images and masks."""
    for text in (guess.images, guess.masks):
        pattern = file_pattern("", text)
        yield from walk(place.root / pattern.folder, place.root)


def missing(root: Path) -> list[str]:
    """What is missing for image and mask folders, where nothing finds any: each begins with the name of a folder."""
    there = {
        path.relative_to(root).as_posix(): path
        for at in (root, *(root / name for name in SPLITS if (root / name).is_dir()))
        for path in subfolders(at)
    }
    images = [name for name, path in there.items() if path.name.lower() in IMAGE_WORDS]
    masks = [name for name, path in there.items() if path.name.lower() in MASK_WORDS]
    if images and masks:
        empty = [name for name in masks if not _holds(root, f"{plain(name)}/**/*", MASK_SUFFIXES)] or masks
        return [f"{name}/: holds no masks (png, bmp, tif, gif) of the images in {images[0]}/" for name in empty]
    if images:
        return [f"{images[0].removesuffix(there[images[0]].name)}masks/: is missing beside {images[0]}/"]
    if masks:
        return [f"{masks[0].removesuffix(there[masks[0]].name)}images/: is missing beside {masks[0]}/"]
    return ["images/: is missing", "masks/: is missing"]


FOLDER = Format("images/ and masks/ with equal stems", find_folder)
PAIRS = Format("image and mask files that are called alike (photos/ and targets/; a.jpg beside a_mask.png)", find_pairs)
