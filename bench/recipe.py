"""Measure whether a cheaper recipe ranks the losses as a larger one does.

    python bench/recipe.py collect OUT.jsonl --data synthetic:street [--data …] [--recipe 8/64/8 …] [--part 1/2]
    python bench/recipe.py table OUT.jsonl

A recipe is `WIDTH/CROP/BATCH`: channels of the decoder's last stage, side of the crop in pixels, images a step.
`collect` trains the default of every family of the default space: on the first seed at two learning rates, on the other
seeds at the one with the better validation score. OUT.jsonl gets a line for each training. If you interrupt the
command, run it again to continue; with `--part` several processes share the work.

`table` prints a row for each recipe: the seconds of a training; on each set Kendall's τ of the families' validation
scores under this recipe with their test scores under the first recipe of the file; and on each set the regret of
choosing a family by these validation scores, in mean test mIoU under the first recipe. The row of the first recipe
itself says what validation images cost, without a cheaper recipe. A family counts if it was trained at both rates under
both recipes; a set counts if two families do.

On one core, a training of 100 steps takes from 7 s (8/64/8) to 20 s (16/96/8) in float32 (docs/performance.md).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from pathlib import Path
from typing import Any

from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.shared import append_row, read_rows, resume_rows, select_part, train_to_end
from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, TrialSpec
from sweeper.data import divide_images, load_dataset
from sweeper.fingerprint.imbalance import measure_imbalance
from sweeper.space import load_space
from sweeper.space.space_file import make_default_choice

RECIPES = ("16/96/8", "8/96/8", "8/96/4", "8/64/8")
LEARNING_RATES = (1e-3, 3e-3)


def parse_recipe(name: str, steps: int, precision: str) -> Recipe:
    """Return the recipe that `WIDTH/CROP/BATCH` describes."""
    width, crop, batch = (int(word) for word in name.split("/"))
    fields = {"decoder_width": width, "size": crop, "batch_size": batch, "precision": precision}
    return Recipe(**fields, steps=steps, confirm_steps=steps, evaluations=1)


def collect(arguments: argparse.Namespace) -> None:
    """Append a row for each training: data, recipe, family, parameters, learning rate, seed, scores."""
    from sweeper.training.hardware import settle_process

    settle_process(threads=1)
    recipes = arguments.recipe or RECIPES
    for seed, data, name in itertools.product(range(arguments.seeds), arguments.data, recipes):
        dataset = load_dataset(data, Path(".sweeper/cache"), lambda line: None)
        space = load_space(dataset.task, dataset.task)
        imbalance = measure_imbalance(dataset, divide_images(dataset, test_seed=0, seed=0).train)
        recipe = parse_recipe(name, arguments.steps, arguments.precision)
        conditions = Conditions(dataset=dataset, recipe=recipe, seed=seed)
        for configured in select_part(space.families, arguments.part):
            family = configured.family
            rows = [
                row
                for row in resume_rows(arguments.out)
                if (row["data"], row["recipe"], row["family"]) == (data, name, family)
            ]
            rates = (find_best_rate(rows),) if seed else LEARNING_RATES
            params = make_default_choice(configured, space, imbalance).params
            for rate in rates:
                if any((row["seed"], row["lr"]) == (seed, rate) for row in rows):
                    continue
                fields = {"family": family, "params": params, "lr": rate, "seed": seed}
                spec = TrialSpec(purpose="confirm", number=0, steps=arguments.steps, **fields)
                append_row(arguments.out, {"data": data, "recipe": name, **fields, **train_to_end(spec, conditions)})


def find_best_rate(rows: list[dict[str, Any]]) -> float:
    """Return the learning rate with the best validation score on the first seed."""
    return float(max((row for row in rows if row["seed"] == 0), key=lambda row: row["val"])["lr"])


def print_table(arguments: argparse.Namespace) -> None:
    """Print a row for each recipe: seconds of a training, τ and regret of each set, mean regret with its limit."""
    rows = read_rows(arguments.out)
    recipes, sets = (list(dict.fromkeys(row[name] for row in rows)) for name in ("recipe", "data"))
    print("| recipe | seconds | τ, each set | regret, each set | mean regret (upper 95 % limit) |")
    print("|---|---|---|---|---|")
    for recipe in recipes:
        taus, regrets = [], []
        for data in sets:
            of_set = [row for row in rows if row["data"] == data]
            val, test = compute_means(of_set, recipe, "val"), compute_means(of_set, recipes[0], "test")
            families = sorted(val.keys() & test.keys())
            if len(families) < 2:
                continue
            taus.append(stats.kendalltau([val[name] for name in families], [test[name] for name in families]).statistic)
            regrets.append(max(test[name] for name in families) - test[max(families, key=val.__getitem__)])
        seconds = statistics.median(row["seconds"] for row in rows if row["recipe"] == recipe)
        cells = (" ".join(f"{tau:.2f}" for tau in taus), " ".join(f"{regret:.3f}" for regret in regrets))
        print(f"| {recipe} | {seconds:.1f} | {cells[0]} | {cells[1]} | {format_mean_regret(regrets)} |")


def format_mean_regret(regrets: list[float]) -> str:
    """Return the mean over sets with its one-sided 95 % limit by Student's t, which needs two sets."""
    if len(regrets) < 2:
        return f"{regrets[0]:.4f}" if regrets else "–"
    mean, error = statistics.fmean(regrets), statistics.stdev(regrets) / len(regrets) ** 0.5
    return f"{mean:.4f} ({mean + stats.t.ppf(0.95, len(regrets) - 1) * error:.4f})"


def compute_means(rows: list[dict[str, Any]], recipe: str, field: str) -> dict[str, float]:
    """Return each family's mean over the seeds at its better learning rate, if it was trained at both."""
    means = {}
    for family in sorted({row["family"] for row in rows}):
        runs = [row for row in rows if (row["recipe"], row["family"]) == (recipe, family)]
        if len({row["lr"] for row in runs if row["seed"] == 0}) == len(LEARNING_RATES):
            rate = find_best_rate(runs)
            means[family] = statistics.fmean(row[field] for row in runs if row["lr"] == rate)
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("out")
    collecting.add_argument("--data", action="append", required=True, help="may be repeated")
    collecting.add_argument("--recipe", action="append", help=f"may be repeated (default: {' '.join(RECIPES)})")
    collecting.add_argument("--steps", type=int, default=100)
    collecting.add_argument("--seeds", type=int, default=3)
    collecting.add_argument("--precision", default="float32")
    collecting.add_argument("--part", default="1/1", help="K/N: every N-th family from the K-th on")
    collecting.set_defaults(call=collect)
    printing = commands.add_parser("table")
    printing.add_argument("out")
    printing.set_defaults(call=print_table)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
