"""Folds: with images a rotation is one training, without them intervals are widened; other columns are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import sweeper
from tests.judging.tables import draw_scores, find_problems, make_table


def make_folds(rotations: int, folds: int, key: int = 0, gap: float = 0.05) -> pd.DataFrame:
    """Return one score for each method, rotation and fold."""
    rng = np.random.default_rng(key)
    shared = 0.05 * rng.standard_normal((rotations, folds))
    rows = [
        (method, seed, fold, 0.7 + shared[seed, fold] + level + 0.02 * rng.standard_normal())
        for method, level in (("a", gap), ("b", 0.0))
        for seed in range(rotations)
        for fold in range(folds)
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "fold", "score"])


def test_with_images_the_folds_of_a_rotation_are_one_training() -> None:
    frame = make_table(draw_scores(images=20, runs=3))
    judgement = sweeper.judge(frame.assign(fold=frame["image"] % 5))
    without_folds = sweeper.judge(frame)
    assert judgement.answer.images == 20 and judgement.answer.kind == "method"
    assert all(words in str(judgement.answer.remarks) for words in ("one training over all images", "here K = 5"))
    for one, other in zip(judgement.answer.differences, without_folds.answer.differences, strict=True):
        assert (one.estimate, one.se_seed) == (other.estimate, other.se_seed)
        assert one.se_image == pytest.approx(math.sqrt(5 / 4) * other.se_image)
        assert one.high - one.low > other.high - other.low


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("classes", ["", "xy"])
def test_fewer_than_three_rotations_are_judged_as_the_means_of_their_folds_are(runs: int, classes: str) -> None:
    """A spread of trainings can only be seen from fold to fold there, with the images or without."""
    frame = make_table(draw_scores(images=20, runs=runs, gap=0.06)).assign(fold=lambda f: f["image"] % 5)
    keys = ["method", "seed", "fold"]
    if classes:  # the second one is in no image of fold 2, and scores less
        both = pd.concat([frame.assign(**{"class": "x"}), frame.assign(**{"class": "y"}).query("fold != 2")])
        frame = both.assign(score=both["score"] - 0.1 * (both["class"] == "y"))
        means = frame.groupby([*keys, "class"])["score"].mean().groupby(keys).mean()
    else:
        means = frame.groupby(keys)["score"].mean()
    judgement, expected = sweeper.judge(frame), sweeper.judge(means.reset_index())
    assert (judgement.answer.sure, judgement.answer.outcome) == (expected.answer.sure, expected.answer.outcome)
    assert judgement.answer.sure == "established"
    assert [one.code for one in judgement.answer.remarks] == [one.code for one in expected.answer.remarks]
    for one, other in zip(judgement.answer.differences, expected.answer.differences, strict=True):
        assert one.model_dump() == pytest.approx(other.model_dump())


@pytest.mark.parametrize("parts", ["methods", "two"])
def test_folds_that_say_nothing_of_methods_leave_the_networks(parts: str) -> None:
    """Other divisions for each method, or two folds."""
    frame = make_table(draw_scores(images=20, runs=1))
    fold = frame["image"] % 2 if parts == "two" else (frame["image"] + (frame["method"] == "a")) % 5
    judgement, without_folds = sweeper.judge(frame.assign(fold=fold)), sweeper.judge(frame)
    assert judgement.answer.differences == without_folds.answer.differences and judgement.answer.images == 20


@pytest.mark.parametrize("kind", ["seed", "method"])
def test_folds_may_have_other_names_in_each_run(kind: str) -> None:
    """As those of scikit-learn's RepeatedKFold, which are counted on over the rotations."""
    frame = make_table(draw_scores(images=20, runs=3))
    judgement = sweeper.judge(frame.assign(fold=frame["image"] % 5))
    names = frame[kind].astype(str) + "-" + (frame["image"] % 5).astype(str)
    assert sweeper.judge(frame.assign(fold=names)).answer.differences == judgement.answer.differences


def test_in_rotations_the_part_of_the_images_is_multiplied_by_k_over_k_minus_1() -> None:
    """Unpaired, by Cochran and Cox from the three mean squares; no library has this interval."""
    frame = make_table(draw_scores(images=20, runs=3))
    gap = sweeper.judge(frame.assign(fold=frame["image"] % 5)).answer.differences[0]
    methods = [f.pivot(index="seed", columns="image", values="score").to_numpy() for _, f in frame.groupby("method")]
    v_seeds = [scores.mean(axis=1).var(ddof=1) / 3 for scores in methods]
    rest = [scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean() for scores in methods]
    v_both = [float((residuals**2).sum()) / (2 * 19 * 3 * 20) for residuals in rest]
    images = (methods[0].mean(axis=0) - methods[1].mean(axis=0)).var(ddof=1) / 20
    v_seed, v_image = sum(v_seeds), 5 / 4 * (images - sum(map(min, v_both, v_seeds)))
    assert v_image > 0
    weighted = stats.t.ppf(0.975, 2) * v_seed + stats.t.ppf(0.975, 19) * v_image
    half = weighted / math.sqrt(v_seed + v_image)
    assert (gap.high - gap.low) / 2 == pytest.approx(half, rel=1e-6)


def test_a_column_of_folds_with_another_name_is_given_by_an_option() -> None:
    frame = make_table(draw_scores(images=20))
    judgement = sweeper.judge(frame.assign(part=frame["image"] % 4), column={"fold": "part"})
    assert judgement.answer.differences == sweeper.judge(frame.assign(fold=frame["image"] % 4)).answer.differences
    assert judgement.answer.differences != sweeper.judge(frame).answer.differences


