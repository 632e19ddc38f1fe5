"""Where steps are costly, first trials are reduced, then losses, to the ladder's pair; user options never are."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from sweeper.core.recipe import FinalNetwork, Recipe
from sweeper.core.records import Breadth, BudgetProbe
from sweeper.workflow.breadth import LadderPace, estimate_later_seconds, find_broadest, measure_pace
from sweeper.workflow.options import StudyRequest, apply_budget, resolve_request
from sweeper.workflow.settings import FinalOptions
from tests.support import builders
from tests.support.faking import SPACE

AUTO = FinalOptions()
ANY = resolve_request({"final": "none"})
STEPS = 400
PACE = LadderPace(seconds=0.1, workers=2, spent=100.0)
LOSSES = len(SPACE.families)


def find_breadth(minutes: float, wish: StudyRequest = ANY) -> Breadth:
    return find_broadest(SPACE, (), wish, PACE, recipe=Recipe(), steps=STEPS, limit=60 * minutes)[0]


def list_breadths(minutes: Iterable[float], wish: StudyRequest = ANY) -> list[Breadth]:
    """Return what is compared within each of these limits, where something fits."""
    found = [
        (limit, *find_broadest(SPACE, (), wish, PACE, recipe=Recipe(), steps=STEPS, limit=60 * limit))
        for limit in minutes
    ]
    return [breadth for limit, breadth, seconds in found if seconds <= 60 * limit]


def test_where_everything_fits_nothing_is_reduced() -> None:
    breadth = find_breadth(1000)
    assert (breadth.trials, breadth.confirm_steps, breadth.seeds) == (50, 2 * STEPS, (3, 8))


def test_trials_are_reduced_before_steps_down_to_those_of_the_pair() -> None:
    breadths = list_breadths(seconds / 60 for seconds in range(1200, 60, -3))
    trials = [breadth.trials for breadth in breadths if breadth.confirm_steps == 2 * STEPS]
    assert trials == sorted(trials, reverse=True) and {3, LOSSES} < {*trials}
    assert all(breadth.seeds[0] == 3 for breadth in breadths), "two cannot establish a gain"
    least = breadths[-1]
    assert (least.trials, least.confirm_steps, least.seeds) == (2, STEPS, (3, 4))


def test_a_loss_of_the_user_always_has_a_trial() -> None:
    least, seconds = find_broadest(SPACE, ["focal", "dice"], ANY, PACE, recipe=Recipe(), steps=STEPS, limit=0.0)
    assert (least.trials, least.seeds) == (4, (3, 4))
    again = find_broadest(SPACE, ["focal", "dice"], ANY, PACE, recipe=Recipe(), steps=STEPS, limit=seconds)
    assert again == (least, seconds)


@pytest.mark.parametrize(
    "wish",
    [
        ANY._replace(trials=20, settles=False),
        ANY._replace(confirm_steps=900),
        ANY._replace(seeds=(4, 6)),
        ANY._replace(trials=9, settles=False, confirm_steps=100, seeds=(5, 5)),
    ],
)
def test_options_of_the_user_are_never_reduced(wish: StudyRequest) -> None:
    for breadth in list_breadths((*range(1, 30), 100, 1000), wish):
        if not wish.settles:
            assert breadth.trials == wish.trials
        assert wish.confirm_steps in (None, breadth.confirm_steps)
        assert wish.seeds in (None, breadth.seeds)
    assert list_breadths([1000], wish) and not list_breadths([1], wish)


def test_a_final_training_is_preferred_to_breadth_where_a_gain_can_be_established() -> None:
    """Of the loss and cross-entropy at 4 times 400 or 800 steps, 160 or 320 s at a time."""
    breadths = list_breadths(range(1, 1000), ANY._replace(final=AUTO))
    least, first, most = breadths[0], next(breadth for breadth in breadths if breadth.has_final), breadths[-1]
    assert not least.has_final and all(breadth.has_final for breadth in breadths[breadths.index(first) :])
    assert first.trials < LOSSES and first.seeds == (3, 4)
    early = next(breadth for breadth in breadths if breadth.has_first)  # another 8 trainings, before the search
    assert all(breadth.has_first for breadth in breadths[breadths.index(early) :])
    assert early.trials == least.trials == 2 and not early.has_final, "it is the last thing that short time drops"
    assert most.seeds == (3, 8) and most.trials == 50
    two = find_breadth(1000, ANY._replace(final=AUTO, seeds=(2, 2)))  # as few as the user wants
    assert two.has_final and two.seeds == (2, 2)
    for options, breadth, final in (
        ({"final": "auto"}, least, AUTO),
        ({}, least, None),
        ({"final": "auto"}, most, AUTO),
        ({}, most, AUTO),
    ):
        probe = BudgetProbe(first=100, steps=400, breadth=breadth)
        assert apply_budget(resolve_request(options), probe).final == final


def test_a_final_training_that_the_plan_leaves_out_of_its_time_is_never_dropped() -> None:
    """On a CPU with pretrained weights the plan without a limit is for the answer before it."""
    recipe = Recipe(final=FinalNetwork(encoder="resnet34", encoder_weights="imagenet", size=96))
    wish, limited = ANY._replace(final=AUTO), ANY._replace(final=AUTO, time=600.0)
    plans = {
        (limit, one): find_broadest(SPACE, (), one, PACE, recipe=recipe, steps=STEPS, limit=limit)
        for limit in (0.0, 1e6)
        for one in (wish, limited)
    }
    assert [breadth.has_final for breadth, _ in plans.values()] == [True, False, True, True]
    assert plans[1e6, limited][1] > plans[1e6, wish][1]


def test_the_pace_is_that_of_the_longest_trainings_on_at_most_two_workers() -> None:
    runs = [
        builders.trial(spec=builders.spec(purpose="probe", steps=steps), seconds=seconds)
        for steps, seconds in ((100, 50.0), (100, 50.0), (200, 20.0), (200, 40.0))
    ]
    one, two, eight = (measure_pace(runs, workers) for workers in (1, 2, 8))
    assert one.seconds == two.seconds == pytest.approx(0.15)
    assert (one.spent, two.spent, eight.spent) == (160.0, 80.0, 80.0)
    assert one.add_rung(400).spent == pytest.approx(160 + 2 * 60)
    assert two.add_rung(400).spent == pytest.approx(80 + 60)


def test_the_ladder_leaves_time_for_a_final_training_in_another_network() -> None:
    whole = Recipe(final=FinalNetwork(encoder="resnet34", encoder_weights="imagenet", size=96))
    wish = resolve_request({"final": "steps=500"})
    seconds = estimate_later_seconds(whole, wish, PACE)
    assert seconds == pytest.approx(4 * 500 * whole.final_cost * 0.1) and seconds > 4 * 500 * 0.1
    assert estimate_later_seconds(whole, wish, PACE._replace(workers=1)) == pytest.approx(2 * seconds)
    timed = resolve_request({"final": "steps=500", "time": "10m"})  # each comparison is planned with it
    assert not any(estimate_later_seconds(*one, PACE) for one in ((Recipe(), wish), (whole, timed), (whole, ANY)))
