"""Two questions of docs/atlas.md: best values by imbalance, and whether a larger recipe keeps the losses' order.

    python bench/atlas.py values OUT.jsonl [--seeds 2] [--part 1/2]
    python bench/atlas.py rules OUT.jsonl
    python bench/atlas.py larger OUT.jsonl [--seeds 2] [--part 1/2]
    python bench/atlas.py agreement OUT.jsonl

`values` trains a grid of each hyper-parameter on 13 data sets of the ledger, at their learning rate and steps there.
`rules` fits, over the sets of a task, test mIoU = set + b·v + c·v² + d·v·x, where v is the value and x log10 of the
imbalance; the best value is then linear in x, and is clipped to the range of the grid. Where the fit has no maximum,
the better end of the grid is taken. Intervals are by the bootstrap over sets. `larger` trains the ledger's seven
families, as they were best there, on six of its data sets, with a decoder of 16 channels, 96² crops and 200 steps.
`agreement` compares them with the ledger, which has 8 channels, 64² crops and 100 steps: Kendall's τ of the families'
scores, and the regret, under the larger recipe, of the ledger's first family. Both collections can be cut off and
continue where they were; several processes share the work with `--part`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.families import rows
from bench.ledger import BASELINE, CONFIGURATIONS, Point, collect_families
from sweeper.fingerprint.ledger import read_ledger

GRIDS: dict[str, tuple[str, str, dict[str, float], tuple[float, ...]]] = {
    "exponent of pos_weight or class weights": ("weighted_ce", "power", {}, (0, 0.25, 0.5, 0.75, 1)),
    "focal γ at α 0.5": ("focal", "gamma", {"alpha": 0.5}, (0, 0.5, 1, 2, 4)),
    "focal α at γ 1": ("focal", "alpha", {"gamma": 1}, (0.25, 0.5, 0.75, 0.9)),
    "share of cross-entropy in dice_ce": ("dice_ce", "mix", {"power": 0}, (0, 0.1, 0.3, 0.5, 0.7, 0.9)),
    "exponent in dice_ce, mix 0.2": ("dice_ce", "power", {"mix": 0.2}, (0, 0.25, 0.5, 0.75, 1)),
}
"""What is varied: family, hyper-parameter, what the others are, its values."""
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
LARGER_POINTS = (
    "street",
    "cracks-1%",
    "parcels-4-classes-rare",
    "shapes-6-classes-20%",
    "lesions-6%",
    "blobs-8%",
)
LARGER = {"decoder_width": 16, "size": 96}
LARGER_STEPS = 200
DRAWS = 4000


def configurations() -> dict[str, list[dict[str, float]]]:
    """Return every configuration of the grids, once, by family."""
    found: dict[str, list[dict[str, float]]] = {}
    for family, name, others, values in GRIDS.values():
        listed = found.setdefault(family, [])
        listed += [given for value in values if (given := {**others, name: value}) not in listed]
    return found


def values_of(text: str) -> dict[str, float]:
    """Return the values of the ledger's `name=value …`."""
    return {name: float(value) for name, _, value in (word.partition("=") for word in text.split())}


def part_of(names: tuple[str, ...], text: str) -> tuple[str, ...]:
    """Return every second name for `2/2`, beginning with the second."""
    part, parts = (int(word) for word in text.split("/"))
    return names[part - 1 :: parts]


def collect_values(arguments: argparse.Namespace) -> None:
    """Append one line for each training of the grids."""
    out = Path(arguments.out)
    known = rows(out) if out.exists() else []
    grids, ledger = configurations(), read_ledger()
    points = {name: Point(name, known, out, configurations=grids) for name in part_of(GRID_POINTS, arguments.part)}
    for seed in range(arguments.seeds):
        for name, point in points.items():
            row = next(row for row in ledger if row.point == name)
            for family, listed in grids.items():
                for number in range(len(listed)):
                    point.trained(family, number, seed, row.lr, row.steps)
            print(f"seed {seed}: {name}", flush=True)


def collect_larger(arguments: argparse.Namespace) -> None:
    """Append one line for each training under the larger recipe."""
    out = Path(arguments.out)
    known = rows(out) if out.exists() else []
    points = []
    for name in part_of(LARGER_POINTS, arguments.part):
        best = {row.family: [values_of(row.params)] for row in read_ledger() if row.point == name}
        points.append(Point(name, known, out, configurations=best, recipe=LARGER, first_steps=LARGER_STEPS))
    collect_families(points, arguments.seeds)


