"""Compare everything that the tests here load with the table corpus.csv: what is read today is read alike tomorrow.

A row is one load of a data set: the test, the number of the load within it, and what was read. `pytest -n 0 tests/data
--write-corpus` writes the rows of the tests that it runs; review the difference before you commit it.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sweeper.core.errors import DataError
from sweeper.core.records import Dataset
from sweeper.data import load

TABLE = Path(__file__).with_name("corpus.csv")
REFUSED = "refused"


class CorpusRow(NamedTuple):
    """What one load read."""

    test: str
    load: str
    """Number of the load within the test, from 0."""
    images: str
    """Number of images, or `refused`."""
    classes: str = ""
    pixels: str = ""
    """Pixels of each class, and ignored ones, over all images."""
    digest: str = ""
    """Of images, masks, classes, splits, groups and names."""


def describe_dataset(dataset: Dataset) -> tuple[str, str, str, str]:
    """Return the cells of a data set that was read."""
    pixels = [*dataset.count_class_pixels(), sum(image.ignored for image in dataset.images)]
    text = json.dumps([dataset.digest, *(image.stem for image in dataset.images)])
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return str(len(dataset.images)), "|".join(dataset.classes), " ".join(map(str, pixels)), digest


def read_corpus() -> dict[tuple[str, str], CorpusRow]:
    """Return the rows of the table by test and load."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = [CorpusRow(**row) for row in csv.DictReader(file)]
    return {(row.test, row.load): row for row in rows}


def write_corpus(rows: list[CorpusRow], tests: set[str]) -> None:
    """Replace the rows of these tests."""
    earlier = read_corpus().values() if TABLE.exists() else ()
    every: list[CorpusRow] = [*rows, *(row for row in earlier if row.test not in tests)]
    every.sort(key=lambda row: (row.test, int(row.load)))
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CorpusRow._fields)
        writer.writerows(every)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes the table."""
    parser.addoption("--write-corpus", action="store_true", help="write what the tests load into tests/data/corpus.csv")


@pytest.fixture(scope="session")
def corpus(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, str], CorpusRow] | None]:
    """Rows of the table; None while it is written."""
    if not request.config.getoption("--write-corpus", default=False):
        yield read_corpus()
        return
    written: list[CorpusRow] = request.config.stash.setdefault(WRITTEN, [])
    tests: set[str] = request.config.stash.setdefault(TESTS, set())
    yield None
    write_corpus(written, tests)


WRITTEN, TESTS = pytest.StashKey[list[CorpusRow]](), pytest.StashKey[set[str]]()


@pytest.fixture(autouse=True)
def check_loads(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, corpus: dict[tuple[str, str], CorpusRow] | None
) -> Iterator[None]:
    """Compare what the test loads with the rows of the table."""
    test = request.node.nodeid.removeprefix("tests/data/").encode("ascii", "backslashreplace").decode()
    rows: list[CorpusRow] = []

    def record(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            try:
                result = function(*arguments)
            except DataError:
                rows.append(CorpusRow(test, str(len(rows)), REFUSED))
                raise
            if isinstance(result, Dataset):
                rows.append(CorpusRow(test, str(len(rows)), *describe_dataset(result)))
            return result

        return call

    for name in ("choose_format", "read_dataset"):
        monkeypatch.setattr(load, name, record(getattr(load, name)))
    yield
    if corpus is None:
        request.config.stash[WRITTEN].extend(rows)
        request.config.stash[TESTS].add(test)
        return
    expected = [corpus.get((test, str(number))) for number in range(len(rows))]
    assert rows == expected, "read otherwise than corpus.csv says; --write-corpus writes it"
