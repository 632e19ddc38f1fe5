"""Meaning of the numbers in masks: no data, the rule of 255, half range, class names, and labels out of range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.core.records import IGNORE
from sweeper.data.object_numbers import STEP
from sweeper.data.text_tables import MAX_CLASSES, UnreadableFileError

Note = Callable[[str], None]

MAX_LINES = 8
"""Most lines of a class map in a message."""
MAX_UNNAMED = 64
"""Most classes without `classes.txt`: a higher label is more often a mistake."""

NO_DATA = "with pixels without data (by tag, NaN or a negative number), which are ignored"
_APART = 8
"""Least distance between grey levels; class indices are consecutive."""
_FEW_BETWEEN = 0.01
"""Share of the foreground pixels below which levels between the first and the last are considered artefacts."""
_MOSTLY = 2 / 3
"""Share of the pixels from which a level is taken for the background, whatever its number."""
_BETWEEN = slice(32, 224)
"""Numbers that belong to neither level of a 0/255 mask that was compressed or resized smoothly."""


def abbreviate(names: Sequence[str], limit: int = 5) -> str:
    """Join the first few names, and add how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def convert_to_labels(
    values: npt.NDArray[Any], no_data: float | None, note: Note, large: tuple[int, int] | None
) -> npt.NDArray[np.uint8]:
    """Return the labels (H, W) uint8 of stored numbers (H, W): whole numbers up to 254, else 255.

    Args:
        values: of any type; NaN, and a single negative number, mean no data.
        no_data: a further number for no data; 0 is still class 0.
        note: receives a remark if there is such a number.
        large: label for numbers from 255 on, and the largest of them; None = there must be none.

    Raises:
        UnreadableFileError: there are other numbers.
    """
    kind = values.dtype.kind
    if values.dtype.itemsize == 1 and kind != "i" and no_data is None:
        return values.astype(np.uint8, copy=False)
    if no_data == 0:
        note("whose tag says that 0 is no data: 0 is class 0 all the same (a class map with `ignore: 0` ignores it)")
    absent = (values == no_data) if no_data else np.zeros(values.shape, dtype=bool)
    if kind == "f":
        absent |= np.isnan(values)
    if kind in "if" and len(np.unique(values[~absent & (values < 0)])) == 1:
        absent |= values < 0
    if absent.any():
        note(NO_DATA)
        values = np.where(absent, IGNORE, values)
    if kind == "f" and (values != np.rint(values)).any():
        y, x = np.argwhere(values != np.rint(values))[0]
        raise UnreadableFileError(
            f"masks must hold whole numbers, found {values[y, x]:.6g} at x={x}, y={y}; save labels (of probabilities "
            "`(p > 0.5).astype('uint8')`)"
        )
    if values.dtype in (np.uint16, np.uint32):  # all bits set: white, or no data
        values = np.where(values == np.iinfo(values.dtype).max, IGNORE, values)
    if large is not None and values.dtype.itemsize > 1:
        values = np.where((values >= IGNORE) & (values <= large[1]) & ~absent, large[0], values)
    low, high = values.min(), values.max()
    if low < 0 or high > IGNORE:
        number = low if low < 0 else high
        step = f"number the classes from 0 (where objects are numbered, {STEP})"
        raise UnreadableFileError(f"labels must be below 255 (255 = ignore), found {number:.0f}; {step}")
    return values.astype(np.uint8)


