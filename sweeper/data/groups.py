"""The given split of each image, and groups of images that no split may separate.

A split is that of `split.csv`, else of the annotations or their folders, else of lists. A group is the outermost
folder, else the shortest id at the start of the names, of which there must be at least three (to train, validate and
test). An id contains a digit, is no year, and ends before a separator: `P01` of `P01_s3`. A few folders named by words
may be kinds of images, such as defects, which every split should contain; they are no groups. A numbered part before
the id is skipped: `slice_003_` of `slice_003_P01`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sweeper.core.records import Dataset, SplitName
from sweeper.core.text import abbreviate, format_count
from sweeper.data.formats.base import DataSource, ReadResult, Sample
from sweeper.data.formats.sides import IMAGE_WORDS
from sweeper.data.text_tables import SPLITS, SplitAssignment, normalise_text, read_header, read_split_csv

LIST_FOLDERS = (".", "splits", "ImageSets", "ImageSets/Segmentation")
"""Folders whose lists of splits come first."""
LIST_SUFFIXES = (".txt", ".lst", ".list")
_LIST_WORDS = {"list", "ids", "id", "files", "images", "names", "set", "split"}
"""Words in names of lists, beside that of the split."""
AUTO, NONE, FOLDER = "auto", "none", "folder"
MIN_GROUPS = 3
_MOST_KINDS = 9
"""Most folders named by words that may be kinds of images; more are probably places or persons."""
_WORDS = {*SPLITS, *IMAGE_WORDS, "imagestr", "imagests", "set", "split", "data"}
_Paths = Mapping[str, PurePosixPath]
_JOINED = re.compile(r"^([^\W\d_]+[\W_]?\d+)[^\W\d_]+\d*$")
"""An id followed by letters: `P01` of `P01s3`, `Image_01` of `Image_01L`."""
_NUMBER, _PART = r"[\W_]?\d+", r"(?:slice|frame|tile|crop|patch|aug|augmented|rot|rotated|flip|flipped)(?![^\W\d_])"
_PERSON = "patient|pat|subject|subj|case|person"
_PART_FIRST = re.compile(
    rf"""(?: (?:{_PART} (?:{_NUMBER})* [\W_]+ (?:of[\W_]+)?)+ (?!{_PART}) (?=[^\W\d_]+{_NUMBER})
    | (?:img|image|im|z|t){_NUMBER} [\W_]+ (?=(?:{_PERSON}|video|vid|scene|sequence|seq|volume|vol|slide){_NUMBER})
    | \d[\d\W_]* [\W_] (?=(?:{_PERSON}){_NUMBER})
    | (?:left|right|od|os) [\W_]* (?=\d) )""",
    re.IGNORECASE | re.VERBOSE,
)
"""Part, side, picture or day before an id: `slice_003_` of `slice_003_P01`, `20190101_` of `20190101_patient7`."""
_SEPARATOR = re.compile(r"[\W_]")
_YEAR = re.compile(r"(?:19|20)\d\d")


class FoundGroups(NamedTuple):
    """Groups of images that their paths tell."""

    by_stem: dict[str, str]
    """Group of each stem that has one; {} if there are none for sure."""
    by: str | None
    """What tells them: `folder` or `name`."""
    possible: Sequence[str] = ()
    """What may be groups, or kinds, if nothing is sure."""


def assign_images(place: DataSource, reading: ReadResult) -> tuple[dict[str, SplitAssignment], str | None]:
    """Return split and group of each image, and the source of the groups: `split.csv` if it exists, else the format."""
    sides = {sample.stem: sample.side for sample in reading.samples}
    has_splits = any(side.split for side in sides.values())
    path = place.find_file(place.root / "split.csv")
    if path is not None:
        if has_splits:
            place.notes.append("split.csv decides the split; the one that the annotations give is not used.")
        rows = read_split_csv(path, sorted(sides), place.problems)
        sides = {stem: rows.get(stem, SplitAssignment()) for stem in sides}
        return group_sides(place, reading.samples, sides, path.name if "group" in read_header(path) else None)
    if not has_splits:
        unread = {place.format_name(path) for path in place.tables if "split" in read_header(path)} - {reading.place}
        place.tally.add("table", "with a column split, which is not read: that of split.csv is", *unread)
        listed = _read_split_lists(place, reading.samples)
        sides = {stem: side._replace(split=listed.get(stem)) for stem, side in sides.items()}
    splits = {side.split for side in sides.values()}
    if len(splits) == 1 and splits <= {"val", "test"}:
        place.notes.append(f"All images are of the split {splits.pop()}, by their folder: they are divided again.")
        sides = {stem: side._replace(split=None) for stem, side in sides.items()}
    by = "the annotations" if any(side.group for side in sides.values()) else None
    return group_sides(place, reading.samples, sides, by)


def _read_split_lists(place: DataSource, samples: Sequence[Sample]) -> dict[str, SplitName]:
    """Return the split of images in lists, such as train.txt, val_list.txt and test.lst, in any folder.

    The first word of a line names an image by the end of its path, with or without extension, or a folder of images.
    Lines that name neither, or several images, are passed over. Lists of usual folders come first; those of others
    count if they agree.
    """
    stems_by_end: dict[str, set[str]] = defaultdict(set)
    stems_by_folder: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        for end in (*_list_ends(sample.name.rpartition(".")[0]), *_list_ends(sample.stem)):
            stems_by_end[end].add(sample.stem)
        for end in _list_ends(sample.name.rpartition("/")[0]):
            stems_by_folder[end].add(sample.stem)

    def find_stems(line: str) -> set[str]:
        word = line.split(maxsplit=1)[0].replace("\\", "/").rstrip("/")
        ends = [end for text in (word, word.rpartition(".")[0]) for end in _list_ends(text)]
        of_image = next((stems_by_end[end] for end in ends if end in stems_by_end), set())
        return of_image if len(of_image) == 1 else stems_by_folder.get(word, set())

    lists: dict[Path, list[tuple[Path, SplitName]]] = defaultdict(list)
    for path in place.files:
        if split := _find_list_split(path):
            lists[path.parent].append((path, split))
    bases = {place.root, *(place.root / Path(sample.name).parent.parent for sample in samples)}
    usual = {base / folder for base in bases for folder in LIST_FOLDERS}
    splits: dict[str, SplitName] = {}
    used: list[str] = []
    for folder in sorted(lists, key=lambda folder: (folder not in usual, folder)):
        found: dict[str, SplitName] = {}
        counts: list[str] = []
        for path, split in lists[folder]:
            lines = dict.fromkeys(line for line in map(normalise_text, place.read_lines(path)) if line.strip())
            named = [*map(find_stems, lines)]
            for stem in chain.from_iterable(named):
                if (first := found.setdefault(stem, split)) != split:
                    place.add_problem(path, f"{stem} must be in one list, found it in that of {first}, too; remove one")
            counts += [f"{place.format_name(path)} ({sum(map(bool, named))} of {len(lines)} lines name images)"]
        if all(splits.get(stem, split) == split for stem, split in found.items()):
            splits, used = found | splits, used + counts
        else:
            place.tally.add(
                "list", "contradicting others, unread", *(place.format_name(path) for path, _ in lists[folder])
            )
    if used:
        given = f"{len(splits)} of {format_count(len(samples), 'image')}"
        place.notes.append(f"Lists give the split of {given}; others are divided: {abbreviate(used, 6)}.")
    return splits


def _find_list_split(path: Path) -> SplitName | None:
    """Return the split of a file that is called like a list of one, else None."""
    if path.suffix.lower() not in LIST_SUFFIXES:
        return None
    words = {*re.split(r"[\W_]+", path.stem.lower())}
    splits = {SPLITS[word] for word in words & SPLITS.keys()}
    is_list_of_one = len(splits) == 1 and words <= {*SPLITS, *_LIST_WORDS}
    return splits.pop() if is_list_of_one else None


def _list_ends(path: str) -> list[str]:
    """Return a path without its first folders, from the whole path to the name alone."""
    parts = path.split("/")
    return ["/".join(parts[begin:]) for begin in range(len(parts))]


def group_sides(
    place: DataSource, samples: Sequence[Sample], sides: Mapping[str, SplitAssignment], requested: str | None
) -> tuple[dict[str, SplitAssignment], str | None]:
    """Return the sides with groups assigned as `place.groups` requests, and what the groups were taken from.

    `requested` is the source of the groups in `sides`, `split.csv` or the annotations; None = they have none.
    """
    paths = {one.stem: PurePosixPath(one.name.removesuffix(" (imageData)")) for one in samples}
    by: str | None = place.groups
    if by == FOLDER:
        by_stem = _divide_by_level(paths, _get_folders, 2)
        if not by_stem and paths:
            place.problems.append(
                f"--groups {FOLDER}: two folders must hold several images each, found fewer; leave it out"
            )
    elif by not in (AUTO, NONE):
        by_stem, by = _match_expression(place, paths, place.groups), f"--groups {by}"
    elif by == NONE or requested is not None or {side.split for side in sides.values()} == {"train", "val", "test"}:
        return dict(sides), requested
    else:
        by_stem, by = _detect_groups(place, paths)
    return {stem: side._replace(group=by_stem.get(stem)) for stem, side in sides.items()}, by


def format_groups(dataset: Dataset) -> str | None:
    """Return `6 groups by folder (P01, P02, …)`; None if there are no groups."""
    sides: dict[str, set[str | None]] = {}
    for image in dataset.images:
        if image.group is not None:
            sides.setdefault(image.group, set()).add(image.split)
    by = f" by {dataset.grouped_by}" if dataset.grouped_by else ""
    parted = sum(len(fixed_sides - {None}) > 1 for fixed_sides in sides.values())
    but = f", {parted} of them parted as the split is given" if parted else ""
    return f"{format_count(len(sides), 'group')}{by} ({abbreviate(sorted(sides), 3)}){but}" if sides else None


def _detect_groups(place: DataSource, paths: _Paths) -> tuple[dict[str, str], str | None]:
    """Return the groups found in folders or names, and in which; note possible groups as a warning."""
    found = find_groups(paths)
    if found.possible:
        words = r"([^\d/]*[^\W\d_])[\W_]*\d" if any(map(_SEPARATOR.search, found.possible)) else r"([^\W\d_]+)"
        rule = found.by or f"'{words}[^/]*$'"
        place.notes.append(
            f"Images may belong together by their folders or names ({abbreviate(found.possible, 3)}), and are trained "
            f"on and tested one by one, as these may be kinds, or too few to train, validate and test: --groups {rule} "
            f"keeps those of each together, --groups {NONE} ends this warning."
        )
    return found.by_stem, found.by if found.by_stem else None


def find_groups(paths: _Paths) -> FoundGroups:
    """Return the groups of images by their folders, or else by ids in their names, given the path of each stem."""
    by_stem = _divide_by_level(paths, _get_folders)
    kinds = {*by_stem.values()}
    if len(kinds) > _MOST_KINDS or not all(re.fullmatch(r"[^\W\d]{3,}", re.sub(r"[\W_]", "", one)) for one in kinds):
        return FoundGroups(by_stem, FOLDER)
    if by_stem := _divide_by_level(paths, _get_ids):
        return FoundGroups(by_stem, "name")
    of_folders, of_ids = (_divide_by_level(paths, divide, 2) for divide in (_get_folders, _get_ids))
    two = {*of_folders.values()} or {*of_ids.values()}
    known = kinds or two
    names = known or {*_divide_by_level(paths, _split_words).values()}
    return FoundGroups({}, FOLDER if kinds else None, sorted(names))


def _divide_by_level(
    paths: _Paths, chain_of: Callable[[str, PurePosixPath], list[str]], fewest: int = MIN_GROUPS
) -> dict[str, str]:
    """Return the group of each grouped stem, by the outermost level with at least `fewest` groups; {} if there is none.

    A chain lists an image's candidate groups, the outermost first, and last a name unique to the image.
    """
    chains = {stem: chain_of(stem, path) for stem, path in paths.items()}
    for level in range(max(map(len, chains.values()), default=0)):
        by_stem = {stem: chain[min(level, len(chain) - 1)] for stem, chain in chains.items()}
        sizes = Counter(by_stem.values())
        if len(sizes) >= fewest:
            several = sum(size > 1 for size in sizes.values()) > MIN_GROUPS - fewest
            single = {stem for stem, group in by_stem.items() if sizes[group] == 1 and group == chains[stem][-1]}
            return {stem: by_stem[stem] for stem in by_stem if stem not in single} if several else {}
    return {}


def _get_folders(_: str, path: PurePosixPath) -> list[str]:
    names = [part for part in path.parts[:-1] if not _is_meaningless(part)]
    return [*("/".join(names[:n]) for n in range(1, len(names) + 1)), str(path)]


def _get_ids(stem: str, _: PurePosixPath) -> list[str]:
    whole = stem.rpartition("/")[2]
    name = _PART_FIRST.sub("", whole) if _PART_FIRST.match(whole) else whole
    begins = [name[: match.start()] for match in re.finditer(r"[\W_]+", name)]
    begins += [name] * (name != whole)
    begins += _JOINED.findall(name)
    numbered = [text for text in begins if re.search(r"\d", text)]
    ids = [text for text in numbered if not _YEAR.fullmatch(text)]
    return [*(text for text in ids if not _is_meaningless(re.split(r"[\W_]+", text)[-1])), stem]


def _split_words(stem: str, _: PurePosixPath) -> list[str]:
    """Return the first word before a number, and all words before it: `video`, `video_anna` of `video_anna_001`."""
    first = re.findall(r"(?:^|/)([^\W\d_]+)[\W_][^/]*\d[^/]*$", stem)
    return [*first, *re.findall(r"(?:^|/)([^\d/]*[^\W\d_])[\W_]*\d[^/]*$", stem), stem]


def _is_meaningless(text: str) -> bool:
    """Return whether a name is made of words for splits and images, like `train2017` or `images`."""
    words = {*re.split(r"[\W\d_]+", text.lower())} - {""}
    known = SPLITS.keys() if re.search(r"\d", text) else _WORDS
    return bool(words) and words <= known


def _match_expression(place: DataSource, paths: _Paths, pattern: str) -> dict[str, str]:
    """Return the first text that a regular expression matches in the path of each image, without its extension."""
    groups = {}
    for stem, path in paths.items():
        matches = re.finditer(pattern, str(path.with_suffix("")))
        groups[stem] = next((text for one in matches for text in (*one.groups(), one[0]) if text), "")
    missing = [str(path) for stem, path in paths.items() if not groups[stem]]
    if missing:
        place.problems.append(
            f"--groups {pattern}: must match the path of every image, found no match in {abbreviate(missing, 3)}; "
            f"--groups '{pattern}|([^/]+)$' makes each of them a group of its own"
        )
    return groups
