"""What the search itself says of its result: where the spread comes from, and whether trials and steps sufficed.

Rungs look at a fixed part of the validation images, so that values of one training at several budgets, and of several
trainings at one, compare. All statements hold for validation, at this recipe.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import median

import numpy as np

from sweeper.core.metrics import METRICS
from sweeper.core.recipe import Recipe
from sweeper.core.records import Coordinate, Evidence, SearchAnalysis, SearchSpace, TrialResult, VariancePart
from sweeper.core.text import count, listed, minus
from sweeper.evidence.budget_effect import (
    best_of_families,
    kendall,
    learned_something,
    ranked_budgets,
    ranking,
    settled_at,
    settling,
)
from sweeper.evidence.paired_comparisons import last_quarter_gain
from sweeper.evidence.variance_components import ENOUGH, Point, take_apart

FEW_TRIALS = 6
"""Fewer than this say nothing about what more of them would bring."""
SOURCES = {
    "family": "the loss family",
    "parameters": "the loss's parameters",
    "learning_rate": "the learning rate",
    "seed": "another seed",
    "rest": "unexplained",
}


def analyse_search(
    trials: Sequence[TrialResult],
    *,
    space: SearchSpace,
    imbalance: float,
    recipe: Recipe,
    confirmations: Sequence[TrialResult] = (),
    probes: Sequence[TrialResult] = (),
    evidence: Evidence | None = None,
    rope: float = 0.01,
) -> SearchAnalysis:
    """Analyse a search, whatever came of it; pure, and never an exception for want of data.

    Args:
        trials: the search's counted trials.
        space: the searched ranges, by which learning rates and parameters are scaled.
        imbalance: of the training split, whose powers some coordinates are.
        recipe: names the metric that was maximised.
        confirmations: the finalists' trainings, of the configurations in `evidence`.
        probes: trainings that found the budget.
        evidence: what the confirmation showed; None where there was none.
        rope: gains below this do not matter.
    """
    unit = METRICS[recipe.metric].title
    done = [t for t in trials if learned_something(t) and t.state == "complete"]
    if not done:
        return SearchAnalysis(
            parts=(),
            budget=(),
            settled_at=None,
            confirmation_tau=None,
            sentences=(f"None of {len(trials)} search trainings completed: nothing can be said about the search.",),
        )
    replicates = [t for t in confirmations if learned_something(t) and t.state == "complete"]
    points, imputed = _points(trials, done, space, imbalance)
    parts, told = _parts(points, imputed, replicates, unit)
    confirmed = [r for r in replicates if r.spec.purpose == "confirm"]
    budget = ranked_budgets(done, confirmed, probes, rope)
    tau = None if evidence is None else _confirmation_tau(evidence)
    return SearchAnalysis(
        parts=parts,
        budget=budget.points,
        settled_at=settled_at(budget, rope),
        confirmation_tau=tau,
        sentences=(
            *told,
            _rising(done, rope, unit),
            *_first_rung(done, rope),
            *_more_trials([p.value for p in points], rope, unit),
            *_confirmed(evidence, tau),
            settling(budget, rope, unit),
        ),
    )


# --- Where the spread comes from ----------------------------------------------------------------------------


def _points(
    trials: Sequence[TrialResult], done: Sequence[TrialResult], space: SearchSpace, imbalance: float
) -> tuple[list[Point], int]:
    """All trainings that learned, and how many of them were stopped early.

    To leave those out would leave out the weak ones. They count with what complete trainings gained, in the median,
    after the rung at which they stopped. A rung is scored on a part of the validation images: the gain is to the value
    on all, so that every point is one on all images, measured or estimated.
    """
    ranges = {f.family: f.coordinates for f in space.families}
    gains: dict[int, list[float]] = defaultdict(list)
    for trial in done:
        for evaluation in trial.evaluations[:-1]:
            gains[evaluation.step].append((trial.value or 0.0) - evaluation.value)
    points, imputed = [], 0
    for trial in trials:
        if not learned_something(trial) or trial.value is None:
            continue
        value, last = trial.value, trial.evaluations[-1]
        if trial.state == "pruned":
            if last.step not in gains:
                continue
            value, imputed = last.value + median(gains[last.step]), imputed + 1
        spec = trial.spec
        coordinates = ranges.get(spec.family, {})
        params = {
            name: _scaled(spec.params[name], free, imbalance)
            for name, free in coordinates.items()
            if name in spec.params and free.kind != "fixed" and free.high > free.low
        }
        points.append(Point(spec.family, _scaled(spec.lr, space.lr, imbalance), params, value))
    return points, imputed


def _scaled(value: float, searched: Coordinate, imbalance: float) -> float:
    """Where a value lies in its searched range, 0–1, on the scale on which it was drawn."""
    low, high = searched.low, searched.high
    if searched.kind == "log" and value > 0:
        low, high, value = math.log(low), math.log(high), math.log(value)
    elif searched.kind == "power_of_imbalance":
        value = math.log(value) / math.log(imbalance) if value > 0 and imbalance not in {0.0, 1.0} else low
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5


def _parts(
    points: Sequence[Point], imputed: int, replicates: Sequence[TrialResult], unit: str
) -> tuple[tuple[VariancePart, ...], list[str]]:
    spread = take_apart(points)
    if spread is None:
        families = len({p.family for p in points})
        return (), [
            f"{count(len(points), 'training')} of {count(families, 'family')} cannot tell what the differences between "
            f"trainings come from (at least {ENOUGH} of 2 families are needed, with different values)."
        ]
    seed, interaction, groups = _seed_variance(replicates)
    variances = {name: spread.variances[name] for name in ("family", "parameters", "learning_rate")}
    if seed is not None:
        variances["seed"] = seed
    variances["rest"] = max(0.0, spread.variances["noise"] - (interaction or 0.0))
    total = sum(variances.values()) or 1.0
    parts = [
        VariancePart.model_validate({"source": source, "sd": math.sqrt(v), "share": v / total})
        for source, v in variances.items()
    ]
    named = [f"{SOURCES[p.source]} {100 * p.share:.0f} % ({p.sd:.3f})" for p in parts[:-1]]
    early = f" ({imputed} of {len(points)} stopped early, and count with what complete ones gained after that)"
    stopped = early if imputed else ""
    sentences = [
        f"Where the spread between trainings comes from (share of the variance in {unit}, and standard deviation, were "
        f"family, parameters and learning rate drawn evenly from the searched ranges): {listed(named)}; "
        f"{100 * parts[-1].share:.0f} % ({parts[-1].sd:.3f}) is unexplained. Estimated by restricted maximum "
        f"likelihood from {spread.used} trainings{stopped}, so that the sampler's preference for good settings does "
        "not count as an effect."
    ]
    hidden = [SOURCES[name] for name in ("family", "parameters", "learning_rate") if name not in spread.shown]
    if hidden:
        sentences.append(f"No effect beyond chance is shown of {listed(hidden)}.")
    if seed is None:
        sentences.append("What another seed changes is not known: no configuration was trained on two.")
    else:
        sentences.append(
            f"Another seed (initial weights, batches, and the validation images where they are not given) changes "
            f"the validation value by {math.sqrt(seed):.3f} (standard deviation, from "
            f"{count(groups, 'configuration')} trained on several seeds)."
        )
    return tuple(parts), sentences


def _seed_variance(replicates: Sequence[TrialResult]) -> tuple[float | None, float | None, int]:
    """Variance over seeds of one configuration's value; its part that is not common to all; how many configurations."""
    groups: dict[tuple[object, ...], dict[tuple[int, int | None], float]] = defaultdict(dict)
    for run in replicates:  # each fold has other images to validate on, as another seed has
        own = run.spec.loss if run.spec.purpose == "confirm" else run.spec.configuration  # its seeds may draw rates
        key = (run.spec.purpose, run.spec.steps, *own)
        groups[key][run.spec.seed, run.spec.fold] = run.value or 0.0
    several = {key: g for key, g in groups.items() if len(g) >= 2}
    freedom = sum(len(g) - 1 for g in several.values())
    if not freedom:
        return None, None, 0
    total = sum(float(np.var(list(g.values()))) * len(g) for g in several.values()) / freedom
    confirmed = [g for key, g in several.items() if key[0] == "confirm"]
    common = set.intersection(*(set(g) for g in confirmed)) if len(confirmed) >= 2 else set()
    if len(common) < 2:
        return total, total, len(several)
    table = np.array([[g[s] for s in sorted(common)] for g in confirmed])
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    interaction = float((left**2).sum()) / ((table.shape[0] - 1) * (table.shape[1] - 1))
    return total, interaction, len(several)


