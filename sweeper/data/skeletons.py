"""Skeletons of the labels, widened to tubes (Kirchhoff et al. 2024, Skeleton Recall, arXiv:2404.03010).

Thinning: Zhang & Suen 1984, doi:10.1145/357994.358023, which takes some blobs (of 2 × 2 pixels) away to nothing: there
the deepest pixel is kept, so that every connected component has a skeleton. A tube is the skeleton widened by 2 pixels
in rows and columns together, as the authors do, and cut to its class. Class 0 has none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

WIDENED = 2
"""Pixels."""
_AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""From above, clockwise: (row, column)."""
_TOUCHING = np.ones((3, 3), dtype=bool)


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
