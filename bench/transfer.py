"""Compare sweeper's answers with a realistic training: pretrained encoder at full depth, larger crops, more steps.

    for data in DATA …; do sweeper run --data $data --out FOLDER; done
    python bench/transfer.py collect OUT.jsonl FOLDER [FOLDER …] --weights FILE [--seeds 3] [--several 5]
                                     [--steps 1000] [--size 128] [--lr 0.001] [--part 1/2]
    python bench/transfer.py table OUT.jsonl

FOLDER holds reports of finished studies, one or more for each data set. Every finalist is trained with a U-Net on
`--encoder` (tu-tf_efficientnet_lite0) from FILE, a state of ImageNet weights, on `--seeds` seeds, or `--several`
where there are more than two classes. All trainings of a set share splits, learning rate and, seed by seed, batches;
they are scored on the study's test images. `collect` measures a step, and prints the total time before it starts; it
can be cut off, and continues where it was. `table` prints for each study what was claimed and what the realistic
training gives: the gain over cross-entropy, and the lead of the best finalist there, with 95 % intervals over seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from families import BASELINE, rows, trained
from retraining import read_reports
from scipy import stats

from sweeper.core.recipe import FULL_DEPTH, PUBLISHED_WIDTH, Recipe
from sweeper.core.records import Conditions, TrialSpec
from sweeper.data import load_dataset

FIRST_SEED = 7000
ENCODER = "tu-tf_efficientnet_lite0"
TIMED_STEPS = (4, 24)
"""Two short trainings: the difference of their times is that of steps, without start and evaluation."""


class Run(NamedTuple):
    """One training: a finalist of a study on a seed."""

    report: dict[str, Any]
    finalist: dict[str, Any]
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """Study, family and seed: what `collect` does not train twice."""
        return self.report["study"], self.finalist["family"], self.seed


def plan_runs(reports: list[dict[str, Any]], seeds: int, several: int) -> list[Run]:
    """Return the trainings of all studies that recommend a loss, seed by seed, so that each can be stopped early."""
    runs = [
        Run(report, finalist, FIRST_SEED + seed)
        for report in reports
        if report["recommended"] is not None
        for seed in range(several if len(report["dataset"]["classes"]) > 2 else seeds)
        for finalist in report["finalists"]
    ]
    return sorted(runs, key=lambda run: run.seed)


def train_run(run: Run, arguments: argparse.Namespace, *, steps: int) -> dict[str, Any]:
    """Return the scores of one training; the learning rate is the same for all losses."""
    recipe = Recipe.model_validate(
        {
            **run.report["recipe"],
            "encoder": arguments.encoder,
            "encoder_depth": FULL_DEPTH,
            "encoder_weights": str(Path(arguments.weights).resolve()),
            "decoder_width": PUBLISHED_WIDTH,
            "size": arguments.size,
            "steps": steps,
            "confirm_steps": steps,
            "evaluations": 1,
        }
    )
    dataset = load_dataset(run.report["dataset"]["source"], Path(".sweeper/cache"), lambda _: None)
    spec = TrialSpec(
        purpose="confirm",
        number=0,
        family=run.finalist["family"],
        params=run.finalist["params"],
        lr=arguments.lr,
        seed=run.seed,
        steps=steps,
    )
    conditions = Conditions(dataset=dataset, recipe=recipe, seed=run.seed)
    return trained(spec, conditions, dataset)


def measure_pace(run: Run, arguments: argparse.Namespace) -> tuple[float, float]:
    """Return seconds of a step, and of all of a training but its steps."""
    seconds = []
    train_run(run, arguments, steps=TIMED_STEPS[0])  # the first loads libraries and decodes the images
    for steps in TIMED_STEPS:
        began = time.monotonic()
        train_run(run, arguments, steps=steps)
        seconds.append(time.monotonic() - began)
    pace = max(0.0, seconds[1] - seconds[0]) / (TIMED_STEPS[1] - TIMED_STEPS[0])
    return pace, max(0.0, seconds[0] - TIMED_STEPS[0] * pace)


def collect(arguments: argparse.Namespace) -> None:
    """Append one line for each training: set, study, family, seed, what was claimed, and the scores."""
    from sweeper.training.hardware import settle_process

    settle_process(threads=1)
    out = Path(arguments.out)
    known = {(row["study"], row["family"], row["seed"]) for row in rows(out)} if out.exists() else set()
    part, parts = (int(word) for word in arguments.part.split("/"))
    reports = read_reports(arguments.reports)
    wanted = [run for run in plan_runs(reports, arguments.seeds, arguments.several) if run.key not in known]
    wanted = wanted[part - 1 :: parts]
    if not wanted:
        return
    pace, base = measure_pace(wanted[0], arguments)
    hours = (base + pace * arguments.steps) * len(wanted) / 3600
    print(f"{len(wanted)} trainings of {arguments.steps} steps: some {hours:.1f} h", file=sys.stderr)
    for run in wanted:
        study, family, seed = run.key
        baseline = run.finalist["vs_baseline"]
        row = {
            "set": run.report["dataset"]["name"],
            "study": study,
            "family": family,
            "seed": seed,
            "params": run.finalist["params"],
            "recommended": run.report["recommended"]["family"],
            "action": run.report.get("action"),
            "claim": None if baseline is None else baseline["difference"],
            "encoder": arguments.encoder,
            "size": arguments.size,
            "steps": arguments.steps,
            "lr": arguments.lr,
            **train_run(run, arguments, steps=arguments.steps),
        }
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def mean_with_interval(values: list[float]) -> str:
    """Return the mean with its 95 % interval by Student's t, where there are two values or more."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:+.3f} (1 seed)"
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def print_table(found: list[dict[str, Any]]) -> None:
    """Print one row for each study; gains are paired by seed."""
    print(
        "| set | action | loss | claimed gain | realistic cross-entropy | realistic gain [95 %] | best finalist there "
        "| its lead over the loss [95 %] | seeds |\n|---|---|---|--:|--:|--:|---|--:|--:|"
    )
    for study in dict.fromkeys(row["study"] for row in found):
        of_study = [row for row in found if row["study"] == study]
        tests: dict[str, dict[int, float]] = {}
        for row in of_study:
            tests.setdefault(row["family"], {})[row["seed"]] = row["test"]
        common = sorted(set.intersection(*(set(scores) for scores in tests.values())))
        loss, base = of_study[0]["recommended"], tests.get(BASELINE)
        if not common or loss not in tests:
            continue
        means = {family: statistics.mean(scores[seed] for seed in common) for family, scores in tests.items()}
        best = max(means, key=lambda family: means[family])
        claim = next(row["claim"] for row in of_study if row["family"] == loss)
        gain = "–" if base is None else mean_with_interval([tests[loss][seed] - base[seed] for seed in common])
        lead = "–" if best == loss else mean_with_interval([tests[best][seed] - tests[loss][seed] for seed in common])
        gain = "–" if loss == BASELINE else gain
        print(
            f"| {of_study[0]['set']} | {of_study[0]['action'] or '–'} | {loss} "
            f"| {'–' if claim is None else f'{claim:+.3f}'} | {'–' if base is None else f'{means[BASELINE]:.3f}'} "
            f"| {gain} | {best} | {lead} | {len(common)} |"
        )


def main() -> None:
    """Collect, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("out")
    collecting.add_argument("reports", nargs="+")
    collecting.add_argument("--weights", required=True)
    collecting.add_argument("--encoder", default=ENCODER)
    collecting.add_argument("--seeds", type=int, default=3)
    collecting.add_argument("--several", type=int, default=5)
    collecting.add_argument("--steps", type=int, default=1000)
    collecting.add_argument("--size", type=int, default=128)
    collecting.add_argument("--lr", type=float, default=1e-3)
    collecting.add_argument("--part", default="1/1")
    collecting.set_defaults(call=collect)
    printing = commands.add_parser("table")
    printing.add_argument("out")
    printing.set_defaults(call=lambda arguments: print_table(rows(Path(arguments.out))))
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
