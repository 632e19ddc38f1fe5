"""Choice of the finalists, their learning rates, and losses that are equal under two names; trainings are simulated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from sweeper import storage as studies
from sweeper.core.records import Collapse, Conditions, Coordinate, StudyRates, TrialResult, TrialSpec
from sweeper.space import load_named_losses, load_space
from sweeper.study.finalist import (
    Finalist,
    TriedConfigurations,
    choose_finalists,
    collect_configurations,
    list_replications,
    make_confirmation_specs,
)
from sweeper.study.learning_rates import choose_drawn_range, draw_rate
from sweeper.study.same_loss import EquivalenceQuestion
from sweeper.workflow.conclude import draw_conclusion
from tests.support import builders
from tests.support.faking import DATA, LEVELS, FakeExecutor, fake_result, new_plan, new_study, record_sweep, train
from tests.support.sweeping import Recorder

SPACE = load_space("binary", "binary")


RATE = 1e-3
RATES = StudyRates(by_family=dict.fromkeys(SPACE.by_name, RATE))


def make_plan() -> studies.StudyPlan:
    return new_plan(load_space("binary", "binary"), builders.conditions(DATA))


def collect(trials: Sequence[TrialResult], others: Sequence[TrialResult] = ()) -> TriedConfigurations:
    at_rate = [t.model_copy(update={"spec": t.spec.model_copy(update={"lr": RATE})}) for t in trials]
    return collect_configurations(at_rate, others, RATES, SPACE, builders.conditions(DATA))


def select(trials: Sequence[TrialResult]) -> list[Finalist]:
    return choose_finalists(collect(trials), SPACE)


def train_peaked(best: float, width: float = 1.0) -> Callable[[TrialSpec], TrialResult]:
    """Return trainings that are best at a learning rate, and lose 0.05 a `width` decades away."""

    def train_one(spec: TrialSpec) -> TrialResult:
        result = fake_result(spec)
        level = LEVELS[spec.family] - 0.05 * (math.log10(spec.lr / best) / width) ** 2
        shift = max(0.01, level) - (result.value or 0.0)
        evaluations = tuple(e.model_copy(update={"value": e.value + shift}) for e in result.evaluations)
        return result.model_copy(update={"value": max(0.01, level), "evaluations": evaluations})

    return train_one


# --- learning rates ---


def test_all_trainings_of_a_seed_share_a_rate_near_the_optimum() -> None:
    study, plan = new_study(), make_plan()
    train(study, FakeExecutor(train_peaked(2e-3, 0.5)), trials=28, plan=plan)
    rates = studies.read_rates(study.user_attrs)
    assert rates is not None and len({*rates.by_family.values()}) == 1
    (rate,) = {*rates.by_family.values()}
    drawn = choose_drawn_range(rate, plan.space.lr)
    assert all(r.spec.lr in drawn for r in studies.search_results(study)) and 1.4e-3 < rate < 2.9e-3
    by_seed: dict[int, set[float]] = {}
    for result in studies.list_compared_results(study):
        by_seed.setdefault(result.spec.seed, set()).add(result.spec.lr)
    assert all(len(drawn) == 1 for drawn in by_seed.values())
    assert len(set.union(*by_seed.values())) == len(by_seed)  # but each seed another
    evidence = draw_conclusion(record_sweep(study, plan)).evidence
    for finalist in evidence.finalists:
        assert finalist.rates is not None and finalist.rates.low <= rate <= finalist.rates.high
        assert finalist.lr == finalist.seed_lrs[0] and not finalist.lr_at_edge
        assert finalist.seed_lrs == tuple(draw_rate(finalist.rates, n) for n in range(len(finalist.seeds)))


def test_the_rate_is_found_once() -> None:
    study, plan = new_study(), make_plan()
    train(study, FakeExecutor(train_peaked(2e-3)), trials=9, plan=plan)
    before, tried = studies.read_rates(study.user_attrs), studies.list_extra_results(study, "rate")
    assert {r.spec.family for r in tried} == {"cross_entropy", "dice_ce"} and len(tried) in (4, 6)
    train(study, FakeExecutor(train_peaked(4e-4)), trials=20, plan=plan)
    assert studies.read_rates(study.user_attrs) == before and studies.list_extra_results(study, "rate") == tried


def test_the_rate_is_found_though_all_of_its_trainings_fail() -> None:
    def train_one(spec: TrialSpec) -> TrialResult:
        result = train_peaked(2e-3)(spec)
        changes = {"state": "failed", "value": None, "reason": "OSError: no room"}
        return result.model_copy(update=changes) if spec.purpose == "rate" else result

    study, plan = new_study(), make_plan()
    train(study, FakeExecutor(train_one), trials=9, plan=plan)
    rates = studies.read_rates(study.user_attrs)
    assert rates is not None and [*rates.by_family.values()] == pytest.approx([1e-3] * len(SPACE.families))
    assert {r.state for r in studies.list_extra_results(study, "confirm")} == {"complete"}


def test_a_single_searched_rate_is_used_by_all_trainings() -> None:
    plan = make_plan()
    fixed = plan.space.model_copy(update={"lr": Coordinate(kind="fixed", low=2e-3, high=2e-3)})
    study, plan = new_study(), plan.model_copy(update={"space": fixed})
    train(study, trials=14, plan=plan)
    assert {r.spec.lr for r in studies.list_all_results(study)} == {2e-3}
    assert not studies.list_extra_results(study, "rate")
    evidence = draw_conclusion(record_sweep(study, plan)).evidence
    assert all(finalist.rates is None for finalist in evidence.finalists)


# --- who enters ---


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"dice": 0.7, "dice_ce": 0.68, "focal": 0.67, "cross_entropy": 0.4}, ["dice", "dice_ce", "cross_entropy"]),
        ({"dice": 0.7, "cross_entropy": 0.68, "focal": 0.6, "tversky": 0.5}, ["dice", "cross_entropy", "focal"]),
        ({"dice": 0.9, "focal": 0.2}, ["dice", "focal"]),
        ({"dice": 0.7, "dice_ce": 0.68, "focal": 0.6, "tversky": 0.5}, ["dice", "dice_ce", "focal"]),
        ({"cross_entropy": 0.4}, ["cross_entropy"]),
        ({}, []),
    ],
)
def test_cross_entropy_and_the_two_best_others_are_confirmed(values: dict[str, float], expected: list[str]) -> None:
    trials = [builders.trial(family, value, n) for n, (family, value) in enumerate(values.items())]
    assert [finalist.family for finalist in select(trials)] == expected


def test_every_loss_is_confirmed_where_losses_are_named() -> None:
    named = load_named_losses(["cross_entropy", "dice", "dice_ce", "focal", "tversky:fn_weight=0.8"], "binary", 9.0)
    assert named.is_named and not SPACE.is_named
    study, plan = new_study(), new_plan(named, builders.conditions(DATA))
    train(study, FakeExecutor(fake_result), trials=28, plan=plan)
    evidence = draw_conclusion(record_sweep(study, plan)).evidence
    assert {finalist.family for finalist in evidence.finalists} == {*named.by_name}
    tried = {(r.spec.family, tuple(r.spec.params.items())) for r in studies.search_results(study)}
    assert len(tried) == len(named.families) == len(studies.search_results(study))  # nothing is searched


def test_stopped_and_diverged_trials_are_not_finalists() -> None:
    trials = [
        builders.trial("cross_entropy", 0.50, 0),
        builders.trial("tversky", 0.60, 1, spec=builders.spec("tversky", 1, params={"fn_weight": 0.6})),
        builders.trial("tversky", 0.70, 2),
        builders.trial("focal", 0.65, 3),
        builders.trial("dice_ce", 0.66, 4),
        builders.trial("weighted_ce", 0.99, 5, state="pruned"),
        builders.trial("dice_focal", 0.9, 6, collapse=Collapse.DIVERGED),
    ]
    assert [finalist.trial.spec.number for finalist in select(trials)] == [2, 4, 0]


# --- no evidence is forgotten ---


def replicate(trial: TrialResult, values: Sequence[float], purpose: str = "first") -> list[TrialResult]:
    """Return trainings of a configuration on the confirmation's seeds with these values."""
    finalist = Finalist(trial, choose_drawn_range(RATE, SPACE.lr))
    specs = make_confirmation_specs([finalist], builders.conditions(DATA), len(values), purpose=purpose)
    return [
        builders.trial(spec.family, value, spec=spec, evaluations=()) for spec, value in zip(specs, values, strict=True)
    ]


