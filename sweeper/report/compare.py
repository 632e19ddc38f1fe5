"""Studies side by side: which loss where, as text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sweeper.core.base import Record
from sweeper.core.document import Document, json_text
from sweeper.core.paths import ComparisonPaths
from sweeper.core.records import FinalistEvidence, Interval, Recommendation, SweepRecord, Task, Verdict
from sweeper.core.text import count
from sweeper.data.folds import NOT_HELD_OUT
from sweeper.evidence.document import LevelDifferenceRow
from sweeper.report.card import VERDICTS
from sweeper.report.facts import Facts, collect, difference, level_between
from sweeper.report.formatting import (
    MISSING,
    code,
    escape_md,
    levels,
    number,
    one_line,
    params_text,
    run_link,
    signed_interval,
    significant,
    table,
)
from sweeper.report.html import write_page


class ComparedLoss(Record):
    """The recommended configuration."""

    family: str
    params: dict[str, float]
    lr: float


class ComparedStudy(Record):
    """One study of a comparison."""

    label: str
    """What it is called in the comparison's tables."""
    study: str
    dataset: str
    digest: str
    """SHA-256 of pixels, labels, names and split."""
    task: Task
    imbalance: float | None
    verdict: Verdict
    provisional: bool
    recommended: ComparedLoss | None
    test_images: int | None
    level: float
    """Of the intervals, where none of their own is told."""
    gain_over_cross_entropy: dict[str, LevelDifferenceRow]
    """By family of the finalists, in their test score."""


class ComparisonDocument(Document):
    """Studies side by side: `comparison.json`, and what `sweeper report --compare` prints."""

    SCHEMA: ClassVar[str] = "sweeper.comparison/1"

    studies: tuple[ComparedStudy, ...]
    """From the mildest to the severest imbalance."""


@dataclass(frozen=True)
class Side:
    """One of the studies that are compared."""

    label: str
    """A number that stands for it in the tables."""
    facts: Facts

    @property
    def name(self) -> str:
        """Of the data set."""
        return self.facts.sweep.conditions.dataset.name

    def gain(self, family: str) -> Interval | None:
        """Paired difference in the test score to cross-entropy; None where either was not confirmed.

        Of two configurations of a family the one with the higher estimate counts.
        """
        mine = self._finalist(family)
        return None if mine is self.facts.baseline else difference(self.facts, mine, self.facts.baseline)

    def level(self, family: str) -> float:
        """Of the interval of `gain`: of the interim analysis at which it was taken."""
        return level_between(self.facts, self._finalist(family), self.facts.baseline)

    def _finalist(self, family: str) -> FinalistEvidence | None:
        own = (f for f in self.facts.finalists if f.family == family)
        return max(own, key=lambda f: f.score.estimate, default=None)


def sides(studies: Sequence[tuple[SweepRecord, Recommendation]]) -> tuple[Side, ...]:
    """The studies from the mildest to the severest imbalance, with a number each."""
    ordered = sorted(studies, key=lambda s: (s[0].profile.imbalance, s[0].study))
    return tuple(Side(str(place), collect(*study)) for place, study in enumerate(ordered, 1))


def write_comparison(
    studies: Sequence[tuple[SweepRecord, Recommendation]], out: Path, *, ui_url: str
) -> ComparisonPaths:
    """Write `OUT/compare-…/{report.md, report.html, comparison.json}` over an earlier one.

    Args:
        studies: Two or more studies with their answers, in any order.
        out: Folder of all reports; created when missing.
        ui_url: Where the links to runs point.

    Raises:
        OSError: if a file cannot be written.
    """
    compared = sides(studies)
    paths = ComparisonPaths(out, [sweep.study for sweep, _ in studies])
    paths.folder.mkdir(parents=True, exist_ok=True)
    paths.document.write_text(json_text(comparison_json(compared)), "utf-8")
    write_page(comparison_text(compared, ui_url), paths.markdown)
    return paths


def comparison_json(compared: Sequence[Side]) -> dict[str, Any]:
    """The comparison as JSON types, schema `sweeper.comparison/1`; what is unknown is null."""
    return ComparisonDocument(studies=tuple(map(_row, compared))).document


def _row(side: Side) -> ComparedStudy:
    sweep, found = side.facts.sweep, side.facts.recommendation
    answer, imbalance = found.recommended, sweep.profile.imbalance
    gains = {}
    for family in dict.fromkeys(f.family for f in side.facts.finalists):
        gain = side.gain(family)
        if gain is not None:
            gains[family] = LevelDifferenceRow(
                difference=gain.estimate, ci_low=gain.low, ci_high=gain.high, level=side.level(family)
            )
    return ComparedStudy(
        label=side.label,
        study=sweep.study,
        dataset=side.name,
        digest=sweep.conditions.dataset.digest,
        task=sweep.conditions.dataset.task,
        imbalance=imbalance if math.isfinite(imbalance) else None,
        verdict=found.verdict,
        provisional=found.provisional,
        recommended=None if answer is None else ComparedLoss(family=answer.family, params=answer.params, lr=answer.lr),
        test_images=found.evidence.test_images if found.evidence else None,
        level=side.facts.level,
        gain_over_cross_entropy=gains,
    )


