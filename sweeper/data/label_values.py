"""What the numbers in the masks mean: the rule of 255, the list of classes, labels out of range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sweeper.core.records import IGNORE
from sweeper.data.text_tables import MAX_CLASSES

MAX_UNNAMED = 64
"""More classes than this must be listed in `classes.txt`: a larger highest label is more often a mistake."""


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def foreground_is_255(counts: npt.NDArray[np.int64], files: Sequence[str], problems: list[str], place: str) -> bool:
    """Whether 255 means foreground (True) or ignore (False) in this set.

    Args:
        counts: pixels of each value in each mask, (n, 256).
        files: names of the masks, for messages.
        problems: receives one where masks of both kinds occur and none shows which is meant.
        place: where the masks lie, for that.

    Where the whole set's values are within {0, 255}, 255 is foreground. Where another non-zero label occurs, it
    is ignore. Masks with 0 and 255 alone beside masks with other labels are 0/255 masks in an index set, and
    refused, unless at least as many masks hold 255 together with another label: then 255 is seen to be ignore. (One
    stray pixel must not turn the foreground of a whole set into ignore.)
    """
    has_255 = counts[:, IGNORE] > 0
    has_other = counts[:, 1:IGNORE].any(axis=1)
    if not has_other.any():
        return bool(has_255.any())
    if (has_255 & ~has_other).sum() > (has_255 & has_other).sum():
        bare = [files[int(i)] for i in np.flatnonzero(has_255 & ~has_other)]
        indexed = [files[int(i)] for i in np.flatnonzero(has_other)]
        problems.append(
            f"{place}: 255 must mean the same in all masks, found 0 and 255 alone in {len(bare)} ({some(bare)}) "
            f"and other labels in {len(indexed)} ({some(indexed)}); save all as class indices (0, 1, …)"
        )
    return False


def class_names(
    counts: npt.NDArray[np.int64],
    declared: tuple[str, ...] | None,
    files: Sequence[str],
    problems: list[str],
    place: str,
) -> tuple[str, ...]:
    """Names of the classes 0…C−1; without `declared` ones they are made from the labels that occur.

    Args:
        counts: pixels of each label in each mask, (n, 256); column 255 is ignore.
        declared: names from `classes.txt`.
        files: names of the masks, for messages.
        place: where the labels lie, for messages about all of them.
        problems: receives labels out of range, labels too sparse to be indices, a single class.
    """
    used = [int(label) for label in np.flatnonzero(counts[:, :IGNORE].any(axis=0))]
    if declared is not None:
        names = declared
        for row, file in zip(counts, files, strict=True):
            wrong = [str(label) for label in np.flatnonzero(row[:IGNORE]) if label >= len(names)]
            if wrong:
                problems.append(
                    f"{file}: labels must be below {len(names)} (the classes in classes.txt) or 255 (ignore), "
                    f"found {some(wrong)}; mend the mask or add the class"
                )
    else:
        size = max(used, default=0) + 1
        names = ("background", "foreground") if size == 2 else tuple(f"class_{i}" for i in range(size))
        if size > 2 and (size > MAX_UNNAMED or size - len(used) > len(used)):
            holders = [file for row, file in zip(counts, files, strict=True) if row[size - 1]]
            problems.append(
                f"{place}: without classes.txt labels must be 0, 1, 2, … with few gaps, {MAX_UNNAMED} classes at most, "
                f"found {some([str(label) for label in used], 8)} ({size - 1} in {some(holders)}); number the "
                f"classes from 0, or write classes.txt with one name per line (at most {MAX_CLASSES})"
            )
            return names
    if len(used) < 2:
        found = f"label {used[0]} alone" if used else "no labelled pixel"
        problems.append(f"{place}: at least two classes must occur, found {found}; add images that show another")
    return names
