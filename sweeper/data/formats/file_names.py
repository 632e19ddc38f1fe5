"""How people call the folders of images and masks, and the mask of an image: `a_mask.png` for `a.jpg`.

Each way is a pattern with `{stem}` for what both names share. All are tried, and the one that pairs most counts.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from sweeper.data.decode import IMAGE_SUFFIXES

STEM = "{stem}"
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

_WORDS = (
    *("mask", "masks", "label", "labels", "gt", "seg", "segmentation", "annotation", "anno", "manual1", "l", "p"),
    *("groundtruth", "ground_truth", "annot", "lbl", "target", "segm", "labelids", "matte"),
)
_IMAGE_FILES = (
    *(STEM, "{stem}_image", "{stem}_images", "{stem}_img", "{stem}_sat", "{stem}_rgb", "{stem}_training"),
    *("{stem}_test", "{stem}-image", "{stem}-img", "image_{stem}", "images_{stem}", "img_{stem}", "image-{stem}"),
    *("img-{stem}", "image{stem}", "img{stem}"),
)
_MASK_FILES = (
    *(f"{STEM}{separator}{word}" for separator in "_-" for word in _WORDS),
    *(f"{STEM}{separator}{word}" for separator in ". " for word in _WORDS[:8]),
    *(f"{word}{separator}{STEM}" for separator in "_-" for word in _WORDS),
    *("{stem}mask", "mask{stem}", "{stem}label", "label{stem}", "gt{stem}", STEM),
    *(f"{STEM}{suffix}" for suffix in IMAGE_SUFFIXES),
)
"""The last are of masks that are called `a.jpg.png`."""
FILE_FORMS = _IMAGE_FILES, _MASK_FILES
_FOLDER_WORDS = (*MASK_WORDS, *MORE_MASK_WORDS)
FOLDER_FORMS = (
    (
        STEM,
        *(f"{STEM}{separator}{word}" for word in (*IMAGE_WORDS, *MORE_IMAGE_WORDS) for separator in "_- "),
        *(f"{word}{separator}{STEM}" for word in (*IMAGE_WORDS, *MORE_IMAGE_WORDS) for separator in "_- "),
    ),
    (
        *(f"{STEM}{separator}{word}" for word in _FOLDER_WORDS for separator in ("_", "-", " ", "")),
        *(f"{word}{separator}{STEM}" for word in _FOLDER_WORDS for separator in "_- "),
    ),
)
"""Of `train/` with `train_masks/`, `images_2020/` with `masks_2020/`."""
_SAMPLE = 2000


class Naming(NamedTuple):
    """Forms of the names of images and of masks."""

    image: str
    mask: str
    masks: Mapping[str, str]
    """Mask → its image; both as they were given."""
    others: Mapping[str, str] = MappingProxyType({})
    """The same of masks that another form gives to half of these images or more."""


def common_naming(images: Collection[str], masks: Collection[str]) -> Naming | None:
    """The forms by which masks and images are called; None where names are equal, or no known forms fit.

    At least half of the masks must find an image, and more than have the name of one. No two images share a mask: what
    a form leaves is all of a name but one word. Names may have folders before them, which must be equal. Words count in
    any case.

    Args:
        images: names of the image files, without extension.
        masks: the same of the mask files.

    Returns:
        The forms that pair most; the first of them where several do, with the other masks of the same images.
    """
    equal = len(set(images) & set(masks))
    if not images or not masks or 2 * equal >= min(len(masks), len(images)):
        return None
    found = _best([naming for naming in _namings(images, masks, FILE_FORMS) if len(naming.masks) > equal])
    return found if found is not None and 2 * len(found.masks) >= len(masks) else None


def naming_in_one_place(
    images: Collection[str], masks: Collection[str], forms: tuple[Sequence[str], Sequence[str]] = FILE_FORMS
) -> Naming | None:
    """The same where images and masks lie in one folder: what has the form of an image's mask is that.

    Args:
        images: names of all files (or folders) that may be images.
        masks: names of all that may be masks, most of them the same.
        forms: forms of images and of masks.
    """
    named = []
    for naming in _namings(images, masks, forms):
        pairs = {mask: image for mask, image in naming.masks.items() if mask != image}
        if pairs and not pairs.keys() & set(pairs.values()):
            named.append(naming._replace(masks=pairs))
    return _best(named)


def _best(named: Sequence[Naming]) -> Naming | None:
    best = max(named, key=lambda naming: len(naming.masks), default=None)
    if best is None:
        return None
    own = {image: mask for mask, image in best.masks.items()}
    others = max(
        ({mask: image for mask, image in one.masks.items() if own.get(image, mask) != mask} for one in named), key=len
    )
    return best._replace(others=others) if 2 * len(others) >= len(own) else best


def _namings(
    images: Collection[str], masks: Collection[str], forms: tuple[Sequence[str], Sequence[str]]
) -> list[Naming]:
    """Every pair of forms that pairs something."""
    image_names, mask_names = sorted(images), sorted(masks)
    masks_by_form = {form: cores for form in forms[1] if (cores := _cores(form, mask_names))}
    found = []
    for image_form in forms[0]:
        image_cores = _cores(image_form, image_names)
        if image_form != STEM and 2 * len(image_cores) < len(images):
            continue
        for mask_form, mask_cores in masks_by_form.items():
            if image_form == mask_form == STEM:
                continue
            if pairs := {mask: image_cores[core] for core, mask in mask_cores.items() if core in image_cores}:
                found.append(Naming(image_form, mask_form, pairs))
    return found


def _cores(form: str, names: Sequence[str]) -> dict[str, str]:
    """What the form leaves of each name that has it → the name.

    Where there are many, a form that none of `_SAMPLE` of them has is taken for one that none has.
    """
    before, after = form.split(STEM)
    if len(names) > _SAMPLE and not _fitting(before, after, random.Random(0).sample(names, _SAMPLE)):
        return {}
    return _fitting(before, after, names)


def _fitting(before: str, after: str, names: Sequence[str]) -> dict[str, str]:
    found = {}
    for whole in names:
        folder, slash, name = whole.rpartition("/")
        low = name.lower()
        if low.endswith(after) and low.startswith(before) and len(low) > len(before) + len(after):
            found[folder + slash + name[len(before) : len(name) - len(after)]] = whole
    return found
