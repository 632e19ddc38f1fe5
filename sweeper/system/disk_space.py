"""Room on the disks: what a sweep will need, checked before it trains, and what a full disk looks like during it."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.paths import STORAGE
from sweeper.core.text import resume_command
from sweeper.system.locks import sqlite_path

MB = 1_000_000
SPARE = 100 * MB
"""Left over on every disk: logs, locks, temporary files, what others write meanwhile."""
TRAINING_BYTES = 60_000
"""One training in both databases, besides what grows with its images."""
IMAGE_BYTES = 1_500
"""Counts of one image in a study's storage: 0.65 kB for 512 thresholds when compressed, and details."""
POOLED_IMAGES = 2_000
"""Beyond these counts are pooled."""
REPORT_BYTES = 15 * MB
FINALISTS = 4
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PROTECTED = {errno.EPERM, errno.EACCES, errno.EROFS, errno.EIO}
_SQLITE = ("disk I/O error", "readonly database", "unable to open database file")
_SERVER_FULL = {"53100"}
"""PostgreSQL's disk_full."""


CHECKPOINTS = 0.25
"""Trainings that wait may take this share of what is free without them: 24 million weights keep 0.4 GB."""


class Need(NamedTuple):
    """What will be written at one place."""

    what: str
    place: Path
    size: int


