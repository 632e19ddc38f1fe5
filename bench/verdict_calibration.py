"""Measure how often the verdict is wrong, how often there is one, and how often intervals hold, on simulated sweeps.

    python bench/verdict_calibration.py [--simulations 2000] [--quick] [--seed 0] [--processes 2] [--only TABLE]
                                        [--scenario NAME] [--finalists N] [--spreads 0.005 0.01 0.02]
                                        [--metric miou]

Every simulated confirmation goes through the product's code: `compute_evidence`, `decide_verdict` and
`decide_next_step`, with interim analyses at 2, 3, 4, 5, 6 and 8 seeds, dropped finalists and early ends. The tables, in
the order in which they are printed:

- winners: all losses are equal; how often one of them is a clear winner. Limit: the upper end of the 95 % interval
  (Clopper–Pearson, two-sided) is at most 6 %.
- action: one loss gains 0, 0.02, 0.05 or 0.1 over cross-entropy and the others, or all differ by chance; how often the
  answer is change, what the recommended loss costs, and what the loss costs that the verdict without the action would
  have recommended from the same trainings. Limit for a change among equal losses: the upper end is at most 6 %.
- power: one loss is better by as much as an oracle needs to recommend it in 50, 80 and 95 % of sweeps. The oracle uses
  the same rule and interim analyses, but knows the true variances and takes normal quantiles. It continues until it
  knows the answer; for the comparison, so does the product ("to the last interim analysis"). By itself ("ours") the
  product ends before: the better loss is cross-entropy, and that it is kept is soon known.
- choice: the losses truly differ; what is claimed, what the recommended loss costs, how often the bound of its regret
  holds, and how many of the first cards that say *probable* recommend a loss that costs more than the margin. Limit:
  5 % of all first *probable* cards.
- safe: the recommended loss is worse by just more than the margin; how often it is called safe or equivalent. Limit:
  the upper end is at most 6.5 %.
- coverage: how often the intervals of a finalist's mIoU and of a paired difference hold, by number of test images.

Prints the tables in Markdown, each row when it is done; the same arguments print the same tables, whatever the number
of processes. All tables take some 45 minutes of one core. bench/verdict_tables.md has the results.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import beta

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench import verdict_simulation as simulation
from bench.verdict_simulation import Scenario
from sweeper.core.records import Evidence, InterimAnalysis, Interval, TrialResult, Verdict
from sweeper.evidence.confirmation_stopping import decide_next_step
from sweeper.evidence.interim_analyses import plan_analyses
from sweeper.evidence.intervals import LEVEL, compute_half_width
from sweeper.evidence.paired_comparisons import compute_evidence
from sweeper.evidence.verdict import Decision, apply_verdict_rule, decide_verdict

MARGIN = 0.01
ANALYSES = plan_analyses(2, simulation.SEEDS)
ORDER = simulation.FAMILIES
LIMIT = 0.06
TARGETS = {0.50: 0.50, 0.80: 0.65, 0.95: 0.85}
"""Power of the oracle → share of it that the product must reach if it continues to the last interim analysis.

