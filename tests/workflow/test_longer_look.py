"""The longer look as a phase: its losses, its seeds, the time limit, and its result after an interruption."""

from __future__ import annotations

from functools import partial

import optuna
import pytest

from sweeper import storage as studies
from sweeper.core.records import TrialResult, TrialSpec
from sweeper.evidence.phrases import format_head
from sweeper.study.finalist import LONGER_FROM, derive_confirmation_seed
from sweeper.workflow.conclude import Conclusion, draw_conclusion
from sweeper.workflow.forecast import count_trainings_left, plan_text
from sweeper.workflow.options import resolve_request
from sweeper.workflow.study_state import read_study_state
from tests.support.faking import (
    ANALYSES,
    LEVELS,
    ONE_RATE,
    CrashError,
    FakeExecutor,
    fake_result,
    new_plan,
    new_study,
    record_sweep,
    train,
)
from tests.support.marks import rest_slow
from tests.support.sweeping import Recorder
from tests.workflow.test_phases import Time

REQUEST = resolve_request({"trials": 7})._replace(analyses=tuple(ANALYSES))


def train_planted(spec: TrialSpec, **longer: float) -> TrialResult:
    """Return a training; the longer ones reach these levels where they reach others."""
    return fake_result(spec, {**LEVELS, **longer} if spec.purpose == "longer" else LEVELS)


def train_and_conclude(study: optuna.Study, executor: FakeExecutor | None = None, **more: object) -> Conclusion:
    train(study, executor or FakeExecutor(), trials=7, **{"longer": 4, **more})  # type: ignore[arg-type]
    return draw_conclusion(record_sweep(study))


def list_longer_specs(executor: FakeExecutor) -> list[TrialSpec]:
    return [spec for spec in executor.specs if spec.purpose == "longer"]


def test_the_recommended_loss_and_cross_entropy_are_trained_on_one_new_seed() -> None:
    study, executor = new_study(), FakeExecutor(workers=2)
    train_and_conclude(study, executor)
    specs, seed = list_longer_specs(executor), derive_confirmation_seed(0, LONGER_FROM)
    assert [(s.family, s.seed, s.steps) for s in specs] == [("dice", seed, 800), ("cross_entropy", seed, 800)]
    assert len({s.lr for s in specs}) == 1 and seed not in {s.seed for s in executor.specs if s.purpose != "longer"}
    assert [r.spec for r in studies.list_extra_results(study, "longer")] == specs
    assert all(r.test is not None for r in record_sweep(study).longer)


@pytest.mark.parametrize(
    ("longer", "head"),
    [
        ({}, "At 4 times the steps the gain is +0.053 (1 seed)."),
        ({"cross_entropy": 0.3}, "At 4 times the steps the gain is +0.16 (1 seed)."),
        ({"cross_entropy": 0.55}, "At 4 times the steps the gain is +0.027 (1 seed)."),
        ({"cross_entropy": 0.61}, "Keep `cross_entropy`"),  # a loss that only learns faster
        pytest.param({"cross_entropy": 0.75}, "Keep `cross_entropy`", marks=pytest.mark.slow),
    ],
)
def test_the_head_leads_with_the_gain_at_the_most_steps(longer: dict[str, float], head: str) -> None:
    conclusion = train_and_conclude(new_study(), FakeExecutor(partial(train_planted, **longer), workers=2))
    gap, said = conclusion.longer.gaps[0], format_head(conclusion.answer)
    is_kept = gap.after.estimate < conclusion.answer.margin
    assert (gap.first, gap.second, gap.seeds) == ("dice", "cross_entropy", 3 if is_kept else 1)
    assert conclusion.longer.times == 4 and head in said
    assert conclusion.answer.outcome == ("keep" if is_kept else "change")
    assert ("The gain of `dice`, +0.052" in said) == is_kept == (conclusion.answer.find("FADED") is not None)


def test_where_cross_entropy_is_recommended_the_best_other_loss_is_trained_longer() -> None:
    levels = {**LEVELS, "cross_entropy": 0.7}
    study, executor = new_study(), FakeExecutor(lambda spec: fake_result(spec, levels), workers=2)
    conclusion = train_and_conclude(study, executor)
    assert [s.family for s in list_longer_specs(executor)] == ["cross_entropy", "dice"]
    assert [(gap.first, gap.second) for gap in conclusion.longer.gaps] == [("dice", "cross_entropy")]
    assert conclusion.longer.gaps[0].after.estimate < 0 and conclusion.answer.outcome == "keep"
    assert "times the steps" not in format_head(conclusion.answer)


