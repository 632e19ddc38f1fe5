"""Class names: the default ones, those with a meaning (background, ignore), and labels that have none."""

from __future__ import annotations

import json
import re
import shlex
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from sweeper.core.records import IGNORE
from sweeper.core.text import abbreviate
from sweeper.data.label_values import Counts
from sweeper.data.store import Pixels

_SURE, _LIKELY = ("background", "bg", "unlabeled", "unlabelled"), ("void", "none", "other")


def _normalise_word(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def is_background(name: str) -> bool:
    """Return whether a class of this name is certainly the background."""
    return _normalise_word(name) in _SURE


def is_ignored(name: str) -> bool:
    """Return whether pixels of a class of this name are ignored."""
    return _normalise_word(name) in ("ignore", "void")


def find_background(names: Sequence[str]) -> int | None:
    """Return the index of the first name that certainly means background, else of the first likely one, else None."""
    words = [*map(_normalise_word, names)]
    return next((words.index(word) for kind in (_SURE, _LIKELY) for word in words if word in kind), None)


def put_background_first(names: Sequence[str], notes: list[str]) -> tuple[tuple[str, ...], Pixels]:
    """Return the names with the background first and ignored ones left out, and the new label of each old one, (256,).

    Changes are added to `notes`. `void` may be the background if only one other class is left.
    """
    left = [label for label, name in enumerate(names) if not is_ignored(name)]
    left = left if len(left) > 1 else [*range(len(names))]
    first = left[find_background([names[label] for label in left]) or 0]
    order = [first, *(label for label in left if label != first)]
    table = np.arange(256, dtype=np.uint8)
    table[: len(names)] = IGNORE
    table[order] = np.arange(len(order))
    is_unlabelled = _normalise_word(names[first]).startswith("unlabel")
    changes = [f"{names[first]} is class 0, not {first}"] if first != left[0] else []
    changes += [f"{names[first]} is trained (`ignore: [{names[first]}]` ignores it)"] if is_unlabelled else []
    changes += [
        f"{names[label]} is a class of its own (`{names[first]}: [{names[first]}, {names[label]}]` joins them)"
        for label in order[1:]
        if is_background(names[label])
    ]
    changes += [f"{name} is ignored" for label, name in enumerate(names) if label not in left]
    if changes:
        notes.append(f"By their names, {' and '.join(changes)}; a class map that renames a class keeps it as it was.")
    return tuple(names[label] for label in order), table


def make_class_names(size: int) -> tuple[str, ...]:
    """Return default names of classes."""
    return ("background", "foreground") if size == 2 else tuple(f"class_{i}" for i in range(size))


def describe_absent_classes(classes: Sequence[str], occurs: Sequence[bool]) -> list[str]:
    """Return the sentence about classes that occur in no image; with a class map, unless their names are declared."""
    absent = [name for name, is_used in zip(classes, occurs, strict=True) if not is_used]
    if not absent:
        return []
    first, step = [*occurs, True].index(True), ""
    if tuple(classes) == make_class_names(len(classes)):
        step = f"; `printf 'class_{first}: {first}\\n' > classes.yaml`, then --class-map classes.yaml closes the gaps"
    never = f"never {'occurs' if len(absent) == 1 else 'occur'}: {abbreviate(absent)}"
    return [f"{len(absent)} of {len(classes)} classes (0 to {len(classes) - 1}) {never}{step}."]


def list_alike_names(names: Sequence[str]) -> Iterator[str]:
    """Yield the warning about classes whose names differ only by case or blanks, with the class map that joins them."""
    alike = defaultdict[str, list[str]](list)
    for name in names:
        alike["".join(name.casefold().replace("_", " ").split())].append(name)
    lines = [f"{json.dumps(same[0])}: {json.dumps(same)}" for same in alike.values() if len(same) > 1]
    if lines:
        yield (
            f"Names of classes differ only by case or blanks: `printf '%s\\n' {' '.join(map(shlex.quote, lines))} > "
            "alike.yaml`, then --class-map alike.yaml joins them, or correct the labels."
        )


def list_unnamed_labels(
    counts: Counts, files: Sequence[str], names: Sequence[str], mapped: Collection[int] = ()
) -> Iterator[str]:
    """Yield the problem of each mask with labels, (n, 256), that are beyond the names and not mapped."""
    known = {*range(len(names)), IGNORE, *mapped}
    for row, file in zip(counts, files, strict=True):
        wrong = [str(label) for label in np.flatnonzero(row) if label not in known]
        if wrong:
            yield (
                f"{file}: labels must be below {len(names)} (the classes in classes.txt), 255 (ignore) or in the class "
                f"map, found {abbreviate(wrong)}; correct the mask or add the class"
            )
