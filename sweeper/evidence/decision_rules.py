"""Losses × rules that make masks of probabilities, scored on the same images and seeds: which of both matters more?

Everything is read from a study's counts; nothing is trained. What a rule needs to know of a run (its threshold, slope
and bias) was chosen or fitted on that run's validation images. Intervals are those of the verdict, paired over seeds
and images. They are at 95 % each, corrected neither for rules nor for metrics: an addition to the verdict, not a second
one. What RankDice gains over the tuned threshold decides about the code to paste; it is corrected for the finalists.

Where counts are summed over images (mIoU), one threshold for all is optimal in expectation (Koyejo et al., *Consistent
binary classification with generalized performance metrics*, NeurIPS 2014). Where each image has its own score, one
threshold for each image is, if probabilities are calibrated and pixels independent (`sweeper.core.expected_dice`).
Neither holds in practice, hence this table. A multi-class study has counts at its operating points alone, and so plain
and tuned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sweeper.core import metrics
from sweeper.core.calibration import Calibration, count_calibration_gaps, fit_counts
from sweeper.core.expected_dice import find_best_edges
from sweeper.core.operating_points import BINS
from sweeper.core.records import (
    DecisionRule,
    DecisionRules,
    Evidence,
    ImageCounts,
    Interval,
    RuleMetric,
    RuleName,
    TrialResult,
)
from sweeper.evidence.intervals import LEVEL, Floats, ImageTable, compute_paired_interval, make_image_table
from sweeper.evidence.other_metrics import compute_pooled_calibration_error, make_surely_wrong
from sweeper.evidence.preferences import find_learned, index_replicate_rows
from sweeper.evidence.replicates import (
    Replicate,
    count_class_pixels,
    count_folds,
    get_default_point,
    get_own_point,
    list_image_units,
    list_scored_images,
    make_missed_counts,
    stack_measurements,
    sum_units,
)

LEAST_SEEDS = 3
"""A gain from fewer is not reported: as in the verdict, the spread of two seeds says too little."""

_RuleTables = dict[tuple[RuleName, RuleMetric], ImageTable]
"""Rule and metric → the scores of all runs."""


class _FinalistRuns(NamedTuple):
    rows: list[Replicate]
    images: tuple[int, ...]
    lost: npt.NDArray[np.bool_]
    units: npt.NDArray[np.intp] | None


def score_decision_rules(
    confirmations: Sequence[TrialResult],
    evidence: Evidence,
    *,
    groups: Sequence[str | None] | None = None,
) -> DecisionRules | None:
    """Score every rule with every finalist.

    Args:
        confirmations: the runs that `evidence` was weighed from; others are passed over.
        evidence: names the finalists, whose configurations and seeds pick the runs.
        groups: group of each test image, as `compute_evidence` takes them.

    Returns:
        None where no finalist learned. A binary task whose runs kept the counts of single images has all rules, by mIoU
        and by the Dice of an average image.
    """
    if not find_learned(evidence):
        return None
    at, rows = index_replicate_rows(confirmations, evidence)
    lost = np.array([row.is_lost for row in rows], dtype=np.bool_)
    runs = _FinalistRuns(rows, list_scored_images(rows), lost, list_image_units(rows, groups))
    answered = [run for row in rows for run in row.answered_runs]
    level = 1 - (1 - LEVEL) / len(evidence.finalists)
    points: dict[RuleName, Callable[[TrialResult], float]] = {
        "plain": get_default_point,
        "tuned": get_own_point,
    }
    tables: _RuleTables = {}

    def add_at_points(metric: RuleMetric) -> None:
        for name, of in points.items():
            counts = count_class_pixels(rows, runs.images, of, metric)
            tables[name, metric] = _make_table(metric, counts, runs)

    if not all(run.test is not None and run.test.kind == "histogram" and run.val is not None for run in answered):
        add_at_points("miou")
        return DecisionRules(rules=_compare_rules(tables, at, evidence, level), level=level)
    fitted = {id(run): fit_counts(run.val) or Calibration() for run in answered}  # each on its validation images
    ranked = {id(run): _count_ranked(run.test, fitted[id(run)]) for run in answered if run.test is not None}

    def read(run: TrialResult) -> tuple[Sequence[int], npt.NDArray[np.int64]] | None:
        return None if run.test is None else (run.test.images, ranked[id(run)])

    wanted: dict[RuleMetric, Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]] = {
        "miou": make_missed_counts,
        "image_dice": metrics.all_wrong_counts,
    }
    for metric, unanswered in wanted.items():
        add_at_points(metric)
        own_thresholds = stack_measurements(rows, runs.images, read, unanswered)
        tables["rank_dice", metric] = _make_table(metric, own_thresholds, runs)
    fits = [[fitted[id(run)] for r in rows_of.values() for run in rows[r].answered_runs] for rows_of in at]
    before, after, gains = _compute_calibration_errors(runs, fitted, at)
    return DecisionRules(
        rules=_compare_rules(tables, at, evidence, level),
        level=level,
        slopes=tuple(median([c.slope for c in each] or [1.0]) for each in fits),
        biases=tuple(median([c.bias for c in each] or [0.0]) for each in fits),
        ece=before,
        ece_calibrated=after,
        ece_gains=gains,
    )


def get_established_gain(evidence: Evidence, finalist: int) -> Interval | None:
    """Return RankDice's gain over the tuned threshold in the Dice of an average image, at the decisions' level.

    None where that is not known, and from fewer than `LEAST_SEEDS` seeds.
    """
    rules = () if evidence.decisions is None else evidence.decisions.rules
    rule = next((r for r in rules if (r.name, r.metric) == ("rank_dice", "image_dice")), None)
    if rule is None or len(evidence.finalists[finalist].seeds) < LEAST_SEEDS:
        return None
    return rule.over_tuned[finalist]


def _count_ranked(test: ImageCounts, calibration: Calibration) -> npt.NDArray[np.int64]:
    """(n, 2, 3) class counts of images answered by RankDice."""
    histogram = test.data.astype(np.int64)
    return _count_at_edges(histogram, find_best_edges(histogram.sum(axis=1), calibration.bin_probabilities))


def _count_at_edges(histogram: npt.NDArray[np.int64], edges: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """(n, 2, 3) class counts of (n, 2, 512), each image answered as foreground above an edge of its own."""
    above = np.arange(BINS) > edges[:, None]
    fp, tp = np.moveaxis((histogram * above[:, None]).sum(axis=-1), 1, 0)
    tn, fn = np.moveaxis(histogram.sum(axis=-1), 1, 0) - np.stack([fp, tp])
    return np.stack([np.stack([tn, fn, fp], axis=-1), np.stack([tp, fp, fn], axis=-1)], axis=-2)


def _make_table(metric: RuleMetric, counts: npt.NDArray[np.int64], runs: _FinalistRuns) -> ImageTable:
    classes = metrics.find_present_classes(counts.reshape(-1, *counts.shape[2:]))
    rows = sum_units(metrics.make_image_rows(counts, metric), runs.units, metric)
    return make_image_table(
        rows,
        lambda summed: np.where(runs.lost, 0.0, metrics.compute_objective(summed, classes, metric)),
        count_folds(runs.rows),
    )


def _score_finalists(
    table: ImageTable,
    at: Sequence[Mapping[int, int]],
    within: tuple[float, float] = (0.0, 1.0),
    level: float = LEVEL,
) -> tuple[Interval, ...]:
    """Return the mean of each finalist's rows with its interval; `within` are its possible ends."""
    return tuple(compute_paired_interval(table.select_rows(list(rows.values())), within, level) for rows in at)


