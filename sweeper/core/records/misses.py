"""A bound on what is missed: what was asked for, the images that can keep it, and the operating point that does."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.records.training import ImageCounts


class MissLimit(Record):
    """`--miss-at-most [CLASS=]SHARE`: how much of a class may be missed in an average image that has it."""

    share: float = Field(gt=0, lt=1)
    class_name: str | None = None
    """None = the foreground of two classes."""

    @classmethod
    def read(cls, text: str) -> Self:
        """`10%`, `0.1` or `crack=10%`.

        Raises:
            ValueError: unless it is a share above 0 and below 1.
        """
        name, _, share = text.rpartition("=")
        found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(%?)\s*", share)
        value = float(found[1]) / (100 if found[2] else 1) if found else 0.0
        if not 0 < value < 1:
            raise ValueError(f"must be [CLASS=]SHARE with a share above 0 and below 100%, like crack=10%, got {text!r}")
        return cls(share=value, class_name=name or None)


class HeldOut(Record):
    """What a network answers on images that it was not trained on, and that chose nothing of it."""

    counts: ImageCounts
    groups: tuple[str | None, ...]
    """Number of each image's group; None = a group of its own."""


class MissControl(Record):
    """The operating point at which a network misses at most a share of a class, by conformal risk control.

    The share is of the class's pixels in an image, its mean over images that have the class, expected over new images
    of this kind and over the images that it was found on. It holds for this network alone.
    """

    class_name: str
    share: float
    """What was asked for, 0–1."""
    images: int
    """Test images with the class, which the point was found on."""
    groups: int | None
    """Groups of related images among them, which count as one each; None = every image is its own."""
    point: float
    """Operating point: a threshold (two classes) or τ."""
    before: float
    """What would be used without the limit; where these images were not counted there, the next more cautious point. It
    stays where it keeps the limit."""
    missed: float
    """Share that an average one of these images misses when the point is found on the others (leaving one out)."""
    missed_before: float
    precision: float | None
    """Of the class on all test images, leaving one out likewise; None where nothing is predicted."""
    precision_before: float | None
    sure_point: float | None
    """Where the limit is kept not on average over calibrations but in 95 % of them; None where these images are too
    few to say."""

    @property
    def moved(self) -> bool:
        """Whether the limit changed the operating point."""
        return self.point != self.before

    @property
    def promise(self) -> str:
        """What the point keeps, for people."""
        return f"misses at most {100 * self.share:.3g} % of {self.class_name!r} in an average image that has it"
