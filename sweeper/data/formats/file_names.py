"""How people call the folders of images and masks, and the mask of an image: `a_mask.png` for `a.jpg`."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from sweeper.data.decode import IMAGE_SUFFIXES

IMAGE_WORDS = ("images", "image", "imgs", "img")
"""Names of folders of images, in any case, in the order in which they are looked for."""
MASK_WORDS = ("masks", "mask", "labels", "label", "annotations", "annotation", "gt", "ground_truth", "groundtruth")
"""The same of masks."""
MORE_IMAGE_WORDS = (
    *("jpegimages", "photos", "photo", "pictures", "picture", "pics", "frames", "rgb", "input", "inputs"),
    *("original", "originals", "sat", "tiles"),
)
"""Names that are believed where no format of annotations is found: they may mean something else."""
MORE_MASK_WORDS = (
    *("segmentationclass", "segmentationclasspng", "segmentationmasks", "segmentations", "segmentation", "segs", "seg"),
    *("annot", "annots", "anno", "annos", "gts", "ground-truth", "ground truth", "targets", "target", "1st_manual"),
    *("manual", "labelmaps", "lbl"),
)

_IMAGES = (
    *("{}", "{}_image", "{}_images", "{}_img", "{}_sat", "{}_rgb", "{}_training", "{}_test", "{}-image", "{}-img"),
    *("image_{}", "images_{}", "img_{}", "image-{}", "img-{}", "image{}", "img{}"),
)
_WORDS = (
    *("mask", "masks", "label", "labels", "gt", "seg", "segmentation", "annotation", "anno", "manual1", "l", "p"),
    *("groundtruth", "ground_truth", "annot", "lbl", "target", "segm", "labelids", "matte"),
)
_MASKS = (
    *(f"{{}}_{word}" for word in _WORDS),
    *(f"{{}}-{word}" for word in _WORDS),
    *(f"{{}}.{word}" for word in _WORDS[:8]),
    *(f"{{}} {word}" for word in _WORDS[:8]),
    *(f"{word}_{{}}" for word in _WORDS),
    *(f"{word}-{{}}" for word in _WORDS),
    *("{}mask", "mask{}", "{}label", "label{}", "gt{}", "{}"),
    *(f"{{}}{suffix}" for suffix in IMAGE_SUFFIXES),
)
"""Forms of the stem; the last are of masks that are called `a.jpg.png`."""

_SAMPLE = 2000


class Naming(NamedTuple):
    """Forms of the stems of images and of masks, with `{}` for what they share."""

    image: str
    mask: str
    masks: Mapping[str, str]
    """Mask → its image; both as they were given."""

    @property
    def example(self) -> str:
        """For people: which mask belongs to which image."""
        mask = min(self.masks)
        return f"{mask} is the mask of {self.masks[mask]}"


class Ambiguous(NamedTuple):
    """Two forms that give the same images different masks."""

    first: Naming
    second: Naming

    @property
    def example(self) -> str:
        """For people: an image with both of its masks."""
        image = min(self.first.masks.values())
        both = sorted(mask for one in self for mask, own in one.masks.items() if own == image)
        return f"{' and '.join(both)} may both be the mask of {image}"


def common_naming(images: Collection[str], masks: Collection[str]) -> Naming | Ambiguous | None:
    """The forms by which masks and images are called; None where stems are equal, or no known forms fit.

    At least half of the masks must find an image, and more than have the stem of one. No two images share a mask: what
    a form leaves is all of a stem but one word. Stems may have folders before them, which must be equal. Words count in
    any case.

    Args:
        images: stems of the image files.
        masks: stems of the mask files.

    Returns:
        The forms that pair most; `Ambiguous` where others give at least half of these images another mask.
    """
    equal = len(set(images) & set(masks))
    if not images or not masks or 2 * equal >= min(len(masks), len(images)):
        return None
    found = _best([naming for naming in _namings(images, masks) if len(naming.masks) > equal])
    few = isinstance(found, Naming) and 2 * len(found.masks) < len(masks)
    return None if few else found


def naming_in_one_place(images: Collection[str], masks: Collection[str]) -> Naming | Ambiguous | None:
    """The same where images and masks lie in one folder: what has the form of an image's mask is that.

    Args:
        images: stems of all files that may be images.
        masks: stems of all files that may be masks, most of them the same.
    """
    named = []
    for naming in _namings(images, masks):
        pairs = {mask: image for mask, image in naming.masks.items() if mask != image}
        if pairs and not pairs.keys() & set(pairs.values()):
            named.append(naming._replace(masks=pairs))
    return _best(named)


def _best(named: Sequence[Naming]) -> Naming | Ambiguous | None:
    best = max(named, key=lambda naming: len(naming.masks), default=None)
    if best is None:
        return None
    own = {image: mask for mask, image in best.masks.items()}
    for other in named:
        rivals = {image for mask, image in other.masks.items() if own.get(image, mask) != mask}
        if 2 * len(rivals) >= len(own):
            both = (
                one._replace(masks={mask: image for mask, image in one.masks.items() if image in rivals})
                for one in (best, other)
            )
            return Ambiguous(*both)
    return best


def _namings(images: Collection[str], masks: Collection[str]) -> list[Naming]:
    """Every pair of forms that pairs something."""
    ours, theirs = ([_Stem(stem, *_parted(stem)) for stem in sorted(stems)] for stems in (images, masks))
    cores_of = {form: cores for form in _MASKS if (cores := _cores(form, theirs))}
    found = []
    for image in _IMAGES:
        cores = _cores(image, ours)
        if image != "{}" and 2 * len(cores) < len(images):
            continue
        for mask, those in cores_of.items():
            if image == mask == "{}":
                continue
            if pairs := {stem: cores[core] for core, stem in those.items() if core in cores}:
                found.append(Naming(image, mask, pairs))
    return found


class _Stem(NamedTuple):
    """A stem, taken apart."""

    whole: str
    folder: str
    """With its slash; empty where there is none."""
    name: str
    low: str
    """The name in lower case."""


def _parted(stem: str) -> tuple[str, str, str]:
    folder, slash, name = stem.rpartition("/")
    return folder + slash, name, name.lower()


def _cores(form: str, stems: Sequence[_Stem]) -> dict[str, str]:
    """What the form leaves of each stem that has it → the stem.

    Where there are many, a form that none of `_SAMPLE` of them has is taken for one that none has.
    """
    before, after = form.split("{}")
    if len(stems) > _SAMPLE and not _fitting(before, after, random.Random(0).sample(stems, _SAMPLE)):
        return {}
    return _fitting(before, after, stems)


def _fitting(before: str, after: str, stems: Sequence[_Stem]) -> dict[str, str]:
    least, end = len(before) + len(after), -len(after) or None
    return {
        stem.folder + stem.name[len(before) : end]: stem.whole
        for stem in stems
        if stem.low.endswith(after) and stem.low.startswith(before) and len(stem.low) > least
    }
