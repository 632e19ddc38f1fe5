"""The choice on literal evidence: change, keep or take which loss, how sure, and at what cost."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.core.records import Evidence, Outcome, Regret, Sure
from sweeper.evidence.choice import Choice, apply_final_training, choose
from tests.evidence.weighing import change_pairs
from tests.support.builders import CONFIRM_SEEDS, ORDER, evidence, final_comparison, interval

CHANGE, KEEP, TAKE, NONE = Outcome
SHOWN, PROBABLE, OPEN = Sure


def describe(record: Evidence) -> tuple[Outcome, str | None, Sure]:
    """Return outcome, loss and certainty."""
    choice = choose(record, ORDER)
    return choice.outcome, get_name(record, choice), choice.sure


def get_name(record: Evidence, choice: Choice) -> str | None:
    return None if choice.use is None else record.finalists[choice.use].family


def make_regrets(**bounds: float) -> dict[str, Any]:
    """Return evidence in which taking each loss costs at most so much."""
    regrets = {f: Regret(expected=b / 3, bound=b, best=0.2) for f, b in bounds.items()}
    return {"finalists": {family: {"regret": regret} for family, regret in regrets.items()}}


def collapse_once(*names: str) -> dict[str, Any]:
    """Return evidence in which one training of each of these losses collapsed."""
    return {"finalists": {name: {"collapses": 1} for name in names}}


THREE = {"tversky": 0.704, "focal": 0.7005, "dice": 0.7}
FAR = {("tversky", "dice"): 0.02}
SPREAD = {"focal": 0.706, "dice_ce": 0.703, "dice": 0.698}
WIDE = {("focal", "dice"): 0.009}
ALWAYS_COLLAPSED = {"finalists": {"cross_entropy": {"collapses": 3}}}
NEAR = {"dice_focal": 0.75, "dice": 0.745, "cross_entropy": 0.741}
CLOSE = {"dice_ce": 0.709, "dice": 0.704, "cross_entropy": 0.7}
GAIN = {"dice_ce": 0.88, "tversky": 0.872, "cross_entropy": 0.7}
PAIR = {"dice": 0.75, "cross_entropy": 0.7}

TABLE: list[tuple[str, dict[str, float], dict[str, Any], Outcome, str | None, Sure]] = [
    # Without a present loss.
    ("beats every rival", {"dice": 0.75, "focal": 0.7, "tversky": 0.7}, {}, TAKE, "dice", SHOWN),
    ("interval above 0, below the margin", {"dice": 0.708, "focal": 0.7}, {"half": 0.007}, TAKE, "dice", SHOWN),
    ("the estimate is the margin", {"dice": 0.75, "focal": 0.5}, {"half": 0.125, "margin": 0.25}, TAKE, "dice", SHOWN),
    ("another may be better by more", {"dice": 0.71, "focal": 0.7}, {"half": 0.021}, TAKE, "focal", OPEN),
    ("the lead ends at the margin", {"dice": 0.75, "focal": 0.5}, {"half": 0.5, "margin": 0.25}, TAKE, "dice", SHOWN),
    ("one is as good as either of two far apart", THREE, {"half": 0.005, "halves": FAR}, TAKE, "focal", SHOWN),
    ("more than half the margin lower", {"dice": 0.7055, "focal": 0.7}, {"half": 0.02}, TAKE, "focal", OPEN),
    ("the simplest scores lower", {"dice": 0.711, "focal": 0.7}, {"half": 0.25}, TAKE, "dice", OPEN),
    (
        "all within the margin",
        {"dice_focal": 0.703, "dice": 0.702, "focal": 0.7},
        {"half": 0.005},
        TAKE,
        "focal",
        SHOWN,
    ),
    ("the best two are", {"dice_focal": 0.753, "dice": 0.75, "focal": 0.6}, {"half": 0.005}, TAKE, "dice", SHOWN),
    ("near the best, not each other", SPREAD, {"half": 0.0039, "halves": WIDE}, TAKE, "focal", SHOWN),
    (
        "a safe one never collapses",
        {"dice": 0.704, "focal": 0.7},
        {"half": 0.006} | collapse_once("focal"),
        TAKE,
        "dice",
        SHOWN,
    ),
    (
        "as all did",
        {"dice": 0.704, "focal": 0.7},
        {"half": 0.006} | collapse_once("dice", "focal"),
        TAKE,
        "focal",
        OPEN,
    ),
    ("ties", {"tversky": 0.7, "focal": 0.7, "dice": 0.7}, {"half": 0.005}, TAKE, "focal", SHOWN),
    ("an unknown loss comes last", {"my_loss": 0.7, "tversky": 0.7}, {"half": 0.005}, TAKE, "tversky", SHOWN),
    ("one alone", {"dice": 0.7}, {}, TAKE, "dice", OPEN),
    # A gain over the present loss.
    ("a gain is shown", PAIR, {}, CHANGE, "dice", SHOWN),
    ("a little above a constant answer", {"dice": 0.493, "cross_entropy": 0.3}, {}, CHANGE, "dice", SHOWN),
    ("of two the simplest", GAIN, {}, CHANGE, "tversky", SHOWN),
    (
        "near the least cost",
        GAIN,
        make_regrets(dice_ce=0.001, tversky=0.028, cross_entropy=0.3),
        CHANGE,
        "tversky",
        SHOWN,
    ),
    ("not beyond", GAIN, make_regrets(dice_ce=0.001, tversky=0.034, cross_entropy=0.3), CHANGE, "dice_ce", SHOWN),
    ("not a beaten one", {"dice_ce": 0.88, "dice": 0.8, "cross_entropy": 0.7}, {}, CHANGE, "dice_ce", SHOWN),
    (
        "not the noisy best",
        {"dice_ce": 0.735, "dice": 0.73, "cross_entropy": 0.7},
        {"halves": {("dice_ce", "cross_entropy"): 0.04}},
        CHANGE,
        "dice",
        SHOWN,
    ),
    (
        "one that beats what gains",
        {"dice_ce": 0.755, "dice": 0.73, "cross_entropy": 0.7},
        {"halves": {("dice_ce", "cross_entropy"): 0.06}},
        CHANGE,
        "dice_ce",
        SHOWN,
    ),
    (
        "the present one always collapsed",
        {"dice": 0.75, "cross_entropy": 0.49},
        ALWAYS_COLLAPSED,
        CHANGE,
        "dice",
        SHOWN,
    ),
    # The present loss is kept.
    ("it wins", {"cross_entropy": 0.75, "dice": 0.7}, {}, KEEP, "cross_entropy", SHOWN),
    (
        "the estimate is below the margin",
        {"dice": 0.709, "cross_entropy": 0.7},
        {"half": 0.008},
        KEEP,
        "cross_entropy",
        OPEN,
    ),
    ("the interval contains 0", CLOSE, {"half": 0.026}, KEEP, "cross_entropy", OPEN),
    (
        "keeping is probable",
        CLOSE,
        {"half": 0.026} | make_regrets(cross_entropy=0.0096, dice=0.006, dice_ce=0.002),
        KEEP,
        "cross_entropy",
        PROBABLE,
    ),
    ("all are equal", {"dice": 0.7, "cross_entropy": 0.7}, {"half": 0.004}, KEEP, "cross_entropy", SHOWN),
    ("equal, with noise", {"dice": 0.7, "cross_entropy": 0.7}, {"half": 0.03}, KEEP, "cross_entropy", OPEN),
    ("all collapsed once", NEAR, {"half": 0.1} | collapse_once(*NEAR), KEEP, "cross_entropy", OPEN),
    (
        "one function",
        {"cross_entropy": 0.7},
        {"finalists": {"cross_entropy": {"other_names": ("dice_ce",)}}},
        KEEP,
        "cross_entropy",
        SHOWN,
    ),
    # The present loss failed.
    ("it collapsed once", NEAR, {"half": 0.1} | collapse_once("cross_entropy"), TAKE, "dice", OPEN),
    (
        "it always collapsed and is not beaten",
        {"dice": 0.75, "cross_entropy": 0.6},
        {"half": 0.3} | ALWAYS_COLLAPSED,
        TAKE,
        "dice",
        OPEN,
    ),
    ("it learned nothing", {"dice": 0.6, "cross_entropy": 0.45}, {"half": 0.3}, TAKE, "dice", OPEN),
    # Nothing was learned.
    ("the only one collapsed", {"cross_entropy": 0.75}, ALWAYS_COLLAPSED, NONE, None, OPEN),
    ("none beats a constant answer", {"dice": 0.4, "cross_entropy": 0.3}, {}, NONE, None, OPEN),
    ("by more than chance", {"dice": 0.492}, {}, NONE, None, OPEN),
    (
        "only a collapsed one",
        {"focal": 0.8, "dice": 0.48},
        {"finalists": {"focal": {"collapses": 3}}},
        NONE,
        None,
        OPEN,
    ),
]


@pytest.mark.parametrize(
    ("levels", "settings", "outcome", "use", "sure"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_each_case_has_its_outcome_loss_and_certainty(
    levels: dict[str, float], settings: dict[str, Any], outcome: Outcome, use: str | None, sure: Sure
) -> None:
    assert describe(evidence(levels, **settings)) == (outcome, use, sure)


def test_nothing_is_chosen_where_nothing_completed() -> None:
    assert choose(None, ORDER) == choose(evidence({}), ORDER) == Choice(NONE)


def test_a_loss_that_collapsed_is_no_winner() -> None:
    for field in ("collapses", "collapses_in_search"):
        record = evidence({"dice": 0.75, "focal": 0.7}, finalists={"dice": {field: 1}})
        assert describe(record) == (TAKE, "dice", OPEN) and not choose(record, ORDER).is_settled


# --- Whom to use --------------------------------------------------------------------------------------------

LEVELS = {"dice": 0.705, "focal": 0.703, "weighted_ce": 0.701}


def make_costs(*expected: float) -> dict[str, dict[str, Any]]:
    regrets = [Regret(expected=e, bound=3 * e, best=0.3) for e in expected]
    return {name: {"regret": regret} for name, regret in zip(LEVELS, regrets, strict=True)}


def use(**changes: Any) -> str | None:
    return describe(evidence(LEVELS, half=0.05, **changes))[1]


def test_the_loss_of_least_cost_is_used_and_of_equal_ones_the_simplest() -> None:
    assert use(finalists=make_costs(0.001, 0.004, 0.006)) == "dice"
    assert use(finalists=make_costs(0.0015, 0.001, 0.006)) == "focal"
    assert use(finalists=make_costs(0.0015, 0.001, 0.0019)) == "weighted_ce"


def test_a_loss_that_needs_a_special_operating_point_is_not_used() -> None:
    plain = make_costs(0.001, 0.001, 0.001)
    plain["weighted_ce"] |= {"score_at_default": 0.6}
    plain["focal"] |= {"score_at_default": 0.7}
    for dice in (0.695, 0.7, 0.705):
        plain["dice"] |= {"score_at_default": dice}
        assert use(finalists=plain) == "focal"


def test_a_learning_rate_at_the_edge_counts_before_simplicity_and_after_collapse() -> None:
    edge = make_costs(0.001, 0.001, 0.001)
    edge["weighted_ce"] |= {"lr_at_edge": True}
    assert use(finalists=edge) == "focal"
    edge["focal"] |= {"collapses": 1}
    edge["dice"] |= {"collapses": 1}
    assert use(finalists=edge) == "weighted_ce"


def test_the_simplest_change_has_defaults_then_the_plain_point_then_few_parameters() -> None:
    levels = {"tversky": 0.8, "dice_ce": 0.8, "focal": 0.8, "cross_entropy": 0.7}

    def change_to(**finalists: dict[str, Any]) -> str | None:
        return describe(evidence(levels, finalists=finalists))[1]

    assert change_to() == "tversky"  # one parameter, where the others have two
    assert change_to(tversky={"points": (0.9, 0.9, 0.9)}) == "focal"  # of two equal ones the first in the order
    assert change_to(dice_ce={"at_defaults": True, "points": (0.9, 0.9, 0.9)}) == "dice_ce"
    assert change_to(tversky={"collapses": 1}) == "focal"


# --- How sure, and at what cost -----------------------------------------------------------------------------


@pytest.mark.parametrize(("bound", "sure"), [(0.00245, PROBABLE), (0.00251, OPEN)])
def test_a_cost_within_the_margin_is_probable(bound: float, sure: Sure) -> None:
    costs = make_costs(0.0001, 0.003, 0.004)
    costs["dice"] = {"regret": Regret(expected=0.0001, bound=bound, best=0.3)}
    choice = choose(evidence(LEVELS, half=0.05, finalists=costs, margin=0.0025), ORDER)
    assert (choice.sure, choice.cost) == (sure, bound)


def test_the_posterior_establishes_nothing_and_takes_nothing_back() -> None:
    certain, uncertain = make_costs(0.0, 0.02, 0.03), make_costs(0.02, 0.02, 0.02)
    assert choose(evidence(LEVELS, half=0.05, finalists=certain), ORDER).sure is PROBABLE
    few_groups = evidence(LEVELS, half=0.05, finalists=certain, test_groups=4, few_groups=4)
    assert choose(few_groups, ORDER).sure is OPEN  # which cannot represent others
    shown = choose(evidence(LEVELS, half=0.005, finalists=uncertain), ORDER)
    assert shown.sure is SHOWN and shown.cost == pytest.approx(0.009)  # by the intervals


def test_results_of_earlier_interim_analyses_still_count() -> None:
    record, ends = evidence({"dice": 0.705, "focal": 0.7}, half=0.05), {"at_least": -0.004, "at_most": 0.008}
    won = choose(change_pairs(record, lambda pair: {"won": pair.first == 0, **ends}), ORDER)
    assert (won.use, won.unbeaten, won.sure) == (0, (), SHOWN)
    assert choose(change_pairs(record, lambda pair: {"won": False, **ends}), ORDER).sure is SHOWN


@pytest.mark.parametrize("levels", [{"dice": 0.9, "cross_entropy": 0.5}, {"dice": 0.7, "cross_entropy": 0.7}])
@pytest.mark.parametrize("half", [0.001, 0.02])
def test_two_common_seeds_or_one_image_never_settle_a_comparison(levels: dict[str, float], half: float) -> None:
    for seeds in (1, 2):
        few = {family: {"seeds": CONFIRM_SEEDS[:seeds]} for family in levels}
        assert describe(evidence(levels, half=half, finalists=few)) == (KEEP, "cross_entropy", OPEN)
    assert describe(evidence(levels, half=half, test_images=1)) == (KEEP, "cross_entropy", OPEN)


# --- The longest training -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "half", "outcome", "sure"),
    [
        (0.15, 0.04, CHANGE, SHOWN),
        (0.011, 0.04, CHANGE, SHOWN),
        (0.002, 0.006, KEEP, PROBABLE),
        (0.002, 0.04, KEEP, OPEN),
        (-0.02, 0.01, KEEP, PROBABLE),
    ],
)
def test_a_change_whose_gain_fades_in_longer_trainings_is_none(
    after: float, half: float, outcome: Outcome, sure: Sure
) -> None:
    record = evidence(PAIR)
    gap = final_comparison("dice", before=0.05, after=after).model_copy(update={"after": interval(after, half)})
    choice = apply_final_training(record, choose(record, ORDER), gap)
    assert (choice.outcome, choice.sure, choice.faded) == (outcome, sure, gap if outcome is KEEP else None)
    assert get_name(record, choice) == ("dice" if outcome is CHANGE else "cross_entropy")
    assert outcome is CHANGE or choice.cost == pytest.approx(max(0.0, after + half))


def test_the_cost_is_not_known_where_not_every_finalist_was_trained_longer() -> None:
    record = evidence({**PAIR, "focal": 0.5})
    choice = apply_final_training(record, choose(record, ORDER), final_comparison("dice", before=0.05, after=0.0))
    assert (choice.outcome, choice.sure, choice.cost) == (KEEP, OPEN, None)


def test_a_final_training_at_another_pair_changes_nothing() -> None:
    record = evidence(PAIR)
    choice = choose(record, ORDER)
    assert apply_final_training(record, choice, final_comparison("focal", "dice", after=-0.1)) == choice
    assert apply_final_training(record, choice, None) == choice
    kept = evidence(CLOSE, half=0.026)
    assert apply_final_training(kept, choose(kept, ORDER), final_comparison()).outcome is KEEP
