"""Successive halving: which trials continue from a rung, which wait, and how a search uses it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from sweeper import storage as studies
from sweeper.core.events import JobResult, TrainingJob, WorkerLost
from sweeper.core.records import TrialResult, TrialSpec
from sweeper.core.training_files import get_checkpoint_path
from sweeper.storage.record_format import ABANDONED, ATTEMPT_OF
from sweeper.storage.results import is_counted, list_present_trials
from sweeper.study.loop import run_work
from sweeper.study.search import LossSearch, enqueue_defaults
from sweeper.study.successive_halving import MAX_LAG, SuccessiveHalving
from tests.support import builders
from tests.support.faking import SPACE, CrashError, FakeExecutor, fake_result, new_search, new_study
from tests.support.sweeping import Recorder

RUNGS = (25, 50, 75, 100)


def make_halving(*values: float, family: str = "dice", shares: tuple[float, ...] = (1 / 3, 1 / 2)) -> SuccessiveHalving:
    """Trials 0, 1, 2 … of one family at the first rung."""
    halving = SuccessiveHalving(RUNGS, shares=shares)
    for number, value in enumerate(values):
        halving.record(number, family, 25, value)
    return halving


def test_the_best_third_continues_and_the_others_wait() -> None:
    halving = make_halving(0.1, 0.6, 0.3, 0.5, 0.2, 0.4)
    assert [halving.may_continue(number) for number in range(6)] == [False, True, False, True, False, False]


def test_the_best_of_a_family_continues_at_every_rung() -> None:
    halving = make_halving(0.9, 0.8, 0.85)
    for number in (0, 1, 2):
        halving.record(number, "dice", 50, 0.9)
    for step in (25, 50, 75):
        halving.record(9, "focal", step, 0.1)
        assert halving.may_continue(9)


def test_every_trial_continues_from_the_third_rung_to_its_end() -> None:
    halving = make_halving(0.9, 0.8, 0.7, 0.6)
    for step in RUNGS[1:]:
        for number in (2, 0):  # 2 is no longer the best of its family, nor among the best third
            halving.record(number, "dice", step, 0.9 - 0.1 * number)
        assert halving.may_continue(2) == (step >= RUNGS[2])
    assert not halving.cannot_be_promoted(2, 30)
    assert halving.sort_by_promotion([3, 2]) == [2, 3]


def test_beyond_the_middle_only_the_best_families_and_the_present_one_keep_their_privilege() -> None:
    halving = SuccessiveHalving(RUNGS, shares=(0.0, 0.0, 0.0), present="cross_entropy")
    values = {"dice": 0.6, "tversky": 0.3, "focal": 0.2, "jaccard": 0.19, "cross_entropy": 0.1}
    for number, (family, value) in enumerate(values.items()):
        halving.record(number, family, 25, value)
    assert all(halving.may_continue(number) for number in range(5))
    for number, (family, value) in enumerate(values.items()):
        halving.record(number, family, 50, value)
    assert [halving.may_continue(number) for number in range(5)] == [True, True, True, False, True]
    assert halving.list_trailing_families() == {"jaccard", "cross_entropy"}


def test_a_family_trails_by_its_lag_and_is_never_one_of_the_pursued() -> None:
    halving = SuccessiveHalving(RUNGS)
    lags = {"dice": 0.0, "tversky": 0.3, "focal": 0.3, "jaccard": MAX_LAG - 0.01, "lovasz": MAX_LAG + 0.01}
    for number, (family, lag) in enumerate(lags.items()):
        halving.record(number, family, 25, 0.6 - lag)
        halving.record(number, family, 50, 0.6 - lag)
    assert halving.list_trailing_families() == {"tversky", "focal"}


def test_the_highest_rung_is_promoted_first_then_the_better_trial() -> None:
    halving = make_halving(0.9, 0.8, 0.7, 0.85, 0.1, 0.1, 0.1, 0.1, 0.1)
    halving.record(1, "dice", 50, 0.5)
    order = list(filter(halving.may_continue, halving.sort_by_promotion(range(9))))
    assert order[:2] == [1, 0] and not {4, 5} & {*order}


def test_a_waiting_trial_may_continue_after_more_trials() -> None:
    halving = make_halving(0.9, 0.8, 0.5)
    assert not halving.may_continue(1)
    for number in (3, 4, 5):
        halving.record(number, "dice", 25, 0.1)
    assert halving.may_continue(1)


values_of_trials = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), min_size=2, max_size=25)


@given(values_of_trials, st.integers(1, 24))
def test_a_trial_that_cannot_be_promoted_never_continues(trials: list[tuple[str, float]], first: int) -> None:
    halving = SuccessiveHalving(RUNGS)
    for number, (family, value) in enumerate(trials[:first]):
        halving.record(number, family, 25, value)
    recorded = range(min(first, len(trials)))
    excluded = [number for number in recorded if halving.cannot_be_promoted(number, len(trials))]
    for number, (family, value) in enumerate(trials[first:], first):
        halving.record(number, family, 25, value)
        assert not any(halving.may_continue(one) for one in excluded)


# --- as a search ---


def list_proposals(study: optuna.Study) -> list[tuple[dict[str, object], TrialState, dict[int, float]]]:
    """Return the parameters, states and values of a search's trials, in their order."""
    return [(t.params, t.state, t.intermediate_values) for t in list_present_trials(study)]


