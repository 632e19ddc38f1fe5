"""How people call the mask of an image: `a_mask.png` for `a.jpg`."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

_IMAGES = ("{}", "{}_image", "{}_img", "{}_sat", "{}_rgb", "image_{}", "img_{}", "image{}", "img{}")
_WORDS = ("mask", "masks", "label", "labels", "gt", "seg", "segmentation", "annotation", "anno", "manual1", "L", "P")
_MASKS = (
    *(f"{{}}_{word}" for word in _WORDS),
    *(f"{{}}-{word}" for word in _WORDS),
    *(f"{word}_{{}}" for word in _WORDS),
    *("mask{}", "label{}", "{}"),
)


class Naming(NamedTuple):
    """Forms of the stems of images and of masks, with `{}` for what they share."""

    image: str
    mask: str
    example: str
    """For people: which mask belongs to which image."""

    def core_of_image(self, stem: str) -> str | None:
        """What an image's stem shares with its mask's; None where it is of another form."""
        return _core(stem, self.image)

    def core_of_mask(self, stem: str) -> str | None:
        """The same of a mask's stem."""
        return _core(stem, self.mask)


def common_naming(images: Collection[str], masks: Collection[str]) -> Naming | None:
    """The forms by which all masks, and all images, are called; None where stems are equal, or no known forms fit.

    At least half of the masks must find an image. No two images share a mask: what a form leaves is all of a stem but
    one word.

    Args:
        images: stems of the image files.
        masks: stems of the mask files.
    """
    if not images or not masks or set(images) & set(masks):
        return None
    for image in _IMAGES:
        cores = {core: stem for stem in images if (core := _core(stem, image)) is not None}
        if len(cores) < len(images):
            continue
        for mask in _MASKS:
            found = {stem: core for stem in masks if (core := _core(stem, mask)) is not None}
            matched = sorted(stem for stem, core in found.items() if core in cores)
            if len(found) == len(masks) and 2 * len(matched) >= len(masks):
                return Naming(image, mask, f"{matched[0]} is the mask of {cores[found[matched[0]]]}")
    return None


def _core(stem: str, form: str) -> str | None:
    before, after = form.split("{}")
    fits = stem.startswith(before) and stem.endswith(after) and len(stem) > len(before) + len(after)
    return stem[len(before) : len(stem) - len(after)] if fits else None
