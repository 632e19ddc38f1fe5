"""The live display without a terminal: rendered to text at a fixed width."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from rich.console import Console

from sweeper.cli.progress import LiveDisplay, PlainDisplay, show_progress
from sweeper.core.events import (
    NOT_NEEDED,
    ResultStored,
    TrainingDropped,
    TrainingEvaluated,
    TrainingPaused,
    TrainingStarted,
)
from sweeper.core.records import TrialResult
from sweeper.workflow.phase_progress import PhaseCounts
from tests.support import builders


def render(display: LiveDisplay) -> list[str]:
    console = Console(file=io.StringIO(), width=90)
    console.print(display._render())
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


def list_rows(display: LiveDisplay) -> list[list[str]]:
    return [line.split() for line in render(display)]


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def live(clock: list[float]) -> Iterator[LiveDisplay]:
    display = LiveDisplay(Console(file=io.StringIO(), width=90), clock=lambda: clock[0])
    yield display
    display.close()


def store_results(display: PlainDisplay, *results: TrialResult) -> None:
    for result in results:
        display.notify(TrainingStarted(result.spec))
        display.notify(ResultStored(result))


def test_a_search_shows_each_familys_best_its_counts_and_the_time(live: LiveDisplay, clock: list[float]) -> None:
    live.begin_phase("search", 5)
    live.set_forecast(lambda: "at most 25 min left in all")
    clock[0] = 60.0
    store_results(live, builders.trial("dice", 0.61, 0), builders.trial("dice", 0.65, 1))
    store_results(live, builders.trial("focal", 0.7, 2, state="pruned"))  # a stopped trial's value is no best
    waits = builders.trial("focal", 0.5, 3, state="pruned", evaluations=builders.curve_on_part((0.5,)))
    for _ in range(2):
        live.notify(TrainingPaused(waits.spec, waits))
    running = builders.trial("dice", 0.6, 7)
    live.notify(TrainingStarted(running.spec))
    live.notify(TrainingEvaluated(running.spec, running.evaluations[0]))
    text = "\n".join(render(live))
    assert "4/5" in text and "60 s gone, at most 25 min left in all" in text
    assert ["dice", "0.650", "2"] in list_rows(live) and ["focal", "...", "2", "1"] in list_rows(live)
    assert f"dice #7, step {running.evaluations[0].step}/{running.spec.steps}" in text
    store_results(live, waits)  # it stopped where it waited, and was counted there
    assert "4/5" in "\n".join(render(live)) and ["focal", "...", "2", "2"] in list_rows(live)


def test_a_confirmation_shows_means_over_seeds_and_keeps_its_count_at_each_analysis(live: LiveDisplay) -> None:
    live.begin_phase("confirm", 2)
    first = [builders.confirmation("dice", s).model_copy(update={"value": v}) for s, v in ((1, 0.6), (2, 0.7))]
    store_results(live, *first)
    assert "mean on validation" in "\n".join(render(live)) and ["dice", "0.650", "2"] in list_rows(live)
    live.begin_phase("confirm", 4, PhaseCounts(tuple(first)))
    store_results(live, builders.confirmation("dice", 3).model_copy(update={"value": 0.8}))
    assert "3/4" in "\n".join(render(live)) and ["dice", "0.700", "3"] in list_rows(live)
    for seed in (4, 5):  # one more than was asked for: an idle worker trains ahead
        store_results(live, builders.confirmation("dice", seed).model_copy(update={"value": 0.7}))
    assert "5/5" in "\n".join(render(live))


def test_lines_mark_values_on_a_part_of_the_images_and_have_the_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    done = builders.trial("dice", 0.6, 0, evaluations=builders.curve_on_part((0.5, 0.6, 0.65, 0.7), 0.6))
    stopped = builders.trial("focal", 0.65, 1, state="pruned", evaluations=builders.curve_on_part((0.4, 0.65)))
    display = PlainDisplay(1, clock=lambda: 0.0)
    display.begin_phase("search", 2)
    for evaluation in done.evaluations:
        display.notify(TrainingEvaluated(done.spec, evaluation))
    display.notify(TrainingPaused(stopped.spec, stopped))
    display.set_forecast(lambda: "at most 25 min left in all")
    store_results(display, done, stopped)
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert "dice #0 step 75: 0.650 on 8 of 20 images" in lines
    assert "dice #0 step 100: 0.600" in lines
    assert "[1/2] focal #1: 0.650 on 8 of 20 images at step 50, waits (time left not known yet)" in lines
    assert "[2/2] dice #0: 0.600 (at most 25 min left in all)" in lines
    assert not any(line.startswith("[2/2] focal #1") for line in lines)  # it was printed when it came to its rung


def advance(clock: list[float], update: Callable[[int, int], None], seconds: float = 4.0, total: int = 2000) -> None:
    """Call `update` ten times, `seconds` apart."""
    for part in range(1, 11):
        update(part * total // 10, total)
        clock[0] += seconds


def test_a_long_step_logs_a_line_every_ten_seconds_or_shows_a_bar(capfd, clock) -> None:
    for seconds, lines in ((4.0, ["800", "1,400", "2,000"]), (1.0, [])):
        with show_progress("decoding", Console(file=io.StringIO()), clock=lambda: clock[0]) as update:
            advance(clock, update, seconds)
        out, err = capfd.readouterr()
        assert (out, err.splitlines()) == ("", [f"decoding: {done} of 2,000" for done in lines])
    file = io.StringIO()
    with show_progress("decoding", Console(file=file, force_terminal=True, width=80), clock=lambda: clock[0]) as update:
        advance(clock, update)
    assert "decoding" in file.getvalue() and "2000/2000" in file.getvalue()
    assert capfd.readouterr() == ("", "")


def test_decoding_is_shown_in_lines_unless_quiet_and_live_in_place_of_the_table(capfd, clock, live) -> None:
    for level, lines in ((0, 3), (-1, 0)):
        display = PlainDisplay(level, clock=lambda: clock[0])
        advance(clock, partial(display.progress, "decoding"))
        assert len(capfd.readouterr().err.splitlines()) == lines
    live.progress("decoding", 1200, 2000)
    assert "decoding 1,200 of 2,000 images" in "\n".join(render(live))
    live.progress("decoding", 2000, 2000)
    assert "preparing" in "\n".join(render(live))


def test_dropping_an_unneeded_training_is_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    for reason, lines in ((NOT_NEEDED, 0), ("the sweep was stopped", 1)):
        PlainDisplay(0).notify(TrainingDropped(builders.spec("dice"), reason, died=False))
        assert capsys.readouterr().err.count("warning") == lines
