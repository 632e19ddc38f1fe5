"""The phases of a sweep: interim analyses, interruptions, the time limit. The trainings cost nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from sweeper import storage as studies
from sweeper.core.errors import InterruptedSweepError, LostStudyError
from sweeper.core.events import Reply, WorkerLost
from sweeper.core.records import InterimAnalysis, Outcome, Sure, TrialResult, TrialSpec
from sweeper.storage.record_format import CONCLUDED, PLANNED, TAKEN
from sweeper.storage.results import EXTRAS, read_analyses, read_planned_analyses
from sweeper.study.finalist import derive_confirmation_seed
from sweeper.study.race import RoundDecision
from sweeper.study.search import LossSearch
from sweeper.workflow.conclude import draw_conclusion
from tests.support.faking import (
    ANALYSES,
    LEVELS,
    ONE_RATE,
    SPACE,
    CrashError,
    FakeExecutor,
    fake_result,
    new_plan,
    new_study,
    record_sweep,
    train,
)
from tests.support.killing import make_crossing_result
from tests.support.marks import rest_slow
from tests.support.sweeping import Recorder

THREE = tuple(InterimAnalysis(seeds=seeds, error=error) for seeds, error in ((1, 0.01), (2, 0.015), (3, 0.025)))


def read_outcome(study: optuna.Study) -> dict[str, Any]:
    """Return everything that a report is made of, except how often a search trial was begun."""
    attributes = study.user_attrs
    extra = {k: v for k, v in attributes.items() if k.split("/")[0] in EXTRAS}
    searched = {r.spec.key: (r.state, r.value) for r in studies.search_results(study)}
    names = (TAKEN, PLANNED, studies.CUT, studies.PROBED, studies.RATES)
    return {"search": searched, "extra": extra, **{name: attributes.get(name) for name in names}}


def list_purposes(executor: FakeExecutor) -> list[str]:
    return list(dict.fromkeys(spec.purpose for spec in executor.specs))


# --- a whole sweep ---


def test_search_and_confirmation_end_with_the_conclusion_of_the_last_interim_analysis() -> None:
    study, executor, display = new_study(), FakeExecutor(), Recorder()
    train(study, executor, display, trials=7)
    assert list_purposes(executor) == ["rate", "search", "confirm"]
    assert [name for name, _, _ in display.phases][:3] == ["rate", "search", "confirm"]
    sweep = record_sweep(study)
    assert sweep.analyses_taken[-1].outcome == draw_conclusion(sweep).answer.outcome
    evidence = draw_conclusion(sweep).evidence
    assert evidence.analyses == ANALYSES
    assert {f.family for f in evidence.finalists} == {"dice", "dice_ce", "cross_entropy"}
    assert any("interim analysis 1 of at most 2" in line for line in display.lines)


@pytest.mark.parametrize("workers", [2, 5])
def test_the_number_and_order_of_workers_do_not_change_the_answer(workers: int) -> None:
    sequential, parallel = new_study(), new_study()
    train(sequential, trials=7)
    train(parallel, FakeExecutor(workers=workers, backwards=True), trials=7)
    assert read_outcome(parallel)[TAKEN] == read_outcome(sequential)[TAKEN]
    assert draw_conclusion(record_sweep(parallel)) == draw_conclusion(record_sweep(sequential))


def test_idle_workers_begin_the_next_seed_which_counts_once_it_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Scripted(
        decide("dice", "cross_entropy", "dice_ce"), decide("dice", "cross_entropy"), decide(outcome=Outcome.CHANGE)
    )
    monkeypatch.setattr("sweeper.workflow.phases.make_round_judge", judge)
    study, executor = new_study(), FakeExecutor(workers=2)
    train(study, executor, trials=7, analyses=THREE)
    begun = [(s.family, s.seed - derive_confirmation_seed(0, 0)) for s in executor.specs if s.purpose == "confirm"]
    # Nothing is begun before the first analysis; then one of two workers has nothing of the second seed left to do, and
    # nobody repeats what it began.
    assert [seed for _, seed in begun[:7]] == [0, 0, 0, 1, 1, 1, 2]
    assert len(begun) == len(set(begun))
    assert [len(analysed) for analysed in judge.seen] == [3, 6, 8]
    evidence = draw_conclusion(record_sweep(study)).evidence
    assert {f.family: len(f.seeds) for f in evidence.finalists} == {"dice": 3, "cross_entropy": 3, "dice_ce": 2}


def test_a_training_ahead_of_the_plan_ends_early_if_its_finalist_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Scripted(decide("dice", "cross_entropy", "dice_ce"), decide("dice", "cross_entropy"), decide())
    monkeypatch.setattr("sweeper.workflow.phases.make_round_judge", judge)
    study, display = new_study(), Recorder()
    train(study, FakeExecutor(workers=4), display, trials=7, analyses=THREE)
    stored = studies.list_extra_results(study, "confirm")
    assert Counter(r.spec.family for r in stored)["dice"] >= 2
    assert all(r.state == "complete" for r in stored)
    begun_ahead = {spec.family for spec in display.dropped}
    assert begun_ahead and {f"{s.family} {s.seed}" for s in display.dropped}.isdisjoint(
        f"{r.spec.family} {r.spec.seed}" for r in stored
    )


EVERY: dict[str, Any] = {"trials": 14, "finds_steps": True, "looks_first": True}
"""A sweep with all phases but the final training."""
EVERY["analyses"] = tuple(InterimAnalysis(seeds=seeds, error=0.02) for seeds in (2, 5))
WHOLE, EXECUTED = new_study(), FakeExecutor(make_crossing_result)
train(WHOLE, EXECUTED, **EVERY)
TOTAL = len(EXECUTED.specs)
WAYS = [(after, ("signal", "crash")[(after + turn) % 2]) for turn in (0, 1) for after in range(1, EXECUTED.ended)]
WAYS = [(after, how) for after, how in WAYS if how == "crash" or after < TOTAL]


def list_reached(study: optuna.Study) -> dict[object, int]:
    """Return the step at which each stored training ended or waits."""
    stored = [*studies.list_all_results(study), *studies.list_waiting_results(study)]
    return {(r.spec.purpose, r.spec.key): r.evaluations[-1].step for r in stored}


@pytest.mark.parametrize(("after", "how"), rest_slow(WAYS, TOTAL - 1, 0))
def test_a_sweep_interrupted_anywhere_resumes_to_the_same_result(after: int, how: str) -> None:
    study = new_study()
    workers = 1 + after % 3
    if how == "signal":
        with pytest.raises(InterruptedSweepError):
            train(
                study, first := FakeExecutor(make_crossing_result, workers=workers), Recorder(stop_after=after), **EVERY
            )
    else:
        with pytest.raises(CrashError):
            train(study, first := FakeExecutor(make_crossing_result, workers=workers, crash_after=after), **EVERY)
    reached, whole = list_reached(study), list_reached(WHOLE)
    begun = {(spec.purpose, spec.key) for spec in first.specs}
    assert len(begun - reached.keys()) <= workers  # only what was running is lost
    resumed = FakeExecutor(make_crossing_result)
    train(study, resumed, **EVERY)
    assert read_outcome(study) == read_outcome(WHOLE)
    left = [key for spec in EXECUTED.specs if reached.get(key := (spec.purpose, spec.key), 0) < whole[key]]
    assert Counter((spec.purpose, spec.key) for spec in resumed.specs) == Counter(left)  # nothing is trained twice


def test_a_sweep_interrupted_while_it_asks_for_a_generation_resumes_to_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, study, asked = new_study(), new_study(), list[None]()
    plan = new_plan(SPACE.model_copy(update={"families": SPACE.families[:3]}))
    train(whole, FakeExecutor(make_crossing_result), trials=15, plan=plan)
    ask = LossSearch._ask_trial

    def crash_at_last(search: LossSearch) -> TrialSpec:
        asked.append(None)
        if len(asked) == 13:  # amid the second, which is drawn at random, as too few have ended for TPE
            raise CrashError
        return ask(search)

    with monkeypatch.context() as patched, pytest.raises(CrashError):
        patched.setattr(LossSearch, "_ask_trial", crash_at_last)
        train(study, FakeExecutor(make_crossing_result), trials=15, plan=plan)
    train(study, FakeExecutor(make_crossing_result), trials=15, plan=plan)
    assert read_outcome(study) == read_outcome(whole)


def test_a_leader_that_lost_the_study_begins_no_training_and_leaves_the_running_ones() -> None:
    study, display = new_study(), Recorder()
    with pytest.raises(LostStudyError, match="another process runs it now"):
        train(study, FakeExecutor(workers=2), display, lost=lambda: len(studies.search_results(study)) >= 3)
    states = Counter(trial.state for trial in study.trials)
    assert states[TrialState.RUNNING] > 0  # as the other found it
    assert states[TrialState.COMPLETE] + states[TrialState.PRUNED] == len(studies.search_results(study)) >= 3


# --- interim analyses ---


class Scripted:
    """A judge with scripted answers, one interim analysis after the other."""

    def __init__(self, *judgements: RoundDecision) -> None:
        self._judgements, self.seen = judgements, list[list[str]]()

    def __call__(self, *_: object, **__: object) -> Any:
        def judge_round(results: list[TrialResult]) -> RoundDecision:
            self.seen.append(sorted(f"{r.spec.family} {r.spec.seed - derive_confirmation_seed(0, 0)}" for r in results))
            return self._judgements[min(len(self.seen), len(self._judgements)) - 1]

        return judge_round


def decide(*families: str, outcome: Outcome = Outcome.KEEP) -> RoundDecision:
    return RoundDecision(outcome, "COST_OPEN" if families else "SETTLED", 0.01, families)


def train_better_focal(spec: TrialSpec) -> TrialResult:
    return fake_result(spec, {**LEVELS, "focal": 0.8})


def test_other_finalists_count_as_conclusions_but_no_seeds_and_margins() -> None:
    study, concluded = new_study(), list[int]()

    def conclude_again(margin: float = 0.01, **more: Any) -> None:
        study.set_user_attr(studies.MARGIN, studies.pack_value(margin))
        if more:
            train(study, **{"trials": 7, **more})
        studies.note_conclusion(study)
        concluded.append(len(studies.unpack_value(study.user_attrs, CONCLUDED, [])))

    conclude_again()  # nothing was confirmed: nothing was seen
    conclude_again(analyses=ANALYSES)
    conclude_again(analyses=(*ANALYSES, ANALYSES[-1].model_copy(update={"seeds": 4})))  # they share one error
    conclude_again(margin=0.02)
    conclude_again(trials=14, executor=FakeExecutor(train_better_focal))
    assert concluded == [0, 1, 1, 1, 2] and studies.is_concluded(study.user_attrs)
    studies.note_session(study)
    assert not studies.is_concluded(study.user_attrs)  # a resume that is cut off is not finished


def test_a_dropped_finalist_continues_if_an_interim_analysis_chooses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Scripted(decide("dice", "cross_entropy"), decide("dice", "dice_ce"), decide())
    monkeypatch.setattr("sweeper.workflow.phases.make_round_judge", judge)
    study = new_study()
    train(study, trials=7, analyses=THREE)
    seeds = Counter(r.spec.family for r in studies.list_extra_results(study, "confirm"))
    assert seeds == {"dice": 3, "dice_ce": 3, "cross_entropy": 2}


def test_a_plan_of_more_seeds_begins_with_the_analyses_that_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.workflow.phases.make_round_judge", Scripted(decide(*LEVELS)))
    study = new_study()
    train(study, trials=7, analyses=THREE)
    judge, executor, display = Scripted(decide()), FakeExecutor(), Recorder()
    monkeypatch.setattr("sweeper.workflow.phases.make_round_judge", judge)
    analyses = (*THREE, InterimAnalysis(seeds=4, error=0.01))
    train(study, executor, display, trials=7, analyses=analyses)
    assert read_planned_analyses(study.user_attrs) == analyses
    assert any("after 1, 2, 3, 4 seeds from now on (before: 1, 2, 3)" in line for line in display.lines)
    (analysed,) = judge.seen  # only the last one is judged again
    evidence = draw_conclusion(record_sweep(study)).evidence
    assert executor.specs == []
    weighed = sorted(f"{f.family} {s - derive_confirmation_seed(0, 0)}" for f in evidence.finalists for s in f.seeds)
    assert weighed == analysed and len(analysed) == 9
    before = read_outcome(study)
    train(study, trials=7, analyses=analyses)
    assert read_outcome(study) == before and read_analyses(study.user_attrs).made == THREE


def test_under_another_plan_a_dropped_finalist_keeps_its_trained_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeper.workflow.phases.make_round_judge", Scripted(decide("dice", "cross_entropy")))
    study = new_study()
    train(study, trials=7, analyses=THREE[:2])
    judge = Scripted(decide("dice", "cross_entropy"))
    monkeypatch.setattr("sweeper.workflow.phases.make_round_judge", judge)
    train(study, trials=7, analyses=THREE)
    assert [len(analysed) for analysed in judge.seen] == [5, 7]
    assert "dice_ce 0" in judge.seen[0] and "dice_ce 1" not in judge.seen[1]


def test_a_failed_confirmation_is_repeated_by_the_next_session_and_analysed_again() -> None:
    def fail_dice(spec: TrialSpec) -> TrialResult | Reply:
        fails = spec.purpose == "confirm" and spec.family == "dice"
        return WorkerLost(spec, "worker killed by signal 9") if fails else fake_result(spec)

    study, first = new_study(), FakeExecutor(fail_dice)
    train(study, first, trials=7)
    tries = Counter(s.key for s in first.specs if s.purpose == "confirm" and s.family == "dice")
    assert set(tries.values()) == {2}  # each seed twice, as a worker may die of something else
    evidence = draw_conclusion(record_sweep(study)).evidence
    assert "dice" not in {f.family for f in evidence.finalists}
    answer = draw_conclusion(record_sweep(study)).answer
    assert answer.find("MISSING").values == {"loss": "dice"} and "RETRY" in {step.code for step in answer.next}
    train(study, trials=7)
    evidence = draw_conclusion(record_sweep(study)).evidence
    assert draw_conclusion(record_sweep(study)).answer.find("MISSING") is None
    assert "dice" in {f.family for f in evidence.finalists}
    analysis = read_analyses(study.user_attrs).stored[0]
    used = [r for r in studies.list_extra_results(study, "confirm") if r.spec.name in analysis.used]
    assert "dice" in {r.spec.family for r in used}


# --- nothing to compare ---


def test_a_single_trial_is_confirmed_without_a_claim() -> None:
    study = new_study()
    train(study, trials=1, plan=ONE_RATE)
    answer = draw_conclusion(record_sweep(study, ONE_RATE)).answer
    assert answer.sure is Sure.OPEN and answer.gain is None and answer.cost is None and answer.find("ALONE")
    assert len(read_analyses(study.user_attrs).analyses) == 1  # more seeds would compare nothing


# --- time ---


class Time:
    """Each training takes a tenth of a second for each of its steps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.begun: list[tuple[float, TrialSpec]] = []

    def __call__(self) -> float:
        return self.now

    def began(self, spec: TrialSpec) -> None:
        self.begun.append((self.now, spec))
        self.now += 0.1 * spec.steps

    def executor(self) -> FakeExecutor:
        """Do such trainings."""
        return FakeExecutor(
            lambda spec: fake_result(spec).model_copy(update={"seconds": 0.1 * spec.steps}), began=self.began
        )


