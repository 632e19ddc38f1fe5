"""From what the user names, a folder or `synthetic:NAME?…`, to a `Dataset` with its decoded store."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from sweeper.data.folder import fingerprint, read_folder
from sweeper.data.store import is_complete
from sweeper.data.synthetic import PREFIX, parse_scene, read_scenes, scene_fingerprint
from sweeper.errors import UsageError
from sweeper.records import Dataset

Log = Callable[[str], None]


def load_dataset(source: str, cache: Path, log: Log | None = None) -> Dataset:
    """Read a data set; decode it into the store below `cache`, or reuse what an earlier start decoded.

    Args:
        source: path of a folder with images/ and masks/, or `synthetic:NAME?key=value&…`.
        cache: folder for decoded data sets, made if it is missing. Several processes may use it at once.
        log: called with one line where something takes time.

    An unchanged source (same names, sizes and times of all its files) is neither decoded nor hashed again.

    Raises:
        DataError: the data set has problems; all of them are named.
        UsageError: the folder does not exist, or the cache cannot be written.
    """
    say = log or (lambda line: None)
    cache = cache.absolute()
    if source.startswith(PREFIX):
        scene = parse_scene(source)
        key, state = f"{PREFIX}{scene.name}", scene_fingerprint(scene)
    else:
        root = Path(source).expanduser()
        key, state = f"folder:{root.resolve()}", fingerprint(root)
    known = _remembered(cache, key, state)
    if known is not None:
        return known.model_copy(update={"source": source})
    try:
        dataset = read_scenes(scene, source, cache, say) if source.startswith(PREFIX) else read_folder(root, cache, say)
        dataset = dataset.model_copy(update={"source": source})
        _remember(cache, key, state, dataset)
    except OSError as error:
        raise UsageError(
            f"decoded pictures must be written below {cache}, and that failed: {error}; choose another --cache"
        ) from error
    return dataset


def _note(cache: Path, key: str) -> Path:
    return cache / "sources" / (hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".json")


def _remembered(cache: Path, key: str, state: str) -> Dataset | None:
    """The data set as it was read when the source was in this state, if its store is still whole."""
    try:
        note = json.loads(_note(cache, key).read_text(encoding="utf-8"))
        if note["state"] != state:
            return None
        dataset = Dataset.model_validate(note["dataset"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    store = cache / dataset.digest.removeprefix("sha256:")  # the cache may have been moved since
    return dataset.model_copy(update={"store": str(store)}) if is_complete(store) else None


def _remember(cache: Path, key: str, state: str, dataset: Dataset) -> None:
    path = _note(cache, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"state": state, "dataset": dataset.model_dump(mode="json")}, file)
    Path(temporary).replace(path)