def test_a_longer_look_needs_a_request_and_a_comparison_without_folds() -> None:
    for more in ({"longer": None}, {"trials": 1, "plan": ONE_RATE}):
        study = new_study()
        train(study, **{"trials": 7, "longer": 4, **more})  # type: ignore[arg-type]
        conclusion = draw_conclusion(record_sweep(study, more.get("plan")))
        assert conclusion.longer is None and not studies.list_extra_results(study, "longer")
        assert "At 4 times" not in format_head(conclusion.answer)
    assert resolve_request({"longer": "4"}).longer == 4 and resolve_request({"longer": "4", "folds": 3}).longer is None


# --- resumed ---


@pytest.mark.parametrize("after", rest_slow([3, 0, 1, 2, 4, 5]))
def test_an_interrupted_longer_look_resumes_to_the_same_result(after: int) -> None:
    train_until_caught_up = partial(train_planted, cross_entropy=0.61)  # 3 seeds of 2
    whole, study = new_study(), new_study()
    uncut = FakeExecutor(train_until_caught_up)
    expected = train_and_conclude(whole, uncut)
    with pytest.raises(CrashError):
        train_and_conclude(study, FakeExecutor(train_until_caught_up, crash_after=uncut.ended - 6 + after))
    assert len(studies.list_extra_results(study, "longer")) == after
    answer = train_and_conclude(study, FakeExecutor(train_until_caught_up))
    assert answer.longer == expected.longer
    names = [{k: v for k, v in s.user_attrs.items() if k.startswith("longer/")} for s in (whole, study)]
    assert names[0] == names[1] and len(names[0]) == 6


def test_a_resume_adds_a_longer_look_to_an_old_study_once() -> None:
    study, plan = new_study(), new_plan()
    before = train_and_conclude(study, longer=None)
    step = before.answer.next[0]
    assert before.longer is None and before.answer.outcome == "change" and step.code == "LOOK"
    assert step.command.startswith("sweeper run --study toy-") and step.command.endswith(" --resume --longer 4")
    state = read_study_state(study, plan, REQUEST)
    assert not state.finished and read_study_state(study, plan, REQUEST._replace(longer=None)).finished
    left = count_trainings_left(plan, REQUEST, state)
    assert list(left) == ["longer"] and left["longer"].steps == 800
    assert plan_text(left, plan.conditions.recipe) == "at most 6 trainings of 800 steps for the longer look"
    after = train_and_conclude(study)
    assert after.longer is not None and not any("--longer" in step.command for step in after.answer.next)
    state = read_study_state(study, plan, REQUEST)
    assert state.finished and not count_trainings_left(plan, REQUEST, state)
    repeated = FakeExecutor()
    train_and_conclude(study, repeated)
    assert repeated.specs == []
    longest = FakeExecutor()
    answer = train_and_conclude(study, longest, longer=16)
    assert {s.steps for s in longest.specs} == {3200} and answer.longer is not None and answer.longer.times == 16


# --- within the time ---


def test_the_answer_reports_a_longer_look_that_the_time_limit_prevented() -> None:
    study, time, display = new_study(), Time(), Recorder()
    answer = train_and_conclude(study, time.executor(), display=display, time=400, clock=time)
    assert answer.answer.use is not None and answer.longer is None
    words = "what 4 times the steps change (--longer) was not looked at"
    assert any(words in line for line in display.warnings) and words in answer.answer.find("CUT").values["parts"]
    assert not read_study_state(study, new_plan(), REQUEST).finished
    time.now = 0.0
    assert train_and_conclude(study, time.executor(), time=3600, clock=time).longer is not None
    assert record_sweep(study).cut == ()


@pytest.mark.parametrize(("seconds", "trained"), [(3600, 4), (500, 2)])
def test_the_time_limit_decides_on_the_second_seed(seconds: int, trained: int) -> None:
    study, time = new_study(), Time()
    train_and_conclude(study, time.executor(), time=seconds, clock=time)
    assert len(studies.list_extra_results(study, "longer")) == trained
    assert time.now <= seconds
