"""The final training as a phase: its losses, its seeds, the time limit, and its result after an interruption."""

from __future__ import annotations

from functools import partial
from typing import Any

import optuna
import pytest

from sweeper import storage as studies
from sweeper.core.recipe import FinalNetwork
from sweeper.core.records import Collapse, Outcome, TrialResult, TrialSpec
from sweeper.evidence.answer_text import list_rows
from sweeper.evidence.phrases import format_head
from sweeper.study.finalist import FINAL_FROM, derive_confirmation_seed
from sweeper.workflow.conclude import Conclusion, draw_conclusion, make_document
from sweeper.workflow.forecast import count_trainings_left, plan_text
from sweeper.workflow.options import resolve_request
from sweeper.workflow.settings import FinalOptions
from sweeper.workflow.study_state import read_study_state
from tests.support import builders
from tests.support.faking import (
    ANALYSES,
    DATA,
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

AUTO = FinalOptions()
REQUEST = resolve_request({"trials": 7})._replace(analyses=tuple(ANALYSES))


def train_planted(spec: TrialSpec, **final: float) -> TrialResult:
    """Return a training; the final ones reach these levels where others reach theirs."""
    return fake_result(spec, {**LEVELS, **final} if spec.purpose == "final" else LEVELS)


def train_unsteadily(spec: TrialSpec) -> TrialResult:
    """Return a training; that of cross-entropy gains or loses 0.02 by its seed, so that one seed decides little."""
    swing = 0.02 * (-1) ** spec.seed if spec.is_tested else 0.0
    level = 0.55 if spec.purpose == "final" else LEVELS["cross_entropy"]
    return fake_result(spec, {**LEVELS, "cross_entropy": level + swing})


def train_and_conclude(study: optuna.Study, executor: FakeExecutor | None = None, **more: object) -> Conclusion:
    train(study, executor or FakeExecutor(), trials=7, **{"final": AUTO, **more})  # type: ignore[arg-type]
    return draw_conclusion(record_sweep(study))


def list_final_specs(executor: FakeExecutor) -> list[TrialSpec]:
    return [spec for spec in executor.specs if spec.purpose == "final"]


def test_the_recommended_loss_and_cross_entropy_are_trained_on_one_new_seed() -> None:
    study, executor = new_study(), FakeExecutor(workers=2)
    train_and_conclude(study, executor)
    specs, seed = list_final_specs(executor), derive_confirmation_seed(0, FINAL_FROM)
    assert [(s.family, s.seed, s.steps) for s in specs] == [("dice", seed, 800), ("cross_entropy", seed, 800)]
    assert len({s.lr for s in specs}) == 1 and seed not in {s.seed for s in executor.specs if s.purpose != "final"}
    assert [r.spec for r in studies.list_extra_results(study, "final")] == specs
    assert all(r.test is not None for r in record_sweep(study).final)


@pytest.mark.parametrize(
    ("final", "seeds", "head"),
    [
        ({}, 1, "In the final training the gain is +0.053 (1 seed)."),
        ({"cross_entropy": 0.3}, 1, "In the final training the gain is +0.16 (1 seed)."),
        ({"cross_entropy": 0.55}, 1, "In the final training the gain is +0.027 (1 seed)."),
        ({"cross_entropy": 0.61}, 1, "Keep `cross_entropy`"),  # a loss that only learns faster
        pytest.param({"cross_entropy": 0.75}, 1, "Keep `cross_entropy`", marks=pytest.mark.slow),
    ],
)
def test_the_head_leads_with_the_gain_in_the_final_training(final: dict[str, float], seeds: int, head: str) -> None:
    conclusion = train_and_conclude(new_study(), FakeExecutor(partial(train_planted, **final), workers=2))
    gap, said = conclusion.final, format_head(conclusion.answer)
    assert gap is not None and (gap.first, gap.second, gap.steps) == ("dice", "cross_entropy", 800)
    is_kept = gap.after.estimate < conclusion.answer.margin
    assert gap.seeds == seeds and head in said
    assert conclusion.answer.outcome == ("keep" if is_kept else "change")
    assert ("The gain of `dice`, +0.052" in said) == is_kept == (conclusion.answer.find("FADED") is not None)


def test_where_cross_entropy_is_recommended_the_best_other_loss_is_trained_with_it() -> None:
    levels = {**LEVELS, "cross_entropy": 0.7}
    study, executor = new_study(), FakeExecutor(lambda spec: fake_result(spec, levels), workers=2)
    conclusion = train_and_conclude(study, executor)
    assert [s.family for s in list_final_specs(executor)] == ["cross_entropy", "dice"]
    assert conclusion.final is not None
    assert (conclusion.final.first, conclusion.final.second) == ("dice", "cross_entropy")
    assert conclusion.final.after.estimate < 0 and conclusion.answer.outcome == "keep"
    assert "final training" not in format_head(conclusion.answer)


def test_a_final_training_needs_a_request_and_a_comparison_without_folds() -> None:
    for more in ({"final": None}, {"trials": 1, "plan": ONE_RATE}):
        study = new_study()
        train(study, **{"trials": 7, "final": AUTO, **more})  # type: ignore[arg-type]
        conclusion = draw_conclusion(record_sweep(study, more.get("plan")))
        assert conclusion.final is None and not studies.list_extra_results(study, "final")
        assert "final training" not in format_head(conclusion.answer)
    assert resolve_request({"final": "steps=9"}).final == FinalOptions(steps=9)
    assert resolve_request({"final": "auto", "folds": 3}).final is None
    assert resolve_request({"command": "python train.py"}).final is None


# --- resumed ---


@pytest.mark.parametrize("after", rest_slow([3, 0, 1, 2, 4, 5]))
def test_an_interrupted_final_training_resumes_to_the_same_result(after: int) -> None:
    whole, study = new_study(), new_study()
    uncut = FakeExecutor(train_unsteadily)
    expected = train_and_conclude(whole, uncut)
    assert expected.final is not None and expected.final.seeds == 3
    with pytest.raises(CrashError):
        train_and_conclude(study, FakeExecutor(train_unsteadily, crash_after=uncut.ended - 6 + after))
    assert len(studies.list_extra_results(study, "final")) == after
    answer = train_and_conclude(study, FakeExecutor(train_unsteadily))
    assert answer.final == expected.final
    names = [{k: v for k, v in s.user_attrs.items() if k.startswith("final/")} for s in (whole, study)]
    assert names[0] == names[1] and len(names[0]) == 6


def test_a_resume_adds_a_final_training_to_an_old_study_once() -> None:
    study, plan = new_study(), new_plan()
    before = train_and_conclude(study, final=None)
    step = before.answer.next[0]
    assert before.final is None and before.answer.outcome == "change" and step.code == "LOOK"
    assert step.command.startswith("sweeper run --study toy-") and step.command.endswith(" --resume --final auto")
    state = read_study_state(study, plan, REQUEST)
    assert not state.finished and read_study_state(study, plan, REQUEST._replace(final=None)).finished
    left = count_trainings_left(plan, REQUEST, state)
    assert list(left) == ["final"] and left["final"].steps == 800
    assert plan_text(left, plan.conditions.recipe) == "at most 8 trainings of 800 steps in the final training"
    after = train_and_conclude(study)
    assert after.final is not None and not any("--final" in step.command for step in after.answer.next)
    state = read_study_state(study, plan, REQUEST)
    assert state.finished and not count_trainings_left(plan, REQUEST, state)
    repeated = FakeExecutor()
    train_and_conclude(study, repeated)
    assert repeated.specs == []
    longest = FakeExecutor()
    answer = train_and_conclude(study, longest, final=FinalOptions(steps=3200))
    assert {s.steps for s in longest.specs} == {3200} and answer.final is not None and answer.final.steps == 3200


# --- within the time ---


def test_the_answer_reports_a_final_training_that_the_time_limit_prevented() -> None:
    study, time, display = new_study(), Time(), Recorder()
    answer = train_and_conclude(study, time.executor(), display=display, time=400, clock=time)
    assert answer.answer.use is not None and answer.final is None
    words = "the final training (800 steps) ended after 0 of up to 4 seeds"
    assert any(words in line for line in display.warnings) and words in answer.answer.find("CUT").values["parts"]
    assert not read_study_state(study, new_plan(), REQUEST).finished
    time.now = 0.0
    assert train_and_conclude(study, time.executor(), time=3600, clock=time).final is not None
    assert record_sweep(study).cut == ()


# --- in another network than the search's ---

WHOLE = FinalNetwork(encoder="resnet34", encoder_weights="imagenet", size=96)
OTHER = new_plan(conditions=builders.conditions(DATA, final=WHOLE))


def conclude_in(final: dict[str, float], **options: Any) -> tuple[Conclusion, list[TrialSpec]]:
    """Return the conclusion of a study whose losses reach these levels in the network of the final training."""
    study, executor = new_study(), FakeExecutor(partial(train_planted, **final), workers=2)
    train(study, executor, plan=OTHER, **{"trials": 7, "final": AUTO, **options})  # type: ignore[arg-type]
    sweep = record_sweep(study, OTHER, learned=options.get("learned", True))
    return draw_conclusion(sweep), list_final_specs(executor)


def test_a_gain_that_another_network_shows_is_the_answer_with_its_numbers() -> None:
    conclusion, specs = conclude_in({"dice": 0.65, "cross_entropy": 0.62})
    answer, evidence = conclusion.answer, conclusion.evidence
    assert {spec.steps for spec in specs} == {500} and len(specs) == 8
    assert conclusion.in_final and evidence is not None and conclusion.searched is not None
    assert {(one.family, len(one.seeds)) for one in evidence.finalists} == {("dice", 4), ("cross_entropy", 4)}
    assert {one.family for one in conclusion.searched.finalists} == {"dice", "dice_ce", "cross_entropy"}
    assert answer.outcome is Outcome.CHANGE and answer.gain is not None and answer.gain.estimate < 0.04
    assert answer.find("MISSING") is None, "the third loss was judged before"
    head = format_head(answer)
    assert f"about {answer.gain.estimate:+.3f} mIoU. Decided in the final training, on 4 seeds; in the" in head
    assert conclusion.final is not None and conclusion.final.after.ends == answer.gain.model_dump()


def test_a_gain_that_another_network_does_not_show_is_no_change() -> None:
    conclusion, specs = conclude_in({"dice": 0.65, "cross_entropy": 0.65})
    assert len(specs) == 4, "two seeds leave no room for a gain"
    assert conclusion.answer.outcome is Outcome.KEEP and not conclusion.in_final
    remark = conclusion.answer.find("FADED")
    assert remark is not None and remark.values["before"] > 0.02 > abs(remark.values["estimate"])


def test_a_gain_that_only_another_network_shows_on_four_seeds_is_found() -> None:
    levels = dict.fromkeys(LEVELS, 0.6)
    study = new_study()
    executor = FakeExecutor(
        lambda spec: fake_result(spec, {**levels, "cross_entropy": 0.56 if spec.purpose == "final" else 0.61}),
        workers=2,
    )
    train(study, executor, plan=OTHER, trials=7, final=AUTO)
    conclusion = draw_conclusion(record_sweep(study, OTHER))
    assert conclusion.searched is not None and conclusion.searched.baseline is not None
    assert len(list_final_specs(executor)) == 8
    assert conclusion.answer.outcome is Outcome.CHANGE and conclusion.in_final
    assert conclusion.answer.use is not None and conclusion.answer.use.loss != "cross_entropy"


def test_where_four_seeds_leave_it_open_the_answer_is_about_the_network_that_is_taken_home() -> None:
    def train_noisily(spec: TrialSpec) -> TrialResult:
        if spec.purpose != "final":
            return fake_result(spec, {**dict.fromkeys(LEVELS, 0.6), "cross_entropy": 0.61})
        swing = 0.05 * (-1) ** spec.seed if spec.family == "cross_entropy" else 0.0
        return fake_result(spec, {**dict.fromkeys(LEVELS, 0.75), "cross_entropy": 0.7 + swing})

    study, executor = new_study(), FakeExecutor(train_noisily, workers=2)
    train(study, executor, plan=OTHER, trials=7, final=AUTO)
    sweep = record_sweep(study, OTHER)
    conclusion = draw_conclusion(sweep)
    document = make_document(sweep, conclusion)
    assert len(list_final_specs(executor)) == 8 and conclusion.in_final
    assert (document.outcome, document.used) == ("keep", "cross_entropy") and document.sure == "open"
    best = max(document.losses, key=lambda row: row.mean)
    assert best.loss != "cross_entropy" and best.mean > 0.7, "the whole network's score"
    assert conclusion.answer.find("BET") is not None
    assert "in the search's trainings" in format_head(conclusion.answer)
    assert "ResNet-34" in dict(list_rows(document))["Holds for"]


def test_where_the_search_s_network_learns_nothing_the_final_one_answers() -> None:
    def train_one(spec: TrialSpec) -> TrialResult:
        if spec.purpose != "final":
            constant = fake_result(spec, dict.fromkeys(LEVELS, 0.4))
            return constant.model_copy(update={"collapse": Collapse.ALL_BACKGROUND})
        return fake_result(spec, {**LEVELS, "dice_ce": 0.6})

    study, executor = new_study(), FakeExecutor(train_one, workers=2)
    train(study, executor, plan=OTHER, trials=7, final=AUTO, finds_steps=True, looks_first=True)
    assert {spec.purpose for spec in executor.specs} == {"probe", "final"} and len(list_final_specs(executor)) == 8
    conclusion = draw_conclusion(record_sweep(study, OTHER, learned=False))
    assert conclusion.answer.outcome is Outcome.CHANGE and conclusion.answer.find("FINAL_ALONE")
    assert conclusion.answer.use is not None and conclusion.answer.use.loss == "dice_ce"
    same = FakeExecutor(train_one)
    train(new_study(), same, trials=7, final=AUTO, finds_steps=True, looks_first=True)
    assert not list_final_specs(same), "the same network would not learn more"
