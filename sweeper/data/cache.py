"""The cache of decoded data sets: a note for each source, in `sources/`, has its state and the set decoded from it."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path

from sweeper.core.errors import UsageError
from sweeper.core.records import Dataset
from sweeper.core.text import escape_for_display
from sweeper.data.store import is_complete, is_intact
from sweeper.system.whole_files import remove_left, replace_atomically

NOTES = "sources"
"""Folder of the notes, in the cache."""


def _get_note_path(cache: Path, key: str) -> Path:
    return cache / NOTES / (hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".json")


def load_or_make(
    cache: Path, key: str, state: str, make: Callable[[], Dataset], *, log: Callable[[str], None]
) -> Dataset:
    """Return the data set that an earlier start made from this state, else make it and store a note.

    What killed processes left half written is deleted after a day.

    Args:
        cache: folder of all stores.
        key: identifies the source and its options.
        state: changes whenever `make` would give another result.
        make: makes the data set.
        log: receives a line if the data set was decoded earlier, and if something is damaged.

    Raises:
        UsageError: the cache cannot be written.
    """
    remove_left(cache, ".writing-*")
    remove_left(cache / NOTES)
    remembered = _load_remembered(cache, key, state, log)
    if remembered is not None:
        for folder in Path(remembered.store).glob("*/"):
            remove_left(folder)
        if remembered.read_as is not None:
            log(f"{escape_for_display(remembered.source)}, {remembered.read_as} (decoded earlier)")
        return remembered
    try:
        made = make()
        _store_note(cache, key, state, made)
    except OSError as error:
        raise UsageError(
            f"decoded images must be written below {cache}, and that failed: {error}; make room, or start in "
            "another folder"
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
        dataset = Dataset.model_validate(note["dataset"], extra="ignore")
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
