"""Distances to the boundaries of classes, stored with the decoded pixels and computed once per image.

The maps of a store in folder S are in `S/distance-FORMAT-FIRST-LAST/` (first and last label), one file `INDEX.npy` per
image: (C, H, W). A store's folder is named by its content, so that its maps always fit its masks. A file is made when
first needed, written under a temporary name and renamed: readers see the whole file or none, and two processes that
make the same file write the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from sweeper.core.errors import SweeperError
from sweeper.core.label_planes import unpack_planes
from sweeper.core.records import IGNORE
from sweeper.data.store import Pixels, PixelStore
from sweeper.system.whole_files import replace_atomically

FORMAT = 2
"""Raised when the numbers in the maps change."""
MAX_DISTANCE = 100.0
"""Limit of distances in pixels, also used for a class that does not occur in an image."""


def compute_signed_distances(
    present: npt.NDArray[np.bool_], labelled: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """Compute the distance of each pixel to the boundary of a class, in pixels: negative inside, positive outside.

    The boundary runs between pixels: ±½ on its two sides. If the class does not occur, all distances are
    `MAX_DISTANCE`; if it covers all labelled pixels, −`MAX_DISTANCE`. Ignored pixels form no boundary, and get 0.

    Args:
        present: (H, W), whether the pixel belongs to the class; False if not labelled.
        labelled: (H, W).

    Returns:
        (H, W) in [−MAX_DISTANCE, MAX_DISTANCE].
    """
    from scipy.ndimage import distance_transform_edt  # not at the top: workers should start soon

    absent = labelled & ~present
    outside = distance_transform_edt(~present) - 0.5 if present.any() else np.inf
    inside = distance_transform_edt(~absent) - 0.5 if absent.any() else np.inf
    signed = np.where(present, -np.minimum(inside, MAX_DISTANCE), np.minimum(outside, MAX_DISTANCE))
    return np.where(labelled, signed, 0.0).astype(np.float32)


class MapStore:
    """Maps of the images of a store, memory-mapped; cheap to open, safe to share between processes."""

    def __init__(self, store: PixelStore, labels: tuple[int, ...], *, has_planes: bool = False) -> None:
        """Open the maps of classes with consecutive indices, in the order of the channels.

        `has_planes`: whether masks have the bits of these classes, in place of an index.
        """
        self._store, self.labels, self._has_planes = store, labels, has_planes
        self.folder = store.folder / f"distance-{FORMAT}-{labels[0]}-{labels[-1]}"
        self._open: dict[int, npt.NDArray[np.float16]] = {}

    def get_maps(self, index: int) -> npt.NDArray[np.float16]:
        """Return the maps of image `index`, (C, H, W) float16, read-only; made at the first call.

        Raises:
            SweeperError: if they cannot be written.
        """
        if index not in self._open:
            path = self.folder / f"{index}.npy"
            distances = self._read(path, index)
            if distances is None:
                self._write(path, self.compute_maps(self._store.get_mask(index)))
                distances = self._read(path, index)
            if distances is None:
                raise SweeperError(f"{path} must hold the distance map just written there, and does not; delete it")
            self._open[index] = distances
        return self._open[index]

    def compute_maps(self, mask: Pixels) -> npt.NDArray[np.float16]:
        """Return the maps of one mask, (H, W) → (C, H, W) float16."""
        maps = [mask == label for label in self.labels]
        labelled = mask != IGNORE
        if self._has_planes:
            planes = unpack_planes(mask, len(self.labels))
            maps, labelled = [*(planes == 1)], planes[0] != IGNORE
        return np.stack([compute_signed_distances(each, labelled) for each in maps]).astype(np.float16)

    def _read(self, path: Path, index: int) -> npt.NDArray[np.float16] | None:
        """Return the file as a memory map; None if it is missing, damaged or of another shape."""
        try:
            # .view: a plain array is faster to slice than a memmap, and keeps the map open.
            distances: npt.NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except (OSError, ValueError, EOFError):
            return None
        wanted = (len(self.labels), *self._store.sizes[index])
        return distances if (distances.shape, distances.dtype) == (wanted, np.dtype(np.float16)) else None

    def _write(self, path: Path, maps: npt.NDArray[np.float16]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replace_atomically(path) as part, part.open("xb") as file:
                np.save(file, maps, allow_pickle=False)
        except OSError as error:
            raise SweeperError(
                "the distance maps of the labels, which a loss of this sweep needs, must be written to "
                f"{path.parent}, and that failed: {error}; make room, or leave out the "
                "families that `sweeper losses NAME` says need them"
            ) from error
