"""Published comparisons of losses: the records of `studies.yaml`, and what a study says of two losses."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.records import Task
from sweeper.core.yaml_file import read_yaml


class Figures(Record):
    """One data set (or network) of a study: the value of each loss, higher being better."""

    name: str
    values: dict[str, float]
    """Family → value, in the study's own measure."""


class Study(Record):
    """One publication or benchmark."""

    key: str
    title: str
    source: str
    """With arXiv:… or doi:… where there is one."""
    seen: str
    """Where its statements and figures were read."""
    compared: str
    tasks: tuple[Task, ...]
    """Kinds of segmentation tasks."""
    volumes: bool
    """Three-dimensional images."""
    share: tuple[float, float] | None = None
    """Least and largest share of foreground pixels in its data, 0–1; None where not stated where it was read."""
    thin: bool | None = None
    """Whether its objects are thin structures; None where of several kinds, or not stated."""
    measure: str
    figures: tuple[Figures, ...] = ()
    claims: tuple[tuple[str, str], ...] = Field((), description="(better, worse) families, where no figures are quoted")
    """What it states in words alone: (better, worse)."""
    result: str
    """In a sentence or two; numbers only where they were read."""

    @property
    def families(self) -> frozenset[str]:
        """Losses of the registry that it says something about."""
        told = {family for figures in self.figures for family in figures.values}
        return frozenset(told | {family for pair in self.claims for family in pair})


Direction = Literal["better", "worse", "mixed"]

UNANIMOUS = 0.75
"""A study has a direction where at least this share of its data sets point the same way."""


class Published(Record):
    """What a study says of one loss against another."""

    direction: Direction
    gain: float | None = None
    """Mean difference in the study's measure; None without figures."""
    agreeing: int = 0
    """Data sets on which the first is better…"""
    of: int = 0
    """…of so many."""


def published(study: Study, first: str, second: str) -> Published | None:
    """What `study` says of loss `first` against `second`; None where it does not compare them."""
    gaps = [f.values[first] - f.values[second] for f in study.figures if first in f.values and second in f.values]
    if gaps:
        ahead, behind = sum(g > 0 for g in gaps), sum(g < 0 for g in gaps)
        mean = sum(gaps) / len(gaps)
        direction: Direction = "mixed"
        if mean > 0 and ahead >= UNANIMOUS * len(gaps):
            direction = "better"
        elif mean < 0 and behind >= UNANIMOUS * len(gaps):
            direction = "worse"
        return Published(direction=direction, gain=mean, agreeing=ahead, of=len(gaps))
    if (first, second) in study.claims:
        return Published(direction="better")
    if (second, first) in study.claims:
        return Published(direction="worse")
    return None


def _read(path: Path) -> tuple[Study, ...]:
    """The studies of a file, whose tables of figures have a row for each loss and a column for each data set."""
    problems: list[str] = []
    found = []
    for entry in read_yaml(path, problems) or ():
        table = entry.pop("figures", {"columns": (), "values": {}})
        columns = enumerate(table["columns"])
        figures = [{"name": n, "values": {loss: row[i] for loss, row in table["values"].items()}} for i, n in columns]
        found.append(Study(**entry, figures=figures))
    assert not problems, problems
    return tuple(found)


STUDIES = _read(Path(__file__).with_name("studies.yaml"))
