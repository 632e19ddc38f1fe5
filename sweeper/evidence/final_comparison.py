"""The difference of the two losses of the answer in the final training.

Final trainings, on common seeds and scored on the same test images, measure it in the network that is taken home. Their
own evidence decides on `MOST_SEEDS` seeds: by `FINAL_ANALYSIS` after a confirmation that shows the gain, else by
`FIRST_LOOK`, as the final training alone shows it. With fewer seeds the variance of L seeds takes that of a single
seed's difference in the confirmation, pooled with that of the final trainings where L ≥ 2: a difference is assumed to
vary over seeds as it did before. The image part is then that of the final trainings, less the interaction, which the
former already contains; the critical value is Cochran and Cox's.
"""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.core.records import Evidence, FinalComparison, InterimAnalysis, Interval, TrialResult
from sweeper.evidence.interim_analyses import ERROR
from sweeper.evidence.intervals import ImageTable, compute_half_width, compute_variance_parts
from sweeper.evidence.paired_scores import make_paired_scores
from sweeper.evidence.replicates import arrange_rows, group_by_seed
from sweeper.evidence.verdict_predicates import get_difference, is_win

MOST_SEEDS = 4
"""Most seeds of a final training."""
FINAL_ANALYSIS = InterimAnalysis(seeds=MOST_SEEDS, error=ERROR, spent=ERROR)
"""The only analysis of a final training whose gain the confirmation has shown (bench/final_simulation.py)."""


def compare_final(
    final: Sequence[TrialResult],
    confirmations: Sequence[TrialResult],
    evidence: Evidence,
    recommended: int,
    *,
    groups: Sequence[str | None] | None = None,
    metric: str = "miou",
) -> FinalComparison | None:
    """Compare the losses of the answer in the final training, and before it in the confirmation.

    The final trainings are complete, have one number of steps, and are of the finalists' configurations; the
    confirmations are those of the evidence. None where the recommended loss (an index) has no final seed in common
    with another one.
    """
    names = [f.family for f in evidence.finalists]
    before, after = (
        {name: group_by_seed(r for r in results if r.spec.family == name) for name in names}
        for results in (confirmations, final)
    )
    others = [i for i in range(len(names)) if i != recommended and after[names[i]].keys() & after[names[recommended]]]
    if not others:
        return None
    rows = arrange_rows([*before.values(), *after.values()], groups)
    table = make_paired_scores(rows.rows, len(evidence.classes), rows.units, metric).metric_scores
    base = evidence.baseline
    other = base if base in others else others[0]
    i, j = (other, base) if recommended == base else (recommended, other)
    tables = [rows.pair(table, k + i, k + j) for k in (0, len(names))]
    return FinalComparison(
        first=names[i],
        second=names[j],
        seeds=len(tables[1].scores),
        steps=final[0].spec.steps,
        before=get_difference(evidence, i, j),
        after=_compute_interval(get_difference(evidence, i, j), *tables),
    )


def _compute_interval(difference: Interval, before: ImageTable, after: ImageTable) -> Interval:
    """Return the interval of the final difference; each table has a row for each seed that both losses have."""
    seeds, final_seeds = len(before.scores), len(after.scores)
    estimate, images = float(after.scores.mean()), after.images
    if seeds < 2 or images < 2:
        return Interval(estimate=estimate, low=-1.0, high=1.0, se_seed=1.0, se_image=1.0)
    v_one, freedom = difference.se_seed**2 * seeds, seeds - 1
    if final_seeds >= 2:
        v_new, more = float(after.scores.var(ddof=1)), final_seeds - 1
        v_one, freedom = (freedom * v_one + more * v_new) / (freedom + more), freedom + more
    columns = after.shares.mean(axis=0)
    v_both = compute_variance_parts(before).v_both * seeds / final_seeds
    v_seed, v_image = v_one / final_seeds, float(columns @ columns) / (images * (images - 1))
    v_image = max(0.0, v_image - v_both)
    half = compute_half_width(v_seed, freedom + 1, v_image, images)
    ends = {"low": estimate - half, "high": estimate + half}
    return Interval(estimate=estimate, **ends, se_seed=v_seed**0.5, se_image=v_image**0.5)


def needs_seed(comparison: FinalComparison, margin: float, *, is_shown: bool, is_same_network: bool) -> bool:
    """Return whether another seed of the final training may still decide.

    None does where the gain cannot be as large as the margin, or, unless the gain `is_shown` by the confirmation, looks
    smaller. In the network of the search, whose spread over seeds is known, one seed may show that the gain lasts.
    """
    seeds, after = comparison.seeds, comparison.after
    if seeds < (1 if is_same_network else 2):
        return True
    if seeds >= MOST_SEEDS or after.high < margin:
        return False
    if not is_shown:
        return after.estimate >= margin
    return not (is_same_network and is_win(after, margin))