def needs(
    *, encoder_depth: int, images: int, trials: int, seeds: int, storage: str, tracking: str, out: Path, cache: Path
) -> Iterator[Need]:
    """What a sweep writes besides the decoded images, roughly and rather too much.

    Args:
        encoder_depth: of the network, which tells its size; 0 while it is not known.
        images: images of the data set.
        trials: of the search.
        seeds: of the confirmation at most.
        storage: Optuna's address; only files are counted.
        tracking: MLflow's; likewise.
        out: folder of all reports.
        cache: folder of the decoded images, beside which weights are kept.
    """
    trainings = trials + FINALISTS * (seeds + 4)
    counted = min(images, POOLED_IMAGES)
    if (path := sqlite_path(storage)) is not None:
        yield Need("the study's storage", path, trainings * (TRAINING_BYTES + counted * IMAGE_BYTES // 3))
    if (path := sqlite_path(tracking)) is not None:
        yield Need("MLflow's store", path, trainings * TRAINING_BYTES + REPORT_BYTES)
    yield Need("the report", out, REPORT_BYTES)
    weights = 15 * MB if encoder_depth <= 3 else 150 * MB
    yield Need("weights of the finalists", cache, FINALISTS * weights)


def check_room(wanted: list[Need]) -> None:
    """Refuse what will not fit, disk by disk.

    Raises:
        UsageError: with what is needed and what is free.
    """
    disks: dict[int, list[Need]] = {}
    for need in wanted:
        disks.setdefault(_existing(need.place).stat().st_dev, []).append(need)
    problems = []
    for together in disks.values():
        folder = _existing(together[0].place)
        free, total = shutil.disk_usage(folder).free, sum(need.size for need in together) + SPARE
        if free < total:
            parts = ", ".join(f"{need.what} about {need.size / MB:.0f} MB" for need in together)
            problems.append(
                f"the disk of {folder} must have {total / MB:.0f} MB free ({parts}, and {SPARE // MB} MB to spare), "
                f"got {free / MB:.0f} MB"
            )
    if problems:
        raise UsageError(
            "; ".join(problems) + ". Free some (`sweeper cache --clear` deletes decoded images), or name another "
            "place with --storage, --tracking-uri, --out or --cache; nothing was trained"
        )


def keep_within_room(files: Iterable[Path]) -> list[Path]:
    """Delete the last of these files until the others take no more than `CHECKPOINTS` of the disk's room.

    Args:
        files: the dearest first; those that are not there are passed over.

    Returns:
        What was deleted.
    """
    there = [(path, path.stat().st_size) for path in files if path.exists()]
    if not there:
        return []
    total = sum(size for _, size in there)
    allowed = CHECKPOINTS * (shutil.disk_usage(there[0][0].parent).free + total)
    gone: list[Path] = []
    while there and total > allowed:
        path, size = there.pop()
        path.unlink(missing_ok=True)
        gone.append(path)
        total -= size
    return gone


def write_failure(error: BaseException | None, places: Mapping[str, Path], server: str | None) -> str | None:
    """What could not be written, in a sentence, if that is what an error, or one that it came from, says.

    Args:
        error: what was raised.
        places: files and folders that the sweep writes, by what they are; the study's storage first.
        server: address of the PostgreSQL server that holds the study, without secrets; None = a file does.

    Returns:
        None where the error says something else.
    """
    for one in _chain(error):
        text = " ".join(str(one).split())[:200]
        if server is not None and getattr(one, "sqlstate", None) in _SERVER_FULL:
            return f"the database server {server} has no room left on its own disk ({text})"
        if isinstance(one, OSError) and one.errno in _FULL:
            path = Path(one.filename) if isinstance(one.filename, str) else None
            return _full(path, places) if one.errno != errno.EFBIG else _protected(path, places, text)
        if isinstance(one, sqlite3.Error):
            if "disk is full" in text or "no space left" in text.lower():
                return _full(None, places)
            if any(pattern in text for pattern in _SQLITE):
                return _protected(None, places, text)
        if isinstance(one, OSError) and one.errno in _PROTECTED and isinstance(one.filename, str):
            path = Path(one.filename).absolute()  # elsewhere it may be a file that cannot be read
            if any(path.is_relative_to(place.absolute()) for place in places.values()):
                return _protected(path, places, text)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what SQLAlchemy wraps, and what it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(inner := getattr(error, "orig", None), BaseException):
            yield inner
        yield error
        error = error.__cause__ or error.__context__


def _full(path: Path | None, places: Mapping[str, Path]) -> str:
    """The fullest disk of those that are written, unless the error names a file."""
    if path is not None:
        return f"the disk of {path} is full, or a quota is used up ({_free(path)})"
    what = min(places, key=lambda name: shutil.disk_usage(_existing(places[name])).free)
    return f"the disk of {what}, {places[what]}, is full, or a quota is used up ({_free(places[what])})"


def _protected(path: Path | None, places: Mapping[str, Path], text: str) -> str:
    """There is room, and yet a file cannot be written."""
    if path is None:
        what = next(iter(places))
        path = places[what]
        if shutil.disk_usage(_existing(path)).free < MB:
            return _full(None, places)
    return (
        f"{path} cannot be written, though there is room ({_free(path)}): {text}. It may be write-protected or "
        "immutable (lsattr), its file system read-only, its size limited (ulimit -f), or the disk damaged"
    )


@contextmanager
def told_when_full(
    study: str | None, places: Mapping[str, Path], server: str | None = None, *, storage: str = STORAGE
) -> Iterator[Callable[[str], None]]:
    """Turn what a full disk, or a file that cannot be written, raises within the block into one message.

    Any other error is given the command that goes on with the study as a note, once its name is known.

    Args:
        study: its name; None = not known yet.
        places: as `write_failure` takes them.
        server: likewise.
        storage: where the study is, for the command that goes on with it.

    Yields:
        What takes the study's name when it becomes known.

    Raises:
        SweeperError: in place of such an error; every other error passes.
    """
    known = [study] if study else []
    try:
        yield known.append
    except SweeperError:
        raise
    except Exception as error:
        resume = resume_command(known[-1], storage) if known else None
        if (what := write_failure(error, places, server)) is None:
            if resume is not None:
                error.add_note(resume)
            raise
        on = "repeat the command" if resume is None else f"go on with: {resume}"
        raise SweeperError(
            f"{what}. The sweep ends here, and what was finished is kept. Mend that, and {on}"
        ) from error


def _free(place: Path) -> str:
    folder = _existing(place)
    return f"{shutil.disk_usage(folder).free / MB:.0f} MB free at {folder}"


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())
