"""Intervals and the weighing of confirmations, on counts whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from sweeper.core import metrics
from sweeper.core.operating_points import THRESHOLDS
from sweeper.core.records import Collapse, Evidence, Interval, TrialResult, Verdict
from sweeper.evidence.intervals import (
    ImageTable,
    half_width,
    image_table,
    negated,
    paired_interval,
    variance_parts,
)
from sweeper.evidence.paired_comparisons import last_quarter_gain, weigh
from sweeper.evidence.reasons import FEW_IMAGES, caveats
from sweeper.evidence.replicates import Replicate, class_counts, own_point
from sweeper.evidence.verdict import decide
from tests.support.builders import (
    BINARY,
    CONFIRM_SEEDS,
    ORDER,
    STREET,
    confirmation,
    counts_from_iou,
    curve,
    diverged,
    evaluation,
    failed_trial,
    histogram_counts,
    point_counts,
    simulated_confirmations,
    spec,
    trial,
)

SEARCH = {family: trial(family, 0.7, i) for i, family in enumerate(ORDER)}


def weighed(runs: list[TrialResult], **changes: object) -> Evidence:
    settings: dict[str, object] = {"classes": BINARY} | changes
    return weigh(runs, SEARCH, **settings)  # type: ignore[arg-type]


def gap(evidence: Evidence, first: str, second: str) -> Interval:
    names = [f.family for f in evidence.finalists]
    pair = (names.index(first), names.index(second))
    return next(c.difference for c in evidence.comparisons if (c.first, c.second) == pair)


def simulated(seed: int = 0, **changes: object) -> list[TrialResult]:
    levels = {"dice": 0.62, "cross_entropy": 0.55, "dice_ce": 0.6}
    return simulated_confirmations(levels, np.random.default_rng(seed), **changes)  # type: ignore[arg-type]


# --- Intervals ----------------------------------------------------------------------------------------------


def test_the_critical_value_is_students_when_one_source_is_alone() -> None:
    assert half_width(1e-4, 3, 0.0, 24) == pytest.approx(0.01 * student.ppf(0.975, 2))
    assert half_width(0.0, 3, 1e-4, 24) == pytest.approx(0.01 * student.ppf(0.975, 23))
    assert half_width(1e-4, 3, 0.0, 24, borrowed=4.0) == pytest.approx(0.01 * student.ppf(0.975, 6))
    mixed = (student.ppf(0.975, 2) * 1 + student.ppf(0.975, 23) * 3) / 4
    assert half_width(1e-4, 3, 3e-4, 24) == pytest.approx(mixed * 0.02)


def test_a_negated_interval_is_the_mirror_image_without_minus_zero() -> None:
    mirror = negated(Interval(estimate=0.0, low=-0.1, high=0.3, se_seed=0.1, se_image=0.2))
    assert (mirror.low, mirror.high, mirror.se_seed) == (-0.3, 0.1, 0.1)
    assert str(mirror.estimate) == "0.0"


@pytest.mark.slow
def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    # Images are drawn from a population of known mIoU; seeds add their own level to each training.
    rng, covered, repeats = np.random.default_rng(11), 0, 250
    for _ in range(repeats):
        runs = simulated_confirmations(
            {"dice": 0.6, "cross_entropy": 0.6}, rng, images=40, seed_sd=0.01, image_sd=0.1, interaction_sd=0.05
        )
        found = gap(weighed(runs), "dice", "cross_entropy")
        covered += found.low <= 0 <= found.high
    assert 0.92 <= covered / repeats <= 1.0
    # ... and not because they are uselessly wide: a gap of a few standard errors is seen.
    runs = simulated_confirmations({"dice": 0.75, "cross_entropy": 0.5}, rng, images=40)
    assert gap(weighed(runs), "dice", "cross_entropy").low > 0


def miou(summed: np.ndarray) -> np.ndarray:
    return np.asarray(metrics.objective(summed, np.array([True, True])))


def counts_of(runs: list[TrialResult]) -> np.ndarray:
    return np.stack([metrics.at_point(r.test, 0.5) for r in runs if r.test is not None])


def test_influences_give_the_standard_error_that_resampling_gives() -> None:
    # Without its Monte-Carlo noise; here for a difference of mIoU, which is a ratio of sums.
    for seed, images in ((0, 24), (1, 40), (2, 120)):
        runs = simulated_confirmations({"dice": 0.6, "focal": 0.58}, np.random.default_rng(seed), images=images)
        counts = counts_of(runs)
        table = image_table(counts, miou).rows([0, 1, 2], [3, 4, 5])
        drawn = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), 8000)
        values = miou(np.einsum("bn,rnkc->brkc", drawn, counts))
        resampled = (values[:, :3] - values[:, 3:]).mean(axis=1).std() * np.sqrt(images / (images - 1))
        columns = table.shares.mean(axis=0)
        alone = np.sqrt(np.square(columns).sum() / (images * (images - 1)))
        assert alone == pytest.approx(resampled, rel=0.05)
        np.testing.assert_allclose(table.shares.sum(axis=1), 0, atol=1e-7)


def test_an_images_influence_on_miou_is_the_derivative_along_its_counts() -> None:
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 500, (4, 9, 5, 3))
    counts[:, 1:, 4] = 0  # a class of a single image
    classes = np.array([True, True, False, True, True])
    table = image_table(counts, lambda summed: metrics.objective(summed, classes))
    union, true = counts.sum(axis=-1), counts[..., 0]
    iou = (true.sum(axis=1) / union.sum(axis=1))[:, None]
    of_classes = (true - iou * union) / union.sum(axis=1)[:, None]
    np.testing.assert_allclose(table.shares, 9 * of_classes[..., classes].mean(axis=-1), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(table.shares.sum(axis=1), 0, atol=1e-7)


def test_a_class_of_a_single_image_does_not_widen_the_interval_by_one_false_alarm() -> None:
    """Without that image its IoU would be 0 by the false alarm: leaving it out made the interval ± 0.66."""
    counts = np.zeros((6, 12, 3, 3), dtype=np.int64)
    counts[..., :2, :] = np.random.default_rng(5).integers(900, 1000, (1, 12, 1, 3))
    counts[:, 0, 2] = (900, 50, 50)
    counts[3:, 0, 2] += (-6, 0, 6)  # the second loss reads 0.002 lower
    counts[:3, 7, 2, 1] = 1  # and the first has one false alarm elsewhere
    table = image_table(counts, lambda summed: metrics.objective(summed, np.ones(3, dtype=np.bool_)))
    found = paired_interval(table.rows([0, 1, 2], [3, 4, 5]), (-1, 1))
    assert found.estimate == pytest.approx(0.0017, abs=0.0005)
    assert found.high - found.low < 0.01


def test_the_variance_is_unbiased_and_counts_the_interaction_once() -> None:
    # A crossed two-way layout whose components are known: seeds 0.3, images 0.8, both 2.
    rng, seeds, images, found = np.random.default_rng(0), 4, 12, []
    for _ in range(4000):
        x = 0.3 * rng.normal(size=(seeds, 1)) + 0.8 * rng.normal(size=images) + 2 * rng.normal(size=(seeds, images))
        means = x.mean(axis=1)
        parts = variance_parts(ImageTable(means, x - means[:, None]))
        found.append((parts.v_seed, parts.v_seed + parts.v_image, means.mean() ** 2))
    v_seed, total, true = np.mean(found, axis=0)
    assert v_seed == pytest.approx(0.09 / seeds + 4 / (seeds * images), rel=0.05)
    assert true == pytest.approx(0.09 / seeds + 0.64 / images + 4 / (seeds * images), rel=0.08)
    assert total == pytest.approx(true, rel=0.12)  # counting it twice would add a half
    # Where the interaction is all there is, nothing is left to the choice of images (but for chance, upwards).
    alone = np.random.default_rng(1).normal(size=(300, seeds, images))
    parts_alone = [variance_parts(ImageTable(x.mean(axis=1), x - x.mean(axis=1, keepdims=True))) for x in alone]
    total = np.mean([p.v_seed + p.v_image for p in parts_alone])
    assert total == pytest.approx(1 / (seeds * images), rel=0.35)  # counted twice it would be 2 / (S n)
    assert all(p.v_both <= p.v_seed for p in parts_alone)


def test_intervals_of_the_table_are_those_of_student_when_one_source_is_alone() -> None:
    scores = np.array([0.5, 0.52, 0.57])
    found = paired_interval(ImageTable(scores, np.zeros((3, 24))), (0, 1))
    assert found.se_seed == pytest.approx(scores.std(ddof=1) / np.sqrt(3))
    assert found.high - found.estimate == pytest.approx(student.ppf(0.975, 2) * found.se_seed)
    x = np.random.default_rng(0).normal(size=12)
    found = paired_interval(ImageTable(np.zeros(3), np.tile(x - x.mean(), (3, 1))), (-9, 9), 0.99)
    assert found.se_image == pytest.approx(x.std(ddof=1) / np.sqrt(12))
    assert found.high == pytest.approx(student.ppf(0.995, 11) * found.se_image)


@pytest.mark.parametrize(("seeds", "images"), [(1, 24), (3, 1), (3, 0), (1, 1), (0, 0)])
def test_a_table_too_small_for_a_variance_gives_the_whole_range(seeds: int, images: int) -> None:
    found = paired_interval(ImageTable(np.full(seeds, 0.2), np.zeros((seeds, images))), (-1, 1))
    assert (found.low, found.high) == (-1, 1)
    assert max(found.se_seed, found.se_image) == 1


def test_pairing_removes_what_images_and_seeds_have_in_common() -> None:
    difficulty = np.random.default_rng(0).normal(0, 0.15, 24)
    runs = [
        confirmation(family, seed, counts_from_iou(level + difficulty + luck, 4000, 100_000), 3 * f + s)
        for f, (family, level) in enumerate({"dice": 0.6, "cross_entropy": 0.57}.items())
        for s, (seed, luck) in enumerate(zip(CONFIRM_SEEDS, (-0.03, 0.0, 0.03), strict=True))
    ]
    evidence = weighed(runs)
    paired = gap(evidence, "dice", "cross_entropy")
    first, second = evidence.finalists[0].miou, evidence.finalists[1].miou
    unpaired = np.hypot(np.hypot(first.se_seed, second.se_seed), np.hypot(first.se_image, second.se_image))
    assert np.hypot(paired.se_seed, paired.se_image) < unpaired / 5
    assert paired.low > 0
    assert second.high > first.low  # the two level intervals overlap: only pairing shows the difference


# --- Weighing -----------------------------------------------------------------------------------------------


def test_scores_are_means_over_seeds_at_each_runs_own_point() -> None:
    counts = [counts_from_iou([0.5, 0.6]), counts_from_iou([0.55, 0.62]), counts_from_iou([0.4, 0.5])]
    low = THRESHOLDS[0]  # everything from bin 1 on is called foreground: false alarms
    points = (0.5, 0.5, low)
    runs = [
        confirmation("dice", seed, test, i, point=point, val=0.6 + 0.1 * i)
        for i, (seed, test, point) in enumerate(zip(CONFIRM_SEEDS, counts, points, strict=True))
    ]
    found = weighed(runs).finalists[0]
    each = [metrics.scores(metrics.at_point(c, p)) for c, p in zip(counts, points, strict=True)]
    default = [metrics.scores(metrics.at_point(c, 0.5)) for c in counts]
    assert found.points == points
    assert found.seeds == CONFIRM_SEEDS
    assert found.run_ids == tuple(f"run-confirm-dice-{s}" for s in CONFIRM_SEEDS)
    assert found.miou.estimate == pytest.approx(np.mean([s.miou for s in each]))
    assert found.fg_iou is not None
    assert found.fg_iou.estimate == pytest.approx(np.mean([s.fg_iou for s in each]))  # type: ignore[misc]
    assert found.miou_at_default == pytest.approx(np.mean([s.miou for s in default]))
    assert found.dice == pytest.approx(np.mean([s.dice for s in each]))
    assert found.precision[1] == pytest.approx(np.mean([s.precision[1] for s in each]))  # type: ignore[misc]
    assert found.recall[1] == pytest.approx(np.mean([s.recall[1] for s in each]))  # type: ignore[misc]
    assert found.val_score == pytest.approx(0.7)
    assert found.search_value == 0.7
    assert found.search_trial == ORDER.index("dice")


def test_the_difference_is_the_mean_of_paired_differences() -> None:
    evidence = weighed(simulated())
    names = [f.family for f in evidence.finalists]
    assert sorted(names) == ["cross_entropy", "dice", "dice_ce"]
    levels = [f.miou.estimate for f in evidence.finalists]
    assert levels == sorted(levels, reverse=True)
    assert evidence.baseline == names.index("cross_entropy")
    assert [(c.first, c.second) for c in evidence.comparisons] == [(i, j) for i in range(3) for j in range(3) if i != j]
    for c in evidence.comparisons:
        assert c.difference.estimate == pytest.approx(levels[c.first] - levels[c.second])
        assert c.difference == negated(gap(evidence, names[c.second], names[c.first]))


def test_order_of_runs_and_of_images_changes_no_digit() -> None:
    runs = simulated()
    expected = weighed(runs)
    shuffled = [runs[i] for i in np.random.default_rng(5).permutation(len(runs))]
    assert weighed(shuffled) == expected
    turned = []
    for run in runs:
        assert run.test is not None
        back = {"images": run.test.images[::-1], "data": run.test.data[::-1]}
        turned.append(run.model_copy(update={"test": run.test.model_copy(update=back)}))
    assert weighed(turned) == expected


def test_multiclass_counts_give_class_means_and_no_foreground() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 50, (4, 3, 3))
    counts[:, 2] = [0, 3, 0]  # `sign` does not occur in the test split, but is predicted
    runs = [confirmation("dice", s, point_counts(counts), i, point=0.25) for i, s in enumerate(CONFIRM_SEEDS)]
    evidence = weighed(runs, classes=STREET)
    found = evidence.finalists[0]
    assert found.fg_iou is None
    assert found.iou[2] is found.precision[2] is found.recall[2] is None
    assert found.miou.estimate == pytest.approx(metrics.scores(counts).miou)
    assert found.points == (0.25,) * 3
    assert evidence.constant_miou == pytest.approx(metrics.constant_miou(counts))
    assert evidence.baseline is None


def test_one_seed_gives_estimates_and_no_conclusion() -> None:
    evidence = weighed([run for run in simulated() if run.spec.seed == CONFIRM_SEEDS[0]])
    assert {(c.difference.low, c.difference.high) for c in evidence.comparisons} == {(-1.0, 1.0)}
    assert {(f.miou.low, f.miou.high) for f in evidence.finalists} == {(0.0, 1.0)}
    assert Evidence.model_validate_json(evidence.model_dump_json()) == evidence


def test_a_missing_seed_leaves_the_comparison_on_the_common_ones() -> None:
    runs = simulated()
    lost = next(i for i, r in enumerate(runs) if r.spec.family == "dice")
    gone = [*runs[:lost], failed_trial("dice", 90, spec=runs[lost].spec), *runs[lost + 1 :]]
    without = [run for i, run in enumerate(runs) if i != lost]
    evidence = weighed(gone)
    assert evidence == weighed(without)
    names = {f.family: f for f in evidence.finalists}
    assert len(names["dice"].seeds) == 2
    common = [r for r in runs if r.spec.seed != runs[lost].spec.seed and r.spec.family in {"dice", "cross_entropy"}]
    left, alone = gap(evidence, "dice", "cross_entropy"), gap(weighed(common), "dice", "cross_entropy")
    assert (left.estimate, left.se_image, left.borrowed) == (
        alone.estimate,
        alone.se_image,
        1,
    )  # by the other two pairs


def test_the_last_of_two_trainings_of_one_seed_counts() -> None:
    first = confirmation("dice", 101, counts_from_iou([0.2] * 5), 0)
    again = confirmation("dice", 101, counts_from_iou([0.8] * 5), 9)
    assert weighed([again, first]) == weighed([again])


def test_a_diverged_training_without_counts_scores_zero_and_is_counted() -> None:
    runs = [r for r in simulated() if r.spec.family != "dice"]
    runs += [diverged("dice", seed, 50 + i) for i, seed in enumerate(CONFIRM_SEEDS)]
    evidence = weighed(runs)
    last = evidence.finalists[-1]
    assert last.family == "dice"
    assert (last.miou.estimate, last.miou_at_default, last.dice, last.val_score, last.collapses) == (0, 0, 0, 0, 3)
    assert last.iou == last.precision == last.recall == (0.0, 0.0)
    assert last.fg_iou is not None
    assert last.fg_iou.estimate == 0
    assert gap(evidence, "dice_ce", "dice").low > 0


def test_a_diverged_training_with_counts_scores_them() -> None:
    counts = counts_from_iou([0.3, 0.2, 0.4])
    runs = [confirmation("dice", s, counts, i, collapse=Collapse.DIVERGED) for i, s in enumerate(CONFIRM_SEEDS)]
    found = weighed(runs).finalists[0]
    assert found.miou.estimate == pytest.approx(metrics.scores(metrics.at_point(counts, 0.5)).miou)
    assert (found.collapses, found.val_score) == (3, 0.0)


def test_all_diverged_is_evidence_too() -> None:
    evidence = weighed([diverged(f, s, 3 * i + s) for i, f in enumerate(("dice", "focal")) for s in CONFIRM_SEEDS])
    assert evidence.test_images == 0
    assert [f.miou.estimate for f in evidence.finalists] == [0, 0]
    assert (gap(evidence, "dice", "focal").low, gap(evidence, "dice", "focal").high) == (-1, 1)


def test_no_completed_confirmation_gives_evidence_without_finalists() -> None:
    failed = failed_trial("dice", 0, spec=spec("dice", 0, 101, purpose="confirm"))
    for runs in ([], [failed]):
        evidence = weighed(runs)
        assert (evidence.finalists, evidence.comparisons, evidence.baseline) == ((), (), None)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([trial("dice")], "finished confirmation trainings, got a complete search"),
        ([confirmation("dice", state="pruned")], "finished confirmation trainings, got a pruned confirm"),
        ([confirmation("dice"), confirmation("focal", test=counts_from_iou([0.5] * 4))], "the same test images"),
    ],
)
def test_what_is_not_comparable_is_refused(runs: list[TrialResult], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weighed(runs)


def test_the_gain_of_the_last_quarter_is_read_from_the_curve() -> None:
    assert last_quarter_gain(confirmation(rise=0.03)) == pytest.approx(0.03)
    ten = tuple(evaluation(step, step / 100) for step in (20, 40, 60, 80, 100))  # 0.01 in each step
    assert last_quarter_gain(trial(evaluations=ten)) == pytest.approx(0.25)
    assert last_quarter_gain(trial(evaluations=curve(0.6)[-1:])) == 0
    runs = [confirmation("dice", s, None, i, rise=r) for i, (s, r) in enumerate(zip((1, 2), (0.02, 0.04), strict=True))]
    assert weighed(runs).finalists[0].still_rising == pytest.approx(0.03)


@pytest.mark.parametrize("kind", [Collapse.ALL_BACKGROUND, Collapse.NO_BETTER_THAN_CONSTANT, Collapse.DIVERGED])
def test_every_collapse_after_which_a_run_is_of_no_use_counts(kind: Collapse) -> None:
    runs = [confirmation("dice", s, number=i, collapse=kind) for i, s in enumerate(CONFIRM_SEEDS)]
    assert weighed(runs).finalists[0].collapses == 3
    rare = [confirmation("dice", s, number=i, collapse="class_never_predicted") for i, s in enumerate(CONFIRM_SEEDS)]
    assert weighed(rare).finalists[0].collapses == 0


# --- Groups of images -------------------------------------------------------------------------------------


def doubled(runs: list[TrialResult]) -> list[TrialResult]:
    """Every test image twice: as many images again, and not one bit more to know."""
    return [
        r.model_copy(
            update={
                "test": r.test.model_copy(
                    update={"images": tuple(range(48)), "data": np.concatenate([r.test.data, r.test.data])}
                )
            }
        )
        for r in runs
        if r.test is not None
    ]


def test_images_of_a_group_count_as_one() -> None:
    runs = simulated()
    groups = [f"g{i % 24}" for i in range(48)]
    once, grouped = weighed(runs), weighed(doubled(runs), groups=groups)
    assert (grouped.test_images, grouped.test_groups) == (48, 24)
    for one, two in zip(once.comparisons, grouped.comparisons, strict=True):
        assert two.difference.low == pytest.approx(one.difference.low)
    blind = weighed(doubled(runs))
    assert blind.test_groups is None
    assert blind.finalists[0].miou.se_image < 0.8 * grouped.finalists[0].miou.se_image


def test_images_without_a_group_stand_for_themselves() -> None:
    runs = simulated()
    assert weighed(runs, groups=[None] * 24) == weighed(runs)
    assert weighed(runs, groups=[f"g{i}" for i in range(24)]) == weighed(runs)
    assert weighed(runs, groups=["a", "a", *[None] * 22]).test_groups == 23
    five = weighed(runs, groups=[f"g{i % 5}" for i in range(24)])
    assert (five.test_groups, five.few_groups) == (5, None)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_groups_are_the_units_and_said_to_be_few(count: int) -> None:
    alone, few = weighed(simulated()), weighed(simulated(), groups=[f"g{i % count}" for i in range(24)])
    assert (few.test_groups, few.few_groups) == (count, count)
    wide = [c.difference.high - c.difference.low for c in few.comparisons]
    narrow = [c.difference.high - c.difference.low for c in alone.comparisons]
    assert (count == 1) == all(width == 2 for width in wide)  # a single unit: nothing is known
    assert wide != narrow
    text = " ".join(caveats(few))
    assert f"only {count} group" in text and "nothing of other groups" in text and "only" not in caveats(alone)[0]


def test_the_verdict_is_in_the_metric_that_was_asked_for() -> None:
    """Two losses are as good on the sums; on small images, which hardly count there, one is far better."""
    rng = np.random.default_rng(0)
    size = np.where(np.arange(24) % 2, 4000, 40)

    def run(family: str, seed: int, number: int) -> TrialResult:
        small = 0.75 if family == "dice" else 0.45
        return confirmation(
            family,
            seed,
            counts_from_iou(np.where(size == 40, small, 0.6) + rng.normal(0, 0.02, 24), size, 50_000),
            number,
        )

    runs = [run(f, s, 10 * i + s) for i, f in enumerate(("dice", "cross_entropy")) for s in CONFIRM_SEEDS]
    by_sums, by_images = weighed(runs), weighed(runs, metric="image_iou")
    assert decide(by_sums, ORDER).verdict is not Verdict.CLEAR_WINNER
    assert (by_sums.scale.score, by_images.scale.score) == ("mIoU", "IoU per image")
    assert decide(by_images, ORDER).verdict is Verdict.CLEAR_WINNER
    best = by_images.finalists[0]
    assert best.family == "dice" and best.score.estimate == pytest.approx(0.675, abs=0.01) != best.miou.estimate
    assert gap(by_images, "dice", "cross_entropy").estimate == pytest.approx(0.15, abs=0.02)
    assert "IoU per image" in decide(by_images, ORDER).reasons[0]
    assert best.miou == next(f for f in by_sums.finalists if f.family == "dice").miou


def test_groups_that_do_not_fit_the_images_are_refused() -> None:
    with pytest.raises(ValueError, match="each of the 24 test images, got 3"):
        weighed(simulated(), groups=["a"] * 3)


def test_the_gain_over_cross_entropy_as_it_is_usually_trained_is_paired_by_seed() -> None:
    counts = [counts_from_iou([0.5, 0.6, 0.4]), counts_from_iou([0.55, 0.62, 0.5]), counts_from_iou([0.4, 0.5, 0.45])]
    low = THRESHOLDS[0]  # a bad point: at 0.5 cross-entropy reads more
    runs = [
        confirmation("dice", seed, test, i) for i, (seed, test) in enumerate(zip(CONFIRM_SEEDS, counts, strict=True))
    ]
    runs += [confirmation("cross_entropy", s, counts[0], 10 + i, point=low) for i, s in enumerate(CONFIRM_SEEDS)]
    found = {f.family: f for f in weighed(runs).finalists}
    dice, plain = found["dice"], found["cross_entropy"]
    assert plain.miou_at_default > plain.miou.estimate + 0.05
    assert dice.vs_plain is not None and plain.vs_plain is not None
    assert dice.vs_plain.estimate == pytest.approx(dice.miou.estimate - plain.miou_at_default)
    assert plain.vs_plain.estimate == pytest.approx(plain.miou.estimate - plain.miou_at_default)
    assert plain.vs_plain.se_seed == pytest.approx(0)  # the same counts at each seed
    assert dice.vs_plain.se_seed > 0 and dice.vs_plain.low < dice.vs_plain.estimate < dice.vs_plain.high
    assert weighed(runs[:3]).finalists[0].vs_plain is None


def test_few_images_rare_classes_and_what_never_happened_are_caveats() -> None:
    rare = []
    for run in simulated(images=40):
        assert run.test is not None
        data = run.test.data.copy()
        data[3:, 1] = 0  # foreground in three images alone
        rare.append(run.model_copy(update={"test": run.test.model_copy(update={"data": data})}))
    fallen = [r.model_copy(update={"collapse": Collapse.ALL_BACKGROUND}) for r in simulated(images=40)]
    grouped = weighed(simulated(images=40), groups=["a", "a", *[None] * 38])
    for found, words in (
        (weighed(simulated()), [f"24 test images, fewer than {FEW_IMAGES}", "63 % of trainings"]),
        (grouped, ["39 groups of test images, fewer than 40", "40 test images come in 39 groups", "63 %"]),
        (weighed(rare), [f"fewer than 5 test images: {BINARY[1]} (3 images)", "63 %"]),
        (weighed(fallen), []),
    ):
        assert len(caveats(found)) == len(words)
        assert all(word in line for word, line in zip(words, caveats(found), strict=True))


# --- Trainings without an answer ------------------------------------------------------------------------------


def torn_run(seed: int, images: tuple[int, ...], *, lost: bool = False) -> TrialResult:
    """A training scored on image 0, with foreground, and image 1, without any: both answered well."""
    whole = histogram_counts([90, 0], [10, 0], [10, 0], [890, 1000])
    made = confirmation("dice", seed, metrics.of_images(whole, images), seed)
    return made.model_copy(update={"test": None}) if lost else made


@pytest.mark.parametrize("metric", ["miou", "image_dice", "image_iou"])
def test_a_training_without_an_answer_is_right_on_no_image(metric: str) -> None:
    whole, torn = Replicate((torn_run(1, (0, 1)),)), Replicate((torn_run(2, (0,)), torn_run(2, (1,), lost=True)))
    counts = class_counts([whole, torn], (0, 1), own_point, metric)
    assert (counts[0, 0] == counts[1, 0]).all()
    empty = metrics.image_rows(counts[:, 1], metric)
    if metric == "miou":  # all its pixels are missed: none is falsely alarmed
        assert empty[1, :, 0].sum() == 0 and empty[1, :, 1].sum() == 0 and empty[1, 0, 2] == 1000
    else:
        assert empty[:, 0].tolist() == [[1.0, 1.0], [0.0, 1.0]]
