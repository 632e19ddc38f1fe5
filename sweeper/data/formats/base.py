"""Types and helpers of all annotation readers.

A format finds its annotations in a `DataSource` and returns a `FormatLayout`. Its `read` looks at names and annotation
files, decodes no image, and returns one `Sample` per image with a function that makes its mask. All later steps
(decoding, checks, the store, the digest) are shared: `sweeper.data.read`.
"""

from __future__ import annotations

import os
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweeper.core.errors import DataError
from sweeper.core.label_planes import LabelMap, pack_planes
from sweeper.core.paths import get_file_kind
from sweeper.core.records import IGNORE, Patterns, SplitName
from sweeper.core.text import abbreviate, escape_for_display, format_count
from sweeper.data.class_map import ClassMap
from sweeper.data.colours import Colour, ColourMap
from sweeper.data.decode import ColourMaskError
from sweeper.data.open_image import IMAGE_SUFFIXES, Source
from sweeper.data.problem_lines import group_problems
from sweeper.data.store import Pixels
from sweeper.data.text_tables import SPLITS, SplitAssignment, normalise_text, read_text

Size = tuple[int, int]
"""Height and width in pixels."""

_HIDDEN = ("thumbs.db", "desktop.ini", "__macosx")


class Sample(NamedTuple):
    """One image and its label."""

    stem: str
    name: str
    """Display name of the image's file: its path below the root, escaped."""
    sources: tuple[Source, ...]
    """Usually one; several are stacked as channels."""
    mask: Callable[[Size | None], LabelMap | None]
    """Makes the mask, (H, W), given the upright image's size. None = the image is unreadable; then shapes give
    None, while a mask's file is still read. Raises `UnreadableFileError`."""
    mask_name: str
    """Display name of the label's file."""
    side: SplitAssignment = SplitAssignment()
    is_sized: bool = True
    """Whether the label records the size of the image on which it was drawn."""


@dataclass
class ReadResult:
    """Result of a reader."""

    samples: list[Sample]
    classes: tuple[str, ...] = ()
    """Class names in index order; none = made from the labels that occur."""
    indices: bool = False
    """Whether masks are known to hold class indices and 255 for ignore, so that the rule of 255 does not apply."""
    place: str = ""
    """Place of the labels, for messages about the whole set: `masks/`."""


