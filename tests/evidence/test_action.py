"""Keep cross-entropy or change: who is recommended, in which words, on literal evidence."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from sweeper.core.records import Evidence, Regret
from sweeper.evidence.action import add_longer_look
from sweeper.evidence.interim_analyses import plan_analyses
from sweeper.evidence.verdict import Decision, decide_verdict
from tests.support.builders import CONFIRM_SEEDS, ORDER, evidence, interval, longer_gap, longer_look

NEAR = {"dice_ce": 0.709, "dice": 0.704, "cross_entropy": 0.7}
GAIN = {"dice_ce": 0.88, "tversky": 0.872, "cross_entropy": 0.7}
NONE = "Keep cross-entropy: no other finalist gains more than 0.01 mIoU."
PROBABLY = "Keep cross-entropy: probably no other finalist gains more than 0.01 mIoU."


def tuned(gain: float, half: float = 0.004, **more: Any) -> dict[str, Any]:
    """Return what its own threshold gains for cross-entropy."""
    return {"finalists": {"cross_entropy": {"vs_plain": interval(gain, half), **more}}}


def bound(value: float) -> dict[str, Any]:
    return {"regret": Regret(expected=value / 3, bound=value, within_rope=0.9, best=0.2)}


def costs(**values: float) -> dict[str, Any]:
    return {"finalists": {name: bound(value) for name, value in values.items()}}


SURE = costs(dice_ce=0.002, dice=0.006, cross_entropy=0.0096)
TABLE: list[tuple[str, dict[str, float], dict[str, Any], str, str, str]] = [
    ("a gain is shown", {"dice": 0.753, "cross_entropy": 0.7}, {}, "change", "dice", "Change to dice: +0.053 mIoU."),
    ("of two the simplest", GAIN, {}, "change", "tversky", "Change to tversky: +0.17 mIoU."),
    (
        "within the margin of the least cost",
        GAIN,
        costs(dice_ce=0.001, tversky=0.028, cross_entropy=0.3),
        "change",
        "tversky",
        "Change to tversky: +0.17 mIoU.",
    ),
    (
        "not beyond it",
        GAIN,
        costs(dice_ce=0.001, tversky=0.034, cross_entropy=0.3),
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
        {"half": 0.0005} | tuned(0.019),
        "keep",
        "cross_entropy",
        "Keep cross-entropy; tune its threshold (+0.019).",
    ),
    ("it gains little", NEAR, {"half": 0.0005} | tuned(0.004, 0.001), "keep", "cross_entropy", NONE),
    ("its gain is not shown", NEAR, {"half": 0.0005} | tuned(0.019, 0.02), "keep", "cross_entropy", NONE),
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
def test_the_action(
    levels: dict[str, float], settings: dict[str, Any], action: str, recommended: str, head: str
) -> None:
    found = evidence(levels, **settings)
    decision = decide_verdict(found, ORDER)
    assert decision.recommended is not None
    assert (decision.action, found.finalists[decision.recommended].family) == (action, recommended)
    assert decision.head == head


UNKNOWN = {
    "it was not confirmed": (evidence({"dice": 0.75, "focal": 0.7}), "as it was not confirmed"),
    "it collapsed once, another never": (
        evidence(NEAR, half=0.05, finalists={"cross_entropy": {"collapses": 1}}),
        "as it collapsed or learned nothing",
    ),
    "it learned nothing": (
        evidence({"dice": 0.6, "cross_entropy": 0.45}, half=0.3),
        "as it collapsed or learned nothing",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_without_cross_entropy_no_action_is_stated_and_it_is_said_why(name: str) -> None:
    found, why = UNKNOWN[name]
    decision = decide_verdict(found, ORDER)
    assert (decision.action, decision.head) == (None, "") and decision.recommended is not None
    assert any(why in reason for reason in decision.reasons)
    assert "cross_entropy" not in found.finalists[decision.recommended].family


def test_nothing_learned_or_compared_is_no_action() -> None:
    for levels in ({"dice": 0.4, "cross_entropy": 0.3}, {"cross_entropy": 0.7}, {"dice": 0.7}):
        decision = decide_verdict(evidence(levels), ORDER)
        assert (decision.action, decision.head) == (None, "")


def seeds(number: int) -> dict[str, Any]:
    return {"finalists": {name: {"seeds": CONFIRM_SEEDS[:number]} for name in NEAR}}


def test_what_more_seeds_or_images_would_tell_is_said_only_where_they_would() -> None:
    def head(**settings: Any) -> str:
        found = evidence(NEAR | {"dice_ce": 0.712}, half=0.026, analyses=plan_analyses(2, 8), analysis_index=1)
        return decide_verdict(_with_errors(found, **settings), ORDER).head

    assert head(se_seed=0.005, se_image=0.001) == (
        "Keep cross-entropy for now: dice_ce may gain up to 0.038; 4 more seeds would settle it."
    )
    assert head(se_seed=0.0, se_image=0.01).endswith("; about 94 test images would settle it.")
    two = decide_verdict(evidence(NEAR, half=0.3, **seeds(2)), ORDER)
    assert two.head == "Keep cross-entropy for now: at least 3 common seeds are needed."
    one = decide_verdict(evidence(NEAR, half=0.3, test_images=1), ORDER)
    assert one.head == "Keep cross-entropy for now: 1 test image shows nothing."


def _with_errors(found: Evidence, **errors: float) -> Evidence:
    known = [c.model_copy(update={"difference": c.difference.model_copy(update=errors)}) for c in found.comparisons]
    return found.model_copy(update={"comparisons": tuple(known)})


def test_the_simplest_change_has_defaults_then_the_plain_point_then_few_parameters() -> None:
    levels = {"tversky": 0.8, "dice_ce": 0.8, "focal": 0.8, "cross_entropy": 0.7}

    def chosen(**finalists: dict[str, Any]) -> str:
        found = evidence(levels, finalists=finalists)
        return found.finalists[decide_verdict(found, ORDER).recommended or 0].family

    assert chosen() == "tversky"  # one parameter, where the others have two
    assert chosen(tversky={"points": (0.9, 0.9, 0.9)}) == "focal"  # of two alike the first in the order
    assert chosen(dice_ce={"at_defaults": True, "points": (0.9, 0.9, 0.9)}) == "dice_ce"
    assert chosen(tversky={"collapses": 1}) == "focal"


def test_why_cross_entropy_is_kept_stands_first_with_the_loss_that_looks_best() -> None:
    decision: Decision = decide_verdict(evidence(NEAR, half=0.026), ORDER)
    assert decision.reasons[0] == (
        "Cross-entropy is kept: no finalist has an established gain of 0.01 mIoU; of the others dice_ce looks best, "
        "+0.009 mIoU (95 % interval −0.017 to +0.035)."
    )
    levels, wide = {"dice_ce": 0.702, "cross_entropy": 0.7, "dice": 0.695}, {("dice", "cross_entropy"): 0.03}
    doubt = decide_verdict(evidence(levels, half=0.003, halves=wide), ORDER)
    assert any("of the others dice is the least settled, −0.005 mIoU (" in reason for reason in doubt.reasons)
    changed = decide_verdict(evidence({"dice": 0.75, "cross_entropy": 0.7}), ORDER)
    assert changed.reasons[0].startswith("dice is better than cross_entropy by +0.050 mIoU")


def test_a_finalist_that_was_dropped_before_it_had_a_bound_does_not_look_best() -> None:
    levels = {"dice_ce": 0.702, "cross_entropy": 0.7, "dice": 0.683}
    found = evidence(levels, half=0.003, finalists={"dice": {"seeds": CONFIRM_SEEDS[:2]}})
    unknown = tuple(
        pair.model_copy(update={"at_most_one_sided": math.inf} if 2 in (pair.first, pair.second) else {})
        for pair in found.comparisons
    )
    decision: Decision = decide_verdict(found.model_copy(update={"comparisons": unknown}), ORDER)
    assert "of the others dice_ce looks best, +0.002 mIoU (" in decision.reasons[0]
    regret = Regret(expected=0.003, bound=0.0143, within_rope=0.9, best=0.3)
    rows = tuple(row.model_copy(update={"regret": regret}) for row in found.finalists)
    known = decide_verdict(found.model_copy(update={"comparisons": unknown, "finalists": rows}), ORDER)
    assert known.head == "Keep cross-entropy for now: it may cost up to 0.015."


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
def test_the_head_adds_what_more_steps_change_about_the_gain_where_that_is_certain(
    levels: dict[str, float], gap: dict[str, Any], added: str
) -> None:
    found = evidence(levels, half=0.026)
    decision: Decision = decide_verdict(found, ORDER)
    look = longer_look(longer_gap(**gap), catches_up=gap["trend"] == "gone")
    assert add_longer_look(decision.head, found, decision.action, look) == decision.head + added


def test_what_would_settle_it_is_asked_of_the_action_while_cross_entropy_is_kept() -> None:
    """An equivalence asks for more than to know that a worse loss gains little; the head and the next step agree."""
    levels = {"cross_entropy": 0.711, "tversky": 0.7, "dice": 0.66}
    two = {"dice": {"seeds": CONFIRM_SEEDS[:2]}}
    found = evidence(levels, half=0.05, finalists=two, analyses=plan_analyses(2, 8), analysis_index=1)
    wide = tuple(
        pair.model_copy(update={"difference": pair.difference.model_copy(update={"se_seed": 0.02, "se_image": 0.001})})
        for pair in found.comparisons
    )
    decision: Decision = decide_verdict(found.model_copy(update={"comparisons": wide}), ORDER)
    more = re.search(r"tversky may gain up to .*; ([0-9]+) more seeds would settle it", decision.head)
    assert decision.action == "keep" and more is not None
    (step,) = decision.next_steps  # dice, which was dropped, can hardly gain
    assert f"cross_entropy against tversky: some {int(more[1]) + 3} seeds in place of 3 (" in step
    bounded = tuple(
        pair.model_copy(update={"at_most_one_sided": 0.005} if {pair.first, pair.second} == {0, 1} else {})
        for pair in found.comparisons
    )
    assert decide_verdict(found.model_copy(update={"comparisons": bounded}), ORDER).next_steps == ()


def test_a_change_asks_for_no_seeds_of_a_loss_that_the_race_dropped() -> None:
    levels, two = {"dice": 0.76, "tversky": 0.72, "cross_entropy": 0.7}, {"tversky": {"seeds": CONFIRM_SEEDS[:2]}}
    found = evidence(levels, half=0.05, finalists=two, analyses=plan_analyses(2, 8), analysis_index=1)
    decision: Decision = decide_verdict(found, ORDER)
    assert decision.action == "change" and decision.next_steps == ()
    everyone = {family: {"seeds": CONFIRM_SEEDS[:2]} for family in levels}
    early: Decision = decide_verdict(evidence(levels, half=0.05, finalists=everyone), ORDER)
    assert early.action == "keep" and any("on at least 3 common seeds" in step for step in early.next_steps)
