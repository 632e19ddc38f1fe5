"""Does a cheaper recipe rank the losses as today's larger one does? Each family's default, under several recipes.

    python bench/recipe.py collect OUT.jsonl --data synthetic:street [--data …] [--recipe large …] [--part 1/2]
    python bench/recipe.py table OUT.jsonl

A recipe is `WIDTH/CROP/BATCH`: channels of the decoder's last stage, side of the crop in pixels, images a step.
`collect` trains every family of the default space, as the space's defaults have it, at two learning rates on the first
seed and at the better of both, by validation, on the others. It can be cut off and continues where it was; several
processes share the work with `--part`. `table` chooses a family by its mean validation mIoU under a recipe, and says
what the choice costs under the first recipe of the file, in mean test mIoU against the best there: its regret. The row
of the first recipe itself says what validation images alone cost. A set counts with the families that all its recipes
have.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from families import rows, trained
from scipy import stats

from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, TrialSpec
from sweeper.data import divide_images, load_dataset
from sweeper.fingerprint.imbalance import compute_imbalance
from sweeper.space import load_space
from sweeper.space.search_space import make_default_choice

LARGE = "16/96/8"
LEARNING_RATES = (1e-3, 3e-3)


def recipe_of(name: str, steps: int, precision: str) -> Recipe:
    """Return the recipe that `WIDTH/CROP/BATCH` names."""
    width, crop, batch = (int(word) for word in name.split("/"))
    given = {"decoder_width": width, "size": crop, "batch_size": batch, "precision": precision}
    return Recipe(**given, steps=steps, confirm_steps=steps, evaluations=1)


def collect(arguments: argparse.Namespace) -> None:
    """Append one line per training: data, recipe, family, learning rate, seed, values."""
    from sweeper.training.hardware import settle_process

    settle_process(threads=1)
    out = Path(arguments.out)
    part, parts = (int(word) for word in arguments.part.split("/"))
    tasks = [
        (seed, data, recipe)
        for seed in range(arguments.seeds)
        for data in arguments.data
        for recipe in arguments.recipe
    ]
    for seed, data, name in tasks:
        dataset = load_dataset(data, Path(".sweeper/cache"), lambda line: None)
        space = load_space(dataset.task, dataset.task)
        counts = dataset.count_class_pixels(divide_images(dataset, test_seed=0, seed=0).train)
        recipe = recipe_of(name, arguments.steps, arguments.precision)
        conditions = Conditions(dataset=dataset, recipe=recipe, seed=seed)
        for own in space.families[part - 1 :: parts]:
            known = rows(out) if out.exists() else []
            here = [r for r in known if (r["data"], r["recipe"], r["family"]) == (data, name, own.family)]
            first = {r["lr"]: r["val"] for r in here if r["seed"] == 0}
            rates = LEARNING_RATES if seed == 0 else (max(first, key=lambda rate: first[rate]),)
            params = make_default_choice(own, space, compute_imbalance(counts)).params
            for rate in rates:
                if any((r["seed"], r["lr"]) == (seed, rate) for r in here):
                    continue
                given = {"family": own.family, "params": params, "lr": rate, "seed": seed}
                spec = TrialSpec(purpose="confirm", number=0, steps=arguments.steps, **given)
                row = {"data": data, "recipe": name, **given, **trained(spec, conditions, dataset)}
                with out.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def table(arguments: argparse.Namespace) -> None:
    """Print a row for each recipe: its cost, its agreement with the first, the regret of choosing by it."""
    found = rows(Path(arguments.out))
    recipes, sets = list(dict.fromkeys(r["recipe"] for r in found)), list(dict.fromkeys(r["data"] for r in found))
    large = recipes[0]
    print(
        "| recipe | seconds | τ, each set | regret, each set | mean regret (upper 95 % limit) |\n|---|---|---|---|---|"
    )
    for recipe in recipes:
        taus, regrets = [], []
        for data in sets:
            here = [r for r in found if r["data"] == data]
            val, test = means(here, recipe, "val"), means(here, large, "test")
            families = sorted(val.keys() & test.keys())
            if len(families) < 2:
                continue
            taus.append(stats.kendalltau([val[f] for f in families], [test[f] for f in families]).statistic)
            regrets.append(max(test[f] for f in families) - test[max(families, key=lambda f: val[f])])
        mean = statistics.fmean(regrets)
        limit = mean + stats.t.ppf(0.95, len(regrets) - 1) * statistics.stdev(regrets) / len(regrets) ** 0.5
        seconds = statistics.median(r["seconds"] for r in found if r["recipe"] == recipe)
        shown = (" ".join(f"{value:.2f}" for value in taus), " ".join(f"{value:.3f}" for value in regrets))
        print(f"| {recipe} | {seconds:.1f} | {shown[0]} | {shown[1]} | {mean:.4f} ({limit:.4f}) |")


def means(found: list[dict[str, Any]], recipe: str, field: str) -> dict[str, float]:
    """Mean over the seeds of each family that has both learning rates, at the one that validated best."""
    result = {}
    for family in sorted({r["family"] for r in found}):
        own = [r for r in found if (r["recipe"], r["family"]) == (recipe, family)]
        first = {r["lr"]: r["val"] for r in own if r["seed"] == 0}
        if len(first) == len(LEARNING_RATES):
            rate = max(first, key=lambda lr: first[lr])
            result[family] = float(np.mean([r[field] for r in own if r["lr"] == rate]))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("out")
    collecting.add_argument("--data", action="append", required=True)
    collecting.add_argument("--recipe", action="append")
    collecting.add_argument("--steps", type=int, default=100)
    collecting.add_argument("--seeds", type=int, default=3)
    collecting.add_argument("--precision", default="float32")
    collecting.add_argument("--part", default="1/1")
    collecting.set_defaults(command=collect)
    showing = commands.add_parser("table")
    showing.add_argument("out")
    showing.set_defaults(command=table)
    arguments = parser.parse_args()
    if getattr(arguments, "recipe", 0) is None:
        arguments.recipe = [LARGE, "8/96/8", "8/96/4", "8/64/8"]
    arguments.command(arguments)


if __name__ == "__main__":
    main()
