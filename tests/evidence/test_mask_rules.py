"""Rules that turn probabilities into masks: scores of each loss and rule on the same runs, and paired gains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sweeper.core import metrics
from sweeper.core.calibration import LOGITS, Calibration, fit_calibration
from sweeper.core.expected_dice import find_best_edges
from sweeper.core.operating_points import BINS, THRESHOLDS
from sweeper.core.records import DecisionRule, DecisionRules, Evidence, ImageCounts, TrialResult
from sweeper.evidence.mask_rules import _count_at_edges, get_gain_over_threshold, score_decision_rules
from sweeper.evidence.paired_comparisons import compute_evidence
from sweeper.evidence.recommendation import make_recommendation_json
from sweeper.report.alternatives import explain_rules, make_rules_table
from sweeper.report.card import format_card_lines, make_card
from sweeper.report.facts import collect_facts
from sweeper.workflow.conclude import draw_conclusion
from tests.support import builders


def draw_counts(
    rng: np.random.Generator, centres: np.ndarray, slope: float, bias: float, pixels: int = 4000
) -> ImageCounts:
    """Return images with logits around `centres` and labels calibrated by this slope and bias, pixel by pixel."""
    data = np.zeros((len(centres), 2, BINS), dtype=np.int64)
    p = Calibration(slope=slope, bias=bias).bin_probabilities
    for histogram, centre in zip(data, centres, strict=True):
        density = np.exp(-((LOGITS - centre) ** 2) / 8)
        amount = rng.multinomial(pixels, density / density.sum())
        histogram[1] = rng.binomial(amount, p)
        histogram[0] = amount - histogram[1]
    return ImageCounts(kind="histogram", images=tuple(range(len(centres))), points=THRESHOLDS, data=data)


def make_runs(slope: float, bias: float, family: str = "dice_focal", images: int = 30) -> list[TrialResult]:
    rng = np.random.default_rng(len(family))
    centres = rng.normal(-3.5 / slope - bias / slope, 1.5, images)
    return [
        builders.confirmation(
            family, seed, draw_counts(rng, centres, slope, bias), number, val=0.7, point=0.5,
        ).model_copy(update={"val": draw_counts(rng, rng.permutation(centres), slope, bias)})
        for number, seed in enumerate(builders.CONFIRM_SEEDS)
    ]  # fmt: skip


def judge_rules(
    confirmations: list[TrialResult], classes: tuple[str, ...] = ("ground", "crack"), **settings: Any
) -> tuple[Evidence, DecisionRules | None]:
    search = {run.spec.family: builders.trial(run.spec.family, 0.7, spec=run.spec) for run in confirmations}
    evidence = compute_evidence(confirmations, search, classes=classes)
    return evidence, score_decision_rules(confirmations, evidence, **settings)


def add_rules(evidence: Evidence, rules: DecisionRules | None) -> Evidence:
    return evidence.model_copy(update={"decisions": rules})


def get_rule(rules: DecisionRules, name: str, metric: str) -> DecisionRule:
    return next(r for r in rules.rules if (r.name, r.metric) == (name, metric))


def test_calibration_corrects_logits_and_a_threshold_for_each_image_gains() -> None:
    evidence, rules = judge_rules(make_runs(0.6, -2.0, "dice") + make_runs(1.0, 0.0, "cross_entropy"))
    dice = [f.family for f in evidence.finalists].index("dice")
    assert (rules.slopes[dice], rules.biases[dice]) == pytest.approx((0.6, -2.0), abs=0.1)
    assert rules.ece_gains[dice].estimate > 0.01 > rules.ece_calibrated[dice].estimate
    assert abs(rules.ece_gains[1 - dice].estimate) < 0.01
    gain = rules.ece[dice].estimate - rules.ece_calibrated[dice].estimate
    assert rules.ece_gains[dice].estimate == pytest.approx(gain)
    assert {(r.name, r.metric) for r in rules.rules} == {
        (name, metric) for name in ("plain", "tuned", "rank_dice") for metric in ("miou", "image_dice")
    }  # what the report shows
    for i in range(2):
        ranked = get_rule(rules, "rank_dice", "image_dice")
        assert ranked.scores[i].estimate > get_rule(rules, "plain", "image_dice").scores[i].estimate
        assert ranked.gains[i].low > 0


def test_the_score_of_a_rule_is_that_of_its_masks() -> None:
    """The mean of images' Dice and its gain, worked out image by image."""
    runs = make_runs(0.6, -1.0)
    _, rules = judge_rules(runs)
    plain, ranked = [], []
    for run in runs:
        p = fit_calibration(run.val.data.sum(axis=0)).bin_probabilities
        for histogram in run.test.data.astype(int):
            edge = find_best_edges(histogram.sum(axis=0)[None], p)[0]
            for values, cut in ((plain, 255), (ranked, edge)):
                fp, tp = histogram[:, cut + 1 :].sum(axis=1)
                values.append(2 * tp / (tp + fp + histogram[1].sum()))
    assert get_rule(rules, "plain", "image_dice").scores[0].estimate == pytest.approx(np.mean(plain))
    assert get_rule(rules, "rank_dice", "image_dice").gains[0].estimate == pytest.approx(
        np.mean(ranked) - np.mean(plain)
    )
    gain = np.subtract(ranked, plain).reshape(len(runs), -1)
    assert get_rule(rules, "rank_dice", "image_dice").gains[0].se_seed == pytest.approx(
        gain.mean(axis=1).std(ddof=1) / np.sqrt(len(runs))
    )