def make_mix(mix: float, value: float, number: int) -> TrialResult:
    spec = builders.spec("dice_ce", number, params={"mix": mix, "pos_weight": 1.0}, lr=RATE)
    return builders.trial("dice_ce", value, number, spec=spec)


def test_a_lucky_trial_does_not_replace_what_was_trained_four_times() -> None:
    trials = [builders.trial("cross_entropy", 0.60, 0), make_mix(0.2, 0.63, 1), make_mix(0.5, 0.635, 2)]
    assert [f.trial.spec.number for f in select(trials)] == [2, 0]
    first = [*replicate(collect(trials).trials[0], [0.61, 0.60, 0.62, 0.61])]
    first += replicate(trials[1], [0.66, 0.65, 0.68, 0.66])
    finalists = choose_finalists(collect(trials, first), SPACE)
    assert [f.trial.spec.number for f in finalists] == [1, 0]
    far_better = [*trials, make_mix(0.8, 0.75, 3)]
    assert choose_finalists(collect(far_better, first), SPACE)[0].trial.spec.number == 3


def test_what_may_be_the_best_is_replicated_on_the_confirmations_seeds() -> None:
    conditions = builders.conditions(DATA)
    near = [builders.trial("cross_entropy", 0.50, 0), make_mix(0.2, 0.63, 1), make_mix(0.5, 0.625, 2)]
    specs = list_replications(collect(near), SPACE, conditions, 0)
    assert [spec.params["mix"] for spec in specs] == [0.2, 0.5]  # the present loss takes no part
    assert {(spec.purpose, spec.seed, spec.steps) for spec in specs} == {("replicate", 1000, 200)}
    done = [builders.trial("dice_ce", 0.6, spec=spec, evaluations=()) for spec in specs]
    assert not list_replications(collect(near, done), SPACE, conditions, 0)
    assert {spec.seed for spec in list_replications(collect(near, done), SPACE, conditions, 1)} == {1001}
    far = [*near[:2], make_mix(0.5, 0.50, 2)]
    assert not list_replications(collect(far), SPACE, conditions, 0)


