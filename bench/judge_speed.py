"""Measure how long `sweeper judge` takes, including its start, and the most memory that it holds (Linux).

    python bench/judge_speed.py [--repetitions 5]

The inputs: the committed example; results of nnU-Net (2 trainers, 5 folds, 200 images, 3 classes); 12 runs of MLflow in
a SQLite store; and a CSV of 50,000 rows (5 methods, 5 seeds, 500 images, 4 classes).

Prints for each the median seconds, the median seconds of the processor (which other programs change less), and the most
memory in MiB. Takes half a minute a repetition.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

EXAMPLE = Path(__file__).resolve().parent.parent / "reports" / "example-judged" / "scores.csv"


def write_nnunet_results(folder: Path, rng: np.random.Generator) -> list[str]:
    """Write results of two trainers, which differ by 0.02 Dice; return the arguments of `sweeper judge`."""
    for better, trainer in enumerate(("nnUNetTrainer", "nnUNetTrainerDiceCELoss")):
        for fold in range(5):
            cases = [
                {
                    "reference_file": f"/raw/case_{40 * fold + k:03}.nii.gz",
                    "prediction_file": "",
                    "metrics": {
                        str(label): {"Dice": value, "IoU": value / (2 - value), "TP": 1, "FP": 1, "FN": 1}
                        for label, value in enumerate(rng.uniform(0.6, 0.9, 3) + 0.02 * better, start=1)
                    },
                }
                for k in range(40)
            ]
            path = folder / "Dataset001_X" / f"{trainer}__nnUNetPlans__2d" / f"fold_{fold}" / "validation"
            path.mkdir(parents=True)
            (path / "summary.json").write_text(json.dumps({"metric_per_case": cases}))
    return [str(folder)]


def write_mlflow_runs(folder: Path) -> None:
    """Write runs of four losses on three seeds."""
    from mlflow.tracking import MlflowClient

    rng, uri = np.random.default_rng(1), f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("losses", artifact_location=(folder / "artifacts").as_uri())
    for loss in range(4):
        for seed in range(3):
            run = client.create_run(experiment).info.run_id
            client.log_param(run, "loss", f"loss {loss}")
            client.log_param(run, "seed", seed)
            client.log_metric(run, "dice", float(rng.uniform(0.6, 0.9, 50).mean()))
            client.set_terminated(run)


def write_large_table(path: Path, rng: np.random.Generator) -> list[str]:
    """Write a CSV of 50,000 rows; return the arguments of `sweeper judge`."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["method", "seed", "image", "class", "score"])
        for method in range(5):
            for seed in range(5):
                for image, scores in enumerate(rng.uniform(0.6, 0.9, (500, 4))):
                    rows.writerows((f"m{method}", seed, image, c, score) for c, score in enumerate(scores))
    return [str(path)]


def measure_command(words: list[str]) -> tuple[float, float, float]:
    """Return the seconds, the processor's seconds and the most MiB of `sweeper judge` with these arguments."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "sweeper", "judge", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"sweeper judge {' '.join(words)} failed")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In another process: Linux counts the memory of the process that starts a command as the command's.
        writer = get_context("spawn").Process(target=write_mlflow_runs, args=(folder,))
        writer.start()
        writer.join()
        runs = ["mlflow:losses", "--tracking-uri", f"sqlite:///{folder}/mlflow.db", "--column", "method=loss"]
        cases = {
            "the committed example": [str(EXAMPLE), "--paired-seeds"],
            "nnU-Net": write_nnunet_results(folder / "results", rng),
            "MLflow": runs,
            "50,000 rows": write_large_table(folder / "scores.csv", rng),
        }
        print("| | seconds | of the processor | MiB |\n| --- | --: | --: | --: |")
        for case, words in cases.items():
            seconds, processor, memory = zip(
                *(measure_command(words) for _ in range(arguments.repetitions)), strict=True
            )
            figures = f"{statistics.median(seconds):.1f} | {statistics.median(processor):.1f} | {max(memory):.0f}"
            print(f"| {case} | {figures} |", flush=True)
        print(f"\n(load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")


if __name__ == "__main__":
    main()
