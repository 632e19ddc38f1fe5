"""The choice if another measure than mIoU matters most: values, paired intervals, and which loss is unbeaten."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sweeper.core.operating_points import BINS
from sweeper.core.records import Evidence, ImbalanceProfile, Preference, TestDetail, TrialResult
from sweeper.evidence.intervals import make_image_table
from sweeper.evidence.other_metrics import compute_pooled_calibration_error
from sweeper.evidence.paired_comparisons import compute_evidence
from sweeper.evidence.preferences import choose_by_preference, find_recommended_index, find_rival, judge_preferences
from sweeper.evidence.recommendation import make_recommendation, make_recommendation_json
from tests.support import builders
from tests.support.builders import confirmation, diverged, histogram_counts, point_counts, trial

SEEDS = (1, 2, 3, 4)
IMAGES = 30


def make_thin_profile(thinness: float = 0.9) -> ImbalanceProfile:
    profile = builders.profile()
    classes = tuple(c.model_copy(update={"thinness": thinness}) for c in profile.classes)
    return profile.model_copy(update={"classes": classes})


def make_detail(
    images: int = IMAGES, *, boundary: float = 0.5, line: float = 0.8, error: float = 0.05, jitter: int = 0
) -> TestDetail:
    """Binary details with this boundary IoU, clDice and calibration error (over-confident by it)."""
    rng = np.random.default_rng(jitter)
    size = rng.integers(90, 110, images)
    inside = np.zeros((images, 2, 3), dtype=np.int64)
    inside[:, 1, 0] = np.rint(boundary * size)
    inside[:, 1, 1] = size - inside[:, 1, 0]
    lines = np.zeros((images, 2, 4), dtype=np.int64)
    lines[:, 1] = np.stack([np.rint(line * size), size, np.rint(line * size), size], axis=-1)
    confidence = np.zeros((images, 30, 3))
    confidence[:, 27] = np.stack([10 * size, 9 * size, (9 + 10 * error) * size], axis=-1)
    return TestDetail(
        images=tuple(range(images)), boundary_pixels=2, boundary=inside, centreline=lines, confidence=confidence
    )


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
        run = confirmation(family, seed, counts, number * 10 + s, **fields)
        results.append(run.model_copy(update={"val": counts}))
    return results


def weigh(results: list[TrialResult], classes: tuple[str, ...] = builders.BINARY) -> Evidence:
    search = {r.spec.family: trial(r.spec.family, 0.7, classes=len(classes)) for r in results}
    return compute_evidence(results, search, classes=classes)


def judge(results: list[TrialResult], profile: ImbalanceProfile | None = None, **more: Any) -> dict[str, Preference]:
    evidence = weigh(results)
    return {p.name: p for p in judge_preferences(results, evidence, profile, **more)}


def find_finalist(preference: Preference, results: list[TrialResult], family: str) -> int:
    return next(i for i, f in enumerate(weigh(results).finalists) if f.family == family)


def test_costly_misses_and_costly_false_alarms_choose_differently() -> None:
    results = make_runs("focal", 0.95, 0.6, 0) + make_runs("dice", 0.6, 0.95, 1)
    preferences = judge(results)
    focal, dice = (
        find_finalist(preferences["misses"], results, "focal"),
        find_finalist(preferences["misses"], results, "dice"),
    )
    assert preferences["misses"].best == focal and preferences["misses"].unbeaten == (focal,)
    assert preferences["false_alarms"].best == dice and preferences["false_alarms"].unbeaten == (dice,)
    assert preferences["misses"].leads[focal] is None
    assert find_rival(preferences["misses"], focal, None) == (dice, preferences["misses"].leads[dice])
    value = preferences["misses"].scores[focal]
    expected = 5 * 0.6 * 0.95 / (4 * 0.6 + 0.95)
    assert value.estimate == pytest.approx(expected, abs=0.01) and value.low < value.estimate < value.high


def test_the_threshold_for_f2_is_chosen_on_the_validation_of_each_run() -> None:
    """Half of the foreground is at logit −1: worth taking along for F2, not for F½."""
    data = np.zeros((IMAGES, 2, BINS), dtype=np.int64)
    bins = {z: int((z + 12) / 24 * 512) for z in (-3, -1, 1)}
    data[:, 1, bins[1]], data[:, 1, bins[-1]] = 100, 100
    data[:, 0, bins[-1]], data[:, 0, bins[-3]] = 110, 9000
    one = confirmation("dice").test
    counts = one.model_copy(update={"images": tuple(range(IMAGES)), "data": data})
    results = [
        confirmation(f, s, counts, n).model_copy(update={"val": counts})
        for n, (f, s) in enumerate((f, s) for f in ("dice", "focal") for s in SEEDS)
    ]
    preferences = judge(results)
    assert preferences["misses"].points[0] < 0.269 < preferences["false_alarms"].points[0]
    assert preferences["misses"].scores[0].estimate == pytest.approx(5 * 200 / (5 * 200 + 110))
    assert preferences["false_alarms"].scores[0].estimate == pytest.approx(1.25 * 100 / (1.25 * 100 + 0.25 * 100))
    fixed = judge(results, tuned=False)
    assert fixed["misses"].points == (0.5, 0.5) and "at 0.5" in fixed["misses"].measure
    assert fixed["misses"].scores[0].estimate == pytest.approx(5 * 100 / (5 * 100 + 4 * 100))


def test_of_calibration_errors_the_lowest_is_best() -> None:
    results = make_runs("focal", 0.8, 0.8, 0, detail=make_detail(error=0.06))
    results += make_runs("dice", 0.8, 0.8, 1, detail=make_detail(error=0.01))
    preference = judge(results)["probabilities"]
    dice = find_finalist(preference, results, "dice")
    assert not preference.higher_is_better and preference.points == ()
    assert preference.best == dice and preference.unbeaten == (dice,)
    assert preference.scores[dice].estimate == pytest.approx(0.01)


def test_the_standard_error_of_the_calibration_error_is_that_of_resampling() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(50, 200, (2, 40, 3))
    right = rng.binomial(pixels, 0.7) + (pixels // 10)
    confidence = np.stack([pixels, right, pixels * [0.6, 0.9, 0.95]], axis=-1)
    table = make_image_table(confidence, compute_pooled_calibration_error).select_rows([0], [1])
    drawn = rng.multinomial(40, np.full(40, 1 / 40), 8000)
    resampled = compute_pooled_calibration_error(np.einsum("bn,rnkc->brkc", drawn, confidence))
    standard_error = np.sqrt(np.square(table.shares).sum() / (40 * 39))
    assert standard_error == pytest.approx((resampled[:, 0] - resampled[:, 1]).std() * np.sqrt(40 / 39), rel=0.05)


def test_a_loss_that_learned_nothing_is_never_the_answer() -> None:
    """Answering background everywhere is well calibrated, and no help."""
    nothing = make_runs("focal", 0.0, 1.0, 0, detail=make_detail(error=0.0))
    results = nothing + make_runs("dice", 0.8, 0.8, 1, detail=make_detail(error=0.05))
    preference = judge(results)["probabilities"]
    assert preference.best == find_finalist(preference, results, "dice")
    assert find_finalist(preference, results, "focal") not in preference.unbeaten
    assert judge_preferences(nothing, weigh(nothing), None) == ()


def test_clear_differences_of_boundaries_and_lines_choose_the_loss() -> None:
    results = make_runs("focal", 0.8, 0.8, 0, detail=make_detail(boundary=0.4, line=0.9))
    results += make_runs("dice", 0.8, 0.8, 1, detail=make_detail(boundary=0.6, line=0.7))
    assert "thin_structures" not in judge(results, make_thin_profile(0.49)) | judge(results)
    preferences = judge(results, make_thin_profile(0.51))
    dice, focal = (find_finalist(preferences["boundaries"], results, f) for f in ("dice", "focal"))
    assert preferences["boundaries"].unbeaten == (dice,) and preferences["thin_structures"].unbeaten == (focal,)
    assert preferences["boundaries"].scores[dice].estimate == pytest.approx(0.6, abs=0.005)
    assert preferences["thin_structures"].scores[focal].estimate == pytest.approx(0.9, abs=0.005)
    assert "2 pixels" in preferences["boundaries"].measure


def test_of_two_equal_losses_one_is_seldom_called_beaten() -> None:
    """5 % of 60 are 3; more than 9 come with a chance of 0.1 %."""
    beaten = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        equal = {"dice": 0.55, "focal": 0.55}
        results = builders.simulated_confirmations(equal, rng, images=40, seeds=(1, 2, 3, 4, 5))
        beaten += len(judge(results, tuned=False)["misses"].unbeaten) < 2
    assert beaten <= 9


def test_the_rare_class_is_the_worst_present_one() -> None:
    def street(shift: int, family: str, number: int) -> list[TrialResult]:
        rows = [[[900, 10, 10], [60 + shift, 10, 10], [30 - 2 * shift, 10, 10], [0, 3, 0]]] * IMAGES
        return [confirmation(family, s, point_counts(rows), number * 10 + s) for s in SEEDS]

    results = street(0, "dice", 0) + street(10, "focal", 1)
    evidence = weigh(results, ("road", "car", "sign", "absent"))
    preferences = {p.name: p for p in judge_preferences(results, evidence, None)}
    assert preferences["rare_classes"].scores[evidence.finalists[0].family == "focal"].estimate == pytest.approx(
        30 / 50
    )
    chosen = evidence.finalists[preferences["rare_classes"].best].family
    assert chosen == "dice" and "worst class" in preferences["rare_classes"].measure
    assert set(preferences) == {"misses", "false_alarms", "rare_classes"}  # the runs carry no details


def test_a_diverged_training_counts_with_the_worst_value() -> None:
    results = make_runs("focal", 0.8, 0.8, 0, detail=make_detail(error=0.0)) + make_runs("dice", 0.8, 0.8, 1)
    results[0] = diverged("focal", SEEDS[0], 99)
    preferences = judge(results)
    focal = find_finalist(preferences["misses"], results, "focal")
    assert preferences["boundaries"].scores[focal].estimate == pytest.approx(0.5 * 3 / 4, abs=0.01)
    assert preferences["probabilities"].scores[focal].estimate == pytest.approx(1 / 4)


def test_preferences_need_details_of_the_runs_and_two_finalists() -> None:
    focal = make_runs("focal", 0.8, 0.8, 0, detail=None)
    assert set(judge(focal + make_runs("dice", 0.8, 0.8, 1), make_thin_profile())) == {"misses", "false_alarms"}
    for runs in (focal, []):
        assert judge_preferences(runs, weigh(runs), None) == ()


def test_without_common_seeds_nothing_is_beaten() -> None:
    results = make_runs("focal", 0.9, 0.9, 0)[:2] + make_runs("dice", 0.5, 0.5, 1)[2:]
    preference = judge(results)["misses"]
    assert preference.unbeaten == (0, 1) and find_rival(preference, preference.best, None) is None


def test_the_lead_of_the_better_loss_is_above_zero_in_every_measure() -> None:
    preferences = judge(make_runs("focal", 0.9, 0.9, 0) + make_runs("dice", 0.6, 0.6, 1))
    for preference in preferences.values():
        rival = 1 - preference.best
        lead, difference = preference.leads[rival], preference.scores[preference.best].estimate
        difference = abs(difference - preference.scores[rival].estimate)
        assert lead.low <= lead.estimate <= lead.high and lead.estimate == pytest.approx(difference)
        behind = find_rival(preference, rival, rival)
        assert behind[0] == preference.best and behind[1].estimate == -lead.estimate


def test_images_of_one_group_count_as_one() -> None:
    levels = {"dice": 0.6, "focal": 0.5}
    results = builders.simulated_confirmations(levels, np.random.default_rng(0), images=30)
    ungrouped, grouped = judge(results), judge(results, groups=[f"g{i // 10}" for i in range(30)])
    for name, preference in ungrouped.items():
        for one, two in zip(preference.scores, grouped[name].scores, strict=True):
            assert two.estimate == pytest.approx(one.estimate) and two.high - two.low > one.high - one.low


# --- the table ---


def test_the_json_says_which_loss_a_preference_replaces() -> None:
    preferences = (
        builders.preference("misses", (0.7, 0.72, 0.5), unbeaten=(0, 1), points=(0.3, 0.2, 0.1)),
        builders.preference("probabilities", (0.1, 0.01, 0.2)),
    )
    levels = {"dice_ce": 0.8, "cross_entropy": 0.7, "dice": 0.6}
    evidence = builders.evidence(levels, preferences=preferences)
    answer = make_recommendation(evidence, task="binary", order=builders.ORDER, snippet=lambda *_: "")
    assert find_recommended_index(answer) == 0 and [i for _, i in choose_by_preference(answer)] == [0, 1]
    misses, probabilities = make_recommendation_json(builders.sweep(), answer)["preferences"]
    assert (misses["choose"], misses["instead_of"], misses["point"]) == ("dice_ce", None, 0.3)
    assert (misses["value"], misses["ci_low"], misses["ci_high"]) == pytest.approx((0.7, 0.68, 0.72))
    assert [row["value"] for row in misses["values"]] == [0.7, 0.72, 0.5] and misses["unbeaten"] == [0, 1]
    assert (probabilities["choose"], probabilities["finalist"]) == ("cross_entropy", 1)
    leads = [(row["rival"], row["lead"]["difference"]) for row in (misses, probabilities)]
    third = builders.preference("boundaries", (0.5, 0.7, 0.6))
    assert find_rival(third, 1, 0) == (0, third.leads[0]) and find_rival(third, 1, None) == (2, third.leads[2])
    assert leads == [("cross_entropy", pytest.approx(-0.02)), ("dice_ce", pytest.approx(0.09))]
    assert (probabilities["instead_of"], probabilities["point"]) == ("dice_ce", None)
    nothing = make_recommendation(None, task="binary", order=builders.ORDER, snippet=lambda *_: "")
    assert choose_by_preference(nothing) == [] and find_recommended_index(nothing) is None
