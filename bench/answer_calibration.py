"""Measure how often an answer is wrong, what it costs, and how often intervals hold, on simulated studies.

    python bench/answer_calibration.py [--simulations 2000] [--quick] [--seed 0] [--processes 2] [--only TABLE]
                                       [--scenario NAME …] [--losses 2 3 4] [--gains 0 0.02 0.05 0.1]
                                       [--spreads 0.005 0.01 0.02]

Every simulated confirmation goes through the product's code: `compute_evidence`, `choose` and `decide_next_step`, with
its interim analyses, dropped finalists and early ends. The tables, in the order in which they are printed:

- changes: one loss gains 0, 0.02, 0.05 or 0.1 over the present one and the others: how often the answer is change, the
  mean of the gain that is claimed less the true one, how often its lower end is below the true gain, and what the used
  loss costs. Limit for a change among equal losses: the upper end of the 95 % interval (exact) is at most 6 %.
- costs: the losses truly differ: what is claimed, what the used loss costs, how often the printed cost holds, how
  often *established* or *probable* is wrong, and how often a bet at 2 to 1 or more, and at 9 to 1 or more, is right.
- looks: how often the first look (four seeds of the present loss and of the second one) says change, the confirmation
  of three losses after it, and either of them.
- coverage: how often the intervals of a finalist's mIoU and of a paired difference hold, by number of test images.

Prints the tables in Markdown, each row when it is done; the same arguments print the same tables, whatever the number
of processes. bench/answer_tables.md has the results.
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
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench import answer_simulation as simulation
from bench.answer_simulation import Scenario
from sweeper.core.records import Evidence, InterimAnalysis, Interval, Outcome, Sure, TrialResult
from sweeper.evidence.bets import find_bet
from sweeper.evidence.choice import Choice, choose
from sweeper.evidence.confirmation_stopping import decide_next_step
from sweeper.evidence.interim_analyses import ERROR_AFTER_LOOK, FIRST_LOOK, plan_analyses
from sweeper.evidence.intervals import LEVEL, compute_half_width
from sweeper.evidence.paired_comparisons import compute_evidence
from sweeper.evidence.verdict_predicates import get_difference
from sweeper.study.finalist import REPLICATIONS

MARGIN = 0.01
ANALYSES = plan_analyses(2, simulation.SEEDS)
AFTER_LOOK = plan_analyses(2, simulation.SEEDS, error=ERROR_AFTER_LOOK)
ORDER = simulation.FAMILIES
LIMIT = 0.06
"""Highest upper end of the rate of changes among equal losses."""
BATCH = 100
"""Studies that a process simulates at a time, from one stream of random numbers."""

Floats = npt.NDArray[np.float64]
Scenarios = dict[int, Scenario]
"""Scenarios by their place among all, which determines their random numbers."""


# --- One study ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlayedConfirmation:
    """End of one confirmation."""

    choice: Choice
    evidence: Evidence
    trainings: int

    @property
    def used(self) -> str:
        """The loss to use; every loss learns."""
        assert self.choice.use is not None
        return self.evidence.finalists[self.choice.use].family

    @property
    def gain(self) -> Interval | None:
        """The gain that a change claims."""
        if self.choice.outcome is not Outcome.CHANGE or self.choice.use is None or self.evidence.baseline is None:
            return None
        return get_difference(self.evidence, self.choice.use, self.evidence.baseline)


def play_confirmation(
    runs: Sequence[Sequence[TrialResult]],
    search: dict[str, TrialResult],
    *,
    scenario: Scenario = simulation.BINARY,
    analyses: Sequence[InterimAnalysis] = ANALYSES,
    metric: str = "miou",
) -> PlayedConfirmation:
    """Confirm simulated losses from one interim analysis to the next.

    Args:
        runs: all trainings that may be needed, by loss and seed.
        search: search trials of the finalists, by family.
        scenario: has their classes and the groups of their images.
        analyses: the planned interim analyses.
        metric: the metric that is compared.
    """
    seeds_of = dict.fromkeys(range(len(runs)), analyses[0].seeds)
    for following in [*analyses[1:], None]:
        results = [run for f, seeds in seeds_of.items() for run in runs[f][:seeds]]
        evidence = weigh_results(results, search, scenario, analyses, metric)
        choice = choose(evidence, ORDER)
        step = decide_next_step(evidence, choice)
        if not step.finalists or following is None:
            return PlayedConfirmation(choice, evidence, len(results))
        for i in step.finalists:
            seeds_of[ORDER.index(evidence.finalists[i].family)] = following.seeds
    raise AssertionError("a confirmation ends at the last interim analysis")


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


# --- Many studies -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Simulated studies of one scenario."""

    scenario: Scenario
    losses: int
    studies: int
    stream: tuple[int, ...]
    """Key of the random numbers."""
    gap: float = 0.0
    """Gain of the second loss, in mIoU."""
    spread: float = 0.0
    """Standard deviation of all losses' true levels."""
    images: int | None = None


