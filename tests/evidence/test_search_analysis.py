"""What the search says of itself, on simulated searches whose truth is known."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.core.recipe import Recipe
from sweeper.core.records import Collapse, SearchAnalysis, TrialResult
from sweeper.evidence.budget_effect import Budget, kendall, ranking, settled_at, settling
from sweeper.evidence.search_analysis import analyse_search, expected_gain
from sweeper.evidence.variance_components import EFFECTS, Point, take_apart
from tests.support import builders
from tests.support.builders import (
    PARAMS,
    confirmation,
    curve,
    curve_on_part,
    diverged,
    evaluation,
    failed_trial,
    spec,
    trial,
)
from tests.support.marks import rest_slow

FAMILIES = tuple(PARAMS)
STUDIES = 50


def analyse(trials: Sequence[TrialResult], **more: Any) -> SearchAnalysis:
    given: dict[str, Any] = {"space": builders.space(), "imbalance": 20.0, "recipe": Recipe()}
    return analyse_search(trials, **given | more)


def told(analysis: SearchAnalysis) -> str:
    return " ".join(analysis.sentences)


# --- a sampler with TPE's habits ---


def greedy_search(
    rng: np.random.Generator,
    trials: int = 40,
    *,
    family: float = 0.0,
    rate: float = 0.0,
    params: float = 0.0,
    noise: float = 0.006,
) -> list[Point]:
    """Each family twice, then the good ones more often, near their best settings: the sampler's bias in the extreme.

    `family`, `rate` and `params` are standard deviations of the effects under even draws.
    """
    level = rng.normal(size=7)
    level = (level - level.mean()) / level.std() * family
    bend = np.sqrt(5)
    places = rng.uniform(0.35, 0.65, 7)
    points: list[Point] = []
    for number in range(trials):
        best = [max((p.value for p in points if p.family == str(j)), default=0.0) for j in range(7)]
        if number < 14:
            j = number % 7
        else:
            lead = np.array(best) - max(best)
            weights = np.exp(1.5 * lead / max(1e-9, float(np.std(best))))
            j = int(rng.choice(7, p=weights / weights.sum()))
        own = [p for p in points if p.family == str(j)]
        x, t = rng.random(2)
        if len(own) >= 2 and rng.random() < 0.7:
            leader = max(own, key=lambda p: p.value)
            x, t = np.clip(np.array([leader.lr, leader.params.get("gamma", 0.5)]) + rng.normal(0, 0.12, 2), 0, 1)
        value = 0.7 + level[j] - rate * bend * (6 * x * x - 6 * x + 1) + rng.normal(0, noise)
        value -= params * np.sqrt(3) * 2 * (t - places[j]) if j % 2 else 0.0
        points.append(Point(str(j), float(x), {"gamma": float(t)} if j % 2 else {}, float(value)))
    return points


def first_of(points: Sequence[Point]) -> str:
    spread = take_apart(points)
    assert spread is not None
    return max(spread.variances, key=lambda name: spread.variances[name])


def over_studies(make: Callable[[np.random.Generator], list[Point]]) -> list[Any]:
    return [take_apart(make(np.random.default_rng(seed))) for seed in range(STUDIES)]


@pytest.mark.parametrize(
    ("effects", "first"),
    rest_slow(
        [
            ({"family": 0.03, "rate": 0.01, "params": 0.01}, "family"),
            ({"family": 0.005, "rate": 0.03, "params": 0.005}, "learning_rate"),
            ({"family": 0.005, "rate": 0.005, "params": 0.04}, "parameters"),
        ],
        slow=0,
    ),
)
def test_what_is_decisive_comes_first_whatever_the_sampler_preferred(effects: dict[str, float], first: str) -> None:
    firsts = [first_of(greedy_search(np.random.default_rng(seed), **effects)) for seed in range(STUDIES)]
    assert firsts.count(first) >= 47


@pytest.mark.slow
def test_a_decisive_family_has_about_its_true_spread() -> None:
    found = over_studies(lambda rng: greedy_search(rng, family=0.03, rate=0.01))
    sds = [np.sqrt(s.variances["family"]) for s in found]
    assert np.median(sds) == pytest.approx(0.03, rel=0.2)  # the sample's own deviation over 7 families is 1.08 of it
    assert np.median([np.sqrt(s.variances["noise"]) for s in found]) == pytest.approx(0.006, rel=0.15)


@pytest.mark.parametrize("trials", rest_slow([20, 40], slow=0))
def test_nothing_is_invented_where_nothing_matters(trials: int) -> None:
    found = over_studies(lambda rng: greedy_search(rng, trials))
    for effect in EFFECTS:
        assert sum(effect in s.shown for s in found) <= 6  # 5 % of 50, and chance
        assert np.median([s.variances[effect] / sum(s.variances.values()) for s in found]) < 0.05
    assert sum(max(s.variances, key=s.variances.get) == "noise" for s in found) >= 40


@pytest.mark.slow
def test_a_decisive_family_comes_first_under_optunas_own_sampler() -> None:
    """The case in which Optuna's default importance failed."""
    firsts = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        level = dict(zip("abcdefg", 0.03 * (np.arange(7) - 3) / 2, strict=True))
        points = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for _ in range(40):
            asked = study.ask()
            family = asked.suggest_categorical("loss", list(level))
            x, gamma = asked.suggest_float(f"{family}.lr", 0, 1), asked.suggest_float(f"{family}.gamma", 0, 1)
            value = 0.7 + level[family] - 0.05 * (x - 0.5) ** 2 - 0.02 * (gamma - 0.4) ** 2 + rng.normal(0, 0.006)
            study.tell(asked, value)
            points.append(Point(family, x, {"gamma": gamma}, value))
        firsts.append(first_of(points))
    assert firsts.count("family") >= 7


