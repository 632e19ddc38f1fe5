"""A data set in a zip file: unpacked below the cache, read, and deleted."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sweeper.core.errors import DataError, UsageError
from sweeper.data.problem_lines import grouped
from sweeper.data.text_tables import shown
from sweeper.system.disk_space import check_room


def is_zip(path: Path) -> bool:
    """Whether a path names a file that is called a zip archive."""
    return path.suffix.lower() == ".zip" and path.is_file()


@contextmanager
def unpacked(archive: Path, cache: Path) -> Iterator[Path]:
    """A folder below `cache` with the files of an archive, deleted at the end.

    `zipfile` writes no file outside that folder, and makes no links, whatever the names in the archive say.

    Raises:
        DataError: it is no whole zip archive, locked with a password, or has two files of one name.
        UsageError: its files do not fit on the disk, or the cache cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            _check_names(archive, content.infolist())
            check_room("the unpacked archive", cache, sum(info.file_size for info in content.infolist()))
            cache.mkdir(parents=True, exist_ok=True)
            folder = TemporaryDirectory(prefix=".writing-", dir=cache, ignore_cleanup_errors=True)
            try:
                content.extractall(folder.name)
            except BaseException:
                folder.cleanup()
                raise
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            shown(archive),
            [
                f"{shown(archive)}: must be a whole zip archive, and cannot be unpacked ({error}); "
                "copy it again, or unpack it, and name the folder"
            ],
        ) from error
    except OSError as error:
        raise UsageError(
            f"{shown(archive)} must be unpacked below {cache}, and that failed: {error}; choose another --cache where "
            "that is the disk at fault, or unpack it, and name the folder"
        ) from error
    with folder as name:
        yield Path(name)


def _check_names(archive: Path, files: list[zipfile.ZipInfo]) -> None:
    """Refuse what unpacks to less than it says.

    Raises:
        DataError: with the files that are locked, and the names that two files have: the later would replace the other.
    """
    locked = [info.filename for info in files if info.flag_bits & 1]
    names = Counter(info.filename for info in files if not info.is_dir())
    repeated = [name for name, number in names.items() if number > 1]
    problems = [
        f"{shown(name)}: must be without a password; unpack the archive, and name the folder" for name in locked
    ]
    problems += [f"{shown(name)}: is in the archive more than once; keep one, or rename the other" for name in repeated]
    if problems:
        raise DataError(shown(archive), grouped(problems))
