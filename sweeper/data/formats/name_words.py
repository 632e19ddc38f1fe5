"""Usual names of image and mask files and folders: the words to ignore when pairing them.

If names differ, words like `img` and `mask` at one end are removed: `img_a.jpg` and `a_mask.png` share `a`. Else the
text common to all names of a side is removed: `train-volume00` and `train-labels00` share `00`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from os.path import commonprefix

from sweeper.data.formats.class_masks import find_image_stem, list_name_parts
from sweeper.data.formats.file_patterns import PatternMatch
from sweeper.data.open_image import IMAGE_SUFFIXES

IMAGE_WORDS = ("images", "image", "imgs", "img")
"""Names of image folders, in any case, in order of preference."""
MASK_WORDS = ("masks", "mask", "labels", "label", "annotations", "annotation", "gt", "ground_truth", "groundtruth")
"""Names of mask folders."""
MANUAL_WORDS = ("1st_manual", "manual1", "manual")
"""Names of label folders next to which `mask/` holds each image's field of view, as in DRIVE and HRF."""
MORE_IMAGE_WORDS = (
    *("jpegimages", "photos", "photo", "pictures", "picture", "pics", "frames", "rgb", "input", "inputs"),
    *("original", "originals", "sat", "tiles", "raw", "img_dir"),
)
"""Ambiguous names, used only if no format of annotations is found."""
MORE_MASK_WORDS = (
    *("segmentationclass", "segmentationclasspng", "segmentationmasks", "segmentations", "segmentation", "segs", "seg"),
    *("annot", "annots", "anno", "annos", "gts", "ground-truth", "ground truth", "targets", "target"),
    *(*MANUAL_WORDS, "labelmaps", "lbl", "ann_dir"),
)
LAST_MASK_WORDS = ("lab", "map", "maps")
"""Names used only if nothing else is found: next to masks such folders hold other files, such as weights."""


def _compile_word_at_end(before: str, after: str) -> re.Pattern[str]:
    return re.compile(rf"^(?:{before})(?=.)|(?<=.)(?:{after})$", re.IGNORECASE)


_FOLDERS = "|".join((*MASK_WORDS, *MORE_MASK_WORDS)), "|".join((*IMAGE_WORDS, *MORE_IMAGE_WORDS))
_MASK_FILE_WORDS = (
    *MASK_WORDS,
    *("seg", "segm", "segmentation", "anno", "annot", "manual1", "lbl", "target", "labelids", "matte", "l", "p"),
)
_FILES = "|".join(_MASK_FILE_WORDS)
_ENDING = "|".join(map(re.escape, IMAGE_SUFFIXES))
_PARTS = rf"[_. -](?:{'|'.join(MASK_WORDS)})[_ -]?\d{{1,2}}"
MASK_FILE = _compile_word_at_end(
    rf"(?:{_FILES})[_-]|mask|label|gt", rf"[_. -](?:{_FILES})|{_PARTS}|mask|label|{_ENDING}"
)
"""Pattern of a mask file's name (without extension): `mask_a`, `a-gt`, `a_mask_1`, `amask`, `a.jpg` of `a.jpg.png`."""
IMAGE_FILE = _compile_word_at_end("(?:images?|img)[_-]|image|img", "[_-](?:images?|img|sat|rgb|training|test)")
MASK_FOLDER = _compile_word_at_end(rf"(?:{_FOLDERS[0]})[_ -]", rf"[_ -]?(?:{_FOLDERS[0]})")
"""Pattern of a mask folder's name: `train_masks`, `masks_2020`, `trainannot`."""
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
_LAST = "|".join(LAST_MASK_WORDS)
LAST_MASK_FOLDER = _compile_word_at_end(rf"(?:{_LAST})[_ -]", rf"[_ -](?:{_LAST})")
MASK_FOLDER_WORD = re.compile(r"mask|label|annot|segm|truth|(?<![a-z])gts?(?![a-z])|manual|target", re.IGNORECASE)
LAST_MASK_FOLDER_WORD = re.compile(rf"{MASK_FOLDER_WORD.pattern}|semantic|instance", re.IGNORECASE)
IMAGE_FOLDER_WORD = re.compile(r"image|img|photo|picture|frame|rgb", re.IGNORECASE)
IMAGE_FOLDER = _compile_word_at_end(rf"(?:{_FOLDERS[1]})[_ -]", rf"[_ -](?:{_FOLDERS[1]})")


