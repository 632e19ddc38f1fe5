"""The verdict's rule on literal evidence, its sentences, and its error rate on simulated sweeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sweeper.core.records import Evidence, Interval, Regret, Verdict
from sweeper.evidence.intervals import half_width
from sweeper.evidence.paired_comparisons import weigh
from sweeper.evidence.reasons import _sources, collapse_rate
from sweeper.evidence.verdict import Decision, decide
from sweeper.evidence.what_would_settle import images_needed, needed_half_width, seeds_needed
from tests.support.builders import (
    BINARY,
    CONFIRM_SEEDS,
    ORDER,
    confirmation,
    counts_from_iou,
    evidence,
    trial,
)

CLEAR, SAME, SAFE = Verdict.CLEAR_WINNER, Verdict.EQUIVALENT, Verdict.SAFE_CHOICE
OPEN, NONE = Verdict.UNDECIDED, Verdict.NONE
SEARCH = {family: trial(family, 0.7, i) for i, family in enumerate(ORDER)}


def answer(found: Evidence) -> tuple[Verdict, str | None]:
    decision = decide(found, ORDER)
    name = None if decision.recommended is None else found.finalists[decision.recommended].family
    return decision.verdict, name


def said(decision: Decision) -> str:
    return "\n".join(decision.reasons)


# --- The four verdicts --------------------------------------------------------------------------------------

THREE = {"tversky": 0.704, "focal": 0.7005, "dice": 0.7}
FAR = {("tversky", "dice"): 0.02}
APART = {"focal": 0.706, "dice_ce": 0.703, "dice": 0.698}
WIDE = {("focal", "dice"): 0.009}
TABLE: list[tuple[str, dict[str, float], dict[str, Any], Verdict, str | None]] = [
    ("beats every rival", {"dice": 0.75, "focal": 0.7, "cross_entropy": 0.7}, {}, CLEAR, "dice"),
    ("beats its only rival", {"dice": 0.75, "cross_entropy": 0.7}, {}, CLEAR, "dice"),
    ("the baseline can win", {"cross_entropy": 0.75, "dice": 0.7}, {}, CLEAR, "cross_entropy"),
    ("interval above 0, estimate below the ROPE", {"dice": 0.708, "focal": 0.7}, {"half": 0.007}, SAFE, "dice"),
    ("the estimate is exactly the ROPE", {"dice": 0.75, "focal": 0.5}, {"half": 0.125, "rope": 0.25}, CLEAR, "dice"),
    ("interval touches 0", {"dice": 0.75, "focal": 0.5}, {"half": 0.25}, SAFE, "dice"),
    ("another may be better by more than the ROPE", {"dice": 0.71, "focal": 0.7}, {"half": 0.021}, OPEN, "focal"),
    ("the lead of another ends at the ROPE", {"dice": 0.75, "focal": 0.5}, {"half": 0.5, "rope": 0.25}, SAFE, "dice"),
    ("one is as good as either of two that are far apart", THREE, {"half": 0.005, "halves": FAR}, SAFE, "focal"),
    ("more than half the ROPE lower", {"dice": 0.7055, "focal": 0.7}, {"half": 0.02}, OPEN, "focal"),
    ("the simplest reads lower by more than the ROPE", {"dice": 0.711, "focal": 0.7}, {"half": 0.25}, OPEN, "dice"),
    ("the simplest reads lower by the ROPE", {"dice": 0.71, "focal": 0.7}, {"half": 0.25}, OPEN, "focal"),
    ("one rival is left: wide", {"dice_focal": 0.75, "dice": 0.74, "focal": 0.6}, {"half": 0.03}, OPEN, "dice"),
    ("all within the ROPE", {"dice_focal": 0.703, "dice": 0.702, "focal": 0.7}, {"half": 0.005}, SAME, "focal"),
    ("the best two are equivalent", {"dice_focal": 0.753, "dice": 0.75, "focal": 0.6}, {"half": 0.005}, SAME, "dice"),
    ("near the best, not near each other", APART, {"half": 0.0039, "halves": WIDE}, SAFE, "focal"),
    ("identical scores without variance", {"dice": 0.7, "cross_entropy": 0.7}, {"half": 0.0}, SAME, "cross_entropy"),
    ("identical scores with variance", {"dice": 0.7, "cross_entropy": 0.7}, {"half": 0.03}, OPEN, "cross_entropy"),
]


@pytest.mark.parametrize(
    ("levels", "settings", "verdict", "recommended"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_the_rule(
    levels: dict[str, float], settings: dict[str, Any], verdict: Verdict, recommended: str | None
) -> None:
    found = evidence(levels, **settings)
    assert answer(found) == (verdict, recommended)
    decision = decide(found, ORDER)
    assert decision.reasons
    assert bool(decision.next_steps) == (verdict is OPEN)
    assert not decision.provisional


@pytest.mark.parametrize("found", [None, evidence({})])
def test_nothing_completed_recommends_nothing(found: Evidence | None) -> None:
    decision = decide(found, ORDER)
    assert (decision.verdict, decision.recommended) == (NONE, None)
    assert "No confirmation training completed" in said(decision)
    assert decision.next_steps


def test_one_finalist_is_undecided_because_nothing_was_compared() -> None:
    decision = decide(evidence({"dice": 0.7}), ORDER)
    assert (decision.verdict, decision.recommended) == (OPEN, 0)
    assert "nothing was compared" in said(decision)
    assert decision.next_steps


# --- Collapse -----------------------------------------------------------------------------------------------


def test_a_finalist_of_which_every_training_collapsed_is_not_recommended() -> None:
    gone = {"cross_entropy": {"collapses": 3}}
    beaten = evidence({"dice": 0.75, "cross_entropy": 0.49}, finalists=gone)
    assert answer(beaten) == (CLEAR, "dice")
    open_ = evidence({"dice": 0.75, "cross_entropy": 0.6}, half=0.3, finalists=gone)
    assert answer(open_) == (OPEN, "dice")
    assert "3 of 3 confirmation trainings of cross_entropy collapsed" in said(decide(open_, ORDER))
    highest = evidence({"focal": 0.8, "dice": 0.75, "cross_entropy": 0.6}, finalists={"focal": {"collapses": 3}})
    assert answer(highest) == (OPEN, "dice")  # not beaten, so that dice is not proven best, and not eligible
    same = evidence({"dice": 0.7, "cross_entropy": 0.7}, half=0.0, finalists=gone)
    assert answer(same) == (SAFE, "dice")
    # Two learned and are equivalent to each other and to the one that always collapsed: not "all left are equivalent".
    third = evidence({"dice": 0.7, "focal": 0.7, "cross_entropy": 0.7}, half=0.0, finalists=gone)
    assert answer(third) == (SAFE, "focal")


def test_when_everything_collapsed_nothing_is_recommended() -> None:
    gone = {f: {"collapses": 3} for f in ("dice", "cross_entropy")}
    decision = decide(evidence({"dice": 0.75, "cross_entropy": 0.5}, finalists=gone), ORDER)
    assert (decision.verdict, decision.recommended) == (NONE, None)
    assert "dice and cross_entropy collapsed" in said(decision)
    assert "0.490" in said(decision)
    assert answer(evidence({"dice": 0.75}, finalists={"dice": {"collapses": 3}})) == (NONE, None)


def test_undecided_passes_over_a_loss_that_sometimes_collapses_while_another_is_left() -> None:
    levels = {"dice_focal": 0.75, "dice": 0.745, "cross_entropy": 0.741}
    assert answer(evidence(levels, half=0.1)) == (OPEN, "cross_entropy")
    shaky = evidence(levels, half=0.1, finalists={"cross_entropy": {"collapses": 1}})
    assert answer(shaky) == (OPEN, "dice")
    assert "Of dice_focal, dice and cross_entropy, dice is named: none of its trainings collapsed and it is" in said(
        decide(shaky, ORDER)
    )
    all_shaky = evidence(levels, half=0.1, finalists={f: {"collapses": 1} for f in levels})
    assert answer(all_shaky) == (OPEN, "cross_entropy")


def test_a_loss_that_collapsed_is_no_clear_winner_and_no_safe_choice() -> None:
    levels = {"dice": 0.75, "cross_entropy": 0.7}
    assert answer(evidence(levels)) == (CLEAR, "dice")
    for where in ("collapses", "collapses_in_search"):
        fallen = evidence(levels, finalists={"dice": {where: 1}})
        decision = decide(fallen, ORDER)
        assert (decision.verdict, decision.recommended, decision.strength) == (OPEN, 0, "open")
        assert "a clear winner never collapses" in said(decision)
    near = {"dice": 0.704, "focal": 0.7}
    assert answer(evidence(near, half=0.006, finalists={"focal": {"collapses": 1}})) == (SAFE, "dice")
    both = {f: {"collapses": 1} for f in near}
    assert answer(evidence(near, half=0.006, finalists=both))[0] is OPEN


# --- Whom to name -------------------------------------------------------------------------------------------


def costs(*expected: float, within: float = 0.5) -> dict[str, dict[str, Any]]:
    names = ("dice", "focal", "cross_entropy")
    found = [Regret(expected=e, bound=3 * e, within_rope=within, best=0.3) for e in expected]
    return {name: {"regret": regret} for name, regret in zip(names, found, strict=False)}


LEVELS = {"dice": 0.705, "focal": 0.703, "cross_entropy": 0.701}


def test_of_several_the_one_that_costs_least_is_named_and_only_then_the_simplest() -> None:
    assert answer(evidence(LEVELS, half=0.05, finalists=costs(0.001, 0.004, 0.006)))[1] == "dice"
    assert answer(evidence(LEVELS, half=0.05, finalists=costs(0.0015, 0.001, 0.006)))[1] == "focal"
    assert answer(evidence(LEVELS, half=0.05, finalists=costs(0.0015, 0.001, 0.0019)))[1] == "cross_entropy"
    words = said(decide(evidence(LEVELS, half=0.05, finalists=costs(0.0015, 0.001, 0.006)), ORDER))
    assert (
        "Of dice, focal and cross_entropy, focal is named: its expected cost is within 0.001 mIoU of the least" in words
    )


def test_what_needs_a_special_operating_point_is_passed_over() -> None:
    plain = costs(0.001, 0.001, 0.001)
    plain["cross_entropy"] |= {"miou_at_default": 0.6}
    plain["focal"] |= {"miou_at_default": 0.7}
    for dice in (0.695, 0.7, 0.705):
        plain["dice"] |= {"miou_at_default": dice}
        found = evidence(LEVELS, half=0.05, finalists=plain)
        assert answer(found)[1] == "focal"
        assert "focal is named: it reads within 0.01 of the highest at the plain operating point and it is the" in said(
            decide(found, ORDER)
        )


def test_a_learning_rate_at_the_edge_counts_before_simplicity_and_after_collapse() -> None:
    edge = costs(0.001, 0.001, 0.001)
    edge["cross_entropy"] |= {"lr_at_edge": True}
    assert answer(evidence(LEVELS, half=0.05, finalists=edge))[1] == "focal"
    edge["focal"] |= {"collapses": 1}
    edge["dice"] |= {"collapses": 1}
    assert answer(evidence(LEVELS, half=0.05, finalists=edge))[1] == "cross_entropy"


@pytest.mark.parametrize(
    ("bound", "rope", "words"),
    [
        (0.00245, 0.0025, "0.0025 mIoU (with a probability of 95 %) against the best finalist: probable,"),
        (0.00251, 0.0025, "0.0026 mIoU (with a probability of 95 %) against the best finalist, where at most 0.0025"),
    ],
)
def test_probable_is_what_one_bound_says_which_is_printed_so_that_it_agrees(
    bound: float, rope: float, words: str
) -> None:
    found = costs(0.0001, 0.003, 0.004)
    found["dice"] = {"regret": Regret(expected=0.0001, bound=bound, within_rope=0.946, best=0.3)}
    decision = decide(evidence(LEVELS, half=0.05, finalists=found, rope=rope), ORDER)
    assert (decision.verdict, decision.strength) == (OPEN, "probable" if bound <= rope else "open")
    assert f"dice costs at most {words}" in said(decision) and "94" not in said(decision)


def test_few_groups_of_images_make_nothing_probable() -> None:
    found = costs(0.001, 0.002, 0.003)
    assert decide(evidence(LEVELS, half=0.05, finalists=found), ORDER).strength == "probable"
    assert decide(evidence(LEVELS, half=0.05, finalists=found, test_groups=4, few_groups=4), ORDER).strength == "open"


def test_one_function_under_several_names_is_an_answer_and_asks_for_no_seeds() -> None:
    names = {"cross_entropy": {"other_names": ("dice_ce", "weighted_ce")}}
    decision = decide(evidence({"cross_entropy": 0.7}, finalists=names), ORDER)
    assert (decision.verdict, decision.strength, decision.recommended) == (Verdict.EQUIVALENT, "shown", 0)
    assert "All that was tried is cross_entropy on these data: as they were searched, the gradients of dice_ce and" in (
        said(decision)
    )
    assert not any("--confirm-seeds" in sentence for sentence in decision.next_steps)


def test_what_is_shown_is_never_by_the_posterior_alone() -> None:
    sure = costs(0.0, 0.02, 0.03, within=1.0)
    assert decide(evidence(LEVELS, half=0.05, finalists=sure), ORDER).strength == "probable"
    unsure = costs(0.02, 0.02, 0.02, within=0.1)
    assert decide(evidence(LEVELS, half=0.005, finalists=unsure), ORDER).strength == "shown"


def test_who_was_beaten_at_an_early_interim_analysis_stays_beaten_and_ends_of_earlier_intervals_count() -> None:
    found = evidence({"dice": 0.705, "focal": 0.7}, half=0.05)
    earlier = [
        c.model_copy(update={"won": c.first == 0, "at_least": -0.004, "at_most": 0.008}) for c in found.comparisons
    ]
    assert answer(found.model_copy(update={"comparisons": tuple(earlier)})) == (CLEAR, "dice")
    ends = [c.model_copy(update={"won": False, "at_least": -0.004, "at_most": 0.008}) for c in found.comparisons]
    assert answer(found.model_copy(update={"comparisons": tuple(ends)}))[0] is SAME


def test_undecided_passes_over_a_loss_no_better_than_a_constant_answer() -> None:
    found = evidence({"dice": 0.6, "cross_entropy": 0.45}, half=0.3, constant_miou=0.49)
    assert answer(found) == (OPEN, "dice")
    # ... also where every one that is left has collapsed now and then.
    shaky = {f: {"collapses": 1} for f in ("dice", "cross_entropy")}
    found = evidence({"dice": 0.6, "cross_entropy": 0.45}, half=0.3, constant_miou=0.49, finalists=shaky)
    assert answer(found) == (OPEN, "dice")


@pytest.mark.parametrize("miou", [0.4, 0.49, 0.492])
def test_when_no_finalist_beats_a_constant_answer_nothing_is_recommended(miou: float) -> None:
    for levels in ({"dice": miou, "cross_entropy": 0.3}, {"dice": miou}):
        decision = decide(evidence(levels, constant_miou=0.49), ORDER)
        assert (decision.verdict, decision.recommended, decision.provisional) == (NONE, None, False)
        assert decision.reasons[0].startswith(
            "No finalist beats a constant answer (0.490) at this budget: nothing was learned."
        )
        assert any("`--steps`" in step for step in decision.next_steps)
    above = evidence({"dice": 0.493, "cross_entropy": 0.3}, constant_miou=0.49)
    assert answer(above) == (CLEAR, "dice")
    # One that reads high, but of which every training collapsed on validation, does not count as having learned.
    gone = evidence({"focal": 0.8, "dice": 0.48}, constant_miou=0.49, finalists={"focal": {"collapses": 3}})
    assert answer(gone) == (NONE, None)


# --- Ties, order, provisional -------------------------------------------------------------------------------


def test_ties_and_the_order_of_finalists_do_not_change_the_answer() -> None:
    tied = {"tversky": 0.7, "focal": 0.7, "dice": 0.7}
    assert answer(evidence(tied, half=0.005)) == (SAME, "focal")
    assert answer(evidence(dict(reversed(tied.items())), half=0.005)) == (SAME, "focal")
    # The declared order decides, not the alphabet; an unknown family comes last.
    swapped = decide(evidence(tied, half=0.005), ["tversky", "dice", "focal"])
    assert evidence(tied).finalists[swapped.recommended or 0].family == "tversky"
    assert answer(evidence({"my_loss": 0.7, "tversky": 0.7}, half=0.005)) == (SAME, "tversky")


@pytest.mark.parametrize(
    ("levels", "half", "rising", "verdict", "provisional"),
    [
        ({"dice": 0.75, "cross_entropy": 0.7}, 0.02, 0.03, CLEAR, True),
        ({"dice": 0.75, "cross_entropy": 0.7}, 0.02, 0.01, CLEAR, False),  # not more than the ROPE
        ({"dice": 0.702, "cross_entropy": 0.7}, 0.005, 0.03, SAME, True),
        ({"dice": 0.75, "cross_entropy": 0.7}, 0.2, 0.03, OPEN, False),  # nothing clear to be provisional about
    ],
)
def test_a_rising_baseline_makes_a_settled_verdict_provisional(
    levels: dict[str, float], half: float, rising: float, verdict: Verdict, provisional: bool
) -> None:
    found = evidence(levels, half=half, finalists={"cross_entropy": {"still_rising": rising}})
    decision = decide(found, ORDER)
    assert (decision.verdict, decision.provisional) == (verdict, provisional)
    assert ("still gained 0.030" in said(decision)) == (rising > 0.01)
    assert any("--confirm-steps" in step for step in decision.next_steps) == (rising > 0.01)


def test_a_rising_rival_that_is_not_the_baseline_changes_nothing() -> None:
    found = evidence({"dice": 0.75, "focal": 0.7}, finalists={"focal": {"still_rising": 0.2}})
    assert not decide(found, ORDER).provisional


# --- Too little data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [0.001, 0.02])
def test_one_common_seed_never_settles_anything_whatever_the_interval_says(half: float) -> None:
    for levels in ({"dice": 0.9, "cross_entropy": 0.5}, {"dice": 0.7, "cross_entropy": 0.7}):
        found = evidence(levels, half=half, finalists={f: {"seeds": (101,)} for f in levels})
        decision = decide(found, ORDER)
        assert decision.verdict is OPEN
        assert "from 1 common seed; how much" in said(decision) and "cannot be estimated" in said(decision)
        assert any("--confirm-seeds 3" in step for step in decision.next_steps)


def test_one_test_image_never_settles_anything() -> None:
    decision = decide(evidence({"dice": 0.9, "cross_entropy": 0.5}, test_images=1), ORDER)
    assert decision.verdict is OPEN
    assert "with 1 independent test image, chance cannot be told from merit" in said(decision)
    assert any("label more test images" in step for step in decision.next_steps)


# --- Sentences and what would settle it ---------------------------------------------------------------------


def test_reasons_name_losses_and_numbers() -> None:
    clear = said(decide(evidence({"dice": 0.75, "cross_entropy": 0.7}), ORDER))
    assert "dice is better than cross_entropy by +0.050 mIoU (95 % interval +0.030 to +0.070)" in clear
    safe = said(decide(evidence(THREE, half=0.005, halves=FAR), ORDER))
    assert "focal is a safe choice: no finalist is better by more than 0.01 mIoU (lead over it: tversky +0.003" in safe


@pytest.mark.parametrize(
    ("se_seed", "se_image", "words"),
    [
        (0.003, 0.0, "0.003 from seeds; from images too little to be told from it"),
        (0.0, 0.004, "0.004 from images; from seeds too little to be told from it"),
        (0.003, 0.004, "0.003 from seeds, 0.004 from images"),
    ],
)
def test_an_estimated_variance_that_came_out_as_0_is_not_called_0(se_seed: float, se_image: float, words: str) -> None:
    assert _sources(evidence(LEVELS), gap(0.01, se_seed, se_image)) == words


def gap(estimate: float, se_seed: float, se_image: float) -> Interval:
    return Interval(estimate=estimate, low=-1, high=1, se_seed=se_seed, se_image=se_image)


def test_the_needed_half_width_is_the_nearer_way_to_an_answer() -> None:
    assert needed_half_width(gap(0.03, 0, 0), 0.01) == 0.03
    assert needed_half_width(gap(-0.03, 0, 0), 0.01) == 0.03
    assert needed_half_width(gap(0.004, 0, 0), 0.01) == pytest.approx(0.006)


def test_the_proposed_number_of_seeds_is_the_smallest_that_suffices() -> None:
    noisy = gap(0.03, 0.02, 0.004)
    needed = seeds_needed(noisy, 3, 24, 0.03)
    assert needed is not None
    assert needed > 3

    def half(seeds: int) -> float:
        return half_width(noisy.se_seed**2 * 3 / seeds, seeds, noisy.se_image**2, 24)

    assert half(needed) < 0.03 <= half(needed - 1)


def test_the_proposed_number_of_images_is_the_smallest_that_suffices() -> None:
    noisy = gap(0.03, 0.001, 0.03)
    assert seeds_needed(noisy, 3, 24, 0.03) is None  # image variance alone forbids it
    needed = images_needed(noisy, 3, 24, 0.03)
    assert needed is not None

    def half(images: int) -> float:
        return half_width(noisy.se_seed**2, 3, noisy.se_image**2 * 24 / images, images)

    assert half(needed) < 0.03 <= half(needed - 1)


@pytest.mark.parametrize(
    ("se_seed", "se_image", "estimate", "sentence"),
    [
        (0.02, 0.002, 0.03, "some 8 seeds in place of 3 (`--resume --confirm-seeds 8`) would settle it, if"),
        (0.0005, 0.03, 0.03, "the choice of test images alone forbids a verdict (standard error 0.030)"),
        (0.01, 0.03, 0.03, "neither more seeds nor more test images alone would settle it"),
        (0.5, 0.5, 0.00999, "(+0.010 against cross_entropy, standard error 0.707)"),
    ],
)
def test_next_steps_say_what_would_settle_it(se_seed: float, se_image: float, estimate: float, sentence: str) -> None:
    found = evidence({"dice": 0.7 + estimate, "cross_entropy": 0.7}, half=0.1)
    wide = found.comparisons[0].difference.model_copy(update={"se_seed": se_seed, "se_image": se_image})
    changed = found.comparisons[0].model_copy(update={"difference": wide})
    steps = decide(found.model_copy(update={"comparisons": (changed, *found.comparisons[1:])}), ORDER).next_steps
    assert len(steps) == 1
    assert sentence in steps[0]
    assert steps[0].startswith("dice against cross_entropy: ")


def test_rivals_for_which_the_same_would_do_share_a_sentence_that_asks_for_the_most() -> None:
    found = evidence({"dice": 0.7305, "focal": 0.7, "cross_entropy": 0.7}, half=0.1)
    noise = [{"se_seed": 0.02 + 0.005 * (c.second == 2), "se_image": 0.002} for c in found.comparisons]
    noisy = tuple(
        c.model_copy(update={"difference": c.difference.model_copy(update=own)})
        for c, own in zip(found.comparisons, noise, strict=True)
    )
    wanted = [seeds_needed(gap(0.0305, se, 0.002), 3, 24, 0.0305) for se in (0.02, 0.025)]
    assert wanted[0] is not None and wanted[1] is not None and wanted[1] > wanted[0]
    (step,) = decide(found.model_copy(update={"comparisons": noisy}), ORDER).next_steps
    assert step.startswith("dice against ") and f": some {wanted[1]} seeds in place of 3" in step


def test_next_steps_leave_out_pairs_that_cannot_change_the_answer() -> None:
    # focal and tversky are both open against the best; what stands between the two of them does not matter.
    found = evidence({"cross_entropy": 0.705, "focal": 0.702, "tversky": 0.7}, half=0.02)
    assert answer(found) == (OPEN, "cross_entropy")
    assert not any("focal against tversky" in step for step in decide(found, ORDER).next_steps)


# --- From counts to verdict ---------------------------------------------------------------------------------


def verdict_of(runs: list[Any]) -> tuple[Verdict, str | None]:
    return answer(weigh(runs, SEARCH, classes=BINARY))


def test_aliases_of_one_loss_are_never_a_clear_winner() -> None:
    counts = [counts_from_iou(np.random.default_rng(s).uniform(0.3, 0.8, 24)) for s in CONFIRM_SEEDS]
    aliases = [
        confirmation(f, seed, counts[s], 3 * i + s)
        for i, f in enumerate(("tversky", "dice", "cross_entropy"))
        for s, seed in enumerate(CONFIRM_SEEDS)
    ]
    assert verdict_of(aliases) == (SAME, "cross_entropy")


@pytest.mark.parametrize(
    ("collapses", "trainings", "low", "high"),
    [(0, 8, 0.0, 0.3694), (1, 8, 0.0032, 0.5265), (8, 8, 0.6306, 1.0), (2, 10, 0.0252, 0.5561), (0, 0, 0.0, 1.0)],
)
def test_the_rate_of_collapses_has_the_exact_interval(collapses: int, trainings: int, low: float, high: float) -> None:
    """Values of R's binom.test."""
    own = {"collapses": collapses, "points": (0.5,) * trainings}
    finalist = evidence({"dice": 0.75}, finalists={"dice": own}).finalists[0]
    assert collapse_rate(finalist) == pytest.approx((low, high), abs=1e-4)
    before = {"points": (0.5,) * (trainings // 2), "trainings_in_search": trainings - trainings // 2}
    assert collapse_rate(finalist.model_copy(update=before)) == pytest.approx((low, high), abs=1e-4)
