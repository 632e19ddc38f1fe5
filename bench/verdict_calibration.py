"""How often the verdict is wrong, how often it comes, how often intervals hold: the procedure on simulated sweeps.

Every simulated confirmation goes through the very code of the product, with interim analyses at 2, 3, 4, 5, 6 and 8
seeds: `weigh`, `decide`, `next_step`, with finalists that are dropped and confirmations that end early. Six tables:

- action: one loss gains 0, 0.02, 0.05 or 0.1 over cross-entropy and the others, or all differ by chance; how often the
  sweep says change, what the action costs, and what the loss costs that the verdict alone would have recommended from
  the same trainings. Limit of a change among equal losses: the upper end at most 6 %.
- winners: equal losses; how often one of them is a clear winner. Limit: the upper end of the 95 % interval
  (Clopper–Pearson, two-sided) at most 6 %.
- power: one loss better by as much as an oracle needs in order to name it in 50, 80 and 95 % of sweeps. The oracle uses
  the same rule and interim analyses, but knows the true variances and takes normal quantiles. It continues until it
  knows the answer, and so do ours for the comparison ("to the last interim analysis").
- choice: losses that differ truly; what the sweep says, what the named loss costs, how often the bound holds, and of
  the first cards that say *probable*, how many name a loss that costs more than the ROPE. Limit: 5 % of all of them.
- safe: the named loss is worse by just more than the ROPE; how often it is called safe or equivalent all the same.
  Limit: the upper end at most 6.5 %.
- coverage: of the intervals of a finalist's own mIoU and of a paired difference, by number of test images.

    python bench/verdict_calibration.py [--simulations 2000] [--quick] [--seed 0] [--processes 2] [--only TABLE]

The same arguments print the same tables, whatever the number of processes. Takes some 45 minutes of one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
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

ROPE = 0.01
ANALYSES = plan_analyses(2, simulation.SEEDS)
ORDER = simulation.FAMILIES
LIMIT = 0.06
TARGETS = {0.50: 0.50, 0.80: 0.65, 0.95: 0.85}
"""The oracle's power → the share of it that ours must reach if it continues to the last interim analysis.