@dataclass
class Tally:
    """Counts and values over simulated studies."""

    counts: Counter[str] = field(default_factory=Counter)
    values: dict[str, list[float]] = field(default_factory=dict)

    def record(self, **values: float) -> None:
        """Add a study's values."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def add(self, other: Tally) -> Tally:
        """Add another tally to this one, and return it."""
        self.counts.update(other.counts)
        for name, values in other.values.items():
            self.values.setdefault(name, []).extend(values)
        return self

    def compute_share(self, name: str) -> float:
        """Return the share of studies that were counted under a name."""
        return self.counts[name] / self.counts["studies"]

    def compute_mean(self, name: str) -> float:
        """Return the mean of a value; NaN where none was recorded."""
        return float(np.mean(self.values.get(name, [np.nan])))


def split_task(task: Task) -> Iterator[Task]:
    """Split the studies into batches, each with its own random numbers."""
    for k, start in enumerate(range(0, task.studies, BATCH)):
        yield replace(task, studies=min(BATCH, task.studies - start), stream=(*task.stream, k))


Runner = Callable[[Callable[[Task], Tally], Sequence[Task]], Iterator[Tally]]
"""Function that applies a counting function to tasks, and yields the tally of each, in order, when it is done."""


def make_runner(pool: ProcessPoolExecutor) -> Runner:
    """Return a runner that splits tasks into batches for the processes of a pool."""

    def run(count: Callable[[Task], Tally], tasks: Sequence[Task]) -> Iterator[Tally]:
        batches = [[pool.submit(count, batch) for batch in split_task(task)] for task in tasks]
        for futures in batches:
            tally = Tally()
            for future in futures:
                tally = tally.add(future.result())
            yield tally

    return run


def compute_upper_limit(count: int, total: int) -> float:
    """Return the upper end of the two-sided 95 % Clopper–Pearson interval of a rate."""
    return 1.0 if count == total else float(beta.ppf(0.975, count + 1, total - count))


def play_studies(task: Task) -> Iterator[tuple[PlayedConfirmation, Floats]]:
    """Yield simulated studies with the true levels of their losses, (losses,)."""
    rng, search = np.random.default_rng(task.stream), simulation.make_search_trials(task.losses)
    for _ in range(task.studies):
        gaps = task.spread * rng.standard_normal(task.losses)
        gaps[1] += task.gap
        counts, collapsed = simulation.draw_counts(task.scenario, task.losses, rng, gaps=gaps, images=task.images)
        played = play_confirmation(simulation.make_results(counts, collapsed), search, scenario=task.scenario)
        yield played, simulation.compute_true_gaps(task.scenario, gaps)


# --- The tables ---------------------------------------------------------------------------------------------


def list_change_rows(
    run: Runner, scenarios: Scenarios, simulations: int, seed: int, *, losses: Sequence[int], gains: Sequence[float]
) -> Iterator[str]:
    """Yield the rows of the table `changes` when they are done."""
    yield "| scenario | losses | true gain | change | upper limit | claimed − true | low end holds | cost | trainings |"
    yield "| --- |" + " --: |" * 8
    tasks = [
        Task(scenario, n, simulations // (4 if gain else 1), (seed, 7, k, n, j), gap=gain)
        for k, scenario in scenarios.items()
        for n in losses
        for j, gain in enumerate(gains)
    ]
    for task, tally in zip(tasks, run(count_changes, tasks), strict=True):
        limit = compute_upper_limit(tally.counts["change"], tally.counts["studies"])
        flag = "" if task.gap or limit <= LIMIT else " **too many**"
        yield (
            f"| {task.scenario.name} | {task.losses} | {task.gap:g} | {tally.compute_share('change'):.1%} | "
            f"{'–' if task.gap else f'{limit:.1%}'}{flag} | {tally.compute_mean('excess'):+.4f} | "
            f"{tally.compute_mean('is below'):.0%} | {tally.compute_mean('cost'):.4f} | "
            f"{tally.compute_mean('trainings') / task.losses:.1f} |"
        )


def count_changes(task: Task) -> Tally:
    """Count the changes of studies whose second loss gains `task.gap`, with what they claim and cost."""
    tally = Tally()
    for played, true in play_studies(task):
        place = ORDER.index(played.used)
        tally.counts.update(["studies", str(played.choice.outcome)])
        tally.record(cost=float(true.max() - true[place]), trainings=played.trainings)
        if (gain := played.gain) is not None:
            truth = float(true[place] - true[0])
            tally.record(**{"excess": gain.estimate - truth, "is below": float(gain.low <= truth)})
    return tally


SPREADS = (0.005, 0.01, 0.02)
"""True standard deviations between the losses in the table `costs`."""


def list_cost_rows(
    run: Runner, scenarios: Scenarios, simulations: int, seed: int, *, losses: Sequence[int], spreads: Sequence[float]
) -> Iterator[str]:
    """Yield the rows of the table `costs` when they are done."""
    shown = "change | established | probable | open | cost | holds | wrong | trainings | 2 to 1 | 9 to 1"
    yield f"| scenario | losses | spread | {shown} |"
    yield "| --- |" + " --: |" * 12
    tasks = [
        Task(scenario, n, simulations // 5, (seed, 6, k, n, j), spread=spread)
        for k, scenario in scenarios.items()
        for n in losses
        for j, spread in enumerate(spreads)
    ]
    for task, tally in zip(tasks, run(count_costs, tasks), strict=True):
        shares = " | ".join(f"{tally.compute_share(name):.0%}" for name in ("change", *Sure))
        yield (
            f"| {task.scenario.name} | {task.losses} | {task.spread:g} | {shares} | "
            f"{tally.compute_mean('cost'):.4f} | {tally.compute_mean('holds'):.1%} | "
            f"{tally.compute_share('wrong'):.1%} | {tally.compute_mean('trainings') / task.losses:.1f} | "
            f"{_format_bets(tally, 2)} | {_format_bets(tally, 9)} |"
        )


def _format_bets(tally: Tally, odds: int) -> str:
    """Format how many bets at these odds or more were made, and how many of them were right."""
    made = tally.values.get(f"bet {odds}", [])
    return f"{np.mean(made):.0%} of {len(made)}" if made else "–"


def count_costs(task: Task) -> Tally:
    """Count the claims of studies whose losses truly differ, and whether the printed cost holds.

    A claim is wrong where *established* or *probable* is said of a loss that costs more than the margin.
    """
    tally = Tally()
    for played, true in play_studies(task):
        if played.choice.use is None:  # losses that differ by a tenth may all learn nothing
            continue
        cost, sure = float(true.max() - true[ORDER.index(played.used)]), played.choice.sure
        is_change = played.choice.outcome is Outcome.CHANGE
        tally.counts.update(["studies", "change" if is_change else str(sure)])
        tally.counts["wrong"] += not is_change and sure is not Sure.OPEN and cost > MARGIN
        tally.record(cost=cost, trainings=played.trainings)
        bet = find_bet(played.evidence, played.choice)
        if bet is not None:
            names = [played.evidence.finalists[place].family for place in (bet.finalist, played.choice.use)]
            better, present = (true[ORDER.index(name)] for name in names)
            for odds in (2, 9):
                if bet.odds >= odds:
                    tally.record(**{f"bet {odds}": float(better > present)})
        if played.choice.cost is not None:
            tally.record(holds=float(cost <= played.choice.cost))
    return tally


def list_look_rows(
    run: Runner, scenarios: Scenarios, simulations: int, seed: int, *, gains: Sequence[float]
) -> Iterator[str]:
    """Yield the rows of the table `looks` when they are done."""
    yield "| scenario | true gain | first look | upper limit | confirmation | either | upper limit |"
    yield "| --- |" + " --: |" * 6
    tasks = [
        Task(scenario, 3, simulations // (4 if gain else 1), (seed, 9, k, j), gap=gain)
        for k, scenario in scenarios.items()
        for j, gain in enumerate(gains)
    ]
    for task, tally in zip(tasks, run(count_looks, tasks), strict=True):
        cells = []
        for name in ("first look", "confirmation", "either"):
            cells.append(f"{tally.compute_share(name):.1%}")
            if name != "confirmation":
                limit = compute_upper_limit(tally.counts[name], tally.counts["studies"])
                cells.append("–" if task.gap else f"{limit:.1%}")
        yield f"| {task.scenario.name} | {task.gap:g} | {' | '.join(cells)} |"


CANDIDATES = 4
"""Losses besides the present one of which the table `looks` chooses the finalists."""


def count_looks(task: Task) -> Tally:
    """Count the changes of the first look, and of the confirmation that goes on with its trainings.

    The finalists are chosen by validation images that share the luck of each seed with the test images: the first
    look's loss by its four seeds, the others by the two of the replication, which all belong to the confirmation.
    """
    rng, search, tally = np.random.default_rng(task.stream), simulation.make_search_trials(task.losses), Tally()
    images = task.scenario.images
    both = replace(task.scenario, groups=2 * task.scenario.groups)
    for _ in range(task.studies):
        gaps = np.array([0.0, task.gap, *[0.0] * (CANDIDATES - 1)])
        drawn, collapsed = simulation.draw_counts(both, 1 + CANDIDATES, rng, gaps=gaps, images=2 * images)
        scores, counts = simulation.compute_miou(drawn[:, :, images:]), drawn[:, :, :images]
        leads = scores - scores[0]
        levels = [leads[k, : FIRST_LOOK.seeds if k == 1 else REPLICATIONS].mean() for k in range(len(gaps))]
        best = sorted(range(1, len(gaps)), key=lambda k: -levels[k])[: task.losses - 1]
        pair = simulation.make_results(counts[:2, : FIRST_LOOK.seeds], collapsed[:2, : FIRST_LOOK.seeds])
        first = choose(weigh_results([*chain(*pair)], search, task.scenario, (FIRST_LOOK,)), ORDER).outcome
        runs = simulation.make_results(counts[[0, *best]], collapsed[[0, *best]])
        last = play_confirmation(runs, search, scenario=task.scenario, analyses=AFTER_LOOK).choice.outcome
        changes = {"first look": first is Outcome.CHANGE, "confirmation": last is Outcome.CHANGE}
        tally.counts.update(["studies", *(name for name, is_change in changes.items() if is_change)])
        tally.counts["either"] += any(changes.values())
    return tally


COVERAGE_IMAGES = (20, 40, 80, 160)
"""Numbers of test images in the table `coverage`."""


def list_coverage_rows(run: Runner, scenarios: Scenarios, simulations: int, seed: int) -> Iterator[str]:
    """Yield the rows of the table `coverage` when they are done."""
    kinds = ("own 3", "own 8", "gap 3", "gap 8", "all")
    yield f"| scenario | images | {' | '.join(kinds)} |"
    yield "| --- | --: | --: | --: | --: | --: | --: |"
    tasks = [
        Task(scenario, 2, simulations // 2, (seed, 4, k, n), images=n)
        for k, scenario in scenarios.items()
        for n in COVERAGE_IMAGES
    ]
    for task, tally in zip(tasks, run(count_coverage, tasks), strict=True):
        yield (
            f"| {task.scenario.name} | {task.images} | "
            + " | ".join(f"{tally.compute_mean(k):.1%}" for k in kinds)
            + " |"
        )


def count_coverage(task: Task) -> Tally:
    """Count how often each kind of interval contains the truth: of one loss, of a difference, at all analyses."""
    rng, tally = np.random.default_rng(task.stream), Tally()
    search, truth = simulation.make_search_trials(2), simulation.simulate_population(task.scenario, 2)
    for _ in range(task.studies):
        counts, collapsed = simulation.draw_counts(task.scenario, 2, rng, images=task.images)
        runs, is_inside = simulation.make_results(counts, collapsed), []
        for analysis in ANALYSES:
            results = [run for loss in runs for run in loss[: analysis.seeds]]
            evidence = weigh_results(results, search, task.scenario)
            for finalist in evidence.finalists:
                inside = contains(finalist.miou, float(truth[ORDER.index(finalist.family)]))
                tally.record(**{f"own {analysis.seeds}": float(inside)})
            tally.record(**{f"gap {analysis.seeds}": float(contains_gap(evidence, truth, LEVEL))})
            is_inside.append(contains_gap(evidence, truth))
        tally.counts["studies"] += 1
        tally.record(all=float(all(is_inside)))
    return tally


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--simulations", type=int, default=2000, help="studies of each row (gains: a quarter, costs: a fifth)"
    )
    parser.add_argument("--quick", action="store_true", help="100 of each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    names = [scenario.name for scenario in simulation.SCENARIOS]
    parser.add_argument("--scenario", choices=names, nargs="+", default=names, help="only these scenarios")
    parser.add_argument("--losses", type=int, nargs="+", default=[2, 3, 4], help="numbers of losses (not in coverage)")
    parser.add_argument("--only", choices=("changes", "costs", "looks", "coverage"), help="only this table")
    parser.add_argument("--gains", type=float, nargs="+", default=[0.0, 0.02, 0.05, 0.1], help="in changes and looks")
    parser.add_argument("--spreads", type=float, nargs="+", default=SPREADS, help="in costs")
    arguments = parser.parse_args()
    simulations = 100 if arguments.quick else arguments.simulations
    losses = arguments.losses
    tables: dict[str, tuple[str, Callable[[Runner, Scenarios, int, int], Iterator[str]]]] = {
        "changes": ("Changes", partial(list_change_rows, losses=losses, gains=arguments.gains)),
        "costs": (
            "Claims and costs where losses differ",
            partial(list_cost_rows, losses=losses, spreads=arguments.spreads),
        ),
        "looks": (
            "Changes of the first look, and of the confirmation of three losses",
            partial(list_look_rows, gains=arguments.gains),
        ),
        "coverage": ("Intervals that contain the truth (two losses)", list_coverage_rows),
    }
    scenarios = {k: s for k, s in enumerate(simulation.SCENARIOS) if s.name in arguments.scenario}
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        run = make_runner(pool)
        for name, (title, list_rows) in tables.items():
            if arguments.only in (None, name):
                start = time.perf_counter()
                print(f"\n{title} ({simulations:,} simulations)\n", flush=True)
                for row in list_rows(run, scenarios, simulations, arguments.seed):
                    print(row, flush=True)
                print(f"\n({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
