"""The confirmed runs judged by preferences other than the verdict's metric.

Every measure comes from counts summed over the test images. Its intervals are formed as the verdict's: paired over
seeds and images, with a seed part and an image part (`sweeper.evidence.intervals`). They are at 95 %: of each loss on
its own, and of the best's differences to all rivals together (Bonferroni); without this the best of four equal losses
would seem to beat one of them in 17 % of cases. They are corrected neither for the interim analyses nor for the number
of measures: a row of this table is a hint for a user who chose the measure beforehand, not a second verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from sweeper.core.records import (
    Evidence,
    ImbalanceProfile,
    Interval,
    Preference,
    PreferenceName,
    Recommendation,
    TrialResult,
)
from sweeper.evidence.intervals import LEVEL, compute_paired_interval, negate_interval
from sweeper.evidence.other_metrics import PreferenceMeasure, list_measures
from sweeper.evidence.replicates import ReplicateRows, arrange_rows, group_by_seed
from sweeper.evidence.verdict_predicates import has_learned

PREFERENCE_TITLES: Mapping[PreferenceName, str] = {
    "overlap": "the overlap of all classes alike",
    "misses": "missing little (a miss costs more than a false alarm)",
    "false_alarms": "few false alarms (a false alarm costs more than a miss)",
    "boundaries": "exact boundaries",
    "thin_structures": "unbroken thin structures",
    "rare_classes": "rare classes",
    "probabilities": "trustworthy probabilities",
}
"""Display name of each preference."""


def judge_preferences(
    confirmations: Sequence[TrialResult],
    evidence: Evidence,
    profile: ImbalanceProfile | None,
    *,
    tuned: bool = True,
    metric: str = "miou",
    groups: Sequence[str | None] | None = None,
) -> tuple[Preference, ...]:
    """Judge the confirmed finalists by every preference that the data allow, in the order of `PreferenceName`.

    Only the confirmations that the evidence was computed from count. Operating points are chosen on each run's own
    validation images, separately for F2 and F½; without `tuned` all are 0.5 (τ = 0). Where the verdict compares another
    `metric`, mIoU is a preference, too.

    A preference that cannot be measured is left out: boundaries, thin structures and probabilities where the runs have
    no `TestDetail`, thin structures where the profile has no thin class. There are none where no finalist learned
    anything or there is only one: a calibrated answer of nothing but background helps nobody.
    """
    if len(evidence.finalists) < 2 or not find_learned(evidence):
        return ()
    rows = arrange_finalists(confirmations, evidence, groups)
    measures = list_measures(rows.rows, profile, tuned=tuned, metric=metric)
    return tuple(_judge_preference(measure, evidence, rows) for measure in measures)


def choose_by_preference(recommendation: Recommendation) -> list[tuple[Preference, int]]:
    """List each preference with the index of its choice: the recommended finalist if unbeaten, else the best."""
    evidence, recommended = recommendation.evidence, find_recommended_index(recommendation)
    if evidence is None or recommended is None:
        return []
    return [(p, recommended if recommended in p.unbeaten else p.best) for p in evidence.preferences]


def find_rival(preference: Preference, chosen: int, recommended: int | None) -> tuple[int, Interval] | None:
    """Return the rival of a choice and the choice's lead, above 0 where better; None if there is no rival.

    The rival is the recommended finalist where the choice is another, else the best of the others that learned.
    """
    leads = {i: lead for i, lead in enumerate(preference.leads) if lead is not None}
    if chosen in leads:
        return preference.best, negate_interval(leads[chosen])
    rival = recommended if recommended in leads else min(leads, key=lambda i: leads[i].estimate, default=None)
    return None if rival is None or chosen != preference.best else (rival, leads[rival])


def find_recommended_index(recommendation: Recommendation) -> int | None:
    """Return the index of the recommended configuration among the finalists; None where nothing is recommended."""
    answer, evidence = recommendation.recommended, recommendation.evidence
    if answer is None or evidence is None:
        return None
    wanted = (answer.family, answer.params, answer.lr)
    return next((i for i, f in enumerate(evidence.finalists) if (f.family, f.params, f.lr) == wanted), None)


def find_learned(evidence: Evidence) -> list[int]:
    """Return the indices of the finalists that learned and did not collapse in every training."""
    finalists = enumerate(evidence.finalists)
    return [i for i, f in finalists if f.collapses < f.trainings and has_learned(evidence, i)]


def arrange_finalists(
    confirmations: Sequence[TrialResult], evidence: Evidence, groups: Sequence[str | None] | None
) -> ReplicateRows:
    """Arrange the replicates of the evidence's finalists in rows; `groups` as `compute_evidence` takes them."""

    def key(family: str, params: Mapping[str, float]) -> tuple[object, ...]:
        return family, tuple(sorted(params.items()))

    runs: dict[tuple[object, ...], list[TrialResult]] = {}
    for run in confirmations:
        if run.state == "complete":
            runs.setdefault(key(run.spec.family, run.spec.params), []).append(run)
    replicates = [(group_by_seed(runs.get(key(f.family, f.params), ())), f.seeds) for f in evidence.finalists]
    return arrange_rows([{s: by_seed[s] for s in seeds if s in by_seed} for by_seed, seeds in replicates], groups)


# --- The intervals ------------------------------------------------------------------------------------------


def _judge_preference(measure: PreferenceMeasure, evidence: Evidence, rows: ReplicateRows) -> Preference:
    table = rows.rescore(measure.counts, measure.score, lost=measure.lost)
    scores = rows.score_finalists(table)
    sign = -1 if measure.higher else 1
    learned = [i for i in find_learned(evidence) if rows.at[i]]
    best = min(learned, key=lambda i: (sign * scores[i].estimate, i))
    level = 1 - (1 - LEVEL) / max(1, len(learned) - 1)  # all differences to the best hold together at LEVEL

    def compute_lead(other: int) -> Interval | None:
        pairs = rows.pair(table, best, other)
        if other == best or other not in learned or not len(pairs.scores):
            return None
        gap = compute_paired_interval(pairs, (-1.0, 1.0), level)
        return gap if measure.higher else negate_interval(gap)

    leads = tuple(compute_lead(i) for i in range(len(rows.at)))
    points = [
        float(median([measure.points[r] for r in seeds.values()] or finalist.points))
        for seeds, finalist in zip(rows.at, evidence.finalists, strict=True)
        if measure.points
    ]
    return Preference(
        name=measure.name,
        measure=measure.text,
        higher_is_better=measure.higher,
        scores=scores,
        points=tuple(points),
        best=best,
        unbeaten=tuple(i for i in learned if (lead := leads[i]) is None or lead.low <= 0 <= lead.high),
        leads=leads,
    )
