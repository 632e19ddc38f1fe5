"""Load the user's data argument (a folder, a zip file or `synthetic:NAME?…`) as a `Dataset` with its decoded store."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import PIL
import tifffile

from sweeper.core.errors import DataError, UsageError
from sweeper.core.paths import expand_user
from sweeper.core.records import Dataset, Patterns
from sweeper.core.text import escape_for_display
from sweeper.data.class_map import ClassMap, take_overlap
from sweeper.data.colours import COLOUR_FILES, is_colour_table, read_colours
from sweeper.data.formats import FormatMatch, choose_format
from sweeper.data.formats.base import DataSource
from sweeper.data.groups import AUTO, LIST_SUFFIXES, NONE
from sweeper.data.open_image import IMAGE_SUFFIXES, MASK_SUFFIXES
from sweeper.data.parallel import Tick
from sweeper.data.problem_lines import check_no_address, group_problems
from sweeper.data.read import read_dataset
from sweeper.data.store import is_intact
from sweeper.data.synthetic import PREFIX, compute_scene_fingerprint, parse_scene, read_scenes
from sweeper.data.text_tables import check_numbered_names, read_classes, read_header, read_table_rows
from sweeper.system.machine import check_room
from sweeper.system.whole_files import remove_left, replace_atomically

Log = Callable[[str], None]

READER = "formats/22"
"""Raised when a reader's pixels, splits or checks change, so that cached data sets are read again."""
NUMBERED, _NUMBERED = "_classes.csv", ("pixel value", "class")
"""Name and required columns of Roboflow's class table next to its masks."""
ENTRY_SUFFIXES = (".json", ".yaml", ".yml", ".csv")
"""Suffixes of annotation files that may be given instead of their folder."""
_READ = (*ENTRY_SUFFIXES, *IMAGE_SUFFIXES, *MASK_SUFFIXES, *LIST_SUFFIXES, ".zip")
"""Suffixes of files that a reader may open."""

NOTES = "sources"
"""Folder of the cache, with a note for each source: its state, and the set decoded from it."""


def load_dataset(
    source: str,
    cache: Path,
    log: Log = lambda line: None,
    *,
    format: str | None = None,
    patterns: Patterns | None = None,
    class_map: ClassMap | None = None,
    groups: str = AUTO,
    tick: Tick = lambda done, every: None,
) -> Dataset:
    """Read a data set and decode it into the store below `cache`, or reuse what an earlier start decoded.

    Args:
        source: path of a folder, a zip archive, the annotation file in a folder, or `synthetic:NAME?key=value&…`.
        cache: folder for decoded data sets, created if missing. Several processes may use it at once.
        log: called with one line about the format found, and with one if something is damaged.
        format: name of the annotations' format (`sweeper.data.formats.FORMATS`); None = detected.
        patterns: patterns of images and masks below the folder; None = those of the format.
        class_map: classes to merge, rename or ignore (`sweeper.data.class_map`); None = all unchanged.
        groups: how images are grouped: auto, none, folder, or a regular expression (`sweeper.data.groups`).
        tick: called after each image with the number of images decoded or drawn, and of all.

    An unchanged source (same names, sizes and times of all its files) is neither decoded nor hashed again.

    Raises:
        DataError: the data set has problems; the error lists all of them.
        UsageError: the folder does not exist, the cache cannot be written, or there is no such format.
    """
    cache = cache.absolute()
    if source.startswith(PREFIX):
        options = {
            "--images": patterns,
            "--format": format,
            "--class-map": class_map,
            "--groups": None if groups in (AUTO, NONE) else groups,
        }
        option = next((name for name, value in options.items() if value is not None), None)
        if option:
            raise UsageError(f"{option} is for files, and {source} is drawn; leave it out")
        scene = parse_scene(source)
        key, state = f"{PREFIX}{scene.name}", compute_scene_fingerprint(scene)
        dataset = load_or_make(cache, key, state, lambda: read_scenes(scene, source, cache, log, tick), log=log)
        return dataset.model_copy(update={"source": source})
    request: dict[str, Any] = {"patterns": patterns, "class_map": class_map, "groups": groups}
    place = _place(source)
    place.patterns, place.groups = patterns, groups
    place.class_map, place.overlap = take_overlap(class_map or {})
    variant = "".join(f"{value}:" for value in request.values() if value is not None)
    read = partial(_read, source=source, cache=cache, log=log, tick=tick)
    if place.root.suffix.lower() == ".zip" and place.root.is_file():
        key, state = f"zip:{format}:{variant}{place.root.resolve()}", _compute_fingerprint("", [("", place.root)])

        def make() -> Dataset:
            with unpack_archive(place.root, cache) as folder:
                inside = replace(place, root=folder, called=place.root.stem, archive=place.root)
                return read(choose_format(inside, format))

    else:
        try:
            match = choose_format(place, format)
            state = _compute_fingerprint(match.layout.line, match.place.listing)
        except PermissionError as error:
            what = error.filename or place.root
            raise DataError(
                place.title, [f"{what}: must be a folder that can be read ({error.strerror}); change its permissions"]
            ) from error
        key = f"{match.name}:{variant}{(match.place.entry or match.place.root).resolve()}"
        make = partial(read, match)
    return load_or_make(cache, key, state, make, log=log).model_copy(update={**request, "source": source})


