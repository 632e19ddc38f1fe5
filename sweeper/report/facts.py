"""Facts for text and figures, determined once by the same rules for both."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeper.core.metrics import METRICS, compute_image_mious, count_at_point, number_units
from sweeper.core.own_metric import resolve_verdict_metric
from sweeper.core.records import Evidence, FinalistEvidence, SweepRecord, TrialResult
from sweeper.core.tasks import RULES, TaskRules
from sweeper.evidence.document import AnswerDocument
from sweeper.evidence.paired_scores import make_paired_scores
from sweeper.evidence.replicates import Replicate, group_by_seed, list_scored_images
from sweeper.evidence.settling import find_rival
from sweeper.evidence.verdict_predicates import get_difference
from sweeper.report.formatting import MISSING, format_interval, format_signed_number

Pixels = Callable[[int], tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]
"""Index of an image → its image (H, W, 1 or 3) uint8 and its mask (H, W) uint8, 255 = ignore."""


@dataclass(frozen=True)
class ReportFacts:
    """A study and its answer with the roles of the finalists resolved."""

    sweep: SweepRecord
    document: AnswerDocument
    evidence: Evidence | None
    finalists: tuple[FinalistEvidence, ...]
    chosen: FinalistEvidence | None
    """The used loss among the finalists."""
    baseline: FinalistEvidence | None
    """The present loss at its best learning rate."""
    rival: FinalistEvidence | None
    """Rival shown with the used loss: the present one, or the best other finalist if that is used."""
    pixels: Pixels | None = None
    """The decoded images; None if not available."""

    @property
    def rules(self) -> TaskRules:
        """What distinguishes the task."""
        return RULES[self.sweep.conditions.dataset.task]

    @property
    def objective(self) -> str:
        """Display name of the search's metric."""
        return METRICS[self.sweep.conditions.recipe.metric].title

    @property
    def metric(self) -> str:
        """Display name of the compared metric."""
        return self.objective if self.evidence is None else self.evidence.scale.score

    @property
    def present(self) -> str:
        """Name of the present loss."""
        return self.sweep.space.present.family

    @property
    def compared(self) -> str:
        """The verdict's metric by its name in `METRICS`."""
        return resolve_verdict_metric(self.sweep.conditions.recipe.metric)

    def format_gain_over_present(self, finalist: FinalistEvidence) -> str:
        """Format a finalist's gain over the present loss, as the cell of a table."""
        if finalist is self.baseline:
            return "present"
        if self.evidence is None or self.baseline is None:
            return MISSING
        gain = get_difference(self.evidence, *map(self.finalists.index, (finalist, self.baseline)))
        return format_interval(gain, len({*finalist.seeds} & {*self.baseline.seeds}), format_signed_number)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in index order."""
        return self.sweep.conditions.dataset.classes

    @property
    def tested_on(self) -> str:
        """Images on which the finalists were scored: `the test split`, or `the test folds`."""
        return "the test split" if self.sweep.conditions.folds is None else "the test folds"


def collect_facts(
    sweep: SweepRecord, document: AnswerDocument, evidence: Evidence | None, pixels: Pixels | None = None
) -> ReportFacts:
    """Determine the used loss, the present one and the used loss's rival."""
    finalists = evidence.finalists if evidence else ()
    baseline = finalists[evidence.baseline] if evidence and evidence.baseline is not None else None
    use = next((i for i, f in enumerate(finalists) if f.family == document.used), None)
    chosen = rival = None
    if evidence is not None and use is not None:
        chosen, other = finalists[use], find_rival(evidence, use)
        rival = None if other is None else finalists[other]
    return ReportFacts(sweep, document, evidence, finalists, chosen, baseline, rival, pixels)


# --- The confirmation trainings behind a finalist ------------------------------------------------------------


def group_confirmations(facts: ReportFacts, finalist: FinalistEvidence) -> tuple[TrialResult, ...]:
    """Return the confirmation trainings behind a finalist's evidence, by seed.

    A study may have other trainings of the configuration: with another budget (`--confirm-steps`), on seeds after its
    last interim analysis, or several on one seed, of which the latest counts.
    """
    rates, sweep = dict(zip(finalist.seeds, finalist.seed_lrs, strict=False)), facts.sweep
    pool, steps = sweep.compared, sweep.conditions.recipe.confirm_steps
    if facts.document.in_final and facts.document.final_steps is not None:
        pool, steps = sweep.final, facts.document.final_steps
    by_seed = dict[tuple[int, int | None], TrialResult]()
    for trial in sorted(pool, key=lambda trial: trial.spec.seed):
        spec = trial.spec
        is_asked = (spec.family, spec.params, spec.steps) == (finalist.family, finalist.params, steps)
        at_rate = math.isclose(spec.lr, rates.get(spec.seed, finalist.lr))
        if trial.state == "complete" and is_asked and at_rate:
            by_seed[spec.seed, spec.fold] = trial
    folds = facts.sweep.conditions.folds
    keys = [(seed, fold) for seed in sorted(finalist.seeds) for fold in ([None] if folds is None else range(folds))]
    return tuple(by_seed[key] for key in keys if key in by_seed)


def group_replicates(facts: ReportFacts, finalist: FinalistEvidence) -> tuple[Replicate, ...]:
    """Return the seeds with predictions: one training each, with folds several."""
    return tuple(r for r in group_by_seed(group_confirmations(facts, finalist)).values() if not r.has_no_counts)


def list_seed_scores(facts: ReportFacts, finalist: FinalistEvidence) -> list[float]:
    """Return the test score of each seed of a finalist, at each training's operating point; needs a seed."""
    by_seed = group_replicates(facts, finalist)
    units = number_units(facts.sweep.conditions.dataset.list_groups(list_scored_images(by_seed)))
    bench = make_paired_scores(by_seed, len(facts.classes), units, facts.compared)
    return [float(score) for score in bench.metric_scores.scores]


def score_images(facts: ReportFacts, *finalists: FinalistEvidence) -> dict[int, tuple[float, ...]]:
    """Return test image → its mIoU with each of these finalists, as mean over their common seeds.

    Each training's own operating point is used.
    """
    scores: list[dict[int, list[float]]] = []
    runs = [
        [run for run in group_confirmations(facts, f) if run.evaluations and run.test is not None] for f in finalists
    ]
    common = set.intersection(*({run.spec.seed for run in finalist_runs} for finalist_runs in runs))
    for finalist_runs in runs:
        values: dict[int, list[float]] = {}
        for run in finalist_runs:
            if run.spec.seed not in common or run.test is None:
                continue
            mious = compute_image_mious(count_at_point(run.test, run.evaluations[-1].point), run.test.task)
            for image, value in zip(run.test.images, mious, strict=True):
                values.setdefault(image, []).append(float(value))
        scores.append(values)
    images = set.intersection(*(set(values) for values in scores))
    return {i: tuple(float(np.mean(values[i])) for values in scores) for i in sorted(images)}


def find_common_runs(facts: ReportFacts) -> list[tuple[TrialResult, TrialResult]]:
    """Return the recommended loss's and its rival's trainings of their lowest common evaluated seed.

    One pair, or one per fold; empty without such a seed.
    """
    if facts.chosen is None or facts.rival is None:
        return []
    first, second = (group_by_seed(t for t in group_confirmations(facts, f)) for f in (facts.chosen, facts.rival))
    for seed in sorted(first.keys() & second.keys()):
        pairs = list(zip(first[seed].runs, second[seed].runs, strict=True))
        if all(run.evaluations for pair in pairs for run in pair):
            return pairs
    return []
