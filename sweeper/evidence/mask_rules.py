"""Losses × decision rules (from probabilities to masks) on the same images and seeds: which of the two matters more?

All scores come from the counts of a study; nothing is trained. What a rule needs to know of a run (threshold, slope and
bias) was chosen or fitted on that run's validation images. Intervals are paired over seeds and images, as in the
verdict, but each at 95 %, corrected neither for the rules nor for the metrics: they add to the verdict and are no
second one. Only RankDice's gain over the tuned threshold, which decides about the code to paste, is corrected for the
finalists.

Where counts are summed over images (mIoU), one threshold for all is optimal in expectation (Koyejo et al., *Consistent
binary classification with generalized performance metrics*, NeurIPS 2014). Where each image has its own score, one
threshold per image is, if probabilities are calibrated and pixels independent (`sweeper.core.expected_dice`). In
practice neither holds exactly, hence this table. A multi-class study has counts only at its operating points, so only
the rules plain and tuned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median

import numpy as np
import numpy.typing as npt

from sweeper.core import metrics
from sweeper.core.calibration import Calibration, count_calibration_gaps, fit_counts
from sweeper.core.expected_dice import find_best_edges
from sweeper.core.operating_points import BINS
from sweeper.core.records import DecisionRule, DecisionRules, Evidence, Interval, RuleMetric, RuleName, TrialResult
from sweeper.evidence.intervals import LEVEL, Floats, ImageTable, compute_paired_interval
from sweeper.evidence.other_metrics import compute_pooled_calibration_error, make_confidently_wrong
from sweeper.evidence.preferences import arrange_finalists, find_learned
from sweeper.evidence.replicates import (
    ReplicateRows,
    count_class_pixels,
    get_default_point,
    get_own_point,
    list_scored_images,
    make_missed_counts,
    stack_measurements,
)

LEAST_SEEDS = 3
"""A gain from fewer seeds is not reported: as in the verdict, the spread of two seeds says too little."""

_RuleTables = dict[tuple[RuleName, RuleMetric], ImageTable]
"""Rule and metric → the scores of all runs."""


def score_decision_rules(
    confirmations: Sequence[TrialResult],
    evidence: Evidence,
    *,
    groups: Sequence[str | None] | None = None,
) -> DecisionRules | None:
    """Score every rule with every finalist; None where no finalist learned.

    Only the confirmations that the evidence was computed from count. A binary task whose runs kept the counts of single
    images has all rules, by mIoU and by the Dice of an average image.
    """
    if not find_learned(evidence):
        return None
    rows = arrange_finalists(confirmations, evidence, groups)
    images = list_scored_images(rows.rows)
    answered = [run for row in rows.rows for run in row.runs_with_counts]
    level = 1 - (1 - LEVEL) / len(evidence.finalists)
    points: dict[RuleName, Callable[[TrialResult], float]] = {
        "plain": get_default_point,
        "tuned": get_own_point,
    }
    tables: _RuleTables = {}

    def add_at_points(metric: RuleMetric) -> None:
        for name, get_point in points.items():
            tables[name, metric] = _make_table(metric, count_class_pixels(rows.rows, images, get_point, metric), rows)

    if not all(run.test is not None and run.test.kind == "histogram" and run.val is not None for run in answered):
        add_at_points("miou")
        return DecisionRules(rules=_compare_rules(tables, rows, evidence, level), level=level)
    fitted = {id(run): fit_counts(run.val) or Calibration() for run in answered}  # each on its validation images
    ranked = {}
    for run in answered:
        assert run.test is not None  # else it has no answer
        histogram = run.test.data.astype(np.int64)
        edges = find_best_edges(histogram.sum(axis=1), fitted[id(run)].bin_probabilities)
        ranked[id(run)] = run.test.images, _count_at_edges(histogram, edges)

    wanted: dict[RuleMetric, Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]] = {
        "miou": make_missed_counts,
        "image_dice": metrics.make_all_wrong_counts,
    }
    for metric, unanswered in wanted.items():
        add_at_points(metric)
        own_thresholds = stack_measurements(rows.rows, images, lambda run: ranked.get(id(run)), unanswered)
        tables["rank_dice", metric] = _make_table(metric, own_thresholds, rows)
    fits = [[fitted[id(run)] for r in seeds.values() for run in rows.rows[r].runs_with_counts] for seeds in rows.at]
    before, after = (_tabulate_calibration_error(rows, images, each) for each in ({}, fitted))
    return DecisionRules(
        rules=_compare_rules(tables, rows, evidence, level),
        level=level,
        slopes=tuple(median([c.slope for c in each] or [1.0]) for each in fits),
        biases=tuple(median([c.bias for c in each] or [0.0]) for each in fits),
        ece=rows.score_finalists(before),
        ece_calibrated=rows.score_finalists(after),
        ece_gains=rows.score_finalists(before.subtract(after), (-1.0, 1.0)),
    )


def get_gain_over_threshold(evidence: Evidence, finalist: int) -> Interval | None:
    """Return RankDice's gain over the tuned threshold in the Dice of an average image, at the level of `DecisionRules`.

    None where the gain is unknown or comes from fewer than `LEAST_SEEDS` seeds.
    """
    rules = () if evidence.decisions is None else evidence.decisions.rules
    rule = next((r for r in rules if (r.name, r.metric) == ("rank_dice", "image_dice")), None)
    if rule is None or len(evidence.finalists[finalist].seeds) < LEAST_SEEDS:
        return None
    return rule.over_tuned[finalist]


def _count_at_edges(histogram: npt.NDArray[np.int64], edges: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """Compute (n, 2, 3) class counts of (n, 2, 512) histograms; pixels above an image's edge are foreground."""
    above = np.arange(BINS) > edges[:, None]
    fp, tp = np.moveaxis((histogram * above[:, None]).sum(axis=-1), 1, 0)
    tn, fn = np.moveaxis(histogram.sum(axis=-1), 1, 0) - np.stack([fp, tp])
    return np.stack([np.stack([tn, fn, fp], axis=-1), np.stack([tp, fp, fn], axis=-1)], axis=-2)