def _place(source: str) -> DataSource:
    """Return the source's folder; for an annotation file its folder and the file, for an archive the archive."""
    path = expand_user(source)
    if not os.path.exists(path):  # noqa: PTH110 (never raises, whatever the name)
        check_no_address("DATA", source)
    try:
        named = path.is_file() and path.suffix.lower() in ENTRY_SUFFIXES
    except (OSError, ValueError) as error:
        raise DataError(source, [f"{source}: must be a folder, and that is no name of one ({error})"]) from error
    return DataSource(path.parent, path) if named else DataSource(path)


def _read(match: FormatMatch, source: str, cache: Path, log: Log, tick: Tick) -> Dataset:
    """Read class names and the map of colours next to the annotations, then annotations and images."""
    place = match.place
    line = escape_for_display(match.layout.line)
    log(f"reading {escape_for_display(place.title)}, {line}")
    if (path := place.find_file(place.root / "classes.txt")) is not None:
        place.classes = read_classes(path, place.problems)
    else:
        numbered = [path for path in place.files if path.name == NUMBERED]
        tables = [path for path in numbered if {*_NUMBERED} <= {*read_header(path)}]
        of_tables = (read_table_rows(path, place.format_name(path), _NUMBERED, place.problems) for path in tables)
        pairs = [(row[_NUMBERED[0]], row[_NUMBERED[1]]) for rows in of_tables for _, row in rows]
        if tables:
            place.classes = check_numbered_names(NUMBERED, pairs, place.problems)
    found = [place.find_file(place.root / name) for name in COLOUR_FILES]
    maps = [path for path in found if path is not None]
    maps += [path for path in place.tables if is_colour_table(path)]
    if maps:
        place.colours = read_colours(maps[0], place.classes, place.problems)
    dataset = read_dataset(place, match.layout.read, match.name, cache, tick)
    return dataset.model_copy(update={"source": source, "read_as": line})


