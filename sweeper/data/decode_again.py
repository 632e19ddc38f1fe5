"""The same data set once more, where its decoded images are missing: on another machine."""

from __future__ import annotations

import socket
from pathlib import Path

from sweeper.core.errors import SweeperError
from sweeper.core.records import Dataset
from sweeper.data.load import load_dataset
from sweeper.data.store import is_intact
from sweeper.data.variants import resized, without


def store_here(dataset: Dataset) -> Path:
    """Folder of the decoded images on this machine: where the data set says, or decoded again from its source.

    Raises:
        SweeperError: if neither can be read here, or the source holds other images here.
    """
    folder = Path(dataset.store)
    if is_intact(folder):
        return folder
    host, cache = socket.gethostname(), folder.parent
    remedy = "put the images, or the folder of --cache, where every machine sees them under one path"
    try:
        found = load_dataset(
            dataset.source, cache, format=dataset.format, patterns=dataset.patterns, class_map=dataset.class_map
        )
        if dataset.excluded:
            found = without(found, dataset.excluded, cache)
        if dataset.resized is not None:
            found = resized(found, dataset.resized, cache)
    except (SweeperError, OSError) as error:
        raise SweeperError(
            f"{host} lacks the decoded images ({folder}) and cannot read {dataset.source}: {error}; {remedy}"
        ) from error
    if found.digest != dataset.digest:
        raise SweeperError(
            f"{dataset.source} holds other images on {host} ({found.digest[:19]}…) than the study was made with "
            f"({dataset.digest[:19]}…); {remedy}"
        )
    return Path(found.store)
