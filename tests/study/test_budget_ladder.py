"""The ladder before the search ends when the classes are learned, when the gap is stable, or at its last rung."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
import pytest

from sweeper import storage as studies
from sweeper.core.records import BudgetProbe, Conditions, FamilyStart, SearchSpace, TrialResult, TrialSpec
from sweeper.space import load_space
from sweeper.study.budget_ladder import (
    LadderProgress,
    choose_ladder_pair,
    climb_ladder,
    find_unlearned_classes,
    is_comparable,
    make_probe_specs,
)
from sweeper.study.timekeeper import REPORT_SECONDS, SEARCH_SHARE
from sweeper.workflow.conclude import draw_conclusion
from sweeper.workflow.run_context import RunContext
from sweeper.workflow.settings import FinalOptions
from tests.support import builders
from tests.support.faking import SPACE, CrashError, FakeExecutor, fake_result, new_plan, new_study, record_sweep, train
from tests.support.sweeping import Recorder

CLASSES = ("road", "car", "pole", "sign")
SPACE_OF_CLASSES = load_space("multiclass", "multiclass")
CONDITIONS = builders.conditions(builders.dataset(CLASSES, images=60))
"""Shares of the pixels: 0.94, 0.05, 0.005, 0.0025."""

Ious = Callable[[str, int], Sequence[float | None]]
"""IoU of each class by loss and steps."""


def learn_from(steps: Mapping[str, int], gain: Callable[[int], float] = lambda _: 0.0) -> Ious:
    """Return IoUs with each class learned from its steps on by both losses; dice_ce gains `gain` on the first."""

    def ious(family: str, trained: int) -> list[float]:
        values = [0.5 if trained >= steps.get(name, 0) else 0.0 for name in CLASSES]
        values[0] += (family != "cross_entropy") * gain(trained)
        return values

    return ious


def make_result(
    spec: TrialSpec, ious: Sequence[float | None], plain: Sequence[float | None] | None = None
) -> TrialResult:
    """Return a training with these IoUs at its own operating point, and at the plain one."""
    defined = [iou for iou in ious if iou is not None]
    value = sum(defined) / len(defined)
    scores = builders.scores(value, len(ious))
    last = builders.evaluation(
        spec.steps,
        value,
        chosen=scores.model_copy(update={"iou": tuple(ious)}),
        default=scores.model_copy(update={"iou": tuple(plain or ious)}),
    )
    return builders.trial(spec.family, value, spec.number, len(ious), spec=spec, evaluations=(last,), run_id=None)


def climb(ious: Ious, space: SearchSpace = SPACE_OF_CLASSES, conditions: Conditions = CONDITIONS) -> LadderProgress:
    """Return the ladder after all trainings that it requests."""
    results = list[TrialResult]()
    while True:
        ladder = climb_ladder(results, space, conditions, 60.0, first=100, margin=0.01)
        if not ladder.lacking:
            return ladder
        results += [make_result(spec, ious(spec.family, spec.steps)) for spec in ladder.lacking]


def list_heights(ladder: LadderProgress) -> list[int]:
    return [rung.steps for rung in ladder.rungs]


# --- the pair ---


def select_families(*names: str, starts: Sequence[str] = ()) -> SearchSpace:
    families = tuple(f for f in SPACE_OF_CLASSES.families if f.family in names)
    return SPACE_OF_CLASSES.model_copy(
        update={"families": families, "starts": tuple(FamilyStart(family=name, params={}) for name in starts)}
    )


def replace_present(space: SearchSpace, name: str) -> SearchSpace:
    """Return the space with another present loss."""
    return space.model_copy(update={"present": FamilyStart(family=name, params={})})


@pytest.mark.parametrize(
    ("space", "pair"),
    [
        (SPACE_OF_CLASSES, ("cross_entropy", "dice_ce")),
        (SPACE, ("cross_entropy", "dice_ce")),
        (select_families("cross_entropy", "focal", "dice", "tversky"), ("cross_entropy", "dice")),
        (
            select_families("cross_entropy", "focal", "dice", "tversky", starts=["tversky"]),
            ("cross_entropy", "tversky"),
        ),
        (select_families("cross_entropy", "focal"), ("cross_entropy", "focal")),
        (select_families("focal", "dice_ce"), ("focal", "dice_ce")),
        (select_families("dice_ce"), ("dice_ce",)),
        (replace_present(SPACE, "tversky"), ("tversky", "cross_entropy")),
        (replace_present(SPACE, "focal"), ("focal", "dice_ce")),
    ],
)
def test_the_losses_of_the_ladder_differ_most_in_rare_classes(space: SearchSpace, pair: tuple[str, ...]) -> None:
    assert choose_ladder_pair(space) == pair
    assert [spec.family for spec in make_probe_specs(space, CONDITIONS, 60.0, 100)] == list(pair)


def test_the_second_loss_has_the_parameters_that_the_search_begins_with() -> None:
    defaults = make_probe_specs(SPACE_OF_CLASSES, CONDITIONS, 60.0, 100)[1]
    assert defaults.params == {"mix": 0.5, "class_weight_power": 0.0}
    starts = (
        FamilyStart(family="dice_ce", params={"dice_ce.mix": 0.2, "dice_ce.class_weight_power": 0.5}),
        FamilyStart(family="dice_ce", params={"dice_ce.mix": 0.1, "dice_ce.class_weight_power": 0.0}),
    )
    advised = make_probe_specs(SPACE_OF_CLASSES.model_copy(update={"starts": starts}), CONDITIONS, 60.0, 100)
    assert [spec.params for spec in advised] == [{}, {"mix": 0.2, "class_weight_power": 0.5}]
    assert {spec.lr for spec in advised} == {defaults.lr}


# --- where it ends ---


@pytest.mark.parametrize(
    ("steps", "ends"),
    [({}, 100), ({"sign": 200}, 200), ({"pole": 400, "sign": 200}, 400), ({"car": 101, "sign": 1600}, 1600)],
)
def test_the_ladder_ends_when_every_class_with_enough_pixels_is_learned(steps: dict[str, int], ends: int) -> None:
    ladder = climb(learn_from(steps, gain=lambda trained: trained / 1_000))  # the gap never settles
    assert list_heights(ladder)[-1] == ends
    assert ladder.rungs[-1].not_learned == () and all(rung.not_learned for rung in ladder.rungs[:-1])


def test_a_class_is_learned_if_one_of_the_two_losses_learns_it() -> None:
    def ious(family: str, _: int) -> list[float]:
        return [0.5, 0.4, 0.3, 0.0] if family == "cross_entropy" else [0.5, 0.0, 0.0, 0.3]

    assert list_heights(climb(ious)) == [100]


def test_a_class_is_learned_if_one_operating_point_predicts_it() -> None:
    spec = make_probe_specs(SPACE_OF_CLASSES, CONDITIONS, 60.0, 100)[0]
    assert find_unlearned_classes([make_result(spec, [0.5, 0.0, 0.1, 0.1], [0.5, 0.3, 0.0, 0.0])], CONDITIONS) == ()


@pytest.mark.parametrize(
    ("ious", "missing"),
    [
        ([0.04, 0.3, 0.3, 0.3], ("road",)),  # the most common class need only be predicted
        ([0.06, 0.3, 0.3, 0.3], ()),
        ([0.9, 0.3, 0.049, 0.0], ("pole", "sign")),
        ([0.9, None, 0.3, 0.3], ()),  # is not labelled in the validation images
    ],
)
def test_a_class_is_learned_above_a_floor(ious: list[float | None], missing: tuple[str, ...]) -> None:
    spec = make_probe_specs(SPACE_OF_CLASSES, CONDITIONS, 60.0, 100)[0]
    assert find_unlearned_classes([make_result(spec, ious)], CONDITIONS) == missing


@pytest.mark.parametrize(("hits", "missing"), [(0, ("sign",)), (9, ())])
def test_a_class_without_validation_images_is_learned_by_its_score_on_the_test(
    hits: int, missing: tuple[str, ...]
) -> None:
    spec = make_probe_specs(SPACE_OF_CLASSES, CONDITIONS, 60.0, 100)[0]
    test = builders.point_counts([[[90, 9, 9], [0, 9, 9], [0, 9, 0], [hits, 1, 9]]])
    result = make_result(spec, [0.9, 0.3, None, None]).model_copy(update={"test": test})
    assert find_unlearned_classes([result], CONDITIONS) == missing


def test_a_constant_answer_has_learned_no_class() -> None:
    """A class of three tenths of the pixels has an IoU of 0.3 where the whole image is taken for it."""
    conditions = builders.conditions(builders.counted_dataset([[70, 30]] * 30))
    spec = make_probe_specs(SPACE, conditions, 2.3, 100)[0]
    assert find_unlearned_classes([make_result(spec, [0.7, 0.3])], conditions) == ("c1",)
    assert find_unlearned_classes([make_result(spec, [0.7, 0.31])], conditions) == ()


@pytest.mark.parametrize(
    ("pixels", "learnable"),
    [
        ([[9_000, 980, 20]] * 30, 3),
        ([[9_000, 995, 5]] * 30, 3),  # 0.05 % of the pixels, in every image
        ([[9_000, 995, 5]] * 6 + [[9_000, 1_000, 0]] * 24, 2),
        ([[9_000, 900, 100]] * 6 + [[9_000, 1_000, 0]] * 24, 3),  # 0.2 %, in a fifth of the images
    ],
)
def test_a_class_with_too_few_pixels_does_not_prolong_the_ladder(pixels: list[list[int]], learnable: int) -> None:
    conditions = builders.conditions(builders.counted_dataset(pixels))
    ladder = climb(lambda *_: [0.5, 0.5, 0.5 * (learnable == 3)], conditions=conditions)
    assert list_heights(ladder) == [100] and ladder.rungs[0].learnable == learnable


def test_the_ladder_ends_when_the_gap_is_stable_and_most_classes_are_learned() -> None:
    ladder = climb(learn_from({"sign": 10_000}, gain=lambda trained: 0.2 if trained == 100 else 0.1))
    assert list_heights(ladder) == [100, 200, 400] and ladder.rungs[-1].not_learned == ("sign",)
    assert [round(rung.gap or 0.0, 3) for rung in ladder.rungs] == [0.05, 0.025, 0.025]


def test_the_ladder_continues_while_the_gap_changes() -> None:
    assert list_heights(climb(learn_from({"sign": 10_000}, gain=lambda trained: trained / 2_000)))[-1] == 1600


def test_a_gap_is_not_stable_while_new_classes_are_learned() -> None:
    ladder = climb(learn_from({"pole": 200, "car": 800, "sign": 10_000}))
    assert list_heights(ladder) == [100, 200, 400, 800, 1600]  # 200: pole is new; 400: two of four; 800: car is new


def test_a_gap_between_losses_that_learned_few_classes_is_not_comparable() -> None:
    ladder = climb(learn_from({"pole": 10_000, "sign": 10_000}))
    assert list_heights(ladder)[-1] == 1600 and not any(map(is_comparable, ladder.rungs))


def test_a_single_loss_climbs_until_its_classes_are_learned() -> None:
    space = select_families("dice_ce")
    assert list_heights(climb(learn_from({"sign": 400}), space)) == [100, 200, 400]
    assert list_heights(climb(learn_from({"sign": 10_000}), space))[-1] == 1600


def test_the_ladder_continues_with_one_loss_if_the_other_fails() -> None:
    results = list[TrialResult]()
    while specs := climb_ladder(results, SPACE_OF_CLASSES, CONDITIONS, 60.0, first=100, margin=0.01).lacking:
        results += [builders.failed_trial(specs[0].family, spec=specs[0])]
        results += [make_result(spec, learn_from({"sign": 200})(spec.family, spec.steps)) for spec in specs[1:]]
    assert [result.spec.steps for result in results] == [100, 100, 200, 200]


# --- in a sweep ---

PLAN = new_plan(SPACE_OF_CLASSES, CONDITIONS)


def make_sweep(ious: Ious, **settings: int) -> tuple[FakeExecutor, Recorder]:
    return FakeExecutor(lambda spec: make_result(spec, ious(spec.family, spec.steps)), **settings), Recorder()


def read_probe(study: optuna.Study) -> BudgetProbe:
    return studies.read_budget_probe(study.user_attrs)


TWO_RARE_CLASSES = learn_from({"pole": 10_000, "sign": 10_000})


def test_no_search_begins_if_too_few_classes_are_learned() -> None:
    study, (executor, display) = new_study(), make_sweep(TWO_RARE_CLASSES)
    train(study, executor, display, trials=9, finds_steps=True, plan=PLAN)
    assert {spec.purpose for spec in executor.specs} == {"probe"} and len(executor.specs) == 10
    words = "after 1600 steps 2 of 4 classes are not learned by any loss (pole and sign)"
    assert any(words in warning for warning in display.warnings)
    probe = read_probe(study)
    assert not probe.learned and len(probe.rungs) == 5
    parts = {"budget": probe.sentence, "learned": False, "rungs": probe.rungs, "conditions": CONDITIONS}
    probes = tuple(studies.list_extra_results(study, "probe"))
    answer = draw_conclusion(builders.sweep(trials=(), confirmations=(), probes=probes, **parts)).answer
    assert answer.find("UNLEARNED").values == {"classes": ("pole", "sign")}
    assert any("--steps 6400" in step.command for step in answer.next)


@pytest.mark.parametrize("after", range(10))
def test_an_interrupted_ladder_ends_like_an_uninterrupted_one(after: int) -> None:
    uninterrupted, (executor, _) = new_study(), make_sweep(TWO_RARE_CLASSES)
    train(uninterrupted, executor, trials=9, finds_steps=True, plan=PLAN)
    study, (crashing, _) = new_study(), make_sweep(TWO_RARE_CLASSES, crash_after=after, workers=1 + after % 2)
    with pytest.raises(CrashError):
        train(study, crashing, trials=9, finds_steps=True, plan=PLAN)
    resumed, _ = make_sweep(TWO_RARE_CLASSES)
    train(study, resumed, trials=9, finds_steps=True, plan=PLAN)
    assert read_probe(study) == read_probe(uninterrupted) and len(resumed.specs) == 10 - after


@pytest.mark.parametrize(("steps", "trained", "searched"), [(50, 1, None), (300, 4, None), (900, 6, 400)])
def test_the_last_comparable_rung_counts_if_the_time_ends_on_the_ladder(
    steps: int, trained: int, searched: int | None
) -> None:
    """Each step takes a second: up to 400 steps of both are 1,400 s. The share of the search ends after 2 × `steps`."""
    limit = 100_000.0
    elapsed = [SEARCH_SHARE * (limit - REPORT_SECONDS) - 2 * steps]
    ious = learn_from({"pole": 400, "sign": 10_000}, gain=lambda steps: steps / 1_000)

    def train_spec(spec: TrialSpec) -> TrialResult:
        elapsed[0] += spec.steps
        return make_result(spec, ious(spec.family, spec.steps)).model_copy(update={"seconds": float(spec.steps)})

    study, display = new_study(), Recorder()
    executor = FakeExecutor(train_spec)
    settings: dict[str, Any] = {"finds_steps": True, "plan": PLAN}
    train(study, executor, display, trials=9, time=limit, clock=lambda: elapsed[0], **settings)
    probe = read_probe(study)
    assert (probe.steps if probe.learned else None) == searched
    assert any("was not found out" in line for line in display.warnings)
    if searched is None:  # with more time the ladder is climbed on, and nothing twice
        second_executor = FakeExecutor(train_spec)
        before = len(executor.specs)
        train(study, second_executor, trials=1, time=1e6, **settings)
        probed = [spec.steps for spec in second_executor.specs if spec.purpose == "probe"]
        assert before == trained and len(probed) == 10 - trained and max(probed) == 1600


# --- what it leaves time for ---


def make_slow(ious: Ious, seconds: float) -> Callable[[TrialSpec], TrialResult]:
    """Return trainings with this many seconds a step."""

    def train_one(spec: TrialSpec) -> TrialResult:
        result = make_result(spec, ious(spec.family, spec.steps)) if spec.purpose == "probe" else fake_result(spec)
        return result.model_copy(update={"seconds": seconds * spec.steps})

    return train_one


@pytest.mark.parametrize(
    ("seconds", "highest", "fits"), [(0.01, 1600, True), (0.04, 800, True), (0.1, 400, True), (0.2, 400, True)]
)
def test_no_rung_is_trained_whose_comparison_would_not_fit(seconds: float, highest: int, fits: bool) -> None:
    """Losses are comparable from 400 steps on: a higher rung is useful only if a comparison there fits in 5 minutes."""
    ious = learn_from({"pole": 400, "sign": 10_000}, gain=lambda steps: steps / 1_000)

    def train_spec(spec: TrialSpec) -> TrialResult:
        result = make_result(spec, ious(spec.family, spec.steps))
        return result.model_copy(update={"seconds": seconds * spec.steps})

    study, executor = new_study(), FakeExecutor(train_spec, workers=2)
    train(study, executor, trials=50, settles=True, finds_steps=True, plan=PLAN, time=300)
    probe = read_probe(study)
    assert max(rung.steps for rung in probe.rungs) == highest
    assert probe.learned == fits and probe.steps == highest


def learn_two_classes(steps: int) -> Ious:
    """Return IoUs of two classes that are learned from `steps` steps on."""
    return lambda _, trained: [0.9, 0.5 if trained >= steps else 0.0]


def list_plan(study: optuna.Study, context: RunContext) -> tuple[Any, ...]:
    recipe, request = context.plan.conditions.recipe, context.request
    losses = {trial.spec.family for trial in studies.search_results(study)}
    searched = [(r.spec.family, r.spec.lr, r.value) for r in studies.search_results(study)]
    return recipe.steps, recipe.confirm_steps, losses, request.trials, request.analyses, searched


@pytest.mark.parametrize("time", [None, 3600])
def test_a_plan_that_fits_at_the_first_steps_is_not_changed(time: int | None) -> None:
    study, executor = new_study(), FakeExecutor(make_slow(learn_two_classes(100), 0.01))
    context = train(study, executor, trials=50, finds_steps=True, settles=True, time=time)
    assert context.plan.conditions.recipe.steps == 100 and context.request.trials == 50
    assert [spec.purpose for spec in executor.specs].count("probe") == 2
    assert len(context.plan.space.families) == 7 and read_probe(study).earliest == 0
    assert context.request.analyses[-1].seeds == (3 if time is None else 8)  # as `train` has them, where nothing is


def test_only_a_time_that_was_given_reduces_the_tried_losses_at_the_first_steps() -> None:
    for minutes, losses in ((None, 7), (600, 7), (32, 6), (24.75, 2)):
        study = new_study()
        executor = FakeExecutor(make_slow(learn_two_classes(100), 1.0))
        time = minutes and 60 * minutes
        context = train(study, executor, trials=50, finds_steps=True, settles=True, time=time)
        assert len({trial.spec.family for trial in studies.search_results(study)}) == losses, minutes
        assert len(context.plan.space.families) == 7, "a resume with more trials tries the others"


def test_fewer_losses_are_tried_if_steps_are_slow_and_a_resume_tries_the_others() -> None:
    study, display = new_study(), Recorder()
    executor = FakeExecutor(make_slow(learn_two_classes(400), 0.12), workers=2)
    context = train(study, executor, display, trials=50, finds_steps=True, settles=True, time=500)
    steps, confirm_steps, losses, trials, _, searched = list_plan(study, context)
    assert (steps, confirm_steps, losses, trials) == (400, 400, {"cross_entropy", "dice_ce", "weighted_ce"}, 3)
    assert {spec.family for spec in executor.specs} == losses
    assert [spec.family for spec in executor.specs if spec.purpose == "search"] == ["weighted_ce"]
    assert len(searched) == 3 and studies.list_extra_results(study, "confirm")
    words = "searching at 400 steps, 400 to confirm, in at most 3 trials of 7 losses"
    assert any(words in line for line in display.lines)
    second_executor = FakeExecutor(make_slow(learn_two_classes(400), 0.12))
    resumed = train(study, second_executor, trials=50, finds_steps=True, settles=True, time=500, plan=context.plan)
    assert second_executor.specs == [] and list_plan(study, resumed) == list_plan(study, context)
    more = train(study, second_executor, trials=7, finds_steps=True, time=1e6, plan=context.plan)
    assert len(list_plan(study, more)[2]) == 7 and more.plan.conditions.recipe.steps == 400


@pytest.mark.parametrize("after", range(0, 11, 2))
def test_an_interruption_does_not_change_the_search_after_the_ladder(after: int) -> None:
    settings: dict[str, Any] = {"trials": 50, "finds_steps": True, "settles": True, "time": 540}
    uninterrupted, study = new_study(), new_study()
    expected = train(uninterrupted, FakeExecutor(make_slow(learn_two_classes(400), 0.1)), **settings)
    with pytest.raises(CrashError):
        train(study, FakeExecutor(make_slow(learn_two_classes(400), 0.1), crash_after=after), **settings)
    probe = studies.read_budget_probe(study.user_attrs)
    plan = new_plan() if probe is None or probe.steps is None else expected.plan  # as it is stored by then
    context = train(study, FakeExecutor(make_slow(learn_two_classes(400), 0.1)), plan=plan, **settings)
    assert list_plan(study, context) == list_plan(uninterrupted, expected)


def test_no_trial_is_stopped_before_the_previous_rung() -> None:
    study, display = new_study(), Recorder()
    executor = FakeExecutor(make_slow(learn_two_classes(400), 0.001))
    train(study, executor, display, trials=30, finds_steps=True)
    assert display.paused
    stopped = [r.evaluations[-1].step for r in studies.search_results(study) if r.state == "pruned"]
    assert stopped and min(stopped) == 200
    assert read_probe(study).earliest == 200


@pytest.mark.parametrize("time", [None, 400])
def test_where_no_comparison_fits_the_smallest_that_can_decide_is_begun(time: int | None) -> None:
    """The ladder to 400 steps takes 175 s, the learning rate 200 s, and the pair's comparison 350 s."""
    study, display = new_study(), Recorder()
    executor = FakeExecutor(make_slow(learn_two_classes(400), 0.25), workers=2)
    context = train(study, executor, display, trials=50, finds_steps=True, settles=True, time=time)
    breadth = read_probe(study).breadth
    assert breadth is not None and context.plan.conditions.recipe.steps == 400
    assert (breadth.trials, breadth.seeds) == (2, (3, 4))
    end = "in about 12" if time is None else "while time lasts"
    words = f"searching at 400 steps, 400 to confirm, in at most 2 trials of 7 losses, {end}"
    assert any(words in line for line in display.lines), display.lines
    assert {trial.spec.family for trial in studies.search_results(study)} == {"cross_entropy", "dice_ce"}
    assert studies.list_extra_results(study, "confirm")


