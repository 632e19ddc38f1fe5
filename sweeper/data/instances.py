"""Connected components of the labels: which instance a pixel belongs to, and how large that is.

Class 0 is what lies behind the instances: it is no instance, and all of it counts as one thing. Neighbours are the
pixels that touch, at a corner, too (8 in an image, 26 in a volume).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sweeper.core.records import IGNORE
from sweeper.data.map_store import MapStore
from sweeper.data.store import Pixels


def instance_ids(labels: npt.NDArray[np.integer], labelled: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Number of the connected component that each pixel belongs to: 1, 2, … through all classes.

    Args:
        labels: (H, W), or any other axes of space: class indices; whatever where not labelled.
        labelled: the same shape.

    Returns:
        The same shape; 0 in class 0 and where not labelled.
    """
    from scipy.ndimage import label  # not at the top: workers should begin soon

    known = np.where(labelled, labels, 0)
    touching = np.ones((3,) * known.ndim, dtype=bool)
    found, number = np.zeros(known.shape, dtype=np.int32), 0
    for one in np.unique(known[known > 0]):
        components, more = label(known == one, structure=touching)
        found += np.where(components > 0, components + number, 0).astype(np.int32)
        number += int(more)
    return found


def instance_sizes(labels: npt.NDArray[np.integer], labelled: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Pixels of the connected component that each pixel belongs to; of class 0 all its pixels.

    Arguments as for `instance_ids`; returns the same shape, 0 where not labelled.
    """
    ids = instance_ids(labels, labelled)
    sizes = np.bincount(ids[labelled], minlength=1)
    return np.where(labelled, sizes[ids], 0).astype(np.int32)


class InstanceStore(MapStore):
    """`instance_ids` of each image, (1, H, W)."""

    kind, dtype = "instances", np.int32

    def of_mask(self, mask: Pixels) -> npt.NDArray[np.int32]:
        """Maps of one mask, (H, W) → (channels, H, W)."""
        return instance_ids(mask, mask != IGNORE)[None]


class SizeStore(MapStore):
    """`instance_sizes` of each image, (1, H, W)."""

    kind, dtype = "sizes", np.int32

    def of_mask(self, mask: Pixels) -> npt.NDArray[np.int32]:
        """Maps of one mask, (H, W) → (channels, H, W)."""
        return instance_sizes(mask, mask != IGNORE)[None]
