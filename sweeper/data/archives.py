"""A data set in a zip file: unpacked below the cache, read, and deleted."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sweeper.core.errors import DataError, UsageError
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
        DataError: it is no whole zip archive, or locked with a password.
        UsageError: its files do not fit on the disk, or the cache cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            check_room("the unpacked archive", cache, sum(info.file_size for info in content.infolist()))
            cache.mkdir(parents=True, exist_ok=True)
            folder = TemporaryDirectory(prefix=".writing-", dir=cache, ignore_cleanup_errors=True)
            try:
                content.extractall(folder.name)
            except BaseException:
                folder.cleanup()
                raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            shown(archive),
            [
                f"{shown(archive)}: must be a whole zip archive without password, and cannot be unpacked ({error}); "
                "copy it again, or unpack it, and name the folder"
            ],
        ) from error
    except OSError as error:
        raise UsageError(
            f"{shown(archive)} must be unpacked below {cache}, and that failed: {error}; choose another --cache"
        ) from error
    with folder as name:
        yield Path(name)