def _make_table(metric: RuleMetric, counts: npt.NDArray[np.int64], rows: ReplicateRows) -> ImageTable:
    classes = metrics.find_present_classes(counts.reshape(-1, *counts.shape[2:]))
    measure = partial(metrics.compute_objective, classes=classes, metric=metric)
    return rows.rescore(metrics.make_image_rows(counts, metric), measure, metric=metric)


def _compare_rules(
    tables: _RuleTables, rows: ReplicateRows, evidence: Evidence, over_tuned: float
) -> tuple[DecisionRule, ...]:
    scores = {key: rows.score_finalists(table) for key, table in tables.items()}
    learned = [i for i in find_learned(evidence) if rows.at[i]]
    best = {key: max(learned, key=lambda i: (each[i].estimate, -i)) for key, each in scores.items()}
    rules = []
    for (name, metric), table in tables.items():
        pairs = rows.pair(table, best[name, metric], best["plain", metric])
        over_plain, over_own = (table.subtract(tables[other, metric]) for other in ("plain", "tuned"))
        rules.append(
            DecisionRule(
                name=name,
                metric=metric,
                scores=scores[name, metric],
                gains=rows.score_finalists(over_plain, (-1.0, 1.0)),
                over_tuned=rows.score_finalists(over_own, (-1.0, 1.0), over_tuned),
                best=best[name, metric],
                lead=compute_paired_interval(pairs, (-1.0, 1.0)),
            )
        )
    return tuple(rules)


def _tabulate_calibration_error(
    rows: ReplicateRows, images: Sequence[int], fitted: Mapping[int, Calibration]
) -> ImageTable:
    """Tabulate the calibration error on the test images, calibrated for the runs whose ids are in `fitted`."""

    def read(run: TrialResult) -> tuple[Sequence[int], Floats] | None:
        if run.test is None:
            return None
        calibration = fitted.get(id(run), Calibration())
        return run.test.images, count_calibration_gaps(run.test.data.astype(np.int64), calibration)

    counts = stack_measurements(rows.rows, images, read, make_confidently_wrong)
    return rows.rescore(counts, compute_pooled_calibration_error, lost=1.0)
