"""Infer which classes the masks of a whole set have: what their numbers mean, and what a class map makes of them.

For masks in colours without a map of them, and for palettes that disagree, as after an optimiser that sorts each
palette, a map of the colours is suggested to paste.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sweeper.core.records import IGNORE
from sweeper.core.text import format_count
from sweeper.data.class_map import MappedClasses, find_covered_labels, list_spans, map_classes
from sweeper.data.class_words import find_background, list_unnamed_labels, make_class_names, put_background_first
from sweeper.data.colours import COLOUR_FILES, VOC_BORDER, Colour
from sweeper.data.decode import MAX_COLOURS, NO_DATA
from sweeper.data.formats.base import DataSource, ReadResult
from sweeper.data.label_values import (
    AS_STORED,
    MIN_OBJECT_NUMBERS,
    OBJECTS_STEP,
    READ,
    Counts,
    MaskNumbers,
    infer_meaning,
    number_objects,
)
from sweeper.data.store import Pixels, StoreWriter

MOST_SHARED = 0.01
"""Share of the classes' pixels that may have several, if the user does not say what they are."""
_PLOTS = {
    **{"viridis": "440154 fde724", "plasma": "0c0786 eff821", "inferno": "000003 fcfea4", "magma": "000003 fbfcbf"},
    **{"cividis": "00224d fde737", "turbo": "30123b 7a0402", "jet": "00007f 7f0000", "hot": "0a0000 ffffff"},
    **{"coolwarm": "3a4cc0 b30326", "Spectral": "9e0142 5e4fa2", "tab10": "1f77b4 17becf", "tab20": "1f77b4 9edae5"},
}
"""Matplotlib's scale of colours → the colours of the lowest and the highest number of each file."""
_MOST_COLOURS = 20
"""Most colours of a suggested map."""
_PLAIN = re.compile(r"[\w ()+./-]+")
"""Names without special meaning in a shell, in printf and in a map."""
_OTHERWISE = "or save class indices as an 8-bit PNG"


def infer_classes(
    place: DataSource, reading: ReadResult, counts: Counts, files: Sequence[str], writer: StoreWriter
) -> MappedClasses | None:
    """Return the classes' names, and the label of each number in masks, (256,); None, and problems, if it has none.

    The numbers have these counts, (n, 256); the writer has the images, if there was no problem yet.
    """
    names, table = reading.classes, AS_STORED
    if place.planes:
        names = ("background", *place.planes)
    else:
        found = _infer_numbers(place, reading, counts, files, writer)
        if found is None:
            return None
        table, counts = found, _move_label_counts(counts, found)
    if place.class_map:
        mapped = map_classes(
            place.class_map, names, counts, files, problems=place.problems, has_planes=bool(place.planes)
        )
        if mapped is None:
            return None
        place.notes.append(mapped.line)
        names, table = mapped.names, mapped.table[table]
        if mapped.has_planes:
            return mapped._replace(table=table)
        counts = _move_label_counts(counts, mapped.table)
    elif place.planes:
        place.problems += list_flat_classes(reading, place.planes, counts[:, 1:].sum(axis=0), 0)
        return MappedClasses(place.planes, table, "", has_planes=True)
    highest = np.flatnonzero(counts[:, :IGNORE].any(axis=0)).max(initial=0)
    names, moved = put_background_first(names or make_class_names(int(highest) + 1), place.notes)
    counts = _move_label_counts(counts, moved)
    place.problems += list_unnamed_labels(counts, files, names)
    if counts[:, :IGNORE].any(axis=0).sum() < 2 and not place.problems:  # else these may be the cause
        labels = ", ".join(map(str, np.flatnonzero(counts.any(axis=0))))
        problem = (
            f"{reading.place}: at least two classes must occur, found label {labels} alone (255 is ignored, unless a "
            "class map says `foreground: 255`); add images that show another"
        )
        place.problems.append("; or see: ".join([problem, *place.tally.format_sentences()]))
    return MappedClasses(names, moved[table], "", has_planes=False)


