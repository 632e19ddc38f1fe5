"""`--class-map FILE`: merge, rename or ignore classes, by a small YAML file (or a CSV with columns label, class).

    road: [3, 4]           # labels 3 and 4 become one class
    shrub: 10-20           # a range of labels
    bus: 28000-28999       # also above 255, as of class × 1000 + object
    object: any            # all labels from 1 on that no other line takes (numbered objects)
    vehicle: [car, truck]  # classes by name
    ignore: [255, 7]       # pixels without a label
    overlap: keep          # masks and shapes of classes that overlap keep all their classes (or: flatten)

Classes that the file does not list are kept. Classes are ordered by their lowest labels. Where a label is in several
classes, or classes that overlap are kept, a pixel may have several classes, or none.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sweeper.core.errors import ClassMapError
from sweeper.core.label_planes import MOST_CLASSES, LabelMap, choose_label_type, get_ignored_label
from sweeper.core.records import IGNORE
from sweeper.core.text import abbreviate, suggest_correction
from sweeper.core.yaml_file import format_value as shown_value
from sweeper.core.yaml_file import read_yaml
from sweeper.data.class_words import is_background, is_ignored, list_unnamed_labels
from sweeper.data.text_tables import normalise_text, read_table_rows

ClassMap = Mapping[str, Sequence[str]]
"""Name of each new class → its labels (as digits) and names; those of `ignore` become 255."""

_NUMBER = re.compile(r"[0-9]{1,9}")
_SPAN = re.compile(r"([0-9]{1,9})(?: *[-–] *([0-9]{1,9}))?")
OVERLAP, KEEP, FLATTEN = "overlap", "keep", "flatten"
"""Line that says whether pixels keep all classes of masks or shapes that overlap, or one of them counts."""
_ANY = "any"
_MOST = 999_999_999
_BACKGROUND = "background"


class MappedClasses(NamedTuple):
    """Classes and label table that result from a class map."""

    names: tuple[str, ...]
    table: LabelMap
    """(256,) new label of each old label."""
    line: str
    """Remarks for display."""
    has_planes: bool
    """Whether a pixel may have several classes; then the table has their bits."""


def read_class_map(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a class map; its labels are resolved later, when the data are read.

    Raises:
        ClassMapError: with all problems of the file.
    """
    problems: list[str] = []
    content: Any = {}
    if path.suffix.lower() == ".csv":
        for _, row in read_table_rows(path, "(table)", ("label", "class"), problems):
            content.setdefault(row["class"], []).append(row["label"])
    else:
        content = read_yaml(path, problems, as_written=True)
    found = shown_value(content)
    if not isinstance(content, Mapping):
        content = {}
    if not problems and not content:
        problems.append(f"(top): must be classes with what becomes them, like `road: [3, 4]`, got {found}")
    classes = _check_map(content, problems)
    ClassMapError.refuse(str(path), problems)
    return classes


def _check_map(content: Mapping[str, Any], problems: list[str]) -> dict[str, tuple[str, ...]]:
    are_numbers = all(map(_NUMBER.fullmatch, content))
    classes: dict[str, tuple[str, ...]] = {}
    for key, labels in content.items():
        name = normalise_text(key.strip())
        entries = labels if isinstance(labels, list) else [labels]
        texts = [_normalise_label(entry) if isinstance(entry, str) else "" for entry in entries]
        spans = [_parse_span(text) or (0, 0) for text in texts]
        is_valid = all(first <= last for first, last in spans)
        is_named = all([name, name.isprintable(), not are_numbers, texts, *texts])
        name = "ignore" if is_ignored(name) else name
        is_sound = is_valid and is_named
        if name in classes or not is_sound:
            problems.append(
                f"{name[:60] or '(empty)'}: must be the printable name of one class, and labels or names of classes, "
                f"like `road: [3, car]`, got {shown_value(key)}: {shown_value(labels)}; correct it"
            )
        classes[name] = tuple(dict.fromkeys(texts))
    large = sorted(span for span in {*list_spans(classes)} if span[1] > IGNORE)
    problems += [
        f"(ranges): labels above {IGNORE} must be in one range each, got {one[0]}-{one[1]} and {other[0]}-{other[1]}; "
        "part them"
        for one, other in pairwise(large)
        if other[0] <= one[1]
    ]
    return classes


