"""Is the named loss the best of all that several searches found? Their finalists, trained again on fresh seeds.

    for seed in 11 12 13 14 15; do sweeper run --data DATA --seed $seed --out FOLDER; done
    python bench/retraining.py collect OUT.jsonl FOLDER [FOLDER …] [--seeds 3] [--part 1/2]
    python bench/retraining.py table OUT.jsonl

FOLDER holds reports of finished studies; those of one data set are compared with each other. Every finalist is trained
with the learning rate that its report names, on seeds, splits and test images that no search saw. `collect` can be cut
off and continues where it was. `table` prints for each study what its named loss reads below the best finalist of all
studies of its set, and below the best of its own: the first is what the search missed, the second what the race did.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from families import rows, trained

from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, TrialSpec
from sweeper.data import load_dataset

FIRST_SEED = 5000


def read_reports(folders: list[str]) -> list[dict[str, Any]]:
    """Return the answers of all studies whose reports are in these folders."""
    paths = [path for folder in folders for path in sorted(Path(folder).glob("*/recommendation.json"))]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def collect(arguments: argparse.Namespace) -> None:
    """Append one line for each training: data set, study, family, seed, values."""
    from sweeper.training.hardware import settle_process

    settle_process(threads=1)
    out = Path(arguments.out)
    known = {(row["study"], row["family"], row["seed"]) for row in rows(out)} if out.exists() else set()
    part, parts = (int(word) for word in arguments.part.split("/"))
    reports = read_reports(arguments.reports)
    wanted = [
        (seed, report, finalist)
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds)
        for report in reports
        for finalist in report["finalists"]
    ]
    for seed, report, finalist in wanted[part - 1 :: parts]:
        family = finalist["family"]
        if (report["study"], family, seed) in known:
            continue
        dataset = load_dataset(report["dataset"]["source"], Path(".sweeper/cache"), lambda _: None)
        recipe = Recipe.model_validate({**report["recipe"], "evaluations": 1})
        steps = recipe.confirm_steps
        given = {"family": family, "params": finalist["params"], "lr": finalist["lr"], "seed": seed, "steps": steps}
        conditions = Conditions(dataset=dataset, recipe=recipe, seed=seed)
        row = {
            "set": dataset.name,
            "study": report["study"],
            "named": report["recommended"]["family"] == family,
            **given,
            **trained(TrialSpec(purpose="confirm", number=0, **given), conditions, dataset),
        }
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")


def table(arguments: argparse.Namespace) -> None:
    """Print one row for each study."""
    tests: dict[str, dict[tuple[str, str], list[float]]] = {}
    named: dict[str, dict[str, Any]] = {}
    for row in rows(Path(arguments.out)):
        tests.setdefault(row["set"], {}).setdefault((row["study"], row["family"]), []).append(row["test"])
        if row["named"]:
            named[row["study"]] = row
    print("| set | study | named | its test mIoU | below the best of all | below its own best |")
    print("|---|---|---|---|---|---|")
    for name, found in tests.items():
        means = {key: statistics.mean(values) for key, values in found.items()}
        for study in dict.fromkeys(study for study, _ in means):
            family = named[study]["family"]
            value = means[study, family]
            own = max(mean for (other, _), mean in means.items() if other == study)
            print(
                f"| {name} | {study} | {family} | {value:.3f} | {max(means.values()) - value:.3f} | {own - value:.3f} |"
            )


def main() -> None:
    """Collect, or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("out")
    collecting.add_argument("reports", nargs="+")
    collecting.add_argument("--seeds", type=int, default=3)
    collecting.add_argument("--part", default="1/1")
    collecting.set_defaults(call=collect)
    printing = commands.add_parser("table")
    printing.add_argument("out")
    printing.set_defaults(call=table)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