def test_a_confirmation_counts_what_was_trained_before() -> None:
    study, plan = new_study(), make_plan()
    train(study, trials=20, plan=plan, finds_steps=True, looks_first=True)
    first = studies.list_extra_results(study, "first")
    compared = studies.list_compared_results(study)
    assert len(first) == 8 and len({r.spec.key for r in compared}) == len(compared)
    evidence = draw_conclusion(record_sweep(study, plan)).evidence
    present = evidence.finalists[evidence.baseline]
    assert len(present.seeds) >= 3
    assert not [r for r in studies.list_extra_results(study, "confirm") if r.spec.family == "cross_entropy"][4:]


# --- nothing is compared with itself ---


def train_equivalent(spec: TrialSpec) -> TrialResult:
    """`weighted_ce` is cross-entropy here: the same value at the same seed and rate. In the search it was lucky."""
    simpler = spec.model_copy(update={"family": "cross_entropy"}) if spec.family == "weighted_ce" else spec
    result = train_peaked(1e-3, 2.0)(simpler)
    lucky = spec.purpose == "search" and spec.family == "weighted_ce"
    value = (result.value or 0.0) + (0.3 if lucky else 0.0)
    evaluations = tuple(e.model_copy(update={"value": value}) for e in result.evaluations)
    return result.model_copy(update={"spec": spec, "value": value, "evaluations": evaluations})


def measure_equivalent(questions: Sequence[EquivalenceQuestion], conditions: Conditions) -> list[float]:
    return [0.004 if (q.family, q.is_family) == ("weighted_ce", "cross_entropy") else 1.0 for q in questions]


def test_a_loss_is_not_compared_with_itself_under_another_name() -> None:
    study, display, plan = new_study(), Recorder(), make_plan()
    train(study, FakeExecutor(train_equivalent), display, trials=28, plan=plan, measure=measure_equivalent)
    names = {r.spec.family for r in studies.list_extra_results(study, "confirm")}
    assert "cross_entropy" in names and "weighted_ce" not in names
    assert any("is equivalent to cross_entropy on these data" in line for line in display.lines)
    evidence = draw_conclusion(record_sweep(study, plan)).evidence
    baseline = evidence.finalists[evidence.baseline]
    assert baseline.search_trial == 0 and baseline.found_as is None  # it was tried under its own name, too


def test_a_resume_uses_the_stored_equivalent_losses() -> None:
    study, plan = new_study(), make_plan()
    train(study, FakeExecutor(train_equivalent), trials=28, plan=plan, measure=measure_equivalent)
    sweep = record_sweep(study, plan)
    tried = collect_configurations(
        sweep.trials, sweep.before, sweep.rates, plan.space, plan.conditions, same=sweep.same_losses
    )
    for finalist in choose_finalists(tried, plan.space):
        assert [r for r in sweep.compared if r.spec.loss == finalist.trial.spec.loss]

    def fail_to_measure(questions: Sequence[EquivalenceQuestion], conditions: Conditions) -> list[float]:
        raise AssertionError("a resume reads what was found")

    train(study, FakeExecutor(train_equivalent), trials=28, plan=plan, measure=fail_to_measure)
