"""The options of a study: those of this call, else those of earlier calls; and what no sequence of them changes."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sweeper.core.records import TrialResult, TrialSpec
from sweeper.evidence.interim_analyses import FIRST_LOOK
from sweeper.storage.results import list_extra_results, read_analyses
from sweeper.workflow.conclude import draw_conclusion
from sweeper.workflow.options import list_stored_options, resolve_request, restore_machine_options
from sweeper.workflow.settings import DEFAULT_MARGIN, TRIALS, Settings
from tests.support import faking
from tests.support.faking import CrashError, FakeExecutor, fake_result, new_plan, new_study, record_sweep, train
from tests.support.shown import Shown


def test_an_option_is_kept_until_it_is_set_again() -> None:
    before = list_stored_options(Settings(trials=20, seeds="3..5", time="90m"))
    now = list_stored_options(Settings(resume=True, trials=30))
    request = resolve_request({**before, **now})
    assert (request.trials, request.analyses[-1].seeds, request.time, request.margin) == (30, 5, 5400.0, DEFAULT_MARGIN)
    assert resolve_request({}).trials == TRIALS
    assert resolve_request({**before, **now}, held=44).trials == 44  # what is there is not asked for in vain


STORED = {"device": "cpu", "executor": "processes", "workers": 2}


def test_a_resume_keeps_workers_and_executor() -> None:
    bare = restore_machine_options(Settings(study="s", resume=True), STORED)
    assert (bare.device, bare.workers, bare.executor) == ("cpu", 2, "processes")
    assert restore_machine_options(Settings(study="s", resume=True, workers=4), STORED).workers == 4
    assert restore_machine_options(Settings(study="s", resume=True, workers=None), STORED).workers is None
    elsewhere = restore_machine_options(Settings(study="s", resume=True, device="cuda"), STORED)
    assert (elsewhere.device, elsewhere.workers) == ("cuda", None)
    assert restore_machine_options(Settings(study="s", resume=True), {}) == Settings(study="s", resume=True)
    alone = restore_machine_options(Settings(study="s", resume=True), {**STORED, "executor": "inline", "workers": 0})
    assert (alone.workers, alone.executor) == (0, "inline")


# --- Whatever is given on a resume ---

THREE_LOSSES = ("cross_entropy", "dice", "dice_ce")
PLAN = new_plan(faking.SPACE.model_copy(update={"families": tuple(map(faking.SPACE.by_name.get, THREE_LOSSES))}))


class Sessions(Shown):
    """A study of three losses whose sessions get options; what they show is checked against what was shown before."""

    def __init__(self, seed: int, gap: float, noise: float) -> None:
        super().__init__()
        self.seed, self.noise = seed, noise
        self.study, self.options = new_study(), dict[str, Any](final="none", trials=3)
        self.levels = {"cross_entropy": 0.5, "dice": 0.5, "dice_ce": 0.5 + gap}
        self.begun, self.last, self.end, self.now = 0, inf, "", 0.0

    def train_one(self, spec: TrialSpec) -> TrialResult:
        luck = np.random.default_rng([self.seed, spec.seed, *spec.family.encode()]).normal(0, self.noise)
        return fake_result(spec, {**self.levels, spec.family: self.levels[spec.family] + float(luck)})

    def begin_one(self, spec: TrialSpec) -> None:
        """End the session with this training of the confirmation: by its time, or by a power failure."""
        self.begun += spec.purpose == "confirm"
        if self.begun > self.last and self.end == "power":
            raise CrashError
        self.now = 10_000.0 if self.begun > self.last else 0.0

    def resume(self, options: dict[str, Any], last: float, end: str) -> None:
        self.options |= options
        self.begun, self.last, self.end, self.now = 0, last, end, 0.0
        executor, now = FakeExecutor(self.train_one, began=self.begin_one), lambda: self.now
        with suppress(CrashError):
            train(self.study, executor, plan=PLAN, options=self.options, time=5000, clock=now, so_far=self)
            self.publish(is_over=True)
        looked = bool(list_extra_results(self.study, "first"))
        self.check_errors(read_analyses(self.study.user_attrs).made, looked * FIRST_LOOK.spent / 2)

    def notify(self, _: object) -> None:
        """Take an event."""

    def publish(self, *, is_over: bool = False) -> str:
        """Check the answer so far."""
        sweep = record_sweep(self.study, PLAN, margin=float(self.options.get("margin", 0.01)), concluded=is_over)
        trained = frozenset(run.spec.name for run in (*sweep.first, *sweep.confirmations))
        self.check_answer(draw_conclusion(sweep).answer, sweep.margin, trained)
        return ""


SEEDS, MARGINS = ["3", "5", "8", "3..4", "3..5", "4..5", "3..8", "6..9"], [0.001, 0.01, 0.05]
GIVEN = {"seeds": st.sampled_from(SEEDS), "margin": st.sampled_from(MARGINS), "steps": st.just(100)}
OPTIONS = st.fixed_dictionaries({}, optional=GIVEN)
ENDS = st.sampled_from([(inf, ""), *((last, end) for last in (2, 7, 11, 14, 17) for end in ("time", "power"))])


@pytest.mark.slow
@settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    st.integers(0, 1000), st.sampled_from([0.0, 0.02, 0.05]), st.sampled_from([0.004, 0.02]),
    st.lists(st.tuples(OPTIONS, ENDS), min_size=2, max_size=4),
)  # fmt: skip
def test_no_sequence_of_resumes_spends_more_than_the_error_or_takes_an_answer_back(
    seed: int, gap: float, noise: float, sessions: list[tuple[dict[str, Any], tuple[float, str]]]
) -> None:
    made = Sessions(seed, gap, noise)
    for options, (last, end) in sessions:
        made.resume(options, last, end)
