"""Notes beside the decoded stores: which source, in which state, was read into which of them."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path

from sweeper.core.records import Dataset
from sweeper.data.store import is_complete, is_intact
from sweeper.system.whole_files import written_whole

NOTES = "sources"
"""Of the notes, in the cache."""


def _note(cache: Path, key: str) -> Path:
    return cache / NOTES / (hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".json")


def remembered(cache: Path, key: str, state: str, say: Callable[[str], None]) -> Dataset | None:
    """The data set as it was read when the source was in this state, if note and store are as they were written.

    `say` is told of a damage.
    """
    try:
        note = json.loads(_note(cache, key).read_text(encoding="utf-8"))
        if note["state"] != state:
            return None
        if note["crc32"] != _sum_of(note["dataset"]):
            say(f"what was remembered of a data set is damaged ({_note(cache, key)}); it is read anew")
            return None
        dataset = Dataset.model_validate(note["dataset"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    store = cache / dataset.digest.removeprefix("sha256:")  # the cache may have been moved since
    if not is_complete(store):
        return None
    if not is_intact(store):
        say(f"the decoded images in {store} are damaged: they are not what their checksums say; decoding them anew")
        return None
    return dataset.model_copy(update={"store": str(store)})


def _sum_of(dataset: object) -> int:
    return zlib.crc32(json.dumps(dataset, sort_keys=True).encode())


def remember(cache: Path, key: str, state: str, dataset: Dataset) -> None:
    """Note how a data set was read when its source was in this state.

    Raises:
        OSError: if the note cannot be written.
    """
    path = _note(cache, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(dataset.model_dump_json())
    with written_whole(path) as part:
        part.write_text(json.dumps({"state": state, "dataset": known, "crc32": _sum_of(known)}), encoding="utf-8")


def noted_stores(cache: Path) -> tuple[dict[str, set[str]], dict[str, int]]:
    """Sources and number of images of each store, from the notes of readers."""
    names: dict[str, set[str]] = {}
    images: dict[str, int] = {}
    for path in (cache / NOTES).glob("*.json"):
        try:
            dataset = json.loads(path.read_text(encoding="utf-8"))["dataset"]
            digest = str(dataset["digest"]).removeprefix("sha256:")
            names.setdefault(digest, set()).add(str(dataset["source"]))
            images[digest] = len(dataset["pictures"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a note of another version: its store is listed without a name
    return names, images


def forget_gone(cache: Path) -> None:
    """Remove notes whose store is gone."""
    for path in (cache / NOTES).glob("*.json"):
        try:
            digest = str(json.loads(path.read_text(encoding="utf-8"))["dataset"]["digest"]).removeprefix("sha256:")
        except (OSError, ValueError, KeyError, TypeError):
            digest = ""
        if not digest or not (cache / digest).exists():
            path.unlink(missing_ok=True)
