"""Tables of means give the judgement of the scores behind them, and missing information is requested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sweeper.core.errors import UsageError
from tests.judging.tables import find_problems, judge_columns
from tests.support.schemas import problems

TABLE: dict[str, list[Any]] = {"method": ["A", "B"], "mean": [0.812, 0.801], "sd": [0.10, 0.11], "n": [100, 100]}


def summarise(scores: Any) -> dict[str, list[Any]]:
    """Return the table of means that a paper would print of (methods, n) scores."""
    return {
        "method": [f"m{i}" for i in range(len(scores))],
        "mean": scores.mean(axis=1).tolist(),
        "sd": scores.std(axis=1, ddof=1).tolist(),
        "n": [scores.shape[1]] * len(scores),
    }


def list_scores(scores: Any, key: str) -> dict[str, list[Any]]:
    method, unit = np.indices(scores.shape).reshape(2, -1).tolist()
    return {"method": [f"m{i}" for i in method], key: unit, "score": scores.ravel().tolist()}


@pytest.mark.parametrize("lower", [False, True])
def test_means_over_images_with_their_correlation_give_the_judgement_of_the_images(lower: bool) -> None:
    rng = np.random.default_rng(0)
    scores = 0.7 + 0.1 * rng.normal(size=(2, 60)) + 0.2 * rng.normal(size=(1, 60)) + np.array([[0.02], [0.0]])
    r = float(np.corrcoef(scores)[0, 1])
    options = {"margin": 0.01, "lower_is_better": lower}
    means = judge_columns(summarise(scores), sd_over="images", correlation=r, **options).document
    scored = judge_columns(list_scores(scores, "image"), **options).document
    assert (means.images, means.networks.verdict) == (60, scored.networks.verdict)
    for judged, expected in zip(means.networks.comparisons, scored.networks.comparisons, strict=True):
        assert (judged.first, judged.second) == (expected.first, expected.second)
        assert (judged.ci_low, judged.ci_high) == pytest.approx((expected.ci_low, expected.ci_high), abs=1e-9)
    alternative = "less" if lower else "greater"
    first, second = (scores[int(name[1])] for name in (means.means.pairs[0].first, means.means.pairs[0].second))
    assert means.means.pairs[0].probability == pytest.approx(
        stats.ttest_rel(first, second, alternative=alternative).pvalue
    )


def test_a_correlation_holds_for_each_pair_of_three_methods() -> None:
    table = {"method": ["A", "B", "C"], "mean": [0.8, 0.79, 0.7], "sd": [0.1, 0.2, 0.15], "n": [50] * 3}
    judged = judge_columns(table, sd_over="images", correlation=0.6).document
    sd = dict(zip(table["method"], table["sd"], strict=True))
    for row in judged.networks.comparisons:
        a, b = sd[row.first], sd[row.second]
        half = stats.t.ppf(0.975, 49) * np.sqrt((a * a + b * b - 1.2 * a * b) / 50)
        assert (row.ci_low, row.ci_high) == pytest.approx((row.difference - half, row.difference + half))


def test_means_over_seeds_give_the_judgement_of_the_seeds() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal([[0.75], [0.72], [0.7]], [[0.01], [0.02], [0.015]], size=(3, 6))
    means = judge_columns(summarise(scores), sd_over="seeds").document
    scored = judge_columns(list_scores(scores, "seed")).document
    assert (means.verdict, means.named, means.scope, means.networks) == (
        scored.verdict,
        scored.named,
        "trainings",
        None,
    )
    for judged, expected in zip(means.comparisons, scored.comparisons, strict=True):
        assert (judged.first, judged.ci_low, judged.ci_high) == pytest.approx(
            (expected.first, expected.ci_low, expected.ci_high)
        )


def test_the_interval_excludes_0_from_the_least_correlation_on() -> None:
    judged = judge_columns(TABLE, sd_over="images").document
    (row,) = judged.means.pairs
    assert (judged.means.correlation, judged.networks.verdict) == (0, "undecided")
    for shift, is_shown in ((-0.01, False), (0.01, True)):
        other = judge_columns(TABLE, sd_over="images", correlation=row.least_correlation + shift).document
        assert (other.networks.comparisons[0].ci_low > 0) is is_shown
    assert row.probability == pytest.approx(stats.t.sf(0.011 / np.sqrt((0.1**2 + 0.11**2) / 100), 99))


def test_terminal_report_and_document_call_it_an_approximation(sweeper: Any, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Method;Dice;n\nA;0,842 ± 0,010;5\nB;0,77 +- 0,013;5\n", "utf-8")
    words = ("judge", "t.csv", "--metric", "Dice", "--sd-over", "seeds", "--claim", "A > B by 0.03")
    status, out, error = sweeper(*words, "--out", "out")
    assert status == 0, error
    assert "Approximation from means. Clear winner: A is better than B" in out and "holds" in out
    assert "Approximation from means" in (tmp_path / "out" / "report.md").read_text("utf-8")
    status, out, _ = sweeper(*words, "--json")
    document = json.loads(out)
    assert document["means"]["sd_over"] == "seeds" and "arXiv 2505.04720" in document["means"]["source"]
    assert any("An approximation from means" in caveat for caveat in document["caveats"])
    assert not problems(document)


def join_problems(columns: dict[str, list[Any]], **options: Any) -> str:
    return "\n".join(find_problems(columns, **options))


def test_a_table_needs_what_its_sd_is_over() -> None:
    assert "an SD over images and one over seeds are different claims" in join_problems(TABLE)
    both = {**TABLE, "sd_over": ["images", "seeds"]}
    assert "must be over one thing, images or seeds, got 'images' and 'seeds'" in join_problems(both)
    assert "over one thing" in join_problems({**TABLE, "sd_over": ["images"] * 2}, sd_over="seeds")
    assert "folds share training images" in join_problems({**TABLE, "sd_over": ["folds"] * 2})
    assert judge_columns({**TABLE, "sd_over": ["Images"] * 2}).means is not None


def test_all_problems_are_in_one_list() -> None:
    table = {"method": ["A", "A", "C"], "mean": ["x", 0.8, 0.7], "sd": [0.1, 0.0, 0.1], "n": [10, 10, 1.5]}
    text = join_problems(table, sd_over="images", baseline="a")
    assert "row 1: mean must be a finite number, got 'x'" in text
    assert "row 2: sd must be a number above 0" in text and "row 3: n must be a whole number from 2 on" in text
    assert "each method must have one row, got several of A" in text and "--baseline must be one of the methods" in text


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        ({"n": [100, 90]}, {"sd_over": "images"}, "an SD over images needs one n, that of the common test images"),
        ({"n": [3, 3]}, {"sd_over": "images"}, "n must be the number of methods + 2 or more"),
        ({"n": [3, 2000]}, {"sd_over": "seeds"}, "at most 1,000 trainings, got 2,000"),
        ({}, {"sd_over": "seeds", "correlation": 0.5}, "--correlation is that of scores over images"),
        ({}, {"sd_over": "images", "correlation": 1.0}, "--correlation must be from 0 to below 1, got 1"),
        ({}, {"sd_over": "seeds", "paired_seeds": True}, "--paired-seeds needs the score of each seed"),
        ({"mean": [81.2, 80.1]}, {"sd_over": "images"}, "say with --margin"),
        ({}, {"sd_over": "images", "margin": 1.0}, "--margin must be below 1 where means lie within 0 to 1, got 1"),
        ({}, {"sd_over": "images", "level": 0.2}, "the level must be at least 0.5"),
        ({"mean": [81.2, 0.801]}, {"sd_over": "seeds", "margin": 0.5}, "row 2: scores must have one unit"),
        ({"sd": [1.3, 1.1]}, {"sd_over": "seeds"}, "rows 1 and 2: sd must be in the unit of the means"),
        ({"method": ["UNet", "U Net"]}, {"sd_over": "seeds"}, "the name of a method must be written in one way"),
    ],
)
def test_impossible_tables_and_options_are_refused(
    change: dict[str, Any], options: dict[str, Any], expected: str
) -> None:
    assert expected in join_problems({**TABLE, **change}, **options)


def test_a_missing_n_is_refused_and_scores_of_seeds_are_no_means() -> None:
    text = join_problems({key: TABLE[key] for key in ("method", "mean", "sd")}, sd_over="seeds")
    assert "a column 'n' must say over how many images or seeds its sd is, got none; --column n=NAME" in text
    scores = {
        "method": list("AAABBB"),
        "seed": [0, 1, 2] * 2,
        "score": [0.8, 0.81, 0.82, 0.7, 0.71, 0.72],
        "sd": [0.1] * 6,
    }
    assert judge_columns(scores).means is None
    with pytest.raises(UsageError, match="--sd-over and --correlation are for a table of means"):
        judge_columns(scores, sd_over="seeds")


def test_rounded_means_have_a_caveat() -> None:
    judged = judge_columns({**TABLE, "mean": ["0.81", "0.80"]}, sd_over="images")
    assert any("The means are rounded to 0.01" in caveat for caveat in judged.caveats)
    assert not any("rounded" in caveat for caveat in judge_columns(TABLE, sd_over="images").caveats)
