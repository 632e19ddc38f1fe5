"""Next step for masks in colours without a map: suggest a map to paste, made of the masks' colours.

Also for masks whose palettes disagree, as after an optimiser that sorts each palette: only their colours are classes.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence, Set

from sweeper.core.text import format_count
from sweeper.data.class_words import find_background
from sweeper.data.colours import COLOUR_FILES, VOC_BORDER, format_colour
from sweeper.data.decode import count_colours
from sweeper.data.formats.base import DataSource, Sample
from sweeper.data.text_tables import UnreadableFileError

_MOST = 20
"""Most colours of a suggested map."""
_SMOOTH = 40
"""Most colours of one mask; masks with more were smoothed."""
_COUNTED = 1 << 16
"""Most colours of one mask that are counted."""
_LOOKED_AT = 200_000_000
"""Pixels after which no further masks are counted."""
_PLAIN = re.compile(r"[\w ()+./-]+")
"""Names without special meaning in a shell, in printf and in a map."""
_OTHERWISE = "or save class indices as an 8-bit PNG"


def join_colour_faults(place: DataSource, samples: Sequence[Sample]) -> None:
    """Replace the faults of masks in colours by one problem with a map to paste.

    Args:
        place: its problems include the fault of each mask.
        samples: all samples of the set; colours of masks without a fault are counted, too.
    """
    errors = place.colour_faults
    if not errors or place.colours is not None or not all((place.root / name).is_file() for name in errors):
        return
    faults = {f"{name}: {error}" for name, error in errors.items()}
    place.problems[:] = [problem for problem in place.problems if problem not in faults]
    first = min(errors)
    found = f"{errors[first].finding}, as in {format_count(len(errors), 'mask')}"
    place.problems.append(f"{first}: {found}; {_suggest_step(place, samples, errors.keys())}")


def find_palette_fault(place: DataSource) -> None:
    """Add a problem if a colour of the masks' palettes has different numbers: the numbers cannot be read as classes.

    A colour that one mask uses for several numbers says nothing.
    """
    seen: dict[int, tuple[int, str]] = {}
    for name, palette in sorted(place.palettes.items()):
        times = Counter(palette.values())
        for number, colour in palette.items():
            if times[colour] > 1:
                continue
            first, where = seen.setdefault(colour, (number, name))
            if first != number:
                colours = Counter(colour for each in place.palettes.values() for colour in each.values())
                what = f"{format_count(len(colours), 'colour')} in {len(place.palettes)} masks"
                place.problems.append(
                    f"{name}: a colour must have one number in the palettes of all masks, found "
                    f"{format_colour(colour)} as {number} here and as {first} in {where}; "
                    f"{_suggest_map(place, colours, what)}"
                )
                return


def _suggest_step(place: DataSource, samples: Sequence[Sample], coloured: Set[str]) -> str:
    """Return the next step for the masks' colours."""
    colours: Counter[int] = Counter()
    names = list(dict.fromkeys(sample.mask_name for sample in samples))
    looked_at, pixels = 0, 0
    for index in sorted(range(len(names)), key=lambda one: f"{one:064b}"[::-1]):  # spread evenly
        name = names[index]
        if pixels > _LOOKED_AT:
            break
        try:
            counted = count_colours(place.root / name, _COUNTED)
        except UnreadableFileError:  # already reported, or the name of several masks
            continue
        if counted == {} and name in coloured:  # maps of colours do not apply to such a file
            return _OTHERWISE.removeprefix("or ")
        if counted is None or len(counted) > _SMOOTH:
            number = f"more than {_COUNTED:,}" if counted is None else len(counted)
            return f"{number} colours in {name}: smoothly resized or JPEG; export the masks again without smoothing"
        colours.update(counted)
        pixels, looked_at = pixels + sum(counted.values()), looked_at + bool(counted)
    return _suggest_map(place, colours, f"{format_count(len(colours), 'colour')} in {format_count(looked_at, 'mask')}")


def _suggest_map(place: DataSource, colours: Counter[int], what: str) -> str:
    """Return the step that names the colours; `what` says how many there are in how many masks."""
    lines = _list_lines(colours, place.classes)
    if not lines:
        return f"{what}: write {COLOUR_FILES[0]} with one `name:r,g,b::` a line, {_OTHERWISE}, not resized smoothly"
    where, at = "name", shlex.quote(str(place.root / COLOUR_FILES[0]))
    if place.archive is not None:
        where, at = "unpack the archive, give its folder, and in it name", COLOUR_FILES[0]
    command = "".join(f"{line}\\n" for line in lines)
    return f"{where} the {what}: `printf '{command}' > {at}` (correct the names), {_OTHERWISE}"


def _list_lines(colours: Counter[int], declared: Sequence[str] | None) -> list[str]:
    """Return the lines of a map of colours, the background first; [] if no map can be made.

    Args:
        colours: pixels of each colour.
        declared: names of `classes.txt`, which the map must use.
    """
    border = VOC_BORDER[0] << 16 | VOC_BORDER[1] << 8 | VOC_BORDER[2]
    keys = sorted(colours.keys() - {border}, key=lambda key: (key != 0, -colours[key], key))
    if not 2 <= len(keys) <= _MOST:
        return []
    names = ["background", *(f"class_{number}" for number in range(1, len(keys)))]
    if declared is not None:
        first = declared[find_background(declared) or 0]
        names = [first, *(name for name in declared if name != first)]
    if len(names) < len(keys) or not all(_PLAIN.fullmatch(name) for name in names):
        return []
    ignored = [_format_line("ignore", border)] if border in colours else []
    return [*(_format_line(name, key) for name, key in zip(names, keys, strict=False)), *ignored]


def _format_line(name: str, key: int) -> str:
    return f"{name}:{key >> 16},{key >> 8 & 255},{key & 255}::"
