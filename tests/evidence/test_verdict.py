"""The verdict's rule on literal evidence, its sentences, and its error rate on simulated sweeps."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.core.records import Evidence, Regret, Verdict
from sweeper.evidence.interim_analyses import plan_analyses
from sweeper.evidence.reasons import explain_safety
from sweeper.evidence.verdict import Decision, decide_verdict
from tests.evidence.weighing import change_pairs
from tests.support.builders import ORDER, evidence

CLEAR, SAME, SAFE = Verdict.CLEAR_WINNER, Verdict.EQUIVALENT, Verdict.SAFE_CHOICE
OPEN, NONE = Verdict.UNDECIDED, Verdict.NONE


def decide(evidence: Evidence) -> tuple[Verdict, str | None]:
    """Return the verdict and the recommended loss."""
    decision = decide_verdict(evidence, ORDER)
    name = None if decision.recommended is None else evidence.finalists[decision.recommended].family
    return decision.verdict, name


def join_reasons(decision: Decision) -> str:
    return "\n".join(decision.reasons)


# --- The four verdicts --------------------------------------------------------------------------------------

THREE = {"tversky": 0.704, "focal": 0.7005, "dice": 0.7}
FAR = {("tversky", "dice"): 0.02}
SPREAD = {"focal": 0.706, "dice_ce": 0.703, "dice": 0.698}
WIDE = {("focal", "dice"): 0.009}
ALWAYS_COLLAPSED = {"finalists": {"cross_entropy": {"collapses": 3}}}
NEAR = {"dice_focal": 0.75, "dice": 0.745, "cross_entropy": 0.741}


def collapse_once(*names: str) -> dict[str, Any]:
    """Return evidence in which one training of each of these losses collapsed."""
    return {"finalists": {name: {"collapses": 1} for name in names}}


TABLE: list[tuple[str, dict[str, float], dict[str, Any], Verdict, str | None]] = [
    ("beats every rival", {"dice": 0.75, "focal": 0.7, "cross_entropy": 0.7}, {}, CLEAR, "dice"),
    ("the baseline can win", {"cross_entropy": 0.75, "dice": 0.7}, {}, CLEAR, "cross_entropy"),
    ("interval above 0, estimate below the margin", {"dice": 0.708, "focal": 0.7}, {"half": 0.007}, SAFE, "dice"),
    (
        "the estimate is exactly the margin",
        {"dice": 0.75, "focal": 0.5},
        {"half": 0.125, "margin": 0.25},
        CLEAR,
        "dice",
    ),
    ("interval touches 0", {"dice": 0.75, "focal": 0.5}, {"half": 0.25}, SAFE, "dice"),
    ("another may be better by more than the margin", {"dice": 0.71, "focal": 0.7}, {"half": 0.021}, OPEN, "focal"),
    (
        "the lead of another ends at the margin",
        {"dice": 0.75, "focal": 0.5},
        {"half": 0.5, "margin": 0.25},
        SAFE,
        "dice",
    ),
    ("one is as good as either of two that are far apart", THREE, {"half": 0.005, "halves": FAR}, SAFE, "focal"),
    ("more than half the margin lower", {"dice": 0.7055, "focal": 0.7}, {"half": 0.02}, OPEN, "focal"),
    ("the simplest scores lower by more than the margin", {"dice": 0.711, "focal": 0.7}, {"half": 0.25}, OPEN, "dice"),
    ("the simplest scores lower by the margin", {"dice": 0.71, "focal": 0.7}, {"half": 0.25}, OPEN, "focal"),
    ("all within the margin", {"dice_focal": 0.703, "dice": 0.702, "focal": 0.7}, {"half": 0.005}, SAME, "focal"),
    ("the best two are equivalent", {"dice_focal": 0.753, "dice": 0.75, "focal": 0.6}, {"half": 0.005}, SAME, "dice"),
    ("near the best, not near each other", SPREAD, {"half": 0.0039, "halves": WIDE}, SAFE, "focal"),
    ("identical scores without variance", {"dice": 0.7, "cross_entropy": 0.7}, {"half": 0.0}, SAME, "cross_entropy"),
    ("identical scores with variance", {"dice": 0.7, "cross_entropy": 0.7}, {"half": 0.03}, OPEN, "cross_entropy"),
    ("one that always collapsed is beaten", {"dice": 0.75, "cross_entropy": 0.49}, ALWAYS_COLLAPSED, CLEAR, "dice"),
    ("is not beaten", {"dice": 0.75, "cross_entropy": 0.6}, {"half": 0.3} | ALWAYS_COLLAPSED, OPEN, "dice"),
    ("is equivalent", {"dice": 0.7, "cross_entropy": 0.7}, {"half": 0.0} | ALWAYS_COLLAPSED, SAFE, "dice"),
    (
        "to two that are",
        {"dice": 0.7, "focal": 0.7, "cross_entropy": 0.7},
        {"half": 0.0} | ALWAYS_COLLAPSED,
        SAFE,
        "focal",
    ),
    ("the only finalist", {"cross_entropy": 0.75}, ALWAYS_COLLAPSED, NONE, None),
    ("the simplest is recommended", NEAR, {"half": 0.1}, OPEN, "cross_entropy"),
    ("unless it collapsed", NEAR, {"half": 0.1} | collapse_once("cross_entropy"), OPEN, "dice"),
    ("as all did", NEAR, {"half": 0.1} | collapse_once(*NEAR), OPEN, "cross_entropy"),
    ("one that learned nothing", {"dice": 0.6, "cross_entropy": 0.45}, {"half": 0.3}, OPEN, "dice"),
    (
        "of two that collapsed",
        {"dice": 0.6, "focal": 0.45},
        {"half": 0.3} | collapse_once("dice", "focal"),
        OPEN,
        "dice",
    ),
    (
        "a safe choice never collapses",
        {"dice": 0.704, "focal": 0.7},
        {"half": 0.006} | collapse_once("focal"),
        SAFE,
        "dice",
    ),
    ("none does", {"dice": 0.704, "focal": 0.7}, {"half": 0.006} | collapse_once("dice", "focal"), OPEN, "focal"),
    ("a little above a constant answer", {"dice": 0.493, "cross_entropy": 0.3}, {}, CLEAR, "dice"),
    ("ties", {"tversky": 0.7, "focal": 0.7, "dice": 0.7}, {"half": 0.005}, SAME, "focal"),
    ("an unknown family comes last", {"my_loss": 0.7, "tversky": 0.7}, {"half": 0.005}, SAME, "tversky"),
]


@pytest.mark.parametrize(
    ("levels", "settings", "verdict", "recommended"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_each_case_has_its_verdict_and_loss(
    levels: dict[str, float], settings: dict[str, Any], verdict: Verdict, recommended: str | None
) -> None:
    record = evidence(levels, **settings)
    assert decide(record) == (verdict, recommended)
    decision = decide_verdict(record, ORDER)
    assert decision.reasons
    assert bool(decision.next_steps) == (verdict in {OPEN, NONE})
    assert not decision.provisional


def test_nothing_is_claimed_if_nothing_completed_or_was_compared() -> None:
    for record in (None, evidence({})):
        decision = decide_verdict(record, ORDER)
        assert (decision.verdict, decision.recommended) == (NONE, None) and decision.next_steps
        assert "No confirmation training completed" in join_reasons(decision)
    single = decide_verdict(evidence({"dice": 0.7}), ORDER)
    assert (single.verdict, single.recommended) == (OPEN, 0) and single.next_steps
    assert "nothing was compared" in join_reasons(single)


# --- Collapse -----------------------------------------------------------------------------------------------


def test_the_reasons_say_which_loss_collapsed_and_why_another_is_recommended() -> None:
    always = evidence({"dice": 0.75, "cross_entropy": 0.6}, half=0.3, **ALWAYS_COLLAPSED)
    assert "3 of 3 confirmation trainings of cross_entropy collapsed" in join_reasons(decide_verdict(always, ORDER))
    # Not beaten, so that dice is not proven best, and not eligible.
    assert decide(evidence({"cross_entropy": 0.8, "dice": 0.75, "focal": 0.6}, **ALWAYS_COLLAPSED)) == (OPEN, "dice")
    reasons = join_reasons(decide_verdict(evidence(NEAR, half=0.1, **collapse_once("cross_entropy")), ORDER))
    sentence = "Of dice_focal, dice and cross_entropy, dice is recommended: none of its trainings collapsed and it is"
    assert sentence in reasons
    collapsed = {f: {"collapses": 3} for f in ("dice", "cross_entropy")}
    all_collapsed = decide_verdict(evidence({"dice": 0.75, "cross_entropy": 0.5}, finalists=collapsed), ORDER)
    assert (all_collapsed.verdict, all_collapsed.recommended) == (NONE, None)
    assert "dice and cross_entropy collapsed" in join_reasons(all_collapsed) and "0.490" in join_reasons(all_collapsed)


def test_a_loss_that_collapsed_is_not_a_clear_winner() -> None:
    for field in ("collapses", "collapses_in_search"):
        decision = decide_verdict(evidence({"dice": 0.75, "cross_entropy": 0.7}, finalists={"dice": {field: 1}}), ORDER)
        assert (decision.verdict, decision.recommended, decision.strength) == (OPEN, 0, "open")
        assert "a clear winner never collapses" in join_reasons(decision)


# --- Whom to name -------------------------------------------------------------------------------------------


def make_costs(*expected: float, probability: float = 0.5) -> dict[str, dict[str, Any]]:
    regrets = [Regret(expected=e, bound=3 * e, within_margin=probability, best=0.3) for e in expected]
    return {name: {"regret": regret} for name, regret in zip(LEVELS, regrets, strict=True)}


LEVELS = {"dice": 0.705, "focal": 0.703, "weighted_ce": 0.701}


def test_the_loss_of_least_cost_is_recommended_and_of_equal_ones_the_simplest() -> None:
    assert decide(evidence(LEVELS, half=0.05, finalists=make_costs(0.001, 0.004, 0.006)))[1] == "dice"
    assert decide(evidence(LEVELS, half=0.05, finalists=make_costs(0.0015, 0.001, 0.006)))[1] == "focal"
    assert decide(evidence(LEVELS, half=0.05, finalists=make_costs(0.0015, 0.001, 0.0019)))[1] == "weighted_ce"
    words = join_reasons(decide_verdict(evidence(LEVELS, half=0.05, finalists=make_costs(0.0015, 0.001, 0.006)), ORDER))
    sentence = "Of dice, focal and weighted_ce, focal is recommended: its expected cost is within 0.001 mIoU of the"
    assert sentence in words


def test_a_loss_that_needs_a_special_operating_point_is_not_recommended() -> None:
    plain = make_costs(0.001, 0.001, 0.001)
    plain["weighted_ce"] |= {"miou_at_default": 0.6}
    plain["focal"] |= {"miou_at_default": 0.7}
    for dice in (0.695, 0.7, 0.705):
        plain["dice"] |= {"miou_at_default": dice}
        record = evidence(LEVELS, half=0.05, finalists=plain)
        assert decide(record)[1] == "focal"
        sentence = "focal is recommended: it scores within 0.01 of the highest at the plain operating point and it is"
        assert sentence in join_reasons(decide_verdict(record, ORDER))


def test_a_learning_rate_at_the_edge_counts_before_simplicity_and_after_collapse() -> None:
    edge = make_costs(0.001, 0.001, 0.001)
    edge["weighted_ce"] |= {"lr_at_edge": True}
    assert decide(evidence(LEVELS, half=0.05, finalists=edge))[1] == "focal"
    edge["focal"] |= {"collapses": 1}
    edge["dice"] |= {"collapses": 1}
    assert decide(evidence(LEVELS, half=0.05, finalists=edge))[1] == "weighted_ce"


@pytest.mark.parametrize(
    ("bound", "margin", "words"),
    [
        (0.00245, 0.0025, "0.0025 mIoU (with a probability of 95 %) against the best finalist: likely,"),
        (0.00251, 0.0025, "0.0026 mIoU (with a probability of 95 %) against the best finalist; the margin is 0.0025"),
    ],
)
def test_the_printed_bound_agrees_with_the_strength_of_the_verdict(bound: float, margin: float, words: str) -> None:
    costs = make_costs(0.0001, 0.003, 0.004)
    costs["dice"] = {"regret": Regret(expected=0.0001, bound=bound, within_margin=0.946, best=0.3)}
    decision = decide_verdict(evidence(LEVELS, half=0.05, finalists=costs, margin=margin), ORDER)
    assert (decision.verdict, decision.strength) == (OPEN, "probable" if bound <= margin else "open")
    assert f"dice costs at most {words}" in join_reasons(decision) and "94" not in join_reasons(decision)


def test_equal_losses_are_equivalent_and_need_no_seeds() -> None:
    names = {"cross_entropy": {"other_names": ("dice_ce", "weighted_ce")}}
    decision = decide_verdict(evidence({"cross_entropy": 0.7}, finalists=names), ORDER)
    assert (decision.verdict, decision.strength, decision.recommended) == (Verdict.EQUIVALENT, "shown", 0)
    assert "All that was tried is cross_entropy on these data: as they were searched, the gradients of dice_ce and" in (
        join_reasons(decision)
    )
    assert not any("--seeds" in sentence for sentence in decision.next_steps)


def test_the_posterior_does_not_establish_a_verdict() -> None:
    certain = make_costs(0.0, 0.02, 0.03, probability=1.0)
    assert decide_verdict(evidence(LEVELS, half=0.05, finalists=certain), ORDER).strength == "probable"
    few_groups = evidence(
        LEVELS, half=0.05, finalists=certain, test_groups=4, few_groups=4
    )  # which cannot represent others
    assert decide_verdict(few_groups, ORDER).strength == "open"
    uncertain = make_costs(0.02, 0.02, 0.02, probability=0.1)
    assert decide_verdict(evidence(LEVELS, half=0.005, finalists=uncertain), ORDER).strength == "shown"


def test_results_of_earlier_interim_analyses_still_count() -> None:
    record, ends = evidence({"dice": 0.705, "focal": 0.7}, half=0.05), {"at_least": -0.004, "at_most": 0.008}
    assert decide(change_pairs(record, lambda pair: {"won": pair.first == 0, **ends})) == (CLEAR, "dice")
    assert decide(change_pairs(record, lambda pair: {"won": False, **ends}))[0] is SAME


def test_nothing_is_recommended_if_no_finalist_beats_a_constant_answer() -> None:
    for levels in ({"dice": 0.4, "cross_entropy": 0.3}, {"dice": 0.49}, {"dice": 0.492}):
        decision = decide_verdict(evidence(levels, constant_miou=0.49), ORDER)
        assert (decision.verdict, decision.recommended, decision.provisional) == (NONE, None, False)
        assert "No finalist beats a constant answer (0.490) at this budget: nothing was learned." in join_reasons(
            decision
        )
        assert any("`--steps`" in step for step in decision.next_steps)
    # One that scores high, but of which every training collapsed on validation, does not count as having learned.
    collapsed = evidence({"focal": 0.8, "dice": 0.48}, constant_miou=0.49, finalists={"focal": {"collapses": 3}})
    assert decide(collapsed) == (NONE, None)


# --- Provisional -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "half", "rising", "verdict", "provisional"),
    [
        ({"dice": 0.75, "cross_entropy": 0.7}, 0.02, 0.03, CLEAR, True),
        ({"dice": 0.75, "cross_entropy": 0.7}, 0.02, 0.01, CLEAR, False),  # not more than the margin
        ({"dice": 0.702, "cross_entropy": 0.7}, 0.005, 0.03, SAME, True),
        ({"dice": 0.75, "cross_entropy": 0.7}, 0.2, 0.03, OPEN, False),  # nothing clear to be provisional about
    ],
)
def test_a_rising_baseline_makes_a_settled_verdict_provisional(
    levels: dict[str, float], half: float, rising: float, verdict: Verdict, provisional: bool
) -> None:
    record = evidence(levels, half=half, finalists={"cross_entropy": {"still_rising": rising}})
    decision = decide_verdict(record, ORDER)
    assert (decision.verdict, decision.provisional) == (verdict, provisional)
    assert ("still gained 0.030" in join_reasons(decision)) == (rising > 0.01)
    assert any("--confirm-steps" in step for step in decision.next_steps) == (rising > 0.01)
    rival = evidence(levels, half=half, finalists={"dice": {"still_rising": rising}})  # which is not the baseline
    assert not decide_verdict(rival, ORDER).provisional


# --- Too little data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [{"dice": 0.9, "cross_entropy": 0.5}, {"dice": 0.7, "cross_entropy": 0.7}])
@pytest.mark.parametrize("half", [0.001, 0.02])
def test_one_common_seed_or_one_image_never_settles_a_comparison(levels: dict[str, float], half: float) -> None:
    seeds = {family: {"seeds": (101,)} for family in levels}
    one_seed = decide_verdict(evidence(levels, half=half, finalists=seeds), ORDER)
    one_image = decide_verdict(evidence(levels, half=half, test_images=1), ORDER)
    assert one_seed.verdict is one_image.verdict is OPEN
    assert "from 1 common seed; how much another seed would change it cannot be est" in join_reasons(one_seed)
    assert "with 1 test image, chance cannot be separated from merit" in join_reasons(one_image)
    assert any("--seeds 3" in step for step in one_seed.next_steps)
    assert any("label more test images" in step for step in one_image.next_steps)


# --- Sentences and what would settle it ---------------------------------------------------------------------


def test_reasons_give_losses_and_numbers() -> None:
    analysed = join_reasons(
        decide_verdict(evidence({"dice": 0.75, "cross_entropy": 0.7}, analyses=plan_analyses(3, 8)), ORDER)
    )
    assert "dice is better than cross_entropy by +0.050 mIoU (95 % interval +0.030 to +0.070)" in analysed
    safe = join_reasons(decide_verdict(evidence(THREE, half=0.005, halves=FAR), ORDER))
    sentence = "focal is a safe choice: no finalist is better by more than 0.01 mIoU (differences to it: tversky"
    assert f"{sentence} +0.003" in safe
    behind = explain_safety(evidence({"focal": 0.75, "dice": 0.7}, half=0.005), 0, [1])
    assert behind.endswith("(differences to it: dice −0.050, behind by its 95 % interval).")
