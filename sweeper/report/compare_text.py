"""What a comparison of studies says: the studies, tables, sentences, and a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.core.records import FinalistEvidence, Interval, Recommendation, SweepRecord
from sweeper.core.text import count, listed
from sweeper.data.folds import NOT_HELD_OUT
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

BASELINE = "cross_entropy"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Side:
    """One of the studies that are compared."""

    label: str
    """A letter that stands for it in tables and figures."""
    facts: Facts

    @property
    def sweep(self) -> SweepRecord:
        """Its record."""
        return self.facts.sweep

    @property
    def recommendation(self) -> Recommendation:
        """Its answer."""
        return self.facts.recommendation

    @property
    def imbalance(self) -> float:
        """Binary: background / foreground pixels; multi-class: commonest / rarest class."""
        return self.sweep.profile.imbalance

    @property
    def name(self) -> str:
        """Of the data set."""
        return self.sweep.conditions.dataset.name

    def gain(self, family: str) -> Interval | None:
        """Paired difference in the test score to cross-entropy; None where either was not confirmed.

        Of two configurations of a family the one with the higher estimate counts.
        """
        mine = self.finalist(family)
        return None if mine is self.facts.baseline else difference(self.facts, mine, self.facts.baseline)

    def level(self, family: str) -> float:
        """Of the interval of `gain`: of the interim analysis at which it was taken."""
        return level_between(self.facts, self.finalist(family), self.facts.baseline)

    def finalist(self, family: str) -> FinalistEvidence | None:
        """The family's best finalist."""
        return max(
            (f for f in self.facts.finalists if f.family == family), key=lambda f: f.score.estimate, default=None
        )


def sides(studies: Sequence[tuple[SweepRecord, Recommendation]]) -> tuple[Side, ...]:
    """The studies from the mildest to the severest imbalance, with a letter each (A, B, … Z, AA, …)."""
    ordered = sorted(studies, key=lambda s: (s[0].profile.imbalance, s[0].study))
    labels = [*LETTERS, *(a + b for a in LETTERS for b in LETTERS)]
    return tuple(Side(label, collect(*study)) for label, study in zip(labels, ordered, strict=False))


def families(compared: Sequence[Side]) -> tuple[str, ...]:
    """Families with a gain over cross-entropy in any study, in the order of the search spaces."""
    known = dict.fromkeys(family for side in compared for family in side.facts.families)
    return tuple(f for f in known if f != BASELINE and any(side.gain(f) is not None for side in compared))


def comparison_text(compared: Sequence[Side], ui_url: str) -> str:
    """The whole comparison in GitHub's markdown."""
    title = f"# Which loss where: {count(len(compared), 'study')} compared"
    gained = gain_table(compared)
    parts = [
        title,
        headline(compared),
        study_table(compared, ui_url),
        "Ordered by imbalance: background to foreground pixels of two classes, commonest to rarest class of more. Test "
        "mIoU is of the recommended loss; it depends on the data, so compare gains and not mIoU between data "
        "sets. Gains are in what each study compares (`--metric`).",
        "## Gain over cross-entropy",
        gained or "No study confirmed a loss beside cross-entropy.",
        *_bullets(legend(compared)),
        "## What limits this comparison",
        *_bullets(list(limits(compared))),
        "The same for programs: [comparison.json](comparison.json).",
    ]
    return "\n\n".join(parts) + "\n"