class WarningCounter:
    """Warnings that apply to many files, reported in one sentence each; thread-safe, as are the methods of its dict."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], set[str]] = {}

    def add(self, noun: str, what: str, *names: str) -> None:
        """Add names of files for a warning; `what` continues `3 files` (of the noun `file`), so it has no verb."""
        if names:
            self._names.setdefault((noun, what), set()).update(names)

    def has_warning(self, noun: str, what: str) -> bool:
        """Return whether the warning was added for any name."""
        return (noun, what) in self._names

    def format_sentences(self) -> list[str]:
        """Return one sentence per warning, with the first few names."""
        return [
            f"{format_count(len(names), noun)} {what}: {abbreviate(sorted(names))}."
            for (noun, what), names in sorted(self._names.items())
        ]


@dataclass
class DataSource:
    """The folder to read, settings next to its annotations, and the problems found."""

    root: Path
    entry: Path | None = None
    """The annotation file, if the user gave one instead of a folder."""
    patterns: Patterns | None = None
    """Patterns of images and masks, if the user gave them."""
    class_map: ClassMap = field(default_factory=dict)
    """The user's class map, or that of a format whose labels are regions."""
    overlap: str | None = None
    """Whether pixels keep all classes of masks or shapes that overlap, or one counts; None = the user did not say."""
    planes: tuple[str, ...] = ()
    """Classes whose bits the masks hold, as the user keeps them apart; empty if masks hold numbers."""
    overlaps: list[tuple[int, int]] = field(default_factory=list)
    """Pixels of several classes, and of any, in each image whose classes have a mask or shapes each."""
    groups: str = "auto"
    """Grouping of images: auto, none, folder, or a regular expression."""
    called: str | None = None
    """The set's name, if it differs from the root's."""
    above: str = ""
    """Path from the folder that the user gave to the root, such as `top/set/`."""
    archive: Path | None = None
    """The archive that was unpacked into the root or a folder above it."""
    classes: tuple[str, ...] | None = None
    """Names of `classes.txt`."""
    colours: ColourMap | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Warnings, in sentences."""
    tally: WarningCounter = field(default_factory=WarningCounter)
    lossy: set[str] = field(default_factory=set)
    """Names of mask files in a lossy format."""
    colour_faults: dict[str, ColourMaskError] = field(default_factory=dict)
    """Faults of coloured masks without a map, by the masks' names."""
    palettes: dict[str, dict[int, Colour]] = field(default_factory=dict)
    """Number → colour of each mask with a palette that is read by its numbers, by its name."""
    colour_counts: dict[str, dict[Colour, int]] = field(default_factory=dict)
    """Pixels of each colour in each mask in colours without a map, by its name; {} where there are too many."""
    describe_way_out: Callable[[], str] = str
    """Returns the step that selects one mask if an image has several."""
    open_turns: dict[str, int] = field(default_factory=dict)
    """Stem → EXIF orientation that its label may still need."""

    @cached_property
    def listing(self) -> tuple[tuple[str, Path], ...]:
        """All files that may be read, sorted by path, each with its path below the root in composed form.

        Raises:
            DataError: a link leads out of the root, or something is neither a file nor a folder. As readers find files
                only here, nothing was opened before.
        """
        root, files = self.root.resolve(), [*walk_files(self.root)]
        found = [(path, _find_file_fault(root, path)) for path in files]
        faults = [f"{self.format_name(path)}: {fault}" for path, fault in found if fault is not None]
        DataError.refuse(self.title, group_problems(faults))
        return tuple((normalise_text(path.relative_to(self.root).as_posix()), path) for path in files)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Paths of the listing."""
        return tuple(path for _, path in self.listing)

    @cached_property
    def images(self) -> dict[Path, None]:
        """The files that may be images, by their suffixes, in order."""
        return dict.fromkeys(path for path in self.files if path.suffix.lower() in IMAGE_SUFFIXES)

    @cached_property
    def tables(self) -> tuple[Path, ...]:
        """The CSVs in the root itself."""
        here = [path for path in self.files if path.parent == self.root]
        return tuple(path for path in here if path.suffix.lower() == ".csv")

    def list_candidates(self, *suffixes: str) -> list[Path]:
        """Return the files of these suffixes that may be annotations: the one that the user gave, else all."""
        files = (self.entry,) if self.entry else self.files
        return [path for path in files if path.name.lower().endswith(suffixes)]

    @cached_property
    def by_path(self) -> dict[str, Path]:
        """Files by their absolute path in composed form."""
        root = normalise_text(os.path.abspath(self.root))  # noqa: PTH100 (links stay what they are)
        return {f"{root}/{below}": path for below, path in self.listing}

    @cached_property
    def by_name(self) -> dict[str, list[Path]]:
        """Files by their name in composed form and lower case."""
        by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.files:
            by_name[normalise_text(path.name).casefold()].append(path)
        return dict(by_name)

    def find_file(self, path: Path) -> Path | None:
        """Return the listed file of this path, if need be in another case; the path itself if a folder; else None."""
        name = normalise_text(os.path.abspath(path))  # noqa: PTH100 (links stay what they are)
        file = self.by_path.get(name)
        if file is not None or path.is_dir():
            return file or path
        named = self.by_name.get(name.rpartition("/")[2].casefold(), ())
        paths = {normalise_text(os.path.abspath(file)): file for file in named}  # noqa: PTH100
        alike = [file for path, file in paths.items() if path.casefold() == name.casefold()]
        return alike[0] if len(alike) == 1 else None

    @property
    def names(self) -> tuple[str, ...]:
        """Class names from `classes.txt`, else from the map of colours; none without either."""
        of_colours = self.colours.names if self.colours else ()
        return self.classes or of_colours

    @property
    def name_of_set(self) -> str:
        """Name of the set, from its folder or archive."""
        name = self.called or self.root.resolve().name
        return escape_for_display(name or "data")

    @property
    def title(self) -> str:
        """Name of the source, for messages."""
        return str(self.archive or self.root)

    def format_name(self, path: Path) -> str:
        """Return a path for display."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def join_classes(self, parts: Mapping[int, NDArray[np.bool_]], flat: Pixels) -> LabelMap:
        """Return the label map of an image whose classes have a mask each.

        Args:
            parts: label → mask (H, W), without the background and what is ignored.
            flat: the labels if one class of each pixel counts; it decides on background and ignored pixels in any case.
        """
        times = np.sum([np.zeros(flat.shape, np.uint8), *parts.values()], axis=0, dtype=np.uint8)
        self.overlaps.append((int(np.count_nonzero(times > 1)), int(np.count_nonzero(times))))
        if not self.planes:
            return flat
        nowhere = np.zeros(flat.shape, dtype=bool)
        marks = [parts.get(number, nowhere) & (flat > 0) for number in range(1, len(self.planes) + 1)]
        return pack_planes(marks, flat == IGNORE)

    def add_problem(self, path: Path, fault: object) -> None:
        """Add a problem of a file: rule, value found, next step."""
        self.problems.append(f"{self.format_name(path)}: {fault}")

    def read_lines(self, path: Path) -> list[str]:
        """Return the lines of a text file; [] if it is missing or, with a problem, unreadable."""
        file = self.find_file(path)
        text = None if file is None else read_text(file, self.problems, self.format_name(file))
        return (text or "").splitlines()