It usually ends before, once the cost is known."""
BATCH = 100
"""Sweeps that a process simulates at a time, from one stream of random numbers."""

Floats = npt.NDArray[np.float64]
Scenarios = dict[int, Scenario]
"""Scenarios by their place among all, which determines their random numbers."""


# --- One sweep ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlayedConfirmation:
    """End of one confirmation."""

    verdict: Verdict
    winner: str | None
    """Family of a clear winner."""
    ending: str
    """`settled` (winner or equivalence), `enough` (the recommended loss's cost is known), `budget` (no more seeds)."""
    trainings: int
    last_winner: str | None
    """Clear winner if it had continued to the last interim analysis; the same as `winner` if that was not simulated."""
    decision: Decision
    evidence: Evidence
    first_probable: str | None
    """Family that the first card with *probable* recommends."""


def play_confirmation(
    runs: Sequence[Sequence[TrialResult]],
    search: dict[str, TrialResult],
    *,
    scenario: Scenario = simulation.BINARY,
    analyses: Sequence[InterimAnalysis] = ANALYSES,
    to_the_end: bool = False,
    metric: str = "miou",
) -> PlayedConfirmation:
    """Confirm simulated losses from one interim analysis to the next.

    Args:
        runs: all trainings that may be needed, by loss and seed.
        search: search trials of the finalists, by family.
        scenario: has their classes and the groups of their images.
        analyses: the planned interim analyses.
        to_the_end: continue to the last interim analysis if the product ends with `enough`.
        metric: the metric that is compared.
    """
    seeds_of = dict.fromkeys(range(len(runs)), analyses[0].seeds)
    ended: PlayedConfirmation | None = None
    first_probable: str | None = None
    for analysis in analyses:
        results = [run for f, seeds in seeds_of.items() for run in runs[f][:seeds]]
        evidence = weigh_results(results, search, scenario, analyses, metric)
        decision = decide_verdict(evidence, ORDER)
        if first_probable is None and decision.strength == "probable" and decision.recommended is not None:
            first_probable = evidence.finalists[decision.recommended].family
        step = decide_next_step(evidence, decision)
        winner = get_winner(evidence, decision)
        is_last = analysis is analyses[-1]
        if not step.continues and ended is None:
            settled = decision.verdict in {Verdict.CLEAR_WINNER, Verdict.EQUIVALENT}
            ending = "settled" if settled else "budget" if is_last else "enough"
            ended = PlayedConfirmation(
                decision.verdict, winner, ending, len(results), winner, decision, evidence, first_probable
            )
        if ended is not None and (ended.ending != "enough" or not to_the_end or winner is not None or is_last):
            return replace(ended, last_winner=winner if to_the_end else ended.winner)
        next_seeds = analyses[analyses.index(analysis) + 1].seeds
        unbeaten = decision.unbeaten if decision.best is None else (decision.best, *decision.unbeaten)
        for i in step.finalists or unbeaten:
            seeds_of[ORDER.index(evidence.finalists[i].family)] = next_seeds
    raise AssertionError("a confirmation ends at the last interim analysis")


def get_claim(decision: Decision) -> str:
    """Return the verdict, or its strength if it is undecided."""
    return decision.strength if decision.verdict is Verdict.UNDECIDED else decision.verdict.value


def get_winner(evidence: Evidence, decision: Decision) -> str | None:
    """Return the family of the clear winner, if there is one."""
    if decision.verdict is not Verdict.CLEAR_WINNER or decision.recommended is None:
        return None
    return evidence.finalists[decision.recommended].family


# --- Many sweeps --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Simulated sweeps of one scenario."""

    scenario: Scenario
    losses: int
    sweeps: int
    stream: tuple[int, ...]
    """Key of the random numbers."""
    gap: float = 0.0
    spread: float = 0.0
    """Standard deviation of all losses' true levels."""
    to_the_end: bool = False
    images: int | None = None
    metric: str = "miou"


@dataclass
class Tally:
    """Counts over simulated sweeps."""

    winners: Counter[str | None] = field(default_factory=Counter)
    last_winners: Counter[str | None] = field(default_factory=Counter)
    claims: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    trainings: int = 0
    mious: list[Floats] = field(default_factory=list)
    """Of each sweep, (losses, seeds)."""

    def add(self, other: Tally) -> Tally:
        """Add the counts of another tally to this one, and return it."""
        for name in ("winners", "last_winners", "claims", "endings"):
            getattr(self, name).update(getattr(other, name))
        self.trainings += other.trainings
        self.mious += other.mious
        return self

    def compute_share(self, *claims: str) -> float:
        """Return the share of sweeps with one of these claims."""
        return sum(self.claims[claim] for claim in claims) / self.sweeps

    @property
    def sweeps(self) -> int:
        return self.claims.total()


def count_winners(task: Task) -> Tally:
    """Simulate sweeps whose first loss is better by `task.gap`; count winners, claims, endings and trainings."""
    rng, tally = np.random.default_rng(task.stream), Tally()
    search = simulation.make_search_trials(task.losses)
    for _ in range(task.sweeps):
        counts, collapsed = simulation.draw_counts(task.scenario, task.losses, rng, gap=task.gap, images=task.images)
        runs = simulation.make_results(counts, collapsed)
        played = play_confirmation(runs, search, scenario=task.scenario, to_the_end=task.to_the_end, metric=task.metric)
        tally.winners[played.winner] += 1
        tally.last_winners[played.last_winner] += 1
        tally.claims[get_claim(played.decision)] += 1
        tally.endings[played.ending] += 1
        tally.trainings += played.trainings
        tally.mious.append(simulation.compute_miou(counts))
    return tally


def split_task(task: Task) -> Iterator[Task]:
    """Split the sweeps into batches, each with its own random numbers."""
    for k, start in enumerate(range(0, task.sweeps, BATCH)):
        sweeps = min(BATCH, task.sweeps - start)
        yield replace(task, sweeps=sweeps, stream=(*task.stream, k))


Runner = Callable[[Callable[[Task], Tally], Sequence[Task]], Iterator[Tally]]
"""Function that applies a counting function to tasks, and yields the tally of each, in order, when it is done."""


def make_runner(pool: ProcessPoolExecutor) -> Runner:
    """Return a runner that splits tasks into batches for the processes of a pool."""

    def run(count: Callable[[Task], Tally], tasks: Sequence[Task]) -> Iterator[Tally]:
        batches = [[pool.submit(count, batch) for batch in split_task(task)] for task in tasks]
        for futures in batches:
            tally = futures[0].result()
            for future in futures[1:]:
                tally = tally.add(future.result())
            yield tally

    return run


def compute_upper_limit(count: int, total: int) -> float:
    """Return the upper end of the two-sided 95 % Clopper–Pearson interval of a rate."""
    return 1.0 if count == total else float(beta.ppf(0.975, count + 1, total - count))


def count_false_winners(scenario: Scenario, losses: int, winners: Counter[str | None]) -> int:
    """Count the clear winners that are not truly the best of losses without a gap.

    If only the last loss collapses, it is the worst, and of two losses the first is the best. Otherwise none is.
    """
    best = ORDER[0] if scenario.last_collapse and losses == 2 else None
    return sum(count for family, count in winners.items() if family not in {None, best})


# --- The oracle ---------------------------------------------------------------------------------------------


def simulate_oracle(mious: Floats, sds: Floats) -> npt.NDArray[np.bool_]:
    """Return in which sweeps the first loss is a clear winner by the true variances and normal quantiles, (sweeps,).

    Args:
        mious: (sweeps, losses, seeds) mIoU of each training.
        sds: (analyses, losses, losses) true standard deviation of the difference of two means.
    """
    ended = np.zeros(len(mious), dtype=np.bool_)
    won = np.zeros_like(ended)
    for k, analysis in enumerate(ANALYSES):
        if not analysis.spends:
            continue
        means = mious[:, :, : analysis.seeds].mean(axis=2)
        best = means.argmax(axis=1)
        gaps = np.take_along_axis(means, best[:, None], axis=1) - means
        half = float(ndtri(1 - analysis.error / 2)) * sds[k][best]
        rival = np.arange(means.shape[1]) != best[:, None]
        beaten = (gaps > half) & (gaps >= MARGIN)
        clear = (beaten | ~rival).all(axis=1)
        won |= clear & (best == 0) & ~ended
        pairs = np.abs(means[:, :, None] - means[:, None, :]) + float(ndtri(1 - analysis.error / 2)) * sds[k] <= MARGIN
        is_left = ~beaten
        equivalent = (pairs | ~is_left[:, :, None] | ~is_left[:, None, :]).all(axis=(1, 2)) & ~clear
        ended |= clear | equivalent
    return won


def compute_true_sds(mious: Floats) -> Floats:
    """Return the standard deviation over sweeps of the difference of two means, (analyses, losses, losses)."""
    means = np.stack(
        [mious[:, :, : analysis.seeds].mean(axis=2) for analysis in ANALYSES]
    )  # (analyses, sweeps, losses)
    differences = means[:, :, :, None] - means[:, :, None, :]
    sds: Floats = differences.std(axis=1, ddof=1)
    return sds


def find_gap(power: float, scenario: Scenario, losses: int, stream: tuple[int, ...], sweeps: int = 500) -> float:
    """Return the true gap in level at which the oracle recommends the better loss with this probability.

    It is found by bisection on the same random numbers, between 0 and 0.16.
    """
    low, high = 0.0, 0.0

    def measure_power(gap: float) -> float:
        mious = draw_mious(scenario, losses, stream, sweeps, gap)
        return float(simulate_oracle(mious, compute_true_sds(mious)).mean())

    for high in (0.01, 0.02, 0.04, 0.08, 0.16):
        if measure_power(high) >= power:
            break
        low = high
    for _ in range(4):
        middle = (low + high) / 2
        low, high = (middle, high) if measure_power(middle) < power else (low, middle)
    return high


def draw_mious(scenario: Scenario, losses: int, stream: tuple[int, ...], sweeps: int, gap: float) -> Floats:
    """Draw the mIoU of all trainings of simulated sweeps, (sweeps, losses, seeds)."""
    rng = np.random.default_rng(stream)
    return np.stack(
        [simulation.compute_miou(simulation.draw_counts(scenario, losses, rng, gap=gap)[0]) for _ in range(sweeps)]
    )


# --- The tables ---------------------------------------------------------------------------------------------


def list_winner_rows(
    run: Runner,
    scenarios: Scenarios,
    simulations: int,
    seed: int,
    *,
    losses: Sequence[int] = (2, 4, 8),
    metric: str = "miou",
) -> Iterator[str]:
    """Yield the rows of the table `winners` when they are done."""
    yield (
        "| scenario | images | finalists | clear winners | upper limit | safe or equivalent | probable | open | "
        "trainings each |"
    )
    yield "| --- | --: | --: | --: | --: | --: | --: | --: | --: |"
    tasks = [
        Task(scenario, n, simulations, (seed, 1, k, n), metric=metric)
        for k, scenario in scenarios.items()
        for n in losses
    ]
    for task, tally in zip(tasks, run(count_winners, tasks), strict=True):
        false = count_false_winners(task.scenario, task.losses, tally.winners)
        limit = compute_upper_limit(false, tally.sweeps)
        yield (
            f"| {task.scenario.name} | {task.scenario.images} | {task.losses} | {false / tally.sweeps:.2%} | "
            f"{limit:.2%}{'' if limit <= LIMIT else ' **too many**'} | "
            f"{tally.compute_share('safe_choice', 'equivalent'):.0%} | {tally.compute_share('probable'):.0%} | "
            f"{tally.compute_share('open'):.0%} | {tally.trainings / tally.sweeps / task.losses:.1f} |"
        )


def list_power_rows(
    run: Runner, scenarios: Scenarios, simulations: int, seed: int, losses: Sequence[int] = (2, 4)
) -> Iterator[str]:
    """Yield the rows of the table `power` when they are done."""
    yield (
        "| scenario | finalists | true gap | oracle | ours | to the last interim analysis | ratio | required | "
        "trainings each |"
    )
    yield "| --- | --: | --: | --: | --: | --: | --: | --: | --: |"
    cases = [(k, scenario, n) for k, scenario in scenarios.items() for n in losses]
    tasks = [
        Task(
            scenario,
            n,
            simulations,
            (seed, 3, k, n, j),
            gap=find_gap(power, scenario, n, (seed, 2, k, n)),
            to_the_end=True,
        )
        for k, scenario, n in cases
        for j, power in enumerate(TARGETS)
    ]
    for number, (task, tally) in enumerate(zip(tasks, run(count_winners, tasks), strict=True)):
        mious = np.stack(tally.mious)
        oracle = simulate_oracle(mious, compute_true_sds(mious)).mean()
        ours, last = tally.winners[ORDER[0]] / tally.sweeps, tally.last_winners[ORDER[0]] / tally.sweeps
        required = list(TARGETS.values())[number % len(TARGETS)]
        yield (
            f"| {task.scenario.name} | {task.losses} | {task.gap:.4f} | {oracle:.1%} | {ours:.1%} | {last:.1%} | "
            f"{last / oracle:.2f}{'' if last / oracle >= required else ' **too few**'} | {required:.2f} | "
            f"{tally.trainings / tally.sweeps / task.losses:.1f} |"
        )


COVERAGE_IMAGES = (20, 40, 80, 160)
"""Numbers of test images in the table `coverage`."""


def list_coverage_rows(run: Runner, scenarios: Scenarios, simulations: int, seed: int) -> Iterator[str]:
    """Yield the rows of the table `coverage` when they are done."""
    yield (
        "| scenario | images | own mIoU, 3 seeds | own, 8 seeds | difference, 3 seeds | 8 seeds | "
        "printed at the end | all interim analyses |"
    )
    yield "| --- | --: | --: | --: | --: | --: | --: | --: |"
    tasks = [
        Task(scenario, 2, simulations, (seed, 4, k, n), images=n)
        for k, scenario in scenarios.items()
        for n in COVERAGE_IMAGES
    ]
    for task, tally in zip(tasks, run(count_coverage, tasks), strict=True):
        intervals = {"own 3": 2, "own 8": 2, "gap 3": 1, "gap 8": 1, "end": 1, "all": 1}  # number of each in a sweep
        shares = [tally.winners[kind] / (number * task.sweeps) for kind, number in intervals.items()]
        yield f"| {task.scenario.name} | {task.images} | " + " | ".join(f"{s:.1%}" for s in shares) + " |"


def count_coverage(task: Task) -> Tally:
    """Count how often each kind of interval contains the truth; `Tally.winners` counts them by kind."""
    rng, tally = np.random.default_rng(task.stream), Tally()
    search, truth = simulation.make_search_trials(2), simulation.simulate_population(task.scenario, 2)
    for _ in range(task.sweeps):
        counts, collapsed = simulation.draw_counts(task.scenario, 2, rng, images=task.images)
        runs = simulation.make_results(counts, collapsed)
        is_inside = []
        for analysis in ANALYSES:
            results = [run for loss in runs for run in loss[: analysis.seeds]]
            evidence = weigh_results(results, search, task.scenario)
            for finalist in evidence.finalists:
                true_miou = truth[ORDER.index(finalist.family)]
                tally.winners[f"own {analysis.seeds}"] += contains(finalist.miou, true_miou)
            tally.winners[f"gap {analysis.seeds}"] += contains_gap(evidence, truth, LEVEL)
            is_inside.append(contains_gap(evidence, truth))
        tally.winners["all"] += all(is_inside)
        tally.winners["end"] += contains_gap(play_confirmation(runs, search, scenario=task.scenario).evidence, truth)
        tally.claims["done"] += 1
    return tally


def weigh_results(
    results: Sequence[TrialResult],
    search: dict[str, TrialResult],
    scenario: Scenario,
    analyses: Sequence[InterimAnalysis] = ANALYSES,
    metric: str = "miou",
) -> Evidence:
    """Compute the evidence of the product from simulated results."""
    test = results[0].test
    assert test is not None
    groups = scenario.list_groups(len(test.images))
    return compute_evidence(
        results, search, classes=scenario.classes, margin=MARGIN, analyses=analyses, groups=groups, metric=metric
    )


def contains(interval: Interval, truth: float) -> bool:
    """Return whether the interval contains the truth."""
    return interval.low <= truth <= interval.high


def contains_gap(evidence: Evidence, truth: Floats, level: float | None = None) -> bool:
    """Return whether the paired interval, at its own or another level, contains the true difference.

    Without a loss that collapses, the true difference is 0, and the simulated population means differ only by chance.
    """
    first, second = (truth[ORDER.index(f.family)] for f in evidence.finalists)
    gap = float(first - second) if abs(first - second) > MARGIN / 2 else 0.0
    interval = evidence.comparisons[0].difference
    if level is None:
        return contains(interval, gap)
    seeds = min(len(f.seeds) for f in evidence.finalists)
    half = compute_half_width(
        interval.se_seed**2, seeds, interval.se_image**2, evidence.test_images, level, borrowed=interval.borrowed
    )
    return abs(interval.estimate - gap) <= half


GAINS = (0.0, 0.02, 0.05, 0.1)
"""Gains of one loss over all others in the table `action`."""


def list_action_rows(
    run: Runner, scenarios: Scenarios, simulations: int, seed: int, losses: Sequence[int] = (2, 4)
) -> Iterator[str]:
    """Yield the rows of the table `action` when they are done."""
    yield (
        "| scenario | losses | true gain | sweeps | change | upper limit | cost of the action | of the verdict only | "
        "trainings each |"
    )
    yield "| --- |" + " --: |" * 8
    cases = [(gain, 0.0) for gain in GAINS] + [(0.0, 0.01)]
    tasks = [
        Task(scenario, n, simulations // (4 if j else 1), (seed, 7, k, n, j), gap=gain, spread=spread)
        for k, scenario in scenarios.items()
        if not (scenario.collapse or scenario.last_collapse)
        for n in losses
        for j, (gain, spread) in enumerate(cases)
    ]
    for task, tally in zip(tasks, run(count_actions, tasks), strict=True):
        changes, equal = tally.winners["change"], not (task.gap or task.spread)
        limit = compute_upper_limit(changes, tally.sweeps)
        cost, verdict_cost = np.concatenate(tally.mious).mean(axis=0)
        yield (
            f"| {task.scenario.name} | {task.losses} | {f'± {task.spread:g}' if task.spread else f'{task.gap:g}'} | "
            f"{tally.sweeps} | {changes / tally.sweeps:.1%} | {f'{limit:.1%}' if equal else '–'}"
            f"{' **too many**' if equal and limit > LIMIT else ''} | {cost:.4f} | {verdict_cost:.4f} | "
            f"{tally.trainings / tally.sweeps / task.losses:.1f} |"
        )


def count_actions(task: Task) -> Tally:
    """Simulate sweeps whose second loss gains `task.gap`, or whose losses differ with a deviation of `task.spread`.

    Returns:
        `winners` counts the actions. `mious` has, of each sweep, (1, 2): the true cost of the loss that the action
        recommends, and of the one that the verdict without the action would recommend.
    """
    rng, tally = np.random.default_rng(task.stream), Tally()
    search = simulation.make_search_trials(task.losses)
    for _ in range(task.sweeps):
        gaps = task.spread * rng.standard_normal(task.losses)
        gaps[1] += task.gap
        counts, collapsed = simulation.draw_counts(task.scenario, task.losses, rng, gaps=gaps)
        played = play_confirmation(simulation.make_results(counts, collapsed), search, scenario=task.scenario)
        by_verdict = apply_verdict_rule(played.evidence, range(task.losses), ORDER, None)
        true = simulation.compute_true_gaps(task.scenario, gaps)

        def compute_cost(decision: Decision, played: PlayedConfirmation = played, true: Floats = true) -> float:
            assert decision.recommended is not None  # every loss learns
            return float(true.max() - true[ORDER.index(played.evidence.finalists[decision.recommended].family)])

        tally.winners[played.decision.action] += 1
        tally.claims[get_claim(played.decision)] += 1
        tally.trainings += played.trainings
        tally.mious.append(np.array([[compute_cost(played.decision), compute_cost(by_verdict)]]))
    return tally


SPREADS = (0.005, 0.01, 0.02)
"""True standard deviations between the losses in the table `choice`."""


def list_choice_rows(
    run: Runner,
    scenarios: Scenarios,
    simulations: int,
    seed: int,
    *,
    losses: Sequence[int] = (2, 4, 8),
    spreads: Sequence[float] = SPREADS,
) -> Iterator[str]:
    """Yield the rows of the table `choice` when they are done."""
    yield (
        "| scenario | images | finalists | spread | clear winner | safe or equivalent | probable | open | "
        "cost of the recommended | wrong winner | wrong safe | wrong probable | of first probable cards | bound holds "
        "| trainings each |"
    )
    yield "| --- |" + " --: |" * 14
    tasks = [
        Task(scenario, n, simulations, (seed, 6, k, n, j), gap=spread)
        for k, scenario in scenarios.items()
        if not (scenario.collapse or scenario.last_collapse)
        for n in losses
        for j, spread in enumerate(spreads)
    ]
    endings: Counter[str] = Counter()
    for task, tally in zip(tasks, run(count_choices, tasks), strict=True):
        endings.update(tally.endings)
        cost, bound_holds = np.concatenate(tally.mious).mean(axis=0)
        wrong = [f"{tally.winners[kind] / tally.sweeps:.1%}" for kind in ("clear_winner", "safe", "probable")]
        yield (
            f"| {task.scenario.name} | {task.scenario.images} | {task.losses} | {task.gap:g} | "
            f"{tally.compute_share('clear_winner'):.0%} | {tally.compute_share('safe_choice', 'equivalent'):.0%} | "
            f"{tally.compute_share('probable'):.0%} | {tally.compute_share('open'):.0%} | {cost:.4f} | "
            f"{' | '.join(wrong)} | {tally.endings['first wrong'] / max(1, tally.endings['first']):.1%} | "
            f"{bound_holds:.1%} | {tally.trainings / tally.sweeps / task.losses:.1f} |"
        )
    wrong_first, first = endings["first wrong"], endings["first"]
    yield ""
    yield (
        f"Of {first:,} first cards that said probable, {wrong_first / max(1, first):.2%} recommended a loss that "
        f"costs more than the margin (upper limit {compute_upper_limit(wrong_first, max(1, first)):.2%})."
    )


def count_choices(task: Task) -> Tally:
    """Simulate sweeps whose losses truly differ, with a standard deviation of `task.gap`, whatever their order.

    Returns:
        `mious` has, of each sweep, (1, 2): the true cost of the recommended loss, and whether the bound of its regret
        holds. `winners` counts the wrong claims; `endings` the first cards with *probable*, and the wrong ones of them.
    """
    rng, tally = np.random.default_rng(task.stream), Tally()
    search = simulation.make_search_trials(task.losses)
    for _ in range(task.sweeps):
        gaps = task.gap * rng.standard_normal(task.losses)
        counts, collapsed = simulation.draw_counts(task.scenario, task.losses, rng, gaps=gaps)
        played = play_confirmation(simulation.make_results(counts, collapsed), search, scenario=task.scenario)
        if played.decision.recommended is None:  # losses that differ by a tenth may all learn nothing
            continue
        claim = get_claim(played.decision)
        tally.claims[claim] += 1
        tally.trainings += played.trainings
        recommended = played.evidence.finalists[played.decision.recommended]
        true = simulation.compute_true_gaps(task.scenario, gaps)
        cost = float(true.max() - true[ORDER.index(recommended.family)])
        assert recommended.regret is not None
        tally.mious.append(np.array([[cost, cost <= recommended.regret.bound]]))
        tally.winners["clear_winner"] += claim == "clear_winner" and cost > 0
        tally.winners["safe"] += claim in {"safe_choice", "equivalent"} and cost > MARGIN
        tally.winners["probable"] += claim == "probable" and cost > MARGIN
        if played.first_probable is not None:
            tally.endings["first"] += 1
            tally.endings["first wrong"] += bool(true.max() - true[ORDER.index(played.first_probable)] > MARGIN)
    return tally


SAFE_LIMIT = 0.065
"""Highest upper end of the rate in the table `safe`."""


def list_safe_rows(run: Runner, scenarios: Scenarios, simulations: int, seed: int) -> Iterator[str]:
    """Yield the rows of the table `safe` when they are done; the first loss is better by 1.01 × the margin."""
    yield "| scenario | images | finalists | wrongly safe or equivalent | upper limit |"
    yield "| --- | --: | --: | --: | --: |"
    tasks = [
        Task(scenario, n, simulations, (seed, 5, k, n, j), gap=find_level_gap(scenario, 1.01 * MARGIN), images=images)
        for k, scenario in scenarios.items()
        if not (scenario.collapse or scenario.last_collapse)
        for n in (2, 4)
        for j, images in enumerate((scenario.images, 160))
    ]
    for task, tally in zip(tasks, run(count_unsafe, tasks), strict=True):
        wrong = tally.winners["safe"]
        limit = compute_upper_limit(wrong, tally.sweeps)
        yield (
            f"| {task.scenario.name} | {task.images} | {task.losses} | {wrong / tally.sweeps:.2%} | {limit:.2%}"
            f"{'' if limit <= SAFE_LIMIT else ' **too many**'} |"
        )


def find_level_gap(scenario: Scenario, true_gap: float) -> float:
    """Return the gap in level that causes this true gap in mIoU."""
    grid = np.linspace(0, 0.04, 401)
    return float(np.interp(true_gap, simulation.compute_true_gaps(scenario, grid), grid))


def count_unsafe(task: Task) -> Tally:
    """Count how often a loss that is worse by more than the margin is called safe or equivalent."""
    rng, tally = np.random.default_rng(task.stream), Tally()
    search = simulation.make_search_trials(task.losses)
    for _ in range(task.sweeps):
        counts, collapsed = simulation.draw_counts(task.scenario, task.losses, rng, gap=task.gap, images=task.images)
        played = play_confirmation(simulation.make_results(counts, collapsed), search, scenario=task.scenario)
        claim, recommended = get_claim(played.decision), played.decision.recommended
        is_worse = recommended is not None and played.evidence.finalists[recommended].family != ORDER[0]
        tally.claims[claim] += 1
        tally.winners["safe"] += claim == "equivalent" or (claim == "safe_choice" and is_worse)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--simulations",
        type=int,
        default=2000,
        help="sweeps of each row (power: a quarter, choice: a fifth, coverage: half)",
    )
    parser.add_argument("--quick", action="store_true", help="100 of each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--scenario", choices=[s.name for s in simulation.SCENARIOS], help="only this scenario")
    parser.add_argument(
        "--finalists", type=int, choices=(2, 4, 8), help="only this number of losses (not in safe and coverage)"
    )
    parser.add_argument(
        "--only", choices=("winners", "action", "power", "choice", "safe", "coverage"), help="only this table"
    )
    parser.add_argument(
        "--spreads", type=float, nargs="+", default=SPREADS, help="true standard deviations of the losses, in choice"
    )
    parser.add_argument(
        "--metric",
        default="miou",
        choices=("miou", "image_iou", "image_dice"),
        help="metric that is compared, in winners",
    )
    arguments = parser.parse_args()
    simulations = 100 if arguments.quick else arguments.simulations
    losses: dict[str, Any] = {} if arguments.finalists is None else {"losses": (arguments.finalists,)}
    winners = partial(list_winner_rows, **losses, metric=arguments.metric)
    choice = partial(list_choice_rows, **losses, spreads=arguments.spreads)
    tables: dict[str, tuple[str, Callable[[Runner, Scenarios, int, int], Iterator[str]], int]] = {
        "winners": ("Clear winners among equal losses", winners, simulations),
        "action": ("Keep cross-entropy, or change", partial(list_action_rows, **losses), simulations),
        "power": (
            "Clear winners where one loss is better",
            partial(list_power_rows, **losses),
            max(1, simulations // 4),
        ),
        "choice": ("What is claimed and recommended where losses differ", choice, max(1, simulations // 5)),
        "safe": ("Losses called safe that are worse by 1.01 × the margin", list_safe_rows, simulations),
        "coverage": ("Intervals that contain the truth (two losses)", list_coverage_rows, max(1, simulations // 2)),
    }
    scenarios = {k: s for k, s in enumerate(simulation.SCENARIOS) if arguments.scenario in (None, s.name)}
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        run = make_runner(pool)
        for name, (title, list_rows, sweeps) in tables.items():
            if arguments.only in (None, name):
                start = time.perf_counter()
                print(f"\n{title} ({sweeps:,} sweeps a row)\n", flush=True)
                for row in list_rows(run, scenarios, sweeps, arguments.seed):
                    print(row, flush=True)
                print(f"\n({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
