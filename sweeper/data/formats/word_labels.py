"""The labels of words by which annotations name their classes: words of shapes, or of masks of one class each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sweeper.core.label_planes import MOST_CLASSES
from sweeper.core.records import IGNORE
from sweeper.data.class_map import KEEP
from sweeper.data.class_words import find_background, is_background, is_ignored
from sweeper.data.formats.base import DataSource
from sweeper.data.label_values import abbreviate
from sweeper.data.text_tables import MAX_CLASSES


class ClassNames(NamedTuple):
    """Class names, and the label of each word in the annotations."""

    names: tuple[str, ...]
    """In index order; empty if they are faulty."""
    numbers: dict[str, int]
    background: int
    """Label of pixels without an annotation."""


def list_objects(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, once each, that mean neither the background nor what is ignored."""
    return tuple(name for name in dict.fromkeys(names) if not is_background(name) and not is_ignored(name))


def number_words(
    place: DataSource, ordered: Sequence[str], occurring: Collection[str], where: str, listed_in: str = "classes.txt"
) -> ClassNames:
    """Return class names and the label of each word; none, and a problem, if there are too few or too many.

    Args:
        place: with the names of `classes.txt`, if any, which set the order.
        ordered: words that are classes, in order.
        occurring: words of annotations.
        where: the annotation files, for messages.
        listed_in: the file that lists the classes.
    """
    words = list_objects(ordered)
    names, most = place.classes or ("background", *words), MAX_CLASSES
    if place.overlap == KEEP and len(list_objects(names)) > 1:
        place.planes = list_objects(names)
        names, most = ("background", *place.planes), MOST_CLASSES + 1
    if not 2 <= len(names) <= most:
        if not place.problems or len(names) > most:  # else these may be the cause
            place.problems.append(
                f"{where}: there must be 1 to {most - 1} labels besides the background, found {len(names) - 1}; "
                "write classes.txt"
            )
        return ClassNames((), {}, 0)
    background = _find_background_index(place, names, words) if place.classes else 0
    numbers = {word: background for word in occurring if is_background(word)}
    numbers |= {word: IGNORE for word in occurring if is_ignored(word)}
    numbers |= {name: index for index, name in enumerate(names)}
    if unknown := sorted({*occurring} - numbers.keys()):
        place.problems.append(
            f"{where}: labels must be those of {listed_in} ({len(names)} classes), found {abbreviate(unknown)}; add "
            "them there or correct the labels"
        )
    return ClassNames(names, numbers, background)


def _find_background_index(place: DataSource, names: Sequence[str], labels: Sequence[str]) -> int:
    """Return the label of pixels without an annotation.

    It is the background class, else the first if no annotation has it, else 255.
    """
    free = [name if is_background(name) or name not in labels else "" for name in names]
    if (index := find_background(free)) is not None:
        return index
    if names[0] not in labels:
        return 0
    place.notes.append(
        f"classes.txt begins with {names[0]}, of which there are annotations too, and names no background: "
        "what no annotation covers is ignored. Put background first to make it a class."
    )
    return IGNORE
