"""Effect of more steps: the gaps between the losses that the verdict compares, at several times its steps.

A few longer trainings, on common seeds and scored on the same test images, measure each gap once more. One seed is no
evidence of its own: the change from the confirmation's gap (S seeds) to the longer one (L other seeds) has the variance

  s² (1/S + 1/L)  +  what the choice of images adds

Here s² is the variance of a single seed's difference in the confirmation (moderated by the other pairs', as in the
verdict), pooled with that of the longer trainings where L ≥ 2. The image part is that of the change itself on each
image, less the interaction, which s² already contains. The interval uses Cochran and Cox's critical value, as
everywhere. With L = 1 it is assumed that a difference varies over seeds after longer trainings as it did before.

A gap *keeps* where its change is within its error. It *grows* or *shrinks* where the change is established. It is
*gone* where it is established to have shrunk and the remaining estimate is less than the margin (or, where it was less
than that before, cross-entropy leads by the margin); a loss that was behind before can only fall further behind. Where
the estimate fell below the margin but the change is within its error, the gap is *open*: nothing is claimed. No curve
is extrapolated beyond the steps that were trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from sweeper.core.records import Evidence, Interval, LongerGap, LongerLook, Trend, TrialResult
from sweeper.evidence.intervals import Floats, ImageTable, compute_half_width, compute_variance_parts
from sweeper.evidence.paired_scores import make_paired_scores
from sweeper.evidence.replicates import Replicate, arrange_rows, group_by_seed
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
    """Compare the gaps of the losses that were trained longer with their gaps in the confirmation.

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
    pairs = [(i, base) for i in (recommended, *others) if base in (recommended, *others) and i != base]
    pairs += [(recommended, j) for j in others if base not in (recommended, j)]
    gaps = []
    for i, j in pairs:
        learned = _list_missing_classes(before[names[i]].values(), all) - _list_missing_classes(
            after[names[i]].values(), any
        )
        gap = _compute_gap(evidence, i, j, *(rows.pair(table, k + i, k + j) for k in (0, len(names))))
        gaps.append(gap.model_copy(update={"learned": tuple(c for c in evidence.classes if c in learned)}))
    steps = longer[0].spec.steps
    return LongerLook(
        times=steps // confirmations[0].spec.steps,
        steps=steps,
        gaps=tuple(gaps),
        catches_up=pairs[0] == (recommended, base) and gaps[0].trend == "gone",
    )


def _list_missing_classes(runs: Iterable[Replicate], how: Callable[[Iterable[bool]], bool]) -> set[str]:
    """Return the classes that any (or all, by `how`) of these trainings do not predict."""
    lacks = [run.missing_classes for replicate in runs for run in replicate.runs]
    return {name for name in chain(*lacks) if how(name in lacking for lacking in lacks)}


def _compute_gap(evidence: Evidence, i: int, j: int, before: ImageTable, after: ImageTable) -> LongerGap:
    """Return a gap before and after longer training; each table has a row for each seed that both losses have."""
    difference, seeds, longer_seeds = get_difference(evidence, i, j), len(before.scores), len(after.scores)
    estimate = float(after.scores.mean())
    has_error = seeds >= 2 and before.images >= 2
    v_one, freedom = difference.se_seed**2 * seeds, seeds - 1 + difference.borrowed
    if longer_seeds >= 2:
        v_one = (freedom * v_one + (longer_seeds - 1) * float(after.scores.var(ddof=1))) / (freedom + longer_seeds - 1)
        freedom += longer_seeds - 1
    v_both = compute_variance_parts(before).v_both * seeds if has_error else 0.0

    def interval(middle: float, share: float, columns: Floats) -> Interval:
        n, v_seed = len(columns), v_one * share
        if not has_error:
            return Interval(estimate=middle, low=-1.0, high=1.0, se_seed=1.0, se_image=1.0)
        v_image = max(0.0, float(columns @ columns) / (n * (n - 1)) - v_both * share)
        half = compute_half_width(v_seed, freedom + 1, v_image, n)
        ends = {"low": middle - half, "high": middle + half}
        return Interval(estimate=middle, **ends, se_seed=v_seed**0.5, se_image=v_image**0.5)

    columns = after.shares.mean(axis=0)
    change = interval(
        estimate - difference.estimate, 1 / seeds + 1 / longer_seeds, columns - before.shares.mean(axis=0)
    )
    return LongerGap(
        first=evidence.finalists[i].family,
        second=evidence.finalists[j].family,
        seeds=longer_seeds,
        before=difference,
        after=interval(estimate, 1 / longer_seeds, columns),
        change=change,
        trend=_classify_trend(difference.estimate, estimate, change, evidence.margin) if has_error else "open",
    )


def _classify_trend(before: float, after: float, change: Interval, margin: float) -> Trend:
    if change.low <= 0 <= change.high:
        return "open" if before >= margin > after else "keeps"
    if change.estimate > 0:
        return "grows"
    if before <= 0:  # there was no gap that could vanish
        return "shrinks"
    return "gone" if after < margin and (before >= margin or after <= -margin) else "shrinks"
