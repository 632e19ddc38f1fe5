"""Measure whether a search recommends the best loss of all that several searches found.

    for seed in 11 12 13 14 15; do sweeper run DATA --seed $seed --out FOLDER; done
    python bench/retraining.py collect OUT.jsonl FOLDER [FOLDER …] [--seeds 3] [--part 1/2]
    python bench/retraining.py table OUT.jsonl FOLDER [FOLDER …]

FOLDER holds reports of finished studies; those of one data set are compared with each other. `collect` trains every
finalist again with the learning rate of its report, and what the first look compared with the present loss, each once,
on seeds that no search used: other weights, batches and, unless the data set comes with a split, other splits and test
images. Studies without a recommendation are left out. OUT.jsonl gets a line for each training. If you interrupt the
command, run it again to continue; with `--part` several processes share the work.

`table` prints for each study how far its recommended loss scores below the best that any study of its data set found
(what the search and the race missed), below the best of its own finalists (what the race missed), and below the first
look's.

A training takes as long as one of the study's confirmation.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.shared import append_row, read_rows, resume_rows, select_part, train_to_end
from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, TrialSpec
from sweeper.data import load_dataset

FIRST_SEED = 5000
FIELDS = ("family", "params", "lr")
"""What makes a configuration."""


def read_reports(folders: list[str]) -> list[dict[str, Any]]:
    """Return the documents of all reports in these folders that recommend a loss."""
    paths = [path for folder in folders for path in sorted(Path(folder).glob("*/recommendation.json"))]
    reports = [{**json.loads(path.read_text(encoding="utf-8")), "folder": path.parent} for path in paths]
    return [report for report in reports if report["use"] is not None]


def list_configurations(report: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `recommended`, `finalist` or `first look`, and the configuration: the first look's is the rival's."""
    for loss in report["losses"]:
        kind = "recommended" if loss["loss"] == report["use"]["loss"] else "finalist"
        yield kind, {"family": loss["loss"], "params": loss["params"], "lr": loss["lr"]}
    with (report["folder"] / "trials.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["purpose"] == "first" and row["family"] != report["present"]]
    for row in rows[:1]:  # of the first seed, whose rate is the study's
        params = {name[7:]: float(text) for name, text in row.items() if name.startswith("params.") and text}
        yield "first look", {"family": row["family"], "params": params, "lr": float(row["lr"])}


def make_key(name: str, configuration: dict[str, Any]) -> str:
    """Return a key of a data set's configuration."""
    return json.dumps([name, *(configuration[field] for field in FIELDS)], sort_keys=True)


def collect(arguments: argparse.Namespace) -> None:
    """Append a row for each training: data set, configuration, seed, scores."""
    from sweeper.training.hardware import settle_process

    settle_process(threads=1)
    done = {(make_key(row["set"], row), row["seed"]) for row in resume_rows(arguments.out)}
    runs: dict[tuple[str, int], tuple[dict[str, Any], dict[str, Any]]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
        for report in read_reports(arguments.reports):
            for _, configuration in list_configurations(report):
                run = make_key(report["dataset"]["name"], configuration), seed
                runs.setdefault(run, (report, configuration))
    for key, seed in select_part(list(runs), arguments.part):
        if (key, seed) in done:
            continue
        report, configuration = runs[key, seed]
        dataset = load_dataset(report["dataset"]["source"], Path(".sweeper/cache"), lambda _: None)
        recipe = Recipe.model_validate({**report["recipe"], "evaluations": 1})
        spec = TrialSpec(purpose="confirm", number=0, seed=seed, steps=recipe.confirm_steps, **configuration)
        scores = train_to_end(spec, Conditions(dataset=dataset, recipe=recipe, seed=seed))
        append_row(arguments.out, {"set": dataset.name, "seed": seed, **configuration, **scores})


def print_table(arguments: argparse.Namespace) -> None:
    """Print a row for each study all of whose configurations were trained."""
    tests: dict[str, list[float]] = {}
    for row in read_rows(arguments.out):
        tests.setdefault(make_key(row["set"], row), []).append(row["test"])
    means = {key: statistics.mean(values) for key, values in tests.items()}
    print("| set | study | recommended | its test mIoU | below the best of all | its own best | the first look's |")
    print("|---|---|---|---|---|---|---|")
    for report in read_reports(arguments.reports):
        name = report["dataset"]["name"]
        keys = {kind: make_key(name, configuration) for kind, configuration in list_configurations(report)}
        own = [make_key(name, configuration) for _, configuration in list_configurations(report)]
        if not means.keys() >= set(own):
            continue
        score = means[keys["recommended"]]
        best = max(mean for key, mean in means.items() if json.loads(key)[0] == name)
        look = f"{means[keys['first look']] - score:.3f}" if "first look" in keys else "–"
        print(
            f"| {name} | {report['study']} | {report['use']['loss']} | {score:.3f} | {best - score:.3f} "
            f"| {max(means[key] for key in own) - score:.3f} | {look} |"
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
    printing.add_argument("reports", nargs="+")
    printing.set_defaults(call=print_table)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
