"""Choice of the finalists, their learning rates, and losses that are equal under two names; trainings are simulated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from sweeper import storage as studies
from sweeper.core.events import Reply, WorkerLost
from sweeper.core.records import Collapse, Conditions, Coordinate, RateRange, Rates, TrialResult, TrialSpec
from sweeper.space import load_named_losses, load_space
from sweeper.study.finalist import choose_finalists, select_finalist_families
from sweeper.study.learning_rates import draw_rate
from sweeper.study.same_loss import EquivalenceQuestion, relabel_equivalent_trials
from sweeper.workflow.conclude import draw_conclusion
from tests.support import builders
from tests.support.faking import DATA, LEVELS, FakeExecutor, fake_result, new_plan, new_study, record_sweep, train
from tests.support.sweeping import Recorder

SPACE = load_space("binary", "binary")


def make_plan(rates: Rates = "drawn") -> studies.StudyPlan:
    conditions = builders.conditions(DATA).model_copy(update={"rates": rates})
    return new_plan(load_space("binary", "binary"), conditions)


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


def list_places(rates: Sequence[float], rate_range: RateRange) -> list[float]:
    return [math.log(lr / rate_range.low) / math.log(rate_range.high / rate_range.low) for lr in rates]


def test_all_finalists_of_a_seed_share_a_rate_near_the_common_optimum() -> None:
    study, plan = new_study(), make_plan()
    train(study, FakeExecutor(train_peaked(2e-3, 0.5)), trials=28, plan=plan)
    by_seed: dict[int, set[float]] = {}
    for result in studies.list_extra_results(study, "confirm"):
        by_seed.setdefault(result.spec.seed, set()).add(result.spec.lr)
    assert all(len(rates) == 1 for rates in by_seed.values())
    assert len(set.union(*by_seed.values())) == len(by_seed)  # but each seed another
    evidence = draw_conclusion(record_sweep(study, plan)).evidence
    for finalist in evidence.finalists:
        assert finalist.rates is not None and finalist.rates.shared
        assert finalist.rates.low <= 2e-3 <= finalist.rates.high
        assert finalist.lr == finalist.seed_lrs[0] and not finalist.lr_at_edge
        assert finalist.seed_lrs == tuple(draw_rate(finalist.rates, n) for n in range(len(finalist.seeds)))


def test_a_loss_with_another_best_rate_draws_from_a_separate_range() -> None:
    def train_one(spec: TrialSpec) -> TrialResult:
        return train_peaked(7e-4 if spec.family == "dice" else 3e-3, 0.4)(spec)

    study, display, plan = new_study(), Recorder(), make_plan()
    train(study, FakeExecutor(train_one), display, trials=28, plan=plan)
    fit = studies.read_common_rate(study.user_attrs)
    rechecks = studies.list_extra_results(study, "recheck")
    assert fit is not None and {(r.spec.family, r.spec.lr) for r in rechecks} >= {("dice", fit.best)}
    assert any("another learning rate than the common" in line and "dice" in line for line in display.lines)
    evidence = draw_conclusion(record_sweep(study, plan)).evidence
    by_family = {f.family: f for f in evidence.finalists}
    assert by_family["dice"].rates is not None and not by_family["dice"].rates.shared
    assert max(by_family["dice"].seed_lrs) < min(min(f.seed_lrs) for name, f in by_family.items() if name != "dice")
    other = next(f for name, f in by_family.items() if name != "dice")
    places = [list_places(f.seed_lrs, f.rates) for f in (by_family["dice"], other) if f.rates is not None]
    assert places[0] == pytest.approx(places[1], abs=0.02)  # the same quantiles of its own range


def test_a_rate_that_scores_better_by_luck_is_not_used() -> None:
    def train_one(spec: TrialSpec) -> TrialResult:
        result = train_peaked(2e-3, 0.8)(spec)
        lucky = spec.family == "dice" and spec.purpose == "search" and spec.lr < 7e-4
        return result.model_copy(update={"value": (result.value or 0.0) + 0.04 * lucky})

    study, plan = new_study(), make_plan()
    train(study, FakeExecutor(train_one), trials=28, plan=plan)
    evidence = draw_conclusion(record_sweep(study, plan)).evidence
    assert all(f.rates is not None and f.rates.shared for f in evidence.finalists)


def test_the_common_rate_is_used_if_a_recheck_fails() -> None:
    def train_one(spec: TrialSpec) -> TrialResult | Reply:
        if spec.purpose == "recheck":
            return WorkerLost(spec, "worker killed by signal 9")
        return train_peaked(7e-4 if spec.family == "dice" else 3e-3, 0.4)(spec)

    study, plan = new_study(), make_plan()
    train(study, FakeExecutor(train_one), trials=28, plan=plan)
    assert {r.state for r in studies.list_extra_results(study, "recheck")} == {"failed"}
    assert {r.state for r in studies.list_extra_results(study, "confirm")} == {"complete"}


def test_the_common_rate_is_fixed_once_the_confirmation_has_begun() -> None:
    study, plan = new_study(), make_plan()
    train(study, FakeExecutor(train_peaked(2e-3)), trials=21, plan=plan)
    before, confirmed = studies.read_common_rate(study.user_attrs), studies.list_extra_results(study, "confirm")
    train(study, FakeExecutor(train_peaked(2e-3)), trials=30, plan=plan)
    assert studies.read_common_rate(study.user_attrs) == before
    assert studies.list_extra_results(study, "confirm")[: len(confirmed)] == confirmed


def test_a_fixed_rate_is_the_common_optimum() -> None:
    study, plan = new_study(), make_plan("best")
    train(study, FakeExecutor(train_peaked(2e-3)), trials=21, plan=plan)
    fit = studies.read_common_rate(study.user_attrs)
    assert fit is not None and {r.spec.lr for r in studies.list_extra_results(study, "confirm")} == {fit.best}
    evidence = draw_conclusion(record_sweep(study, plan)).evidence
    assert all(f.rates is None and len(set(f.seed_lrs)) == 1 for f in evidence.finalists)


def test_a_single_searched_rate_is_used_by_all_trainings() -> None:
    plan = make_plan()
    fixed = plan.space.model_copy(update={"lr": Coordinate(kind="fixed", low=2e-3, high=2e-3)})
    study, plan = new_study(), plan.model_copy(update={"space": fixed})
    train(study, trials=14, plan=plan)
    assert {r.spec.lr for r in studies.list_all_results(study)} == {2e-3}
    assert studies.read_common_rate(study.user_attrs) is None and not studies.list_extra_results(study, "recheck")


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
    assert [finalist.family for finalist in select_finalist_families(trials, SPACE)] == expected


def test_every_loss_is_confirmed_where_losses_are_named() -> None:
    named = load_named_losses(["cross_entropy", "dice", "dice_ce", "focal", "tversky:fn_weight=0.8"], "binary", 9.0)
    assert named.is_named and not SPACE.is_named
    study, plan = new_study(), new_plan(named, builders.conditions(DATA))
    train(study, FakeExecutor(fake_result), trials=28, plan=plan)
    evidence = draw_conclusion(record_sweep(study, plan)).evidence
    assert {finalist.family for finalist in evidence.finalists} == {*named.by_name}
    tried = {(r.spec.family, tuple(r.spec.params.items())) for r in studies.search_results(study)}
    assert len(tried) == len(named.families)  # only the rate is searched


def test_stopped_and_diverged_trials_are_not_finalists() -> None:
    trials = [
        builders.trial("cross_entropy", 0.50, 0),
        builders.trial("dice", 0.60, 1),
        builders.trial("dice", 0.70, 2),
        builders.trial("focal", 0.65, 3),
        builders.trial("dice_ce", 0.66, 4),
        builders.trial("weighted_ce", 0.99, 5, state="pruned"),
        builders.trial("dice_focal", 0.9, 6, collapse=Collapse.DIVERGED),
    ]
    assert [finalist.trial.spec.number for finalist in select_finalist_families(trials, SPACE)] == [2, 4, 0]


# --- nothing is compared with itself ---


def train_equivalent(spec: TrialSpec) -> TrialResult:
    """`weighted_ce` is cross-entropy here: the same value at the same seed and rate. In the search it was lucky."""
    simpler = spec.model_copy(update={"family": "cross_entropy"}) if spec.family == "weighted_ce" else spec
    result = train_peaked(1e-3, 2.0)(simpler)
    lucky = spec.purpose == "search" and spec.family == "weighted_ce" and spec.lr < 1e-3
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
    assert baseline.found_as is not None and baseline.found_as.family == "weighted_ce"


def test_a_resume_uses_the_stored_equivalent_losses() -> None:
    study, plan = new_study(), make_plan()
    train(study, FakeExecutor(train_equivalent), trials=28, plan=plan, measure=measure_equivalent)
    sweep = record_sweep(study, plan)
    trials = relabel_equivalent_trials(sweep.trials, sweep.same_losses)
    finalists = choose_finalists(trials, sweep.rechecks, sweep.rate_fit, plan.space, plan.conditions)
    for finalist in finalists:
        assert [r for r in sweep.confirmations if r.spec.loss == finalist.trial.spec.loss]

    def fail_to_measure(questions: Sequence[EquivalenceQuestion], conditions: Conditions) -> list[float]:
        raise AssertionError("a resume reads what was found")

    train(study, FakeExecutor(train_equivalent), trials=28, plan=plan, measure=fail_to_measure)