def test_collapsed_trainings_do_not_drown_the_rest() -> None:
    rng = np.random.default_rng(1)
    points = greedy_search(rng, family=0.03)
    sunk = [*points[:39], Point("3", 0.99, {}, 0.0)]
    whole, with_one = take_apart(points), take_apart(sunk)
    assert whole is not None and with_one is not None
    assert np.sqrt(with_one.variances["family"]) == pytest.approx(np.sqrt(whole.variances["family"]), rel=0.4)


def test_too_few_or_equal_trainings_are_not_taken_apart() -> None:
    points = greedy_search(np.random.default_rng(0), family=0.03)
    assert take_apart([]) is None and take_apart(points[:11]) is None
    assert take_apart([p for p in points if p.family == points[0].family] * 9) is None
    assert take_apart([Point(p.family, p.lr, p.params, 0.5) for p in points]) is None


# --- the whole analysis ---


def searched(count: int = 30, family: float = 0.04, noise: float = 0.004, pruned: bool = False) -> list[TrialResult]:
    """A search in which the families differ; of those stopped early the value is the rung's."""
    rng = np.random.default_rng(7)
    results = []
    for n in range(count):
        name = FAMILIES[n % 7]
        value = 0.6 + family * (n % 7 - 3) / 2 + float(rng.normal(0, noise))
        given = spec(name, n, lr=float(10 ** rng.uniform(-3.5, -2)))
        one = trial(name, value, n, spec=given, evaluations=curve(value))
        if pruned and n % 3 == 0 and n > 7:
            first = one.evaluations[:1]
            one = one.model_copy(update={"state": "pruned", "evaluations": first, "value": first[0].value})
        results.append(one)
    return results