class FormatLayout(NamedTuple):
    """Annotations that were found, not read yet."""

    line: str
    """Description of the finding."""
    read: Callable[[], ReadResult]


class AnnotationFormat(NamedTuple):
    """One kind of annotation."""

    text: str
    """Description of such a data set, in a few words."""
    find: Callable[[DataSource], FormatLayout | None]
    """Finds such annotations, or returns None; opens as few files as possible."""


def walk_files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files (also pipes etc.) in and below a folder, sorted by path, without hidden ones.

    Links to folders are followed, except to a folder `above`; a link out of the first folder is yielded itself.
    """
    here = folder.resolve()
    if here in above:
        return
    if above and not here.is_relative_to(above[0]):
        yield folder
        return
    for name, is_folder in list_entries(folder):
        if is_folder:
            yield from walk_files(folder / name, (*above, here))
        else:
            yield folder / name


def _find_file_fault(root: Path, path: Path) -> str | None:
    """Return why a file must not be opened: it is outside the resolved `root`, or no regular file; else None."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            target = path.resolve(strict=True)
            if not target.is_relative_to(root):
                return f"must lie inside the data folder, found a link to {target}; copy what it leads to, or remove it"
            mode = target.stat().st_mode
    except (OSError, RuntimeError):  # a link to itself or to nothing, which cannot be read
        return None
    return None if stat.S_ISREG(mode) else f"must be a file or a folder, found a {get_file_kind(mode)}; remove it"


def list_entries(folder: Path) -> list[tuple[str, bool]]:
    """Return the sorted names in a folder without hidden ones, and whether each is a folder."""
    with os.scandir(folder) as entries:
        shown = [one for one in entries if not one.name.startswith(".")]
        seen = [one for one in shown if one.name.lower() not in _HIDDEN]
        # Of a link to itself, which cannot be read, only os.path returns False.
        return sorted((one.name, os.path.isdir(one) if one.is_symlink() else one.is_dir()) for one in seen)  # noqa: PTH112


def find_split(parts: Iterable[str]) -> SplitName | None:
    """Return the split given by the last of these folder names that denotes one."""
    for part in reversed([*parts]):
        if part.lower() in SPLITS:
            return SPLITS[part.lower()]
    return None


def make_unique_stems(place: DataSource, files: Sequence[Path]) -> list[str]:
    """Return a stem for each image: the file's, or, if repeated, the path below the root without extension."""
    stems = [normalise_text(path.stem) for path in files]
    if len(set(stems)) == len(stems):
        return stems
    return [normalise_text(path.relative_to(place.root).with_suffix("").as_posix()) for path in files]


def drop_repeated(place: DataSource, samples: list[Sample]) -> list[Sample]:
    """Return the samples with a unique stem, sorted; repeated stems become problems."""
    counts = Counter(sample.stem for sample in samples)
    for stem in sorted(stem for stem, n in counts.items() if n > 1):
        same = [sample for sample in samples if sample.stem == stem]
        files = [f"{sample.name} ({sample.mask_name})" for sample in same]
        place.problems.append(
            f"{stem}: a stem may name one image, found {abbreviate(files)}; rename, remove or join one"
        )
    return sorted((sample for sample in samples if counts[sample.stem] == 1), key=lambda sample: sample.stem)