def rules(arguments: argparse.Namespace) -> None:
    """Print each hyper-parameter's best value against the imbalance, and the cost of its grid's ends."""
    found = rows(Path(arguments.out))
    ledger = {row.point: row for row in read_ledger()}
    grids = configurations()
    print("| task | value | sets | best at 3:1 | 30:1 | 300:1 | best less worse end |\n|---|---|---|---|---|---|---|")
    for task in ("binary", "multiclass"):
        for title, (family, name, others, values) in GRIDS.items():
            numbers = {value: grids[family].index({**others, name: value}) for value in values}
            curves: dict[str, list[float]] = {}
            for point in GRID_POINTS:
                if ledger[point].task != task:
                    continue
                read = [
                    [
                        row["test"]
                        for row in found
                        if (row["point"], row["family"], row["number"]) == (point, family, at)
                    ]
                    for at in numbers.values()
                ]
                if all(read):
                    curves[point] = [statistics.mean(scores) for scores in read]
            if len(curves) >= 4:
                decades = [ledger[point].log_imbalance for point in curves]
                print(f"| {task} | {title} | {len(curves)} | " + _rule(values, list(curves.values()), decades) + " |")


def _rule(values: tuple[float, ...], curves: list[list[float]], decades: list[float]) -> str:
    at, read, x = np.array(values), np.array(curves), np.array(decades)
    places = np.log10([3, 30, 300])

    def best(chosen: Any) -> tuple[Any, float]:
        centred = read[chosen] - read[chosen].mean(axis=1, keepdims=True)
        columns = [np.broadcast_to(term, centred.shape) for term in (at, at**2)] + [x[chosen][:, None] * at]
        columns = [column - column.mean(axis=1, keepdims=True) for column in columns]
        b, c, d = np.linalg.lstsq(
            np.stack([column.ravel() for column in columns], axis=1), centred.ravel(), rcond=None
        )[0]
        slopes = b + d * places
        if c < 0:
            found = np.clip(-slopes / (2 * c), at.min(), at.max())
        else:  # the higher end
            found = np.where(
                slopes * (at.max() - at.min()) + c * (at.max() ** 2 - at.min() ** 2) > 0, at.max(), at.min()
            )
        mean = read[chosen].mean(axis=0)
        return found, float(mean.max() - min(mean[0], mean[-1]))

    rng = np.random.default_rng(0)
    fit, span = best(np.arange(len(x)))
    drawn = [best(rng.integers(0, len(x), len(x))) for _ in range(DRAWS)]
    low, high = np.quantile([one for one, _ in drawn], (0.025, 0.975), axis=0)
    cells = [f"{value:.2f} [{low[i]:.2f}, {high[i]:.2f}]" for i, value in enumerate(fit)]
    spans = np.quantile([one for _, one in drawn], (0.025, 0.975))
    return " | ".join([*cells, f"{span:.3f} [{spans[0]:.3f}, {spans[1]:.3f}]"])


def agreement(arguments: argparse.Namespace) -> None:
    """Kendall's τ and regret for each data set."""
    found = rows(Path(arguments.out))
    ledger = read_ledger()
    print("| set | best under the ledger's recipe | under the larger | τ | regret |\n|---|---|---|---|---|")
    regrets = []
    for point in LARGER_POINTS:
        small = {row.family: row.score for row in ledger if row.point == point}
        by: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
        final = [row for row in found if row["point"] == point]
        if not final:
            continue
        lr, steps = final[-1]["lr"], final[-1]["steps"]
        for row in final:
            if (row["lr"], row["steps"]) == (lr, steps):
                by.setdefault((row["family"], row["number"]), {})[row["seed"]] = row
        seeds = max(len(runs) for runs in by.values())
        large = {
            family: statistics.mean(row["test"] for row in runs.values())
            for (family, _), runs in by.items()
            if len(runs) == seeds
        }
        if set(large) != set(CONFIGURATIONS):
            continue
        first, best = max(small, key=lambda name: small[name]), max(large, key=lambda name: large[name])
        tau = stats.kendalltau([small[name] for name in large], list(large.values())).statistic
        regrets.append(large[best] - large[first])
        texts = [f"`{name}` {scores[name] - scores[BASELINE]:+.3f}" for name, scores in ((first, small), (best, large))]
        print(f"| {point} | {texts[0]} | {texts[1]} | {tau:.2f} | {regrets[-1]:.3f} |")
    if len(regrets) > 2:
        half = stats.t.ppf(0.975, len(regrets) - 1) * statistics.stdev(regrets) / len(regrets) ** 0.5
        print(f"\nmean regret {statistics.mean(regrets):.4f} ± {half:.4f}")


def main() -> None:
    """Collect, or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, call in (
        ("values", collect_values),
        ("larger", collect_larger),
        ("rules", rules),
        ("agreement", agreement),
    ):
        command = commands.add_parser(name)
        command.add_argument("out")
        command.set_defaults(call=call)
        if call in (collect_values, collect_larger):
            command.add_argument("--seeds", type=int, default=2)
            command.add_argument("--part", default="1/1")
    arguments = parser.parse_args()
    if arguments.call in (collect_values, collect_larger):
        from sweeper.training.hardware import settle_process

        settle_process(threads=1)
    arguments.call(arguments)


if __name__ == "__main__":
    main()
