"""A data set in a zip file: its files are unpacked below the cache, read, and deleted.

An archive comes from strangers: no file is written outside its folder, links and locked files are refused, and what
would be unpacked is weighed before a byte of it is written.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from sweeper.core.errors import DataError, UsageError
from sweeper.core.regular_files import open_regular
from sweeper.data.decode import IMAGE_SUFFIXES, MASK_SUFFIXES
from sweeper.data.problem_lines import grouped
from sweeper.data.store import new_name
from sweeper.data.text_tables import shown
from sweeper.system.disk_space import check_room

SUFFIX = ".zip"
MOST_FILES = 1_000_000
MOST_FOLDERS, MOST_BYTES = 40, 255
"""Parts of a path, and bytes of each."""
MOST_GROWTH = 200
"""Times the archive's size that its files may take together, beyond `FREE_GROWTH`; more is no set of images."""
FREE_GROWTH = 1 << 28
_KINDS = (*IMAGE_SUFFIXES, *MASK_SUFFIXES, ".txt", ".csv", ".json", ".yaml", ".yml", ".nii", ".gz")
"""What a reader may look at."""
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def is_zip(path: Path) -> bool:
    """Whether a path names a file that is called a zip archive."""
    return path.suffix.lower() == SUFFIX and path.is_file()


@contextmanager
def unpacked(archive: Path, cache: Path) -> Iterator[Path]:
    """A folder below `cache` with the files of an archive that a reader may look at; deleted at the end.

    Raises:
        DataError: it is no whole zip archive, holds names that lead out of it, links or locked files, or is a bomb.
        UsageError: its files do not fit on the disk, or the cache cannot be written.
    """
    made = [folder for folder in (cache, *cache.parents) if not folder.exists()]
    folder = new_name(cache, ".writing-")
    done = False
    try:
        with open_regular(archive) as file, zipfile.ZipFile(file) as content:
            files = _wanted(archive, content)
            check_room("the unpacked archive", cache, sum(info.file_size for info, _ in files))
            folder.mkdir(parents=True)
            _unpack(archive, content, files, folder)
        yield folder
        done = True
    except zipfile.BadZipFile as error:
        raise DataError(
            shown(archive), [f"{shown(archive)}: must be a whole zip archive, found another ({error}); copy it again"]
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not done:  # refused data leave no empty folders behind
            with suppress(OSError):
                for one in made:
                    one.rmdir()


def _wanted(archive: Path, content: zipfile.ZipFile) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The entries that are to be unpacked, each with its place in the folder.

    Raises:
        DataError: with all that is wrong with their names and sizes.
    """
    problems: list[str] = []
    places: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in content.infolist():
        place = PurePosixPath(info.filename.replace("\\", "/"))
        name = shown(info.filename) if len(info.filename) <= 200 else f"{shown(info.filename[:200])}…"
        if place.is_absolute() or ".." in place.parts or ":" in (place.parts or ("",))[0][1:2]:
            problems.append(f"{name}: must lie inside the archive, found a path that leads out of it; pack it again")
        elif info.is_dir() or _passed_over(place):
            continue
        elif len(place.parts) > MOST_FOLDERS or max(len(os.fsencode(part)) for part in place.parts) > MOST_BYTES:
            problems.append(
                f"{name}: may have {MOST_BYTES} bytes in a name and {MOST_FOLDERS - 1} folders, found more; shorten it"
            )
        elif stat.S_ISLNK(info.external_attr >> 16):
            problems.append(f"{name}: must be a file, found a link; pack the file itself")
        elif info.flag_bits & 1:
            problems.append(f"{name}: must not be locked with a password; unpack the archive, and name the folder")
        elif places.setdefault(place, info) is not info:
            problems.append(f"{name}: a name may stand for one file, found it twice; pack it again")
    total = sum(info.file_size for info in places.values())
    packed = archive.stat().st_size
    if len(places) > MOST_FILES:
        problems.append(f"{shown(archive)}: may hold {MOST_FILES:,} files, found {len(places):,}; unpack it yourself")
    if total > max(FREE_GROWTH, MOST_GROWTH * packed):
        problems.append(
            f"{shown(archive)}: its files may take {MOST_GROWTH} times its size, found {total / 1e6:,.0f} MB out of "
            f"{packed / 1e6:,.3g} MB; unpack it yourself if you trust it, and name the folder"
        )
    if problems:
        raise DataError(shown(archive), grouped(problems))
    return [(info, place) for place, info in places.items()]


def _passed_over(place: PurePosixPath) -> bool:
    """Whether no reader looks at a file: hidden ones, those of other systems, and other kinds."""
    return any(part.startswith(".") or part == "__MACOSX" for part in place.parts) or place.suffix.lower() not in _KINDS


def _unpack(
    archive: Path, content: zipfile.ZipFile, files: list[tuple[zipfile.ZipInfo, PurePosixPath]], folder: Path
) -> None:
    problems = []
    for info, place in files:
        target = folder / place
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            problems.append(f"{shown(place)}: a name may stand for one file or folder, found both; pack it again")
            continue
        try:
            with content.open(info) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)  # no more than the size that was weighed
        except _BROKEN as error:
            problems.append(f"{shown(place)}: cannot be unpacked ({error}); copy the archive again, or pack it anew")
        except OSError as error:
            raise UsageError(
                f"{shown(archive)} must be unpacked below {folder.parent}, and that failed: {error}; choose "
                "another --cache"
            ) from error
    if problems:
        raise DataError(shown(archive), grouped(problems))