def _normalise_label(text: str) -> str:
    """Return a label without blanks and leading zeros, or a name in composed form."""
    text = normalise_text(text.strip())
    return str(int(text)) if _NUMBER.fullmatch(text) else text


def _parse_span(text: str) -> tuple[int, int] | None:
    """Return the first and last label of a label or a range; None for a name."""
    match = _SPAN.fullmatch(text)
    if match is None:
        return None
    return int(match[1]), int(match[2] or match[1])


def list_spans(class_map: ClassMap) -> list[tuple[int, int]]:
    """Return first and last of each label and range in a class map, without `any`."""
    spans = [_parse_span(text) for texts in class_map.values() for text in texts]
    return [span for span in spans if span is not None]


def take_overlap(class_map: ClassMap) -> tuple[ClassMap, str | None]:
    """Return a class map without its line on overlap, and the line's value, None without it."""
    if [*class_map.get(OVERLAP, ())] not in ([KEEP], [FLATTEN]):
        return class_map, None
    return {name: labels for name, labels in class_map.items() if name != OVERLAP}, class_map[OVERLAP][0]


def find_covered_labels(class_map: ClassMap) -> npt.NDArray[np.bool_]:
    """Return whether each label, (256,), is within a range of the class map."""
    ranges = [span for span in list_spans(class_map) if span[0] < span[1]]
    covered = np.array([any(first <= label <= last for first, last in ranges) for label in range(256)])
    covered[[label for (first, _), label in label_large_ranges(class_map).items() if first >= IGNORE]] = True
    return covered


def label_large_ranges(class_map: ClassMap) -> dict[tuple[int, int], int]:
    """Return first and last of each range of labels above 255 in a class map, and the label in their place.

    It is the first of the range, or, if that is above 254 too, one of the highest that no range has.
    """
    spans = sorted({*list_spans(class_map)})
    large = [span for span in spans if span[1] > IGNORE]
    free = [label for label in range(IGNORE) if not any(first <= label <= last for first, last in spans)]
    beyond = [span for span in large if span[0] >= IGNORE]
    labels = {span: span[0] for span in large} | dict(zip(beyond, free[-len(beyond) :], strict=False))
    return labels | dict.fromkeys([(1, _MOST)] * any(_ANY in texts for texts in class_map.values()), 1)