def test_parts_are_shares_of_one_and_name_every_source_once() -> None:
    runs = [confirmation(f, s, val=0.7 + 0.01 * s, number=s) for f in ("dice", "focal") for s in (1, 2, 3)]
    analysis = analyse(searched(), confirmations=runs)
    assert [p.source for p in analysis.parts] == ["family", "parameters", "learning_rate", "seed", "rest"]
    assert sum(p.share for p in analysis.parts) == pytest.approx(1.0)
    assert analysis.parts[0].share == max(p.share for p in analysis.parts)
    assert "the loss family" in analysis.sentences[0]
    seed = next(p for p in analysis.parts if p.source == "seed")
    assert seed.sd == pytest.approx(0.01)
    assert "by 0.010 (standard deviation, from 2 configurations" in told(analysis)


def test_without_a_confirmation_the_seeds_part_is_not_invented() -> None:
    analysis = analyse(searched())
    assert [p.source for p in analysis.parts] == ["family", "parameters", "learning_rate", "rest"]
    assert "What another seed changes is not known" in told(analysis)


def test_the_seeds_common_part_is_no_noise_of_the_search() -> None:
    """Seeds that shift all losses alike cannot explain differences between trials of one seed."""
    runs = [confirmation(f, s, val=0.6 + 0.05 * s, number=s) for f in ("dice", "focal") for s in (1, 2, 3)]
    noisy = searched(noise=0.01)
    rest = [p.sd for p in analyse(noisy, confirmations=runs).parts if p.source == "rest"]
    alone = [p.sd for p in analyse(noisy).parts if p.source == "rest"]
    assert rest == pytest.approx(alone)


def test_trainings_stopped_early_count_with_what_the_others_gained() -> None:
    analysis = analyse(searched(pruned=True))
    whole = analyse(searched())
    assert "(7 of 30 stopped early" in analysis.sentences[0]
    assert analysis.parts[0].sd == pytest.approx(whole.parts[0].sd, rel=0.25)


def test_still_rising_curves_are_counted() -> None:
    flat = [trial("dice", 0.7, n, evaluations=curve(0.7)) for n in range(3)]
    rising = [trial("focal", 0.7, n + 3, evaluations=curve(0.7, rise=0.03)) for n in range(5)]
    assert "5 of 8 complete search trainings still gained more than 0.01" in told(analyse(flat + rising))
    assert "the budget ends before the losses do" in told(analyse(flat + rising))
    assert "0 of 3 complete" in told(analyse(flat)) and "had flattened" in told(analyse(flat))


def test_search_and_confirmation_rankings_are_compared() -> None:
    levels = {"dice": 0.72, "focal": 0.71, "tversky": 0.7, "cross_entropy": 0.69}
    changes = {f: {"search_value": v} for f, v in zip(levels, (0.7, 0.8, 0.75, 0.6), strict=True)}
    analysis = analyse(searched(), evidence=builders.evidence(levels, finalists=changes))
    assert analysis.confirmation_tau == pytest.approx((4 - 2) / 6)
    assert "τ = 0.33" in told(analysis) and "the search's leader is 2nd there" in told(analysis)
    two = builders.evidence({"dice": 0.7, "focal": 0.6})
    assert analyse(searched(), evidence=two).confirmation_tau is None


def stopping(values: Sequence[float], steps: Sequence[int]) -> tuple[Any, ...]:
    return tuple(evaluation(step, value) for step, value in zip(steps, values, strict=True))


def confirmed(heights: dict[str, Sequence[float]], steps: Sequence[int] = (50, 100, 150, 200)) -> list[TrialResult]:
    return [
        confirmation(f, s, number=10 * n + s, evaluations=stopping(np.asarray(h) + 0.001 * s, steps))
        for n, (f, h) in enumerate(heights.items())
        for s in (1, 2, 3)
    ]


def test_the_budget_at_which_the_ranking_settled_is_found() -> None:
    runs = confirmed(
        {
            "dice": (0.60, 0.62, 0.63, 0.64),  # ahead at first, last in the end
            "focal": (0.50, 0.64, 0.68, 0.70),
            "tversky": (0.40, 0.66, 0.70, 0.74),
            "dice_ce": (0.30, 0.68, 0.73, 0.78),
        }
    )
    analysis = analyse(searched(), confirmations=runs)
    assert [(p.steps, p.tau, p.same_leader) for p in analysis.budget] == [
        (50, -1.0, False),
        (100, 1.0, True),
        (150, 1.0, True),
        (200, 1.0, True),
    ]
    assert analysis.settled_at == 100
    assert "By the confirmation's trainings the ranking of 4 losses settled at 100 of 200 steps" in told(analysis)


