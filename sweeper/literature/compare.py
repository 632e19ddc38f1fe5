"""A confirmed result against what was published: agrees, conflicts, or outside what was studied.

For each study with two losses that were both confirmed here:

- *outside what was studied* where the study is of another kind of task, of thin structures where there are none here
  (or the other way round), or where the share of the foreground here is beyond twice or below half of what it studied;
- else each pair *agrees* where the paired interval excludes 0 in the published direction, *conflicts* where it excludes
  it in the other, and is *open* where it contains 0. A study whose data sets point in both directions has none.

Sentences carry names of losses and numbers alone, but for class names, which are not escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.records import ClassProfile, Evidence, ImbalanceProfile, Task
from sweeper.core.text import listed, with_sign
from sweeper.core.yaml_file import read_yaml
from sweeper.evidence.decision_rule import difference, measured
from sweeper.evidence.other_metrics import THIN

# --- The table, and what a study says of two losses ----------------------------------------------------------


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
        compared = {family for figures in self.figures for family in figures.values}
        return frozenset(compared | {family for pair in self.claims for family in pair})


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

# --- A result beside it -------------------------------------------------------------------------------------

WIDER = 2.0
"""A foreground share within this factor of the studied range counts as studied."""


def compare_with_literature(
    profile: ImbalanceProfile, evidence: Evidence | None, studies: Sequence[Study] = STUDIES
) -> list[str]:
    """Sentences on how the confirmed differences compare with published ones; [] where no study compared these."""
    if evidence is None or len(evidence.finalists) < 2:
        return []
    sentences = []
    confirmed = {f.family for f in evidence.finalists}
    for study in studies:
        pairs = _pairs(study, evidence)
        if not pairs:
            continue
        if outside := _outside(study, profile):
            names = listed(sorted(study.families & confirmed))
            sentences.append(f"{study.title}, compares {names}: outside what was studied ({'; '.join(outside)}).")
        else:
            sentences.append(_judged(study, evidence, pairs))
    return sentences


def _pairs(study: Study, evidence: Evidence) -> list[tuple[int, int, Published]]:
    """Indices of two finalists that the study compares, and what it says of them; one seed each shows nothing."""
    pairs = (pair for pair in combinations(range(len(evidence.finalists)), 2) if measured(evidence, *pair))
    found = ((i, j, published(study, evidence.finalists[i].family, evidence.finalists[j].family)) for i, j in pairs)
    return [(first, second, known) for first, second, known in found if known is not None]


def _outside(study: Study, profile: ImbalanceProfile) -> list[str]:
    """Why this data is beyond what was studied; [] where it is within."""
    reasons = []
    task = "binary" if len(profile.classes) == 2 else "multiclass"
    if task not in study.tasks:
        kinds = listed([f"{_task_word(known)} segmentation" for known in study.tasks])
        reasons.append(f"it is about {kinds}, this is a {_task_word(task)} task")
    rare = rarest(profile)
    if study.share is not None:
        low, high = study.share
        if not low / WIDER <= rare.pixel_share <= high * WIDER:
            reasons.append(
                f"its foreground takes {100 * low:.2g} to {100 * high:.3g} % of the pixels, {rare.name} "
                f"{100 * rare.pixel_share:.2g} %"
            )
    if study.thin is not None and rare.thinness is not None:
        thin = rare.thinness > THIN
        if thin != study.thin:
            kind = "thin structures" if study.thin else "broad objects"
            reasons.append(f"it is about {kind}, of {rare.name} {100 * rare.thinness:.0f} % of the pixels are thin")
    return reasons


def _task_word(task: str) -> str:
    return "multi-class" if task == "multiclass" else task


def rarest(profile: ImbalanceProfile) -> ClassProfile:
    """The rarest class that occurs; of a binary task the foreground. At least two classes occur in a profile."""
    among = profile.classes[1:] if len(profile.classes) == 2 else profile.classes
    return min((c for c in among if c.pixel_share > 0), key=lambda c: c.pixel_share)


def _judged(study: Study, evidence: Evidence, pairs: Sequence[tuple[int, int, Published]]) -> str:
    outcomes: dict[str, list[str]] = {"agrees": [], "conflicts": [], "open": [], "none": []}
    for first, second, known in pairs:
        a, b = evidence.finalists[first].family, evidence.finalists[second].family
        gap = difference(evidence, first, second)
        sign = {"better": 1, "worse": -1, "mixed": 0}[known.direction]
        here = f"here {with_sign(gap.estimate)} [{with_sign(gap.low)}, {with_sign(gap.high)}] {evidence.scale.score}"
        there = ""
        if known.gain is not None:
            there = f"published {with_sign(known.gain)} {study.measure}, ahead on {known.agreeing} of {known.of}; "
        elif sign:
            there = f"published as {'better' if sign > 0 else 'worse'}; "
        text = f"{a} against {b} ({there}{here})"
        if not sign:
            outcomes["none"].append(f"{a} against {b}")
        elif sign * gap.low > 0 and sign * gap.high > 0:
            outcomes["agrees"].append(text)
        elif sign * gap.low < 0 and sign * gap.high < 0:
            outcomes["conflicts"].append(text)
        else:
            outcomes["open"].append(text)
    words = {
        "agrees": "agrees on {}",
        "conflicts": "conflicts on {}",
        "open": "not told apart here, where the interval contains 0: {}",
        "none": "points both ways itself on {}",
    }
    parts = [words[kind].format(listed(pairs_)) for kind, pairs_ in outcomes.items() if pairs_]
    limits = [*(["3D"] if study.volumes else []), *(["foreground share not stated"] if study.share is None else [])]
    return f"{study.title}{f' ({listed(limits)})' if limits else ''}: {'; '.join(parts)}."