def _bullets(lines: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {line}" for line in lines)] if lines else []


def headline(compared: Sequence[Side]) -> str:
    """Which loss is recommended where, the commonest answer first."""
    chosen: dict[str, list[Side]] = {}
    for side in compared:
        answer = side.recommendation.recommended
        chosen.setdefault(answer.family if answer else "", []).append(side)
    texts = []
    for family, where in sorted(chosen.items(), key=lambda entry: (entry[0] == "", -len(entry[1]))):
        said = listed([f"{s.label} {escape_md(s.name)} ({VERDICTS[s.recommendation.verdict]})" for s in where])
        texts.append(f"**{code(family)}** for {said}" if family else f"no loss for {said}")
    return f"Recommended: {'; '.join(texts)}."


def study_table(compared: Sequence[Side], ui_url: str) -> str:
    """A row per study: its data, its answer, what it gains."""
    header = ["", "data set", "study", "recommended", "verdict", "imbalance", "classes", "test images"]
    header += ["test mIoU", "gain over cross-entropy"]
    rows = []
    for side in compared:
        sweep, answer, evidence = side.sweep, side.recommendation.recommended, side.recommendation.evidence
        settings = f"{code(answer.family)} {params_text(answer.params)}".strip() if answer else MISSING
        verdict = VERDICTS[side.recommendation.verdict] + (", provisional" if side.recommendation.provisional else "")
        verdict += f", {NOT_HELD_OUT}" if sweep.conditions.folds is not None else ""
        link = run_link(escape_md(sweep.study), ui_url, sweep.experiment_id, sweep.parent_run_id)
        gain = difference(side.facts, side.facts.chosen, side.facts.baseline)
        own = side.facts.chosen
        is_baseline = own is not None and own is side.facts.baseline
        rows.append(
            [
                *(side.label, escape_md(side.name), link),
                *(settings, verdict, significant(side.imbalance), str(len(side.facts.classes))),
                *(str(evidence.test_images) if evidence else MISSING, number(own.miou.estimate if own else None)),
                "baseline" if is_baseline else signed_interval(gain),
            ]
        )
    return table(header, rows, left=5)


def gain_table(compared: Sequence[Side]) -> str:
    """A row per family: its paired difference to cross-entropy in every study; empty without any."""
    rows = []
    for family in families(compared):
        gains = [side.gain(family) for side in compared]
        known = [g for g in gains if g is not None]
        better, worse = sum(g.low > 0 for g in known), sum(g.high < 0 for g in known)
        shown = f"{better} better, {worse} worse, {len(known) - better - worse} open"
        rows.append([code(family), shown, *(signed_interval(g) for g in gains)])
    header = ["loss", "shown to be", *(f"{side.label} {escape_md(side.name)}" for side in compared)]
    return table(header, rows, left=2) if rows else ""


def legend(compared: Sequence[Side]) -> list[str]:
    """How the table is read."""
    if not families(compared):
        return []
    at = levels(side.level(f) for side in compared for f in families(compared) if side.gain(f) is not None)
    each = ", by interim analysis" if " to " in at else ""
    return [
        f"Paired differences in the test score with their intervals at {at}{each}; *better* and *worse* count "
        "those that lie on one side of 0. A dash: the loss was not among that study's finalists, or cross-entropy was "
        "not."
    ]


def limits(compared: Sequence[Side]) -> Iterator[str]:
    """What else differs between the studies, and what is missing; markdown."""
    tasks = {side.sweep.conditions.dataset.task for side in compared}
    if len(tasks) > 1:
        yield (
            "Tasks are mixed: with two classes mIoU is half background, with more it is the mean over all, and the "
            "imbalance is of different things. Compare gains within a task."
        )
    settings = [_settings(side.sweep) for side in compared]
    names = dict.fromkeys(name for one in settings for name in one)
    differing = [name for name in names if len({one.get(name) for one in settings}) > 1]
    if differing:
        each = [f"{code(name)} ({_each(compared, [one.get(name) for one in settings])})" for name in differing]
        yield f"Recipe or budget differs, and a difference between data sets may come from it: {'; '.join(each)}."
    else:
        yield "All studies share recipe, budget and search space; another network, crop size or schedule may differ."
    digests: dict[str, list[str]] = {}
    for side in compared:
        digests.setdefault(side.sweep.conditions.dataset.digest, []).append(side.label)
    for same in digests.values():
        if len(same) > 1:
            yield f"{listed(same)} are of the same data: they repeat each other and count once."
    made = [side.label for side in compared if side.sweep.conditions.dataset.synthetic]
    if made:
        yield f"Synthetic images: {listed(made)}."
    yield (
        "Each study's interval speaks of its own test split. Many data sets give chance many occasions, and intervals "
        "are not corrected for their number."
    )


def _settings(sweep: SweepRecord) -> dict[str, Any]:
    recipe = sweep.conditions.recipe.model_dump(mode="json")
    more = {"space": sweep.space.name, "trials": sweep.trials_asked, "rope": sweep.rope}
    return {**recipe, **more, "sweeper": sweep.versions.get("sweeper")}


def _each(compared: Sequence[Side], values: Sequence[object]) -> str:
    return ", ".join(f"{side.label} {escape_md(str(value))}" for side, value in zip(compared, values, strict=True))


def answer_lines(compared: Sequence[Side]) -> list[str]:
    """A line per study for a terminal: data set, imbalance, recommended loss, verdict, gain."""
    lines = []
    for side in compared:
        answer, own = side.recommendation.recommended, side.facts.chosen
        gain = difference(side.facts, own, side.facts.baseline)
        cells = [side.label, f"{one_line(side.name):16}", f"imbalance {significant(side.imbalance):>6}"]
        cells += [f"{answer.family if answer else 'none':14}", VERDICTS[side.recommendation.verdict]]
        lines.append("  ".join([*cells, *([signed_interval(gain)] if gain else [])]))
    return lines
