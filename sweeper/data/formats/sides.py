"""Infer which files are images and which are their masks, by hypotheses that are scored by names.

An image and its mask differ by the same words throughout the set: `img/7.jpg` and `gt/7_mask.png` by `img` against `gt`
and `mask`. Such differences are counted over files that share their rarest words; each makes hypotheses: masks are the
files with some words, images those with others, or all the rest. A hypothesis is worth what its names say, times the
share of its files that it matches.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from itertools import product
from typing import NamedTuple

from sweeper.data.formats.base import DataSource
from sweeper.data.formats.matching import READINGS, Tokens, TokenTable, count_matched, match_masks
from sweeper.data.open_image import IMAGE_SUFFIXES, LOSSY_SUFFIXES, MASK_SUFFIXES
from sweeper.data.text_tables import SPLITS

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
"""Names of image folders, in any case."""
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "gt", "ground_truth", "groundtruth"),
    *("1st_manual", "manual1", "manual"),
)
"""Names of mask folders."""
_USUAL = (IMAGE_FOLDERS, MASK_FOLDERS)
IMAGE_WORDS = {
    *IMAGE_FOLDERS,
    *("photo", "photos", "picture", "pictures", "pic", "pics", "frame", "frames", "rgb", "input", "inputs"),
    *("original", "originals", "sat", "tiles", "raw", "jpegimages"),
}
_MASK_WORDS = {
    *MASK_FOLDERS,
    *("annot", "annots", "anno", "annos", "gts", "truth", "segmentation", "segmentations", "seg", "segs", "segm"),
    *("segmentationclass", "segmentationclasspng", "segmentationmasks", "target", "targets", "manual", "manual1"),
    *("labelmaps", "labelids", "lbl", "ann", "matte"),
}
_LIKELY_WORDS = {"lab", "map", "maps", "semantic", "l", "p"}
"""Words of masks, unless other files have a better one."""
_OTHER_WORDS = {
    *("instance", "instances", "panoptic", "depth", "disparity", "color", "colour", "overlay", "overlays", "thumb"),
    *("thumbs", "thumbnails", "preview", "confidence", "tra"),
}
"""Words of pictures that are neither images nor masks of classes."""
_SEVERAL_SPLITS = ("trainval", "train_val", "train-val")
"""Folders of splits that define none: next to train/ or val/ they repeat the same images."""
_RARE = 20
"""Pictures in the data folder itself are left out if its folders hold at least this many times as many."""
READ = 0.5
"""Least score of a hypothesis that is read; others are proposed."""
MARGIN = 0.04
"""Least lead in the score of a hypothesis over another with other masks."""
_NEXT_TO_IMAGES = 0.6
"""Weight of masks that are named after the images next to them, without a word of masks."""
_BY_CLASS = 0.5
"""Weight of all other folders of drawn pictures as one for each class, next to a folder of images."""
_RUNNER_UP, _MOST_MATCHED = 0.5, 24
"""Lead in the weight from which a hypothesis is left out; most hypotheses that are matched."""
_RAREST = 30
"""The files of a side must be more than one in so many."""
_SIGN = re.compile(r"[\W_]")
_SAMPLED, _NEAR, _MOST_EDITS, _MOST_TOKENS = 256, 64, 24, 5
"""Files whose differences are counted; files compared with each; differences that make hypotheses; their tokens."""

Files = frozenset[str]
"""Paths below the data folder."""


class Sides(NamedTuple):
    """A hypothesis: these files are images, those their masks."""

    images: Files
    masks: Files
    weight: float
    """Evidence of the names: about 1 for a word of masks that the images lack."""
    owners: Mapping[str, list[str]]
    """Images of each mask."""
    coverage: float
    """Share of the files that are matched, among all pictures in their folders."""

    @property
    def score(self) -> float:
        """Worth of the hypothesis."""
        return self.coverage * self.weight

    @property
    def has_usual_folders(self) -> bool:
        """Whether each side is in one folder like `images` or `masks`, in the data folder or in folders of splits."""
        tops = [{_get_top_folder(path) for path in side} for side in (self.images, self.masks)]
        return all(len(names) == 1 and names <= {*usual} for names, usual in zip(tops, _USUAL, strict=True))

    @property
    def matched(self) -> Files:
        """Images that have a mask; all images if none has."""
        return frozenset(image for of_mask in self.owners.values() for image in of_mask) or self.images


def _get_top_folder(path: str) -> str:
    """Return the outermost folder of a path, in lower case, that is not called like a split."""
    first, *rest = path.lower().split("/")
    is_split = bool(rest) and first in (*SPLITS, *_SEVERAL_SPLITS)
    return rest[0] if is_split else first


def list_pictures(place: DataSource) -> tuple[str, ...]:
    """Return the paths of pictures that may be images or masks; none if the user gave an annotation file.

    Left out are a few pictures next to full folders, as of a README, and those of a folder `trainval` next to `train`.
    """
    files = place.listing if place.entry is None else ()
    pictures = [below for below, path in files if path.suffix.lower() in {*IMAGE_SUFFIXES, *MASK_SUFFIXES}]
    below = [path for path in pictures if "/" in path]
    if _RARE * (len(pictures) - len(below)) <= len(below):
        pictures = below
    folders = {part.lower() for path in pictures for part in path.split("/")[:-1]}
    if {SPLITS.get(name) for name in folders} & {"train", "val"}:
        pictures = [path for path in pictures if not {*path.lower().split("/")} & {*_SEVERAL_SPLITS}]
    return tuple(pictures)


@lru_cache(maxsize=2)
def infer_sides(pictures: tuple[str, ...]) -> list[Sides]:
    """Return the hypotheses about pictures, the best first.

    Pictures of other kinds by a word, such as depths, are looked at only if the others make no set.
    """
    table = TokenTable()
    usual = [path for path in pictures if _OTHER_WORDS.isdisjoint(table.get_words(path))]
    sides = _rank_sides(frozenset(usual), table)
    is_clear = bool(sides) and sides[0].score >= READ
    if is_clear or len(usual) == len(pictures):
        return sides
    others = _rank_sides(frozenset(pictures), table)
    if not sides:
        return others
    return others if others[0].score >= READ else sides


def _rank_sides(pictures: Files, table: TokenTable) -> list[Sides]:
    """Return the hypotheses about pictures, the best first; those that cannot be the best are left out."""
    able = frozenset(path for path in pictures if path.lower().endswith(IMAGE_SUFFIXES))
    bonuses: dict[tuple[Files, Files], float] = defaultdict(float)
    for every, masks, bonus in _list_sides(pictures, table):
        images = every & able
        fewest = min(len(images), len(masks))
        if fewest and _RAREST * fewest >= len(pictures):
            bonuses[images, masks] = max(bonus, bonuses[images, masks])
    weights = {sides: max(bonus, _weigh_names(*sides, table)) for sides, bonus in bonuses.items()}
    found: list[Sides] = []
    in_folder = Counter(path.rpartition("/")[0] for path in pictures)
    order = sorted(weights, key=lambda sides: (-weights[sides], _share_folder(*sides), -min(map(len, sides))))
    for images, masks in order[:_MOST_MATCHED]:
        if found and weights[images, masks] < max(one.score for one in found) - _RUNNER_UP:
            break
        owners = match_masks(images, masks, table)
        used = {*owners, *(image for of_mask in owners.values() for image in of_mask)}
        near = sum(in_folder[folder] for folder in {path.rpartition("/")[0] for path in used})
        matched = sum(len(of_mask) == 1 for of_mask in owners.values()) + count_matched(owners)
        found.append(Sides(images, masks, weights[images, masks], owners, matched / max(1, near)))
    return sorted(found, key=lambda one: (-one.score, -len(one.owners), -count_matched(one.owners), -len(one.images)))


def _share_folder(images: Files, masks: Files) -> bool:
    """Return whether a folder has files of both sides."""
    at, other = ({path.rpartition("/")[0] for path in side} for side in (images, masks))
    return not at.isdisjoint(other)


def _list_sides(pictures: Files, table: TokenTable) -> Iterator[tuple[Files, Files, float]]:
    """Yield images, masks, and their least weight.

    They are found by usual folders, by suffixes, as files whose names begin with another's, and by the most common
    differences.
    """
    folders: dict[str, set[str]] = defaultdict(set)
    for path in pictures:
        for part in path.casefold().split("/")[:-1]:
            folders[part].add(path)
    usual = [[frozenset(folders.get(name, ())) for name in names] for names in _USUAL]
    yield from ((images, masks, 0.0) for images, masks in product(*usual) if images.isdisjoint(masks))
    for images in usual[0]:
        rest = pictures - images
        of_classes = {path.rpartition("/")[0] for path in rest if not path.lower().endswith(LOSSY_SUFFIXES)}
        yield images, rest, _BY_CLASS * (len(of_classes) > 1)
    lossy = frozenset(path for path in pictures if path.lower().endswith(LOSSY_SUFFIXES))
    twins = {path.rpartition(".")[0] for path in lossy} & {path.rpartition(".")[0] for path in pictures - lossy}
    yield lossy, pictures - lossy, _NEXT_TO_IMAGES * bool(twins)
    names = {path.rpartition(".")[0] for path in pictures}
    longer = frozenset(
        path
        for path in pictures
        if any(path[: sign.start()] in names for sign in _SIGN.finditer(path.rpartition(".")[0]))
    )
    yield pictures - longer, longer, _NEXT_TO_IMAGES
    for reading in (READINGS[0], READINGS[2]):
        for images, masks in _list_by_edits({path: table[path, reading] for path in sorted(pictures)}):
            yield images or pictures - masks, masks or pictures - images, 0.0


def _list_by_edits(tokens: Mapping[str, Tokens]) -> Iterator[tuple[Files, Files]]:
    """Yield images and masks by the words of the most common differences; an empty side is all the rest."""

    @cache
    def find(some: Tokens) -> Files:
        return frozenset(path for path, each in tokens.items() if some <= each)

    for edit in _list_edits(tokens):
        image_sides, mask_sides = (
            dict.fromkeys(find(some) for some in (side, *(frozenset([one]) for one in sorted(side))) if _has_word(some))
            for side in edit
        )
        yield from ((images, frozenset[str]()) for images in image_sides)
        yield from ((frozenset[str](), masks) for masks in mask_sides)
        yield from ((images, masks) for images, masks in product(image_sides, mask_sides) if images.isdisjoint(masks))


def _has_word(tokens: Tokens) -> bool:
    """Return whether any token is not a number."""
    return not all(token.lstrip("/.").isdecimal() for token, _ in tokens)


def _list_edits(tokens: Mapping[str, Tokens]) -> list[tuple[Tokens, Tokens]]:
    """Return the most common differences of files that share their rarest tokens.

    A difference is what the first file has alone, and what the second. Those that occur once are left out.
    """
    times = Counter(token for each in tokens.values() for token in each)
    holders: dict[tuple[str, int], list[str]] = defaultdict(list)
    for path, each in tokens.items():
        for token in each:
            holders[token].append(path)
    edits: Counter[tuple[Tokens, Tokens]] = Counter()
    for path in [*tokens][:: max(1, len(tokens) // _SAMPLED)]:
        own = tokens[path]
        rare = sorted((token for token in own if times[token] > 1), key=lambda token: (times[token], token))[:2]
        near = {*holders[rare[0]]} if rare else set()
        if len(near) > _NEAR and len(rare) > 1:
            near &= {*holders[rare[1]]}
        for other in sorted(near)[:_NEAR]:
            edit = own - tokens[other], tokens[other] - own
            if any(edit) and max(map(len, edit)) <= _MOST_TOKENS:
                edits[edit] += 1
    return [edit for edit, number in edits.most_common(_MOST_EDITS) if number > 1]


def _weigh_names(images: Files, masks: Files, table: TokenTable) -> float:
    """Return the evidence of the words that all files of one side have, and not all of the other."""
    image_words, mask_words = (set.intersection(*map(table.get_words, side)) for side in (images, masks))
    image_folders, mask_folders = map(_get_common_folders, (images, masks))
    own, others = mask_words - image_words, image_words - mask_words
    kinds = [{path.lower().endswith(LOSSY_SUFFIXES) for path in side} for side in (images, masks)]
    usual = (mask_folders - image_folders) & {*MASK_FOLDERS}
    words = {word for word in own & _MASK_WORDS if not any(word in table.get_words(path) for path in images)}
    says_masks = bool(usual or words)
    weights = (
        (1.0, says_masks),
        (0.6, own & _LIKELY_WORDS and not says_masks),
        (0.1, usual),
        (0.3, "manual" in own),
        (0.2, others & IMAGE_WORDS),
        (0.1, (image_folders - mask_folders) & {*IMAGE_FOLDERS}),
        (0.05, "masks" in mask_folders),
        (0.05, "images" in image_folders),
        (0.3, kinds == [{True}, {False}]),
        (-1.0, own & _OTHER_WORDS),
        (-1.0, others & _MASK_WORDS),
        (-0.5, others & (_OTHER_WORDS | _LIKELY_WORDS)),
    )
    return sum(weight for weight, is_true in weights if is_true)


def _get_common_folders(paths: Files) -> set[str]:
    """Return the names of folders, in lower case, that all paths have."""
    folders = {path.casefold().rpartition("/")[0] for path in paths}
    return set.intersection(*({*folder.split("/")} for folder in folders))
