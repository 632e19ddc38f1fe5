"""How gaps between losses change with more steps, on counts whose true values are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sweeper.core.records import Collapse, FinalComparison, Interval, TrialResult
from sweeper.evidence.final_comparison import compare_final
from tests.evidence.weighing import weigh
from tests.support.builders import confirmation, counts_from_iou
from tests.support.marks import rest_slow

LEVELS = {"dice": 0.62, "cross_entropy": 0.52}


class Truth:
    """Losses on the same test images, drawn once: what each training adds is luck."""

    def __init__(self, seed: int, images: int = 24, luck: float = 0.01) -> None:
        self.rng, self.luck = np.random.default_rng(seed), luck
        self.difficulty, self.foreground = self.rng.normal(0, 0.1, images), self.rng.integers(100, 300, images)
        self.liking: dict[str, Any] = {}

    def runs(self, levels: dict[str, float], seeds: range, steps: int = 100, **changes: Any) -> list[TrialResult]:
        results = []
        for family, level in levels.items():
            liking = self.liking.setdefault(family, self.rng.normal(0, 0.04, len(self.difficulty)))
            for seed in seeds:
                noise = self.rng.normal(0, 0.03, len(self.difficulty)) + 2 * self.rng.normal(0, self.luck)
                counts = counts_from_iou(level + self.difficulty + liking + noise, self.foreground)
                run = confirmation(family, seed, counts, len(results), **changes)
                results.append(run.model_copy(update={"spec": run.spec.model_copy(update={"steps": steps})}))
        return results


def look_at(
    before: list[TrialResult], final: list[TrialResult], recommended: str = "dice", margin: float = 0.01
) -> FinalComparison | None:
    evidence = weigh(before, margin=margin)
    index = [f.family for f in evidence.finalists].index(recommended)
    return compare_final(final, before, evidence, index)


def find_gap(
    truth: Truth, levels: dict[str, float], final: dict[str, float], seeds: int = 3, more: int = 1, **changes: Any
) -> FinalComparison:
    before = truth.runs(levels, range(101, 101 + seeds))
    result = look_at(before, truth.runs(final, range(901, 901 + more), steps=400, **changes))
    assert result is not None and result.steps == 400
    return result


def get_half_width(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


@pytest.mark.parametrize(("seeds", "more"), rest_slow([(3, 1), (5, 1), (3, 3), (2, 2)]))
def test_the_interval_of_a_longer_gap_contains_the_truth(seeds: int, more: int) -> None:
    final = {"dice": 0.66, "cross_entropy": 0.6}
    lost = 0
    for repeat in range(120):
        gap = find_gap(Truth(repeat), LEVELS, final, seeds, more)
        lost += not gap.after.low <= 0.03 <= gap.after.high
    assert lost <= 12  # 5 % are 6


def test_seeds_reduce_the_error_and_noisy_longer_trainings_increase_it() -> None:
    one, three = (find_gap(Truth(0), LEVELS, LEVELS, more=more) for more in (1, 3))
    assert get_half_width(three.after) < get_half_width(one.after)
    assert one.after.se_seed == pytest.approx(3**0.5 * one.before.se_seed)  # it is the confirmation's
    truth = Truth(0)
    before = truth.runs(LEVELS, range(101, 104))
    truth.luck = 0.1
    noisy = look_at(before, truth.runs(LEVELS, range(901, 904), steps=400))
    assert get_half_width(noisy.after) > 2 * get_half_width(three.after)


def test_one_confirmation_seed_leaves_the_gap_without_an_interval() -> None:
    gap = find_gap(Truth(0), LEVELS, {"dice": 0.5, "cross_entropy": 0.7}, seeds=1)
    assert (gap.after.low, gap.after.high) == (-1, 1)


def test_a_final_training_needs_two_losses_on_a_common_longer_seed() -> None:
    truth = Truth(0)
    before = truth.runs(LEVELS, range(101, 104))
    dice, other = (truth.runs({name: level}, range(901, 902), steps=400) for name, level in LEVELS.items())
    other_seed = truth.runs({"cross_entropy": 0.5}, range(902, 903), steps=400)
    assert (
        look_at(before, dice) is None
        and look_at(before, other) is None
        and look_at(before, [*dice, *other_seed]) is None
    )
    assert look_at(before, [*dice, *other]) is not None


def test_a_diverged_longer_training_counts_as_all_wrong() -> None:
    truth = Truth(0)
    before = truth.runs(LEVELS, range(101, 104))
    final = truth.runs(LEVELS, range(901, 902), steps=400)
    final[0] = final[0].model_copy(update={"test": None, "collapse": Collapse.DIVERGED, "evaluations": ()})
    result = look_at(before, final)
    assert result.after.estimate < -0.3
