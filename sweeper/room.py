"""Room on the disks: what a sweep will need, checked before it trains, and what a full disk looks like amid it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sweeper.errors import SweeperError, UsageError
from sweeper.locks import sqlite_path
from sweeper.paths import ReportPaths

MB = 1_000_000
SPARE = 100 * MB
"""Left over on every disk: logs, locks, temporary files, what others write meanwhile."""
TRAINING_BYTES = 60_000
"""One training in both databases, besides what grows with its pictures."""
PICTURE_BYTES = 1_500
"""Counts of one picture in a study's storage: 0.65 kB for 512 thresholds when compressed, and details."""
POOLED_PICTURES = 2_000
"""Beyond these counts are pooled."""
REPORT_BYTES = 15 * MB
FINALISTS = 4
_PATTERNS = ("disk is full", "no space left", "disk quota exceeded", "disk i/o error", "file too large")
_CODES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


CHECKPOINTS = 0.25
"""Trainings that wait may take this share of what is free without them: 24 million weights keep 0.4 GB."""


class Need(NamedTuple):
    """What will be written at one place."""

    what: str
    place: Path
    size: int


def needs(
    *, encoder_depth: int, pictures: int, trials: int, seeds: int, storage: str, tracking: str, out: Path, cache: Path
) -> Iterator[Need]:
    """What a sweep writes besides the decoded pictures, roughly and rather too much.

    Args:
        encoder_depth: of the network, which tells its size; 0 while it is not known.
        pictures: images of the data set.
        trials: of the search.
        seeds: of the confirmation at most.
        storage: Optuna's address; only files are counted.
        tracking: MLflow's; likewise.
        out: folder of all reports.
        cache: folder of the decoded pictures, beside which weights are kept.
    """
    trainings = trials + FINALISTS * (seeds + 4)
    counted = min(pictures, POOLED_PICTURES)
    if (path := sqlite_path(storage)) is not None:
        yield Need("the study's storage", path, trainings * (TRAINING_BYTES + counted * PICTURE_BYTES // 3))
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
            "; ".join(problems) + ". Free some (`sweeper cache --clear` deletes decoded pictures), or name another "
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


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that a disk or a quota is full."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _CODES:
            return True
        if any(pattern in str(error).lower() for pattern in _PATTERNS):
            return True
        error = error.__cause__ or error.__context__
    return False


def full_text(study: str | None, out: Path) -> str:
    """What to tell people when a disk is full amid a sweep."""
    place = ReportPaths(out, study).folder.parent if study else out
    name = study or "NAME"
    return (
        f"a disk is full ({_free(place)}): nothing more can be kept, so that the sweep ends here. What was finished is "
        f"kept. Free some room, and go on with: sweeper run --study {name} --resume"
    )


@contextmanager
def told_when_full(study: str | None, out: Path) -> Iterator[None]:
    """Turn what a full disk raises within the block into one message that says what to do.

    Raises:
        SweeperError: in place of an error that a full disk caused; every other error passes.
    """
    try:
        yield
    except SweeperError:
        raise
    except Exception as error:
        if not is_full(error):
            raise
        raise SweeperError(full_text(study, out)) from error


def _free(place: Path) -> str:
    folder = _existing(place)
    return f"{shutil.disk_usage(folder).free / MB:.0f} MB free at {folder}"


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())
