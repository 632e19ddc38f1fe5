"""What the live display shows, without a terminal: rendered to text at a fixed width."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import pytest
from rich.console import Console

from sweeper.cli.bar import Bar
from sweeper.cli.progress import LiveDisplay, PlainDisplay, spec_text
from sweeper.core.events import NOT_NEEDED, Dropped, Evaluated, Paused, Started, Stored
from sweeper.core.records import TrialResult
from tests.support import builders


def shown(display: LiveDisplay, width: int = 90) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(display._render())
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def live(clock: list[float]) -> LiveDisplay:
    return LiveDisplay(Console(file=io.StringIO(), width=90), clock=lambda: clock[0])


def keep(display: LiveDisplay, *results: TrialResult) -> None:
    for result in results:
        display.notify(Started(result.spec))
        display.notify(Stored(result))


def test_a_search_shows_each_familys_best_counts_and_the_time_gone() -> None:
    clock = [0.0]
    display = live(clock)
    try:
        display.phase("search", 0, 4)
        clock[0] = 60.0
        keep(display, builders.trial("dice", 0.61, 0), builders.trial("dice", 0.65, 1))
        keep(display, builders.trial("focal", 0.3, 2, state="pruned"))
        text = shown(display)
    finally:
        display.close()
    assert "3/4" in text and "1:00 gone" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["dice", "0.650", "2"] in rows
    assert any(row[:1] == ["focal"] and "1" in row for row in rows)
    assert "0.300" not in text  # a stopped trial's value is no best


def test_a_trial_that_waits_counts_for_its_family_and_is_marked() -> None:
    clock = [0.0]
    display = live(clock)
    try:
        display.phase("search", 0, 4)
        display.expect(lambda: "at most 25 min left in all")
        clock[0] = 30.0
        keep(display, builders.trial("dice", 0.61, 0))
        for family, number, value in (("dice", 1, 0.64), ("focal", 2, 0.5)):
            waits = builders.trial(family, value, number, state="pruned", evaluations=builders.curve_on_part((value,)))
            display.notify(Started(waits.spec))
            display.notify(Paused(waits.spec, waits))
        text = shown(display)
        keep(display, builders.trial("dice", 0.63, 1))
        after = shown(display)
    finally:
        display.close()
    rows = [line.split() for line in text.splitlines()]
    assert ["dice", "0.610", "0.640*", "2"] in rows and ["focal", "0.500*", "1"] in rows
    assert "* of a trial that waits" in text and "0:30 gone, at most 25 min left in all" in text
    assert ["dice", "0.630", "2"] in [line.split() for line in after.splitlines()]


def test_lines_say_how_long_all_of_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay(0, clock=lambda: 0.0)
    display.expect(lambda: "at most 25 min left in all")
    display.phase("search", 0, 2)
    keep(display, builders.trial("dice", 0.61, 0))  # type: ignore[arg-type]
    assert "[1/2] dice #0: 0.610 (at most 25 min left in all)" in capsys.readouterr().err


def test_values_from_a_part_of_the_images_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    done = builders.trial("dice", 0.6, 0, evaluations=builders.curve_on_part((0.5, 0.6, 0.65, 0.7), 0.6))
    stopped = builders.trial("focal", 0.65, 1, state="pruned", evaluations=builders.curve_on_part((0.4, 0.65)))
    display = PlainDisplay(1, clock=lambda: 0.0)
    display.phase("search", 0, 2)
    for evaluation in done.evaluations:
        display.notify(Evaluated(done.spec, evaluation))
    display.notify(Paused(stopped.spec, stopped))
    keep(display, done, stopped)  # type: ignore[arg-type]
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert "dice #0 step 75: 0.650 on 8 of 20 images" in lines
    assert "dice #0 step 100: 0.600 (0.700 on the 8 images of the steps before)" in lines
    assert "[1/2] focal #1: 0.650 on 8 of 20 images at step 50, waits" in lines
    assert "[2/2] dice #0: 0.600" in lines
    assert "[2/2] focal #1: 0.650 on 8 of 20 images, stopped at step 50" in lines


def test_a_confirmation_shows_means_over_seeds() -> None:
    display = live([0.0])
    try:
        display.phase("confirm", 0, 2)
        results = [
            builders.confirmation("dice", seed).model_copy(update={"value": v}) for seed, v in ((1, 0.6), (2, 0.7))
        ]
        keep(display, *results)
        text = shown(display)
    finally:
        display.close()
    assert "mean on validation" in text and "stopped" not in text
    assert ["dice", "0.650", "2"] in [line.split() for line in text.splitlines()]


def test_a_second_interim_analysis_counts_on() -> None:
    display = live([0.0])
    try:
        display.phase("confirm", 0, 2)
        keep(
            display,
            *(builders.confirmation("dice", s).model_copy(update={"value": v}) for s, v in ((1, 0.6), (2, 0.7))),
        )
        display.phase("confirm", 2, 4)
        keep(display, builders.confirmation("dice", 3).model_copy(update={"value": 0.8}))
        text = shown(display)
    finally:
        display.close()
    assert "3/4" in text
    assert ["dice", "0.700", "3"] in [line.split() for line in text.splitlines()]


def test_rechecks_and_probes_are_told_apart_by_what_differs() -> None:
    spec = builders.spec("dice", 3)
    assert spec_text(spec.model_copy(update={"purpose": "recheck", "seed": 1999})) == "dice lr 0.003 seed 1999"
    assert spec_text(spec.model_copy(update={"purpose": "probe", "steps": 400})) == "dice, 400 steps"
    display = live([0.0])
    try:
        display.phase("recheck", 0, 2)
        keep(display, builders.trial("dice", 0.6, 0), builders.trial("dice", 0.4, 1))
        text = shown(display)
    finally:
        display.close()
    assert "trainings" in text and "stopped" not in text
    assert ["dice", "0.600", "2"] in [line.split() for line in text.splitlines()]


def test_a_running_training_shows_where_it_is() -> None:
    display = live([0.0])
    try:
        display.phase("search", 0, 2)
        result = builders.trial("dice", 0.6, 7)
        display.notify(Started(result.spec))
        display.notify(Evaluated(result.spec, result.evaluations[0]))
        text = shown(display)
    finally:
        display.close()
    assert f"dice #7, step {result.evaluations[0].step}/{result.spec.steps}" in text


def walk(clock: list[float], update: Callable[[int, int], None], seconds: float = 4.0, total: int = 2000) -> None:
    """Ten calls of a step that takes `seconds` for each."""
    for part in range(1, 11):
        update(part * total // 10, total)
        clock[0] += seconds


def test_a_long_step_leaves_a_line_every_ten_seconds_where_there_is_no_terminal(capfd) -> None:
    clock = [0.0]
    with Bar("decoding", Console(file=io.StringIO()), clock=lambda: clock[0]) as bar:
        walk(clock, bar.update)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [f"decoding: {done} of 2,000" for done in ("800", "1,400", "2,000")]


def test_a_short_step_leaves_none(capfd) -> None:
    clock = [0.0]
    with Bar("decoding", Console(file=io.StringIO()), clock=lambda: clock[0]) as bar:
        walk(clock, bar.update, seconds=1.0)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_that_counts(capfd) -> None:
    file, clock = io.StringIO(), [0.0]
    with Bar("decoding", Console(file=file, force_terminal=True, width=80), clock=lambda: clock[0]) as bar:
        walk(clock, bar.update)
    assert "decoding" in file.getvalue() and "2000/2000" in file.getvalue()
    assert capfd.readouterr() == ("", "")


def test_a_sweep_shows_decoding_in_lines_unless_quiet_and_live_in_place_of_the_table(capfd) -> None:
    clock = [0.0]
    for level, lines in ((0, 3), (-1, 0)):
        display = PlainDisplay(level, clock=lambda: clock[0])
        walk(clock, partial(display.progress, "decoding"))
        assert len(capfd.readouterr().err.splitlines()) == lines
    screen = live([0.0])
    try:
        screen.progress("decoding", 1200, 2000)
        text = shown(screen)
        screen.progress("decoding", 2000, 2000)
        after = shown(screen)
    finally:
        screen.close()
    assert "decoding 1,200 of 2,000 images" in text and "preparing" in after


def test_what_is_not_needed_any_more_is_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    for reason, lines in ((NOT_NEEDED, 0), ("the sweep was stopped", 1)):
        PlainDisplay(0).notify(Dropped(builders.spec("dice"), reason, died=False))
        assert capsys.readouterr().err.count("warning") == lines
    PlainDisplay(1).notify(Dropped(builders.spec("dice"), NOT_NEEDED, died=False))
    assert NOT_NEEDED in capsys.readouterr().err