def _compute_fingerprint(line: str, files: Sequence[tuple[str, Path]]) -> str:
    """Return a digest that changes if a readable file is added, removed, renamed or written; no file is opened."""
    relevant = [(below, path) for below, path in files if path.suffix.lower() in _READ or path.is_symlink()]
    rows = sorted((below, *_stamp(path)) for below, path in relevant)
    text = json.dumps([READER, line, PIL.__version__, tifffile.__version__, rows])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int]:
    """Return size and times in nanoseconds; the change time reveals a copy that kept its modification time."""
    try:
        stat = path.stat()
    except OSError:  # a broken link: the reader reports it
        return 0, 0, 0
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@contextmanager
def unpack_archive(archive: Path, cache: Path) -> Iterator[Path]:
    """Yield a folder below `cache` with the files of an archive; it is deleted at the end.

    `zipfile` writes no file outside that folder, and makes no links, whatever the names in the archive are.

    Raises:
        DataError: the archive is damaged, locked with a password, or has two files of one name.
        UsageError: its files do not fit on the disk, or the cache cannot be written.
    """
    with ExitStack() as stack:
        try:
            with zipfile.ZipFile(archive) as content:
                for info in content.infolist():
                    info.filename = info.filename.replace("\\", "/")  # as older programs for Windows write it
                names = Counter(info.filename for info in content.infolist() if not info.is_dir())
                # The second of equal names would replace the first.
                repeated = [name for name, number in names.items() if number > 1]
                if repeated:
                    problem = "is in the archive more than once; keep one, or rename the other"
                    raise DataError(str(archive), group_problems([f"{name}: {problem}" for name in repeated]))
                check_room("the unpacked archive", cache, sum(info.file_size for info in content.infolist()))
                cache.mkdir(parents=True, exist_ok=True)
                folder = stack.enter_context(
                    TemporaryDirectory(prefix=".writing-", dir=cache, ignore_cleanup_errors=True)
                )
                content.extractall(folder, content.infolist())
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
            rule = f"{archive}: must be a whole zip archive, and cannot be unpacked ({error})"
            raise DataError(str(archive), [f"{rule}; copy it again, or unpack it, and name the folder"]) from error
        except OSError as error:
            raise UsageError(
                f"{archive} must be unpacked below {cache}, and that failed: {error}; start in another "
                "folder where that is the disk at fault, or unpack it, and name the folder"
            ) from error
        yield Path(folder)


def load_or_make(cache: Path, key: str, state: str, make: Callable[[], Dataset], *, log: Log) -> Dataset:
    """Return the data set that an earlier start made from this state, else make it and store a note.

    The key identifies the source and its options; the state changes whenever `make` would give another result. `log`
    receives a line if the data set was decoded earlier, and if something is damaged. What killed processes left half
    written is deleted after a day.

    Raises:
        UsageError: the cache cannot be written.
    """
    remove_left(cache, ".writing-*")
    remove_left(cache / NOTES)
    note = cache / NOTES / (hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".json")
    remembered = _load_remembered(cache, note, state, log)
    if remembered is not None:
        for folder in Path(remembered.store).glob("*/"):
            remove_left(folder)
        if remembered.read_as is not None:
            log(f"{escape_for_display(remembered.source)}, {remembered.read_as} (decoded earlier)")
        return remembered
    try:
        made = make()
        note.parent.mkdir(parents=True, exist_ok=True)
        document = made.model_dump(mode="json")
        text = json.dumps({"state": state, "dataset": document, "crc32": _compute_checksum(document)})
        with replace_atomically(note) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"decoded images must be written below {cache}, and that failed: {error}; make room, or start in "
            "another folder"
        ) from error
    return made


def _load_remembered(cache: Path, path: Path, state: str, log: Log) -> Dataset | None:
    """Return the data set noted at `path` for this state of the source, if note and store are intact; else None.

    `log` receives a line if something is damaged.
    """
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        if note["state"] != state:
            return None
        if note["crc32"] != _compute_checksum(note["dataset"]):
            log(f"cache entry {path} is corrupt; reading the data set again")
            return None
        dataset = Dataset.model_validate(note["dataset"], extra="ignore")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    store = cache / dataset.digest.removeprefix("sha256:")  # the cache may have been moved since
    if not is_intact(store):
        log(f"the decoded images in {store} are gone or not what their checksums say; decoding them again")
        return None
    return dataset.model_copy(update={"store": str(store)})


def _compute_checksum(dataset: object) -> int:
    return zlib.crc32(json.dumps(dataset, sort_keys=True).encode())