def comparison_text(compared: Sequence[Side], ui_url: str) -> str:
    """The whole comparison in GitHub's markdown."""
    parts = [
        f"# Which loss where: {count(len(compared), 'study')} compared",
        _studies(compared, ui_url),
        "Ordered by imbalance: background to foreground pixels of two classes, commonest to rarest class of more. Test "
        "mIoU is of the recommended loss; it depends on the data, so compare gains and not mIoU between data "
        "sets. Gains are in what each study compares (`--metric`).",
        "## Gain over cross-entropy",
        *(_gains(compared) or ["No study confirmed a loss beside cross-entropy."]),
        *_differing(compared),
        "The same for programs: [comparison.json](comparison.json).",
    ]
    return "\n\n".join(parts) + "\n"


def _studies(compared: Sequence[Side], ui_url: str) -> str:
    """A row per study: its data, its answer, what it gains."""
    header = ["", "data set", "study", "recommended", "verdict", "imbalance", "classes", "test images"]
    header += ["test mIoU", "gain over cross-entropy"]
    rows = []
    for side in compared:
        sweep, found, own = side.facts.sweep, side.facts.recommendation, side.facts.chosen
        answer, evidence = found.recommended, found.evidence
        settings = f"{code(answer.family)} {params_text(answer.params)}".strip() if answer else MISSING
        verdict = VERDICTS[found.verdict] + (", provisional" if found.provisional else "")
        verdict += f", {NOT_HELD_OUT}" if sweep.conditions.folds is not None else ""
        link = run_link(escape_md(sweep.study), ui_url, sweep.experiment_id, sweep.parent_run_id)
        gain = signed_interval(difference(side.facts, own, side.facts.baseline))
        rows.append(
            [
                *(side.label, escape_md(side.name), link),
                *(settings, verdict, significant(sweep.profile.imbalance), str(len(side.facts.classes))),
                *(str(evidence.test_images) if evidence else MISSING, number(own.miou.estimate if own else None)),
                "baseline" if own is not None and own is side.facts.baseline else gain,
            ]
        )
    return table(header, rows, left=5)


def _gains(compared: Sequence[Side]) -> list[str]:
    """A row per family: its paired difference to cross-entropy in every study; nothing without any."""
    known = dict.fromkeys(family for side in compared for family in side.facts.families)
    gained = [family for family in known if any(side.gain(family) is not None for side in compared)]
    if not gained:
        return []
    rows = [[code(family), *(signed_interval(side.gain(family)) for side in compared)] for family in gained]
    header = ["loss", *(f"{side.label} {escape_md(side.name)}" for side in compared)]
    at = levels(side.level(family) for side in compared for family in gained if side.gain(family) is not None)
    return [
        table(header, rows),
        f"Paired differences in the test score with their intervals at {at}. A dash: the loss was not among that "
        "study's finalists, or cross-entropy was not. Many data sets give chance many occasions, and intervals are not "
        "corrected for their number.",
    ]


def _differing(compared: Sequence[Side]) -> Iterator[str]:
    """What else differs between the studies, from which a difference between data sets may come."""
    settings = [_settings(side.facts.sweep) for side in compared]
    names = [name for name in settings[0] if len({str(one[name]) for one in settings}) > 1]
    if names:
        yield (
            "Recipe or budget differs, and a difference between data sets may come from it: "
            f"{', '.join(map(code, names))}."
        )


def _settings(sweep: SweepRecord) -> dict[str, Any]:
    recipe = sweep.conditions.recipe.model_dump(mode="json")
    more = {"task": sweep.conditions.dataset.task, "space": sweep.space.name, "trials": sweep.trials_asked}
    return {**recipe, **more, "rope": sweep.rope, "sweeper": sweep.versions.get("sweeper")}


def answer_lines(compared: Sequence[Side]) -> list[str]:
    """A line per study for a terminal: data set, imbalance, recommended loss, verdict, gain."""
    lines = []
    for side in compared:
        found = side.facts.recommendation
        family = found.recommended.family if found.recommended else "none"
        gain = difference(side.facts, side.facts.chosen, side.facts.baseline)
        cells = [side.label, f"{one_line(side.name):16}"]
        cells += [f"imbalance {significant(side.facts.sweep.profile.imbalance):>6}", f"{family:14}"]
        cells += [VERDICTS[found.verdict], *([signed_interval(gain)] if gain else [])]
        lines.append("  ".join(cells))
    return lines
