"""The cache of decoded data sets: what was read into which store, who uses it, and clearing it while sweeps run.

A note for each source, in `sources/`, names its state and the data set that was made of it then.

A process that reads a store for long holds a lock file of its own, `.locks/DIGEST.…`; the operating system releases it
when the process dies, however it dies. A store is deleted only while nobody holds one, under the cache's own lock.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.records import Dataset
from sweeper.data.store import is_complete, is_intact, new_name
from sweeper.data.text_tables import shown
from sweeper.system.whole_files import DAY, remove_left, written_whole

NOTES = "sources"
"""Of the notes, in the cache."""
_MARK = "used"
"""An empty file in each store whose time is that of its last use."""
_LEFT = (".writing-", ".deleting-")


class Entry(NamedTuple):
    """One store, or what a killed process left of one."""

    folder: Path
    names: tuple[str, ...]
    """What was read into it, as far as is remembered."""
    images: int | None
    size: int
    """Bytes on disk, with what is kept beside the pixels."""
    used: float
    """Last use, seconds since 1970."""
    in_use: bool
    complete: bool


def hold(folder: Path) -> ExitStack:
    """Keep a store from being cleared until what this gives is closed, and note that it is used now.

    Raises:
        SweeperError: the store is gone already; load the data set again.
    """
    for begun in _LEFT:
        remove_left(folder.parent, f"{begun}*")
    for place in (folder.parent / NOTES, *folder.glob("*/")):
        remove_left(place)
    locks = folder.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with _whole(locks):
        if not is_complete(folder):
            raise SweeperError(f"{folder} must hold a complete store of decoded images; load the data set again")
        lock = FileLock(new_name(locks, f"{folder.name}.", ".lock"))
        lock.acquire(timeout=10)  # listing the cache tries it for a moment
        (folder / _MARK).touch()
    held = ExitStack()
    held.callback(lock.release)
    return held


def entries(cache: Path) -> list[Entry]:
    """Everything in the cache, the most recently used first; () where there is no cache."""
    if not cache.is_dir():
        return []
    names: dict[str, set[str]] = {}
    images: dict[str, int] = {}
    for _, digest, dataset in _notes(cache):
        if dataset is not None:  # else its store is listed without a name
            names.setdefault(digest, set()).add(dataset.source)
            images[digest] = len(dataset.images)
    found = []
    for folder in cache.iterdir():
        if not folder.is_dir() or folder.name in (NOTES, ".locks"):
            continue
        files = [path.stat() for path in folder.rglob("*") if path.is_file()]
        found.append(
            Entry(
                folder=folder,
                names=tuple(sorted(names.get(folder.name, ()))),
                images=images.get(folder.name),
                size=sum(stat.st_size for stat in files),
                used=_last_use(folder),
                in_use=_in_use(folder),
                complete=is_complete(folder),
            )
        )
    return sorted(found, key=lambda entry: -entry.used)


def clear(cache: Path, *, now: float, older_than_days: float = 0.0) -> tuple[list[Entry], list[Entry]]:
    """Delete stores that nobody holds and that were not used for so many days.

    What a killed process left half-written goes too, but only a day after it was begun: another process may be at it.

    Args:
        cache: the folder of all stores.
        now: seconds since 1970.
        older_than_days: 0 = all of them.

    Returns:
        What was deleted, and what was kept because it is in use.

    Raises:
        OSError: if something cannot be deleted.
    """
    removed, in_use = [], []
    for entry in entries(cache):
        days = max(0.0, now - entry.used) / DAY  # a clock that was set back since
        if days < (older_than_days if not entry.folder.name.startswith(_LEFT) else max(1.0, older_than_days)):
            continue
        (cache / ".locks").mkdir(exist_ok=True)
        with _whole(cache / ".locks"):
            if _in_use(entry.folder, sweep=True):
                in_use.append(entry)
                continue
            # Out of sight in one step: nobody opens half a store.
            aside = new_name(cache, ".deleting-")
            entry.folder.rename(aside)
        shutil.rmtree(aside)
        removed.append(entry)
    for path, digest, _ in _notes(cache):
        if not digest or not (cache / digest).exists():
            path.unlink(missing_ok=True)
    return removed, in_use


def _in_use(folder: Path, *, sweep: bool = False) -> bool:
    """Whether a living process holds the store. `sweep` removes locks of dead ones: under the cache's own lock alone,
    or a lock that is being made would be swept away with them."""
    for path in (folder.parent / ".locks").glob(f"{folder.name}.*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except (Timeout, PermissionError):  # another user's lock cannot be tried: it counts as held
            return True
        lock.release()
        if sweep:
            path.unlink(missing_ok=True)
    return False


def _whole(locks: Path) -> FileLock:
    """The cache's own lock. Every user of a shared cache must be able to take it, whatever the umask of the first."""
    return FileLock(locks / "cache.lock", mode=0o666)


