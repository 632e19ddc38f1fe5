"""The gap between the two losses of the answer, at several times the confirmation's steps.

A few longer trainings, on common seeds and scored on the same test images, measure it once more. One seed is no
evidence of its own, so the variance of L longer seeds takes that of a single seed's difference in the confirmation,
pooled with that of the longer trainings where L ≥ 2. With L = 1 it is assumed that a difference varies over seeds after
longer trainings as it did before. The image part is that of the longer trainings, less the interaction, which the
former already contains; the critical value is Cochran and Cox's. No curve is extrapolated beyond the steps that were
trained.
"""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.core.records import Evidence, Interval, LongerGap, LongerLook, TrialResult
from sweeper.evidence.intervals import ImageTable, compute_half_width, compute_variance_parts
from sweeper.evidence.paired_scores import make_paired_scores
from sweeper.evidence.replicates import arrange_rows, group_by_seed
from sweeper.evidence.verdict_predicates import get_difference

MOST_SEEDS = 3
"""Largest number of longer trainings of a loss."""


def look_longer(
    longer: Sequence[TrialResult],
    confirmations: Sequence[TrialResult],
    evidence: Evidence,
    recommended: int,
    *,
    groups: Sequence[str | None] | None = None,
    metric: str = "miou",
) -> LongerLook | None:
    """Compare the gap of the losses that were trained longer with their gap in the confirmation.

    The longer trainings are complete, have one number of steps, and are of the finalists' configurations; the
    confirmations are those of the evidence. None where the recommended loss (an index) has no longer seed in common
    with another one.
    """
    names = [f.family for f in evidence.finalists]
    before, after = (
        {name: group_by_seed(r for r in results if r.spec.family == name) for name in names}
        for results in (confirmations, longer)
    )
    others = [i for i in range(len(names)) if i != recommended and after[names[i]].keys() & after[names[recommended]]]
    if not others:
        return None
    rows = arrange_rows([*before.values(), *after.values()], groups)
    table = make_paired_scores(rows.rows, len(evidence.classes), rows.units, metric).metric_scores
    base = evidence.baseline
    other = base if base in others else others[0]
    i, j = (other, base) if recommended == base else (recommended, other)
    steps = longer[0].spec.steps
    return LongerLook(
        times=steps // confirmations[0].spec.steps,
        steps=steps,
        gaps=(_compute_gap(evidence, i, j, *(rows.pair(table, k + i, k + j) for k in (0, len(names)))),),
    )


def _compute_gap(evidence: Evidence, i: int, j: int, before: ImageTable, after: ImageTable) -> LongerGap:
    """Return a gap before and after longer training; each table has a row for each seed that both losses have."""
    difference, seeds, longer_seeds = get_difference(evidence, i, j), len(before.scores), len(after.scores)
    estimate, images = float(after.scores.mean()), after.images
    interval = Interval(estimate=estimate, low=-1.0, high=1.0, se_seed=1.0, se_image=1.0)
    if seeds >= 2 and images >= 2:
        v_one, freedom = difference.se_seed**2 * seeds, seeds - 1
        if longer_seeds >= 2:
            v_new, more = float(after.scores.var(ddof=1)), longer_seeds - 1
            v_one, freedom = (freedom * v_one + more * v_new) / (freedom + more), freedom + more
        columns = after.shares.mean(axis=0)
        v_both = compute_variance_parts(before).v_both * seeds / longer_seeds
        v_seed, v_image = v_one / longer_seeds, float(columns @ columns) / (images * (images - 1))
        v_image = max(0.0, v_image - v_both)
        half = compute_half_width(v_seed, freedom + 1, v_image, images)
        ends = {"low": estimate - half, "high": estimate + half}
        interval = Interval(estimate=estimate, **ends, se_seed=v_seed**0.5, se_image=v_image**0.5)
    return LongerGap(
        first=evidence.finalists[i].family,
        second=evidence.finalists[j].family,
        seeds=longer_seeds,
        before=difference,
        after=interval,
    )