def test_each_phase_keeps_to_its_share_of_the_time() -> None:
    study, time, display = new_study(), Time(), Recorder()
    train(study, time.executor(), display, trials=50, time=600, clock=time)
    usable = 600 - 15
    search = [begun for begun, spec in time.begun if spec.purpose == "search"]
    confirm = [(begun, spec) for begun, spec in time.begun if spec.purpose == "confirm"]
    assert 0 < len(search) < 50
    assert max(search[1:]) + 10 <= 0.6 * usable
    assert confirm and all(begun + 0.1 * spec.steps <= usable for begun, spec in confirm)
    assert time.now <= usable
    ended = f"the search ended after {len(studies.search_results(study))} of 50 trials"
    assert any(ended in warning for warning in display.warnings)
    answer = draw_conclusion(record_sweep(study)).answer
    assert answer.find("CUT").values["parts"].startswith(ended)
    assert any(step.code == "MORE_TIME" for step in answer.next)


def test_a_confirmation_cut_by_the_time_limit_reports_it_and_is_resumed() -> None:
    study, time, display = new_study(), Time(), Recorder()
    train(study, time.executor(), display, trials=7, time=280, clock=time)
    cut = record_sweep(study)
    assert any("confirmation ended before the interim analysis at" in line for line in cut.cut)
    assert cut.analyses_taken[-1].code == "CUT"
    assert draw_conclusion(cut).answer.outcome == cut.analyses_taken[-1].outcome
    resumed, whole = Time(), new_study()
    train(study, resumed.executor(), trials=7, time=3600, clock=resumed)
    train(whole, Time().executor(), trials=7)
    assert read_outcome(study) == read_outcome(whole)
    assert record_sweep(study).cut == ()


def test_a_confirmation_beyond_the_time_limit_is_dropped_and_trained_by_the_next_session() -> None:
    time = Time()

    def pass_time(spec: TrialSpec) -> None:
        if spec.purpose == "confirm" and spec.number == 5:
            time.now = 10_000.0
        time.now += 0.1

    study = new_study()
    train(study, FakeExecutor(began=pass_time), trials=7, time=5000, clock=time)
    analyses = read_analyses(study.user_attrs)
    assert len(studies.list_extra_results(study, "confirm")) == 5  # the sixth was given up
    assert analyses.stored == () and analyses.cut.seeds == 1
    time.now = 0.0
    train(study, FakeExecutor(), trials=7, time=5000, clock=time)
    train(whole := new_study(), trials=7)
    assert read_outcome(study) == read_outcome(whole)