def strip_word(name: str, words: re.Pattern[str] | None) -> str:
    """Remove a word at one end of a name; its folders are kept."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + (last if words is None else words.sub("", last, count=1))


def find_masks_among(names: Collection[str], image_word: re.Pattern[str], mask_word: re.Pattern[str]) -> dict[str, str]:
    """Return the names that are masks of other names by their words, each with its image's name."""
    cores = {name: strip_word(name, mask_word) for name in names}
    others = sorted(name for name, core in cores.items() if core == name)
    for word in (None, image_word):
        images = {strip_word(name, word): name for name in others}
        if masks := {name: images[core] for name, core in cores.items() if core != name and core in images}:
            return masks
    return {}


def find_naming(
    images: Collection[str], masks: Collection[str]
) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
    """Return the words to remove from the names of images and masks, so that most masks find their image.

    Nothing is removed if at least half of the names are equal already.
    """

    def pairs(words: tuple[re.Pattern[str] | None, re.Pattern[str] | None]) -> int:
        cores = {strip_word(name, words[0]) for name in images}
        return sum(strip_word(name, words[1]) in cores for name in masks)

    ways = ((None, None), (None, MASK_FILE), (IMAGE_FILE, MASK_FILE), (IMAGE_FILE, None))
    return ways[0] if 2 * pairs(ways[0]) >= min(len(images), len(masks)) else max(ways, key=pairs)


def match_zeros(images: list[PatternMatch], masks: Sequence[PatternMatch]) -> list[PatternMatch]:
    """Add leading zeros as in the masks' names to numbers in image names, if this pairs more images.

    `7` and `00007_hair` share `00007`.
    """
    names = {part for one in masks for part in list_name_parts(one.stem)}
    folders = {folder for one in masks for folder in one.below.split("/")[:-1]}
    as_written = {_ZEROS.sub("", name): name for name in names}
    stems = [one.stem if one.stem in names else as_written.get(_ZEROS.sub("", one.stem), one.stem) for one in images]
    paired = sum(one.stem in names or one.stem in folders for one in images)
    if len({*stems}) < len(stems) or sum(stem in names for stem in stems) <= paired:
        return images
    return [one._replace(stem=stem) for one, stem in zip(images, stems, strict=True)]


def strip_common_ends(
    images: list[PatternMatch], masks: list[PatternMatch]
) -> tuple[list[PatternMatch], list[PatternMatch]]:
    """Remove the text common to all names of a side, if the rest pairs the files and nothing else does.

    `train-volume00` and `train-labels00` share `00`.
    """
    stems = {one.stem for one in images}
    if len(images) < 2 or any(find_image_stem(one, stems) for one in masks):
        return images, masks
    sides = [
        [_ZEROS.sub("", stem) for stem in take_common_ends([one.stem for one in files])] for files in (images, masks)
    ]
    if {*sides[0]} != {*sides[1]} or len({*sides[0]}) < max(len(images), len(masks)):
        return images, masks
    renamed = [
        [one._replace(stem=stem) for one, stem in zip(files, side, strict=True)]
        for files, side in zip((images, masks), sides, strict=True)
    ]
    return renamed[0], renamed[1]


def take_common_ends(stems: Sequence[str]) -> list[str]:
    """Remove the longest common prefix and suffix of all stems, without cutting numbers."""
    begin = len(re.sub(r"\d+$", "", commonprefix(stems)))  # noqa: RUF071 (characters are meant)
    rest = [stem[begin:][::-1] for stem in stems]
    end = len(re.sub(r"\d+$", "", commonprefix(rest)))  # noqa: RUF071
    return [stem[begin : len(stem) - end] for stem in stems]
