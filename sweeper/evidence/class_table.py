"""What the loss does for each class: the test IoU with two losses, the rarest class first, and what to mind of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sweeper.core.records import ClassEvidence, Evidence, Gain, ImbalanceProfile, Remark
from sweeper.evidence.answer import make_remark
from sweeper.evidence.document import ClassEffect, ClassScore, ClassTable
from sweeper.evidence.settling import find_rival
from sweeper.evidence.verdict_predicates import is_measured


def make_class_table(evidence: Evidence | None, profile: ImbalanceProfile, use: str) -> ClassTable | None:
    """Return the classes of the data, the rarest first, with the present loss and the used one, `use`.

    Where these are the same, or one is missing, another takes its place (`find_rival`). None where no class was scored.
    """
    if evidence is None or not evidence.per_class:
        return None
    names = [finalist.family for finalist in evidence.finalists]
    used = names.index(use) if use in names else 0
    pair = [i for i in (used, find_rival(evidence, used)) if i is not None]
    pair.sort(key=lambda i: i != evidence.baseline)
    effects = {one.name: _measure_effect(evidence, one, pair) for one in evidence.per_class}
    occurring = sorted((one for one in profile.classes if one.pixel_share > 0), key=lambda one: one.pixel_share)
    unmeasured = ClassEffect(name="", share=0.0)
    return ClassTable(
        losses=tuple(names[i] for i in pair),
        rows=tuple(
            effects.get(one.name, unmeasured).model_copy(update={"name": one.name, "share": one.pixel_share})
            for one in occurring
        ),
    )


def _measure_effect(evidence: Evidence, one: ClassEvidence, pair: Sequence[int]) -> ClassEffect:
    """Return the scores of a class with these losses, and the gain over the present one if its interval is known."""
    scores = []
    for i in pair:
        ends = one.scores[i].ends if is_measured(evidence, i, i) else {}
        scores.append(ClassScore(**{"estimate": one.scores[i].estimate, **ends}))
    effect = ClassEffect(name=one.name, share=0.0, scores=tuple(scores))
    for i in pair[1:]:
        if one.gains and is_measured(evidence, pair[0], i):
            change = {"gain": Gain(**one.gains[i].ends), "established": one.established[i]}
            effect = effect.model_copy(update=change)
    return effect


def list_class_remarks(evidence: Evidence, table: ClassTable) -> Iterator[Remark]:
    """Yield what the losses do for the classes: the rarest, those that gain or lose, and what stays unlearned."""
    tested = [row for row in table.rows if len(row.scores) > 1]
    for row in tested[:1]:
        (present, other), (before, after) = table.losses, row.scores
        scores = {"before": before.estimate, "after": after.estimate}
        yield make_remark("RAREST", rarest=row.name, loss=other, other=present, **scores)
    shown: dict[str, list[str]] = {}
    for row in tested:
        if row.established and row.gain is not None:
            shown.setdefault("RISES" if row.gain.low > 0 else "FALLS", []).append(row.name)
    for code, names in shown.items():
        yield make_remark(code, classes=tuple(names), loss=table.losses[1])
    learned = [one for one in evidence.per_class if any(one.learned)]
    if unlearned := tuple(one.name for one in evidence.per_class if one not in learned):
        yield make_remark("UNLEARNED", classes=unlearned)
    for i, finalist in enumerate(evidence.finalists):
        missed = {one.name: one.missed[i] for one in learned if finalist.family in table.losses}
        for n in sorted({*missed.values()} - {0}, reverse=True):
            classes = tuple(name for name, times in missed.items() if times == n)
            values = {"loss": finalist.family, "trainings": finalist.trainings}
            yield make_remark("LUCKY", n=n, classes=classes, **values)