def train_crossing(spec: TrialSpec) -> TrialResult:
    """Curves that cross: what is good early is not always good late."""
    parameters = [round(1e6 * value) for value in spec.params.values()]
    rng = np.random.default_rng([spec.seed, *spec.family.encode(), *parameters])
    values = np.clip(np.sort(rng.uniform(0.2, 0.8, 4)), 0, 1)
    result = fake_result(spec)
    evaluations = tuple(builders.evaluation(step, float(v)) for step, v in zip(RUNGS, values, strict=True))
    return result.model_copy(update={"evaluations": evaluations, "value": float(values[-1])})


def begin_search(study: optuna.Study, trials: int, recorder: Recorder | None = None) -> LossSearch:
    enqueue_defaults(study, SPACE, trials)
    return new_search(study, trials, recorder)


def count_states(study: optuna.Study) -> dict[str, int]:
    names = [t.state.name for t in study.trials if ABANDONED not in t.user_attrs]
    return {name: names.count(name) for name in sorted(set(names))}


@pytest.mark.parametrize(("workers", "backwards"), [(1, False), (2, True), (5, False)])
def test_trials_and_promotions_do_not_depend_on_the_workers(workers: int, backwards: bool) -> None:
    study, recorder, alone = new_study(), Recorder(), new_study()
    executor = FakeExecutor(train_crossing, workers=workers, backwards=backwards)
    assert run_work(executor, begin_search(study, 40, recorder), lambda: None)
    assert run_work(FakeExecutor(train_crossing), begin_search(alone, 40), lambda: None)
    assert list_proposals(study) == list_proposals(alone)
    results = studies.search_results(study)
    assert len(results) == 40 and set(count_states(study)) == {"COMPLETE", "PRUNED"}
    second = [r for r in results if len(r.evaluations) > 1]
    assert {r.spec.family for r in second} == {r.spec.family for r in results}
    best = dict[str, float]()
    for result in second:
        best[result.spec.family] = max(result.evaluations[1].value, best.get(result.spec.family, 0.0))
    near = {family for family, value in best.items() if value >= max(best.values()) - MAX_LAG}
    assert near | {"cross_entropy"} <= {r.spec.family for r in results if r.state == "complete"}
    assert sum(r.evaluations[-1].step for r in results) < 0.5 * 40 * 100
    assert recorder.paused and set(recorder.resumed) <= set(recorder.paused)


@pytest.mark.parametrize("after", [3, 11, 20, 27, 33, 40, 47])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_search_that_crashed_continues_as_it_would_have(after: int, workers: int) -> None:
    study, uninterrupted = new_study(), new_study()
    run_work(FakeExecutor(train_crossing), begin_search(uninterrupted, 30), lambda: None)
    crashing = FakeExecutor(train_crossing, workers=workers, crash_after=after)
    with pytest.raises(CrashError):
        run_work(crashing, begin_search(study, 30), lambda: None)
    finished = {r.spec.number for r in studies.search_results(study)}
    studies.reconcile_study(study)
    second_executor = FakeExecutor(train_crossing)
    assert run_work(second_executor, begin_search(study, 30), lambda: None)
    assert not {spec.number for spec in second_executor.specs} & finished
    assert list_proposals(study) == list_proposals(uninterrupted)
    assert studies.search_results(study) == studies.search_results(uninterrupted)


def test_a_checkpoint_ahead_of_the_study_does_not_skip_a_decision(tmp_path: Path) -> None:
    """A worker saves before the study knows that the trial waits: a kill in between leaves an open decision."""
    study = new_study()
    enqueue_defaults(study, SPACE, 30)
    job = new_search(study, 30, checkpoints=tmp_path).next()
    get_checkpoint_path(tmp_path, job.spec).write_bytes(b"of the first rung")
    studies.reconcile_study(study)
    assert new_search(study, 30, checkpoints=tmp_path).next() == job
    assert not get_checkpoint_path(tmp_path, job.spec).exists()


def test_a_checkpoint_of_an_ended_trial_is_deleted_when_the_next_ends(tmp_path: Path) -> None:
    """A worker writes it when it receives another training, and does not know that this trial was stopped."""
    study = new_study()
    enqueue_defaults(study, SPACE, 30)
    work = new_search(study, 30, checkpoints=tmp_path)
    leftover, running = tmp_path / "search-09999.pt", tmp_path / "search-00000.pt"
    for path in (leftover, running, tmp_path / "train-00000.pt"):
        path.write_bytes(b"a network")
    work.next()
    second = work.next()
    assert work.take_answer(JobResult(train_crossing(second.spec)))
    assert {path.name for path in tmp_path.iterdir()} == {running.name, "train-00000.pt"}


def test_a_promoted_trial_of_a_lost_worker_returns_to_the_queue() -> None:
    died: list[int] = []

    class LosingExecutor(FakeExecutor):
        def submit(self, job: TrainingJob) -> None:
            promoted = job.until > 1 and job.spec.name not in self._between
            super().submit(job)
            if promoted and not died:
                died.append(job.spec.number)
                self._made[job.spec.name] = WorkerLost(job.spec, "worker killed by signal 9")

    study, recorder = new_study(), Recorder()
    assert run_work(LosingExecutor(train_crossing), begin_search(study, 30, recorder), lambda: None)
    assert len(died) == 1
    attempts = [t for t in study.trials if ABANDONED in t.user_attrs]
    assert [t.user_attrs[ATTEMPT_OF] for t in attempts] == died
    assert attempts[0].params == study.trials[died[0]].params
    assert sum(is_counted(t) for t in study.trials) == 30
    uninterrupted = new_study()
    run_work(FakeExecutor(train_crossing), begin_search(uninterrupted, 30), lambda: None)
    assert list_proposals(study) == list_proposals(uninterrupted)