def _last_use(folder: Path) -> float:
    """Seconds since 1970; of a store that only another user may read, when its folder changed."""
    for path in (folder / _MARK, folder / "index.json"):
        with suppress(OSError):
            return path.stat().st_mtime
    return folder.stat().st_mtime


def _note(cache: Path, key: str) -> Path:
    return cache / NOTES / (hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".json")


def kept(
    cache: Path, key: str, state: str, make: Callable[[], tuple[Dataset, bool]], *, log: Callable[[str], None]
) -> Dataset:
    """The data set as an earlier start made it in this state, else made now and remembered.

    Args:
        cache: the folder of all stores.
        key: what it is made of.
        state: changes whenever another would come out.
        make: gives the data set, and whether it may be remembered: else a change would not be noticed.
        log: receives a line where it was read earlier, and where something is damaged.

    Raises:
        UsageError: the cache cannot be written.
    """
    known = _remembered(cache, key, state, log)
    if known is not None:
        if known.read_as is not None:
            log(f"{shown(known.source)}, {known.read_as} (decoded earlier)")
        return known
    try:
        made, watched = make()
        if watched:
            _remember(cache, key, state, made)
    except OSError as error:
        raise UsageError(
            f"decoded images must be written below {cache}, and that failed: {error}; choose another --cache"
        ) from error
    return made


def _remembered(cache: Path, key: str, state: str, log: Callable[[str], None]) -> Dataset | None:
    """The data set as it was read when the source was in this state, if note and store are as they were written.

    `log` receives a line where something is damaged.
    """
    try:
        note = json.loads(_note(cache, key).read_text(encoding="utf-8"))
        if note["state"] != state:
            return None
        if note["crc32"] != _sum_of(note["dataset"]):
            log(f"what was remembered of a data set is damaged ({_note(cache, key)}); it is read anew")
            return None
        dataset = Dataset.model_validate(note["dataset"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    store = cache / dataset.digest.removeprefix("sha256:")  # the cache may have been moved since
    if not is_complete(store):
        return None
    if not is_intact(store):
        log(f"the decoded images in {store} are damaged: they are not what their checksums say; decoding them anew")
        return None
    return dataset.model_copy(update={"store": str(store)})


def _sum_of(dataset: object) -> int:
    return zlib.crc32(json.dumps(dataset, sort_keys=True).encode())


def _remember(cache: Path, key: str, state: str, dataset: Dataset) -> None:
    """Note how a data set was made when its source was in this state."""
    path = _note(cache, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(dataset.model_dump_json())
    with written_whole(path) as part:
        part.write_text(json.dumps({"state": state, "dataset": known, "crc32": _sum_of(known)}), encoding="utf-8")


def _notes(cache: Path) -> Iterator[tuple[Path, str, Dataset | None]]:
    """Each note, its store's name (empty where it is damaged), and its data set (None where of another version)."""
    for path in (cache / NOTES).glob("*.json"):
        digest, dataset = "", None
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(path.read_text(encoding="utf-8"))["dataset"]
            digest = str(known["digest"]).removeprefix("sha256:")
            dataset = Dataset.model_validate(known)
        yield path, digest, dataset
