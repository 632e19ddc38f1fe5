"""The options of a study: those of this call, else those of earlier calls."""

from __future__ import annotations

from sweeper.workflow.options import list_stored_options, resolve_request, restore_machine_options
from sweeper.workflow.settings import DEFAULT_MARGIN, TRIALS, Settings


def test_an_option_is_kept_until_it_is_set_again() -> None:
    before = list_stored_options(Settings(trials=20, seeds="3..5", time="90m"))
    now = list_stored_options(Settings(resume=True, trials=30))
    request = resolve_request({**before, **now})
    assert (request.trials, request.analyses[-1].seeds, request.time, request.margin) == (30, 5, 5400.0, DEFAULT_MARGIN)
    assert resolve_request({}).trials == TRIALS
    assert resolve_request({**before, **now}, held=44).trials == 44  # what is there is not asked for in vain


STORED = {"device": "cpu", "executor": "processes", "workers": 2, "threads": 1}  # threads: of older studies


def test_a_resume_keeps_workers_and_executor() -> None:
    bare = restore_machine_options(Settings(study="s", resume=True), STORED)
    assert (bare.device, bare.workers, bare.executor) == ("cpu", 2, "processes")
    assert restore_machine_options(Settings(study="s", resume=True, workers=4), STORED).workers == 4
    assert restore_machine_options(Settings(study="s", resume=True, workers=None), STORED).workers is None
    elsewhere = restore_machine_options(Settings(study="s", resume=True, device="cuda"), STORED)
    assert (elsewhere.device, elsewhere.workers) == ("cuda", None)
    assert restore_machine_options(Settings(study="s", resume=True), {}) == Settings(study="s", resume=True)
