"""The plan from a pilot: simulated experiments of the planned size have the promised power."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sweeper.core.errors import UsageError
from sweeper.core.records import Interval
from sweeper.judging.judgement import Judgement
from sweeper.judging.plan import POWER, Pilot, format_plan, plan_experiment, plan_spread
from tests.judging.tables import compare_scores, judge_columns
from tests.support.marks import rest_slow
from tests.support.schemas import problems

SEED, IMAGE, BOTH = 0.012, 0.05, 0.03
"""Standard deviations of a training, of a difference on an image, and of a training on an image."""


def draw_pilot(rng: np.random.Generator, seeds: int, images: int, gap: float, *, image: float = IMAGE) -> Any:
    """Return scores, (2, seeds, images); the second method is better by `gap`."""
    scores = 0.5 + rng.normal(0, SEED, (2, seeds, 1)) + rng.normal(0, 0.1, (1, 1, images))
    scores = scores + rng.normal(0, image / math.sqrt(2), (2, 1, images)) + rng.normal(0, BOTH, (2, seeds, images))
    scores[1] += gap
    return scores


def judge_pilot(scores: Any, *, paired: bool, margin: float = 0.02) -> Judgement:
    places = np.indices(scores.shape).reshape(3, -1).tolist()
    columns = {
        "method": [f"m{n}" for n in places[0]],
        "seed": places[1],
        "image": places[2],
        "score": scores.ravel().tolist(),
    }
    return judge_columns(columns, present="m0", margin=margin, paired_seeds=paired)


def make_true_gap(seeds: int, images: int, *, image: float = IMAGE) -> Interval:
    """Return the interval of a difference whose variances are the true ones."""
    v_both = 2 * BOTH**2 / (seeds * images)
    return Interval(
        estimate=0.0, low=-1.0, high=1.0, se_seed=math.sqrt(2 * SEED**2 / seeds + v_both),
        se_image=image / math.sqrt(images), se_both=math.sqrt(v_both),
    )  # fmt: skip


SIZES = [(4, 60, 0.02, True), (6, 30, 0.15, False), (8, 60, 0.05, True)]
SIZES += [(seeds, images, image, not paired) for seeds, images, image, paired in SIZES]


@pytest.mark.parametrize(("seeds", "images", "image", "paired"), rest_slow(SIZES, 0, 2))
def test_the_promised_power_is_that_of_simulated_experiments(
    seeds: int, images: int, image: float, paired: bool
) -> None:
    """80 % within 76 to 84, as far as 1,500 experiments show it (standard error 1 %)."""
    gap = Pilot(make_true_gap(seeds, images, image=image), seeds, images, 0.95, paired).find_detectable()
    rng = np.random.default_rng(seeds)
    detected = 0
    for number in range(1500):
        scores = draw_pilot(rng, seeds, images, gap, image=image)
        contest = compare_scores(scores, present="m0", margin=0.02, paired_seeds=paired)
        if number < 2:
            for one, other in zip(
                contest.comparisons, judge_pilot(scores, paired=paired).contest.comparisons, strict=True
            ):
                assert one.difference.model_dump() == pytest.approx(other.difference.model_dump())
        first = [each.family for each in contest.finalists].index("m1")
        detected += next(c.difference.low for c in contest.comparisons if (c.first, c.second) == (first, 1 - first)) > 0
    assert 0.76 <= detected / 1500 <= 0.84


def test_more_seeds_and_images_are_never_worse_and_the_plan_asks_for_the_fewest() -> None:
    document = plan_experiment(judge_pilot(draw_pilot(np.random.default_rng(3), 6, 40, 0.01), paired=True))
    (pair,) = document.pairs
    assert (document.seeds, document.images, document.difference) == (6, 40, 0.02)
    needed = [row.seeds if row.seeds is not None else 999 for row in pair.rows]
    assert [row.images for row in pair.rows] == [40, 80, 160] and needed == sorted(needed, reverse=True)
    widths = [row.width for row in pair.widths]
    assert widths == sorted(widths, reverse=True)
    assert (document.sd_low, document.sd_high) == pytest.approx((0.624, 2.453), abs=1e-3)  # tables of χ², 5 degrees
    assert not problems(document.document)


def test_the_fewest_seeds_have_the_power_and_one_seed_less_has_not() -> None:
    judgement = judge_pilot(draw_pilot(np.random.default_rng(3), 6, 40, 0.01), paired=True, margin=0.035)
    pilot = Pilot(judgement.contest.comparisons[0].difference, 6, 40, 0.95, paired=True)
    seeds = plan_experiment(judgement).pairs[0].rows[0].seeds
    assert seeds > 3

    def power(count: int) -> float:
        return pilot.compute_power(count, 40, 0.035)

    assert power(seeds) >= POWER > power(seeds - 1)


def test_scores_without_images_are_planned_in_seeds_only() -> None:
    rng = np.random.default_rng(0)
    columns = {"method": ["a"] * 5 + ["b"] * 5, "seed": [*range(5)] * 2, "score": rng.normal(0.5, 0.01, 10).tolist()}
    document = plan_experiment(judge_columns(columns, margin=0.02))
    (pair,) = document.pairs
    assert document.images is None and [row.images for row in pair.rows] == [None] and pair.sd_image is None
    assert 3 <= (pair.rows[0].seeds or 0) <= 20
    assert "To see a true difference of 0.02 score in 80% of experiments" in format_plan(document)


def test_a_pilot_of_single_trainings_is_refused() -> None:
    with pytest.raises(UsageError, match="--plan needs the spread of trainings, 3 of each method or more"):
        plan_experiment(judge_pilot(draw_pilot(np.random.default_rng(0), 2, 40, 0.0), paired=False))


def test_the_command_prints_the_plan(sweeper: Any, tmp_path: Path) -> None:
    lines = ["method,seed,score", *(f"{m},{s},{0.5 + 0.01 * s * (m == 'a')}" for m in "ab" for s in range(4))]
    lines[-1] = "b,3,0.51"
    (tmp_path / "pilot.csv").write_text("\n".join(lines))
    status, out, _ = sweeper("judge", "pilot.csv", "--plan", "--margin", "0.05", "--json")
    assert status == 0 and json.loads(out)["schema"] == "sweeper.plan/1"
    status, _, error = sweeper("judge", "pilot.csv", "--plan", "--claim", "a > b")
    assert status == 2 and "--plan prints a plan and no judgement" in error


def test_seeds_of_a_given_spread_are_those_of_a_t_test() -> None:
    """Unpaired, of one spread: power of Student's test by the noncentral t, with the judgement's critical value."""
    document = plan_spread(0.012, 0.02, 0.95)
    (pair,) = document.pairs
    assert (document.seeds, document.sd_low, pair.sd_seed) == (None, None, pytest.approx(0.012 * math.sqrt(2)))

    def power(n: int) -> float:
        ratio = 0.02 / (0.012 * math.sqrt(2 / n))
        return float(stats.nct.sf(stats.t.ppf(0.975, n - 1), 2 * (n - 1), ratio))

    assert pair.rows[0].seeds == next(n for n in range(3, 100) if power(n) >= POWER)
    assert [row.power for row in pair.widths] == pytest.approx([power(row.seeds) for row in pair.widths])
    assert not problems(document.document)
    text = format_plan(document)
    assert "may be 0.52 to 6.3 times as large" in text and "3 seeds: differences from" in text


@pytest.mark.slow
def test_the_seeds_of_a_spread_have_the_promised_power() -> None:
    seeds = plan_spread(0.012, 0.02, 0.95).pairs[0].rows[0].seeds or 0
    rng, detected = np.random.default_rng(0), 0
    for _ in range(1500):
        scores = rng.normal([[0.5], [0.52]], 0.012, (2, seeds))
        method, seed = np.indices(scores.shape).reshape(2, -1).tolist()
        columns = {"method": [f"m{n}" for n in method], "seed": seed, "score": scores.ravel().tolist()}
        row = judge_columns(columns).answer.differences[0]
        detected += row.first == "m1" and row.low is not None and row.low > 0
    assert 0.76 <= detected / 1500 <= 0.88  # of whole seeds, the fewest that reach 80 %


SPREAD = ("--plan", "--spread", "0.01", "--margin", "0.01")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--spread", "0.01", "--margin", "0.01"), "--spread needs --plan and --margin"),
        (("--plan", "--spread", "0.01"), "--spread needs --plan and --margin"),
        (("pilot.csv", *SPREAD), "SCORES must be left out"),
        ((*SPREAD, "--present", "a", "--at", "last", "--common"), "--present, --common and --at must be left out"),
        (("--plan", "--spread", "-1", "--margin", "0.01"), "--spread must be above 0, got -1"),
        ((), "SCORES is needed"),
    ],
)
def test_a_spread_excludes_a_pilot_and_its_options(sweeper: Any, words: tuple[str, ...], expected: str) -> None:
    status, _, error = sweeper("judge", *words)
    assert status == 2 and expected in error


def test_the_command_plans_by_a_spread(sweeper: Any) -> None:
    status, out, error = sweeper("judge", "--plan", "--spread", "0.012", "--margin", "0.02", "--json")
    assert status == 0, error
    assert json.loads(out)["pairs"][0]["rows"][0]["seeds"] == plan_spread(0.012, 0.02, 0.95).pairs[0].rows[0].seeds
