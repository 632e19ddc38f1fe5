"""What losses want of the labels beside the labels, kept beside the decoded pixels and computed once for each image.

For a store in the folder S the maps of a kind lie in `S/KIND-FORMAT-FIRST-LAST/` (the labels they are of), one file
`INDEX.npy` per image: (C, H, W). A store's folder is named by the content of its masks, so that a map can never be that
of other labels. Files are made when they are first asked for, written beside their place and renamed: readers see all
of a file or none, and two processes that make the same one write the same bytes.

Distances are to the boundaries of classes. Instances are the connected components of classes: neighbours are the pixels
that touch, at a corner, too (8 in an image). Class 0 is what lies behind them: no instance, and all of it counts as
one thing.

Skeletons are widened to tubes (Kirchhoff et al. 2024, Skeleton Recall, arXiv:2404.03010): by 2 pixels in rows and
columns together, as the authors do, and cut to the class; class 0 has none. Thinning: Zhang & Suen 1984,
doi:10.1145/357994.358023, which takes some blobs (of 2 × 2 pixels) away to nothing: there the deepest pixel is kept, so
that every connected component has a skeleton.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.core.errors import SweeperError
from sweeper.core.label_parts import components
from sweeper.core.records import IGNORE
from sweeper.data.store import Pixels, PixelStore
from sweeper.system.whole_files import written_whole

FORMAT = 2
"""Raised with other numbers in the maps."""
FARTHEST = 100.0
"""Pixels; distances are clipped to it, and a class that an image does not have is this far away."""

WIDENED = 2
"""Pixels."""
_AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""From above, clockwise: (row, column)."""
_TOUCHING = np.ones((3, 3), dtype=bool)


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


