"""The first trials of a search, by the ledger."""

from __future__ import annotations

from typing import cast

import optuna
import pytest

from sweeper.core.errors import LossError
from sweeper.core.records import Coordinate, FamilySpace, SearchSpace, Task
from sweeper.space import list_first_trials, load_space, suggest_choice
from sweeper.workflow.advice import add_advice, add_present_loss
from tests.support import builders

IMBALANCE = 60.0


def advise(space: SearchSpace, share: float = 0.05) -> SearchSpace:
    """Return the advised space for data with this share of foreground: shapes of 5 % were measured."""
    profile = builders.profile()
    back, front = (
        row.model_copy(update={"pixel_share": part, "component_pixels": (60.0, 110.0, 200.0)})
        for row, part in zip(profile.classes, (1 - share, share), strict=True)
    )
    return add_advice(
        space, profile.model_copy(update={"classes": (back, front), "imbalance": (1 - share) / share}), IMBALANCE
    )


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_family_of_the_ledger_starts_at_its_best_configuration_and_has_its_defaults_second(task: str) -> None:
    space = advise(load_space(task, cast("Task", task)))
    first = list_first_trials(space)
    assert set(first) == {family.family for family in space.families}
    for family, trials in first.items():
        default = list_first_trials(space.model_copy(update={"starts": ()}))[family][0]
        best = next((start.params for start in space.starts if start.family == family), {})
        assert trials[0] == default | best and default in trials[:2]
        for params in trials:
            choice = suggest_choice(optuna.trial.FixedTrial({f"{family}.lr": 1e-3, **params}), space, IMBALANCE)
            assert choice.family == family
    assert [len(first[family]) for family in ("cross_entropy", "dice")] == [1, 1]
    assert min(len(first[family]) for family in ("weighted_ce", "dice_ce")) >= 2


def test_a_power_of_the_ledger_becomes_a_weight_where_the_space_searches_weights() -> None:
    weight = Coordinate(kind="log", low=1, high=40)
    family = FamilySpace(family="weighted_ce", coordinates={"pos_weight": weight})
    space = load_space("binary", "binary").model_copy(update={"families": (family,)})
    trials = list_first_trials(advise(space))["weighted_ce"]
    weights = {round(float(params["weighted_ce.pos_weight"]), 3) for params in trials}
    powers = {round(min(IMBALANCE**power, 40), 3) for power in (0.25, 0.5, 1.0)}
    assert len(weights & powers) >= 2


def test_advice_does_not_change_fixed_parameters_and_families_without_advice() -> None:
    fixed = FamilySpace(
        family="dice_ce",
        coordinates={
            "mix": Coordinate(kind="fixed", low=0.3, high=0.3),
            "pos_weight": Coordinate(kind="power_of_imbalance", low=0, high=0.5),
        },
    )
    other = FamilySpace(family="lovasz", coordinates={})
    space = load_space("binary", "binary").model_copy(update={"families": (fixed, other)})
    first = list_first_trials(advise(space))
    assert list(first) == ["dice_ce", "lovasz"] and len(first["lovasz"]) == 1
    assert all("dice_ce.mix" not in params for params in first["dice_ce"])
    assert {params["dice_ce.pos_weight_power"] for params in first["dice_ce"]} <= {0.0, 0.25, 0.5}


@pytest.mark.parametrize("share", [1e-6, 1e-4, 1 - 1e-5])
def test_on_data_unlike_the_ledger_the_search_starts_at_the_defaults_only(share: float) -> None:
    space = load_space("binary", "binary")
    first = list_first_trials(advise(space, share))
    assert first == {name: list_first_trials(space)[name] for name in first} and len(first) == len(space.families)


def test_the_present_loss_begins_with_the_parameters_that_it_is_used_with() -> None:
    space = add_present_loss(advise(load_space("binary", "binary")), "dice_ce:mix=0.3;pos_weight=7.5", IMBALANCE)
    first = list_first_trials(space)["dice_ce"][0]
    choice = suggest_choice(optuna.trial.FixedTrial(first), space, IMBALANCE)
    assert choice.params == pytest.approx({"mix": 0.3, "pos_weight": 7.5}) and space.present.family == "dice_ce"


def test_a_present_loss_that_the_space_lacks_is_searched_in_its_full_ranges() -> None:
    space = add_present_loss(load_space("binary", "binary"), "lovasz", IMBALANCE)
    assert "lovasz" not in load_space("binary", "binary").by_name
    assert space.by_name["lovasz"] == load_space("full", "binary").by_name["lovasz"]
    assert [*space.by_name] == sorted(space.by_name, key=[*load_space("full", "binary").by_name].index)


def test_the_ranges_of_the_present_loss_contain_what_is_used_now() -> None:
    space = add_present_loss(load_space("binary", "binary"), "weighted_ce:pos_weight=200", IMBALANCE)
    power = space.by_name["weighted_ce"].coordinates["pos_weight"]
    assert IMBALANCE**power.high == pytest.approx(200) and power.low == 0
    fixed = FamilySpace(family="dice_ce", coordinates={"mix": Coordinate(kind="fixed", low=0.3, high=0.3)})
    space = add_present_loss(space.model_copy(update={"families": (fixed,)}), "dice_ce:mix=0.5", IMBALANCE)
    assert space.by_name["dice_ce"].coordinates["mix"].low == 0.5


@pytest.mark.parametrize(
    ("text", "words"),
    [("dice_ce:mix=2", "`mix` must be a number"), ("dice_ce:gamma=2", "`gamma` is not a hyper-parameter of dice_ce")],
)
def test_a_present_loss_that_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(LossError, match=words):
        add_present_loss(load_space("binary", "binary"), text, IMBALANCE)
