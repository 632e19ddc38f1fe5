"""Keep cross-entropy or change: which loss is recommended, and the headline, on literal evidence."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from sweeper.core.records import Regret
from sweeper.evidence.action import add_longer_look
from sweeper.evidence.confirmation_stopping import decide_next_step
from sweeper.evidence.interim_analyses import plan_analyses
from sweeper.evidence.verdict import Decision, decide_verdict
from tests.evidence.weighing import ANALYSES, change_pairs, set_errors
from tests.support.builders import CONFIRM_SEEDS, ORDER, evidence, interval, longer_gap, longer_look

NEAR = {"dice_ce": 0.709, "dice": 0.704, "cross_entropy": 0.7}
GAIN = {"dice_ce": 0.88, "tversky": 0.872, "cross_entropy": 0.7}
NONE = "Keep cross-entropy: no other finalist gains more than 0.01 mIoU."
PROBABLY = "Keep cross-entropy: probably no other finalist gains more than 0.01 mIoU."


def make_threshold_gain(gain: float, half: float = 0.004) -> dict[str, Any]:
    """Return evidence in which tuning its threshold gains this much for cross-entropy."""
    return {"finalists": {"cross_entropy": {"vs_plain": interval(gain, half)}}}


def make_regrets(**bounds: float) -> dict[str, Any]:
    """Return evidence in which taking each loss costs at most so much."""
    regrets = {f: Regret(expected=b / 3, bound=b, within_margin=0.9, best=0.2) for f, b in bounds.items()}
    return {"finalists": {family: {"regret": regret} for family, regret in regrets.items()}}


SURE = make_regrets(dice_ce=0.002, dice=0.006, cross_entropy=0.0096)
TABLE: list[tuple[str, dict[str, float], dict[str, Any], str, str, str]] = [
    ("a gain is shown", {"dice": 0.753, "cross_entropy": 0.7}, {}, "change", "dice", "Change to dice: +0.053 mIoU."),
    ("of two the simplest", GAIN, {}, "change", "tversky", "Change to tversky: +0.17 mIoU."),
    (
        "within the margin of the least cost",
        GAIN,
        make_regrets(dice_ce=0.001, tversky=0.028, cross_entropy=0.3),
        "change",
        "tversky",
        "Change to tversky: +0.17 mIoU.",
    ),
    (
        "not beyond it",
        GAIN,
        make_regrets(dice_ce=0.001, tversky=0.034, cross_entropy=0.3),
        "change",
        "dice_ce",
        "Change to dice_ce: +0.18 mIoU.",
    ),
    (
        "one that is beaten is not recommended",
        {"dice_ce": 0.88, "dice": 0.8, "cross_entropy": 0.7},
        {},
        "change",
        "dice_ce",
        "Change to dice_ce: +0.18 mIoU.",
    ),
    (
        "the noisy best is not recommended",
        {"dice_ce": 0.735, "dice": 0.73, "cross_entropy": 0.7},
        {"halves": {("dice_ce", "cross_entropy"): 0.04}},
        "change",
        "dice",
        "Change to dice: +0.030 mIoU.",
    ),
    (
        "better than one that gains",
        {"dice_ce": 0.755, "dice": 0.73, "cross_entropy": 0.7},
        {"halves": {("dice_ce", "cross_entropy"): 0.06}},
        "change",
        "dice_ce",
        "Change to dice_ce: +0.055 mIoU.",
    ),
    (
        "the estimate is below the margin",
        {"dice": 0.709, "cross_entropy": 0.7},
        {"half": 0.008},
        "keep",
        "cross_entropy",
        "Keep cross-entropy for now: dice may gain up to 0.017.",
    ),
    (
        "the interval contains 0",
        NEAR,
        {"half": 0.026},
        "keep",
        "cross_entropy",
        "Keep cross-entropy for now: dice_ce may gain up to 0.035.",
    ),
    (
        "the threshold is what gains",
        NEAR,
        {"half": 0.0005} | make_threshold_gain(0.019),
        "keep",
        "cross_entropy",
        "Keep cross-entropy; tune its threshold (+0.019).",
    ),
    ("it gains little", NEAR, {"half": 0.0005} | make_threshold_gain(0.004, 0.001), "keep", "cross_entropy", NONE),
    ("its gain is not shown", NEAR, {"half": 0.0005} | make_threshold_gain(0.019, 0.02), "keep", "cross_entropy", NONE),
    ("all are equal", {"dice": 0.7, "cross_entropy": 0.7}, {"half": 0.004}, "keep", "cross_entropy", NONE),
    ("keeping is probable", NEAR, {"half": 0.026} | SURE, "keep", "cross_entropy", PROBABLY),
    (
        "cross-entropy wins",
        {"cross_entropy": 0.75, "dice": 0.7},
        {},
        "keep",
        "cross_entropy",
        "Keep cross-entropy: it beats every other finalist.",
    ),
    (
        "one function",
        {"cross_entropy": 0.7},
        {"finalists": {"cross_entropy": {"other_names": ("dice_ce",)}}},
        "keep",
        "cross_entropy",
        "Keep cross-entropy: all that was tried is cross-entropy here.",
    ),
    (
        "cross-entropy always collapsed",
        {"dice": 0.75, "cross_entropy": 0.49},
        {"finalists": {"cross_entropy": {"collapses": 3}}},
        "change",
        "dice",
        "Change to dice: +0.26 mIoU.",
    ),
]


@pytest.mark.parametrize(
    ("levels", "settings", "action", "recommended", "head"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_each_case_has_its_action_loss_and_headline(
    levels: dict[str, float], settings: dict[str, Any], action: str, recommended: str, head: str
) -> None:
    record = evidence(levels, **settings)
    decision = decide_verdict(record, ORDER)
    assert (decision.action, record.finalists[decision.recommended].family) == (action, recommended)
    assert decision.head == head


COLLAPSED_ONCE = {"finalists": {"cross_entropy": {"collapses": 1}}}


@pytest.mark.parametrize(
    ("levels", "settings", "reason"),
    [
        ({"dice": 0.75, "focal": 0.7}, {}, "Cross-entropy was not confirmed: the recommendation"),
        (NEAR, {"half": 0.05} | COLLAPSED_ONCE, "Cross-entropy collapsed or learned nothing: the"),
        ({"dice": 0.6, "cross_entropy": 0.45}, {"half": 0.3}, "Cross-entropy collapsed or learned nothing: the"),
    ],
)
def test_without_a_usable_cross_entropy_no_action_is_recommended(
    levels: dict[str, float], settings: dict[str, Any], reason: str
) -> None:
    record = evidence(levels, **settings)
    decision = decide_verdict(record, ORDER)
    assert (decision.action, decision.head) == (None, "")
    assert any(reason in sentence for sentence in decision.reasons)
    assert record.finalists[decision.recommended].family != "cross_entropy"


@pytest.mark.parametrize("levels", [{"dice": 0.4, "cross_entropy": 0.3}, {"cross_entropy": 0.7}, {"dice": 0.7}])
def test_no_action_is_recommended_if_nothing_was_learned_or_compared(levels: dict[str, float]) -> None:
    decision = decide_verdict(evidence(levels), ORDER)
    assert (decision.action, decision.head) == (None, "")


def test_the_headline_gives_the_seeds_or_images_that_would_settle_it() -> None:
    def make_head(**errors: Any) -> str:
        record = evidence(NEAR | {"dice_ce": 0.712}, half=0.026, analyses=ANALYSES, analysis_index=1)
        return decide_verdict(set_errors(record, **errors), ORDER).head

    assert make_head(se_seed=0.005, se_image=0.001) == (
        "Keep cross-entropy for now: dice_ce may gain up to 0.038; 4 more seeds would settle it."
    )
    assert make_head(se_seed=0.0, se_image=0.01).endswith("; about 94 test images would settle it.")
    two_seeds = decide_verdict(evidence(NEAR, half=0.3, finalists=limit_seeds(2, *NEAR)), ORDER)
    assert two_seeds.head == "Keep cross-entropy for now: at least 3 common seeds are needed."
    one_image = decide_verdict(evidence(NEAR, half=0.3, test_images=1), ORDER)
    assert one_image.head == "Keep cross-entropy for now: 1 test image shows nothing."


def limit_seeds(number: int, *families: str) -> dict[str, dict[str, Any]]:
    return {family: {"seeds": CONFIRM_SEEDS[:number]} for family in families}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_no_seeds_are_requested_if_all_test_images_are_of_one_group(number: int) -> None:
    groups = {"test_images": 8, "test_groups": 1, "analyses": plan_analyses(2, 8)}
    one_group = evidence(NEAR, half=0.3, finalists=limit_seeds(number, *NEAR), **groups)
    decision = decide_verdict(one_group, ORDER, "sweeper run --study x --resume")
    assert decision.head == "Keep cross-entropy for now: 1 group of test images shows nothing."
    assert not any("--seeds" in step for step in decision.next_steps)
    assert any("label more groups of test images; 1 cannot show a difference" in step for step in decision.next_steps)
    if number > 1:
        assert any("with 1 group of test images, chance cannot be separated" in reason for reason in decision.reasons)
    ended = decide_next_step(one_group, decision)
    assert "with 1 group of test images, no number of seeds can settle it" in ended.reason


def test_the_simplest_change_has_defaults_then_the_plain_point_then_few_parameters() -> None:
    levels = {"tversky": 0.8, "dice_ce": 0.8, "focal": 0.8, "cross_entropy": 0.7}

    def choose(**finalists: dict[str, Any]) -> str:
        record = evidence(levels, finalists=finalists)
        return record.finalists[decide_verdict(record, ORDER).recommended].family

    assert choose() == "tversky"  # one parameter, where the others have two
    assert choose(tversky={"points": (0.9, 0.9, 0.9)}) == "focal"  # of two equal ones the first in the order
    assert choose(dice_ce={"at_defaults": True, "points": (0.9, 0.9, 0.9)}) == "dice_ce"
    assert choose(tversky={"collapses": 1}) == "focal"


def test_the_first_reason_to_keep_cross_entropy_has_the_best_other_loss() -> None:
    decision = decide_verdict(evidence(NEAR, half=0.026), ORDER)
    assert decision.reasons[0] == (
        "Cross-entropy is kept: no finalist has an established gain of 0.01 mIoU; of the others dice_ce looks best, "
        "+0.009 mIoU (95 % interval −0.017 to +0.035)."
    )
    levels, halves = {"dice_ce": 0.702, "cross_entropy": 0.7, "dice": 0.695}, {("dice", "cross_entropy"): 0.03}
    unsettled = decide_verdict(evidence(levels, half=0.003, halves=halves), ORDER)
    assert any("of the others dice is the least settled, −0.005 mIoU (" in reason for reason in unsettled.reasons)
    changed = decide_verdict(evidence({"dice": 0.75, "cross_entropy": 0.7}), ORDER)
    assert changed.reasons[0].startswith("dice is better than cross_entropy by +0.050 mIoU")


def test_a_finalist_dropped_without_a_bound_is_not_the_best_other_loss() -> None:
    levels = {"dice_ce": 0.702, "cross_entropy": 0.7, "dice": 0.683}
    record = change_pairs(
        evidence(levels, half=0.003, finalists=limit_seeds(2, "dice")),
        lambda pair: {"at_most_one_sided": math.inf} if 2 in (pair.first, pair.second) else {},
    )
    assert "of the others dice_ce looks best, +0.002 mIoU (" in decide_verdict(record, ORDER).reasons[0]
    regret = Regret(expected=0.003, bound=0.0143, within_margin=0.9, best=0.3)
    finalists = tuple(finalist.model_copy(update={"regret": regret}) for finalist in record.finalists)
    bounded = decide_verdict(record.model_copy(update={"finalists": finalists}), ORDER)
    assert bounded.head == "Keep cross-entropy for now: it may cost up to 0.015."


def test_a_bound_is_limited_to_trainings_that_predict_every_class() -> None:
    """Differences on seeds on which it does not are as large as the class, and a rival with fewer seeds shows none."""
    levels, name = {"dice_ce": 0.702, "cross_entropy": 0.7, "dice": 0.683}, evidence(GAIN).classes[1]
    regret = Regret(expected=0.003, bound=0.0143, within_margin=0.9, best=0.3)

    def decide(**missed: int) -> Decision:
        finalists = {family: {"missed_classes": {name: missed.get(family, 0)}, "regret": regret} for family in levels}
        finalists["dice"] |= limit_seeds(2, "dice")["dice"]
        record = evidence(levels, half=0.003, finalists=finalists)
        dropped = change_pairs(
            record, lambda pair: {"at_most_one_sided": math.inf} if 2 in (pair.first, pair.second) else {}
        )
        return decide_verdict(dropped, ORDER)

    partial = decide(cross_entropy=1)
    assert partial.head == f"Keep cross-entropy for now: it may cost up to 0.015 in trainings that predict {name}."
    assert f"at most 0.015 mIoU in trainings that predict {name} (with" in " ".join(partial.reasons)
    for missed in ({}, {"cross_entropy": 3}, {"dice_ce": 1}):
        assert decide(**missed).head == "Keep cross-entropy for now: it may cost up to 0.015.", missed
    steps = [" ".join(decide(**dict.fromkeys(levels, n)).next_steps) for n in (0, 1, 3)]
    assert ["every training predicts" in text for text in steps] == [False, True, False]


@pytest.mark.parametrize(
    ("levels", "gap", "added"),
    [
        (GAIN, {"after": 0.03, "trend": "shrinks"}, " At 4 times the steps it shrinks to +0.030."),
        (GAIN, {"after": 0.15, "trend": "grows"}, " At 4 times the steps it grows to +0.15."),
        (GAIN, {"after": -0.001, "trend": "gone"}, " Keep cross-entropy if you train long."),
        (GAIN, {"after": 0.05, "trend": "keeps"}, ""),
        (GAIN, {"second": "dice", "after": 0.2, "trend": "grows"}, ""),
        (NEAR, {"after": 0.06, "trend": "grows"}, " At 4 times the steps dice_ce gains +0.060."),
        (NEAR, {"after": 0.03, "trend": "grows"}, ""),
        (NEAR, {"after": -0.06, "trend": "shrinks"}, ""),
    ],
)
def test_the_headline_adds_an_established_effect_of_more_steps(
    levels: dict[str, float], gap: dict[str, Any], added: str
) -> None:
    record = evidence(levels, half=0.026)
    decision = decide_verdict(record, ORDER)
    look = longer_look(longer_gap(**gap), catches_up=gap["trend"] == "gone")
    assert add_longer_look(decision.head, record, decision.action, look) == decision.head + added


def test_headline_and_next_step_give_the_seeds_that_settle_the_action() -> None:
    """To settle an equivalence takes more than to know that a worse loss gains little."""
    levels = {"cross_entropy": 0.711, "tversky": 0.7, "dice": 0.66}
    two = limit_seeds(2, "dice")
    open_gaps = evidence(levels, half=0.05, finalists=two, analyses=ANALYSES, analysis_index=1)
    record = set_errors(open_gaps, se_seed=0.02, se_image=0.001)
    decision = decide_verdict(record, ORDER)
    more = re.search(r"tversky may gain up to .*; ([0-9]+) more seeds would settle it", decision.head)
    assert decision.action == "keep" and more is not None
    (step,) = decision.next_steps  # dice, which was dropped, can hardly gain
    assert f"cross_entropy against tversky: some {int(more[1]) + 3} seeds in place of 3 (" in step
    bounded = change_pairs(
        record, lambda pair: {"at_most_one_sided": 0.005} if {pair.first, pair.second} == {0, 1} else {}
    )
    assert decide_verdict(bounded, ORDER).next_steps == ()


@pytest.mark.parametrize(("dice", "error", "rivals"), [(0.74, 0.01, "dice"), (0.708, 0.0008, "dice and tversky")])
def test_one_gain_or_bounds_of_all_gains_settle_the_action(dice: float, error: float, rivals: str) -> None:
    levels = {"dice": dice, "tversky": 0.704, "cross_entropy": 0.7}
    open_gaps = evidence(levels, half=0.05, analyses=ANALYSES, analysis_index=1)
    decision = decide_verdict(set_errors(open_gaps, se_seed=error, se_image=0.0005), ORDER)
    (step,) = decision.next_steps
    more = re.search(r"; ([0-9]+) more seeds? would settle it", decision.head)
    assert more is not None and f"cross_entropy against {rivals}: some {int(more[1]) + 3} seeds in place of 3" in step


def test_a_change_requests_no_seeds_for_a_dropped_loss() -> None:
    levels = {"dice": 0.76, "tversky": 0.72, "cross_entropy": 0.7}
    two = limit_seeds(2, "tversky")
    decision = decide_verdict(evidence(levels, half=0.05, finalists=two, analyses=ANALYSES, analysis_index=1), ORDER)
    assert decision.action == "change" and decision.next_steps == ()
    early = decide_verdict(evidence(levels, half=0.05, finalists=limit_seeds(2, *levels)), ORDER)
    assert early.action == "keep" and any("on at least 3 common seeds" in step for step in early.next_steps)
