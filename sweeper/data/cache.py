"""The cache of decoded data sets: which store was decoded from which source, who uses it, and how it is cleared.

A note for each source, in `sources/`, records its state and the data set decoded from it.

A process that uses a store for long (`hold_store`) shares a lock on its index; the operating system
releases the lock however the process ends. A store is deleted only under an exclusive lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

from sweeper.core.base import Record
from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.records import Dataset
from sweeper.core.text import escape_for_display
from sweeper.data.store import is_complete, is_intact
from sweeper.system.whole_files import remove_left, replace_atomically

NOTES = "sources"
"""Folder of the notes, in the cache."""
_LOCKED = "index.json"
"""File that is locked; its modification time is the store's last use."""
_BEGUN = ".writing-"


class CachedRow(Record):
    """One decoded data set on disk."""

    folder: str
    sources: tuple[str, ...]
    images: int | None
    bytes: int
    last_use: str
    """UTC, ISO 8601."""
    in_use: bool
    complete: bool


def hold_store(folder: Path) -> ExitStack:
    """Prevent a store from being cleared until the returned stack is closed, and update its last use.

    Raises:
        SweeperError: the store was deleted; load the data set again.
    """
    remove_left(folder.parent, f"{_BEGUN}*")
    for place in (folder.parent / NOTES, *folder.glob("*/")):
        remove_left(place)
    held = ExitStack()
    with suppress(FileNotFoundError):
        file = held.enter_context((folder / _LOCKED).open("rb"))
        fcntl.flock(file, fcntl.LOCK_SH)  # waits while it is listed or deleted
    if not is_complete(folder):
        held.close()
        raise SweeperError(f"{folder} must hold a complete store of decoded images; load the data set again")
    with suppress(PermissionError):  # another user's store
        (folder / _LOCKED).touch()
    return held


def list_entries(cache: Path) -> list[CachedRow]:
    """Return all entries of the cache, the most recently used first; none without a cache."""
    if not cache.is_dir():
        return []
    names: dict[str, set[str]] = {}
    images: dict[str, int] = {}
    for _, digest, dataset in _list_notes(cache):
        if dataset is not None:  # else its store is listed without a name
            names.setdefault(digest, set()).add(dataset.source)
            images[digest] = len(dataset.images)
    rows = []
    folders = [folder for folder in cache.iterdir() if folder.is_dir() and folder.name != NOTES]
    for folder in sorted(folders, key=_get_last_use, reverse=True):
        used = datetime.fromtimestamp(_get_last_use(folder), UTC)
        rows.append(
            CachedRow(
                folder=str(folder),
                sources=tuple(sorted(names.get(folder.name, ()))),
                images=images.get(folder.name),
                bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
                last_use=used.isoformat(timespec="seconds"),
                in_use=_is_held(folder),
                complete=is_complete(folder),
            )
        )
    return rows


def clear_cache(cache: Path) -> tuple[list[CachedRow], list[CachedRow]]:
    """Delete the stores that no process uses, and unfinished ones of killed processes after a day.

    Returns:
        The deleted stores, and those kept because they are in use.

    Raises:
        OSError: if something cannot be deleted.
    """
    removed: list[CachedRow] = []
    in_use: list[CachedRow] = []
    remove_left(cache, f"{_BEGUN}*")
    for entry in list_entries(cache):
        folder = Path(entry.folder)
        if folder.name.startswith(_BEGUN):  # another process may be writing it
            continue
        (in_use if _is_held(folder, delete=True) else removed).append(entry)
    for path, digest, _ in _list_notes(cache):
        if not digest or not (cache / digest).exists():
            path.unlink(missing_ok=True)
    return removed, in_use


def _is_held(folder: Path, *, delete: bool = False) -> bool:
    """Return whether a running process uses the store; if none does and `delete` is set, delete it under the lock."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context((folder / _LOCKED).open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # a file that only another user may read counts as in use
            return True
        except FileNotFoundError:  # unfinished
            pass
        if delete:
            shutil.rmtree(folder)
    return False


def _get_last_use(folder: Path) -> float:
    """Return the last use in seconds since 1970; if the index is not readable, when the folder changed."""
    with suppress(OSError):
        return (folder / _LOCKED).stat().st_mtime
    return folder.stat().st_mtime


def _get_note_path(cache: Path, key: str) -> Path:
    return cache / NOTES / (hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".json")


def load_or_make(
    cache: Path, key: str, state: str, make: Callable[[], Dataset], *, log: Callable[[str], None]
) -> Dataset:
    """Return the data set that an earlier start made from this state, else make it and store a note.

    Args:
        cache: folder of all stores.
        key: identifies the source and its options.
        state: changes whenever `make` would give another result.
        make: makes the data set.
        log: receives a line if the data set was decoded earlier, and if something is damaged.

    Raises:
        UsageError: the cache cannot be written.
    """
    remembered = _load_remembered(cache, key, state, log)
    if remembered is not None:
        if remembered.read_as is not None:
            log(f"{escape_for_display(remembered.source)}, {remembered.read_as} (decoded earlier)")
        return remembered
    try:
        made = make()
        _store_note(cache, key, state, made)
    except OSError as error:
        raise UsageError(
            f"decoded images must be written below {cache}, and that failed: {error}; choose another --cache"
        ) from error
    return made


def _load_remembered(cache: Path, key: str, state: str, log: Callable[[str], None]) -> Dataset | None:
    """Return the data set noted for this state of the source, if note and store are intact; else None.

    `log` receives a line if something is damaged.
    """
    try:
        note = json.loads(_get_note_path(cache, key).read_text(encoding="utf-8"))
        if note["state"] != state:
            return None
        if note["crc32"] != _compute_checksum(note["dataset"]):
            log(f"cache entry {_get_note_path(cache, key)} is corrupt; reading the data set again")
            return None
        dataset = Dataset.model_validate(note["dataset"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    store = cache / dataset.digest.removeprefix("sha256:")  # the cache may have been moved since
    if not is_complete(store):
        return None
    if not is_intact(store):
        log(f"the decoded images in {store} are damaged: they are not what their checksums say; decoding them again")
        return None
    return dataset.model_copy(update={"store": str(store)})


def _store_note(cache: Path, key: str, state: str, dataset: Dataset) -> None:
    """Store a note with the data set made from this state of its source."""
    path = _get_note_path(cache, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = dataset.model_dump(mode="json")
    with replace_atomically(path) as part:
        part.write_text(
            json.dumps({"state": state, "dataset": document, "crc32": _compute_checksum(document)}), encoding="utf-8"
        )


def _compute_checksum(dataset: object) -> int:
    return zlib.crc32(json.dumps(dataset, sort_keys=True).encode())


def _list_notes(cache: Path) -> Iterator[tuple[Path, str, Dataset | None]]:
    """Yield each note, the name of its store ("" if damaged), and its data set (None if of another version)."""
    for path in (cache / NOTES).glob("*.json"):
        digest, dataset = "", None
        with suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads(path.read_text(encoding="utf-8"))["dataset"]
            digest = str(document["digest"]).removeprefix("sha256:")
            dataset = Dataset.model_validate(document)
        yield path, digest, dataset
