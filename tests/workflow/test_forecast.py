"""How long a sweep takes: measured, announced early, and less with everything that is trained."""

from __future__ import annotations

from math import inf

import pytest

from sweeper.core.events import Observers, ResultStored, TrainingEvaluated, TrainingStarted
from sweeper.core.text import format_duration, format_duration_range
from sweeper.study.timekeeper import REPORT_SECONDS, Timekeeper
from sweeper.workflow.forecast import Forecast, PlannedTrainings
from sweeper.workflow.phase_progress import NOT_KNOWN
from tests.support import builders

TO_COME = {
    "search": PlannedTrainings(most=4, first=4, steps=100, share=0.5),
    "replicate": PlannedTrainings(most=4, first=4, steps=100),
    "confirm": PlannedTrainings(most=8, first=6, steps=200),
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0447, "45 ms"), (3.21, "3.2 s"), (75, "75 s"), (840, "14 min"), (9000, "2.5 h"), (300_000, "3.5 days")],
)
def test_times_have_two_digits_and_a_unit_that_fits(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("ends", "text"),
    [((540, 1500), "9 to 25 min"), ((40, 40.2), "about 40 s"), ((3600, 9000), "1 to 2.5 h"), ((9, 3), "about 3 s")],
)
def test_a_forecast_has_one_unit(ends: tuple[float, float], text: str) -> None:
    assert format_duration_range(*ends) == text


def make_forecast(
    trainings: dict[str, PlannedTrainings], seconds: float = inf
) -> tuple[Observers, Forecast, list[str]]:
    lines: list[str] = []
    time = Timekeeper(seconds, lambda: 0.0)
    forecast = Forecast(trainings, time, lambda: 2, lines.append)
    return Observers((time, forecast)), forecast, lines


def test_the_time_left_follows_the_trainings_and_their_pace() -> None:
    observers, forecast, lines = make_forecast(TO_COME)
    assert forecast.estimate_seconds_left() is None and forecast.format_times() == NOT_KNOWN
    one = builders.trial("dice", 0.6, 0)  # 0.1 s a step
    observers.notify(TrainingEvaluated(one.spec, one.evaluations[0]))
    search = 400 * 0.5
    expected = [(search + steps) * 0.1 / 2 + REPORT_SECONDS for steps in (400 + 1200, 400 + 1600)]
    assert forecast.estimate_seconds_left() == pytest.approx(tuple(expected))
    assert lines == [
        "time: first tested answer within 1.8 min, last within 2.1 min, as a step takes 100 ms, "
        "evaluations included, and 2 trainings run at a time"
    ]
    observers.notify(ResultStored(one.model_copy(update={"seconds": 20.0})))  # 0.2 s a step
    expected = [(0.75 * search + steps) * 0.2 / 2 + REPORT_SECONDS for steps in (400 + 1200, 400 + 1600)]
    assert forecast.estimate_seconds_left() == pytest.approx(tuple(expected))
    confirmed = builders.confirmation("dice", 1, seconds=0.0)
    observers.notify(ResultStored(confirmed))  # the phases before are over
    left = forecast.estimate_seconds_left()
    assert left is not None and left[0] == pytest.approx(5 * 200 * 0.2 / 2 + REPORT_SECONDS)
    assert len(lines) == 1


@pytest.mark.parametrize(("usual", "is_said"), [(None, False), (0.06, False), (0.04, True)])
def test_a_step_that_takes_several_times_its_usual_time_is_explained(usual: float | None, is_said: bool) -> None:
    lines: list[str] = []
    time = Timekeeper(inf, lambda: 0.0)
    observers = Observers((time, Forecast(TO_COME, time, lambda: 2, lines.append, usual=usual)))
    one = builders.trial("dice", 0.6, 0)  # 0.1 s a step
    observers.notify(TrainingEvaluated(one.spec, one.evaluations[0]))
    assert [("took 40 ms when this machine was measured" in line) for line in lines] == [is_said]


def test_nothing_is_promised_while_the_ladder_tries_more_steps_than_planned() -> None:
    observers, forecast, _ = make_forecast(TO_COME)
    spec = builders.trial("dice", 0.6, 0).spec.model_copy(update={"purpose": "probe"})
    observers.notify(ResultStored(builders.trial("dice", 0.6, 0).model_copy(update={"spec": spec})))
    assert forecast.format_times().startswith("first tested answer within")
    observers.notify(TrainingStarted(spec.model_copy(update={"steps": 2 * TO_COME["search"].steps})))
    assert forecast.format_times() == NOT_KNOWN
    forecast.use_trainings({**TO_COME, "search": PlannedTrainings(most=4, first=4, steps=200)})
    assert forecast.format_times().startswith("first tested answer within"), "the ladder has ended"


def test_a_resume_after_the_confirmation_forecasts_only_the_end() -> None:
    observers, _, lines = make_forecast({"final": PlannedTrainings(most=2, first=0, steps=400)})
    observers.notify(ResultStored(builders.trial("dice", 0.6, 0)))
    assert lines[0].startswith("time: at most 55 s left in all, as a step takes 100 ms")


def test_a_time_limit_bounds_the_forecast() -> None:
    observers, forecast, _ = make_forecast(TO_COME, seconds=50.0)
    observers.notify(ResultStored(builders.trial("dice", 0.6, 0)))
    assert forecast.estimate_seconds_left() == (inf, 50)
    assert forecast.format_times() == "at most 50 s left in all"