def _infer_numbers(
    place: DataSource, reading: ReadResult, counts: Counts, files: Sequence[str], writer: StoreWriter
) -> Pixels | None:
    """Return the label of each number in masks, (256,); None, and a problem, if it has none."""
    is_known = reading.indices or place.tally.has_warning("mask", NO_DATA)
    is_named = bool(reading.classes or place.class_map)
    meaning = infer_meaning(
        MaskNumbers(
            counts,
            files,
            sorted(place.lossy),
            is_known=is_known or (IGNORE, IGNORE) in list_spans(place.class_map),
            is_named=is_named,
            may_be_binary=len(reading.classes) <= 2,
        )
    )
    covered = find_covered_labels(place.class_map)
    table = np.where(covered, AS_STORED, meaning.labels)
    faults: list[str] = []
    if not place.class_map and not place.problems:
        faults = _find_objects(place, reading, _move_label_counts(counts, table), writer)
    if meaning.score >= READ:
        place.notes += filter(None, [meaning.sentence])
    elif not faults and not covered.any():
        faults = [f"{reading.place}: {meaning.sentence}"]
    place.problems += faults
    return None if faults else table


def check_masks(place: DataSource, reading: ReadResult) -> None:
    """Add the problems of all masks together: palettes that disagree, colours without a map, classes that overlap."""
    _find_palette_fault(place)
    _join_colour_faults(place, reading)
    shared, covered = np.sum([(0, 0), *place.overlaps], axis=0)
    if place.overlap is None and shared > MOST_SHARED * covered:
        problem = (
            f"{reading.place}: classes must hardly overlap, found {100 * shared / covered:.2g} % of their pixels "
            "in several; `echo 'overlap: keep' > overlap.yaml`, then --class-map overlap.yaml keeps all classes of a "
            "pixel, `overlap: flatten` one"
        )
        ways = filter(None, (problem, place.describe_way_out()))
        place.problems.append("; or, if these are drawings of the same, ".join(ways))


def list_flat_classes(reading: ReadResult, names: Sequence[str], pixels: Iterable[int], labelled: int) -> Iterator[str]:
    """Yield the problem of each class of a multi-label set with none or all of the labelled pixels."""
    for name, count in zip(names, pixels, strict=False):
        if count in (0, labelled):
            rule = f"{reading.place}: a class must have some of the pixels, found one with none or all"
            yield f"{rule}, {name}; leave it out, or add images"


def _find_objects(place: DataSource, reading: ReadResult, counts: Counts, writer: StoreWriter) -> list[str]:
    """Return the problem of masks that number their objects; note a few numbers, which may be classes."""
    has_unnamed = counts[:, len(reading.classes) : IGNORE].any()
    highest = number_objects(counts, writer.finish()) if has_unnamed else 0
    line = (
        f"{reading.place}: numbers must be classes, found 1 to {highest}, which look like objects that are "
        "numbered in each image (each is connected, and neither look nor place follows from it); "
        f"{OBJECTS_STEP}; where they are classes, name them in classes.txt, one a line"
    )
    if highest >= MIN_OBJECT_NUMBERS:
        return [line]
    place.notes += [line] if highest else []
    return []


def _move_label_counts(counts: Counts, table: Pixels) -> Counts:
    """Return the pixels of each label, (n, 256), after replacing each label by that of `table`."""
    moved = np.zeros_like(counts)
    for old, new in enumerate(table):
        moved[:, new] += counts[:, old]
    return moved


def _join_colour_faults(place: DataSource, reading: ReadResult) -> None:
    """Replace the faults of masks in colours by one problem, with a map to paste that has the colours of all masks."""
    errors, counts = place.colour_faults, place.colour_counts
    if not errors or place.colours is not None:
        return
    faults = {f"{name}: {error}" for name, error in errors.items()}
    place.problems[:] = [problem for problem in place.problems if problem not in faults]
    if errors.keys() - counts.keys():  # maps of colours do not apply to such files
        step = _OTHERWISE.removeprefix("or ")
    elif smooth := sorted(name for name, counted in counts.items() if not counted):
        what = f"more than {MAX_COLOURS} colours in {smooth[0]}: smoothly resized or JPEG"
        step = f"{what}; export the masks again without smoothing"
    else:
        colours = sum(map(Counter, counts.values()), Counter[Colour]())
        step = (
            _explain_plot(colours) or f"{_suggest_map(place, colours, len(counts))}{_suggest_planes(colours, reading)}"
        )
    first = min(errors)
    found = f"{errors[first].finding}, as in {format_count(len(errors), 'mask')}"
    place.problems.append(f"{first}: {found}; {step}")


