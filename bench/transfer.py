"""Measure whether sweeper's answers hold in a realistic training: pretrained encoder, full depth, more steps.

    for data in DATA …; do sweeper run $data --out FOLDER; done
    python bench/transfer.py collect OUT.jsonl FOLDER [FOLDER …] --weights FILE [--seeds 3] [--several 5]
                                     [--steps 1000] [--size 128] [--lr 0.001] [--part 1/2]
    python bench/transfer.py table OUT.jsonl

FOLDER holds reports of finished studies, one or more for each data set. Studies without a recommendation are left out.
`collect` trains every finalist with a U-Net on `--encoder` (tu-tf_efficientnet_lite0), whose ImageNet weights are in
FILE: on `--seeds` seeds, or on `--several` if there are more than two classes. All trainings have the same learning
rate. A seed decides the initial weights, the batches and, unless the data set comes with a split, which images are for
training, validation and test; these are the same for all losses. OUT.jsonl gets a line for each training. If you
interrupt the command, run it again to continue; with `--part` several processes share the work.

`table` prints for each study what it claimed and what the realistic training gives: the gain of the recommended loss
over cross-entropy, and how far the best finalist is above the recommended loss, with 95 % intervals over seeds.

`collect` measures a step, and prints the total time before it begins; 54 trainings of 500 steps on 96² crops took two
hours on one core (docs/transfer.md).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.retraining import read_reports
from bench.shared import BASELINE, append_row, compute_half_width, read_rows, resume_rows, select_part, train_to_end
from sweeper.core.recipe import FULL_DEPTH, PUBLISHED_WIDTH, Recipe
from sweeper.core.records import Conditions, TrialSpec
from sweeper.data import load_dataset

FIRST_SEED = 7000
ENCODER = "tu-tf_efficientnet_lite0"
TIMED_STEPS = (4, 24)
"""Steps of two short trainings, whose times differ by those of 20 steps, without start and evaluation."""


class Run(NamedTuple):
    """One training: a finalist of a study on a seed."""

    report: dict[str, Any]
    finalist: dict[str, Any]
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """Study, family and seed, which identify the training."""
        return self.report["study"], self.finalist["loss"], self.seed


def plan_runs(reports: list[dict[str, Any]], seeds: int, several: int) -> list[Run]:
    """Return the trainings of all studies, ordered by seed, so that an interruption leaves whole seeds."""
    runs = [
        Run(report, finalist, FIRST_SEED + seed)
        for report in reports
        for seed in range(several if len(report["dataset"]["classes"]) > 2 else seeds)
        for finalist in report["losses"]
    ]
    return sorted(runs, key=lambda run: run.seed)


def train_run(run: Run, arguments: argparse.Namespace, *, steps: int) -> dict[str, Any]:
    """Return the scores of a realistic training of a finalist with its own loss parameters."""
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
    return train_to_end(spec, Conditions(dataset=dataset, recipe=recipe, seed=run.seed))


def measure_pace(run: Run, arguments: argparse.Namespace) -> tuple[float, float]:
    """Return the seconds of a step, and of the rest of a training."""
    seconds = []
    train_run(run, arguments, steps=TIMED_STEPS[0])  # loads libraries and decodes the images
    for steps in TIMED_STEPS:
        began = time.monotonic()
        train_run(run, arguments, steps=steps)
        seconds.append(time.monotonic() - began)
    pace = max(0.0, seconds[1] - seconds[0]) / (TIMED_STEPS[1] - TIMED_STEPS[0])
    return pace, max(0.0, seconds[0] - TIMED_STEPS[0] * pace)


def collect(arguments: argparse.Namespace) -> None:
    """Append a row for each training: set, study, family, seed, what was claimed, and the scores."""
    from sweeper.training.hardware import settle_process

    settle_process(threads=1)
    done = {(row["study"], row["family"], row["seed"]) for row in resume_rows(arguments.out)}
    reports = read_reports(arguments.reports)
    planned = [run for run in plan_runs(reports, arguments.seeds, arguments.several) if run.key not in done]
    runs = select_part(planned, arguments.part)
    if not runs:
        return
    pace, base = measure_pace(runs[0], arguments)
    hours = (base + pace * arguments.steps) * len(runs) / 3600
    print(f"{len(runs)} trainings of {arguments.steps} steps: some {hours:.1f} h", file=sys.stderr)
    for run in runs:
        study, family, seed = run.key
        row = {
            "set": run.report["dataset"]["name"],
            "study": study,
            "family": family,
            "seed": seed,
            "params": run.finalist["params"],
            "recommended": run.report["use"]["loss"],
            "outcome": run.report["outcome"],
            "claim": find_gain(run.report, family),
            "encoder": arguments.encoder,
            "size": arguments.size,
            "steps": arguments.steps,
            "lr": arguments.lr,
            **train_run(run, arguments, steps=arguments.steps),
        }
        append_row(arguments.out, row)


def find_gain(report: dict[str, Any], family: str) -> float | None:
    """Return the gain over cross-entropy that a report shows for a family; None for cross-entropy itself."""
    gaps = {(gap["first"], gap["second"]): gap["estimate"] for gap in report["differences"]}
    return gaps.get((family, BASELINE), -gaps[BASELINE, family] if (BASELINE, family) in gaps else None)


def format_mean(values: list[float]) -> str:
    """Return the mean with its 95 % interval by Student's t, which needs two values."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:+.3f} (1 seed)"
    half = compute_half_width(values)
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def print_table(arguments: argparse.Namespace) -> None:
    """Print a row for each study; gains and leads are paired by seed."""
    rows = read_rows(arguments.out)
    print(
        "| set | outcome | loss | claimed gain | realistic cross-entropy | realistic gain [95 %] | best finalist there "
        "| its lead over the loss [95 %] | seeds |\n|---|---|---|--:|--:|--:|---|--:|--:|"
    )
    for study in dict.fromkeys(row["study"] for row in rows):
        of_study = [row for row in rows if row["study"] == study]
        tests: dict[str, dict[int, float]] = {}
        for row in of_study:
            tests.setdefault(row["family"], {})[row["seed"]] = row["test"]
        common = sorted(set.intersection(*(set(scores) for scores in tests.values())))
        loss, baseline = of_study[0]["recommended"], tests.get(BASELINE)
        if not common or loss not in tests:
            continue
        means = {family: statistics.mean(scores[seed] for seed in common) for family, scores in tests.items()}
        best = max(means, key=means.__getitem__)
        claim = next(row["claim"] for row in of_study if row["family"] == loss)
        gain = lead = "–"
        if baseline is not None and loss != BASELINE:
            gain = format_mean([tests[loss][seed] - baseline[seed] for seed in common])
        if best != loss:
            lead = format_mean([tests[best][seed] - tests[loss][seed] for seed in common])
        print(
            f"| {of_study[0]['set']} | {of_study[0]['outcome']} | {loss} "
            f"| {'–' if claim is None else f'{claim:+.3f}'} | {'–' if baseline is None else f'{means[BASELINE]:.3f}'} "
            f"| {gain} | {best} | {lead} | {len(common)} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("out")
    collecting.add_argument("reports", nargs="+")
    collecting.add_argument("--weights", required=True, help="file with the encoder's weights")
    collecting.add_argument("--encoder", default=ENCODER)
    collecting.add_argument("--seeds", type=int, default=3)
    collecting.add_argument("--several", type=int, default=5, help="seeds where there are more than two classes")
    collecting.add_argument("--steps", type=int, default=1000)
    collecting.add_argument("--size", type=int, default=128)
    collecting.add_argument("--lr", type=float, default=1e-3)
    collecting.add_argument("--part", default="1/1", help="K/N: every N-th training from the K-th on")
    collecting.set_defaults(call=collect)
    printing = commands.add_parser("table")
    printing.add_argument("out")
    printing.set_defaults(call=print_table)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()
