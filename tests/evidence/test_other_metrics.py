"""The finalists by other measures than the verdict's: values, intervals, and what is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sweeper.core.records import Evidence, Interval, TestDetail, TrialResult
from sweeper.evidence.other_metrics import measure_finalists
from sweeper.evidence.paired_comparisons import compute_evidence
from tests.support import builders
from tests.support.builders import confirmation, diverged, histogram_counts, point_counts, trial

SEEDS = (1, 2, 3, 4)
IMAGES = 30


def make_detail(*, boundary: float = 0.5, line: float = 0.8, jitter: int = 0) -> TestDetail:
    """Make binary details with this boundary IoU and clDice."""
    size = np.random.default_rng(jitter).integers(90, 110, IMAGES)
    inside = np.zeros((IMAGES, 2, 3), dtype=np.int64)
    inside[:, 1, 0] = np.rint(boundary * size)
    inside[:, 1, 1] = size - inside[:, 1, 0]
    lines = np.zeros((IMAGES, 2, 4), dtype=np.int64)
    lines[:, 1] = np.stack([np.rint(line * size), size, np.rint(line * size), size], axis=-1)
    return TestDetail(images=tuple(range(IMAGES)), boundary=inside, centreline=lines)


def make_runs(family: str, recall: float, precision: float, number: int, **changes: Any) -> list[TrialResult]:
    """Return confirmations with this recall and precision at every sensible threshold, slightly different by seed."""
    results = []
    for s, seed in enumerate(SEEDS):
        rng = np.random.default_rng([number, seed])
        size = np.random.default_rng(0).integers(180, 220, IMAGES)
        tp = np.clip(np.rint(size * (recall + rng.normal(0, 0.005))).astype(int), 0, size)
        fp = np.rint(tp * (1 / precision - 1)).astype(int)
        counts = histogram_counts(tp.tolist(), fp.tolist(), (size - tp).tolist(), (9000 - fp).tolist())
        fields = {"detail": make_detail(jitter=s)} | changes
        results.append(confirmation(family, seed, counts, number * 10 + s, **fields))
    return results


def weigh(results: list[TrialResult], classes: tuple[str, ...] = builders.BINARY) -> Evidence:
    search = {r.spec.family: trial(r.spec.family, 0.7, classes=len(classes)) for r in results}
    return compute_evidence(results, search, classes=classes)


def measure(
    results: list[TrialResult], classes: tuple[str, ...] = builders.BINARY, **more: Any
) -> dict[str, dict[str, Interval]]:
    """Return measure → family → score."""
    evidence = weigh(results, classes)
    families = [f.family for f in evidence.finalists]
    others = measure_finalists(results, evidence, **more)
    return {other.name: dict(zip(families, other.scores, strict=True)) for other in others}


def test_of_two_classes_the_foreground_is_measured() -> None:
    results = make_runs("focal", 0.95, 0.6, 0, detail=make_detail(boundary=0.4, line=0.9))
    results += make_runs("dice", 0.6, 0.95, 1, detail=make_detail(boundary=0.6, line=0.7))
    measured = measure(results)
    assert list(measured) == ["IoU", "Dice", "precision", "recall", "boundary IoU", "clDice"]
    expected = {
        "focal": (0.6 * 0.95 / (0.6 + 0.95 - 0.6 * 0.95), 2 * 0.6 * 0.95 / 1.55, 0.6, 0.95, 0.4, 0.9),
        "dice": (0.6 * 0.95 / (0.6 + 0.95 - 0.6 * 0.95), 2 * 0.6 * 0.95 / 1.55, 0.95, 0.6, 0.6, 0.7),
    }
    for family, values in expected.items():
        scores = [by_family[family] for by_family in measured.values()]
        assert [score.estimate for score in scores] == pytest.approx(values, abs=0.01)
        assert all(score.low < score.estimate < score.high for score in scores[:4])


def test_of_several_classes_the_mean_and_the_worst_present_one_are_measured() -> None:
    rows = [[[900, 10, 10], [60, 10, 10], [30, 10, 10], [0, 3, 0]]] * IMAGES
    results = [confirmation("dice", s, point_counts(rows), n) for n, s in enumerate(SEEDS)]
    measured = measure(results, ("road", "car", "sign", "absent"))
    assert list(measured) == ["IoU", "Dice", "precision", "recall", "IoU of the worst class"]  # the runs lack details
    values = {name: by_family["dice"].estimate for name, by_family in measured.items()}
    assert values["IoU of the worst class"] == pytest.approx(30 / 50)
    assert values["recall"] == pytest.approx(np.mean([900 / 910, 60 / 70, 30 / 40]))


def test_a_diverged_training_scores_0_and_one_that_predicts_nothing_has_no_precision() -> None:
    results = make_runs("focal", 0.8, 0.8, 0) + make_runs("dice", 0.8, 0.8, 1) + make_runs("tversky", -0.1, 1.0, 2)
    results[0] = diverged("focal", SEEDS[0], 99)
    measured = measure(results)
    assert measured["boundary IoU"]["focal"].estimate == pytest.approx(0.5 * 3 / 4, abs=0.01)
    assert measured["precision"]["focal"].estimate == pytest.approx(0.8 * 3 / 4, abs=0.01)
    assert measured["precision"]["tversky"].estimate == measured["recall"]["tversky"].estimate == 0
    lost = [diverged("focal", seed, n) for n, seed in enumerate(SEEDS)]
    assert measure(lost) == {}


def test_details_are_left_out_unless_all_runs_have_them() -> None:
    without = make_runs("focal", 0.8, 0.8, 0, detail=None)
    assert {"boundary IoU", "clDice"}.isdisjoint(measure(without + make_runs("dice", 0.8, 0.8, 1)))


def test_images_of_one_group_count_as_one() -> None:
    levels = {"dice": 0.6, "focal": 0.5}
    results = builders.simulated_confirmations(levels, np.random.default_rng(0), images=30)
    ungrouped, grouped = measure(results), measure(results, groups=[f"g{i // 10}" for i in range(30)])
    for name, by_family in ungrouped.items():
        for family, one in by_family.items():
            two = grouped[name][family]
            assert two.estimate == pytest.approx(one.estimate) and two.high - two.low > one.high - one.low
