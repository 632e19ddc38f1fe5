"""The cache of decoded data sets: what was read into which store, who uses it, and clearing it while sweeps run.

A note for each source, in `sources/`, names its state and the data set that was made of it then.

A process that reads a store for long shares a lock on its index; the operating system releases that when the process
dies, however it dies. A store is deleted only by who holds that lock alone.
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
from sweeper.data.store import is_complete, is_intact
from sweeper.data.text_tables import escape_for_display
from sweeper.system.whole_files import remove_left, replace_atomically

NOTES = "sources"
"""Folder of the notes, in the cache."""
_LOCKED = "index.json"
"""Its time is that of the store's last use, too."""
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
    """Keep a store from being cleared until what this gives is closed, and note that it is used now.

    Raises:
        SweeperError: the store is gone already; load the data set again.
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
    """Return everything in the cache, the most recently used first; () without a cache."""
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
    """Delete the stores that nobody holds; and what a killed process left half-written, a day after it was begun.

    Returns:
        What was deleted, and what was kept because it is in use.

    Raises:
        OSError: if something cannot be deleted.
    """
    removed: list[CachedRow] = []
    in_use: list[CachedRow] = []
    remove_left(cache, f"{_BEGUN}*")
    for entry in list_entries(cache):
        folder = Path(entry.folder)
        if folder.name.startswith(_BEGUN):  # another process may be at it
            continue
        (in_use if _is_held(folder, delete=True) else removed).append(entry)
    for path, digest, _ in _list_notes(cache):
        if not digest or not (cache / digest).exists():
            path.unlink(missing_ok=True)
    return removed, in_use


def _is_held(folder: Path, *, delete: bool = False) -> bool:
    """Return whether a living process holds the store; if none does, it may be deleted: later ones wait."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context((folder / _LOCKED).open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # what another user alone may read counts as held
            return True
        except FileNotFoundError:  # half-written
            pass
        if delete:
            shutil.rmtree(folder)
    return False


def _get_last_use(folder: Path) -> float:
    """Return seconds since 1970; of a store that only another user may read, when its folder changed."""
    with suppress(OSError):
        return (folder / _LOCKED).stat().st_mtime
    return folder.stat().st_mtime


def _get_note_path(cache: Path, key: str) -> Path:
    return cache / NOTES / (hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".json")


def load_or_make(
    cache: Path, key: str, state: str, make: Callable[[], Dataset], *, log: Callable[[str], None]
) -> Dataset:
    """Return the data set as an earlier start made it in this state, else as made now and remembered.

    Args:
        cache: the folder of all stores.
        key: what it is made of.
        state: changes whenever another would come out.
        make: gives the data set.
        log: receives a line where it was read earlier, and where something is damaged.

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
    """Return the data set as read when the source was in this state, if note and store are as they were written.

    `log` receives a line where something is damaged.
    """
    try:
        note = json.loads(_get_note_path(cache, key).read_text(encoding="utf-8"))
        if note["state"] != state:
            return None
        if note["crc32"] != _sum_of(note["dataset"]):
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
    """Note how a data set was made when its source was in this state."""
    path = _get_note_path(cache, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = dataset.model_dump(mode="json")
    with replace_atomically(path) as part:
        part.write_text(json.dumps({"state": state, "dataset": document, "crc32": _sum_of(document)}), encoding="utf-8")


def _sum_of(dataset: object) -> int:
    return zlib.crc32(json.dumps(dataset, sort_keys=True).encode())


def _list_notes(cache: Path) -> Iterator[tuple[Path, str, Dataset | None]]:
    """Yield each note, its store's name (empty if damaged), and its data set (None if of another version)."""
    for path in (cache / NOTES).glob("*.json"):
        digest, dataset = "", None
        with suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads(path.read_text(encoding="utf-8"))["dataset"]
            digest = str(document["digest"]).removeprefix("sha256:")
            dataset = Dataset.model_validate(document)
        yield path, digest, dataset