def test_a_common_edge_counts_what_an_operating_point_counts() -> None:
    counts = draw_counts(np.random.default_rng(0), np.array([-2.0, 0.0, 3.0]), 1.0, 0.0)
    for edge in (0, 255, 510):
        at_edge = _count_at_edges(counts.data.astype(np.int64), np.full(3, edge))
        assert (at_edge == metrics.count_at_point(counts, THRESHOLDS[edge])).all()


@pytest.mark.parametrize("groups", [None, ["a"] * 13 + ["b"] * 2 + [None] * 15])
def test_the_dice_of_an_average_image_is_that_of_the_verdict(groups: list[str | None] | None) -> None:
    """With images without foreground, groups of other sizes, and a run that gave no answer."""
    runs = [*make_runs(1.0, 0.0), builders.diverged("dice_focal", 999, 9)]
    for run in runs[:-1]:
        run.test.data[:4, 0] += run.test.data[:4, 1]
        run.test.data[:4, 1] = 0
        run.test.data[:2, 0, 0] += run.test.data[:2, 0].sum(axis=-1)
        run.test.data[:2, 0, 1:] = 0
    search = {"dice_focal": builders.trial("dice_focal", 0.7, spec=runs[0].spec)}
    _, rules = judge_rules(runs, groups=groups)
    evidence = compute_evidence(runs, search, classes=("ground", "crack"), metric="image_dice", groups=groups)
    verdict, tuned = evidence.finalists[0].score, get_rule(rules, "tuned", "image_dice").scores[0]
    assert tuned.estimate == pytest.approx(verdict.estimate)
    assert (tuned.se_seed, tuned.se_image) == pytest.approx((verdict.se_seed, verdict.se_image), rel=1e-6)
    assert get_rule(rules, "rank_dice", "image_dice").scores[0].estimate < 1
    empty = find_best_edges(runs[0].test.data[:2].sum(axis=1), Calibration().bin_probabilities)
    assert (empty == BINS - 1).all()  # of which RankDice says nothing


def test_a_gain_needs_three_seeds_and_is_corrected_for_all_finalists() -> None:
    runs = make_runs(0.6, -2.0, "dice") + make_runs(0.6, -2.0, "cross_entropy")
    evidence, rules = judge_rules(runs)
    assert rules.level == 0.975
    ranked, gain = get_rule(rules, "rank_dice", "image_dice"), get_gain_over_threshold(add_rules(evidence, rules), 0)
    single = judge_rules(runs[:3] if evidence.finalists[0].family == "dice" else runs[3:])[1]
    single_gain = get_rule(single, "rank_dice", "image_dice").over_tuned[0]
    assert gain == ranked.over_tuned[0]
    assert single.level == 0.95
    assert single_gain.estimate == pytest.approx(gain.estimate) and single_gain.se_seed == pytest.approx(gain.se_seed)
    assert gain.low < single_gain.low < single_gain.high < gain.high
    fewer = judge_rules([run for run in runs if run.spec.seed != builders.CONFIRM_SEEDS[0]])
    assert len(fewer[0].finalists[0].seeds) == 2
    assert get_gain_over_threshold(add_rules(*fewer), 0) is None


