"""Folders of images and masks that only the names of their files pair, as in ISIC's challenges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set
from pathlib import PurePosixPath

from sweeper.data.decode import IMAGE_SUFFIXES, MASK_SUFFIXES
from sweeper.data.formats.base import DataSource
from sweeper.data.formats.file_patterns import STEM, escape_pattern
from sweeper.data.formats.layout_guess import MOST_NAMES, LayoutGuess, make_alternatives
from sweeper.data.formats.name_words import LAST_MASK_FOLDER_WORD
from sweeper.data.text_tables import escape_for_display


def guess_by_fit(place: DataSource) -> list[LayoutGuess]:
    """Return the folders whose files are all called like those of another folder, between one beginning and one end.

    All pairs of folders are one guess (`Training_Input/a.jpg` with `Training_Truth/a_x.png`, `Test_Input/` with
    `Test_Truth/`). Several folders of masks of one folder of images are a guess each.
    """
    stems: dict[PurePosixPath, set[str]] = defaultdict(set)
    for below, path in place.listing:
        if "/" in below and path.suffix.lower() in {*IMAGE_SUFFIXES, *MASK_SUFFIXES}:
            stems[PurePosixPath(below).parent].add(PurePosixPath(below).stem)
    masks = [folder for folder in stems if LAST_MASK_FOLDER_WORD.search(str(folder))]
    if len(masks) > MOST_NAMES:
        return []
    pairs: dict[PurePosixPath, list[tuple[PurePosixPath, str]]] = defaultdict(list)
    for folder in sorted(masks, key=lambda folder: ("instance" in str(folder).lower(), folder)):
        forms = {other: form for other in stems if other not in masks and (form := _fit(stems[other], stems[folder]))}
        nearest = max((len(_list_shared(folder, other)) for other in forms), default=0)
        images = [other for other in forms if len(_list_shared(folder, other)) == nearest]
        if len(images) == 1:
            pairs[images[0]].append((folder, forms[images[0]]))
    if len(pairs) == 1:
        ((image, of_image),) = pairs.items()
        return [_pair_folders([image], [mask], form) for mask, form in of_image]
    images, firsts = [*pairs], [of_image[0] for of_image in pairs.values()]
    masks = [folder for folder, _ in firsts]
    is_clear = max(map(len, pairs.values()), default=0) == 1 and len({form for _, form in firsts}) == 1
    are_beside = all(len({folder.parent for folder in side}) == 1 for side in (images, masks))
    return [_pair_folders(images, masks, firsts[0][1])] if is_clear and are_beside else []


def _list_shared(folder: PurePosixPath, other: PurePosixPath) -> list[str]:
    """Return the folders that both are in."""
    return [one for one, two in zip(folder.parts, other.parts, strict=False) if one == two]


def _fit(images: Set[str], masks: Set[str]) -> str | None:
    """Return how the names of all masks are made of images' names: `{stem}_x`; None if they are not."""
    first = next(iter(masks))
    if not (within := [stem for stem in images if stem in first]):
        return None
    before, _, after = first.partition(max(within, key=len))
    all_fit = masks <= {f"{before}{stem}{after}" for stem in images}
    return f"{escape_pattern(before)}{STEM}{escape_pattern(after)}" if all_fit else None


def _pair_folders(images: Sequence[PurePosixPath], masks: Sequence[PurePosixPath], form: str) -> LayoutGuess:
    """Return the guess of the files of folders that have one parent."""
    at, other = (
        f"{escape_pattern(f'{side[0].parent}/'.removeprefix('./'))}{make_alternatives([one.name for one in side])}"
        for side in (images, masks)
    )
    return LayoutGuess(f"{at}/{STEM}.*", f"{other}/{form}.*", (escape_for_display(at), escape_for_display(other)))