@pytest.mark.parametrize(
    ("time", "rungs", "least", "most"),
    [(None, [100, 200], 40, 60), (300, [100], 20, 30), (7200, [100, 200, 400, 800], 180, 220)],
)
def test_a_rung_that_takes_too_long_is_skipped_and_its_minutes_reported(
    time: int | None, rungs: list[int], least: int, most: int
) -> None:
    """By default a comparison may take 30 minutes; to 400 steps it takes 36."""
    study, executor = new_study(), FakeExecutor(make_slow(TWO_RARE_CLASSES, 1.0), workers=2)
    train(study, executor, trials=50, finds_steps=True, settles=True, plan=PLAN, time=time, final=FinalOptions())
    probe = read_probe(study)
    assert [rung.steps for rung in probe.rungs] == rungs and not probe.learned
    assert f"after {rungs[-1]} steps 2 of 4 classes are not learned by any loss" in probe.sentence
    assert probe.minutes is not None and least < probe.minutes < most
    options = f"--resume --time {probe.minutes}m"
    stored = {"budget": probe.sentence, "learned": False, "minutes": probe.minutes}
    sweep = builders.sweep(trials=(), confirmations=(), **stored)
    (step,) = (step for step in draw_conclusion(sweep).answer.next if step.code == "TIME")
    assert step.command == f"sweeper run --study {sweep.study} {options}"


def test_the_ladders_pair_is_confirmed_where_the_share_of_the_search_is_over() -> None:
    """The pair ends after 125 s, and no training of 30 s more fits into 60 % of the 225 s."""
    elapsed = [65.0]

    def pass_time(spec: TrialSpec) -> None:
        elapsed[0] += 0.3 * spec.steps

    study, executor = new_study(), FakeExecutor(make_slow(learn_two_classes(100), 0.3), began=pass_time)
    context = train(study, executor, trials=50, finds_steps=True, settles=True, time=240, clock=lambda: elapsed[0])
    assert {spec.purpose for spec in executor.specs} == {"probe", "confirm"} and elapsed[0] <= 240
    families = {result.spec.family for result in studies.list_extra_results(study, "confirm")}
    assert families == {"cross_entropy", "dice_ce"}
    assert draw_conclusion(record_sweep(study, context.plan)).answer.outcome == "keep"
