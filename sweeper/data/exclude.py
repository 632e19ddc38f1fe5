"""Images that the user agrees to leave out: `--exclude FILE`, one stem per line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sweeper.core.errors import DataError, UsageError
from sweeper.core.records import IGNORE, Dataset
from sweeper.core.text import count
from sweeper.data.label_values import some
from sweeper.data.load import Log
from sweeper.data.make_dataset import About, assemble
from sweeper.data.source_notes import remember, remembered
from sweeper.data.store import StoreWriter, open_store
from sweeper.data.text_tables import Side, normal, shown, text_of

FEWEST = 3
"""Images that must be left: one each to train, validate and test."""


def read_exclusions(path: Path) -> tuple[str, ...]:
    """Stems listed in a file, one per line; empty lines are passed over.

    Raises:
        UsageError: the file cannot be read, is not text, or lists nothing.
    """
    problems: list[str] = []
    text = text_of(path, problems)
    if text is None:
        raise UsageError(f"--exclude {shown(path)} must be a text file with one stem per line; {problems[0]}")
    stems = tuple(dict.fromkeys(normal(line.strip()) for line in text.splitlines() if line.strip()))
    if not stems:
        raise UsageError(f"--exclude {shown(path)} must list at least one stem, found none; leave the option out")
    return stems


def without(dataset: Dataset, stems: Sequence[str], cache: Path, log: Log | None = None) -> Dataset:
    """The data set without some of its images: another content digest, another store. No file of the user's changes.

    Args:
        dataset: as it was read.
        stems: images to leave out; they are remembered in `Dataset.excluded`.
        cache: where the smaller store is put.
        log: called with one line where the store was damaged.

    Raises:
        DataError: a stem that no image has, fewer than three images left, or a single class.
        UsageError: the cache cannot be written.
    """
    gone = set(stems)
    unknown = sorted(gone - {image.stem for image in dataset.pictures})
    kept = [i for i, image in enumerate(dataset.pictures) if image.stem not in gone]
    problems = [f"--exclude: no image has the stem {shown(s)!r}; write stems without extension" for s in unknown]
    if len(kept) < FEWEST:
        problems.append(f"--exclude: at least {FEWEST} images must be left, found {len(kept)}; leave fewer out")
    elif np.count_nonzero(dataset.class_pixels(tuple(kept))) < 2:
        problems.append("--exclude: at least two classes must be left, found one; leave fewer images out")
    if problems:
        raise DataError(dataset.name, problems)
    # Copying the pixels takes a while: what an earlier start copied is used again.
    key = f"exclude:{dataset.digest}:{json.dumps(sorted(gone))}"
    known = remembered(cache, key, dataset.digest, log or (lambda line: None))
    if known is None:
        try:
            known = _smaller(dataset, kept, cache)
            remember(cache, key, dataset.digest, known)
        except OSError as error:
            raise UsageError(
                f"decoded images must be written below {cache}, and that failed: {error}; choose another --cache"
            ) from error
    note = f"{count(len(gone), 'image was', 'images were')} left out as asked: {some(sorted(gone))}."
    return dataset.model_copy(
        update={
            "digest": known.digest,
            "store": known.store,
            "pictures": known.pictures,
            "warnings": (*dataset.notes, *known.warnings, note),
            "excluded": tuple(sorted(gone)),
        }
    )


def _smaller(dataset: Dataset, kept: Sequence[int], cache: Path) -> Dataset:
    source = open_store(dataset.store)
    counts = np.zeros((len(kept), 256), dtype=np.int64)
    with StoreWriter(cache, source.channels, source.dtype) as writer:
        for row, index in enumerate(kept):
            image = dataset.pictures[index]
            writer.append(source.image(index), source.mask(index))
            counts[row, : len(image.pixels)] = image.pixels
            counts[row, IGNORE] = image.ignored
        return assemble(
            writer,
            writer.finish(),
            About.of(dataset),
            stems=[dataset.pictures[i].stem for i in kept],
            counts=counts,
            sides=[Side(dataset.pictures[i].split, dataset.pictures[i].group) for i in kept],
        )
