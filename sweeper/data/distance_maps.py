"""Signed distances to the boundaries of classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sweeper.core.records import IGNORE
from sweeper.data.map_store import MapStore
from sweeper.data.store import Pixels

FARTHEST = 100.0
"""Pixels; distances are clipped to it, and a class that an image does not have is this far away."""


def signed_distances(present: npt.NDArray[np.bool_], labelled: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Distance of each pixel to the boundary of a class, in pixels: negative inside, positive outside.

    The boundary runs between pixels: ±½ on its two sides. Where the class is nowhere, `FARTHEST`; where it is on all
    labelled pixels, −`FARTHEST`. Ignored pixels are neither inside nor outside: they bound nothing, and have 0.

    Args:
        present: (H, W), whether the pixel is of the class; False where not labelled.
        labelled: (H, W).

    Returns:
        (H, W) in [−FARTHEST, FARTHEST].
    """
    from scipy.ndimage import distance_transform_edt  # not at the top: workers should begin soon

    absent = labelled & ~present
    outside = distance_transform_edt(~present) - 0.5 if present.any() else np.inf
    inside = distance_transform_edt(~absent) - 0.5 if absent.any() else np.inf
    signed = np.where(present, -np.minimum(inside, FARTHEST), np.minimum(outside, FARTHEST))
    return np.where(labelled, signed, 0.0).astype(np.float32)


class DistanceStore(MapStore):
    """Signed distances to each class's boundary, (C, H, W) float16 in [−FARTHEST, FARTHEST]."""

    kind, dtype = "distances", np.float16

    @property
    def channels(self) -> int:
        """One for each label."""
        return len(self.labels)

    def of_mask(self, mask: Pixels) -> npt.NDArray[np.float16]:
        """Maps of one mask, (H, W) → (channels, H, W)."""
        labelled = mask != IGNORE
        return np.stack([signed_distances(mask == label, labelled) for label in self.labels]).astype(np.float16)
