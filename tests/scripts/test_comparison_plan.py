"""Parsing of losses, their parameters, and the forecast cost of a comparison."""

from __future__ import annotations

import pytest

from sweeper.core.errors import UsageError
from sweeper.scripts.comparison_plan import fill_losses, forecast_confirmation, parse_losses
from tests.scripts.test_confirm import make_plan, make_script


def test_losses_are_parsed() -> None:
    losses = parse_losses("dice_ce:mix=0.2;pos_weight=3, tversky:fn_weight=0.7,cross_entropy")
    assert [(loss.name, loss.family) for loss in losses] == [
        ("dice_ce:mix=0.2;pos_weight=3", "dice_ce"), ("tversky:fn_weight=0.7", "tversky"),
        ("cross_entropy", "cross_entropy"),
    ]  # fmt: skip
    assert losses[0].params == {"mix": 0.2, "pos_weight": 3.0}
    assert [loss.name for loss in parse_losses("dice")] == ["cross_entropy", "dice"]
    assert [loss.name for loss in parse_losses("dice", "dice_ce:mix=0.5")] == ["dice_ce:mix=0.5", "dice"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "got none"), ("cross_entropy", "got none"), ("dice,dice", "dice is there twice"),
        ("ce", "'ce' is no family, did you mean `cross_entropy`?"),
        ("dicee", "'dicee' is no family, did you mean `dice`?"), ("boundary", "logits and labels only, got boundary"),
        ("tversky:fn_weight", "must be FAMILY:NAME=NUMBER, got 'fn_weight'"),
        ("dice_ce:mix=2", "`mix` must be"), ("focal:gama=2", "`gama` is not a hyper-parameter"),
    ],
)  # fmt: skip
def test_losses_that_cannot_be_compared_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_losses(text)


def test_missing_parameters_get_published_values_and_unknown_ones_are_refused() -> None:
    plan = make_plan(make_script(), "weighted_ce,tversky:fn_weight=0.6")
    filled = {loss.family: loss.params for loss in plan.losses}
    assert filled["tversky"] == {"fn_weight": 0.6} and filled["weighted_ce"]["pos_weight"] > 1
    with pytest.raises(UsageError, match="`pos_weight` is not a hyper-parameter"):
        make_plan(make_script(classes=4), "dice_ce:pos_weight=3")  # right for two classes
    with pytest.raises(UsageError, match="boundary_ce looks at neighbouring pixels of images, and the script has vol"):
        fill_losses(parse_losses("dice,boundary_ce"), plan.task.model_copy(update={"volumes": True}))


def test_the_forecast_has_cost_and_precision() -> None:
    plan = make_plan(make_script(), "dice,tversky", rates=(1 / 3, 1.0, 3.0))
    losses, cost, width = forecast_confirmation(plan, 2)
    assert "3 losses: cross_entropy, dice and tversky; each loss tries 0.333, 1 and 3 times your rate on 0.25" in losses
    assert cost == "Cost: 12 to 18 whole trainings, 5.6 to 8.6 min at 2 trainings a time"
    assert "Cost: 0 to 5 whole" in forecast_confirmation(plan, 2, {"tune": 9, "confirm": 10})[1]
    assert width.startswith("A difference will be known to ± 0.049 after 3 seeds and ± 0.0") and "paired" in width
    *_, width = forecast_confirmation(make_plan(make_script(kind="number", pairing="none"), "dice"), 1)
    assert "± 2.8 after 3 seeds" in width and "in standard deviations of the scores" in width and "unpaired" in width
