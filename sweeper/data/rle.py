"""Decode and encode COCO's masks and polygons with pycocotools, with the checks that its C code lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

Bits = npt.NDArray[np.bool_]
Rle = dict[str, Any]
"""{"size": [height, width], "counts": bytes}: compact, unlike the pixels of a thousand objects."""

_NESTED = 0.99
"""Share of a ring's pixels that must already be covered to make it a hole."""


def decode_pixels(rle: Rle) -> Bits:
    """Decode a mask to (H, W)."""
    bits: Bits = coco.decode(rle).astype(bool)
    return bits


def encode_polygons(rings: Sequence[npt.NDArray[np.float64]], size: tuple[int, int]) -> Rle:
    """Encode the mask of one object made of rings, (n, 2) each.

    COCO itself unites all rings. Here a ring inside another is a hole, and a ring inside a hole an island. Rings that
    only touch or overlap are united.
    """
    parts: list[Rle] = coco.frPyObjects([ring.ravel().tolist() for ring in rings], *size)
    if len(parts) == 1:
        return parts[0]
    covered = np.zeros(size, dtype=bool)
    earlier: list[int] = []
    for rle in sorted(parts, key=lambda each: -int(coco.area(each))):
        part, part_area = decode_pixels(rle), int(coco.area(rle))
        repeated = any(abs(part_area - other) <= 0.01 * other for other in earlier)  # a repeated ring is no hole
        earlier.append(part_area)
        if part_area and not repeated and int((part & covered).sum()) >= _NESTED * part_area:
            covered &= ~part
        else:
            covered |= part
    return _encode_runs(covered)


def check_rle(rle: Any, size: tuple[int, int]) -> Rle:
    """Check and convert a run-length mask from a file: compressed (text) or not (a list of runs, column by column).

    Raises:
        ValueError: it is invalid, or not of an image of this (height, width).
    """
    written = rle if isinstance(rle, dict) else {}
    counts = written.get("counts")
    runs = _read_run_text(counts) if isinstance(counts, str) else _read_run_list(counts)
    is_sound = written.get("size") == [*size] and len(runs) > 0 and int(runs.min()) >= 0
    if not is_sound or int(runs.sum()) != size[0] * size[1]:
        raise ValueError(
            f"must have its image's size {[*size]}, and as counts runs ≥ 0 that fill it, or COCO's text of them, found "
            f"size {str(written.get('size'))[:60]} and {runs.sum()} pixels"
        )
    if isinstance(counts, str):
        return {"size": [*size], "counts": counts.encode("ascii")}
    values = np.arange(len(runs)) % 2 == 1
    return _encode_runs(np.repeat(values, runs).reshape(size, order="F"))


def _encode_runs(bits: Bits) -> Rle:
    rle: Rle = coco.encode(np.asfortranarray(bits, dtype=np.uint8))
    return rle


def _read_run_list(counts: Any) -> npt.NDArray[np.int64]:
    """Return the runs of a list; none if it is invalid."""
    is_valid = isinstance(counts, list) and all(type(run) is int and abs(run) < 1 << 31 for run in counts)
    return np.array(counts if is_valid else [], dtype=np.int64)


def _read_run_text(counts: str) -> npt.NDArray[np.int64]:
    """Return the runs of COCO's compressed text: six bits per character, of which the last marks that more follow.

    Return none of an invalid text.

    From the fourth run on, the text stores differences.

    pycocotools reads past the end of a truncated text, and leaves pixels that a short one does not cover undefined.
    """
    codes = np.frombuffer(counts.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 0x20:
        return np.array([], dtype=np.int64)
    last = (codes & 0x20) == 0
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(codes)) - np.repeat(starts, np.diff([*starts, len(codes)]))
    if place.max() > 6:
        return np.array([], dtype=np.int64)
    runs = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    negative = (codes[last] & 0x10) != 0
    runs -= np.where(negative, np.int64(1) << (5 * (place[last] + 1)), 0)
    # From the fourth on, a run is stored as the difference from the run before the last.
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    return runs
