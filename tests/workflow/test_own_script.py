"""`sweeper run --command`: what is asked of it, and the space and recipe of its study."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.core.errors import RequestError
from sweeper.core.recipe import Recipe
from sweeper.losses.families import FAMILIES
from sweeper.space import load_space
from sweeper.workflow.options import list_stored_options, resolve_request
from sweeper.workflow.own_script import adapt_space, check_script_options, make_script_recipe
from sweeper.workflow.recipe_choice import describe_recipe
from sweeper.workflow.settings import Settings

COMMAND = "python train.py"


def settings_of(**options: Any) -> Settings:
    return Settings(**{"command": COMMAND, "data": "images", **options})


def test_options_of_sweepers_own_training_are_refused_in_one_list() -> None:
    with pytest.raises(RequestError) as refused:
        check_script_options(settings_of(data=None, encoder="resnet18", size=64, metric="boundary_iou", folds=3))
    first, second, third = refused.value.problems
    assert (
        "--encoder, --size and --folds are for sweeper's own training" in first and "sweeper confirm --folds" in first
    )
    assert "--metric boundary_iou needs label maps" in second and "give its folder" in third
    check_script_options(settings_of(trials=5, steps=10, confirm_steps=50, metric="dice", workers=2, timeout="1h"))


def test_a_study_by_a_script_has_given_steps_and_no_longer_look_unless_it_is_asked_for() -> None:
    request = resolve_request(list_stored_options(settings_of()))
    assert (request.budget, request.longer) == ("given", None)
    assert resolve_request(list_stored_options(settings_of(longer="4"))).longer == 4
    plain = resolve_request({})
    assert (plain.budget, plain.longer) == ("learns", 4)


def test_steps_are_per_cent_of_the_scripts_length() -> None:
    recipe = make_script_recipe(settings_of(), COMMAND)
    assert (recipe.steps, recipe.confirm_steps, recipe.rungs(25)) == (25, 100, (25,))
    assert recipe.format_steps(25) == "25 % of the script's length" and Recipe().format_steps(2500) == "2,500 steps"
    assert describe_recipe(recipe) == "trainings by python train.py, 25 % of its length a trial, 100 % to confirm"
    given = make_script_recipe(settings_of(steps=10, confirm_steps=50, metric="dice", threshold="0.5"), COMMAND)
    assert (given.steps, given.confirm_steps, given.metric, given.threshold) == (10, 50, "dice", "0.5")


def test_the_space_has_factors_of_the_scripts_rate_and_losses_of_logits_and_labels() -> None:
    lines: list[str] = []
    space = adapt_space(load_space("full"), lines.append)
    assert (space.lr.kind, space.lr.low, space.lr.high) == ("log", 0.1, 10.0)
    left = [f.family for f in load_space("full").families if FAMILIES[f.family].needs_map is not None]
    assert left and not {*left} & {f.family for f in space.families}
    assert all(name in lines[0] for name in left)