def test_card_report_and_code_give_the_gain_of_a_threshold_for_each_image() -> None:
    runs = [
        run.model_copy(update={"spec": run.spec.model_copy(update={"lr": builders.LR})}) for run in make_runs(0.6, -2.0)
    ]
    trials = [builders.trial(f, 0.7 + 0.01 * (f == "dice_focal"), i) for i, f in enumerate(builders.ORDER)]
    data = builders.dataset(images=150).model_copy(update={"script_ignores": -1})
    sweep = builders.sweep(trials, runs, data)
    answer = draw_conclusion(sweep)
    snippet = answer.recommended.snippet
    assert "ignore_index=-1" in snippet and "-1 = ignored" in snippet and "def predict_each(logits)" in snippet
    gain = get_gain_over_threshold(answer.evidence, 0)
    assert gain.low > 0
    facts = collect_facts(sweep, answer)
    decision = dict(format_card_lines(make_card(facts)))["Decide with"]
    assert "predict_each" in decision and f"+{gain.estimate:.3f} [" in decision
    table, rules = make_rules_table(facts), answer.evidence.decisions
    assert f"{rules.ece[0].estimate:.4f}" in table and "RankDice" in table
    assert any("stays the best" in line for line in explain_rules(facts))
    (row,) = make_recommendation_json(sweep, answer)["decisions"]
    assert (row["family"], row["rule"]) == ("dice_focal", "rank_dice")
    assert row["gain"] == {"difference": gain.estimate, "ci_low": gain.low, "ci_high": gain.high, "level": 0.95}
    assert (row["slope"], row["bias"]) == pytest.approx((0.6, -2.0), abs=0.1)
    open_gains = {"over_tuned": (gain.model_copy(update={"low": -0.01}),)}
    open_rules = rules.model_copy(update={"rules": tuple(rule.model_copy(update=open_gains) for rule in rules.rules)})
    facts = collect_facts(sweep, answer.model_copy(update={"evidence": add_rules(answer.evidence, open_rules)}))
    decision = dict(format_card_lines(make_card(facts)))["Decide with"]
    assert "one for each image (RankDice) has no established gain: " in decision
    two = builders.sweep(trials, runs[:2], builders.dataset(images=150))
    (row,) = make_recommendation_json(two, draw_conclusion(two))["decisions"]
    assert row["rule"] == "tuned" and row["gain"] is None and row["slope"] == pytest.approx(0.6, abs=0.1)


def test_only_plain_and_tuned_are_compared_without_binary_validation_counts() -> None:
    counts = builders.point_counts([[[50, 3, 4], [20, 4, 3], [10, 2, 2]]] * 6)
    runs = [builders.confirmation("dice_focal", seed, counts, n) for n, seed in enumerate(builders.CONFIRM_SEEDS)]
    _, rules = judge_rules(runs, ("a", "b", "c"))
    assert not rules.slopes and not rules.ece
    assert [(r.name, r.metric) for r in rules.rules] == [("plain", "miou"), ("tuned", "miou")]
    without = [run.model_copy(update={"val": None}) for run in make_runs(1.0, 0.0)]
    _, rules = judge_rules(without)
    assert {r.name for r in rules.rules} == {"plain", "tuned"}


def test_each_class_gets_the_pixels_of_its_highest_expected_score() -> None:
    torch = pytest.importorskip("torch")
    from bench.decision_rules import rank_classes

    # The expected Dice of class 1 is 0.59 with its second pixel, 0.53 without; no other class takes that one.
    p = torch.tensor([[0.05, 0.30, 0.01, 0.02], [0.90, 0.40, 0.05, 0.04], [0.05, 0.30, 0.94, 0.94]])
    assert rank_classes(p, "dice").tolist() == [1, 1, 2, 2] == rank_classes(p, "iou").tolist()
    doubtful = torch.tensor([[0.55, 0.55, 0.55, 0.60], [0.45, 0.45, 0.45, 0.40]])
    assert doubtful.argmax(0).tolist() == [0, 0, 0, 0] == rank_classes(doubtful, "dice").tolist()  # 1 is below 0.5
    rare = torch.tensor([[0.40, 0.52, 0.98, 0.98], [0.60, 0.48, 0.02, 0.02]])
    assert rare.argmax(0).tolist() == [1, 0, 0, 0]
    assert rank_classes(rare, "dice").tolist() == [1, 1, 0, 0]  # both want the second pixel, and it is worth more to 1