def map_classes(
    class_map: ClassMap,
    declared: tuple[str, ...],
    counts: npt.NDArray[np.int64],
    files: Sequence[str],
    *,
    problems: list[str],
    has_planes: bool = False,
) -> MappedClasses | None:
    """Return the classes that a class map makes of a data set's labels.

    Args:
        class_map: as returned by `read_class_map`.
        declared: names of the classes 0…C−1 before mapping; none = not declared.
        counts: pixels of each label in each mask, (n, 256).
        files: names of the masks, for messages.
        problems: receives names and labels that do not exist, and labels that are no class.
        has_planes: whether pixels have several of these classes.

    Returns:
        None if there are problems.
    """
    before = len(problems)
    used = {int(label) for label in np.flatnonzero(counts.any(axis=0))}
    occurs = used | {*range(len(declared))}
    existing = occurs - {IGNORE}
    usual = (_BACKGROUND, "foreground") if max(existing, default=0) <= 1 else ()
    names = declared or usual
    large = label_large_ranges(class_map)
    groups = {
        name: [*dict.fromkeys(_resolve_labels(name, texts, names, large, problems))]
        for name, texts in class_map.items()
    }
    others = sorted({*range(1, IGNORE)}.difference(*groups.values()))
    for name, texts in class_map.items():
        if _ANY in texts and _ANY not in names:
            groups[name] += others
    owners = defaultdict[int, list[str]](list)
    for name, labels in groups.items():
        for label in labels:
            owners[label].append(name)
    for name, labels in groups.items():
        lacks_all = bool(labels) and occurs.isdisjoint(labels)
        if lacks_all and name != "ignore":
            problems.append(
                f"--class-map: {name}: must take labels that there are, found none of them; there "
                f"are {abbreviate([str(label) for label in sorted(occurs)], 12)}"
            )
    unnamed = {label: f"class_{label}" for label in existing} | {0: _BACKGROUND}
    kept = {label: (unnamed | dict(enumerate(declared)))[label] for label in sorted(existing - owners.keys())}
    if declared:
        problems += list_unnamed_labels(counts, files, declared, owners)
    problems += [
        f"--class-map: {name}: is the name of class {label} too, which the map does not take; add {label} to its list, "
        "or choose another name"
        for label, name in kept.items()
        if name in groups
    ]
    if len(problems) > before:
        return None
    has_planes |= any(len(of_label) > 1 for of_label in owners.values())
    mapped = _apply_map(groups, owners, kept, class_map, has_planes=has_planes)
    if len(mapped.names) * has_planes <= MOST_CLASSES:
        return mapped
    problems.append(
        f"--class-map: at most {MOST_CLASSES} classes may overlap, found {len(mapped.names)}; join some, as "
        f"--class-map with `joined: {json.dumps(mapped.names[:2], ensure_ascii=False)}` does"
    )
    return None


def _resolve_labels(
    name: str, texts: Sequence[str], names: Sequence[str], large: Mapping[tuple[int, int], int], problems: list[str]
) -> list[int]:
    """Return the labels that a list of labels and names refers to."""
    labels: list[int] = []
    for text in texts:
        span = _parse_span(text)
        if text in names and not text.isdecimal():
            labels.append(names.index(text))
        elif span is not None:
            labels += [*range(span[0], min(span[1], IGNORE) + 1), *filter(None, [large.get(span)])]
        elif text != _ANY:
            where, hint = "there is no classes.txt, so that labels are numbers", ""
            if names:
                where, hint = f"classes are {abbreviate(names, 12)}", suggest_correction(text, names)
            problems.append(f"--class-map: {name}: no class is called {text!r}{hint}; {where}")
    return labels


def _apply_map(
    groups: Mapping[str, Sequence[int]],
    owners: Mapping[int, Sequence[str]],
    kept: Mapping[int, str],
    written: ClassMap,
    *,
    has_planes: bool,
) -> MappedClasses:
    lowest = {name: min(labels) for name, labels in groups.items() if name != "ignore"}
    order = sorted([*((label, name) for name, label in lowest.items()), *kept.items()])
    taken = {**owners, **{label: [name] for label, name in kept.items()}}
    first = taken.get(0, [])
    of_first = {label for label, owned in taken.items() if {*first} & {*owned}}
    # The label 0 is the background, which is no class, if one class has it that has nothing else, or is called so.
    is_one_plane = has_planes and len(first) == 1
    ground = "".join(first) if is_one_plane else ""
    ground *= of_first == {0} or is_background(ground)
    names = tuple(name for _, name in order if name != ground)
    codes = {name: 1 << min(i, MOST_CLASSES) if has_planes else i for i, name in enumerate(names)}
    kind = choose_label_type(min(len(names), MOST_CLASSES) * has_planes)
    table = np.full(256, get_ignored_label(kind), dtype=kind)
    for label, of_label in taken.items():
        if "ignore" not in of_label or label in kept:
            table[label] = sum(codes.get(name, 0) for name in of_label)
    parts = [f"{name} = {' + '.join(texts)}" for name, texts in written.items()]
    stay = f"; as they were: {abbreviate([*kept.values()], 8)}" if kept else ""
    stay += "; a pixel may have several of these" * has_planes
    return MappedClasses(names, table, f"Classes were mapped: {abbreviate(parts, 8)}{stay}.", has_planes)
