"""Where steps are dear, trials become fewer, then losses, down to cross-entropy against two; what was given stays."""

from __future__ import annotations

import pytest

from sweeper.core.records import Breadth, BudgetProbe, FamilyStart
from sweeper.workflow.breadth import (
    LadderPace,
    compute_least_seconds,
    find_broadest,
    measure_pace,
    order_losses,
)
from sweeper.workflow.options import StudyRequest, apply_budget, resolve_request
from tests.support import builders
from tests.support.faking import SPACE

ANY = resolve_request({"longer": "none"})
STEPS = 400
PACE = LadderPace(seconds=0.1, workers=2, spent=100.0)
ADVISED = SPACE.model_copy(
    update={"starts": (FamilyStart(family="tversky", params={}), FamilyStart(family="focal", params={}))}
)


def found(minutes: float, wish: StudyRequest = ANY, own: tuple[str, ...] = ()) -> Breadth | None:
    return find_broadest(order_losses(ADVISED, own), wish, PACE, steps=STEPS, limit=60 * minutes)


def test_where_all_fits_nothing_is_less() -> None:
    whole = found(1000)
    assert whole is not None
    assert (whole.trials, whole.confirm_steps, whole.seeds) == (50, 2 * STEPS, (2, 8))
    assert set(whole.families) == {family.family for family in SPACE.families}


def test_trials_become_fewer_then_losses_and_never_less_than_cross_entropy_against_two() -> None:
    many = [own for quarters in range(240, 4, -1) if (own := found(quarters / 4)) is not None]
    trials, losses = [own.trials for own in many], [len(own.families) for own in many]
    of_these = [i for i, own in enumerate(many) if own.confirm_steps == 2 * STEPS]
    assert [trials[i] for i in of_these] == sorted((trials[i] for i in of_these), reverse=True)
    assert all(losses[i] == len(SPACE.families) or trials[i] == losses[i] for i in range(len(many)))
    assert min(losses) == 3 and max(losses) == 7
    least = many[-1]
    assert least.families == ("cross_entropy", "dice_ce", "tversky")  # the advice's first is the third
    assert (least.trials, least.confirm_steps, least.seeds) == (3, STEPS, (2, 2))


def test_a_loss_of_the_users_is_among_the_least() -> None:
    needed = compute_least_seconds(order_losses(ADVISED, ["focal"]), ANY, PACE, steps=STEPS)
    least = found(needed / 60, own=("focal",))
    assert least is not None and least.families == ("cross_entropy", "dice_ce", "focal")
    assert found(needed / 60 - 0.01, own=("focal",)) is None


def test_three_seeds_at_once_the_steps_come_before_two_at_twice() -> None:
    """Two seeds show nothing."""
    kinds = {(own.confirm_steps, own.seeds[1] >= 3) for minutes in range(1, 60) if (own := found(minutes)) is not None}
    assert kinds == {(2 * STEPS, True), (STEPS, True), (STEPS, False)}


@pytest.mark.parametrize(
    "wish",
    [
        ANY._replace(trials=20, settles=False),
        ANY._replace(confirm_steps=900),
        ANY._replace(seeds=(4, 6)),
        ANY._replace(trials=9, settles=False, confirm_steps=100, seeds=(5, 5)),
    ],
)
def test_what_was_given_stays(wish: StudyRequest) -> None:
    for minutes in (*range(1, 30), 100, 1000):
        own = found(minutes, wish)
        if own is None:
            continue
        if not wish.settles:
            assert (own.trials, len(own.families)) == (wish.trials, len(SPACE.families))
        assert wish.confirm_steps in (None, own.confirm_steps)
        assert wish.seeds in (None, own.seeds)
    assert found(1000, wish) is not None and found(1, wish) is None


def test_a_longer_look_comes_before_breadth_where_a_gain_can_be_shown() -> None:
    """Of the loss and cross-entropy at 4 times 400 or 800 steps, 160 or 320 s at a time."""
    many = [own for minutes in range(1, 1000) if (own := found(minutes, ANY._replace(longer=4))) is not None]
    least, first, most = many[0], next(own for own in many if own.has_longer), many[-1]
    assert not least.has_longer and all(own.has_longer for own in many[many.index(first) :])
    assert len(first.families) < len(SPACE.families) and first.seeds == (2, 3)
    assert most.seeds == (2, 8) and most.trials == 50
    two = found(1000, ANY._replace(longer=4, seeds=(2, 2)))  # as few as the user wants
    assert two is not None and two.has_longer and two.seeds == (2, 2)
    given = resolve_request({"longer": "4"}), resolve_request({})
    after = [apply_budget(asked, BudgetProbe(first=100, steps=400, breadth=least)).longer for asked in given]
    assert after == [4, None]
    assert [apply_budget(asked, BudgetProbe(first=100, steps=400, breadth=most)).longer for asked in given] == [4, 4]


def test_the_pace_is_that_of_the_longest_trainings_and_both_losses_run_at_a_time() -> None:
    runs = [
        builders.trial(spec=builders.spec(purpose="probe", steps=steps), seconds=seconds)
        for steps, seconds in ((100, 50.0), (100, 50.0), (200, 20.0), (200, 40.0))
    ]
    one, two, many = (measure_pace(runs, workers) for workers in (1, 2, 8))
    assert one.seconds == two.seconds == pytest.approx(0.15)
    assert (one.spent, two.spent, many.spent) == (160.0, 80.0, 80.0)
    assert one.after_rung(400).spent == pytest.approx(160 + 2 * 60)
    assert two.after_rung(400).spent == pytest.approx(80 + 60)