def test_a_ranking_that_turns_at_the_end_has_not_settled() -> None:
    runs = confirmed({f: (0.5, 0.5 + n / 50, 0.6 + n / 50, 0.7 - n / 50) for n, f in enumerate(FAMILIES[:4])})
    analysis = analyse(searched(), confirmations=runs)
    assert analysis.settled_at is None
    assert "had not settled before the last of 200 steps (at 150 Kendall's τ = −1.00" in told(analysis)


def test_the_metric_that_was_maximised_is_the_unit_of_what_the_losses_lie_apart() -> None:
    runs = confirmed({f: (0.5, 0.6, 0.69, 0.7 + n / 1000) for n, f in enumerate(FAMILIES[:4])})
    recipe = Recipe(metric="dice")
    assert "0.003 validation mean Dice of each other" in told(analyse(searched(), confirmations=runs, recipe=recipe))


def test_losses_that_end_alike_have_no_ranking_to_settle() -> None:
    runs = confirmed({f: (0.5, 0.6, 0.69, 0.7 + n / 1000) for n, f in enumerate(FAMILIES[:4])})
    analysis = analyse(searched(), confirmations=runs)
    assert analysis.settled_at is None and "there is no ranking to settle" in told(analysis)


def probe(family: str, steps: int, value: float) -> TrialResult:
    given = spec(family, steps, purpose="probe", steps=steps)
    return trial(family, value, spec=given, evaluations=stopping((value / 2, value), (steps // 2, steps)))


def test_probes_of_several_lengths_come_before_the_search() -> None:
    heights = {"dice": (0.7, 0.62, 0.6), "focal": (0.6, 0.66, 0.7), "dice_ce": (0.5, 0.7, 0.8)}
    probes = [probe(f, s, v) for f, values in heights.items() for s, v in zip((50, 200, 800), values, strict=True)]
    analysis = analyse(searched(), probes=probes)
    assert [(p.steps, p.families) for p in analysis.budget] == [(50, 3), (200, 3), (800, 3)]
    assert analysis.settled_at == 200 and "the budget probe's" in told(analysis)


def test_probes_of_several_lengths_are_compared_on_all_images() -> None:
    """A longer training can afford rungs on more images: their parts differ."""
    heights = {"dice": (0.7, 0.62, 0.6), "focal": (0.6, 0.66, 0.7), "dice_ce": (0.5, 0.7, 0.8)}
    probes = [
        probe(f, s, v).model_copy(update={"evaluations": curve_on_part((0.9 - v,) * 4, v, steps=s)})
        for f, values in heights.items()
        for s, v in zip((50, 200, 800), values, strict=True)
    ]
    analysis = analyse(searched(), probes=probes)
    assert [p.tau for p in analysis.budget] == [-1.0, 1.0, 1.0]


@pytest.mark.parametrize("metric", ["miou", "fg_iou", "dice"])
def test_the_ranking_at_each_budget_is_from_the_same_images(metric: str) -> None:
    """On all images the end reads lower than the rungs, and in another order."""
    runs = [
        confirmation(
            f, s, number=10 * n + s, evaluations=curve_on_part((0.5, 0.6, 0.7 + n / 20, 0.8 + n / 20), 0.5 - n / 20)
        )
        for n, f in enumerate(FAMILIES[:4])
        for s in (1, 2, 3)
    ]
    analysis = analyse(searched(), confirmations=runs, recipe=Recipe(metric=metric))  # type: ignore[arg-type]
    assert analysis.budget[-2].steps == 75 and analysis.budget[-2].tau == 1.0


def test_probes_of_one_length_are_read_at_their_rungs() -> None:
    probes = [probe(f, 400, v) for f, v in (("dice", 0.6), ("focal", 0.7), ("dice_ce", 0.8))]
    assert [p.steps for p in analyse(searched(), probes=probes).budget] == [200, 400]


# --- nothing there ---


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [failed_trial("dice", 0)],
        [trial("dice", 0.7)],
        [trial("dice", 0.7, n) for n in range(20)],
        [trial(f, 0.7, n) for n, f in enumerate(FAMILIES * 3)],
        [diverged("dice", 0, n).model_copy(update={"spec": spec("dice", n)}) for n in range(3)],
        [trial("dice", 0.7, evaluations=(evaluation(100, 0.7),))],
        [trial("dice", 0.5, 0).model_copy(update={"state": "pruned"})],
        [trial("unheard_of", 0.7, n, spec=spec("unheard_of", n, params={"x": -1.0})) for n in range(15)],
    ],
    ids=["none", "failed", "one", "tied family", "tied", "diverged", "one rung", "pruned", "unknown family"],
)
@pytest.mark.parametrize("metric", ["miou", "dice"])
def test_poor_searches_get_sentences_and_never_an_exception(trials: list[TrialResult], metric: str) -> None:
    analysis = analyse(trials, recipe=Recipe(metric=metric), probes=trials)  # type: ignore[arg-type]
    assert analysis.sentences and all(s.endswith(".") for s in analysis.sentences)
    assert analysis.parts == ()
    assert SearchAnalysis.model_validate_json(analysis.model_dump_json()) == analysis


def test_diverged_trainings_say_nothing_of_the_spread() -> None:
    lost = [
        trial("dice", 0.0, 100 + n, collapse=Collapse.DIVERGED, evaluations=(evaluation(25, 0.0),)) for n in range(5)
    ]
    assert analyse(searched() + lost) == analyse(searched())


# --- the pieces ---


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=7))
def test_the_expected_gain_is_that_of_random_halves(values: list[float]) -> None:
    from itertools import combinations

    halves = [max(c) for c in combinations(values, len(values) // 2)]
    assert expected_gain(values) == pytest.approx(max(values) - np.mean(halves), abs=1e-12)


@pytest.mark.parametrize("draw", ["exponential", "normal"])
def test_the_expected_gain_foretells_what_as_many_draws_bring(draw: str) -> None:
    rng = np.random.default_rng(0)
    values = getattr(rng, draw)(size=(2000, 80))
    foretold = np.mean([expected_gain(v[:40]) for v in values])
    came = np.mean(values.max(axis=1) - values[:, :40].max(axis=1))
    assert foretold == pytest.approx(came, rel=0.25) and foretold > 0.9 * came


def test_gains_of_the_last_third_are_told() -> None:
    values = [0.5] * 10 + [0.6] * 4 + [0.65]
    trials = [trial("dice", v, n) for n, v in enumerate(values)]
    assert "The best was the 15th of 15 trainings to end; the last third raised it by 0.150" in told(analyse(trials))
    assert "more trials may help" in told(analyse(trials))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=9))
def test_kendalls_tau_is_scipys(pairs: list[tuple[int, int]]) -> None:
    from scipy.stats import kendalltau

    x, y = zip(*pairs, strict=True)
    ours, theirs = kendall(x, y), float(kendalltau(x, y).statistic)
    assert ours is None if np.isnan(theirs) else ours == pytest.approx(theirs)


def test_two_losses_have_no_ranking_worth_the_name() -> None:
    found = ranking({"a": {1: 0.2, 2: 0.5}, "b": {1: 0.3, 2: 0.4}}, 0.01)
    assert [p.tau for p in found.points] == [None, None] and settled_at(found, 0.01) is None
    assert "cannot be said from 2 losses" in settling(found, 0.01)
    assert ranking({}, 0.01) == Budget()
    assert "too few" in settling(Budget(), 0.01)
