"""A sweep that learns nothing ends before the search with a warning, and such losses are not confirmed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from sweeper import storage as studies
from sweeper.core.records import Collapse, ImageCounts, Outcome, TrialResult, TrialSpec
from sweeper.workflow.conclude import draw_conclusion
from sweeper.workflow.options import resolve_request
from tests.support import builders
from tests.support.faking import FakeExecutor, fake_result, new_study, train
from tests.support.sweeping import Recorder


def learn_from(steps: int) -> Callable[[TrialSpec], TrialResult]:
    """Let trainings of fewer steps end no better than a constant answer."""

    def train_one(spec: TrialSpec) -> TrialResult:
        collapse = Collapse.NONE if spec.steps >= steps else Collapse.NO_BETTER_THAN_CONSTANT
        return fake_result(spec).model_copy(update={"collapse": collapse})

    return train_one


def count_probes(executor: FakeExecutor) -> Counter[int]:
    return Counter(spec.steps for spec in executor.specs if spec.purpose == "probe")


@pytest.mark.parametrize(("options", "is_probed"), [({}, True), ({"steps": 100}, False)])
def test_a_budget_is_probed_only_without_steps(options: dict[str, object], is_probed: bool) -> None:
    assert resolve_request(options).finds_steps == is_probed


def test_the_steps_are_raised_until_a_loss_learns() -> None:
    study, executor, display = new_study(), FakeExecutor(learn_from(400)), Recorder()
    context = train(study, executor, display, trials=7, finds_steps=True)
    assert count_probes(executor) == {100: 2, 200: 2, 400: 2}
    recipe = context.plan.conditions.recipe
    assert (recipe.steps, recipe.confirm_steps) == (400, 800)
    assert {spec.steps for spec in executor.specs if spec.purpose == "search"} == {400}
    assert any("all 2 classes are learned after 400: searching at 400 steps" in line for line in display.lines)


def train_with_gain(miou: float) -> Callable[[TrialSpec], TrialResult]:
    """Let binary answers beat a constant one by so much, from 200 steps on by 0.1."""

    def train_one(spec: TrialSpec) -> TrialResult:
        gain = miou if spec.steps < 200 else 0.1
        hits = round(2 * gain * 1000)  # of 1000 foreground pixels; the background's IoU grows by next to nothing
        foreground, background = (hits, 0, 1000 - hits), (999_000, 1000 - hits, 0)
        data = np.array([[[background, foreground]]], dtype=np.uint32)
        result = fake_result(spec)
        last = result.evaluations[-1].model_copy(update={"point": 0.5})
        counts = ImageCounts(kind="points", images=(0,), points=(0.5,), data=data)
        return result.model_copy(update={"val": counts, "evaluations": (*result.evaluations[:-1], last)})

    return train_one


@pytest.mark.parametrize(("gain", "steps"), [(0.004, 200), (0.02, 200), (0.03, 100)])
def test_steps_are_raised_until_a_loss_clearly_beats_a_constant_answer(gain: float, steps: int) -> None:
    """A search among losses that hardly beat a constant answer shows nothing, and costs as much as any other."""
    study, executor, display = new_study(), FakeExecutor(train_with_gain(gain)), Recorder()
    context = train(study, executor, display, trials=7, finds_steps=True)
    assert context.plan.conditions.recipe.steps == steps
    assert any("no loss clearly beats a constant answer after 100" in line for line in display.lines) == (steps > 100)


def test_no_search_begins_if_no_loss_learns() -> None:
    study, executor, display = new_study(), FakeExecutor(learn_from(10_000)), Recorder()
    train(study, executor, display, trials=50, finds_steps=True)
    assert count_probes(executor) == {100: 2, 200: 2, 400: 2, 800: 2, 1600: 2}
    assert {spec.purpose for spec in executor.specs} == {"probe"}
    assert any("no loss clearly beats a constant answer after 1600 steps" in line for line in display.warnings)
    probe = studies.read_budget_probe(study.user_attrs)
    probes = tuple(map(learn_from(10_000), executor.specs))
    sweep = builders.sweep(trials=(), confirmations=(), probes=probes, budget=probe.sentence, learned=probe.learned)
    answer = draw_conclusion(sweep).answer
    assert answer.outcome is Outcome.NONE
    assert any("--steps 6400" in step.command for step in answer.next)


def test_the_search_begins_if_all_probes_fail() -> None:
    def fail_probe(spec: TrialSpec) -> TrialResult:
        if spec.purpose != "probe":
            return fake_result(spec)
        return builders.failed_trial(spec.family, spec=spec)

    study, executor = new_study(), FakeExecutor(fail_probe)
    context = train(study, executor, trials=7, finds_steps=True)
    assert count_probes(executor) == {100: 2}
    assert context.plan.conditions.recipe.steps == 100 and studies.read_budget_probe(study.user_attrs).learned
    assert "search" in {spec.purpose for spec in executor.specs}


def test_a_study_that_has_begun_is_not_probed() -> None:
    study = new_study()
    train(study, trials=7)
    executor = FakeExecutor()
    train(study, executor, trials=9, finds_steps=True)
    assert not count_probes(executor) and studies.PROBED not in study.user_attrs


def test_nothing_is_confirmed_if_no_trial_learned() -> None:
    study, executor, display = new_study(), FakeExecutor(learn_from(10_000)), Recorder()
    train(study, executor, display, trials=7)
    assert {spec.purpose for spec in executor.specs} == {"rate", "search"}
    assert any("so that nothing was confirmed" in line for line in display.warnings)
    trials, probe = tuple(studies.search_results(study)), studies.read_budget_probe(study.user_attrs)
    sweep = builders.sweep(trials=trials, confirmations=(), budget=probe.sentence, learned=probe.learned)
    answer = draw_conclusion(sweep).answer
    assert answer.outcome is Outcome.NONE
    assert [step.code for step in answer.next] == ["CHECK", "STEPS"]
