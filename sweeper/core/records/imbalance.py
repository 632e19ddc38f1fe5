"""The imbalance fingerprint of a data set's labels."""

from __future__ import annotations

from sweeper.core.base import Record


class ClassProfile(Record):
    """How one class occurs."""

    name: str
    pixel_share: float
    """Share of the labelled pixels, 0–1."""
    image_share: float
    """Prevalence: share of the images in which it occurs, 0–1."""
    components: int
    """Connected components (8-neighbourhood) over all images."""
    component_pixels: tuple[float, float, float] | None
    """10th, 50th and 90th percentile of the components' sizes in pixels; None without components."""
    thinness: float | None
    """Share of its pixels within 2 pixels of its boundary, 0–1; None where it does not occur."""


class ImbalanceProfile(Record):
    """The imbalance fingerprint of a data set's labels."""

    images: int
    labelled_pixels: int
    ignored_share: float
    """Share of all pixels without a label, 0–1."""
    empty_images: int
    """Images with nothing but class 0 (and unlabelled pixels)."""
    classes: tuple[ClassProfile, ...]
    imbalance: float
    """Binary: background / foreground pixels. Multi-class: commonest / rarest class that occurs."""
    pos_weight: float | None
    """Binary: the weight that balances the pixel proportions (= imbalance); None for multi-class."""
    alpha: float | None
    """Binary: the same balance as focal's α = w / (1 + w); None for multi-class."""
    class_weights: tuple[float, ...]
    """w_c ∝ 1/f_c scaled so that Σ f_c w_c = 1; a class without pixels gets the largest weight present."""