def number_table(
    counts: npt.NDArray[np.int64],
    files: Sequence[str],
    problems: list[str],
    place: str,
    *,
    lossy: Sequence[str],
    is_known: bool,
    may_be_binary: bool,
) -> tuple[npt.NDArray[np.uint8] | None, str | None]:
    """Return the table (256,) from a set's numbers to labels, None if they are labels; and a warning or None.

    Args:
        counts: pixels of each number in each mask, (n, 256).
        files: names of the masks, for messages.
        problems: receives numbers without a meaning.
        place: where the masks are, for messages.
        lossy: files in a lossy format (JPEG).
        is_known: whether the meaning of 255 is known.
        may_be_binary: whether no more than two classes are declared.

    If numbers cluster near 0 and 255, as after compression or smooth resizing, those from 128 on are foreground. If all
    values of the set are in {0, 255}, 255 is foreground. If another non-zero label occurs, 255 is ignore. Masks with
    only 0 and 255 among masks with other labels are refused, unless at least as many masks contain 255 together with
    another label, which confirms that 255 is ignore. (One stray pixel must not turn the foreground of a whole set into
    ignore.)
    """
    total, between = counts.sum(axis=0), counts[:, _BETWEEN].sum(axis=1)
    used = np.flatnonzero(total)
    is_open = may_be_binary and not is_known
    few_levels = find_levels(total) if lossy or (is_open and (used >= 128).sum() > 2) else []
    smeared = is_open and (len(lossy) > 0 or len(used) >= 3 * len(few_levels) > 3)
    few = between.sum() < 0.1 * total.sum() and bool((between < 0.3 * counts.sum(axis=1)).all())
    soft = [files[int(i)] for i in np.flatnonzero(between)]
    if smeared and few and [level // _BETWEEN.start for level in few_levels] == [0, 7]:
        return (np.arange(256) >= 128).astype(np.uint8), (
            "Masks hold numbers between 0 and 255, as JPEG or smooth resizing leaves them, and are read by half range "
            f"(128 and above is foreground): {between.sum():,} of {total.sum():,} pixels "
            f"({100 * between.sum() / total.sum():.2g} %) lie between {_BETWEEN.start} and {_BETWEEN.stop - 1}, "
            f"in {abbreviate(soft) or 'no mask'}."
        )
    if used.any() and (lossy or (smeared and len(used) > MAX_UNNAMED)):
        problems.append(
            f"{place}: masks of more than two classes must be lossless, found numbers that gather near "
            f"{abbreviate([str(level) for level in few_levels], 8)} in {abbreviate(lossy or soft or files)}; save "
            "class indices as PNG"
            + _suggest_maps(total, few_levels, may_be_two=len(few_levels) > 2 and few_levels[-1] >= _BETWEEN.stop)
        )
        return None, None
    has_255 = counts[:, IGNORE] > 0
    has_other = counts[:, 1:IGNORE].any(axis=1)
    if is_known or not has_255.any():
        return None, None
    if not has_other.any():
        return np.where(np.arange(256) == IGNORE, 1, np.arange(256)).astype(np.uint8), None
    if (has_255 & ~has_other).sum() > (has_255 & has_other).sum():
        bare = [files[int(i)] for i in np.flatnonzero(has_255 & ~has_other)]
        indexed = [files[int(i)] for i in np.flatnonzero(has_other)]
        choice, last = _choose_levels(total)
        steps = _suggest_maps(total, choice, last, may_be_two=len(choice) > 2) if last == IGNORE else ""
        problems.append(
            f"{place}: 255 must mean the same in all masks, found 0 and 255 alone in {len(bare)} ({abbreviate(bare)}) "
            f"and other labels in {len(indexed)} ({abbreviate(indexed)}); save all as class indices (0, 1, …)" + steps
        )
    return None, None


def find_levels(total: npt.NDArray[np.int64]) -> list[int]:
    """Return the numbers, ascending, around which pixels cluster, from the pixels of each number, (256,)."""
    from scipy.signal import find_peaks

    bins = total.reshape(16, 16).sum(axis=1)
    height = np.log1p(max(20.0, 1e-4 * total.sum()))
    places, _ = find_peaks(np.log1p(np.pad(bins, 1)), height=height, prominence=np.log(3))
    return [int(16 * (p - 1) + total[16 * (p - 1) : 16 * p].argmax()) for p in places]


def _choose_levels(total: npt.NDArray[np.int64]) -> tuple[list[int], int]:
    """Return the levels that may be classes, and the highest class number, from the pixels of each number, (256,).

    The latter is 255 if 255 is a level like the others, not ignored: there are a few numbers, spaced like grey levels
    (0, 128, 255), or many that cluster around a few.
    """
    used = np.flatnonzero(total)
    if len(used) <= MAX_LINES and (np.diff(used) >= _APART).all():
        return [int(number) for number in used], max(IGNORE - 1, int(used.max(initial=0)))
    below, few_levels = used[used < IGNORE], find_levels(total)
    if total[IGNORE - 1] or ((used >= 128).sum() > 2 and len(used) >= 3 * len(few_levels) > 3):
        return few_levels, IGNORE
    if len(below) <= MAX_LINES:
        return [int(number) for number in below], IGNORE - 1
    return find_levels(total * (np.arange(256) < IGNORE)), IGNORE - 1


def _suggest_maps(
    total: npt.NDArray[np.int64], few_levels: Sequence[int], last: int = IGNORE, *, may_be_two: bool = False
) -> str:
    """Return steps that make each of a few levels a class, or two classes of all numbers.

    Args:
        total: pixels of each number, (256,).
        few_levels: numbers around which they cluster, ascending.
        last: highest number that becomes a class.
        may_be_two: whether there may be two classes, with numbers between them from smooth resizing.
    """
    ends = [*((a + b) // 2 for a, b in pairwise(few_levels)), last]
    rest = total[ends[0] + 1 : last + 1].sum()
    between = total[ends[0] + 1 : ends[-2] + 1].sum() if len(ends) > 2 else 0
    is_two = may_be_two and len(few_levels) > 2 and bool(between < _FEW_BETWEEN * rest)
    why = (
        f"{100 * between / rest:.2g} % of what is no background is between" if is_two else "resized smoothly, or shares"
    )
    command = r"`printf 'background: 0-127\nobject: 128-255\n' > two.yaml`"
    steps = [f"of two classes ({why}) {command}, then --class-map two.yaml"] if may_be_two else []
    is_same = may_be_two and len(few_levels) == 2 and few_levels[0] < 128 <= few_levels[1]
    if 2 <= len(few_levels) <= MAX_LINES and not is_same:
        spans = [*zip([0, *(end + 1 for end in ends)], ends, strict=False)]
        sizes = [total[first : end + 1].sum() for first, end in spans]
        ground = int(np.argmax(sizes)) if max(sizes) > _MOSTLY * sum(sizes) else 0
        names = ["background" if i == ground else f"class_{i + (i < ground)}" for i in range(len(spans))]
        lines = [
            f"{name}: {first if first == end else f'{first}-{end}'}\\n"
            for name, (first, end) in zip(names, spans, strict=True)
        ]
        step = f"or part the numbers: `printf '{''.join(lines)}' > classes.yaml`, then --class-map classes.yaml"
        if len(few_levels) > 2 and last == few_levels[-1] == IGNORE:
            step += " (where 255 means no label, write ignore for the name of its line)"
        steps.insert(is_two, step)
    return "".join(f"; {step}" for step in steps)


def make_class_names(size: int) -> tuple[str, ...]:
    """Return default names of classes."""
    return ("background", "foreground") if size == 2 else tuple(f"class_{i}" for i in range(size))


def describe_absent_classes(classes: Sequence[str], occurs: Sequence[bool]) -> str | None:
    """Return a sentence about classes that occur in no image, with a class map if names are not declared; else None.

    Args:
        classes: names in index order.
        occurs: whether each class occurs in some image.
    """
    absent = [name for name, is_used in zip(classes, occurs, strict=True) if not is_used]
    if not absent:
        return None
    is_declared = tuple(classes) != make_class_names(len(classes))
    what = "declared classes" if is_declared else f"classes (0 to {len(classes) - 1})"
    line = f"{len(absent)} of {len(classes)} {what} never {'occurs' if len(absent) == 1 else 'occur'}"
    used = [label for label, is_used in enumerate(occurs) if is_used]
    step = ""
    if not is_declared and used and used[0] > 0:
        lines = [f"class_{label}: {label}\\n" for label in (used if len(used) <= MAX_LINES else used[:1])]
        command = f"`printf '{''.join(lines)}' > classes.yaml`"
        step = f"; {command}, then --class-map classes.yaml numbers them from {used[0]} on"
    return f"{line}: {abbreviate(absent)}{step}."


def choose_class_names(
    counts: npt.NDArray[np.int64],
    declared: tuple[str, ...] | None,
    files: Sequence[str],
    problems: list[str],
    place: str,
    *,
    remarks: Sequence[str],
) -> tuple[str, ...]:
    """Return the names of the classes 0…C−1; if not `declared`, they are made from the labels that occur.

    Args:
        counts: pixels of each label in each mask, (n, 256); column 255 is ignore.
        declared: names from `classes.txt`.
        files: names of the masks, for messages.
        place: where the labels are, for messages about all of them.
        problems: receives labels out of range, labels too sparse to be indices, or a single class.
        remarks: warnings of the readers, which may explain a single class.
    """
    used = [int(label) for label in np.flatnonzero(counts[:, :IGNORE].any(axis=0))]
    if declared is not None:
        names = declared
        for row, file in zip(counts, files, strict=True):
            wrong = [str(label) for label in np.flatnonzero(row[:IGNORE]) if label >= len(names)]
            if wrong:
                problems.append(
                    f"{file}: labels must be below {len(names)} (the classes in classes.txt) or 255 (ignore), "
                    f"found {abbreviate(wrong)}; correct the mask or add the class"
                )
    else:
        size = max(used, default=0) + 1
        names = make_class_names(size)
        if size > 2 and (size > MAX_UNNAMED or size - len(used) > len(used)):
            total = counts.sum(axis=0)
            few_levels, last = _choose_levels(total)
            numbers = [*used, *([IGNORE] if last == IGNORE and total[IGNORE] else [])]
            holders = [file for row, file in zip(counts, files, strict=True) if row[numbers[-1]]]
            problems.append(
                f"{place}: without classes.txt labels must be 0, 1, 2, … with few gaps, {MAX_UNNAMED} classes at most, "
                f"found {abbreviate([*map(str, numbers)], 8)} ({numbers[-1]} in {abbreviate(holders)}); number the "
                f"classes from 0, or write classes.txt in the data folder, one name per line, {MAX_CLASSES} at most "
                f"(`seq -f class_%g 0 {size - 1} > classes.txt`)"
                + _suggest_maps(total, few_levels, last, may_be_two=bool(total[_BETWEEN.stop : last + 1].any()))
            )
            return names
    if len(used) < 2 and not problems:  # else earlier problems may be the cause
        occurring = f"label {used[0]} alone" if used else "no labelled pixel"
        if counts[:, IGNORE].any():
            occurring += " and 255, which is ignored (`foreground: 255` in a class map makes it a class)"
        problem = f"{place}: at least two classes must occur, found {occurring}; add images that show another"
        problems.append("; or see: ".join([problem, *remarks]))
    return names
