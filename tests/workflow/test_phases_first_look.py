"""The first look compares the ladder's pair before the search, and answers until something else is tested."""

from __future__ import annotations

import pytest

from sweeper.core.records import Outcome, Sure, TrialResult, TrialSpec
from sweeper.storage import list_extra_results
from sweeper.study.finalist import derive_confirmation_seed
from sweeper.workflow.advice import add_present_loss
from sweeper.workflow.conclude import draw_conclusion
from sweeper.workflow.forecast import count_trainings_left
from sweeper.workflow.options import resolve_request
from sweeper.workflow.study_state import read_interim_answer, read_study_state
from tests.support.faking import (
    LEVELS,
    SPACE,
    CrashError,
    FakeExecutor,
    fake_result,
    new_plan,
    new_study,
    record_sweep,
    train,
)
from tests.support.sweeping import Recorder

PAIR = {"cross_entropy", "dice_ce"}


def train_with_gain_from_tuning(spec: TrialSpec) -> TrialResult:
    """Let the weighted loss be better than any other one once it is tuned."""
    level = 0.50 if spec.params.get("pos_weight") == pytest.approx(30) else 0.65
    return fake_result(spec, {**LEVELS, "weighted_ce": level})


def list_purposes(executor: FakeExecutor) -> list[str]:
    return list(dict.fromkeys(spec.purpose for spec in executor.specs))


def test_the_first_look_trains_four_seeds_of_the_pair_before_the_search() -> None:
    executor, display = FakeExecutor(), Recorder()
    context = train(new_study(), executor, display, trials=7, finds_steps=True, looks_first=True)
    assert list_purposes(executor)[:4] == ["probe", "rate", "first", "search"]
    looked = [spec for spec in executor.specs if spec.purpose == "first"]
    steps = context.plan.conditions.recipe.confirm_steps
    assert len(looked) == 8 and {(spec.family, spec.steps) for spec in looked} == {(name, steps) for name in PAIR}
    assert {spec.seed for spec in looked} == {derive_confirmation_seed(0, n) for n in range(4)}
    assert len({(spec.seed, spec.lr) for spec in looked}) == 4  # paired: the same rate at the same seed
    assert any(line.startswith("first look: 4 seeds of cross_entropy and dice_ce") for line in display.lines)


@pytest.mark.parametrize("options", [{"steps": 100}, {"folds": 3}, {"command": "python train.py"}])
def test_there_is_no_first_look_without_a_ladder_or_with_folds(options: dict[str, object]) -> None:
    usual, other = resolve_request({}), resolve_request(options)
    assert usual.looks_first and not other.looks_first
    spent = [sum(analysis.spent for analysis in request.analyses) for request in (usual, other)]
    assert spent == pytest.approx([0.035 * 25 / 28, 0.05 * 25 / 28])  # the look has its own error


@pytest.mark.parametrize("stop", [("search", 0), ("confirm", 1002)])  # after two seeds the confirmation is open
def test_a_stopped_study_answers_by_its_first_look_and_repeats_none_of_it(stop: tuple[str, int]) -> None:
    def train_until(spec: TrialSpec) -> TrialResult:
        if (spec.purpose, spec.seed) == stop:
            raise CrashError
        return fake_result(spec)

    study = new_study()
    with pytest.raises(CrashError):
        train(study, FakeExecutor(train_until), trials=7, finds_steps=True, looks_first=True)
    sweep = record_sweep(study, concluded=False)
    answer, evidence, *_ = draw_conclusion(sweep)
    assert answer.outcome is Outcome.CHANGE and answer.use is not None and answer.use.loss == "dice_ce"
    assert evidence is not None
    assert {(f.family, len(f.seeds)) for f in evidence.finalists} == {(name, 4) for name in PAIR}
    assert answer.find("FIRST_LOOK") and not any(step.code == "SEEDS" for step in answer.next)
    assert read_interim_answer(sweep).answer.startswith("Change to `dice_ce`: at least")
    train(study, second := FakeExecutor(), trials=7, finds_steps=True, looks_first=True)
    assert "first" not in list_purposes(second) and "confirm" in list_purposes(second)
    done, evidence, *_ = draw_conclusion(record_sweep(study))
    assert not done.find("FIRST_LOOK") and not done.find("BEFORE_TUNING")
    assert evidence is not None and len(evidence.finalists) == 3


@pytest.mark.parametrize("begun", [1, 2])
def test_time_that_cuts_the_confirmation_takes_no_established_first_look_back(begun: int) -> None:
    """One seed each, and two, of three tuned losses of which cross-entropy may be as good."""
    study, times = new_study(), [0.0]

    def begin_one(spec: TrialSpec) -> None:
        if spec.purpose == "confirm" and sum(one.purpose == "confirm" for one in executor.specs) == begun:
            times.append(10_000.0)

    executor = FakeExecutor(train_with_gain_from_tuning, began=begin_one)
    options = {"trials": 7, "final": "none"}
    train(study, executor, options=options, time=5000, clock=lambda: times[-1])
    sweep = record_sweep(study)
    assert sweep.cut and len(sweep.confirmations) == begun
    answer = draw_conclusion(sweep).answer
    assert (answer.outcome, answer.sure) == (Outcome.CHANGE, Sure.ESTABLISHED) and answer.find("FIRST_LOOK")
    assert any(step.code == "MORE_TIME" for step in answer.next)


def test_three_seeds_of_a_first_look_that_was_cut_off_answer_nothing() -> None:
    study = new_study()
    with pytest.raises(CrashError):
        train(study, FakeExecutor(crash_after=2 + 2 + 7), trials=7, finds_steps=True, looks_first=True)
    assert len(list_extra_results(study, "first")) == 7
    assert draw_conclusion(record_sweep(study, concluded=False)).evidence is None


def test_a_gain_that_tuning_takes_away_is_said_beside_the_answer() -> None:
    study, plan = new_study(), new_plan(add_present_loss(SPACE, "weighted_ce:pos_weight=30", 60.0))
    train(study, FakeExecutor(train_with_gain_from_tuning), trials=14, finds_steps=True, looks_first=True, plan=plan)
    answer = draw_conclusion(record_sweep(study, plan)).answer
    assert answer.outcome is Outcome.KEEP and answer.present == "weighted_ce"
    remark = answer.find("BEFORE_TUNING")
    assert remark is not None and remark.values["loss"] == "dice_ce"
    assert 0.01 < remark.values["low"] < remark.values["estimate"] < 0.1


def test_the_forecast_s_first_answer_is_the_first_look_s() -> None:
    plan, request = new_plan(), resolve_request({})
    trainings = count_trainings_left(plan, request, read_study_state(None, plan, request))
    assert {name: each.first for name, each in trainings.items() if each.first} == {"rate": 4, "first": 8}
    without = count_trainings_left(plan, resolve_request({"folds": 3}), read_study_state(None, plan, request))
    assert "first" not in without and without["search"].first > 0