def instance_ids(labels: npt.NDArray[np.integer], labelled: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Number of the connected component that each pixel belongs to: 1, 2, … through all classes.

    Args:
        labels: (H, W), class indices; whatever where not labelled.
        labelled: (H, W).

    Returns:
        The same shape; 0 in class 0 and where not labelled.
    """
    known = np.where(labelled, labels, 0)
    found, number = np.zeros(known.shape, dtype=np.int32), 0
    for one in np.unique(known[known > 0]):
        ids, more = components(known == one)
        found += np.where(ids > 0, ids + number, 0).astype(np.int32)
        number += more
    return found


def instance_sizes(labels: npt.NDArray[np.integer], labelled: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Pixels of the connected component that each pixel belongs to; of class 0 all its pixels.

    Arguments as for `instance_ids`; returns the same shape, 0 where not labelled.
    """
    ids = instance_ids(labels, labelled)
    sizes = np.bincount(ids[labelled], minlength=1)
    return np.where(labelled, sizes[ids], 0).astype(np.int32)


def _deleted() -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Of the two halves of a round: whether a pixel goes, by its neighbours as bits (above = 1, clockwise)."""
    halves = np.zeros((2, 256), dtype=bool)
    for code in range(256):
        p = [code >> k & 1 for k in range(8)]
        above, right, below, left = p[0], p[2], p[4], p[6]
        begins = sum(p[k] < p[(k + 1) % 8] for k in range(8))
        if 2 <= sum(p) <= 6 and begins == 1:
            halves[0, code] = not (above and right and below) and not (right and below and left)
            halves[1, code] = not (above and right and left) and not (above and below and left)
    return halves[0], halves[1]


_HALVES = _deleted()


def thinned(present: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Skeleton of a class, (H, W) bool: lines one pixel wide, at least one pixel in every connected component."""
    from scipy.ndimage import distance_transform_edt, label, maximum_position  # workers should begin soon

    wide = np.pad(present, 1)
    on = wide.astype(np.uint8).ravel()
    steps = np.array([row * wide.shape[1] + column for row, column in _AROUND])
    bits = (1 << np.arange(8)).astype(np.uint8)

    def codes(places: npt.NDArray[np.intp]) -> npt.NDArray[np.integer]:
        found: npt.NDArray[np.integer] = on[places[:, None] + steps] @ bits
        return found

    # Only pixels at the edge can go, and only where something went can a new pixel come to be at the edge.
    edge = np.flatnonzero(on)
    edge = edge[codes(edge) != 255]
    gone = True
    while gone:
        gone = False
        for half in _HALVES:
            out = edge[half[codes(edge)]]
            on[out] = 0
            touched = (out[:, None] + steps).ravel()
            edge = np.unique(np.concatenate([edge, touched]))
            edge = edge[on[edge] > 0]
            gone |= out.size > 0
    found: npt.NDArray[np.bool_] = on.reshape(wide.shape)[1:-1, 1:-1] > 0
    components, number = label(present, structure=_TOUCHING)
    lost = np.setdiff1d(np.arange(1, number + 1), components[found])
    if lost.size:
        depth = distance_transform_edt(wide)[1:-1, 1:-1]
        for row, column in maximum_position(depth, components, lost):
            found[int(row), int(column)] = True
    return found


def tubes(labels: npt.NDArray[np.integer], labelled: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """1 on the widened skeleton of the pixel's own class, else 0.

    Args:
        labels: (H, W), class indices; whatever where not labelled.
        labelled: (H, W).
    """
    from scipy.ndimage import binary_dilation

    known = np.where(labelled, labels, 0)
    found = np.zeros(known.shape, dtype=np.uint8)
    for one in np.unique(known[known > 0]):
        present = known == one
        found |= (binary_dilation(thinned(present), iterations=WIDENED) & present).astype(np.uint8)
    return found


OF_LABELS: dict[str, Callable[[npt.NDArray[np.integer], npt.NDArray[np.bool_]], npt.NDArray[Any]]] = {
    "sizes": instance_sizes,
    "instances": instance_ids,
    "skeleton": tubes,
}
"""Kind → what makes the map of one image of its class indices and whether they are labelled, all of one shape."""
_TYPES: dict[str, type[np.generic]] = {
    "distance": np.float16,
    "sizes": np.int32,
    "instances": np.int32,
    "skeleton": np.uint8,
}


class MapStore:
    """Maps of the images of a store, memory-mapped; cheap to open, safe to share between processes."""

    def __init__(self, store: PixelStore, kind: str, labels: tuple[int, ...]) -> None:
        """Maps of a kind.

        Args:
            store: whose images.
            kind: `distance`: to the boundary of each class, (C, H, W) float16; or one of `OF_LABELS`, (1, H, W).
            labels: class indices the maps are of, without a gap, in the order of their channels.
        """
        self._store, self.kind, self.labels = store, kind, labels
        self.channels = len(labels) if kind == "distance" else 1
        self.dtype = _TYPES[kind]
        self.folder = store.folder / f"{kind}-{FORMAT}-{labels[0]}-{labels[-1]}"
        self._open: dict[int, npt.NDArray[Any]] = {}

    def maps(self, index: int) -> npt.NDArray[Any]:
        """Maps of image `index`, (channels, H, W) of `dtype`, read-only; made at the first call.

        Raises:
            SweeperError: if they cannot be written.
        """
        if index not in self._open:
            path = self.folder / f"{index}.npy"
            found = self._read(path, index)
            if found is None:
                self._write(path, self.of_mask(self._store.mask(index)))
                found = self._read(path, index)
            if found is None:
                raise SweeperError(f"{path} must hold the {self.kind} map just written there, and does not; delete it")
            self._open[index] = found
        return self._open[index]

    def of_mask(self, mask: Pixels) -> npt.NDArray[Any]:
        """Maps of one mask, (H, W) → (channels, H, W) of `dtype`."""
        labelled = mask != IGNORE
        if self.kind != "distance":
            return OF_LABELS[self.kind](mask, labelled)[None]
        return np.stack([signed_distances(mask == label, labelled) for label in self.labels]).astype(self.dtype)

    def _read(self, path: Path, index: int) -> npt.NDArray[Any] | None:
        """The file as a memory map; None where it is missing, damaged or of another shape."""
        try:
            # .view: a plain array is faster to slice than a memmap, and keeps the map open.
            found: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except (OSError, ValueError, EOFError):
            return None
        wanted = (self.channels, *self._store.sizes[index])
        return found if found.shape == wanted and found.dtype == self.dtype else None

    def _write(self, path: Path, maps: npt.NDArray[Any]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as part, part.open("xb") as file:
                np.save(file, maps, allow_pickle=False)
        except OSError as error:
            raise SweeperError(
                f"the {self.kind} maps of the labels, which a loss of this sweep needs, must be written to "
                f"{path.parent}, and that failed: {error}; make room, choose another --cache, or leave out the "
                "families that `sweeper losses NAME` says need them"
            ) from error