def _compare_rules(
    tables: _RuleTables, at: Sequence[Mapping[int, int]], evidence: Evidence, over_tuned: float
) -> tuple[DecisionRule, ...]:
    scores = {key: _score_finalists(table, at) for key, table in tables.items()}
    learned = [i for i in find_learned(evidence) if at[i]]
    best = {key: max(learned, key=lambda i: (each[i].estimate, -i)) for key, each in scores.items()}
    rules = []
    for (name, metric), table in tables.items():
        first, usual = at[best[name, metric]], at[best["plain", metric]]
        common = [s for s in first if s in usual]
        pairs = table.select_rows([first[s] for s in common], [usual[s] for s in common])
        over_plain, over_own = (table.subtract(tables[other, metric]) for other in ("plain", "tuned"))
        rules.append(
            DecisionRule(
                name=name,
                metric=metric,
                scores=scores[name, metric],
                gains=_score_finalists(over_plain, at, (-1.0, 1.0)),
                over_tuned=_score_finalists(over_own, at, (-1.0, 1.0), over_tuned),
                best=best[name, metric],
                lead=compute_paired_interval(pairs, (-1.0, 1.0)),
            )
        )
    return tuple(rules)


def _compute_calibration_errors(
    runs: _FinalistRuns, fitted: Mapping[int, Calibration], at: Sequence[Mapping[int, int]]
) -> tuple[tuple[Interval, ...], tuple[Interval, ...], tuple[Interval, ...]]:
    """Return each finalist's error on the test images, the error after calibration, and the reduction."""

    def table(calibrated: bool) -> ImageTable:
        def read(run: TrialResult) -> tuple[Sequence[int], Floats] | None:
            if run.test is None:
                return None
            calibration = fitted[id(run)] if calibrated else Calibration()
            return run.test.images, count_calibration_gaps(run.test.data.astype(np.int64), calibration)

        counts = sum_units(stack_measurements(runs.rows, runs.images, read, make_surely_wrong), runs.units)
        return make_image_table(
            counts,
            lambda summed: np.where(runs.lost, 1.0, compute_pooled_calibration_error(summed)),
            count_folds(runs.rows),
        )

    before, after = table(False), table(True)
    gains = _score_finalists(before.subtract(after), at, (-1.0, 1.0))
    return _score_finalists(before, at), _score_finalists(after, at), gains