def _explain_plot(colours: Counter[Colour]) -> str:
    """Return the step for colours of a plot, which stand for other numbers in each file; "" for others."""
    table = np.array([*colours])
    for name, ends in _PLOTS.items():
        if all((np.abs(table - [*bytes.fromhex(end)]).max(axis=1) <= 1).any() for end in ends.split()):
            return (
                f"these are colours of a plot ({name}), scaled to the numbers of each file, and no classes; save the "
                "numbers themselves: PIL.Image.fromarray(mask.astype('uint8')).save(path)"
            )
    return ""


def _suggest_planes(colours: Counter[Colour], reading: ReadResult) -> str:
    """Return the step that reads channels as classes that overlap, if they may be; else an empty text."""
    may_be = all({*colour} <= {0, 255} for colour in colours) and {(0, 0, 0), (255, 255, 0)} <= colours.keys()
    image, mask = (Path(name).parent for name in (reading.samples[0].name, reading.samples[0].mask_name))
    return may_be * (
        '; or, if red, green and blue are classes that overlap, in the data folder `python -c "import numpy, pathlib, '
        "PIL.Image; [numpy.save(p.with_suffix('.npy'), numpy.moveaxis(numpy.array(PIL.Image.open(p).convert('RGB')), "
        f"2, 0)) for p in pathlib.Path('{mask}').glob('*.png')]\"`, then --images '{image}/*' --masks "
        f"'{mask}/{{stem}}.npy' reads them"
    )


def _find_palette_fault(place: DataSource) -> None:
    """Add a problem if a colour of the masks' palettes has different numbers: the numbers cannot be read as classes.

    A colour that one mask uses for several numbers says nothing.
    """
    seen: dict[Colour, tuple[int, str]] = {}
    for name, palette in sorted(place.palettes.items()):
        times = Counter(palette.values())
        for number, colour in palette.items():
            if times[colour] > 1:
                continue
            first, where = seen.setdefault(colour, (number, name))
            if first != number:
                colours = Counter(colour for each in place.palettes.values() for colour in each.values())
                place.problems.append(
                    f"{name}: a colour must have one number in the palettes of all masks, found "
                    f"{colour} as {number} here and as {first} in {where}; "
                    f"{_suggest_map(place, colours, len(place.palettes))}"
                )
                return


def _suggest_map(place: DataSource, colours: Counter[Colour], masks: int) -> str:
    """Return the step that names the colours of so many masks."""
    what = f"{format_count(len(colours), 'colour')} in {format_count(masks, 'mask')}"
    lines = _list_lines(colours, place.classes)
    if not lines:
        return f"{what}: write {COLOUR_FILES[0]} with one `name:r,g,b::` a line, {_OTHERWISE}, not resized smoothly"
    where, at = "name", shlex.quote(str(place.root / COLOUR_FILES[0]))
    if place.archive is not None:
        where, at = "unpack the archive, give its folder, and in it name", COLOUR_FILES[0]
    command = "".join(f"{line}\\n" for line in lines)
    return f"{where} the {what}: `printf '{command}' > {at}` (correct the names), {_OTHERWISE}"


def _list_lines(colours: Counter[Colour], declared: Sequence[str] | None) -> list[str]:
    """Return the lines of a map of colours with these pixels, the background first; [] if no map can be made.

    `declared`: names of `classes.txt`, which the map must use.
    """
    ordered = sorted(colours.keys() - {VOC_BORDER}, key=lambda one: (one != (0, 0, 0), -colours[one], one))
    if not 2 <= len(ordered) <= _MOST_COLOURS:
        return []
    names = ["background", *(f"class_{number}" for number in range(1, len(ordered)))]
    if declared is not None:
        first = declared[find_background(declared) or 0]
        names = [first, *(name for name in declared if name != first)]
    if len(names) < len(ordered) or not all(_PLAIN.fullmatch(name) for name in names):
        return []
    named = [*zip(names, ordered, strict=False), *[("ignore", VOC_BORDER)] * (VOC_BORDER in colours)]
    return [f"{name}:{','.join(map(str, colour))}::" for name, colour in named]
