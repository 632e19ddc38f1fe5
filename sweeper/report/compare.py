"""Studies side by side: which loss where, as lines for a terminal and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from sweeper.core.base import Record
from sweeper.core.document import Document
from sweeper.core.records import FinalistEvidence, Recommendation, SweepRecord, Task, Verdict
from sweeper.core.text import listed
from sweeper.evidence.document import LevelDifferenceRow
from sweeper.report.card import VERDICTS
from sweeper.report.facts import Facts, collect, difference, level_between
from sweeper.report.formatting import level, one_line, signed, significant

Studies = Sequence[tuple[SweepRecord, Recommendation]]


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
    """Studies side by side: what `sweeper report --compare` prints."""

    SCHEMA: ClassVar[str] = "sweeper.comparison/1"

    studies: tuple[ComparedStudy, ...]
    """From the mildest to the severest imbalance."""


def comparison(studies: Studies) -> ComparisonDocument:
    """The studies from the mildest to the severest imbalance, with a number each; what is unknown is null."""
    ordered = sorted(studies, key=lambda s: (s[0].profile.imbalance, s[0].study))
    return ComparisonDocument(studies=tuple(_compared(str(n), *study) for n, study in enumerate(ordered, 1)))


def _compared(label: str, sweep: SweepRecord, found: Recommendation) -> ComparedStudy:
    facts, answer, imbalance = collect(sweep, found), found.recommended, sweep.profile.imbalance
    gains = {f.family: gain for f in facts.finalists if (gain := _gain(facts, f)) is not None}
    return ComparedStudy(
        label=label,
        study=sweep.study,
        dataset=sweep.conditions.dataset.name,
        digest=sweep.conditions.dataset.digest,
        task=sweep.conditions.dataset.task,
        imbalance=imbalance if math.isfinite(imbalance) else None,
        verdict=found.verdict,
        provisional=found.provisional,
        recommended=None if answer is None else ComparedLoss(family=answer.family, params=answer.params, lr=answer.lr),
        test_images=found.evidence.test_images if found.evidence else None,
        level=facts.level,
        gain_over_cross_entropy=gains,
    )


def _gain(facts: Facts, finalist: FinalistEvidence) -> LevelDifferenceRow | None:
    """Paired difference in the test score to cross-entropy; None where that was not confirmed, and of itself."""
    gain = difference(facts, finalist, facts.baseline)
    if gain is None:
        return None
    at = level_between(facts, finalist, facts.baseline)
    return LevelDifferenceRow(difference=gain.estimate, ci_low=gain.low, ci_high=gain.high, level=at)


def comparison_text(studies: Studies) -> str:
    """A line per study, what each loss gained over cross-entropy there, and what else differs between them."""
    found = comparison(studies).studies
    lines = []
    for one in found:
        family = one.recommended.family if one.recommended else "none"
        verdict = VERDICTS[one.verdict] + (", provisional" if one.provisional else "")
        cells = [one.label, f"{one_line(one.dataset):16}", f"imbalance {significant(one.imbalance):>6}", f"{family:14}"]
        lines.append("  ".join([*cells, verdict]))
    lines.append("Gain in the test score over cross-entropy, in each study that confirmed both:")
    for family in dict.fromkeys(family for one in found for family in one.gain_over_cross_entropy):
        gains = ((one.label, one.gain_over_cross_entropy.get(family)) for one in found)
        told = "; ".join(f"{label}: {_shown(gain)}" for label, gain in gains if gain is not None)
        lines.append(f"  {family:14}  {told}")
    settings = [_settings(sweep) for sweep, _ in studies]
    names = [name for name in settings[0] if len({str(one[name]) for one in settings}) > 1]
    if names:
        lines.append(f"A difference between data sets may come from what else differs: {listed(names)}.")
    return "\n".join(lines)


def _shown(gain: LevelDifferenceRow) -> str:
    interval = f"[{signed(gain.ci_low)}, {signed(gain.ci_high)}]"
    return f"{signed(gain.difference)} {interval} ({level(gain.level)})"


def _settings(sweep: SweepRecord) -> dict[str, Any]:
    recipe = sweep.conditions.recipe.model_dump(mode="json")
    more = {"task": sweep.conditions.dataset.task, "space": sweep.space.name, "trials": sweep.trials_asked}
    return {**recipe, **more, "rope": sweep.rope, "sweeper": sweep.versions.get("sweeper")}