# --- Whether trials and steps sufficed ----------------------------------------------------------------------


def _rising(done: Sequence[TrialResult], rope: float, unit: str) -> str:
    gains = [last_quarter_gain(t) for t in done]
    rising, middle = sum(g > rope for g in gains), median(gains)
    end = (
        "the budget ends before the losses do: more steps may rank them differently"
        if middle > rope
        else "the typical curve had flattened"
    )
    return (
        f"{rising} of {len(gains)} complete search trainings still gained more than {rope:g} validation {unit} over "
        f"their last quarter (median {minus(f'{middle:+.3f}')}): {end}."
    )


def _first_rung(done: Sequence[TrialResult], rope: float) -> list[str]:
    points = ranking(best_of_families(done), rope).points
    if len(points) < 2 or points[0].tau is None:
        return []
    first, last = points[0], points[-1]
    leader = "its leader also ended" if first.same_leader else "its leader did not end"
    return [
        f"The ranking of {first.families} families at the first rung ({first.steps} steps) agreed with that at the "
        f"last ({last.steps}) at Kendall's τ = {minus(f'{first.tau:.2f}')}; {leader} within {rope:g} of the best."
    ]


def _more_trials(values: Sequence[float], rope: float, unit: str) -> list[str]:
    n = len(values)
    if n < FEW_TRIALS:
        return [f"{count(n, 'training')} cannot tell what more trials would bring."]
    gain, at = expected_gain(values), 1 + int(np.argmax(values))
    late = max(values) - max(values[: n - n // 3])
    end = "more trials would hardly help" if max(gain, late) < rope else "more trials may help"
    return [
        f"The best was the {_ordinal(at)} of {n} trainings to end; the last third raised it by {late:.3f}. As many "
        f"trials again, drawn alike, would raise the best {unit} by about {gain:.3f}, part of it luck: {end} (what "
        f"matters is {rope:g})."
    ]


def expected_gain(values: Sequence[float]) -> float:
    """By how much as many values again would raise the maximum, ≥ 0; 0 with fewer than two values.

    The maximum of n values less the expected maximum of a random half of them. For independent draws from a
    distribution with an exponential upper tail, doubling brings the same each time; with a lighter tail, as scores
    have, this is slightly too much. A sampler that still learns may bring more, which the last trials show.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    half = n // 2
    if not half:
        return 0.0
    # The i-th smallest is the largest of a random half with probability C(i − 1, half − 1) / C(n, half).
    log = [
        math.lgamma(i) - math.lgamma(half) - math.lgamma(i - half + 1)
        - (math.lgamma(n + 1) - math.lgamma(half + 1) - math.lgamma(n - half + 1))
        for i in range(half, n + 1)
    ]  # fmt: skip
    return max(0.0, float(ordered[-1] - np.exp(log) @ ordered[half - 1 :]))


def _confirmed(evidence: Evidence | None, tau: float | None) -> list[str]:
    if evidence is None or tau is None:
        return []
    best = max(range(len(evidence.finalists)), key=lambda i: evidence.finalists[i].search_value)
    same = "leads" if best == 0 else f"is {_ordinal(best + 1)}"
    return [
        f"The test images rank the {len(evidence.finalists)} finalists like the search at Kendall's "
        f"τ = {minus(f'{tau:.2f}')} (1 = alike, −1 = turned round); the search's leader {same} there."
    ]


def _confirmation_tau(evidence: Evidence) -> float | None:
    found = evidence.finalists
    return kendall([f.search_value for f in found], [f.score.estimate for f in found])


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