It usually ends before, once the cost is known."""
BATCH = 100
"""Simulations drawn from one stream: what a process gets at a time."""

Floats = npt.NDArray[np.float64]
Scenarios = dict[int, Scenario]
"""Scenarios by their place among all, which keys their random numbers."""


# --- One sweep ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Played:
    """How one confirmation ended."""

    verdict: Verdict
    winner: str | None
    """Family of a clear winner."""
    ending: str
    """`settled` (a winner or equivalence), `enough` (what the named loss costs is known), `budget` (no more seeds)."""
    trainings: int
    untiring: str | None
    """The clear winner if it had continued to the last interim analysis; None also if that was not asked."""
    decision: Decision
    evidence: Evidence
    named_first: str | None
    """Family that the first card that said *probable* named."""


def play(
    runs: Sequence[Sequence[TrialResult]],
    search: dict[str, TrialResult],
    *,
    scenario: Scenario = simulation.BINARY,
    analyses: Sequence[InterimAnalysis] = ANALYSES,
    untiring: bool = False,
    metric: str = "miou",
) -> Played:
    """Confirm `runs[loss][seed]` from one interim analysis to the next.

    Args:
        runs: all trainings that could be asked for.
        search: where the finalists come from.
        scenario: has their classes and the groups of their images.
        analyses: the planned interim analyses; levels other than the product's show what they would do.
        untiring: continue where the product has enough, to see what that costs.
        metric: what is compared.
    """
    have = dict.fromkeys(range(len(runs)), analyses[0].seeds)
    ended: Played | None = None
    named_first: str | None = None
    for analysis in analyses:
        taken = [run for f, seeds in have.items() for run in runs[f][:seeds]]
        evidence = _weighed(taken, search, scenario, analyses, metric)
        decision = decide_verdict(evidence, ORDER)
        if named_first is None and decision.strength == "probable" and decision.recommended is not None:
            named_first = evidence.finalists[decision.recommended].family
        step = decide_next_step(evidence, decision)
        winner = _winner(evidence, decision)
        last = analysis is analyses[-1]
        if not step.continues and ended is None:
            settled = decision.verdict in {Verdict.CLEAR_WINNER, Verdict.EQUIVALENT}
            ending = "settled" if settled else "budget" if last else "enough"
            ended = Played(decision.verdict, winner, ending, len(taken), winner, decision, evidence, named_first)
        if ended is not None and (ended.ending != "enough" or not untiring or winner is not None or last):
            return Played(**{**vars(ended), "untiring": winner if untiring else ended.winner})
        going = step.finalists or (decision.best, *decision.unbeaten)
        after = analyses[analyses.index(analysis) + 1].seeds
        for i in going:
            assert i is not None
            have[ORDER.index(evidence.finalists[i].family)] = after
    raise AssertionError("the last interim analysis always ends it")


def _said(decision: Decision) -> str:
    """Return the verdict; if undecided, how sure the cost of the recommended loss is."""
    return decision.strength if decision.verdict is Verdict.UNDECIDED else decision.verdict.value


def _winner(evidence: Evidence, decision: Decision) -> str | None:
    if decision.verdict is not Verdict.CLEAR_WINNER or decision.recommended is None:
        return None
    return evidence.finalists[decision.recommended].family


# --- Many sweeps --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A batch of simulated sweeps."""

    scenario: Scenario
    losses: int
    sweeps: int
    stream: tuple[int, ...]
    """Key of its random numbers."""
    gap: float = 0.0
    spread: float = 0.0
    """Standard deviation of all losses' true levels."""
    untiring: bool = False
    images: int | None = None
    metric: str = "miou"


@dataclass
class Tally:
    """What a batch gave."""

    winners: Counter[str | None] = field(default_factory=Counter)
    untiring: Counter[str | None] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    trainings: int = 0
    mious: list[Floats] = field(default_factory=list)
    """Of each sweep (losses, seeds)."""

    def add(self, other: Tally) -> Tally:
        for name in ("winners", "untiring", "verdicts", "endings"):
            getattr(self, name).update(getattr(other, name))
        self.trainings += other.trainings
        self.mious += other.mious
        return self

    def share(self, *said: str) -> float:
        """Return the share of the sweeps that ended so."""
        return sum(self.verdicts[word] for word in said) / self.sweeps

    @property
    def sweeps(self) -> int:
        return self.verdicts.total()


def confirm(task: Task) -> Tally:
    """Play a batch."""
    rng, tally = np.random.default_rng(task.stream), Tally()
    search = simulation.searched(task.losses)
    for _ in range(task.sweeps):
        counts, collapsed = simulation.draw(task.scenario, task.losses, rng, gap=task.gap, images=task.images)
        runs = simulation.trainings(counts, collapsed)
        played = play(runs, search, scenario=task.scenario, untiring=task.untiring, metric=task.metric)
        tally.winners[played.winner] += 1
        tally.untiring[played.untiring] += 1
        tally.verdicts[_said(played.decision)] += 1
        tally.endings[played.ending] += 1
        tally.trainings += played.trainings
        tally.mious.append(simulation.miou(counts))
    return tally


def batches(task: Task) -> Iterator[Task]:
    """Split the sweeps into batches, each with its own random numbers."""
    for k, start in enumerate(range(0, task.sweeps, BATCH)):
        sweeps = min(BATCH, task.sweeps - start)
        yield Task(**{**vars(task), "sweeps": sweeps, "stream": (*task.stream, k)})


Spread = Callable[[Callable[[Task], Tally], Sequence[Task]], Iterator[Tally]]


