"""Measure whether a search recommends the best loss of all that several searches found.

    for seed in 11 12 13 14 15; do sweeper run DATA --seed $seed --out FOLDER; done
    python bench/retraining.py collect OUT.jsonl FOLDER [FOLDER …] [--seeds 3] [--part 1/2]
    python bench/retraining.py table OUT.jsonl

FOLDER holds reports of finished studies; those of one data set are compared with each other. `collect` trains every
finalist again with the learning rate of its report, on seeds that no search used: other weights, batches and, unless
the data set comes with a split, other splits and test images. Studies without a recommendation are left out. OUT.jsonl
gets a line for each training. If you interrupt the command, run it again to continue; with `--part` several processes
share the work.

`table` prints for each study how far its recommended loss scores below the best finalist of all studies of its data set
(what the search and the race missed), and below the best of its own finalists (what the race missed).

A training takes as long as one of the study's confirmation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.shared import append_row, read_rows, resume_rows, select_part, train_to_end
from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, TrialSpec
from sweeper.data import load_dataset

FIRST_SEED = 5000


def read_reports(folders: list[str]) -> list[dict[str, Any]]:
    """Return the documents of all reports in these folders that recommend a loss."""
    paths = [path for folder in folders for path in sorted(Path(folder).glob("*/recommendation.json"))]
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [report for report in reports if report["use"] is not None]


def collect(arguments: argparse.Namespace) -> None:
    """Append a row for each training: data set, study, family, parameters, seed, scores."""
    from sweeper.training.hardware import settle_process

    settle_process(threads=1)
    done = {(row["study"], row["family"], row["seed"]) for row in resume_rows(arguments.out)}
    reports = read_reports(arguments.reports)
    runs = [
        (seed, report, finalist)
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds)
        for report in reports
        for finalist in report["losses"]
    ]
    for seed, report, finalist in select_part(runs, arguments.part):
        family = finalist["loss"]
        if (report["study"], family, seed) in done:
            continue
        dataset = load_dataset(report["dataset"]["source"], Path(".sweeper/cache"), lambda _: None)
        recipe = Recipe.model_validate({**report["recipe"], "evaluations": 1})
        steps = recipe.confirm_steps
        fields = {"family": family, "params": finalist["params"], "lr": finalist["lr"], "seed": seed, "steps": steps}
        spec = TrialSpec(purpose="confirm", number=0, **fields)
        row = {
            "set": dataset.name,
            "study": report["study"],
            "named": report["use"]["loss"] == family,
            **fields,
            **train_to_end(spec, Conditions(dataset=dataset, recipe=recipe, seed=seed)),
        }
        append_row(arguments.out, row)


def print_table(arguments: argparse.Namespace) -> None:
    """Print a row for each study whose recommended loss was trained."""
    rows = read_rows(arguments.out)
    tests: dict[str, dict[tuple[str, str], list[float]]] = {}
    for row in rows:
        tests.setdefault(row["set"], {}).setdefault((row["study"], row["family"]), []).append(row["test"])
    recommended = {row["study"]: row["family"] for row in rows if row["named"]}
    print("| set | study | recommended | its test mIoU | below the best of all | below its own best |")
    print("|---|---|---|---|---|---|")
    for name, scores in tests.items():
        means = {run: statistics.mean(values) for run, values in scores.items()}
        for study in dict.fromkeys(study for study, _ in means):
            if study not in recommended:
                continue
            score = means[study, recommended[study]]
            best = max(mean for (other, _), mean in means.items() if other == study)
            print(
                f"| {name} | {study} | {recommended[study]} | {score:.3f} | {max(means.values()) - score:.3f} "
                f"| {best - score:.3f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("out")
    collecting.add_argument("reports", nargs="+")
    collecting.add_argument("--seeds", type=int, default=3)
    collecting.add_argument("--part", default="1/1", help="K/N: every N-th training from the K-th on")
    collecting.set_defaults(call=collect)
    printing = commands.add_parser("table")
    printing.add_argument("out")
    printing.set_defaults(call=print_table)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