def test_an_image_in_several_folds_of_a_training_is_refused() -> None:
    frame = make_table(draw_scores(images=6))
    both = pd.concat([frame.assign(fold=fold) for fold in (1, 2)])
    assert "an image must be in one fold of a training" in str(find_problems(both))


@pytest.mark.parametrize(("rotations", "folds"), [(1, 5), (1, 10), (3, 4), (2, 2)])
def test_scores_of_folds_have_the_corrected_resampled_interval(rotations: int, folds: int) -> None:
    frame = make_folds(rotations, folds)
    gap = sweeper.judge(frame).answer.differences[0]
    table = frame.pivot(index=["seed", "fold"], columns="method", values="score")
    differences = (table["a"] - table["b"]).to_numpy()
    # Nadeau and Bengio 2003: variance (1/J + n_test/n_train) s², J − 1 degrees of freedom.
    n = len(differences)
    error = math.sqrt((1 / n + 1 / (folds - 1)) * differences.var(ddof=1))
    half = stats.t.ppf(0.975, n - 1) * error
    assert gap.estimate == pytest.approx(differences.mean())
    assert (gap.low, gap.high) == pytest.approx((differences.mean() - half, differences.mean() + half))
    assert gap.se_seed == pytest.approx(error)


@pytest.mark.parametrize(("rotations", "folds"), [(1, 5), (1, 10), (3, 5), (10, 10)])
def test_the_corrected_interval_is_that_of_an_independent_implementation(rotations: int, folds: int) -> None:
    correlated = pytest.importorskip("baycomp.single", reason="needs the extra `oracles`").CorrelatedTTest
    frame = make_folds(rotations, folds)
    gap = sweeper.judge(frame).answer.differences[0]
    table = frame.pivot(index=["seed", "fold"], columns="method", values="score")
    posterior = correlated(table["b"].to_numpy(), table["a"].to_numpy(), runs=rotations)
    half = stats.t.ppf(0.975, posterior.df) * math.sqrt(posterior.var)
    assert (gap.low, gap.high) == pytest.approx((posterior.mean - half, posterior.mean + half), abs=1e-12)


def test_a_single_rotation_needs_no_column_of_seeds_and_names_its_method() -> None:
    frame = make_folds(1, 5).drop(columns="seed")
    judgement = sweeper.judge(frame)
    assert judgement.answer.sure == "established" and "Nadeau and Bengio" in str(judgement.answer.remarks)
    naive = sweeper.judge(frame.rename(columns={"fold": "seed"}), paired_seeds=True).answer.differences[0]
    corrected = judgement.answer.differences[0]
    assert naive.low is not None and corrected.low is not None and corrected.low < naive.low


@pytest.mark.parametrize(
    ("frame", "options", "problem"),
    [
        (make_folds(1, 5), {"column": {"seed": "fold"}}, "give --column fold=fold in its place"),
        (make_folds(1, 5).iloc[:-1], {}, "must have all 5 folds, got fewer of b, seed 0"),
        (make_folds(1, 5).assign(split=["train", "test"] * 5), {}, "only images that a method was not trained on"),
        (make_folds(1, 5).assign(split=["val", "Test"] * 5).drop(columns="fold"), {}, "== 'Test'"),
        (make_folds(1, 5).assign(cv=[1, 2] * 5), {}, "each column must be known, got cv;"),
        (make_folds(1, 5).assign(fold=[1, None, 3, 4, 5] * 2), {}, "the fold must have a name"),
    ],
)  # fmt: skip
def test_a_column_that_holds_no_folds_is_refused(frame: pd.DataFrame, options: dict[str, Any], problem: str) -> None:
    assert problem in "\n".join(find_problems(frame, **options))


def test_of_two_columns_of_folds_an_option_leaves_one_out() -> None:
    frame = make_folds(1, 5)
    judgement = sweeper.judge(frame.assign(cv=[1, 2] * 5), ignore=["cv"])
    assert judgement.answer.differences == sweeper.judge(frame).answer.differences


def test_equal_methods_on_the_same_images_seldom_differ() -> None:
    """Ridge regressions on two disjoint sets of equally good features, over real divisions of simulated images."""
    rng = np.random.default_rng(3)
    wins = 0
    for _ in range(120):
        wins += sweeper.judge(cross_validate(rng), margin=1e-9).answer.sure == "established"
    assert wins <= 13  # 5 % of 120 are 6: 14 or more have a probability of 0.003


def cross_validate(rng: np.random.Generator, images: int = 60, folds: int = 5, rotations: int = 2) -> pd.DataFrame:
    features = rng.standard_normal((images, 12))
    target = features.sum(axis=1) + 3 * rng.standard_normal(images)
    rows = []
    for seed in range(rotations):
        side = rng.permutation(images) % folds
        for fold in range(folds):
            train, test = side != fold, side == fold
            for method, columns in (("a", features[:, :6]), ("b", features[:, 6:])):
                weights = np.linalg.solve(
                    columns[train].T @ columns[train] + np.eye(6), columns[train].T @ target[train]
                )
                rows.append((method, seed, fold, float(((columns[test] @ weights - target[test]) ** 2).mean())))
    frame = pd.DataFrame(rows, columns=["method", "seed", "fold", "score"])
    return frame.assign(score=-frame["score"])
