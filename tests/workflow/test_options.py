"""What is asked of a study: what is given now, else what was given before."""

from __future__ import annotations

from pathlib import Path

from sweeper.workflow.options import as_before, asked_of, given_options
from sweeper.workflow.settings import ROPE, TRIALS, Settings
from tests.support.sweeping import settings_in


def test_what_was_given_before_stands_until_it_is_given_again() -> None:
    before = given_options(Settings(trials=20, confirm_seeds="3..5", timeout="90m"))
    now = given_options(Settings(resume=True, trials=30))
    asked = asked_of({**before, **now})
    assert (asked.trials, asked.analyses[-1].seeds, asked.timeout, asked.rope) == (30, 5, 5400.0, ROPE)
    assert asked_of({}).trials == TRIALS
    assert asked_of({**before, **now}, held=44).trials == 44  # what is there is not asked for in vain


STORED = {"device": "cpu", "executor": "processes", "workers": 2, "threads": 1}


def test_a_resume_takes_workers_and_threads_of_before() -> None:
    bare = as_before(Settings(study="s", resume=True), STORED)
    assert (bare.device, bare.workers, bare.threads, bare.executor) == ("cpu", 2, 1, "processes")
    told = as_before(Settings(study="s", resume=True, workers=4), STORED)
    assert (told.workers, told.threads) == (4, 1)
    anew = as_before(Settings(study="s", resume=True, workers=None), STORED)
    assert (anew.workers, anew.threads) == (None, 1)
    elsewhere = as_before(Settings(study="s", resume=True, device="cuda"), STORED)
    assert (elsewhere.device, elsewhere.workers, elsewhere.threads) == ("cuda", None, None)
    ray = {**STORED, "executor": "ray", "ray_address": "head:6379"}
    assert as_before(Settings(study="s", resume=True), ray).ray_address == "head:6379"
    assert as_before(Settings(study="s", resume=True, executor="inline"), ray).ray_address is None
    assert as_before(Settings(study="s", resume=True), {}) == Settings(study="s", resume=True)


def test_other_seeds_of_a_study_that_ended_at_probable_make_it_go_on(tmp_path: Path) -> None:
    asked = settings_in(tmp_path, until="probable", confirm_seeds="2..8")
    assert given_options(asked)["until"] == "probable"
    more = settings_in(tmp_path, resume=True, study="study", data=None, confirm_seeds="3..16")
    assert asked_of({**given_options(asked), **given_options(more)}).until == "settled"
    again = settings_in(tmp_path, resume=True, study="study", data=None, confirm_seeds=None)
    assert asked_of({**given_options(asked), **given_options(again)}).until == "probable"
