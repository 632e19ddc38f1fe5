"""Answer two questions of docs/atlas.md: which values are best at which imbalance, and how far the recipe matters.

    python bench/atlas.py values OUT.jsonl [--seeds 2] [--part 1/2]
    python bench/atlas.py rules OUT.jsonl
    python bench/atlas.py larger OUT.jsonl [--seeds 2] [--part 1/2]
    python bench/atlas.py agreement OUT.jsonl

- `values` trains a grid of each hyper-parameter on 13 data sets of the ledger, at the learning rate and the steps that
  they have there.
- `rules` fits, over the sets of a task, test mIoU = set + b·v + c·v² + d·v·x with v the value and x log10 of the
  imbalance. So the best value is linear in x; it is clipped to the range of the grid. If the fit has no maximum, it is
  the better end of the grid. It prints the best value at three imbalances, and how far the worse end of the grid is
  below the best value, with intervals by the bootstrap over sets.
- `larger` trains the seven families of the ledger, with their best configurations there, on six of its data sets, with
  a decoder of 16 channels, 96² crops and 200 steps.
- `agreement` compares these scores with the ledger, which has 8 channels, 64² crops and 100 steps. It prints Kendall's
  τ of the families' scores, and the regret under the larger recipe of the ledger's best family.

`values` and `larger` append a line to OUT.jsonl for each training. If you interrupt them, run them again to continue;
with `--part` several processes share the work. `values` makes 312 trainings a seed, `larger` 54.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.ledger import CONFIGURATIONS, Point, train_points
from bench.shared import BASELINE, compute_half_width, read_rows, resume_rows, select_part
from sweeper.fingerprint.ledger import read_ledger

GRIDS: dict[str, tuple[str, str, dict[str, float], tuple[float, ...]]] = {
    "exponent of pos_weight or class weights": ("weighted_ce", "power", {}, (0, 0.25, 0.5, 0.75, 1)),
    "focal γ at α 0.5": ("focal", "gamma", {"alpha": 0.5}, (0, 0.5, 1, 2, 4)),
    "focal α at γ 1": ("focal", "alpha", {"gamma": 1}, (0.25, 0.5, 0.75, 0.9)),
    "share of cross-entropy in dice_ce": ("dice_ce", "mix", {"power": 0}, (0, 0.1, 0.3, 0.5, 0.7, 0.9)),
    "exponent in dice_ce, mix 0.2": ("dice_ce", "power", {"mix": 0.2}, (0, 0.25, 0.5, 0.75, 1)),
}
"""Title → family, hyper-parameter, values of its other hyper-parameters, grid."""
GRID_POINTS = (
    "cracks-0.4%",
    "street",
    "blobs-8%",
    "parcels-4-classes-rare",
    "lesions-2%",
    "shapes-6-classes-20%",
    "shapes-30%-large",
    "parcels-4-classes",
    "shapes-1%-large",
    "shapes-3-classes-5%",
    "cracks-2.5%",
    "lesions-15%",
    "blobs-40%",
)
LARGER_POINTS = ("street", "cracks-1%", "parcels-4-classes-rare", "shapes-6-classes-20%", "lesions-6%", "blobs-8%")
LARGER_RECIPE = {"decoder_width": 16, "size": 96}
LARGER_STEPS = 200
IMBALANCES = (3, 30, 300)
DRAWS = 4000
"""Draws of the bootstrap."""

Floats = npt.NDArray[np.float64]


def list_configurations() -> dict[str, list[dict[str, float]]]:
    """Return every configuration of the grids, once, by family."""
    configurations: dict[str, list[dict[str, float]]] = {}
    for family, name, others, values in GRIDS.values():
        of_family = configurations.setdefault(family, [])
        for value in values:
            if (configuration := {**others, name: value}) not in of_family:
                of_family.append(configuration)
    return configurations


def parse_params(text: str) -> dict[str, float]:
    """Return the parameters that the ledger writes as `name=value name=value`."""
    return {name: float(value) for name, _, value in (word.partition("=") for word in text.split())}


def collect_values(arguments: argparse.Namespace) -> None:
    """Append a row for each training of the grids."""
    out = Path(arguments.out)
    rows, grids = resume_rows(out), list_configurations()
    ledger = {row.point: row for row in read_ledger()}
    points = [Point(name, rows, out, configurations=grids) for name in select_part(GRID_POINTS, arguments.part)]
    for seed in range(arguments.seeds):
        for point in points:
            for family, configurations in grids.items():
                for number in range(len(configurations)):
                    point.train(family, number, seed, ledger[point.name].lr, ledger[point.name].steps)
            print(f"seed {seed}: {point.name}", flush=True)


def collect_larger(arguments: argparse.Namespace) -> None:
    """Append a row for each training under the larger recipe."""
    out = Path(arguments.out)
    rows = resume_rows(out)
    points = []
    for name in select_part(LARGER_POINTS, arguments.part):
        best = {row.family: [parse_params(row.params)] for row in read_ledger() if row.point == name}
        points.append(Point(name, rows, out, configurations=best, recipe=LARGER_RECIPE, first_steps=LARGER_STEPS))
    train_points(points, arguments.seeds)


def print_rules(arguments: argparse.Namespace) -> None:
    """Print a row for each task and hyper-parameter: its best value by imbalance, and the cost of the worse end."""
    rows = read_rows(arguments.out)
    ledger = {row.point: row for row in read_ledger()}
    configurations = list_configurations()
    imbalances = " | ".join(f"{imbalance}:1" for imbalance in IMBALANCES)
    print(f"| task | value | sets | best at {imbalances} | worse end, lower by |\n|---|---|---|---|---|---|---|")
    for task in ("binary", "multiclass"):
        for title, (family, name, others, values) in GRIDS.items():
            numbers = [configurations[family].index({**others, name: value}) for value in values]
            curves: dict[str, list[float]] = {}
            for point in GRID_POINTS:
                if ledger[point].task != task:
                    continue
                of_family = [row for row in rows if (row["point"], row["family"]) == (point, family)]
                scores = [[row["test"] for row in of_family if row["number"] == number] for number in numbers]
                if all(scores):
                    curves[point] = [statistics.mean(each) for each in scores]
            if len(curves) >= 4:
                decades = [ledger[point].log_imbalance for point in curves]
                cells = _format_rule(np.array(values), np.array(list(curves.values())), np.array(decades))
                print(f"| {task} | {title} | {len(curves)} | {cells} |")


def _format_rule(values: Floats, curves: Floats, decades: Floats) -> str:
    """Format the best value at each of `IMBALANCES` and the cost of the worse end, with 95 % intervals over sets.

    Args:
        values: the grid, (V,).
        curves: test mIoU by set and value, (S, V).
        decades: log10 of each set's imbalance, (S,).
    """
    rng = np.random.default_rng(0)
    best, cost = _fit_rule(values, curves, decades)
    samples = (rng.integers(0, len(decades), len(decades)) for _ in range(DRAWS))
    fits = [_fit_rule(values, curves[sample], decades[sample]) for sample in samples]
    low, high = np.quantile([sampled for sampled, _ in fits], (0.025, 0.975), axis=0)
    cells = [f"{value:.2f} [{low[place]:.2f}, {high[place]:.2f}]" for place, value in enumerate(best)]
    costs = np.quantile([sampled for _, sampled in fits], (0.025, 0.975))
    return " | ".join([*cells, f"{cost:.3f} [{costs[0]:.3f}, {costs[1]:.3f}]"])


def _fit_rule(values: Floats, curves: Floats, decades: Floats) -> tuple[Floats, float]:
    """Return the best value at each of `IMBALANCES`, and how far the worse end of the mean curve is below its best."""
    centred = curves - curves.mean(axis=1, keepdims=True)
    columns = [np.broadcast_to(term, centred.shape) for term in (values, values**2)] + [decades[:, None] * values]
    columns = [column - column.mean(axis=1, keepdims=True) for column in columns]
    design = np.stack([column.ravel() for column in columns], axis=1)
    b, c, d = np.linalg.lstsq(design, centred.ravel(), rcond=None)[0]
    slopes = b + d * np.log10(IMBALANCES)
    first, last = values.min(), values.max()
    if c < 0:
        best = np.clip(-slopes / (2 * c), first, last)
    else:
        best = np.where(slopes * (last - first) + c * (last**2 - first**2) > 0, last, first)
    mean = curves.mean(axis=0)
    return best, float(mean.max() - min(mean[0], mean[-1]))


def print_agreement(arguments: argparse.Namespace) -> None:
    """Print a row for each data set: the best family under both recipes, Kendall's τ and the regret."""
    rows = read_rows(arguments.out)
    ledger = read_ledger()
    print("| set | best under the ledger's recipe | under the larger | τ | regret |\n|---|---|---|---|---|")
    regrets = []
    for point in LARGER_POINTS:
        small = {row.family: row.score for row in ledger if row.point == point}
        of_point = [row for row in rows if row["point"] == point]
        if not of_point:
            continue
        final = [row for row in of_point if all(row[name] == of_point[-1][name] for name in ("lr", "steps"))]
        runs: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
        for row in final:
            runs.setdefault((row["family"], row["number"]), {})[row["seed"]] = row
        seeds = max(len(by_seed) for by_seed in runs.values())
        large = {
            family: statistics.mean(row["test"] for row in by_seed.values())
            for (family, _), by_seed in runs.items()
            if len(by_seed) == seeds
        }
        if set(large) != set(CONFIGURATIONS):
            continue
        first, best = max(small, key=small.__getitem__), max(large, key=large.__getitem__)
        tau = stats.kendalltau([small[name] for name in large], list(large.values())).statistic
        regrets.append(large[best] - large[first])
        cells = [f"`{name}` {scores[name] - scores[BASELINE]:+.3f}" for name, scores in ((first, small), (best, large))]
        print(f"| {point} | {cells[0]} | {cells[1]} | {tau:.2f} | {regrets[-1]:.3f} |")
    if len(regrets) > 2:
        print(f"\nmean regret {statistics.mean(regrets):.4f} ± {compute_half_width(regrets):.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    calls = {"values": collect_values, "larger": collect_larger, "rules": print_rules, "agreement": print_agreement}
    for name, call in calls.items():
        command = commands.add_parser(name)
        command.add_argument("out")
        command.set_defaults(call=call)
        if call in (collect_values, collect_larger):
            command.add_argument("--seeds", type=int, default=2)
            command.add_argument("--part", default="1/1", help="K/N: every N-th set from the K-th on")
    arguments = parser.parse_args()
    if arguments.call in (collect_values, collect_larger):
        from sweeper.training.hardware import settle_process

        settle_process(threads=1)
    arguments.call(arguments)


if __name__ == "__main__":
    main()
