"""The state of a study: all displays agree, at every moment."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from itertools import count as counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweeper import storage as studies
from sweeper.cli.progress import LiveDisplay
from sweeper.core.events import SweepEvent
from sweeper.core.records import Collapse, SweepRecord, TrialSpec
from sweeper.workflow.conclude import draw_conclusion
from sweeper.workflow.forecast import count_trainings_left
from sweeper.workflow.lead import InterimReporter
from sweeper.workflow.options import resolve_request
from sweeper.workflow.phase_progress import PhaseCounts
from sweeper.workflow.status import REPORT, Heartbeat, get_status_file, read_life
from sweeper.workflow.studies import list_study_rows
from sweeper.workflow.study_state import read_interim_answer, read_study_state
from tests.support import builders
from tests.support.faking import ANALYSES, CrashError, FakeExecutor, fake_result, new_plan, new_study, train
from tests.support.marks import rest_slow
from tests.support.sweeping import Recorder

URL = "sqlite:///sweeper.db"
NAME = "s"


class ComparedDisplays(Recorder):
    """A display, a status file and the answer so far of one session, compared whenever a training begins."""

    def __init__(self, plan: studies.StudyPlan, trials: int, **options: Any) -> None:
        super().__init__()
        self.storage, self.plan, self.trials, self.options = studies.open_storage(URL), plan, trials, options
        self.live = LiveDisplay(Console(file=io.StringIO(), width=120), clock=lambda: 0.0)
        self.heartbeat = Heartbeat(get_status_file(URL, NAME), NAME)
        self.published: list[str] = []
        self.so_far = InterimReporter(
            self.sweep, lambda _, answer: self.published.append(answer), self.heartbeat.record_answer
        )
        self.moments: list[tuple[str, bool]] = []
        self.calls = 0

    def sweep(self) -> SweepRecord:
        return studies.load_sweep(self.storage, NAME)

    def begin_phase(self, name: str, total: int, held: PhaseCounts) -> None:
        super().begin_phase(name, total, held)
        self.live.begin_phase(name, total, held)

    def notify(self, event: SweepEvent) -> None:
        super().notify(event)
        self.live.notify(event)

    def train(self, executor: Callable[..., FakeExecutor] = FakeExecutor, **more: Any) -> None:
        study = studies.open_study(self.storage, NAME)
        study.set_user_attr("trials", studies.pack_value(self.trials))
        studies.note_session(study)
        self.so_far.publish()
        train(
            study,
            executor(began=lambda _: self.compare()),
            self,
            trials=self.trials,
            plan=self.plan,
            heartbeat=self.heartbeat,
            so_far=self.so_far,
            **self.options,
            **more,
        )
        self.heartbeat.begin_phase(REPORT, 0)
        studies.note_conclusion(study)
        self.heartbeat.record_end("finished")

    def compare(self) -> None:
        """Compare all that can be read of the study just now; every second time, and where a phase is new."""
        self.calls += 1
        if self.calls % 2 and self.phases[-1][0] in {phase for phase, _ in self.moments}:
            return
        [row] = list_study_rows(self.storage, URL)
        life, study = read_life(get_status_file(URL, NAME)), studies.open_study(self.storage, NAME)
        assert life is not None and row.problem is None
        request = resolve_request({"trials": self.trials})._replace(analyses=tuple(ANALYSES), **self.options)
        state = read_study_state(study, self.plan, request)
        self.live._live.stop()
        output = io.StringIO()
        Console(file=output, width=120).print(self.live._render())
        bar, *table = re.findall(r"(?m)^(\w+) +[=-]+ (\d+)/(\d+)|^\w+ +(?:[\d.]{5}|\.\.\.) +(\d+)", output.getvalue())
        assert bar[:3] == (life.phase, str(life.done), str(life.total)), "terminal and status"
        assert sum(int(line[3]) for line in table) == life.done, "bar and table"
        counted = {"search": state.search.done, "confirm": state.confirm.done}.get(life.phase, life.done)
        assert counted == life.done, "status and study"
        assert (row.trials, row.confirmations) == (state.search.done, state.confirm.done), "studies and study"
        if life.phase == "search":
            assert (row.trials, row.asked) == (life.done, life.total), "status and studies"
        left = count_trainings_left(self.plan, request, state)
        if life.phase == "search" and not state.searched:
            to_train = life.total - state.trials  # a resume trains again what failed
            assert left["search"].most == to_train, "forecast and status"
        tested = row.on == "test"
        assert row.answer == life.answer or not life.answer, "answer of status and studies"
        assert ("not tested" in row.answer) == (not tested and row.score is not None)
        assert tested == bool(self.sweep().analyses_taken), "only an analysis is an answer"
        if (life.phase, tested) not in self.moments:
            conclusion = draw_conclusion(self.sweep())
            assert (conclusion.evidence is not None) == tested, "report and studies"
            values = conclusion.answer.remarks[0].values
            assert conclusion.answer.remarks[0].code == "UNFINISHED" and values["trials"] == len(state.search.ended)
        self.moments.append((life.phase, tested))


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def begin(trials: int = 7, plan: studies.StudyPlan | None = None, **options: Any) -> ComparedDisplays:
    plan = plan or new_plan()
    studies.create_study(studies.open_storage(URL), NAME, plan)
    return ComparedDisplays(plan, trials, **options)


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_all_displays_agree_whenever_a_training_begins(in_folder: None, workers: int) -> None:
    displays = begin()
    displays.train(lambda **more: FakeExecutor(workers=workers, **more))
    assert {("search", False), ("confirm", False), ("confirm", True)} <= set(displays.moments)
    [row] = list_study_rows(displays.storage, URL)
    assert (row.state, row.on) == ("finished", "test") and row.answer == displays.published[-1]
    assert draw_conclusion(displays.sweep()).answer.find("UNFINISHED") is None


@pytest.mark.parametrize("share", rest_slow([0.8, 0.95, 0.1, 0.5], 0, 2))
def test_a_resume_counts_stored_trainings_and_publishes_the_last_answer_first(in_folder: None, share: float) -> None:
    first = begin()
    train(new_study(), uncut := FakeExecutor(), trials=first.trials)
    after = int(share * uncut.ended)
    with pytest.raises(CrashError):
        first.train(lambda **more: FakeExecutor(crash_after=after, **more))
    [before] = list_study_rows(first.storage, URL)
    second = ComparedDisplays(first.plan, first.trials)
    second.train()
    assert second.published[0] == before.answer or not before.answer
    assert next(done for phase, done, _ in second.phases if phase == "search") == before.trials
    assert not any("not tested" in answer for answer in second.published) or before.on != "test"


@pytest.mark.slow
def test_all_displays_agree_on_failed_trainings(in_folder: None) -> None:
    numbers = counter()

    def fail_some(spec: TrialSpec) -> Any:
        if next(numbers) % 4 == 1:
            return builders.failed_trial(spec.family, spec.number, spec=spec)
        return fake_result(spec)

    displays = begin()
    displays.train(lambda **more: FakeExecutor(fail_some, **more))
    resumed = ComparedDisplays(displays.plan, displays.trials + 2)
    resumed.train()
    assert ("search", True) in resumed.moments, "the answer of the first confirmation stays while more is searched"


@pytest.mark.slow
def test_a_search_that_settles_has_all_its_trials(in_folder: None) -> None:
    displays = begin(trials=50, settles=True)
    studies.open_study(displays.storage, NAME).set_user_attr(studies.SETTLES, True)
    displays.train()
    [row] = list_study_rows(displays.storage, URL)
    assert row.trials == row.asked < 50


@pytest.mark.parametrize("concluded", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_no_loss_is_the_best_of_a_search_that_has_learned_nothing(concluded: bool, learned: bool) -> None:
    collapse = Collapse.NONE if not learned else Collapse.NO_BETTER_THAN_CONSTANT
    trials = [builders.trial(family, 0.49, collapse=collapse) for family in ("dice_ce", "focal")]
    sweep = builders.sweep(trials, [], concluded=concluded, learned=learned)
    answer = read_interim_answer(sweep)
    assert (answer.loss, answer.score, answer.on) == (None, None, None)
    words = "In 2 complete trials no loss has learned more than a constant answer"
    assert answer.answer == f"{words}{' yet' * (not concluded)}."


@pytest.mark.slow
def test_a_study_cut_by_the_time_limit_is_finished(in_folder: None) -> None:
    now = counter()
    displays = begin()
    displays.train(time=12.0, clock=lambda: 0.05 * next(now))
    [row] = list_study_rows(displays.storage, URL)
    assert row.on != "test" or displays.sweep().analyses_taken
    assert "yet" not in row.answer and row.state == "finished"