def spread_over(pool: ProcessPoolExecutor) -> Spread:
    """Run tasks in batches on the pool; one tally per task, in order, as they are done."""

    def run(work: Callable[[Task], Tally], tasks: Sequence[Task]) -> Iterator[Tally]:
        waiting = [[pool.submit(work, batch) for batch in batches(task)] for task in tasks]
        for futures in waiting:
            whole = futures[0].result()
            for future in futures[1:]:
                whole = whole.add(future.result())
            yield whole

    return run


def upper_limit(count: int, of: int) -> float:
    """Upper end of the two-sided 95 % Clopper–Pearson interval of a rate."""
    return 1.0 if count == of else float(beta.ppf(0.975, count + 1, of - count))


def false_winners(scenario: Scenario, losses: int, winners: Counter[str | None]) -> int:
    """Count the clear winners that are not truly best.

    Where one loss collapses it is the worst, and the others are equal.
    """
    truly_best = set()
    if scenario.last_collapse and losses == 2:
        truly_best = {ORDER[0]}
    return sum(n for name, n in winners.items() if name is not None and name not in truly_best)


# --- The oracle ---------------------------------------------------------------------------------------------


def oracle_wins(mious: Floats, sds: Floats) -> npt.NDArray[np.bool_]:
    """Sweeps in which the rule, with the true variances and normal quantiles, names the first loss a clear winner.

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
        beaten = (gaps > half) & (gaps >= ROPE)
        clear = (beaten | ~rival).all(axis=1)
        won |= clear & (best == 0) & ~ended
        pairs = np.abs(means[:, :, None] - means[:, None, :]) + float(ndtri(1 - analysis.error / 2)) * sds[k] <= ROPE
        left = ~beaten
        same = (pairs | ~left[:, :, None] | ~left[:, None, :]).all(axis=(1, 2)) & ~clear
        ended |= clear | same
    return won


def true_sds(mious: Floats) -> Floats:
    """(analyses, losses, losses) standard deviation over simulated sweeps of the difference of two means."""
    means = np.stack(
        [mious[:, :, : analysis.seeds].mean(axis=2) for analysis in ANALYSES]
    )  # (analyses, sweeps, losses)
    differences = means[:, :, :, None] - means[:, :, None, :]
    sds: Floats = differences.std(axis=1, ddof=1)
    return sds


def gap_for(power: float, scenario: Scenario, losses: int, stream: tuple[int, ...], sweeps: int = 500) -> float:
    """Return the true gap in level at which the oracle picks the better loss with this probability.

    By bisection on the same random numbers; the highest gap tried where even that does not suffice.
    """
    low, high = 0.0, 0.0
    found: dict[float, float] = {}

    def oracle(gap: float) -> float:
        if gap not in found:
            mious = _mious(scenario, losses, stream, sweeps, gap)
            found[gap] = float(oracle_wins(mious, true_sds(mious)).mean())
        return found[gap]

    for high in (0.01, 0.02, 0.04, 0.08, 0.16):
        if oracle(high) >= power:
            break
        low = high
    for _ in range(4):
        middle = (low + high) / 2
        low, high = (middle, high) if oracle(middle) < power else (low, middle)
    return high


def _mious(scenario: Scenario, losses: int, stream: tuple[int, ...], sweeps: int, gap: float) -> Floats:
    """(sweeps, losses, seeds) of sweeps that are drawn and not judged."""
    rng = np.random.default_rng(stream)
    return np.stack([simulation.miou(simulation.draw(scenario, losses, rng, gap=gap)[0]) for _ in range(sweeps)])


# --- The tables ---------------------------------------------------------------------------------------------


def false_winner_table(
    run: Spread,
    scenarios: Scenarios,
    simulations: int,
    seed: int,
    *,
    losses: Sequence[int] = (2, 4, 8),
    metric: str = "miou",
) -> Iterator[str]:
    """Rows of the first table."""
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
    for task, tally in zip(tasks, run(confirm, tasks), strict=True):
        false = false_winners(task.scenario, task.losses, tally.winners)
        limit = upper_limit(false, tally.sweeps)
        yield (
            f"| {task.scenario.name} | {task.scenario.images} | {task.losses} | {false / tally.sweeps:.2%} | "
            f"{limit:.2%}{'' if limit <= LIMIT else ' **too many**'} | "
            f"{tally.share('safe_choice', 'equivalent'):.0%} | {tally.share('probable'):.0%} | "
            f"{tally.share('open'):.0%} | {tally.trainings / tally.sweeps / task.losses:.1f} |"
        )


def power_table(
    run: Spread, scenarios: Scenarios, simulations: int, seed: int, losses: Sequence[int] = (2, 4)
) -> Iterator[str]:
    """Rows of the second table."""
    yield (
        "| scenario | finalists | true gap | oracle | ours | to the last interim analysis | ratio | asked | "
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
            gap=gap_for(power, scenario, n, (seed, 2, k, n)),
            untiring=True,
        )
        for k, scenario, n in cases
        for j, power in enumerate(TARGETS)
    ]
    for number, (task, tally) in enumerate(zip(tasks, run(confirm, tasks), strict=True)):
        mious = np.stack(tally.mious)
        oracle = oracle_wins(mious, true_sds(mious)).mean()
        ours, patient = tally.winners[ORDER[0]] / tally.sweeps, tally.untiring[ORDER[0]] / tally.sweeps
        asked = list(TARGETS.values())[number % len(TARGETS)]
        yield (
            f"| {task.scenario.name} | {task.losses} | {task.gap:.4f} | {oracle:.1%} | {ours:.1%} | {patient:.1%} | "
            f"{patient / oracle:.2f}{'' if patient / oracle >= asked else ' **too few**'} | {asked:.2f} | "
            f"{tally.trainings / tally.sweeps / task.losses:.1f} |"
        )


IMAGES = (20, 40, 80, 160)


def coverage_table(run: Spread, scenarios: Scenarios, simulations: int, seed: int) -> Iterator[str]:
    """Rows of the third table."""
    yield (
        "| scenario | images | own mIoU, 3 seeds | own, 8 seeds | difference, 3 seeds | 8 seeds | "
        "printed at the end | all interim analyses |"
    )
    yield "| --- | --: | --: | --: | --: | --: | --: | --: |"
    tasks = [
        Task(scenario, 2, simulations, (seed, 4, k, n), images=n) for k, scenario in scenarios.items() for n in IMAGES
    ]
    for task, tally in zip(tasks, run(covered, tasks), strict=True):
        of = {"own 3": 2, "own 8": 2}
        shares = [
            tally.winners[name] / (of.get(name, 1) * task.sweeps)
            for name in ("own 3", "own 8", "gap 3", "gap 8", "end", "all")
        ]
        yield f"| {task.scenario.name} | {task.images} | " + " | ".join(f"{s:.1%}" for s in shares) + " |"


def covered(task: Task) -> Tally:
    """Count how often each kind of interval covers the truth; `Tally.winners` counts them by kind."""
    rng, tally = np.random.default_rng(task.stream), Tally()
    search, truth = simulation.searched(2), simulation.population(task.scenario, 2)
    for _ in range(task.sweeps):
        counts, collapsed = simulation.draw(task.scenario, 2, rng, images=task.images)
        runs = simulation.trainings(counts, collapsed)
        held = []
        for analysis in ANALYSES:
            taken = [run for loss in runs for run in loss[: analysis.seeds]]
            evidence = _weighed(taken, search, task.scenario)
            for finalist in evidence.finalists:
                own = truth[ORDER.index(finalist.family)]
                tally.winners[f"own {analysis.seeds}"] += _holds(finalist.miou, own)
            tally.winners[f"gap {analysis.seeds}"] += _gap_held(evidence, truth, LEVEL)
            held.append(_gap_held(evidence, truth))
        tally.winners["all"] += all(held)
        tally.winners["end"] += _gap_held(play(runs, search, scenario=task.scenario).evidence, truth)
        tally.verdicts["done"] += 1
    return tally


def _weighed(
    taken: Sequence[TrialResult],
    search: dict[str, TrialResult],
    scenario: Scenario,
    analyses: Sequence[InterimAnalysis] = ANALYSES,
    metric: str = "miou",
) -> Evidence:
    test = taken[0].test
    assert test is not None
    groups = scenario.groups_of(len(test.images))
    return compute_evidence(
        taken, search, classes=scenario.classes, rope=ROPE, analyses=analyses, groups=groups, metric=metric
    )


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def _gap_held(evidence: Evidence, truth: Floats, level: float | None = None) -> bool:
    """Return whether the paired interval, as it is or at another level, covers the true difference.

    That is 0 but where one loss collapses: the populations' values, found by simulation, differ by chance alone.
    """
    first, second = (truth[ORDER.index(f.family)] for f in evidence.finalists)
    gap = float(first - second) if abs(first - second) > ROPE / 2 else 0.0
    found = evidence.comparisons[0].difference
    if level is None:
        return _holds(found, gap)
    seeds = min(len(f.seeds) for f in evidence.finalists)
    half = compute_half_width(
        found.se_seed**2, seeds, found.se_image**2, evidence.test_images, level, borrowed=found.borrowed
    )
    return abs(found.estimate - gap) <= half


GAINS = (0.0, 0.02, 0.05, 0.1)
"""What one loss of the table of actions gains over all others."""


def action_table(
    run: Spread, scenarios: Scenarios, simulations: int, seed: int, losses: Sequence[int] = (2, 4)
) -> Iterator[str]:
    """Rows of the table of actions."""
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
    for task, tally in zip(tasks, run(acted, tasks), strict=True):
        changes, equal = tally.winners["change"], not (task.gap or task.spread)
        limit = upper_limit(changes, tally.sweeps)
        cost, before = np.concatenate(tally.mious).mean(axis=0)
        yield (
            f"| {task.scenario.name} | {task.losses} | {f'± {task.spread:g}' if task.spread else f'{task.gap:g}'} | "
            f"{tally.sweeps} | {changes / tally.sweeps:.1%} | {f'{limit:.1%}' if equal else '–'}"
            f"{' **too many**' if equal and limit > LIMIT else ''} | {cost:.4f} | {before:.4f} | "
            f"{tally.trainings / tally.sweeps / task.losses:.1f} |"
        )


def acted(task: Task) -> Tally:
    """Sweeps whose second loss gains `task.gap`, or whose losses differ with a standard deviation of `task.spread`.

    `Tally.mious` gets (1, 2) a sweep: the true cost of what the action recommends, and of what the verdict would.
    """
    rng, tally = np.random.default_rng(task.stream), Tally()
    search = simulation.searched(task.losses)
    for _ in range(task.sweeps):
        gaps = task.spread * rng.standard_normal(task.losses)
        gaps[1] += task.gap
        counts, collapsed = simulation.draw(task.scenario, task.losses, rng, gaps=gaps)
        played = play(simulation.trainings(counts, collapsed), search, scenario=task.scenario)
        alone = apply_verdict_rule(played.evidence, range(task.losses), ORDER, None)
        true = simulation.true_gaps(task.scenario, gaps)

        def cost(decision: Decision, played: Played = played, true: Floats = true) -> float:
            assert decision.recommended is not None  # every loss learns
            return float(true.max() - true[ORDER.index(played.evidence.finalists[decision.recommended].family)])

        tally.winners[played.decision.action] += 1
        tally.verdicts[_said(played.decision)] += 1
        tally.trainings += played.trainings
        tally.mious.append(np.array([[cost(played.decision), cost(alone)]]))
    return tally


SPREADS = (0.005, 0.01, 0.02)
"""True standard deviations between the losses of the third table."""


def choice_table(
    run: Spread, scenarios: Scenarios, simulations: int, seed: int, losses: Sequence[int] = (2, 4, 8)
) -> Iterator[str]:
    """Rows of the third table."""
    yield (
        "| scenario | images | finalists | spread | clear winner | safe or equivalent | probable | open | "
        "cost of the named | wrong winner | wrong safe | wrong probable | of first probable cards | bound holds | "
        "trainings each |"
    )
    yield "| --- |" + " --: |" * 14
    tasks = [
        Task(scenario, n, simulations, (seed, 6, k, n, j), gap=spread)
        for k, scenario in scenarios.items()
        if not (scenario.collapse or scenario.last_collapse)
        for n in losses
        for j, spread in enumerate(SPREADS)
    ]
    everything = Tally()
    for task, tally in zip(tasks, run(chosen, tasks), strict=True):
        everything.endings.update(tally.endings)
        cost, held = np.concatenate(tally.mious).mean(axis=0)
        wrong = [f"{tally.winners[kind] / tally.sweeps:.1%}" for kind in ("clear_winner", "safe", "probable")]
        yield (
            f"| {task.scenario.name} | {task.scenario.images} | {task.losses} | {task.gap:g} | "
            f"{tally.share('clear_winner'):.0%} | {tally.share('safe_choice', 'equivalent'):.0%} | "
            f"{tally.share('probable'):.0%} | {tally.share('open'):.0%} | {cost:.4f} | {' | '.join(wrong)} | "
            f"{tally.endings['first wrong'] / max(1, tally.endings['first']):.1%} | "
            f"{held:.1%} | {tally.trainings / tally.sweeps / task.losses:.1f} |"
        )
    wrong_first, first = everything.endings["first wrong"], everything.endings["first"]
    yield ""
    yield (
        f"Of {first:,} first cards that said probable, {wrong_first / max(1, first):.2%} named a loss that costs more "
        f"than the ROPE (upper limit {upper_limit(wrong_first, max(1, first)):.2%})."
    )


def chosen(task: Task) -> Tally:
    """Sweeps over losses that differ truly, with a standard deviation of `task.gap`; simplicity says nothing of it.

    `Tally.mious` gets (1, 2) a sweep: what the named loss truly costs, and whether the bound of its regret holds;
    `Tally.winners` counts what was said wrongly.
    """
    rng, tally = np.random.default_rng(task.stream), Tally()
    search = simulation.searched(task.losses)
    for _ in range(task.sweeps):
        gaps = task.gap * rng.standard_normal(task.losses)
        counts, collapsed = simulation.draw(task.scenario, task.losses, rng, gaps=gaps)
        played = play(simulation.trainings(counts, collapsed), search, scenario=task.scenario)
        said = _said(played.decision)
        tally.verdicts[said] += 1
        tally.trainings += played.trainings
        assert played.decision.recommended is not None  # every loss learns
        named = played.evidence.finalists[played.decision.recommended]
        true = simulation.true_gaps(task.scenario, gaps)
        cost = float(true.max() - true[ORDER.index(named.family)])
        assert named.regret is not None
        tally.mious.append(np.array([[cost, cost <= named.regret.bound]]))
        tally.winners["clear_winner"] += said == "clear_winner" and cost > 0
        tally.winners["safe"] += said in {"safe_choice", "equivalent"} and cost > ROPE
        tally.winners["probable"] += said == "probable" and cost > ROPE
        if played.named_first is not None:
            tally.endings["first"] += 1
            tally.endings["first wrong"] += bool(true.max() - true[ORDER.index(played.named_first)] > ROPE)
    return tally


SAFE_LIMIT = 0.065


def safe_table(run: Spread, scenarios: Scenarios, simulations: int, seed: int) -> Iterator[str]:
    """Rows of the fourth table: the first loss is better than all others by 1.01 × the ROPE."""
    yield "| scenario | images | finalists | wrongly safe or equivalent | upper limit |"
    yield "| --- | --: | --: | --: | --: |"
    tasks = [
        Task(scenario, n, simulations, (seed, 5, k, n, j), gap=_asked(scenario, 1.01 * ROPE), images=images)
        for k, scenario in scenarios.items()
        if not (scenario.collapse or scenario.last_collapse)
        for n in (2, 4)
        for j, images in enumerate((scenario.images, 160))
    ]
    for task, tally in zip(tasks, run(unsafe, tasks), strict=True):
        wrong = tally.winners["safe"]
        limit = upper_limit(wrong, tally.sweeps)
        yield (
            f"| {task.scenario.name} | {task.images} | {task.losses} | {wrong / tally.sweeps:.2%} | {limit:.2%}"
            f"{'' if limit <= SAFE_LIMIT else ' **too many**'} |"
        )


def _asked(scenario: Scenario, true: float) -> float:
    """Return the gap to ask for so that the true one is this."""
    asked = np.linspace(0, 0.04, 401)
    return float(np.interp(true, simulation.true_gaps(scenario, asked), asked))


def unsafe(task: Task) -> Tally:
    """Count how often a loss that is worse by more than the ROPE is called safe or equivalent."""
    rng, tally = np.random.default_rng(task.stream), Tally()
    search = simulation.searched(task.losses)
    for _ in range(task.sweeps):
        counts, collapsed = simulation.draw(task.scenario, task.losses, rng, gap=task.gap, images=task.images)
        played = play(simulation.trainings(counts, collapsed), search, scenario=task.scenario)
        said, named = _said(played.decision), played.decision.recommended
        wrong = named is not None and played.evidence.finalists[named].family != ORDER[0]
        tally.verdicts[said] += 1
        tally.winners["safe"] += said == "equivalent" or (said == "safe_choice" and wrong)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--simulations",
        type=int,
        default=2000,
        help="of each row of the first table (power: a quarter, choice: a fifth, coverage: half)",
    )
    parser.add_argument("--quick", action="store_true", help="100 of each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--scenario", choices=[s.name for s in simulation.SCENARIOS], help="one scenario alone")
    parser.add_argument("--finalists", type=int, choices=(2, 4, 8), help="so many alone, in winners and choice")
    parser.add_argument(
        "--only", choices=("winners", "action", "power", "choice", "safe", "coverage"), help="one table alone"
    )
    parser.add_argument(
        "--metric", default="miou", choices=("miou", "image_iou", "image_dice"), help="compared in the table of winners"
    )
    asked = parser.parse_args()
    simulations = 100 if asked.quick else asked.simulations
    own: dict[str, Any] = {} if asked.finalists is None else {"losses": (asked.finalists,)}
    winners = partial(false_winner_table, **own, metric=asked.metric)
    choice = partial(choice_table, **own)
    tables: dict[str, tuple[str, Callable[[Spread, Scenarios, int, int], Iterator[str]], int]] = {
        "winners": ("Clear winners among equal losses", winners, simulations),
        "action": ("Keep cross-entropy, or change", partial(action_table, **own), simulations),
        "power": ("Clear winners where one loss is better", power_table, max(1, simulations // 4)),
        "choice": ("What is said and named where losses differ", choice, max(1, simulations // 5)),
        "safe": ("Losses called safe that are worse by 1.01 × the ROPE", safe_table, simulations),
        "coverage": ("Intervals that hold the truth (two losses)", coverage_table, max(1, simulations // 2)),
    }
    scenarios = {k: s for k, s in enumerate(simulation.SCENARIOS) if asked.scenario in (None, s.name)}
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        run = spread_over(pool)
        for name, (title, table, sweeps) in tables.items():
            if asked.only in (None, name):
                start = time.perf_counter()
                print(f"\n{title} ({sweeps:,} sweeps a row)\n", flush=True)
                for row in table(run, scenarios, sweeps, asked.seed):
                    print(row, flush=True)
                print(f"\n({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
